"""The gradients of attention: one kernel for each side.

The first has a tile of queries and goes through keys: it makes the gradient of queries, and for each row the three numbers
that the second needs. The second has a tile of keys and goes through queries: it makes the gradients of keys and of
values. Both compute weights again from scores, maximum and sum. Nothing is added up by several workgroups, so results
are the same each time.

Source: T. Dao, FlashAttention-2, 2023. The sum over keys of weights times their gradients is the product of the result and
its gradient.
"""

from __future__ import annotations

from backends.kernels import index as ix
from backends.kernels.attention_frame import follow
from backends.kernels.index import Index
from backends.kernels.ir import BOOL, F32, Builder, Value, Variable
from backends.kernels.lowering import Argument, Plan, Stage
from backends.kernels.schedules.attention_forward import Exchange, put_features, put_tile
from backends.kernels.schedules.attention_range import key_tiles, latest_first, query_tiles
from backends.kernels.schedules.attention_sides import KEYS, QUERIES, ROWS, write_side
from backends.kernels.schedules.attention_tiles import WIDE, Tiling, groups
from backends.kernels.schedules.attention_work import (
    Layout,
    Operand,
    Tile,
    Work,
    new_tile,
    wide_memory,
    written_twice,
)  # fmt: skip
from backends.kernels.target import Target


def backward(layout: Layout, tiling: Tiling, target: Target) -> Plan:
    """The plan of an `attention_gradient`."""
    g = layout.form.gradient
    assert g is not None
    kinds: list[type[_Queries | _Keys]] = [_Queries]
    if g.key is not None or g.value is not None:
        kinds.append(_Keys)

    def stage(kind: type[_Queries | _Keys]) -> Stage:
        def write(work: Work) -> None:
            kind(work).write()

        return written_twice(lambda previous: write_side(kind.sides, write, layout, tiling, target, previous))

    return Plan(tuple(map(stage, kinds)), temporaries=((F32, layout.batches * layout.rows * WIDE),))


class _Side:
    """What both kernels do with a pair of tiles."""

    def __init__(self, work: Work):
        self.work, self.layout, self.tiling, self.form = work, work.layout, work.tiling, work.layout.form
        self.b: Builder = work.b
        assert self.form.gradient is not None
        self.g = self.form.gradient
        layout, tiling = self.layout, self.tiling
        self.queries = new_tile(work, tiling.rows, layout.size)
        self.gradients = new_tile(work, tiling.rows, layout.value_size)
        self.keys = new_tile(work, tiling.columns, layout.size, columns=True)
        self.values = new_tile(work, tiling.columns, layout.value_size, columns=True)

    def pair_tile(self) -> Tile:
        """A tile of a number for each pair."""
        t = self.tiling
        return Tile(self.work, wide_memory(self.work, t.rows * t.columns // WIDE), t.rows, t.columns // WIDE)

    def fill_rows(self, number: Index) -> None:
        """Queries and gradients of the result."""
        work, layout, tiling = self.work, self.layout, self.tiling

        def places(row: Index) -> dict:
            at, _ = work.bounded(number * tiling.rows + row, layout.rows, tiling.rows)
            return layout.places(work.batch, at, None)

        assert layout.gradient is not None
        work.fill(self.queries, layout.query, layout.size, places)
        work.fill(self.gradients, layout.gradient, layout.value_size, places)

    def fill_columns(self, number: Index) -> None:
        """Keys and values."""
        work, layout, tiling = self.work, self.layout, self.tiling

        def places(column: Index) -> dict:
            at, _ = work.bounded(number * tiling.columns + column, layout.columns, tiling.columns)
            return layout.places(work.batch, None, at)

        work.fill(self.keys, layout.key, layout.size, places)
        work.fill(self.values, layout.value, layout.value_size, places)

    def row(self, number: Index, i: int) -> tuple[Index, Value | None]:
        """A thread's i-th row, and whether it exists."""
        return self.work.bounded(number * self.tiling.rows + self.work.row(i), self.layout.rows, self.tiling.rows)

    def weights(
        self, row_tile: Index, column_tile: Index, rows: list[tuple[Value, Value, Value]], gradient_of: list[int]
    ) -> tuple[list[list[Value]], list[list[list[Value]]]]:
        """For a thread's pairs the weights, and what comes of their gradients in each of these products: 0 outside."""
        work, b, layout, form, g = self.work, self.b, self.layout, self.form, self.g
        products = work.dot(self.queries, self.keys, layout.size)
        changes_of_weights = work.dot(self.gradients, self.values, layout.value_size)
        weights: list[list[Value]] = []
        found: list[list[list[Value]]] = [[] for _ in gradient_of]
        one, zero = work.f32(1.0), work.f32(0.0)
        for i, (largest, factor, weighted) in enumerate(rows):
            row, row_inside = self.row(row_tile, i)
            weights.append([])
            for line in found:
                line.append([])
            for c in range(len(products[i])):
                at = column_tile * self.tiling.columns + work.column(c)
                column, column_inside = work.bounded(at, layout.columns, self.tiling.columns)
                inside = b.both(row_inside, column_inside)
                changes = layout.places(work.batch, row, column)
                work.e.given({form.product: b.read(products[i][c])})
                score = work.score(changes)
                weight = b.op("mul", b.op("exp", b.op("sub", score, largest)), factor)
                change = b.op("mul", weight, b.op("sub", b.read(changes_of_weights[i][c]), weighted))
                weights[i].append(weight if inside is None else b.select(inside, weight, zero))
                # what the expression makes of the gradient of a score: with the rest of softmax's derivative put in as 1
                work.e.given(
                    {
                        form.exponentials: change,
                        g.weight_gradient: one,
                        form.total: one,
                        **dict.fromkeys(g.row_sums, zero),
                    }
                )
                for line, dot in zip(found, gradient_of, strict=True):
                    element = work.pair(self._reads(dot), changes)
                    line[i].append(element if inside is None else b.select(inside, element, zero))
        return weights, found

    def _reads(self, dot: int) -> int:
        return self.layout.uses[dot].value


class _Queries(_Side):
    sides = QUERIES

    def write(self) -> None:
        work, b, layout, tiling = self.work, self.b, self.layout, self.tiling
        changes = self.pair_tile()
        number = latest_first(work)
        self.fill_rows(number)
        b.barrier()
        rows = self._rows(number, Exchange(work, changes))
        if self.g.query is None:
            return
        tile, first, last = key_tiles(work, number)
        zero = b.splat(work.f32(0.0))
        features = work.feature_groups(layout.size)
        totals = [[b.variable(zero) for _ in range(features)] for _ in range(tiling.thread_rows)]
        with b.loop(tile, start=first, stop=last):
            b.barrier()
            self.fill_columns(tile)
            b.barrier()
            _, (found,) = self.weights(number, tile, rows, [self.g.query[0]])
            put_tile(work, changes, found)
            b.barrier()
            work.add_product(changes, self.keys, layout.size, totals)
        output = layout.output(*self.g.query)
        argument = Argument("output", self.form.asg.outputs.index(self.g.query[1]))
        for i, line in enumerate(totals):
            row, inside = self.row(number, i)
            places = layout.places(work.batch, row, None)
            with b.when(inside):
                for j, total in enumerate(line):
                    put_features(work, argument, output, places, j, b.read(total), layout.size)

    def _rows(self, number: Index, exchange: Exchange) -> list[tuple[Value, Value, Value]]:
        """Maximum, 1 / sum and the sum of weighted gradients of a thread's rows; they are kept for the other kernel."""
        work, b, layout, form, g = self.work, self.b, self.layout, self.form, self.g
        views = g.views
        result_at = follow(views, 0, layout.uses[form.result[0]].result, views.outputs[0])
        result = Operand(g.result, result_at, layout.frame.terms.summed(layout.value_size))
        sums = []
        for i in range(self.tiling.thread_rows):
            row, _ = self.row(number, i)
            changes = layout.places(work.batch, row, None)
            total = work.f32(0.0)
            for j in range(work.feature_groups(layout.value_size)):
                group, inside = work.bounded(
                    work.x + j * self.tiling.across, groups(layout.value_size), self.tiling.across
                )
                gradient = self.gradients.load(work.row(i), group)
                lanes = work.group_of(result, layout.value_size, changes, group)
                part = work.f32(0.0)
                for k, lane in enumerate(lanes):
                    part = b.op("fma", b.lane(gradient, k), lane, part)
                total = b.op("add", total, part if inside is None else b.select(inside, part, work.f32(0.0)))
            sums.append(total)
        sums = exchange.reduce("add", sums)
        found = []
        for i, weighted in enumerate(sums):
            row, inside = self.row(number, i)
            changes = layout.places(work.batch, row, None)
            largest, factor = work.softmax(changes)
            first = b.op("eq", b.index(work.x), work.i32(0), dtype=BOOL)
            with b.when(b.both(inside, first)):
                place = b.index(work.batch * layout.rows + row)
                b.store(work.memories[ROWS], place, (largest, factor, weighted, work.f32(0.0)))
            found.append((largest, factor, weighted))
        return found


class _Keys(_Side):
    sides = KEYS

    def write(self) -> None:
        work, b, layout = self.work, self.b, self.layout
        weights, changes = self.pair_tile(), self.pair_tile()
        self.fill_columns(work.number)
        # who sums what: threads along groups of keys, the rest along features
        self.down = min(self.tiling.columns // WIDE, self.tiling.down)
        self.across = self.tiling.threads // self.down
        self.key_groups = self.tiling.columns // WIDE // self.down
        self.x, self.y = work.thread.digit(1, self.across), work.thread.digit(self.across)
        key_totals = self._totals(layout.size) if self.g.key is not None else None
        value_totals = self._totals(layout.value_size) if self.g.value is not None else None
        tile, first, last = query_tiles(work, work.number)
        with b.loop(tile, start=first, stop=last):
            b.barrier()
            self.fill_rows(tile)
            b.barrier()
            dots = [self.g.key[0]] if self.g.key is not None else []
            found_weights, found = self.weights(tile, work.number, self._rows(tile), dots)
            if value_totals is not None:
                put_tile(work, weights, found_weights)
            if key_totals is not None:
                put_tile(work, changes, found[0])
            b.barrier()
            if value_totals is not None:
                self._add(weights, self.gradients, layout.value_size, value_totals)
            if key_totals is not None:
                self._add(changes, self.queries, layout.size, key_totals)
        if self.g.key is not None and key_totals is not None:
            self._store(self.g.key, key_totals, layout.size)
        if self.g.value is not None and value_totals is not None:
            self._store(self.g.value, value_totals, layout.value_size)

    def _rows(self, number: Index) -> list[tuple[Value, Value, Value]]:
        work, b = self.work, self.b
        found = []
        for i in range(self.tiling.thread_rows):
            row, _ = self.row(number, i)
            place = b.index(work.batch * self.layout.rows + row)
            lanes = [b.load(work.memories[ROWS], place, k) for k in range(3)]
            found.append((lanes[0], lanes[1], lanes[2]))
        return found

    def _features(self, size: int) -> int:
        return -(-groups(size) // self.across)

    def _totals(self, size: int) -> list[list[Variable]]:
        zero = self.b.splat(self.work.f32(0.0))
        return [[self.b.variable(zero) for _ in range(self._features(size))] for _ in range(self.key_groups * WIDE)]

    def _feature(self, j: int, size: int) -> tuple[Index, Value | None]:
        return self.work.bounded(self.x + j * self.across, groups(size), self.across)

    def _add(self, pairs: Tile, rows: Tile, size: int, totals: list[list[Variable]]) -> None:
        """totals[key][group of features] += pairs[row, key] * rows[row, features]."""
        b = self.b
        step = ix.axis("row", self.tiling.rows)
        with b.loop(step):
            left = [pairs.load(step, self.y + a * self.down) for a in range(self.key_groups)]
            for j in range(self._features(size)):
                right = rows.load(step, self._feature(j, size)[0])
                for c, line in enumerate(totals):
                    factor = b.splat(b.lane(left[c // WIDE], c % WIDE))
                    b.assign(line[j], b.op("fma", factor, right, b.read(line[j])))

    def _store(self, pair: tuple[int, int], totals: list[list[Variable]], size: int) -> None:
        work, b, layout, tiling = self.work, self.b, self.layout, self.tiling
        output = layout.output(*pair)
        argument = Argument("output", self.form.asg.outputs.index(pair[1]))
        for c, line in enumerate(totals):
            at = work.number * tiling.columns + (self.y + c // WIDE * self.down) * WIDE + c % WIDE
            column, inside = work.bounded(at, layout.columns, tiling.columns)
            places = layout.places(work.batch, None, column)
            with b.when(inside):
                for j, total in enumerate(line):
                    group, exists = self._feature(j, size)
                    with b.when(exists):
                        value = b.read(total)
                        work.put(argument, output, places, group, [b.lane(value, k) for k in range(WIDE)], size)
