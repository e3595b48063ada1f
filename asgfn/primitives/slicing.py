"""Windows of arrays: `slice` at known places, `dynamic_slice` and `dynamic_update_slice` at computed ones.

All are linear in the arrays they move. The transpose of `slice` is `pad`; `dynamic_slice` and `dynamic_update_slice`
are each other's.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from asgfn import dtypes
from asgfn.errors import DTypeError, IndexOutOfRangeError, ShapeError
from asgfn.graph import ArrayType
from asgfn.primitives import elementwise as ew
from asgfn.primitives import shaping
from asgfn.primitives.base import (
    Primitive,
    batch_size,
    bdim_at_front,
    instantiate_zeros,
    is_linear,
    linear_jvp,
    move_batch_axis,
    zeros_like_type,
)
from asgfn.primitives.gather import GatherDimensionNumbers, GatherScatterMode, gather
from asgfn.primitives.padding import concatenate as concatenate
from asgfn.primitives.padding import pad as pad
from asgfn.primitives.padding import rev as rev
from asgfn.primitives.scatter import ScatterDimensionNumbers, scatter
from asgfn.primitives.static_arguments import as_operand_of, check_one_per_axis, static_int, static_ints
from asgfn.tracing import Array, as_array


def as_index_operand(index: Any, size: int, allow_negative: bool, dtype: np.dtype) -> Any:
    """A start index in `dtype`, a negative one counted from the end of an axis of `size`."""
    if isinstance(index, int):
        index = index + size if index < 0 and allow_negative else index
        return np.asarray(min(max(index, -1), size), dtype)  # what lies further out clamps to the same place
    if dtypes.is_unsigned_integer(index.dtype):
        if index.dtype.itemsize >= dtype.itemsize:  # a large value must stay large in a signed dtype
            index = ew.min(index, np.asarray(min(size, np.iinfo(index.dtype).max), index.dtype))
        return shaping.convert_element_type(index, dtype)
    if index.dtype != dtype:
        index = shaping.convert_element_type(index, dtype)
    if not allow_negative:
        return index
    return ew.select(ew.lt(index, np.asarray(0, dtype)), ew.add(index, np.asarray(size, dtype)), index)


# ------------------------------------------------------------------------------------------------------------ slice


def _slice_type(operand: ArrayType, *, start_indices, limit_indices, strides) -> ArrayType:
    steps = (1,) * operand.ndim if strides is None else strides
    check_one_per_axis("slice", operand, start_indices=start_indices, limit_indices=limit_indices, strides=steps)
    for axis, (start, limit, step, size) in enumerate(
        zip(start_indices, limit_indices, steps, operand.shape, strict=True)
    ):
        if not 0 <= start <= limit <= size:
            raise ShapeError(
                f"slice: on axis {axis} of the operand {operand} the window is [{start}, {limit}), but start and limit "
                f"must satisfy 0 <= start <= limit <= {size}"
            )
        if step <= 0:
            raise ShapeError(
                f"slice: the stride of axis {axis} is {step}, but strides must be positive; use rev to reverse"
            )
    sizes = (-(-(b - a) // s) for a, b, s in zip(start_indices, limit_indices, steps, strict=True))
    return operand.update(shape=tuple(sizes))


def _slice_transpose(ct, operand, *, start_indices, limit_indices, strides):
    """The cotangent goes back to where the window was: padding, with holes where the stride skipped elements."""
    steps = (1,) * ct.ndim if strides is None else strides
    config = []
    for start, step, size, n in zip(start_indices, steps, operand.shape, ct.shape, strict=True):
        covered = (n - 1) * step + 1 if n else 0
        config.append((start, size - start - covered, step - 1))
    return [pad(ct, np.zeros((), ct.dtype), config)]


def _slice_batch(args, dims, *, start_indices, limit_indices, strides):
    (operand,), (dim,) = args, dims

    def insert(values, value):
        return (*values[:dim], value, *values[dim:])

    strides = None if strides is None else insert(strides, 1)
    starts, limits = insert(start_indices, 0), insert(limit_indices, operand.shape[dim])
    return slice_p.bind(operand, start_indices=starts, limit_indices=limits, strides=strides), dim


slice_p = Primitive(
    "slice",
    category="indexing",
    type_rule=_slice_type,
    jvp=linear_jvp("slice"),
    transpose=_slice_transpose,
    batch=_slice_batch,
    what="cuts a window with known bounds out of an array, taking every stride-th element",
    formula="y[i, j] = x[start0 + i * stride0, start1 + j * stride1]",
    why="x[2:5, ::2]: batches, crops, heads, halves of a vector; costs nothing when its consumer reads the window itself",
)


def slice(
    operand: Any, start_indices: Sequence[int], limit_indices: Sequence[int], strides: Sequence[int] | None = None
) -> Array:
    """The window `operand[start:limit:stride]` on every axis.

    Arguments:
        operand: array of rank n.
        start_indices, limit_indices: n static ints, 0 <= start <= limit <= size.
        strides: n static positive ints; None means 1.

    Returns:
        Array of the operand's dtype whose axis i has ceil((limit_i - start_i) / stride_i) elements.

    Raises:
        ShapeError: bounds outside the operand, or a sequence of the wrong length.
    """
    if strides is not None:
        strides = static_ints("slice", "strides", strides)
        strides = None if strides and all(s == 1 for s in strides) else strides
    return slice_p.bind(
        operand,
        start_indices=static_ints("slice", "start_indices", start_indices),
        limit_indices=static_ints("slice", "limit_indices", limit_indices),
        strides=strides,
    )


def slice_in_dim(
    operand: Any, start_index: int | None, limit_index: int | None, stride: int = 1, axis: int = 0
) -> Array:
    """`operand[..., start:limit:stride, ...]` on one axis; None and negative bounds as in Python."""
    operand = as_array(operand)
    axis = shaping.canonical_axis(axis, operand.ndim, "slice_in_dim")
    size = operand.shape[axis]

    def bound(value, default):
        if value is None:
            return default
        value = static_int("slice_in_dim", "bounds", value)
        return value + size if value < 0 else value

    starts, limits, strides = [0] * operand.ndim, list(operand.shape), [1] * operand.ndim
    starts[axis], limits[axis], strides[axis] = bound(start_index, 0), bound(limit_index, size), stride
    return slice(operand, starts, limits, strides)


def index_in_dim(operand: Any, index: int, axis: int = 0, keepdims: bool = True) -> Array:
    """Position `index` (static, may be negative) of one axis, which stays with size 1 when `keepdims`.

    Raises:
        IndexOutOfRangeError: the axis has no such position.
    """
    operand = as_array(operand)
    axis = shaping.canonical_axis(axis, operand.ndim, "index_in_dim")
    position, size = static_int("index_in_dim", "the index", index), operand.shape[axis]
    if not -size <= position < size:
        raise IndexOutOfRangeError(
            f"index_in_dim: index {position} is out of bounds for axis {axis} of size {size}, array of shape {operand.shape}"
        )
    result = slice_in_dim(operand, position % size, position % size + 1, 1, axis)
    return result if keepdims else shaping.squeeze(result, (axis,))


# ---------------------------------------------------------------------------------------------------- dynamic_slice


def _check_starts(name: str, operand: ArrayType, sizes: tuple[int, ...], starts: tuple[ArrayType, ...]) -> None:
    if len(starts) != operand.ndim:
        raise ShapeError(
            f"{name}: {len(starts)} start indices for the operand {operand}; give one scalar for each axis"
        )
    for axis, start in enumerate(starts):
        if start.ndim or not dtypes.is_integer(start.dtype):
            raise DTypeError(f"{name}: the start index of axis {axis} is {start}, but it must be an integer scalar")
    for axis, (window, size) in enumerate(zip(sizes, operand.shape, strict=True)):
        if not 0 <= window <= size:
            raise ShapeError(
                f"{name}: a window of size {window} does not fit axis {axis} of the operand {operand}; "
                f"sizes must be between 0 and {size}"
            )


def _dynamic_slice_type(operand: ArrayType, *starts: ArrayType, slice_sizes) -> ArrayType:
    check_one_per_axis("dynamic_slice", operand, slice_sizes=slice_sizes)
    _check_starts("dynamic_slice", operand, slice_sizes, starts)
    return operand.update(shape=slice_sizes)


def _dynamic_slice_jvp(primals, tangents, *, slice_sizes):
    starts = primals[1:]
    out = dynamic_slice_p.bind(*primals, slice_sizes=slice_sizes)
    return out, dynamic_slice_p.bind(tangents[0], *starts, slice_sizes=slice_sizes)


def _dynamic_slice_transpose(ct, operand, *starts, slice_sizes):
    return [dynamic_update_slice_p.bind(zeros_like_type(operand.aval), ct, *starts)] + [None] * len(starts)


def _window_starts(starts, dims, size: int, axes: list[int]):
    """Batched start indices as one index vector per example: int[batch, len(axes)]."""
    columns = [shaping.reshape(bdim_at_front(starts[a], dims[a], size), (size, 1)) for a in axes]
    return concatenate(columns, 1)


def _dynamic_slice_batch(args, dims, *, slice_sizes):
    operand, *starts = args
    dim, *start_dims = dims
    if all(d is None for d in start_dims):
        starts.insert(dim, np.zeros((), starts[0].dtype if starts else np.int32))
        sizes = (*slice_sizes[:dim], operand.shape[dim], *slice_sizes[dim:])
        return dynamic_slice_p.bind(operand, *starts, slice_sizes=sizes), dim

    # A window per example is a gather. An axis that the window covers has one possible start only: it needs no index.
    size = next(s.shape[0] for s, d in zip(starts, start_dims, strict=True) if d is not None)
    shape = operand.shape if dim is None else operand.shape[:dim] + operand.shape[dim + 1 :]
    axes = [a for a, window in enumerate(slice_sizes) if window != shape[a]]
    if not axes:
        return operand, dim
    indices = _window_starts(starts, start_dims, size, axes)
    rank = len(slice_sizes)
    shift = 0
    if dim is not None:
        operand, shift = move_batch_axis(operand, dim, 0), 1
        slice_sizes = (min(size, 1), *slice_sizes)
    numbers = GatherDimensionNumbers(
        offset_dims=tuple(range(1, rank + 1)),
        collapsed_slice_dims=(),
        start_index_map=tuple(a + shift for a in axes),
        operand_batching_dims=(0,) * shift,
        start_indices_batching_dims=(0,) * shift,
    )
    return gather(operand, indices, numbers, slice_sizes, mode=GatherScatterMode.CLIP), 0


dynamic_slice_p = Primitive(
    "dynamic_slice",
    category="indexing",
    type_rule=_dynamic_slice_type,
    jvp=_dynamic_slice_jvp,
    transpose=_dynamic_slice_transpose,
    batch=_dynamic_slice_batch,
    what="cuts a window of known size at a computed position; a window that would stick out is moved inside",
    formula="y[i] = x[clamp(start, 0, size - window) + i]",
    why="one step of a sequence inside a loop, a random crop, a cache that is read at a running position",
)


def start_index_operands(name: str, operand: Array, start_indices: Any, allow_negative_indices: Any) -> list[Any]:
    """`start_indices` (a sequence of scalars, or an int array of rank 1) as scalar operands of one dtype."""
    if isinstance(start_indices, (Array, np.ndarray)):
        if start_indices.ndim != 1:
            raise ShapeError(f"{name}: start_indices must have rank 1, got shape {start_indices.shape}")
        if isinstance(start_indices, Array):
            flat = start_indices
            n = flat.shape[0]
            start_indices = [shaping.squeeze(slice(flat, (i,), (i + 1,)), (0,)) for i in range(n)]
    starts = [i if isinstance(i, int) and not isinstance(i, bool) else as_array(i) for i in start_indices]
    if len(starts) != operand.ndim:
        raise ShapeError(
            f"{name}: {len(starts)} start indices for an operand of shape {operand.shape}; give one for each axis"
        )
    allow = (
        (allow_negative_indices,) * operand.ndim if isinstance(allow_negative_indices, bool) else allow_negative_indices
    )
    for axis, start in enumerate(starts):
        if isinstance(start, int):
            if start < 0 and not allow[axis]:
                raise IndexOutOfRangeError(
                    f"{name}: start index {start} of axis {axis} is negative, and allow_negative_indices is False"
                )
        elif start.ndim or not dtypes.is_integer(start.dtype):
            raise DTypeError(
                f"{name}: the start index of axis {axis} has dtype {start.dtype} and shape {start.shape}, but it must be "
                "an integer scalar; convert with .astype(int) if it is a float"
            )
    wide = any(not isinstance(s, int) and s.dtype.itemsize == 8 for s in starts)
    dtype = np.dtype(np.int64 if wide else np.int32)
    return [as_index_operand(s, d, ok, dtype) for s, d, ok in zip(starts, operand.shape, allow, strict=True)]


def dynamic_slice(
    operand: Any,
    start_indices: Any,
    slice_sizes: Sequence[int],
    *,
    allow_negative_indices: bool | Sequence[bool] = True,
) -> Array:
    """The window of shape `slice_sizes` at a position that may be traced.

    Arguments:
        operand: array of rank n.
        start_indices: n integer scalars, or an integer array of shape [n]. A negative one counts from the end (unless
            `allow_negative_indices` is False); then it is clamped, so that the window lies inside.
        slice_sizes: n static ints, at most the operand's sizes.

    Returns:
        Array of shape `slice_sizes` and the operand's dtype.

    Raises:
        ShapeError, DTypeError: a window that does not fit, or indices that are not integer scalars.
    """
    operand = as_array(operand)
    starts = start_index_operands("dynamic_slice", operand, start_indices, allow_negative_indices)
    return dynamic_slice_p.bind(operand, *starts, slice_sizes=static_ints("dynamic_slice", "slice_sizes", slice_sizes))


def _starts_on_axis(rank: int, axis: int, index: Any) -> list[Any]:
    return [index if a == axis else 0 for a in range(rank)]


def dynamic_slice_in_dim(
    operand: Any, start_index: Any, slice_size: int, axis: int = 0, *, allow_negative_indices: bool = True
) -> Array:
    """`dynamic_slice` on one axis; the other axes stay whole."""
    operand = as_array(operand)
    axis = shaping.canonical_axis(axis, operand.ndim, "dynamic_slice_in_dim")
    sizes = (*operand.shape[:axis], slice_size, *operand.shape[axis + 1 :])
    starts = _starts_on_axis(operand.ndim, axis, start_index)
    return dynamic_slice(operand, starts, sizes, allow_negative_indices=allow_negative_indices)


def dynamic_index_in_dim(
    operand: Any, index: Any, axis: int = 0, keepdims: bool = True, *, allow_negative_indices: bool = True
) -> Array:
    """Position `index` (an integer scalar, may be traced) of one axis; the axis stays with size 1 when `keepdims`."""
    result = dynamic_slice_in_dim(operand, index, 1, axis, allow_negative_indices=allow_negative_indices)
    return result if keepdims else shaping.squeeze(result, (axis % result.ndim,))


# --------------------------------------------------------------------------------------------- dynamic_update_slice


def _dynamic_update_slice_type(operand: ArrayType, update: ArrayType, *starts: ArrayType) -> ArrayType:
    if update.ndim != operand.ndim:
        raise ShapeError(f"dynamic_update_slice: the update {update} must have the operand's rank; operand: {operand}")
    if update.dtype != operand.dtype:
        raise DTypeError(
            f"dynamic_update_slice: operand {operand} and update {update} must have one dtype; "
            f"convert with update.astype({operand.dtype})"
        )
    _check_starts("dynamic_update_slice", operand, update.shape, starts)
    return operand


def _dynamic_update_slice_jvp(primals, tangents):
    starts = primals[2:]
    tangent = dynamic_update_slice_p.bind(*map(instantiate_zeros, tangents[:2]), *starts)
    return dynamic_update_slice_p.bind(*primals), tangent


def _dynamic_update_slice_transpose(ct, operand, update, *starts):
    operand_ct = update_ct = None
    if is_linear(operand):
        operand_ct = dynamic_update_slice_p.bind(ct, shaping.full(update.shape, 0, ct.dtype), *starts)
    if is_linear(update):
        update_ct = dynamic_slice_p.bind(ct, *starts, slice_sizes=update.shape)
    return [operand_ct, update_ct] + [None] * len(starts)


def _dynamic_update_slice_batch(args, dims):
    operand, update, *starts = args
    start_dims = dims[2:]
    size = batch_size(args, dims)
    operand, update = bdim_at_front(operand, dims[0], size), bdim_at_front(update, dims[1], size)
    if all(d is None for d in start_dims):
        zero = np.zeros((), starts[0].dtype if starts else np.int32)
        return dynamic_update_slice_p.bind(operand, update, zero, *starts), 0

    rank = operand.ndim
    axes = [a for a in range(rank - 1) if update.shape[a + 1] != operand.shape[a + 1]]
    if not axes:
        return update, 0  # the update covers the operand wherever it starts
    numbers = ScatterDimensionNumbers(
        update_window_dims=tuple(range(1, rank)),
        inserted_window_dims=(),
        scatter_dims_to_operand_dims=tuple(a + 1 for a in axes),
        operand_batching_dims=(0,),
        scatter_indices_batching_dims=(0,),
    )
    indices = _window_starts(starts, start_dims, size, axes)
    mode = GatherScatterMode.CLIP
    return scatter(operand, indices, update, numbers, indices_are_sorted=True, unique_indices=True, mode=mode), 0


dynamic_update_slice_p = Primitive(
    "dynamic_update_slice",
    category="indexing",
    type_rule=_dynamic_update_slice_type,
    jvp=_dynamic_update_slice_jvp,
    transpose=_dynamic_update_slice_transpose,
    batch=_dynamic_update_slice_batch,
    what="writes a window into an array at a computed position; a window that would stick out is moved inside",
    formula="y = x;  y[clamp(start, 0, size - window) + i] = u[i]",
    why="filling a buffer step by step in a loop (key-value caches, trajectories); done in place when x is not needed again",
)


def dynamic_update_slice(
    operand: Any, update: Any, start_indices: Any, *, allow_negative_indices: bool | Sequence[bool] = True
) -> Array:
    """`operand` with the window at `start_indices` replaced by `update`.

    Arguments:
        operand: array of rank n.
        update: array of rank n and the operand's dtype, no larger than the operand on any axis.
        start_indices: n integer scalars, or an integer array of shape [n]; negative ones count from the end, then they
            are clamped, so that the window lies inside.

    Returns:
        Array of the operand's shape and dtype.

    Raises:
        ShapeError, DTypeError: an update that does not fit.
    """
    operand = as_array(operand)
    starts = start_index_operands("dynamic_update_slice", operand, start_indices, allow_negative_indices)
    return dynamic_update_slice_p.bind(operand, as_operand_of(update, operand.dtype), *starts)


def dynamic_update_slice_in_dim(
    operand: Any, update: Any, start_index: Any, axis: int, *, allow_negative_indices: bool = True
) -> Array:
    """`dynamic_update_slice` that starts at 0 on every axis but one."""
    operand = as_array(operand)
    axis = shaping.canonical_axis(axis, operand.ndim, "dynamic_update_slice_in_dim")
    starts = _starts_on_axis(operand.ndim, axis, start_index)
    return dynamic_update_slice(operand, update, starts, allow_negative_indices=allow_negative_indices)


def dynamic_update_index_in_dim(
    operand: Any, update: Any, index: Any, axis: int, *, allow_negative_indices: bool = True
) -> Array:
    """`operand` with position `index` of one axis replaced by `update`, which may lack that axis."""
    operand = as_array(operand)
    axis = shaping.canonical_axis(axis, operand.ndim, "dynamic_update_index_in_dim")
    update = as_array(as_operand_of(update, operand.dtype))
    if update.ndim != operand.ndim:
        if update.ndim != operand.ndim - 1:
            raise ShapeError(
                f"dynamic_update_index_in_dim: an update of shape {update.shape} does not fit an operand of shape "
                f"{operand.shape}; expected its shape with or without axis {axis}"
            )
        update = shaping.expand_dims(update, (axis,))
    return dynamic_update_slice_in_dim(operand, update, index, axis, allow_negative_indices=allow_negative_indices)
