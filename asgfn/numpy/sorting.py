"""Sorting, and searching in what is sorted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from asgfn import dtypes, lax
from asgfn.errors import AxisError, DTypeError, ShapeError
from asgfn.numpy.arguments import (
    ArrayLike,
    as_int,
    constant,
    convert,
    filled,
    normalize_axis,
    promote_dtypes,
    to_array,
    to_inexact,
)
from asgfn.tracing import Array


def _along(name: str, a: ArrayLike, axis: int | None) -> tuple[Array, int]:
    a = to_array(name, a)
    if axis is None:
        return lax.reshape(a, (a.size,)), 0
    if a.ndim == 0:
        raise AxisError(f"{name}: an array of rank 0 has no axis to sort along")
    return a, normalize_axis(name, axis, a.shape)


def _no_order(name: str, kind: Any, order: Any) -> None:
    if order is not None:
        raise DTypeError(f"{name}: order= sorts structured arrays, which do not exist here")


def sort(
    a: ArrayLike,
    axis: int | None = -1,
    *,
    kind: None = None,
    order: None = None,
    stable: bool = True,
    descending: bool = False,
) -> Array:
    """Sorted along `axis` (None: the flattened array); NaN counts as the largest. Complex numbers by real part first."""
    _no_order("sort", kind, order)
    a, axis = _along("sort", a, axis)
    result = lax.sort(a, dimension=axis, is_stable=stable)
    return lax.rev(result, (axis,)) if descending else result


def argsort(
    a: ArrayLike,
    axis: int | None = -1,
    *,
    kind: None = None,
    order: None = None,
    stable: bool = True,
    descending: bool = False,
    dtype: Any = None,
) -> Array:
    """The indices that sort along `axis`: `take_along_axis(a, argsort(a), -1)` is sorted. Ties keep their order."""
    _no_order("argsort", kind, order)
    a, axis = _along("argsort", a, axis)
    dtype = dtypes.default_int() if dtype is None else dtypes.canonicalize(dtype)
    if not descending:
        return _argsorted(a, axis, dtype, stable)
    # sorting the reversed array and reversing the result leaves ties in their first order
    found = lax.rev(_argsorted(lax.rev(a, (axis,)), axis, dtype, stable), (axis,))
    return lax.sub(constant(a.shape[axis] - 1, dtype), found)


def _argsorted(a: Array, axis: int, dtype: np.dtype, stable: bool) -> Array:
    places = lax.broadcasted_iota(dtype, a.shape, axis)
    return lax.sort((a, places), dimension=axis, is_stable=stable, num_keys=1)[1]


def lexsort(keys: Any, axis: int = -1) -> Array:
    """The indices that sort by several keys of one shape, the last being the most important."""
    arrays = [to_array("lexsort", key) for key in keys]
    if not arrays:
        raise ShapeError("lexsort: need at least one key")
    if len({key.shape for key in arrays}) > 1:
        raise ShapeError(f"lexsort: keys must have one shape, got {', '.join(str(key.shape) for key in arrays)}")
    dtype = dtypes.default_int()
    if arrays[0].ndim == 0:
        return filled((), 0, dtype)
    axis = normalize_axis("lexsort", axis, arrays[0].shape)
    places = lax.broadcasted_iota(dtype, arrays[0].shape, axis)
    return lax.sort((*arrays[::-1], places), dimension=axis, num_keys=len(arrays))[-1]


def _check_kth(name: str, kth: int | Sequence[int], size: int) -> None:
    for k in kth if isinstance(kth, (tuple, list)) else (kth,):
        if not -size <= as_int(name, "kth", k) < size:
            raise AxisError(f"{name}: kth {k} is out of range for an axis of {size} elements")


def partition(a: ArrayLike, kth: int | Sequence[int], axis: int | None = -1) -> Array:
    """The element that sorting would put at `kth` is there, smaller ones before it and larger ones behind.

    On its side the smaller ones ascend and the larger ones descend; with several `kth`, all ascend.
    """
    a, axis = _along("partition", a, axis)
    _check_kth("partition", kth, a.shape[axis])
    ordered = sort(a, axis)
    if not isinstance(kth, (int, np.integer)):
        return ordered
    low, high = _cut(ordered, kth, axis)
    return lax.concatenate([low, lax.rev(high, (axis,))], axis)


def argpartition(a: ArrayLike, kth: int | Sequence[int], axis: int | None = -1) -> Array:
    """The indices that partition along `axis`: those of smaller elements by element, those of larger ones ascending.

    With several `kth` they sort.
    """
    a, axis = _along("argpartition", a, axis)
    _check_kth("argpartition", kth, a.shape[axis])
    order = argsort(a, axis)
    if not isinstance(kth, (int, np.integer)):
        return order
    low, high = _cut(order, kth, axis)
    return lax.concatenate([low, sort(high, axis)], axis)


def _cut(x: Array, kth: int, axis: int) -> tuple[Array, Array]:
    """Up to position `kth` (inclusive), and beyond."""
    length = x.shape[axis]
    at = kth % length + 1
    return lax.slice_in_dim(x, 0, at, axis=axis), lax.slice_in_dim(x, at, length, axis=axis)


def sort_complex(a: ArrayLike) -> Array:
    """Sorted along the last axis, as complex numbers."""
    a = sort(a)
    return a if dtypes.is_complex(a.dtype) else convert(a, dtypes.complex_dtype(to_inexact(a.dtype)))


# ------------------------------------------------------------------------------------------- searching what is sorted

_COMPARE_ALL_BELOW = 16  # below this length comparing with every element beats the steps of a binary search


def searchsorted(
    a: ArrayLike, v: ArrayLike, side: str = "left", sorter: ArrayLike | None = None, *, method: str = "default"
) -> Array:
    """Where to insert `v` into the sorted vector `a` so that it stays sorted.

    Arguments:
        side: "left" puts it in front of equal elements, "right" behind them.
        sorter: indices that sort `a`, if it is not sorted.
        method: "scan" (binary search), "scan_unrolled", "sort" (both together), "compare_all", or "default".

    Returns:
        Indices in 0 to len(a), of v's shape.
    """
    if side not in ("left", "right"):
        raise DTypeError(f"searchsorted: side must be 'left' or 'right', got {side!r}")
    a, v = to_array("searchsorted", a), to_array("searchsorted", v)
    if a.ndim != 1:
        raise ShapeError(f"searchsorted: a must be a vector, got shape {a.shape}")
    if sorter is not None:
        a = a[to_array("searchsorted", sorter)]
    a, v = promote_dtypes(a, v)
    dtype = dtypes.default_int()
    if method == "default":
        method = "compare_all" if a.shape[0] < _COMPARE_ALL_BELOW else "scan"
    if method not in _SEARCHES:
        raise DTypeError(f"searchsorted: method must be one of {', '.join(map(repr, _SEARCHES))}, got {method!r}")
    if a.shape[0] == 0:
        return filled(v.shape, 0, dtype)
    return _SEARCHES[method](a, v, side, dtype)


def _precedes(x: Any, y: Any) -> Array:
    """x < y in the order of sorting, in which NaN is the largest."""
    if dtypes.is_complex(x.dtype):
        (xr, yr), (xi, yi) = (lax.real(x), lax.real(y)), (lax.imag(x), lax.imag(y))
        same = lax.bitwise_not(lax.bitwise_or(_precedes(xr, yr), _precedes(yr, xr)))
        return lax.bitwise_or(_precedes(xr, yr), lax.bitwise_and(same, _precedes(xi, yi)))
    less = lax.lt(x, y)
    if not dtypes.is_floating(x.dtype):
        return less
    return lax.bitwise_or(less, lax.bitwise_and(lax.ne(y, y), lax.eq(x, x)))


def _belongs_before(element: Any, value: Any, side: str) -> Array:
    """Whether an element of the sorted vector stays in front of the value."""
    return _precedes(element, value) if side == "left" else lax.bitwise_not(_precedes(value, element))


def _compare_all(a: Array, v: Array, side: str, dtype: np.dtype) -> Array:
    shape = (*v.shape, a.shape[0])
    elements = lax.broadcast_in_dim(a, shape, (v.ndim,))
    values = lax.broadcast_in_dim(v, shape, tuple(range(v.ndim))) if v.ndim else v
    return lax.reduce_sum(convert(_belongs_before(elements, values, side), dtype), (v.ndim,))


def _binary_search(a: Array, v: Array, side: str, dtype: np.dtype, unrolled: bool) -> Array:
    size = a.shape[0]
    index = np.dtype(np.int32)
    one = constant(1, index)

    def step(low: Array, high: Array) -> tuple[Array, Array]:
        middle = lax.shift_right_logical(lax.add(low, high), one)
        # once low has met high == size there is nothing to read at the middle; the read clamps, the result is kept
        element = a.at[middle].get(mode="clip")
        onwards = lax.bitwise_and(_belongs_before(element, v, side), lax.lt(low, high))
        return lax.select(onwards, lax.add(middle, one), low), lax.select(onwards, high, lax.min(middle, high))

    bounds = (filled(v.shape, 0, index), filled(v.shape, size, index))
    steps = size.bit_length()
    if unrolled:
        for _ in range(steps):
            bounds = step(*bounds)
    else:
        bounds = lax.fori_loop(0, steps, lambda _, pair: step(*pair), bounds)
    return convert(bounds[0], dtype)


def _by_sorting(a: Array, v: Array, side: str, dtype: np.dtype) -> Array:
    """The rank of a value among all values and elements, less its rank among the values."""
    flat = lax.reshape(v, (v.size,))
    size, count = a.shape[0], v.size
    # a stable sort puts what comes first in front of its equals
    joined = lax.concatenate([a, flat] if side == "right" else [flat, a], 0)
    order = _argsorted(joined, 0, dtype, stable=True)
    ranks = filled((size + count,), 0, dtype).at[order].set(lax.iota(dtype, size + count))
    among_values = filled((count,), 0, dtype).at[_argsorted(flat, 0, dtype, stable=True)].set(lax.iota(dtype, count))
    first = size if side == "right" else 0
    return lax.reshape(lax.sub(lax.slice_in_dim(ranks, first, first + count), among_values), v.shape)


_SEARCHES = {
    "scan": lambda a, v, side, dtype: _binary_search(a, v, side, dtype, unrolled=False),
    "scan_unrolled": lambda a, v, side, dtype: _binary_search(a, v, side, dtype, unrolled=True),
    "sort": _by_sorting,
    "compare_all": _compare_all,
}


def digitize(x: ArrayLike, bins: ArrayLike, right: bool = False, *, method: str | None = None) -> Array:
    """The number of the bin each element falls into; `bins` are the edges, increasing or decreasing.

    Arguments:
        right: whether bins include their right edge instead of the left.
    """
    x, bins = to_array("digitize", x), to_array("digitize", bins)
    if bins.ndim != 1:
        raise ShapeError(f"digitize: bins must be a vector, got shape {bins.shape}")
    dtype = dtypes.default_int()
    if bins.shape[0] == 0:
        return filled(x.shape, 0, dtype)
    method = method or "default"
    side = "left" if right else "right"
    upwards = searchsorted(bins, x, side, method=method)
    downwards = searchsorted(lax.rev(bins, (0,)), x, side, method=method)
    size = bins.shape[0]
    first, last = (lax.squeeze(lax.slice_in_dim(bins, i, i + 1), (0,)) for i in (0, size - 1))
    increasing = lax.le(first, last)
    return lax.select(increasing, upwards, lax.sub(constant(size, dtype), downwards))
