"""Formulas on registers: Python's operators write the operations of a kernel.

Devices differ in what they guarantee, so formulas keep to a few rules. `fma` may round once or twice: what has to be
exact uses factors with few bits. Compilers (Mesa's, Apple's) turn n * a + (n * b + x) into n * (a + b) + x, which undoes
sums in parts: what may not be merged goes through a `where` or through its bits on the way. A NaN comes out of
arithmetic by itself, but not out of `min` and `max`, and compilers may take every number for finite: whether something
is NaN or infinite is asked of its bits.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from backends.kernels.ir import BOOL, F32, F64, I32, I64, U32, U64, Builder, Value

INFINITY = float("inf")
NAN = float("nan")
SIGN = 0x80000000
MAGNITUDE = 0x7FFFFFFF
INFINITE_BITS = 0x7F800000
SMALLEST_NORMAL_BITS = 0x00800000
_UNSIGNED = {F64: U64, I64: U64, U64: U64}  # the integers of a register's width; else u32
_SIGNED = {F64: I64, I64: I64, U64: I64}


class Number:
    """A value of a kernel (of 32 or 64 bits, or bool), with operators."""

    __slots__ = ("b", "value")

    def __init__(self, b: Builder, value: Value):
        self.b, self.value = b, value

    # ------------------------------------------------------------------ operations
    def op(self, name: str, *others: Any, dtype: str | None = None) -> Number:
        """An operation on this number and others; Python numbers take this one's type."""
        b, value = self.b, self.value
        operands = [o.value if isinstance(o, Number) else _constant(b, o, value.dtype) for o in others]
        return Number(b, b.op(name, value, *operands, dtype=dtype))

    def like(self, other: Any) -> Number:
        """A Python number as a constant of this one's type; a `Number` as it is."""
        return other if isinstance(other, Number) else constant(self.b, other, self.value.dtype)

    def __add__(self, other: Any) -> Number:
        return self.op("add", other)

    def __radd__(self, other: Any) -> Number:
        return self.like(other) + self

    def __sub__(self, other: Any) -> Number:
        return self.op("sub", other)

    def __rsub__(self, other: Any) -> Number:
        return self.like(other) - self

    def __mul__(self, other: Any) -> Number:
        return self.op("mul", other)

    def __rmul__(self, other: Any) -> Number:
        return self.like(other) * self

    def __truediv__(self, other: Any) -> Number:
        return self.op("div", other)

    def __rtruediv__(self, other: Any) -> Number:
        return self.like(other) / self

    def __floordiv__(self, other: Any) -> Number:
        return self.op("div", other)

    def __mod__(self, other: Any) -> Number:
        return self.op("rem", other)

    def __neg__(self) -> Number:
        return self.op("neg")

    def __and__(self, other: Any) -> Number:
        return self.op("and", other)

    def __or__(self, other: Any) -> Number:
        return self.op("or", other)

    def __xor__(self, other: Any) -> Number:
        return self.op("xor", other)

    def __invert__(self) -> Number:
        return self.op("not")

    def __lshift__(self, by: Any) -> Number:
        return self.op("shift_left", self._amount(by))

    def __rshift__(self, by: Any) -> Number:
        return self.op("shift_right", self._amount(by))

    def _amount(self, by: Any) -> Number:
        """How far a number is shifted: an integer of its width, without a sign."""
        width = _UNSIGNED.get(self.value.dtype, U32)
        if isinstance(by, Number):
            return by if by.value.dtype == width else by.op("convert", dtype=width)
        return constant(self.b, by, width)

    def __lt__(self, other: Any) -> Number:
        return self.op("lt", other, dtype=BOOL)

    def __le__(self, other: Any) -> Number:
        return self.op("le", other, dtype=BOOL)

    def __gt__(self, other: Any) -> Number:
        return self.op("gt", other, dtype=BOOL)

    def __ge__(self, other: Any) -> Number:
        return self.op("ge", other, dtype=BOOL)

    def equals(self, other: Any) -> Number:
        return self.op("eq", other, dtype=BOOL)

    def fma(self, factor: Any, summand: Any) -> Number:
        """self * factor + summand, rounded once or twice."""
        return self.op("fma", factor, summand)

    def minimum(self, other: Any) -> Number:
        return self.op("min", other)

    def maximum(self, other: Any) -> Number:
        return self.op("max", other)

    def floor(self) -> Number:
        return self.op("floor")

    def round(self) -> Number:
        """The nearest whole number, ties to even."""
        return self.op("round")

    # ------------------------------------------------------------------ representations
    def bits(self) -> Number:
        """The bits of a number, as u32 (u64 if it has 64)."""
        width = _UNSIGNED.get(self.value.dtype, U32)
        return self if self.value.dtype == width else self.op("bitcast", dtype=width)

    def signed_bits(self) -> Number:
        """The bits as i32 (i64): ordered as the numbers are, among those that are not negative."""
        width = _SIGNED.get(self.value.dtype, I32)
        return self if self.value.dtype == width else self.op("bitcast", dtype=width)

    def real_bits(self) -> Number:
        """The f32 (f64) that has these bits."""
        return self.op("bitcast", dtype=F64 if self.value.dtype in (I64, U64) else F32)

    def unsigned(self) -> Number:
        """The number as u32."""
        return self if self.value.dtype == U32 else self.op("convert", dtype=U32)

    def integer(self) -> Number:
        """The number as i32."""
        return self if self.value.dtype == I32 else self.op("convert", dtype=I32)

    def real(self) -> Number:
        """The number as f32."""
        return self if self.value.dtype == F32 else self.op("convert", dtype=F32)

    def double(self) -> Number:
        """The number as f64."""
        return self if self.value.dtype == F64 else self.op("convert", dtype=F64)

    def call(self, function: str, *others: Number) -> Number:
        """A function of the C library, of this number and others (f64)."""
        values = [self.value, *(o.value for o in others)]
        return Number(self.b, self.b.op("call", *values, dtype=F64, attr=function))

    # ------------------------------------------------------------------ by bits
    def magnitude_bits(self) -> Number:
        """The bits of |self|."""
        bits = self.bits()
        return bits & (MAGNITUDE if bits.value.dtype == U32 else (1 << 63) - 1)

    def sign_bit(self) -> Number:
        bits = self.bits()
        return bits & (SIGN if bits.value.dtype == U32 else 1 << 63)

    def magnitude(self) -> Number:
        """|self|."""
        return self.op("abs")

    def with_sign_of(self, other: Number) -> Number:
        """This number, which is not negative, with the sign of another."""
        return (self.bits() | other.sign_bit()).real_bits()

    def flipped(self, sign: Number) -> Number:
        """This number, its sign changed where `sign` (u32) has its highest bit."""
        return (self.bits() ^ sign).real_bits()

    def is_nan(self) -> Number:
        return self.magnitude_bits() > INFINITE_BITS

    def is_normal_positive(self) -> Number:
        """Whether it is above 0, finite, and has all its digits."""
        return (self.bits() - SMALLEST_NORMAL_BITS) < INFINITE_BITS - SMALLEST_NORMAL_BITS

    def head(self, cleared: int = 12) -> Number:
        """The number with its last bits cleared. Where those are 12, products of two such are exact."""
        return (self.bits() & (0xFFFFFFFF << cleared & 0xFFFFFFFF)).real_bits()


def constant(b: Builder, value: Any, dtype: str = F32) -> Number:
    """A constant of the kernel: the nearest number of its type."""
    return Number(b, _constant(b, value, dtype))


def _constant(b: Builder, value: Any, dtype: str) -> Value:
    if dtype == F32:
        value = float(np.float32(value))
    return b.constant(float(value) if dtype == F64 else value, dtype)


def where(condition: Number, a: Any, b: Any) -> Number:
    """a where the condition holds, else b; one of them may be a Python number, both if they are floats."""
    like = a if isinstance(a, Number) else b if isinstance(b, Number) else constant(condition.b, 0.0)
    return Number(condition.b, condition.b.select(condition.value, like.like(a).value, like.like(b).value))


def horner(x: Number, coefficients: Sequence[Any]) -> Number:
    """A polynomial; coefficients run from the constant to the highest power."""
    total = x.like(coefficients[-1])
    for c in reversed(coefficients[:-1]):
        total = total.fma(x, c)
    return total


def polynomial(x: Number, coefficients: Sequence[Any]) -> Number:
    """As `horner`, but even and odd powers on their own: fewer steps wait for, and round, each other."""
    square = x * x
    return horner(square, coefficients[1::2]).fma(x, horner(square, coefficients[::2]))


def power_of_two(n: Number) -> Number:
    """2^n for a float that is a whole number from -127 (which gives 0) to 127."""
    # adding 1.5 * 2^23 leaves the whole number in the lowest bits
    return ((n + (12582912.0 + 127.0)).bits() << 23).real_bits()


def odd_as_sign(n: Number) -> Number:
    """The sign bit (u32) where a whole number below 2^22 is odd."""
    return (n + 12582912.0).bits() << 31


def loaded_later(module: str, name: str) -> Callable[..., Number]:
    """A formula of a module that is loaded when it is first written."""

    def write(*operands: Number) -> Number:
        return getattr(importlib.import_module(module), name)(*operands)

    return write
