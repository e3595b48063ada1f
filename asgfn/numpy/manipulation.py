"""Changing the shape of an array without changing its elements: reshape, transpose, broadcast, ..."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, overload

import numpy as np

from asgfn import lax
from asgfn.errors import AxisError, DTypeError, ShapeError
from asgfn.numpy.arguments import (
    ArrayLike,
    broadcast_operand,
    broadcast_shapes,
    canonical_shape,
    normalize_axes,
    normalize_axis,
    to_array,
    to_arrays,
)
from asgfn.numpy.arithmetic import remainder
from asgfn.tracing import Array


def shape(a: ArrayLike) -> tuple[int, ...]:
    """The lengths of the axes."""
    return tuple(a.shape) if hasattr(a, "shape") else to_array("shape", a).shape


def ndim(a: ArrayLike) -> int:
    """The number of axes."""
    return len(shape(a))


def size(a: ArrayLike, axis: int | Sequence[int] | None = None) -> int:
    """The number of elements, in all or along some axes."""
    full = shape(a)
    return math.prod(full[i] for i in normalize_axes("size", axis, full))


# ------------------------------------------------------------------------------------------------------ same elements


def reshape(
    a: ArrayLike,
    shape: int | Sequence[int],
    order: str = "C",
    *,
    copy: bool | None = None,
    out_sharding: None = None,
) -> Array:
    """The elements of `a` in another shape, read and written in row-major order ("C") or column-major order ("F").

    One size may be -1: it is what remains of `a.size`.

    Raises:
        ShapeError: the sizes do not multiply to `a.size`.
    """
    a = to_array("reshape", a)
    new = resolve_shape(a.shape, shape)
    if order == "F":
        # column-major order of a shape is row-major order of the reversed axes
        return _reversed_axes(lax.reshape(_reversed_axes(a), new[::-1]))
    if order not in ("C", "A", "K"):
        raise DTypeError(f"reshape: order must be 'C' or 'F', got {order!r}")
    return a if new == a.shape else lax.reshape(a, new)


def _reversed_axes(a: Array) -> Array:
    return lax.transpose(a, tuple(range(a.ndim))[::-1]) if a.ndim > 1 else a


def resolve_shape(old: tuple[int, ...], new: Any) -> tuple[int, ...]:
    """A reshape's target with -1 replaced by what remains of the elements."""
    if np.ndim(new) == 0:
        new = (new,)
    holes = [i for i, size in enumerate(new) if isinstance(size, (int, np.integer)) and size == -1]
    if len(holes) > 1:
        raise ShapeError(f"reshape: only one size can be -1, got {tuple(new)} for an array of shape {old}")
    sizes = list(canonical_shape("reshape", [0 if i in holes else size for i, size in enumerate(new)]))
    total = math.prod(old)
    if holes:
        known = math.prod(size for i, size in enumerate(sizes) if i not in holes)
        if known == 0 or total % known:
            raise ShapeError(
                f"reshape: cannot fit {total} elements of shape {old} into {tuple(new)}: {known} does not divide {total}"
            )
        sizes[holes[0]] = total // known
    elif math.prod(sizes) != total:
        raise ShapeError(
            f"reshape: an array of shape {old} has {total} elements, but {tuple(sizes)} has {math.prod(sizes)}"
        )
    return tuple(sizes)


def ravel(a: ArrayLike, order: str = "C", *, out_sharding: None = None) -> Array:
    """The elements as a vector, in row-major ("C") or column-major ("F") order."""
    a = to_array("ravel", a)
    return reshape(a, (a.size,), order)


def squeeze(a: ArrayLike, axis: int | Sequence[int] | None = None) -> Array:
    """Without the axes of length 1 (all of them, or those named).

    Raises:
        ShapeError: a named axis is longer than 1.
    """
    a = to_array("squeeze", a)
    axes = (
        tuple(i for i, size in enumerate(a.shape) if size == 1)
        if axis is None
        else normalize_axes("squeeze", axis, a.shape)
    )
    for i in axes:
        if a.shape[i] != 1:
            raise ShapeError(
                f"squeeze: axis {i} of shape {a.shape} has length {a.shape[i]}, only length 1 can be removed"
            )
    return lax.squeeze(a, axes) if axes else a


def expand_dims(a: ArrayLike, axis: int | Sequence[int]) -> Array:
    """With new axes of length 1 at the positions `axis` of the result."""
    a = to_array("expand_dims", a)
    count = len(axis) if isinstance(axis, (tuple, list)) else 1
    axes = normalize_axes("expand_dims", axis, a.shape, a.ndim + count)
    rest = iter(a.shape)
    return lax.reshape(a, tuple(1 if i in axes else next(rest) for i in range(a.ndim + count))) if axes else a


@overload
def atleast_1d(ary: ArrayLike, /) -> Array: ...
@overload
def atleast_1d(ary0: ArrayLike, ary1: ArrayLike, /, *arys: ArrayLike) -> list[Array]: ...
def atleast_1d(*arys: ArrayLike) -> Array | list[Array]:
    """The arrays with at least one axis; scalars become vectors. A list unless there is exactly one argument."""
    return _each(arys, "atleast_1d", lambda a: a if a.ndim >= 1 else lax.reshape(a, (1,)))


@overload
def atleast_2d(ary: ArrayLike, /) -> Array: ...
@overload
def atleast_2d(ary0: ArrayLike, ary1: ArrayLike, /, *arys: ArrayLike) -> list[Array]: ...
def atleast_2d(*arys: ArrayLike) -> Array | list[Array]:
    """The arrays with at least two axes; vectors become rows. A list unless there is exactly one argument."""
    return _each(arys, "atleast_2d", lambda a: a if a.ndim >= 2 else lax.reshape(a, (1, a.size)))


@overload
def atleast_3d(ary: ArrayLike, /) -> Array: ...
@overload
def atleast_3d(ary0: ArrayLike, ary1: ArrayLike, /, *arys: ArrayLike) -> list[Array]: ...
def atleast_3d(*arys: ArrayLike) -> Array | list[Array]:
    """The arrays with at least three axes: (n,) becomes (1, n, 1), (m, n) becomes (m, n, 1)."""

    def widen(a: Array) -> Array:
        if a.ndim >= 3:
            return a
        return lax.reshape(a, (*a.shape, 1) if a.ndim == 2 else (1, a.size, 1))

    return _each(arys, "atleast_3d", widen)


def _each(arys: tuple, name: str, widen: Any) -> Any:
    results = [widen(a) for a in to_arrays(name, *arys)]
    return results[0] if len(results) == 1 else results


# -------------------------------------------------------------------------------------------------------- axis orders


def transpose(a: ArrayLike, axes: Sequence[int] | None = None) -> Array:
    """The axes in another order: axis i of the result is axis `axes[i]` of `a`. None reverses them."""
    a = to_array("transpose", a)
    if axes is None:
        return _reversed_axes(a)
    order = normalize_axes("transpose", tuple(axes) if not isinstance(axes, int) else (axes,), a.shape)
    if len(order) != a.ndim:
        raise AxisError(f"transpose: axes {tuple(order)} must name every axis of shape {a.shape} once")
    return _permuted(a, order)


def _permuted(a: Array, order: Sequence[int]) -> Array:
    return a if list(order) == list(range(a.ndim)) else lax.transpose(a, tuple(order))


def permute_dims(a: ArrayLike, /, axes: tuple[int, ...]) -> Array:
    """The axes in another order: axis i of the result is axis `axes[i]` of `a`."""
    return transpose(a, axes)


def matrix_transpose(x: ArrayLike, /) -> Array:
    """The last two axes swapped."""
    x = to_array("matrix_transpose", x)
    if x.ndim < 2:
        raise ShapeError(f"matrix_transpose: the operand must have at least two axes, got shape {x.shape}")
    return swapaxes(x, -1, -2)


def swapaxes(a: ArrayLike, axis1: int, axis2: int) -> Array:
    """Two axes exchanged."""
    a = to_array("swapaxes", a)
    axis1, axis2 = normalize_axis("swapaxes", axis1, a.shape), normalize_axis("swapaxes", axis2, a.shape)
    order = list(range(a.ndim))
    order[axis1], order[axis2] = axis2, axis1
    return _permuted(a, order)


def moveaxis(a: ArrayLike, source: int | Sequence[int], destination: int | Sequence[int]) -> Array:
    """The axes `source` moved to the positions `destination`; the others keep their order."""
    a = to_array("moveaxis", a)
    source = normalize_axes("moveaxis", source, a.shape)
    destination = normalize_axes("moveaxis", destination, a.shape)
    if len(source) != len(destination):
        raise AxisError(f"moveaxis: {len(source)} source axes cannot go to {len(destination)} destinations")
    order = [i for i in range(a.ndim) if i not in source]
    for to, axis in sorted(zip(destination, source, strict=True)):
        order.insert(to, axis)
    return _permuted(a, order)


def rollaxis(a: ArrayLike, axis: int, start: int = 0) -> Array:
    """The axis moved in front of position `start`; `moveaxis` is easier to read."""
    a = to_array("rollaxis", a)
    axis = normalize_axis("rollaxis", axis, a.shape)
    if not -a.ndim <= start <= a.ndim:
        raise AxisError(f"rollaxis: start {start} is out of bounds for an array of shape {a.shape}")
    start += a.ndim if start < 0 else 0
    return moveaxis(a, axis, start - 1 if axis < start else start)


# ------------------------------------------------------------------------------------------------------------ repeats


def broadcast_to(array: ArrayLike, shape: int | Sequence[int], *, out_sharding: None = None) -> Array:
    """The array repeated to a shape by NumPy's rules: missing leading axes, and axes of length 1.

    Raises:
        ShapeError: an axis of another length would have to change.
    """
    array = to_array("broadcast_to", array)
    shape = canonical_shape("broadcast_to", shape)
    fits = len(shape) >= array.ndim and all(
        size in (1, target) for size, target in zip(array.shape[::-1], shape[::-1], strict=False)
    )
    if not fits:
        raise ShapeError(f"broadcast_to: an array of shape {array.shape} cannot be broadcast to shape {shape}")
    return broadcast_operand(array, shape)


def broadcast_arrays(*args: ArrayLike) -> list[Array]:
    """The arrays broadcast against each other, all of one shape. Dtypes are kept."""
    arrays = to_arrays("broadcast_arrays", *args)
    common = broadcast_shapes(*(a.shape for a in arrays))
    return [broadcast_operand(a, common) for a in arrays]


# ---------------------------------------------------------------------------------------------- reversals, rotations


def flip(m: ArrayLike, axis: int | Sequence[int] | None = None) -> Array:
    """The order of elements reversed along some axes (None: all)."""
    m = to_array("flip", m)
    axes = normalize_axes("flip", axis, m.shape)
    return lax.rev(m, axes) if axes else m


def fliplr(m: ArrayLike) -> Array:
    """Columns in reversed order."""
    m = to_array("fliplr", m)
    if m.ndim < 2:
        raise ShapeError(f"fliplr: the operand must have at least two axes, got shape {m.shape}")
    return flip(m, 1)


def flipud(m: ArrayLike) -> Array:
    """Rows in reversed order."""
    m = to_array("flipud", m)
    if m.ndim < 1:
        raise ShapeError("flipud: the operand must have at least one axis, got shape ()")
    return flip(m, 0)


def rot90(m: ArrayLike, k: int = 1, axes: Sequence[int] = (0, 1)) -> Array:
    """Rotated k times by 90 degrees, from the first of the two axes towards the second."""
    m = to_array("rot90", m)
    first, second = normalize_axes("rot90", tuple(axes), m.shape)
    k %= 4
    if k == 0:
        return m
    if k == 2:
        return flip(m, (first, second))
    return swapaxes(flip(m, second), first, second) if k == 1 else flip(swapaxes(m, first, second), second)


def roll(a: ArrayLike, shift: ArrayLike | Sequence[int], axis: int | Sequence[int] | None = None) -> Array:
    """Elements moved by `shift` places along `axis`, those at the end coming in at the start.

    None as axis rolls the flattened array. `shift` may be traced.
    """
    a = to_array("roll", a)
    if axis is None:
        return lax.reshape(roll(lax.reshape(a, (a.size,)), shift, 0), a.shape)
    axes = axis if isinstance(axis, (tuple, list)) else (axis,)
    axes = tuple(normalize_axis("roll", i, a.shape) for i in axes)
    if isinstance(shift, (tuple, list)):
        shifts = list(shift)
    elif np.ndim(shift) == 0:
        shifts = [shift]
    else:
        shifts = [shift[i] for i in range(np.shape(shift)[0])]
    count = max(len(shifts), len(axes))
    if len(shifts) not in (1, count) or len(axes) not in (1, count):
        raise ShapeError(f"roll: {len(shifts)} shifts do not fit {len(axes)} axes")
    for amount, i in zip(shifts * (count // len(shifts)), axes * (count // len(axes)), strict=True):
        a = _rolled(a, amount, i)
    return a


def _rolled(a: Array, shift: Any, axis: int) -> Array:
    size = a.shape[axis]
    if size == 0:
        return a
    if isinstance(shift, (int, np.integer)):
        cut = -int(shift) % size
        if cut == 0:
            return a
        return lax.concatenate(
            [lax.slice_in_dim(a, cut, size, axis=axis), lax.slice_in_dim(a, 0, cut, axis=axis)], axis
        )
    start = remainder(-to_array("roll", shift), size)
    return lax.dynamic_slice_in_dim(lax.concatenate([a, a], axis), start, size, axis)
