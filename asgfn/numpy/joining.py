"""Joining arrays and cutting them apart."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np

from asgfn import dtypes, lax
from asgfn.errors import NotAnArrayError, ShapeError
from asgfn.numpy.arguments import (
    ArrayLike,
    DTypeLike,
    as_ints,
    concrete,
    convert,
    filled,
    normalize_axis,
    promote_dtypes,
    refuse_out,
    to_array,
    to_arrays,
)
from asgfn.numpy.manipulation import atleast_1d, atleast_2d, atleast_3d, reshape
from asgfn.tracing import Array


def _sequence(name: str, arrays: Any) -> list[Array]:
    """The arrays of a sequence (or along the first axis of an array)."""
    if isinstance(arrays, (Array, np.ndarray)):
        if not arrays.ndim:
            raise NotAnArrayError(f"{name} takes a sequence of arrays, got a single one of shape ()")
        return list(unstack(arrays)) if len(arrays) else []
    if not isinstance(arrays, Sequence) or isinstance(arrays, str):
        raise NotAnArrayError(f"{name} takes a sequence of arrays, got a {type(arrays).__name__}")
    return to_arrays(name, *arrays)


def concatenate(arrays: Any, axis: int | None = 0, dtype: DTypeLike = None) -> Array:
    """Joined along an existing axis (None: flattened first). Shapes agree except along that axis.

    Raises:
        ShapeError: no arrays, arrays of rank 0, or shapes that do not fit.
    """
    parts = _sequence("concatenate", arrays)
    if not parts:
        raise ShapeError("concatenate: need at least one array")
    if axis is None:
        parts, axis = [lax.reshape(part, (part.size,)) for part in parts], 0
    if parts[0].ndim == 0:
        raise ShapeError("concatenate: arrays of rank 0 cannot be joined; use stack, or make them vectors first")
    axis = normalize_axis("concatenate", axis, parts[0].shape)
    rests = {part.shape[:axis] + part.shape[axis + 1 :] for part in parts if part.ndim == parts[0].ndim}
    if len(rests) != 1 or any(part.ndim != parts[0].ndim for part in parts):
        shapes = ", ".join(str(part.shape) for part in parts)
        raise ShapeError(f"concatenate: shapes {shapes} must be equal except along axis {axis}")
    parts = promote_dtypes(*parts) if dtype is None else [convert(part, dtypes.canonicalize(dtype)) for part in parts]
    return lax.concatenate(parts, axis) if len(parts) > 1 else to_array("concatenate", parts[0])


def concat(arrays: Any, /, *, axis: int | None = 0) -> Array:
    """Joined along an existing axis (None: flattened first)."""
    return concatenate(arrays, axis)


def stack(arrays: Any, axis: int = 0, out: None = None, dtype: DTypeLike = None) -> Array:
    """Joined along a new axis, at position `axis` of the result. All shapes are equal."""
    refuse_out("stack", out)
    parts = _sequence("stack", arrays)
    if not parts:
        raise ShapeError("stack: need at least one array")
    first = parts[0].shape
    if any(part.shape != first for part in parts):
        raise ShapeError(f"stack: all arrays must have one shape, got {', '.join(str(part.shape) for part in parts)}")
    axis = normalize_axis("stack", axis, first, len(first) + 1)
    unit = (*first[:axis], 1, *first[axis:])
    return concatenate([lax.reshape(part, unit) for part in parts], axis, dtype)


def vstack(tup: Any, dtype: DTypeLike = None) -> Array:
    """Joined along the first axis; vectors are rows."""
    return concatenate([atleast_2d(a) for a in _sequence("vstack", tup)], 0, dtype)


def hstack(tup: Any, dtype: DTypeLike = None) -> Array:
    """Joined along the second axis; vectors along their only one."""
    parts = [atleast_1d(a) for a in _sequence("hstack", tup)]
    return concatenate(parts, 0 if parts and parts[0].ndim == 1 else 1, dtype)


def dstack(tup: Any, dtype: DTypeLike = None) -> Array:
    """Joined along the third axis; matrices are layers."""
    return concatenate([atleast_3d(a) for a in _sequence("dstack", tup)], 2, dtype)


def column_stack(tup: Any) -> Array:
    """Vectors as columns of a matrix; matrices are joined along the second axis."""
    parts = _sequence("column_stack", tup)
    return concatenate([lax.reshape(a, (a.size, 1)) if a.ndim < 2 else a for a in parts], 1)


def block(arrays: Any) -> Array:
    """An array from nested lists of blocks: the innermost lists are joined along the last axis, and so on outwards."""
    depth = _depth(arrays)
    rank = max(depth, *(a.ndim for a in _blocks(arrays)), 1) if depth else max(to_array("block", arrays).ndim, 0)

    def build(part: Any, level: int) -> Array:
        if isinstance(part, list):
            return concatenate([build(item, level + 1) for item in part], level - depth)
        a = to_array("block", part)
        return lax.reshape(a, (1,) * (rank - a.ndim) + a.shape) if a.ndim < rank else a

    return build(arrays, 0)


def _depth(arrays: Any) -> int:
    if isinstance(arrays, tuple):
        raise NotAnArrayError("block takes nested lists, not tuples")
    if not isinstance(arrays, list):
        return 0
    if not arrays:
        raise ShapeError("block: lists must not be empty")
    depths = {_depth(item) for item in arrays}
    if len(depths) > 1:
        raise ShapeError("block: all blocks must be at the same depth of the nested lists")
    return depths.pop() + 1


def _blocks(arrays: Any) -> list[Array]:
    if not isinstance(arrays, list):
        return [to_array("block", arrays)]
    return [block_ for item in arrays for block_ in _blocks(item)]


# ------------------------------------------------------------------------------------------------------------ cutting


def unstack(x: ArrayLike, /, *, axis: int = 0) -> tuple[Array, ...]:
    """The pieces along an axis, without that axis."""
    x = to_array("unstack", x)
    if x.ndim == 0:
        raise ShapeError("unstack: an array of rank 0 has no axis to take apart")
    axis = normalize_axis("unstack", axis, x.shape)
    pieces = (lax.slice_in_dim(x, i, i + 1, axis=axis) for i in range(x.shape[axis]))
    return tuple(lax.squeeze(piece, (axis,)) for piece in pieces)


def array_split(ary: ArrayLike, indices_or_sections: Any, axis: int = 0) -> list[Array]:
    """Cut along an axis at the given indices, or into that many pieces whose lengths differ by at most 1."""
    return _split("array_split", ary, indices_or_sections, axis)


def split(ary: ArrayLike, indices_or_sections: Any, axis: int = 0) -> list[Array]:
    """Cut along an axis at the given indices, or into that many equal pieces.

    Raises:
        ShapeError: the pieces would not be equal.
    """
    return _split("split", ary, indices_or_sections, axis)


def vsplit(ary: ArrayLike, indices_or_sections: Any) -> list[Array]:
    """`split` along the first axis."""
    return _split("vsplit", ary, indices_or_sections, 0)


def hsplit(ary: ArrayLike, indices_or_sections: Any) -> list[Array]:
    """`split` along the second axis; vectors along their only one."""
    return _split("hsplit", ary, indices_or_sections, 0 if np.ndim(ary) == 1 else 1)


def dsplit(ary: ArrayLike, indices_or_sections: Any) -> list[Array]:
    """`split` along the third axis."""
    return _split("dsplit", ary, indices_or_sections, 2)


def _split(name: str, ary: ArrayLike, indices_or_sections: Any, axis: int) -> list[Array]:
    ary = to_array(name, ary)
    axis = normalize_axis(name, axis, ary.shape)
    size = ary.shape[axis]
    where = "where to cut must be known while tracing"
    if isinstance(indices_or_sections, (tuple, list)) or np.ndim(indices_or_sections) > 0:
        cuts = [int(concrete(name, cut, where)) for cut in indices_or_sections]
        # as slices do: negative positions count from the end, larger ones mean the end
        cuts = [min(max(cut + size if cut < 0 else cut, 0), size) for cut in cuts]
        bounds = [0, *cuts, size]
    else:
        count = int(concrete(name, indices_or_sections, where))
        if count <= 0:
            raise ShapeError(f"{name}: the number of pieces must be positive, got {count}")
        if size % count and name != "array_split":
            raise ShapeError(
                f"{name}: axis {axis} of shape {ary.shape} cannot be cut into {count} equal pieces; use array_split"
            )
        longer = size % count
        bounds = [i * (size // count) + min(i, longer) for i in range(count + 1)]
    pairs = itertools.pairwise(bounds)
    return [lax.slice_in_dim(ary, start, max(start, stop), axis=axis) for start, stop in pairs]


# ---------------------------------------------------------------------------------------------------------- repeating


def tile(A: ArrayLike, reps: int | Sequence[int]) -> Array:
    """The array repeated as a whole, `reps[i]` times along axis i."""
    a = to_array("tile", A)
    counts = as_ints(reps)
    rank = max(a.ndim, len(counts))
    counts = (1,) * (rank - len(counts)) + counts
    shape = (1,) * (rank - a.ndim) + a.shape
    if all(count == 1 for count in counts):
        return reshape(a, shape)
    # one new axis in front of each repeated one, then merge the two
    spread = tuple(size for count, length in zip(counts, shape, strict=True) for size in (count, length))
    places = tuple(2 * (rank - a.ndim + i) + 1 for i in range(a.ndim))
    merged = tuple(count * length for count, length in zip(counts, shape, strict=True))
    return lax.reshape(lax.broadcast_in_dim(a, spread, places), merged)


def repeat(
    a: ArrayLike,
    repeats: ArrayLike,
    axis: int | None = None,
    *,
    total_repeat_length: int | None = None,
    out_sharding: None = None,
) -> Array:
    """Each element along `axis` (None: of the flattened array) repeated; `repeats` is one number, or one for each.

    Arguments:
        total_repeat_length: length of the result along the axis, required when `repeats` is traced; what is too long
            is cut off, and what is too short is filled up with the last element.
    """
    a = to_array("repeat", a)
    if axis is None:
        a, axis = lax.reshape(a, (a.size,)), 0
    axis = normalize_axis("repeat", axis, a.shape)
    size = a.shape[axis]
    if total_repeat_length is None:
        counts = concrete(
            "repeat", repeats, "the length of the result depends on repeats, which is traced: pass total_repeat_length="
        )
        if counts.dtype.kind not in "iub":
            raise NotAnArrayError(f"repeat: repeats must be integers, got dtype {counts.dtype}")
        if counts.size and counts.min() < 0:
            raise ShapeError("repeat: repeats must not be negative")
        if counts.size == 1:
            return _repeat_evenly(a, int(counts.reshape(())), axis)
        if counts.shape != (size,):
            raise ShapeError(f"repeat: repeats of shape {counts.shape} do not fit axis {axis} of shape {a.shape}")
        index: Any = np.repeat(np.arange(size), counts)
    else:
        index = _traced_repeat_index(to_array("repeat", repeats), size, int(total_repeat_length))
    return a[(slice(None),) * axis + (index,)]


def _repeat_evenly(a: Array, count: int, axis: int) -> Array:
    if count == 1:
        return a
    before, after = a.shape[: axis + 1], a.shape[axis + 1 :]
    places = tuple(i if i <= axis else i + 1 for i in range(a.ndim))
    spread = lax.broadcast_in_dim(a, (*before, count, *after), places)
    return lax.reshape(spread, (*a.shape[:axis], a.shape[axis] * count, *after))


def _traced_repeat_index(repeats: Array, size: int, total: int) -> Array:
    """For every place of the result the element it shows: how many runs have ended before it."""
    repeats = convert(repeats, np.dtype(np.int32))
    if repeats.ndim == 0 or repeats.shape == (1,):
        repeats = lax.broadcast_in_dim(repeats, (size,), tuple(range(repeats.ndim)))
    ends = lax.cumsum(repeats, 0)
    marks = filled((total,), 0, np.dtype(np.int32)).at[ends].add(1, mode="drop")
    return lax.min(lax.cumsum(marks, 0), np.int32(max(size - 1, 0)))
