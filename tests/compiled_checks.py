"""What tests of the backends that compile share: their results against those of the NumPy backend."""

from __future__ import annotations

import functools
import importlib.util
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

import asgfn
from asgfn.backend import get_backend
from backends.programs.steps import Commands, walk
from tests.software_gpu import gpu_fixture as gpu_fixture

BACKENDS = ("wgpu", "cpu")


@functools.cache
def _why_no_cpu() -> str:
    """Why programs cannot be compiled for the CPU here; nothing if they can."""
    if importlib.util.find_spec("llvmlite") is None:
        return "llvmlite is not installed"
    get_backend("cpu")
    return ""


@pytest.fixture(name="cpu", scope="session")
def cpu_fixture() -> Any:
    """The compiled CPU backend. Where llvmlite is not installed, tests are skipped, but not in CI."""
    why = _why_no_cpu()
    if why:
        if os.environ.get("CI") and sys.platform == "linux":
            pytest.fail(f"CI must have what the compiled CPU backend needs: {why}")
        pytest.skip(why)
    return get_backend("cpu")


@pytest.fixture(name="backend", params=BACKENDS, scope="session")
def backend_fixture(request: pytest.FixtureRequest) -> str:
    """The name of each backend that compiles, in turn."""
    request.getfixturevalue("gpu" if request.param == "wgpu" else request.param)
    return request.param


def values(tree: Any) -> list[np.ndarray]:
    """A pytree's arrays as NumPy arrays of float64 or complex128."""
    found = []
    for leaf in asgfn.tree.leaves(tree):
        x = np.asarray(leaf)
        found.append(x.astype(np.complex128 if x.dtype.kind == "c" else np.float64))
    return found


def assert_same(got: Any, want: Any, rtol: float = 2e-5, atol: float = 1e-5) -> None:
    """Structure, types and values agree."""
    assert asgfn.tree.structure(got) == asgfn.tree.structure(want)
    for a, b in zip(asgfn.tree.leaves(got), asgfn.tree.leaves(want), strict=True):
        assert a.aval == b.aval
    for a, b in zip(values(got), values(want), strict=True):
        np.testing.assert_allclose(a, b, rtol=rtol, atol=atol)


def check(f: Callable, *args: Any, backend: str, rtol: float = 2e-5, atol: float = 1e-5, **options: Any) -> Any:
    """A function gives on a backend what it gives with NumPy, the first time and the next. Returns the compiled program."""
    with np.errstate(all="ignore"):
        want = asgfn.jit(f, backend="numpy", **options)(*args)
    compiled = asgfn.jit(f, backend=backend, **options)
    for _ in range(2):
        assert_same(compiled(*args), want, rtol, atol)
    return compiled.lower(*args).compile()


def both_tiers(f: Callable, *args: Any) -> Any:
    """What a function gives on the CPU, bit by bit the same whether its kernels are compiled quickly or well."""
    from backends.cpu import tiers

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tiers, "is_tiered", lambda: True)
        compiled = asgfn.jit(f, backend="cpu")
        quickly = compiled(*args)
        program = compiled.lower(*args).compile().executable
        program.improve()
        assert not program.is_improvable
        well = compiled(*args)
    for a, b in zip(asgfn.tree.leaves(quickly), asgfn.tree.leaves(well), strict=True):
        assert_same_bits(np.asarray(a), np.asarray(b))
    return well


def assert_same_bits(a: np.ndarray, b: np.ndarray) -> None:
    """Two arrays have the same numbers: zeros have the same sign, NaNs need not."""
    assert a.dtype == b.dtype and a.shape == b.shape
    if a.dtype == asgfn.dtypes.float0:  # has no numbers
        return
    if a.dtype.kind == "c":
        a, b = (np.stack([x.real, x.imag]) for x in (a, b))
    nan = np.not_equal(a, a)
    np.testing.assert_array_equal(nan, np.not_equal(b, b))
    one, other = (np.ascontiguousarray(np.where(nan, np.zeros((), x.dtype), x)).view(np.uint8) for x in (a, b))
    np.testing.assert_array_equal(one, other)


def finished(compiled: Any) -> Any:
    """What a compiled program does, as the steps that backends share."""
    return getattr(compiled.executable, "built", compiled.executable).finished


def steps(compiled: Any) -> list[Any]:
    """All steps of a compiled program, those of loops and branches included."""
    return list(walk(finished(compiled).steps))


def is_native(compiled: Any) -> bool:
    """Whether a program runs in one go, without Python in between."""
    return all(isinstance(s, Commands) for s in finished(compiled).steps)


def array(rng: np.random.Generator, *shape: int) -> Any:
    return asgfn.numpy.asarray(rng.standard_normal(shape).astype(np.float32))


# ---------------------------------------------------------------------------------------------- random programs
def compare(f: Callable, args: Sequence[Any], backend: str, **options: Any) -> None:
    """A program gives on a backend what it gives with NumPy, where rounding decides little: what changes when arguments
    change in their last places may differ a hundred times as much; integers that change at all are not compared."""
    with_numpy = asgfn.jit(f, backend="numpy")
    with np.errstate(all="ignore"):
        want = asgfn.tree.leaves(with_numpy(*args))
        changes = [_changed(args, seed) for seed in range(4)]
        spreads = [_distances(asgfn.tree.leaves(with_numpy(*changed)), want) for changed in changes]
    tolerance = 4e-2 if "float16" in asgfn.trace(f)(*args).text() else 2e-4
    compiled = asgfn.jit(f, backend=backend, **options)
    for _ in range(2):
        given = [asgfn.numpy.array(np.asarray(x)) for x in args]  # they may be donated
        got = asgfn.tree.leaves(compiled(*given))
        for k, (x, y) in enumerate(zip(got, want, strict=True)):
            assert x.aval == y.aval
            spread = max((float(s[k].max(initial=0)) for s in spreads), default=0.0)
            inexact = np.dtype(y.dtype).kind in "fV"
            if not np.isfinite(spread) or (not inexact and spread > 0):
                continue
            size = np.abs(values(y)[0])
            allowed = tolerance * (1 + np.where(np.isfinite(size), size, 0)) + 100 * spread if inexact else 0.0
            wrong = _distances([x], [y])[0] > allowed
            assert not wrong.any(), (
                f"result {k}, {y.aval}: {values(x)[0][wrong][:5]} instead of {values(y)[0][wrong][:5]}"
            )


def _changed(args: Sequence[Any], seed: int) -> list[Any]:
    """Arguments with their floats a little different."""
    rng = np.random.default_rng(seed)
    changed = []
    for x in args:
        value = np.asarray(x)
        if value.dtype.kind in "fV":
            step = (3e-7, 3e-7, 6e-7, 1e-6)[seed] if value.dtype.itemsize > 2 else (0.0, 0.0, 6e-3, 6e-3)[seed]
            value = (value.astype(np.float64) * (1 + step * rng.choice([-1, 1], value.shape))).astype(value.dtype)
        changed.append(asgfn.numpy.asarray(value))
    return changed


def _distances(got: Sequence[Any], want: Sequence[Any]) -> list[np.ndarray]:
    """How far numbers are apart: not at all if they are the same infinity, infinitely if only one is not a number."""
    found = []
    for x, y in zip(values(got), values(want), strict=True):
        with np.errstate(all="ignore"):
            apart = np.array(np.abs(x - y))
        apart[np.isnan(apart)] = np.inf
        apart[(x == y) | (np.isnan(x) & np.isnan(y))] = 0
        found.append(apart)
    return found
