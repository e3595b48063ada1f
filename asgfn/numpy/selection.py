"""Choosing elements by conditions: where, select, nonzero, extract, ..."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from asgfn import dtypes, lax
from asgfn.errors import AxisError, DTypeError, ShapeError
from asgfn.numpy.arguments import (
    ArrayLike,
    as_int,
    check_arraylike,
    concrete,
    constant,
    convert,
    filled,
    normalize_axis,
    promote_dtypes,
    promote_shapes,
    refuse_out,
    to_array,
)
from asgfn.numpy.ufuncs import to_bool
from asgfn.tracing import Array, as_array

_INDEX = np.dtype(np.int32)


def where(
    condition: ArrayLike,
    x: ArrayLike | None = None,
    y: ArrayLike | None = None,
    /,
    *,
    size: int | None = None,
    fill_value: Any = None,
) -> Any:
    """`x` where the condition holds, else `y`; all three broadcast, x and y are promoted to one dtype.

    Without x and y it is `nonzero(condition, size=size, fill_value=fill_value)`.
    """
    if x is None and y is None:
        return nonzero(condition, size=size, fill_value=fill_value)
    if x is None or y is None:
        raise DTypeError("where takes a condition alone, or a condition and both x and y")
    if size is not None or fill_value is not None:
        raise DTypeError("where: size and fill_value go with a condition alone")
    check_arraylike("where", condition, x, y)
    mask = to_bool(condition if isinstance(condition, Array) else as_array(condition))
    return lax.select(*promote_shapes("where", mask, *promote_dtypes(x, y)))


def select(condlist: Sequence[ArrayLike], choicelist: Sequence[ArrayLike], default: ArrayLike = 0) -> Array:
    """For each element the choice that belongs to the first condition that holds, else `default`."""
    if len(condlist) != len(choicelist):
        raise ShapeError(f"select: {len(condlist)} conditions do not fit {len(choicelist)} choices")
    if not condlist:
        raise ShapeError("select: need at least one condition")
    result: Any = default
    *choices, result = promote_dtypes(*choicelist, default)
    conditions = [to_array("select", condition) for condition in condlist]
    for condition, choice in zip(conditions[::-1], choices[::-1], strict=True):
        result = where(condition, choice, result)
    return result


def piecewise(
    x: ArrayLike, condlist: Any, funclist: Sequence[ArrayLike | Callable[..., Any]], *args: Any, **kw: Any
) -> Array:
    """A function given in pieces: where `condlist[i]` holds the value is `funclist[i](x)`; the last one that holds wins.

    One function more than there are conditions is the default, which is 0 otherwise. Every function is evaluated on
    all of `x`, so that gradients of a piece flow only where it is chosen.
    """
    x = to_array("piecewise", x)
    functions = list(funclist)
    conditions = _conditions(condlist, x, len(functions))
    if len(functions) == len(conditions):
        functions.append(0)
    if len(functions) != len(conditions) + 1:
        raise ShapeError(
            f"piecewise: {len(conditions)} conditions need as many functions or one more, got {len(funclist)}"
        )
    *pieces, default = (
        convert(to_array("piecewise", f(x, *args, **kw)) if callable(f) else f, x.dtype) for f in functions
    )
    result = default
    for condition, piece in zip(conditions, pieces, strict=True):
        result = where(condition, piece, result)
    return result if result.shape == x.shape else lax.broadcast_in_dim(result, x.shape, ())


def _conditions(condlist: Any, x: Array, functions: int) -> list[Array]:
    """The conditions one by one. Whether an array (or a list of bools) is one mask over x or several conditions shows in
    how many functions there are."""
    whole = isinstance(condlist, (Array, np.ndarray))
    if whole and condlist.ndim == 0:
        return [to_array("piecewise", condlist)]
    several = len(condlist) in (functions, functions - 1)
    if whole:
        one_mask = not several and condlist.ndim <= x.ndim
        return [to_array("piecewise", condlist)] if one_mask else list(to_array("piecewise", condlist))
    if not several and x.ndim and all(isinstance(c, (bool, np.bool_)) for c in condlist):
        return [as_array(np.asarray(condlist))]
    return [as_array(np.asarray(c)) if isinstance(c, list) else to_array("piecewise", c) for c in condlist]


def choose(a: ArrayLike, choices: Any, out: None = None, mode: str = "raise") -> Array:
    """For each element of the integer array `a` the element of `choices[a]` at the same place.

    Arguments:
        mode: what to do with integers out of range: "raise" (needs concrete values), "wrap" or "clip".
    """
    refuse_out("choose", out)
    a = to_array("choose", a)
    if not dtypes.is_integer(a.dtype) and a.dtype != np.bool_:
        raise DTypeError(f"choose: a must hold integers, got {a.dtype}")
    cases = promote_dtypes(*choices)
    count = len(cases)
    if mode == "raise":
        hint = "whether a is in range cannot be checked while tracing: pass mode='wrap' or mode='clip'"
        values = concrete("choose", a, hint)
        if values.size and (values.min() < 0 or values.max() >= count):
            raise ShapeError(f"choose: a holds values outside of 0 to {count - 1}, the range of {count} choices")
    elif mode == "wrap":
        a = a % count
    elif mode != "clip":
        raise DTypeError(f"choose: mode must be 'raise', 'wrap' or 'clip', got {mode!r}")
    which = lax.clamp(constant(0, _INDEX), convert(a, _INDEX), constant(count - 1, _INDEX))
    return lax.select_n(*promote_shapes("choose", which, *cases)) if count > 1 else _broadcast_pair(cases[0], which)


def _broadcast_pair(x: Array, like: Array) -> Array:
    mask = lax.eq(like, like)
    return lax.select(*promote_shapes("choose", mask, x, x))


# ------------------------------------------------------------------------------------------------- places of nonzeros


def _data_dependent(name: str) -> str:
    return (
        f"the shape of the result depends on values that are being traced: pass size= (the number of results to return, "
        f"filled up with fill_value=), or use {name} outside of jit"
    )


def nonzero(a: ArrayLike, *, size: int | None = None, fill_value: Any = None) -> tuple[Array, ...]:
    """Indices of the elements that are not zero, one integer vector for each axis, in row-major order.

    Arguments:
        size: static number of results: more are cut off, fewer are filled up. Required under `jit`.
        fill_value: index that fills up (0 by default), or one for each axis.
    """
    a = to_array("nonzero", a)
    if a.ndim == 0:
        raise ShapeError("nonzero is not defined for arrays of rank 0; use atleast_1d(x) first")
    dtype = dtypes.default_int()
    if size is None:
        found = np.nonzero(concrete("nonzero", a, _data_dependent("nonzero")))
        return tuple(as_array(index.astype(dtype)) for index in found)
    size = as_int("nonzero", "size", size)
    fills = fill_value if isinstance(fill_value, tuple) else (0 if fill_value is None else fill_value,) * a.ndim
    if len(fills) != a.ndim:
        raise ShapeError(f"nonzero: {len(fills)} fill values do not fit the {a.ndim} axes of shape {a.shape}")
    if a.size == 0 or size == 0:
        return tuple(lax.broadcast_in_dim(convert(fill, dtype), (size,), ()) for fill in fills)
    flat, count = first_true(lax.reshape(to_bool(a), (a.size,)), size)
    missing = lax.ge(lax.iota(_INDEX, size), count)
    results = []
    for axis, fill in enumerate(fills):
        stride = math.prod(a.shape[axis + 1 :])
        index = flat if stride == 1 else lax.div(flat, constant(stride, _INDEX))
        index = index if axis == 0 else lax.rem(index, constant(a.shape[axis], _INDEX))
        results.append(lax.select(missing, convert(fill, dtype), convert(index, dtype)))
    return tuple(results)


def first_true(mask: Array, size: int) -> tuple[Array, Array]:
    """Positions of the first `size` True entries of a vector (0 where there are fewer), and how many there are."""
    length = mask.shape[0]
    ranks = lax.cumsum(convert(mask, _INDEX), 0)  # 1 at the first True, 2 at the second, ...
    count = lax.squeeze(lax.slice_in_dim(ranks, length - 1, length), (0,))
    slots = lax.select(mask, lax.sub(ranks, constant(1, _INDEX)), constant(size, _INDEX))
    places = filled((size,), 0, _INDEX).at[slots].set(lax.iota(_INDEX, length), mode="drop")
    return places, count


def flatnonzero(a: ArrayLike, *, size: int | None = None, fill_value: Any = None) -> Array:
    """Positions of the elements that are not zero in the flattened array. Arguments as `nonzero`."""
    a = to_array("flatnonzero", a)
    return nonzero(lax.reshape(a, (a.size,)), size=size, fill_value=fill_value)[0]


def argwhere(a: ArrayLike, *, size: int | None = None, fill_value: Any = None) -> Array:
    """Indices of the elements that are not zero, one row for each. Arguments as `nonzero`."""
    a = to_array("argwhere", a)
    if a.ndim == 0:
        count = flatnonzero(a, size=size).shape[0]
        return filled((count, 0), 0, dtypes.default_int())
    columns = nonzero(a, size=size, fill_value=fill_value)
    return lax.concatenate([lax.expand_dims(column, (1,)) for column in columns], 1)


def extract(condition: ArrayLike, arr: ArrayLike, *, size: int | None = None, fill_value: ArrayLike = 0) -> Array:
    """The elements of the flattened array where the condition, flattened, holds. `size` is required under `jit`."""
    condition, arr = to_array("extract", condition), to_array("extract", arr)
    flat = lax.reshape(condition, (condition.size,))
    return compress(flat, lax.reshape(arr, (arr.size,)), size=size, fill_value=fill_value)


def compress(
    condition: ArrayLike,
    a: ArrayLike,
    axis: int | None = None,
    *,
    size: int | None = None,
    fill_value: ArrayLike = 0,
    out: None = None,
) -> Array:
    """The slices of `a` along `axis` (None: the elements) where the vector `condition` holds.

    Arguments:
        size: static number of results, required under `jit`; missing ones are `fill_value`.
    """
    refuse_out("compress", out)
    a = to_array("compress", a)
    condition = to_bool(
        as_array(np.asarray(condition)) if isinstance(condition, (list, tuple)) else to_array("compress", condition)
    )
    if condition.ndim != 1:
        raise ShapeError(f"compress: the condition must be a vector, got shape {condition.shape}")
    if axis is None:
        a, axis = lax.reshape(a, (a.size,)), 0
    axis = normalize_axis("compress", axis, a.shape)
    length = a.shape[axis]
    if condition.shape[0] > length:
        extra = np.asarray(concrete("compress", condition, "the condition is longer than the axis"))[length:]
        if extra.any():
            raise AxisError(f"compress: the condition holds beyond the end of axis {axis} of shape {a.shape}")
    kept = min(condition.shape[0], length)
    condition = lax.slice_in_dim(condition, 0, kept)
    before = (slice(None),) * axis
    if size is None:
        chosen = np.flatnonzero(concrete("compress", condition, _data_dependent("compress")))
        return a[(*before, chosen)]
    if kept == 0:
        shape = (*a.shape[:axis], size, *a.shape[axis + 1 :])
        return lax.broadcast_in_dim(convert(fill_value, a.dtype), shape, ())
    places, count = first_true(condition, size)
    result = a[(*before, places)]
    missing = lax.ge(lax.broadcasted_iota(_INDEX, result.shape, axis), count)
    return lax.select(*promote_shapes("compress", missing, convert(fill_value, a.dtype), result))
