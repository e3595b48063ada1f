"""Running reductions along an axis.

A line (the elements along the axis) is cut into pieces. If there are several, their totals are computed first, then the
running totals of those, and then each piece goes on from the total of all before it. A piece is gone through by one
thread, where neighbouring threads have neighbouring lines; or by a workgroup, tile by tile: each thread puts a few
neighbours together, the threads' totals are summed up by doubling, and each thread goes on from the total before it.
The order of additions depends on the shape only. (Hillis and Steele, "Data parallel algorithms", 1986.)
"""

from __future__ import annotations

from collections.abc import Callable

from asgfn.graph.asg import Asg
from asgfn.graph.types import ArrayType
from asgfn.records import record
from backends.kernels import index as ix
from backends.kernels.index import Index
from backends.kernels.ir import BOOL, I32, U32, Builder, Memory, Value
from backends.kernels.lowering import Argument, Plan, plan_for_primitive
from backends.kernels.monoids import Monoid
from backends.kernels.schedules.lines import Lines
from backends.kernels.schedules.stages import Stages, bounded
from backends.kernels.target import Target

_COMBINERS = {"cumsum": "add", "cumprod": "mul", "cummax": "max", "cummin": "min", "cumlogsumexp": "logaddexp"}
SHORT = 32  # lines up to this length, and those that lie next to so many others, are for single threads
PIECE = 64  # the fewest elements of a piece for a single thread
MANY_THREADS = 1 << 16  # what keeps a device busy
MANY_GROUPS = 512
LANES = 7  # elements of a thread in a tile: odd, so that threads read different banks of memory


@plan_for_primitive(*_COMBINERS)
def plan_scan(asg: Asg, target: Target) -> Plan | None:
    """Thread by thread, or workgroup by workgroup."""
    (node,) = asg.nodes
    (t,) = asg.inputs
    if not target.types.holds(t.dtype):
        return None
    if not t.size:
        return Plan(())
    lines = Lines(t.shape, node.params["axis"])
    stages = Stages(target)
    monoid = Monoid(target.types, _COMBINERS[node.primitive.name], t.dtype)
    source, result = (Sequences(Argument(kind, 0), t, lines, node.params["reverse"]) for kind in ("input", "output"))
    scan_lines(stages, monoid, source, result)
    return stages.plan()


@record
class Sequences:
    """An input, output or temporary as lines of numbers.

    Attributes:
        memory: where they are.
        type: dtype and shape; for temporaries None: they hold partial results.
        lines: of the array.
        backwards: whether lines start at their ends.
    """

    memory: Argument
    type: ArrayType | None
    lines: Lines
    backwards: bool = False

    def place(self, b: Builder, line: Index, i: Index) -> Value:
        return b.index(self.lines.place(line, -i + (self.lines.length - 1) if self.backwards else i))

    def bind(self, stages: Stages, b: Builder, name: str) -> Memory:
        if self.type is None:
            return stages.bind(b, self.memory, name)
        return stages.bind(b, self.memory, name, stages.target.types.storage(self.type.dtype), self.type.size)

    def reader(self, stages: Stages, b: Builder, monoid: Monoid) -> Callable[[Index, Index], Value]:
        """Reads an element as a partial result."""
        memory, types = self.bind(stages, b, "source"), stages.target.types

        def read(line: Index, i: Index) -> Value:
            element = b.load(memory, self.place(b, line, i))
            if self.type is None:
                return types.from_memory(b, element, monoid.wide)
            return monoid.widen(b, types.from_memory(b, element, self.type.dtype))

        return read

    def writer(self, stages: Stages, b: Builder, monoid: Monoid) -> Callable[[Index, Index, Value], None]:
        """Writes a partial result."""
        memory, types = self.bind(stages, b, "result"), stages.target.types

        def write(line: Index, i: Index, total: Value) -> None:
            if self.type is None:
                element = types.to_memory(b, total, monoid.wide)
            else:
                element = types.to_memory(b, monoid.narrow(b, total), self.type.dtype)
            b.store(memory, self.place(b, line, i), element)

        return write


def scan_lines(stages: Stages, monoid: Monoid, source: Sequences, result: Sequences) -> None:
    """Writes the stages that put each element together with all before it."""
    lines = source.lines
    n = lines.length
    alone = n <= SHORT or lines.inner >= SHORT
    if alone:
        pieces = max(1, min(MANY_THREADS // lines.count, n // PIECE))
    else:
        pieces = max(1, min(MANY_GROUPS // lines.count, n // (4 * _Tile(stages, monoid, n).size)))
    length = -(-n // pieces)
    pieces = -(-n // length)
    kernel = _alone if alone else _together
    if pieces == 1:
        kernel(stages, monoid, source, result, length, None, totals=False)
        return
    # the totals of a line's pieces are a line, next to those of its neighbours
    of_pieces = Lines((lines.count // lines.inner, pieces, lines.inner), 1)
    totals, before = (
        Sequences(stages.temporary(monoid.types.storage(monoid.wide), lines.count * pieces), None, of_pieces)
        for _ in range(2)
    )
    kernel(stages, monoid, source, totals, length, None, totals=True)
    scan_lines(stages, monoid, totals, before)
    kernel(stages, monoid, source, result, length, before, totals=False)


def _start(stages: Stages, b: Builder, monoid: Monoid, before: Sequences | None, line: Index, piece: Index) -> Value:
    """The total of all pieces of a line before this one."""
    nothing = monoid.identity(b)
    if before is None:
        return nothing
    last = ix.computed(b.op("max", b.index(piece - 1), b.constant(0, I32)), 0, max(before.lines.length - 1, 0))
    memory = before.bind(stages, b, "before")
    total = stages.target.types.from_memory(b, b.load(memory, before.place(b, line, last)), monoid.wide)
    return b.select(b.op("gt", b.index(piece), b.constant(0, I32), dtype=BOOL), total, nothing)


def _alone(
    stages: Stages, monoid: Monoid, source: Sequences, result: Sequences, length: int, before: Sequences | None, totals: bool
) -> None:  # fmt: skip
    """One thread for each piece. With `totals`, only what all elements of a piece make is written."""
    lines, b = source.lines, Builder()
    n, pieces = lines.length, -(-lines.length // length)
    read, write = source.reader(stages, b, monoid), result.writer(stages, b, monoid)
    if before is not None:
        before.bind(stages, b, "before")
    moved = 4.0 * lines.count * n * (1 if totals else 2)
    with stages.each(b, lines.count * pieces, "piece totals" if totals else "scan", moved) as flat:
        # neighbouring threads have neighbouring lines
        line = flat.digit(pieces * lines.inner) * lines.inner + flat.digit(1, lines.inner)
        piece = flat.digit(lines.inner, pieces)
        total = b.variable(_start(stages, b, monoid, before, line, piece))
        step = ix.axis("step", length)
        with b.loop(step):
            i = piece * length + step
            with b.when(b.within(i, 0, n)):
                b.assign(total, monoid.combine(b, b.read(total), read(line, i)))
                if not totals:
                    write(line, i, b.read(total))
        if totals:
            write(line, piece, b.read(total))


class _Tile:
    """How a workgroup goes through a piece.

    Attributes:
        threads: of the workgroup.
        lanes: elements of each in a tile.
        size: of a tile.
    """

    def __init__(self, stages: Stages, monoid: Monoid, length: int):
        target = stages.target
        room = target.workgroup_bytes // 4
        threads = min(256, target.workgroup_threads, 1 << (room // (LANES + 1)).bit_length() - 1)
        # short pieces need fewer threads
        self.threads = min(threads, max(32, 1 << (-(-length // LANES) - 1).bit_length()))
        self.lanes = min(LANES, -(-length // self.threads) | 1)
        self.size = self.threads * self.lanes


def _together(
    stages: Stages, monoid: Monoid, source: Sequences, result: Sequences, length: int, before: Sequences | None, totals: bool
) -> None:  # fmt: skip
    """One workgroup for each piece."""
    lines, b = source.lines, Builder()
    n, pieces = lines.length, -(-lines.length // length)
    tile = _Tile(stages, monoid, length)
    read, write = source.reader(stages, b, monoid), result.writer(stages, b, monoid)
    grid = stages.target.grid_of(lines.count * pieces)
    group = b.builtin("group_x")
    if grid[1] > 1:
        group = b.op("add", b.op("mul", b.builtin("group_y"), b.constant(grid[0], I32)), group)
    # workgroups beyond the last one do its work once more, and write nothing: all threads must meet at barriers
    is_real = None if grid[0] * grid[1] == lines.count * pieces else b.op("lt", group, b.constant(lines.count * pieces, I32), dtype=BOOL)  # fmt: skip
    number = ix.computed(b.op("min", group, b.constant(lines.count * pieces - 1, I32)), 0, lines.count * pieces - 1)
    line, piece = number.digit(pieces), number.digit(1, pieces)
    thread = ix.axis("thread", tile.threads)
    b.set_axis(thread, b.builtin("thread"))
    team = _Team(stages, b, monoid, tile.threads, thread)
    begin = piece * length
    first = _start(stages, b, monoid, before, line, piece)
    stop = b.op("min", b.index(begin + length), b.constant(n, I32))
    if totals:
        total = b.variable(first)
        rounds = ix.axis("round", -(-length // tile.threads))
        with b.loop(rounds):
            i = begin + rounds * tile.threads + thread
            with b.when(b.op("lt", b.index(i), stop, dtype=BOOL)):
                b.assign(total, monoid.combine(b, b.read(total), read(line, bounded(b, i, n))))
        whole = team.running(b.read(total))[1]
        with b.when(b.both(is_real, b.op("eq", b.index(thread), b.constant(0, I32), dtype=BOOL))):
            write(line, piece, whole)
    else:
        elements = b.workgroup_memory(team.storage, tile.size)
        carried = b.variable(first)
        tiles = ix.axis("tile", -(-length // tile.size))

        def each_place(start: Index, visit: Callable[[Value, Index], None]) -> None:
            """Visits this thread's elements of a tile as neighbouring threads have neighbouring ones."""
            for lane in range(tile.lanes):
                local = thread + lane * tile.threads
                visit(b.index(local), start + local)

        with b.loop(tiles):
            start = begin + tiles * tile.size

            def load(local: Value, i: Index) -> None:
                found = b.variable(monoid.identity(b))
                with b.when(b.op("lt", b.index(i), stop, dtype=BOOL)):
                    b.assign(found, read(line, bounded(b, i, n)))
                b.store(elements, local, team.stored(b.read(found)))

            def store(local: Value, i: Index) -> None:
                with b.when(b.both(is_real, b.op("lt", b.index(i), stop, dtype=BOOL))):
                    write(line, bounded(b, i, n), team.loaded(b.load(elements, local)))

            each_place(start, load)
            b.barrier()
            own = [b.index(thread * tile.lanes + k) for k in range(tile.lanes)]
            mine = team.loaded(b.load(elements, own[0]))
            for place in own[1:]:
                mine = monoid.combine(b, mine, team.loaded(b.load(elements, place)))
            others, whole = team.running(mine)
            running = monoid.combine(b, b.read(carried), others)
            for place in own:
                running = monoid.combine(b, running, team.loaded(b.load(elements, place)))
                b.store(elements, place, team.stored(running))
            b.assign(carried, monoid.combine(b, b.read(carried), whole))
            b.barrier()
            each_place(start, store)
            b.barrier()
    moved = 4.0 * lines.count * n * (1 if totals else 2)
    stages.add(b.kernel("piece totals" if totals else "scan", (tile.threads,), grid, bytes=moved))


class _Team:
    """The threads of a workgroup, each with a partial result."""

    def __init__(self, stages: Stages, b: Builder, monoid: Monoid, threads: int, thread: Index):
        self.types, self.b, self.monoid, self.threads, self.thread = stages.target.types, b, monoid, threads, thread
        self.storage = self.types.storage(monoid.wide)
        self.memory = b.workgroup_memory(self.storage, threads)

    def stored(self, value: Value) -> Value:
        return self.types.to_memory(self.b, value, self.monoid.wide)

    def loaded(self, element: Value) -> Value:
        return self.types.from_memory(self.b, element, self.monoid.wide)

    def running(self, value: Value) -> tuple[Value, Value]:
        """What the threads before this one have together, and what all have. All threads must arrive here."""
        b = self.b
        mine = b.index(self.thread)
        b.store(self.memory, mine, self.stored(value))
        b.barrier()
        level = ix.axis("level", self.threads.bit_length() - 1)
        with b.loop(level):
            distance = b.op("shift_left", b.constant(1, I32), b.op("convert", b.index(level), dtype=U32))
            reaches = b.op("ge", mine, distance, dtype=BOOL)
            there = b.select(reaches, b.op("sub", mine, distance), mine)
            earlier, own = (self.loaded(b.load(self.memory, place)) for place in (there, mine))
            total = b.select(reaches, self.monoid.combine(b, earlier, own), own)
            b.barrier()
            b.store(self.memory, mine, self.stored(total))
            b.barrier()
        before = b.op("max", b.op("sub", mine, b.constant(1, I32)), b.constant(0, I32))
        others = self.loaded(b.load(self.memory, before))
        whole = self.loaded(b.load(self.memory, b.constant(self.threads - 1, I32)))
        is_first = b.op("eq", mine, b.constant(0, I32), dtype=BOOL)
        return b.select(is_first, self.monoid.identity(b), others), whole
