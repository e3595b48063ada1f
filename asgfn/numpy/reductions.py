"""Reductions: sums, products, extrema, means, variances, and positions of extrema.

Dtypes: `sum` and `prod` widen booleans and narrow integers to the default integer; means and variances of integers
are floats. `where=` leaves elements out by replacing them with the neutral element. Results are never weakly typed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from asgfn import dtypes, lax
from asgfn.errors import DTypeError, ShapeError
from asgfn.numpy.arguments import (
    ArrayLike,
    DTypeLike,
    broadcast_operand,
    broadcast_shapes,
    computation_dtype,
    constant,
    convert,
    normalize_axes,
    normalize_axis,
    promote_args,
    refuse_out,
    strong,
    to_array,
    to_inexact,
)
from asgfn.numpy.ufuncs import to_bool
from asgfn.tracing import Array

Axis = int | Sequence[int] | None
bool_ = np.dtype(np.bool_)


def kept_shape(shape: tuple[int, ...], axes: tuple[int, ...]) -> tuple[int, ...]:
    """`shape` with the reduced axes as 1: what `keepdims=True` gives."""
    return tuple(1 if i in axes else size for i, size in enumerate(shape))


def masked(name: str, a: Array, where: ArrayLike | None, fill: Any) -> Array:
    """`a` with `fill` where the mask is False; the two broadcast against each other."""
    if where is None:
        return a
    mask = to_bool(to_array(name, where))
    if mask.ndim == a.ndim == 0 or not mask.ndim or mask.shape == a.shape:
        return lax.select(mask, a, constant(fill, a.dtype))
    shape = broadcast_shapes(a.shape, mask.shape)
    return lax.select(broadcast_operand(mask, shape), broadcast_operand(a, shape), constant(fill, a.dtype))


def _finish(result: Array, shape: tuple[int, ...], axes: tuple[int, ...], keepdims: bool) -> Array:
    result = lax.reshape(result, kept_shape(shape, axes)) if keepdims else result
    return strong(result)


# --------------------------------------------------------------------------------------------------- sum and product


def sum_dtype(dtype: np.dtype) -> np.dtype:
    """The dtype in which integers are summed: the default integer for narrower ones, keeping the absence of a sign."""
    if dtype == np.bool_:
        return dtypes.default_int()
    if dtypes.is_integer(dtype):
        wide = dtypes.default_uint() if dtypes.is_unsigned_integer(dtype) else dtypes.default_int()
        return wide if wide.itemsize > dtype.itemsize else dtype
    return dtype


def _accumulated(a: Array, dtype: DTypeLike, promote_integers: bool) -> Array:
    if dtype is not None:
        return convert(a, dtypes.canonicalize(dtype))
    if promote_integers or a.dtype == np.bool_:
        return convert(a, sum_dtype(a.dtype))
    return a


def sum(
    a: ArrayLike,
    axis: Axis = None,
    dtype: DTypeLike = None,
    out: None = None,
    keepdims: bool = False,
    initial: ArrayLike | None = None,
    where: ArrayLike | None = None,
    promote_integers: bool = True,
) -> Array:
    """Sum over `axis` (None: all axes); 0 for no elements.

    Arguments:
        dtype: dtype of the result; booleans and narrow integers are widened by default.
        initial: added to the result.
        where: mask of the elements that take part; broadcasts against `a`.
        promote_integers: False keeps narrow integer dtypes (wrapping around).
    """
    refuse_out("sum", out)
    a = masked("sum", _accumulated(to_array("sum", a), dtype, promote_integers), where, 0)
    axes = normalize_axes("sum", axis, a.shape)
    result = lax.reduce_sum(a, axes)
    if initial is not None:
        result = lax.add(result, _initial("sum", initial, a.dtype))
    return _finish(result, a.shape, axes, keepdims)


def prod(
    a: ArrayLike,
    axis: Axis = None,
    dtype: DTypeLike = None,
    out: None = None,
    keepdims: bool = False,
    initial: ArrayLike | None = None,
    where: ArrayLike | None = None,
    promote_integers: bool = True,
) -> Array:
    """Product over `axis` (None: all axes); 1 for no elements. Arguments as `sum`."""
    refuse_out("prod", out)
    a = masked("prod", _accumulated(to_array("prod", a), dtype, promote_integers), where, 1)
    axes = normalize_axes("prod", axis, a.shape)
    result = lax.reduce_prod(a, axes)
    if initial is not None:
        result = lax.mul(result, _initial("prod", initial, a.dtype))
    return _finish(result, a.shape, axes, keepdims)


def _initial(name: str, initial: ArrayLike, dtype: np.dtype) -> Any:
    value = convert(to_array(name, initial), dtype)
    if value.ndim:
        raise ShapeError(f"{name}: initial must be a scalar, got an array of shape {value.shape}")
    return value


# ----------------------------------------------------------------------------------------------------------- extrema


def lowest(dtype: np.dtype) -> Any:
    """The neutral element of max: -inf, or the smallest integer, or False."""
    if dtype == np.bool_:
        return False
    return int(np.iinfo(dtype).min) if dtypes.is_integer(dtype) else -math.inf


def highest(dtype: np.dtype) -> Any:
    """The neutral element of min: inf, or the largest integer, or True."""
    if dtype == np.bool_:
        return True
    return int(np.iinfo(dtype).max) if dtypes.is_integer(dtype) else math.inf


def _extremum(
    name: str,
    reducer: Callable,
    combine: Callable,
    neutral: Callable[[np.dtype], Any],
    a: ArrayLike,
    axis: Axis,
    out: None,
    keepdims: bool,
    initial: ArrayLike | None,
    where: ArrayLike | None,
) -> Array:
    refuse_out(name, out)
    a = to_array(name, a)
    if where is not None and initial is None:
        raise ShapeError(f"{name}: with where=, initial= must be given, because all elements may be left out")
    a = masked(name, a, where, neutral(a.dtype))
    axes = normalize_axes(name, axis, a.shape)
    if initial is None and 0 in [a.shape[i] for i in axes]:
        raise ShapeError(f"{name}: an array of shape {a.shape} has no elements along axis {axes}; pass initial=")
    result = reducer(a, axes)
    if initial is not None:
        result = combine(result, _initial(name, initial, a.dtype))
    return _finish(result, a.shape, axes, keepdims)


def max(
    a: ArrayLike,
    axis: Axis = None,
    out: None = None,
    keepdims: bool = False,
    initial: ArrayLike | None = None,
    where: ArrayLike | None = None,
) -> Array:
    """The largest element over `axis` (None: all axes); NaN if there is one.

    Raises:
        ShapeError: there are no elements (or `where` is given) and no `initial`.
    """
    return _extremum("max", lax.reduce_max, lax.max, lowest, a, axis, out, keepdims, initial, where)


def min(
    a: ArrayLike,
    axis: Axis = None,
    out: None = None,
    keepdims: bool = False,
    initial: ArrayLike | None = None,
    where: ArrayLike | None = None,
) -> Array:
    """The smallest element over `axis` (None: all axes); NaN if there is one. Raises as `max`."""
    return _extremum("min", lax.reduce_min, lax.min, highest, a, axis, out, keepdims, initial, where)


amax, amin = max, min


def ptp(a: ArrayLike, axis: Axis = None, out: None = None, keepdims: bool = False) -> Array:
    """Peak to peak: max - min over `axis`."""
    refuse_out("ptp", out)
    a = to_array("ptp", a)
    return lax.sub(max(a, axis, keepdims=keepdims), min(a, axis, keepdims=keepdims))


# ------------------------------------------------------------------------------------------------------------- logic


def all(
    a: ArrayLike, axis: Axis = None, out: None = None, keepdims: bool = False, *, where: ArrayLike | None = None
) -> Array:
    """Whether all elements over `axis` are true (not zero); True for no elements."""
    refuse_out("all", out)
    a = masked("all", to_bool(to_array("all", a)), where, True)
    axes = normalize_axes("all", axis, a.shape)
    return _finish(lax.reduce_and(a, axes), a.shape, axes, keepdims)


def any(
    a: ArrayLike, axis: Axis = None, out: None = None, keepdims: bool = False, *, where: ArrayLike | None = None
) -> Array:
    """Whether any element over `axis` is true (not zero); False for no elements."""
    refuse_out("any", out)
    a = masked("any", to_bool(to_array("any", a)), where, False)
    axes = normalize_axes("any", axis, a.shape)
    return _finish(lax.reduce_or(a, axes), a.shape, axes, keepdims)


def count_nonzero(a: ArrayLike, axis: Axis = None, keepdims: bool = False) -> Array:
    """Number of elements over `axis` that are not zero, as the default integer."""
    return sum(to_bool(to_array("count_nonzero", a)), axis, dtypes.default_int(), keepdims=keepdims)


# ------------------------------------------------------------------------------------------------- mean and variance


def element_count(name: str, a: Array, axes: tuple[int, ...], where: ArrayLike | None, dtype: np.dtype) -> Any:
    """How many elements take part in a reduction over `axes`: a Python int, or an array when there is a mask."""
    if where is None:
        return math.prod(a.shape[i] for i in axes)
    mask = to_bool(to_array(name, where))
    shape = broadcast_shapes(a.shape, mask.shape)
    return lax.reduce_sum(convert(broadcast_operand(mask, shape), dtype), axes)


def _divided(total: Array, count: Any) -> Array:
    return lax.div(total, count if isinstance(count, Array) else constant(float(count), total.dtype))


def mean(
    a: ArrayLike,
    axis: Axis = None,
    dtype: DTypeLike = None,
    out: None = None,
    keepdims: bool = False,
    *,
    where: ArrayLike | None = None,
) -> Array:
    """Arithmetic mean over `axis` (None: all axes); NaN for no elements. 16-bit floats are summed in float32."""
    refuse_out("mean", out)
    a = to_array("mean", a)
    result_dtype = to_inexact(a.dtype) if dtype is None else dtypes.canonicalize(dtype)
    working = computation_dtype(to_inexact(result_dtype))
    axes = normalize_axes("mean", axis, a.shape)
    values = convert(a, working)
    counting = dtypes.real_dtype(working)
    total = lax.reduce_sum(masked("mean", values, where, 0), axes)
    count = element_count("mean", a, axes, where, counting)
    if isinstance(count, Array):
        count = convert(count, working)
    result = convert(_divided(total, count), result_dtype)
    return _finish(result, broadcast_shapes(a.shape, np.shape(where) if where is not None else ()), axes, keepdims)


def var(
    a: ArrayLike,
    axis: Axis = None,
    dtype: DTypeLike = None,
    out: None = None,
    ddof: int | float = 0,
    keepdims: bool = False,
    *,
    where: ArrayLike | None = None,
    mean: ArrayLike | None = None,
    correction: int | float | None = None,
) -> Array:
    """Variance over `axis`: the mean of |a - mean|**2, with N - correction in place of N.

    Arguments:
        ddof, correction: two names for one thing; 1 gives the unbiased estimate.
        mean: the mean, if it is known already, of the shape that `keepdims=True` gives.
    """
    refuse_out("var", out)
    if correction is not None and ddof != 0:
        raise DTypeError("var: ddof and correction are the same thing; give one of them")
    correction = ddof if correction is None else correction
    a = to_array("var", a)
    axes = normalize_axes("var", axis, a.shape)
    result_dtype = dtypes.real_dtype(to_inexact(a.dtype)) if dtype is None else dtypes.canonicalize(dtype)
    working = computation_dtype(to_inexact(a.dtype if dtype is None else dtypes.promote_types(a.dtype, result_dtype)))
    values = convert(a, working)
    if mean is None:
        centre = _mean(values, axes, where)
        shape = broadcast_shapes(values.shape, np.shape(where) if where is not None else ())
        rest = tuple(i for i in range(len(shape)) if i not in axes)
        centred = lax.sub(broadcast_operand(values, shape), lax.broadcast_in_dim(centre, shape, rest))
    else:
        centred = lax.sub(*promote_args("var", values, convert(to_array("var", mean), working)))
    if dtypes.is_complex(working):
        squares = lax.add(lax.square(lax.real(centred)), lax.square(lax.imag(centred)))
    else:
        squares = lax.square(centred)
    total = lax.reduce_sum(masked("var", squares, where, 0), axes)
    count = element_count("var", a, axes, where, total.dtype)
    # without more elements than the correction there is no estimate
    if isinstance(count, Array):
        count = lax.sub(count, constant(float(correction), total.dtype))
        count = lax.select(lax.gt(count, constant(0, count.dtype)), count, constant(math.nan, count.dtype))
    else:
        count = count - correction if count > correction else math.nan
    result = convert(_divided(total, count), dtypes.real_dtype(result_dtype))
    return _finish(result, squares.shape, axes, keepdims)


def _mean(a: Array, axes: tuple[int, ...], where: ArrayLike | None) -> Array:
    return mean(a, axes, where=where)


def std(
    a: ArrayLike,
    axis: Axis = None,
    dtype: DTypeLike = None,
    out: None = None,
    ddof: int | float = 0,
    keepdims: bool = False,
    *,
    where: ArrayLike | None = None,
    mean: ArrayLike | None = None,
    correction: int | float | None = None,
) -> Array:
    """Standard deviation over `axis`: the square root of `var`, with the same arguments."""
    refuse_out("std", out)
    return lax.sqrt(var(a, axis, dtype, None, ddof, keepdims, where=where, mean=mean, correction=correction))


# ---------------------------------------------------------------------------------------------- positions of extrema


def _position(name: str, primitive: Callable, a: ArrayLike, axis: int | None, keepdims: bool | None) -> Array:
    a = to_array(name, a)
    if a.size == 0 and (axis is None or a.shape[normalize_axis(name, axis, a.shape)] == 0):
        raise ShapeError(f"{name}: an array of shape {a.shape} has no elements to choose from")
    index_dtype = dtypes.default_int()
    if dtypes.is_complex(a.dtype):
        raise DTypeError(f"{name} is not defined for complex numbers, which have no order; use abs or real")
    if axis is None:
        result = primitive(lax.reshape(a, (a.size,)), 0, index_dtype)
        return lax.reshape(result, (1,) * a.ndim) if keepdims else result
    axis = normalize_axis(name, axis, a.shape)
    result = primitive(a, axis, index_dtype)
    return lax.reshape(result, kept_shape(a.shape, (axis,))) if keepdims else result


def argmax(a: ArrayLike, axis: int | None = None, out: None = None, keepdims: bool | None = None) -> Array:
    """Index of the first largest element along `axis` (None: of the flattened array); the first NaN counts as it."""
    refuse_out("argmax", out)
    return _position("argmax", lax.argmax, a, axis, keepdims)


def argmin(a: ArrayLike, axis: int | None = None, out: None = None, keepdims: bool | None = None) -> Array:
    """Index of the first smallest element along `axis` (None: of the flattened array); the first NaN counts as it."""
    refuse_out("argmin", out)
    return _position("argmin", lax.argmin, a, axis, keepdims)
