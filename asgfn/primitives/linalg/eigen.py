"""Eigenvalues and eigenvectors, of Hermitian and of general matrices."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from asgfn import dtypes
from asgfn.errors import TransformError
from asgfn.graph.types import ArrayType
from asgfn.primitives.base import Primitive
from asgfn.primitives.elementwise import add, mul, real, reciprocal, sub
from asgfn.primitives.linalg.lu import lu, lu_solve
from asgfn.primitives.linalg.matrices import (
    adjoint,
    batch_at_front,
    check_square,
    diagonal,
    identity_like,
    lower_part,
    matmul,
    pairwise,
    symmetrize,
    upper_part,
)
from asgfn.primitives.shaping import convert_element_type
from asgfn.primitives.slicing import slice_in_dim
from asgfn.tracing import Array, as_array


# ---------------------------------------------------------------------------------------------- Hermitian
def _eigh_type(x: ArrayType, *, lower: bool) -> tuple[ArrayType, ArrayType]:
    check_square("eigh", x)
    return x.update(weak_type=False), ArrayType(x.shape[:-1], dtypes.real_dtype(x.dtype))


def _eigh_jvp(primals: Sequence[Any], tangents: Sequence[Any], *, lower: bool) -> tuple:
    """With M = V^H dA V: dw_i = M_ii and dV = V (F * M), F_ij = 1 / (w_j - w_i) off the diagonal (Giles, 2008)."""
    (x,), (dx,) = primals, tangents
    v, w = eigh_p.bind(x, lower=lower)
    # Only one triangle is read, so that is what a perturbation consists of.
    part = lower_part(dx) if lower else upper_part(dx)
    strict = lower_part(dx, -1) if lower else upper_part(dx, 1)
    inner = matmul(adjoint(v), add(part, adjoint(strict)), v)
    dv = matmul(v, mul(convert_element_type(_inverse_gaps(w), inner.dtype), inner))
    dw = diagonal(inner)
    return (v, w), (dv, real(dw) if dtypes.is_complex(dw.dtype) else dw)


eigh_p = Primitive(
    "eigh",
    category="linalg",
    type_rule=_eigh_type,
    jvp=_eigh_jvp,
    batch=batch_at_front("eigh"),
    multiple_results=True,
    what="Eigenvectors and eigenvalues of a symmetric or Hermitian matrix.",
    formula="a v = v diag(w)",
    why="Principal components, whitening, spectral methods, matrix functions.",
)


def eigh(
    x: Any,
    *,
    lower: bool = True,
    symmetrize_input: bool = True,
    sort_eigenvalues: bool = True,
    subset_by_index: tuple[int, int] | None = None,
) -> tuple[Array, Array]:
    """Eigenvectors and eigenvalues of Hermitian matrices [..., n, n].

    Arguments:
        lower: which triangle is read when the input is not symmetrised.
        symmetrize_input: first replace x by (x + x^H) / 2.
        sort_eigenvalues: they ascend in any case; the argument is there for programs that pass it.
        subset_by_index: (start, stop), the eigenpairs to return; default all.

    Returns:
        v: [..., n, n], orthonormal eigenvectors as columns; w: real [..., n], ascending. The vectors' derivative is
        infinite or NaN where eigenvalues coincide.
    """
    x = as_array(x)
    if symmetrize_input:
        check_square("eigh", x.aval)
        x = symmetrize(x)
    v, w = eigh_p.bind(x, lower=bool(lower))
    if subset_by_index is None:
        return v, w
    start, stop = subset_by_index
    if not 0 <= start < stop <= w.shape[-1]:
        raise ValueError(f"eigh: subset_by_index {subset_by_index} is not a range of the {w.shape[-1]} eigenvalues")
    return slice_in_dim(v, start, stop, axis=v.ndim - 1), slice_in_dim(w, start, stop, axis=w.ndim - 1)


# ---------------------------------------------------------------------------------------------- general
def _eig_type(x: ArrayType, *, left: bool, right: bool, any_scale: bool) -> tuple[ArrayType, ...]:
    check_square("eig", x)
    dtype = dtypes.complex_dtype(x.dtype)
    return (ArrayType(x.shape[:-1], dtype), *(ArrayType(x.shape, dtype) for wanted in (left, right) if wanted))


def _eig_jvp(
    primals: Sequence[Any], tangents: Sequence[Any], *, left: bool, right: bool, any_scale: bool
) -> tuple[tuple, tuple]:
    """With M = V^-1 dA V: dw = diag(M), and dV = V (F * M) up to a factor for each vector, F_ij = 1 / (w_j - w_i).

    That factor is a matter of convention, so users get no derivative of vectors. The eigenvalues' own derivative does
    not depend on it (`any_scale`), which is how higher orders work.
    """
    if left or (right and not any_scale):
        raise TransformError(
            "the derivative of eigenvectors of general matrices is not implemented: they are determined up to complex "
            "factors only; differentiate eigvals, or use eigh for symmetric and Hermitian matrices"
        )
    (x,), (dx,) = primals, tangents
    w, v = eig_p.bind(x, left=False, right=True, any_scale=True)
    packed, _, permutation = lu(v)
    inner = lu_solve(packed, permutation, matmul(convert_element_type(dx, v.dtype), v))
    if not right:
        return (w,), (diagonal(inner),)
    return (w, v), (diagonal(inner), matmul(v, mul(_inverse_gaps(w), inner)))


def _inverse_gaps(w: Any) -> Array:
    """1 / (w_j - w_i) off the diagonal, 0 on it."""
    gaps = pairwise(sub, w)
    identity = identity_like(gaps)
    return sub(reciprocal(add(gaps, identity)), identity)


eig_p = Primitive(
    "eig",
    category="linalg",
    type_rule=_eig_type,
    jvp=_eig_jvp,
    batch=batch_at_front("eig"),
    multiple_results=True,
    what="Eigenvalues and eigenvectors of a general square matrix.",
    formula="a v = v diag(w)",
    why="Stability of linear dynamical systems; roots of polynomials.",
)


def eig(x: Any, *, compute_left_eigenvectors: bool = True, compute_right_eigenvectors: bool = True) -> list[Array]:
    """Eigenvalues, then left and right eigenvectors if wanted, of general matrices [..., n, n].

    All are complex: w [..., n] in no particular order; eigenvectors [..., n, n] as columns of norm 1, the left ones
    with u^H x = w u^H. Only eigenvalues have a derivative.
    """
    left, right = bool(compute_left_eigenvectors), bool(compute_right_eigenvectors)
    return list(eig_p.bind(as_array(x), left=left, right=right, any_scale=False))
