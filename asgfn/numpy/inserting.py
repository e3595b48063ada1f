"""Arrays with elements added or taken away: append, insert, delete, resize, trim_zeros."""

from __future__ import annotations

from typing import Any

import numpy as np

from asgfn import dtypes, lax
from asgfn.errors import ConcretizationError, DTypeError, IndexOutOfRangeError, ShapeError
from asgfn.numpy.arguments import (
    ArrayLike,
    broadcast_operand,
    canonical_shape,
    concrete,
    constant,
    convert,
    filled,
    normalize_axes,
    normalize_axis,
    to_array,
)
from asgfn.numpy.joining import concatenate
from asgfn.numpy.selection import first_true
from asgfn.tracing import Array

_INDEX = np.dtype(np.int32)


def append(arr: ArrayLike, values: ArrayLike, axis: int | None = None) -> Array:
    """`values` joined to the end of `arr` along `axis` (None: both flattened)."""
    return concatenate([to_array("append", arr), to_array("append", values)], axis)


def _flat_or_axis(name: str, arr: ArrayLike, axis: int | None) -> tuple[Array, int]:
    arr = to_array(name, arr)
    if axis is None:
        return lax.reshape(arr, (arr.size,)), 0
    return arr, normalize_axis(name, axis, arr.shape)


def _take(arr: Array, index: Any, axis: int) -> Array:
    return arr[(slice(None),) * axis + (index,)]


def _known(indices: Any) -> np.ndarray | None:
    """The value of indices if it is known while tracing."""
    try:
        return np.asarray(indices)
    except ConcretizationError:
        return None


def delete(arr: ArrayLike, obj: Any, axis: int | None = None, *, assume_unique_indices: bool = False) -> Array:
    """`arr` without the slices `obj` (an int, a slice, integers, or a mask) along `axis` (None: flattened first).

    Arguments:
        assume_unique_indices: promise that no index occurs twice; then `obj` may be a traced array of integers.

    Raises:
        IndexOutOfRangeError: a concrete index lies outside of the axis.
    """
    arr, axis = _flat_or_axis("delete", arr, axis)
    size = arr.shape[axis]
    known = np.arange(size)[obj] if isinstance(obj, slice) else _known(obj)
    if known is not None:
        if known.dtype == np.bool_:
            if known.shape != (size,):
                raise ShapeError(f"delete: a mask of shape {known.shape} does not fit axis {axis} of shape {arr.shape}")
            known = np.flatnonzero(known)
        if known.size and known.dtype.kind not in "iu":
            raise DTypeError(f"delete: indices must be integers, got {known.dtype}")
        flat = known.reshape(-1).astype(np.int64)
        outside = flat[(flat < -size) | (flat >= size)]
        if outside.size:
            raise IndexOutOfRangeError(
                f"delete: index {outside[0]} is out of bounds for axis {axis} of shape {arr.shape}"
            )
        return _keep(arr, np.delete(np.arange(size), flat), axis)
    obj = to_array("delete", obj)
    if obj.dtype == np.bool_:
        raise ConcretizationError(
            "delete: the mask is traced, but the shape of the result depends on it; use where with a fill value, or "
            "delete outside of jit"
        )
    if obj.size != 1 and not assume_unique_indices:
        raise ConcretizationError(
            "delete: the indices are traced, and the shape of the result depends on how many of them are distinct; "
            "pass assume_unique_indices=True if all are"
        )
    gone = filled((size,), False, np.dtype(np.bool_)).at[lax.reshape(obj, (obj.size,))].set(True)
    places, _ = first_true(lax.bitwise_not(gone), max(size - obj.size, 0))
    return _take(arr, places, axis)


def _keep(arr: Array, kept: np.ndarray, axis: int) -> Array:
    """The slices at increasing positions; contiguous runs are cut out and joined, which is cheaper than a gather."""
    if len(kept) == arr.shape[axis]:
        return arr
    breaks = np.flatnonzero(np.diff(kept) != 1) + 1
    runs = np.split(kept, breaks) if len(kept) else []
    if len(runs) > 4:
        return _take(arr, kept, axis)
    parts = [lax.slice_in_dim(arr, int(run[0]), int(run[-1]) + 1, axis=axis) for run in runs]
    return concatenate(parts, axis) if parts else lax.slice_in_dim(arr, 0, 0, axis=axis)


def insert(arr: ArrayLike, obj: Any, values: ArrayLike, axis: int | None = None) -> Array:
    """`arr` with `values` put in front of the positions `obj` along `axis` (None: flattened first).

    Arguments:
        obj: an int, a slice, or integers (perhaps traced), counted in `arr`.
        values: converted to arr's dtype and broadcast to one slice for each position.
    """
    arr, axis = _flat_or_axis("insert", arr, axis)
    size = arr.shape[axis]
    if isinstance(obj, slice):
        obj = np.arange(size)[obj]
    positions = to_array("insert", np.asarray(obj) if isinstance(obj, (list, tuple)) else obj)
    if positions.dtype == np.bool_ or (not dtypes.is_integer(positions.dtype) and positions.size):
        raise DTypeError(f"insert: positions must be integers, got {positions.dtype}")
    if positions.ndim > 1:
        raise ShapeError(f"insert: positions must be a scalar or a vector, got shape {positions.shape}")
    known = _known(positions)
    if known is not None and known.size and (known.min() < -size or known.max() > size):
        worst = known.min() if known.min() < -size else known.max()
        raise IndexOutOfRangeError(f"insert: position {worst} is out of bounds for axis {axis} of shape {arr.shape}")
    new = convert(to_array("insert", values), arr.dtype)
    if positions.ndim == 0:
        # a single position takes all the values: an axis of them, or one slice that lacks the axis
        new = lax.reshape(new, (1,) * (arr.ndim - new.ndim) + new.shape) if new.ndim < arr.ndim else new
        order = (*range(1, axis + 1), 0, *range(axis + 1, arr.ndim))
        new = lax.transpose(new, order) if axis and np.ndim(values) else new
        count = new.shape[axis]
    else:
        count = (
            positions.shape[0]
            if positions.shape[0] != 1
            else (new.shape[axis - arr.ndim] if new.ndim >= arr.ndim - axis else 1)
        )
    positions = lax.reshape(positions, (positions.size,))
    new = broadcast_operand(new, (*arr.shape[:axis], count, *arr.shape[axis + 1 :]))
    if count == 0:
        return arr
    joined = lax.concatenate([arr, new], axis)
    if known is not None:
        return _take(joined, _insertion_order(known.reshape(-1), size, count), axis)
    return _take(joined, _traced_insertion_order(convert(positions, _INDEX), size, count), axis)


def _insertion_order(positions: np.ndarray, size: int, count: int) -> np.ndarray:
    """For each place of the result, where it comes from in `arr` followed by the new slices."""
    positions = np.broadcast_to(np.where(positions < 0, positions + size, positions), (count,))
    # keys: new slices come in front of the old slice at their position, in the order in which they were given
    keys = np.concatenate([2 * np.arange(size) + 1, 2 * positions])
    return np.argsort(keys, kind="stable")


def _traced_insertion_order(positions: Array, size: int, count: int) -> Array:
    negative = lax.lt(positions, constant(0, _INDEX))
    positions = lax.select(negative, lax.add(positions, constant(size, _INDEX)), positions)
    positions = broadcast_operand(positions, (count,))
    old = lax.add(lax.mul(lax.iota(_INDEX, size), constant(2, _INDEX)), constant(1, _INDEX))
    keys = lax.concatenate([old, lax.mul(positions, constant(2, _INDEX))], 0)
    return lax.sort((keys, lax.iota(_INDEX, size + count)), dimension=0, is_stable=True, num_keys=1)[1]


def resize(a: ArrayLike, new_shape: Any) -> Array:
    """The elements of `a`, repeated as often as needed, in another shape."""
    a = to_array("resize", a)
    shape = canonical_shape("resize", new_shape)
    total = int(np.prod(shape))
    if a.size == 0 or total == 0:
        return filled(shape, 0, a.dtype)
    flat = lax.reshape(a, (a.size,))
    repeats = -(-total // a.size)
    if repeats > 1:
        flat = lax.reshape(lax.broadcast_in_dim(flat, (repeats, a.size), (1,)), (repeats * a.size,))
    return lax.reshape(lax.slice_in_dim(flat, 0, total), shape)


def trim_zeros(filt: ArrayLike, trim: str = "fb", axis: Any = None) -> Array:
    """`filt` without the zeros at its front ("f") and back ("b"), along some axes. Values must be concrete."""
    filt = to_array("trim_zeros", filt)
    if set(trim.lower()) - {"f", "b"}:
        raise DTypeError(f"trim_zeros: trim holds 'f' and 'b', got {trim!r}")
    found = np.nonzero(concrete("trim_zeros", filt, "the shape of the result depends on values, which are traced"))
    bounds = [slice(None)] * filt.ndim
    for i in normalize_axes("trim_zeros", axis, filt.shape):
        size, places = filt.shape[i], found[i]
        start = (int(places.min()) if places.size else size) if "f" in trim.lower() else 0
        stop = (int(places.max()) + 1 if places.size else 0) if "b" in trim.lower() else size
        bounds[i] = slice(start, max(start, stop))
    return filt[tuple(bounds)] if filt.ndim else filt


def place(arr: ArrayLike, mask: ArrayLike, vals: ArrayLike, *, inplace: bool = True) -> Array:
    """A copy of `arr` in which the elements where `mask` holds are `vals`, one after the other, repeated as needed.

    `inplace=False` must be said.
    """
    if inplace:
        raise NotImplementedError("place: arrays are immutable, pass inplace=False and use the result")
    arr, mask, vals = to_array("place", arr), to_array("place", mask), to_array("place", vals)
    if mask.size != arr.size:
        raise ShapeError(f"place: a mask of shape {mask.shape} does not fit an array of shape {arr.shape}")
    if vals.size == 0:
        raise ShapeError("place: vals must not be empty")
    chosen = convert(lax.reshape(mask, (mask.size,)), np.dtype(np.bool_))
    which = lax.rem(lax.sub(lax.cumsum(convert(chosen, _INDEX), 0), constant(1, _INDEX)), constant(vals.size, _INDEX))
    new = convert(lax.reshape(vals, (vals.size,)), arr.dtype).at[which].get(mode="clip")
    return lax.reshape(lax.select(chosen, new, lax.reshape(arr, (arr.size,))), arr.shape)


def put(a: ArrayLike, ind: ArrayLike, v: ArrayLike, mode: str | None = None, *, inplace: bool = True) -> Array:
    """A copy of `a` with the flat positions `ind` set to `v`, repeated as needed; `inplace=False` must be said.

    Arguments:
        mode: for positions out of bounds: "drop" (None), "clip" or "wrap".
    """
    if inplace:
        raise NotImplementedError("put: arrays are immutable, pass inplace=False and use the result")
    a, ind, v = to_array("put", a), to_array("put", ind), to_array("put", v)
    ind, v = lax.reshape(ind, (ind.size,)), convert(lax.reshape(v, (v.size,)), a.dtype)
    if not a.size or not ind.size or not v.size:
        return a
    v = resize(v, (ind.size,))
    if mode == "wrap":
        ind = ind % a.size
    elif mode == "clip":
        ind = lax.clamp(constant(0, ind.dtype), ind, constant(a.size - 1, ind.dtype))
    elif mode is not None:
        raise DTypeError(f"put: mode must be None, 'clip' or 'wrap', got {mode!r}")
    return lax.reshape(lax.reshape(a, (a.size,)).at[ind].set(v, mode="drop"), a.shape)
