"""Solving tridiagonal systems."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from asgfn.errors import ShapeError, TransformError
from asgfn.graph.types import ArrayType
from asgfn.primitives.base import Primitive, add_tangents, is_linear, is_zero
from asgfn.primitives.elementwise import neg
from asgfn.primitives.linalg.matrices import batch_at_front, check_matrix, check_same_batch, number, scale_rows
from asgfn.primitives.padding import pad
from asgfn.tracing import Array


def _type_rule(dl: ArrayType, d: ArrayType, du: ArrayType, b: ArrayType) -> ArrayType:
    check_matrix("tridiagonal_solve", b, "right-hand side b")
    check_same_batch("tridiagonal_solve", dl, d, du, b, ranks=(1, 1, 1, 2))
    if not dl.shape == d.shape == du.shape == b.shape[:-1]:
        raise ShapeError(
            f"tridiagonal_solve: dl, d and du must be [..., n] for b [..., n, m], got {dl}, {d}, {du} and b {b}"
        )
    return b.update(weak_type=False)


def _shift(x: Any, axis: int, by: int) -> Array:
    """`x` moved by one along an axis, a zero entering."""
    config = [(0, 0, 0)] * x.ndim
    config[axis] = (by, -by, 0)
    return pad(x, number(0, x), config)


def _jvp(primals: Sequence[Any], tangents: Sequence[Any]) -> tuple:
    x = tridiagonal_solve_p.bind(*primals)
    *diagonals, rhs = tangents
    axis = x.ndim - 2
    # Row i of the matrix takes x_{i-1}, x_i and x_{i+1}.
    for t, neighbour in zip(diagonals, (1, 0, -1), strict=True):
        if not is_zero(t):
            moved = _shift(x, axis, neighbour) if neighbour else x
            rhs = add_tangents(rhs, neg(scale_rows(moved, t)))
    return x, tridiagonal_solve_p.bind(*primals[:3], rhs)


def _transpose(ct: Any, dl: Any, d: Any, du: Any, b: Any) -> list:
    if any(map(is_linear, (dl, d, du))):
        raise TransformError(
            "tridiagonal_solve is linear in b only and cannot be transposed with respect to the matrix"
        )
    axis = d.ndim - 1
    return [None, None, None, tridiagonal_solve_p.bind(_shift(du, axis, 1), d, _shift(dl, axis, -1), ct)]


tridiagonal_solve_p = Primitive(
    "tridiagonal_solve",
    category="linalg",
    type_rule=_type_rule,
    jvp=_jvp,
    transpose=_transpose,
    batch=batch_at_front("tridiagonal_solve"),
    what="Solves linear systems with a tridiagonal matrix in linear time.",
    formula="dl_i x_(i-1) + d_i x_i + du_i x_(i+1) = b_i",
    why="Splines, diffusion equations in one dimension.",
)


def tridiagonal_solve(dl: Any, d: Any, du: Any, b: Any) -> Array:
    """Solves A x = b for a tridiagonal A.

    Arguments:
        dl: [..., n], the lower diagonal; dl[..., 0] is not used.
        d: [..., n], the main diagonal.
        du: [..., n], the upper diagonal; du[..., -1] is not used.
        b: [..., n, m].

    Returns:
        x: [..., n, m]. The elimination does not pivot: it is stable for diagonally dominant or definite matrices.
    """
    return tridiagonal_solve_p.bind(dl, d, du, b)
