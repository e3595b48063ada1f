"""Indexing: `take`, `take_along_axis` and `put_along_axis`, and what is behind `x[index]` and `x.at[index]`."""

from __future__ import annotations

from typing import Any

import numpy as np

from asgfn import dtypes, lax
from asgfn.errors import DTypeError, IndexOutOfRangeError, ShapeError
from asgfn.errors import IndexingError as IndexingError
from asgfn.numpy.arguments import broadcast_operand, broadcast_shapes, convert, normalize_axis, refuse_out, to_array
from asgfn.numpy.index_read import getitem as getitem
from asgfn.numpy.index_update import IndexUpdateHelper as IndexUpdateHelper
from asgfn.numpy.index_update import IndexUpdateRef as IndexUpdateRef
from asgfn.primitives.gather import GatherDimensionNumbers, GatherScatterMode
from asgfn.primitives.scatter import ScatterDimensionNumbers
from asgfn.primitives.slicing import as_index_operand
from asgfn.tracing import Array


def _checked_indices(name: str, indices: Any) -> Array:
    indices = to_array(name, indices)
    if not dtypes.is_integer(indices.dtype):
        raise DTypeError(f"{name}: indices must be integers, got {indices.dtype}; convert with .astype(int)")
    return indices


def _index_dtype(indices: Array) -> np.dtype:
    return np.dtype(np.int64 if indices.dtype.itemsize == 8 else np.int32)


def take(
    a: Any,
    indices: Any,
    axis: int | None = None,
    out: None = None,
    mode: str | None = None,
    unique_indices: bool = False,
    indices_are_sorted: bool = False,
    fill_value: Any = None,
) -> Array:
    """The elements of `a` at `indices` along one axis.

    Arguments:
        a: array.
        indices: integers of any shape; negative ones count from the end.
        axis: None takes from the flattened array.
        mode: out of bounds gives `fill_value` ("fill", the default), the nearest element ("clip") or counts around
            ("wrap").
        unique_indices, indices_are_sorted: promises that can make the gradient faster.
        fill_value: by default NaN, the least signed integer, the greatest unsigned one, or True.

    Returns:
        Array in which the shape of `indices` stands in place of the axis.

    Raises:
        IndexOutOfRangeError: an axis without elements.
        ValueError: an unknown mode.
    """
    refuse_out("take", out)
    a, indices = to_array("take", a), _checked_indices("take", indices)
    if axis is None:
        a, axis = lax.reshape(a, (a.size,)), 0
    axis = normalize_axis("take", axis, a.shape)
    size = a.shape[axis]
    if mode not in (None, "fill", "clip", "wrap"):
        hint = '; mode="raise" cannot be supported: compiled programs do not raise' if mode == "raise" else ""
        raise ValueError(f'take: unknown mode {mode!r}, use "fill", "clip" or "wrap"{hint}')
    shape = (*a.shape[:axis], *indices.shape, *a.shape[axis + 1 :])
    if size == 0 and indices.size:
        raise IndexOutOfRangeError(f"take: axis {axis} of an array of shape {a.shape} has no elements to take")
    if 0 in shape:
        return lax.full(shape, 0, a.dtype)

    if mode == "wrap":
        from asgfn.numpy.arithmetic import remainder

        indices, gather_mode = remainder(indices, np.asarray(size, indices.dtype)), GatherScatterMode.PROMISE_IN_BOUNDS
    elif mode == "clip":  # here, as in NumPy, a negative index is clipped to 0
        indices, gather_mode = as_index_operand(indices, size, False, _index_dtype(indices)), GatherScatterMode.CLIP
    else:
        indices, gather_mode = (
            as_index_operand(indices, size, True, _index_dtype(indices)),
            GatherScatterMode.FILL_OR_DROP,
        )
    rank = indices.ndim
    numbers = GatherDimensionNumbers(
        offset_dims=(*range(axis), *range(axis + rank, a.ndim + rank - 1)),
        collapsed_slice_dims=(axis,),
        start_index_map=(axis,),
    )
    return lax.gather(
        a,
        lax.expand_dims(indices, (rank,)),
        numbers,
        (*a.shape[:axis], 1, *a.shape[axis + 1 :]),
        unique_indices=unique_indices,
        indices_are_sorted=indices_are_sorted,
        mode=gather_mode,
        fill_value=fill_value,
    )


class _Along:
    """How `take_along_axis` and `put_along_axis` pair an array with its indices, axis by axis.

    On axes other than `axis`: where the indices have size 1, windows take the array's axis whole; where the array has
    size 1, the indices' axis picks from the same elements; otherwise the two go in step as batching axes.
    """

    def __init__(self, name: str, a: Array, indices: Array, axis: int):
        if a.ndim != indices.ndim:
            raise ShapeError(
                f"{name}: the array and the indices must have one rank, got shapes {a.shape} and {indices.shape}"
            )
        one = (*a.shape[:axis], 1, *a.shape[axis + 1 :])
        try:
            self.shape = broadcast_shapes(indices.shape, one)
        except ShapeError:
            raise ShapeError(
                f"{name}: apart from axis {axis}, the indices {indices.shape} must broadcast with the array {a.shape}"
            ) from None
        others = [d for d in range(a.ndim) if d != axis]
        whole = [d for d in others if indices.shape[d] == 1]
        self.dropped = tuple(d for d in others if d not in whole and a.shape[d] == 1)
        in_step = [d for d in others if d not in whole and d not in self.dropped]
        of_array = {d: k for k, d in enumerate(d for d in range(a.ndim) if d not in self.dropped)}
        positions = [d for d in range(a.ndim) if d not in whole]
        self.index_shape = (*(indices.shape[d] for d in positions), 1)
        self.numbers = GatherDimensionNumbers(
            offset_dims=tuple(whole),
            collapsed_slice_dims=(of_array[axis],),
            start_index_map=(of_array[axis],),
            operand_batching_dims=tuple(of_array[d] for d in in_step),
            start_indices_batching_dims=tuple(positions.index(d) for d in in_step),
        )
        self.window = tuple(1 if d == axis or d in in_step else a.shape[d] for d in of_array)


def _flat(name: str, a: Array, indices: Array, axis: int | None) -> tuple[Array, int]:
    if axis is not None:
        return a, normalize_axis(name, axis, a.shape)
    if indices.ndim != 1:
        raise ShapeError(f"{name}: with axis=None the indices must have rank 1, got shape {indices.shape}")
    return lax.reshape(a, (a.size,)), 0


def take_along_axis(
    arr: Any,
    indices: Any,
    axis: int | None = -1,
    mode: str | GatherScatterMode | None = None,
    fill_value: Any = None,
    *,
    wrap_negative_indices: bool | None = None,
) -> Array:
    """For each position along the other axes, the elements of `arr` at its own `indices`.

    It undoes `argsort` and `argmax`: ``take_along_axis(x, argsort(x, axis=1), axis=1)`` is x sorted.

    Arguments:
        arr: array of rank n.
        indices: integers of rank n that broadcast with `arr` apart from `axis`.
        axis: None flattens `arr`; the indices then have rank 1.
        mode: out of bounds gives `fill_value` ("fill", the default), the nearest element ("clip"), or is promised not
            to happen ("promise_in_bounds").
        fill_value: by default NaN, the least signed integer, the greatest unsigned one, or True.
        wrap_negative_indices: whether negative indices count from the end; None means yes, unless the mode is
            "promise_in_bounds".

    Returns:
        Array of the broadcast shape, with the indices' size on `axis`.

    Raises:
        ShapeError, DTypeError: shapes that do not broadcast, indices that are not integers.
    """
    name = "take_along_axis"
    arr, indices = to_array(name, arr), _checked_indices(name, indices)
    arr, axis = _flat(name, arr, indices, axis)
    along = _Along(name, arr, indices, axis)
    parsed = GatherScatterMode.from_any(mode)
    if 0 in along.shape or arr.shape[axis] == 0:
        return lax.full(along.shape, 0, arr.dtype)
    if wrap_negative_indices is None:
        wrap_negative_indices = parsed != GatherScatterMode.PROMISE_IN_BOUNDS
    indices = as_index_operand(indices, arr.shape[axis], wrap_negative_indices, _index_dtype(indices))
    return lax.gather(
        lax.squeeze(arr, along.dropped),
        lax.reshape(indices, along.index_shape),
        along.numbers,
        along.window,
        mode=parsed,
        fill_value=fill_value,
    )


def put_along_axis(
    arr: Any, indices: Any, values: Any, axis: int | None, inplace: bool = True, *, mode: str | None = None
) -> Array:
    """`arr` with the elements that `take_along_axis` would give replaced by `values`.

    Arguments:
        arr: array of rank n.
        indices: integers of rank n that broadcast with `arr` apart from `axis`.
        values: array that broadcasts to the shape of `indices`.
        axis: None means the flattened array; the indices then have rank 1.
        inplace: must be given as False, for arrays are immutable and the result is a new one.
        mode: out-of-bounds indices are left out ("drop", the default) or clamped ("clip").

    Returns:
        Array of the shape and dtype of `arr`.

    Raises:
        ValueError: `inplace` is not False.
        ShapeError, DTypeError: arguments that do not fit.
    """
    name = "put_along_axis"
    if inplace:
        raise ValueError(f"{name}: arrays are immutable; pass inplace=False and use the array that is returned")
    arr, indices = to_array(name, arr), _checked_indices(name, indices)
    flat, at = _flat(name, arr, indices, axis)
    along = _Along(name, flat, indices, at)
    values = convert(to_array(name, values), arr.dtype)
    if values.ndim > indices.ndim or broadcast_shapes(values.shape, indices.shape) != indices.shape:
        raise ShapeError(f"{name}: values of shape {values.shape} must broadcast to the indices' shape {indices.shape}")
    if 0 in along.shape or flat.shape[at] == 0:
        return arr
    indices = as_index_operand(indices, flat.shape[at], True, _index_dtype(indices))
    result = lax.scatter(
        lax.squeeze(flat, along.dropped),
        lax.reshape(indices, along.index_shape),
        broadcast_operand(values, along.shape),
        ScatterDimensionNumbers(*along.numbers),
        mode=mode,
    )
    return lax.reshape(result, arr.shape)
