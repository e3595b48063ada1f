"""Running sums and products, differences of neighbours, derivatives and integrals of samples."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from asgfn import dtypes, lax
from asgfn.errors import AxisError, DTypeError, ShapeError
from asgfn.numpy.arguments import (
    ArrayLike,
    DTypeLike,
    broadcast_operand,
    constant,
    convert,
    normalize_axes,
    normalize_axis,
    promote_args,
    promote_args_inexact,
    promote_dtypes,
    promote_dtypes_inexact,
    refuse_out,
    to_array,
)
from asgfn.numpy.reductions import sum_dtype
from asgfn.tracing import Array


def _running(name: str, primitive: Callable, a: Array, axis: int | None, dtype: np.dtype) -> Array:
    a = convert(a, dtype)
    if axis is None:
        return primitive(lax.reshape(a, (a.size,)), 0)
    return primitive(a, normalize_axis(name, axis, a.shape))


def _running_dtype(a: Array, dtype: DTypeLike) -> np.dtype:
    if dtype is not None:
        return dtypes.canonicalize(dtype)
    return dtypes.default_int() if a.dtype == np.bool_ else a.dtype


def cumsum(a: ArrayLike, axis: int | None = None, dtype: DTypeLike = None, out: None = None) -> Array:
    """Running sum along `axis` (None: of the flattened array). Booleans are counted; integers keep their dtype."""
    refuse_out("cumsum", out)
    a = to_array("cumsum", a)
    return _running("cumsum", lax.cumsum, a, axis, _running_dtype(a, dtype))


def cumprod(a: ArrayLike, axis: int | None = None, dtype: DTypeLike = None, out: None = None) -> Array:
    """Running product along `axis` (None: of the flattened array)."""
    refuse_out("cumprod", out)
    a = to_array("cumprod", a)
    return _running("cumprod", lax.cumprod, a, axis, _running_dtype(a, dtype))


def _cumulative(
    name: str, primitive: Callable, first: int, x: ArrayLike, axis: int | None, dtype: DTypeLike, include_initial: bool
) -> Array:
    x = to_array(name, x)
    if x.ndim == 0:
        raise ShapeError(f"{name}: the operand must have at least one axis, got shape ()")
    if axis is None and x.ndim > 1:
        raise AxisError(f"{name}: an array of shape {x.shape} has several axes: pass axis=")
    axis = normalize_axis(name, 0 if axis is None else axis, x.shape)
    result = primitive(convert(x, sum_dtype(x.dtype) if dtype is None else dtypes.canonicalize(dtype)), axis)
    if not include_initial:
        return result
    pads = [(int(i == axis), 0, 0) for i in range(x.ndim)]
    return lax.pad(result, constant(first, result.dtype), pads)


def cumulative_sum(
    x: ArrayLike, /, *, axis: int | None = None, dtype: DTypeLike = None, include_initial: bool = False
) -> Array:
    """Running sum along `axis` (required when x has several); narrow integers are widened as by `sum`.

    With `include_initial` the result starts with 0 and is one longer.
    """
    return _cumulative("cumulative_sum", lax.cumsum, 0, x, axis, dtype, include_initial)


def cumulative_prod(
    x: ArrayLike, /, *, axis: int | None = None, dtype: DTypeLike = None, include_initial: bool = False
) -> Array:
    """Running product along `axis` (required when x has several); narrow integers are widened as by `prod`.

    With `include_initial` the result starts with 1 and is one longer.
    """
    return _cumulative("cumulative_prod", lax.cumprod, 1, x, axis, dtype, include_initial)


# ------------------------------------------------------------------------------------------------------- differences


def diff(
    a: ArrayLike, n: int = 1, axis: int = -1, prepend: ArrayLike | None = None, append: ArrayLike | None = None
) -> Array:
    """Differences of neighbours along `axis`, taken `n` times: a[i + 1] - a[i]; inequality for booleans.

    `prepend` and `append` are joined to `a` along the axis first; scalars stand for one element each.
    """
    a = to_array("diff", a)
    if a.ndim == 0:
        raise ShapeError("diff: the operand must have at least one axis, got shape ()")
    if n < 0:
        raise ShapeError(f"diff: the order must not be negative, got {n}")
    axis = normalize_axis("diff", axis, a.shape)
    if n == 0:
        return a

    def edge(values: ArrayLike) -> Array:
        values = to_array("diff", values)
        shape = tuple(1 if i == axis else size for i, size in enumerate(a.shape))
        return broadcast_operand(values, shape) if values.ndim == 0 else values

    parts = [edge(v) if v is not a else a for v in (prepend, a, append) if v is not None]
    joined = lax.concatenate(promote_dtypes(*parts), axis) if len(parts) > 1 else a
    for _ in range(n):
        size = joined.shape[axis]
        upper, lower = _window(joined, min(1, size), size, axis), _window(joined, 0, max(size - 1, 0), axis)
        joined = lax.ne(upper, lower) if joined.dtype == np.bool_ else lax.sub(upper, lower)
    return joined


def _window(a: Array, start: int, stop: int, axis: int) -> Array:
    return lax.slice_in_dim(a, start, stop, axis=axis)


def ediff1d(ary: ArrayLike, to_end: ArrayLike | None = None, to_begin: ArrayLike | None = None) -> Array:
    """Differences of neighbours of the flattened array, between `to_begin` and `to_end`."""
    ary = to_array("ediff1d", ary)
    result = diff(lax.reshape(ary, (ary.size,)))
    parts = [result]
    for values, place in ((to_begin, 0), (to_end, len(parts) + 1)):
        if values is not None:
            flat = convert(to_array("ediff1d", values), result.dtype)
            parts.insert(place, lax.reshape(flat, (flat.size,)))
    return lax.concatenate(parts, 0) if len(parts) > 1 else result


def gradient(
    f: ArrayLike,
    *varargs: ArrayLike,
    axis: int | Sequence[int] | None = None,
    edge_order: int | None = None,
) -> Array | list[Array]:
    """Derivative of samples along `axis` (None: a list with one for each axis), by central differences.

    Arguments:
        varargs: nothing (unit spacing), one scalar for all axes, or for each axis a scalar or a vector of coordinates.
        edge_order: 1 or 2, the order of accuracy of the one-sided differences at the ends.
    """
    (f,) = promote_dtypes_inexact(to_array("gradient", f))
    f = to_array("gradient", f)
    order = 1 if edge_order is None else edge_order
    if order not in (1, 2):
        raise ShapeError(f"gradient: edge_order must be 1 or 2, got {edge_order}")
    axes = normalize_axes("gradient", axis, f.shape)
    if len(varargs) == 0:
        spacings: tuple[Any, ...] = (1.0,) * len(axes)
    elif len(varargs) == 1 and np.ndim(varargs[0]) == 0:
        spacings = varargs * len(axes)
    elif len(varargs) == len(axes):
        spacings = varargs
    else:
        raise DTypeError(
            f"gradient: {len(varargs)} spacings were given for {len(axes)} axes; give none, one, or one each"
        )
    results = [_derivative(f, i, spacing, order) for i, spacing in zip(axes, spacings, strict=True)]
    if (axis is not None and np.ndim(axis) == 0) or f.ndim == 1:
        return results[0]
    return results


def _derivative(f: Array, axis: int, spacing: Any, order: int) -> Array:
    size = f.shape[axis]
    if size < order + 1:
        raise ShapeError(f"gradient: axis {axis} of shape {f.shape} needs at least {order + 1} elements")
    spacing = convert(to_array("gradient", spacing), f.dtype)
    if spacing.ndim > 1 or (spacing.ndim == 1 and spacing.shape[0] != size):
        raise ShapeError(f"gradient: coordinates of shape {spacing.shape} do not fit axis {axis} of shape {f.shape}")
    if spacing.ndim == 0:
        return _uniform_derivative(f, axis, spacing, order)
    steps = lax.reshape(diff(spacing), tuple(size - 1 if i == axis else 1 for i in range(f.ndim)))
    slopes = lax.div(*promote_args("gradient", diff(f, axis=axis), steps))
    first, last = _window(slopes, 0, 1, axis), _window(slopes, size - 2, size - 1, axis)
    if size == 2:
        return lax.concatenate([first, last], axis)
    left, right = _window(steps, 0, size - 2, axis), _window(steps, 1, size - 1, axis)
    before, after = _window(slopes, 0, size - 2, axis), _window(slopes, 1, size - 1, axis)
    # weights h1 / (h0 + h1) and h0 / (h0 + h1) of the slopes on both sides: second order for uneven steps too
    total = lax.add(left, right)
    inner = _weighted(before, lax.div(right, total), after, lax.div(left, total))
    if order == 2:
        h0, h1 = _window(steps, 0, 1, axis), _window(steps, 1, 2, axis)
        first = _extrapolated(first, _window(slopes, 1, 2, axis), h0, h1)
        h0, h1 = _window(steps, size - 2, size - 1, axis), _window(steps, size - 3, size - 2, axis)
        last = _extrapolated(last, _window(slopes, size - 3, size - 2, axis), h0, h1)
    return lax.concatenate([first, inner, last], axis)


def _uniform_derivative(f: Array, axis: int, step: Array, order: int) -> Array:
    size = f.shape[axis]

    def combined(*terms: tuple[float, int]) -> Array:
        """Sum of weight * f[position], positions counted from the end when negative."""
        total = None
        for weight, at in terms:
            value = lax.slice_in_dim(f, at % size, at % size + 1, axis=axis)
            term = lax.mul(value, constant(weight, f.dtype))
            total = term if total is None else lax.add(total, term)
        return lax.div(total, step)

    if order == 1:
        first, last = combined((1.0, 1), (-1.0, 0)), combined((1.0, -1), (-1.0, -2))
    else:
        first = combined((-1.5, 0), (2.0, 1), (-0.5, 2))
        last = combined((1.5, -1), (-2.0, -2), (0.5, -3))
    if size == 2:
        return lax.concatenate([first, last], axis)
    span = lax.mul(step, constant(2.0, f.dtype))
    inner = lax.div(lax.sub(_window(f, 2, size, axis), _window(f, 0, size - 2, axis)), span)
    return lax.concatenate([first, inner, last], axis)


def _weighted(x: Array, weight_x: Array, y: Array, weight_y: Array) -> Array:
    return lax.add(lax.mul(*promote_args("gradient", x, weight_x)), lax.mul(*promote_args("gradient", y, weight_y)))


def _extrapolated(near: Array, far: Array, h_near: Array, h_far: Array) -> Array:
    """The slope at the end of the nearer interval, by a parabola through both."""
    ratio = lax.div(h_near, lax.add(h_near, h_far))
    return lax.add(near, lax.mul(*promote_args("gradient", lax.sub(near, far), ratio)))


def trapezoid(y: ArrayLike, x: ArrayLike | None = None, dx: ArrayLike = 1.0, axis: int = -1) -> Array:
    """Integral of samples along `axis` by the trapezoidal rule, at coordinates `x` or a distance `dx` apart."""
    if x is None:
        y, dx = promote_dtypes_inexact(to_array("trapezoid", y), dx)
        axis = normalize_axis("trapezoid", axis, y.shape)
        steps = dx
    else:
        y, x = promote_dtypes_inexact(to_array("trapezoid", y), to_array("trapezoid", x))
        axis = normalize_axis("trapezoid", axis, y.shape)
        if x.ndim == 1:
            rest = (1,) * (y.ndim - 1 - axis)
            steps = lax.reshape(diff(x), (-1, *rest)) if rest else diff(x)
        else:
            steps = diff(x, axis=axis - y.ndim)
    size = y.shape[axis]
    heights = lax.add(_window(y, min(1, size), size, axis), _window(y, 0, max(size - 1, 0), axis))
    areas = lax.mul(*promote_args_inexact("trapezoid", heights, steps))
    return lax.mul(lax.reduce_sum(areas, (areas.ndim - y.ndim + axis,)), constant(0.5, areas.dtype))
