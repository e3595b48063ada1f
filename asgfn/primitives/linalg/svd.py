"""The singular value decomposition."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from asgfn import dtypes
from asgfn.errors import TransformError
from asgfn.graph.types import ArrayType
from asgfn.primitives.base import Primitive
from asgfn.primitives.elementwise import add, eq, mul, real, reciprocal, sub
from asgfn.primitives.linalg.matrices import (
    adjoint,
    batch_at_front,
    check_matrix,
    diagonal,
    identity_like,
    matmul,
    number,
    pairwise,
    scale_columns,
    scale_rows,
)
from asgfn.primitives.shaping import convert_element_type
from asgfn.primitives.slicing import slice_in_dim
from asgfn.tracing import Array, as_array


def _type_rule(x: ArrayType, *, full_matrices: bool, compute_uv: bool) -> tuple[ArrayType, ...]:
    check_matrix("svd", x)
    *batch, rows, columns = x.shape
    rank = min(rows, columns)
    s = ArrayType((*batch, rank), dtypes.real_dtype(x.dtype))
    if not compute_uv:
        return (s,)
    u_columns, v_rows = (rows, columns) if full_matrices else (rank, rank)
    return s, ArrayType((*batch, rows, u_columns), x.dtype), ArrayType((*batch, v_rows, columns), x.dtype)


def _jvp(primals: Sequence[Any], tangents: Sequence[Any], *, full_matrices: bool, compute_uv: bool) -> tuple:
    """With M = U^H dA V: ds = Re diag(M), and F_ij = 1 / (s_j^2 - s_i^2) couples the vectors (Townsend, 2016).

    Where singular values coincide or vanish the vectors are not unique; their undetermined part is taken as constant.
    """
    (x,), (dx,) = primals, tangents
    rows, columns = x.shape[-2:]
    if compute_uv and full_matrices and rows != columns:
        raise TransformError(
            f"svd with full_matrices=True of {x.aval}, which is not square, has no derivative: the vectors beyond the "
            "singular values are not determined; use full_matrices=False"
        )
    s, u, vh = svd_p.bind(x, full_matrices=False, compute_uv=True)
    v = adjoint(vh)
    inner = matmul(adjoint(u), dx, v)
    along = diagonal(inner)
    ds = real(along) if dtypes.is_complex(along.dtype) else along
    if not compute_uv:
        return (s,), (ds,)
    factor = convert_element_type(pairwise(_inverse_gap, s), inner.dtype)
    weights = convert_element_type(s, inner.dtype)
    by_column, by_row = scale_columns(inner, weights), scale_rows(inner, weights)
    du = matmul(u, mul(factor, add(by_column, adjoint(by_column))))
    dv = matmul(v, mul(factor, add(by_row, adjoint(by_row))))
    inverse = _inverse_or_zero(weights)
    if dtypes.is_complex(inner.dtype):
        turn = mul(identity_like(inner), mul(sub(inner, adjoint(inner)), number(0.5, inner)))
        du = add(du, matmul(u, scale_columns(turn, inverse)))
    if rows > columns:
        action = matmul(dx, v)
        du = add(du, scale_columns(sub(action, matmul(u, adjoint(u), action)), inverse))
    if columns > rows:
        action = matmul(adjoint(dx), u)
        dv = add(dv, scale_columns(sub(action, matmul(v, adjoint(v), action)), inverse))
    return (s, u, vh), (ds, du, adjoint(dv))


def _inverse_gap(a: Any, b: Any) -> Array:
    return _inverse_or_zero(mul(add(a, b), sub(a, b)))


def _inverse_or_zero(x: Any) -> Array:
    """1 / x, and 0 where x is 0."""
    at_zero = convert_element_type(eq(x, number(0, x)), x.dtype)
    return sub(reciprocal(add(x, at_zero)), at_zero)


svd_p = Primitive(
    "svd",
    category="linalg",
    type_rule=_type_rule,
    jvp=_jvp,
    batch=batch_at_front("svd"),
    multiple_results=True,
    what="Singular values and vectors of a matrix.",
    formula="a = u diag(s) v^H",
    why="Low-rank approximation, pseudo-inverses, matrix norms and ranks.",
)


def svd(
    x: Any,
    *,
    full_matrices: bool = True,
    compute_uv: bool = True,
    subset_by_index: tuple[int, int] | None = None,
) -> Array | tuple[Array, Array, Array]:
    """The singular value decomposition of [..., m, n] matrices.

    Arguments:
        full_matrices: whether u is [m, m] and vh [n, n], or [m, k] and [k, n] with k = min(m, n).
        compute_uv: whether to return the vectors at all.
        subset_by_index: (start, stop), the singular values to return; needs full_matrices=False or compute_uv=False.

    Returns:
        u, s (real, [..., k], descending) and vh with x = u diag(s) vh; or s alone.
    """
    out = svd_p.bind(as_array(x), full_matrices=bool(full_matrices), compute_uv=bool(compute_uv))
    if subset_by_index is not None:
        out = _subset(out, subset_by_index, full_matrices and compute_uv)
    if not compute_uv:
        return out[0]
    s, u, vh = out
    return u, s, vh


def _subset(out: Sequence[Array], bounds: tuple[int, int], full_matrices: bool) -> list[Array]:
    start, stop = bounds
    count = out[0].shape[-1]
    if not 0 <= start < stop <= count:
        raise ValueError(f"svd: subset_by_index {bounds} is not a range of the {count} singular values")
    if full_matrices and bounds != (0, count):
        raise ValueError("svd: subset_by_index and full_matrices=True cannot be combined")
    axes = (out[0].ndim - 1, out[0].ndim, out[0].ndim - 1)
    return [slice_in_dim(y, start, stop, axis=axis) for y, axis in zip(out, axes, strict=False)]
