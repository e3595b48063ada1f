"""Powers of 32-bit floats: x^y = 2^(y log2 x), with the logarithm in two parts.

The method is that of Sun Microsystems' fdlibm (`e_powf.c` in FreeBSD's libm): the logarithm's first part has 12 bits,
and so has the exponent's, so that their product is exact and what it lacks is small. What asks whether the base is 0
is there to keep exact products from being merged with others.
"""

from __future__ import annotations

from backends.kernels.functions import EXP2
from backends.kernels.functions_notation import INFINITE_BITS, INFINITY, NAN, SIGN, Number, horner, power_of_two, where

_SCALE = 2.8853900817779268  # 2 / ln 2
_SCALE_HEAD = 2.884765625  # its first 12 bits
_SCALE_REST = _SCALE - _SCALE_HEAD
_ANCHOR = 1.5  # significands from sqrt(1.5) on are taken relative to this
_ANCHOR_LOG, _ANCHOR_LOG_REST = 0.5849609375, 1.5635290724e-06  # log2 of it, in two parts
_SQRT_ANCHOR = 1.2247448714
# (artanh(s) / s - 1) / s^2 in s^2: its Taylor series
_TAIL = (1 / 3, 1 / 5, 1 / 7, 1 / 9)
_FAR = 2.0**33  # such an exponent decides between 0, 1 and infinity for any base


def _log2_parts(a: Number) -> tuple[Number, Number]:
    """log2 of a normal positive number, as one of 12 bits and the rest."""
    exponent = (a.bits() >> 23).integer() - 127
    digits = ((a.bits() & 0x7FFFFF) | 0x3F800000).real_bits()  # from 1 to 2
    # relative to 1, 1.5 or 2
    high = digits > 1.7320508
    digits = where(high, digits * 0.5, digits)
    exponent = where(high, exponent + 1, exponent).real()
    middle = digits > _SQRT_ANCHOR
    anchor = where(middle, digits.like(_ANCHOR), 1.0)
    # s = (digits - anchor) / (digits + anchor) in two parts: its 12 bits, and what they leave undone
    difference = digits - anchor
    reciprocal = 1.0 / (digits + anchor)
    s = difference * reciprocal
    head = s.head()
    total = (digits + anchor).head()
    total_rest = (digits - (total - anchor)).head(8)
    rest = ((difference - head * total) - head * total_rest) * reciprocal
    square = s * s
    rest = rest + s * square * horner(square, _TAIL)
    # times 2 / ln 2
    low = head * _SCALE_REST + rest * _SCALE + where(middle, _ANCHOR_LOG_REST, 0.0)
    high_part = where(a.bits().equals(0), 0.0, head * _SCALE_HEAD)
    whole = exponent + where(middle, _ANCHOR_LOG, 0.0)
    first = ((high_part + low) + whole).head()
    return first, ((whole - first) + high_part) + low


def power(x: Number, y: Number) -> Number:
    """x^y with C99's special values."""
    a = x.magnitude()
    log_first, log_rest = _log2_parts(a)
    bounded = y.minimum(_FAR).maximum(-_FAR)
    y_first = bounded.head()
    first = where(a.bits().equals(0), 0.0, y_first * log_first)
    rest = (bounded - y_first) * log_first + bounded * log_rest
    n = (first + rest).floor().minimum(127.0)
    result = horner((first - n) + rest, EXP2) * power_of_two(n)
    result = where(first + rest < -126.0, 0.0, result)
    # zero (and what is too small) and infinity
    falling = y.bits() >= SIGN
    vast = a.bits() >= INFINITE_BITS
    limit = where(vast, where(falling, x.like(0.0), INFINITY), where(falling, x.like(INFINITY), 0.0))
    result = where(a.is_normal_positive(), result, limit)
    # negative bases
    negative = x.bits() >= SIGN
    whole = y.floor().equals(y)
    half = y * 0.5
    odd = whole & ~half.floor().equals(half)
    result = where(negative & odd, -result, result)
    lost = (negative & ~whole & a.is_normal_positive()) | x.is_nan() | y.is_nan()
    result = where(lost, x.like(NAN), result)
    return where(y.equals(0.0) | x.equals(1.0), 1.0, result)
