"""Arrays put together from pieces and taken apart: `stack`, `unstack`, `split`, `tile`, `index_take`."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any

import numpy as np

from asgfn.errors import ShapeError
from asgfn.primitives.gather import GatherDimensionNumbers, gather
from asgfn.primitives.padding import concatenate
from asgfn.primitives.shaping import broadcast_in_dim, canonical_axis, expand_dims, reshape
from asgfn.primitives.slicing import index_in_dim, slice_in_dim
from asgfn.tracing import Array, as_array


def stack(operands: Sequence[Any], axis: int = 0) -> Array:
    """Arrays of one shape and dtype along a new axis.

    Raises:
        ShapeError: there are none, or their shapes differ.
    """
    arrays = [as_array(x, "stack") for x in operands]
    if not arrays or any(x.shape != arrays[0].shape for x in arrays):
        raise ShapeError(f"stack: needs one or more arrays of one shape, got shapes {[x.shape for x in arrays]}")
    axis = canonical_axis(axis, arrays[0].ndim + 1, "stack")
    return concatenate([expand_dims(x, (axis,)) for x in arrays], axis)


def unstack(x: Any, axis: int = 0) -> tuple[Array, ...]:
    """The slices of an array along one axis, which they lack. Inverse of `stack`."""
    x = as_array(x, "unstack")
    axis = canonical_axis(axis, x.ndim, "unstack")
    return tuple(index_in_dim(x, i, axis, keepdims=False) for i in range(x.shape[axis]))


def split(operand: Any, sizes: Sequence[int], axis: int = 0) -> list[Array]:
    """Consecutive pieces of an array with the given lengths along one axis. Inverse of `concatenate`.

    Raises:
        ShapeError: the lengths do not add up to that of the axis.
    """
    x = as_array(operand, "split")
    axis = canonical_axis(axis, x.ndim, "split")
    lengths = tuple(map(operator.index, sizes))
    if sum(lengths) != x.shape[axis] or any(n < 0 for n in lengths):
        raise ShapeError(
            f"split: sizes {lengths} must add up to the length of axis {axis} of {x.aval}, {x.shape[axis]}"
        )
    starts = np.cumsum((0, *lengths)).tolist()
    return [slice_in_dim(x, start, start + n, axis=axis) for start, n in zip(starts, lengths, strict=False)]


def tile(operand: Any, reps: Sequence[int]) -> Array:
    """An array repeated `reps[i]` times along each axis i.

    Raises:
        ShapeError: there is not one count an axis, or one is negative.
    """
    x = as_array(operand, "tile")
    counts = tuple(map(operator.index, reps))
    if len(counts) != x.ndim or any(n < 0 for n in counts):
        raise ShapeError(f"tile: reps {counts} must have one count, 0 or more, for each axis of {x.aval}")
    apart = [size for pair in zip(counts, x.shape, strict=True) for size in pair]
    repeated = broadcast_in_dim(x, apart, range(1, 2 * x.ndim, 2))
    return reshape(repeated, [n * size for n, size in zip(counts, x.shape, strict=True)])


def index_take(src: Any, idxs: Sequence[Any], axes: Sequence[int]) -> Array:
    """Elements of an array at integer positions on some axes.

    Arguments:
        src: array of rank n.
        idxs: for each of `axes` a vector of positions [m]; positions out of range are clamped.

    Returns:
        Array [m, ...] with the axes that are not indexed, in order.
    """
    src = as_array(src, "index_take")
    chosen = tuple(canonical_axis(axis, src.ndim, "index_take") for axis in axes)
    positions = stack([as_array(i, "index_take") for i in idxs], 1)
    kept = src.ndim - len(chosen)
    numbers = GatherDimensionNumbers(tuple(range(1, kept + 1)), tuple(sorted(chosen)), chosen)
    sizes = [1 if axis in chosen else size for axis, size in enumerate(src.shape)]
    return gather(src, positions, numbers, sizes, mode="clip")


__all__ = ["index_take", "split", "stack", "tile", "unstack"]
