"""The compiled CPU backend as a user of arrays meets it: arguments of any layout, donation, threads, memory, inspection."""

from __future__ import annotations

import ctypes
import gc
import logging
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import asgfn
import asgfn.numpy as jnp
from asgfn import lax, nn
from asgfn.errors import DeletedArrayError, NonFiniteError
from backends.cpu import program as cpu_program
from tests import compiled_checks
from tests.compiled_checks import array, assert_same, cpu_fixture, steps  # noqa: F401

pytestmark = pytest.mark.usefixtures("cpu")
rng = np.random.default_rng(11)
LARGE = 1 << 14  # elements of an array that the memory pool takes care of


def jit(f: Callable, **options: Any) -> Any:
    return asgfn.jit(f, backend="cpu", **options)


def check(f: Callable, *args: Any, **options: Any) -> Any:
    return compiled_checks.check(f, *args, backend="cpu", **options)


def place(x: Any) -> int:
    """Where an array is."""
    return x.buffer.ctypes.data


def run_python(program: str, *args: str, **env: str) -> subprocess.CompletedProcess:
    """Runs a program in another process."""
    return subprocess.run(
        [sys.executable, "-c", program, *args],
        env={**os.environ, "ASGFN_CACHE": "off", **env},
        cwd=Path(__file__).parents[1],
        capture_output=True,
        text=True,
        check=False,
    )


def own(*shape: int) -> Any:
    """An array that nobody else sees."""
    return jnp.asarray(rng.standard_normal(shape).astype(np.float32)).copy()


# ---------------------------------------------------------------------------------------------- arguments
def misaligned(x: np.ndarray, by: int = 1) -> np.ndarray:
    """The same numbers at an address that is no multiple of their size."""
    raw = np.zeros(x.nbytes + by, np.uint8)
    moved = np.ndarray(x.shape, x.dtype, raw.data, by)
    moved[...] = x
    return moved


def layouts() -> dict[str, np.ndarray]:
    x = rng.standard_normal((12, 10)).astype(np.float32)
    return {
        "plain": x,
        "transposed": x.T,
        "Fortran": np.asfortranarray(x),
        "reversed": x[::-1, ::-1],
        "strided": x[::2, 1::3],
        "broadcast": np.broadcast_to(x[:1], (5, 10)),
        "a column": x[:, 3:4],
        "one byte off": misaligned(x),
        "two bytes off": misaligned(x, 2),
        "read-only": np.frombuffer(x.tobytes(), np.float32).reshape(12, 10),
        "one element off": np.concatenate([[0], x.reshape(-1)]).astype(np.float32)[1:].reshape(12, 10),
        "swapped bytes": x.astype(">f4"),
        "none": x[:0],
    }


LAYOUTS = layouts()


def mixed(x: Any) -> Any:
    return x * 2 + 1, x.sum(0), x.T @ x, jnp.sort(x, 0), x.reshape(-1)[::-1], jnp.cumsum(x, 1)


@pytest.mark.parametrize("name", LAYOUTS)
def test_arguments_of_any_layout(name: str) -> None:
    given = LAYOUTS[name]
    before = given.copy()
    want = asgfn.jit(mixed, backend="numpy")(np.ascontiguousarray(given, np.float32))
    for _ in range(2):
        assert_same(jit(mixed)(given), want)
        assert_same(jit(mixed, donate_argnums=0)(given), want)
    np.testing.assert_array_equal(given, before)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "int16", "uint32", "complex64"])
def test_misaligned_arguments_of_each_size(dtype: str) -> None:
    x = np.asarray((array(rng, 33) * 5).astype(dtype))
    f = lambda x: (x + x, x[::-1], x.sum())
    assert_same(jit(f)(misaligned(x)), asgfn.jit(f, backend="numpy")(x))


@pytest.mark.parametrize("name", ["transposed", "reversed", "strided", "one byte off"])
def test_buffers_that_are_not_contiguous(name: str) -> None:
    """Operations outside of `jit` give views, so an `Array` may have any layout too."""
    x = jnp.asarray(LAYOUTS["plain"])
    views = {"transposed": x.T, "reversed": x[::-1], "strided": x[1::2, ::3]}
    y = views.get(name, jnp.asarray(LAYOUTS[name]))
    assert_same(jit(mixed)(y), asgfn.jit(mixed, backend="numpy")(y))


@pytest.mark.parametrize("shape", [(0,), (0, 3), (3, 0), (2, 0, 4)])
def test_arrays_without_elements(shape: tuple[int, ...]) -> None:
    def f(x: Any) -> Any:
        return x + 1, x.sum(), x.sum(0), x.prod(-1), x.T, jnp.concatenate([x, x]), x.reshape(0), jnp.ones(3), x

    check(f, jnp.zeros(shape))
    check(lambda x, y: x @ y, jnp.zeros((3, 0)), jnp.zeros((0, 4)))
    check(lambda x, y: x @ y, jnp.zeros((0, 3)), jnp.zeros((3, 4)))


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16", "int8", "int32", "bool", "complex64"])
def test_scalars(dtype: str) -> None:
    x = jnp.asarray(1).astype(dtype)
    compiled = check(lambda x: (x, x + x, x.reshape(1, 1), jnp.full(3, x), jnp.where(x == x, x, 0), x[None] * 2), x)
    assert compiled(x)[1].shape == ()
    check(lambda x: x * 2 + 1, 3.0)
    check(lambda n, x: lax.fori_loop(0, n, lambda i, c: c + x, x), 4, jnp.float32(2))


def test_programs_without_arguments_or_kernels() -> None:
    check(lambda: (jnp.arange(4.0), 3.0, jnp.zeros((0,))))
    check(lambda x, y: (y, x, x, x.reshape(3, 1), y.T), array(rng, 3), array(rng, 2, 2))
    assert jit(lambda: ())() == ()
    assert jit(lambda x: None)(1.0) is None


# ---------------------------------------------------------------------------------------------- donation
@pytest.mark.parametrize("size", [5, 4096, LARGE, 3 * LARGE + 7])
def test_a_donated_argument_is_written_in_place(size: int) -> None:
    f = jit(lambda x, y: x * 2 + y, donate_argnums=0)
    x, y = own(size), own(size)
    want = np.asarray(x) * 2 + np.asarray(y)
    where = place(x)
    for _ in range(3):
        x, before = f(x, y), x
        assert place(x) == where and before.is_deleted() and not y.is_deleted()
        np.testing.assert_allclose(np.asarray(x.copy()), want, rtol=1e-6)
        want = want * 2 + np.asarray(y)
    with pytest.raises(DeletedArrayError):
        f(before, y)


def test_updates_at_an_index_and_in_a_loop_are_in_place() -> None:
    f = jit(lambda x, i, v: x.at[i].set(v), donate_argnums=0)
    x = own(LARGE)
    want, where = np.array(x), place(x)
    for i in range(5):
        x = f(x, i, float(i))
        want[i] = i
        assert place(x) == where
    assert_same(x, jnp.asarray(want))
    g = jit(lambda x: lax.fori_loop(0, 7, lambda i, c: c * 0.5 + 1, x), donate_argnums=0)
    for _ in range(2):
        want = np.asarray(asgfn.jit(lambda x: lax.fori_loop(0, 7, lambda i, c: c * 0.5 + 1, x), backend="numpy")(want))
        x = g(x)
        assert_same(x, jnp.asarray(want))


SEERS: dict[str, Callable] = {
    "itself": lambda x: np.asarray(x),
    "a memoryview": lambda x: np.asarray(x).data,
    "DLPack": lambda x: np.from_dlpack(x),
    "the result of a program": lambda x: jit(lambda x: x)(x),
    "one of two results": lambda x: jit(lambda x: (x + 0, x))(x)[1],
    "a slice": lambda x: np.asarray(x)[::2],
    "reshaped": lambda x: x.reshape(2, -1),
    "reshaped by a program": lambda x: jit(lambda x: x.reshape(2, -1))(x),
    "a transposed view": lambda x: x.reshape(2, -1).T,
}
SMALL_OR_LARGE = pytest.mark.parametrize("size", [100, 2 * LARGE], ids=["small", "large"])


@pytest.mark.parametrize("name", SEERS)
@SMALL_OR_LARGE
@pytest.mark.parametrize("origin", ["made by NumPy", "made by the backend"])
def test_a_donated_argument_that_somebody_else_sees_is_not_changed(name: str, size: int, origin: str) -> None:
    x = own(size) if origin == "made by NumPy" else jit(lambda x: x + 1)(own(size))
    seen = SEERS[name](x)
    before = np.array(seen)
    assert_same(jit(lambda x: x * 0 + 5, donate_argnums=0)(x), jnp.full(size, 5, jnp.float32))
    np.testing.assert_array_equal(np.asarray(seen), before)


ALIASES: dict[str, Callable] = {
    "itself": lambda x: x,
    "twice": lambda x: (x, x),
    "reshaped": lambda x: x.reshape(2, -1),
    "with a dimension": lambda x: x[None],
}


@pytest.mark.parametrize("alias", ALIASES)
@pytest.mark.parametrize("when", ["in a program", "outside"])
@SMALL_OR_LARGE
def test_a_donated_alias_leaves_the_original(alias: str, when: str, size: int) -> None:
    """Results may be the memory of arguments; to donate these results must not change the arguments."""
    f = jit(lambda x: x * 0 + 5, donate_argnums=0)
    changed = []
    for x in (own(size), jit(lambda x: x + 1)(own(size))):
        before, make = np.array(x), ALIASES[alias]
        for result in asgfn.tree.leaves(jit(make)(x) if when == "in a program" else make(x)):
            if result is not x:
                f(result)
        changed.append(not np.array_equal(np.asarray(x), before))
    assert not any(changed)


READ_ONLY = """
import sys
import asgfn, asgfn.numpy as jnp
from nn_fn.checkpoints import load_checkpoint, save_checkpoint
path = save_checkpoint(sys.argv[1], jnp.arange(500.0))
mapped = load_checkpoint(path, mmap=True)[0]
doubled = asgfn.jit(lambda x: x * 2, donate_argnums=0, backend="cpu")(mapped)
assert float(doubled[499]) == 998 and float(load_checkpoint(path)[0][499]) == 499
"""


def test_donated_memory_that_is_read_only_is_not_written_to(tmp_path: Path) -> None:
    """In a process of its own: the memory is a file's, and writing to it ends the process."""
    assert run_python(READ_ONLY, str(tmp_path / "c")).returncode == 0


def test_the_same_array_donated_twice() -> None:
    for size in (7, 2 * LARGE):
        x = own(size)
        want = np.array(x)
        a, b = jit(lambda a, b: (a + 1, b * 2 + a), donate_argnums=(0, 1))(x, x)
        np.testing.assert_allclose(np.asarray(a), want + 1)
        np.testing.assert_allclose(np.asarray(b), want * 3, rtol=1e-6)
        assert x.is_deleted()
        y = own(size)
        want = np.array(y)
        a, b = jit(lambda a, b: (a + 1, b * 2), donate_argnums=0)(y, y)
        np.testing.assert_allclose(np.asarray(a), want + 1)
        np.testing.assert_allclose(np.asarray(b), want * 2)


@pytest.mark.parametrize("size", [5, 2 * LARGE])
def test_constants_are_not_overwritten(size: int) -> None:
    constant = rng.standard_normal(size).astype(np.float32)
    f = jit(lambda x: x * 0 + 5, donate_argnums=0)
    for g in (
        jit(lambda: jnp.asarray(constant)),
        jit(lambda: jnp.asarray(constant).reshape(1, -1)),
        jit(lambda: (jnp.asarray(constant), jnp.asarray(constant)[None])),
        jit(lambda x: (x, jnp.asarray(constant))),
    ):
        given = () if g.__wrapped__.__code__.co_argcount == 0 else (own(3),)
        want = [np.array(x) for x in asgfn.tree.leaves(g(*given))]
        for x in asgfn.tree.leaves(g(*given)):
            f(x)
        for x, y in zip(asgfn.tree.leaves(g(*given)), want, strict=True):
            np.testing.assert_array_equal(np.asarray(x), y)


def test_results_change_places_with_donated_arguments() -> None:
    f = jit(lambda x, y: (y, x), donate_argnums=(0, 1))
    g = jit(lambda x, y: (y + 1, x + 1), donate_argnums=(0, 1))
    h = jit(lambda x, y: (x + y[::-1], y + x[::-1]), donate_argnums=(0, 1))
    for size in (6, 2 * LARGE):
        for step, want in (
            (f, lambda a, b: (b, a)),
            (g, lambda a, b: (b + 1, a + 1)),
            (h, lambda a, b: (a + b[::-1], b + a[::-1])),
        ):
            x, y = own(size), own(size)
            expected = want(np.array(x), np.array(y))
            for got, expectation in zip(step(x, y), expected, strict=True):
                np.testing.assert_allclose(np.asarray(got), expectation, rtol=1e-6)


def test_elements_that_are_read_elsewhere_are_not_overwritten_too_early() -> None:
    for f in (
        lambda x: x + x[::-1],
        lambda x: x - x.sum(),
        lambda x: jnp.roll(x, 1) * x,
        lambda x: x.reshape(2, -1).T.reshape(-1) + x,
        lambda x: jnp.cumsum(x) + x.max(),
        lambda x: x.at[1:].set(x[:-1]),
    ):
        for size in (2, 64, 4096, 2 * LARGE):
            x = own(size)
            want = asgfn.jit(f, backend="numpy")(x)
            assert_same(jit(f, donate_argnums=0)(x), want, atol=2e-3)


def test_donated_types_that_do_not_fit() -> None:
    for f in (lambda x: x.sum(), lambda x: x.astype("int8"), lambda x: jnp.ones(3), lambda x: x.astype("float16")):
        x = own(4096)
        want = asgfn.jit(f, backend="numpy")(x)
        assert_same(jit(f, donate_argnums=0)(x), want, atol=1e-3)
        assert x.is_deleted()


# ---------------------------------------------------------------------------------------------- memory
def test_memory_of_results_is_used_again() -> None:
    f = jit(lambda x: x + 1)
    x = own(LARGE)
    places = set()
    for _ in range(20):
        y = f(x)
        places.add(place(y))
        del y
    assert len(places) == 1


def test_who_sees_a_result_keeps_its_memory() -> None:
    f = jit(lambda x: x + 1)
    x = own(LARGE)
    want = np.asarray(x) + 1
    y = f(x)
    kept: list[Any] = [
        np.asarray(y)[3:10],
        np.asarray(y).reshape(-1, 4).T,
        np.asarray(y).data,
        np.asarray(y).view(np.uint8),
    ]
    before, where = [np.array(k) for k in kept], place(y)
    del y
    assert all(place(f(x * 0)) != where for _ in range(3))
    for k, b in zip(kept, before, strict=True):
        np.testing.assert_array_equal(np.asarray(k), b)
    np.testing.assert_allclose(kept[0], want[3:10])
    k = None
    kept.clear()
    again = f(x)
    assert place(again) == where
    results = [f(x * k) for k in range(4)]
    for k, result in enumerate(results):
        np.testing.assert_allclose(np.asarray(result), np.asarray(x) * k + 1, rtol=1e-6)


def test_an_argument_is_copied_once_if_kernels_cannot_read_it() -> None:
    x, f = jnp.ones((3, LARGE)), jit(lambda x: x * 2)
    assert not x.buffer.flags.c_contiguous  # one number that is seen everywhere
    assert np.all(np.asarray(f(x)) == 2)
    kept = x.buffer
    assert kept.flags.c_contiguous and f(x) is not None and x.buffer is kept


def test_a_deleted_argument_is_missed_even_if_nobody_reads_it() -> None:
    x, y, f = own(8), own(8), jit(lambda x, y: x + 1)
    f(x, y)
    y.delete()
    with pytest.raises(DeletedArrayError):
        f(x, y)


def test_memory_that_nobody_sees_does_not_grow_without_bound(cpu: Any) -> None:
    pool = type(cpu.pool)(most_free=1 << 20)
    for k in range(50):
        pool.arrays([((1 << 17,), np.dtype(np.uint8), (1 << 17) + k)])
    assert sum(n * len(blocks) for n, blocks in pool._blocks.items()) <= (1 << 20) + (1 << 18)
    (held,) = pool.arrays([((1 << 17,), np.dtype(np.uint8), 1 << 17)])
    held[:] = 7
    pool.clear()
    gc.collect()
    assert (held == 7).all()


def test_two_threads_never_get_the_same_memory(cpu: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between being chosen and being seen a block belongs to who chose it."""
    pool = type(cpu.pool)()
    block = type(pool._take(LARGE * 4, {}))
    made = block.array

    def slow(self: Any, shape: Any, dtype: Any) -> Any:
        time.sleep(0.05)
        return made(self, shape, dtype)

    monkeypatch.setattr(block, "array", slow)
    with ThreadPoolExecutor(4) as threads:
        found = [*threads.map(lambda _: pool.arrays([((LARGE,), np.dtype(np.float32), 4 * LARGE)])[0], range(4))]
    assert len({array.ctypes.data for array in found}) == 4


# ---------------------------------------------------------------------------------------------- threads
def together(f: Callable, count: int = 6) -> list[Any]:
    """What a function of a number returns in several threads that start at once."""
    barrier = threading.Barrier(count)

    def run(k: int) -> Any:
        barrier.wait()
        return f(k)

    with ThreadPoolExecutor(count) as threads:
        return [*threads.map(run, range(count))]


def network(w: Any, x: Any) -> Any:
    h = nn.softmax(jnp.tanh(x @ w) @ w.T)
    return h, h.sum(0), lax.scan(lambda c, a: (jnp.sin(c + a), c.sum()), jnp.zeros(x.shape[1]), x)


def test_threads_call_one_function_at_once() -> None:
    w = array(rng, 64, 64)
    xs = [array(rng, 300, 64) for _ in range(6)]
    want = [asgfn.jit(network, backend="numpy")(w, x) for x in xs]
    f = jit(network)
    for results in (together(lambda k: [f(w, xs[k]) for _ in range(8)]) for _ in range(2)):
        for got, expected in zip(results, want, strict=True):
            for each in got:
                assert_same(each, expected, 1e-4, 1e-4)


def test_threads_call_python_and_host_operations_at_once() -> None:
    def f(a: Any) -> Any:
        b = asgfn.pure_callback(lambda v: np.asarray(v) + 1, asgfn.ShapeDtypeStruct(a.shape, a.dtype), a * 2)
        return jnp.linalg.det(b @ b.T + 8 * jnp.eye(6)), b

    xs = [array(rng, 6, 6) for _ in range(6)]
    want = [asgfn.jit(f, backend="numpy")(x) for x in xs]
    g = jit(f)
    for got, expected in zip(together(lambda k: [g(xs[k]) for _ in range(20)]), want, strict=True):
        for each in got:
            assert_same(each, expected, 1e-4, 1e-4)


def test_a_callback_may_call_the_function_that_called_it() -> None:
    def f(n: Any, x: Any) -> Any:
        def down(n: Any, x: Any) -> Any:
            return np.asarray(g(int(n) - 1, np.asarray(x) + 1))

        called = lambda: asgfn.pure_callback(down, asgfn.ShapeDtypeStruct(x.shape, x.dtype), n, x)
        return lax.cond(n > 0, called, lambda: x * 2) + x

    g = jit(f)
    x = np.arange(4, dtype=np.float32)
    np.testing.assert_allclose(np.asarray(g(3, x)), 2 * (x + 3) + (x + 3) + (x + 2) + (x + 1) + x)


PROGRAM = """
import hashlib, sys
import numpy as np
import asgfn, asgfn.numpy as jnp
from asgfn import lax, nn
rng = np.random.default_rng(0)
x, w = (jnp.asarray(rng.standard_normal(s).astype("float32")) for s in ((257, 129), (129, 200)))
image, kernel = (jnp.asarray(rng.standard_normal(s).astype("float32")) for s in ((2, 8, 33, 31), (16, 8, 3, 3)))
q, k, v = (jnp.asarray(rng.standard_normal((1, 300, 2, 16)).astype("float32")) for _ in range(3))
attention = lambda *args: nn.dot_product_attention(*args, local_window_size=(270, 20))
def f(x, w, image, kernel):
    conv = lambda a, b: lax.conv(a, b, (1, 1), "SAME")
    indices = jnp.arange(5000) % 37
    return (
        x @ w, x.sum(), x.sum(0), x.sum(1), x.var(), nn.softmax(x), jnp.cumsum(x.reshape(-1)), jnp.sort(x, 0),
        jnp.zeros(37).at[indices].add(x.reshape(-1)[:5000]), conv(image, kernel), x.T @ jnp.sin(x),
        asgfn.grad(lambda a, b: (conv(a, b) ** 2).sum(), argnums=(0, 1))(image, kernel),
        asgfn.grad(lambda w: (jnp.tanh(x @ w) ** 2).mean())(w), lax.scan(lambda c, a: (jnp.tanh(c + a), c), x[0], x),
        asgfn.random.normal(asgfn.random.key(3), (10001,)), (x.astype("float16") @ w.astype("float16")).sum(0),
        asgfn.value_and_grad(lambda *args: (attention(*args) ** 2).sum(), argnums=(0, 1, 2))(q, k, v),
    )
g = asgfn.jit(f, backend="cpu")
for _ in range(2):
    outs = asgfn.tree.leaves(g(x, w, image, kernel))
    print(*[hashlib.sha1(np.asarray(y).tobytes()).hexdigest()[:12] for y in outs])
"""


def test_results_do_not_depend_on_the_number_of_threads(tmp_path: Path) -> None:
    found = set()
    for threads in ("1", "2", "5"):
        done = run_python(PROGRAM, ASGFN_CPU_THREADS=threads, ASGFN_CACHE=str(tmp_path))
        assert done.returncode == 0, done.stderr
        found |= {tuple(line.split()) for line in done.stdout.splitlines()}
    different = [k for k, each in enumerate(zip(*found, strict=True)) if len(set(each)) > 1]
    assert not different


# ---------------------------------------------------------------------------------------------- what is left to NumPy
def test_operations_without_a_kernel_run_with_numpy_and_say_so_once(caplog: pytest.LogCaptureFixture) -> None:
    cpu_program._warned.clear()
    a = array(rng, 4, 4) + 4 * jnp.eye(4)

    def f(a: Any, b: Any) -> Any:
        return jnp.linalg.solve(a, b * 2) + 1

    with caplog.at_level(logging.INFO, "asgfn"):
        compiled = check(f, a, array(rng, 4))
        check(lambda a, b: f(a, b) * 3, a, array(rng, 4))
    assert len([r for r in caplog.records if "linear_solve" in r.getMessage()]) == 1
    assert "test_cpu_backend.py" in caplog.text
    assert compiled.host_nodes == ["linear_solve: there is no kernel for it"]
    assert check(lambda x: jnp.sin(x) @ x, array(rng, 3, 3)).host_nodes == []


def test_complex_numbers() -> None:
    z = (array(rng, 5, 5) + 1j * array(rng, 5, 5)).astype("complex64")

    def f(z: Any, x: Any) -> Any:
        w = lax.complex(x, x * 2)
        return z * z + w, abs(z), z.real + x, jnp.conj(z @ z), jnp.exp(1j * x), z.sum(0), jnp.where(x > 0, z, w)

    compiled = check(f, z, array(rng, 5, 5), rtol=1e-4, atol=1e-4)
    assert compiled.host_nodes and all("complex64" in text for text in compiled.host_nodes)
    check(lambda x: jnp.fft.irfft(jnp.fft.rfft(jnp.sin(x)) * 2) + 1, array(rng, 16), atol=1e-4)
    check(lambda z: lax.fori_loop(0, 3, lambda i, c: c * z, z), z[0])
    check(asgfn.grad(lambda x: jnp.abs(jnp.fft.fft(jnp.sin(x))).sum()), array(rng, 8), rtol=1e-3, atol=1e-3)


def test_64_bit_numbers() -> None:
    with asgfn.enable_x64():
        x = jnp.asarray(rng.standard_normal((6, 6)))
        n = jnp.asarray(rng.integers(-(1 << 40), 1 << 40, (5,)))
        check(lambda x: (x * 2, jnp.sin(x).astype("float32") @ x.astype("float32"), x @ x), x, rtol=1e-6, atol=1e-6)
        check(lambda x: jnp.sin(x) @ jnp.exp(x), x, rtol=1e-13, atol=1e-13)
        check(lambda n: (n * 3, n // 7, n.astype("float32") + 1, n >> 3, jnp.sort(n), n.astype("int32") * 2), n)
        check(lambda x: lax.fori_loop(0, 3, lambda i, c: c * x, x), jnp.float64(3))
        check(lambda xs: lax.scan(lambda c, x: (c + x, c * 2), jnp.zeros(6, "float64"), xs), x, rtol=1e-13)
        assert_same(jit(lambda x: x * 2, donate_argnums=0)(x.copy()), x * 2)


def test_debug_nans_names_the_operation_and_the_line() -> None:
    def f(x: Any) -> Any:
        y = jnp.exp(x) * 2
        return jnp.log(y - 10) + 1

    line = f.__code__.co_firstlineno + 2
    good, bad = jnp.full(3, 5.0), jnp.zeros(3)
    looped = lambda x: lax.scan(lambda c, a: (c + jnp.sqrt(a), c), jnp.float32(0), x)
    with asgfn.debug_nans():
        for g in (jit(f), jit(asgfn.vmap(f)), jit(lambda x: asgfn.checkpoint(f)(x) * 2)):
            assert np.isfinite(np.asarray(g(good))).all()
            with pytest.raises(NonFiniteError, match=rf"(?s)nan.*encountered in log.*test_cpu_backend\.py:{line}"):
                g(bad)
            assert np.isfinite(np.asarray(g(good))).all()
        with pytest.raises(NonFiniteError, match="encountered in sqrt"):
            jit(looped)(jnp.asarray([1.0, -1.0]))
        root = lambda x: jnp.sum(jnp.sqrt(x) * 0)
        with pytest.raises(NonFiniteError, match="test_cpu_backend"):
            jit(asgfn.grad(root))(jnp.zeros(2))
    with asgfn.debug_infs(), pytest.raises(NonFiniteError, match=r"infinity.*exp"):
        jit(jnp.exp)(1000.0)
    assert np.isnan(np.asarray(jit(f)(bad))).all()


# ---------------------------------------------------------------------------------------------- inspection
def test_a_compiled_program_shows_what_it_is() -> None:
    x, w = array(rng, 33, 40), array(rng, 40, 20)
    compiled = jit(lambda x, w: jnp.linalg.det(nn.softmax(x @ w)[:20]) + jnp.arange(20.0)).lower(x, w).compile()
    text = compiled.as_text()
    assert text.startswith("<lambda>: ") and "contraction: dot_general" in text
    assert text.count("define void @k") == sum(d.kernel is not None for d in compiled.executable.finished.kernels) > 2
    memory = compiled.memory
    assert memory["arguments"] == x.nbytes + w.nbytes and memory["outputs"] >= 80
    assert memory["total"] == sum(n for use, n in memory.items() if use != "total")
    product = next(k for k in compiled.kernels if k.kind == "contraction")
    assert "define void @k" in product.code and product.code in text and product.flops > 0 and product.times == 1
    assert "test_cpu_backend.py" in str(product.source)
    assert len(compiled.host_nodes) == 1 and "there is no kernel" in compiled.host_nodes[0]
    assert_same(compiled(x, w), jit(lambda x, w: jnp.linalg.det(nn.softmax(x @ w)[:20]) + jnp.arange(20.0))(x, w))
    assert compiled.asg.nodes


def test_layers_share_the_code_of_what_is_done_for_all_of_them() -> None:
    x, state = array(rng, 64, 100), [(array(rng, 100), array(rng, 37), array(rng, 100)) for _ in range(4)]
    update = lambda x, state: [(a * 2 + x.sum(0), b * 3, jnp.tanh(c) + x.max(0)) for a, b, c in state]
    compiled = check(update, x, state)
    assert len({k.code for k in compiled.kernels}) < len(compiled.kernels)


def test_donation_saves_memory() -> None:
    f = lambda x: jnp.tanh(x) * 2
    x = array(rng, 1000)
    given = jit(f, donate_argnums=0).lower(x).compile().memory
    assert jit(f).lower(x).compile().memory["total"] - given["total"] >= 4000


def stepped(w: Any, xs: Any) -> Any:
    def step(h: Any, x: Any) -> Any:
        with asgfn.named_scope("cell"):
            h = jnp.tanh(h @ w + x)
        return h, h

    h, ys = lax.scan(step, jnp.zeros((2, 4)), xs)
    big = jnp.broadcast_to(h.reshape(8, 1), (8, 1 << 12))
    chosen = lax.cond(h.sum() > 0, lambda b: jnp.sort(b, axis=0), lambda b: jnp.tanh(b), big)
    turns = lax.while_loop(lambda c: c[0] < 7, lambda c: (c[0] + 1, c[1] * 2), (0, ys))
    return jnp.linalg.det(w), chosen, turns


def test_profile_times_each_kernel(tmp_path: Path) -> None:
    args = array(rng, 4, 4), array(rng, 5, 2, 4)
    compiled = jit(stepped).lower(*args).compile()
    found = compiled.profile(*args, repeats=2)
    cell = next(t for t in found.times if t.kernel.scope == "cell" and t.kernel.kind == "contraction")
    assert cell.runs == cell.kernel.times == 5 and cell.total == pytest.approx(5 * cell.seconds)
    assert sum(t.runs == 7 and t.kernel.times is None for t in found.times) == 1
    assert len(found.times) < len(compiled.kernels)  # one branch has not run
    assert "[cell]" in str(found) and "means of 2 calls" in str(found)
    found.plot(path=tmp_path / "timeline.png")
    assert (tmp_path / "timeline.png").stat().st_size > 1000
    with pytest.raises(ValueError, match="repeats"):
        compiled.profile(*args, repeats=0)
    assert_same(compiled(*args), jit(stepped)(*args))


def test_profile_leaves_donated_arguments_alone() -> None:
    x = own(1000)
    before = jnp.asarray(np.array(x))
    compiled = jit(lambda x: x + 1, donate_argnums=0).lower(x).compile()
    assert compiled.profile(x, repeats=3).times
    assert_same(x, before)


def test_results_are_arrays_of_numpy() -> None:
    x = jit(lambda x: x + 1)(np.zeros((100, 100), np.float32))
    assert type(x.buffer) is np.ndarray and x.buffer.flags.c_contiguous
    assert ctypes.c_float.from_address(place(x)).value == 1
    assert x.buffer.ctypes.data % 16 == 0
    assert steps(jit(lambda x: x + 1).lower(x).compile())
