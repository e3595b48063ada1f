"""Checking derivatives numerically: public, because everybody who writes a rule needs it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from asgfn import dtypes
from asgfn.errors import TransformError
from asgfn.tracing import as_array
from asgfn.transforms.differentiate import jvp, vjp
from asgfn.tree_util import keystr, tree_flatten_with_path, tree_leaves, tree_map

_TOLERANCE = {
    "float16": 1e-1,
    "bfloat16": 2e-1,
    "float32": 2e-2,
    "float64": 1e-5,
    "complex64": 2e-2,
    "complex128": 1e-5,
}
_STEP = {"float16": 1e-2, "bfloat16": 1e-1, "float32": 1e-3, "float64": 1e-6, "complex64": 1e-3, "complex128": 1e-6}


def _random_like(rng: np.random.Generator, tree: Any) -> Any:
    def one(x: Any) -> Any:
        t = as_array(x).aval
        if not dtypes.is_inexact(t.dtype):
            return np.zeros(t.shape, dtypes.float0)
        value = rng.standard_normal(t.shape)
        if dtypes.is_complex(t.dtype):
            value = value + 1j * rng.standard_normal(t.shape)
        return value.astype(t.dtype)

    return tree_map(one, tree)


def _finite_difference(f: Callable, args: Sequence[Any], direction: Any, eps: float) -> Any:
    def moved(sign: float) -> Any:
        def one(x: Any, d: Any) -> Any:
            value = np.asarray(as_array(x))
            return value if d.dtype == dtypes.float0 else (value + sign * eps * d).astype(value.dtype)

        return f(*tree_map(one, tuple(args), direction))

    return tree_map(
        lambda a, b: (np.asarray(a, _wide(a)) - np.asarray(b, _wide(b))) / (2 * eps), moved(1.0), moved(-1.0)
    )


def _wide(x: Any) -> Any:
    return np.complex128 if dtypes.is_complex(as_array(x).dtype) else np.float64


def _inner(a: Any, b: Any) -> float:
    total = 0.0
    for x, y in zip(tree_leaves(a), tree_leaves(b), strict=True):
        if getattr(x, "dtype", None) == dtypes.float0 or getattr(y, "dtype", None) == dtypes.float0:
            continue
        total += np.sum(np.asarray(x, _wide(x)) * np.asarray(y, _wide(y)))
    return total


def _compare(what: str, a: Any, b: Any, rtol: float, atol: float) -> None:
    for (path, x), y in zip(tree_flatten_with_path(a)[0], tree_leaves(b), strict=True):
        if getattr(x, "dtype", None) == dtypes.float0:
            continue
        x, y = np.asarray(x), np.asarray(y)
        if not np.allclose(x, y, rtol=rtol, atol=atol, equal_nan=True):
            worst = np.max(np.abs(x - y))
            raise AssertionError(
                f"{what}{' at ' + keystr(path) if path else ''}: the derivative differs from the numerical one by up to {worst:.3g}:\n{x}\nnumerically:\n{y}"
            )


def check_jvp(
    f: Callable,
    args: Sequence[Any],
    atol: float | None = None,
    rtol: float | None = None,
    eps: float | None = None,
    seed: int = 0,
) -> None:
    """Compares the forward derivative of f at args, in a random direction, with a central difference.

    Raises:
        AssertionError: they differ by more than the tolerances (by default fit for the dtype).
    """
    dtype = _narrowest(args)
    direction = _random_like(np.random.default_rng(seed), tuple(args))
    _, tangent = jvp(f, tuple(args), direction)
    numeric = _finite_difference(f, args, direction, eps or _STEP[dtype])
    _compare("jvp", tangent, numeric, rtol or _TOLERANCE[dtype], atol or _TOLERANCE[dtype])


def check_vjp(
    f: Callable,
    args: Sequence[Any],
    atol: float | None = None,
    rtol: float | None = None,
    eps: float | None = None,
    seed: int = 0,
) -> None:
    """Compares the reverse derivative of f at args with a central difference: <ct, f'(x) v> must equal <f'(x)^T ct, v>."""
    dtype = _narrowest(args)
    rng = np.random.default_rng(seed)
    direction = _random_like(rng, tuple(args))
    out, pull = vjp(f, *args)
    ct = _random_like(rng, out)
    numeric = _finite_difference(f, args, direction, eps or _STEP[dtype])
    left, right = _inner(pull(ct), direction), _inner(ct, numeric)
    scale = max(1.0, abs(right))
    if not abs(left - right) <= scale * ((rtol or _TOLERANCE[dtype]) + (atol or _TOLERANCE[dtype])):
        raise AssertionError(f"vjp: <ct^T J, v> = {left} but numerically {right}")


def _narrowest(args: Any) -> str:
    found = [as_array(x).dtype for x in tree_leaves(tuple(args))]
    names = [d.name for d in found if dtypes.is_inexact(d)]
    if not names:
        raise TransformError("check_grads: no argument is floating point, so there is nothing to check")
    return max(names, key=lambda n: _STEP[n])


def check_grads(
    f: Callable,
    args: Sequence[Any],
    order: int = 1,
    modes: Sequence[str] = ("fwd", "rev"),
    atol: float | None = None,
    rtol: float | None = None,
    eps: float | None = None,
) -> None:
    """Checks derivatives of f at args up to an order, forward ("fwd") and reverse ("rev"), numerically.

    Raises:
        AssertionError: a derivative is wrong.
    """
    if isinstance(modes, str):
        modes = (modes,)
    for mode in modes:
        (check_jvp if mode == "fwd" else check_vjp)(f, args, atol, rtol, eps)
    if order <= 1:
        return
    direction = _random_like(np.random.default_rng(order), tuple(args))
    if "fwd" in modes:
        check_grads(lambda *xs: jvp(f, xs, direction)[1], args, order - 1, modes, atol, rtol, eps)
    else:
        out, _ = vjp(f, *args)
        ct = _random_like(np.random.default_rng(order), out)
        check_grads(
            lambda *xs: [g for g in tree_leaves(vjp(f, *xs)[1](ct)) if g.dtype != dtypes.float0],
            args,
            order - 1,
            modes,
            atol,
            rtol,
            eps,
        )
