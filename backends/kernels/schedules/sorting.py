"""sort and top_k: what their keys are, and where their results go.

Several keys are sorted by one after the other, the last key first, which is right because each sort keeps the order of
equal keys; keys of 64 bits count as two. For top_k only the first k of each block live on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from asgfn.graph.asg import Asg
from asgfn.graph.types import ArrayType
from asgfn.records import record
from backends.kernels import index as ix
from backends.kernels.index import Index
from backends.kernels.ir import BOOL, F16, F32, F64, I32, I64, U32, U64, Builder, Value
from backends.kernels.lowering import Argument, Plan, plan_for_primitive
from backends.kernels.schedules.lines import Lines
from backends.kernels.schedules.sorter import LARGEST, Reader, Sorter, Source, Write
from backends.kernels.schedules.stages import Stages, bounded
from backends.kernels.target import Target
from backends.kernels.types import is_nan


# ---------------------------------------------------------------------------------------------- keys
def sort_key(b: Builder, value: Value) -> Value:
    """A number's place in the order of `sort`: NaN is largest, zeros of both signs are equal."""
    if value.dtype in (F32, F16):
        value = b.op("convert", value, dtype=F32) if value.dtype == F16 else value
        bits = b.op("bitcast", value, dtype=U32)
        is_zero = b.op("eq", b.op("and", bits, b.constant(0x7FFFFFFF, U32)), b.constant(0, U32), dtype=BOOL)
        ordered = _ordered_bits(b, b.select(is_zero, b.constant(0, U32), bits))
        return b.select(is_nan(b, value), b.constant(LARGEST, U32), ordered)
    return _ordered_integer(b, value)


def _high_word(b: Builder, value: Value) -> Value:
    """The first half of `sort_key`, of a 64-bit number."""
    return b.op("convert", b.op("shift_right", _wide_key(b, value), b.constant(32, U64)), dtype=U32)


def _low_word(b: Builder, value: Value) -> Value:
    """The second half."""
    return b.op("convert", _wide_key(b, value), dtype=U32)


def _wide_key(b: Builder, value: Value) -> Value:
    sign = b.constant(1 << 63, U64)
    if value.dtype == U64:
        return value
    if value.dtype == I64:
        return b.op("xor", b.op("bitcast", value, dtype=U64), sign)
    is_zero = b.op("eq", value, b.constant(0.0, F64), dtype=BOOL)
    bits = b.select(is_zero, b.constant(0, U64), b.op("bitcast", value, dtype=U64))
    negative = b.op("ge", bits, sign, dtype=BOOL)
    ordered = b.select(negative, b.op("not", bits), b.op("or", bits, sign))
    return b.select(is_nan(b, value), b.constant((1 << 64) - 1, U64), ordered)


def top_key(b: Builder, value: Value) -> Value:
    """A number's place in the order of `top_k`: inf before numbers, 0.0 before -0.0, NaN first or, if negative, last."""
    if value.dtype in (F32, F16):
        value = b.op("convert", value, dtype=F32) if value.dtype == F16 else value
        return b.op("not", _ordered_bits(b, b.op("bitcast", value, dtype=U32)))
    return b.op("not", _ordered_integer(b, value))


def _ordered_bits(b: Builder, bits: Value) -> Value:
    """A float's bits, as integers that are in the order of the numbers."""
    sign = b.constant(0x80000000, U32)
    negative = b.op("ge", bits, sign, dtype=BOOL)
    return b.select(negative, b.op("not", bits), b.op("or", bits, sign))


def _ordered_integer(b: Builder, value: Value) -> Value:
    if value.dtype == BOOL:
        return b.select(value, b.constant(1, U32), b.constant(0, U32))
    if value.dtype == U32:
        return value
    return b.op("xor", b.op("bitcast", value, dtype=U32), b.constant(0x80000000, U32))


@record
class Numbers:
    """An input of the plan as what is sorted.

    Attributes:
        input: its number.
        type, lines: of the input.
        to_key: what makes an u32 of a number.
        order: for each line the places of its elements in the order in which they are taken; None: as they are.
    """

    input: int
    type: ArrayType
    lines: Lines
    to_key: Callable[[Builder, Value], Value]
    order: Argument | None = None

    @property
    def count(self) -> int:
        """Elements of a line."""
        return self.lines.length

    def open(self, stages: Stages, b: Builder) -> Reader:
        types, n = stages.target.types, self.lines.length
        memory = stages.bind(
            b, Argument("input", self.input), f"input{self.input}", types.storage(self.type.dtype), self.type.size
        )
        order = None if self.order is None else stages.bind(b, self.order, "order")

        def place(line: Index, i: Index) -> Value:
            return b.index(i) if order is None else b.load(order, b.index(line * n + i))

        def key(line: Index, i: Index) -> Value:
            if order is not None:
                i = ix.computed(place(line, i), 0, n - 1)
            element = b.load(memory, b.index(self.lines.place(line, i)))
            return self.to_key(b, types.from_memory(b, element, self.type.dtype))

        return Reader(key, place)


# ---------------------------------------------------------------------------------------------- plans
@plan_for_primitive("sort")
def plan_sort(asg: Asg, target: Target) -> Plan | None:
    """A permutation of each line, and the operands in its order."""
    (node,) = asg.nodes
    if not all(target.types.holds(t.dtype) for t in asg.inputs):
        return None
    t = asg.inputs[0]
    if t.size == 0:
        return Plan(())
    lines = Lines(t.shape, node.params["dimension"])
    stages = Stages(target)
    sorter = Sorter(stages, lines.count)
    keys = []
    for k in range(node.params["num_keys"]):
        words = (_high_word, _low_word) if asg.inputs[k].dtype.itemsize == 8 else (sort_key,)
        keys += [(k, word) for word in words]
    order: Argument | None = None
    for k, word in reversed(keys[1:]):
        order = sorter.sort(Numbers(k, asg.inputs[k], lines, word, order)).places
    _finish(sorter, Numbers(0, t, lines, keys[0][1], order), Reordered(asg.inputs, lines, lines.length))
    return stages.plan()


@plan_for_primitive("top_k")
def plan_top_k(asg: Asg, target: Target) -> Plan | None:
    """The first elements in descending order, and their places."""
    (node,) = asg.nodes
    (t,) = asg.inputs
    k = node.params["k"]
    if not target.types.holds(t.dtype) or t.dtype.itemsize == 8:
        return None
    if t.size == 0 or k == 0:
        return Plan(())
    lines = Lines(t.shape, node.params["axis"])
    stages = Stages(target)
    sorter = Sorter(stages, lines.count)
    candidates = sorter.least(Numbers(0, t, lines, top_key), k)
    _finish(sorter, candidates, Reordered(asg.inputs, lines, k, places=True))
    return stages.plan()


@record
class Reordered:
    """Results: the first `count` elements of each line of the operands in a new order.

    Attributes:
        places: whether where they were is a result, too.
    """

    operands: Sequence[ArrayType]
    lines: Lines
    count: int
    places: bool = False

    @property
    def memories(self) -> int:
        return 2 * len(self.operands) + self.places

    def writer(self, stages: Stages, b: Builder, numbers: Iterable[int]) -> Write:
        """Writes an element of some of the operands."""
        types, size = stages.target.types, self.lines.count * self.count
        pairs = []
        for k in numbers:
            dtype = types.storage(self.operands[k].dtype)
            x = stages.bind(b, Argument("input", k), f"input{k}", dtype, self.operands[k].size)
            pairs.append((x, stages.bind(b, Argument("output", k), f"output{k}", dtype, size)))
        chosen = stages.bind(b, Argument("output", len(self.operands)), "chosen", I32, size) if self.places else None

        def write(line: Index, i: Index, old: Index) -> None:
            with b.when(b.within(i, 0, self.count)):
                target = b.index(self.lines.place(line, bounded(b, i, self.count), self.count))
                for x, out in pairs:
                    b.store(out, target, b.load(x, b.index(self.lines.place(line, old))))
                if chosen is not None:
                    b.store(chosen, target, b.index(old))

        return write


def _finish(sorter: Sorter, source: Source, results: Reordered) -> None:
    """Sorts, and writes the results."""
    s, lines, k = sorter.stages, results.lines, results.count
    every = range(len(results.operands))
    if source.count <= sorter.block and results.memories + 2 <= s.target.buffers:
        sorter.sort_short(source, lambda b: results.writer(s, b, every))
        return
    pairs = sorter.sort(source)
    each = max(1, (s.target.buffers - 1 - results.places) // 2)
    for first in every[::each]:
        b = Builder()
        order = s.bind(b, pairs.places, "order")
        write = results.writer(s, b, every[first : first + each])
        with s.each(b, lines.count * k, "reorder") as flat:
            inner = lines.inner
            # threads go through the result in the order of memory
            line, i = flat.digit(k * inner) * inner + flat.digit(1, inner), flat.digit(inner, k)
            write(line, i, ix.computed(b.load(order, b.index(line * pairs.count + i)), 0, lines.length - 1))
