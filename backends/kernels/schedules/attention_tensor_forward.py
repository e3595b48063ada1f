"""Attention with online softmax on tensor cores.

A workgroup has a tile of queries, and goes through the keys tile by tile. A product of weights and values starts from zero
for each tile: its results pass to the threads that own rows, which add them to sums of their own, relative to the largest
score so far. Since subgroups' matrices cannot be scaled row by row, the other way would be to find the largest scores in
a first pass: that makes all scores twice, their exponentials too, and moves as much through workgroup memory. It also
keeps long sums in IEEE arithmetic, which tensor cores do not.

Source: T. Dao, FlashAttention-2, 2023.
"""

from __future__ import annotations

from collections.abc import Sequence

from backends.kernels.index import Index
from backends.kernels.ir import BOOL, Value, Variable
from backends.kernels.lowering import Argument, Plan, Stage
from backends.kernels.schedules.attention_forward import MINUS_INFINITY, put_features
from backends.kernels.schedules.attention_range import key_tiles, latest_first
from backends.kernels.schedules.attention_tensor import Half, TensorWork, times, tree
from backends.kernels.schedules.attention_tiles import WIDE, Tiling, tensor_line
from backends.kernels.schedules.attention_work import LOWEST, Layout, Work, written_twice
from backends.kernels.target import Target


def tensor_forward(layout: Layout, tiling: Tiling, target: Target) -> Plan:
    """The plan of an `attention` on tensor cores."""
    return Plan((written_twice(lambda previous: _write(layout, tiling, target, previous)),))


def _write(layout: Layout, tiling: Tiling, target: Target, previous: Work | None) -> tuple[Work, Stage]:
    form = layout.form
    outputs = [(Argument("output", k), target.types.storage(t.dtype), t.size) for k, t in enumerate(form.asg.out_types)]
    work = Work(layout, tiling, target, -(-layout.rows // tiling.rows), outputs, previous=previous)
    with work.b.when(work.inside):
        _Forward(work, previous is None).write()
    pairs = layout.batches * layout.rows * layout.columns
    name = f"{form.asg.name} on tensor cores {tiling.rows}x{tiling.columns}"
    return work, work.stage(name, 2.0 * pairs * (layout.size + layout.value_size))


class _Forward:
    def __init__(self, work: Work, draft: bool):
        self.work, self.b, self.layout, self.tiling = work, work.b, work.layout, work.tiling
        self.tensor = TensorWork(work, draft)
        self.number = latest_first(work)
        self.row, self.inside = work.bounded(
            self.number * self.tiling.rows + work.y, self.layout.rows, self.tiling.rows
        )

    def write(self) -> None:
        work, b, layout, tiling, tensor = self.work, self.b, self.layout, self.tiling, self.tensor
        rows, columns, size, value_size = tiling.rows, tiling.columns, layout.size, layout.value_size
        queries = tensor.staged(layout.query, rows, size)
        keys = tensor.staged(layout.key, columns, size)
        values = tensor.staged(layout.value, columns, value_size)
        # weights take the place of keys
        weights = Half(keys.tile.memory, tensor_line(columns))
        weights.memory.size = max(columns * tensor_line(size), rows * tensor_line(columns))
        scratch = tensor.scratch(rows, max(columns, value_size))
        tensor.put(queries, size, tensor.fetch(layout.query, rows, size, self._row_places))
        largest, total = b.variable(work.f32(LOWEST)), b.variable(work.f32(0.0))
        zero = b.splat(work.f32(0.0))
        result = [b.variable(zero) for _ in range(work.feature_groups(value_size))]
        tile, first, last = key_tiles(work, self.number)
        with b.loop(tile, start=first, stop=last):
            fetched = tensor.fetch(layout.key, columns, size, lambda c: self._column_places(tile, c))
            fetched_values = tensor.fetch(layout.value, columns, value_size, lambda c: self._column_places(tile, c))
            tensor.put(keys, size, fetched)
            tensor.put(values, value_size, fetched_values)
            b.barrier()
            tensor.product(queries.tile, keys.tile, rows, columns, size, (False, True), scratch)
            b.barrier()
            products = tensor.mine(scratch, columns)
            products = tensor.unscaled(products, tensor.of_row(queries.factors), keys.factors)
            scores = self._scores(products, tile)
            before = b.read(largest)
            now = b.op("max", before, tensor.reduce("max", tree(b, "max", scores), tiling.across))
            change = b.op("exp", b.op("sub", before, now))
            scores = [b.op("exp", b.op("sub", s, now)) for s in scores]
            b.assign(total, b.op("fma", b.read(total), change, tree(b, "add", scores)))
            b.assign(largest, now)
            most = tensor.largest(values)
            scaled, factor = tensor.scaled_pairs(scores, tensor.shares(values))
            tensor.put_pairs(weights, scaled)
            b.barrier()
            tensor.product(weights, values.tile, rows, value_size, columns, (False, False), scratch)
            b.barrier()
            found = tensor.mine(scratch, value_size)
            for j, part in enumerate(result):
                lanes = [times(b, x, factor, most) for x in found[j * WIDE : j * WIDE + WIDE]]
                b.assign(part, b.op("fma", b.splat(change), b.read(part), b.pack(lanes)))
        self._finish(largest, tensor.reduce("add", b.read(total), tiling.across), result)

    def _row_places(self, row: Index) -> dict:
        at, _ = self.work.bounded(self.number * self.tiling.rows + row, self.layout.rows, self.tiling.rows)
        return self.layout.places(self.work.batch, at, None)

    def _column_places(self, tile: Index, column: Index) -> dict:
        at, _ = self.work.bounded(tile * self.tiling.columns + column, self.layout.columns, self.tiling.columns)
        return self.layout.places(self.work.batch, None, at)

    def _scores(self, products: Sequence[Value], tile: Index) -> list[Value]:
        """The scores of a thread's pairs; -inf for columns that there are not."""
        work, b, layout = self.work, self.b, self.layout
        found = []
        for c, product in enumerate(products):
            at = tile * self.tiling.columns + work.column(c)
            column, inside = work.bounded(at, layout.columns, self.tiling.columns)
            work.e.given({layout.form.product: product})
            element = work.score(layout.places(work.batch, self.row, column))
            found.append(element if inside is None else b.select(inside, element, work.f32(MINUS_INFINITY)))
        return found

    def _finish(self, largest: Variable, total: Value, result: list[Variable]) -> None:
        work, b, layout, form = self.work, self.b, self.layout, self.layout.form
        output = layout.output(*form.result)
        nothing = b.op("eq", total, work.f32(0.0), dtype=BOOL)
        divisor = b.select(nothing, work.f32(1.0), total) if form.guarded else total
        factor = b.splat(b.op("div", work.f32(1.0), divisor))
        places = layout.places(work.batch, self.row, None)
        with b.when(self.inside):
            for j, part in enumerate(result):
                value = b.op("mul", b.read(part), factor)
                put_features(work, Argument("output", 0), output, places, j, value, layout.value_size)
            if len(form.asg.outputs) > 1:
                with b.when(b.op("eq", b.index(work.x), work.i32(0), dtype=BOOL)):
                    memory = work.memories[Argument("output", 1)]
                    first, second = (b.index(work.statistic_place(places, k)) for k in (0, 1))
                    b.store(memory, first, b.select(nothing, work.f32(MINUS_INFINITY), b.read(largest)))
                    b.store(memory, second, total)
