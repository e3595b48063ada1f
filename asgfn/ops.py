"""Reductions over segments: `asgfn.ops`, with the names and meaning of `jax.ops`.

Rows of an array that carry the same segment id are combined, which is what sums over the nodes of a graph, the words of a
document or the members of a group are.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import numpy as np

from asgfn import dtypes
from asgfn import numpy as jnp
from asgfn.errors import ConcretizationError, DTypeError, ShapeError
from asgfn.primitives.gather import GatherScatterMode
from asgfn.tracing import Array

__all__ = ["segment_max", "segment_min", "segment_prod", "segment_sum"]


def segment_sum(
    data: Any,
    segment_ids: Any,
    num_segments: int | None = None,
    indices_are_sorted: bool = False,
    unique_indices: bool = False,
    bucket_size: int | None = None,
    mode: str | GatherScatterMode | None = None,
) -> Array:
    """The sum of the rows of each segment: ``out[s] = sum(data[i] for i with segment_ids[i] == s)``.

    Arguments:
        data: array [n, ...].
        segment_ids: integers [n]; an id outside of 0 ... num_segments - 1 leaves its row out.
        num_segments: length of the result. By default the greatest id plus one, which must then be known while tracing.
        indices_are_sorted, unique_indices: promises about the ids that can make the operation faster.
        bucket_size: combine runs of so many rows first and their results afterwards, which loses less precision in sums
            of very many rows.
        mode: what happens to ids out of range: "drop" (the default), "clip", or "promise_in_bounds".

    Returns:
        Array [num_segments, ...] of data's dtype; a segment without rows is 0.

    Raises:
        ShapeError, DTypeError: ids that are not a vector of integers with an entry for each row.
        ConcretizationError: num_segments is not given and the ids are traced.
        ValueError: num_segments is negative, or bucket_size not positive.

    Example:
        >>> segment_sum(jnp.arange(5), jnp.array([0, 0, 1, 1, 2]), num_segments=3)
        Array([1, 5, 4], dtype=int32)
    """
    return _reduce("segment_sum", "add", data, segment_ids, num_segments, indices_are_sorted, unique_indices, bucket_size, mode)  # fmt: skip


def segment_prod(
    data: Any,
    segment_ids: Any,
    num_segments: int | None = None,
    indices_are_sorted: bool = False,
    unique_indices: bool = False,
    bucket_size: int | None = None,
    mode: str | GatherScatterMode | None = None,
) -> Array:
    """The product of the rows of each segment; a segment without rows is 1. Arguments and errors as for `segment_sum`."""
    return _reduce("segment_prod", "multiply", data, segment_ids, num_segments, indices_are_sorted, unique_indices, bucket_size, mode)  # fmt: skip


def segment_max(
    data: Any,
    segment_ids: Any,
    num_segments: int | None = None,
    indices_are_sorted: bool = False,
    unique_indices: bool = False,
    bucket_size: int | None = None,
    mode: str | GatherScatterMode | None = None,
) -> Array:
    """The greatest of the rows of each segment, element by element. Arguments and errors as for `segment_sum`.

    A segment without rows is -inf (the dtype's least value for integers, False for booleans).
    """
    return _reduce("segment_max", "max", data, segment_ids, num_segments, indices_are_sorted, unique_indices, bucket_size, mode)  # fmt: skip


def segment_min(
    data: Any,
    segment_ids: Any,
    num_segments: int | None = None,
    indices_are_sorted: bool = False,
    unique_indices: bool = False,
    bucket_size: int | None = None,
    mode: str | GatherScatterMode | None = None,
) -> Array:
    """The least of the rows of each segment, element by element. Arguments and errors as for `segment_sum`.

    A segment without rows is inf (the dtype's greatest value for integers, True for booleans).
    """
    return _reduce("segment_min", "min", data, segment_ids, num_segments, indices_are_sorted, unique_indices, bucket_size, mode)  # fmt: skip


_OVER_BUCKETS: dict[str, Callable[..., Array]] = {"add": jnp.sum, "multiply": jnp.prod, "max": jnp.max, "min": jnp.min}


def _identity(operation: str, dtype: np.dtype) -> Any:
    """What a segment without rows is."""
    if operation in ("add", "multiply"):
        return 0 if operation == "add" else 1
    least = operation == "max"
    if dtypes.is_bool(dtype):
        return not least
    if dtypes.is_integer(dtype):
        return np.iinfo(dtype).min if least else np.iinfo(dtype).max
    return -np.inf if least else np.inf


def _count(name: str, segment_ids: Array, num_segments: Any) -> int:
    if num_segments is None:
        try:
            ids = np.asarray(segment_ids)
        except ConcretizationError as error:
            raise ConcretizationError(
                f"{name}: num_segments must be given where segment_ids {segment_ids.aval} are traced, because the shape of "
                f"the result cannot depend on values: {name}(data, segment_ids, num_segments=n) ({error.args[0]})"
            ) from None
        num_segments = int(ids.max()) + 1 if ids.size else 0
    num_segments = operator.index(num_segments)
    if num_segments < 0:
        raise ValueError(f"{name}: num_segments must not be negative, got {num_segments}")
    return num_segments


def _reduce(
    name: str,
    operation: str,
    data: Any,
    segment_ids: Any,
    num_segments: int | None,
    indices_are_sorted: bool,
    unique_indices: bool,
    bucket_size: int | None,
    mode: str | GatherScatterMode | None,
) -> Array:
    data, segment_ids = jnp.asarray(data), jnp.asarray(segment_ids)
    if not dtypes.is_integer(segment_ids.dtype):
        raise DTypeError(f"{name}: segment_ids must be integers, got {segment_ids.aval}; convert with .astype(int)")
    if operation in ("add", "multiply") and dtypes.is_bool(data.dtype):
        raise DTypeError(
            f"{name}: data must be numbers, got {data.aval}; convert with .astype(int), or use segment_max"
        )
    if segment_ids.ndim != 1 or data.shape[:1] not in ((), (1,), segment_ids.shape):
        raise ShapeError(
            f"{name}: segment_ids must be a vector with one entry for each row of data, got data {data.aval} and "
            f"segment_ids {segment_ids.aval}; use vmap for batches, or reshape both"
        )
    count = _count(name, segment_ids, num_segments)
    if bucket_size is not None and bucket_size <= 0:
        raise ValueError(f"{name}: bucket_size must be positive, got {bucket_size}")
    if count == 0:
        return jnp.zeros((0, *data.shape[1:]), data.dtype)
    rows = segment_ids.shape[0]
    buckets = 1 if bucket_size is None else max(-(-rows // bucket_size), 1)
    index: Any = segment_ids
    shape: tuple[int, ...] = (count, *data.shape[1:])
    if buckets > 1:
        index = (np.arange(rows) // bucket_size, segment_ids)
        shape = (buckets, *shape)
        indices_are_sorted = unique_indices = False
    start = jnp.full(shape, _identity(operation, data.dtype), data.dtype)
    update = getattr(start.at[index], operation)
    out = update(
        data,
        indices_are_sorted=indices_are_sorted,
        unique_indices=unique_indices,
        mode="drop" if mode is None else mode,
        wrap_negative_indices=False,
    )
    return _OVER_BUCKETS[operation](out, axis=0).astype(data.dtype) if buckets > 1 else out
