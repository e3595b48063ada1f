"""Which keys a tile of queries sees at all, and the other way round, by the band of an attention."""

from __future__ import annotations

from backends.kernels import index as ix
from backends.kernels.index import Index
from backends.kernels.ir import Value
from backends.kernels.schedules.attention_work import Work

Range = tuple[Index, "Value | int", "Value | int"]


def latest_first(work: Work) -> Index:
    """The number of a workgroup's tile of queries: the last ones, which see most keys of causal attention, come first."""
    layout, tiling = work.layout, work.tiling
    tiles = -(-layout.rows // tiling.rows)
    if layout.form.band[1] is None or tiles == 1:
        return work.number
    b = work.b
    number = ix.axis("latest", tiles)
    b.set_axis(number, b.op("sub", work.i32(tiles - 1), b.index(work.number)))
    return number


def key_range(work: Work, number: Index) -> tuple[Value | int, Value | int]:
    """The keys that a tile of queries sees: the first, and the one after the last."""
    b, layout, tiling = work.b, work.layout, work.tiling
    low, high = layout.form.band
    first: Value | int = 0
    stop: Value | int = layout.columns
    start = b.op("mul", b.index(number), work.i32(tiling.rows))
    if high is not None:
        row = b.op("min", b.op("add", start, work.i32(tiling.rows - 1)), work.i32(layout.rows - 1))
        stop = _after(work, b.op("add", _position(work, row), work.i32(high)), layout.columns)
    if low is not None:
        first = b.op("max", b.op("add", _position(work, start), work.i32(low)), work.i32(0))
    return first, stop


def query_range(work: Work, number: Index) -> tuple[Value | int, Value | int]:
    """The queries that see a tile of keys: the first, and the one after the last."""
    b, layout, tiling = work.b, work.layout, work.tiling
    low, high = layout.form.band
    first: Value | int = 0
    stop: Value | int = layout.rows
    start = b.op("mul", b.index(number), work.i32(tiling.columns))
    if high is not None:
        row = b.op("mul", b.op("max", b.op("sub", start, work.i32(high)), work.i32(0)), work.i32(layout.step))
        first = b.op("max", row, work.i32(0))
    if low is not None:
        column = b.op("min", b.op("add", start, work.i32(tiling.columns - 1)), work.i32(layout.columns - 1))
        beyond = b.op("sub", column, work.i32(low - 1))
        row = b.op("sub", b.op("mul", beyond, work.i32(layout.step)), work.i32(1))
        stop = _after(work, row, layout.rows)
    return first, stop


def key_tiles(work: Work, number: Index) -> Range:
    """The loop over tiles of keys, and from where to where it goes, for a tile of queries."""
    return _tiles(work, key_range(work, number), work.layout.columns, work.tiling.columns)


def query_tiles(work: Work, number: Index) -> Range:
    """The loop over tiles of queries, and from where to where it goes, for a tile of keys."""
    return _tiles(work, query_range(work, number), work.layout.rows, work.tiling.rows)


def _tiles(work: Work, found: tuple[Value | int, Value | int], size: int, extent: int) -> Range:
    b, count = work.b, -(-size // extent)
    first, stop = found
    if not isinstance(first, int):
        first = b.op("div", first, work.i32(extent))
    stop = count if isinstance(stop, int) else b.op("div", b.op("add", stop, work.i32(extent - 1)), work.i32(extent))
    return ix.axis("tile", count), first, stop


def _position(work: Work, row: Value) -> Value:
    """The place of a row on the axis of the band."""
    step = work.layout.step
    return row if step == 1 else work.b.op("div", row, work.i32(step))


def _after(work: Work, place: Value, size: int) -> Value:
    """How many there are up to a place."""
    b = work.b
    return b.op("max", b.op("min", b.op("add", place, work.i32(1)), work.i32(size)), work.i32(0))
