"""Reductions that leave NaN out: nansum, nanmax, nanmean, ..."""

from __future__ import annotations

import builtins
import math
from collections.abc import Callable

from asgfn import dtypes, lax
from asgfn.numpy import reductions
from asgfn.numpy.arguments import (
    ArrayLike,
    DTypeLike,
    constant,
    refuse_out,
    to_array,
)
from asgfn.numpy.cumulative import cumprod, cumsum
from asgfn.numpy.reductions import Axis
from asgfn.numpy.ufuncs import isnan, logical_and, logical_not
from asgfn.tracing import Array


def _without_nan(name: str, a: ArrayLike, fill: float) -> Array:
    a = to_array(name, a)
    if not dtypes.is_inexact(a.dtype):
        return a
    return lax.select(isnan(a), constant(fill, a.dtype), a)


def _numbers(a: Array, where: ArrayLike | None) -> Array:
    """Mask of the elements that take part: not NaN, and inside `where`."""
    mask = logical_not(isnan(a))
    return mask if where is None else logical_and(mask, where)


def nansum(
    a: ArrayLike,
    axis: Axis = None,
    dtype: DTypeLike = None,
    out: None = None,
    keepdims: bool = False,
    initial: ArrayLike | None = None,
    where: ArrayLike | None = None,
) -> Array:
    """`sum` with NaN counted as 0."""
    return reductions.sum(_without_nan("nansum", a, 0), axis, dtype, out, keepdims, initial, where)


def nanprod(
    a: ArrayLike,
    axis: Axis = None,
    dtype: DTypeLike = None,
    out: None = None,
    keepdims: bool = False,
    initial: ArrayLike | None = None,
    where: ArrayLike | None = None,
) -> Array:
    """`prod` with NaN counted as 1."""
    return reductions.prod(_without_nan("nanprod", a, 1), axis, dtype, out, keepdims, initial, where)


def _nan_extremum(
    name: str,
    reduce: Callable,
    fill: float,
    a: ArrayLike,
    axis: Axis,
    keepdims: bool,
    initial: ArrayLike | None,
    where: ArrayLike | None,
) -> Array:
    a = to_array(name, a)
    result = reduce(_without_nan(name, a, fill), axis, None, keepdims, initial, where)
    if not dtypes.is_inexact(a.dtype) or initial is not None:
        return result
    empty = reductions.all(isnan(a), axis, keepdims=keepdims)
    return lax.select(empty, constant(math.nan, a.dtype), result)


def nanmax(
    a: ArrayLike,
    axis: Axis = None,
    out: None = None,
    keepdims: bool = False,
    initial: ArrayLike | None = None,
    where: ArrayLike | None = None,
) -> Array:
    """`max` of the numbers; NaN where there are none."""
    refuse_out("nanmax", out)
    return _nan_extremum("nanmax", reductions.max, -math.inf, a, axis, keepdims, initial, where)


def nanmin(
    a: ArrayLike,
    axis: Axis = None,
    out: None = None,
    keepdims: bool = False,
    initial: ArrayLike | None = None,
    where: ArrayLike | None = None,
) -> Array:
    """`min` of the numbers; NaN where there are none."""
    refuse_out("nanmin", out)
    return _nan_extremum("nanmin", reductions.min, math.inf, a, axis, keepdims, initial, where)


def nanmean(
    a: ArrayLike,
    axis: Axis = None,
    dtype: DTypeLike = None,
    out: None = None,
    keepdims: bool = False,
    where: ArrayLike | None = None,
) -> Array:
    """`mean` of the numbers; NaN where there are none."""
    a = to_array("nanmean", a)
    mask = _numbers(a, where) if dtypes.is_inexact(a.dtype) else where
    return reductions.mean(a, axis, dtype, out, keepdims, where=mask)


def nanvar(
    a: ArrayLike,
    axis: Axis = None,
    dtype: DTypeLike = None,
    out: None = None,
    ddof: int | float = 0,
    keepdims: bool = False,
    where: ArrayLike | None = None,
    mean: ArrayLike | None = None,
    correction: int | float | None = None,
) -> Array:
    """`var` of the numbers; NaN where there are not more of them than `ddof`."""
    a = to_array("nanvar", a)
    if not dtypes.is_inexact(a.dtype):
        return reductions.var(a, axis, dtype, out, ddof, keepdims, where=where, mean=mean, correction=correction)
    mask = _numbers(a, where)
    # NaN must not reach the centred squares, where it would reach gradients through the mask
    values = lax.select(isnan(a), constant(0, a.dtype), a)
    result = reductions.var(values, axis, dtype, out, ddof, keepdims, where=mask, mean=mean, correction=correction)
    count = reductions.sum(mask, axis, result.dtype, keepdims=keepdims)
    enough = lax.gt(count, constant(float(ddof if correction is None else correction), result.dtype))
    return lax.select(enough, result, constant(math.nan, result.dtype))


def nanstd(
    a: ArrayLike,
    axis: Axis = None,
    dtype: DTypeLike = None,
    out: None = None,
    ddof: int | float = 0,
    keepdims: bool = False,
    where: ArrayLike | None = None,
    mean: ArrayLike | None = None,
    correction: int | float | None = None,
) -> Array:
    """`std` of the numbers; NaN where there are not more of them than `ddof`."""
    return lax.sqrt(nanvar(a, axis, dtype, out, ddof, keepdims, where, mean, correction))


def _nan_position(
    name: str, position: Callable, fill: float, a: ArrayLike, axis: int | None, keepdims: bool | None
) -> Array:
    a = to_array(name, a)
    found = position(_without_nan(name, a, fill), axis, None, keepdims)
    if not dtypes.is_inexact(a.dtype):
        return found
    empty = reductions.all(isnan(a), axis, keepdims=builtins.bool(keepdims))
    return lax.select(empty, constant(-1, found.dtype), found)


def nanargmax(a: ArrayLike, axis: int | None = None, out: None = None, keepdims: bool | None = None) -> Array:
    """`argmax` of the numbers; -1 where there are none."""
    refuse_out("nanargmax", out)
    return _nan_position("nanargmax", reductions.argmax, -math.inf, a, axis, keepdims)


def nanargmin(a: ArrayLike, axis: int | None = None, out: None = None, keepdims: bool | None = None) -> Array:
    """`argmin` of the numbers; -1 where there are none."""
    refuse_out("nanargmin", out)
    return _nan_position("nanargmin", reductions.argmin, math.inf, a, axis, keepdims)


def nancumsum(a: ArrayLike, axis: int | None = None, dtype: DTypeLike = None, out: None = None) -> Array:
    """`cumsum` with NaN counted as 0."""
    return cumsum(_without_nan("nancumsum", a, 0), axis, dtype, out)


def nancumprod(a: ArrayLike, axis: int | None = None, dtype: DTypeLike = None, out: None = None) -> Array:
    """`cumprod` with NaN counted as 1."""
    return cumprod(_without_nan("nancumprod", a, 1), axis, dtype, out)
