"""Indexing in NumPy: slices as views, gathers as fancy indexing, scatters as fancy assignment.

A gather or scatter is brought to one form. The axes of the operand fall into those that each window covers whole
("kept": a position there can only be 0) and those where windows start somewhere ("placed"). The placed axes are
merged into one axis of places, so that everything is an operation on rows: `rows[places]`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from asgfn import dtypes
from asgfn.graph.types import ArrayType
from asgfn.primitives.gather import GatherScatterMode, default_fill_value, window_axes
from asgfn.primitives.scatter import window_sizes
from backends.numpy.registry import kernel

# ---------------------------------------------------------------------------------------------------------- windows


@kernel("slice")
def _(in_types, out_types, *, start_indices, limit_indices, strides):
    bounds = zip(start_indices, limit_indices, strides or (1,) * len(start_indices), strict=True)
    index = tuple(slice(*bound) for bound in bounds)
    return lambda x: x[index]


def _window(starts: Sequence[np.ndarray], sizes: Sequence[int], room: Sequence[int]) -> tuple[slice, ...]:
    """The window of these sizes that starts as near to `starts` as the room left over on each axis allows."""
    clamped = [min(max(int(start), 0), free) for start, free in zip(starts, room, strict=True)]
    return tuple([slice(start, start + size) for start, size in zip(clamped, sizes, strict=True)])


@kernel("dynamic_slice")
def _(in_types, out_types, *, slice_sizes):
    room = [size - window for size, window in zip(in_types[0].shape, slice_sizes, strict=True)]
    return lambda x, *starts: x[_window(starts, slice_sizes, room)]


@kernel("dynamic_update_slice")
def _(in_types, out_types):
    sizes = in_types[1].shape
    room = [size - window for size, window in zip(in_types[0].shape, sizes, strict=True)]

    def run(x, update, *starts):
        out = np.array(x)  # not x.copy(): of rank 0, ufuncs return NumPy scalars, whose copies cannot be assigned to
        out[_window(starts, sizes, room)] = update
        return out

    return run


@kernel("pad")
def _(in_types, out_types, *, padding_config):
    """Element i lands on low + i * step; the elements that negative padding cuts off are not copied."""
    source, target = [], []
    for (low, _, interior), size, out_size in zip(padding_config, in_types[0].shape, out_types[0].shape, strict=True):
        step = interior + 1
        first = max(0, -(low // step))  # the first element with low + i * step >= 0
        count = max(0, min(size, -((low - out_size) // step)) - first)
        begin = low + first * step if count else 0
        source.append(slice(first, first + count))
        target.append(slice(begin, begin + (count - 1) * step + 1 if count else 0, step))
    source_window, target_window = tuple(source), tuple(target)
    shape, dtype = out_types[0].shape, out_types[0].dtype

    def run(x, value):
        out = np.full(shape, value, dtype)
        out[target_window] = x[source_window]
        return out

    return run


@kernel("concatenate")
def _(in_types, out_types, *, dimension):
    return lambda *xs: np.concatenate(xs, dimension)


@kernel("rev")
def _(in_types, out_types, *, dimensions):
    index = tuple(slice(None, None, -1) if d in dimensions else slice(None) for d in range(in_types[0].ndim))
    return lambda x: x[index]


# ------------------------------------------------------------------------------------------- places of many windows


class _Windows:
    """The geometry of a gather or scatter, worked out once.

    Attributes:
        placed, kept: axes of the operand, see the module's text.
        places_shape: the shape of the array of places: the positions, then the window's extent on the placed axes.
        arrange: permutation that brings the axes of the windows (gather's result, scatter's updates) into the order
            of `places_shape`, then the kept axes.
    """

    def __init__(self, operand: ArrayType, indices: ArrayType, numbers: Any, sizes: tuple[int, ...]):
        window_dims, collapsed, index_map, batching, index_batching = numbers
        rank = operand.ndim
        positions = indices.ndim - 1
        self.shape = operand.shape
        self.index_map = index_map
        self.room = [operand.shape[axis] - sizes[axis] for axis in index_map]
        covered = [sizes[axis] == operand.shape[axis] and axis not in batching for axis in range(rank)]
        self.kept = [axis for axis in range(rank) if covered[axis]]
        self.placed = [axis for axis in range(rank) if not covered[axis]]

        window_axis_of = dict(zip(window_axes(rank, collapsed, batching), window_dims, strict=True))
        result_rank = positions + len(window_dims)
        position_axes = [axis for axis in range(result_rank) if axis not in window_dims]
        extent_axes = [axis for axis in self.placed if axis in window_axis_of]
        self.places_shape = indices.shape[:-1] + tuple(sizes[axis] for axis in extent_axes)
        self.arrange = (
            position_axes
            + [window_axis_of[axis] for axis in extent_axes]
            + [window_axis_of[axis] for axis in self.kept if axis in window_axis_of]
        )
        self.kept_shape = tuple(operand.shape[axis] for axis in self.kept)
        self.window_kept_shape = tuple(sizes[axis] for axis in self.kept if axis in window_axis_of)

        # What is added to the start of a window: the offset inside of it, or the step of a batching axis.
        places_rank = len(self.places_shape)
        self.offsets: dict[int, np.ndarray] = {}
        for k, axis in enumerate(extent_axes):
            self.offsets[axis] = np.arange(sizes[axis]).reshape(
                [-1 if d == positions + k else 1 for d in range(places_rank)]
            )
        for axis, index_axis in zip(batching, index_batching, strict=True):
            steps = np.arange(operand.shape[axis])
            self.offsets[axis] = steps.reshape([-1 if d == index_axis else 1 for d in range(places_rank)])
        self.spread = (slice(None),) * positions + (None,) * len(extent_axes)

    def inside(self, indices: np.ndarray) -> np.ndarray:
        """bool[positions]: whether the whole window lies in the operand."""
        inside = np.ones(indices.shape[:-1], bool)
        for k, room in enumerate(self.room):
            inside &= indices[..., k] <= indices.dtype.type(min(room, np.iinfo(indices.dtype).max))
            if indices.dtype.kind == "i":
                inside &= indices[..., k] >= 0
        return inside

    def coordinates(self, indices: np.ndarray) -> list[np.ndarray]:
        """For each placed axis, integers that broadcast to `places_shape`; windows are moved to lie in the operand."""
        found = []
        for axis in self.placed:
            at = self.offsets.get(axis)
            if axis in self.index_map:
                k = self.index_map.index(axis)
                start = indices[..., k]
                if start.dtype == np.uint64:
                    start = np.minimum(start, np.uint64(self.room[k]))
                start = np.clip(start.astype(np.int64, copy=False), 0, self.room[k])[self.spread]
                at = start if at is None else start + at
            found.append(np.zeros((), np.int64) if at is None else at)
        return found


@kernel("gather")
def _(in_types, out_types, *, dimension_numbers, slice_sizes, unique_indices, indices_are_sorted, mode, fill_value):
    operand, indices = in_types
    result = out_types[0]
    if not result.size:
        return lambda x, at: np.empty(result.shape, result.dtype)
    windows = _Windows(operand, indices, dimension_numbers, slice_sizes)
    placed_first = windows.placed + windows.kept
    restore = np.argsort(windows.arrange)
    arranged_shape = windows.places_shape + windows.window_kept_shape
    before = windows.placed[0] if windows.placed else 0  # the kept axes in front of a single placed one
    last = before + len(windows.places_shape)
    places_first = (*range(before, last), *range(before), *range(last, last + len(windows.kept) - before))

    def read(x, at):
        coordinates = windows.coordinates(at)
        if len(coordinates) == 1:
            (axis,) = windows.placed
            places = np.broadcast_to(coordinates[0], windows.places_shape)
            found = x.take(places, axis) if x.flags.c_contiguous else x[(slice(None),) * axis + (places,)]
            found = found.transpose(places_first)
        elif coordinates:
            found = x.transpose(placed_first)[tuple(np.broadcast_arrays(*coordinates))]
        else:
            found = x
        if found.shape != windows.places_shape + windows.kept_shape:  # every coordinate has one value for all windows
            found = np.broadcast_to(found, windows.places_shape + windows.kept_shape)
        return found.reshape(arranged_shape).transpose(restore)

    if mode != GatherScatterMode.FILL_OR_DROP:
        return read

    filling = np.asarray(default_fill_value(result.dtype) if fill_value is None else fill_value).astype(result.dtype)
    window_dims = dimension_numbers.offset_dims

    def read_or_fill(x, at):
        found = read(x, at)
        inside = windows.inside(at)
        return found if inside.all() else np.where(np.expand_dims(inside, window_dims), found, filling)

    return read_or_fill


# ---------------------------------------------------------------------------------------------------------- scatter


_Write = Callable[[np.ndarray, np.ndarray, np.ndarray, bool], None]
_CHUNK = 1 << 22  # elements of a combined update that are addressed at a time, to bound the memory for addresses


def _assign(rows: np.ndarray, places: np.ndarray, updates: np.ndarray, distinct: bool) -> None:
    rows[places] = updates  # of several updates of a place, NumPy keeps the last


def _combine(ufunc: np.ufunc) -> _Write:
    """Combines updates into rows one after the other; all at once when their places are distinct."""

    def run(rows: np.ndarray, places: np.ndarray, updates: np.ndarray, distinct: bool) -> None:
        if distinct:
            rows[places] = ufunc(rows[places], updates)
            return
        # `ufunc.at` is fast for vectors only, so every element is addressed by itself.
        elements, width = rows.reshape(-1), rows.shape[1]
        columns = np.arange(width)
        step = max(1, _CHUNK // width)
        for begin in range(0, len(places), step):
            some = slice(begin, begin + step)
            addresses = places[some] if width == 1 else (places[some, None] * width + columns).reshape(-1)
            ufunc.at(elements, addresses, np.ascontiguousarray(updates[some]).reshape(-1))

    return run


def _scatter_kernel(name: str, write: _Write) -> None:
    @kernel(name)
    def _(in_types, out_types, *, dimension_numbers, indices_are_sorted, unique_indices, mode):
        operand, indices, updates = in_types
        if not updates.size or not operand.size:
            return lambda x, at, values: x
        sizes = window_sizes(operand.shape, updates.shape, dimension_numbers)
        windows = _Windows(operand, indices, dimension_numbers, sizes)
        placed_first = windows.placed + windows.kept
        restore = np.argsort(placed_first)
        ordered_shape = tuple(operand.shape[axis] for axis in placed_first)
        strides = np.cumprod([1, *ordered_shape[1 : len(windows.placed)][::-1]])[::-1]
        row = int(np.prod(windows.kept_shape, dtype=np.int64))
        positions = int(np.prod(indices.shape[:-1], dtype=np.int64))
        widen = operand.dtype.itemsize < 4 and dtypes.is_floating(operand.dtype) and write is not _assign
        work_dtype = np.float32 if widen else operand.dtype

        def run(x, at, values):
            rows = np.array(x.transpose(placed_first), dtype=work_dtype, order="C").reshape(-1, row)
            places = np.zeros((), np.int64)
            for stride, coordinate in zip(strides, windows.coordinates(at), strict=False):
                places = places + stride * coordinate if stride != 1 else places + coordinate
            places = np.broadcast_to(places, windows.places_shape)
            values = values.transpose(windows.arrange).astype(work_dtype, copy=False)
            if mode != GatherScatterMode.CLIP:
                inside = windows.inside(at)
                if not inside.all():
                    inside = inside.reshape(-1)
                    places = places.reshape(positions, -1)[inside]
                    values = values.reshape(positions, -1)[inside]
            write(rows, places.reshape(-1), values.reshape(-1, row), unique_indices)
            return rows.astype(operand.dtype, copy=False).reshape(ordered_shape).transpose(restore)

        return run


_scatter_kernel("scatter", _assign)
_scatter_kernel("scatter_add", _combine(np.add))
_scatter_kernel("scatter_mul", _combine(np.multiply))
_scatter_kernel("scatter_min", _combine(np.minimum))
_scatter_kernel("scatter_max", _combine(np.maximum))
