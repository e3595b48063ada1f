"""Shapes that broadcast together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from asgfn.errors import ShapeError
from asgfn.primitives.shaping import broadcast_in_dim
from asgfn.tracing import Array, as_array


def broadcast_shapes(*shapes: int | Sequence[int], name: str = "broadcast_shapes") -> tuple[int, ...]:
    """The shape that arrays of these shapes broadcast to; raises `ShapeError` when there is none.

    >>> broadcast_shapes((3, 1), (4,))
    (3, 4)
    """
    known = [(int(shape),) if isinstance(shape, (int, np.integer)) else tuple(shape) for shape in shapes]
    rank = max(map(len, known), default=0)
    result = [1] * rank
    for shape in known:
        for axis, size in enumerate(shape, start=rank - len(shape)):
            if result[axis] == 1:
                result[axis] = int(size)
            elif size != 1 and size != result[axis]:
                listed = ", ".join(map(str, known))
                raise ShapeError(
                    f"{name}: shapes {listed} do not broadcast: axis {axis - rank} has sizes {result[axis]} and {size}; "
                    "sizes must be equal or 1, counted from the last axis"
                )
    return tuple(result)


def broadcast_like(arr: Any, like_arr: Any) -> Array:
    """`arr` repeated to the shape of `like_arr`, axes matched from the last one; the dtype stays.

    Raises:
        ShapeError: an axis of `arr` is neither 1 nor as long as that of `like_arr`, or there are too many.
    """
    arr, shape = as_array(arr, "broadcast_like"), tuple(np.shape(like_arr))
    if broadcast_shapes(arr.shape, shape, name="broadcast_like") != shape:
        raise ShapeError(f"broadcast_like: an array of shape {arr.shape} does not broadcast to shape {shape}")
    return broadcast_in_dim(arr, shape, range(len(shape) - arr.ndim, len(shape)))


__all__ = ["broadcast_like", "broadcast_shapes"]
