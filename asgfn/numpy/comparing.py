"""Whether arrays are equal, exactly or up to rounding."""

from __future__ import annotations

import numpy as np

from asgfn import dtypes, lax
from asgfn.errors import ShapeError
from asgfn.numpy.arguments import (
    ArrayLike,
    broadcast_shapes,
    constant,
    convert,
    filled,
    promote_args,
    promote_args_inexact,
    to_array,
)
from asgfn.numpy.ufuncs import equal, isfinite, isnan
from asgfn.tracing import Array


def isclose(
    a: ArrayLike, b: ArrayLike, rtol: ArrayLike = 1e-05, atol: ArrayLike = 1e-08, equal_nan: bool = False
) -> Array:
    """Element by element whether |a - b| <= atol + rtol |b|. Infinities are close to themselves only.

    Arguments:
        equal_nan: whether NaN is close to NaN.
    """
    if dtypes.result_type(to_array("isclose", a), to_array("isclose", b)) == np.bool_:
        return equal(a, b)
    a, b = promote_args_inexact("isclose", a, b)
    real = dtypes.real_dtype(a.dtype)
    rtol, atol = convert(rtol, real), convert(atol, real)
    gap = lax.abs(lax.sub(a, b))
    size = lax.abs(b)
    near = lax.le(*promote_args("isclose", gap, atol + rtol * size))
    # the distance from infinity is infinite or NaN: equality decides there
    both_finite = lax.bitwise_and(isfinite(a), isfinite(b))
    result = lax.bitwise_or(lax.bitwise_and(near, both_finite), lax.eq(a, b))
    return lax.bitwise_or(result, lax.bitwise_and(isnan(a), isnan(b))) if equal_nan else result


def _everywhere(x: Array) -> Array:
    return lax.reduce_and(x, tuple(range(x.ndim)))


def allclose(
    a: ArrayLike, b: ArrayLike, rtol: ArrayLike = 1e-05, atol: ArrayLike = 1e-08, equal_nan: bool = False
) -> Array:
    """Whether all elements are close in the sense of `isclose`: a boolean array of rank 0."""
    return _everywhere(isclose(a, b, rtol, atol, equal_nan))


def array_equal(a1: ArrayLike, a2: ArrayLike, equal_nan: bool = False) -> Array:
    """Whether two arrays have the same shape and equal elements (NaN equals NaN if `equal_nan`)."""
    try:
        a1, a2 = to_array("array_equal", a1), to_array("array_equal", a2)
    except TypeError:
        return to_array("array_equal", False)
    if a1.shape != a2.shape:
        return to_array("array_equal", False)
    return _everywhere(_same(a1, a2, equal_nan))


def _same(a1: Array, a2: Array, equal_nan: bool) -> Array:
    same = equal(a1, a2)
    return lax.bitwise_or(same, lax.bitwise_and(isnan(a1), isnan(a2))) if equal_nan else same


def array_equiv(a1: ArrayLike, a2: ArrayLike) -> Array:
    """Whether two arrays broadcast to each other and have equal elements."""
    try:
        a1, a2 = to_array("array_equiv", a1), to_array("array_equiv", a2)
        broadcast_shapes(a1.shape, a2.shape)
    except (TypeError, ShapeError):
        return to_array("array_equiv", False)
    return _everywhere(equal(a1, a2))


def iscomplex(x: ArrayLike) -> Array:
    """Element by element whether the imaginary part is not zero."""
    x = to_array("iscomplex", x)
    if not dtypes.is_complex(x.dtype):
        return filled(x.shape, False, np.dtype(np.bool_))
    imaginary = lax.imag(x)
    return lax.ne(imaginary, constant(0, imaginary.dtype))


def isreal(x: ArrayLike) -> Array:
    """Element by element whether the imaginary part is zero."""
    return lax.bitwise_not(iscomplex(x))
