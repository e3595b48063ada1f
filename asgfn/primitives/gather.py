"""`gather`: windows of an array, cut out at many computed positions.

The dimension numbers are those of StableHLO's gather, with the index vector always on the last axis of the indices.
"""

from __future__ import annotations

import enum
import operator
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from asgfn import dtypes
from asgfn.errors import ConcretizationError, DTypeError, ShapeError
from asgfn.graph import ArrayType
from asgfn.graph.serial import parameter_type
from asgfn.primitives.base import Primitive, move_batch_axis, primitive, zeros_like_type
from asgfn.tracing import Array, as_array


@parameter_type
class GatherDimensionNumbers(NamedTuple):
    """How the axes of operand, indices and result of a `gather` correspond.

    Attributes:
        offset_dims: axes of the result that run through a window, ascending.
        collapsed_slice_dims: axes of the operand on which the window has size 1 and which the result lacks, ascending.
        start_index_map: for each entry of an index vector, the axis of the operand that it positions.
        operand_batching_dims: axes of the operand that go in step with axes of the indices, ascending.
        start_indices_batching_dims: those axes of the indices, in the same order.
    """

    offset_dims: tuple[int, ...]
    collapsed_slice_dims: tuple[int, ...]
    start_index_map: tuple[int, ...]
    operand_batching_dims: tuple[int, ...] = ()
    start_indices_batching_dims: tuple[int, ...] = ()


@parameter_type
class ScatterDimensionNumbers(NamedTuple):
    """How the axes of operand, indices and updates of a `scatter` correspond (`GatherDimensionNumbers` mirrored).

    Attributes:
        update_window_dims: axes of the updates that run through a window, ascending.
        inserted_window_dims: axes of the operand on which the window has size 1 and which the updates lack, ascending.
        scatter_dims_to_operand_dims: for each entry of an index vector, the axis of the operand that it positions.
        operand_batching_dims: axes of the operand that go in step with axes of the indices, ascending.
        scatter_indices_batching_dims: those axes of the indices, in the same order.
    """

    update_window_dims: tuple[int, ...]
    inserted_window_dims: tuple[int, ...]
    scatter_dims_to_operand_dims: tuple[int, ...]
    operand_batching_dims: tuple[int, ...] = ()
    scatter_indices_batching_dims: tuple[int, ...] = ()


@parameter_type
class GatherScatterMode(enum.Enum):
    """What happens to a window that lies, even in part, outside of the operand.

    CLIP: it is moved to the nearest place inside.
    FILL_OR_DROP: a gathered window is filled with one value; a scattered window is left out.
    PROMISE_IN_BOUNDS: the caller knows that there is none. If there is one, a gather behaves as CLIP, a scatter as
        FILL_OR_DROP, and gradients are not to be relied on.
    """

    CLIP = "clip"
    FILL_OR_DROP = "fill"
    PROMISE_IN_BOUNDS = "promise_in_bounds"

    @staticmethod
    def from_any(mode: str | GatherScatterMode | None) -> GatherScatterMode:
        """The mode for "clip", "fill", "drop", "promise_in_bounds" or None (which is FILL_OR_DROP).

        Raises:
            ValueError: for anything else.
        """
        if mode is None or mode == "drop":
            return GatherScatterMode.FILL_OR_DROP
        try:
            return GatherScatterMode(mode)
        except ValueError:
            raise ValueError(
                f'unknown mode {mode!r} for out-of-bounds indices: use "clip", "fill", "drop" or "promise_in_bounds"'
            ) from None


def default_fill_value(dtype: np.dtype) -> bool | int | float:
    """What FILL_OR_DROP puts in place of a window that is out of bounds, unless told otherwise."""
    if dtypes.is_inexact(dtype):
        return float("nan")
    if dtypes.is_bool(dtype):
        return True
    bounds = np.iinfo(dtype)
    return int(bounds.min if dtypes.is_signed_integer(dtype) else bounds.max)


def add_one(axes: Sequence[int]) -> tuple[int, ...]:
    """Axis numbers after an axis was put in front."""
    return tuple(axis + 1 for axis in axes)


def window_axes(rank: int, collapsed: Sequence[int], batching: Sequence[int]) -> list[int]:
    """The axes of an operand that a window keeps."""
    return [axis for axis in range(rank) if axis not in collapsed and axis not in batching]


class DimensionChecks:
    """The rules that the dimension numbers of gather and scatter share; each failure is a ShapeError."""

    def __init__(self, name: str, described: str):
        self.name = name
        self.described = described

    def require(self, holds: bool, text: str) -> None:
        if not holds:
            raise ShapeError(f"{self.name}: {text}; {self.described}")

    def axes(self, what: str, axes: tuple[int, ...], rank: int, ascending: bool = True) -> None:
        """`axes` are distinct axes of an array of this rank, in ascending order if asked for."""
        self.require(all(0 <= a < rank for a in axes), f"{what}={axes} must be axes between 0 and {rank - 1}")
        self.require(len(set(axes)) == len(axes), f"{what}={axes} must not repeat an axis")
        self.require(not ascending or tuple(sorted(axes)) == axes, f"{what}={axes} must be in ascending order")

    def disjoint(self, what: str, axes: tuple[int, ...], other_what: str, others: tuple[int, ...]) -> None:
        self.require(not set(axes) & set(others), f"{what}={axes} and {other_what}={others} must not share an axis")

    def batching(self, operand: ArrayType, indices: ArrayType, axes: tuple, index_axes: tuple, index_what: str) -> None:
        """`axes` of the operand and `index_axes` of the indices pair up and have equal sizes."""
        self.axes("operand_batching_dims", axes, operand.ndim)
        self.axes(index_what, index_axes, indices.ndim - 1, ascending=False)
        self.require(
            len(axes) == len(index_axes),
            f"operand_batching_dims={axes} and {index_what}={index_axes} must have one length",
        )
        sizes = tuple(operand.shape[a] for a in axes)
        index_sizes = tuple(indices.shape[a] for a in index_axes)
        self.require(
            sizes == index_sizes,
            f"the batching axes of the operand have sizes {sizes}, those of the indices {index_sizes}",
        )

    def index_map(self, operand: ArrayType, indices: ArrayType, what: str, axes: tuple[int, ...]) -> None:
        """One entry of the index vector for each axis that is positioned."""
        self.axes(what, axes, operand.ndim, ascending=False)
        self.require(
            len(axes) == indices.shape[-1],
            f"the last axis of the indices has size {indices.shape[-1]}, but {what}={axes} has {len(axes)} entries; "
            "they must agree (scalar indices need a trailing axis of size 1)",
        )


def check_index_operand(name: str, indices: ArrayType) -> None:
    if not dtypes.is_integer(indices.dtype):
        raise DTypeError(f"{name}: indices must have an integer dtype, got {indices}; convert with .astype(int)")
    if indices.ndim == 0:
        raise ShapeError(
            f"{name}: indices must have rank 1 or more, the last axis being the index vector; got {indices}"
        )


def _gather_type(
    operand: ArrayType,
    indices: ArrayType,
    *,
    dimension_numbers,
    slice_sizes,
    unique_indices,
    indices_are_sorted,
    mode,
    fill_value,
) -> ArrayType:
    check_index_operand("gather", indices)
    numbers = dimension_numbers
    checks = DimensionChecks("gather", f"operand {operand}, indices {indices}, slice_sizes {slice_sizes}, {numbers}")
    rank = len(numbers.offset_dims) + indices.ndim - 1
    checks.axes("offset_dims", numbers.offset_dims, rank)
    checks.index_map(operand, indices, "start_index_map", numbers.start_index_map)
    checks.axes("collapsed_slice_dims", numbers.collapsed_slice_dims, operand.ndim)
    batching = numbers.operand_batching_dims
    checks.batching(operand, indices, batching, numbers.start_indices_batching_dims, "start_indices_batching_dims")
    checks.disjoint("collapsed_slice_dims", numbers.collapsed_slice_dims, "operand_batching_dims", batching)
    checks.disjoint("start_index_map", numbers.start_index_map, "operand_batching_dims", batching)
    checks.require(len(slice_sizes) == operand.ndim, "slice_sizes must have one entry for each axis of the operand")
    kept = window_axes(operand.ndim, numbers.collapsed_slice_dims, batching)
    checks.require(
        len(kept) == len(numbers.offset_dims),
        f"the window has {len(kept)} axes that are neither collapsed nor batching, but offset_dims names "
        f"{len(numbers.offset_dims)}",
    )
    for axis, (window, size) in enumerate(zip(slice_sizes, operand.shape, strict=True)):
        fits = window <= size or 0 in indices.shape[:-1]  # without positions there is nothing to fit
        checks.require(
            window >= 0 and fits, f"the slice size of axis {axis} is {window}, but must be between 0 and {size}"
        )
    for axis in numbers.collapsed_slice_dims:
        checks.require(slice_sizes[axis] == 1, f"axis {axis} is collapsed, so its slice size must be 1")
    for axis in batching:
        checks.require(slice_sizes[axis] <= 1, f"axis {axis} is a batching axis, so its slice size must be 1 (or 0)")

    windows = iter([slice_sizes[axis] for axis in kept])
    positions = iter(indices.shape[:-1])
    return operand.update(shape=tuple(next(windows if d in numbers.offset_dims else positions) for d in range(rank)))


def _gather_jvp(primals, tangents, **params):
    out = gather_p.bind(*primals, **params)
    if params["mode"] == GatherScatterMode.FILL_OR_DROP:
        params["fill_value"] = 0  # a window that was filled does not depend on the operand
    return out, gather_p.bind(tangents[0], primals[1], **params)


def _gather_transpose(
    ct,
    operand,
    indices,
    *,
    dimension_numbers,
    slice_sizes,
    unique_indices,
    indices_are_sorted,
    mode,
    fill_value,
):
    """Each window's cotangent is added back at the place it was read from."""
    operand_ct = primitive("scatter_add").bind(
        zeros_like_type(operand.aval),
        indices,
        ct,
        dimension_numbers=ScatterDimensionNumbers(*dimension_numbers),
        indices_are_sorted=indices_are_sorted,
        unique_indices=unique_indices,
        mode=mode,
    )
    return [operand_ct, None]


def _gather_batch(args, dims, *, dimension_numbers, slice_sizes, unique_indices, indices_are_sorted, mode, fill_value):
    (operand, indices), (dim, index_dim) = args, dims
    offset, collapsed, index_map, batching, index_batching = dimension_numbers
    offset = add_one(offset)
    if dim is not None:
        operand = move_batch_axis(operand, dim, 0)
        collapsed, index_map, batching = add_one(collapsed), add_one(index_map), add_one(batching)
    if index_dim is not None:
        indices = move_batch_axis(indices, index_dim, 0)
        index_batching = add_one(index_batching)

    if index_dim is None:  # the batch axis is one more axis of the window
        offset = (0, *offset)
        slice_sizes = (operand.shape[0], *slice_sizes)
    elif dim is not None:  # example k of the indices reads example k of the operand
        batching, index_batching = (0, *batching), (0, *index_batching)
        slice_sizes = (min(operand.shape[0], 1), *slice_sizes)
    else:  # all examples read the same operand, perhaps at the same places
        unique_indices = indices_are_sorted = False
    out = gather_p.bind(
        operand,
        indices,
        dimension_numbers=GatherDimensionNumbers(offset, collapsed, index_map, batching, index_batching),
        slice_sizes=slice_sizes,
        unique_indices=unique_indices,
        indices_are_sorted=indices_are_sorted,
        mode=mode,
        fill_value=fill_value,
    )
    return out, 0


gather_p = Primitive(
    "gather",
    category="indexing",
    type_rule=_gather_type,
    jvp=_gather_jvp,
    transpose=_gather_transpose,
    batch=_gather_batch,
    what="cuts windows of one size out of an array at many computed positions",
    formula="y[b, o] = x[index[b] + o] for every position b and every offset o in the window",
    why="x[rows], embedding look-up, picking the logit of each label, reordering",
)


def _canonical_fill_value(fill_value: Any, dtype: np.dtype) -> bool | int | float | complex | None:
    """A Python scalar, or None where it is the default (NaN is not equal to itself, so graphs do not hold it)."""
    if fill_value is None:
        return None
    try:
        value = np.asarray(fill_value)
    except ConcretizationError as error:
        raise ConcretizationError(
            f"gather: fill_value must be known while tracing; use jnp.where to fill with a traced value ({error.args[0]})"
        ) from None
    if value.ndim:
        raise ShapeError(f"gather: fill_value must be a scalar, got shape {value.shape}")
    value = value.astype(dtype).item()
    return None if dtypes.is_inexact(dtype) and np.isnan(value) else value


def gather(
    operand: Any,
    start_indices: Any,
    dimension_numbers: GatherDimensionNumbers,
    slice_sizes: Sequence[int],
    *,
    unique_indices: bool = False,
    indices_are_sorted: bool = False,
    mode: str | GatherScatterMode | None = None,
    fill_value: Any = None,
) -> Array:
    """Windows of `operand` at the positions `start_indices`.

    Most programs should index instead: ``x[i, j]``, ``x.at[i].get(mode="fill")``, `take`, `take_along_axis`.

    Arguments:
        operand: array of rank n.
        start_indices: integers [..., k]; the last axis is a vector that positions k axes of the operand. Negative
            entries are out of bounds.
        dimension_numbers: how the axes correspond.
        slice_sizes: the window's size on each of the n axes.
        unique_indices, indices_are_sorted: promises about the windows (they do not overlap; their positions ascend),
            which can make the gradient faster.
        mode: a `GatherScatterMode` or its name; None means PROMISE_IN_BOUNDS.
        fill_value: for FILL_OR_DROP; by default NaN, the least signed integer, the greatest unsigned one, or True.

    Returns:
        Array of the operand's dtype: the leading axes of the indices, with the window's axes at `offset_dims`.

    Raises:
        ShapeError, DTypeError: dimension numbers that contradict the shapes, or indices that are not integers.
    """
    operand = as_array(operand)
    mode = GatherScatterMode.PROMISE_IN_BOUNDS if mode is None else GatherScatterMode.from_any(mode)
    filling = mode == GatherScatterMode.FILL_OR_DROP
    return gather_p.bind(
        operand,
        start_indices,
        dimension_numbers=GatherDimensionNumbers(*(tuple(map(operator.index, axes)) for axes in dimension_numbers)),
        slice_sizes=tuple(map(operator.index, slice_sizes)),
        unique_indices=bool(unique_indices),
        indices_are_sorted=bool(indices_are_sorted),
        mode=mode,
        fill_value=_canonical_fill_value(fill_value, operand.dtype) if filling else None,
    )
