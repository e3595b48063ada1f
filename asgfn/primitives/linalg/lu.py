"""The LU decomposition with partial pivoting."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from asgfn import dtypes
from asgfn.errors import DTypeError, ShapeError
from asgfn.graph.types import ArrayType
from asgfn.primitives.base import Primitive, Zero, tangent_type
from asgfn.primitives.elementwise import add, bitwise_and, ne, neg, select
from asgfn.primitives.linalg.matrices import (
    batch_at_front,
    check_matrix,
    identity_like,
    lower_part,
    matmul,
    number,
    take_rows,
    upper_part,
)
from asgfn.primitives.linalg.triangular import triangular_solve
from asgfn.primitives.padding import pad
from asgfn.primitives.shaping import broadcasted_iota, convert_element_type, full_like, reduce_sum
from asgfn.primitives.slicing import slice_in_dim
from asgfn.primitives.sorting import sort
from asgfn.tracing import Array, as_array


def _type_rule(x: ArrayType) -> tuple[ArrayType, ...]:
    check_matrix("lu", x)
    *batch, rows, columns = x.shape
    integer = np.dtype(np.int32)
    return (
        x.update(weak_type=False),
        ArrayType((*batch, min(rows, columns)), integer),
        ArrayType((*batch, rows), integer),
    )


def unpack(lu: Any) -> tuple[Array, Array]:
    """The square factors in a packed m x n decomposition: L is m x m and U is n x n, with identities where they overhang.

    Then l_m u_n of any m x n matrix of coefficients stays m x n, whichever of the two is larger.
    """
    rows, columns = lu.shape[-2:]
    rank = min(rows, columns)
    strict_lower = lower_part(slice_in_dim(lu, 0, rank, axis=lu.ndim - 1), -1)
    lower = _pad_to_square(strict_lower, 0, rows - rank)
    lower = add(lower, identity_like(lower))
    upper = _pad_to_square(upper_part(slice_in_dim(lu, 0, rank, axis=lu.ndim - 2)), columns - rank, 0)
    if columns > rank:
        corner = identity_like(upper)
        below = _pad_to_square(slice_in_dim(corner, rank, columns, axis=lu.ndim - 2), 0, 0, above=rank)
        upper = add(upper, below)
    return lower, upper


def _pad_to_square(x: Any, rows: int, columns: int, above: int = 0) -> Array:
    config = [(0, 0, 0)] * (x.ndim - 2) + [(above, rows, 0), (0, columns, 0)]
    return pad(x, number(0, x), config)


def _jvp(primals: Sequence[Any], tangents: Sequence[Any]) -> tuple:
    """With M = L^-1 P dA U^-1: dL = L tril(M, -1) and dU = triu(M) U."""
    (x,), (dx,) = primals, tangents
    lu, pivots, permutation = lu_p.bind(x)
    lower, upper = unpack(lu)
    inner = triangular_solve(lower, take_rows(dx, permutation), left_side=True, lower=True, unit_diagonal=True)
    inner = triangular_solve(upper, inner, left_side=False, lower=False)
    tangent = add(matmul(lower, lower_part(inner, -1)), matmul(upper_part(inner), upper))
    rest = tuple(Zero(tangent_type(y.aval)) for y in (pivots, permutation))
    return (lu, pivots, permutation), (tangent, *rest)


lu_p = Primitive(
    "lu",
    category="linalg",
    type_rule=_type_rule,
    jvp=_jvp,
    batch=batch_at_front("lu"),
    multiple_results=True,
    what="Factors a matrix with permuted rows into a unit lower and an upper triangle.",
    formula="p a = l u",
    why="Solves general linear systems; determinants and inverses.",
)


def lu(x: Any) -> tuple[Array, Array, Array]:
    """The LU decomposition with partial pivoting of [..., m, n] matrices.

    Returns:
        lu: [..., m, n], U in the upper triangle and L, without its unit diagonal, below it.
        pivots: int32[..., min(m, n)]; row i was exchanged with row pivots[i] in step i.
        permutation: int32[..., m]; x[permutation] = L U.
    """
    return tuple(lu_p.bind(as_array(x)))


def lu_solve(lu: Any, permutation: Any, b: Any, transpose: int = 0) -> Array:
    """Solves A x = b, A^T x = b (1) or A^H x = b (2) given the square decomposition of A; b is [..., n, m]."""
    if transpose not in (0, 1, 2):
        raise ValueError(f"lu_solve: trans must be 0, 1 or 2, got {transpose}")
    if not transpose:
        x = triangular_solve(lu, take_rows(b, permutation), left_side=True, lower=True, unit_diagonal=True)
        return triangular_solve(lu, x, left_side=True, lower=False)
    flags = {"left_side": True, "transpose_a": True, "conjugate_a": transpose == 2}
    x = triangular_solve(lu, b, lower=False, **flags)
    x = triangular_solve(lu, x, lower=True, unit_diagonal=True, **flags)
    return take_rows(x, inverse_permutation(permutation))


def inverse_permutation(permutation: Any) -> Array:
    """The permutation that undoes this one."""
    axis = permutation.ndim - 1
    positions = broadcasted_iota(permutation.dtype, permutation.shape, axis)
    return sort((permutation, positions), dimension=axis, num_keys=1)[1]


# ---------------------------------------------------------------------------------------------- pivots
def permutation_sign(pivots: Any, dtype: Any) -> Array:
    """1 or -1 by the parity of the row exchanges that really exchange two rows."""
    axis = pivots.ndim - 1
    positions = broadcasted_iota(pivots.dtype, pivots.shape, axis)
    exchanges = reduce_sum(convert_element_type(ne(pivots, positions), np.int32), (axis,))
    odd = ne(bitwise_and(exchanges, number(1, exchanges)), number(0, exchanges))
    one = convert_element_type(full_like(exchanges, 1), dtype)
    return select(odd, neg(one), one)


def _permutation_type(pivots: ArrayType, *, permutation_size: int) -> ArrayType:
    if not pivots.ndim or not dtypes.is_integer(pivots.dtype):
        raise DTypeError(f"lu_pivots_to_permutation: pivots must be integers [..., k], got {pivots}")
    if pivots.shape[-1] > permutation_size:
        raise ShapeError(
            f"lu_pivots_to_permutation: {pivots.shape[-1]} pivots do not fit a permutation of {permutation_size} rows"
        )
    return pivots.update(shape=(*pivots.shape[:-1], permutation_size), weak_type=False)


lu_pivots_to_permutation_p = Primitive(
    "lu_pivots_to_permutation",
    category="linalg",
    type_rule=_permutation_type,
    batch=batch_at_front("lu_pivots_to_permutation"),
    what="Turns the row exchanges of an LU decomposition into one permutation.",
    formula="for i: swap rows i and pivots[i]",
    why="Applies LAPACK's pivots all at once.",
)


def lu_pivots_to_permutation(pivots: Any, permutation_size: int) -> Array:
    """The permutation of `permutation_size` rows that exchanging row i with row pivots[i], for i = 0, 1, ..., makes."""
    return lu_pivots_to_permutation_p.bind(as_array(pivots), permutation_size=int(permutation_size))
