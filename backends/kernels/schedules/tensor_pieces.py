"""32-bit floats as sums of 16-bit ones, which is what tensor cores multiply.

A float is scaled by a power of 2, so that the largest one of its operand is below 2^15 and nothing overflows. What is left
of it in 16 bits has 11 significant bits, as NVIDIA's TF32; a second number of 16 bits has the next 11. Products of the
second parts are left out. Elements that are 2^29 times smaller than the largest one begin to lose bits.

Where an element is not finite there is no such scale: then whoever multiplies must do it another way.

Source of the split: Ootomo and Yokota, "Recovering single precision accuracy from Tensor Cores while surpassing the FP32
theoretical peak performance", 2022.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from backends.kernels.ir import F16, F32, I32, U32, Builder, Value
from backends.kernels.schedules.contraction_region import Region
from backends.kernels.target import Target
from backends.kernels.types import BFLOAT16

FLOAT16, FLOAT32 = np.dtype(np.float16), np.dtype(np.float32)
NOT_FINITE = 0x7F800000  # the bits of infinity; those of NaN are above
TOP = 14  # the largest element becomes at least 2^TOP, and less than twice that
# half of what the mantissa of a 16-bit float does not hold of that of a 32-bit one, and all of it
_HALF, _KEPT = 0x1000, 0xFFFFE000


class Pieces(NamedTuple):
    """How the operands of a product are given to tensor cores.

    Attributes:
        rows, columns: how many 16-bit floats an element of each operand is the sum of.
        scaled: whether they are scaled. If not, they are 16-bit floats.
    """

    rows: int
    columns: int
    scaled: bool

    @property
    def products(self) -> int:
        """How many products of matrices there are."""
        return self.rows + self.columns - 1

    @property
    def counts(self) -> tuple[int, int]:
        return self.rows, self.columns


def pieces_of(region: Region, target: Target) -> Pieces | None:
    """The pieces that the precision of a contraction asks for; None if it is not for tensor cores."""
    if target.matrix(F16, F32) is None or not target.types.half:
        return None
    p = region.product
    dtypes = [region.value_types[side.value].dtype for side in (p.rows, p.columns)]
    floats = (FLOAT16, BFLOAT16, FLOAT32)
    if any(dtype not in floats for dtype in (*dtypes, p.dtype)):
        return None
    if all(dtype == FLOAT16 for dtype in dtypes):
        return Pieces(1, 1, scaled=False)
    precision = region.node.params.get("precision") or ("default", "default")
    if FLOAT32 in dtypes and "highest" in precision:
        return None
    # if the operands were exchanged, so are these
    named = dict(zip(region.node.inputs, precision, strict=True))
    if len(named) == 1 and "high" in precision:
        named = dict.fromkeys(named, "high")
    rows, columns = (
        2 if dtype == FLOAT32 and named[side.value] == "high" else 1
        for side, dtype in zip((p.rows, p.columns), dtypes, strict=True)
    )
    return Pieces(rows, columns, scaled=True)


# ---------------------------------------------------------------------------------------------- code
def exponent(b: Builder, largest: Value) -> Value:
    """The exponent (i32) of the scale for an operand whose largest magnitude has these bits."""
    biased = b.op("convert", b.op("shift_right", largest, b.constant(23, U32)), dtype=I32)
    # zeros and subnormal numbers alone get the largest scale that there is
    return b.op("min", b.op("sub", b.constant(127 + TOP, I32), biased), b.constant(126, I32))


def power(b: Builder, exponent: Value) -> Value:
    """2^exponent, of an exponent from -126 to 127."""
    biased = b.op("convert", b.op("add", exponent, b.constant(127, I32)), dtype=U32)
    return b.op("bitcast", b.op("shift_left", biased, b.constant(23, U32)), dtype=F32)


def unscales(b: Builder, exponents: tuple[Value, Value]) -> tuple[Value, Value]:
    """Two factors that undo both scales: their product may be out of range where a result is not."""
    total = b.op("sub", b.op("sub", b.constant(0, I32), exponents[0]), exponents[1])
    first = b.op("shift_right", total, b.constant(1, U32))
    return power(b, first), power(b, b.op("sub", total, first))


def split(b: Builder, element: Value, count: int) -> list[Value]:
    """16-bit floats whose sum is a scaled 32-bit one, nearly."""
    if count == 1:
        return [b.op("convert", element, dtype=F16)]
    # by its bits: a driver may take a conversion there and back for nothing
    bits = b.op("add", b.op("bitcast", element, dtype=U32), b.constant(_HALF, U32))
    high = b.op("bitcast", b.op("and", bits, b.constant(_KEPT, U32)), dtype=F32)
    low = b.op("sub", element, high)
    return [b.op("convert", part, dtype=F16) for part in (high, low)]
