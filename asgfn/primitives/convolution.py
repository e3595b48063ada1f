"""conv_general_dilated: convolution (cross-correlation) with strides, dilations, groups and any layout."""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence
from typing import Any

import numpy as np

from asgfn.errors import DTypeError, ShapeError
from asgfn.graph.types import ArrayType
from asgfn.primitives import conv_rules
from asgfn.primitives.base import Primitive
from asgfn.primitives.conv_layouts import ConvDimensionNumbers as ConvDimensionNumbers
from asgfn.primitives.conv_layouts import Spec, spatial_sizes
from asgfn.primitives.conv_layouts import conv_dimension_numbers as conv_dimension_numbers
from asgfn.primitives.conv_layouts import conv_general_permutations as conv_general_permutations
from asgfn.primitives.dot import canonical_element_type, canonical_precision, dot_general, product_dtype
from asgfn.primitives.padding import rev
from asgfn.primitives.shaping import transpose
from asgfn.primitives.window_geometry import dilated, padding_pairs, per_axis, positions
from asgfn.tracing import Array, as_array, bind


def _type_rule(
    lhs: ArrayType,
    rhs: ArrayType,
    *,
    window_strides: Spec,
    padding: tuple[tuple[int, int], ...],
    lhs_dilation: Spec,
    rhs_dilation: Spec,
    dimension_numbers: ConvDimensionNumbers,
    feature_group_count: int,
    batch_group_count: int,
    precision: Any,
    preferred_element_type: Any,
) -> ArrayType:
    lhs_spec, rhs_spec, out_spec = dimension_numbers
    batch, features, *space = (lhs.shape[d] for d in lhs_spec)
    out_features, in_features, *window = (rhs.shape[d] for d in rhs_spec)
    shown = f"conv_general_dilated of {lhs} with kernel {rhs} (axes: {dimension_numbers})"
    if lhs.dtype != rhs.dtype:
        raise DTypeError(f"{shown}: the operands must have one dtype; convert one of them (x.astype(...))")
    if feature_group_count > 1 and batch_group_count > 1:
        raise ShapeError(f"{shown}: only one of {feature_group_count=} and {batch_group_count=} may exceed 1")
    if features != in_features * feature_group_count:
        raise ShapeError(
            f"{shown}: the input has {features} features, but the kernel takes {in_features} in each of "
            f"{feature_group_count} groups; features must equal kernel features times feature_group_count. "
            "Is the layout (dimension_numbers) right?"
        )
    if out_features % (feature_group_count * batch_group_count):
        raise ShapeError(
            f"{shown}: {out_features} output features cannot be split into "
            f"{feature_group_count * batch_group_count} groups"
        )
    if batch % batch_group_count:
        raise ShapeError(f"{shown}: a batch of {batch} cannot be split into {batch_group_count=} groups")
    padded = [dilated(n, d) + low + high for n, d, (low, high) in zip(space, lhs_dilation, padding, strict=True)]
    if any(n < 0 for n in padded):
        raise ShapeError(f"{shown}: {padding=} removes more than the input has (spatial sizes {tuple(space)})")
    windows = [dilated(n, d) for n, d in zip(window, rhs_dilation, strict=True)]
    sizes = [batch // batch_group_count, out_features, *map(positions, padded, windows, window_strides)]
    shape = [0] * len(sizes)
    for axis, size in zip(out_spec, sizes, strict=True):
        shape[axis] = size
    dtype = product_dtype("conv_general_dilated", lhs, rhs, preferred_element_type)
    return ArrayType(shape, dtype, lhs.weak_type and rhs.weak_type and preferred_element_type is None)


conv_general_dilated_p = Primitive(
    "conv_general_dilated",
    category="contraction",
    type_rule=_type_rule,
    jvp=conv_rules.jvp,
    transpose=conv_rules.transpose,
    batch=conv_rules.batch,
    what="Slides a kernel over space and takes its inner product with what lies below, for every output feature.",
    formula="z[n, o, p] = sum over c, k of x[n, c, stride p + dilation k - padding] w[o, c, k]",
    why="Images, sound and grids: local patterns, the same everywhere.",
)


# ---------------------------------------------------------------------------------------------- user functions
def conv_general_dilated(
    lhs: Any,
    rhs: Any,
    window_strides: Sequence[int],
    padding: Any,
    lhs_dilation: Sequence[int] | None = None,
    rhs_dilation: Sequence[int] | None = None,
    dimension_numbers: Any = None,
    feature_group_count: int = 1,
    batch_group_count: int = 1,
    precision: Any = None,
    preferred_element_type: Any = None,
    **_: Any,
) -> Array:
    """General n-dimensional convolution (StableHLO convolution; the kernel is not flipped).

    Arguments:
        lhs: input of rank n + 2: batch, features, space, in the order that `dimension_numbers` says.
        rhs: kernel of rank n + 2: output features, input features of one group, space.
        window_strides: n steps of the window.
        padding: "SAME", "SAME_LOWER", "VALID", or n pairs (low, high), which may be negative.
        lhs_dilation: n factors; input elements move apart, with zeros in between (transposed convolution).
        rhs_dilation: n factors; kernel elements move apart (atrous convolution).
        dimension_numbers: None for ("NCHW", "OIHW", "NCHW"), three such strings, or `ConvDimensionNumbers`.
        feature_group_count: input and output features are split into so many groups, convolved one by one.
        batch_group_count: the batch and the output features are split into so many groups, convolved one by one.
        precision: None, a `Precision`, its name, or a pair of these.
        preferred_element_type: dtype in which to sum and return.

    Returns:
        Array of rank n + 2.

    Raises:
        ShapeError: sizes, groups or layouts that do not fit.
        DTypeError: operands of different dtypes, or a `preferred_element_type` that is too narrow.
    """
    name = "conv_general_dilated"
    lhs, rhs = as_array(lhs, name), as_array(rhs, name)
    numbers = conv_dimension_numbers(lhs.shape, rhs.shape, dimension_numbers)
    rank = lhs.ndim - 2
    strides = per_axis(name, "window_strides", window_strides, rank)
    spread = per_axis(name, "lhs_dilation", lhs_dilation, rank)
    gaps = per_axis(name, "rhs_dilation", rhs_dilation, rank)
    if isinstance(padding, str) and any(d != 1 for d in spread):
        raise ShapeError(
            f"{name}: padding {padding!r} has no meaning with lhs_dilation={spread}: give (low, high) pairs, "
            "or use conv_transpose"
        )
    for count, value in (("feature_group_count", feature_group_count), ("batch_group_count", batch_group_count)):
        if operator.index(value) < 1:
            raise ShapeError(f"{name}: {count}={value} must be a positive integer")
    windows = [dilated(n, d) for n, d in zip(spatial_sizes(rhs, numbers.rhs_spec), gaps, strict=True)]
    return bind(
        conv_general_dilated_p,
        lhs,
        rhs,
        window_strides=strides,
        padding=padding_pairs(name, padding, spatial_sizes(lhs, numbers.lhs_spec), windows, strides),
        lhs_dilation=spread,
        rhs_dilation=gaps,
        dimension_numbers=numbers,
        feature_group_count=operator.index(feature_group_count),
        batch_group_count=operator.index(batch_group_count),
        precision=canonical_precision(precision),
        preferred_element_type=canonical_element_type(preferred_element_type),
    )


def conv(
    lhs: Any,
    rhs: Any,
    window_strides: Sequence[int],
    padding: Any,
    precision: Any = None,
    preferred_element_type: Any = None,
) -> Array:
    """Convolution of an NCHW input with an OIHW kernel; see `conv_general_dilated`."""
    return conv_general_dilated(
        lhs, rhs, window_strides, padding, precision=precision, preferred_element_type=preferred_element_type
    )


def conv_with_general_padding(
    lhs: Any,
    rhs: Any,
    window_strides: Sequence[int],
    padding: Any,
    lhs_dilation: Sequence[int] | None,
    rhs_dilation: Sequence[int] | None,
    precision: Any = None,
    preferred_element_type: Any = None,
) -> Array:
    """Convolution of an NCHW input with an OIHW kernel, dilated; see `conv_general_dilated`."""
    return conv_general_dilated(
        lhs, rhs, window_strides, padding, lhs_dilation, rhs_dilation,
        precision=precision, preferred_element_type=preferred_element_type,
    )  # fmt: skip


def _transposed_padding(window: int, stride: int, padding: Any) -> tuple[int, int]:
    """The padding of the dilated input that undoes `padding` of the forward convolution."""
    if padding == "VALID":
        return window - 1, window + stride - 2 + max(window - stride, 0) - (window - 1)
    if padding == "SAME":
        total = window + stride - 2
        low = window - 1 if stride > window - 1 else -(-total // 2)
        return low, total - low
    low, high = padding
    return window - 1 - low, window - 1 - high


_CHANNELS_LAST = {
    2: ("NC", "IO", "NC"),
    3: ("NHC", "HIO", "NHC"),
    4: ("NHWC", "HWIO", "NHWC"),
    5: ("NHWDC", "HWDIO", "NHWDC"),
}


def conv_transpose(
    lhs: Any,
    rhs: Any,
    strides: Sequence[int],
    padding: Any,
    rhs_dilation: Sequence[int] | None = None,
    dimension_numbers: Any = None,
    transpose_kernel: bool = False,
    precision: Any = None,
    preferred_element_type: Any = None,
    use_consistent_padding: bool = False,
) -> Array:
    """Transposed ("fractionally strided") convolution, which enlarges space by `strides`.

    Arguments:
        lhs: input of rank n + 2.
        rhs: kernel of rank n + 2.
        strides: n factors by which space grows.
        padding: "SAME" or "VALID", as of the forward convolution; or n pairs (low, high) for the dilated input.
        rhs_dilation: n factors; kernel elements move apart.
        dimension_numbers: None for channels last ("NHWC", "HWIO", "NHWC"), three such strings, or ConvDimensionNumbers.
        transpose_kernel: flips the kernel and swaps its features: the result is the gradient of a forward convolution
            with this kernel, as Keras's Conv2DTranspose computes.
        use_consistent_padding: pairs are those of the forward convolution, too.

    Raises:
        ShapeError: as `conv_general_dilated`.
    """
    name = "conv_transpose"
    lhs, rhs = as_array(lhs, name), as_array(rhs, name)
    if dimension_numbers is None:
        if lhs.ndim not in _CHANNELS_LAST:
            raise ShapeError(f"{name}: there are no default dimension_numbers for rank {lhs.ndim}; pass them")
        dimension_numbers = _CHANNELS_LAST[lhs.ndim]
    numbers = conv_dimension_numbers(lhs.shape, rhs.shape, dimension_numbers)
    rank = lhs.ndim - 2
    strides = per_axis(name, "strides", strides, rank)
    gaps = per_axis(name, "rhs_dilation", rhs_dilation, rank)
    windows = [dilated(n, d) for n, d in zip(spatial_sizes(rhs, numbers.rhs_spec), gaps, strict=True)]
    if isinstance(padding, str):
        if padding not in ("SAME", "VALID"):
            raise ShapeError(f"{name}: padding {padding!r} is not known: use 'SAME', 'VALID' or (low, high) pairs")
        forward: Sequence[Any] = (padding,) * rank
    else:
        forward = padding_pairs(name, padding, windows, windows, strides)
    if isinstance(padding, str) or use_consistent_padding:
        pads = [_transposed_padding(w, s, p) for w, s, p in zip(windows, strides, forward, strict=True)]
    else:
        pads = list(forward)
    if transpose_kernel:
        order = list(range(rhs.ndim))
        a, b = numbers.rhs_spec[:2]
        order[a], order[b] = b, a
        rhs = transpose(rev(rhs, numbers.rhs_spec[2:]), order)
    return conv_general_dilated(
        lhs, rhs, (1,) * rank, pads, strides, gaps, numbers,
        precision=precision, preferred_element_type=preferred_element_type,
    )  # fmt: skip


def conv_general_dilated_patches(
    lhs: Any,
    filter_shape: Sequence[int],
    window_strides: Sequence[int],
    padding: Any,
    lhs_dilation: Sequence[int] | None = None,
    rhs_dilation: Sequence[int] | None = None,
    dimension_numbers: Any = None,
    precision: Any = None,
    preferred_element_type: Any = None,
) -> Array:
    """The windows that a convolution would see, flattened into the feature axis.

    Arguments:
        lhs: input of rank n + 2.
        filter_shape: n lengths of the window.
        others: as of `conv_general_dilated`.

    Returns:
        Array of rank n + 2 whose feature axis has length C * prod(filter_shape), with C the features of `lhs`, the
        feature of `lhs` varying slowest.
    """
    lhs = as_array(lhs, "conv_general_dilated_patches")
    filter_shape = per_axis("conv_general_dilated_patches", "filter_shape", filter_shape, lhs.ndim - 2)
    numbers = conv_dimension_numbers(lhs.shape, (1,) * lhs.ndim, dimension_numbers)
    features, taps = lhs.shape[numbers.lhs_spec[1]], math.prod(filter_shape)
    # one output feature for each tap: the kernel (O, I, *space) has a single 1 in each
    one_hot = np.tile(np.eye(taps, dtype=lhs.dtype), (features, 1)).reshape(features * taps, 1, *filter_shape)
    return conv_general_dilated(
        lhs,
        one_hot.transpose(np.argsort(numbers.rhs_spec)),
        window_strides,
        padding,
        lhs_dilation,
        rhs_dilation,
        numbers,
        feature_group_count=features,
        precision=precision,
        preferred_element_type=preferred_element_type,
    )


def conv_general_dilated_local(
    lhs: Any,
    rhs: Any,
    window_strides: Sequence[int],
    padding: Any,
    filter_shape: Sequence[int],
    lhs_dilation: Sequence[int] | None = None,
    rhs_dilation: Sequence[int] | None = None,
    dimension_numbers: Any = None,
    precision: Any = None,
) -> Array:
    """A convolution whose kernel is another one at every position (a locally connected layer).

    Arguments:
        lhs: input of rank n + 2.
        rhs: kernels of rank n + 2: output features, C * prod(filter_shape) with the C features of `lhs` varying
            slowest, and the n spatial lengths of the result.
        filter_shape: n lengths of the window.
        others: as of `conv_general_dilated`.

    Raises:
        ShapeError: as `conv_general_dilated`, or if `rhs` has other spatial lengths than the result.
    """
    lhs, rhs = as_array(lhs, "conv_general_dilated_local"), as_array(rhs, "conv_general_dilated_local")
    numbers = conv_dimension_numbers(lhs.shape, rhs.shape, dimension_numbers)
    patches = conv_general_dilated_patches(
        lhs, filter_shape, window_strides, padding, lhs_dilation, rhs_dilation, numbers, precision
    )
    _, rhs_spec, out_spec = numbers
    paired = (((out_spec[1],), (rhs_spec[1],)), (out_spec[2:], rhs_spec[2:]))
    product = dot_general(patches, rhs, paired, precision)  # space, batch, output features
    return transpose(product, np.argsort((*out_spec[2:], *out_spec[:2])).tolist())


__all__ = [
    "ConvDimensionNumbers", "conv", "conv_dimension_numbers", "conv_general_dilated", "conv_general_dilated_local",
    "conv_general_dilated_patches", "conv_general_permutations", "conv_transpose", "conv_with_general_padding",
]  # fmt: skip
