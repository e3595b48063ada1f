"""The matrix product that compiled CPU kernels call: every edge of its tiles, against float64, at the end of memory."""

from __future__ import annotations

import ctypes
import itertools
import mmap
import re
import sys
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import numpy as np
import pytest

binding = pytest.importorskip("llvmlite.binding")

import asgfn  # noqa: E402
from backends.llvm.engine import Engine  # noqa: E402
from backends.llvm.gemm import gemm_functions  # noqa: E402
from backends.llvm.gemm_shape import GemmShape, Vectors, cut, host_shape  # noqa: E402
from backends.llvm.gemm_strip import strip_sizes  # noqa: E402
from backends.llvm.gemm_windows import windows_functions  # noqa: E402
from backends.llvm.options import as_we_compile  # noqa: E402
from backends.llvm.strips import unasked  # noqa: E402

TYPES = {"float": np.float32, "double": np.float64}
_I, _P = ctypes.c_int64, ctypes.c_void_p
SIGNATURES = {
    "gemm": (_I, _I, _I, _P, _I, _I, _P, _I, _I, _P, _I, ctypes.c_bool),
    "gemm_packing": (_I, _I, _I, _P, _I, _I, _P, _I, _I, _P, _I, ctypes.c_bool, _P),
    "pack_b": (_I, _I, _P, _I, _I, _P),
    "gevm": (_I, _I, _P, _I, _P, _I, _P, ctypes.c_bool),
    "gemv": (_I, _I, _P, _I, _P, _P, _I, ctypes.c_bool),
    "gemm_windows": (_I, _I, _I, _P, _P, _P, _P, _I, _I, _P, _I, ctypes.c_bool),
    "turn": (_I, _I, _P, _I, _P, _I),
    "pad": (_P, _P, *(_I,) * 15),
}


def _shapes(scalar: str) -> dict[str, GemmShape]:
    """The host's tile, the narrow one of hosts without masks, which every processor of this kind can run, and one of three
    vectors, which AVX-512 has, with those of AVX2."""
    mine = host_shape(scalar)
    vectors = (
        Vectors(128, 16, False, None) if mine.vectors.registers == 16 else Vectors(128, 32, mine.vectors.fma, None)
    )
    shapes = {"host": mine, "narrow": GemmShape.of(scalar, vectors, (32 << 10, 64 << 10))}
    if mine.vectors.masks:
        shapes["three"] = GemmShape.of(scalar, Vectors(256, 32, True, "avx2"), (32 << 10, 64 << 10))
    return shapes


def _texts(shape: GemmShape) -> dict[str, str]:
    return {name: write() for name, write in (gemm_functions(shape) | windows_functions(shape)).items()}


@cache
def _functions(scalar: str, which: str) -> tuple[GemmShape, dict[str, Callable]]:
    shape = _shapes(scalar).get(which)
    if shape is None:
        pytest.skip("this processor has no such registers")
    addresses = Engine().compile(_texts(shape))
    suffix = {"float": "f32", "double": "f64"}[scalar]
    return shape, {
        name: ctypes.CFUNCTYPE(None, *kinds)(addresses[f"{name}_{suffix}"]) for name, kinds in SIGNATURES.items()
    }


@pytest.fixture(params=[(s, w) for s in TYPES for w in ("host", "narrow", "three")], ids="-".join)
def library(request: pytest.FixtureRequest) -> tuple[GemmShape, dict[str, Callable]]:
    return _functions(*request.param)


def _strides(x: np.ndarray) -> tuple[int, ...]:
    return tuple(s // x.itemsize for s in x.strides)


def _product(
    library: tuple[GemmShape, dict[str, Callable]],
    a: np.ndarray,
    b: np.ndarray,
    c: np.ndarray,
    accumulate: bool = False,
    how: str = "direct",
) -> None:
    shape, call = library
    (m, k), n = a.shape, b.shape[1]
    start = (m, n, k, a.ctypes.data, *_strides(a))
    end = (c.ctypes.data, _strides(c)[0], accumulate)
    if how == "direct":
        call["gemm"](*start, b.ctypes.data, _strides(b)[0], shape.nr, *end)
    elif how == "windows":
        rows, depths = (np.arange(size, dtype=np.int32) * step for size, step in zip(a.shape, _strides(a), strict=True))
        tables = rows.astype(np.int32), depths.astype(np.int32)
        places = (a.ctypes.data, *(table.ctypes.data for table in tables))
        call["gemm_windows"](m, n, k, *places, b.ctypes.data, _strides(b)[0], shape.nr, *end)
    elif how == "packing":
        workspace = np.full(shape.workspace(n, k) + 8, 7, a.dtype)
        call["gemm_packing"](*start, b.ctypes.data, *_strides(b), *end, workspace.ctypes.data)
        assert (workspace[-8:] == 7).all()
    else:
        panels = np.full(-(-n // shape.nr) * shape.nr * k + 8, 7, a.dtype)
        call["pack_b"](k, n, b.ctypes.data, *_strides(b), panels.ctypes.data)
        assert (panels[-8:] == 7).all()
        call["gemm"](*start, panels.ctypes.data, shape.nr, k * shape.nr, *end)


def _random(shape: tuple[int, ...], dtype: Any, seed: int = 0, turned: bool = False) -> np.ndarray:
    x = np.random.default_rng(seed).standard_normal(shape[::-1] if turned else shape).astype(dtype)
    return x.T if turned else x


def _close(c: np.ndarray, a: np.ndarray, b: np.ndarray, before: Any = 0) -> None:
    exact = a.astype(np.float64) @ b.astype(np.float64) + before
    bound = np.abs(a).astype(np.float64) @ np.abs(b).astype(np.float64) + np.abs(before)
    assert (np.abs(c - exact) <= (a.shape[1] + 2) * np.finfo(c.dtype).eps * bound).all()


def _sizes(tile: int) -> list[int]:
    return sorted({1, 2, 3, tile - 1, tile, tile + 1, 2 * tile - 1, 2 * tile, 2 * tile + 1})


@pytest.mark.parametrize("k", [0, 1, 2, 7, 1000])
def test_every_edge_of_the_tiles(library: tuple[GemmShape, dict[str, Callable]], k: int) -> None:
    shape, _ = library
    dtype = TYPES[shape.scalar]
    columns = sorted({*range(1, shape.nr + 2), 2 * shape.nr + 1, 4 * shape.nr + 3, 13 * shape.nr + 5})
    for m in _sizes(shape.mr):
        for n in columns if k == 7 else columns[:: 3 if k < 7 else 9]:
            a, b = _random((m, k), dtype), _random((k, n), dtype, 1)
            for how in ("direct", "packing", "packed", "windows"):
                guarded = np.full((m + 2, n + 9), 5, dtype)
                c = guarded[1:-1, :n]
                c[:] = np.nan
                _product(library, a, b, c, how=how)
                _close(c, a, b)
                c[:] = 5
                assert (guarded == 5).all()


@pytest.mark.parametrize("how", ["direct", "packing", "packed", "windows"])
@pytest.mark.parametrize("turned", [(False, False), (True, False), (False, True), (True, True)], ids=str)
def test_strides_and_accumulation(
    library: tuple[GemmShape, dict[str, Callable]], how: str, turned: tuple[bool, bool]
) -> None:
    shape, _ = library
    dtype = TYPES[shape.scalar]
    for m, n, k in [(8 * shape.mr + 3, 9 * shape.nr + 5, 300), (shape.mr, 700, 513), (100, 20, 37)]:
        a, b = _random((m, k), dtype, 2, turned[0]), _random((k, n), dtype, 3, turned[1])
        if how in ("direct", "windows") and turned[1]:
            b = np.ascontiguousarray(b)
        before = _random((m, n), dtype, 4)
        c = before.copy()
        _product(library, a, b, c, True, how)
        _close(c, a, b, before)
        every_other = _random((2 * m, 3 * k), dtype, 5)[::2, ::3]
        _product(library, every_other, b, c, how=how)
        _close(c, every_other, b)


@pytest.mark.parametrize("how", ["direct", "packing", "packed", "windows"])
def test_cuts_do_not_change_the_result(library: tuple[GemmShape, dict[str, Callable]], how: str) -> None:
    shape, _ = library
    dtype = TYPES[shape.scalar]
    m, n, k = 2 * shape.mr + 5, 1700, 531
    a, b = _random((m, k), dtype), _random((k, n), dtype, 1)
    whole, pieces, other = (np.zeros((m, n), dtype) for _ in range(3))
    _product(library, a, b, whole, how=how)
    for i, j in [(0, 1), (1, 4), (4, m)]:
        for p, q in [(0, 3), (3, 1650), (1650, n)]:
            _product(library, a[i:j], b[:, p:q], pieces[i:j, p:q], how=how)
    _product(library, a, b, other, how="direct")
    np.testing.assert_array_equal(whole, pieces)
    np.testing.assert_array_equal(whole, other)


@pytest.mark.parametrize("strides", ["rows", "columns", "neither"])
def test_panels(library: tuple[GemmShape, dict[str, Callable]], strides: str) -> None:
    """Every number of b in its place, zeros after the last column, nothing else."""
    shape, call = library
    nr, dtype = shape.nr, TYPES[shape.scalar]
    for k in (1, 7, 8, 16, 37):
        for n in (1, *range(nr - 1, 2 * nr + 2), 5 * nr + 3):
            b = _random((2 * k, 3 * n), dtype)[::2, ::3] if strides == "neither" else _random((k, n), dtype)
            b = np.asfortranarray(b) if strides == "columns" else b
            panels = -(-n // nr)
            got, want = np.full((panels + 1, k, nr), 7, dtype), np.zeros((panels, k, nr), dtype)
            for panel, block in enumerate(want):
                columns = b[:, panel * nr : (panel + 1) * nr]
                block[:, : columns.shape[1]] = columns
            call["pack_b"](k, n, b.ctypes.data, *_strides(b), got.ctypes.data)
            np.testing.assert_array_equal(got[:-1], want)
            assert (got[-1] == 7).all()


def test_special_numbers(library: tuple[GemmShape, dict[str, Callable]]) -> None:
    shape, _ = library
    dtype = TYPES[shape.scalar]
    m, n, k = shape.mr + 2, shape.nr + 3, 20
    a, b = _random((m, k), dtype), _random((k, n), dtype, 1)
    a[1, 3], a[2, 4], b[5, n - 1], b[6, 0] = np.nan, np.inf, -np.inf, np.nan
    a[3, 5] = 0  # times infinity
    for how in ("direct", "packing", "packed", "windows"):
        c = np.zeros((m, n), dtype)
        _product(library, a, b, c, how=how)
        with np.errstate(invalid="ignore"):
            exact = a.astype(np.float64) @ b.astype(np.float64)
        np.testing.assert_array_equal(np.isnan(c), np.isnan(exact))
        np.testing.assert_array_equal(c[np.isinf(exact)], exact[np.isinf(exact)])


@pytest.mark.parametrize("k", [0, 1, 7, 64, 1003])
def test_a_vector(library: tuple[GemmShape, dict[str, Callable]], k: int) -> None:
    shape, call = library
    dtype = TYPES[shape.scalar]
    for m in (1, 3, 4, 9):
        a, x = _random((m, k + 2), dtype)[:, 1 : k + 1], _random((k, 1), dtype, 1)
        y = np.full((m, 3), 5, dtype)
        call["gemv"](m, k, a.ctypes.data, k + 2, x.ctypes.data, y.ctypes.data, 3, False)
        _close(y[:, :1], a, x)
        before = y[:, :1].copy()
        call["gemv"](m, k, a.ctypes.data, k + 2, x.ctypes.data, y.ctypes.data, 3, True)
        _close(y[:, :1], a, x, before)
        assert (y[:, 1:] == 5).all()
        alone = np.zeros(1, dtype)
        call["gemv"](1, k, a[-1:].ctypes.data, 0, x.ctypes.data, alone.ctypes.data, 1, False)
        assert alone[0] == before[-1, 0]


@pytest.mark.parametrize("k", [0, 1, 7, 64, 1003])
def test_a_row(library: tuple[GemmShape, dict[str, Callable]], k: int) -> None:
    shape, call = library
    dtype = TYPES[shape.scalar]
    for n in (1, 3, shape.lanes, 2 * shape.nr + 5, 2 * shape.long + 7):
        x, b = _random((1, 3 * k + 1), dtype)[:, 1::3], _random((k, n + 2), dtype, 1)[:, 1:-1]
        guarded = np.full(n + 9, 5, dtype)
        y, want = guarded[:n], np.zeros((1, n), dtype)
        for accumulate in (False, True):
            before = y.copy() if accumulate else np.zeros_like(y)
            want[:] = before
            call["gevm"](n, k, x.ctypes.data, 3, b.ctypes.data, n + 2, y.ctypes.data, accumulate)
            _close(y[None], x, b, before)
            _product(library, x, b, want, accumulate)
            np.testing.assert_array_equal(y[None], want)
        assert (guarded[n:] == 5).all()


def test_windows_of_an_image(library: tuple[GemmShape, dict[str, Callable]]) -> None:
    shape, call = library
    dtype = TYPES[shape.scalar]
    image = _random((3, 9, 11), dtype)
    rows, depths = (
        np.asarray([(c * 9 + i) * 11 + j for c in range(n) for i in range(0, size[0], step) for j in range(size[1])], np.int32)
        for n, size, step in ((1, (7, 9), 2), (3, (3, 3), 1))
    )  # fmt: skip
    a = image.reshape(-1)[rows[:, None] + depths]
    b = _random((len(depths), shape.nr + 5), dtype, 1)
    c = np.zeros((len(rows), b.shape[1]), dtype)
    places = (image.ctypes.data, rows.ctypes.data, depths.ctypes.data)
    n = b.shape[1]
    call["gemm_windows"](len(rows), n, len(depths), *places, b.ctypes.data, n, shape.nr, c.ctypes.data, n, False)
    _close(c, a, b)


def test_matrices_the_other_way_round(library: tuple[GemmShape, dict[str, Callable]]) -> None:
    shape, call = library
    dtype, piece = TYPES[shape.scalar], 16 // shape.size
    for m, n in [(shape.lanes, piece), (3 * shape.lanes, 5 * piece)]:
        source, target = _random((m, n + 3), dtype), np.full((n, m + 2), 5, dtype)
        call["turn"](m, n, source.ctypes.data, n + 3, target.ctypes.data, m + 2)
        np.testing.assert_array_equal(target[:, :m], source[:, :n].T)
        assert (target[:, m:] == 5).all()


@pytest.fixture
def at_the_end() -> Iterator[Callable[[np.ndarray], np.ndarray]]:
    """Copies an array to where the page after its last element may not be touched."""
    if not sys.platform.startswith("linux"):
        pytest.skip("protects pages as Linux does")
    libc = ctypes.CDLL(None, use_errno=True)
    kept = []

    def move(x: np.ndarray) -> np.ndarray:
        page = mmap.PAGESIZE
        size = -(-max(x.nbytes, 1) // page) * page
        memory = mmap.mmap(-1, size + page)
        start = ctypes.addressof(ctypes.c_char.from_buffer(memory))
        assert libc.mprotect(ctypes.c_void_p(start + size), ctypes.c_size_t(page), 0) == 0
        moved = np.frombuffer(memory, x.dtype, x.size, size - x.nbytes).reshape(x.shape)
        moved[...] = x
        kept.append((memory, start + size))
        return moved

    yield move
    for _, last in kept:
        libc.mprotect(ctypes.c_void_p(last), ctypes.c_size_t(mmap.PAGESIZE), 3)


@pytest.mark.parametrize(
    "counts, firsts, steps",
    [
        ((4, 5, 7), (0, 0, 0), (1, 1)),
        ((3, 7, 9), (1, -1, -1), (1, 1)),
        ((6, 7, 40), (-2, -1, -20), (1, 1)),
        ((2, 3, 3), (1, -3, 2), (2, 3)),
        ((2, 2, 5), (4, 5, 7), (1, 1)),
        ((1, 1, 1), (3, 4, 6), (1, 1)),
    ],
    ids=str,
)
def test_a_part_of_an_image_with_what_is_around_it(
    library: tuple[GemmShape, dict[str, Callable]],
    at_the_end: Callable[[np.ndarray], np.ndarray],
    counts: tuple[int, int, int],
    firsts: tuple[int, int, int],
    steps: tuple[int, int],
) -> None:
    shape, call = library
    dtype = TYPES[shape.scalar]
    image = at_the_end(_random((4, 5, 7), dtype))
    padded = np.pad(image, 99)
    expected = padded[
        tuple(slice(99 + i, 99 + i + n * s, s) for i, n, s in zip(firsts, counts, (*steps, 1), strict=True))
    ]
    line = counts[2] + 2
    plane = counts[1] * line + 3
    size = (counts[0] - 1) * plane + (counts[1] - 1) * line + counts[2]
    target = at_the_end(np.full(size + shape.lanes, np.nan, dtype))
    source = image.ctypes.data + sum(i * s for i, s in zip(firsts, image.strides, strict=True))
    along = zip(counts, firsts, image.shape, steps, _strides(image), (plane, line), strict=False)
    axes = [n for count, i, most, s, stride, goal in along for n in (count, i, most, s, s * stride, goal)]
    call["pad"](source, target.ctypes.data, *axes, counts[2], firsts[2], image.shape[2])
    places = np.arange(counts[0])[:, None, None] * plane + np.arange(counts[1])[:, None] * line + np.arange(counts[2])
    np.testing.assert_array_equal(target[places], expected)


def test_nothing_is_read_or_written_past_the_end(
    library: tuple[GemmShape, dict[str, Callable]], at_the_end: Callable[[np.ndarray], np.ndarray]
) -> None:
    shape, call = library
    dtype = TYPES[shape.scalar]
    for m in _sizes(shape.mr):
        for n in {1, 3, shape.lanes, shape.nr - 1, shape.nr, shape.nr + 1, 5 * shape.nr + 3}:
            for k in (1, 5, 17):
                for turned_a, turned_b in [(False, False), (True, False), (False, True)]:
                    a = at_the_end(_random((k, m) if turned_a else (m, k), dtype))
                    b = at_the_end(_random((n, k) if turned_b else (k, n), dtype, 1))
                    c = at_the_end(np.full((m, n), np.nan, dtype))
                    a, b = a.T if turned_a else a, b.T if turned_b else b
                    for how in ("packing", "packed") if turned_b else ("direct", "packing", "packed"):
                        _product(library, a, b, c, how=how)
                        _close(c, a, b)
    a, x = at_the_end(_random((5, 37), dtype)), at_the_end(_random((37, 1), dtype))
    y = at_the_end(np.zeros((5, 1), dtype))
    call["gemv"](5, 37, a.ctypes.data, 37, x.ctypes.data, y.ctypes.data, 1, False)
    _close(y, a, x)
    row, wide, c = (
        at_the_end(a[:1, :9].copy()),
        at_the_end(_random((9, 2000), dtype)),
        at_the_end(np.zeros((1, 2000), dtype)),
    )
    _product(library, row, wide, c)
    _close(c, row, wide)
    call["gevm"](2000, 9, row.ctypes.data, 1, wide.ctypes.data, 2000, c.ctypes.data, False)
    _close(c, row, wide)


@pytest.mark.parametrize(
    "triple, processor, vectors",
    [
        ("x86_64-unknown-linux-gnu", "skylake-avx512", Vectors(512, 32, True, "avx512")),
        ("x86_64-unknown-linux-gnu", "haswell", Vectors(256, 16, True, "avx2")),
        ("x86_64-unknown-linux-gnu", "x86-64", Vectors(128, 16, False, None)),
        ("aarch64-unknown-linux-gnu", "apple-m1", Vectors(128, 32, True, None)),
    ],
)
@pytest.mark.parametrize("scalar", TYPES)
def test_sums_stay_in_registers(triple: str, processor: str, vectors: Vectors, scalar: str) -> None:
    """The loops of tiles have their products and touch no stack, on any kind of processor."""
    binding.initialize_all_targets()
    binding.initialize_all_asmprinters()
    try:
        target = binding.Target.from_triple(triple)
    except RuntimeError:
        pytest.skip("this LLVM does not know the processor")
    machine = target.create_target_machine(
        cpu=processor, features="-prefer-256-bit" if vectors.bits == 512 else "", opt=2
    )
    shape = GemmShape.of(scalar, vectors)
    sizes = {shape.mr: shape.groups, shape.half_rows: shape.mr // shape.half_rows * shape.groups}
    if shape.joins:
        sizes[shape.joined_rows] = shape.groups + 1
    texts = gemm_functions(shape) | windows_functions(shape)
    for product, (rows, wide) in itertools.product(("gemm", "gemm_windows"), sizes.items()):
        name = f"{product}_{'f32' if scalar == 'float' else 'f64'}_rows_{rows}"
        module = binding.parse_assembly(texts[name]())
        module.verify()
        module.triple = triple
        with as_we_compile(quick=False):
            loops = _loops(machine.emit_assembly(module))
        vectors_of_tiles = [wide, shape.groups - 1] if shape.groups > 2 else [wide]
        counts = [sum(_multiplies(line) for line in loop) for loop in loops]
        tiles = [loop for loop, count in zip(loops, counts, strict=True) if count > rows]
        assert [count for count in counts if count > rows] == [rows * n for n in vectors_of_tiles]
        assert not any("%rsp" in line or "[sp" in line for loop in tiles for line in loop)


def _multiplies(line: str) -> bool:
    return line.strip().startswith(("vfmadd", "fmla", "mulps", "mulpd"))


def _loops(assembly: str) -> list[list[str]]:
    """The innermost loops: from a label to the jump back to it."""
    lines = assembly.splitlines()
    places: dict[str, int] = {}
    found = []
    for number, line in enumerate(lines):
        words = line.replace(",", " ").split()
        if line.startswith(".L") and words[0].endswith(":"):
            places[words[0][:-1]] = number
        elif words and words[0].startswith(("j", "b", "cb", "tb")) and words[-1] in places:
            body = lines[places[words[-1]] + 1 : number]
            if not any(other.startswith(".L") for other in body):
                found.append(body)
    return found


def test_the_functions_of_a_processor() -> None:
    assert Vectors.of("aarch64", {}) == Vectors(128, 32, True, None)
    assert Vectors.of("x86_64", {"avx512f": True, "avx512vl": True, "fma": True, "avx2": True}).bits == 512
    assert Vectors.of("x86_64", {"avx2": True, "fma": True}) == Vectors(256, 16, True, "avx2")
    assert Vectors.of("x86_64", {"avx2": True, "fma": False}) == Vectors(128, 16, False, None)


def test_blocks_for_threads() -> None:
    shape = GemmShape.of("float", Vectors(256, 16, True, "avx2"), (32 << 10, 512 << 10))
    whole = cut(shape, 64, 64, 32, 8, True)
    assert (whole.rows >= 64, whole.columns >= 64, whole.packing) == (True, True, False)
    two = cut(shape, 1024, 1024, 1024, 2, True)
    assert (two.rows >= 1024, two.columns, two.packing) == (True, 512, True)
    many = cut(shape, 1024, 1024, 1024, 16, True)
    assert -(-1024 // many.rows) * -(-1024 // many.columns) == 16 and many.columns < many.rows
    tall = cut(shape, 4096, 16, 512, 4, True)
    assert tall.columns == 16 and 1024 <= tall.rows < 1100 and not tall.packing
    assert cut(shape, 1, 50257, 768, 2, True).columns == 25136
    assert cut(shape, 64, 3072, 768, 2, False).packing


@pytest.mark.parametrize("product, how", [("gemm", "direct"), ("gemm_windows", "windows")])
@pytest.mark.parametrize("scalar", TYPES)
def test_strips_of_any_size_are_enough(scalar: str, product: str, how: str) -> None:
    shape = host_shape(scalar)
    suffix = {"float": "f32", "double": "f64"}[scalar]
    for asked in strip_sizes(shape):
        others = {f"{product}_{suffix}_rows_{n}" for n in strip_sizes(shape) if n != asked}
        texts = _texts(shape) | dict.fromkeys(others, unasked(shape, how == "windows", [asked]))
        call = ctypes.CFUNCTYPE(None, *SIGNATURES[product])(Engine().compile(texts)[f"{product}_{suffix}"])
        for a_order in "CF":
            rng = np.random.default_rng(3)
            a = np.asarray(rng.normal(size=(3 * shape.mr - 1, 70)), TYPES[scalar], order=a_order)  # type: ignore[call-overload]
            b = rng.normal(size=(70, 5 * shape.nr + 3)).astype(TYPES[scalar])
            want, got = (np.zeros((len(a), b.shape[1]), a.dtype) for _ in range(2))
            _product(_functions(scalar, "host"), a, b, want, how=how)
            _product((shape, {product: call}), a, b, got, how=how)
            np.testing.assert_array_equal(got, want)


def _strips(f: Callable[..., Any], *shapes: tuple[int, ...], product: str = "gemm") -> set[int]:
    """The sizes of the strips that the kernel of a function declares."""
    types = [asgfn.ShapeDtypeStruct(shape, np.float32) for shape in shapes]
    compiled = asgfn.jit(f, backend="cpu").lower(*types).compile()
    (kernel,) = (k for k in compiled.kernels if re.search("call void @gemm_", k.code))
    return {int(n) for n in re.findall(rf"declare void @{product}_f32_rows_(\d+)\(\)", kernel.code)}


def test_a_kernel_says_which_strips_it_has() -> None:
    shape = host_shape("float")
    whole, half = shape.mr, shape.half_rows
    for rows, asked in ((8 * whole, {whole}), (8 * whole + 2, {whole, half}), (2, {half}), (half + 1, {whole})):
        assert _strips(lambda a, b: a @ b, (rows, 300), (300, 500)) == asked
    # a strip in full for two rows takes less time than its own function would take to compile
    for rows in (20 * whole + 2, 50 * whole + 2):
        assert _strips(lambda a, b: a @ b, (rows, 300), (300, 500)) == {whole}


@pytest.mark.parametrize("order", ["ab", "ba"])
@pytest.mark.parametrize("n, k", [(700, 300), (1, 300), (5, 1), (3, 2), (40, 1300), (2, 70000)])
@pytest.mark.parametrize("computed", [False, True])
def test_a_product_of_one_row(order: str, n: int, k: int, computed: bool) -> None:
    """Neither strips nor panels: columns are read where they lie, by rows or one after the other."""
    x, b = _random((1, k), np.float32), _random((k, n) if order == "ab" else (n, k), np.float32, 1)
    f = asgfn.jit(lambda x, b: (-x if computed else x) @ (b if order == "ab" else b.T) + 1, backend="cpu")
    _close(np.asarray(f(x, b)), -x if computed else x, b if order == "ab" else b.T, 1)
    code = f.lower(x, b).compile().as_text()
    assert re.search("call void @ge(mv|vm)_f32", code) and "@gemm_" not in code and "@pack_b" not in code


def test_a_convolution_says_which_strips_it_has() -> None:
    shape = host_shape("float")
    convolve = lambda x, w: asgfn.lax.conv_general_dilated(x, w, (1, 1), "SAME")
    for features in (shape.nr, shape.nr + shape.lanes):
        sizes = _strips(convolve, (64, 32, 14, 14), (features, 32, 3, 3), product="gemm_windows")
        assert sizes & {shape.mr, shape.joined_rows} and sizes <= {shape.mr, shape.joined_rows, shape.half_rows}
