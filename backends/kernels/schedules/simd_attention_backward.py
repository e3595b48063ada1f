"""The gradients of attention on a processor: one kernel.

A workgroup has a batch: a head, say. For each tile of keys it goes through the queries that see them, computes weights and
changes of scores once, and adds to the gradients of all three: those of keys and values stay in the cache meanwhile, those
of queries are rows in memory.

Source: T. Dao, FlashAttention-2, 2023. The sum over keys of weights times their gradients is the product of the result and
its gradient.
"""

from __future__ import annotations

from typing import NamedTuple

from backends.kernels import index as ix
from backends.kernels.attention_frame import follow
from backends.kernels.ir import F32, Memory, Value
from backends.kernels.lowering import Argument, Plan, Stage
from backends.kernels.schedules.attention_range import query_range
from backends.kernels.schedules.attention_work import Layout, Operand, Work, written_twice
from backends.kernels.schedules.simd_attention import Matrix, Piece, SimdWork, simd_tiling
from backends.kernels.target import Target

QUERIES = Argument("temporary", 0)  # their gradients
ROWS = Argument("temporary", 1)  # for each row: maximum, 1 / sum, sum of weighted gradients
_NUMBERS = 3


def simd_backward(layout: Layout, target: Target) -> Plan:
    """The plan of an `attention_gradient`."""
    stage = written_twice(lambda previous: _write(layout, target, previous))
    return Plan((stage,), temporaries=tuple((F32, size) for _, _, size in _temporaries(layout)))


def _temporaries(layout: Layout) -> list[tuple[Argument, str, int]]:
    rows = layout.batches * layout.rows
    return [(QUERIES, F32, rows * layout.size), (ROWS, F32, rows * _NUMBERS)]


def _write(layout: Layout, target: Target, previous: Work | None) -> tuple[Work, Stage]:
    asg, g = layout.form.asg, layout.form.gradient
    assert g is not None
    outputs = [(Argument("output", k), target.types.storage(t.dtype), t.size) for k, t in enumerate(asg.out_types)]
    work = Work(layout, simd_tiling(layout, target, 1), target, 1, outputs, _temporaries(layout), previous)
    _Backward(work).write()
    pairs = layout.batches * layout.rows * layout.columns
    products = (3 if g.key or g.query else 1) * layout.size + 2 * layout.value_size
    return work, work.stage(asg.name, 2.0 * pairs * products)


class _Sums(NamedTuple):
    """Which output is a gradient, which value is summed to it, and where."""

    dot: int
    end: int
    matrix: Matrix


class _Backward:
    def __init__(self, work: Work):
        self.work, self.b, self.layout, self.tiling, self.form = (
            work,
            work.b,
            work.layout,
            work.tiling,
            work.layout.form,
        )
        assert self.form.gradient is not None and self.layout.gradient is not None
        self.g, self.gradient = self.form.gradient, self.layout.gradient
        self.simd = SimdWork(work)
        self.size, self.value_size = self.layout.size, self.layout.value_size
        self.batch_row = self.b.index(work.batch * self.layout.rows)

    def write(self) -> None:
        work, b, layout, tiling, simd, g = self.work, self.b, self.layout, self.tiling, self.simd, self.g
        everything = simd.piece(0, layout.rows, layout.rows)
        self._numbers(everything)
        queries: _Sums | None = None
        if g.query is not None:
            start = b.op("mul", self.batch_row, simd.number(self.size))
            queries = _Sums(*g.query, simd.rows_matrix(work.memories[QUERIES], self.size, start))
            simd.clear(queries.matrix, everything, layout.rows, self.size)
        tile = ix.axis("tile", -(-layout.columns // tiling.columns))
        keys = self._sums(g.key, self.size)
        values = self._sums(g.value, self.value_size)
        self.weights, self.changes = simd.pairs(), simd.pairs()
        # what the gradients of queries and of keys are summed from may be two things
        self.dots = {layout.uses[pair[0]].value: pair[0] for pair in (g.query, g.key) if pair is not None}
        self.memories = dict(zip(self.dots, [self.changes, *(simd.pairs() for _ in [*self.dots][1:])], strict=False))
        with b.loop(tile):
            columns = simd.piece(b.index(tile * tiling.columns), tiling.columns, layout.columns)
            for sums, size in ((keys, self.size), (values, self.value_size)):
                if sums is not None:
                    simd.clear(sums.matrix, columns, layout.columns, size)
            self._column_tile(tile, columns, queries, keys, values)
            for sums, size in ((keys, self.size), (values, self.value_size)):
                if sums is not None:
                    self._put(sums, size, columns, by_row=False)
        if queries is not None:
            self._put(queries, self.size, everything, by_row=True)

    def _sums(self, pair: tuple[int, int] | None, size: int) -> _Sums | None:
        if pair is None:
            return None
        return _Sums(*pair, self.simd.rows_matrix(self.simd.memory(self.tiling.columns * size), size))

    def _put(self, sums: _Sums, size: int, rows: Piece, by_row: bool) -> None:
        argument = Argument("output", self.form.asg.outputs.index(sums.end))
        self.simd.put_rows(argument, self.layout.output(sums.dot, sums.end), sums.matrix, size, rows, by_row)

    def _column_tile(
        self, tile: ix.Index, columns: Piece, queries: _Sums | None, keys: _Sums | None, values: _Sums | None
    ) -> None:
        """Goes through the queries that see a tile of keys."""
        b, layout, tiling, simd = self.b, self.layout, self.tiling, self.simd
        count, features, wide = (
            (columns.length, tiling.columns), (simd.number(self.size), self.size), (simd.number(self.value_size), self.value_size)
        )  # fmt: skip
        key = simd.matrix(layout.key, self.size, columns, by_row=False)
        value = simd.matrix(layout.value, self.value_size, columns, by_row=False)
        turned_key, turned_value = simd.right(key.turned, features, count), simd.right(value.turned, wide, count)
        key_rows = simd.right(key, count, features) if queries is not None else None
        first, stop = query_range(self.work, tile)
        step = ix.axis("step", -(-layout.rows // tiling.rows))
        length = b.op("sub", simd.value(stop), simd.value(first))
        steps = b.op("div", b.op("add", length, simd.number(tiling.rows - 1)), simd.number(tiling.rows))
        scores, changes = simd.pair_matrix(self.weights), simd.pair_matrix(self.changes)
        with b.loop(step, stop=steps):
            rows = simd.piece(b.op("add", simd.value(first), b.index(step * tiling.rows)), tiling.rows, stop)
            height = rows.length, tiling.rows
            query = simd.matrix(layout.query, self.size, rows, by_row=True)
            gradient = simd.matrix(self.gradient, self.value_size, rows, by_row=True)
            simd.multiply((rows.length, columns.length, features[0]), query, turned_key, scores, again=False)
            if self.dots:
                simd.multiply((rows.length, columns.length, wide[0]), gradient, turned_value, changes, again=False)
            with simd.each("query", layout.rows, rows) as (row, i):
                self._weights(row, i, columns)
            if values is not None:
                right = simd.right(gradient, height, wide)
                simd.multiply((columns.length, wide[0], rows.length), scores.turned, right, values.matrix, again=True)
            if keys is not None:
                right, of = simd.right(query, height, features), self._changes(keys)
                simd.multiply((columns.length, features[0], rows.length), of.turned, right, keys.matrix, again=True)
            if queries is not None and key_rows is not None:
                goal = queries.matrix
                place = b.op("add", goal.start, b.op("mul", rows.first, goal.row))
                goal = goal._replace(start=place)
                simd.multiply(
                    (rows.length, features[0], columns.length), self._changes(queries), key_rows, goal, again=True
                )

    def _changes(self, sums: _Sums) -> Matrix:
        return self.simd.pair_matrix(self.memories[self.layout.uses[sums.dot].value])

    def _weights(self, row: ix.Index, i: Value, columns: Piece) -> None:
        """Of a row's products and gradients of weights: weights, and what their gradients become."""
        work, b, layout, form, simd, g = self.work, self.b, self.layout, self.form, self.simd, self.g
        one, zero = work.f32(1.0), work.f32(0.0)
        line = b.op("mul", i, simd.number(simd.line))
        largest, factor, weighted = (b.load(self._rows, place) for place in self._row_places(row))
        with simd.vectors("key", layout.columns, columns) as (column, c):
            place = b.op("add", line, c)
            places = layout.places(work.batch, row, column)
            work.e.given({form.product: b.load(self.weights, place)})
            weight = b.op("mul", simd.exp(b.op("sub", work.score(places), largest)), factor)
            b.store(self.weights, place, weight)
            if not self.dots:
                return
            change = b.op("mul", weight, b.op("sub", b.load(self.changes, place), weighted))
            # what the expression makes of the gradient of a score: with the rest of softmax's derivative put in as 1
            given = {form.exponentials: change, g.weight_gradient: one, form.total: one}
            work.e.given(given | dict.fromkeys(g.row_sums, zero))
            found = [work.pair(value, places) for value in self.dots]
            for memory, element in zip(self.memories.values(), found, strict=True):
                b.store(memory, place, element)

    # ------------------------------------------------------------------ numbers of rows
    @property
    def _rows(self) -> Memory:
        return self.work.memories[ROWS]

    def _row_places(self, row: ix.Index) -> list[Value]:
        b = self.b
        start = b.op("mul", b.op("add", self.batch_row, b.index(row)), self.simd.number(_NUMBERS))
        return [b.op("add", start, self.simd.number(k)) for k in range(_NUMBERS)]

    def _numbers(self, rows: Piece) -> None:
        """Maximum, 1 / sum and the sum of weighted gradients of each row."""
        work, b, layout, form, g, simd = self.work, self.b, self.layout, self.form, self.g, self.simd
        at = follow(g.views, 0, layout.uses[form.result[0]].result, g.views.outputs[0])
        result = Operand(g.result, at, layout.frame.terms.summed(self.value_size))
        with simd.each("query", layout.rows, rows) as (row, _):
            changes = layout.places(work.batch, row, None)
            weighted = b.variable(work.f32(0.0))
            with simd.vectors("feature", self.value_size) as (feature, _):
                x, y = (work.read(operand, changes, feature) for operand in (self.gradient, result))
                b.assign(weighted, b.op("fma", x, y, b.read(weighted)))
            largest, factor = work.softmax(changes)
            found = largest, factor, simd.all_lanes("add", b.read(weighted))
            for place, number in zip(self._row_places(row), found, strict=True):
                b.store(self._rows, place, number)
