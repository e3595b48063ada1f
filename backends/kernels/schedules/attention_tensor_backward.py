"""The gradients of attention on tensor cores: one kernel for each side, as in `attention_backward`.

The kernel of queries passes its products to threads that own rows, tile by tile, since the scale of changes of scores is
one of a row and a tile. It also leaves for each row what the other kernel needs to know beforehand: how large its changes
and its gradient are. So in that kernel one scale is good for all tiles, and sums stay with the subgroups to the end.

Source: T. Dao, FlashAttention-2, 2023.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from backends.kernels import index as ix
from backends.kernels.attention_frame import follow
from backends.kernels.index import Index
from backends.kernels.ir import BOOL, F32, U32, Memory, Value, Variable
from backends.kernels.lowering import Argument, Plan, Stage
from backends.kernels.schedules.attention_forward import put_features
from backends.kernels.schedules.attention_range import key_tiles, latest_first, query_tiles
from backends.kernels.schedules.attention_sides import KEYS, QUERIES, ROWS, write_side
from backends.kernels.schedules.attention_tensor import (
    Half,
    Partition,
    Staged,
    TensorWork,
    inverse,
    partition,
    times,
    top_over,
    tree,
)  # fmt: skip
from backends.kernels.schedules.attention_tiles import WIDE, Tiling, tensor_line, tensor_results
from backends.kernels.schedules.attention_work import Layout, Operand, Work, written_twice
from backends.kernels.target import Target

# of four numbers, a row: maximum, 1 / sum, sum of weighted gradients; how large its part in the gradients of keys and of
# values is
_GROUPS = 2
_TEAM = 8  # neighbouring threads that compare numbers directly


def tensor_backward(layout: Layout, tilings: tuple[Tiling, Tiling], target: Target) -> Plan:
    """The plan of an `attention_gradient` on tensor cores; the tiles of either kernel."""
    g = layout.form.gradient
    assert g is not None
    kinds: list[type[_Queries | _Keys]] = [_Queries]
    if g.key is not None or g.value is not None:
        kinds.append(_Keys)

    def stage(kind: type[_Queries | _Keys], tiling: Tiling) -> Stage:
        def written(previous: Work | None) -> tuple[Work, Stage]:
            def write(work: Work) -> None:
                kind(work, previous is None).write()

            where = f" on tensor cores {tiling.rows}x{tiling.columns}"
            return write_side(kind.sides, write, layout, tiling, target, previous, _GROUPS, where)

        return written_twice(written)

    stages = tuple(map(stage, kinds, tilings))
    return Plan(stages, temporaries=((F32, layout.batches * layout.rows * _GROUPS * WIDE),))


class _Row(NamedTuple):
    """A thread's row, whether it exists, and its maximum, 1 / sum and sum of weighted gradients."""

    at: Index
    inside: Value | None
    largest: Value
    factor: Value
    weighted: Value


class _Side:
    """What both kernels do with a pair of tiles."""

    def __init__(self, work: Work, draft: bool):
        self.work, self.b, self.layout, self.tiling, self.form = (
            work,
            work.b,
            work.layout,
            work.tiling,
            work.layout.form,
        )
        assert self.form.gradient is not None and self.layout.gradient is not None
        self.g, self.gradient = self.form.gradient, self.layout.gradient
        layout, t, tensor = self.layout, self.tiling, TensorWork(work, draft)
        self.tensor = tensor
        self.queries = tensor.staged(layout.query, t.rows, layout.size)
        self.gradients = tensor.staged(self.gradient, t.rows, layout.value_size)
        self.keys = tensor.staged(layout.key, t.columns, layout.size)
        self.values = tensor.staged(layout.value, t.columns, layout.value_size)

    def row_places(self, number: Index, row: Index) -> dict:
        at, _ = self.work.bounded(number * self.tiling.rows + row, self.layout.rows, self.tiling.rows)
        return self.layout.places(self.work.batch, at, None)

    def column_places(self, number: Index, column: Index) -> dict:
        at, _ = self.work.bounded(number * self.tiling.columns + column, self.layout.columns, self.tiling.columns)
        return self.layout.places(self.work.batch, None, at)

    def fill_columns(self, number: Index) -> None:
        """Keys and values."""
        tensor, layout, n = self.tensor, self.layout, self.tiling.columns
        keys = tensor.fetch(layout.key, n, layout.size, lambda c: self.column_places(number, c))
        values = tensor.fetch(layout.value, n, layout.value_size, lambda c: self.column_places(number, c))
        tensor.put(self.keys, layout.size, keys)
        tensor.put(self.values, layout.value_size, values)

    def pairs(
        self, row: _Row, tile: Index, products: Sequence[Value], changes: Sequence[Value], dots: Sequence[int]
    ) -> tuple[list[Value], list[list[Value]]]:
        """Of products and of gradients of weights: weights, and what their gradients become in each of these products."""
        work, b, layout, form = self.work, self.b, self.layout, self.form
        one, zero = work.f32(1.0), work.f32(0.0)
        weights: list[Value] = []
        found: list[list[Value]] = [[] for _ in dots]
        for c, (product, change) in enumerate(zip(products, changes, strict=True)):
            at = tile * self.tiling.columns + work.column(c)
            column, column_inside = work.bounded(at, layout.columns, self.tiling.columns)
            inside = b.both(row.inside, column_inside)
            places = layout.places(work.batch, row.at, column)
            work.e.given({form.product: product})
            weight = b.op("mul", b.op("exp", b.op("sub", work.score(places), row.largest)), row.factor)
            weights.append(weight if inside is None else b.select(inside, weight, zero))
            if not dots:
                continue
            # what the expression makes of the gradient of a score: with the rest of softmax's derivative put in as 1
            work.e.given(
                {
                    form.exponentials: b.op("mul", weight, b.op("sub", change, row.weighted)),
                    self.g.weight_gradient: one,
                    form.total: one,
                    **dict.fromkeys(self.g.row_sums, zero),
                }
            )
            for line, dot in zip(found, dots, strict=True):
                element = work.pair(layout.uses[dot].value, places)
                line.append(element if inside is None else b.select(inside, element, zero))
        return weights, found

    def scores(self, scratch: Memory) -> None:
        """The products of queries and keys, stored."""
        t = self.tiling
        self.tensor.product(
            self.queries.tile, self.keys.tile, t.rows, t.columns, self.layout.size, (False, True), scratch
        )

    def changes(self, scratch: Memory) -> None:
        """The gradients of weights, stored."""
        t = self.tiling
        self.tensor.product(
            self.gradients.tile, self.values.tile, t.rows, t.columns, self.layout.value_size, (False, True), scratch
        )

    def mine(self, scratch: Memory, rows: Staged, columns: Staged) -> list[Value]:
        """What a thread has of a product of pairs, without scales."""
        tensor = self.tensor
        found = tensor.mine(scratch, self.tiling.columns)
        return tensor.unscaled(found, tensor.of_row(rows.factors), columns.factors)


class _Queries(_Side):
    sides = QUERIES

    def write(self) -> None:
        work, b, layout, tiling, tensor, g = self.work, self.b, self.layout, self.tiling, self.tensor, self.g
        size = layout.size
        # changes of scores take the place of values
        changes = Half(self.values.tile.memory, tensor_line(tiling.columns))
        changes.memory.size = max(changes.memory.size, tiling.rows * changes.line)
        scratch = tensor.scratch(tiling.rows, max(tiling.columns, size))
        other_scratch = tensor.scratch(tiling.rows, tiling.columns)
        number = latest_first(work)
        row = self._row(number)
        dots = [pair[0] for pair in (g.query, g.key) if pair is not None]
        most = b.variable(b.constant(0, U32))  # the bits of the largest change of a score
        zero = b.splat(work.f32(0.0))
        totals = [b.variable(zero) for _ in range(work.feature_groups(size))]
        tile, first, last = key_tiles(work, number)
        if dots:
            with b.loop(tile, start=first, stop=last):
                self.fill_columns(tile)
                b.barrier()
                self.scores(scratch)
                self.changes(other_scratch)
                b.barrier()
                products = self.mine(scratch, self.queries, self.keys)
                _, found = self.pairs(row, tile, products, self.mine(other_scratch, self.gradients, self.values), dots)
                if g.key is not None:
                    (largest,) = tensor.finite_maxima([found[-1]])
                    b.assign(most, b.op("max", b.read(most), largest))
                if g.query is None:
                    b.barrier()  # before scales are written again
                else:
                    self._add(found[0], changes, scratch, totals)
        self._leave(row, b.read(most))
        if g.query is None:
            return
        output = layout.output(*g.query)
        argument = Argument("output", self.form.asg.outputs.index(g.query[1]))
        places = layout.places(work.batch, row.at, None)
        with b.when(row.inside):
            for j, total in enumerate(totals):
                put_features(work, argument, output, places, j, b.read(total), size)

    def _add(self, found: list[Value], changes: Half, scratch: Memory, totals: list[Variable]) -> None:
        """Adds the products of changes of scores and keys."""
        b, tensor, t, size = self.b, self.tensor, self.tiling, self.layout.size
        whole = tensor.largest(self.keys)
        scaled, factor = tensor.scaled_pairs(found, tensor.shares(self.keys))
        tensor.put_pairs(changes, scaled)
        b.barrier()
        tensor.product(changes, self.keys.tile, t.rows, size, t.columns, (False, False), scratch)
        b.barrier()
        lanes = [times(b, x, factor, whole) for x in tensor.mine(scratch, size)]
        for j, total in enumerate(totals):
            b.assign(total, b.op("add", b.read(total), b.pack(lanes[j * WIDE : j * WIDE + WIDE])))

    def _row(self, number: Index) -> _Row:
        """Copies queries and gradients of the result, and finds the numbers of a thread's row."""
        work, b, layout, tiling, tensor, form, g = (
            self.work, self.b, self.layout, self.tiling, self.tensor, self.form, self.g,
        )  # fmt: skip
        value_size = layout.value_size
        at = follow(g.views, 0, layout.uses[form.result[0]].result, g.views.outputs[0])
        result = Operand(g.result, at, layout.frame.terms.summed(value_size))
        sums = b.workgroup_memory(F32, tiling.rows)

        def places(row: Index) -> dict:
            return self.row_places(number, row)

        tensor.put(self.queries, layout.size, tensor.fetch(layout.query, tiling.rows, layout.size, places))
        gradients = tensor.fetch(self.gradient, tiling.rows, value_size, places)
        tensor.put(self.gradients, value_size, gradients)
        results = tensor.fetch(result, tiling.rows, value_size, places)
        tensor.put_dots(sums, value_size, gradients, results)
        b.barrier()
        row, inside = work.bounded(number * tiling.rows + work.y, layout.rows, tiling.rows)
        changes = layout.places(work.batch, row, None)
        largest, factor = work.softmax(changes)
        weighted = tensor.of_row(sums)
        assert weighted is not None
        return _Row(row, inside, largest, factor, weighted)

    def _leave(self, row: _Row, most: Value) -> None:
        """Keeps the numbers of rows for the other kernel."""
        work, b, tensor = self.work, self.b, self.tensor
        one, zero = work.f32(1.0), work.f32(0.0)
        most = tensor.reduce("max", most, self.tiling.across)
        query, gradient = (tensor.of_row(s.factors) for s in (self.queries, self.gradients))
        first = b.op("eq", b.index(work.x), work.i32(0), dtype=BOOL)
        with b.when(b.both(row.inside, first)):
            place = (work.batch * self.layout.rows + row.at) * _GROUPS
            memory = work.memories[ROWS]
            b.store(memory, b.index(place), (row.largest, row.factor, row.weighted, zero))
            largest = times(b, b.op("bitcast", most, dtype=F32), query, None)
            b.store(memory, b.index(place + 1), (largest, one if gradient is None else gradient, zero, zero))


class _Keys(_Side):
    sides = KEYS

    def write(self) -> None:
        work, b, layout, t, tensor, g = self.work, self.b, self.layout, self.tiling, self.tensor, self.g
        size, value_size = layout.size, layout.value_size
        scratch = b.workgroup_memory(F32, tensor_results(t) * WIDE)
        self.fill_columns(work.number)
        key_scale, value_scale = self._scales()
        key_half = value_half = None
        key_part, value_part = (partition(t.columns, n, tensor.subgroups, 2) for n in (size, value_size))
        key_sums = value_sums = None
        if g.key is not None:
            key_half, key_sums = tensor.half(t.rows, t.columns), tensor.zeros(key_part)
        if g.value is not None:
            value_half, value_sums = tensor.half(t.rows, t.columns), tensor.zeros(value_part)
        tile, first, last = query_tiles(work, work.number)
        with b.loop(tile, start=first, stop=last):
            queries = tensor.fetch(layout.query, t.rows, size, lambda row: self.row_places(tile, row))
            gradients = tensor.fetch(self.gradient, t.rows, value_size, lambda row: self.row_places(tile, row))
            tensor.put(self.queries, size, queries)
            tensor.put(self.gradients, value_size, gradients)
            b.barrier()
            self.scores(scratch)
            b.barrier()
            products = self.mine(scratch, self.queries, self.keys)
            changes = products  # not needed
            if g.key is not None:
                b.barrier()
                self.changes(scratch)
                b.barrier()
                changes = self.mine(scratch, self.gradients, self.values)
            weights, found = self.pairs(self._row(tile), work.number, products, changes, [g.key[0]] if g.key else [])
            if value_half is not None:
                share = tensor.of_row(self.gradients.factors)
                tensor.put_pairs(value_half, [times(b, x, share, value_scale) for x in weights])
            if key_half is not None:
                share = tensor.of_row(self.queries.factors)
                tensor.put_pairs(key_half, [times(b, x, share, key_scale) for x in found[0]])
            b.barrier()
            if value_half is not None and value_sums is not None:
                tensor.add(value_half, self.gradients.tile, value_part, t.rows, (True, False), value_sums)
            if key_half is not None and key_sums is not None:
                tensor.add(key_half, self.queries.tile, key_part, t.rows, (True, False), key_sums)
            b.barrier()
        if g.key is not None and key_sums is not None:
            self._store(g.key, key_sums, key_part, size, scratch, inverse(b, key_scale))
        if g.value is not None and value_sums is not None:
            self._store(g.value, value_sums, value_part, value_size, scratch, inverse(b, value_scale))

    def _scales(self) -> tuple[Value, Value]:
        """The scales of changes of scores and of weights, from what the other kernel left for all rows."""
        work, b, tensor, rows, threads = self.work, self.b, self.tensor, self.layout.rows, self.tiling.threads
        zero = work.f32(0.0)
        most = [b.variable(zero) for _ in range(2)]
        step = ix.axis("step", -(-rows // threads))
        with b.loop(step):
            at, _ = work.bounded(step * threads + work.thread, rows, threads)
            place = b.index((work.batch * rows + at) * _GROUPS + 1)
            for k, variable in enumerate(most):
                b.assign(variable, b.op("max", b.read(variable), b.load(work.memories[ROWS], place, k)))
        parts = [b.workgroup_memory(F32, threads // _TEAM) for _ in most]
        found = [tensor.reduce("max", b.read(variable), _TEAM) for variable in most]
        with b.when(b.op("eq", b.index(work.thread.digit(1, _TEAM)), work.i32(0), dtype=BOOL)):
            for memory, x in zip(parts, found, strict=True):
                b.store(memory, b.index(work.thread.digit(_TEAM)), x)
        b.barrier()
        whole = [tree(b, "max", [b.load(m, work.i32(k)) for k in range(m.size)]) for m in parts]
        return top_over(b, whole[0]), top_over(b, whole[1])

    def _row(self, tile: Index) -> _Row:
        work, b, layout, t = self.work, self.b, self.layout, self.tiling
        row, inside = work.bounded(tile * t.rows + work.y, layout.rows, t.rows)
        place = b.index((work.batch * layout.rows + row) * _GROUPS)
        largest, factor, weighted = (b.load(work.memories[ROWS], place, k) for k in range(3))
        return _Row(row, inside, largest, factor, weighted)

    def _store(
        self,
        pair: tuple[int, int],
        sums: list[list[Variable]],
        part: Partition,
        size: int,
        scratch: Memory,
        factor: Value,
    ) -> None:
        """Hands sums over, a column of each subgroup's matrices at a time."""
        work, b, layout, t, tensor = self.work, self.b, self.layout, self.tiling, self.tensor
        output = layout.output(*pair)
        argument = Argument("output", self.form.asg.outputs.index(pair[1]))
        across = part.across * 16 // WIDE
        line = tensor_line(part.across * 16) * WIDE
        for j in range(part.columns):
            tensor.store_column(scratch, part, [row[j] for row in sums], line)
            b.barrier()
            for start in range(0, t.columns * across, t.threads):
                number, exists = work.thread + start, None
                if start + t.threads > t.columns * across:
                    value = b.index(number)
                    exists = b.op("lt", value, work.i32(t.columns * across), dtype=BOOL)
                    number = ix.axis("group", t.columns * across)
                    b.set_axis(number, value)
                with b.when(exists):
                    group, key = number.digit(1, across), number.digit(across)
                    place = b.index(key * line + group * WIDE)
                    lanes = [b.load(scratch, b.op("add", place, work.i32(k)) if k else place) for k in range(WIDE)]
                    at, inside = work.bounded(work.number * t.columns + key, layout.columns, t.columns)
                    places = layout.places(work.batch, None, at)
                    features = group.digit(4) * (part.columns * 4) + group.digit(1, 4) + j * 4
                    with b.when(inside):
                        lanes = [b.op("mul", x, factor) for x in lanes]
                        work.put(argument, output, places, features, lanes, size)
            b.barrier()
