"""Pooling as layers; what they compute is said at the functions of the same name in `nn_fn.functional`."""

from __future__ import annotations

from collections.abc import Sequence

from nn_fn import functional as F
from nn_fn.layers.configuration import constructor
from nn_fn.layers.layer import Layer, simple

Sizes = int | Sequence[int]


@constructor
def max_pool1d(
    kernel_size: Sizes, stride: Sizes | None = None, padding: Sizes = 0, dilation: Sizes = 1, ceil_mode: bool = False
) -> Layer:
    """Largest value of each window of [N, C, L]; the stride is the window's size unless given."""
    return simple(
        "max_pool1d", lambda params, x: F.max_pool1d(x, kernel_size, stride, padding, dilation, ceil_mode=ceil_mode)
    )


@constructor
def max_pool2d(
    kernel_size: Sizes, stride: Sizes | None = None, padding: Sizes = 0, dilation: Sizes = 1, ceil_mode: bool = False
) -> Layer:
    """Largest value of each window of [N, C, H, W]; the stride is the window's size unless given."""
    return simple(
        "max_pool2d", lambda params, x: F.max_pool2d(x, kernel_size, stride, padding, dilation, ceil_mode=ceil_mode)
    )


@constructor
def max_pool3d(
    kernel_size: Sizes, stride: Sizes | None = None, padding: Sizes = 0, dilation: Sizes = 1, ceil_mode: bool = False
) -> Layer:
    """Largest value of each window of [N, C, D, H, W]; the stride is the window's size unless given."""
    return simple(
        "max_pool3d", lambda params, x: F.max_pool3d(x, kernel_size, stride, padding, dilation, ceil_mode=ceil_mode)
    )


@constructor
def avg_pool1d(
    kernel_size: Sizes,
    stride: Sizes | None = None,
    padding: Sizes = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
) -> Layer:
    """Mean of each window of [N, C, L]; the stride is the window's size unless given."""
    return simple(
        "avg_pool1d", lambda params, x: F.avg_pool1d(x, kernel_size, stride, padding, ceil_mode, count_include_pad)
    )


@constructor
def avg_pool2d(
    kernel_size: Sizes,
    stride: Sizes | None = None,
    padding: Sizes = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
) -> Layer:
    """Mean of each window of [N, C, H, W]; the stride is the window's size unless given.

    Arguments:
        count_include_pad: whether padding counts as zeros in the mean, or not at all.
    """
    return simple(
        "avg_pool2d", lambda params, x: F.avg_pool2d(x, kernel_size, stride, padding, ceil_mode, count_include_pad)
    )


@constructor
def avg_pool3d(
    kernel_size: Sizes,
    stride: Sizes | None = None,
    padding: Sizes = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
) -> Layer:
    """Mean of each window of [N, C, D, H, W]; the stride is the window's size unless given."""
    return simple(
        "avg_pool3d", lambda params, x: F.avg_pool3d(x, kernel_size, stride, padding, ceil_mode, count_include_pad)
    )


@constructor
def adaptive_avg_pool1d(output_size: Sizes) -> Layer:
    """Means over `output_size` nearly equal parts of the last axis of [N, C, L]."""
    return simple("adaptive_avg_pool1d", lambda params, x: F.adaptive_avg_pool1d(x, output_size))


@constructor
def adaptive_avg_pool2d(output_size: int | Sequence[int | None]) -> Layer:
    """Means over `output_size` nearly equal parts of each of the last two axes of [N, C, H, W]; 1: global pooling."""
    return simple("adaptive_avg_pool2d", lambda params, x: F.adaptive_avg_pool2d(x, output_size))


@constructor
def adaptive_avg_pool3d(output_size: int | Sequence[int | None]) -> Layer:
    """Means over `output_size` nearly equal parts of each of the last three axes of [N, C, D, H, W]."""
    return simple("adaptive_avg_pool3d", lambda params, x: F.adaptive_avg_pool3d(x, output_size))


@constructor
def adaptive_max_pool1d(output_size: Sizes) -> Layer:
    """Largest values of `output_size` nearly equal parts of the last axis of [N, C, L]."""
    return simple("adaptive_max_pool1d", lambda params, x: F.adaptive_max_pool1d(x, output_size))


@constructor
def adaptive_max_pool2d(output_size: int | Sequence[int | None]) -> Layer:
    """Largest values of `output_size` nearly equal parts of each of the last two axes of [N, C, H, W]."""
    return simple("adaptive_max_pool2d", lambda params, x: F.adaptive_max_pool2d(x, output_size))


@constructor
def adaptive_max_pool3d(output_size: int | Sequence[int | None]) -> Layer:
    """Largest values of `output_size` nearly equal parts of each of the last three axes of [N, C, D, H, W]."""
    return simple("adaptive_max_pool3d", lambda params, x: F.adaptive_max_pool3d(x, output_size))
