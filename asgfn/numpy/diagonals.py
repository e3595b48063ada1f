"""Triangles and diagonals of matrices."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from asgfn import dtypes, lax
from asgfn.errors import AxisError, ShapeError
from asgfn.numpy.arguments import (
    ArrayLike,
    DTypeLike,
    as_int,
    constant,
    convert,
    filled,
    normalize_axis,
    numeric,
    refuse_out,
    to_array,
)
from asgfn.numpy.device import to_device
from asgfn.numpy.reductions import sum as sum_
from asgfn.numpy.selection import nonzero
from asgfn.tracing import Array, as_array

_INDEX = np.dtype(np.int32)


def _offset_rows(shape: tuple[int, ...], k: int) -> tuple[Array, Array]:
    """Row numbers plus k, and column numbers, over the last two axes of a shape."""
    k = min(max(int(k), -shape[-2]), shape[-1])  # beyond the matrix all diagonals are alike, and may not be an int32
    rows = lax.broadcasted_iota(_INDEX, shape, len(shape) - 2)
    columns = lax.broadcasted_iota(_INDEX, shape, len(shape) - 1)
    return (lax.add(rows, constant(k, _INDEX)) if k else rows), columns


def _matrix_size(name: str, N: int, M: int | None) -> tuple[int, int]:
    rows, columns = as_int(name, "N", N), as_int(name, "M", N if M is None else M)
    if rows < 0 or columns < 0:
        raise ShapeError(f"{name}: sizes must not be negative, got {rows} and {columns}")
    return rows, columns


def eye(
    N: int,
    M: int | None = None,
    k: int = 0,
    dtype: DTypeLike = None,
    *,
    device: Any = None,
) -> Array:
    """An N x M matrix (M = N by default) with ones on the k-th diagonal and zeros elsewhere."""
    dtype = dtypes.default_float() if dtype is None else dtypes.canonicalize(dtype)
    result = convert(lax.eq(*_offset_rows(_matrix_size("eye", N, M), k)), dtype)
    return to_device(result, device) if device is not None else result


def identity(n: int, dtype: DTypeLike = None) -> Array:
    """The n x n identity matrix."""
    return eye(n, dtype=dtype)


def tri(N: int, M: int | None = None, k: int = 0, dtype: DTypeLike = None) -> Array:
    """An N x M matrix with ones on and below the k-th diagonal and zeros above."""
    dtype = dtypes.default_float() if dtype is None else dtypes.canonicalize(dtype)
    return convert(lax.ge(*_offset_rows(_matrix_size("tri", N, M), k)), dtype)


def _matrices(name: str, m: ArrayLike) -> Array:
    m = to_array(name, m)
    if m.ndim < 2:
        raise ShapeError(f"{name}: the operand must have at least two axes, got shape {m.shape}")
    return m


def tril(m: ArrayLike, /, k: int = 0) -> Array:
    """The lower triangle of each matrix in the last two axes: zeros above the k-th diagonal."""
    m = _matrices("tril", m)
    return lax.select(lax.ge(*_offset_rows(m.shape, k)), m, constant(0, m.dtype))


def triu(m: ArrayLike, /, k: int = 0) -> Array:
    """The upper triangle of each matrix in the last two axes: zeros below the k-th diagonal."""
    m = _matrices("triu", m)
    return lax.select(lax.le(*_offset_rows(m.shape, k)), m, constant(0, m.dtype))


# ---------------------------------------------------------------------------------------------------------- diagonals


def diagonal(a: ArrayLike, offset: int = 0, axis1: int = 0, axis2: int = 1) -> Array:
    """The elements a[i, i + offset] over two axes, as the last axis of the result."""
    a = _matrices("diagonal", a)
    axis1, axis2 = normalize_axis("diagonal", axis1, a.shape), normalize_axis("diagonal", axis2, a.shape)
    if axis1 == axis2:
        raise AxisError(f"diagonal: axis1 and axis2 are both axis {axis1} of shape {a.shape}")
    order = [i for i in range(a.ndim) if i not in (axis1, axis2)] + [axis1, axis2]
    a = lax.transpose(a, order) if order != list(range(a.ndim)) else a
    *batch, rows, columns = a.shape
    size = max(0, min(rows, columns - offset) if offset >= 0 else min(rows + offset, columns))
    if size == 0:
        return filled((*batch, 0), 0, a.dtype)
    # in row-major order the elements of a diagonal are columns + 1 apart
    start = offset if offset >= 0 else -offset * columns
    flat = lax.reshape(a, (*batch, rows * columns))
    stop = start + (size - 1) * (columns + 1) + 1
    return lax.slice_in_dim(flat, start, stop, columns + 1, axis=len(batch))


def trace(
    a: ArrayLike, offset: int = 0, axis1: int = 0, axis2: int = 1, dtype: DTypeLike = None, out: None = None
) -> Array:
    """The sum of a diagonal over two axes; dtypes as `sum`."""
    refuse_out("trace", out)
    return sum_(diagonal(a, offset, axis1, axis2), -1, dtype)


def diag(v: ArrayLike, k: int = 0) -> Array:
    """A matrix with the vector `v` on its k-th diagonal; or the k-th diagonal of the matrix `v`."""
    v = to_array("diag", v)
    if v.ndim == 2:
        return diagonal(v, k)
    if v.ndim != 1:
        raise ShapeError(f"diag takes a vector or a matrix, got shape {v.shape}; use diagflat or diagonal")
    side = v.shape[0] + abs(k)
    if v.shape[0] == 0:
        return filled((side, side), 0, v.dtype)
    # in row-major order: `start` zeros, then the elements with `side` zeros between neighbours
    start = k if k >= 0 else -k * side
    rest = side * side - start - (v.shape[0] - 1) * (side + 1) - 1
    return lax.reshape(lax.pad(v, constant(0, v.dtype), [(start, rest, side)]), (side, side))


def diagflat(v: ArrayLike, k: int = 0) -> Array:
    """A matrix with the elements of `v`, flattened, on its k-th diagonal."""
    v = to_array("diagflat", v)
    return diag(lax.reshape(v, (v.size,)), k)


def fill_diagonal(a: ArrayLike, val: ArrayLike, wrap: bool = False, *, inplace: bool = True) -> Array:
    """A copy of `a` with `val` (repeated as needed) on its main diagonal; `inplace=False` must be said.

    Arguments:
        a: an array of two axes, or of more that have all the same length.
        wrap: for matrices with more rows than columns, start the diagonal again below (after one row left out).
    """
    if inplace:
        raise NotImplementedError("fill_diagonal: arrays are immutable, pass inplace=False and use the result")
    a = _matrices("fill_diagonal", a)
    if a.ndim > 2 and len(set(a.shape)) > 1:
        raise ShapeError(f"fill_diagonal: axes must have equal lengths, got shape {a.shape}")
    val = convert(to_array("fill_diagonal", val), a.dtype)
    step = 1 + sum(int(np.prod(a.shape[i + 1 :])) for i in range(a.ndim - 1))
    stop = a.size if wrap or a.ndim > 2 else min(a.size, a.shape[1] * a.shape[1])
    places = np.arange(0, stop, step)
    if val.ndim:
        repeats = -(-len(places) // max(val.size, 1))
        flat = lax.concatenate([lax.reshape(val, (val.size,))] * max(repeats, 1), 0)
        val = lax.slice_in_dim(flat, 0, len(places))
    return lax.reshape(lax.reshape(a, (a.size,)).at[places].set(val), a.shape)


# ------------------------------------------------------------------------------------------------------------ indices


def _index_arrays(found: tuple[np.ndarray, np.ndarray]) -> tuple[Array, Array]:
    rows, columns = (as_array(index.astype(dtypes.default_int())) for index in found)
    return rows, columns


def diag_indices(n: int, ndim: int = 2) -> tuple[Array, ...]:
    """Indices of the main diagonal of an array with `ndim` axes of length n."""
    if n < 0 or ndim < 0:
        raise ShapeError(f"diag_indices: n and ndim must not be negative, got {n} and {ndim}")
    return (lax.iota(dtypes.default_int(), n),) * ndim


def diag_indices_from(arr: ArrayLike) -> tuple[Array, ...]:
    """Indices of the main diagonal of `arr`, whose axes all have the same length."""
    arr = _matrices("diag_indices_from", arr)
    if len(set(arr.shape)) != 1:
        raise ShapeError(f"diag_indices_from: axes must have equal lengths, got shape {arr.shape}")
    return diag_indices(arr.shape[0], arr.ndim)


def tril_indices(n: int, k: int = 0, m: int | None = None) -> tuple[Array, Array]:
    """Row and column indices of the lower triangle of an n x m matrix."""
    return _index_arrays(np.tril_indices(n, k, m))


def triu_indices(n: int, k: int = 0, m: int | None = None) -> tuple[Array, Array]:
    """Row and column indices of the upper triangle of an n x m matrix."""
    return _index_arrays(np.triu_indices(n, k, m))


def _matrix_shape(name: str, arr: ArrayLike) -> tuple[int, int]:
    shape = np.shape(arr)
    if len(shape) != 2:
        raise ShapeError(f"{name} takes a matrix, got shape {shape}")
    return shape


def tril_indices_from(arr: ArrayLike, k: int = 0) -> tuple[Array, Array]:
    """Row and column indices of the lower triangle of the matrix `arr`."""
    rows, columns = _matrix_shape("tril_indices_from", arr)
    return tril_indices(rows, k, columns)


def triu_indices_from(arr: ArrayLike, k: int = 0) -> tuple[Array, Array]:
    """Row and column indices of the upper triangle of the matrix `arr`."""
    rows, columns = _matrix_shape("triu_indices_from", arr)
    return triu_indices(rows, k, columns)


def mask_indices(n: int, mask_func: Callable[[Array, Any], Array], k: Any = 0, *, size: int | None = None) -> tuple:
    """Indices where `mask_func(ones((n, n)), k)` is not zero, such as for mask_func=triu."""
    return nonzero(mask_func(filled((n, n), 1, dtypes.default_int()), k), size=size)


def vander(x: ArrayLike, /, N: int | None = None, increasing: bool = False) -> Array:
    """The Vandermonde matrix of a vector: columns are its powers, N - 1 to 0 (0 to N - 1 if `increasing`)."""
    x = numeric(to_array("vander", x))
    if x.ndim != 1:
        raise ShapeError(f"vander takes a vector, got shape {x.shape}")
    columns = x.shape[0] if N is None else as_int("vander", "N", N)
    if columns < 0:
        raise ShapeError(f"vander: N must not be negative, got {columns}")
    if columns == 0:
        return filled((x.shape[0], 0), 0, x.dtype)
    ones = filled((x.shape[0], 1), 1, x.dtype)
    factors = lax.broadcast_in_dim(x, (x.shape[0], columns - 1), (0,))
    powers = lax.cumprod(lax.concatenate([ones, factors], 1), 1)
    return powers if increasing else lax.rev(powers, (1,))
