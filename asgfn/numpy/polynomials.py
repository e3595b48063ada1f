"""Polynomials as vectors of coefficients, the highest power first."""

from __future__ import annotations

from typing import Any

import numpy as np

from asgfn import dtypes, lax
from asgfn.errors import DTypeError, ShapeError
from asgfn.numpy.arguments import (
    ArrayLike,
    as_int,
    broadcast_operand,
    broadcast_shapes,
    concrete,
    constant,
    convert,
    filled,
    promote_args,
    promote_dtypes,
    promote_dtypes_inexact,
    to_array,
)
from asgfn.numpy.diagonals import diag, vander
from asgfn.numpy.dtype_tools import finfo
from asgfn.numpy.inserting import trim_zeros
from asgfn.numpy.products import matmul, outer
from asgfn.numpy.signal import convolve
from asgfn.numpy.ufuncs import add, multiply
from asgfn.tracing import Array


def _linalg() -> Any:
    """The linear algebra functions; loaded when first used, since polynomials are all that needs them here."""
    from asgfn.numpy import linalg

    return linalg


def _coefficients(name: str, p: Any) -> Array:
    p = to_array(name, p)
    if p.ndim > 1:
        raise ShapeError(f"{name} takes a vector of coefficients, got shape {p.shape}")
    return p if p.ndim else lax.reshape(p, (1,))


def polyval(p: ArrayLike, x: ArrayLike, *, unroll: int = 16) -> Array:
    """p[0] x**(N-1) + ... + p[N-1] for each element of x, by Horner's rule.

    Arguments:
        unroll: up to this many coefficients the loop is written out; longer ones use `lax.scan`.
    """
    p = to_array("polyval", p)
    p, x = promote_dtypes(p, to_array("polyval", x))
    shape = broadcast_shapes(p.shape[1:], x.shape)
    result: Any = filled(shape, 0, p.dtype)
    if p.ndim == 0:
        raise ShapeError("polyval: p must be a vector of coefficients, got shape ()")
    count = p.shape[0]
    if count > unroll:

        def step(total: Any, coefficient: Any) -> tuple[Any, None]:
            return broadcast_operand(add(multiply(total, x), coefficient), shape), None

        return lax.scan(step, result, p)[0]
    for i in range(count):
        coefficient = lax.squeeze(lax.slice_in_dim(p, i, i + 1), (0,))
        result = coefficient if i == 0 else add(multiply(result, x), coefficient)
    return broadcast_operand(to_array("polyval", result), shape)


def polyadd(a1: ArrayLike, a2: ArrayLike) -> Array:
    """The sum of two polynomials, or of two stacks of them (coefficients along the first axis)."""
    return _combined("polyadd", lax.add, a1, a2)


def polysub(a1: ArrayLike, a2: ArrayLike) -> Array:
    """The difference of two polynomials, or of two stacks of them (coefficients along the first axis)."""
    return _combined("polysub", lax.sub, a1, a2)


def _combined(name: str, operation: Any, a1: ArrayLike, a2: ArrayLike) -> Array:
    a1, a2 = promote_dtypes(*(p if p.ndim else lax.reshape(p, (1,)) for p in (to_array(name, a1), to_array(name, a2))))
    if a1.shape[1:] != a2.shape[1:]:
        raise ShapeError(
            f"{name}: coefficients run along the first axis and other axes must agree, got shapes {a1.shape} and {a2.shape}"
        )
    length = max(a1.shape[0], a2.shape[0])
    return operation(_lengthened(a1, length), _lengthened(a2, length))


def _lengthened(p: Array, length: int) -> Array:
    missing = length - p.shape[0]
    return lax.pad(p, constant(0, p.dtype), [(missing, 0, 0)] + [(0, 0, 0)] * (p.ndim - 1)) if missing else p


def polymul(a1: ArrayLike, a2: ArrayLike, *, trim_leading_zeros: bool = False) -> Array:
    """The product of two polynomials.

    Arguments:
        trim_leading_zeros: drop leading zeros of the factors first (concrete values only).
    """
    a1, a2 = promote_dtypes_inexact(_coefficients("polymul", a1), _coefficients("polymul", a2))
    if trim_leading_zeros:
        a1, a2 = _trimmed(a1), _trimmed(a2)
    return convolve(a1, a2) if a1.shape[0] and a2.shape[0] else filled((1,), 0, a1.dtype)


def _trimmed(p: Array) -> Array:
    short = trim_zeros(p, "f")
    return short if short.shape[0] else filled((1,), 0, p.dtype)


def polydiv(u: ArrayLike, v: ArrayLike, *, trim_leading_zeros: bool = False) -> tuple[Array, Array]:
    """(quotient, remainder) of two polynomials. The remainder keeps leading zeros unless they are to be trimmed."""
    u, v = promote_dtypes_inexact(_coefficients("polydiv", u), _coefficients("polydiv", v))
    m, n = u.shape[0] - 1, v.shape[0] - 1
    if m < n:
        return filled((1,), 0, u.dtype), u
    leading = lax.slice_in_dim(v, 0, 1)
    quotient = []
    for k in range(m - n + 1):
        digit = lax.div(lax.slice_in_dim(u, k, k + 1), leading)
        quotient.append(digit)
        window = lax.sub(lax.slice_in_dim(u, k, k + n + 1), lax.mul(broadcast_operand(digit, v.shape), v))
        parts = [lax.slice_in_dim(u, 0, k), window, lax.slice_in_dim(u, k + n + 1, m + 1)]
        u = lax.concatenate([part for part in parts if part.shape[0]], 0)
    q = lax.concatenate(quotient, 0) if len(quotient) > 1 else quotient[0]
    if trim_leading_zeros:
        u = _trimmed(u)
    return q, u


def polyder(p: ArrayLike, m: int = 1) -> Array:
    """The m-th derivative."""
    (p,) = promote_dtypes_inexact(_coefficients("polyder", p))
    m = as_int("polyder", "m", m)
    if m < 0:
        raise ShapeError(f"polyder: the order must not be negative, got {m}")
    if m == 0:
        return to_array("polyder", p)
    count = p.shape[0]
    kept = max(count - m, 0)
    # the factor of x**k is k (k - 1) ... (k - m + 1)
    powers = np.arange(count - 1, count - 1 - kept, -1)
    factors = np.prod([powers - i for i in range(m)], axis=0, dtype=np.float64)
    return lax.mul(lax.slice_in_dim(p, 0, kept), convert(factors, p.dtype))


def polyint(p: ArrayLike, m: int = 1, k: ArrayLike | None = None) -> Array:
    """The m-th antiderivative, with integration constants `k` (0 by default; one, or one for each integration)."""
    m = as_int("polyint", "m", m)
    if m < 0:
        raise ShapeError(f"polyint: the order must not be negative, got {m}")
    p = _coefficients("polyint", p)
    if isinstance(k, (list, tuple)):
        k = np.asarray(k)
    p, k = promote_dtypes_inexact(p, 0 if k is None else k)
    k = broadcast_operand(k if k.ndim else lax.reshape(k, (1,)), (m,)) if m else k
    if m == 0:
        return to_array("polyint", p)
    count = p.shape[0]
    result = lax.concatenate([p, k], 0)
    # x**j integrated m times is x**(j + m) / ((j + 1) ... (j + m)); constants are integrated less often
    divisors = np.ones(count + m)
    for place in range(count + m):
        power = count + m - 1 - place
        times = m if place < count else m - 1 - (place - count)
        divisors[place] = np.prod([power - i for i in range(times)], dtype=np.float64)
    return lax.div(result, convert(divisors, result.dtype))


def poly(seq_of_zeros: ArrayLike) -> Array:
    """The polynomial with these roots; of a square matrix, its characteristic polynomial."""
    (roots_,) = promote_dtypes_inexact(to_array("poly", seq_of_zeros))
    roots_ = to_array("poly", roots_)
    if roots_.ndim == 0:
        roots_ = lax.reshape(roots_, (1,))
    if roots_.ndim == 2 and roots_.shape[0] == roots_.shape[1] and roots_.shape[0]:
        roots_ = _linalg().eigvals(roots_)
    if roots_.ndim != 1:
        raise ShapeError(f"poly takes a vector of roots or a square matrix, got shape {roots_.shape}")
    result = filled((1,), 1, roots_.dtype)
    for i in range(roots_.shape[0]):
        root = lax.slice_in_dim(roots_, i, i + 1)
        factor = lax.concatenate([filled((1,), 1, root.dtype), lax.neg(root)], 0)
        result = convolve(result, factor)
    return result


def roots(p: ArrayLike, *, strip_zeros: bool = True) -> Array:
    """The complex roots of a polynomial, as the eigenvalues of its companion matrix.

    Arguments:
        strip_zeros: drop leading and trailing zeros of `p` first, which needs concrete values; False works under
            `jit` and gives NaN when the leading coefficient is 0.
    """
    p = _coefficients("roots", p)
    (p,) = promote_dtypes_inexact(p)
    p = to_array("roots", p)
    zeros_at_origin = 0
    if strip_zeros:
        hint = "the number of roots depends on values that are being traced: pass strip_zeros=False"
        nonzero = np.flatnonzero(concrete("roots", p, hint))
        if not nonzero.size:
            return filled((0,), 0, dtypes.complex_dtype(p.dtype))
        zeros_at_origin = p.shape[0] - 1 - int(nonzero[-1])
        p = lax.slice_in_dim(p, int(nonzero[0]), int(nonzero[-1]) + 1)
    found = _companion_roots(p)
    if zeros_at_origin:
        found = lax.concatenate([found, filled((zeros_at_origin,), 0, found.dtype)], 0)
    return found


def _companion_roots(p: Array) -> Array:
    count = p.shape[0] - 1
    if count < 1:
        return filled((0,), 0, dtypes.complex_dtype(p.dtype))

    first = lax.neg(lax.div(*promote_args("roots", lax.slice_in_dim(p, 1, count + 1), lax.slice_in_dim(p, 0, 1))))
    first = lax.reshape(first, (1, count))
    below = lax.slice_in_dim(diag(filled((count,), 1, p.dtype)), 0, count - 1)
    return _linalg().eigvals(lax.concatenate([first, below], 0) if count > 1 else first)


def polyfit(
    x: ArrayLike,
    y: ArrayLike,
    deg: int,
    rcond: float | None = None,
    full: bool = False,
    w: ArrayLike | None = None,
    cov: bool | str = False,
) -> Any:
    """The polynomial of degree `deg` that fits the points (x, y) best, by least squares.

    Arguments:
        y: a vector, or a matrix with one data set in each column.
        rcond: relative size of singular values that count as 0 (the length of x times the machine epsilon).
        full: also return (residuals, rank, singular values, rcond).
        w: weights of the residuals (not of their squares).
        cov: also return the covariance of the coefficients; "unscaled" takes 1 / w as the standard deviations.
    """

    deg = as_int("polyfit", "deg", deg)
    if deg < 0:
        raise ShapeError(f"polyfit: the degree must not be negative, got {deg}")
    x, y = promote_dtypes_inexact(to_array("polyfit", x), to_array("polyfit", y))
    if x.ndim != 1 or x.size == 0:
        raise ShapeError(f"polyfit: x must be a vector that is not empty, got shape {x.shape}")
    if y.ndim not in (1, 2) or y.shape[0] != x.shape[0]:
        raise ShapeError(f"polyfit: y of shape {y.shape} does not fit x of shape {x.shape}")
    if isinstance(cov, str) and cov != "unscaled":
        raise DTypeError(f"polyfit: cov is a bool or 'unscaled', got {cov!r}")
    rcond = len(x) * finfo(x.dtype).eps if rcond is None else rcond
    left, right = vander(x, deg + 1), y
    if w is not None:
        w = convert(to_array("polyfit", w), x.dtype)
        if w.shape != x.shape:
            raise ShapeError(f"polyfit: w of shape {w.shape} does not fit x of shape {x.shape}")
        left = lax.mul(left, lax.broadcast_in_dim(w, left.shape, (0,)))
        right = lax.mul(right, lax.broadcast_in_dim(w, right.shape, (0,)))
    # columns of one length: powers of x differ by orders of magnitude
    scale = lax.sqrt(lax.reduce_sum(lax.mul(left, left), (0,)))
    coefficients, residuals, rank, singular = _linalg().lstsq(
        lax.div(left, lax.broadcast_in_dim(scale, left.shape, (1,))), right, rcond
    )
    coefficients = lax.div(coefficients, lax.broadcast_in_dim(scale, coefficients.shape, (0,)))
    if full:
        return coefficients, residuals, rank, singular, to_array("polyfit", rcond)
    if not cov:
        return coefficients
    scaled = lax.div(left, lax.broadcast_in_dim(scale, left.shape, (1,)))

    base = lax.div(_linalg().inv(matmul(lax.transpose(scaled, (1, 0)), scaled)), outer(scale, scale))
    if cov == "unscaled":
        return coefficients, base
    if len(x) <= deg + 1:
        raise ShapeError(f"polyfit: {len(x)} points do not determine the covariance of {deg + 1} coefficients")
    spread = lax.div(residuals, constant(float(len(x) - deg - 1), residuals.dtype))
    if y.ndim == 1:
        return coefficients, lax.mul(base, lax.reshape(spread, ()))
    base = lax.broadcast_in_dim(base, (*base.shape, y.shape[1]), (0, 1))
    return coefficients, lax.mul(base, lax.broadcast_in_dim(spread, base.shape, (2,)))
