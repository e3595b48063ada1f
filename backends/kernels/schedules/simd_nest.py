"""Loops of a processor with vectors: the innermost one runs over neighbours, a vector at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from backends.kernels import index as ix
from backends.kernels.elements import Elements
from backends.kernels.index import Digit, Index
from backends.kernels.ir import I32, U32, Builder, Memory, Value
from backends.kernels.loops import RegionLoops
from backends.kernels.schedules.assembly import store_elements
from backends.kernels.schedules.rows_order import Order, places_of
from backends.kernels.target import Target

Piece = tuple[Value, Value]  # first and stop
BLOCK = 4096  # elements of a workgroup: enough to be worth a start, few enough to stay in the first cache


@contextmanager
def runs(b: Builder, target: Target, whole: int, length: int, piece: Piece, is_whole: bool) -> Iterator[Index]:
    """Goes through a piece of an axis, whose parts of that length are runs: a vector of neighbours in one at a time.

    Arguments:
        is_whole: whether the piece is some whole runs.
    """
    run, inner = ix.axis("run", whole // length), ix.axis("inner", length)
    (first, stop), lane = piece, b.builtin("thread")
    if whole == length:
        end = b.constant(length, I32) if is_whole else stop
        with b.loop(inner, start=lane if is_whole else b.op("add", first, lane), stop=end, step=target.simd):
            yield inner
        return
    last = stop if is_whole else b.op("add", stop, b.constant(length - 1, I32))
    with b.loop(run, start=over(b, first, length), stop=over(b, last, length)):
        start, end = lane, b.constant(length, I32)
        if not is_whole:
            before = b.index(run * length)
            start = b.op("add", b.op("max", b.op("sub", first, before), b.constant(0, I32)), lane)
            end = b.op("min", b.op("sub", stop, before), end)
        with b.loop(inner, start=start, stop=end, step=target.simd):
            yield run * length + inner


def over(b: Builder, number: Value, length: int) -> Value:
    """A number, which is not negative, divided by a length."""
    if length == 1:
        return number
    found = b.op("div", b.op("convert", number, dtype=U32), b.constant(length, U32))
    return b.op("convert", found, dtype=I32)


def is_plain(place: Index, axis: Index) -> bool:
    """Whether an index depends on an axis by a multiple, if at all."""
    atoms = set(axis.atoms())
    return not any(isinstance(a, Digit) and atoms & set(a.index.atoms()) for a in place.terms)


class SimdNest:
    """A region whose values all run along the same loops.

    The innermost loops are one, as far as all memories are contiguous along them or do not depend on them.
    """

    def __init__(self, loops: RegionLoops, order: Order, target: Target):
        self.loops, self.target = loops, target
        self.order = order.sorted(loops.rows)
        joined = self._joined()
        self.outer, self.inner = self.order[: len(self.order) - joined], self.order[len(self.order) - joined :]
        self.steps, self.length = loops.steps(self.outer), loops.steps(self.inner)
        self.pieces = -(-self.length // BLOCK) if self.length >= 2 * BLOCK else 1
        self.rows = 1 if self.pieces > 1 else max(1, min(BLOCK // max(self.length, 1), self.steps))
        self.groups = -(-self.steps // self.rows) * self.pieces

    def _joined(self) -> int:
        """How many of the innermost loops can be one."""
        for count in range(len(self.order), 1, -1):
            inner = self.order[len(self.order) - count :]
            flat = ix.axis("flat", self.loops.steps(inner))
            if flat.is_constant:
                return count
            lengths = tuple(self.loops.lengths[x] for x in inner)
            at = {x: ix.axis("outer", self.loops.lengths[x]) for x in self.order}
            at.update(zip(inner, ix.coordinates(flat, lengths), strict=True))
            if all(is_plain(place, flat) for _, place in places_of(self.loops, self.target, at)[0]):
                return count
        return min(1, len(self.order))

    def write(self, b: Builder, e: Elements, outputs: Sequence[Memory], group: Value) -> None:
        lane = b.builtin("thread")
        if self.pieces > 1:
            number = ix.axis("group", self.groups)
            b.set_axis(number, group)
            row, piece = ix.coordinates(number, (self.steps, self.pieces))
            first = b.index(piece * BLOCK)
            last = b.op("min", b.op("add", first, b.constant(BLOCK, I32)), b.constant(self.length, I32))
            self._row(b, e, outputs, row, b.op("add", first, lane), last)
            return
        start = b.op("mul", group, b.constant(self.rows, I32))
        stop = b.op("min", b.op("add", start, b.constant(self.rows, I32)), b.constant(self.steps, I32))
        row = ix.axis("row", self.steps)
        with b.loop(row, start=start, stop=stop):
            self._row(b, e, outputs, row, lane, b.constant(self.length, I32))

    def _row(self, b: Builder, e: Elements, outputs: Sequence[Memory], row: Index, start: Value, stop: Value) -> None:
        lengths = self.loops.lengths
        point = dict(zip(self.outer, ix.coordinates(row, tuple(lengths[x] for x in self.outer)), strict=True))
        inner = ix.axis("inner", self.length)

        def body() -> None:
            point.update(zip(self.inner, ix.coordinates(inner, tuple(lengths[x] for x in self.inner)), strict=True))
            for o, memory in zip(self.loops.outputs, outputs, strict=True):
                store_elements(b, e, o.value, memory, [self.loops.coordinates(o, point)])

        if inner.is_constant:
            with b.when(b.op("lt", start, stop, dtype="bool")):
                body()
            return
        with b.loop(inner, start=start, stop=stop, step=self.target.simd):
            body()
