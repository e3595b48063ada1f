"""What the values of a kernel are while it is printed: the same number in all lanes, a row of numbers, or anything.

The lanes of a vector are the threads of a workgroup. Most indices are alike in all of them, or count with the lane; that
is kept track of, so that neighbours are loaded at once and no lane computes what another one has computed.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Sequence
from typing import Any

from asgfn.records import record
from backends.kernels.ir import BOOL

FLOATS = ("f16", "f32", "f64")
SIGNED = ("i8", "i16", "i32", "i64")
BITS = {"bool": 1, "u8": 8, "i8": 8, "u16": 16, "i16": 16, "f16": 16, "u32": 32, "i32": 32, "f32": 32,
        "u64": 64, "i64": 64, "f64": 64}  # fmt: skip
_NAMES = {dtype: f"i{bits}" for dtype, bits in BITS.items()} | {"f16": "half", "f32": "float", "f64": "double"}


def llvm_type(dtype: str) -> str:
    """LLVM's name of an element's type."""
    return _NAMES[dtype]


@record
class Scalar:
    """The same in all lanes.

    Attributes:
        text: the name of the value, or a literal.
        multiple: a number that certainly divides it (0 divides only 0).
        number: the value itself, where it is known.
        below: for an integer that certainly is not negative, a number that it certainly does not reach.
    """

    text: str
    dtype: str
    multiple: int = 1
    number: Any = None
    below: int | None = None


class Sum(Scalar):
    """A number and a known one, whose sum certainly does not overflow. It is written out where its text is asked for:
    addresses have room for the known one.

    Attributes:
        base: the number.
        added: the known one.
    """

    base: Scalar
    added: int
    _written: Callable[[], str]

    def __init__(self, base: Scalar, added: Scalar, multiple: int, below: int | None, written: Callable[[], str]):
        vars(self).update(base=base, added=added.number, _written=written)
        vars(self).update(dtype=base.dtype, multiple=multiple, number=None, below=below)

    @property
    def text(self) -> str:
        return self._written()


@record
class Affine:
    """base + lane * stride, an integer."""

    base: Scalar
    stride: int

    @property
    def dtype(self) -> str:
        return self.base.dtype


@record
class Known:
    """Numbers that are known, one a lane."""

    numbers: tuple[int, ...]
    dtype: str


@record
class Vector:
    """Any numbers, one a lane; `below` as of a scalar, for the lanes that are meant."""

    text: str
    dtype: str
    below: int | None = None


@record
class Four:
    """A vector of the IR: four values."""

    parts: tuple[Any, ...]


Operand = Scalar | Affine | Known | Vector
Anything = Operand | Four


def constant(number: Any, dtype: str) -> Scalar:
    """A number that is known."""
    multiple = abs(int(number)) if dtype not in FLOATS and dtype != BOOL else 1
    return Scalar(literal(number, dtype), dtype, multiple, number)


def from_numbers(numbers: Sequence[int], dtype: str) -> Operand:
    """The simplest operand with these numbers in its lanes."""
    first = numbers[0]
    if all(n == first for n in numbers):
        return constant(first, dtype)
    stride = numbers[1] - first
    if dtype != BOOL and all(n == first + k * stride for k, n in enumerate(numbers)):
        return Affine(constant(first, dtype), stride)
    return Known(tuple(numbers), dtype)


def numbers_of(operand: Operand, lanes: int) -> list[int] | None:
    """The numbers of all lanes; None if they are not known."""
    if isinstance(operand, Known):
        return list(operand.numbers)
    if isinstance(operand, Scalar):
        return None if operand.number is None else [operand.number] * lanes
    if isinstance(operand, Affine) and operand.base.number is not None:
        return [operand.base.number + k * operand.stride for k in range(lanes)]
    return None


def limit(operand: Operand, lanes: int) -> int | None:
    """What the integers of all lanes that are meant do not reach, if they certainly are not negative."""
    numbers = numbers_of(operand, lanes)
    if numbers is not None:
        return max(numbers) + 1 if min(numbers) >= 0 else None
    if isinstance(operand, Affine):
        first = limit(operand.base, lanes)
        return None if first is None or operand.stride < 0 else first + operand.stride * (lanes - 1)
    assert not isinstance(operand, Known)
    return operand.below


def literal(number: Any, dtype: str) -> str:
    """A constant in LLVM's text."""
    if dtype == BOOL:
        return "true" if number else "false"
    if dtype not in FLOATS:
        bits = BITS[dtype]
        wrapped = int(number) & ((1 << bits) - 1)
        return str(wrapped - (1 << bits) if wrapped >> (bits - 1) else wrapped)
    if dtype == "f16":
        return f"0xH{struct.unpack('<H', struct.pack('<e', number))[0]:04X}"
    # a float is written as the double that it is
    if dtype == "f32" and not math.isnan(number):
        number = _single(number)
    if math.isnan(number):
        return "0x7FF8000000000000"
    return f"0x{struct.unpack('<Q', struct.pack('<d', number))[0]:016X}"


def _single(number: float) -> float:
    try:
        return struct.unpack("<f", struct.pack("<f", number))[0]
    except OverflowError:
        return math.copysign(math.inf, number)


def wrapped(number: int, dtype: str) -> int:
    """An integer as a register of this type has it."""
    bits = BITS[dtype]
    number &= (1 << bits) - 1
    return number - (1 << bits) if dtype in SIGNED and number >> (bits - 1) else number
