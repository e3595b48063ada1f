"""`pad`, `concatenate`, `rev`: arrays put into larger ones, and turned around.

All are linear. The transpose of `pad` and of `concatenate` cuts out again what was put in.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from asgfn.errors import AxisError, DTypeError, ShapeError
from asgfn.graph import ArrayType
from asgfn.primitives import elementwise as ew
from asgfn.primitives import shaping
from asgfn.primitives.base import Primitive, batch_size, bdim_at_front, is_linear, linear_jvp, primitive
from asgfn.primitives.static_arguments import as_operand_of, check_one_per_axis, static_int, static_ints
from asgfn.tracing import Array, as_array

# -------------------------------------------------------------------------------------------------------------- pad


def _pad_type(operand: ArrayType, padding_value: ArrayType, *, padding_config) -> ArrayType:
    if padding_value.ndim:
        raise ShapeError(f"pad: padding_value must be a scalar, got {padding_value}")
    if padding_value.dtype != operand.dtype:
        raise DTypeError(f"pad: operand {operand} and padding_value {padding_value} must have one dtype")
    check_one_per_axis("pad", operand, padding_config=padding_config)
    shape = []
    for axis, ((low, high, interior), size) in enumerate(zip(padding_config, operand.shape, strict=True)):
        if interior < 0:
            raise ShapeError(f"pad: the interior padding of axis {axis} is {interior}, but it must not be negative")
        shape.append(low + high + size + max(0, size - 1) * interior)
        if shape[-1] < 0:
            raise ShapeError(
                f"pad: padding {(low, high, interior)} would leave axis {axis} of the operand {operand} with size "
                f"{shape[-1]}; negative padding may remove at most what is there"
            )
    return operand.update(shape=tuple(shape))


def _padded_places(shape, config):
    """bool: True where `pad` puts the padding value."""
    return pad_p.bind(shaping.full(shape, False, np.bool_), np.asarray(True), padding_config=config)


def _pad_transpose(ct, operand, padding_value, *, padding_config):
    operand_ct = value_ct = None
    if is_linear(operand):
        unpad = tuple((-low, -high, 0) for low, high, _ in padding_config)
        operand_ct = pad_p.bind(ct, np.zeros((), ct.dtype), padding_config=unpad)
        if any(interior for _, _, interior in padding_config):
            operand_ct = primitive("slice").bind(
                operand_ct,
                start_indices=(0,) * ct.ndim,
                limit_indices=operand_ct.shape,
                strides=tuple(interior + 1 for _, _, interior in padding_config),
            )
    if is_linear(padding_value):
        # Adding up the padded places only: the whole sum minus the operand's share would cancel.
        outside = ew.select(_padded_places(operand.shape, padding_config), ct, np.zeros((), ct.dtype))
        value_ct = shaping.reduce_sum(outside, tuple(range(ct.ndim)))
    return [operand_ct, value_ct]


def _pad_batch(args, dims, *, padding_config):
    (operand, value), (dim, value_dim) = args, dims
    if value_dim is None:
        config = (*padding_config[:dim], (0, 0, 0), *padding_config[dim:])
        return pad_p.bind(operand, value, padding_config=config), dim
    size = value.shape[value_dim]
    operand = bdim_at_front(operand, dim, size)
    config = ((0, 0, 0), *padding_config)
    padded = pad_p.bind(operand, np.zeros((), operand.dtype), padding_config=config)
    places = _padded_places(operand.shape, config)
    return ew.select(places, shaping.broadcast_in_dim(value, padded.shape, (0,)), padded), 0


pad_p = Primitive(
    "pad",
    category="indexing",
    type_rule=_pad_type,
    jvp=linear_jvp("pad"),
    transpose=_pad_transpose,
    batch=_pad_batch,
    what="surrounds an array with a value, and can put it between elements; negative amounts cut off",
    formula="y[low + i * (interior + 1)] = x[i], the padding value elsewhere",
    why="borders for convolutions and windows, sequences brought to one length, the gradient of slicing",
)


def pad(operand: Any, padding_value: Any, padding_config: Sequence[tuple[int, int, int]]) -> Array:
    """Pads each axis at its low end, at its high end and between its elements.

    Arguments:
        operand: array of rank n.
        padding_value: scalar of the operand's dtype (a Python scalar takes that dtype).
        padding_config: n triples (low, high, interior) of static ints; low and high may be negative, which removes
            elements after the interior padding was put in.

    Returns:
        Array whose axis i has low + high + size + max(0, size - 1) * interior elements.

    Raises:
        ShapeError, DTypeError: sizes that would be negative, or dtypes that differ.
    """
    operand = as_array(operand)
    config = tuple(static_ints("pad", "padding_config", triple) for triple in padding_config)
    if any(len(triple) != 3 for triple in config):
        raise ShapeError(
            f"pad: padding_config must be a (low, high, interior) triple for each axis, got {padding_config}"
        )
    return pad_p.bind(operand, as_operand_of(padding_value, operand.dtype), padding_config=config)


# ------------------------------------------------------------------------------------------------------ concatenate


def _concatenate_type(*operands: ArrayType, dimension) -> ArrayType:
    first = operands[0]
    listed = ", ".join(map(str, operands[:8])) + (", ..." if len(operands) > 8 else "")
    if not 0 <= dimension < first.ndim:
        raise AxisError(f"concatenate: dimension {dimension} is out of range for operands {listed}")
    for other in operands[1:]:
        if other.dtype != first.dtype:
            raise DTypeError(
                f"concatenate: operands must have one dtype, got {listed}; convert them with astype, or use "
                "jnp.concatenate, which promotes"
            )
        if other.ndim != first.ndim or any(
            a != b for axis, (a, b) in enumerate(zip(first.shape, other.shape, strict=True)) if axis != dimension
        ):
            raise ShapeError(
                f"concatenate: operands must have equal shapes except on dimension {dimension}, got {listed}"
            )
    shape = list(first.shape)
    shape[dimension] = sum(t.shape[dimension] for t in operands)
    return ArrayType(shape, first.dtype, all(t.weak_type for t in operands))


def _concatenate_transpose(ct, *operands, dimension):
    cts, end = [], 0
    for operand in operands:
        begin, end = end, end + operand.shape[dimension]
        if is_linear(operand):
            starts = tuple(begin if axis == dimension else 0 for axis in range(ct.ndim))
            limits = tuple(end if axis == dimension else size for axis, size in enumerate(ct.shape))
            cts.append(primitive("slice").bind(ct, start_indices=starts, limit_indices=limits, strides=None))
        else:
            cts.append(None)
    return cts


def _concatenate_batch(args, dims, *, dimension):
    size = batch_size(args, dims)
    operands = [bdim_at_front(x, d, size) for x, d in zip(args, dims, strict=True)]
    return concatenate_p.bind(*operands, dimension=dimension + 1), 0


concatenate_p = Primitive(
    "concatenate",
    category="indexing",
    type_rule=_concatenate_type,
    jvp=linear_jvp("concatenate"),
    transpose=_concatenate_transpose,
    batch=_concatenate_batch,
    what="joins arrays end to end along one axis",
    formula="y = [x0, x1, ...]",
    why="features from several sources side by side, states of a recurrent cell, pieces put together again",
)


def concatenate(operands: Sequence[Any], dimension: int) -> Array:
    """Joins arrays along `dimension` (static; all other sizes and the dtypes must be equal).

    Raises:
        ShapeError, DTypeError, AxisError: operands that do not fit, or none at all.
    """
    operands = [as_array(x) for x in operands]
    if not operands:
        raise ShapeError("concatenate: needs at least one operand")
    dimension = static_int("concatenate", "dimension", dimension)
    if len(operands) == 1 and 0 <= dimension < operands[0].ndim:
        return operands[0]
    return concatenate_p.bind(*operands, dimension=dimension)


# -------------------------------------------------------------------------------------------------------------- rev


def _rev_type(operand: ArrayType, *, dimensions) -> ArrayType:
    if len(set(dimensions)) != len(dimensions):
        raise AxisError(f"rev: dimensions must be distinct, got {dimensions}")
    if any(not 0 <= d < operand.ndim for d in dimensions):
        raise AxisError(f"rev: dimensions {dimensions} are out of range for the operand {operand}")
    return operand


def _rev_transpose(ct, operand, *, dimensions):
    return [rev_p.bind(ct, dimensions=dimensions)]


def _rev_batch(args, dims, *, dimensions):
    (operand,), (dim,) = args, dims
    return rev_p.bind(operand, dimensions=tuple(d + (d >= dim) for d in dimensions)), dim


rev_p = Primitive(
    "rev",
    category="indexing",
    type_rule=_rev_type,
    jvp=linear_jvp("rev"),
    transpose=_rev_transpose,
    batch=_rev_batch,
    what="reverses the order of elements along some axes",
    formula="y[i] = x[size - 1 - i]",
    why="x[::-1], flips for data augmentation, turning a correlation into a convolution",
)


def rev(operand: Any, dimensions: Sequence[int]) -> Array:
    """`operand` with the given axes (static, non-negative, distinct) reversed."""
    return rev_p.bind(operand, dimensions=static_ints("rev", "dimensions", dimensions))
