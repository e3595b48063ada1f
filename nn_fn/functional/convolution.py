"""Convolutions and transposed convolutions over one, two or three spatial axes.

Sizes are those of V. Dumoulin and F. Visin, "A guide to convolution arithmetic for deep learning" (2016).
"""

from __future__ import annotations

from typing import Any

from asgfn import lax
from asgfn.errors import ShapeError
from asgfn.tracing import Array
from nn_fn.functional.arguments import Ints, float_array, one_of, per_axis, same_dtype, static_int, with_batch

IntOrInts = Any  # int | Sequence[int]

_IN_OUT = {1: ("NCH", "IOH", "NCH"), 2: ("NCHW", "IOHW", "NCHW"), 3: ("NCDHW", "IODHW", "NCDHW")}


# ---------------------------------------------------------------------------------------------- convolution
def conv1d(
    x: Any,
    weight: Any,
    bias: Any = None,
    stride: IntOrInts = 1,
    padding: IntOrInts | str = 0,
    dilation: IntOrInts = 1,
    groups: int = 1,
) -> Array:
    """Convolution over one axis (a cross-correlation: the kernel is not flipped).

    Arguments:
        x: float [N, in, L], or [in, L] without a batch.
        weight: float [out, in / groups, k].
        bias: float [out] or None.
        stride: step of the kernel.
        padding: zeros at both ends; "valid" for none, "same" for a result as long as the input (an odd zero goes to
            the end).
        dilation: distance of the kernel's elements.
        groups: channels are split into so many groups, convolved one by one.

    Returns:
        [N, out, (L + 2 padding - dilation (k - 1) - 1) // stride + 1].

    Raises:
        ShapeError: shapes, channels or groups do not fit, or the padded input is shorter than the kernel.
        DTypeError: an operand is not floating point, or their dtypes differ.
        ValueError: a stride, dilation or number of groups below 1, or "same" with a stride.
    """
    return _conv("conv1d", 1, x, weight, bias, stride, padding, dilation, groups)


def conv2d(
    x: Any,
    weight: Any,
    bias: Any = None,
    stride: IntOrInts = 1,
    padding: IntOrInts | str = 0,
    dilation: IntOrInts = 1,
    groups: int = 1,
) -> Array:
    """Convolution of x [N, in, H, W] or [in, H, W] with weight [out, in / groups, kh, kw]; see `conv1d`.

    Stride, padding and dilation are ints, or pairs (vertical, horizontal).
    """
    return _conv("conv2d", 2, x, weight, bias, stride, padding, dilation, groups)


def conv3d(
    x: Any,
    weight: Any,
    bias: Any = None,
    stride: IntOrInts = 1,
    padding: IntOrInts | str = 0,
    dilation: IntOrInts = 1,
    groups: int = 1,
) -> Array:
    """Convolution of x [N, in, D, H, W] or [in, D, H, W] with weight [out, in / groups, kd, kh, kw]; see `conv1d`.

    Stride, padding and dilation are ints, or one for each of the three axes.
    """
    return _conv("conv3d", 3, x, weight, bias, stride, padding, dilation, groups)


def _conv(
    name: str, spatial: int, x: Any, weight: Any, bias: Any, stride: Any, padding: Any, dilation: Any, groups: Any
) -> Array:
    x, weight, bias, groups = _operands(name, spatial, x, weight, bias, groups)
    x, unbatched = with_batch(name, x, spatial)
    strides = per_axis(name, "stride", stride, spatial, least=1)
    gaps = per_axis(name, "dilation", dilation, spatial, least=1)
    out, per_group, *kernel = weight.shape
    if out % groups or x.shape[1] != per_group * groups:
        raise ShapeError(
            f"{name}: with groups={groups}, weight {weight.aval} takes {per_group * groups} input channels and must "
            f"give a multiple of {groups} output channels; got x {x.aval}. The layout is [N, C, ...] and "
            "[out, in / groups, ...]"
        )
    _check_bias(name, bias, out, weight)
    spans = [d * (k - 1) + 1 for k, d in zip(kernel, gaps, strict=True)]
    pads = _padding(name, padding, spans, strides)
    sizes = [n + low + high for n, (low, high) in zip(x.shape[2:], pads, strict=True)]
    if 0 in kernel or any(size < span for size, span in zip(sizes, spans, strict=True)):
        raise ShapeError(
            f"{name}: the padded input has spatial sizes {tuple(sizes)}, but the dilated kernel needs at least "
            f"{tuple(spans)}, and at least 1; got x {x.aval}, weight {weight.aval}, padding={padding!r}, dilation={gaps}"
        )
    y = lax.conv_general_dilated(x, weight, strides, pads, rhs_dilation=gaps, feature_group_count=groups)
    return _finish(y, bias, unbatched)


def _padding(name: str, padding: Any, spans: list[int], strides: Ints) -> list[tuple[int, int]]:
    if not isinstance(padding, str):
        return [(p, p) for p in per_axis(name, "padding", padding, len(spans), least=0)]
    one_of(name, "padding", padding, ("valid", "same"))
    if padding == "valid":
        return [(0, 0)] * len(spans)
    if any(s != 1 for s in strides):
        raise ValueError(f"{name}: padding='same' keeps the size, which a stride of {strides} does not; give ints")
    return [((span - 1) // 2, span - 1 - (span - 1) // 2) for span in spans]


# ---------------------------------------------------------------------------------------------- transposed
def conv_transpose1d(
    x: Any,
    weight: Any,
    bias: Any = None,
    stride: IntOrInts = 1,
    padding: IntOrInts = 0,
    output_padding: IntOrInts = 0,
    groups: int = 1,
    dilation: IntOrInts = 1,
) -> Array:
    """Transposed convolution over one axis: the gradient of `conv1d` with respect to its input, as an operation.

    Arguments:
        x: float [N, in, L], or [in, L] without a batch.
        weight: float [in, out / groups, k].
        bias: float [out] or None.
        stride: how far the kernel moves in the result for each element of x.
        padding: what is cut off from the result at both ends.
        output_padding: what is added to the result at the end; less than the stride or the dilation.
        groups: channels are split into so many groups.
        dilation: distance of the kernel's elements.

    Returns:
        [N, out, (L - 1) stride - 2 padding + dilation (k - 1) + output_padding + 1].

    Raises:
        ShapeError: shapes, channels or groups do not fit, or the result would be empty.
        DTypeError: an operand is not floating point, or their dtypes differ.
        ValueError: a number out of its range.
    """
    return _conv_transpose("conv_transpose1d", 1, x, weight, bias, stride, padding, output_padding, groups, dilation)


def conv_transpose2d(
    x: Any,
    weight: Any,
    bias: Any = None,
    stride: IntOrInts = 1,
    padding: IntOrInts = 0,
    output_padding: IntOrInts = 0,
    groups: int = 1,
    dilation: IntOrInts = 1,
) -> Array:
    """Transposed convolution of x [N, in, H, W] or [in, H, W] with weight [in, out / groups, kh, kw].

    See `conv_transpose1d`; numbers are ints, or pairs (vertical, horizontal).
    """
    return _conv_transpose("conv_transpose2d", 2, x, weight, bias, stride, padding, output_padding, groups, dilation)


def conv_transpose3d(
    x: Any,
    weight: Any,
    bias: Any = None,
    stride: IntOrInts = 1,
    padding: IntOrInts = 0,
    output_padding: IntOrInts = 0,
    groups: int = 1,
    dilation: IntOrInts = 1,
) -> Array:
    """Transposed convolution of x [N, in, D, H, W] or [in, D, H, W] with weight [in, out / groups, kd, kh, kw].

    See `conv_transpose1d`; numbers are ints, or one for each of the three axes.
    """
    return _conv_transpose("conv_transpose3d", 3, x, weight, bias, stride, padding, output_padding, groups, dilation)


def _conv_transpose(
    name: str,
    spatial: int,
    x: Any,
    weight: Any,
    bias: Any,
    stride: Any,
    padding: Any,
    output_padding: Any,
    groups: Any,
    dilation: Any,
) -> Array:
    x, weight, bias, groups = _operands(name, spatial, x, weight, bias, groups)
    x, unbatched = with_batch(name, x, spatial)
    strides = per_axis(name, "stride", stride, spatial, least=1)
    cuts = per_axis(name, "padding", padding, spatial, least=0)
    extra = per_axis(name, "output_padding", output_padding, spatial, least=0)
    gaps = per_axis(name, "dilation", dilation, spatial, least=1)
    channels, per_group, *kernel = weight.shape
    if x.shape[1] != channels or channels % groups:
        raise ShapeError(
            f"{name}: weight {weight.aval} takes {channels} input channels, which must be those of x and a multiple of "
            f"groups={groups}; got x {x.aval}. The layout is [N, C, ...] and [in, out / groups, ...]"
        )
    _check_bias(name, bias, per_group * groups, weight)
    for e, s, d in zip(extra, strides, gaps, strict=True):
        if e >= max(s, d):
            raise ValueError(f"{name}: output_padding {extra} must be less than stride {strides} or dilation {gaps}")
    spans = [d * (k - 1) for k, d in zip(kernel, gaps, strict=True)]
    sizes = [
        (n - 1) * s - 2 * p + span + e + 1
        for n, s, p, span, e in zip(x.shape[2:], strides, cuts, spans, extra, strict=True)
    ]
    if 0 in kernel or 0 in x.shape[2:] or any(size < 1 for size in sizes):
        raise ShapeError(
            f"{name}: the result would have spatial sizes {tuple(sizes)}; got x {x.aval}, weight {weight.aval}, "
            f"stride={strides}, padding={cuts}, output_padding={extra}, dilation={gaps}"
        )
    pads = [(span - p, span - p + e) for span, p, e in zip(spans, cuts, extra, strict=True)]
    kernel_array = lax.rev(_groups_to_outputs(weight, groups), tuple(range(2, weight.ndim)))
    y = lax.conv_general_dilated(
        x, kernel_array, (1,) * spatial, pads, strides, gaps, _IN_OUT[spatial], feature_group_count=groups
    )
    return _finish(y, bias, unbatched)


def _groups_to_outputs(weight: Array, groups: int) -> Array:
    """[groups in, out, ...] as [in, groups out, ...]: how `conv_general_dilated` wants a grouped kernel."""
    if groups == 1:
        return weight
    channels, per_group, *kernel = weight.shape
    split = weight.reshape(groups, channels // groups, per_group, *kernel)
    return split.swapaxes(0, 1).reshape(channels // groups, groups * per_group, *kernel)


# ---------------------------------------------------------------------------------------------- shared
def _operands(
    name: str, spatial: int, x: Any, weight: Any, bias: Any, groups: Any
) -> tuple[Array, Array, Array | None, int]:
    x, weight = float_array(name, "x", x), float_array(name, "weight", weight)
    bias = None if bias is None else float_array(name, "bias", bias)
    same_dtype(name, x=x, weight=weight, bias=bias)
    if weight.ndim != spatial + 2:
        raise ShapeError(
            f"{name}: weight must have {spatial + 2} axes, two of channels and {spatial} of space; got {weight.aval}"
        )
    return x, weight, bias, static_int(name, "groups", groups, least=1)


def _check_bias(name: str, bias: Array | None, channels: int, weight: Array) -> None:
    if bias is not None and bias.shape != (channels,):
        raise ShapeError(
            f"{name}: bias must be [{channels}], one number an output channel of weight {weight.aval}; got {bias.aval}"
        )


def _finish(y: Array, bias: Array | None, unbatched: bool) -> Array:
    if bias is not None:
        y = y + bias.reshape(bias.size, *(1,) * (y.ndim - 2))
    return y[0] if unbatched else y
