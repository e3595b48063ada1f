"""How convolutions are differentiated and batched: by convolutions.

The gradient with respect to lhs has the strides of the forward convolution for its lhs_dilation, and the kernel
reversed. The gradient with respect to rhs contracts over the batch, with the strides for its rhs_dilation. See Dumoulin
and Visin, "A guide to convolution arithmetic for deep learning" (2016).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from asgfn.primitives.base import Zero, add_tangents, is_linear, is_zero, move_batch_axis, primitive, tangent_type
from asgfn.primitives.conv_layouts import ConvDimensionNumbers, Spec, spatial_sizes
from asgfn.primitives.padding import rev
from asgfn.primitives.shaping import convert_element_type, reshape
from asgfn.primitives.window_geometry import dilated
from asgfn.tracing import bind


# ---------------------------------------------------------------------------------------------- differentiation
def jvp(primals: Sequence[Any], tangents: Sequence[Any], **params: Any) -> tuple:
    (lhs, rhs), (lhs_tangent, rhs_tangent) = primals, tangents
    out = bind(primitive("conv_general_dilated"), lhs, rhs, **params)
    total: Any = Zero(tangent_type(out.aval))
    if not is_zero(lhs_tangent):
        total = bind(primitive("conv_general_dilated"), lhs_tangent, rhs, **params)
    if not is_zero(rhs_tangent):
        total = add_tangents(total, bind(primitive("conv_general_dilated"), lhs, rhs_tangent, **params))
    return out, total


def transpose(ct: Any, lhs: Any, rhs: Any, **params: Any) -> list:
    if is_linear(lhs):
        return [convert_element_type(_lhs_cotangent(ct, lhs, rhs, **params), lhs.dtype), None]
    return [None, convert_element_type(_rhs_cotangent(ct, lhs, rhs, **params), rhs.dtype)]


def _swapped(spec: Spec) -> Spec:
    return (spec[1], spec[0], *spec[2:])


def _lhs_cotangent(
    ct: Any, lhs: Any, rhs: Any, *,
    window_strides, padding, lhs_dilation, rhs_dilation, dimension_numbers, feature_group_count, batch_group_count,
    precision, preferred_element_type,
) -> Any:  # fmt: skip
    lhs_spec, rhs_spec, out_spec = dimension_numbers
    groups = feature_group_count * batch_group_count
    # (groups * o, i) of the kernel becomes (groups * i, o): output features and input features change places
    split = _split_axis(rhs, rhs_spec[0], groups)
    in_axis = rhs_spec[1] + (rhs_spec[1] > rhs_spec[0])
    kernel = _merge_axis(split, rhs_spec[0], in_axis)
    kernel = rev(kernel, rhs_spec[2:])
    pads = []
    for size, window, out, stride, (low, _), spread, gap in zip(
        spatial_sizes(lhs, lhs_spec), spatial_sizes(rhs, rhs_spec), spatial_sizes(ct, out_spec),
        window_strides, padding, lhs_dilation, rhs_dilation, strict=True,
    ):  # fmt: skip
        before = dilated(window, gap) - 1 - low
        after = dilated(size, spread) + dilated(window, gap) - 1 - dilated(out, stride) - before
        pads.append((before, after))
    result = bind(
        primitive("conv_general_dilated"),
        ct,
        convert_element_type(kernel, ct.dtype),
        window_strides=lhs_dilation,
        padding=tuple(pads),
        lhs_dilation=window_strides,
        rhs_dilation=rhs_dilation,
        dimension_numbers=ConvDimensionNumbers(out_spec, _swapped(rhs_spec), lhs_spec),
        feature_group_count=groups,
        batch_group_count=1,
        precision=precision,
        preferred_element_type=None,
    )
    if batch_group_count == 1:
        return result
    # the groups are in the features; they belong into the batch
    split = _split_axis(result, lhs_spec[1], groups)
    batch_axis = lhs_spec[0] + (lhs_spec[0] > lhs_spec[1])
    return _merge_axis(split, lhs_spec[1], batch_axis)


def _rhs_cotangent(
    ct: Any, lhs: Any, rhs: Any, *,
    window_strides, padding, lhs_dilation, rhs_dilation, dimension_numbers, feature_group_count, batch_group_count,
    precision, preferred_element_type,
) -> Any:  # fmt: skip
    lhs_spec, rhs_spec, out_spec = dimension_numbers
    pads = []
    for size, window, out, stride, (low, _), spread, gap in zip(
        spatial_sizes(lhs, lhs_spec), spatial_sizes(rhs, rhs_spec), spatial_sizes(ct, out_spec),
        window_strides, padding, lhs_dilation, rhs_dilation, strict=True,
    ):  # fmt: skip
        pads.append((low, dilated(out, stride) + dilated(window, gap) - 1 - dilated(size, spread) - low))
    return bind(
        primitive("conv_general_dilated"),
        convert_element_type(lhs, ct.dtype),
        ct,
        window_strides=rhs_dilation,
        padding=tuple(pads),
        lhs_dilation=lhs_dilation,
        rhs_dilation=window_strides,
        dimension_numbers=ConvDimensionNumbers(_swapped(lhs_spec), _swapped(out_spec), _swapped(rhs_spec)),
        feature_group_count=batch_group_count,
        batch_group_count=feature_group_count,
        precision=precision if precision is None else precision[::-1],
        preferred_element_type=None,
    )


# ---------------------------------------------------------------------------------------------- batching
def _split_axis(x: Any, axis: int, major: int) -> Any:
    """Axis `axis` becomes two: one of length `major` in its place, and the rest after it."""
    size = x.shape[axis]
    return reshape(x, (*x.shape[:axis], major, size // major, *x.shape[axis + 1 :]))


def _merge_axis(x: Any, source: int, target: int) -> Any:
    """Axis `source` becomes the major part of axis `target`."""
    target -= target > source
    x = move_batch_axis(x, source, target)
    return reshape(x, (*x.shape[:target], x.shape[target] * x.shape[target + 1], *x.shape[target + 2 :]))


def _insert(x: Any, dim: int, axis: int, groups: int) -> Any:
    """Merges the batch axis `dim` into `axis` (counted without it), whose order becomes (groups, batch, rest)."""
    x = move_batch_axis(x, dim, 0)
    x = _split_axis(x, axis + 1, groups)
    x = _merge_axis(x, 0, axis + 2)
    return _merge_axis(x, axis, axis + 1)


def _extract(x: Any, axis: int, groups: int, size: int) -> Any:
    """Undoes `_insert`: the batch axis comes out in front."""
    x = _split_axis(x, axis, groups)
    x = _split_axis(x, axis + 1, size)
    x = move_batch_axis(x, axis + 1, 0)
    return _merge_axis(x, axis + 1, axis + 2)


def batch(
    args: Sequence[Any],
    dims: Sequence[Any],
    *,
    dimension_numbers: ConvDimensionNumbers,
    feature_group_count: int,
    batch_group_count: int,
    **params: Any,
) -> tuple:
    """A batch of inputs joins the batch; a batch of kernels joins the output features; a batch of both makes groups."""
    (lhs, rhs), (lhs_dim, rhs_dim) = args, dims
    lhs_spec, rhs_spec, out_spec = dimension_numbers
    groups = feature_group_count * batch_group_count
    if rhs_dim is None:
        size = lhs.shape[lhs_dim]
        lhs = _insert(lhs, lhs_dim, lhs_spec[0], batch_group_count)
        place = (out_spec[0], 1)
    elif lhs_dim is None:
        size = rhs.shape[rhs_dim]
        rhs = _insert(rhs, rhs_dim, rhs_spec[0], groups)
        place = (out_spec[1], groups)
    else:
        size = lhs.shape[lhs_dim]
        lhs = _insert(lhs, lhs_dim, lhs_spec[0 if batch_group_count > 1 else 1], 1)
        rhs = _insert(rhs, rhs_dim, rhs_spec[0], 1)
        place = (out_spec[1], 1)
        if batch_group_count > 1:
            batch_group_count *= size
        else:
            feature_group_count *= size
    out = bind(
        primitive("conv_general_dilated"),
        lhs,
        rhs,
        dimension_numbers=dimension_numbers,
        feature_group_count=feature_group_count,
        batch_group_count=batch_group_count,
        **params,
    )
    return _extract(out, *place, size), 0
