"""Reductions whose elements come in any order, from many threads: what a partial result is, and how two become one."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TypeVar

import ml_dtypes
import numpy as np

from asgfn.graph.asg import Node
from backends.kernels import scalar
from backends.kernels.elements import COMBINERS, Elements, start_value
from backends.kernels.index import Index
from backends.kernels.ir import BOOL, F16, F32, I32, U32, Builder, Value

T = TypeVar("T")
State = tuple[Value, ...]  # a partial result

_SMALL_FLOATS = (np.dtype(np.float16), np.dtype(ml_dtypes.bfloat16))
# of arg reductions: the reduction whose identity is where they start
_EXTREMUM = {"argmax": "reduce_max", "argmin": "reduce_min"}


class Accumulator:
    """One reduction of a region.

    Partial results of 16-bit floats are 32-bit ones. Those of argmax and argmin are the best element and its place;
    of equal ones the first wins, whichever order they come in.
    """

    def __init__(self, e: Elements, node: Node):
        self.e, self.node = e, node
        self.name = node.primitive.name
        self.operand = e.type(node.inputs[0])
        self.result = node.out_types[0].dtype
        small = self.operand.dtype in _SMALL_FLOATS
        self.dtype = np.dtype(np.float32) if small else self.operand.dtype
        self.is_arg = self.name in _EXTREMUM

    @property
    def may_repeat(self) -> bool:
        """Whether an element that comes twice changes nothing."""
        return self.name not in ("reduce_sum", "reduce_prod", "reduce_xor")

    @property
    def registers(self) -> tuple[str, ...]:
        """The types of a partial result."""
        register = self.e.types.register(self.dtype)
        return (register, I32) if self.is_arg else (register,)

    def start(self) -> State:
        """The partial result of no elements."""
        b = self.e.builder
        identity = self.e.types.constant(b, start_value(_EXTREMUM.get(self.name, self.name), self.dtype), self.dtype)
        if not self.is_arg:
            return (identity,)
        # a place behind all others: any element is preferred to none
        return identity, b.constant(self.operand.shape[self.node.params["axes"][0]], I32)

    def lift(self, element: Value, coordinates: tuple[Index, ...]) -> State:
        """The partial result that is one element, at these coordinates of the operand."""
        e = self.e
        value = e.types.convert(e.builder, element, self.operand.dtype, self.dtype)
        if not self.is_arg:
            return (value,)
        return value, e.builder.index(coordinates[self.node.params["axes"][0]])

    def merge(self, x: State, y: State) -> State:
        """The partial result of all elements of two."""
        b = self.e.builder
        if not self.is_arg:
            return (self.e.combine(COMBINERS[self.name], x[0], y[0], self.dtype),)
        (best, place), (other, other_place) = x, y
        better = scalar.goes_before(b, self.e.types, self.name, other, best)
        worse = scalar.goes_before(b, self.e.types, self.name, best, other)
        first = b.op("lt", other_place, place, dtype=BOOL)
        # "not worse" and first: equal, and nearer to the start
        wins = b.op("or", better, b.op("and", b.op("not", worse), first))
        return b.select(wins, other, best), b.select(wins, other_place, place)

    def merge_all(self, states: list[State]) -> State:
        """The partial result of all elements of some: in pairs, so that rounding errors stay small."""
        extreme = self.name in ("reduce_max", "reduce_min") and states[0][0].dtype == F32
        if len(states) > 2 and extreme and not self.e.types.exact:
            return self._extreme([x for (x,) in states])
        return _in_pairs(states, self.merge)

    def _extreme(self, values: list[Value]) -> State:
        """The largest (or smallest) of some floats; NaN if one is, which is looked for in all of them at once."""
        b = self.e.builder
        op = COMBINERS[self.name]
        best = _in_pairs(values, lambda x, y: b.op(op, x, y))
        sign = b.constant(0x7FFFFFFF, U32)
        magnitudes = [b.op("and", b.op("bitcast", x, dtype=U32), sign) for x in values]
        largest = _in_pairs(magnitudes, lambda x, y: b.op("max", x, y))
        is_nan = b.op("gt", largest, b.constant(0x7F800000, U32), dtype=BOOL)
        return (b.select(is_nan, b.constant(math.nan, F32), best),)

    def only(self, condition: Value | None, state: State) -> State:
        """A partial result if the condition holds, else that of no elements."""
        if condition is None:
            return state
        b = self.e.builder
        return tuple(b.select(condition, x, nothing) for x, nothing in zip(state, self.start(), strict=True))

    def finish(self, state: State) -> Value:
        """The result."""
        e = self.e
        if self.is_arg:
            return e.types.from_integer(e.builder, state[1], self.result)
        return e.types.convert(e.builder, state[0], self.dtype, self.result)


def _in_pairs(items: list[T], merge: Callable[[T, T], T]) -> T:
    while len(items) > 1:
        pairs = [merge(items[k], items[k + 1]) for k in range(0, len(items) - 1, 2)]
        items = pairs + items[len(pairs) * 2 :]
    return items[0]


def exchanged(register: str) -> str:
    """The type in which a register's values are passed between threads."""
    return {BOOL: U32, F16: F32}.get(register, register)


def to_exchange(b: Builder, value: Value) -> Value:
    """A register's value, as it is passed between threads."""
    if value.dtype == BOOL:
        return b.select(value, b.constant(1, U32), b.constant(0, U32))
    return b.op("convert", value, dtype=F32) if value.dtype == F16 else value


def from_exchange(b: Builder, value: Value, register: str) -> Value:
    """A register's value that was passed between threads."""
    if register == BOOL:
        return b.op("ne", value, b.constant(0, U32), dtype=BOOL)
    return b.op("convert", value, dtype=F16) if register == F16 else value
