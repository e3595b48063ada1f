"""sort and top_k. They are differentiated by moving the tangents as the elements moved."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any

import numpy as np

from asgfn.errors import AxisError, ShapeError
from asgfn.graph.types import ArrayType
from asgfn.primitives.base import (
    REAL,
    Primitive,
    Zero,
    batch_size,
    bdim_at_front,
    check_dtype,
    is_zero,
    tangent_type,
)
from asgfn.primitives.elementwise import neg
from asgfn.primitives.gather import GatherDimensionNumbers, gather
from asgfn.primitives.shaping import broadcasted_iota, canonical_axis, expand_dims
from asgfn.tracing import Array, as_array, bind


def _take_along(x: Any, index: Any, axis: int) -> Any:
    """x[..., index[...], ...] along one axis; all other axes run in step."""
    others = tuple(d for d in range(x.ndim) if d != axis)
    numbers = GatherDimensionNumbers(
        offset_dims=(),
        collapsed_slice_dims=(axis,),
        start_index_map=(axis,),
        operand_batching_dims=others,
        start_indices_batching_dims=others,
    )
    return gather(x, expand_dims(index, (index.ndim,)), numbers, (1,) * x.ndim, unique_indices=True)


def _moved(tangents: Sequence[Any], outs: Sequence[Any], index: Any, axis: int) -> tuple:
    """Tangents at the places that `index` says."""
    return tuple(
        Zero(tangent_type(out.aval)) if is_zero(t) else _take_along(t, index, axis)
        for t, out in zip(tangents, outs, strict=True)
    )


# ---------------------------------------------------------------------------------------------- sort
def _sort_type(*operands: ArrayType, dimension: int, is_stable: bool, num_keys: int) -> tuple[ArrayType, ...]:
    if len({t.shape for t in operands}) > 1:
        raise ShapeError(f"sort: operands must have one shape, got {', '.join(map(str, operands))}")
    if not 0 <= dimension < operands[0].ndim:
        raise AxisError(f"sort: dimension {dimension} is out of bounds for {operands[0]}")
    if not 1 <= num_keys <= len(operands):
        raise ShapeError(f"sort: num_keys={num_keys} must be between 1 and the number of operands, {len(operands)}")
    return operands


def _sort_jvp(primals: Sequence[Any], tangents: Sequence[Any], **params: Any) -> tuple:
    axis = params["dimension"]
    start = broadcasted_iota(np.int32, primals[0].shape, axis)
    *outs, index = bind(sort_p, *primals, start, **params)
    return tuple(outs), _moved(tangents, outs, index, axis)


def _sort_batch(args: Sequence[Any], dims: Sequence[int | None], *, dimension: int, **params: Any) -> tuple:
    d = dims[0]
    if d is not None and len(set(dims)) == 1:
        return bind(sort_p, *args, dimension=dimension + (dimension >= d), **params), tuple(dims)
    size = batch_size(args, dims)
    moved = [bdim_at_front(x, d, size) for x, d in zip(args, dims, strict=True)]
    return bind(sort_p, *moved, dimension=dimension + 1, **params), (0,) * len(args)


sort_p = Primitive(
    "sort",
    category="sort",
    type_rule=_sort_type,
    jvp=_sort_jvp,
    batch=_sort_batch,
    multiple_results=True,
    what="Puts elements in ascending order along one axis; further arrays are reordered in the same way.",
    formula="y[0] <= y[1] <= ...",
    why="Ranking, medians and quantiles, grouping equal keys.",
)


def sort(operand: Any, dimension: int = -1, is_stable: bool = True, num_keys: int = 1) -> Any:
    """Sorts along one axis, ascending (StableHLO sort).

    Arguments:
        operand: an array, or a sequence of arrays of one shape. The first `num_keys` are compared, in that order; all
            are reordered. NaN comes last, -0.0 equals 0.0, complex numbers compare by real, then by imaginary part.
        dimension: the axis.
        is_stable: whether equal keys keep their order.
        num_keys: how many arrays are keys.

    Returns:
        An array, or a tuple of arrays if `operand` is a sequence.

    Raises:
        ShapeError: shapes differ, there is no array, or `num_keys` is not between 1 and their number.
        AxisError: there is no such axis.
    """
    many = isinstance(operand, (tuple, list))
    arrays = [as_array(x, "sort") for x in (operand if many else [operand])]
    if not arrays:
        raise ShapeError("sort needs at least one array, got an empty sequence")
    outs = bind(
        sort_p,
        *arrays,
        dimension=canonical_axis(dimension, arrays[0].ndim, "sort"),
        is_stable=bool(is_stable),
        num_keys=operator.index(num_keys),
    )
    return tuple(outs) if many else outs[0]


def sort_key_val(keys: Any, values: Any, dimension: int = -1, is_stable: bool = True) -> tuple[Array, Array]:
    """Sorts `keys` along one axis and reorders `values` in the same way."""
    return sort((keys, values), dimension, is_stable)


# ---------------------------------------------------------------------------------------------- top_k
def _top_k_type(x: ArrayType, *, k: int, axis: int) -> tuple[ArrayType, ArrayType]:
    check_dtype("top_k", x.dtype, ("bool", *REAL))
    if not 0 <= axis < x.ndim:
        raise AxisError(f"top_k: axis {axis} is out of bounds for {x}; it needs an array with at least one axis")
    if not 0 <= k <= x.shape[axis]:
        raise ShapeError(f"top_k: k={k} must be between 0 and the length of axis {axis} of {x}, {x.shape[axis]}")
    shape = (*x.shape[:axis], k, *x.shape[axis + 1 :])
    return ArrayType(shape, x.dtype, x.weak_type), ArrayType(shape, np.int32)


def _top_k_jvp(primals: Sequence[Any], tangents: Sequence[Any], *, k: int, axis: int) -> tuple:
    values, index = bind(top_k_p, primals[0], k=k, axis=axis)
    return (values, index), (_take_along(tangents[0], index, axis), Zero(tangent_type(index.aval)))


def _top_k_batch(args: Sequence[Any], dims: Sequence[int], *, k: int, axis: int) -> tuple:
    (x,), (d,) = args, dims
    return bind(top_k_p, x, k=k, axis=axis + (axis >= d)), (d, d)


top_k_p = Primitive(
    "top_k",
    category="sort",
    type_rule=_top_k_type,
    jvp=_top_k_jvp,
    batch=_top_k_batch,
    multiple_results=True,
    what="The k largest elements along one axis, in descending order, and where they are.",
    formula="values[0] >= values[1] >= ...;  values[i] = x[index[i]]",
    why="Beam search, top-k accuracy, routing to experts.",
)


def top_k(operand: Any, k: int, *, axis: int = -1) -> tuple[Array, Array]:
    """The `k` largest elements along `axis`, descending, and their positions (int32).

    Of equal elements the earlier comes first. Floats are in total order: -nan, -inf, ..., -0.0, 0.0, ..., inf, nan.

    Raises:
        ShapeError: `k` is negative or larger than the axis.
        AxisError: there is no such axis.
        DTypeError: the operand is complex.
    """
    x = as_array(operand, "top_k")
    return bind(top_k_p, x, k=operator.index(k), axis=canonical_axis(axis, x.ndim, "top_k"))


def approx_max_k(
    operand: Any,
    k: int,
    reduction_dimension: int = -1,
    recall_target: float = 0.95,
    reduction_input_size_override: int = -1,
    aggregate_to_topk: bool = True,
) -> tuple[Array, Array]:
    """The `k` largest elements along one axis, descending, and their positions (int32): `top_k` under another name.

    The options are those of a hardware-specific approximate search. Here the search is exact, so its recall is 1 and they
    make no difference.

    Raises:
        DTypeError: the operand is not floating point.
        ShapeError, AxisError: as `top_k`.
    """
    x = as_array(operand, "approx_max_k")
    check_dtype("approx_max_k", x.dtype, ("float",))
    return top_k(x, k, axis=reduction_dimension)


def approx_min_k(
    operand: Any,
    k: int,
    reduction_dimension: int = -1,
    recall_target: float = 0.95,
    reduction_input_size_override: int = -1,
    aggregate_to_topk: bool = True,
) -> tuple[Array, Array]:
    """The `k` least elements along one axis, ascending, and their positions (int32). See `approx_max_k`."""
    x = as_array(operand, "approx_min_k")
    check_dtype("approx_min_k", x.dtype, ("float",))
    values, index = top_k(neg(x), k, axis=reduction_dimension)
    return neg(values), index


__all__ = ["approx_max_k", "approx_min_k", "sort", "sort_key_val", "top_k"]
