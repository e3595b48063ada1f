"""Stages that sort: blocks in workgroup memory, then merged pairwise.

Every line is cut into blocks. A workgroup sorts a block, or several short lines. Then runs are merged: each element finds its
place by a binary search in the other run. Keys are u32; the order of equal ones stays.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, Protocol

from asgfn.records import record
from backends.kernels import index as ix
from backends.kernels.index import Index
from backends.kernels.ir import BOOL, I32, U32, Builder, Value
from backends.kernels.lowering import Argument
from backends.kernels.schedules.elementwise import thread_number
from backends.kernels.schedules.sort_network import BYTES, Network
from backends.kernels.schedules.stages import Stages, bounded

LARGEST = 0xFFFFFFFF
BLOCK = 2048  # the most elements that a workgroup sorts


class Reader(NamedTuple):
    """What is sorted, in a kernel: functions of the line and the number of an element in it.

    Attributes:
        key: of an element, an u32.
        place: where in the line the element was at first.
    """

    key: Callable[[Index, Index], Value]
    place: Callable[[Index, Index], Value]


class Source(Protocol):
    """What can be sorted: lines of `count` elements."""

    @property
    def count(self) -> int: ...

    def open(self, stages: Stages, b: Builder) -> Reader: ...


@record
class Pairs:
    """Keys and the places that their elements had at first, as memory of [lines, count] elements."""

    count: int
    keys: Argument
    places: Argument

    def open(self, stages: Stages, b: Builder) -> Reader:
        memories = [stages.bind(b, m, name) for m, name in ((self.keys, "keys"), (self.places, "places"))]
        key, place = ((lambda line, i, m=m: b.load(m, b.index(line * self.count + i))) for m in memories)
        return Reader(key, place)


# what to do with a sorted element: its line, its new place, its old place
Write = Callable[[Index, Index, Index], None]


class Sorter:
    """Writes the stages that sort.

    Attributes:
        stages: what is written so far.
        lines: number of lines.
        block: how many elements a workgroup can sort.
    """

    def __init__(self, stages: Stages, lines: int):
        self.stages, self.lines = stages, lines
        target = stages.target
        self.threads = min(256, target.workgroup_threads)
        self.block = min(BLOCK, 1 << (target.workgroup_bytes // BYTES).bit_length() - 1)

    def sort(self, source: Source) -> Pairs:
        """The elements in ascending order, line by line."""
        pairs = self.sort_blocks(source, source.count)
        run, spare = self.block, None
        while run < pairs.count:
            # memory takes turns
            pairs, spare = self._merge(pairs, run, spare), pairs
            run *= 2
        return pairs

    def least(self, source: Source, k: int) -> Source:
        """A few elements of each line, among them the k smallest; of equal ones the earlier still comes first."""
        while source.count > self.block and k <= self.block // 2:
            source = self.sort_blocks(source, k)
        return source

    # ------------------------------------------------------------------ sorting in workgroup memory
    def sort_blocks(self, source: Source, keep: int) -> Pairs:
        """Sorts each block of each line, of which the first `keep` elements stay."""
        s, n = self.stages, source.count
        span = min(self.block, _power_of_two(n))
        blocks = -(-n // span)
        # how many stay of all blocks but the last, and of that
        kept, kept_last = min(keep, span), min(keep, n - (blocks - 1) * span)
        total = kept * (blocks - 1) + kept_last
        out = Pairs(total, s.temporary(U32, self.lines * total), s.temporary(I32, self.lines * total))
        b = Builder()
        reader = source.open(s, b)
        keys, places = s.bind(b, out.keys, "sorted_keys"), s.bind(b, out.places, "sorted_places")

        def store(line: Index, block: Index, i: Index, key: Value, old: Index) -> None:
            last = b.op("eq", b.index(block), b.constant(blocks - 1, I32), dtype=BOOL)
            room = b.select(last, b.constant(kept_last, I32), b.constant(kept, I32))
            with b.when(b.op("lt", b.index(i), room, dtype=BOOL)):
                target = b.index(line * total + block * kept + i)
                b.store(keys, target, key)
                b.store(places, target, reader.place(line, old))

        self._sort_spans(b, reader, n, span, store)
        return out

    def sort_short(self, source: Source, write: Callable[[Builder], Write]) -> None:
        """Sorts lines that are one block each, and hands the elements on."""
        b = Builder()
        reader = source.open(self.stages, b)
        visit = write(b)

        def store(line: Index, block: Index, i: Index, key: Value, old: Index) -> None:
            visit(line, i, ix.computed(reader.place(line, old), 0, old.high))

        self._sort_spans(b, reader, source.count, _power_of_two(source.count), store)

    def _sort_spans(self, b: Builder, reader: Reader, n: int, span: int, store: Callable[..., None]) -> None:
        """The kernel that sorts blocks of `span` elements; `store` gets line, block, place, key and old place in the line."""
        s = self.stages
        blocks = -(-n // span)
        pieces = self.lines * blocks
        network = Network(b, self.threads, span, self.block)
        first, grid = network.first_piece(s.target, pieces)

        def find(local: Index) -> tuple[Index, Index, Index, Value | None]:
            """Line, block and number in the block of an element, and whether there is one."""
            piece = first + local.digit(span)
            i = local.digit(1, span)
            known = ix.computed(b.index(piece), 0, pieces - 1)
            line, block = known.digit(blocks), known.digit(1, blocks)
            return line, block, i, b.both(b.within(piece, 0, pieces), b.within(block * span + i, 0, n))

        def load(local: Index) -> Value:
            line, block, i, inside = find(local)
            key = b.variable(b.constant(LARGEST, U32))
            with b.when(inside):
                b.assign(key, reader.key(line, bounded(b, block * span + i, n)))
            return b.read(key)

        def put(local: Index, key: Value, place: Value) -> None:
            line, block, i, inside = find(local)
            with b.when(inside):
                old = bounded(b, block * span + ix.computed(place, 0, span - 1), n)
                store(line, block, bounded(b, i, n), key, old)

        network.run(load, put)
        s.add(b.kernel("sort blocks", (self.threads,), grid, bytes=float(16 * self.lines * n)))

    # ------------------------------------------------------------------ merging
    def _merge(self, pairs: Pairs, run: int, out: Pairs | None) -> Pairs:
        """Merges neighbouring runs of this length: an element goes behind those before it in both of them."""
        s, n = self.stages, pairs.count
        if out is None:
            out = Pairs(n, s.temporary(U32, self.lines * n), s.temporary(I32, self.lines * n))
        b = Builder()
        keys, places = s.bind(b, pairs.keys, "keys"), s.bind(b, pairs.places, "places")
        out_keys, out_places = s.bind(b, out.keys, "merged_keys"), s.bind(b, out.places, "merged_places")
        number, grid = thread_number(b, s.target, -(-self.lines * n // self.threads), self.threads)
        inside = b.op("lt", b.index(number), b.constant(self.lines * n, I32), dtype=BOOL)
        with b.when(inside):
            flat = ix.axis("flat", self.lines * n)
            b.set_axis(flat, b.index(number))
            line, i = flat.digit(n), flat.digit(1, n)
            key = b.load(keys, b.index(flat))
            own = i.digit(run)
            is_right = b.op("eq", b.index(own.digit(1, 2)), b.constant(1, I32), dtype=BOOL)
            pair = b.index(i.digit(2 * run) * (2 * run))  # where the two runs start
            other = b.select(is_right, pair, b.op("min", b.op("add", pair, b.constant(run, I32)), b.constant(n, I32)))
            size = b.op("min", b.constant(run, I32), b.op("sub", b.constant(n, I32), other))
            begin = b.op("add", b.index(line * n), other)
            # how many of the other run come before: the equal ones, too, if that is the left run
            low, high = b.variable(b.constant(0, I32)), b.variable(size)
            with b.loop(ix.axis("step", run.bit_length())):
                bottom, top = b.read(low), b.read(high)
                with b.when(b.op("lt", bottom, top, dtype=BOOL)):
                    middle = b.op("shift_right", b.op("add", bottom, top), b.constant(1, U32))
                    seen = b.load(keys, b.op("add", begin, middle))
                    less = b.op("lt", seen, key, dtype=BOOL)
                    equal = b.op("and", is_right, b.op("eq", seen, key, dtype=BOOL))
                    before = b.op("or", less, equal)
                    b.assign(low, b.select(before, b.op("add", middle, b.constant(1, I32)), bottom))
                    b.assign(high, b.select(before, top, middle))
            place = b.op(
                "add", b.op("add", b.index(line * n), pair), b.op("add", b.index(i.digit(1, run)), b.read(low))
            )
            b.store(out_keys, place, key)
            b.store(out_places, place, b.load(places, b.index(flat)))
        s.add(b.kernel("merge runs", (self.threads,), grid, bytes=float(16 * self.lines * n)))
        return out


def _power_of_two(n: int) -> int:
    return 1 << max(n - 1, 0).bit_length()
