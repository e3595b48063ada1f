"""Computes the values of a kernel in NumPy, as a processor does that computes as IEEE 754 says.

What it is for is the register code of element-wise primitives: `Evaluation` gives the inputs to a builder as arrays, and
whatever was made of them back as arrays. There are no loops and no masks: both sides of a branch are computed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import scipy.special

from backends.kernels.ir import Assign, Builder, If, Let, Loop, Value, Variable

DTYPES: dict[str, Any] = {
    "f64": np.float64, "f32": np.float32, "f16": np.float16, "i64": np.int64, "u64": np.uint64, "i32": np.int32,
    "u32": np.uint32, "i16": np.int16, "u16": np.uint16, "i8": np.int8, "u8": np.uint8, "bool": np.bool_,
}  # fmt: skip
_LIBRARY: dict[str, Callable] = {
    "exp": np.exp, "exp2": np.exp2, "expm1": np.expm1, "log": np.log, "log1p": np.log1p, "cbrt": np.cbrt, "sin": np.sin,
    "cos": np.cos, "tan": np.tan, "asin": np.arcsin, "acos": np.arccos, "atan": np.arctan, "atan2": np.arctan2,
    "sinh": np.sinh, "cosh": np.cosh, "tanh": np.tanh, "asinh": np.arcsinh, "acosh": np.arccosh, "atanh": np.arctanh,
    "erf": scipy.special.erf, "erfc": scipy.special.erfc, "lgamma": lambda x: np.where(x == -np.inf, np.inf, scipy.special.gammaln(x)), "pow": np.power,
    "fmod": np.fmod,
}  # fmt: skip
_PLAIN: dict[str, Callable] = {
    "add": np.add, "sub": np.subtract, "mul": np.multiply, "neg": np.negative, "abs": np.abs, "max": np.maximum,
    "min": np.minimum, "floor": np.floor, "ceil": np.ceil, "round": np.rint, "trunc": np.trunc, "sqrt": np.sqrt,
    "eq": np.equal, "ne": np.not_equal, "lt": np.less, "le": np.less_equal, "gt": np.greater, "ge": np.greater_equal,
    "and": np.bitwise_and, "or": np.bitwise_or, "xor": np.bitwise_xor, "not": np.invert, "select": np.where,
    "rsqrt": lambda x: (1 / np.sqrt(x)).astype(x.dtype), "count_ones": lambda x: np.bitwise_count(x).astype(x.dtype),
}  # fmt: skip


class Evaluation:
    """The values that a builder made, as arrays.

    Attributes:
        builder: makes them.
        operations: how many operations of numbers were written.
    """

    def __init__(self) -> None:
        self.builder = Builder()
        self.known: dict[Value, np.ndarray] = {}
        self.variables: dict[Variable, np.ndarray] = {}
        self.size = 1

    def input(self, array: np.ndarray, dtype: str) -> Value:
        """An array as a value: an element of it, in each thread."""
        value = Value("input", (), dtype, len(self.known), 0, f"input{len(self.known)}")
        self.known[value] = array.astype(DTYPES[dtype], copy=False)
        self.size = array.size
        return value

    @property
    def operations(self) -> int:
        return sum(isinstance(s, Let) and s.value.op not in ("read", "bitcast") for s in self.builder.body)

    def results(self, values: Sequence[Value]) -> list[np.ndarray]:
        """The arrays of some values."""
        with np.errstate(all="ignore"):
            self._run(self.builder.body, np.ones(self.size, bool))
            return [self._get(v) for v in values]

    def _get(self, value: Value) -> np.ndarray:
        if value.op == "constant":
            return np.full(self.size, value.attr, DTYPES[value.dtype])
        return self.known[value]

    def _run(self, block: Sequence[Any], active: np.ndarray) -> None:
        for s in block:
            if isinstance(s, Let):
                self.known[s.value] = self._compute(s.value)
            elif isinstance(s, Variable):
                self.variables[s] = self._get(s.start)
            elif isinstance(s, Assign):
                self.variables[s.variable] = np.where(active, self._get(s.value), self.variables[s.variable])
            elif isinstance(s, If):
                condition = self._get(s.condition)
                self._run(s.body, active & condition)
                self._run(s.otherwise, active & ~condition)
            elif isinstance(s, Loop):
                self._loop(s, active)
            else:
                raise TypeError(f"there is no such statement in register code: {s!r}")

    def _loop(self, s: Loop, active: np.ndarray) -> None:
        place, stop, step = (self._get(v) for v in (s.start, s.stop, s.step))
        number = next((v for v in _values(s.body) if v.op == "loop" and v.attr is s), None)
        while (running := active & (place < stop)).any():
            if number is not None:
                self.known[number] = place
            self._run(s.body, running)
            place = place + step

    def _compute(self, value: Value) -> np.ndarray:
        if value.op == "read":
            return self.variables[value.attr]
        made = _operation(value.op, value.attr, [self._get(a) for a in value.args], DTYPES[value.dtype])
        if made.dtype != DTYPES[value.dtype]:
            raise TypeError(f"{value.op} makes {made.dtype}, but {value.dtype} is wanted")
        return made


def _values(block: Sequence[Any]) -> list[Value]:
    """All values that the statements of a block need."""
    found: dict[Value, None] = {}
    waiting: list[Any] = list(block)
    while waiting:
        x = waiting.pop()
        if isinstance(x, Value):
            if x not in found:
                found[x] = None
                waiting += x.args
        elif isinstance(x, (Let, Assign)):
            waiting.append(x.value)
        elif isinstance(x, If):
            waiting += [x.condition, *x.body, *x.otherwise]
        elif isinstance(x, Loop):
            waiting += x.body
    return list(found)


def _operation(op: str, attr: Any, args: list[np.ndarray], dtype: Any) -> np.ndarray:
    x = args[0]
    kinds = {np.dtype(f"u{a.itemsize}") if op.startswith("shift") else a.dtype for a in args[op == "select" :]}
    if len(kinds) > 1:
        raise TypeError(f"{op} of {[a.dtype.name for a in args]}")
    if op == "convert":
        return x.astype(dtype)
    if op == "bitcast":
        return np.ascontiguousarray(x).view(dtype)
    if op == "call":
        return _LIBRARY[attr](*args)
    if op == "fma":
        return _fma(*args)
    if op == "count_leading_zeros":
        bits = 8 * x.itemsize
        return np.array([bits - int(v).bit_length() for v in x], dtype)
    if op in ("shift_left", "shift_right"):
        bits = 8 * x.itemsize
        inside = args[1] < bits  # elsewhere it may be anything
        by = np.where(inside, args[1], 0).astype(x.dtype)
        return np.where(inside, x << by if op == "shift_left" else x >> by, 77).astype(x.dtype)
    if op in ("div", "rem"):
        if x.dtype.kind == "f":
            return x / args[1]
        by = np.where(args[1] == 0, 1, args[1])
        rest = np.fmod(x, by)
        return rest if op == "rem" else (x - rest) // by
    return _PLAIN[op](*args)


def _fma(x: np.ndarray, y: np.ndarray, z: np.ndarray) -> np.ndarray:
    """x * y + z, rounded once, or nearly: sums are of more digits, not of all."""
    if x.dtype != np.float64:
        return (x.astype(np.float64) * y.astype(np.float64) + z.astype(np.float64)).astype(x.dtype)
    product = x * y
    (a, b), (c, d) = _halves(x), _halves(y)
    rest = ((a * c - product) + a * d + b * c) + b * d
    total = (product.astype(np.longdouble) + z + rest).astype(np.float64)
    return np.where(np.isfinite(total), total, product + z)


def _halves(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A number as a sum of two of half as many digits (T. J. Dekker, 1971)."""
    scaled = x * (2.0**27 + 1)
    high = scaled - (scaled - x)
    return high, x - high
