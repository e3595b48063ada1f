"""Solving triangular systems."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from asgfn import dtypes
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
from asgfn.primitives.elementwise import neg
from asgfn.primitives.linalg.matrices import (
    adjoint,
    check_same_batch,
    check_square,
    conjugate,
    lower_part,
    matmul,
    matrix_transpose,
    upper_part,
)
from asgfn.primitives.shaping import expand_dims, reshape, squeeze
from asgfn.tracing import Array, as_array


def _type_rule(a: ArrayType, b: ArrayType, *, left_side: bool, **_: Any) -> ArrayType:
    check_square("triangular_solve", a)
    if b.ndim != a.ndim:
        raise ShapeError(f"triangular_solve: a and b must have the same number of axes, got a {a} and b {b}")
    check_same_batch("triangular_solve", a, b, ranks=(2, 2))
    if b.shape[-2 if left_side else -1] != a.shape[-1]:
        side = "rows" if left_side else "columns"
        raise ShapeError(f"triangular_solve: b must have as many {side} as a, got a {a} and b {b}")
    return b.update(weak_type=False)


def _jvp(primals: Sequence[Any], tangents: Sequence[Any], **params: Any) -> tuple:
    """From op(a) x = b: op(a) dx = db - op(da) x, where only the triangle of da counts."""
    a, b = primals
    da, db = tangents
    x = triangular_solve_p.bind(a, b, **params)
    rhs = db
    if not is_zero(da):
        offset = 1 if params["unit_diagonal"] else 0
        da = lower_part(da, -offset) if params["lower"] else upper_part(da, offset)
        if params["transpose_a"]:
            da = matrix_transpose(da)
        if params["conjugate_a"]:
            da = conjugate(da)
        rhs = add_tangents(rhs, neg(matmul(da, x) if params["left_side"] else matmul(x, da)))
    return x, triangular_solve_p.bind(a, rhs, **params)


def _transpose(ct: Any, a: Any, b: Any, *, transpose_a: bool, **params: Any) -> list:
    """Linear in b; its adjoint solves with the transposed matrix."""
    if is_linear(a):
        raise TransformError("triangular_solve is linear in b only and cannot be transposed with respect to a")
    return [None, triangular_solve_p.bind(a, ct, transpose_a=not transpose_a, **params)]


def _batch(args: Sequence[Any], dims: Sequence[int | None], **params: Any) -> tuple:
    """One matrix for many right-hand sides: they become further columns instead of a batch of copies of the matrix."""
    a, b = args
    a_dim, b_dim = dims
    size = batch_size(args, dims)
    if a_dim is not None:
        out = triangular_solve_p.bind(bdim_at_front(a, a_dim, size), bdim_at_front(b, b_dim, size), **params)
        return out, 0
    assert b_dim is not None  # one of them is mapped
    # [..., n, m, size] becomes [..., n, m * size], and [..., size, m, n] becomes [..., size * m, n].
    axis, first = (b.ndim - 1, b.ndim - 2) if params["left_side"] else (b.ndim - 3, b.ndim - 3)
    b = move_batch_axis(b, b_dim, axis)
    shape = b.shape
    merged = reshape(b, (*shape[:first], shape[first] * shape[first + 1], *shape[first + 2 :]))
    return reshape(triangular_solve_p.bind(a, merged, **params), shape), axis


triangular_solve_p = Primitive(
    "triangular_solve",
    category="linalg",
    type_rule=_type_rule,
    jvp=_jvp,
    transpose=_transpose,
    batch=_batch,
    what="Solves linear systems with a triangular matrix, by substitution.",
    formula="op(a) x = b or x op(a) = b",
    why="The last step of solving by LU, Cholesky or QR; whitening.",
)


def triangular_solve(
    a: Any,
    b: Any,
    *,
    left_side: bool = False,
    lower: bool = False,
    transpose_a: bool = False,
    conjugate_a: bool = False,
    unit_diagonal: bool = False,
) -> Array:
    """Solves op(a) x = b (`left_side`) or x op(a) = b for x, where `a` is triangular.

    Arguments:
        a: [..., n, n]; only the lower or upper triangle is read.
        b: [..., n, m] with `left_side`, else [..., m, n]; or without the axis m.
        lower: whether the lower triangle of `a` is meant.
        transpose_a, conjugate_a: op(a) is the transpose and/or the conjugate.
        unit_diagonal: take the diagonal of `a` as ones, unread.

    Returns:
        x, like `b`. Zeros on the diagonal give infinities and NaN.
    """
    a, b = as_array(a), as_array(b)
    vector = b.ndim == a.ndim - 1
    axis = b.ndim if left_side else b.ndim - 1
    if vector:
        b = expand_dims(b, (axis,))
    x = triangular_solve_p.bind(
        a,
        b,
        left_side=bool(left_side),
        lower=bool(lower),
        transpose_a=bool(transpose_a),
        conjugate_a=bool(conjugate_a) and dtypes.is_complex(a.dtype),
        unit_diagonal=bool(unit_diagonal),
    )
    return squeeze(x, (axis,)) if vector else x


def solve_adjoint_right(lower: Any, b: Any) -> Array:
    """b L^-H for a lower triangular L."""
    return adjoint(triangular_solve(lower, adjoint(b), left_side=True, lower=True))
