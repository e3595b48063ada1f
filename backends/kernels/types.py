"""How dtypes are represented: in registers, and in a device's memory.

Devices know 32-bit floats and integers, some also 16-bit floats. Smaller integers and booleans take an element of 32
bits each; 16-bit floats that the device lacks are 32-bit ones that are rounded after each operation. Processors know
64-bit numbers, too, and their memory holds small elements as they are.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np

from asgfn.records import record
from backends.kernels.ir import BOOL, F16, F32, F64, I8, I16, I32, I64, U8, U16, U32, U64, Builder, Value

BFLOAT16 = np.dtype(ml_dtypes.bfloat16)
_REGISTERS = {
    np.dtype(np.float32): F32, np.dtype(np.float16): F32, BFLOAT16: F32,
    np.dtype(np.int32): I32, np.dtype(np.int16): I32, np.dtype(np.int8): I32,
    np.dtype(np.uint32): U32, np.dtype(np.uint16): U32, np.dtype(np.uint8): U32,
    np.dtype(np.bool_): BOOL,
}  # fmt: skip
# registers of numbers that not every device has
_WIDE = {np.dtype(np.float64): F64, np.dtype(np.int64): I64, np.dtype(np.uint64): U64}
_ALL = _REGISTERS | _WIDE
FLOATS = (F32, F16, F64)  # registers of floats
_NUMPY = {
    F32: np.float32,
    F16: np.float16,
    I32: np.int32,
    U32: np.uint32,
    F64: np.float64,
    I64: np.int64,
    U64: np.uint64,
}
# elements that memory holds as they are, where it can
_NARROW = {
    np.dtype(np.bool_): U8, np.dtype(np.int8): I8, np.dtype(np.uint8): U8, np.dtype(np.int16): I16,
    np.dtype(np.uint16): U16, np.dtype(np.float16): F16, BFLOAT16: U16,
}  # fmt: skip


def _rounded(value: float, kind: Callable[[float], Any]) -> float:
    """The nearest number of a type of floats."""
    if abs(value) < 65504:  # what is larger may be infinite, of which NumPy warns
        return float(kind(value))
    with np.errstate(over="ignore"):
        return float(kind(value))


@record
class Types:
    """The representation on one kind of device.

    Attributes:
        half: whether it has 16-bit floats of its own.
        narrow: whether its memory has elements of 8 and 16 bits, as NumPy's arrays; else they take 32.
        wide: whether it has 64-bit floats and integers.
        exact: whether it computes as IEEE 754 says, and its compiler lets it: comparisons are right for NaN, infinities and
            the signs of zeros stay, `fma` rounds once, `max` and `min` are NaN if an operand is. Then nothing needs to
            be asked of a number's bits. It can also compute in 64 bits on the way, and call the C library.
    """

    half: bool = False
    narrow: bool = False
    wide: bool = False
    exact: bool = False

    def holds(self, dtype: np.dtype) -> bool:
        """Whether there is a representation at all (there is none of complex numbers, and of 64-bit ones only if `wide`)."""
        return dtype in (_ALL if self.wide else _REGISTERS)

    def register(self, dtype: np.dtype) -> str:
        """The type of a value in a register."""
        return F16 if self.half and dtype == np.float16 else _ALL[dtype]

    def storage(self, dtype: np.dtype) -> str:
        """The type of an element in memory."""
        if self.narrow and dtype in _NARROW:
            return _NARROW[dtype]
        register = self.register(dtype)
        return U32 if register == BOOL else register

    def numpy_storage(self, dtype: np.dtype) -> np.dtype:
        """The dtype of an array that has the bytes of the device's memory."""
        if self.narrow:
            return dtype
        return np.dtype(_NUMPY[self.storage(dtype)])

    # ------------------------------------------------------------------ code
    def constant(self, b: Builder, value: Any, dtype: np.dtype) -> Value:
        """A constant of a dtype."""
        register = self.register(dtype)
        if register == F64:
            return b.constant(float(value), F64)
        if register in (F32, F16):
            value = float(value)
            if dtype == BFLOAT16 and math.isfinite(value):
                value = float(BFLOAT16.type(value))
            return b.constant(_rounded(value, np.float32 if dtype == BFLOAT16 else dtype.type), register)
        return b.constant(bool(value) if register == BOOL else int(value), register)

    def from_memory(self, b: Builder, element: Value, dtype: np.dtype) -> Value:
        """An element that was loaded, in a register."""
        register = self.register(dtype)
        if register == BOOL:
            return b.op("ne", element, b.constant(0, element.dtype), dtype=BOOL)
        if element.dtype == register:
            return element
        if dtype == BFLOAT16:
            bits = b.op("shift_left", b.op("convert", element, dtype=U32), b.constant(16, U32))
            return b.op("bitcast", bits, dtype=F32)
        return b.op("convert", element, dtype=register)

    def to_memory(self, b: Builder, value: Value, dtype: np.dtype) -> Value:
        """A value as an element of memory."""
        storage = self.storage(dtype)
        if value.dtype == storage:
            return value
        if value.dtype == BOOL and not self.narrow:
            return b.select(value, b.constant(1, U32), b.constant(0, U32))
        if dtype == BFLOAT16:
            value = b.op("shift_right", bits_of(b, value), b.constant(16, U32))
        return b.op("convert", value, dtype=storage)

    def from_integer(self, b: Builder, value: Value, dtype: np.dtype) -> Value:
        """An integer (i32) as a dtype."""
        return self.convert(b, value, np.dtype(np.int32), dtype)

    def convert(self, b: Builder, value: Value, source: np.dtype, target: np.dtype) -> Value:
        """A value of one dtype as another: as NumPy's astype, floats out of an integer's range becoming its bounds."""
        if source == target:
            return value
        register = self.register(target)
        if register == BOOL:
            if value.dtype in FLOATS:
                if self.exact or value.dtype == F64:
                    return b.op("ne", value, b.constant(0.0, value.dtype), dtype=BOOL)
                value = magnitude_bits(b, value)  # a comparison of numbers may be false for NaN
            return b.op("ne", value, b.constant(0, value.dtype), dtype=BOOL)
        if value.dtype == BOOL:
            one, zero = (self.constant(b, n, target) for n in (1, 0))
            return b.select(value, one, zero)
        if value.dtype in FLOATS and register not in FLOATS:
            return self._float_to_integer(b, value, target)
        if register == F16 and value.dtype != F32:
            value = b.op("convert", value, dtype=F32)  # integers may be larger than any 16-bit float
        if value.dtype == F64 and target == np.float16:
            value = _round_to_odd(b, value)
        if value.dtype != register:
            value = b.op("convert", value, dtype=register)
        return self.rounded(b, value, target)

    def _float_to_integer(self, b: Builder, value: Value, target: np.dtype) -> Value:
        """Towards zero, and kept in range; NaN becomes 0."""
        bounds = np.iinfo(target)
        if value.dtype == F16:
            value = b.op("convert", value, dtype=F32)
        number = np.dtype(_NUMPY[value.dtype]).type
        # the largest float that is not above the bound
        nearest = number(bounds.max)
        top = float(nearest if int(nearest) <= bounds.max else np.nextafter(nearest, number(0)))
        highest, lowest = b.constant(top, value.dtype), b.constant(float(bounds.min), value.dtype)
        if self.exact:
            known = b.select(b.op("eq", value, value, dtype=BOOL), value, b.constant(0.0, value.dtype))
            value_in = b.op("max", b.op("min", known, highest), lowest)
        else:
            value_in = b.op("max", b.op("min", value, highest), lowest)
        result = b.op("convert", value_in, dtype=self.register(target))
        if int(top) != bounds.max:
            above = b.op("gt", value, highest, dtype=BOOL)
            result = b.select(above, self.constant(b, bounds.max, target), result)
        return result if self.exact else b.select(is_nan(b, value), self.constant(b, 0, target), result)

    def rounded(self, b: Builder, value: Value, dtype: np.dtype) -> Value:
        """A register's value, as the dtype that it stands for would have it: rounded, or wrapped around."""
        if dtype.itemsize >= 4:
            return value
        if dtype == np.float16 and value.dtype == F32:
            if self.exact:
                return b.op("convert", b.op("convert", value, dtype=F16), dtype=F32)
            return round_float16(b, value)
        if dtype == BFLOAT16:
            return round_bfloat16(b, value, self.is_nan)
        if dtype.kind in "iu":
            bits = 8 * dtype.itemsize
            if dtype.kind == "u":
                return b.op("and", value, b.constant((1 << bits) - 1, U32))
            shift = b.constant(32 - bits, U32)
            return b.op("shift_right", b.op("shift_left", value, shift), shift)
        return value

    def is_nan(self, b: Builder, value: Value) -> Value:
        """Whether a float is NaN."""
        if self.exact and value.op != "constant":
            return b.op("ne", value, value, dtype=BOOL)
        return is_nan(b, value)


def _round_to_odd(b: Builder, value: Value) -> Value:
    """A 64-bit float as one of 32 bits: of the two that it lies between, the one whose last digit is odd. When that is
    rounded to fewer digits, the result is what rounding the number itself would give."""
    near = b.op("convert", value, dtype=F32)
    back, bits = b.op("convert", near, dtype=F64), b.op("bitcast", near, dtype=U32)
    too_large = b.op("gt", b.op("abs", back), b.op("abs", value), dtype=BOOL)
    other = b.op("add", bits, b.select(too_large, b.constant(0xFFFFFFFF, U32), b.constant(1, U32)))
    even = b.op("eq", b.op("and", bits, b.constant(1, U32)), b.constant(0, U32), dtype=BOOL)
    moved = b.op("and", even, b.op("ne", back, value, dtype=BOOL))
    return b.op("bitcast", b.select(moved, other, bits), dtype=F32)


def bits_of(b: Builder, value: Value) -> Value:
    """The bits of a float."""
    return b.op("bitcast", value, dtype=U64 if value.dtype == F64 else U32)


def magnitude_bits(b: Builder, value: Value) -> Value:
    """The bits of a float's magnitude, as a 32-bit one."""
    if value.dtype == F16:
        value = b.op("convert", value, dtype=F32)
    return b.op("and", bits_of(b, value), b.constant(0x7FFFFFFF, U32))


def is_nan(b: Builder, value: Value) -> Value:
    """Whether a float is NaN: by its bits, since compilers may take comparisons to know that there are none (but none that
    has 64-bit floats does)."""
    if value.op == "constant":
        return b.constant(math.isnan(value.attr), BOOL)
    if value.dtype == F64:
        return b.op("ne", value, value, dtype=BOOL)
    return b.op("gt", magnitude_bits(b, value), b.constant(0x7F800000, U32), dtype=BOOL)


def round_float16(b: Builder, value: Value) -> Value:
    """The nearest number that has 11 significant bits, ties to even: in steps of 2**-24 below 2**-14, and an infinity from
    65520 on. (What WGSL packs into 16 bits may be rounded either way, and anything if it is too large.)"""
    bits = bits_of(b, value)
    magnitude = b.op("and", bits, b.constant(0x7FFFFFFF, U32))
    odd = b.op("and", b.op("shift_right", magnitude, b.constant(13, U32)), b.constant(1, U32))
    nearest = b.op("add", magnitude, b.op("add", odd, b.constant(0xFFF, U32)))
    kept = b.op("and", nearest, b.constant(0xFFFFE000, U32))
    infinity = b.constant(0x7F800000, U32)
    large = b.op("ge", kept, b.constant(0x47800000, U32), dtype=BOOL)
    small = b.op("lt", magnitude, b.constant(0x38800000, U32), dtype=BOOL)
    steps = b.op("round", b.op("mul", b.op("abs", value), b.constant(2.0**24, F32)))
    stepped = bits_of(b, b.op("mul", steps, b.constant(2.0**-24, F32)))
    rounded = b.select(small, stepped, b.select(large, infinity, kept))
    rounded = b.select(b.op("gt", magnitude, infinity, dtype=BOOL), magnitude, rounded)
    sign = b.op("and", bits, b.constant(0x80000000, U32))
    return b.op("bitcast", b.op("or", rounded, sign), dtype=F32)


def round_bfloat16(b: Builder, value: Value, missing: Callable[[Builder, Value], Value] = is_nan) -> Value:
    """The nearest number that has 8 significant bits, ties to even; `missing` says whether it is NaN."""
    bits = bits_of(b, value)
    odd = b.op("and", b.op("shift_right", bits, b.constant(16, U32)), b.constant(1, U32))
    nearest = b.op("add", bits, b.op("add", odd, b.constant(0x7FFF, U32)))
    kept = b.op("and", nearest, b.constant(0xFFFF0000, U32))
    quiet = b.op("and", b.op("or", bits, b.constant(0x00400000, U32)), b.constant(0xFFFF0000, U32))
    return b.op("bitcast", b.select(missing(b, value), quiet, kept), dtype=F32)
