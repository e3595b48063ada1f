"""Functions on the sign, exponent and mantissa of floating-point numbers (IEEE 754), as integer arithmetic on bits."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from asgfn import dtypes, lax
from asgfn.errors import DTypeError
from asgfn.numpy.arguments import (
    ArrayLike,
    check_arraylike,
    constant,
    convert,
    filled,
    promote_args_inexact,
    promote_dtypes_inexact,
    promote_shapes,
    to_array,
)
from asgfn.numpy.arithmetic import trunc
from asgfn.tracing import Array


class FloatFormat(NamedTuple):
    """Layout of a float dtype: an integer dtype of its width, mantissa bits without the hidden one, exponent bias."""

    integer: np.dtype
    mantissa: int
    bias: int


_FORMATS = {
    np.dtype(np.float16): FloatFormat(np.dtype(np.int16), 10, 15),
    dtypes.bfloat16: FloatFormat(np.dtype(np.int16), 7, 127),
    np.dtype(np.float32): FloatFormat(np.dtype(np.int32), 23, 127),
    np.dtype(np.float64): FloatFormat(np.dtype(np.int64), 52, 1023),
}


def float_format(name: str, dtype: np.dtype) -> FloatFormat:
    if dtype not in _FORMATS:
        raise DTypeError(f"{name} is defined for real floating numbers, got {dtype}")
    return _FORMATS[dtype]


def signbit(x: ArrayLike, /) -> Array:
    """True where the sign bit is set: negative numbers, -0 and NaNs with a sign."""
    x = to_array("signbit", x)
    if dtypes.is_unsigned_integer(x.dtype) or x.dtype == np.bool_:
        return filled(x.shape, False, np.dtype(np.bool_))
    if dtypes.is_integer(x.dtype):
        return lax.lt(x, constant(0, x.dtype))
    integer = float_format("signbit", x.dtype).integer
    return lax.lt(lax.bitcast_convert_type(x, integer), constant(0, integer))


def copysign(x1: ArrayLike, x2: ArrayLike, /) -> Array:
    """|x1| with the sign of x2, -0 included."""
    x1, x2 = promote_args_inexact("copysign", x1, x2)
    float_format("copysign", x1.dtype)
    magnitude = lax.abs(x1)
    negative = signbit(x2)
    return lax.select(negative, lax.neg(magnitude), magnitude)


def nextafter(x1: ArrayLike, x2: ArrayLike, /) -> Array:
    """The floating number next to x1 in the direction of x2."""
    return lax.nextafter(*promote_args_inexact("nextafter", x1, x2))


def spacing(x: ArrayLike, /) -> Array:
    """Distance from x to the next floating number away from 0, with the sign of x; NaN for infinities."""
    (x,) = promote_args_inexact("spacing", x)
    float_format("spacing", x.dtype)
    away = copysign(constant(math.inf, x.dtype), x)
    return lax.sub(lax.nextafter(to_array("spacing", x), away), x)


def frexp(x: ArrayLike, /) -> tuple[Array, Array]:
    """(mantissa, exponent) with x = mantissa * 2**exponent, 0.5 <= |mantissa| < 1, exponent an int32.

    Zeros, infinities and NaN are their own mantissa with exponent 0.
    """
    (x,) = promote_args_inexact("frexp", x)
    x = to_array("frexp", x)
    layout = float_format("frexp", x.dtype)
    integer = layout.integer
    field = (1 << (8 * integer.itemsize - 1 - layout.mantissa)) - 1  # all ones: infinity or NaN

    # Subnormals have no hidden bit: scale them into the normal range first.
    tiny = lax.lt(lax.abs(x), constant(2.0 ** (1 - layout.bias), x.dtype))
    scaled = lax.select(tiny, lax.mul(x, constant(2.0 ** (layout.mantissa + 1), x.dtype)), x)
    bits = lax.bitcast_convert_type(scaled, integer)
    exponent = lax.bitwise_and(
        lax.shift_right_arithmetic(bits, constant(layout.mantissa, integer)), constant(field, integer)
    )
    special = lax.bitwise_or(lax.eq(x, constant(0, x.dtype)), lax.eq(exponent, constant(field, integer)))
    shift = lax.select(tiny, constant(layout.bias + layout.mantissa, integer), constant(layout.bias - 1, integer))
    exponent = convert(lax.select(special, constant(0, integer), lax.sub(exponent, shift)), np.dtype(np.int32))
    # a product with a power of two is exact, and unlike bits it has a derivative
    return ldexp(x, lax.neg(exponent)), exponent


def ldexp(x1: ArrayLike, x2: ArrayLike, /) -> Array:
    """x1 * 2**x2 for integer x2, exact unless it overflows or becomes subnormal."""
    check_arraylike("ldexp", x1, x2)
    if dtypes.is_inexact(dtypes.result_type(x2)):
        raise DTypeError(f"ldexp: the exponent must be an integer, got {dtypes.result_type(x2)}")
    (x1,) = promote_dtypes_inexact(x1)
    layout = float_format("ldexp", x1.dtype)
    x1, x2 = promote_shapes("ldexp", x1, to_array("ldexp", x2))
    int32 = np.dtype(np.int32)
    x2 = convert(x2, int32)
    # The range from the smallest subnormal to infinity is wider than one power of two can span: three factors do it.
    low, high = constant(1 - layout.bias, int32), constant(layout.bias, int32)
    result = x1
    for _ in range(3):
        step = lax.clamp(low, x2, high)
        result = lax.mul(result, _power_of_two(step, x1.dtype, layout))
        x2 = lax.sub(x2, step)
    return result


def _power_of_two(exponent: Any, dtype: np.dtype, layout: FloatFormat) -> Array:
    biased = convert(lax.add(exponent, constant(layout.bias, np.dtype(np.int32))), layout.integer)
    return lax.bitcast_convert_type(lax.shift_left(biased, constant(layout.mantissa, layout.integer)), dtype)


def modf(x: ArrayLike, /, out: None = None) -> tuple[Array, Array]:
    """(fraction, whole), both with the sign of x: modf(-1.5) is (-0.5, -1.0)."""
    (x,) = promote_args_inexact("modf", x)
    float_format("modf", x.dtype)
    whole = trunc(x)
    fraction = lax.select(isinf_real(x), constant(0, x.dtype), lax.sub(x, whole))
    return copysign(fraction, x), whole


def isinf_real(x: Any) -> Array:
    return lax.eq(lax.abs(x), constant(math.inf, x.dtype))
