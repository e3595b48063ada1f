"""Trigonometric functions for processors that compute as IEEE 754 says, as `functions_exact` has others.

There are no branches but for angles that are very large. See `functions_angles` for how they are reduced.
"""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np

from backends.kernels.functions_angles import ASIN_TAIL, PI, chosen, turns
from backends.kernels.functions_notation import INFINITY, NAN, SIGN, Number, horner, where
from backends.kernels.ir import F64, U32, U64

# Adding it leaves the whole part of an f64, rounded, in the lowest bits
_WHOLE = 1.5 * 2.0**52
# (sin(x) / x - 1) / x^2 in x^2, on [0, pi / 2]
_SIN_TAIL = (
    -0.16666666625883442,
    0.008333331096996806,
    -0.00019840866648989814,
    2.752530228715277e-06,
    -2.388742892818929e-08,
)
# tan(x) / x in x^2, on [0, pi / 4]
_TAN = (1.0, -0.11135578079834406, 0.0010747617793039344)
_TAN_BELOW = (1.0, -0.4446891129291809, 0.015971115246171133)
# from here on the multiple of pi that is subtracted is found in integers
_LARGE = 2.0**30
# pi and pi/2 are the nearest f64 and these, pi/2 is the nearest f32 and this
_PI_REST, _HALF_PI_REST = (float(period - Fraction(float(period))) for period in (PI, PI / 2))
_HALF_PI_SINGLE_REST = float(PI / 2 - Fraction(float(np.float32(math.pi / 2))))


def _reduced(x: Number, near: Number, sign: Number, quarters: int, period_turns: int) -> tuple[Number, Number]:
    """(rest, sign) for any number, given them for one that is not large; see `functions_angles`. The rest is f64."""
    return chosen(x, near, sign, _LARGE, lambda x: _far(x, quarters, period_turns))


def _far(x: Number, quarters: int, period_turns: int) -> tuple[Number, Number]:
    high, low = turns(x)
    digits = ((high + (quarters << 30)).op("convert", dtype=U64) << 32) | low.op("convert", dtype=U64)
    digits = digits << (period_turns - 1)
    # what is left of whole periods, as a fraction of one from -1/2 to 1/2
    fraction = (digits << 1).signed_bits()
    odd = where(fraction < 0, ~digits, digits)
    rest = fraction.op("convert", dtype=F64) * (float(2 * PI / 2**period_turns) * 2.0**-64)
    return where(x.magnitude() < INFINITY, rest, rest.like(NAN)), (odd >> 32).op("convert", dtype=U32) & SIGN


def _odd(shifted: Number) -> Number:
    """The sign bit (u32) where a whole number in the lowest bits of an f64 is odd."""
    return shifted.bits().op("convert", dtype=U32) << 31


def _sine(rest: Number, sign: Number) -> Number:
    square = rest * rest
    return (rest * square).fma(horner(square, _SIN_TAIL), rest).real().flipped(sign)


def sin(x: Number) -> Number:
    wide = x.double()
    shifted = wide.fma(float(1 / PI), _WHOLE)
    n = shifted - _WHOLE
    near = n.fma(-_PI_REST, n.fma(-float(PI), wide))
    return where(x.magnitude() < 2.0**-12, x, _sine(*_reduced(x, near, _odd(shifted), 0, 1)))


def cos(x: Number) -> Number:
    # the nearest odd multiple of pi/2, where the cosine is 0; the sine of the distance falls there if it is even
    wide = x.double()
    shifted = wide.fma(float(1 / PI), 0.5) + _WHOLE
    n = (shifted - _WHOLE) - 0.5
    near = n.fma(-_PI_REST, n.fma(-float(PI), wide))
    return _sine(*_reduced(x, near, _odd(shifted), 1, 1))


def tan(x: Number) -> Number:
    wide = x.double()
    shifted = wide.fma(float(2 / PI), _WHOLE)
    n = shifted - _WHOLE
    near = n.fma(-_HALF_PI_REST, n.fma(-float(PI / 2), wide))
    rest, odd = _reduced(x, near, _odd(shifted), 0, 2)
    square = rest * rest
    above, below = rest * horner(square, _TAN), horner(square, _TAN_BELOW)
    turned = odd >= SIGN
    y = where(turned, -below, above) / where(turned, above, below)
    return where(x.magnitude() < 2.0**-12, x, y.real())


def asin(x: Number) -> Number:
    a = x.magnitude()
    is_far = a > 0.5  # then it is pi/2 - 2 asin(sqrt((1 - a) / 2))
    below = (1.0 - a) * 0.5
    z = where(is_far, below.op("sqrt"), a)
    square = where(is_far, below, a * a)
    tail = (z * square) * horner(square, ASIN_TAIL)
    far = z.fma(-2.0, math.pi / 2) - tail.fma(2.0, -_HALF_PI_SINGLE_REST)
    return where(is_far, far, z + tail).with_sign_of(x)
