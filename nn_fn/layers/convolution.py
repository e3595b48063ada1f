"""Convolutions and transposed convolutions in one, two and three dimensions, with PyTorch's layouts and defaults."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import asgfn.numpy as jnp
from asgfn import random
from asgfn.errors import ShapeError
from nn_fn import functional as F
from nn_fn import initializers
from nn_fn.initializers import Initializer
from nn_fn.layers.checks import positive
from nn_fn.layers.configuration import constructor
from nn_fn.layers.layer import Layer, simple
from nn_fn.layers.linear import initial_bias

Sizes = int | Sequence[int]
AXES = {1: "L", 2: "H, W", 3: "D, H, W"}


@constructor
def conv1d(
    in_channels: int,
    out_channels: int,
    kernel_size: Sizes,
    stride: Sizes = 1,
    padding: str | Sizes = 0,
    dilation: Sizes = 1,
    groups: int = 1,
    bias: bool = True,
    weight_init: str | Initializer = "fan_in_uniform",
    bias_init: str | Initializer = "fan_in_uniform",
) -> Layer:
    """Convolution over [N, in_channels, L]; see `conv2d`."""
    return _conv(
        1, in_channels, out_channels, kernel_size, stride, padding, dilation, groups, bias, weight_init, bias_init
    )


@constructor
def conv2d(
    in_channels: int,
    out_channels: int,
    kernel_size: Sizes,
    stride: Sizes = 1,
    padding: str | Sizes = 0,
    dilation: Sizes = 1,
    groups: int = 1,
    bias: bool = True,
    weight_init: str | Initializer = "fan_in_uniform",
    bias_init: str | Initializer = "fan_in_uniform",
) -> Layer:
    """Convolution over [N, in_channels, H, W], giving [N, out_channels, H', W'].

    Parameters: ``weight`` [out_channels, in_channels / groups, *kernel_size] and ``bias`` [out_channels], by default
    uniform in ±1 / sqrt(fan_in), as PyTorch's.

    Arguments:
        kernel_size, stride, dilation: one int for all axes, or one an axis.
        padding: zeros at both ends of each axis, or "same" (stride 1 only), or "valid".
        groups: channels are divided into so many groups that do not mix; in_channels of them: a depthwise convolution.

    Raises:
        ValueError: sizes that are not positive, or groups that do not divide the channels.
        ShapeError (when called): x does not have the rank or the number of channels.
    """
    return _conv(
        2, in_channels, out_channels, kernel_size, stride, padding, dilation, groups, bias, weight_init, bias_init
    )


@constructor
def conv3d(
    in_channels: int,
    out_channels: int,
    kernel_size: Sizes,
    stride: Sizes = 1,
    padding: str | Sizes = 0,
    dilation: Sizes = 1,
    groups: int = 1,
    bias: bool = True,
    weight_init: str | Initializer = "fan_in_uniform",
    bias_init: str | Initializer = "fan_in_uniform",
) -> Layer:
    """Convolution over [N, in_channels, D, H, W]; see `conv2d`."""
    return _conv(
        3, in_channels, out_channels, kernel_size, stride, padding, dilation, groups, bias, weight_init, bias_init
    )


@constructor
def conv_transpose1d(
    in_channels: int,
    out_channels: int,
    kernel_size: Sizes,
    stride: Sizes = 1,
    padding: Sizes = 0,
    output_padding: Sizes = 0,
    groups: int = 1,
    bias: bool = True,
    dilation: Sizes = 1,
    weight_init: str | Initializer = "fan_in_uniform",
    bias_init: str | Initializer = "fan_in_uniform",
) -> Layer:
    """Transposed convolution over [N, in_channels, L]; see `conv_transpose2d`."""
    options = (stride, padding, output_padding, groups, bias, dilation, weight_init, bias_init)
    return _conv_transpose(1, in_channels, out_channels, kernel_size, *options)


@constructor
def conv_transpose2d(
    in_channels: int,
    out_channels: int,
    kernel_size: Sizes,
    stride: Sizes = 1,
    padding: Sizes = 0,
    output_padding: Sizes = 0,
    groups: int = 1,
    bias: bool = True,
    dilation: Sizes = 1,
    weight_init: str | Initializer = "fan_in_uniform",
    bias_init: str | Initializer = "fan_in_uniform",
) -> Layer:
    """The transpose of a convolution: from [N, in_channels, H, W] to [N, out_channels, H', W'], where
    H' = (H - 1) stride - 2 padding + dilation (kernel_size - 1) + output_padding + 1.

    Parameters: ``weight`` [in_channels, out_channels / groups, *kernel_size] and ``bias`` [out_channels], by default
    uniform in ±1 / sqrt(out_channels / groups · window), as PyTorch's. Arguments and errors are those of `conv2d`;
    `output_padding` is added at one end of each axis.
    """
    options = (stride, padding, output_padding, groups, bias, dilation, weight_init, bias_init)
    return _conv_transpose(2, in_channels, out_channels, kernel_size, *options)


@constructor
def conv_transpose3d(
    in_channels: int,
    out_channels: int,
    kernel_size: Sizes,
    stride: Sizes = 1,
    padding: Sizes = 0,
    output_padding: Sizes = 0,
    groups: int = 1,
    bias: bool = True,
    dilation: Sizes = 1,
    weight_init: str | Initializer = "fan_in_uniform",
    bias_init: str | Initializer = "fan_in_uniform",
) -> Layer:
    """Transposed convolution over [N, in_channels, D, H, W]; see `conv_transpose2d`."""
    options = (stride, padding, output_padding, groups, bias, dilation, weight_init, bias_init)
    return _conv_transpose(3, in_channels, out_channels, kernel_size, *options)


def _conv(
    dims: int,
    in_channels: int,
    out_channels: int,
    kernel_size: Sizes,
    stride: Sizes,
    padding: str | Sizes,
    dilation: Sizes,
    groups: int,
    bias: bool,
    weight_init: str | Initializer,
    bias_init: str | Initializer,
) -> Layer:
    function = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}[dims]

    def convolve(x: Any, weight: Any, b: Any) -> Any:
        return function(x, weight, b, stride, padding, dilation, groups)

    shape = (out_channels, in_channels // max(groups, 1), *_window(f"conv{dims}d", dims, kernel_size))
    return _layer(
        f"conv{dims}d", dims, in_channels, out_channels, groups, shape, bias, weight_init, bias_init, convolve
    )


def _conv_transpose(
    dims: int,
    in_channels: int,
    out_channels: int,
    kernel_size: Sizes,
    stride: Sizes,
    padding: Sizes,
    output_padding: Sizes,
    groups: int,
    bias: bool,
    dilation: Sizes,
    weight_init: str | Initializer,
    bias_init: str | Initializer,
) -> Layer:
    function = {1: F.conv_transpose1d, 2: F.conv_transpose2d, 3: F.conv_transpose3d}[dims]

    def convolve(x: Any, weight: Any, b: Any) -> Any:
        return function(x, weight, b, stride, padding, output_padding, groups, dilation)

    name = f"conv_transpose{dims}d"
    shape = (in_channels, out_channels // max(groups, 1), *_window(name, dims, kernel_size))
    return _layer(name, dims, in_channels, out_channels, groups, shape, bias, weight_init, bias_init, convolve)


def _layer(
    name: str,
    dims: int,
    in_channels: int,
    out_channels: int,
    groups: int,
    shape: tuple[int, ...],
    bias: bool,
    weight_init: str | Initializer,
    bias_init: str | Initializer,
    convolve: Any,
) -> Layer:
    positive(name, in_channels=in_channels, out_channels=out_channels, groups=groups)
    if in_channels % groups or out_channels % groups:
        raise ValueError(
            f"{name}: groups={groups} must divide in_channels={in_channels} and out_channels={out_channels}"
        )
    make_weight, make_bias = initializers.get(weight_init), initializers.get(bias_init)

    def init(key: Any) -> dict[str, Any]:
        weight_key, bias_key = random.split(key)
        params = {"weight": make_weight(weight_key, shape, in_axis=1, out_axis=0)}
        if bias:
            params["bias"] = initial_bias(make_bias, bias_key, out_channels, math.prod(shape[1:]))
        return params

    def apply(params: Any, x: Any) -> Any:
        x = jnp.asarray(x)
        if x.ndim not in (dims + 1, dims + 2) or x.shape[-dims - 1] != in_channels:
            raise ShapeError(
                f"{name}({in_channels}, {out_channels}): the input must be [N, {in_channels}, {AXES[dims]}], got {x.aval}"
            )
        return convolve(x, params["weight"], params.get("bias"))

    return simple(name, apply, init)


def _window(name: str, dims: int, kernel_size: Sizes) -> tuple[int, ...]:
    window = (kernel_size,) * dims if isinstance(kernel_size, int) else tuple(kernel_size)
    if len(window) != dims:
        raise ValueError(f"{name}: kernel_size must be one int or {dims}, got {kernel_size!r}")
    for size in window:
        positive(name, kernel_size=size)
    return window
