"""Decompositions of matrices, with NumPy's names, results and order of results."""

from __future__ import annotations

from typing import NamedTuple

from asgfn.numpy import indexing, manipulation, selection, sorting, ufuncs
from asgfn.numpy.arguments import ArrayLike, promote_args_inexact
from asgfn.primitives import linalg
from asgfn.tracing import Array


class EighResult(NamedTuple):
    eigenvalues: Array
    eigenvectors: Array


class EigResult(NamedTuple):
    eigenvalues: Array
    eigenvectors: Array


class QRResult(NamedTuple):
    Q: Array
    R: Array


class SVDResult(NamedTuple):
    U: Array
    S: Array
    Vh: Array


def cholesky(a: ArrayLike, *, upper: bool = False, symmetrize_input: bool = True) -> Array:
    """The Cholesky factor of [..., n, n] positive definite matrices: L with a = L L^H, or U = L^H if `upper`.

    All NaN where a matrix is not positive definite. `symmetrize_input` averages the matrix with its adjoint first.
    """
    (a,) = promote_args_inexact("linalg.cholesky", a)
    lower = linalg.cholesky(a, symmetrize_input=symmetrize_input)
    return ufuncs.conjugate(manipulation.matrix_transpose(lower)) if upper else lower


def qr(a: ArrayLike, mode: str = "reduced") -> Array | QRResult:
    """The QR decomposition of [..., m, n] matrices; k = min(m, n).

    Arguments:
        mode: "reduced": Q [m, k] and R [k, n]; "complete": Q [m, m] and R [m, n]; "r": only R [k, n];
            "raw": LAPACK's packed reflections, transposed [n, m], and their factors [k].
    """
    (a,) = promote_args_inexact("linalg.qr", a)
    if mode == "raw":
        packed, taus = linalg.geqrf(a)
        return QRResult(manipulation.matrix_transpose(packed), taus)
    if mode not in ("reduced", "complete", "r"):
        raise ValueError(f"linalg.qr: mode must be 'reduced', 'complete', 'r' or 'raw', got {mode!r}")
    q, r = linalg.qr(a, full_matrices=mode == "complete")
    return r if mode == "r" else QRResult(q, r)


def svd(
    a: ArrayLike,
    full_matrices: bool = True,
    compute_uv: bool = True,
    hermitian: bool = False,
    subset_by_index: tuple[int, int] | None = None,
) -> Array | SVDResult:
    """The singular value decomposition a = U diag(S) Vh of [..., m, n] matrices; k = min(m, n).

    Arguments:
        full_matrices: whether U is [m, m] and Vh [n, n], or [m, k] and [k, n].
        compute_uv: whether to compute U and Vh at all; if not, S alone is returned.
        hermitian: `a` is Hermitian, which allows a faster method.
        subset_by_index: (start, stop), which singular values to compute.

    S is real [..., k] and descends. The gradient of U and Vh needs full_matrices=False, and distinct singular values.
    """
    (a,) = promote_args_inexact("linalg.svd", a)
    if hermitian:
        return _hermitian_svd(a, compute_uv)
    out = linalg.svd(a, full_matrices=full_matrices, compute_uv=compute_uv, subset_by_index=subset_by_index)
    return SVDResult(*out) if isinstance(out, tuple) else out


def _hermitian_svd(a: Array, compute_uv: bool) -> Array | SVDResult:
    """From a = V diag(w) V^H: singular values |w|, and the signs of w go to the right vectors."""
    v, w = linalg.eigh(a)
    s = ufuncs.abs(w)
    if not compute_uv:
        return manipulation.flip(sorting.sort(s, axis=-1), axis=-1)
    order = manipulation.flip(sorting.argsort(s, axis=-1), axis=-1)
    s = indexing.take_along_axis(s, order, axis=-1)
    columns = manipulation.expand_dims(order, -2)
    u = indexing.take_along_axis(v, columns, axis=-1)
    # A zero eigenvalue counts as positive: its vectors must not vanish.
    signs = selection.where(indexing.take_along_axis(w, order, axis=-1) < 0, -1, 1).astype(u.dtype)
    vh = ufuncs.conjugate(manipulation.matrix_transpose(u * manipulation.expand_dims(signs, -2)))
    return SVDResult(u, s, vh)


def svdvals(x: ArrayLike, /) -> Array:
    """The singular values of [..., m, n] matrices, descending."""
    (x,) = promote_args_inexact("linalg.svdvals", x)
    return linalg.svd_p.bind(x, full_matrices=False, compute_uv=False)[0]


def eigh(a: ArrayLike, UPLO: str | None = None, symmetrize_input: bool = True) -> EighResult:
    """Eigenvalues (real, ascending) and orthonormal eigenvectors (as columns) of Hermitian [..., n, n] matrices.

    Arguments:
        UPLO: "L" or "U", the triangle that is read; it matters only without `symmetrize_input`.
        symmetrize_input: average the matrix with its adjoint first.
    """
    if UPLO not in (None, "L", "U"):
        raise ValueError(f"linalg.eigh: UPLO must be 'L' or 'U', got {UPLO!r}")
    (a,) = promote_args_inexact("linalg.eigh", a)
    v, w = linalg.eigh(a, lower=UPLO != "U", symmetrize_input=symmetrize_input)
    return EighResult(w, v)


def eigvalsh(a: ArrayLike, UPLO: str | None = "L", *, symmetrize_input: bool = True) -> Array:
    """The eigenvalues of Hermitian matrices, ascending."""
    return eigh(a, UPLO, symmetrize_input).eigenvalues


def eig(a: ArrayLike) -> EigResult:
    """Eigenvalues and right eigenvectors (as columns) of general [..., n, n] matrices; always complex."""
    (a,) = promote_args_inexact("linalg.eig", a)
    w, v = linalg.eig(a, compute_left_eigenvectors=False)
    return EigResult(w, v)


def eigvals(a: ArrayLike) -> Array:
    """The eigenvalues of general matrices, complex, in no particular order. Differentiable."""
    (a,) = promote_args_inexact("linalg.eigvals", a)
    return linalg.eig(a, compute_left_eigenvectors=False, compute_right_eigenvectors=False)[0]
