"""One thread for each element, or for four neighbours: any graph whose elements can be asked for."""

from __future__ import annotations

import math
from collections.abc import Sequence

from asgfn.graph.asg import Asg
from backends.kernels import index as ix
from backends.kernels.elements import Coordinates, Elements
from backends.kernels.index import Digit, Index
from backends.kernels.ir import BOOL, I32, Builder, Memory, Value
from backends.kernels.loops import Loops, RegionLoops, find_loops
from backends.kernels.lowering import Stage
from backends.kernels.schedules.assembly import WIDE, assemble, bound, is_wide, store_elements
from backends.kernels.schedules.rows_order import Order, find_order
from backends.kernels.schedules.rows_team import Scratch
from backends.kernels.schedules.simd_nest import Range, SimdNest, is_plain, over, runs
from backends.kernels.target import Target

THREADS = 256
TILE = 16  # threads along each side of a tile
SIMD_BLOCK = 2048  # elements of a workgroup whose threads are the lanes of a vector


def elementwise(asg: Asg, target: Target, name: str = "") -> Stage:
    """A kernel that computes all results of a graph."""
    return assemble([bound(ElementwisePart(asg, target), target)], target, name or asg.name)


def bind(asg: Asg, builder: Builder, target: Target) -> tuple[Elements, list[Memory]]:
    """The elements of a graph, its inputs and constants as memories of the kernel; and memories for its results."""
    types = target.types
    inputs = [builder.argument(f"in{k}", types.storage(t.dtype), t.size) for k, t in enumerate(asg.inputs)]
    constants = [
        builder.argument(f"constant{k}", types.storage(t.dtype), t.size) if t.shape else None
        for k, t in enumerate(asg.constant_types)
    ]
    outputs = [builder.argument(f"out{k}", types.storage(t.dtype), t.size) for k, t in enumerate(asg.out_types)]
    return Elements(builder, asg, types, inputs, constants), outputs


def thread_number(b: Builder, target: Target, groups: int, threads: int = 0) -> tuple[Index, tuple[int, int, int]]:
    """The number of a thread in the whole grid, of workgroups of so many (0: the usual number) threads, and the grid."""
    threads = threads or target.simd or THREADS
    grid = target.grid_of(groups)
    group = b.builtin("group_x")
    if grid[1] > 1:
        group = b.op("add", b.op("mul", b.builtin("group_y"), b.constant(grid[0], I32)), group)
    number = ix.axis("thread", grid[0] * grid[1] * threads)
    b.set_axis(number, b.op("add", b.op("mul", group, b.constant(threads, I32)), b.builtin("thread")))
    return number, grid


class ElementwisePart:
    """A graph whose threads have nothing to do with each other."""

    def __init__(self, asg: Asg, target: Target):
        self.asg, self.target = asg, target
        self.threads = target.simd or THREADS
        loops = find_loops(asg)
        self.nest: _Nest | SimdNest | None = None
        if loops is not None and not loops.reductions and all(set(o.loops) == loops.rows for o in loops.outputs):
            order = find_order(loops, target)
            self.nest = SimdNest(loops, order, target) if target.simd else _Nest(loops, order)
            self.groups = self.nest.groups
            return
        sizes = [t.size for t in asg.out_types]
        if target.simd:
            self.runs = [self._run(k) for k in range(len(sizes))]
            self.steps = [self._step(k) for k in range(len(sizes))]
            blocks = zip(sizes, map(_block, self.runs), strict=True)
            self.groups = max(-(-size // block) for size, block in blocks)
            return
        self.lanes = 1
        if len(set(sizes)) == 1 and sizes[0] % WIDE == 0 and sizes[0] >= WIDE * THREADS:
            self.lanes = WIDE
            if not self._reads_neighbours():
                self.lanes = 1
        self.groups = -(-max(sizes) // (THREADS * self.lanes))

    def write(
        self, b: Builder, memories: Sequence[Memory | None], outputs: Sequence[Memory], group: Value, scratch: Scratch
    ) -> Elements:
        """See `Part`."""
        n = len(self.asg.inputs)
        e = Elements(b, self.asg, self.target.types, memories[:n], memories[n:])  # type: ignore[arg-type]
        if isinstance(self.nest, SimdNest):
            self.nest.write(b, e, outputs, group)
            return e
        if self.target.simd:
            self._write_block(b, e, outputs, group)
            return e
        number = b.op("add", b.op("mul", group, b.constant(THREADS, I32)), b.builtin("thread"))
        if self.nest is not None:
            self.nest.write(b, e, outputs, group, number)
        else:
            self._write(b, e, outputs, number)
        return e

    def _run(self, k: int) -> int:
        """How many neighbours of a result are computed in step: as many as read memory at equal distances; or those along
        the last axis, for which the other coordinates are alike. All, if that would fill no vectors."""
        t = self.asg.out_types[k]
        for axis in range(t.ndim):
            length = math.prod(t.shape[axis:])
            if 2 * length < self.target.simd:
                break
            inner = ix.axis("inner", length)
            outer = tuple(ix.axis("outer", n) for n in t.shape[:axis])
            places = self._places(k, (*outer, *ix.coordinates(inner, t.shape[axis:])))
            if all(is_plain(place, inner) for place in places):
                return length
        last = t.shape[-1] if t.ndim else 1
        return last if 4 * last >= 3 * self.target.simd else t.size

    def _places(self, k: int, at: Coordinates) -> list[Index]:
        """Where memory is read for an element of a result."""
        b = Builder()
        e, _ = bind(self.asg, b, self.target)
        for atom in dict.fromkeys(atom for i in at for atom in i.atoms()):
            b.set_axis(Index({atom: 1}), b.builtin("thread"))
        e.at(self.asg.outputs[k], at)
        return [place for places in e.places.values() for place in places]

    def _step(self, k: int) -> int:
        """1; or a step along the last axis, if elements that far apart read memory at equal distances, and neighbours do
        not: those of one window, say, and those of the next."""
        t, length = self.asg.out_types[k], self.runs[k]
        if not t.ndim or length != t.shape[-1] or _block(length) % length:
            return 1
        outer = tuple(ix.axis("outer", n) for n in t.shape[:-1])
        inner = ix.axis("inner", length)
        parting = [place for place in self._places(k, (*outer, inner)) if not is_plain(place, inner)]
        steps = {a.step for place in parting for a in place.terms if isinstance(a, Digit)} - {1}
        if len(steps) != 1 or 2 * length < min(steps) * self.target.simd:
            return 1
        (step,) = steps
        every, first = ix.axis("every", -(-length // step)), ix.axis("first", step)
        found = self._places(k, (*outer, every * step + first))
        return step if all(is_plain(place, every) for place in found) else 1

    def _write_block(self, b: Builder, e: Elements, outputs: Sequence[Memory], group: Value) -> None:
        """A block of each result."""
        for k, (t, length, step) in enumerate(zip(self.asg.out_types, self.runs, self.steps, strict=True)):
            block = b.constant(_block(length), I32)
            first = b.op("mul", group, block)
            stop = b.op("min", b.op("add", first, block), b.constant(t.size, I32))
            if step > 1:
                run = ix.axis("run", t.size // length)
                with b.loop(run, start=over(b, first, length), stop=over(b, stop, length)):
                    self._write_apart(b, e, outputs[k], k, ix.coordinates(run, t.shape[:-1]))
                continue
            is_whole = _block(length) % length == 0
            piece = Range(ix.computed(first, 0, t.size), first, stop, None)
            with runs(b, self.target, t.size, length, piece, is_whole) as (flat, _):
                store_elements(b, e, self.asg.outputs[k], outputs[k], [ix.coordinates(flat, t.shape)])

    def _write_apart(self, b: Builder, e: Elements, output: Memory, k: int, outer: Coordinates) -> None:
        """A run of a result: vectors of elements a step apart, as many as have neighbours together, exchange these."""
        t, length, step, lanes = self.asg.out_types[k], self.runs[k], self.steps[k], self.target.simd
        lane = ix.axis("lane", lanes)
        b.set_axis(lane, b.builtin("thread"))

        def write(block: Index, is_whole: bool) -> None:
            found = []
            for first in range(step):
                column = (block * lanes + lane) * step + first
                mask = None if is_whole else b.within(column, 0, length)
                found.append(e.types.to_memory(b, e.at(self.asg.outputs[k], (*outer, column), mask), t.dtype))
            for number in range(step):
                column = block * (lanes * step) + lane + number * lanes
                place = lane + number * lanes
                sent = [b.op("subgroup_shuffle", x, b.index(place.digit(step))) for x in found]
                element = sent[0]
                for first in range(1, step):
                    is_mine = b.op("eq", b.index(place.digit(1, step)), b.constant(first, I32), dtype=BOOL)
                    element = b.select(is_mine, sent[first], element)
                with b.when(None if is_whole else b.within(column, 0, length)):
                    b.store(output, b.index(ix.linear((*outer, column), t.shape)), element)

        whole, rest = divmod(length, lanes * step)
        block = ix.axis("block", max(whole, 1))
        if whole:
            with b.loop(block):
                write(block, True)
        if rest:
            write(ix.constant(whole), False)

    def _write(self, b: Builder, e: Elements, outputs: Sequence[Memory], number: Value) -> None:
        """Each result in its own order: results of one size together."""
        by_size: dict[int, list[int]] = {}
        for k, t in enumerate(self.asg.out_types):
            by_size.setdefault(t.size, []).append(k)
        for size, members in by_size.items():
            count = size // self.lanes
            flat = ix.axis("flat", count)
            b.set_axis(flat, number)
            # what lies outside is guarded away, so that an index knows its bounds
            with b.when(b.op("lt", number, b.constant(count, I32), dtype=BOOL)):
                for k in members:
                    t = self.asg.out_types[k]
                    at = [ix.coordinates(flat * self.lanes + lane, t.shape) for lane in range(self.lanes)]
                    store_elements(b, e, self.asg.outputs[k], outputs[k], at)

    def _reads_neighbours(self) -> bool:
        """Whether four neighbours read memory four elements at a time, if they read any."""
        b = Builder()
        e, outputs = bind(self.asg, b, self.target)
        self._write(b, e, outputs, b.builtin("thread"))
        return not e.places or any(
            all(map(is_wide, places)) and e.value_types[v].size % WIDE == 0 and len(set(places)) > 1
            for v, places in e.places.items()
        )


def _block(length: int) -> int:
    """Elements of a workgroup: some runs, if they are short enough."""
    return max(1, SIMD_BLOCK // length) * length if length <= SIMD_BLOCK else SIMD_BLOCK


class _Nest:
    """A region whose values all run along the same loops, in whichever order suits its memories.

    Where some memories are contiguous along one loop and others along another (a transpose), a thread has four
    neighbours along both, and the threads of a workgroup a square of them.
    """

    def __init__(self, loops: RegionLoops, order: Order):
        self.loops = loops
        self.order = order.sorted(loops.rows)
        self.count = loops.steps(self.order)
        self.lanes = 1
        self.tile: Loops = ()
        lengths, order_ = loops.lengths, self.order
        crossing = order.crossing(order_)
        if crossing is not None and all(lengths[x] % WIDE == 0 and lengths[x] >= 32 for x in crossing):
            self.tile = crossing
            self.outer = tuple(x for x in order_ if x not in crossing)
            self.tiles = tuple(-(-lengths[x] // (WIDE * TILE)) for x in crossing)
            self.groups = loops.steps(self.outer) * self.tiles[0] * self.tiles[1]
            return
        inner = order_[-1] if order_ else None
        if inner in order.contiguous and lengths[inner] % WIDE == 0 and self.count >= WIDE * THREADS:
            self.lanes = WIDE
        self.groups = -(-self.count // (THREADS * self.lanes))

    def write(self, b: Builder, e: Elements, outputs: Sequence[Memory], group: Value, number: Value) -> None:
        if self.tile:
            self._write_tile(b, e, outputs, group)
            return
        count = self.count // self.lanes
        flat = ix.axis("flat", count)
        b.set_axis(flat, number)
        with b.when(b.op("lt", number, b.constant(count, I32), dtype=BOOL)):
            points = [self._point(self.order, flat * self.lanes + lane) for lane in range(self.lanes)]
            self._store(b, e, outputs, points)

    def _write_tile(self, b: Builder, e: Elements, outputs: Sequence[Memory], group: Value) -> None:
        lengths = self.loops.lengths
        last = b.constant(self.groups - 1, I32)
        block = ix.axis("block", self.groups)
        b.set_axis(block, b.op("min", group, last))
        thread = ix.axis("thread", THREADS)
        b.set_axis(thread, b.builtin("thread"))
        outer, *tiles = ix.coordinates(block, (self.loops.steps(self.outer), *self.tiles))
        inside = [b.op("le", group, last, dtype=BOOL)]
        corner = []
        for x, tile, side in zip(self.tile, tiles, (thread.digit(TILE), thread.digit(1, TILE)), strict=True):
            place = tile * TILE + side
            along = ix.axis("along", lengths[x] // WIDE)
            b.set_axis(along, b.index(place))
            inside.append(b.op("lt", b.index(place), b.constant(lengths[x] // WIDE, I32), dtype=BOOL))
            corner.append(along * WIDE)
        with b.when(b.both(*inside)):
            point = self._point(self.outer, outer)
            down, across = self.tile
            points = [{**point, down: corner[0] + k, across: corner[1] + j} for k in range(WIDE) for j in range(WIDE)]
            self._store(b, e, outputs, points)

    def _point(self, order: Loops, number: Index) -> dict[int, Index]:
        return dict(zip(order, ix.coordinates(number, tuple(self.loops.lengths[x] for x in order)), strict=True))

    def _store(self, b: Builder, e: Elements, outputs: Sequence[Memory], points: Sequence[dict[int, Index]]) -> None:
        for o, memory in zip(self.loops.outputs, outputs, strict=True):
            store_elements(b, e, o.value, memory, [self.loops.coordinates(o, at) for at in points])
