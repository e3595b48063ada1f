"""Pooling over sliding windows: largest element, mean, power mean.

x is [N, C, *space], or [C, *space] without a batch. Kernel sizes, strides, paddings and dilations are ints, or one for
each spatial axis. A window must start inside the input or its first padding, as in PyTorch: with `ceil_mode` the last
one may reach beyond the end.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

import asgfn.numpy as jnp
from asgfn import lax
from asgfn.errors import ShapeError
from asgfn.primitives.windows import reduce_window_argmax_p
from asgfn.tracing import Array
from nn_fn.functional.arguments import Ints, float_array, per_axis, static_int, with_batch

IntOrInts = Any  # int | Sequence[int]
MaxPooled = Any  # Array, or with return_indices (Array, Array)


class Windows(NamedTuple):
    """Where the windows lie, an entry for each spatial axis."""

    sizes: Ints  # of the input
    kernel: Ints
    stride: Ints
    padding: Ints
    dilation: Ints
    counts: Ints

    @property
    def reduction(self) -> dict[str, Any]:
        """The parameters of a window reduction over [N, C, *space]."""
        # what the last window needs behind the input; negative where it leaves elements over
        ends = [
            (n - 1) * s + d * (k - 1) + 1 - size - p
            for n, s, d, k, size, p in zip(
                self.counts, self.stride, self.dilation, self.kernel, self.sizes, self.padding, strict=True
            )
        ]
        ones = (1,) * (2 + len(ends))
        return {
            "window_dimensions": (1, 1, *self.kernel),
            "window_strides": (1, 1, *self.stride),
            "padding": ((0, 0), (0, 0), *zip(self.padding, ends, strict=True)),
            "base_dilation": ones,
            "window_dilation": (1, 1, *self.dilation),
        }


def windows_over(
    name: str, x: Array, kernel_size: Any, stride: Any, padding: Any, dilation: Any, ceil_mode: bool
) -> Windows:
    spatial = x.ndim - 2
    kernel = per_axis(name, "kernel_size", kernel_size, spatial, least=1)
    strides = kernel if stride is None else per_axis(name, "stride", stride, spatial, least=1)
    pads = per_axis(name, "padding", padding, spatial, least=0)
    gaps = per_axis(name, "dilation", dilation, spatial, least=1)
    sizes = x.shape[2:]
    counts = []
    for size, k, s, p, d in zip(sizes, kernel, strides, pads, gaps, strict=True):
        span = d * (k - 1) + 1
        if 2 * p > span:
            raise ValueError(
                f"{name}: padding {pads} must be at most half of the window {kernel} with dilation {gaps}, so that no "
                "window lies in the padding alone"
            )
        room = size + 2 * p - span
        count = (-(-room // s) if ceil_mode else room // s) + 1
        if ceil_mode and (count - 1) * s >= size + p:
            count -= 1
        if size == 0 or count < 1:
            raise ShapeError(
                f"{name}: a window of {kernel} with dilation {gaps} does not fit into the spatial sizes {sizes} with "
                f"padding {pads}; got x {x.aval}"
            )
        counts.append(count)
    return Windows(sizes, kernel, strides, pads, gaps, tuple(counts))


# ---------------------------------------------------------------------------------------------- largest element
def max_pool1d(
    x: Any,
    kernel_size: IntOrInts,
    stride: IntOrInts | None = None,
    padding: IntOrInts = 0,
    dilation: IntOrInts = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> MaxPooled:
    """The largest element of each window over one axis.

    Arguments:
        x: float [N, C, L] or [C, L].
        kernel_size: length of the window.
        stride: its step, by default its length.
        padding: how many elements that never win are added at both ends; at most half of the window.
        dilation: distance of the window's elements.
        ceil_mode: round the number of windows up instead of down.
        return_indices: also return where the elements were, int32, counted through the spatial axes in row-major order.

    Returns:
        [N, C, windows], or a pair with the indices. Of equal elements the first wins, and gets the whole gradient.

    Raises:
        ShapeError: x has another rank, or is smaller than the window.
        DTypeError: x is not floating point.
        ValueError: a number out of its range.
    """
    return _max_pool("max_pool1d", 1, x, kernel_size, stride, padding, dilation, ceil_mode, return_indices)


def max_pool2d(
    x: Any,
    kernel_size: IntOrInts,
    stride: IntOrInts | None = None,
    padding: IntOrInts = 0,
    dilation: IntOrInts = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> MaxPooled:
    """The largest element of each window of x [N, C, H, W] or [C, H, W]; see `max_pool1d`."""
    return _max_pool("max_pool2d", 2, x, kernel_size, stride, padding, dilation, ceil_mode, return_indices)


def max_pool3d(
    x: Any,
    kernel_size: IntOrInts,
    stride: IntOrInts | None = None,
    padding: IntOrInts = 0,
    dilation: IntOrInts = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> MaxPooled:
    """The largest element of each window of x [N, C, D, H, W] or [C, D, H, W]; see `max_pool1d`."""
    return _max_pool("max_pool3d", 3, x, kernel_size, stride, padding, dilation, ceil_mode, return_indices)


def _max_pool(
    name: str,
    spatial: int,
    x: Any,
    kernel_size: Any,
    stride: Any,
    padding: Any,
    dilation: Any,
    ceil_mode: bool,
    return_indices: bool,
) -> MaxPooled:
    x, unbatched = with_batch(name, float_array(name, "x", x), spatial)
    windows = windows_over(name, x, kernel_size, stride, padding, dilation, ceil_mode)
    y, where = largest_in_windows(x, windows, return_indices)
    y = y[0] if unbatched else y
    if where is None:
        return y
    return y, where[0] if unbatched else where


def largest_in_windows(x: Array, windows: Windows, with_positions: bool) -> tuple[Array, Array | None]:
    """The largest element of each window of x [N, C, *space], and where it lies in the flattened space."""
    y = lax.reduce_window(x, -jnp.inf, lax.max, **windows.reduction)
    return y, _positions(lax.stop_gradient(x), windows) if with_positions else None


def _positions(x: Array, windows: Windows) -> Array:
    """Where the largest element of each window lies in the flattened space of the input, int32."""
    tap = reduce_window_argmax_p.bind(x, **windows.reduction)
    total: Any = 0
    for axis, (size, count, length) in enumerate(zip(windows.sizes, windows.counts, windows.kernel, strict=True)):
        start = np.arange(count, dtype=np.int32) * windows.stride[axis] - windows.padding[axis]
        step = tap // math.prod(windows.kernel[axis + 1 :]) % length
        behind = len(windows.kernel) - axis - 1
        total = total * size + start.reshape(count, *(1,) * behind) + step * windows.dilation[axis]
    return total


# ---------------------------------------------------------------------------------------------- mean
def avg_pool1d(
    x: Any,
    kernel_size: IntOrInts,
    stride: IntOrInts | None = None,
    padding: IntOrInts = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
) -> Array:
    """The mean of each window over one axis.

    Arguments:
        x: float [N, C, L] or [C, L].
        kernel_size: length of the window.
        stride: its step, by default its length.
        padding: zeros at both ends; at most half of the window.
        ceil_mode: round the number of windows up instead of down.
        count_include_pad: divide by the number of elements with padding (but not by what `ceil_mode` adds), or without.

    Returns:
        [N, C, windows].

    Raises:
        ShapeError: x has another rank, or is smaller than the window.
        DTypeError: x is not floating point.
        ValueError: a number out of its range.
    """
    return _avg_pool("avg_pool1d", 1, x, kernel_size, stride, padding, ceil_mode, count_include_pad, None)


def avg_pool2d(
    x: Any,
    kernel_size: IntOrInts,
    stride: IntOrInts | None = None,
    padding: IntOrInts = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Array:
    """The mean of each window of x [N, C, H, W] or [C, H, W]; see `avg_pool1d`.

    `divisor_override` is what sums are divided by, instead of the number of elements.
    """
    return _avg_pool("avg_pool2d", 2, x, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override)


def avg_pool3d(
    x: Any,
    kernel_size: IntOrInts,
    stride: IntOrInts | None = None,
    padding: IntOrInts = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Array:
    """The mean of each window of x [N, C, D, H, W] or [C, D, H, W]; see `avg_pool1d` and `avg_pool2d`."""
    return _avg_pool("avg_pool3d", 3, x, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override)


def _avg_pool(
    name: str,
    spatial: int,
    x: Any,
    kernel_size: Any,
    stride: Any,
    padding: Any,
    ceil_mode: bool,
    count_include_pad: bool,
    divisor_override: Any,
) -> Array:
    x, unbatched = with_batch(name, float_array(name, "x", x), spatial)
    windows = windows_over(name, x, kernel_size, stride, padding, 1, ceil_mode)
    if divisor_override is None:
        divisor = _element_counts(windows, count_include_pad)
    else:
        divisor = np.asarray(static_int(name, "divisor_override", divisor_override))
        if divisor == 0:
            raise ValueError(f"{name}: divisor_override must not be 0")
    y = mean_of_windows(x, windows, divisor)
    return y[0] if unbatched else y


def mean_of_windows(x: Array, windows: Windows, divisor: np.ndarray) -> Array:
    """The sum of each window of x [N, C, *space], divided by numbers that broadcast with the windows."""
    total = lax.reduce_window(x, 0.0, lax.add, **windows.reduction)
    return total / divisor.astype(x.dtype)


def _element_counts(windows: Windows, with_padding: bool) -> np.ndarray:
    """What each window's sum is divided by: a scalar where all have the same number of elements, else [*windows]."""
    counts = np.ones((), np.int64)
    for size, k, s, p, n in zip(
        windows.sizes, windows.kernel, windows.stride, windows.padding, windows.counts, strict=True
    ):
        start = np.arange(n) * s - p
        low, high = (-p, size + p) if with_padding else (0, size)
        counts = np.multiply.outer(counts, np.minimum(start + k, high) - np.maximum(start, low))
    return counts.reshape(-1)[0] if (counts == counts.reshape(-1)[0]).all() else counts


# ---------------------------------------------------------------------------------------------- power mean
def lp_pool1d(
    x: Any, norm_type: float, kernel_size: IntOrInts, stride: IntOrInts | None = None, ceil_mode: bool = False
) -> Array:
    """(sum of x^p)^(1/p) over each window, with p = `norm_type`.

    Where the sum is 0, so is the gradient; a negative sum (of odd powers) gives what its power is, mostly NaN. With
    `ceil_mode`, a window that reaches beyond the end counts as the mean of its elements times the size of a whole
    window, as in PyTorch. Arguments and errors as of `avg_pool1d`; a norm_type of 0 raises ValueError.
    """
    return _lp_pool("lp_pool1d", 1, x, norm_type, kernel_size, stride, ceil_mode)


def lp_pool2d(
    x: Any, norm_type: float, kernel_size: IntOrInts, stride: IntOrInts | None = None, ceil_mode: bool = False
) -> Array:
    """The power mean of each window of x [N, C, H, W] or [C, H, W]; see `lp_pool1d`."""
    return _lp_pool("lp_pool2d", 2, x, norm_type, kernel_size, stride, ceil_mode)


def lp_pool3d(
    x: Any, norm_type: float, kernel_size: IntOrInts, stride: IntOrInts | None = None, ceil_mode: bool = False
) -> Array:
    """The power mean of each window of x [N, C, D, H, W] or [C, D, H, W]; see `lp_pool1d`."""
    return _lp_pool("lp_pool3d", 3, x, norm_type, kernel_size, stride, ceil_mode)


def _lp_pool(name: str, spatial: int, x: Any, p: Any, kernel_size: Any, stride: Any, ceil_mode: bool) -> Array:
    if p == 0:
        raise ValueError(f"{name}: norm_type must not be 0, since its inverse is a power")
    x = float_array(name, "x", x)
    powers = x ** (int(p) if p == int(p) else p)
    mean = _avg_pool(name, spatial, powers, kernel_size, stride, 0, ceil_mode, True, None)
    total = mean * math.prod(per_axis(name, "kernel_size", kernel_size, spatial))
    # The root of 0 has an infinite slope.
    zero = total == 0
    return jnp.where(zero, 0, jnp.where(zero, 1, total) ** (1.0 / p))
