"""Many updates of the same rows, put together in an order that does not change from run to run, without atomic floats.

Slots are sorted by row; then each thread goes through a few slots of one column. What lies between two changes of the row
is complete. What lies before the first change and after the last one is handed on, as a list of slots that is in order
again, but much shorter.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from asgfn.records import record
from backends.kernels import index as ix
from backends.kernels.index import Index
from backends.kernels.ir import BOOL, I32, U32, Builder, Value
from backends.kernels.lowering import Argument
from backends.kernels.schedules.scatter_slots import Scatter, SlotRows, exists, row_of
from backends.kernels.schedules.sorter import Reader, Sorter, Source
from backends.kernels.schedules.stages import Stages

CHUNK = 32  # slots that one thread goes through


def scatter_sorted(scatter: Scatter, in_order: bool) -> None:
    """Slots sorted by row (which they may be already), then put together chunk by chunk."""
    s = scatter.slots
    rows: Source = SlotRows(scatter)
    source = rows if in_order else Sorter(scatter.stages, 1).sort(rows)
    pending = _level(scatter, s.count, source, lambda b: _updates(scatter, b))
    while pending is not None:
        pending = _level(scatter, pending.count, _Keys(pending), pending.values)


def _updates(scatter: Scatter, b: Builder) -> Callable[[Reader, Index, Index], Value]:
    e = scatter.elements(b, indices=False)

    def value(reader: Reader, k: Index, column: Index) -> Value:
        slot = ix.computed(reader.place(ix.constant(0), k), 0, scatter.slots.count - 1)
        return scatter.update(e, slot, column)

    return value


def _level(scatter: Scatter, count: int, source: Any, open_values: Callable[[Builder], Callable]) -> _Pending | None:
    """Goes through slots in order of rows. Rows that may have slots in two chunks are handed on."""
    s, b = scatter.slots, Builder()
    chunks = 1 if count <= 2 * CHUNK else -(-count // CHUNK)
    length = -(-count // chunks)
    reader: Reader = source.open(scatter.stages, b)
    value = open_values(b)
    out = scatter.output(b)
    pending = None
    if chunks > 1:
        pending = _Pending(
            scatter,
            2 * chunks,
            scatter.stages.temporary(U32, 2 * chunks),
            scatter.stages.temporary(scatter.types.storage(scatter.monoid.wide), 2 * chunks * s.width),
        )
    hand_on = None if pending is None else pending.writer(b)
    zero = ix.constant(0)
    with scatter.stages.each(b, chunks * s.width, scatter.name, 4.0 * count * s.width) as flat:
        chunk, column = flat.digit(s.width), flat.digit(1, s.width)
        current = b.variable(reader.key(zero, ix.computed(b.index(chunk * length), 0, count - 1)))
        total = b.variable(scatter.monoid.identity(b))
        complete = b.variable(b.constant(0, I32))  # whether the row began in this chunk

        def finish() -> None:
            key, found = b.read(current), b.read(total)
            began = b.op("eq", b.read(complete), b.constant(1, I32), dtype=BOOL)
            if hand_on is not None:
                with b.when(b.op("not", began)):
                    hand_on(chunk * 2, column, key, found)
            with b.when(b.op("and", began, exists(b, key)) if hand_on is not None else exists(b, key)):
                scatter.merge(b, out, b.index(s.place(row_of(b, key, s.rows), column)), found)

        step = ix.axis("step", length)
        with b.loop(step):
            k = chunk * length + step
            with b.when(b.within(k, 0, count)):
                k = ix.computed(b.index(k), 0, count - 1)
                key = reader.key(zero, k)
                element = value(reader, k, column)
                with b.when(b.op("ne", key, b.read(current), dtype=BOOL)):
                    finish()
                    b.assign(current, key)
                    b.assign(total, scatter.monoid.identity(b))
                    b.assign(complete, b.constant(1, I32))
                b.assign(total, scatter.monoid.combine(b, b.read(total), element))
        if hand_on is None:
            finish()
            return None
        # the last row goes to the second place; if it is the first one, too, nothing is added there
        key, found = b.read(current), b.read(total)
        began = b.op("eq", b.read(complete), b.constant(1, I32), dtype=BOOL)
        with b.when(b.op("not", began)):
            hand_on(chunk * 2, column, key, found)
        hand_on(chunk * 2 + 1, column, key, b.select(began, found, scatter.monoid.identity(b)))
    return pending


@record
class _Pending:
    """Slots that are still to be put together: rows, in which equal ones are neighbours, and values.

    Attributes:
        keys, totals: memory of [count] and [count, width] elements.
    """

    scatter: Scatter
    count: int
    keys: Argument
    totals: Argument

    def values(self, b: Builder) -> Callable[[Reader, Index, Index], Value]:
        s = self.scatter
        memory = s.stages.bind(b, self.totals, "totals")

        def value(reader: Reader, k: Index, column: Index) -> Value:
            return s.types.from_memory(b, b.load(memory, b.index(k * s.slots.width + column)), s.monoid.wide)

        return value

    def writer(self, b: Builder) -> Callable[[Index, Index, Value, Value], None]:
        s = self.scatter
        keys, totals = s.stages.bind(b, self.keys, "pending_rows"), s.stages.bind(b, self.totals, "pending_totals")

        def write(k: Index, column: Index, key: Value, total: Value) -> None:
            # all threads of a chunk agree on the row
            b.store(keys, b.index(k), key)
            b.store(totals, b.index(k * s.slots.width + column), s.types.to_memory(b, total, s.monoid.wide))

        return write


@record
class _Keys:
    """The rows of pending slots."""

    pending: _Pending

    def open(self, stages: Stages, b: Builder) -> Reader:
        memory = stages.bind(b, self.pending.keys, "rows")
        return Reader(lambda line, k: b.load(memory, b.index(k)), lambda line, k: b.index(k))
