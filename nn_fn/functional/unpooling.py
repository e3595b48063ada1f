"""The way back from max pooling: elements at the places where they were found."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

import asgfn.numpy as jnp
from asgfn.errors import IndexOutOfRangeError, ShapeError
from asgfn.tracing import Array
from asgfn.tracing.concretize import is_concrete
from nn_fn.functional.arguments import float_array, integer_array, per_axis, with_batch

IntOrInts = Any  # int | Sequence[int]


def max_unpool1d(
    x: Any,
    indices: Any,
    kernel_size: IntOrInts,
    stride: IntOrInts | None = None,
    padding: IntOrInts = 0,
    output_size: Any = None,
) -> Array:
    """Puts elements where `max_pool1d` found them, into zeros.

    Arguments:
        x: float [N, C, windows] or [C, windows].
        indices: integers of the same shape, as `max_pool1d` returns them. Where two are equal, one element stays.
        kernel_size, stride, padding: as they were given to `max_pool1d`.
        output_size: spatial sizes of the result (or its whole shape); by default the smallest that the windows cover,
            (windows - 1) stride - 2 padding + kernel_size.

    Raises:
        ShapeError: shapes that do not fit.
        IndexOutOfRangeError: an index, if its value is known, outside of the result; otherwise its element is dropped.
    """
    return _max_unpool("max_unpool1d", 1, x, indices, kernel_size, stride, padding, output_size)


def max_unpool2d(
    x: Any,
    indices: Any,
    kernel_size: IntOrInts,
    stride: IntOrInts | None = None,
    padding: IntOrInts = 0,
    output_size: Any = None,
) -> Array:
    """Puts elements of x [N, C, H, W] or [C, H, W] where `max_pool2d` found them; see `max_unpool1d`."""
    return _max_unpool("max_unpool2d", 2, x, indices, kernel_size, stride, padding, output_size)


def max_unpool3d(
    x: Any,
    indices: Any,
    kernel_size: IntOrInts,
    stride: IntOrInts | None = None,
    padding: IntOrInts = 0,
    output_size: Any = None,
) -> Array:
    """Puts elements of x [N, C, D, H, W] or [C, D, H, W] where `max_pool3d` found them; see `max_unpool1d`."""
    return _max_unpool("max_unpool3d", 3, x, indices, kernel_size, stride, padding, output_size)


def _max_unpool(
    name: str, spatial: int, x: Any, indices: Any, kernel_size: Any, stride: Any, padding: Any, output_size: Any
) -> Array:
    x, unbatched = with_batch(name, float_array(name, "x", x), spatial)
    indices = integer_array(name, "indices", indices)
    indices = indices[None] if unbatched else indices
    if indices.shape != x.shape:
        raise ShapeError(f"{name}: indices must have the shape of x, got {indices.aval} for x {x.aval}")
    kernel = per_axis(name, "kernel_size", kernel_size, spatial, least=1)
    strides = kernel if stride is None else per_axis(name, "stride", stride, spatial, least=1)
    pads = per_axis(name, "padding", padding, spatial, least=0)
    if output_size is None:
        sizes = tuple((n - 1) * s - 2 * p + k for n, s, p, k in zip(x.shape[2:], strides, pads, kernel, strict=True))
    else:
        sizes = per_axis(name, "output_size", tuple(output_size)[-spatial:], spatial, least=1)
    if any(size < 1 for size in sizes):
        raise ShapeError(f"{name}: the result would have spatial sizes {sizes}; got x {x.aval}")
    flat = math.prod(sizes)
    if is_concrete(indices) and indices.size:
        values = np.asarray(indices)  # not jnp's reductions, which jit would record
        least, greatest = int(values.min()), int(values.max())
        if least < 0 or greatest >= flat:
            raise IndexOutOfRangeError(
                f"{name}: indices run from {least} to {greatest}, but the result has {flat} places ({sizes}); give the "
                "sizes of the pooled input as output_size"
            )
    rows, windows = math.prod(x.shape[:2]), math.prod(x.shape[2:])
    at = indices.reshape(rows, windows)
    row = jnp.arange(rows)[:, None]
    out = jnp.zeros((rows, flat), x.dtype).at[row, at].set(x.reshape(rows, windows), mode="drop")
    out = out.reshape(*x.shape[:2], *sizes)
    return out[0] if unbatched else out
