"""Sets as sorted vectors: unique elements, membership, unions, intersections, differences.

Without `size=` the results' lengths depend on values, which must then be concrete; the elements themselves are gathered
from the arguments, so that gradients reach them. With `size=` everything is traced, the results are cut off or filled
up to that length.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from asgfn import dtypes, lax
from asgfn.errors import DTypeError
from asgfn.numpy.arguments import (
    ArrayLike,
    as_int,
    broadcast_operand,
    concrete,
    constant,
    convert,
    filled,
    normalize_axis,
    promote_dtypes,
    to_array,
)
from asgfn.numpy.selection import first_true
from asgfn.numpy.sorting import searchsorted, sort
from asgfn.numpy.ufuncs import isnan
from asgfn.tracing import Array, as_array

_INDEX = np.dtype(np.int32)
_HINT = "the length of the result depends on values that are being traced: pass size= (and fill_value=)"


def _flat(name: str, x: ArrayLike) -> Array:
    x = to_array(name, x)
    return lax.reshape(x, (x.size,))


# ------------------------------------------------------------------------------------------------------------- unique


class _UniqueAll(NamedTuple):
    values: Array
    indices: Array
    inverse_indices: Array
    counts: Array


class _UniqueCounts(NamedTuple):
    values: Array
    counts: Array


class _UniqueInverse(NamedTuple):
    values: Array
    inverse_indices: Array


def unique(
    ar: ArrayLike,
    return_index: bool = False,
    return_inverse: bool = False,
    return_counts: bool = False,
    axis: int | None = None,
    *,
    equal_nan: bool = True,
    size: int | None = None,
    fill_value: ArrayLike | None = None,
    sorted: bool = True,
) -> Any:
    """The distinct elements, sorted; or the distinct slices along `axis`.

    Arguments:
        return_index: also the position of the first occurrence of each.
        return_inverse: also, for each element of `ar`, its number among the distinct ones.
        return_counts: also how often each occurs.
        equal_nan: whether all NaN count as one.
        size: static number of results, required under `jit`; missing ones are `fill_value` (the first one by default).
    """
    ar = to_array("unique", ar)
    shape: tuple[int, ...]
    if axis is None:
        rows, shape = lax.reshape(ar, (ar.size, 1)), (ar.size,)
    else:
        axis = normalize_axis("unique", axis, ar.shape)
        moved = ar if axis == 0 else lax.transpose(ar, (axis, *(i for i in range(ar.ndim) if i != axis)))
        rows, shape = lax.reshape(moved, (moved.shape[0], ar.size // max(moved.shape[0], 1))), moved.shape
    order, starts, number = _groups(rows, equal_nan)
    count = rows.shape[0]
    if size is None:
        found = np.flatnonzero(concrete("unique", starts, _HINT)).astype(np.int32)
        firsts: Any = as_array(found)
        ends: Any = as_array(np.append(found[1:], np.int32(count)))
        missing = None
    else:
        size = as_int("unique", "size", size)
        # one more than asked for: a run ends where the next one starts
        begin, total = first_true(starts, size + 1) if count else (filled((size + 1,), 0, _INDEX), constant(0, _INDEX))
        begin = lax.select(lax.ge(lax.iota(_INDEX, size + 1), total), constant(count, _INDEX), begin)
        missing = lax.ge(lax.iota(_INDEX, size), total)
        firsts, ends = lax.slice_in_dim(begin, 0, size), lax.slice_in_dim(begin, 1, size + 1)
        firsts = lax.select(missing, constant(0, _INDEX), firsts)
    chosen = order[firsts] if count else firsts
    values = lax.reshape(rows, shape)[chosen] if count else filled((firsts.shape[0], *shape[1:]), 0, ar.dtype)
    if missing is not None and count == 0 and fill_value is not None:
        values = broadcast_operand(convert(fill_value, ar.dtype), values.shape)
    elif missing is not None and size and count:
        filler = lax.slice_in_dim(values, 0, 1) if fill_value is None else convert(fill_value, ar.dtype)
        mask = lax.broadcast_in_dim(missing, values.shape, (0,))
        filler = broadcast_operand(filler, values.shape) if filler.ndim else filler
        values = lax.select(mask, filler, values)
        chosen = lax.select(missing, broadcast_operand(lax.slice_in_dim(chosen, 0, 1), chosen.shape), chosen)
    if axis:
        values = lax.transpose(values, (*range(1, axis + 1), 0, *range(axis + 1, values.ndim)))
    dtype = dtypes.default_int()
    results = [values]
    if return_index:
        results.append(convert(chosen, dtype))
    if return_inverse:
        inverse = filled((count,), 0, _INDEX).at[order].set(number) if count else number
        results.append(convert(lax.reshape(inverse, ar.shape) if axis is None else inverse, dtype))
    if return_counts:
        counts = lax.sub(ends, firsts)
        if missing is not None:
            counts = lax.select(missing, constant(0, _INDEX), counts)
        results.append(convert(counts, dtype))
    return tuple(results) if len(results) > 1 else values


def _groups(rows: Array, equal_nan: bool) -> tuple[Array, Array, Array]:
    """The order that sorts the rows, where in it a new row starts, and the number of the distinct row at each place."""
    count, width = rows.shape
    if count == 0 or width == 0:
        starts = lax.eq(lax.iota(_INDEX, count), constant(0, _INDEX))
        return lax.iota(_INDEX, count), starts, filled((count,), 0, _INDEX)
    columns = [lax.squeeze(lax.slice_in_dim(rows, i, i + 1, axis=1), (1,)) for i in range(width)]
    *columns, order = lax.sort((*columns, lax.iota(_INDEX, count)), dimension=0, num_keys=width, is_stable=True)
    changed: Any = None
    for column in columns:
        upper, lower = lax.slice_in_dim(column, 1, count), lax.slice_in_dim(column, 0, count - 1)
        differs = lax.ne(upper, lower)
        if equal_nan and dtypes.is_inexact(column.dtype):
            differs = lax.bitwise_and(differs, lax.bitwise_not(lax.bitwise_and(isnan(upper), isnan(lower))))
        changed = differs if changed is None else lax.bitwise_or(changed, differs)
    starts = lax.concatenate([filled((1,), True, np.dtype(np.bool_)), changed], 0)
    number = lax.sub(lax.cumsum(convert(starts, _INDEX), 0), constant(1, _INDEX))
    return order, starts, number


def unique_all(x: ArrayLike, /, *, size: int | None = None, fill_value: ArrayLike | None = None) -> _UniqueAll:
    """Distinct elements (each NaN counts), first positions, inverse and counts: `unique` of the array API standard."""
    return _UniqueAll(*unique(x, True, True, True, equal_nan=False, size=size, fill_value=fill_value))


def unique_counts(x: ArrayLike, /, *, size: int | None = None, fill_value: ArrayLike | None = None) -> _UniqueCounts:
    """Distinct elements (each NaN counts) and how often each occurs."""
    return _UniqueCounts(*unique(x, return_counts=True, equal_nan=False, size=size, fill_value=fill_value))


def unique_inverse(x: ArrayLike, /, *, size: int | None = None, fill_value: ArrayLike | None = None) -> _UniqueInverse:
    """Distinct elements (each NaN counts) and the number of each element of x among them."""
    return _UniqueInverse(*unique(x, return_inverse=True, equal_nan=False, size=size, fill_value=fill_value))


def unique_values(x: ArrayLike, /, *, size: int | None = None, fill_value: ArrayLike | None = None) -> Array:
    """Distinct elements (each NaN counts)."""
    return unique(x, equal_nan=False, size=size, fill_value=fill_value)


# --------------------------------------------------------------------------------------------------------- membership

_COMPARE_ALL_BELOW = 32


def isin(
    element: ArrayLike,
    test_elements: ArrayLike,
    assume_unique: bool = False,
    invert: bool = False,
    *,
    method: str = "auto",
) -> Array:
    """For each element whether it is among the test elements (is not, if `invert`). NaN is not equal to NaN.

    Arguments:
        method: "compare_all", "binary_search" or "sort" (both sort the test elements), or "auto".
    """
    x, among = to_array("isin", element), _flat("isin", test_elements)
    x, among = promote_dtypes(x, among)
    if method not in ("auto", "compare_all", "binary_search", "sort"):
        raise DTypeError(f"isin: method must be 'auto', 'compare_all', 'binary_search' or 'sort', got {method!r}")
    count = among.shape[0]
    if count == 0:
        return filled(x.shape, invert, np.dtype(np.bool_))
    if method == "compare_all" or (method == "auto" and count < _COMPARE_ALL_BELOW):
        shape = (*x.shape, count)
        left = lax.broadcast_in_dim(x, shape, tuple(range(x.ndim))) if x.ndim else x
        right = lax.broadcast_in_dim(among, shape, (x.ndim,))
        found = lax.reduce_or(lax.eq(left, right), (x.ndim,))
    else:
        ordered = sort(among)
        place = lax.min(searchsorted(ordered, x), constant(count - 1, dtypes.default_int()))
        found = lax.eq(ordered.at[place].get(mode="clip"), x)
    return lax.bitwise_not(found) if invert else found


# --------------------------------------------------------------------------------------------------- operations on sets


def _joined(name: str, ar1: ArrayLike, ar2: ArrayLike) -> Array:
    return lax.concatenate(promote_dtypes(_flat(name, ar1), _flat(name, ar2)), 0)


def union1d(ar1: ArrayLike, ar2: ArrayLike, *, size: int | None = None, fill_value: ArrayLike | None = None) -> Array:
    """The distinct elements of both, sorted. `size` and `fill_value` as in `unique`."""
    return unique(_joined("union1d", ar1, ar2), size=size, fill_value=fill_value)


def _selected(values: Array, mask: Array, size: int | None, fill_value: ArrayLike | None, default: Any) -> Array:
    """The entries of a sorted vector where the mask holds."""
    if size is None:
        return values[np.flatnonzero(concrete("sets", mask, _HINT))]
    if not values.shape[0]:
        return broadcast_operand(convert(0 if fill_value is None else fill_value, values.dtype), (size,))
    places, count = first_true(mask, size)
    chosen = values[places]
    filler = default if fill_value is None else convert(fill_value, values.dtype)
    return lax.select(lax.ge(lax.iota(_INDEX, size), count), broadcast_operand(filler, (size,)), chosen)


def setdiff1d(
    ar1: ArrayLike,
    ar2: ArrayLike,
    assume_unique: bool = False,
    *,
    size: int | None = None,
    fill_value: ArrayLike | None = None,
) -> Array:
    """The distinct elements of `ar1` that are not in `ar2`, sorted (in their order if `assume_unique`).

    Arguments:
        size: static number of results, required under `jit`; missing ones are `fill_value` (0 by default).
    """
    ar1, ar2 = _flat("setdiff1d", ar1), _flat("setdiff1d", ar2)
    zero = constant(0, ar1.dtype)
    if assume_unique:
        return _selected(ar1, isin(ar1, ar2, invert=True), size, fill_value, zero)
    ordered, first = _sorted_with_starts(ar1)
    return _selected(ordered, lax.bitwise_and(first, isin(ordered, ar2, invert=True)), size, fill_value, zero)


def _sorted_with_starts(x: Array) -> tuple[Array, Array]:
    """The sorted vector and where a new value starts."""
    ordered = sort(x)
    if x.shape[0] == 0:
        return ordered, filled((0,), False, np.dtype(np.bool_))
    changed = lax.ne(lax.slice_in_dim(ordered, 1, x.shape[0]), lax.slice_in_dim(ordered, 0, x.shape[0] - 1))
    return ordered, lax.concatenate([filled((1,), True, np.dtype(np.bool_)), changed], 0)


def setxor1d(
    ar1: ArrayLike,
    ar2: ArrayLike,
    assume_unique: bool = False,
    *,
    size: int | None = None,
    fill_value: ArrayLike | None = None,
) -> Array:
    """The elements that are in exactly one of the two, sorted.

    Arguments:
        size: static number of results, required under `jit`; missing ones are `fill_value` (the smallest by default).
    """
    ar1, ar2 = promote_dtypes(_flat("setxor1d", ar1), _flat("setxor1d", ar2))
    parts, masks = [], []
    for mine, other in ((ar1, ar2), (ar2, ar1)):
        ordered, first = _sorted_with_starts(mine)
        keep = isin(ordered, other, invert=True)
        parts.append(ordered)
        masks.append(keep if assume_unique else lax.bitwise_and(first, keep))
    values, mask = lax.concatenate(parts, 0), lax.concatenate(masks, 0)
    if values.shape[0]:
        # what is not kept goes behind everything else, in sorted order
        dropped, values = lax.sort((lax.bitwise_not(mask), values), dimension=0, num_keys=2)
        mask = lax.bitwise_not(dropped)
    default = lax.slice_in_dim(values, 0, 1) if values.shape[0] else values
    return _selected(values, mask, size, fill_value, default)


def intersect1d(
    ar1: ArrayLike,
    ar2: ArrayLike,
    assume_unique: bool = False,
    return_indices: bool = False,
    *,
    size: int | None = None,
    fill_value: ArrayLike | None = None,
) -> Any:
    """The distinct elements that are in both, sorted.

    Arguments:
        return_indices: also their first positions in `ar1` and in `ar2` (flattened).
        size: static number of results, required under `jit`; missing ones are `fill_value` (the smallest by default),
            missing positions the length of the array.
    """
    ar1, ar2 = promote_dtypes(_flat("intersect1d", ar1), _flat("intersect1d", ar2))
    joined = lax.concatenate([ar1, ar2], 0)
    count = joined.shape[0]
    if count == 0 or not ar1.shape[0] or not ar2.shape[0]:
        empty = filled((size or 0,), 0, joined.dtype)
        places = filled((size or 0,), 0, dtypes.default_int())
        return (empty, places, places) if return_indices else empty
    ordered, origin = lax.sort((joined, lax.iota(_INDEX, count)), dimension=0, num_keys=1, is_stable=True)
    # a stable sort keeps the elements of ar1 in front of equal ones of ar2: where a run changes over, both have it
    from_second = lax.ge(origin, constant(ar1.shape[0], _INDEX))
    same = lax.eq(lax.slice_in_dim(ordered, 1, count), lax.slice_in_dim(ordered, 0, count - 1))
    crossing = lax.ne(lax.slice_in_dim(from_second, 1, count), lax.slice_in_dim(from_second, 0, count - 1))
    mask = lax.bitwise_and(same, crossing)
    values = lax.slice_in_dim(ordered, 1, count)
    default = lax.slice_in_dim(values, 0, 1)
    if size is not None:
        # the smallest element of the intersection fills up
        first, _ = first_true(mask, 1)
        default = values[first]
    result = _selected(values, mask, size, fill_value, default)
    if not return_indices:
        return result
    dtype = dtypes.default_int()
    lengths = (ar1.shape[0], ar2.shape[0])
    # the run of an element starts with its first occurrence in ar1
    _, starts, number = _groups(lax.reshape(joined, (count, 1)), equal_nan=False)
    run_start = (
        filled((count,), 0, _INDEX).at[lax.select(starts, number, constant(count, _INDEX))].set(origin, mode="drop")
    )
    in_first = lax.slice_in_dim(run_start[number], 1, count)
    in_second = lax.sub(lax.slice_in_dim(origin, 1, count), constant(lengths[0], _INDEX))
    indices = (
        _selected(place, mask, size, length, constant(length, _INDEX))
        for place, length in zip((in_first, in_second), lengths, strict=True)
    )
    return (result, *(convert(place, dtype) for place in indices))
