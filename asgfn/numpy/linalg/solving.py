"""Linear systems: solutions, inverses, least squares, determinants."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import numpy as np

from asgfn import dtypes, lax
from asgfn.custom_derivatives import custom_jvp
from asgfn.errors import ShapeError
from asgfn.numpy import diagonals, manipulation, products, reductions, selection, ufuncs
from asgfn.numpy.arguments import ArrayLike, broadcast_shapes, promote_args_inexact, promote_dtypes_inexact, to_array
from asgfn.numpy.linalg.decompositions import svd
from asgfn.primitives import linalg
from asgfn.tracing import Array


class SlogdetResult(NamedTuple):
    sign: Array
    logabsdet: Array


def _adjoint(x: Array) -> Array:
    return ufuncs.conjugate(manipulation.matrix_transpose(x))


def _check_square(name: str, a: Array) -> None:
    if a.ndim < 2 or a.shape[-1] != a.shape[-2]:
        raise ShapeError(f"{name}: the matrices must be square, [..., n, n], got {a.aval}")


def solve(a: ArrayLike, b: ArrayLike) -> Array:
    """Solves a x = b for square matrices a [..., n, n].

    Arguments:
        b: a vector [n], or matrices [..., n, m] whose leading axes broadcast with those of `a`.

    Returns:
        x, shaped like `b` (after broadcasting). Infinite or NaN where `a` is singular.
    """
    a, b = promote_dtypes_inexact(to_array("linalg.solve", a), to_array("linalg.solve", b))
    _check_square("linalg.solve", a)
    vector = b.ndim == 1
    columns = manipulation.expand_dims(b, 1) if vector else b
    if not b.ndim or columns.shape[-2] != a.shape[-1]:
        raise ShapeError(
            f"linalg.solve: b must be [n] or [..., n, m] with n = {a.shape[-1]}, got a {a.aval} and b {b.aval}"
        )
    leading = broadcast_shapes(a.shape[:-2], columns.shape[:-2])
    a = manipulation.broadcast_to(a, (*leading, *a.shape[-2:]))
    columns = manipulation.broadcast_to(columns, (*leading, *columns.shape[-2:]))
    x = linalg.linear_solve(a, columns)
    return manipulation.squeeze(x, -1) if vector else x


def inv(a: ArrayLike) -> Array:
    """The inverses of square matrices [..., n, n]; infinite or NaN where singular."""
    (a,) = promote_args_inexact("linalg.inv", a)
    _check_square("linalg.inv", a)
    return linalg.linear_solve(a, manipulation.broadcast_to(diagonals.eye(a.shape[-1], dtype=a.dtype), a.shape))


def pinv(
    a: ArrayLike, rtol: ArrayLike | None = None, hermitian: bool = False, *, rcond: ArrayLike | None = None
) -> Array:
    """The Moore-Penrose inverses of [..., m, n] matrices.

    Arguments:
        rtol: singular values below rtol times the largest count as zero; default 10 max(m, n) times the dtype's epsilon.
        hermitian: `a` is Hermitian, which allows a faster method.
        rcond: older name of `rtol`.

    The derivative assumes that the rank stays as it is.
    """
    if rtol is not None and rcond is not None:
        raise ValueError("linalg.pinv: give rtol or rcond, not both")
    (a,) = promote_args_inexact("linalg.pinv", a)
    if a.ndim < 2:
        raise ShapeError(f"linalg.pinv: a must have at least two axes, got {a.aval}")
    tolerance = rcond if rtol is None else rtol
    if tolerance is None:
        tolerance = 10.0 * max(a.shape[-2:]) * float(np.finfo(a.dtype).eps)
    return _pinv(a, ufuncs.abs(to_array("linalg.pinv", tolerance)), hermitian)


def _pinv_value(a: Array, tolerance: Array, hermitian: bool) -> Array:
    if 0 in a.shape[-2:]:
        return manipulation.matrix_transpose(ufuncs.conjugate(a))
    u, s, vh = svd(a, full_matrices=False, hermitian=hermitian)
    limit = manipulation.expand_dims(tolerance, -1) if tolerance.ndim else tolerance
    keep = s > limit * s[..., :1]
    inverse = selection.where(keep, 1 / selection.where(keep, s, 1), 0).astype(u.dtype)
    return products.matmul(_adjoint(vh), manipulation.expand_dims(inverse, -1) * _adjoint(u), precision="highest")


_pinv = custom_jvp(_pinv_value, nondiff_argnums=(2,))


@_pinv.defjvp
def _pinv_jvp(hermitian: bool, primals: Sequence[Array], tangents: Sequence[Array]) -> tuple[Array, Array]:
    """G. Golub and V. Pereyra, "The differentiation of pseudo-inverses", SIAM J. Numer. Anal. 10 (1973).

    Through the singular vectors the derivative would be lost wherever singular values coincide.
    """
    (a, tolerance), da = primals, tangents[0]
    p = _pinv(a, tolerance, hermitian)
    multiply = partial(products.matmul, precision="highest")
    dp = -multiply(multiply(p, da), p)
    first = multiply(multiply(p, _adjoint(p)), _adjoint(da))
    second = multiply(_adjoint(da), multiply(_adjoint(p), p))
    dp = dp + first - multiply(multiply(first, a), p)
    return p, dp + second - multiply(multiply(p, a), second)


def lstsq(
    a: ArrayLike, b: ArrayLike, rcond: float | None = None, *, numpy_resid: bool = False
) -> tuple[Array, Array, Array, Array]:
    """The x of least norm that minimises |a x - b|, for one matrix a [m, n] and b [m] or [m, k].

    Arguments:
        rcond: singular values below rcond times the largest count as zero; default max(m, n) times epsilon.
        numpy_resid: return NumPy's empty residuals where the system is not overdetermined or not of full rank (the
            result's shape then depends on values, which `jit` cannot do).

    Returns:
        x [n] or [n, k], the squared residuals [1] or [k], the rank, and the singular values.
    """
    a, b = promote_dtypes_inexact(to_array("linalg.lstsq", a), to_array("linalg.lstsq", b))
    if a.ndim != 2 or b.ndim not in (1, 2) or a.shape[0] != b.shape[0]:
        raise ShapeError(f"linalg.lstsq: a must be [m, n] and b [m] or [m, k], got {a.aval} and {b.aval}")
    rows, columns = a.shape
    vector = b.ndim == 1
    targets = manipulation.expand_dims(b, 1) if vector else b
    if not a.size:
        s = diagonals.eye(0, dtype=dtypes.real_dtype(a.dtype))[0:0].reshape(0)
        x = lax.full((columns, targets.shape[1]), 0, a.dtype)
        rank = lax.full((), 0, dtypes.default_int())
    else:
        if rcond is None or rcond < 0:
            rcond = float(np.finfo(a.dtype).eps) * max(rows, columns)
        u, s, vh = svd(a, full_matrices=False)
        keep = s > rcond * s[0]
        rank = reductions.sum(keep)
        inverse = selection.where(keep, 1 / selection.where(keep, s, 1), 0).astype(u.dtype)
        x = products.matmul(_adjoint(vh), inverse[:, None] * products.matmul(_adjoint(u), targets, precision="highest"))
    if numpy_resid and (rows <= columns or int(rank) < columns):
        residuals = lax.full((0,), 0, s.dtype)
    else:
        difference = targets - products.matmul(a, x, precision="highest")
        residuals = reductions.sum(ufuncs.square(ufuncs.abs(difference)), axis=0)
    return (x[:, 0] if vector else x), residuals, rank, s


def det(a: ArrayLike) -> Array:
    """The determinants of square matrices [..., n, n]."""
    (a,) = promote_args_inexact("linalg.det", a)
    _check_square("linalg.det", a)
    n = a.shape[-1]
    # Written out, small determinants are polynomials: exact derivatives of every order, and cheap.
    if n == 2:
        return a[..., 0, 0] * a[..., 1, 1] - a[..., 0, 1] * a[..., 1, 0]
    if n == 3:
        (p, q, r), (s, t, u), (v, w, z) = ([a[..., i, j] for j in range(3)] for i in range(3))
        return p * t * z + q * u * v + r * s * w - r * t * v - q * s * z - p * u * w
    return linalg.det(a)


def slogdet(a: ArrayLike, *, method: str | None = None) -> SlogdetResult:
    """The sign (of modulus 1 if complex) and the logarithm of the magnitude of the determinants of [..., n, n] matrices.

    Arguments:
        method: "lu" (the default) or "qr", the decomposition to use.

    A singular matrix gives sign 0 and -inf.
    """
    (a,) = promote_args_inexact("linalg.slogdet", a)
    _check_square("linalg.slogdet", a)
    if method not in (None, "lu", "qr"):
        raise ValueError(f"linalg.slogdet: method must be None, 'lu' or 'qr', got {method!r}")
    return SlogdetResult(*_slogdet(a, method))


def _slogdet_value(a: Array, method: str | None) -> tuple[Array, Array]:
    if method in (None, "lu"):
        packed, pivots, _ = linalg.lu(a)
        diagonal = diagonals.diagonal(packed, axis1=-2, axis2=-1)
        factor = linalg.permutation_sign(pivots, a.dtype)
    else:
        packed, taus = linalg.geqrf(a)
        diagonal = diagonals.diagonal(packed, axis1=-2, axis2=-1)
        # det(I - tau v v^H) = 1 - tau |v|^2, which is -1 for a real reflection and a phase for a complex one.
        factor = reductions.prod(_reflection_determinants(packed, taus), axis=-1)
    size = ufuncs.abs(diagonal)
    phases = diagonal / selection.where(size == 0, 1, size) if dtypes.is_complex(a.dtype) else ufuncs.sign(diagonal)
    return factor * reductions.prod(phases, axis=-1), reductions.sum(ufuncs.log(size), axis=-1)


_slogdet = custom_jvp(_slogdet_value, nondiff_argnums=(1,))


@_slogdet.defjvp
def _slogdet_jvp(method: str | None, primals: Sequence[Array], tangents: Sequence[Array]) -> tuple:
    """d log det(A) = tr(A^-1 dA); its imaginary part turns the sign of a complex determinant."""
    (a,), (da,) = primals, tangents
    sign, log_size = _slogdet(a, method)
    rate = diagonals.trace(linalg.linear_solve(a, da), 0, -2, -1)
    if dtypes.is_complex(a.dtype):
        return (sign, log_size), (1j * rate.imag * sign, rate.real)
    return (sign, log_size), (lax.full_like(sign, 0), rate)


def _reflection_determinants(packed: Array, taus: Array) -> Array:
    tails = diagonals.tril(packed, -1)
    squares = reductions.sum(ufuncs.square(ufuncs.abs(tails)), axis=-2)
    return 1 - taus * (1 + squares).astype(taus.dtype)


def tensorinv(a: ArrayLike, ind: int = 2) -> Array:
    """The inverse of `a` as a map from its last axes to its first `ind` axes (whose sizes have equal products)."""
    a = to_array("linalg.tensorinv", a)
    if ind <= 0:
        raise ValueError(f"linalg.tensorinv: ind must be positive, got {ind}")
    first, last = a.shape[:ind], a.shape[ind:]
    if math.prod(first) != math.prod(last):
        raise ShapeError(f"linalg.tensorinv: the first {ind} axes of {a.aval} must have as many elements as the others")
    return inv(a.reshape(math.prod(first), -1)).reshape(*last, *first)


def tensorsolve(a: ArrayLike, b: ArrayLike, axes: tuple[int, ...] | None = None) -> Array:
    """Solves tensordot(a, x, x.ndim) = b; `axes` are moved to the end of `a` first."""
    a, b = to_array("linalg.tensorsolve", a), to_array("linalg.tensorsolve", b)
    if axes is not None:
        a = manipulation.moveaxis(a, axes, range(-len(axes), 0))
    shape = a.shape[b.ndim :]
    if a.shape[: b.ndim] != b.shape or math.prod(shape) != b.size:
        raise ShapeError(
            f"linalg.tensorsolve: a must have b's shape, then axes with as many elements, got a {a.aval} and b {b.aval}"
        )
    return solve(a.reshape(b.size, b.size), b.reshape(b.size)).reshape(shape)
