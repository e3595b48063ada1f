"""Checks that any differentiable function must pass, against finite differences and Python loops."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

import asgfn
from asgfn import lax


def total(arrays: Sequence[Any], weights: Sequence[np.ndarray]) -> Any:
    """sum(weights * arrays), a scalar."""
    terms = [lax.reduce_sum(lax.mul(a, w), tuple(range(w.ndim))) for a, w in zip(arrays, weights, strict=True)]
    result = terms[0]
    for term in terms[1:]:
        result = lax.add(result, term)
    return result


def as_tuple(outputs: Any) -> tuple:
    return tuple(outputs) if isinstance(outputs, (tuple, list)) else (outputs,)


def check_derivatives(f: Callable, *args: np.ndarray, order: int = 2, step: float = 1e-6, tol: float = 1e-5) -> None:
    """Forward mode against central differences, reverse mode against forward mode, and both again for the gradient."""
    rng = np.random.default_rng(0)
    with asgfn.enable_x64():
        args = tuple(np.asarray(a, np.float64) for a in args)
        _check(lambda *a: as_tuple(f(*a)), args, rng, order, step, tol)


def _check(f: Callable, args: tuple, rng: np.random.Generator, order: int, step: float, tol: float) -> None:
    direction = tuple(rng.normal(size=a.shape) for a in args)
    after = f(*(a + step * d for a, d in zip(args, direction, strict=True)))
    before = f(*(a - step * d for a, d in zip(args, direction, strict=True)))
    values, tangents = asgfn.jvp(f, args, direction)
    for tangent, hi, lo in zip(tangents, after, before, strict=True):
        np.testing.assert_allclose(tangent, (np.asarray(hi) - np.asarray(lo)) / (2 * step), rtol=tol, atol=tol)

    weights = [rng.normal(size=v.shape) for v in values]
    cotangents = asgfn.vjp(f, *args)[1](tuple(weights))
    forward = sum((np.asarray(t) * w).sum() for t, w in zip(tangents, weights, strict=True))
    backward = sum((np.asarray(c) * d).sum() for c, d in zip(cotangents, direction, strict=True))
    np.testing.assert_allclose(forward, backward, rtol=1e-9, atol=1e-9)

    if order > 1:
        gradient = asgfn.grad(lambda *a: total(f(*a), weights), tuple(range(len(args))))
        _check(gradient, args, rng, order - 1, step, tol)


def check_vmap(f: Callable, *args: np.ndarray, in_axes: Sequence[int | None]) -> None:
    """vmap against a loop over the mapped axes."""
    size = next(a.shape[d] for a, d in zip(args, in_axes, strict=True) if d is not None)
    mapped = as_tuple(asgfn.vmap(f, in_axes=tuple(in_axes))(*args))
    rows = [
        as_tuple(f(*(a if d is None else np.take(a, i, d) for a, d in zip(args, in_axes, strict=True))))
        for i in range(size)
    ]
    for k, out in enumerate(mapped):
        expected = np.stack([np.asarray(row[k]) for row in rows])
        assert out.dtype == expected.dtype
        np.testing.assert_allclose(np.asarray(out), expected, rtol=1e-5, atol=1e-5)
