"""Functions of floats that are exact: worked out on their bits.

`Format` says how a dtype's numbers are laid out; `stored` and `unstored` go between a register and those bits.
"""

from __future__ import annotations

import numpy as np

from asgfn.records import record
from backends.kernels import index as ix
from backends.kernels.functions_notation import INFINITE_BITS, NAN, Number, constant, where
from backends.kernels.ir import F16, F32, U32, U64
from backends.kernels.types import BFLOAT16


@record
class Format:
    """The layout of a floating-point dtype: its bits in all, and those of its significand after the point."""

    bits: int
    mantissa: int

    @property
    def exponent(self) -> int:
        """Number of bits of the exponent."""
        return self.bits - 1 - self.mantissa

    @property
    def register(self) -> str:
        """The integers that hold its bits."""
        return U64 if self.bits == 64 else U32

    @property
    def sign(self) -> int:
        """The bit of the sign."""
        return 1 << (self.bits - 1)

    @property
    def infinity(self) -> int:
        """The bits of infinity."""
        return self.sign - (1 << self.mantissa)


_FORMATS = {
    np.dtype(np.float64): Format(64, 52), np.dtype(np.float32): Format(32, 23), np.dtype(np.float16): Format(16, 10),
    BFLOAT16: Format(16, 7),
}  # fmt: skip


def format_of(dtype: np.dtype) -> Format:
    return _FORMATS[dtype]


def stored(x: Number, dtype: np.dtype) -> Number:
    """The bits (u32; u64 if there are 64) that a number of a dtype has, in the dtype's own format."""
    if dtype.kind in "iu":
        bits = x.bits()
        return bits if dtype.itemsize >= 4 else bits & ((1 << 8 * dtype.itemsize) - 1)
    if dtype == BFLOAT16:
        return x.bits() >> 16
    if dtype == np.float16:
        return _float16_bits(x.real() if x.value.dtype == F16 else x)
    return x.bits()


def unstored(bits: Number, dtype: np.dtype, register: str) -> Number:
    """The number (in its register) of a dtype that has these bits."""
    if dtype.kind == "u":
        return bits
    if dtype.kind == "i":
        empty = max(32 - 8 * dtype.itemsize, 0)
        number = bits.signed_bits()
        return (number << empty) >> empty if empty else number
    if dtype == BFLOAT16:
        return (bits << 16).real_bits()
    if dtype == np.float16:
        value = _float16(bits)
        return value if register == F32 else value.op("convert", dtype=register)
    return bits.real_bits()


# what WGSL packs into 16 bits, and unpacks, may be anything if it is not finite, or 0 if it is below 2^-14
_SMALLEST_FLOAT16 = 0x38800000  # the bits of 2^-14
_EXPONENTS = 112 << 23  # how much larger the exponents of 32-bit floats are


def _float16_bits(x: Number) -> Number:
    """The 16 bits of a number (f32) that a 16-bit float can be."""
    size = x.magnitude_bits()
    steps = (x.magnitude() * 2.0**24).unsigned()
    bits = where(size >= INFINITE_BITS, (size >> 13) & 0x3FF | 0x7C00, (size - _EXPONENTS) >> 13)
    return where(size < _SMALLEST_FLOAT16, steps, bits) | (x.bits() >> 16) & 0x8000


def _float16(bits: Number) -> Number:
    """The number (f32) that has these 16 bits."""
    size = bits & 0x7FFF
    shifted = size << 13
    large = where(size >= 0x7C00, shifted | INFINITE_BITS, shifted + _EXPONENTS)
    small = (size.real() * 2.0**-24).bits()
    return (where(size < 0x400, small, large) | (bits & 0x8000) << 16).real_bits()


def nextafter(x: Number, y: Number, dtype: np.dtype) -> Number:
    """The bits of the number of a dtype after x towards y."""
    layout = format_of(dtype)
    a, b = stored(x, dtype), stored(y, dtype)
    size, target = a & (layout.sign - 1), b & (layout.sign - 1)
    # from zero, the smallest number with the sign of the target
    start = where(size.equals(0), b & layout.sign | 1, a)
    # magnitudes shrink towards a number of the other sign, or of a smaller magnitude
    shrinks = (((a ^ b) & layout.sign) > 0) | (target < size)
    step = where(shrinks, constant(a.b, 0xFFFFFFFFFFFFFFFF if layout.bits == 64 else 0xFFFFFFFF, layout.register), 1)
    moved = where(size.equals(0), start, a + step)
    same = a.equals(b) | (size | target).equals(0)
    result = where(same, b, moved)
    nan = (size > layout.infinity) | (target > layout.infinity)
    return where(nan, layout_nan(result, layout), result)


def layout_nan(like: Number, layout: Format) -> Number:
    return constant(like.b, layout.infinity | 1 << (layout.mantissa - 1), layout.register)


def reduce_precision(raw: Number, layout: Format, exponent_bits: int, mantissa_bits: int) -> Number:
    """Bits rounded to fewer digits, ties to even; what exceeds the exponents becomes infinite or 0."""
    y, dropped = raw, max(layout.mantissa - mantissa_bits, 0)
    if dropped:
        odd = (y >> dropped) & 1
        y = (y + (odd + ((1 << (dropped - 1)) - 1))) & ((1 << layout.bits) - (1 << dropped))
    if exponent_bits < layout.exponent:
        bias, new_bias = (1 << (layout.exponent - 1)) - 1, (1 << (exponent_bits - 1)) - 1
        sign, size = y & layout.sign, y & layout.infinity
        too_large = size > (bias + new_bias) << layout.mantissa
        too_small = size <= (bias - new_bias) << layout.mantissa
        y = where(too_large, sign | layout.infinity, where(too_small, sign, y))
    nan = (raw & (layout.sign - 1)) > layout.infinity
    return where(nan, raw, y)


def sign(x: Number) -> Number:
    """-1 or 1; zeros of either sign and NaN stay."""
    some = (x.magnitude_bits() - 1) < INFINITE_BITS
    return where(some, x.like(1.0).with_sign_of(x), x)


def round_away(x: Number) -> Number:
    """The nearest whole number, the one farther from 0 where there are two."""
    a = x.magnitude()
    whole = a.floor()
    return where(a - whole >= 0.5, whole + 1.0, whole).with_sign_of(x)


def remainder(x: Number, y: Number) -> Number:
    """x - y * trunc(x / y) exactly, with the sign of x: long division of the significands, eight digits at a time.

    Numbers below the smallest normal one count as 0.
    """
    b = x.b
    exponent_x, exponent_y = ((v.magnitude_bits() >> 23).integer() for v in (x, y))
    digits_x, digits_y = ((v.bits() & 0x7FFFFF) | 0x800000 for v in (x, y))
    steps = exponent_x - exponent_y
    rest = b.variable((digits_x % digits_y).value)
    along = ix.axis("d", 32)
    count = where(steps > 0, steps >> 3, 0).minimum(31)
    with b.loop(along, stop=count.value):
        known = Number(b, b.read(rest))
        b.assign(rest, ((known << 8) % digits_y).value)
    rest_bits = (Number(b, b.read(rest)) << (steps & 7)) % digits_y
    # as a number: the digits at the exponent of y
    result = (rest_bits.real() * 2.0**-23) * (y.bits() & INFINITE_BITS).real_bits()
    result = where(steps < 0, x.magnitude(), result).with_sign_of(x)
    valid = (x.magnitude_bits() < INFINITE_BITS) & (y.magnitude_bits() <= INFINITE_BITS) & (exponent_y > 0)
    return where(valid, result, x.like(NAN))
