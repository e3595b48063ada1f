"""Adaptive pooling: the input is cut into a given number of bins, whose means or largest elements are taken.

Bin i of o over an axis of length n is [floor(i n / o), ceil((i + 1) n / o)), PyTorch's rule: bins overlap where o does
not divide n, and none is empty, even where there are more of them than elements.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

import asgfn.numpy as jnp
from asgfn import lax
from asgfn.errors import ShapeError
from asgfn.tracing import Array
from nn_fn.functional.arguments import Ints, float_array, static_int, with_batch
from nn_fn.functional.pooling import largest_in_windows, mean_of_windows, windows_over

Sizes = Any  # int | None | Sequence[int | None]
MaxPooled = Any  # Array, or with return_indices (Array, Array)


# ---------------------------------------------------------------------------------------------- mean
def adaptive_avg_pool1d(x: Any, output_size: Sizes) -> Array:
    """The means of `output_size` bins.

    Arguments:
        x: float [N, C, L] or [C, L].
        output_size: number of bins; None keeps the axis.

    Returns:
        [N, C, output_size].

    Raises:
        ShapeError: x has another rank or an empty spatial axis.
        DTypeError: x is not floating point.
        ValueError: a number of bins below 1.
    """
    return _adaptive_avg("adaptive_avg_pool1d", 1, x, output_size)


def adaptive_avg_pool2d(x: Any, output_size: Sizes) -> Array:
    """The means of bins of x [N, C, H, W] or [C, H, W].

    `output_size` is an int or None for both axes, or one for each; see `adaptive_avg_pool1d`.
    """
    return _adaptive_avg("adaptive_avg_pool2d", 2, x, output_size)


def adaptive_avg_pool3d(x: Any, output_size: Sizes) -> Array:
    """The means of bins of x [N, C, D, H, W] or [C, D, H, W]; see `adaptive_avg_pool2d`."""
    return _adaptive_avg("adaptive_avg_pool3d", 3, x, output_size)


def _adaptive_avg(name: str, spatial: int, x: Any, output_size: Any) -> Array:
    x, unbatched, bins = _ready(name, spatial, x, output_size)
    if all(o == 1 for o in bins):
        y = jnp.mean(x, axis=tuple(range(2, x.ndim)), keepdims=True)
    elif _divides(x, bins):
        kernel = _kernel(x, bins)
        y = mean_of_windows(x, windows_over(name, x, kernel, None, 0, 1, False), np.asarray(math.prod(kernel)))
    else:
        y = x
        for axis, o in enumerate(bins, start=2):
            y = _mean_of_bins(y, axis, o)
    return y[0] if unbatched else y


def _mean_of_bins(x: Array, axis: int, bins: int) -> Array:
    size = x.shape[axis]
    if bins == size:
        return x
    members, inside = _members(size, bins)
    after = x.ndim - axis - 1
    mask = inside.reshape(*inside.shape, *(1,) * after)
    # Selected, not multiplied by 0: what is infinite in one bin stays out of the others.
    taken = jnp.where(mask, jnp.take(x, members, axis=axis), 0)
    lengths = inside.sum(axis=1).reshape(-1, *(1,) * after)
    return jnp.sum(taken, axis=axis + 1) / lengths.astype(x.dtype)


# ---------------------------------------------------------------------------------------------- largest element
def adaptive_max_pool1d(x: Any, output_size: Sizes, return_indices: bool = False) -> MaxPooled:
    """The largest elements of `output_size` bins; arguments and errors as of `adaptive_avg_pool1d`.

    With `return_indices` also where they were, int32, counted through the spatial axes in row-major order. Of equal
    elements the first wins, and gets the whole gradient.
    """
    return _adaptive_max("adaptive_max_pool1d", 1, x, output_size, return_indices)


def adaptive_max_pool2d(x: Any, output_size: Sizes, return_indices: bool = False) -> MaxPooled:
    """The largest elements of bins of x [N, C, H, W] or [C, H, W]; see `adaptive_max_pool1d`."""
    return _adaptive_max("adaptive_max_pool2d", 2, x, output_size, return_indices)


def adaptive_max_pool3d(x: Any, output_size: Sizes, return_indices: bool = False) -> MaxPooled:
    """The largest elements of bins of x [N, C, D, H, W] or [C, D, H, W]; see `adaptive_max_pool1d`."""
    return _adaptive_max("adaptive_max_pool3d", 3, x, output_size, return_indices)


def _adaptive_max(name: str, spatial: int, x: Any, output_size: Any, return_indices: bool) -> MaxPooled:
    x, unbatched, bins = _ready(name, spatial, x, output_size)
    if _divides(x, bins):
        windows = windows_over(name, x, _kernel(x, bins), None, 0, 1, False)
        y, where = largest_in_windows(x, windows, return_indices)
    else:
        y, where = _largest_of_bins(x, bins)
    y = y[0] if unbatched else y
    if not return_indices or where is None:
        return y
    return y, where[0] if unbatched else where


def _largest_of_bins(x: Array, bins: Ints) -> tuple[Array, Array]:
    space, lead = x.shape[2:], x.shape[:2]
    spatial = len(space)
    # place[o1, o2, ..., k1, k2, ...]: the flat position of element (k1, k2, ...) of a bin. A bin shorter than the longest
    # repeats its last element, which leaves the first maximum where it is.
    place = np.zeros((1,) * (2 * spatial), np.int32)
    for axis, (size, o) in enumerate(zip(space, bins, strict=True)):
        members, _ = _members(size, o)
        shape = [1] * (2 * spatial)
        shape[axis], shape[spatial + axis] = members.shape
        place = place * size + members.astype(np.int32).reshape(shape)
    place = place.reshape(math.prod(bins), -1)
    flat = x.reshape(*lead, math.prod(space))
    taken = jnp.take(lax.stop_gradient(flat), place, axis=2)  # [N, C, bins, elements of a bin]
    best = jnp.argmax(taken, axis=3)
    where = jnp.take(place.reshape(-1), best + np.arange(len(place), dtype=np.int32) * place.shape[1])
    y = jnp.take_along_axis(flat, where, axis=2)
    return y.reshape(*lead, *bins), where.reshape(*lead, *bins)


# ---------------------------------------------------------------------------------------------- bins
def _ready(name: str, spatial: int, x: Any, output_size: Any) -> tuple[Array, bool, Ints]:
    x, unbatched = with_batch(name, float_array(name, "x", x), spatial)
    sizes = list(output_size) if isinstance(output_size, Sequence) else [output_size] * spatial
    if len(sizes) != spatial:
        raise ValueError(f"{name}: output_size must be an int or {spatial} of them (or None); got {output_size!r}")
    if 0 in x.shape[2:]:
        raise ShapeError(f"{name}: the spatial axes of x must not be empty, got x {x.aval}")
    bins = [n if o is None else static_int(name, "output_size", o, 1) for n, o in zip(x.shape[2:], sizes, strict=True)]
    return x, unbatched, tuple(bins)


def _divides(x: Array, bins: Ints) -> bool:
    return all(n % o == 0 for n, o in zip(x.shape[2:], bins, strict=True))


def _kernel(x: Array, bins: Ints) -> Ints:
    return tuple(n // o for n, o in zip(x.shape[2:], bins, strict=True))


def _members(size: int, bins: int) -> tuple[np.ndarray, np.ndarray]:
    """The elements of each bin, [bins, longest], the last one repeated; and which of these are no repetition."""
    i = np.arange(bins)
    start, stop = i * size // bins, -(-(i + 1) * size // bins)
    members = start[:, None] + np.arange((stop - start).max())
    return np.minimum(members, stop[:, None] - 1), members < stop[:, None]
