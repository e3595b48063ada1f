"""The code of a reduction region: passes over the elements of rows, one after another, then what follows row by row.

A workgroup does all that belongs to its rows. Its threads go through the elements of a row together, each a part of
them; what they have found is merged and known to all; the next pass uses it. If the elements that belong to a thread
are few, what a pass has computed stays in registers for the next ones.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from backends.kernels import index as ix
from backends.kernels.elements import Coordinates
from backends.kernels.index import Index
from backends.kernels.ir import BOOL, I32, Builder, Memory, Value
from backends.kernels.loops import Loops, Placed, Reduction, RegionLoops
from backends.kernels.schedules.assembly import store, stored_elements
from backends.kernels.schedules.reduce_accumulate import (
    Accumulator,
    State,
    exchanged,
    from_exchange,
    to_exchange,
)
from backends.kernels.schedules.rows_order import NotComputed, Order, RowElements
from backends.kernels.schedules.rows_shape import (
    CODE,
    ELEMENTS,
    Pass,
    Shape,
    find_passes,
    groups_of,
    power_above,
    power_of_two,
    width,
)
from backends.kernels.schedules.rows_team import Scratch, Team, accumulate_states
from backends.kernels.schedules.simd_rows import are_costly, kept_values, needs
from backends.kernels.target import Target

Point = Mapping[int, Index]  # the index of each loop
LoopBody = Callable[[Sequence[tuple[Sequence[Point], "Value | None"]], Sequence[State]], list[State]]
UNROLL = 4  # at most so many steps of a loop at a time
LONG = 8  # values of a row that are computed for results
SIMD_CODE = 200  # operations of an element that are written so many times
SIMD_SHORT = 2  # values that are added up faster than sums wait for each other


class RowsPart:
    """A region with reductions, as workgroups with rows of their own."""

    def __init__(self, loops: RegionLoops, order: Order, shape: Shape, target: Target):
        self.loops, self.order, self.shape, self.target = loops, order, shape, target
        self.asg = loops.asg
        self.threads = shape.threads
        self.groups = groups_of(loops, shape) * shape.parts
        self.passes = find_passes(loops, order)
        self.kept: list[list[Placed]] = [[] for _ in self.passes]
        if target.simd and shape.adjacent and shape.parts == 1:
            self.kept = kept_values(loops, self.passes, target.types)

    def write(
        self, b: Builder, memories: Sequence[Memory | None], outputs: Sequence[Memory], group: Value, scratch: Scratch
    ) -> RowElements:
        """See `Part`."""
        n = len(self.asg.inputs)
        reduced = [r.result.value for r in self.loops.reductions]
        e = RowElements(b, self.asg, self.target.types, memories[:n], memories[n:], reduced)  # type: ignore[arg-type]
        writer = RowsWriter(self, b, e, outputs, scratch)
        writer.place(group)
        writer.run()
        return e


class RowsWriter:
    """Writes the code of one part."""

    def __init__(self, part: RowsPart, b: Builder, e: RowElements, outputs: Sequence[Memory], scratch: Scratch):
        self.part, self.b, self.e, self.outputs, self.scratch = part, b, e, outputs, scratch
        self.loops, self.order, self.shape = part.loops, part.order, part.shape
        s = self.shape
        self.team = Team(b, part.target, scratch, s.threads, s.lanes, s.slots, s.adjacent)
        self.chunks: dict[Loops, list[tuple[Index, Value | None]]] = {}
        self.waiting = list(range(len(self.loops.outputs)))
        self._leaves: list[tuple[Placed, Memory]] = []  # what the pass at hand leaves in memory

    # ------------------------------------------------------------------ which rows
    def place(self, group: Value) -> None:
        """Finds the rows of this thread. Threads without one do what the last row's do, and store nothing."""
        b, s = self.b, self.shape
        if self.part.target.simd:
            self._place_lanes(group)
            return
        count = self.loops.steps(s.rows) // s.row_lanes
        number = b.op("add", b.op("mul", group, b.constant(s.slots, I32)), b.index(self.team.slot))
        row = ix.axis("row", count)
        last = b.constant(count - 1, I32)
        b.set_axis(row, b.op("min", number, last))
        self.valid: Value | None = b.op("le", number, last, dtype=BOOL)
        self.rows = [self._point(s.rows, row * s.row_lanes + j) for j in range(s.row_lanes)]

    def _place_lanes(self, group: Value) -> None:
        """The same for the lanes of a vector: those of a row are a vector, or the rows of neighbouring lanes are neighbours.
        Lanes without a row do nothing."""
        b, s = self.b, self.shape
        count = self.loops.steps(s.rows)
        self.first = b.op("mul", group, b.constant(s.slots * s.row_lanes, I32))
        self.rows = []
        for j in range(s.row_lanes):
            row = ix.axis("row", count)
            number = b.op("add", b.op("add", self.first, b.index(self.team.slot)), b.constant(j * s.slots, I32))
            b.set_axis(row, number)
            self.rows.append(self._point(s.rows, row))
        self.valid = None
        if self.part.groups * s.slots * s.row_lanes > count * s.parts:
            self.valid = b.op("lt", number, b.constant(count, I32), dtype=BOOL)

    def _point(self, loops: Loops, number: Index) -> dict[int, Index]:
        lengths = tuple(self.loops.lengths[x] for x in loops)
        return dict(zip(loops, ix.coordinates(number, lengths), strict=True))

    # ------------------------------------------------------------------ everything
    def run(self) -> None:
        """All passes, and all stores."""
        if self.part.target.simd:
            with self.b.when(self.valid):
                self._run()
        else:
            self._run()

    def _run(self) -> None:
        for p, kept in zip(self.part.passes, self.part.kept, strict=True):
            if p.kept != self.loops.rows:
                self._nested_pass(p)
                continue
            alongside = self._ready(p.depth, p.inner)
            self._leaves = [(v, self._row_memory(v, p.inner)) for v in kept]
            states = self._accumulate(p, alongside)
            for placed, memory in self._leaves:
                self.e.kept[placed.value] = self._from_row(placed, memory, p.inner)
            self._leaves = []
            self._know(p, self.team.combine(self._accumulators(p), states))
        for inner in dict.fromkeys(self._inner_of(k) for k in self.waiting):
            if inner:
                self._each(inner, self._of_elements(inner))
        self._store_rows([k for k in self.waiting if not self._inner_of(k)])
        self.waiting = []

    def _inner_of(self, k: int) -> Loops:
        return self.order.sorted(set(self.loops.outputs[k].loops) - self.loops.rows)

    def _ready(self, depth: int, inner: Loops) -> list[int]:
        """Results that can be stored during a pass of this depth through these loops."""
        found = [
            k
            for k in self.waiting
            if self._inner_of(k) == inner and self.loops.depths[self.loops.outputs[k].value] < depth
        ]
        self.waiting = [k for k in self.waiting if k not in found]
        return found

    # ------------------------------------------------------------------ one pass
    def _accumulators(self, p: Pass) -> list[Accumulator]:
        """For each reduction, and each row of a thread."""
        return [Accumulator(self.e, r.node) for r in p.reductions for _ in range(self.shape.row_lanes)]

    def _accumulate(self, p: Pass, alongside: Sequence[int] = ()) -> list[State]:
        """What this thread finds of a pass; some results are stored on the way."""
        accumulators = self._accumulators(p)
        if not self._is_unrolled(p.inner):
            return self._accumulate_in_loop(p, accumulators, alongside)
        found: list[list[State]] = [[] for _ in accumulators]
        for number, inside in self._chunks_of(p.inner):
            points = self._points(p.inner, number)
            for states, more in zip(found, self._lifted(p, accumulators, points, inside), strict=True):
                states += more
            if alongside:
                self._store(alongside, points, inside)
        return [a.merge_all(states) for a, states in zip(accumulators, found, strict=True)]

    def _accumulate_in_loop(self, p: Pass, accumulators: list[Accumulator], alongside: Sequence[int]) -> list[State]:
        def body(several: Sequence[tuple[Sequence[Point], Value | None]], states: Sequence[State]) -> list[State]:
            more: list[list[State]] = [[] for _ in accumulators]
            for points, inside in several:
                for known, new in zip(more, self._lifted(p, accumulators, points, inside), strict=True):
                    known += new
            if alongside:
                self._store_all(alongside, several)
            for k in soon:
                self._expect(k, several)
            return [a.merge(s, a.merge_all(new)) for a, s, new in zip(accumulators, states, more, strict=True)]

        # the last pass before results are stored knows where, and if it is long there is time to bring these lines
        soon = [] if p is not self.part.passes[-1] or not self._leaves else self._of_elements(p.inner)
        wanted = [r.operand.value for r in p.reductions] + [self.loops.outputs[k].value for k in alongside]
        return self._loop(p.inner, accumulators, wanted, body)

    def _loop(
        self, inner: Loops, accumulators: Sequence[Accumulator], wanted: Sequence[int], body: LoopBody
    ) -> list[State]:
        """Goes through the elements of this thread, a few at a time: loads that are not far apart overlap.

        Arguments:
            wanted: the values whose elements the body asks for.
        """
        if self.part.target.simd:
            return self._loop_of_vectors(inner, accumulators, wanted, body)
        b, lanes = self.b, self.shape.lanes
        groups, mine, start, stop = self._range(inner)
        unroll = 1
        at_once = self._width(inner) * self.shape.row_lanes
        most = min(ELEMENTS, CODE // (2 * self.order.operations))
        while 2 * unroll * at_once <= most and 2 * unroll * lanes <= mine and unroll < UNROLL:
            unroll *= 2
        first = ix.axis("first", groups)

        def several() -> list[tuple[Sequence[Point], Value | None]]:
            found: list[tuple[Sequence[Point], Value | None]] = [(self._points(inner, first), None)]
            for u in range(1, unroll):
                number = ix.axis("element", groups)
                place = b.op("add", b.index(first), b.constant(u * lanes, I32))
                b.set_axis(number, b.op("min", place, b.op("sub", stop, b.constant(1, I32))))
                inside = None
                if mine % (unroll * lanes) or groups % mine:
                    inside = b.op("lt", place, stop, dtype=BOOL)
                found.append((self._points(inner, number), inside))
            return found

        step = b.constant(unroll * lanes, I32)
        return accumulate_states(b, accumulators, first, lambda states: body(several(), states), start, stop, step)

    def _loop_of_vectors(
        self, inner: Loops, accumulators: Sequence[Accumulator], wanted: Sequence[int], body: LoopBody
    ) -> list[State]:
        """Goes through the elements of a row vector by vector, several at a time, each with partial results of its own:
        sums that do not wait for each other. What takes longer to compute than to add is done while a sum waits, and is not
        written several times."""
        b, lanes, n = self.b, self.shape.lanes, len(accumulators)
        groups, mine, start, stop = self._range(inner)
        numbers = sum(len(a.registers) for a in accumulators)
        several = 1
        if 0 < numbers <= 3 and mine == groups and self.order.operations <= SIMD_CODE:
            computed = needs(self.loops, wanted, {*self.e.known, *self.e.kept})
            if not are_costly(self.loops, computed):
                several = UNROLL if len(computed) <= SIMD_SHORT else UNROLL // 2
        whole = groups // (several * lanes) * several * lanes

        def step(number: Index, states: Sequence[State]) -> list[State]:
            return body([(self._points(inner, number), None)], states)

        first = ix.axis("first", groups)
        if several == 1 or whole < 2 * several * lanes:
            one = b.constant(lanes, I32)
            return accumulate_states(b, accumulators, first, lambda states: step(first, states), start, stop, one)

        def steps(states: Sequence[State]) -> list[State]:
            found = step(first, states[:n])
            for u in range(1, several):
                number = ix.axis("element", groups)
                b.set_axis(number, b.op("add", b.index(first), b.constant(u * lanes, I32)))
                found += step(number, states[u * n : (u + 1) * n])
            return found

        together = b.constant(several * lanes, I32)
        end = b.constant(whole, I32)
        many = accumulate_states(b, [*accumulators] * several, first, steps, start, end, together)
        merged = [a.merge_all(many[k::n]) for k, a in enumerate(accumulators)]
        if whole == groups:
            return merged
        last = ix.axis("last", groups)
        begin, one = b.op("add", start, b.constant(whole, I32)), b.constant(lanes, I32)
        rest = accumulate_states(b, accumulators, last, lambda states: step(last, states), begin, stop, one)
        return [a.merge(s, r) for a, s, r in zip(accumulators, merged, rest, strict=True)]

    # ------------------------------------------------------------------ what a pass leaves
    def _row_memory(self, placed: Placed, inner: Loops) -> Memory:
        register = self.e.types.register(self.e.type(placed.value).dtype)
        return self.scratch.keep(exchanged(register), self.loops.steps(inner))

    def _place_in_row(self, at: Point, inner: Loops) -> Value:
        return self.b.index(ix.linear([at[x] for x in inner], [self.loops.lengths[x] for x in inner]))

    def _leave(self, at: Point, inner: Loops) -> None:
        """Writes what later passes need of an element."""
        for placed, memory in self._leaves:
            value = self.e.at(placed.value, self.loops.coordinates(placed, at))
            self.b.store(memory, self._place_in_row(at, inner), to_exchange(self.b, value))

    def _from_row(self, placed: Placed, memory: Memory, inner: Loops) -> Callable[[Coordinates], Value]:
        register = self.e.types.register(self.e.type(placed.value).dtype)

        def element(coordinates: Coordinates) -> Value:
            at = self.loops.indices(placed, coordinates)
            return from_exchange(self.b, self.b.load(memory, self._place_in_row(at, inner)), register)

        return element

    def _lifted(
        self, p: Pass, accumulators: list[Accumulator], points: Sequence[Point], inside: Value | None
    ) -> list[list[State]]:
        """For each accumulator the elements at some points."""
        found = []
        n = len(self.rows)
        each = len(points) // n
        for k, a in enumerate(accumulators):
            r, j = p.reductions[k // n], k % n
            states = []
            for at in points[j * each : (j + 1) * each]:
                coordinates = self.loops.coordinates(r.operand, at)
                state = a.lift(self.e.at(r.operand.value, coordinates), coordinates)
                states.append(state if a.may_repeat else a.only(inside, state))
            found.append(states)
        if self._leaves:
            for at in points:
                self._leave(at, p.inner)
        return found

    def _know(self, p: Pass, states: Sequence[State]) -> None:
        """Makes the results of a pass known: to all threads of each row."""
        n = len(self.rows)
        for k, r in enumerate(p.reductions):
            results = {}
            for j, at in enumerate(self.rows):
                value = Accumulator(self.e, r.node).finish(states[k * n + j])
                results[self.loops.coordinates(r.result, at)] = value
            self.e.known[r.result.value] = _lookup(results)

    # ------------------------------------------------------------------ going through a row
    def _width(self, inner: Loops) -> int:
        return width(self.loops, self.order, inner, self.shape.adjacent)

    def _is_unrolled(self, inner: Loops) -> bool:
        groups = self.loops.steps(inner) // self._width(inner)
        return self.shape.parts == 1 and (frozenset(inner) in self.shape.unrolled or groups == 1)

    def _chunks_of(self, inner: Loops) -> list[tuple[Index, Value | None]]:
        """The elements of a thread that does not loop: their numbers (of groups), and whether they exist. What does
        not exist is the last one again."""
        if inner in self.chunks:
            return self.chunks[inner]
        b, lanes = self.b, self.shape.lanes
        groups = self.loops.steps(inner) // self._width(inner)
        found: list[tuple[Index, Value | None]] = []
        for k in range(-(-groups // lanes)):
            number = self.team.lane + k * lanes
            if number.high < groups:
                found.append((number, None))
                continue
            within = ix.axis("element", groups)
            place, last = b.index(number), b.constant(groups - 1, I32)
            b.set_axis(within, b.op("min", place, last))
            found.append((within, b.op("le", place, last, dtype=BOOL)))
        self.chunks[inner] = found
        return found

    def _points(self, inner: Loops, number: Index) -> list[Point]:
        """The neighbours of one group of elements, in each row of this thread."""
        v = self._width(inner)
        along = [self._point(inner, number * v + k) for k in range(v)]
        return [{**row, **at} for row in self.rows for at in along]

    def _range(self, inner: Loops) -> tuple[int, int, Value, Value]:
        """Of a thread that loops: how many groups of elements there are, how many of them this workgroup goes through
        at most, this thread's first one, and where the workgroup stops."""
        groups = self.loops.steps(inner) // self._width(inner)
        return groups, groups, self.b.index(self.team.lane), self.b.constant(groups, I32)

    def _each(self, inner: Loops, which: Sequence[int]) -> None:
        """Stores all elements of some results."""
        if self._is_unrolled(inner):
            for number, inside in self._chunks_of(inner):
                self._store(which, self._points(inner, number), inside)
            return

        def body(several: Sequence[tuple[Sequence[Point], Value | None]], states: Sequence[State]) -> list[State]:
            self._store_all(which, several)
            return []

        self._loop(inner, (), [self.loops.outputs[k].value for k in which], body)

    # ------------------------------------------------------------------ results
    def _store(self, which: Sequence[int], points: Sequence[Point], inside: Value | None) -> None:
        self._store_all(which, [(points, inside)])

    def _store_all(self, which: Sequence[int], several: Sequence[tuple[Sequence[Point], Value | None]]) -> None:
        """Writes elements of results to memory. All are computed before the first one is written."""
        ready = [(inside, self._elements(which, points)) for points, inside in several]
        for inside, results in ready:
            with self.b.when(self.b.both(self.valid, inside)):
                for memory, places, elements in results:
                    store(self.b, memory, places, elements)

    def _of_elements(self, inner: Loops) -> list[int]:
        """Results with an element for each step of some loops that are still to be stored."""
        return [k for k in self.waiting if self._inner_of(k) == inner]

    def _expect(self, k: int, several: Sequence[tuple[Sequence[Point], Value | None]]) -> None:
        """Says that elements of a result will be written."""
        o = self.loops.outputs[k]
        for points, _ in several:
            at = self.loops.coordinates(o, points[0])
            self.b.expect(self.outputs[k], self.b.index(ix.linear(at, self.e.type(o.value).shape)))

    def _store_rows(self, which: Sequence[int]) -> None:
        """Writes results that a row has one of. Only the thread that writes them computes them; then it alone reads the
        operands that have one element a row, and results may take the place of these."""
        if not which:
            return
        if len(self.rows) > 1 and self._are_long(which):
            self._store_rows_in_turn(which)
            return
        with self.b.when(self.b.both(self.valid, self.team.is_first())):
            for memory, places, elements in self._elements(which, self.rows):
                store(self.b, memory, places, elements)

    def _are_long(self, which: Sequence[int]) -> bool:
        """Whether so much is computed for these results, on a processor, that to write it once for each row of a lane takes
        long to compile."""
        reduced = frozenset(r.result.value for r in self.loops.reductions)
        made = needs(self.loops, [self.loops.outputs[k].value for k in which], reduced)
        return bool(self.part.target.simd) and len(made) > LONG

    def _store_rows_in_turn(self, which: Sequence[int]) -> None:
        """The same in a loop, which finds what the passes know of each row in memory."""
        b, n, lanes = self.b, len(self.rows), self.shape.slots
        memories = []
        for p in self.part.passes:
            for r in p.reductions:
                register = self.e.types.register(r.node.out_types[0].dtype)
                memory = self.scratch.keep(exchanged(register), n * lanes)
                memories.append((r, memory, register))
                known = self.e.known[r.result.value]
                for j, at in enumerate(self.rows):
                    value = known(self.loops.coordinates(r.result, at))
                    b.store(memory, b.index(self.team.slot + j * lanes), to_exchange(b, value))
        turn = ix.axis("turn", n)
        with b.loop(turn):
            place = b.index(turn * lanes + self.team.slot)
            row = ix.axis("row", self.loops.steps(self.shape.rows))
            b.set_axis(row, b.op("add", self.first, place))
            self.rows = [self._point(self.shape.rows, row)]
            for r, memory, register in memories:
                results = {
                    self.loops.coordinates(r.result, self.rows[0]): from_exchange(b, b.load(memory, place), register)
                }
                self.e.known[r.result.value] = _lookup(results)
            self._store_rows(which)

    def _elements(self, which: Sequence[int], points: Sequence[Point]) -> list[tuple[Memory, list[Index], list[Value]]]:
        """For each result its memory, and the places and values of its elements at some points."""
        found = []
        for k in which:
            o = self.loops.outputs[k]
            at = [self.loops.coordinates(o, point) for point in points]
            places = [ix.linear(c, self.e.type(o.value).shape) for c in at]
            found.append((self.outputs[k], places, stored_elements(self.e, o.value, at)))
        return found

    # ------------------------------------------------------------------ rows of rows
    def _nested_pass(self, p: Pass) -> None:
        """A pass whose results are many for this workgroup: they are kept in its memory."""
        b, loops, threads = self.b, self.loops, self.shape.threads
        sub = self.order.sorted(p.kept - loops.rows)
        count, steps = loops.steps(sub), loops.steps(p.inner)
        lanes = max(1, min(power_of_two(max(threads // count, 1)), power_above(steps), threads))
        team = Team(b, self.part.target, self.scratch, threads, lanes, threads // lanes, True)
        kept = [self._kept(r, count) for r in p.reductions]
        accumulators = [Accumulator(self.e, r.node) for r in p.reductions]
        batch = ix.axis("batch", -(-count // team.slots))
        self.scratch.enter_loop()
        with b.loop(batch):
            number = ix.axis("row", count)
            wanted, last = b.index(batch * team.slots + team.slot), b.constant(count - 1, I32)
            b.set_axis(number, b.op("min", wanted, last))
            at = {**self.rows[0], **self._point(sub, number)}
            states = self._accumulate_nested(p, accumulators, at, team)
            merged = team.combine(accumulators, states)
            with b.when(b.both(b.op("le", wanted, last, dtype=BOOL), team.is_first())):
                for a, memory, state in zip(accumulators, kept, merged, strict=True):
                    b.store(memory, b.index(number), to_exchange(b, a.finish(state)))
        b.barrier()
        for r, memory in zip(p.reductions, kept, strict=True):
            self.e.known[r.result.value] = self._from_memory(r, memory, sub)

    def _kept(self, r: Reduction, count: int) -> Memory:
        register = self.e.types.register(r.node.out_types[0].dtype)
        return self.scratch.keep(exchanged(register), count)

    def _from_memory(self, r: Reduction, memory: Memory, sub: Loops) -> Callable[[Coordinates], Value]:
        b, loops = self.b, self.loops
        register = self.e.types.register(r.node.out_types[0].dtype)

        def element(coordinates: Coordinates) -> Value:
            at = loops.indices(r.result, coordinates)
            place = ix.linear([at[x] for x in sub], [loops.lengths[x] for x in sub])
            return from_exchange(b, b.load(memory, b.index(place)), register)

        return element

    def _accumulate_nested(self, p: Pass, accumulators: Sequence[Accumulator], at: Point, team: Team) -> list[State]:
        """What this thread finds in one row of rows."""
        b, steps = self.b, self.loops.steps(p.inner)

        def lifted(number: Index) -> list[State]:
            point = {**at, **self._point(p.inner, number)}
            found = []
            for a, r in zip(accumulators, p.reductions, strict=True):
                coordinates = self.loops.coordinates(r.operand, point)
                found.append(a.lift(self.e.at(r.operand.value, coordinates), coordinates))
            return found

        if steps == 1:
            inside = team.is_first()
            return [a.only(inside, s) for a, s in zip(accumulators, lifted(ix.constant(0)), strict=True)]
        number = ix.axis("element", steps)

        def body(states: Sequence[State]) -> list[State]:
            return [a.merge(s, new) for a, s, new in zip(accumulators, states, lifted(number), strict=True)]

        return accumulate_states(b, accumulators, number, body, b.index(team.lane), steps, team.lanes)


def _lookup(results: Mapping[Coordinates, Value]) -> Callable[[Coordinates], Value]:
    def element(coordinates: Coordinates) -> Value:
        found = results.get(coordinates)
        if found is None:
            raise NotComputed(f"coordinates {coordinates}, known are {list(results)}")
        return found

    return element
