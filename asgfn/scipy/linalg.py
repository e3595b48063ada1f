"""`scipy.linalg` on asgfn arrays.

Arguments that tell SciPy to reuse memory or to check values (`overwrite_a`, `check_finite`, ...) are accepted and have
no effect: arrays are immutable, and failures show as NaN. Leading axes are batch axes unless a function says otherwise.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

import asgfn.numpy as jnp
from asgfn import dtypes, lax
from asgfn.errors import ShapeError
from asgfn.numpy import linalg as numpy_linalg
from asgfn.numpy.arguments import ArrayLike, promote_args_inexact, promote_dtypes, promote_dtypes_inexact, to_array
from asgfn.primitives import linalg
from asgfn.tracing import Array


def _adjoint(x: Array) -> Array:
    return jnp.conjugate(jnp.matrix_transpose(x))


def cholesky(a: ArrayLike, lower: bool = False, overwrite_a: bool = False, check_finite: bool = True) -> Array:
    """The upper triangular U with a = U^H U, or the lower L with a = L L^H."""
    (a,) = promote_args_inexact("linalg.cholesky", a)
    factor = linalg.cholesky(a if lower else _adjoint(a), symmetrize_input=False)
    return factor if lower else _adjoint(factor)


def cho_factor(
    a: ArrayLike, lower: bool = False, overwrite_a: bool = False, check_finite: bool = True
) -> tuple[Array, bool]:
    """The Cholesky factor and whether it is lower, for `cho_solve`."""
    return cholesky(a, lower), lower


def cho_solve(
    c_and_lower: tuple[ArrayLike, bool], b: ArrayLike, overwrite_b: bool = False, check_finite: bool = True
) -> Array:
    """Solves a x = b given `cho_factor(a)`; b is [n] or [..., n, m]."""
    factor, lower = c_and_lower
    first = solve_triangular(factor, b, trans=0 if lower else 2, lower=lower)
    return solve_triangular(factor, first, trans=2 if lower else 0, lower=lower)


def solve(
    a: ArrayLike,
    b: ArrayLike,
    lower: bool = False,
    overwrite_a: bool = False,
    overwrite_b: bool = False,
    debug: bool = False,
    check_finite: bool = True,
    assume_a: str = "gen",
) -> Array:
    """Solves a x = b.

    Arguments:
        assume_a: "gen", "sym" or "her": by LU; "pos" (positive definite): by Cholesky.
        lower: which triangle of `a` is read if it is positive definite.
    """
    if assume_a not in ("gen", "sym", "her", "pos"):
        raise ValueError(f"linalg.solve: assume_a must be 'gen', 'sym', 'her' or 'pos', got {assume_a!r}")
    if assume_a == "pos":
        return cho_solve(cho_factor(a, lower), b)
    return numpy_linalg.solve(a, b)


def solve_triangular(
    a: ArrayLike,
    b: ArrayLike,
    trans: int | str = 0,
    lower: bool = False,
    unit_diagonal: bool = False,
    overwrite_b: bool = False,
    debug: Any = None,
    check_finite: bool = True,
) -> Array:
    """Solves a x = b (trans 0 or "N"), a^T x = b (1 or "T") or a^H x = b (2 or "C") for a triangular a [..., n, n].

    b is [n] or [..., n, m]; only one triangle of `a` is read.
    """
    if trans not in (0, 1, 2, "N", "T", "C"):
        raise ValueError(f"linalg.solve_triangular: trans must be 0, 1, 2, 'N', 'T' or 'C', got {trans!r}")
    a, b = promote_dtypes_inexact(to_array("linalg.solve_triangular", a), to_array("linalg.solve_triangular", b))
    vector = b.ndim == 1
    columns = jnp.expand_dims(b, 1) if vector else b
    leading = jnp.broadcast_shapes(a.shape[:-2], columns.shape[:-2])
    x = linalg.triangular_solve(
        jnp.broadcast_to(a, (*leading, *a.shape[-2:])),
        jnp.broadcast_to(columns, (*leading, *columns.shape[-2:])),
        left_side=True,
        lower=lower,
        transpose_a=trans in (1, 2, "T", "C"),
        conjugate_a=trans in (2, "C"),
        unit_diagonal=unit_diagonal,
    )
    return x[..., 0] if vector else x


def lu_factor(a: ArrayLike, overwrite_a: bool = False, check_finite: bool = True) -> tuple[Array, Array]:
    """The packed LU decomposition and its pivots, for `lu_solve`."""
    (a,) = promote_args_inexact("linalg.lu_factor", a)
    packed, pivots, _ = linalg.lu(a)
    return packed, pivots


def lu_solve(
    lu_and_piv: tuple[Array, ArrayLike],
    b: ArrayLike,
    trans: int = 0,
    overwrite_b: bool = False,
    check_finite: bool = True,
) -> Array:
    """Solves a x = b, a^T x = b (trans 1) or a^H x = b (2) given `lu_factor(a)`; b is [n] or [..., n, m]."""
    packed, pivots = lu_and_piv
    packed, b = promote_dtypes_inexact(packed, to_array("linalg.lu_solve", b))
    vector = b.ndim == 1
    permutation = linalg.lu_pivots_to_permutation(pivots, packed.shape[-1])
    x = linalg.lu_solve(packed, permutation, jnp.expand_dims(b, 1) if vector else b, trans)
    return x[..., 0] if vector else x


def lu(
    a: ArrayLike, permute_l: bool = False, overwrite_a: bool = False, check_finite: bool = True
) -> tuple[Array, Array] | tuple[Array, Array, Array]:
    """The factors of a [..., m, n] = P L U: P [m, m], L [m, k], U [k, n]; or P L and U with `permute_l`."""
    (a,) = promote_args_inexact("linalg.lu", a)
    packed, _, permutation = linalg.lu(a)
    rows, columns = a.shape[-2:]
    rank = min(rows, columns)
    lower = jnp.tril(packed[..., :, :rank], -1) + jnp.eye(rows, rank, dtype=packed.dtype)
    upper = jnp.triu(packed[..., :rank, :])
    # Column j of P has its one in row permutation[j].
    p = (permutation[..., None, :] == jnp.arange(rows)[:, None]).astype(dtypes.real_dtype(packed.dtype))
    if permute_l:
        return jnp.matmul(p.astype(packed.dtype), lower, precision="highest"), upper
    return p, lower, upper


def qr(
    a: ArrayLike,
    overwrite_a: bool = False,
    lwork: Any = None,
    mode: str = "full",
    pivoting: bool = False,
    check_finite: bool = True,
) -> tuple[Array, ...]:
    """The QR decomposition: (q, r), or (r,) with mode="r", and the order of columns last with `pivoting`.

    Arguments:
        mode: "full" (q [m, m], r [m, n]), "economic" (q [m, k], r [k, n]) or "r".
    """
    if mode not in ("full", "economic", "r"):
        raise ValueError(f"linalg.qr: mode must be 'full', 'economic' or 'r', got {mode!r}")
    (a,) = promote_args_inexact("linalg.qr", a)
    out = linalg.qr(a, pivoting=pivoting, full_matrices=mode != "economic")
    return out[1:] if mode == "r" else out


def svd(
    a: ArrayLike,
    full_matrices: bool = True,
    compute_uv: bool = True,
    overwrite_a: bool = False,
    check_finite: bool = True,
    lapack_driver: str = "gesdd",
) -> Array | tuple[Array, Array, Array]:
    """The singular value decomposition, as `jnp.linalg.svd`."""
    out = numpy_linalg.svd(a, full_matrices=full_matrices, compute_uv=compute_uv)
    return (out.U, out.S, out.Vh) if isinstance(out, tuple) else out


def eigh(
    a: ArrayLike,
    b: ArrayLike | None = None,
    lower: bool = True,
    eigvals_only: bool = False,
    overwrite_a: bool = False,
    overwrite_b: bool = False,
    turbo: bool = True,
    eigvals: None = None,
    type: int = 1,
    check_finite: bool = True,
) -> Array | tuple[Array, Array]:
    """Eigenvalues and eigenvectors of a Hermitian `a`, or with a positive definite `b` of the problem a v = w b v.

    Arguments:
        lower: which triangle is read.
        eigvals_only: return the eigenvalues alone.
        type: 1 (a v = w b v), 2 (a b v = w v) or 3 (b a v = w v).
    """
    if eigvals is not None:
        raise NotImplementedError("linalg.eigh: a range of eigenvalues is not supported; slice the result")
    if type not in (1, 2, 3):
        raise ValueError(f"linalg.eigh: type must be 1, 2 or 3, got {type}")
    (a,) = promote_args_inexact("linalg.eigh", a)
    factor = None
    if b is not None:
        a, b = promote_dtypes_inexact(a, to_array("linalg.eigh", b))
        a, factor = _standard_problem(_hermitian(a, lower), cholesky(_hermitian(b, lower), lower=True), type)
    v, w = linalg.eigh(a, lower=lower, symmetrize_input=b is not None)
    if eigvals_only:
        return w
    if factor is not None:
        v = jnp.matmul(factor, v) if type == 3 else solve_triangular(factor, v, trans=2, lower=True)
    return w, v


def _hermitian(x: Array, lower: bool) -> Array:
    """The Hermitian matrix that one triangle of `x` stands for."""
    return jnp.tril(x) + _adjoint(jnp.tril(x, -1)) if lower else jnp.triu(x) + _adjoint(jnp.triu(x, 1))


def _standard_problem(a: Array, factor: Array, kind: int) -> tuple[Array, Array]:
    """With b = L L^H: L^-1 a L^-H for type 1, L^H a L for types 2 and 3."""
    if kind == 1:
        half = solve_triangular(factor, a, lower=True)
        return _adjoint(solve_triangular(factor, _adjoint(half), lower=True)), factor
    return jnp.matmul(_adjoint(factor), jnp.matmul(a, factor)), factor


def inv(a: ArrayLike, overwrite_a: bool = False, check_finite: bool = True) -> Array:
    """The inverse."""
    return numpy_linalg.inv(a)


def det(a: ArrayLike, overwrite_a: bool = False, check_finite: bool = True) -> Array:
    """The determinant."""
    return numpy_linalg.det(a)


# ---------------------------------------------------------------------------------------------- matrix exponential
# Coefficients of the Pade approximants of orders 7 and 13, and the 1-norms up to which each is exact to rounding:
# N. J. Higham, "The scaling and squaring method for the matrix exponential revisited", SIAM J. Matrix Anal. 26 (2005).
_PADE = {
    7: (17297280.0, 8648640.0, 1995840.0, 277200.0, 25200.0, 1512.0, 56.0, 1.0),
    13: (
        64764752532480000.0,
        32382376266240000.0,
        7771770303897600.0,
        1187353796428800.0,
        129060195264000.0,
        10559470521600.0,
        670442572800.0,
        33522128640.0,
        1323241920.0,
        40840800.0,
        960960.0,
        16380.0,
        182.0,
        1.0,
    ),
}
_LIMIT_SINGLE, _ORDER_SINGLE = 3.925724783138660, 7
_LIMIT_DOUBLE, _ORDER_DOUBLE = 5.371920351148152, 13


def expm(A: ArrayLike, *, upper_triangular: bool = False, max_squarings: int = 16) -> Array:
    """The matrix exponential of [..., n, n] matrices, by a Pade approximant with scaling and squaring.

    Arguments:
        upper_triangular: the matrices are upper triangular, so that solving needs only substitution.
        max_squarings: matrices whose norm would need more squarings than this give NaN.
    """
    (a,) = promote_args_inexact("linalg.expm", A)
    if a.ndim < 2 or a.shape[-1] != a.shape[-2]:
        raise ShapeError(f"linalg.expm: the matrices must be square, [..., n, n], got {a.aval}")
    double = dtypes.real_dtype(a.dtype) == np.float64
    limit, order = (_LIMIT_DOUBLE, _ORDER_DOUBLE) if double else (_LIMIT_SINGLE, _ORDER_SINGLE)
    norm = jnp.max(jnp.sum(jnp.abs(a), axis=-2), axis=-1, initial=0)
    squarings = lax.stop_gradient(jnp.maximum(0, jnp.ceil(jnp.log2(jnp.where(norm > 0, norm, 1) / limit))))
    scaled = a * jnp.exp2(-squarings)[..., None, None].astype(a.dtype)
    result = _pade(scaled, _PADE[order], upper_triangular)
    for step in range(max_squarings):
        squared = jnp.matmul(result, result, precision="highest")
        result = jnp.where((squarings > step)[..., None, None], squared, result)
    return jnp.where((squarings > max_squarings)[..., None, None], np.nan, result)


def _pade(a: Array, coefficients: tuple[float, ...], upper_triangular: bool) -> Array:
    """The approximant (V - U)^-1 (V + U), U odd and V even in `a`."""
    identity = jnp.eye(a.shape[-1], dtype=a.dtype)
    square = jnp.matmul(a, a, precision="highest")
    even, odd = identity * coefficients[-2], identity * coefficients[-1]
    for k in range(len(coefficients) - 3, 0, -2):
        even = jnp.matmul(even, square, precision="highest") + identity * coefficients[k - 1]
        odd = jnp.matmul(odd, square, precision="highest") + identity * coefficients[k]
    odd = jnp.matmul(a, odd, precision="highest")
    if upper_triangular:
        return solve_triangular(even - odd, even + odd)
    return numpy_linalg.solve(even - odd, even + odd)


# ---------------------------------------------------------------------------------------------- special matrices
def block_diag(*arrs: ArrayLike) -> Array:
    """The matrices along the diagonal of one larger matrix of zeros; vectors count as rows."""
    blocks = [jnp.atleast_2d(x) for x in promote_dtypes(*(to_array("linalg.block_diag", x) for x in arrs or ([[]],)))]
    if any(x.ndim != 2 for x in blocks):
        raise ShapeError(f"linalg.block_diag: operands must be matrices, got shapes {[x.shape for x in blocks]}")
    width = sum(x.shape[1] for x in blocks)
    rows, left = [], 0
    for x in blocks:
        config = [(0, 0, 0), (left, width - left - x.shape[1], 0)]
        rows.append(lax.pad(x, lax.full_like(x, 0, shape=()), config))
        left += x.shape[1]
    return lax.concatenate(rows, 0)


def toeplitz(c: ArrayLike, r: ArrayLike | None = None) -> Array:
    """Constant diagonals: first column c [..., m] and first row r [..., n] (default conj(c)); r[0] is not used."""
    c = jnp.atleast_1d(to_array("linalg.toeplitz", c))
    r = jnp.conjugate(c) if r is None else jnp.atleast_1d(to_array("linalg.toeplitz", r))
    rows, columns = c.shape[-1], r.shape[-1]
    leading = jnp.broadcast_shapes(c.shape[:-1], r.shape[:-1])
    c, r = (jnp.broadcast_to(x, (*leading, x.shape[-1])) for x in promote_dtypes(c, r))
    diagonals = jnp.concatenate([jnp.flip(c, -1), r[..., 1:]], axis=-1)
    return diagonals[..., rows - 1 - np.arange(rows)[:, None] + np.arange(columns)[None, :]]


def hankel(c: ArrayLike, r: ArrayLike | None = None) -> Array:
    """Constant anti-diagonals: first column c [m] and last row r [n] (default zeros); r[0] is not used."""
    c = jnp.ravel(to_array("linalg.hankel", c))
    r = jnp.zeros_like(c) if r is None else jnp.ravel(to_array("linalg.hankel", r))
    c, r = promote_dtypes(c, r)
    entries = jnp.concatenate([c, r[1:]])
    return entries[np.arange(c.shape[0])[:, None] + np.arange(r.shape[0])[None, :]]


def circulant(c: ArrayLike) -> Array:
    """Columns that are rotations of c [..., n]."""
    c = jnp.atleast_1d(to_array("linalg.circulant", c))
    n = c.shape[-1]
    return c[..., (np.arange(n)[:, None] - np.arange(n)[None, :]) % max(n, 1)]


def hilbert(n: int) -> Array:
    """The n x n matrix 1 / (i + j + 1)."""
    index = jnp.arange(n)
    return 1 / (index[:, None] + index[None, :] + 1)


def dft(n: int, scale: str | None = None, *, dtype: Any = None) -> Array:
    """The matrix of the discrete Fourier transform; `scale` None, "sqrtn" (unitary) or "n"."""
    if scale not in (None, "sqrtn", "n"):
        raise ValueError(f"linalg.dft: scale must be None, 'sqrtn' or 'n', got {scale!r}")
    exponents = np.arange(n)[:, None] * np.arange(n)[None, :] % max(n, 1)
    matrix = np.exp(-2j * np.pi * exponents / max(n, 1))
    factor = {None: 1.0, "sqrtn": math.sqrt(n), "n": n}[scale]
    return jnp.asarray(matrix / factor, dtype=dtypes.default_complex() if dtype is None else dtype)
