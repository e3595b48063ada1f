"""What tests of the wgpu backend share: its results against those of the NumPy backend."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import asgfn


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


def check(f: Callable, *args: Any, rtol: float = 2e-5, atol: float = 1e-5, **options: Any) -> Any:
    """A function gives on the GPU what it gives with NumPy, the first time and the next. Returns the compiled program."""
    want = asgfn.jit(f, backend="numpy", **options)(*args)
    on_gpu = asgfn.jit(f, backend="wgpu", **options)
    for _ in range(2):
        assert_same(on_gpu(*args), want, rtol, atol)
    return on_gpu.lower(*args).compile()


def array(rng: np.random.Generator, *shape: int) -> Any:
    return asgfn.numpy.asarray(rng.standard_normal(shape).astype(np.float32))
