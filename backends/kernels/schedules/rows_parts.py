"""Few, long rows: workgroups for parts of a row leave partial results in memory, and a second kernel merges those.

The order in which elements are added up depends on the shapes only, so that results are the same every time.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from asgfn.records import replace
from backends.kernels import index as ix
from backends.kernels.index import Index
from backends.kernels.ir import I32, Builder, Memory, Value
from backends.kernels.loops import Loops, RegionLoops
from backends.kernels.lowering import Argument, Plan, constants_of
from backends.kernels.schedules.assembly import Bound, assemble, bound
from backends.kernels.schedules.reduce_accumulate import Accumulator, State, exchanged, from_exchange, to_exchange
from backends.kernels.schedules.rows_order import Order, RowElements
from backends.kernels.schedules.rows_part import RowsPart, RowsWriter
from backends.kernels.schedules.rows_shape import SIMD_GROUPS, THREADS, Pass, Shape, groups_of, inner_sets, width
from backends.kernels.schedules.rows_team import Scratch, accumulate_states
from backends.kernels.target import Target

# workgroups that go through memory at the same time, and groups of elements that each thread of them should have
WANTED_GROUPS = 512
LEAST = 8


class Slots:
    """Where partial results are: for each type one memory, which holds [number of a partial result, part, row].

    Attributes:
        sizes: of the memories by type.
    """

    def __init__(self, loops: RegionLoops, passes: Sequence[Pass], parts: int, target: Target):
        self.rows = loops.steps(loops.rows)
        self.parts = parts
        self.places: dict[tuple[int, int], tuple[str, int]] = {}  # (value, register) -> type, number
        counts: dict[str, int] = {}
        types = target.types
        probe = RowElements(Builder(), loops.asg, types, (), (), ())
        for p in passes:
            for r in p.reductions:
                for k, register in enumerate(Accumulator(probe, r.node).registers):
                    dtype = exchanged(register)
                    self.places[r.result.value, k] = dtype, counts.get(dtype, 0)
                    counts[dtype] = counts.get(dtype, 0) + 1
        self.sizes = {dtype: n * parts * self.rows for dtype, n in counts.items()}

    def at(self, value: int, register: int, part: Index, row: Index) -> tuple[str, Index]:
        """The memory (its type) and the place in it of a partial result."""
        dtype, number = self.places[value, register]
        return dtype, (part + number * self.parts) * self.rows + row


class PartialPart(RowsPart):
    """The workgroups that go through parts of rows. Its results are the memories of `Slots`."""

    def __init__(self, loops: RegionLoops, order: Order, shape: Shape, target: Target, slots: Slots):
        super().__init__(loops, order, shape, target)
        self.slots = slots

    def write(
        self, b: Builder, memories: Sequence[Memory | None], outputs: Sequence[Memory], group: Value, scratch: Scratch
    ) -> RowElements:
        """See `Part`."""
        n = len(self.asg.inputs)
        e = RowElements(b, self.asg, self.target.types, memories[:n], memories[n:], ())  # type: ignore[arg-type]
        _PartialWriter(self, b, e, outputs, scratch, group).run()
        return e


class _PartialWriter(RowsWriter):
    def __init__(
        self, part: PartialPart, b: Builder, e: RowElements, outputs: Sequence[Memory], scratch: Scratch, group: Value
    ):
        super().__init__(part, b, e, outputs, scratch)
        self.slots = part.slots
        parts = self.shape.parts
        tile = b.op("div", group, b.constant(parts, I32))
        self.part_number = ix.axis("part", parts)
        b.set_axis(self.part_number, b.op("sub", group, b.op("mul", tile, b.constant(parts, I32))))
        self.place(tile)

    def run(self) -> None:
        """All passes; what they find is stored."""
        if self.part.target.simd:
            with self.b.when(self.valid):
                self._all_passes()
        else:
            self._all_passes()

    def _all_passes(self) -> None:
        b, s = self.b, self.shape
        memories = dict(zip(self.slots.sizes, self.outputs, strict=True))
        for p in self.part.passes:
            accumulators = self._accumulators(p)
            states = self.team.combine(accumulators, self._accumulate(p))
            with b.when(b.both(self.valid, self.team.is_first())):
                for k, state in enumerate(states):
                    r, j = p.reductions[k // s.row_lanes], k % s.row_lanes
                    row = ix.linear([self.rows[j][x] for x in s.rows], [self.loops.lengths[x] for x in s.rows])
                    for n, value in enumerate(state):
                        dtype, place = self.slots.at(r.result.value, n, self.part_number, row)
                        b.store(memories[dtype], b.index(place), to_exchange(b, value))

    def _range(self, inner: Loops) -> tuple[int, int, Value, Value]:
        b = self.b
        groups = self.loops.steps(inner) // self._width(inner)
        mine = -(-groups // self.shape.parts)
        start = b.index(self.part_number * mine + self.team.lane)
        stop = b.op("min", b.index(self.part_number * mine + mine), b.constant(groups, I32))
        return groups, mine, start, stop


class MergePart(RowsPart):
    """The workgroups that merge partial results, and do what follows row by row."""

    def __init__(self, loops: RegionLoops, order: Order, shape: Shape, target: Target, slots: Slots):
        super().__init__(loops, order, shape, target)
        self.slots = slots

    def write(
        self, b: Builder, memories: Sequence[Memory | None], outputs: Sequence[Memory], group: Value, scratch: Scratch
    ) -> RowElements:
        """See `Part`."""
        n, m = len(self.asg.inputs), len(self.asg.inputs) + len(self.asg.constants)
        reduced = [r.result.value for r in self.loops.reductions]
        e = RowElements(b, self.asg, self.target.types, memories[:n], memories[n:m], reduced)  # type: ignore[arg-type]
        partials = {memory.dtype: memory for memory in memories[m:] if memory is not None}
        writer = _MergeWriter(self, b, e, outputs, scratch, partials)
        writer.place(group)
        writer.run()
        return e


class _MergeWriter(RowsWriter):
    def __init__(
        self,
        part: MergePart,
        b: Builder,
        e: RowElements,
        outputs: Sequence[Memory],
        scratch: Scratch,
        partials: dict[str, Memory],
    ):
        super().__init__(part, b, e, outputs, scratch)
        self.slots, self.partials = part.slots, partials

    def _accumulate(self, p: Pass, alongside: Sequence[int] = ()) -> list[State]:
        """What this thread finds among the partial results of its row."""
        b, s = self.b, self.shape
        row = ix.linear([self.rows[0][x] for x in s.rows], [self.loops.lengths[x] for x in s.rows])
        accumulators = self._accumulators(p)
        number = ix.axis("part", self.slots.parts)

        def body(states: Sequence[State]) -> list[State]:
            found = []
            for a, r, state in zip(accumulators, p.reductions, states, strict=True):
                other = []
                for n, register in enumerate(a.registers):
                    dtype, place = self.slots.at(r.result.value, n, number, row)
                    other.append(from_exchange(b, b.load(self.partials[dtype], b.index(place)), register))
                found.append(a.merge(state, tuple(other)))
            return found

        lane = b.index(self.team.lane)
        return accumulate_states(b, accumulators, number, body, lane, self.slots.parts, s.lanes)

    def _ready(self, depth: int, inner: Loops) -> list[int]:
        return []


class Halves(NamedTuple):
    """The two kernels' parts of a region, and the memories between them."""

    first: Bound
    second: Bound
    temporaries: tuple[tuple[str, int], ...]


def halves(loops: RegionLoops, order: Order, shape: Shape, target: Target) -> Halves | None:
    """A region of few long rows, whose results are all row by row, as two parts that run one after the other; None if
    there is nothing to gain."""
    steps = [
        loops.steps(inner) // width(loops, order, order.sorted(inner), shape.adjacent)
        for inner in inner_sets(loops)
        if inner
    ]
    wanted = SIMD_GROUPS if target.simd else WANTED_GROUPS
    parts = min(-(-wanted // groups_of(loops, shape)), max(steps) // (shape.lanes * LEAST))
    if parts < 2 or min(steps) < 2:
        return None
    # parts of whole steps of the workgroup's threads
    parts = -(-max(steps) // (-(-max(steps) // parts // shape.lanes) * shape.lanes))
    shape = replace(shape, parts=parts, unrolled=frozenset())
    slots = Slots(loops, RowsPart(loops, order, shape, target).passes, parts, target)
    temporaries = tuple(slots.sizes.items())
    between = tuple(Argument("temporary", k) for k in range(len(temporaries)))

    first = bound(PartialPart(loops, order, shape, target, slots), target)
    first = first._replace(outputs=between, output_types=temporaries)
    second = bound(MergePart(loops, order, _merging(loops, shape, parts), target, slots), target)
    second = second._replace(extra=tuple((a, *t) for a, t in zip(between, temporaries, strict=True)))
    return Halves(first, second, temporaries)


def in_two_stages(loops: RegionLoops, order: Order, shape: Shape, target: Target) -> Plan | None:
    """The plan of the two halves of a region; None if there is nothing to gain."""
    found = halves(loops, order, shape, target)
    if found is None:
        return None
    first = assemble([found.first], target, f"{loops.asg.name} (parts)")
    second = assemble([found.second], target, f"{loops.asg.name} (merged)")
    if any(len(stage.arguments) > target.buffers for stage in (first, second)):
        return None
    return Plan((first, second), constants_of(loops.asg, target), found.temporaries)


def _merging(loops: RegionLoops, shape: Shape, parts: int) -> Shape:
    """The arrangement of the kernel that merges parts: neighbouring threads have neighbouring rows."""
    threads = min(shape.threads, THREADS)
    rows = loops.steps(shape.rows)
    slots = min(rows, 32, threads)
    return Shape(shape.rows, threads, min(threads // slots, parts), slots, False)
