"""What `x[index]` means, worked out before anything is computed.

NumPy's indexing does several things at once. An `IndexPlan` takes them apart:

1. a *view*: integers and slices with any step, as slice, reverse and squeeze; an integer that is not known while
   tracing makes it a `dynamic_slice`;
2. *positions*: index arrays, which pick elements along their axes;
3. *new axes*, one for each None.

Reading follows these steps, updating goes through them and back.
"""

from __future__ import annotations

import itertools
import operator
from collections.abc import Sequence
from typing import Any

import numpy as np

from asgfn import dtypes, lax
from asgfn.errors import (
    AsgError,
    ConcretizationError,
    DTypeError,
    IndexingError,
    IndexOutOfRangeError,
    NonConcreteBooleanIndexError,
)
from asgfn.numpy.arguments import broadcast_shapes
from asgfn.primitives.gather import GatherDimensionNumbers, GatherScatterMode
from asgfn.primitives.slicing import as_index_operand
from asgfn.records import record
from asgfn.tracing import Array, ConcreteArray, as_array

# ------------------------------------------------------------------------------------------- what an index consists of


def as_tuple(index: Any) -> tuple[Any, ...]:
    """The entries of an index. A list is refused: NumPy's meaning of one has changed over the years."""
    if isinstance(index, tuple):
        return index
    if isinstance(index, Sequence) and not isinstance(index, (str, bytes, Array)):
        nested = any(isinstance(i, (Sequence, slice)) or i is None or i is Ellipsis for i in index)
        fix = "x[tuple(...)]" if nested else "x[jnp.array(...)]"
        raise DTypeError(
            f"indexing with a {type(index).__name__} is not supported, because NumPy reads one in several ways; use {fix}"
        )
    return (index,)


def is_boolean_array(entry: Any) -> bool:
    return isinstance(entry, (Array, np.ndarray)) and entry.dtype == np.bool_ and entry.ndim > 0


def _canonical(entry: Any, where: str) -> Any:
    """An entry as one of: None, Ellipsis, slice, bool, int, np.ndarray or Array (integers, or a mask as np.ndarray)."""
    if entry is None or entry is Ellipsis or isinstance(entry, slice):
        return entry
    if isinstance(entry, (bool, np.bool_)):
        return bool(entry)
    if isinstance(entry, (int, np.integer)):
        return int(entry)
    if isinstance(entry, (Array, np.ndarray)):
        entry = entry.value if isinstance(entry, ConcreteArray) else entry
        if entry.dtype == np.bool_:
            return _concrete_mask(entry, where)
        if dtypes.is_integer(entry.dtype):
            return entry
        raise DTypeError(
            f"{where}: an index must be of integer or boolean dtype, got {entry.dtype}; "
            "convert it with .astype(int), or use // instead of / where it is computed"
        )
    if isinstance(entry, str):
        raise DTypeError(f"{where}: arrays are not indexed by strings, got {entry!r}")
    if isinstance(entry, Sequence):
        if not len(entry):
            return np.zeros(0, np.int32)
        if any(isinstance(item, (Array, Sequence)) for item in entry):
            from asgfn.numpy.creation import asarray

            return _canonical(asarray(entry), where)
        return _canonical(np.asarray(entry), where)
    if isinstance(entry, (float, complex, np.generic)):
        raise DTypeError(
            f"{where}: an index must be an integer or a boolean, got {entry!r} of type {type(entry).__name__}; "
            "convert it with int(...), or use // instead of / where it is computed"
        )
    if hasattr(type(entry), "__index__"):
        return operator.index(entry)
    if hasattr(type(entry), "__jax_array__") or hasattr(type(entry), "__array__"):
        return _canonical(as_array(entry), where)
    raise IndexingError(
        f"{where}: {entry!r} of type {type(entry).__name__} is not an index; use integers, slices, ..., None, or arrays "
        "of integers or booleans"
    )


def _concrete_mask(mask: Any, where: str) -> Any:
    try:
        value = np.asarray(mask)
    except ConcretizationError as error:
        raise NonConcreteBooleanIndexError(
            f"{where}: a boolean mask of shape {mask.shape} is traced, so how many elements it picks, and with it the "
            "shape of the result, is not known. Use jnp.where(mask, x, other) to keep the shape, reductions with "
            "where=mask, or jnp.nonzero(mask, size=n) and jnp.where(mask, size=n) for at most n positions. "
            f"x.at[mask].set(scalar) works with a traced mask. ({error.args[0]})"
        ) from None
    return value if value.ndim else bool(value)


@record
class _Mask:
    """A mask's coordinates on one of its axes."""

    coordinates: np.ndarray


def _expand(index: Any, shape: tuple[int, ...]) -> tuple[list[Any], bool]:
    """The index with one entry for each axis of the array (plus None, bool and Ellipsis entries, which use up none).

    The second result tells whether the only arrays in it are the coordinates of one mask.
    """
    where = f"indexing an array of shape {shape}"
    entries = [_canonical(entry, where) for entry in as_tuple(index)]
    used = 0
    for entry in entries:
        if isinstance(entry, np.ndarray) and entry.dtype == np.bool_:
            used += entry.ndim
        elif entry is not None and entry is not Ellipsis and not isinstance(entry, bool):
            used += 1
    ellipses = sum(entry is Ellipsis for entry in entries)
    if ellipses > 1:
        raise IndexingError(f"{where}: an index can have only one ellipsis (...), got {ellipses}")
    if used > len(shape):
        raise IndexingError(
            f"{where}: too many indices: the array has {len(shape)} axes, but {used} are indexed; "
            "remove an index, or add an axis with None"
        )
    if not ellipses:
        entries.append(Ellipsis)

    expanded: list[Any] = []
    axis = 0
    masks = 0
    for entry in entries:
        if entry is Ellipsis:
            # The ellipsis itself stays: even where it stands for no axis it keeps the indices beside it apart.
            expanded += [Ellipsis, *[slice(None)] * (len(shape) - used)]
            axis += len(shape) - used
        elif isinstance(entry, np.ndarray) and entry.dtype == np.bool_:
            axes = shape[axis : axis + entry.ndim]
            if not all(size in (0, axis_size) for size, axis_size in zip(entry.shape, axes, strict=True)):
                raise IndexingError(
                    f"{where}: a boolean mask of shape {entry.shape} must match the axes that it indexes, from axis {axis} "
                    f"on, which have shape {axes}"
                )
            expanded += [_Mask(coordinates) for coordinates in np.nonzero(entry)]
            axis += entry.ndim
            masks += 1
        else:
            expanded.append(entry)
            axis += entry is not None and not isinstance(entry, bool)
    others = any(isinstance(e, (bool, Array)) or (isinstance(e, np.ndarray) and e.ndim) for e in expanded)
    return expanded, masks == 1 and not others


def _static_slice(entry: slice, size: int, axis: int, shape: tuple[int, ...]) -> tuple[int, int, int, bool]:
    """Start, limit and positive stride of a slice, and whether its elements then have to be reversed."""
    try:
        bounds = [None if v is None else operator.index(v) for v in (entry.start, entry.stop, entry.step)]
    except ConcretizationError as error:
        raise ConcretizationError(
            f"indexing axis {axis} of an array of shape {shape}: the bounds of a slice must be known while tracing, "
            f"because they decide the result's shape; use lax.dynamic_slice_in_dim(x, start, size, axis) for a traced "
            f"start with a known size ({error.args[0]})"
        ) from None
    except TypeError:
        raise DTypeError(f"the bounds of a slice must be integers or None, got {entry}") from None
    start, stop, step = slice(*bounds).indices(size)
    count = len(range(start, stop, step))
    if not count:
        return 0, 0, 1, False
    last = start + (count - 1) * step
    low, high = min(start, last), max(start, last)
    return low, high + 1, abs(step) if count > 1 else 1, step < 0 and count > 1


# --------------------------------------------------------------------------------------------------------- the plan


@record
class IndexPlan:
    """The steps of `x[index]`.

    Attributes:
        inserted: axes of size 1 to give x first (one for each scalar boolean).
        starts, limits, strides, reversed_axes, squeezed: the view.
        scalars: (axis, integer) for each axis on which the view is one element at a computed position.
        positions: (axis of the view, integers) for each axis that index arrays pick from; then there are no scalars.
        position_shape: the joint shape of the positions.
        position_axis: where these axes are in the result without new axes.
        new_axes: where the result has new axes.
        shape: the result's shape.
        missing: a constant index is out of bounds, and the mode says to fill or drop.
        distinct: the positions are known to be distinct and in ascending order.
    """

    inserted: tuple[int, ...]
    starts: tuple[int, ...]
    limits: tuple[int, ...]
    strides: tuple[int, ...]
    reversed_axes: tuple[int, ...]
    squeezed: tuple[int, ...]
    scalars: tuple[tuple[int, Any], ...]
    positions: tuple[tuple[int, Any], ...]
    position_shape: tuple[int, ...]
    position_axis: int
    new_axes: tuple[int, ...]
    shape: tuple[int, ...]
    missing: bool
    distinct: bool

    # ------------------------------------------------------------------ the view, there and back
    def view(self, x: Array) -> Array:
        """Step 1 of reading. A scalar position that is out of bounds is clamped."""
        x = lax.expand_dims(x, self.inserted)
        starts, limits = self.starts, self.limits
        if self.scalars:
            x = self._window(x)
            starts, limits = (0,) * x.ndim, x.shape
        if limits != x.shape or any(starts) or self._strided:
            x = lax.slice(x, starts, limits, self.strides)
        if self.reversed_axes:
            x = lax.rev(x, self.reversed_axes)
        return lax.squeeze(x, self.squeezed)

    def put_view(self, x: Array, new: Array) -> Array:
        """x with its view replaced by `new`: `view` backwards."""
        x = lax.expand_dims(x, self.inserted)
        new = lax.expand_dims(new, self.squeezed)
        if self.reversed_axes:
            new = lax.rev(new, self.reversed_axes)
        if self.scalars:
            if self._strided:
                new = _put_strided(self._window(x), new, (0,) * x.ndim, self.strides)
            x = lax.dynamic_update_slice(x, new, self._window_starts, allow_negative_indices=False)
        elif self._strided:
            x = _put_strided(x, new, self.starts, self.strides)
        elif new.shape != x.shape:
            x = lax.dynamic_update_slice(x, new, self.starts)
        else:
            x = new
        return lax.squeeze(x, self.inserted)

    @property
    def _strided(self) -> bool:
        return any(stride != 1 for stride in self.strides)

    @property
    def _window_starts(self) -> list[Any]:
        starts: list[Any] = list(self.starts)
        for axis, index in self.scalars:
            starts[axis] = index
        return starts

    def _window(self, x: Array) -> Array:
        sizes = [limit - start for start, limit in zip(self.starts, self.limits, strict=True)]
        return lax.dynamic_slice(x, self._window_starts, sizes, allow_negative_indices=False)

    def scalars_inside(self, x: Array) -> Any:
        """bool[]: whether all scalar positions are in bounds."""
        inside = None
        for axis, index in self.scalars:
            here = lax.bitwise_and(lax.ge(index, _constant(0, index)), lax.lt(index, _constant(x.shape[axis], index)))
            inside = here if inside is None else lax.bitwise_and(inside, here)
        return inside

    # ------------------------------------------------------------------ index arrays
    def window_sizes(self, view_shape: tuple[int, ...]) -> tuple[int, ...]:
        """The view's shape with 1 on the axes of the positions."""
        axes = {axis for axis, _ in self.positions}
        return tuple(1 if axis in axes else size for axis, size in enumerate(view_shape))

    def gather_numbers(self, view_rank: int) -> GatherDimensionNumbers:
        """The dimension numbers that pick the positions out of the view."""
        axes = tuple(axis for axis, _ in self.positions)
        rank = view_rank - len(axes) + len(self.position_shape)
        picked = range(self.position_axis, self.position_axis + len(self.position_shape))
        offset_dims = tuple(axis for axis in range(rank) if axis not in picked)
        return GatherDimensionNumbers(offset_dims, axes, axes)

    def index_vectors(self) -> Any:
        """The positions as one array int[*position_shape, number of positions]."""
        shape = (*self.position_shape, 1)
        indices = [index for _, index in self.positions]
        if all(isinstance(index, np.ndarray) for index in indices):
            return np.stack([np.broadcast_to(index, self.position_shape) for index in indices], -1)
        rank = len(self.position_shape)
        columns = [lax.broadcast_in_dim(index, shape, range(rank - index.ndim, rank)) for index in indices]
        return lax.concatenate(columns, rank)


def _constant(value: int, like: Any) -> np.ndarray:
    return np.asarray(value, like.dtype)


def _put_strided(x: Array, new: Array, starts: tuple[int, ...], strides: tuple[int, ...]) -> Array:
    """x with `new` at starts, starts + strides, ...: both are spread over the shape of x, and one is selected."""
    config = []
    for start, stride, size, n in zip(starts, strides, x.shape, new.shape, strict=True):
        config.append((start, size - start - (max(n - 1, 0) * stride + min(n, 1)), stride - 1))
    covered = lax.pad(lax.full(new.shape, True, np.bool_), False, config)
    return lax.select(covered, lax.pad(new, 0, config), x)


def _normalized(index: Any, size: int, wrap: bool, dtype: np.dtype) -> Any:
    """Positions in `dtype`, negative ones counted from the end; far-off ones stay out of bounds."""
    if isinstance(index, Array):
        return as_index_operand(index, size, wrap, dtype)
    if index.dtype.kind == "u":
        index = np.minimum(index, np.uint64(size))
    index = index.astype(np.int64)
    if wrap:
        index = np.where(index < 0, index + size, index)
    return np.clip(index, -1, size).astype(dtype)


def plan_index(index: Any, shape: tuple[int, ...], mode: Any = None, wrap_negative_indices: bool = True) -> IndexPlan:
    """Takes an index apart, for an array of this shape.

    Arguments:
        mode: what to do about a constant integer that is out of bounds. None raises, "clip" and "promise_in_bounds"
            clamp, "fill" and "drop" mark the plan as `missing`.

    Raises:
        IndexOutOfRangeError, IndexingError, DTypeError, ConcretizationError: an index that does not fit.
    """
    entries, distinct = _expand(index, shape)
    mode = None if mode is None else GatherScatterMode.from_any(mode)
    full_shape = shape
    shape = ()  # grows by the array's axes and by inserted ones
    inserted, starts, limits, strides, reversed_axes, squeezed, new_axes = [], [], [], [], [], [], []
    found: list[tuple[int, Any]] = []  # (axis, index) of positions; scalars that are known go into the view
    advanced_at = []  # where in `entries` there are indices that NumPy calls advanced
    any_array = any(isinstance(e, (bool, _Mask)) or (isinstance(e, (np.ndarray, Array)) and e.ndim) for e in entries)
    missing = False
    source_axis = 0

    for at, entry in enumerate(entries):
        if entry is None or entry is Ellipsis:
            continue
        axis = len(shape)
        size = 1 if isinstance(entry, bool) else full_shape[source_axis]
        shape += (size,)
        start, limit, stride = 0, size, 1
        if isinstance(entry, slice):
            start, limit, stride, backwards = _static_slice(entry, size, source_axis, full_shape)
            if backwards:
                reversed_axes.append(axis)
        else:
            advanced_at.append(at)
            if isinstance(entry, bool):
                inserted.append(axis)
                found.append((axis, np.arange(int(entry))))
            elif isinstance(entry, int):
                start, absent = _constant_position(entry, size, source_axis, full_shape, mode, wrap_negative_indices)
                missing |= absent
                limit = start + 1
                squeezed.append(axis)
            else:
                entry = entry.coordinates if isinstance(entry, _Mask) else entry
                if size == 0 and (entry.ndim == 0 or entry.size):
                    if mode != GatherScatterMode.FILL_OR_DROP:
                        raise IndexOutOfRangeError(
                            f"index of shape {entry.shape} into axis {source_axis} of size 0, array of shape "
                            f"{full_shape}: there is nothing to pick from"
                        )
                    missing = True
                found.append((axis, entry))
        source_axis += not isinstance(entry, bool)
        starts.append(start)
        limits.append(limit)
        strides.append(stride)

    wide = any(index.dtype.itemsize == 8 and isinstance(index, Array) for _, index in found)
    dtype = np.dtype(np.int64 if wide else np.int32)
    found = [(axis, _normalized(index, shape[axis], wrap_negative_indices, dtype)) for axis, index in found]
    scalars: tuple[tuple[int, Any], ...] = ()
    if not any_array:
        scalars, found = tuple(found), []
        for axis, _ in scalars:
            limits[axis] = 1
            squeezed.append(axis)
    positions = tuple((axis - sum(s < axis for s in squeezed), index) for axis, index in found)
    try:
        position_shape = broadcast_shapes(*(index.shape for _, index in positions))
    except AsgError:
        listed = ", ".join(str(index.shape) for _, index in positions)
        raise IndexingError(
            f"indexing an array of shape {full_shape}: index arrays of shapes {listed} do not broadcast together"
        ) from None

    # The result: positions take the place of the advanced indices when these stand side by side, else they come first.
    together = all(b - a == 1 for a, b in itertools.pairwise(advanced_at))
    block = list(position_shape)
    result = [] if together else block.copy()
    position_axis = 0
    axis = 0
    for at, entry in enumerate(entries):
        if entry is Ellipsis:
            continue
        if entry is None:
            new_axes.append(len(result))
            result.append(1)
            continue
        if isinstance(entry, slice):
            result.append(-(-(limits[axis] - starts[axis]) // strides[axis]))
        elif together and at == advanced_at[0]:
            position_axis = len(result) - len(new_axes)
            result += block
        axis += 1
    return IndexPlan(
        inserted=tuple(inserted),
        starts=tuple(starts),
        limits=tuple(limits),
        strides=tuple(strides),
        reversed_axes=tuple(reversed_axes),
        squeezed=tuple(sorted(squeezed)),
        scalars=scalars,
        positions=positions,
        position_shape=position_shape,
        position_axis=position_axis,
        new_axes=tuple(new_axes),
        shape=tuple(result),
        missing=missing,
        distinct=distinct,
    )


def _constant_position(
    index: int, size: int, axis: int, shape: tuple[int, ...], mode: Any, wrap: bool
) -> tuple[int, bool]:
    """The position that a constant integer means, and whether it is absent."""
    position = index + size if index < 0 and wrap else index
    if 0 <= position < size:
        return position, False
    if mode is None or (size == 0 and mode != GatherScatterMode.FILL_OR_DROP):
        valid = f"valid indices are {-size if wrap else 0} to {size - 1}" if size else "it has no elements"
        raise IndexOutOfRangeError(
            f"index {index} is out of bounds for axis {axis} of size {size}, array of shape {shape}; {valid}"
        )
    return min(max(position, 0), size - 1), mode == GatherScatterMode.FILL_OR_DROP
