"""The QR decomposition and the Householder reflections it is computed from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from asgfn import dtypes
from asgfn.errors import ShapeError, TransformError
from asgfn.graph.types import ArrayType
from asgfn.primitives.base import Primitive, Zero, tangent_type
from asgfn.primitives.elementwise import add, mul, real, sub
from asgfn.primitives.linalg.matrices import (
    adjoint,
    batch_at_front,
    check_matrix,
    check_same_batch,
    identity_like,
    lower_part,
    matmul,
    matrix_transpose,
    take_rows,
)
from asgfn.primitives.linalg.triangular import triangular_solve
from asgfn.primitives.shaping import convert_element_type
from asgfn.primitives.slicing import concatenate, slice_in_dim
from asgfn.tracing import Array, as_array


def _type_rule(x: ArrayType, *, full_matrices: bool, pivoting: bool) -> tuple[ArrayType, ...]:
    check_matrix("qr", x)
    *batch, rows, columns = x.shape
    inner = rows if full_matrices else min(rows, columns)
    q, r = (ArrayType((*batch, *shape), x.dtype) for shape in ((rows, inner), (inner, columns)))
    return (q, r, ArrayType((*batch, columns), np.dtype(np.int32))) if pivoting else (q, r)


def _jvp(primals: Sequence[Any], tangents: Sequence[Any], *, full_matrices: bool, pivoting: bool) -> tuple:
    (x,), (dx,) = primals, tangents
    rows, columns = x.shape[-2:]
    if full_matrices and rows > columns:
        raise TransformError(
            f"qr with full matrices (mode='complete') of {x.aval}, which has more rows than columns, has no derivative: "
            "the last columns of q are not determined; use mode='reduced'"
        )
    out = qr_p.bind(x, full_matrices=full_matrices, pivoting=pivoting)
    q, r = out[:2]
    if pivoting:
        dx = matrix_transpose(take_rows(matrix_transpose(dx), out[2]))
    if rows >= columns:
        dq, dr = _tall_tangents(q, r, dx)
    else:
        # The leading square block determines q, and then r = q^H x for the other columns.
        axis = x.ndim - 1
        r_left = slice_in_dim(r, 0, rows, axis=axis)
        dx_left = slice_in_dim(dx, 0, rows, axis=axis)
        dx_right = slice_in_dim(dx, rows, columns, axis=axis)
        dq, dr_left = _tall_tangents(q, r_left, dx_left)
        x_right = matmul(q, slice_in_dim(r, rows, columns, axis=axis))
        dr_right = add(matmul(adjoint(dq), x_right), matmul(adjoint(q), dx_right))
        dr = concatenate([dr_left, dr_right], axis)
    rest = tuple(Zero(tangent_type(y.aval)) for y in out[2:])
    return tuple(out), (dq, dr, *rest)


def _tall_tangents(q: Any, r: Any, dx: Any) -> tuple[Array, Array]:
    """With M = q^H dx r^-1: the part of dq in the span of q is q Omega, Omega skew-Hermitian with M's lower triangle."""
    dx_rinv = triangular_solve(r, dx, left_side=False, lower=False)
    inner = matmul(adjoint(q), dx_rinv)
    strict = lower_part(inner, -1)
    omega = sub(strict, adjoint(strict))
    if dtypes.is_complex(inner.dtype):
        # r keeps a real diagonal, so the imaginary part of M's diagonal turns q.
        imaginary = sub(inner, convert_element_type(real(inner), inner.dtype))
        omega = add(omega, mul(identity_like(inner), imaginary))
    dq = add(matmul(q, sub(omega, inner)), dx_rinv)
    return dq, matmul(sub(inner, omega), r)


qr_p = Primitive(
    "qr",
    category="linalg",
    type_rule=_type_rule,
    jvp=_jvp,
    batch=batch_at_front("qr"),
    multiple_results=True,
    what="Factors a matrix into orthonormal columns times an upper triangle.",
    formula="a = q r (a[:, p] = q r with pivoting)",
    why="Least squares; orthogonal initial weights.",
)


def qr(x: Any, *, pivoting: bool = False, full_matrices: bool = True) -> tuple[Array, ...]:
    """The QR decomposition of [..., m, n] matrices by Householder reflections (signs are LAPACK's).

    Arguments:
        pivoting: exchange columns so that the magnitudes of r's diagonal descend.
        full_matrices: whether q is [m, m] and r [m, n], or [m, k] and [k, n] with k = min(m, n).

    Returns:
        q, r, and with `pivoting` the order of columns p, int32[..., n]: x[..., p] = q r.
    """
    return tuple(qr_p.bind(as_array(x), full_matrices=bool(full_matrices), pivoting=bool(pivoting)))


# ---------------------------------------------------------------------------------------------- reflections
def _geqrf_type(x: ArrayType) -> tuple[ArrayType, ArrayType]:
    check_matrix("geqrf", x)
    *batch, rows, columns = x.shape
    return x.update(weak_type=False), ArrayType((*batch, min(rows, columns)), x.dtype)


geqrf_p = Primitive(
    "geqrf",
    category="linalg",
    type_rule=_geqrf_type,
    batch=batch_at_front("geqrf"),
    multiple_results=True,
    what="The reflections of a QR decomposition, packed as LAPACK does.",
    formula="a = H_1 ... H_k r",
    why="Keeps q in factored form.",
)


def geqrf(x: Any) -> tuple[Array, Array]:
    """R in the upper triangle, the Householder vectors below it, and their scalar factors tau, [..., min(m, n)]."""
    return tuple(geqrf_p.bind(as_array(x)))


def _householder_type(a: ArrayType, taus: ArrayType) -> ArrayType:
    check_matrix("householder_product", a)
    check_same_batch("householder_product", a, taus, ranks=(2, 1))
    rows, columns = a.shape[-2:]
    if rows < columns:
        raise ShapeError(f"householder_product: a must have at least as many rows as columns, got {a}")
    if taus.shape[-1] > columns:
        raise ShapeError(f"householder_product: there are more reflections (taus {taus}) than columns of a ({a})")
    return a.update(weak_type=False)


householder_product_p = Primitive(
    "householder_product",
    category="linalg",
    type_rule=_householder_type,
    batch=batch_at_front("householder_product"),
    what="Multiplies Householder reflections out.",
    formula="q = H_1 ... H_k, H_i = I - tau_i v_i v_i^H",
    why="The orthogonal factor of a packed QR decomposition.",
)


def householder_product(a: Any, taus: Any) -> Array:
    """The first n columns of H_1 ... H_k, with H_i = I - taus[i] v v^H and v below the diagonal of column i of `a`.

    Arguments:
        a: [..., m, n] with m >= n, as `geqrf` packs it (the diagonal of each v is 1, unread).
        taus: [..., k] with k <= n.
    """
    return householder_product_p.bind(as_array(a), as_array(taus))
