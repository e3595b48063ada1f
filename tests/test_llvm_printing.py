"""How kernels become LLVM IR, and LLVM's options while that is compiled."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from backends.kernels import index as ix
from backends.kernels.ir import BOOL, F32, I32, Builder, Memory

binding = pytest.importorskip("llvmlite.binding")

from backends.llvm import options  # noqa: E402
from backends.llvm.operands import Affine, Scalar, constant  # noqa: E402
from backends.llvm.printer import print_kernel  # noqa: E402
from backends.llvm.writer import Writer, _factor  # noqa: E402


@pytest.mark.parametrize("divisor", [*range(1, 70), 196, 784, 1000, 3136, 50257])
@pytest.mark.parametrize("most", [1, 48, 783, 4096, 65535, 10**6])
def test_quotients_by_products(most: int, divisor: int) -> None:
    found = _factor(most, divisor)
    if found is None:
        assert most > 40_000  # its square, twice, has to fit
        return
    factor, shift = found
    edges = {q * divisor + e for q in range(max(0, most // divisor - 50), most // divisor + 1) for e in (-1, 0, 1)}
    for x in {*range(min(most, 2000) + 1), *(e for e in edges if 0 <= e <= most), most}:
        assert x * factor < 1 << 32
        assert x * factor >> shift == x // divisor


def test_only_small_numbers_are_divided_so() -> None:
    for base, word in ((Scalar("%x", "u32", below=1000), "lshr"), (Scalar("%x", "u32"), "udiv")):
        w = Writer(16)
        w.operation("div", "u32", (Affine(base, 1), constant(49, "u32")))
        assert any(word in line for line in w.lines)


def test_values_are_computed_once_where_they_are_known() -> None:
    w = Writer(16)
    with w.scope():
        first = w.value("add i32 %a, %b")
        assert w.value("add i32 %a, %b") == first
    assert w.value("add i32 %a, %b") != first


def test_options_are_ours_only_while_we_compile(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.setattr(binding, "set_option", lambda name, option: said.append(option))
    with pytest.raises(ValueError), options.as_we_compile(quick=False), options.as_we_compile(quick=False):
        assert said == ["-disable-lsr=true"]
        raise ValueError
    assert said == ["-disable-lsr=true", "-disable-lsr=false"]


def test_what_is_compiled_well_has_its_instructions_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.setattr(binding, "set_option", lambda name, option: said.append(option))
    with options.as_we_compile(quick=True):
        assert said == ["-enable-misched=false"]
        with options.as_we_compile(quick=False):
            assert said[1:] == ["-disable-lsr=true", "-enable-misched=true"]
        assert said[3:] == ["-disable-lsr=false", "-enable-misched=false"]
    assert said[5:] == ["-enable-misched=true"]


def test_options_that_llvm_may_lack_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(binding, "llvm_version_info", (99, 0, 0))
    monkeypatch.setattr(binding, "set_option", lambda *_: pytest.fail("it would end the process"))
    with options.as_we_compile(quick=False):
        pass


def printed(write: Callable[[Builder, Memory, Memory], None], vector_bits: int = 256) -> str:
    """The text of a kernel of 16 workgroups of 8 threads, which has a memory to read and one to write."""
    b = Builder()
    source, target = b.argument("source", "f32", 4096), b.argument("target", "f32", 4096)
    target.written = True
    write(b, source, target)
    return print_kernel(b.kernel("kernel", (8,), (16, 1, 1)), "kernel", vector_bits).text


@pytest.mark.parametrize(("length", "rest"), [(64, False), (63, True)])
def test_pieces_of_whole_vectors_have_no_rest(length: int, rest: bool) -> None:
    def write(b: Builder, source: Memory, target: Memory) -> None:
        first = b.op("mul", b.builtin("group_x"), b.constant(length, I32))
        stop = b.op("min", b.op("add", first, b.constant(length, I32)), b.constant(16 * length, I32))
        i = ix.axis("i", 4096)
        with b.loop(i, start=b.op("add", first, b.builtin("thread")), stop=stop, step=8):
            b.store(target, b.index(i), b.load(source, b.index(i)))

    assert ("llvm.masked" in printed(write)) == rest


def test_what_certainly_does_not_hold_in_all_lanes_is_written_once() -> None:
    def write(b: Builder, source: Memory, target: Memory) -> None:
        lane = b.builtin("thread")
        with b.when(b.op("lt", lane, b.constant(3, I32), dtype=BOOL)):
            b.store(target, lane, b.load(source, lane))

    text = printed(write)
    assert "br i1 false" not in text
    assert text.count("store") == 1


@pytest.mark.parametrize("vector_bits", [256, 512])
def test_only_processors_that_scatter_get_vectors_of_places(vector_bits: int) -> None:
    def write(b: Builder, source: Memory, target: Memory) -> None:
        place = b.op("convert", b.load(source, b.builtin("thread")), dtype=I32)
        with b.when(b.op("gt", place, b.constant(5, I32), dtype=BOOL)):
            b.store(target, place, b.load(source, place))

    text = printed(write, vector_bits)
    assert ("masked.scatter" in text) == (vector_bits == 512)
    assert ("llvm.cttz" in text) == (vector_bits == 256)


def test_neighbouring_vectors_share_an_address() -> None:
    def write(b: Builder, source: Memory, target: Memory) -> None:
        first = b.op("add", b.op("mul", b.builtin("group_x"), b.constant(64, I32)), b.builtin("thread"))
        for k in range(4):
            place = b.op("add", first, b.constant(8 * k, I32))
            b.store(target, place, b.load(source, place))

    text = printed(write)
    assert text.count("sext") == 1
    assert [text.count(f", i64 {8 * k}\n") for k in (1, 2, 3)] == [2, 2, 2]
    assert " add i32" not in text


@pytest.mark.parametrize("certain", [True, False])
def test_a_loop_that_certainly_runs_asks_at_its_end(certain: bool) -> None:
    def write(b: Builder, source: Memory, target: Memory) -> None:
        i = ix.axis("i", 4096)
        total = b.variable(b.constant(0.0, F32))
        with b.loop(i, start=0 if certain else b.builtin("group_x"), stop=b.constant(64, I32), step=8):
            b.assign(total, b.op("add", b.read(total), b.load(source, b.index(i))))
        b.store(target, b.builtin("thread"), b.read(total))

    (inside,) = [block for block in printed(write).split("\nb") if "fadd" in block]
    assert ("phi" in inside and "icmp" in inside) == certain
