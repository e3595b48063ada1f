"""Attention with online softmax: the kernel.

A workgroup has a tile of queries. It goes through the keys tile by tile and keeps for each query the maximum of the
scores so far, the sum of their exponentials, and the weighted sum of values, all relative to that maximum.

Source: T. Dao, FlashAttention-2: Faster Attention with Better Parallelism and Work Partitioning, 2023.
"""

from __future__ import annotations

from collections.abc import Sequence

from backends.kernels.index import Index
from backends.kernels.ir import BOOL, Value, Variable
from backends.kernels.lowering import Argument, Plan, Stage
from backends.kernels.schedules.attention_range import key_tiles, latest_first
from backends.kernels.schedules.attention_tiles import WIDE, Tiling, groups
from backends.kernels.schedules.attention_work import (
    LOWEST,
    Layout,
    Operand,
    Tile,
    Work,
    new_tile,
    wide_memory,
    written_twice,
)  # fmt: skip
from backends.kernels.target import Target

MINUS_INFINITY = float("-inf")


def forward(layout: Layout, tiling: Tiling, target: Target) -> Plan:
    """The plan of an `attention`."""
    return Plan((written_twice(lambda previous: _write(layout, tiling, target, previous)),))


def _write(layout: Layout, tiling: Tiling, target: Target, previous: Work | None) -> tuple[Work, Stage]:
    form = layout.form
    outputs = [(Argument("output", k), target.types.storage(t.dtype), t.size) for k, t in enumerate(form.asg.out_types)]
    tiles = -(-layout.rows // tiling.rows)
    work = Work(layout, tiling, target, tiles, outputs, previous=previous)
    with work.b.when(work.inside):
        _Forward(work).write()
    pairs = layout.batches * layout.rows * layout.columns
    return work, work.stage(form.asg.name, 2.0 * pairs * (layout.size + layout.value_size))


class _Forward:
    def __init__(self, work: Work):
        self.work, self.b, self.layout, self.tiling = work, work.b, work.layout, work.tiling
        layout, tiling = self.layout, self.tiling
        self.number = latest_first(work)
        self.rows = [
            work.bounded(self.number * tiling.rows + work.row(i), layout.rows, tiling.rows)
            for i in range(tiling.thread_rows)
        ]
        self.features = work.feature_groups(layout.value_size)

    def write(self) -> None:
        work, b, layout, tiling = self.work, self.b, self.layout, self.tiling
        queries = new_tile(work, tiling.rows, layout.size)
        keys = new_tile(work, tiling.columns, max(layout.size, layout.value_size), columns=True)
        weights = Tile(
            work, wide_memory(work, tiling.rows * tiling.columns // WIDE), tiling.rows, tiling.columns // WIDE
        )
        exchange = Exchange(work)
        work.fill(queries, layout.query, layout.size, lambda row: self._row_places(row))
        largest = [b.variable(work.f32(LOWEST)) for _ in self.rows]
        total = [b.variable(work.f32(0.0)) for _ in self.rows]
        zero = b.splat(work.f32(0.0))
        result = [[b.variable(zero) for _ in range(self.features)] for _ in self.rows]
        tile, first, last = key_tiles(work, self.number)
        with b.loop(tile, start=first, stop=last):
            b.barrier()
            work.fill(keys, layout.key, layout.size, lambda c: self._column_places(tile, c))
            b.barrier()
            scores = self._scores(work.dot(queries, keys, layout.size), tile)
            highest = exchange.reduce("max", [_reduced(work, "max", row) for row in scores])
            for i, row in enumerate(scores):
                before = b.read(largest[i])
                now = b.op("max", before, highest[i])
                change = b.op("exp", b.op("sub", before, now))
                row[:] = [b.op("exp", b.op("sub", s, now)) for s in row]
                sums = b.op("fma", b.read(total[i]), change, _reduced(work, "add", row))
                b.assign(total[i], sums)
                b.assign(largest[i], now)
                for part in result[i]:
                    b.assign(part, b.op("mul", b.read(part), b.splat(change)))
            put_tile(work, weights, scores)
            work.fill(keys, layout.value, layout.value_size, lambda c: self._column_places(tile, c))
            b.barrier()
            work.add_product(weights, keys, layout.value_size, result)
        b.barrier()
        self._finish(largest, exchange.reduce("add", [b.read(t) for t in total]), result)

    def _row_places(self, row: Index) -> dict:
        at, _ = self.work.bounded(self.number * self.tiling.rows + row, self.layout.rows, self.tiling.rows)
        return self.layout.places(self.work.batch, at, None)

    def _column_places(self, tile: Index, column: Index) -> dict:
        at, _ = self.work.bounded(tile * self.tiling.columns + column, self.layout.columns, self.tiling.columns)
        return self.layout.places(self.work.batch, None, at)

    def _scores(self, products: list[list[Variable]], tile: Index) -> list[list[Value]]:
        """The scores of a thread's pairs; -inf for columns that there are not."""
        work, b, layout, form = self.work, self.b, self.layout, self.layout.form
        found = []
        for i, line in enumerate(products):
            scores = []
            for c, product in enumerate(line):
                column, inside = work.bounded(
                    tile * self.tiling.columns + work.column(c), layout.columns, self.tiling.columns
                )
                changes = layout.places(work.batch, self.rows[i][0], column)
                work.e.given({form.product: b.read(product)})
                element = work.score(changes)
                scores.append(element if inside is None else b.select(inside, element, work.f32(MINUS_INFINITY)))
            found.append(scores)
        return found

    def _finish(self, largest: Sequence[Variable], totals: Sequence[Value], result: list[list[Variable]]) -> None:
        work, b, layout, form = self.work, self.b, self.layout, self.layout.form
        output = layout.output(*form.result)
        for i, (row, inside) in enumerate(self.rows):
            total = totals[i]
            nothing = b.op("eq", total, work.f32(0.0), dtype=BOOL)
            divisor = b.select(nothing, work.f32(1.0), total) if form.guarded else total
            factor = b.splat(b.op("div", work.f32(1.0), divisor))
            places = layout.places(work.batch, row, None)
            with b.when(inside):
                for j, part in enumerate(result[i]):
                    put_features(
                        work,
                        Argument("output", 0),
                        output,
                        places,
                        j,
                        b.op("mul", b.read(part), factor),
                        layout.value_size,
                    )
                if len(form.asg.outputs) > 1:
                    with b.when(b.op("eq", b.index(work.x), work.i32(0), dtype=BOOL)):
                        memory = work.memories[Argument("output", 1)]
                        first = work.statistic_place(places, 0)
                        second = work.statistic_place(places, 1)
                        b.store(memory, b.index(first), b.select(nothing, work.f32(MINUS_INFINITY), b.read(largest[i])))
                        b.store(memory, b.index(second), total)


class Exchange:
    """Workgroup memory through which the threads of a row reduce a number for each of their rows."""

    def __init__(self, work: Work, memory: Tile | None = None):
        self.work = work
        self.wide = groups(work.tiling.thread_rows)
        self.memory = wide_memory(work, work.tiling.threads * self.wide) if memory is None else memory.memory

    def reduce(self, op: str, numbers: Sequence[Value]) -> list[Value]:
        """The reductions; all threads have to have come so far, and wait for each other once."""
        b, t = self.work.b, self.work.tiling
        padded = [*numbers, *[numbers[-1]] * (self.wide * WIDE - len(numbers))]
        for g in range(self.wide):
            b.store(self.memory, b.index(self.work.thread * self.wide + g), tuple(padded[g * WIDE : g * WIDE + WIDE]))
        b.barrier()
        found: list[Value] = []
        for g in range(self.wide):
            parts = [
                b.load_vector(self.memory, b.index((self.work.y * t.across + x) * self.wide + g))
                for x in range(t.across)
            ]
            while len(parts) > 1:
                parts = [
                    b.op(op, *parts[k : k + 2]) if k + 1 < len(parts) else parts[k] for k in range(0, len(parts), 2)
                ]
            found += [b.lane(parts[0], k) for k in range(WIDE)]
        return found[: len(numbers)]


def _reduced(work: Work, op: str, numbers: Sequence[Value]) -> Value:
    parts = list(numbers)
    while len(parts) > 1:
        parts = [work.b.op(op, *parts[k : k + 2]) if k + 1 < len(parts) else parts[k] for k in range(0, len(parts), 2)]
    return parts[0]


def put_tile(work: Work, tile: Tile, numbers: list[list[Value]]) -> None:
    """Stores what a thread has of a tile of rows and columns."""
    b, t = work.b, work.tiling
    for i, row in enumerate(numbers):
        for j in range(t.thread_groups):
            place = tile.place(work.row(i), work.x + j * t.across)
            b.store(tile.memory, b.index(place), tuple(row[j * WIDE : j * WIDE + WIDE]))


def put_features(
    work: Work, argument: Argument, output: Operand, places: dict, j: int, value: Value, size: int
) -> None:
    """Stores a thread's j-th group of features."""
    b = work.b
    group, inside = work.bounded(work.x + j * work.tiling.across, groups(size), work.tiling.across)
    with b.when(inside):
        work.put(argument, output, places, group, [b.lane(value, k) for k in range(WIDE)], size)
