"""Element-wise functions composed of several primitives."""

from __future__ import annotations

import math
from typing import Any

import ml_dtypes
import numpy as np

from asgfn import dtypes, lax
from asgfn.errors import DTypeError
from asgfn.numpy.arguments import (
    ArrayLike,
    check_arraylike,
    constant,
    convert,
    promote_args,
    promote_args_inexact,
    promote_dtypes,
    promote_shapes,
    to_array,
)
from asgfn.numpy.ufunc import ufunc
from asgfn.numpy.ufuncs import greater, isnan
from asgfn.tracing import Array

# ---------------------------------------------------------------------------------------- exponentials, logarithms


def log2(x: ArrayLike, /) -> Array:
    """Logarithm to base 2; NaN below 0, -inf at 0."""
    (x,) = promote_args_inexact("log2", x)
    return lax.div(lax.log(x), constant(math.log(2), x.dtype))


def log10(x: ArrayLike, /) -> Array:
    """Logarithm to base 10; NaN below 0, -inf at 0."""
    (x,) = promote_args_inexact("log10", x)
    return lax.div(lax.log(x), constant(math.log(10), x.dtype))


def _logaddexp(x1: ArrayLike, x2: ArrayLike, /) -> Array:
    """log(exp(x1) + exp(x2)) without overflow."""
    return _log_add("logaddexp", x1, x2, 1.0)


def _logaddexp2(x1: ArrayLike, x2: ArrayLike, /) -> Array:
    """log2(2**x1 + 2**x2) without overflow."""
    return _log_add("logaddexp2", x1, x2, math.log(2))


def _log_add(name: str, x1: ArrayLike, x2: ArrayLike, log_base: float) -> Array:
    x1, x2 = promote_args_inexact(name, x1, x2)
    difference = lax.sub(x1, x2)
    # inf - inf is NaN: there the larger one is the answer, and the small term must not reach a gradient
    undefined = lax.ne(difference, difference)
    difference = lax.select(undefined, constant(0, difference.dtype), difference)
    # chosen by `select`, not by max and abs: where both are equal their derivatives jump, and this function's do not
    order = lax.real(difference) if dtypes.is_complex(difference.dtype) else difference
    first = lax.ge(order, constant(0, order.dtype))
    larger, gap = lax.select(first, x1, x2), lax.select(first, lax.neg(difference), difference)
    base = constant(log_base, difference.dtype)
    scaled = gap if log_base == 1.0 else lax.mul(gap, base)
    small = lax.log1p(lax.exp(scaled))
    small = small if log_base == 1.0 else lax.div(small, base)
    return lax.select(undefined, lax.add(x1, x2), lax.add(larger, small))


logaddexp = ufunc(_logaddexp, -math.inf)
logaddexp2 = ufunc(_logaddexp2, -math.inf)
logaddexp.__name__, logaddexp2.__name__ = "logaddexp", "logaddexp2"


def i0(x: ArrayLike, /) -> Array:
    """The modified Bessel function of the first kind and order 0."""
    (x,) = promote_args_inexact("i0", x)
    return lax.mul(lax.exp(lax.abs(x)), lax.bessel_i0e(x))


# ------------------------------------------------------------------------------------------------------ trigonometry


def hypot(x1: ArrayLike, x2: ArrayLike, /) -> Array:
    """sqrt(x1**2 + x2**2) without overflow: the length of the vector (x1, x2). Infinite if either is."""
    x1, x2 = promote_args_inexact("hypot", x1, x2)
    if dtypes.is_complex(x1.dtype):
        raise DTypeError("hypot is not defined for complex numbers")
    x1, x2 = lax.abs(x1), lax.abs(x2)
    zero, one = constant(0, x1.dtype), constant(1, x1.dtype)
    larger, smaller = lax.max(x1, x2), lax.min(x1, x2)
    vanishes = lax.eq(larger, zero)
    ratio = lax.div(smaller, lax.select(vanishes, one, larger))
    length = lax.mul(larger, lax.sqrt(lax.add(one, lax.square(ratio))))
    infinity = constant(math.inf, x1.dtype)
    infinite = lax.bitwise_or(lax.eq(x1, infinity), lax.eq(x2, infinity))
    return lax.select(infinite, infinity, lax.select(vanishes, larger, length))


def deg2rad(x: ArrayLike, /) -> Array:
    """Degrees to radians."""
    (x,) = promote_args_inexact("deg2rad", x)
    return lax.mul(x, constant(math.pi / 180, x.dtype))


def rad2deg(x: ArrayLike, /) -> Array:
    """Radians to degrees."""
    (x,) = promote_args_inexact("rad2deg", x)
    return lax.mul(x, constant(180 / math.pi, x.dtype))


radians, degrees = deg2rad, rad2deg


def sinc(x: ArrayLike, /) -> Array:
    """sin(pi x) / (pi x), 1 at 0, differentiable to all orders there.

    Near 0 it is the Taylor series in z = (pi x)**2, whose terms are (-z)**n / (2 n + 1)!: the quotient loses its
    derivatives to cancellation.
    """
    (x,) = promote_args_inexact("sinc", x)
    angle_ = lax.mul(x, constant(math.pi, x.dtype))
    near = lax.lt(lax.abs(angle_), constant(0.5, lax.abs(angle_).dtype))
    z = lax.square(angle_)
    series = constant(1 / math.factorial(13), x.dtype)
    for n in range(5, -1, -1):
        coefficient = constant((-1) ** n / math.factorial(2 * n + 1), x.dtype)
        series = lax.add(lax.mul(series, z), coefficient)
    far = lax.select(near, constant(1, x.dtype), angle_)
    return lax.select(near, series, lax.div(lax.sin(far), far))


def angle(z: ArrayLike, deg: bool = False) -> Array:
    """The argument of a complex number in radians (degrees with `deg`), in (-pi, pi]."""
    (z,) = promote_args_inexact("angle", z)
    if dtypes.is_complex(z.dtype):
        result = lax.atan2(lax.imag(z), lax.real(z))
    else:
        zero, turn = constant(0, z.dtype), constant(math.pi, z.dtype)
        result = lax.select(lax.ne(z, z), z, lax.select(lax.lt(z, zero), turn, zero))
    return rad2deg(result) if deg else result


# ------------------------------------------------------------------------------------------------ steps and choices


def heaviside(x1: ArrayLike, x2: ArrayLike, /) -> Array:
    """The step function: 0 where x1 < 0, x2 where x1 is 0, 1 where x1 > 0, NaN where x1 is NaN."""
    x1, x2 = promote_args_inexact("heaviside", x1, x2)
    zero, one = constant(0, x1.dtype), constant(1, x1.dtype)
    positive = lax.select(lax.gt(x1, zero), one, x2)
    return lax.select(lax.ne(x1, x1), x1, lax.select(lax.lt(x1, zero), zero, positive))


def fmax(x1: ArrayLike, x2: ArrayLike) -> Array:
    """The larger of x1 and x2, ignoring a NaN when the other is a number."""
    x1, x2 = promote_args("fmax", x1, x2)
    keep = lax.gt(x1, x2) if not dtypes.is_inexact(x1.dtype) else lax.bitwise_or(greater(x1, x2), lax.ne(x2, x2))
    return lax.select(keep, x1, x2)


def fmin(x1: ArrayLike, x2: ArrayLike) -> Array:
    """The smaller of x1 and x2, ignoring a NaN when the other is a number."""
    x1, x2 = promote_args("fmin", x1, x2)
    keep = lax.lt(x1, x2) if not dtypes.is_inexact(x1.dtype) else lax.bitwise_or(greater(x2, x1), lax.ne(x2, x2))
    return lax.select(keep, x1, x2)


def clip(
    arr: ArrayLike | None = None, /, min: ArrayLike | None = None, max: ArrayLike | None = None, *, a: Any = None
) -> Array:
    """`arr` limited to [min, max]; None (the default) leaves that side open.

    The bounds broadcast against `arr` and take part in dtype promotion. Where min > max, the result is max.
    """
    arr = a if arr is None else arr
    x = to_array("clip", arr)
    check_arraylike("clip", *(bound for bound in (min, max) if bound is not None))
    if any(dtypes.is_complex(dtypes.result_type(v)) for v in (x, min, max) if v is not None):
        raise DTypeError("clip is not defined for complex numbers, which have no order; clip the real part")
    if min is not None and max is not None and _is_scalar(min) and _is_scalar(max):
        x, low, high = promote_dtypes(x, min, max)
        return lax.min(lax.max(x, low), high)
    if min is not None:
        x = lax.max(*promote_args("clip", x, min))
    if max is not None:
        x = lax.min(*promote_args("clip", x, max))
    return x


def _is_scalar(x: Any) -> bool:
    return np.ndim(x) == 0 if not isinstance(x, Array) else x.ndim == 0


def nan_to_num(
    x: ArrayLike,
    copy: bool = True,
    nan: ArrayLike = 0.0,
    posinf: ArrayLike | None = None,
    neginf: ArrayLike | None = None,
) -> Array:
    """`x` with NaN and infinities replaced: by `nan`, and by the largest and smallest finite number unless given."""
    x = to_array("nan_to_num", x)
    if not dtypes.is_inexact(x.dtype):
        return x
    if dtypes.is_complex(x.dtype):
        parts = (nan_to_num(part, copy, nan, posinf, neginf) for part in (lax.real(x), lax.imag(x)))
        return lax.complex(*parts)
    largest = float(ml_dtypes.finfo(x.dtype).max)
    infinity = constant(math.inf, x.dtype)

    def replace(where: Array, value: ArrayLike, x: Array) -> Array:
        return lax.select(*promote_shapes("nan_to_num", where, convert(value, x.dtype), x))

    # an infinite replacement must not be replaced again: the conditions look at the input
    result = replace(isnan(x), nan, x)
    result = replace(lax.eq(x, infinity), largest if posinf is None else posinf, result)
    return replace(lax.eq(x, lax.neg(infinity)), -largest if neginf is None else neginf, result)


def real_if_close(a: ArrayLike, tol: float = 100) -> Array:
    """The real part of `a` if every imaginary part is below `tol` units of least precision. Needs concrete values."""
    a = to_array("real_if_close", a)
    if not dtypes.is_complex(a.dtype):
        return a
    imaginary = lax.imag(a)
    limit = tol * float(ml_dtypes.finfo(imaginary.dtype).eps)
    return lax.real(a) if bool(np.all(np.abs(np.asarray(imaginary)) < limit)) else a
