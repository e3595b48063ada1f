"""Trigonometric functions and their inverses, for 32-bit floats.

An angle is reduced to its distance from the nearest multiple of pi (of pi/2 for the tangent), which is subtracted in
parts so short that each product is exact (W. J. Cody and W. Waite, "Software manual for the elementary functions",
1980). Large angles take the way of M. Payne and R. Hanek ("Radian reduction for trigonometric functions", 1983): the
fraction of x / 2 pi in integers, from as many bits of 1 / 2 pi as it needs. So they are exact too, at any size.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from fractions import Fraction

from backends.kernels.functions_notation import (
    INFINITE_BITS,
    NAN,
    SIGN,
    Number,
    constant,
    horner,
    odd_as_sign,
    where,
)  # fmt: skip
from backends.kernels.ir import U32

PI = Fraction(31415926535897932384626433832795028841971693993751058209749445923, 10**64)
_LARGE = 12000.0
# the first 256 bits of 1 / (2 pi), after 32 zeros: the places before the point
_TURNS = 0x28BE60DB9391054A7F09D5F47D4D377036D8A5664F10E4107F9458EAF7AEF158
_TURN_WORDS = (0, *(_TURNS >> shift & 0xFFFFFFFF for shift in range(224, -1, -32)))

# (sin(x) / x - 1) / x^2 in x^2, on [0, pi / 2]
SIN_TAIL = (-0.1666666567325592, 0.008333241567015648, -0.00019822634931188077, 2.6343950594309717e-06)
# tan(x) / x in x^2, on [0, pi / 4]
TAN = (1.0, -0.11135639995336533, 0.0010748043423518538)
TAN_BELOW = (1.0, -0.44468972086906433, 0.015971364453434944)
# (atan(x) / x - 1) / x^2 in x^2, on [0, 1]
_ATAN_TAIL = (
    -0.3333333134651184, 0.1999979019165039, -0.14279615879058838, 0.1104203537106514, -0.08689044415950775,
    0.06318219751119614, -0.03667028620839119, 0.013996483758091927, -0.0025085764937102795,
)  # fmt: skip
# (asin(x) / x - 1) / x^2 in x^2, on [0, 1/2]
ASIN_TAIL = (
    0.1666666567325592,
    0.07500103116035461,
    0.04459662735462189,
    0.031131910160183907,
    0.017005832865834236,
    0.0339210070669651,
)


def _parts(period: Fraction) -> tuple[float, ...]:
    """A number as a sum: three terms of 11 bits, and the rest."""
    parts = []
    for _ in range(3):
        unit = Fraction(2) ** (math.frexp(float(period))[1] - 11)
        parts.append(period // unit * unit)
        period -= parts[-1]
    return (*(float(p) for p in parts), float(period))


_PI_PARTS, _HALF_PI_PARTS = _parts(PI), _parts(PI / 2)


# ---------------------------------------------------------------------------------------------- reduction
def _subtract(x: Number, multiple: Number, parts: Sequence[float]) -> Number:
    """x minus a multiple of a sum, for |x| < 12000; the parts must not be merged into one factor."""
    size = x.magnitude()
    for k, part in enumerate(parts):
        x = multiple.fma(-part, x if k == 0 else where(size < _LARGE + k, x, 0.0))
    return x


def chosen(
    x: Number, near: Number, sign: Number, large: float, far: Callable[[Number], tuple[Number, Number]]
) -> tuple[Number, Number]:
    """(near, sign), or, from a size of x on, what `far` makes of x; only then that is computed."""
    b = x.b
    rest, flip = b.variable(near.value), b.variable(sign.value)
    with b.when((x.magnitude() >= large).value):
        # read inside, so that nothing of it is computed before the branch
        distant, parity = far(Number(b, b.read(b.variable(x.value))))
        b.assign(rest, distant.value)
        b.assign(flip, parity.value)
    return Number(b, b.read(rest)), Number(b, b.read(flip))


def _reduced(x: Number, near: Number, sign: Number, quarters: int, period_turns: int) -> tuple[Number, Number]:
    """(rest, sign) for a number that is not large; for a large one, both from the integer way.

    Arguments:
        near, sign: what they are if x is not large.
        quarters: how many quarter turns are added to x.
        period_turns: the period is one turn divided by 2 to this.
    """
    return chosen(x, near, sign, _LARGE, lambda x: _far(x, quarters, period_turns))


def _far(x: Number, quarters: int, period_turns: int) -> tuple[Number, Number]:
    high, low = turns(x)
    high = high + (quarters << 30)
    if period_turns == 2:
        high, low = (high << 1) | (low >> 31), low << 1
    # a whole number of periods and the rest, as a fraction of the period from -1/2 to 1/2
    fraction, lower = (high << 1) | (low >> 31), low << 1
    negative = fraction >= SIGN
    parity = (high & SIGN) ^ where(negative, constant(x.b, SIGN, U32), constant(x.b, 0, U32))
    fraction, lower = where(negative, ~fraction, fraction), where(negative, ~lower, lower)
    size = fraction.real().fma(2.0**-32, lower.real() * 2.0**-64) * float(2 * PI / 2**period_turns)
    rest = size.flipped(where(negative, constant(x.b, SIGN, U32), constant(x.b, 0, U32)))
    infinite = x.magnitude_bits() >= INFINITE_BITS
    return where(infinite, x.like(NAN), rest), parity


def turns(x: Number) -> tuple[Number, Number]:
    """The fraction of x / (2 pi), as a number of 64 bits in two words, for large x."""
    exponent = (x.bits() >> 23) & 0xFF
    digits = (x.bits() & 0x7FFFFF) | 0x800000
    # x = digits * 2^(exponent - 150): words of 1 / (2 pi) from that power of two on
    start = exponent - (150 - 32)
    word, shift = start >> 5, start & 31
    words = [_turn_word(word, k) for k in range(4)]
    window = [(a << shift) | ((b >> 1) >> (31 - shift)) for a, b in itertools.pairwise(words)]
    halves = [half for w in window for half in (w >> 16, w & 0xFFFF)]
    top, bottom = digits >> 16, digits & 0xFFFF
    # the product digit by digit in base 2^16, from the lowest: whatever leaves at the top is whole turns
    by_bottom, by_top = [h * bottom for h in halves], [h * top for h in halves]
    carry = by_bottom[5] >> 16
    product = []
    for k in (4, 3, 2, 1, 0):
        total = (by_bottom[k] & 0xFFFF) + (by_top[k + 1] & 0xFFFF) + carry
        if k < 4:
            total = total + (by_bottom[k + 1] >> 16) + (by_top[k + 2] >> 16)
        product.append(total & 0xFFFF)
        carry = total >> 16
    high, low = (product[4] << 16) | product[3], (product[2] << 16) | product[1]
    minus = x.bits() >= SIGN
    return where(minus, ~high, high), where(minus, ~low, low)


def _turn_word(word: Number, offset: int) -> Number:
    found = constant(word.b, _TURN_WORDS[offset + 4], U32)
    for k in reversed(range(4)):
        found = where(word.equals(k), constant(word.b, _TURN_WORDS[offset + k], U32), found)
    return found


# ---------------------------------------------------------------------------------------------- functions
def _sine(rest: Number, sign: Number) -> Number:
    square = rest * rest
    y = (rest * square).fma(horner(square, SIN_TAIL), rest)
    return y.flipped(sign)


def sin(x: Number) -> Number:
    n = (x * float(1 / PI)).round()
    rest, sign = _reduced(x, _subtract(x, n, _PI_PARTS), odd_as_sign(n), 0, 1)
    return where(x.magnitude() < 2.0**-12, x, _sine(rest, sign))


def cos(x: Number) -> Number:
    # the nearest odd multiple of pi/2, where the cosine is 0; the sine of the distance falls there if it is even
    n = (x * float(1 / PI)).floor()
    rest, sign = _reduced(x, _subtract(x, n + 0.5, _PI_PARTS), odd_as_sign(n + 1.0), 1, 1)
    return _sine(rest, sign)


def tan(x: Number) -> Number:
    n = (x * float(2 / PI)).round()
    rest, odd = _reduced(x, _subtract(x, n, _HALF_PI_PARTS), odd_as_sign(n), 0, 2)
    square = rest * rest
    above, below = rest * horner(square, TAN), horner(square, TAN_BELOW)
    turned = odd >= SIGN
    y = where(turned, -below, above) / where(turned, above, below)
    return where(x.magnitude() < 2.0**-12, x, y)


def _atan_of(ratio: Number) -> Number:
    """atan on [0, 1]."""
    square = ratio * ratio
    return (ratio * square).fma(horner(square, _ATAN_TAIL), ratio)


def atan(x: Number) -> Number:
    a = x.magnitude()
    steep = a > 1.0
    y = _atan_of(where(steep, 1.0 / a, a))
    return where(steep, math.pi / 2 - y, y).with_sign_of(x)


def atan2(y: Number, x: Number) -> Number:
    """The angle of the point (x, y), from -pi to pi, with C99's values at zeros and infinities."""
    a, b = y.magnitude(), x.magnitude()
    larger, smaller = a.maximum(b), a.minimum(b)
    # reciprocals of the largest numbers are below what devices keep
    scale = where(larger > 2.0**100, larger.like(2.0**-40), 1.0)
    ratio = (smaller * scale) / (larger * scale)
    same = smaller.bits().equals(larger.bits())  # both infinite, or both zero
    ratio = where(same, where(larger.bits().equals(0), larger.like(0.0), 1.0), ratio)
    angle = _atan_of(ratio)
    angle = where(a > b, math.pi / 2 - angle, angle)
    angle = where(x.bits() >= SIGN, math.pi - angle, angle).with_sign_of(y)
    return where(x.is_nan(), x, where(y.is_nan(), y, angle))


def _asin_small(x: Number) -> Number:
    """asin on [0, 1/2]."""
    square = x * x
    return (x * square).fma(horner(square, ASIN_TAIL), x)


def _asin_parts(x: Number) -> tuple[Number, Number, Number]:
    """(a, y, far): a = |x|; y = asin(a) for a <= 1/2, else (far) asin(sqrt((1 - a) / 2)), half of acos(a)."""
    a = x.magnitude()
    far = a > 0.5
    rest = (1.0 - a) * 0.5
    outside = a > 1.0
    root = where(outside, a.like(NAN), rest.maximum(0.0).op("sqrt"))
    return a, _asin_small(where(far, root, a)), far


def asin(x: Number) -> Number:
    _, y, far = _asin_parts(x)
    return where(far, math.pi / 2 - (y + y), y).with_sign_of(x)


def acos(x: Number) -> Number:
    _, y, far = _asin_parts(x)
    negative = x.bits() >= SIGN
    near = where(negative, math.pi / 2 + y, math.pi / 2 - y)
    return where(far, where(negative, math.pi - (y + y), y + y), near)
