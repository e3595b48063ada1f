"""Runs the body of a kernel in NumPy, for many threads at once: what tests of register code need, and no more.

Devices may round `fma` once or twice and flush tiny numbers; a software adapter does one of each. Here both can be had.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from backends.kernels.ir import Assign, If, Let, Loop, Value, Variable

_DTYPES = {"f32": np.float32, "f16": np.float16, "i32": np.int32, "u32": np.uint32, "bool": np.bool_}


def run_body(
    body: Sequence[Any], known: Mapping[Value, np.ndarray], results: Sequence[Value], fused: bool, flush: bool = False
) -> list:
    """The values of `results`, given those of `known` (arrays of one length)."""
    interpreter = _Interpreter(known, fused, flush)
    with np.errstate(all="ignore"):
        interpreter.block(body, np.ones(interpreter.size, bool))
        return [interpreter.get(v) for v in results]


class _Interpreter:
    def __init__(self, known: Mapping[Value, np.ndarray], fused: bool, flush: bool):
        self.values: dict[Value, np.ndarray] = dict(known)
        self.size = len(next(iter(known.values())))
        self.fused, self.flush = fused, flush
        self.variables: dict[str, np.ndarray] = {}

    def get(self, value: Value) -> np.ndarray:
        if value.op == "constant":
            return np.full(self.size, value.attr).astype(_DTYPES[value.dtype])
        return self.values[value]

    def block(self, statements: Sequence[Any], active: np.ndarray) -> None:
        for s in statements:
            if isinstance(s, Let):
                if s.value not in self.values or s.value.op == "read" or s.value.depth:
                    self.values[s.value] = self.compute(s.value)
            elif isinstance(s, Variable):
                self.variables[s.name] = self.get(s.start).copy()
            elif isinstance(s, Assign):
                current = self.variables[s.variable.name]
                self.variables[s.variable.name] = np.where(active, self.get(s.value), current)
            elif isinstance(s, If):
                condition = self.get(s.condition)
                self.block(s.body, active & condition)
                self.block(s.otherwise, active & ~condition)
            elif isinstance(s, Loop):
                self.loop(s, active)
            else:
                raise TypeError(f"the interpreter does not know the statement {s!r}")

    def loop(self, s: Loop, active: np.ndarray) -> None:
        place, stop, step = (self.get(v).copy() for v in (s.start, s.stop, s.step))
        index = (
            next(v for v in self.loop_values(s) if v.name == s.name) if any(True for _ in self.loop_values(s)) else None
        )
        while (running := active & (place < stop)).any():
            if index is not None:
                self.values[index] = place
            self.block(s.body, running)
            place = place + step

    def loop_values(self, s: Loop) -> Any:
        """The values that are the loop's index."""
        seen: set[Value] = set()

        def walk(value: Value) -> Any:
            if value in seen:
                return
            seen.add(value)
            if value.op == "loop" and value.name == s.name:
                yield value
            for a in value.args:
                yield from walk(a)

        def statements(block: Sequence[Any]) -> Any:
            for x in block:
                if isinstance(x, Let):
                    yield from walk(x.value)
                elif isinstance(x, Loop):
                    yield from statements(x.body)
                elif isinstance(x, If):
                    yield from statements(x.body)
                    yield from statements(x.otherwise)

        return statements(s.body)

    def compute(self, value: Value) -> np.ndarray:
        op, dtype = value.op, _DTYPES[value.dtype]
        if op == "read":
            return self.variables[value.attr.name].copy()
        args = [self.get(a) for a in value.args]
        made = self.operation(op, args, dtype)
        if made.dtype != dtype:
            raise TypeError(f"{op} makes {made.dtype}, but {value.dtype} is wanted")
        if self.flush and made.dtype == np.float32 and op != "bitcast":
            made = np.where(np.abs(made) < np.finfo(np.float32).tiny, np.copysign(np.float32(0), made), made)
        return made

    def operation(self, op: str, args: list, dtype: Any) -> np.ndarray:
        x = args[0]
        if op == "select":
            return np.where(x, args[1], args[2])
        if op == "convert":
            return x.astype(dtype)
        if op == "bitcast":
            return x.view(dtype)
        if op == "fma":
            if self.fused:
                return (x.astype(np.float64) * args[1].astype(np.float64) + args[2].astype(np.float64)).astype(dtype)
            return x * args[1] + args[2]
        if op == "rsqrt":
            return (1 / np.sqrt(x.astype(np.float64))).astype(dtype)
        if op == "count_leading_zeros":
            return np.array([32 - int(v).bit_length() for v in x], np.uint32)
        if op in ("shift_left", "shift_right"):
            by = (args[1] & 31).astype(x.dtype)
            return x << by if op == "shift_left" else x >> by
        if x.dtype.kind in "iu" and op in ("div", "rem"):
            quotient = np.trunc(x.astype(np.float64) / args[1]).astype(np.int64)
            return (quotient if op == "div" else x.astype(np.int64) - quotient * args[1]).astype(dtype)
        return _PLAIN[op](*args)


_PLAIN: dict[str, Callable] = {
    "add": np.add, "sub": np.subtract, "mul": np.multiply, "div": np.divide, "neg": np.negative, "abs": np.abs,
    "max": np.fmax, "min": np.fmin, "floor": np.floor, "ceil": np.ceil, "round": np.rint, "sqrt": np.sqrt,
    "eq": np.equal, "ne": np.not_equal, "lt": np.less, "le": np.less_equal, "gt": np.greater, "ge": np.greater_equal,
    "and": np.bitwise_and, "or": np.bitwise_or, "xor": np.bitwise_xor, "not": np.invert,
    "count_ones": lambda x: np.bitwise_count(x).astype(np.uint32),
}  # fmt: skip
