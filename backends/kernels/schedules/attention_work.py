"""What the kernels of attention have in common: where operands are, tiles in workgroup memory, products of tiles."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from asgfn.graph.asg import Asg
from backends.kernels import index as ix
from backends.kernels.attention_form import Form
from backends.kernels.attention_frame import Frame, axes_of, follow
from backends.kernels.attention_terms import Coordinates
from backends.kernels.elements import Elements
from backends.kernels.index import Axis, Index
from backends.kernels.ir import BOOL, F32, I32, Builder, Memory, Value, Variable
from backends.kernels.lowering import Argument, Stage
from backends.kernels.schedules.attention_tiles import WIDE, Tiling, groups, stride
from backends.kernels.target import Target

F32_DTYPE = np.dtype(np.float32)
LOWEST = float(np.finfo(np.float32).min)


class Operand(NamedTuple):
    """A value, and the coordinates of its elements in terms of the frame and of `inner`, its feature axis."""

    value: int
    at: Coordinates
    inner: Index


class Layout:
    """Where everything is in an attention, from its form alone.

    Attributes:
        rows, columns, batches: how many queries (of all heads that share keys), keys, and independent problems.
        size, value_size: features of queries and keys, and of values.
        query, key, value, gradient: operands; `gradient` is that of the result.
        step: how many rows there are for each place that the band counts.
    """

    def __init__(self, form: Form):
        self.form, asg = form, form.asg
        frame = self.frame = Frame(asg, form.scores, form.product, form.exponentials, form.axis)
        assert frame.found
        terms = frame.terms
        self.size = frame.size
        self.query, self.key = (Operand(value, at, frame.inner) for value, at in (frame.query, frame.key))
        self.gradient: Operand | None = None
        g = form.gradient
        dots = {asg.first_outputs[u.node]: u for u in frame.uses}
        if g is None:
            use = dots[form.result[0]]
            self.value_size = use.size
            self.value = Operand(*use.other, terms.summed(use.size))
            self.result = (use.result, terms.summed(use.size))
        else:
            node = asg.nodes[asg.producers[g.weight_gradient]]
            for u in frame.uses:
                terms.at(u.value, frame.places[u.value])
            (at,) = terms.places[g.weight_gradient]
            operands = terms.operands(node, at)
            assert operands is not None
            self.value_size = asg.value_types[node.inputs[0]].shape[node.params["dimension_numbers"][0][0][0]]
            inner = terms.summed(self.value_size)
            self.value = Operand(*operands[g.value_side], inner)
            self.gradient = Operand(*operands[1 - g.value_side], inner)
        self.uses = dots
        own = {terms.column_axis, *axes_of((frame.inner, terms.summed(self.value_size)))}
        batch = (axes_of(self.value.at) | axes_of(self.key.at)) - own
        self.batch_axes = [a for a in frame.axes if a in batch]
        rows = [a for a in frame.axes if a not in batch and a is not terms.column_axis]
        # the axis of the band comes first: neighbouring rows then see nearly the same keys
        self.band_axis: Axis | None = None
        if form.row >= 0:
            ((axis, _),) = frame.scores[form.row].terms.items()
            assert isinstance(axis, Axis)
            self.band_axis = axis
            rows = [axis, *(a for a in rows if a is not axis)]
        self.row_axes = rows
        self.rows, self.batches = (_product([a.size for a in axes]) for axes in (rows, self.batch_axes))
        self.columns = terms.column_axis.size
        self.step = self.rows // self.band_axis.size if self.band_axis is not None else 1

    def places(self, batch: Index, row: Index | None, column: Index | None) -> dict:
        """The frame's axes as indices of a kernel."""
        changes = dict(zip(self.batch_axes, ix.coordinates(batch, tuple(a.size for a in self.batch_axes)), strict=True))
        if row is not None:
            changes |= zip(self.row_axes, ix.coordinates(row, tuple(a.size for a in self.row_axes)), strict=True)
        if column is not None:
            changes[self.frame.terms.column_axis] = column
        return changes

    def output(self, dot: int, end: int, operand: Operand | None = None) -> Operand:
        """An output that views make of a product with the weights or their gradients."""
        use = self.uses[dot]
        at = follow(self.form.asg, dot, use.result, end)
        return Operand(end, at, self.frame.terms.summed(use.size))


def placed(at: Coordinates, changes: dict) -> Coordinates:
    return tuple(i.replaced(changes) for i in at)


def _product(sizes: Sequence[int]) -> int:
    n = 1
    for size in sizes:
        n *= size
    return n


class Forced(Elements):
    """Elements of an expression in which some values are given, at whatever coordinates they are asked for."""

    forced: dict[int, Value]

    def at(self, value: int, coordinates: Coordinates, mask: Value | None = None) -> Value:
        found = self.forced.get(value)
        return found if found is not None else super().at(value, coordinates, mask)

    def given(self, values: dict[int, Value]) -> None:
        """Says what values are, from here on; each is converted from float32."""
        for value, element in values.items():
            self.forced[value] = self.types.convert(self.builder, element, F32_DTYPE, self.type(value).dtype)


class Work:
    """One kernel while it is written: its memories, its elements, who its threads are.

    Attributes:
        b: the builder.
        e: elements of the expression.
        thread: the number of a thread; `x`, `y`: its place.
        batch: the independent problem that a workgroup works on; `number`: of the tile in it.
    """

    def __init__(
        self,
        layout: Layout,
        tiling: Tiling,
        target: Target,
        tiles: int,
        outputs: Sequence[tuple[Argument, str, int]],
        extra: Sequence[tuple[Argument, str, int]] = (),
        previous: Work | None = None,
    ):
        self.layout, self.tiling, self.target = layout, tiling, target
        self.asg: Asg = layout.form.asg
        b = self.b = Builder()
        types = target.types
        self.memories: dict[Argument, Memory] = {}
        inputs: list[Memory | None] = []
        for k, t in enumerate(self.asg.inputs):
            argument = Argument("input", k)
            used = previous is None or k in previous.e.places
            if used:
                self.memories[argument] = b.argument(f"in{k}", types.storage(t.dtype), t.size)
            inputs.append(self.memories.get(argument))
        assert all(not t.shape for t in self.asg.constant_types)
        self.e: Forced = Forced(b, self.asg, types, inputs, [None] * len(self.asg.constants))  # type: ignore[arg-type]
        self.e.forced = {}
        for argument, dtype, size in (*extra, *outputs):
            self.memories[argument] = b.argument(f"{argument.kind}{argument.number}", dtype, size)
        if previous is not None and not target.simd:
            for k, places in previous.e.places.items():
                memory = inputs[k]
                if memory is not None and memory.size % WIDE == 0 and all(map(_is_wide, places)):
                    memory.width, memory.size = WIDE, memory.size // WIDE
        self.thread = ix.axis("thread", tiling.threads)
        b.set_axis(self.thread, b.builtin("thread"))
        self.x, self.y = self.thread.digit(1, tiling.across), self.thread.digit(tiling.across)
        self.grid = target.grid_of(layout.batches * tiles)
        group = b.builtin("group_x")
        self.inside: Value | None = None
        if self.grid[1] > 1:
            group = b.op("add", b.op("mul", b.builtin("group_y"), b.constant(self.grid[0], I32)), group)
            self.inside = b.op("lt", group, b.constant(layout.batches * tiles, I32), dtype=BOOL)
        whole = ix.axis("group", layout.batches * tiles)
        b.set_axis(whole, group)
        self.number, self.batch = whole.digit(1, tiles), whole.digit(tiles)

    def stage(self, name: str, flops: float) -> Stage:
        moved = sum(m.size * m.width * 4 for m in self.memories.values())
        kernel = self.b.kernel(name, (self.tiling.threads,), self.grid, flops=flops, bytes=float(moved))
        return Stage(kernel, tuple(self.memories))

    # ------------------------------------------------------------------ numbers
    def f32(self, number: float) -> Value:
        return self.b.constant(number, F32)

    def i32(self, number: int) -> Value:
        return self.b.constant(number, I32)

    def read(self, operand: Operand, changes: dict, inner: Index) -> Value:
        """An element of an operand, as float32."""
        at = placed(operand.at, {**changes, **named(operand.inner, inner)})
        found = self.e.at(operand.value, at)
        return self.e.types.convert(self.b, found, self.e.type(operand.value).dtype, F32_DTYPE)

    def score(self, changes: dict) -> Value:
        """The score of a pair, of which the product was given."""
        form = self.layout.form
        found = self.e.at(form.scores, placed(self.layout.frame.scores, changes))
        return self.e.types.convert(self.b, found, self.e.type(form.scores).dtype, F32_DTYPE)

    def pair(self, value: int, changes: dict) -> Value:
        """The element of a value that is as large as the scores, for a pair."""
        found = self.e.at(value, placed(self.layout.frame.places[value], changes))
        return self.e.types.convert(self.b, found, self.e.type(value).dtype, F32_DTYPE)

    def statistic(self, changes: dict, k: int) -> Value:
        """The maximum (0) or the sum (1) of a row, in a gradient."""
        gradient = self.layout.form.gradient
        assert gradient is not None
        t = self.asg.value_types[gradient.statistics]
        return self.e.at(gradient.statistics, ix.coordinates(self.statistic_place(changes, k), t.shape))

    def softmax(self, changes: dict) -> tuple[Value, Value]:
        """The maximum of a row, and 1 / sum, in a gradient. Where it is guarded, a row of nothing has 0 and 1."""
        b = self.b
        largest, total = (self.statistic(changes, k) for k in (0, 1))
        if self.layout.form.guarded:
            nothing = b.op("eq", largest, self.f32(-math.inf), dtype=BOOL)
            largest = b.select(nothing, self.f32(0.0), largest)
            empty = b.op("eq", total, self.f32(0.0), dtype=BOOL)
            total = b.select(empty, self.f32(1.0), total)
        return largest, b.op("div", self.f32(1.0), total)

    def statistic_place(self, changes: dict, k: int) -> Index:
        """Where the maximum (0) or the sum (1) of a row is."""
        form = self.layout.form
        shape = [n for axis, n in enumerate(self.asg.value_types[form.scores].shape) if axis != form.axis]
        at = [i for axis, i in enumerate(self.layout.frame.scores) if axis != form.axis]
        return ix.linear((ix.constant(k), *placed(tuple(at), changes)), (2, *shape))

    def bounded(self, index: Index, size: int, extent: int) -> tuple[Index, Value | None]:
        """An index, or the last one if it is beyond a size that the extent does not divide; and whether it was inside."""
        if size % extent == 0:
            return index, None
        b = self.b
        value = b.index(index)
        inside = b.op("lt", value, self.i32(size), dtype=BOOL)
        if size == 1:
            return ix.constant(0), inside
        axis = ix.axis("bounded", size)
        b.set_axis(axis, b.op("min", value, self.i32(size - 1)))
        return axis, inside

    # ------------------------------------------------------------------ tiles
    def fill(self, tile: Tile, operand: Operand, size: int, changes: Callable[[Index], dict]) -> None:
        """Copies rows of an operand into a tile; `changes(row of the tile)` says where they are."""
        b, threads = self.b, self.tiling.threads
        wide = groups(size)
        count = tile.rows * wide
        for batch in range(0, count, threads * 4):
            found = []
            for start in range(batch, min(batch + threads * 4, count), threads):
                number, exists = self.thread + start, None
                if start + threads > count:
                    value = b.index(number)
                    exists = b.op("lt", value, self.i32(count), dtype=BOOL)
                    number = ix.axis("item", count)
                    b.set_axis(number, b.op("min", value, self.i32(count - 1)))
                row, group = number.digit(wide), number.digit(1, wide)
                found.append((exists, row, group, self.group_of(operand, size, changes(row), group)))
            for exists, row, group, lanes in found:
                with b.when(exists):
                    b.store(tile.memory, b.index(tile.place(row, group)), tuple(lanes))

    def group_of(self, operand: Operand, size: int, changes: dict, group: Index) -> list[Value]:
        """Four neighbouring features of an operand; 0 beyond the last."""
        lanes = []
        for k in range(WIDE):
            inner, inside = self.bounded(group * WIDE + k, size, WIDE)
            element = self.read(operand, changes, inner)
            lanes.append(element if inside is None else self.b.select(inside, element, self.f32(0.0)))
        return lanes

    def dot(self, rows: Tile, columns: Tile, size: int) -> list[list[Variable]]:
        """For each of a thread's rows and columns the product of features of two tiles."""
        b, t = self.b, self.tiling
        zero = self.f32(0.0)
        totals = [[b.variable(zero) for _ in range(t.thread_groups * WIDE)] for _ in range(t.thread_rows)]
        step = ix.axis("feature", groups(size))
        with b.loop(step):
            left = [rows.load(self.y + i * t.down, step) for i in range(t.thread_rows)]
            for c in range(t.thread_groups * WIDE):
                right = columns.load(self.column(c), step)
                for i in range(t.thread_rows):
                    total = b.read(totals[i][c])
                    for k in range(WIDE):
                        total = b.op("fma", b.lane(left[i], k), b.lane(right, k), total)
                    b.assign(totals[i][c], total)
        return totals

    def column(self, c: int) -> Index:
        """The place in a tile of a thread's column: four neighbours, then four that are a row of threads away."""
        return (self.x + c // WIDE * self.tiling.across) * WIDE + c % WIDE

    def row(self, i: int) -> Index:
        return self.y + i * self.tiling.down

    def add_product(self, weights: Tile, values: Tile, size: int, totals: list[list[Variable]]) -> None:
        """totals[row][group of features] += weights[row, column] * values[column, features]."""
        b, t = self.b, self.tiling
        step = ix.axis("column", t.columns // WIDE)
        with b.loop(step):
            left = [weights.load(self.row(i), step) for i in range(t.thread_rows)]
            for k in range(WIDE):
                right = [values.load(step * WIDE + k, self.feature(j, size)) for j in range(len(totals[0]))]
                for i in range(t.thread_rows):
                    factor = b.splat(b.lane(left[i], k))
                    for total, value in zip(totals[i], right, strict=True):
                        b.assign(total, b.op("fma", factor, value, b.read(total)))

    def feature(self, j: int, size: int) -> Index:
        """A thread's group of features; the last one again if there are no more."""
        index, _ = self.bounded(self.x + j * self.tiling.across, groups(size), self.tiling.across)
        return index

    def feature_groups(self, size: int) -> int:
        """Groups of features of a thread."""
        return -(-groups(size) // self.tiling.across)

    # ------------------------------------------------------------------ results
    def put(
        self, argument: Argument, output: Operand, changes: dict, group: Index, lanes: Sequence[Value], size: int
    ) -> None:
        """Stores four neighbouring features of an output."""
        b, memory = self.b, self.memories[argument]
        t = self.asg.value_types[output.value]
        types = self.e.types
        places = []
        for k in range(WIDE):
            at = placed(output.at, {**changes, **named(output.inner, group * WIDE + k)})
            places.append(ix.linear(at, t.shape))
        values = [types.to_memory(b, types.convert(b, v, F32_DTYPE, t.dtype), t.dtype) for v in lanes]
        wide = size % WIDE == 0 and places[0].divides(WIDE) and all(p == places[0] + k for k, p in enumerate(places))
        if wide and t.size % WIDE == 0 and (memory.width == WIDE or not memory.written):
            if memory.width == 1:
                memory.width, memory.size = WIDE, memory.size // WIDE
            b.store(memory, b.index(places[0].over(WIDE)), tuple(values))
            return
        for k, (place, value) in enumerate(zip(places, values, strict=True)):
            inside = None
            if size % WIDE:
                inside = b.op("lt", b.index(group * WIDE + k), self.i32(size), dtype=BOOL)
            with b.when(inside):
                b.store(memory, b.index(place), value)


class Tile:
    """Rows of features in workgroup memory, in groups of four. Columns (keys) are kept in an order in which those that
    neighbouring threads read at a time are neighbours."""

    def __init__(self, work: Work, memory: Memory, rows: int, step: int, columns: bool = False):
        self.work, self.memory, self.rows, self.step, self.columns = work, memory, rows, step, columns

    def place(self, row: Index, group: Index) -> Index:
        if self.columns:
            row = row.digit(1, WIDE) * (self.rows // WIDE) + row.digit(WIDE)
        return row * self.step + group

    def load(self, row: Index, group: Index) -> Value:
        b = self.work.b
        return b.load_vector(self.memory, b.index(self.place(row, group)))


def new_tile(work: Work, rows: int, size: int, columns: bool = False) -> Tile:
    """A tile for rows of so many numbers."""
    return Tile(work, wide_memory(work, rows * stride(size)), rows, stride(size), columns)


def wide_memory(work: Work, size: int) -> Memory:
    """Workgroup memory of groups of four numbers."""
    memory = work.b.workgroup_memory(F32, size)
    memory.width = WIDE
    return memory


def named(axis: Index, index: Index) -> dict:
    """An operand's feature axis as an index of a kernel."""
    return dict.fromkeys(axis.terms, index)


def _is_wide(place: Index) -> bool:
    return (place - place.constant % WIDE).divides(WIDE)


def written_twice(write: Callable[[Work | None], tuple[Work, Stage]]) -> Stage:
    """A kernel that is written twice: what it reads, and what of that in groups of four, is known after the first time."""
    first, _ = write(None)
    return write(first)[1]
