"""Exponentials, logarithms and roots of 32-bit floats, from operations that every device does alike.

Devices' own `exp`, `log` and `tanh` lose digits for large arguments or near zeros, and differ in what they do with
infinities. These are within 4 units in the last place (`tanh` within 6). Results below the smallest normal number are 0.
Polynomials without another source are minimax fits of the function named, made for these files.
"""

from __future__ import annotations

from backends.kernels.functions_notation import (
    INFINITE_BITS,
    INFINITY,
    NAN,
    SIGN,
    Number,
    horner,
    polynomial,
    power_of_two,
    where,
)  # fmt: skip

LOG2_E = 1.4426950408889634
# ln 2 in two parts; a whole number of 8 bits times the first one is exact
LN2_HIGH, LN2_LOW = 0.693145751953125, 1.4286068203094173e-06
LN2 = 0.6931471805599453

_EXP = (
    1.0,
    1.0,
    0.5000023245811462,
    0.16663148999214172,
    0.04185671731829643,
    0.007865484803915024,
    0.0019142408855259418,
)  # on [0, ln 2]
EXP2 = (
    1.0,
    0.6931470632553101,
    0.2402293086051941,
    0.055485282093286514,
    0.009675451554358006,
    0.001246784464456141,
    0.00021612919226754457,
)  # on [0, 1]
# (e^x - 1 - x) / x^2 on [-ln 2 / 2, ln 2 / 2]
_EXPM1_TAIL = (
    0.5,
    0.1666666716337204,
    0.041666463017463684,
    0.008333285339176655,
    0.0013933902373537421,
    0.00019907952810171992,
)
# (log(1 + x) - x + x^2 / 2) / x^3 on [sqrt(1/2) - 1, sqrt(2) - 1]
LOG_TAIL = (
    0.33333316445350647,
    -0.25000810623168945,
    0.2000228613615036,
    -0.16624553501605988,
    0.14181196689605713,
    -0.13128767907619476,
    0.12881621718406677,
    -0.07859545946121216,
)
# (sinh(x) / x - 1) / x^2 in x^2, on [0, 1]
SINH_TAIL = (0.1666666716337204, 0.008333339355885983, 0.00019838099251501262, 2.806300699376152e-06)
# tanh(x) / x in x^2, on [0, 9.02]; searched for small rounding errors in the neighbourhood of a minimax fit
_TANH = (1.0, 0.13382692635059357, 0.0034974596928805113, 2.063585452560801e-05, 1.3384332753219041e-08)
_TANH_BELOW = (1.0, 0.4671601355075836, 0.025884374976158142, 0.000328852009261027, 7.790268909957376e-07)
_TANH_ONE = 9.02  # from here on it is 1 in 32 bits

_EXP_ZERO = -87.33655  # below this e^x has no normal 32-bit number
_SQRT_HALF_BITS = 0x3F3504F3


# ---------------------------------------------------------------------------------------------- exponentials
def _rest_of_exp(n: Number, x: Number, outside: Number, instead: float | Number) -> Number:
    """x - n ln 2; where x is outside of what matters, something else. Without that `where` both parts would be merged."""
    return n.fma(-LN2_LOW, where(outside, instead, n.fma(-LN2_HIGH, x)))


def exp(x: Number) -> Number:
    # e^x = 2^n e^rest with 0 <= rest < ln 2 (more if e^x is too large). An infinite or NaN rest stays what it is.
    n = (x * LOG2_E).floor().minimum(127.0).maximum(-127.0)
    return horner(_rest_of_exp(n, x, x < _EXP_ZERO, 0.0), _EXP) * power_of_two(n)


def exp2(x: Number) -> Number:
    n = x.floor().minimum(127.0)
    return where(x < -126.0, 0.0, horner(x - n, EXP2) * power_of_two(n))


def expm1(x: Number) -> Number:
    n = (x * LOG2_E).round().minimum(128.0).maximum(-26.0)
    rest = _rest_of_exp(n, x, x < -18.0, 0.0)
    near = (rest * rest).fma(horner(rest, _EXPM1_TAIL), rest)
    # twice the half of 2^n near + (2^n - 1), as 2^128 is too large
    half = power_of_two(n - 1.0)
    y = half.fma(near, where(n.equals(0.0), 0.0, half - 0.5))
    return where(x.magnitude() < 2.0**-25, x, y + y)


def logistic(x: Number) -> Number:
    # e^-x is infinite before its reciprocal is too small, so both tails keep their digits
    return 1.0 / (exp(-x) + 1.0)


def tanh(x: Number) -> Number:
    square = x * x
    y = x * polynomial(square, _TANH) / polynomial(square, _TANH_BELOW)
    return bounded_by_one(x, y, _TANH_ONE)


def bounded_by_one(x: Number, y: Number, limit: float) -> Number:
    """y, but 1 or -1 where x is beyond a limit or y went past them by rounding; NaN stays."""
    top = (x > limit) | (y > 1.0)
    bottom = (x < -limit) | (y < -1.0)
    return where(top, 1.0, where(bottom, -1.0, y))


def _half_exp(a: Number) -> Number:
    """e^a / 2 for a >= 0."""
    n = (a * LOG2_E).floor().minimum(128.0)
    return horner(_rest_of_exp(n, a, a > 95.0, a), _EXP) * power_of_two(n - 1.0)


def sinh(x: Number) -> Number:
    a = x.magnitude()
    square = x * x
    near = (a * square).fma(horner(square, SINH_TAIL), a)
    half = _half_exp(a)
    return where(a < 1.0, near, half - 0.25 / half).with_sign_of(x)


def cosh(x: Number) -> Number:
    half = _half_exp(x.magnitude())
    return half + 0.25 / half


# ---------------------------------------------------------------------------------------------- logarithms
def _log_of(f: Number, e: Number) -> Number:
    """log(1 + f) + e log(2) for sqrt(1/2) - 1 <= f < sqrt(2) - 1."""
    square = f * f
    near = square.fma(f.fma(horner(f, LOG_TAIL), -0.5), f)
    return e.fma(LN2_HIGH, e.fma(LN2_LOW, near))


def _exponent(x: Number) -> Number:
    """The e (i32) with sqrt(1/2) <= x / 2^e < sqrt(2)."""
    return (x.signed_bits() - _SQRT_HALF_BITS) >> 23


def _log_outside(x: Number) -> Number:
    """The logarithm of what is not positive, finite and normal (tiny numbers count as 0)."""
    below = where(x.bits() > SIGN, x.like(NAN), -INFINITY)
    return where(x.signed_bits() >= INFINITE_BITS, x, below)


def log_parts(x: Number) -> tuple[Number, Number]:
    """(f, e) with x = (1 + f) 2^e and 1 + f from sqrt(1/2) to sqrt(2); e is i32."""
    e = _exponent(x)
    return (x.signed_bits() - (e << 23)).real_bits() - 1.0, e


def log(x: Number) -> Number:
    f, e = log_parts(x)
    return where(x.is_normal_positive(), _log_of(f, e.real()), _log_outside(x))


def log1p(x: Number) -> Number:
    above = x + 1.0
    e = _exponent(above)
    # f = (1 + x) / 2^e - 1 from x itself: the scale is a power of two, so nothing is lost
    scale = (x.like(1.0).signed_bits() - (e.minimum(100) << 23)).real_bits()
    f = x.fma(scale, where(e.equals(0), 0.0, scale - 1.0))
    f = where(x > 2.0**26, log_parts(above)[0], f)
    y = _log_of(f, e.real())
    y = where(x.magnitude() < 2.0**-25, x, y)
    return where(above.is_normal_positive(), y, _log_outside(above))


def asinh(x: Number) -> Number:
    a = x.magnitude()
    square = a * a
    near = a + square / ((square + 1.0).op("sqrt") + 1.0)
    large = a > 2.0**24
    y = log1p(where(large, a, near)) + where(large, LN2, 0.0)
    return y.with_sign_of(x)


def acosh(x: Number) -> Number:
    above = x - 1.0
    near = above + sqrt(above * (x + 1.0))
    large = x > 2.0**24
    y = log1p(where(large, x, near)) + where(large, LN2, 0.0)
    return where(x < 1.0, x.like(NAN), y)


def atanh(x: Number) -> Number:
    a = x.magnitude()
    y = log1p((a + a) / (1.0 - a)) * 0.5
    # what lies outside gives NaN, whose sign is no one's concern
    return y.with_sign_of(x)


# ---------------------------------------------------------------------------------------------- roots
def _root_outside(x: Number) -> Number:
    """The square root of what is not positive, finite and normal."""
    return where(x.bits() > SIGN, x.like(NAN), x)


def sqrt(x: Number) -> Number:
    return where(x.is_normal_positive(), x.op("sqrt"), _root_outside(x))


def rsqrt(x: Number) -> Number:
    return where(x.is_normal_positive(), x.op("rsqrt"), 1.0 / _root_outside(x))


def cbrt(x: Number) -> Number:
    """By Newton's method for a^(-1/3), which needs no division, from a first guess by the exponent's third."""
    a = x.magnitude()
    y = (_CBRT_GUESS - a.bits() // 3).real_bits()
    for _ in range(3):
        y = y * (a * y).fma((y * y) * (-1.0 / 3.0), 4.0 / 3.0)
    root = a * y * y
    excess = (a * y).fma(y * y, -1.0)
    root = (root * (-2.0 / 3.0)).fma(excess, root)
    return where(a.is_normal_positive(), root.with_sign_of(x), x)


_CBRT_GUESS = 0x54A21D2A
