"""Solving general linear systems, and determinants."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from asgfn.errors import ShapeError, TransformError
from asgfn.graph.types import ArrayType
from asgfn.primitives.base import (
    Primitive,
    add_tangents,
    batch_size,
    bdim_at_front,
    is_linear,
    is_zero,
    move_batch_axis,
)
from asgfn.primitives.elementwise import add, mul, neg, sub
from asgfn.primitives.linalg.lu import lu, permutation_sign
from asgfn.primitives.linalg.matrices import (
    batch_at_front,
    check_same_batch,
    check_square,
    diagonal,
    matmul,
    matrix_transpose,
    take_rows,
)
from asgfn.primitives.linalg.triangular import triangular_solve
from asgfn.primitives.reductions import reduce_prod
from asgfn.primitives.shaping import broadcast_in_dim, reduce_sum, reshape
from asgfn.primitives.slicing import slice_in_dim
from asgfn.tracing import Array, as_array


def _type_rule(a: ArrayType, b: ArrayType, *, transpose_a: bool) -> ArrayType:
    check_square("linear_solve", a)
    if b.ndim != a.ndim:
        raise ShapeError(f"linear_solve: a and b must have the same number of axes, got a {a} and b {b}")
    check_same_batch("linear_solve", a, b, ranks=(2, 2))
    if b.shape[-2] != a.shape[-1]:
        raise ShapeError(f"linear_solve: b must have as many rows as a, got a {a} and b {b}")
    return b.update(weak_type=False)


def _jvp(primals: Sequence[Any], tangents: Sequence[Any], *, transpose_a: bool) -> tuple:
    """From a x = b: a dx = db - da x."""
    a, b = primals
    da, rhs = tangents
    x = linear_solve_p.bind(a, b, transpose_a=transpose_a)
    if not is_zero(da):
        rhs = add_tangents(rhs, neg(matmul(matrix_transpose(da) if transpose_a else da, x)))
    return x, linear_solve_p.bind(a, rhs, transpose_a=transpose_a)


def _transpose(ct: Any, a: Any, b: Any, *, transpose_a: bool) -> list:
    if is_linear(a):
        raise TransformError("linear_solve is linear in b only and cannot be transposed with respect to a")
    return [None, linear_solve_p.bind(a, ct, transpose_a=not transpose_a)]


def _batch(args: Sequence[Any], dims: Sequence[int | None], **params: Any) -> tuple:
    """One matrix for many right-hand sides: they become further columns, so that it is factored once."""
    a, b = args
    a_dim, b_dim = dims
    size = batch_size(args, dims)
    if a_dim is not None:
        return linear_solve_p.bind(bdim_at_front(a, a_dim, size), bdim_at_front(b, b_dim, size), **params), 0
    axis = b.ndim - 1
    assert b_dim is not None
    b = move_batch_axis(b, b_dim, axis)
    merged = reshape(b, (*b.shape[:-2], b.shape[-2] * b.shape[-1]))
    return reshape(linear_solve_p.bind(a, merged, **params), b.shape), axis


linear_solve_p = Primitive(
    "linear_solve",
    category="linalg",
    type_rule=_type_rule,
    jvp=_jvp,
    transpose=_transpose,
    batch=_batch,
    what="Solves systems of linear equations.",
    formula="a x = b",
    why="Newton's method, implicit layers, normal equations; inverses.",
)


def linear_solve(a: Any, b: Any, *, transpose_a: bool = False) -> Array:
    """Solves a x = b (or a^T x = b) for a [..., n, n] and b [..., n, m], by LU with partial pivoting.

    A singular matrix gives infinities and NaN.
    """
    return linear_solve_p.bind(as_array(a), as_array(b), transpose_a=bool(transpose_a))


# ---------------------------------------------------------------------------------------------- determinants
def _det_type(x: ArrayType) -> ArrayType:
    check_square("det", x)
    return x.update(shape=x.shape[:-2], weak_type=False)


def _det_jvp(primals: Sequence[Any], tangents: Sequence[Any]) -> tuple:
    """trace(adj(A) dA), where the adjugate is formed without dividing by the last pivot.

    From P A = L U, adj(A) dA = det(P) adj(U) z with z = L^-1 P dA. With U = [[U1, c], [0, u]],
    adj(U) z = det(U1) [U1^-1 (u z1 - c z2); z2], which exists for singular A of rank n - 1 too.
    """
    (x,), (dx,) = primals, tangents
    value = det_p.bind(x)
    n = x.shape[-1]
    if n == 0:
        return value, reduce_sum(dx, (dx.ndim - 2, dx.ndim - 1))
    packed, pivots, permutation = lu(x)
    z = triangular_solve(packed, take_rows(dx, permutation), left_side=True, lower=True, unit_diagonal=True)
    last_row, last_column = _block(z, n - 1, n, 0, n), _block(packed, 0, n - 1, n - 1, n)
    corner = _block(packed, n - 1, n, n - 1, n)
    leading = _block(packed, 0, n - 1, 0, n - 1)
    spread = broadcast_in_dim(reshape(corner, corner.shape[:-2]), (*x.shape[:-2], n - 1, n), tuple(range(x.ndim - 2)))
    rhs = sub(mul(spread, _block(z, 0, n - 1, 0, n)), matmul(last_column, last_row))
    upper = triangular_solve(leading, rhs, left_side=True, lower=False)
    trace = reduce_sum(diagonal(_block(upper, 0, n - 1, 0, n - 1)), (x.ndim - 2,))
    trace = add(trace, reshape(_block(last_row, 0, 1, n - 1, n), x.shape[:-2]))
    scale = mul(permutation_sign(pivots, x.dtype), reduce_prod(diagonal(leading), (x.ndim - 2,)))
    return value, mul(scale, trace)


det_p = Primitive(
    "det",
    category="linalg",
    type_rule=_det_type,
    jvp=_det_jvp,
    batch=batch_at_front("det"),
    what="Determinant of a square matrix.",
    formula="y = det(a)",
    why="Volumes, changes of variables, invertibility.",
)


def det(x: Any) -> Array:
    """The determinants of [..., n, n] matrices. Differentiable also where the rank is n - 1."""
    return det_p.bind(as_array(x))


def _block(x: Any, top: int, bottom: int, left: int, right: int) -> Array:
    return slice_in_dim(slice_in_dim(x, top, bottom, axis=x.ndim - 2), left, right, axis=x.ndim - 1)
