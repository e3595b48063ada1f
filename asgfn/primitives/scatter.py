"""`scatter` and its reductions: many small windows written, added, multiplied, ... into an array.

The dimension numbers are those of StableHLO's scatter, with the index vector always on the last axis of the indices.
`scatter_add` is the transpose of `gather`. Several updates of one element are combined in any order; of several
overwriting ones a single one wins, the same one whatever the values are, so that derivatives follow it.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from asgfn.errors import DTypeError, TransformError
from asgfn.graph import ArrayType
from asgfn.primitives import elementwise as ew
from asgfn.primitives import shaping
from asgfn.primitives.base import (
    ANY,
    NUMBER,
    Primitive,
    add_tangents,
    batch_size,
    bdim_at_front,
    check_dtype,
    instantiate_zeros,
    is_linear,
    is_zero,
)
from asgfn.primitives.gather import (
    DimensionChecks,
    GatherDimensionNumbers,
    GatherScatterMode,
    ScatterDimensionNumbers,
    add_one,
    check_index_operand,
    gather,
    window_axes,
)
from asgfn.primitives.segmented import product_of_others
from asgfn.tracing import Array, as_array


def window_sizes(
    operand_shape: tuple[int, ...], updates_shape: tuple[int, ...], numbers: ScatterDimensionNumbers
) -> tuple:
    """The size of the updated windows on each axis of the operand: the `slice_sizes` of the gather that reads them."""
    sizes = [min(size, 1) for size in operand_shape]
    kept = window_axes(len(operand_shape), numbers.inserted_window_dims, numbers.operand_batching_dims)
    for axis, update_axis in zip(kept, numbers.update_window_dims, strict=True):
        sizes[axis] = updates_shape[update_axis]
    for axis in numbers.inserted_window_dims:
        sizes[axis] = 1
    return tuple(sizes)


def _scatter_type(name: str, kinds: Sequence[str] = ANY) -> Callable[..., ArrayType]:
    def rule(
        operand: ArrayType,
        indices: ArrayType,
        updates: ArrayType,
        *,
        dimension_numbers,
        indices_are_sorted,
        unique_indices,
        mode,
    ) -> ArrayType:
        check_index_operand(name, indices)
        check_dtype(name, operand.dtype, kinds)
        if updates.dtype != operand.dtype:
            raise DTypeError(
                f"{name}: operand {operand} and updates {updates} must have one dtype; convert with "
                f"updates.astype({operand.dtype})"
            )
        numbers = dimension_numbers
        checks = DimensionChecks(name, f"operand {operand}, indices {indices}, updates {updates}, {numbers}")
        rank = len(numbers.update_window_dims) + indices.ndim - 1
        checks.require(
            updates.ndim == rank,
            f"the updates have rank {updates.ndim}, but {indices.ndim - 1} position axes and "
            f"{len(numbers.update_window_dims)} window axes make {rank}",
        )
        inserted, batching = numbers.inserted_window_dims, numbers.operand_batching_dims
        checks.axes("update_window_dims", numbers.update_window_dims, rank)
        checks.axes("inserted_window_dims", inserted, operand.ndim)
        index_what = "scatter_indices_batching_dims"
        checks.batching(operand, indices, batching, numbers.scatter_indices_batching_dims, index_what)
        checks.disjoint("inserted_window_dims", inserted, "operand_batching_dims", batching)
        index_map = numbers.scatter_dims_to_operand_dims
        checks.disjoint("scatter_dims_to_operand_dims", index_map, "operand_batching_dims", batching)
        checks.index_map(operand, indices, "scatter_dims_to_operand_dims", index_map)
        kept = window_axes(operand.ndim, inserted, batching)
        checks.require(
            len(kept) == len(numbers.update_window_dims),
            f"the operand has {len(kept)} axes that are neither inserted nor batching, but update_window_dims names "
            f"{len(numbers.update_window_dims)}",
        )
        for axis, update_axis in zip(kept, numbers.update_window_dims, strict=True):
            checks.require(
                updates.shape[update_axis] <= operand.shape[axis],
                f"the window has size {updates.shape[update_axis]} on axis {axis} of the operand, which has {operand.shape[axis]}",
            )
        positions = tuple(size for axis, size in enumerate(updates.shape) if axis not in numbers.update_window_dims)
        checks.require(
            positions == indices.shape[:-1],
            f"the position axes of the updates have sizes {positions}, those of the indices {indices.shape[:-1]}",
        )
        return operand

    return rule


def _scatter_batch(name: str) -> Callable[..., tuple[Any, int]]:
    def rule(args, dims, *, dimension_numbers, indices_are_sorted, unique_indices, mode):
        size = batch_size(args, dims)
        operand, updates = bdim_at_front(args[0], dims[0], size), bdim_at_front(args[2], dims[2], size)
        indices = args[1]
        window, inserted, index_map, batching, index_batching = map(add_one, dimension_numbers)
        if dims[1] is None:  # the batch axis is one more axis of the window
            window, index_batching = (0, *window), dimension_numbers.scatter_indices_batching_dims
        else:  # example k of the indices writes to example k of the operand
            indices = bdim_at_front(indices, dims[1], size)
            batching, index_batching = (0, *batching), (0, *index_batching)
        out = _primitives[name].bind(
            operand,
            indices,
            updates,
            dimension_numbers=ScatterDimensionNumbers(window, inserted, index_map, batching, index_batching),
            indices_are_sorted=indices_are_sorted,
            unique_indices=unique_indices,
            mode=mode,
        )
        return out, 0

    return rule


# ----------------------------------------------------------------------------------------------- pieces of the rules


def read_back(array: Any, indices: Any, updates: Any, params: dict[str, Any], fill_value: Any = 0) -> Any:
    """For each element of the updates, the element of `array` (of the operand's shape) that it goes to.

    A dropped update reads `fill_value`; whatever is made of it is dropped again.
    """
    if not array.size:
        return _zeros(updates, array.dtype)  # nothing to read: all updates are dropped
    numbers = params["dimension_numbers"]
    return gather(
        array,
        indices,
        GatherDimensionNumbers(*numbers),
        window_sizes(array.shape, updates.shape, numbers),
        unique_indices=params["unique_indices"],
        indices_are_sorted=params["indices_are_sorted"],
        mode=params["mode"],
        fill_value=fill_value,
    )


def _added_up(operand: Any, indices: Any, updates: Any, params: dict[str, Any]) -> Any:
    return scatter_add_p.bind(operand, indices, updates, **params)


def _zeros(x: Any, dtype: Any = None) -> Any:
    return shaping.full(x.shape, 0, x.dtype if dtype is None else dtype)


def _keep(condition: Any, x: Any) -> Any:
    """x where the condition holds, else 0."""
    return ew.select(condition, x, np.zeros((), x.dtype))


def _element_numbers(shape: tuple[int, ...], first: int) -> Any:
    """first, first + 1, ... in row-major order."""
    size = int(np.prod(shape, dtype=np.int64))
    dtype = np.dtype(np.int32 if size + first < 2**31 else np.int64)
    count = shaping.iota(dtype, size)
    return shaping.reshape(ew.add(count, np.asarray(first, dtype)) if first else count, shape)


# --------------------------------------------------------------------------------------------------------- overwrite


def _scatter_jvp(primals, tangents, **params):
    operand, indices, updates = primals
    out = scatter_p.bind(operand, indices, updates, **params)
    operand_t, updates_t = tangents[0], tangents[2]
    if params["unique_indices"]:
        if is_zero(updates_t):
            updates_t = _zeros(updates)
        return out, scatter_p.bind(instantiate_zeros(operand_t), indices, updates_t, **params)

    # Where updates overlap, only the winner's tangent counts. Numbering the updates and scattering the numbers tells
    # who won (0: nobody, the operand stays). With the losers masked, adding up is the same as overwriting, and is linear.
    numbers = _element_numbers(updates.shape, 1)
    nobody = np.zeros((), numbers.dtype)
    winners = scatter_p.bind(_zeros(operand, numbers.dtype), indices, numbers, **params)
    if not is_zero(operand_t):
        operand_t = _keep(ew.eq(winners, nobody), operand_t)
    if is_zero(updates_t):
        return out, operand_t
    won = ew.eq(read_back(winners, indices, updates, params), numbers)
    return out, _added_up(instantiate_zeros(operand_t), indices, _keep(won, updates_t), params)


def _scatter_transpose(ct, operand, indices, updates, **params):
    if not params["unique_indices"]:
        raise TransformError(
            "scatter: cannot be transposed unless the indices are known to be unique, because it is not linear in an "
            "update that another one overwrites; pass unique_indices=True if they are (gradients do not need this)"
        )
    operand_ct = scatter_p.bind(ct, indices, _zeros(updates, ct.dtype), **params) if is_linear(operand) else None
    updates_ct = read_back(ct, indices, updates, params) if is_linear(updates) else None
    return [operand_ct, None, updates_ct]


scatter_p = Primitive(
    "scatter",
    category="indexing",
    type_rule=_scatter_type("scatter"),
    jvp=_scatter_jvp,
    transpose=_scatter_transpose,
    batch=_scatter_batch("scatter"),
    what="writes windows into an array at many computed positions",
    formula="y = x;  y[index[b] + o] = u[b, o]",
    why="x.at[rows].set(values), permutations, one-hot and block structures",
)


# -------------------------------------------------------------------------------------------------------------- add


def _scatter_add_jvp(primals, tangents, **params):
    indices = primals[1]
    out = scatter_add_p.bind(*primals, **params)
    if is_zero(tangents[2]):
        return out, tangents[0]
    return out, _added_up(instantiate_zeros(tangents[0]), indices, tangents[2], params)


def _scatter_add_transpose(ct, operand, indices, updates, **params):
    updates_ct = read_back(ct, indices, updates, params) if is_linear(updates) else None
    return [ct if is_linear(operand) else None, None, updates_ct]


scatter_add_p = Primitive(
    "scatter_add",
    category="indexing",
    type_rule=_scatter_type("scatter_add", NUMBER),
    jvp=_scatter_add_jvp,
    transpose=_scatter_add_transpose,
    batch=_scatter_batch("scatter_add"),
    what="adds windows into an array at many computed positions; updates of one element add up",
    formula="y = x;  y[index[b] + o] += u[b, o]",
    why="the gradient of indexing and of embeddings, histograms, sums over segments, messages in graph networks",
)


# ---------------------------------------------------------------------------------------------------------- multiply


def _scatter_mul_jvp(primals, tangents, **params):
    """Product rule: each update's tangent is multiplied by the operand and by the other updates of its element."""
    operand, indices, updates = primals
    operand_t, updates_t = tangents[0], tangents[2]
    out = scatter_mul_p.bind(operand, indices, updates, **params)
    total = None
    if not is_zero(operand_t):
        total = scatter_mul_p.bind(operand_t, indices, updates, **params)
    if not is_zero(updates_t):
        share = ew.mul(updates_t, read_back(operand, indices, updates, params))
        if not params["unique_indices"]:
            places = read_back(_element_numbers(operand.shape, 0), indices, updates, params, fill_value=-1)
            share = ew.mul(share, product_of_others(updates, places))
        total = add_tangents(total, _added_up(_zeros(operand), indices, share, params))
    return out, total


def _scatter_mul_transpose(ct, operand, indices, updates, **params):
    if is_linear(updates) and (is_linear(operand) or not params["unique_indices"]):
        raise TransformError(
            "scatter_mul: it is linear in the updates only if the indices are known to be unique; pass "
            "unique_indices=True if they are (gradients do not need this)"
        )
    if is_linear(updates):
        return [None, None, read_back(ew.mul(ct, operand), indices, updates, params)]
    return [scatter_mul_p.bind(ct, indices, updates, **params), None, None]


scatter_mul_p = Primitive(
    "scatter_mul",
    category="indexing",
    type_rule=_scatter_type("scatter_mul", NUMBER),
    jvp=_scatter_mul_jvp,
    transpose=_scatter_mul_transpose,
    batch=_scatter_batch("scatter_mul"),
    what="multiplies elements of an array by windows at many computed positions; updates of one element multiply",
    formula="y = x;  y[index[b] + o] *= u[b, o]",
    why="x.at[rows].multiply(values), products over segments",
)


# ------------------------------------------------------------------------------------------------------- min and max


def _scatter_extremal_jvp(name: str) -> Callable[..., tuple[Any, Any]]:
    def rule(primals, tangents, **params):
        """The mean of the tangents of all values that attain the result, the operand's own included."""
        operand, indices, updates = primals
        out = _primitives[name].bind(operand, indices, updates, **params)

        def attains(x, result):  # a NaN attains the NaN that it causes
            return ew.bitwise_or(ew.eq(x, result), ew.ne(x, x))

        stays = attains(operand, out)
        wins = attains(updates, read_back(out, indices, updates, params))
        one, zero = np.ones((), operand.dtype), np.zeros((), operand.dtype)
        count = _added_up(ew.select(stays, one, zero), indices, ew.select(wins, one, zero), params)
        operand_t = tangents[0] if is_zero(tangents[0]) else _keep(stays, tangents[0])
        total = operand_t
        if not is_zero(tangents[2]):
            total = _added_up(instantiate_zeros(operand_t), indices, _keep(wins, tangents[2]), params)
        return out, ew.div(total, count)

    return rule


scatter_min_p = Primitive(
    "scatter_min",
    category="indexing",
    type_rule=_scatter_type("scatter_min"),
    jvp=_scatter_extremal_jvp("scatter_min"),
    batch=_scatter_batch("scatter_min"),
    what="takes the minimum of array elements and windows at many computed positions",
    formula="y = x;  y[index[b] + o] = min(y[index[b] + o], u[b, o])",
    why="minima over segments, nearest hits",
)

scatter_max_p = Primitive(
    "scatter_max",
    category="indexing",
    type_rule=_scatter_type("scatter_max"),
    jvp=_scatter_extremal_jvp("scatter_max"),
    batch=_scatter_batch("scatter_max"),
    what="takes the maximum of array elements and windows at many computed positions",
    formula="y = x;  y[index[b] + o] = max(y[index[b] + o], u[b, o])",
    why="maxima over segments, pooling over irregular neighbourhoods",
)

_primitives = {p.name: p for p in (scatter_p, scatter_add_p, scatter_mul_p, scatter_min_p, scatter_max_p)}


# ---------------------------------------------------------------------------------------------------- user functions


def _bind(
    prim: Primitive, operand, scatter_indices, updates, dimension_numbers, indices_are_sorted, unique_indices, mode
):
    return prim.bind(
        operand,
        scatter_indices,
        updates,
        dimension_numbers=ScatterDimensionNumbers(*(tuple(map(operator.index, axes)) for axes in dimension_numbers)),
        indices_are_sorted=bool(indices_are_sorted),
        unique_indices=bool(unique_indices),
        mode=GatherScatterMode.from_any(mode),
    )


def scatter(
    operand: Any,
    scatter_indices: Any,
    updates: Any,
    dimension_numbers: ScatterDimensionNumbers,
    *,
    indices_are_sorted: bool = False,
    unique_indices: bool = False,
    mode: str | GatherScatterMode | None = None,
) -> Array:
    """`operand` with windows at the positions `scatter_indices` overwritten by `updates`.

    Most programs should write ``x.at[i, j].set(values)`` instead.

    Arguments:
        operand: array of rank n.
        scatter_indices: integers [..., k]; the last axis is a vector that positions k axes of the operand.
        updates: array of the operand's dtype: the leading axes of the indices, with the window's axes at
            `update_window_dims`.
        dimension_numbers: how the axes correspond.
        indices_are_sorted, unique_indices: promises (positions ascend; windows do not overlap) that make it faster.
        mode: a `GatherScatterMode` or its name; None means FILL_OR_DROP.

    Returns:
        Array of the operand's shape and dtype. Where windows overlap, one of them wins.

    Raises:
        ShapeError, DTypeError: dimension numbers that contradict the shapes, or dtypes that differ.
    """
    return _bind(
        scatter_p, operand, scatter_indices, updates, dimension_numbers, indices_are_sorted, unique_indices, mode
    )


def scatter_add(
    operand: Any,
    scatter_indices: Any,
    updates: Any,
    dimension_numbers: ScatterDimensionNumbers,
    *,
    indices_are_sorted: bool = False,
    unique_indices: bool = False,
    mode: str | GatherScatterMode | None = None,
) -> Array:
    """`scatter` that adds the updates; overlapping windows add up. Arguments as in `scatter`."""
    return _bind(
        scatter_add_p, operand, scatter_indices, updates, dimension_numbers, indices_are_sorted, unique_indices, mode
    )


def scatter_sub(
    operand: Any,
    scatter_indices: Any,
    updates: Any,
    dimension_numbers: ScatterDimensionNumbers,
    *,
    indices_are_sorted: bool = False,
    unique_indices: bool = False,
    mode: str | GatherScatterMode | None = None,
) -> Array:
    """`scatter` that subtracts the updates: `scatter_add` of their negatives. Arguments as in `scatter`."""
    negated = ew.neg(as_array(updates))
    return _bind(
        scatter_add_p, operand, scatter_indices, negated, dimension_numbers, indices_are_sorted, unique_indices, mode
    )


def scatter_mul(
    operand: Any,
    scatter_indices: Any,
    updates: Any,
    dimension_numbers: ScatterDimensionNumbers,
    *,
    indices_are_sorted: bool = False,
    unique_indices: bool = False,
    mode: str | GatherScatterMode | None = None,
) -> Array:
    """`scatter` that multiplies by the updates; overlapping windows multiply. Arguments as in `scatter`."""
    return _bind(
        scatter_mul_p, operand, scatter_indices, updates, dimension_numbers, indices_are_sorted, unique_indices, mode
    )


def scatter_min(
    operand: Any,
    scatter_indices: Any,
    updates: Any,
    dimension_numbers: ScatterDimensionNumbers,
    *,
    indices_are_sorted: bool = False,
    unique_indices: bool = False,
    mode: str | GatherScatterMode | None = None,
) -> Array:
    """`scatter` that takes minima; a NaN wins. Ties share the gradient. Arguments as in `scatter`."""
    return _bind(
        scatter_min_p, operand, scatter_indices, updates, dimension_numbers, indices_are_sorted, unique_indices, mode
    )


def scatter_max(
    operand: Any,
    scatter_indices: Any,
    updates: Any,
    dimension_numbers: ScatterDimensionNumbers,
    *,
    indices_are_sorted: bool = False,
    unique_indices: bool = False,
    mode: str | GatherScatterMode | None = None,
) -> Array:
    """`scatter` that takes maxima; a NaN wins. Ties share the gradient. Arguments as in `scatter`."""
    return _bind(
        scatter_max_p, operand, scatter_indices, updates, dimension_numbers, indices_are_sorted, unique_indices, mode
    )
