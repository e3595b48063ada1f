"""Attention with online softmax on a processor: the kernel.

A workgroup has a tile of queries. It goes through the keys that these see, tile by tile, and keeps for each query the
largest score so far, the sum of exponentials, and the weighted sum of values, all relative to that score.

Source: T. Dao, FlashAttention-2, 2023.
"""

from __future__ import annotations

from backends.kernels import index as ix
from backends.kernels.ir import BOOL, Memory, Value
from backends.kernels.lowering import Argument, Plan, Stage
from backends.kernels.schedules.attention_forward import MINUS_INFINITY
from backends.kernels.schedules.attention_range import key_range, key_tiles, latest_first
from backends.kernels.schedules.attention_work import LOWEST, Layout, Work, written_twice
from backends.kernels.schedules.simd_attention import Matrix, Piece, SimdWork, simd_tiling
from backends.kernels.target import Target


def simd_forward(layout: Layout, target: Target) -> Plan:
    """The plan of an `attention`."""
    return Plan((written_twice(lambda previous: _write(layout, target, previous)),))


def _write(layout: Layout, target: Target, previous: Work | None) -> tuple[Work, Stage]:
    form = layout.form
    outputs = [(Argument("output", k), target.types.storage(t.dtype), t.size) for k, t in enumerate(form.asg.out_types)]
    tiling = simd_tiling(layout, target, layout.rows)
    work = Work(layout, tiling, target, -(-layout.rows // tiling.rows), outputs, previous=previous)
    _Forward(work).write()
    pairs = layout.batches * layout.rows * layout.columns
    return work, work.stage(form.asg.name, 2.0 * pairs * (layout.size + layout.value_size))


class _Forward:
    def __init__(self, work: Work):
        self.work, self.b, self.layout, self.tiling = work, work.b, work.layout, work.tiling
        self.simd = SimdWork(work)
        self.scores = self.simd.pairs()
        self.largest, self.total = (self.simd.memory(self.tiling.rows) for _ in range(2))

    def write(self) -> None:
        work, b, layout, tiling, simd = self.work, self.b, self.layout, self.tiling, self.simd
        number = latest_first(work)
        rows = simd.piece(b.index(number * tiling.rows), tiling.rows, layout.rows)
        result = simd.rows_matrix(simd.memory(tiling.rows * layout.value_size), layout.value_size)
        simd.clear(result, rows, layout.rows, layout.value_size)
        with simd.each("started", layout.rows, rows) as (_, i):
            b.store(self.largest, i, work.f32(LOWEST))
            b.store(self.total, i, work.f32(0.0))
        queries = simd.matrix(layout.query, layout.size, rows, by_row=True)
        _, stop = key_range(work, number)
        # tiles start at multiples of their length, so that sums do not depend on which queries share a tile
        tile, start, end = key_tiles(work, number)
        with b.loop(tile, start=start, stop=end):
            columns = simd.piece(b.index(tile * tiling.columns), tiling.columns, stop)
            self._tile(rows, columns, queries, result)
        self._finish(rows, result)

    def _tile(self, rows: Piece, columns: Piece, queries: Matrix, result: Matrix) -> None:
        layout, tiling, simd = self.layout, self.tiling, self.simd
        features, wide = ((simd.number(n), n) for n in (layout.size, layout.value_size))
        keys = simd.matrix(layout.key, layout.size, columns, by_row=False)
        turned = simd.right(keys.turned, features, (columns.length, tiling.columns))
        scores = simd.pair_matrix(self.scores)
        simd.multiply((rows.length, columns.length, features[0]), queries, turned, scores, again=False)
        with simd.each("query", layout.rows, rows) as (row, i):
            self._weights(row, i, columns, result)
        values = simd.right(
            simd.matrix(layout.value, layout.value_size, columns, by_row=False), (columns.length, tiling.columns), wide
        )
        simd.multiply((rows.length, wide[0], columns.length), scores, values, result, again=True)

    def _weights(self, row: ix.Index, i: Value, columns: Piece, result: Matrix) -> None:
        """Makes weights of a row's products."""
        work, b, layout, simd = self.work, self.b, self.layout, self.simd
        line = b.op("mul", i, simd.number(simd.line))
        top = b.variable(work.f32(LOWEST))
        with simd.vectors("key", layout.columns, columns) as (column, c):
            place = b.op("add", line, c)
            work.e.given({layout.form.product: b.load(self.scores, place)})
            score = work.score(layout.places(work.batch, row, column))
            b.store(self.scores, place, score)
            b.assign(top, b.op("max", b.read(top), score))
        before = b.load(self.largest, i)
        now = b.op("max", before, simd.all_lanes("max", b.read(top)))
        change = simd.exp(b.op("sub", before, now))
        sums = b.variable(work.f32(0.0))
        with simd.vectors("key", layout.columns, columns) as (_, c):
            place = b.op("add", line, c)
            weight = simd.exp(b.op("sub", b.load(self.scores, place), now))
            b.store(self.scores, place, weight)
            b.assign(sums, b.op("add", b.read(sums), weight))
        total = b.op("fma", b.load(self.total, i), change, simd.all_lanes("add", b.read(sums)))
        b.store(self.largest, i, now)
        b.store(self.total, i, total)
        with simd.vectors("feature", layout.value_size) as (_, f):
            place = b.op("add", b.op("mul", i, result.row), f)
            b.store(result.memory, place, b.op("mul", b.load(result.memory, place), change))

    def _finish(self, rows: Piece, result: Matrix) -> None:
        work, b, layout, form, simd = self.work, self.b, self.layout, self.layout.form, self.simd
        output = layout.output(*form.result)
        with simd.each("query", layout.rows, rows) as (row, i):
            total = b.load(self.total, i)
            nothing = b.op("eq", total, work.f32(0.0), dtype=BOOL)
            factor = b.op("div", work.f32(1.0), b.select(nothing, work.f32(1.0), total) if form.guarded else total)
            places = layout.places(work.batch, row, None)
            with simd.vectors("feature", layout.value_size) as (feature, f):
                element = b.load(result.memory, b.op("add", b.op("mul", i, result.row), f))
                simd.put(Argument("output", 0), output, places, feature, b.op("mul", element, factor))
            if len(form.asg.outputs) > 1:
                memory: Memory = work.memories[Argument("output", 1)]
                first, second = (b.index(work.statistic_place(places, k)) for k in (0, 1))
                b.store(memory, first, b.select(nothing, work.f32(MINUS_INFINITY), b.load(self.largest, i)))
                b.store(memory, second, total)
