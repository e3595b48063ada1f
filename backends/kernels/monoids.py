"""Associative combinations of many elements of one dtype: in which dtype, from which start, and how two become one."""

from __future__ import annotations

import math

import numpy as np

from asgfn.graph.types import ArrayType
from backends.kernels import scalar
from backends.kernels.elements import start_value
from backends.kernels.ir import BOOL, U32, Builder, Value
from backends.kernels.types import Types, is_nan

_REDUCTIONS = {"add": "reduce_sum", "mul": "reduce_prod", "max": "reduce_max", "min": "reduce_min"}
_INFINITY, _MINUS_INFINITY = 0x7F800000, 0xFF800000  # bits


class Monoid:
    """A combination.

    Attributes:
        name: "add", "mul", "max", "min", "logaddexp", or "last", which has no identity.
        dtype: of the elements.
        wide: the dtype of partial results: float32 for 16-bit floats.
    """

    def __init__(self, types: Types, name: str, dtype: np.dtype):
        self.types, self.name, self.dtype = types, name, dtype
        self.wide = np.dtype(np.float32) if dtype.itemsize == 2 and dtype.kind not in "iub" else dtype

    def widen(self, b: Builder, element: Value) -> Value:
        """An element as a partial result."""
        return self.types.convert(b, element, self.dtype, self.wide)

    def narrow(self, b: Builder, total: Value) -> Value:
        """A partial result as an element."""
        return self.types.convert(b, total, self.wide, self.dtype)

    def identity(self, b: Builder) -> Value:
        """What changes nothing."""
        if self.name == "logaddexp":
            value = float("-inf")
        elif self.name == "add" and self.wide.kind == "f":
            value = -0.0  # 0.0 would change -0.0
        else:
            value = start_value(_REDUCTIONS[self.name], self.wide)
        return self.types.constant(b, value, self.wide)

    def combine(self, b: Builder, x: Value, y: Value) -> Value:
        """Two partial results together."""
        if self.name == "last":
            return y
        return self._logaddexp(b, x, y) if self.name == "logaddexp" else self._apply(b, self.name, x, y)

    def _apply(self, b: Builder, primitive: str, *operands: Value) -> Value:
        t = ArrayType((), self.wide)
        made = scalar.apply(b, self.types, primitive, list(operands), [t] * len(operands), [t], {})
        assert isinstance(made, Value)
        return made

    def _logaddexp(self, b: Builder, x: Value, y: Value) -> Value:
        """log(e^x + e^y), the larger one factored out; it alone is the result where that would be inf - inf."""
        high, low = b.op("max", x, y), b.op("min", x, y)
        ratio = self._apply(b, "exp", b.op("sub", low, high))
        total = b.op("add", high, self._apply(b, "log1p", ratio))
        if self.types.exact:
            for number, infinity in ((high, math.inf), (low, -math.inf)):
                total = b.select(b.op("eq", number, b.constant(infinity, x.dtype), dtype=BOOL), high, total)
            return total  # NaN by itself
        for number, bits in ((high, _INFINITY), (low, _MINUS_INFINITY)):
            alone = b.op("eq", b.op("bitcast", number, dtype=U32), b.constant(bits, U32), dtype=BOOL)
            total = b.select(alone, high, total)
        return b.select(is_nan(b, x), x, b.select(is_nan(b, y), y, total))
