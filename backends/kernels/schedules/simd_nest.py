"""Loops of a processor with vectors: the innermost one runs over neighbours, a vector at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from asgfn.records import record
from backends.kernels import index as ix
from backends.kernels.elements import Elements, rule_of
from backends.kernels.index import Digit, Index
from backends.kernels.ir import I32, U32, Builder, Memory, Value
from backends.kernels.loops import RegionLoops
from backends.kernels.schedules.assembly import store_elements
from backends.kernels.schedules.rows_order import Order, places_of
from backends.kernels.target import Target

Piece = tuple[Value, Value]  # first and stop
BLOCK = 4096  # elements of a workgroup: enough to be worth a start, few enough to stay in the first cache
CROSSED = 16  # elements that use up a cache line


@record
class Range:
    """Some neighbours of an axis.

    Attributes:
        first: the number of the first one.
        start, stop: that, and the number after the last one, as values.
        count: how many they are; None if that is only known when the kernel runs.
    """

    first: Index
    start: Value
    stop: Value
    count: int | None


@contextmanager
def runs(
    b: Builder, target: Target, whole: int, length: int, piece: Range, is_whole: bool
) -> Iterator[tuple[Index, Value]]:
    """Goes through a piece of an axis, whose parts of that length are runs: a vector of neighbours in one at a time. Indices, and
    their numbers in the piece.

    Arguments:
        is_whole: whether the piece is some whole runs.
    """
    lane, count = b.builtin("thread"), piece.count
    if count is not None and (whole == length or (count % length == 0 and piece.first.divides(length))):
        one = count if whole == length else length
        run, inner = ix.axis("run", count // one), ix.axis("inner", one)
        has_vector = one >= target.simd
        with b.loop(run, certain=True), b.loop(inner, start=lane, stop=one, step=target.simd, certain=has_vector):
            number = run * one + inner
            yield piece.first + number, b.index(number)
        return
    run, inner = ix.axis("run", whole // length), ix.axis("inner", length)
    if whole == length:
        with b.loop(inner, start=b.op("add", piece.start, lane), stop=piece.stop, step=target.simd):
            yield inner, b.op("sub", b.index(inner), piece.start)
        return
    last = piece.stop if is_whole else b.op("add", piece.stop, b.constant(length - 1, I32))
    with b.loop(run, start=over(b, piece.start, length), stop=over(b, last, length)):
        start, end = lane, b.constant(length, I32)
        if not is_whole:
            before = b.index(run * length)
            start = b.op("add", b.op("max", b.op("sub", piece.start, before), b.constant(0, I32)), lane)
            end = b.op("min", b.op("sub", piece.stop, before), end)
        with b.loop(inner, start=start, stop=end, step=target.simd):
            yield run * length + inner, b.op("sub", b.index(run * length + inner), piece.start)


def over(b: Builder, number: Value, length: int) -> Value:
    """A number, which is not negative, divided by a length."""
    if length == 1:
        return number
    found = b.op("div", b.op("convert", number, dtype=U32), b.constant(length, U32))
    return b.op("convert", found, dtype=I32)


def _end(b: Builder, first: Value, length: int, whole: int) -> Value:
    """The number after the last one of a piece of an axis; the last piece may be shorter."""
    end = b.op("add", first, b.constant(length, I32))
    return b.op("min", end, b.constant(whole, I32)) if whole % length else end


def is_plain(place: Index, axis: Index) -> bool:
    """Whether an index depends on an axis by a multiple, if at all."""
    atoms = set(axis.atoms())
    return not any(isinstance(a, Digit) and atoms & set(a.index.atoms()) for a in place.terms)


class SimdNest:
    """A region whose values all run along the same loops.

    The innermost loops are one, as far as all memories are contiguous along them or do not depend on them. Where large
    memories are contiguous along two different loops, one of these is gone through in steps of a vector, and for each
    vector some steps of the other: then all of a cache line is used while it is in the first cache.
    """

    def __init__(self, loops: RegionLoops, order: Order, target: Target):
        self.loops, self.target = loops, target
        self.order = order.sorted(loops.rows)
        self.across: int | None = None
        crossing = order.crossing(loops.rows)
        if crossing is not None:
            self.across, inner = self._turned(*crossing)
            self.order = (*(x for x in self.order if x not in (self.across, inner)), self.across, inner)
        joined = self._joined(order)
        self.inner = self.order[len(self.order) - joined :]
        if self.across in self.inner:
            self.across = None
        self.outer = tuple(x for x in self.order[: len(self.order) - joined] if x != self.across)
        self.steps, self.length = loops.steps(self.outer), loops.steps(self.inner)
        if self.across is not None:
            self.crossed = loops.lengths[self.across]
            self.blocks = -(-self.crossed // CROSSED), -(-self.length // (BLOCK // CROSSED))
            self.groups = self.steps * self.blocks[0] * self.blocks[1]
            return
        self.pieces = -(-self.length // BLOCK) if self.length >= 2 * BLOCK else 1
        self.rows = 1 if self.pieces > 1 else max(1, min(BLOCK // max(self.length, 1), self.steps))
        self.groups = -(-self.steps // self.rows) * self.pieces

    def _turned(self, outer: int, inner: int) -> tuple[int, int]:
        """The two loops in the order in which results are written to neighbours, if those fill a vector."""
        lengths, lanes = self.loops.lengths, self.target.simd
        if min(lengths[outer], lengths[inner]) < lanes:
            return (outer, inner) if lengths[inner] >= lengths[outer] else (inner, outer)
        at = {x: ix.axis("loop", n) for x, n in lengths.items()}
        steps = [0, 0]
        for o in self.loops.outputs:
            t = self.loops.asg.value_types[o.value]
            place = ix.linear(self.loops.coordinates(o, at), t.shape)
            for k, x in enumerate((outer, inner)):
                steps[k] += t.nbytes * (1 in (place.terms.get(atom, 0) for atom in at[x].terms))
        return (inner, outer) if steps[0] > steps[1] else (outer, inner)

    def _joined(self, order: Order) -> int:
        """How many of the innermost loops can be one."""
        for count in range(len(self.order), 1, -1):
            inner = self.order[len(self.order) - count :]
            flat = ix.axis("flat", self.loops.steps(inner))
            if flat.is_constant:
                return count
            if all(is_plain(place, flat) for place in self._places(order, self._point(inner, flat))):
                return count
        return min(1, len(self.order))

    def _places(self, order: Order, point: dict[int, Index]) -> list[Index]:
        """The places in memory of what is read and written, with other indices for some loops."""
        if any(rule_of(node.primitive.name) is not None for node in self.loops.asg.nodes):
            # where views find an element is written in another way
            return [place for _, place in places_of(self.loops, self.target, {**order.at, **point})]
        changes = {atom: index for x, index in point.items() for atom in order.at[x].terms}
        return [place.replaced(changes) for _, place in order.places]

    def write(self, b: Builder, e: Elements, outputs: Sequence[Memory], group: Value) -> None:
        number = ix.axis("group", self.groups)
        if self.across is not None:
            b.set_axis(number, group)
            row, block, piece = ix.coordinates(number, (self.steps, *self.blocks))
            self._crossed(b, e, outputs, row, self._piece(b, block, CROSSED, self.crossed), piece)
            return
        if self.pieces > 1:
            b.set_axis(number, group)
            row, piece = ix.coordinates(number, (self.steps, self.pieces))
            self._row(b, e, outputs, row, self._piece(b, piece, BLOCK, self.length))
            return
        start = b.op("mul", group, b.constant(self.rows, I32))
        stop = _end(b, start, self.rows, self.steps)
        row = ix.axis("row", self.steps)
        with b.loop(row, start=start, stop=stop):
            self._row(b, e, outputs, row, (b.constant(0, I32), b.constant(self.length, I32)))

    def _piece(self, b: Builder, number: Index, length: int, whole: int) -> Piece:
        first = b.index(number * length)
        return first, _end(b, first, length, whole)

    def _row(self, b: Builder, e: Elements, outputs: Sequence[Memory], row: Index, piece: Piece) -> None:
        with self._vectors(b, piece) as inner:
            self._body(b, e, outputs, self._point(self.outer, row) | self._point(self.inner, inner))

    def _crossed(
        self, b: Builder, e: Elements, outputs: Sequence[Memory], row: Index, block: Piece, piece: Index
    ) -> None:
        assert self.across is not None
        outer = self._point(self.outer, row)
        with self._vectors(b, self._piece(b, piece, BLOCK // CROSSED, self.length)) as inner:
            point = outer | self._point(self.inner, inner)
            across = ix.axis("across", self.crossed)
            with b.loop(across, start=block[0], stop=block[1]):
                self._body(b, e, outputs, point | {self.across: across})

    @contextmanager
    def _vectors(self, b: Builder, piece: Piece) -> Iterator[Index]:
        """The innermost loops as one, a vector at a time."""
        inner, start = ix.axis("inner", self.length), b.op("add", piece[0], b.builtin("thread"))
        if inner.is_constant:
            with b.when(b.op("lt", start, piece[1], dtype="bool")):
                yield inner
            return
        with b.loop(inner, start=start, stop=piece[1], step=self.target.simd):
            yield inner

    def _point(self, loops: Sequence[int], index: Index) -> dict[int, Index]:
        """The loops of an index that is made of them."""
        return dict(zip(loops, ix.coordinates(index, tuple(self.loops.lengths[x] for x in loops)), strict=True))

    def _body(self, b: Builder, e: Elements, outputs: Sequence[Memory], point: dict[int, Index]) -> None:
        for o, memory in zip(self.loops.outputs, outputs, strict=True):
            store_elements(b, e, o.value, memory, [self.loops.coordinates(o, point)])
