"""How dtypes are represented: in registers, and in a device's memory.

Devices know 32-bit floats and integers, some also 16-bit floats. Smaller integers and booleans take an element of 32
bits each; 16-bit floats that the device lacks are 32-bit ones that are rounded after each operation.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import ml_dtypes
import numpy as np

from backends.kernels.ir import BOOL, F16, F32, I8, I16, I32, U8, U16, U32, Builder, Value

BFLOAT16 = np.dtype(ml_dtypes.bfloat16)
_REGISTERS = {
    np.dtype(np.float32): F32, np.dtype(np.float16): F32, BFLOAT16: F32,
    np.dtype(np.int32): I32, np.dtype(np.int16): I32, np.dtype(np.int8): I32,
    np.dtype(np.uint32): U32, np.dtype(np.uint16): U32, np.dtype(np.uint8): U32,
    np.dtype(np.bool_): BOOL,
}  # fmt: skip
# elements that memory holds as they are, where it can
_NARROW = {
    np.dtype(np.bool_): U8, np.dtype(np.int8): I8, np.dtype(np.uint8): U8, np.dtype(np.int16): I16,
    np.dtype(np.uint16): U16, np.dtype(np.float16): F16, BFLOAT16: U16,
}  # fmt: skip


@dataclass(frozen=True)
class Types:
    """The representation on one kind of device.

    Attributes:
        half: whether it has 16-bit floats of its own.
        narrow: whether its memory has elements of 8 and 16 bits, as NumPy's arrays; else they take 32.
    """

    half: bool = False
    narrow: bool = False

    def holds(self, dtype: np.dtype) -> bool:
        """Whether there is a representation at all (there is none of 64-bit and complex numbers)."""
        return dtype in _REGISTERS

    def register(self, dtype: np.dtype) -> str:
        """The type of a value in a register."""
        return F16 if self.half and dtype == np.float16 else _REGISTERS[dtype]

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
        return np.dtype({F32: np.float32, F16: np.float16, I32: np.int32, U32: np.uint32}[self.storage(dtype)])

    # ------------------------------------------------------------------ code
    def constant(self, b: Builder, value: Any, dtype: np.dtype) -> Value:
        """A constant of a dtype."""
        register = self.register(dtype)
        if register in (F32, F16):
            value = float(value)
            if dtype == BFLOAT16 and math.isfinite(value):
                value = float(BFLOAT16.type(value))
            with np.errstate(over="ignore"):
                return b.constant(float(np.dtype(np.float32 if dtype == BFLOAT16 else dtype).type(value)), register)
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
            if value.dtype in (F32, F16):
                value = magnitude_bits(b, value)  # a comparison of numbers may be false for NaN
            return b.op("ne", value, b.constant(0, value.dtype), dtype=BOOL)
        if value.dtype == BOOL:
            one, zero = (self.constant(b, n, target) for n in (1, 0))
            return b.select(value, one, zero)
        if value.dtype in (F32, F16) and register in (I32, U32):
            return self._float_to_integer(b, value, target)
        if register == F16 and value.dtype != F32:
            value = b.op("convert", value, dtype=F32)  # integers may be larger than any 16-bit float
        if value.dtype != register:
            value = b.op("convert", value, dtype=register)
        return self.rounded(b, value, target)

    def _float_to_integer(self, b: Builder, value: Value, target: np.dtype) -> Value:
        """Towards zero, and kept in range; NaN becomes 0."""
        bounds = np.iinfo(target)
        value = value if value.dtype == F32 else b.op("convert", value, dtype=F32)
        # the largest float that is not above the bound
        nearest = np.float32(bounds.max)
        top = float(nearest if float(nearest) <= bounds.max else np.nextafter(nearest, np.float32(0)))
        value_in = b.op("max", b.op("min", value, b.constant(top, F32)), b.constant(float(bounds.min), F32))
        result = b.op("convert", value_in, dtype=self.register(target))
        if top != bounds.max:
            above = b.op("gt", value, b.constant(top, F32), dtype=BOOL)
            result = b.select(above, self.constant(b, bounds.max, target), result)
        return b.select(is_nan(b, value), self.constant(b, 0, target), result)

    def rounded(self, b: Builder, value: Value, dtype: np.dtype) -> Value:
        """A register's value, as the dtype that it stands for would have it: rounded, or wrapped around."""
        if dtype == np.float16 and value.dtype == F32:
            return round_float16(b, value)
        if dtype == BFLOAT16:
            return round_bfloat16(b, value)
        if dtype.kind in "iu" and dtype.itemsize < 4:
            bits = 8 * dtype.itemsize
            if dtype.kind == "u":
                return b.op("and", value, b.constant((1 << bits) - 1, U32))
            shift = b.constant(32 - bits, U32)
            return b.op("shift_right", b.op("shift_left", value, shift), shift)
        return value


def bits_of(b: Builder, value: Value) -> Value:
    """The bits of a 32-bit float."""
    return b.op("bitcast", value, dtype=U32)


def magnitude_bits(b: Builder, value: Value) -> Value:
    """The bits of a float's magnitude, as a 32-bit one."""
    if value.dtype == F16:
        value = b.op("convert", value, dtype=F32)
    return b.op("and", bits_of(b, value), b.constant(0x7FFFFFFF, U32))


def is_nan(b: Builder, value: Value) -> Value:
    """Whether a float is NaN: by its bits, since compilers may take comparisons to know that there are none."""
    if value.op == "constant":
        return b.constant(math.isnan(value.attr), BOOL)
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


def round_bfloat16(b: Builder, value: Value) -> Value:
    """The nearest number that has 8 significant bits, ties to even."""
    bits = bits_of(b, value)
    odd = b.op("and", b.op("shift_right", bits, b.constant(16, U32)), b.constant(1, U32))
    nearest = b.op("add", bits, b.op("add", odd, b.constant(0x7FFF, U32)))
    kept = b.op("and", nearest, b.constant(0xFFFF0000, U32))
    quiet = b.op("and", b.op("or", bits, b.constant(0x00400000, U32)), b.constant(0xFFFF0000, U32))
    return b.op("bitcast", b.select(is_nan(b, value), quiet, kept), dtype=F32)
