"""Contractions of a processor with vectors: blocks of the result, by a function of the processor's library.

A workgroup computes a block of the result in its own memory, over parts of k, and makes of it what the region wants while it is
in the cache. The library multiplies what lies in memory with any strides (columns of the second factor must be
neighbours). Operands that are computed, padded, or lie otherwise are written out first, a block at a time.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from asgfn.records import record
from backends.kernels import index as ix
from backends.kernels.ir import BOOL, SIZES, Memory, Value
from backends.kernels.lowering import Plan
from backends.kernels.schedules.contraction_problem import Contraction, Side
from backends.kernels.schedules.contraction_region import Region, group_number
from backends.kernels.schedules.simd_block import LIBRARY, BlockWriter, Strides, strides_of
from backends.kernels.schedules.simd_nest import Range
from backends.kernels.target import Target

# steps of k that are summed before they are added to the result; the library's number divides it
DEPTH = 512
# elements of a block of the result, and of one of an operand that is written out
BLOCK = 1 << 15
WRITTEN = 1 << 16
# bytes of a row of a block of the second factor, and of all of it: smaller ones are read where they are
NARROW, FIRST = 512, 1 << 15
# products of fewer operations are one piece for each batch
SMALL = 1 << 20


@record
class Cut:
    """Rows and columns of a block of the result, and steps of k in a part."""

    rows: int
    columns: int
    depth: int


def simd_product(region: Region, target: Target) -> Plan | None:
    """The plan of a region."""
    p = region.product = region.product.with_taps()
    if region.types.register(p.dtype) not in ("f32", "f64", "f16"):
        return None
    rows, columns = strides_of(region, p.rows), strides_of(region, p.columns)
    if rows is None and columns is None and p.m < p.n and not _along_free(region, p.rows, p.columns):
        # the columns are written out with gaps: it had better be the smaller operand
        p = region.product = p.swapped()
    writer = _Writer(region, target, rows, columns)
    return writer.plan()


def _along_free(region: Region, *sides: Side) -> bool:
    """Whether neighbours of one of these operands, which are to be written out, are along its free axis."""
    return any(region.neighbours(side)[0] == "free" for side in sides)


def _pieces(length: int, count: int, unit: int) -> int:
    """The length of each of so many pieces, a multiple of a unit."""
    return -(-math.ceil(length / count) // unit) * unit


@record
class Units:
    """What pieces of the axes m, n, k are multiples of: of the last axis that they are made of, where that is run through."""

    m: int
    n: int
    k: int


def choose_cut(
    p: Contraction,
    units: Units,
    rows: Strides | None,
    columns: Strides | None,
    tile: tuple[int, int],
    target: Target,
    deep: int,
) -> Cut:
    """Blocks that give every core something to do, and write operands out as seldom as can be. `tile`: the library's.
    `deep`: how many steps of k a part has where there are more."""
    mr, nr = units.m, units.n
    b, m, n, k = p.b, p.m, p.n, p.k
    depth = min(k, max(deep // units.k, 1) * units.k)
    work = 2.0 * m * n * k
    wanted = 1 if work * b < SMALL or target.cores == 1 else 2 * target.cores
    if rows is None and columns is None:
        wanted = min(wanted, target.cores)  # each piece writes out what others write out, too
    count = -(-wanted // b)
    mc, nc = m, n
    if columns is None and rows is not None:
        nc = _pieces(n, count, nr)
    elif rows is None and columns is not None:
        mc = _pieces(m, count, mr)
    elif m >= n:
        mc = _pieces(m, count, mr)
    else:
        nc = _pieces(n, count, nr)
    mc, nc = min(mc, m), min(nc, n)
    # blocks stay in the second cache
    if columns is None:
        nc = min(nc, max(-(-4 * tile[1] // nr) * nr, WRITTEN // depth // nr * nr))
    if rows is None:
        mc = min(mc, max(-(-4 * tile[0] // mr) * mr, WRITTEN // depth // mr * mr))
    if mc * nc > BLOCK:
        if columns is None and mc * 2 * nr <= 4 * BLOCK:
            nc = min(nc, max(2 * nr, BLOCK // mc // nr * nr))
        elif nc <= BLOCK // (8 * mr):
            mc = max(mr, BLOCK // nc // mr * mr)
        else:
            mc = min(mc, max(16 * tile[0] // mr, 1) * mr)
            nc = min(nc, max(nr, BLOCK // mc // nr * nr))
    return Cut(mc, nc, depth)


def _unit(sizes: Sequence[int], is_run_through: bool, otherwise: int) -> int:
    """What pieces of an axis have to be multiples of."""
    return (sizes[-1] if sizes else 1) if is_run_through else otherwise


class _Writer(BlockWriter):
    """Writes the kernel of a region."""

    def __init__(self, region: Region, target: Target, rows: Strides | None, columns: Strides | None):
        super().__init__(region, target)
        self.rows, self.columns = rows, columns
        p = self.p
        # along which axis operands are read when they are written out
        self.along_rows = rows is None and region.neighbours(p.rows)[0] == "free"
        self.along_columns = columns is None and region.neighbours(p.columns)[0] != "depth"
        units = Units(
            _unit(p.rows.sizes, self.along_rows, self.tile[0]),
            _unit(p.columns.sizes, self.along_columns, self.tile[1]),
            _unit(p.depth, (rows is None and not self.along_rows) or (columns is None and not self.along_columns), 1),
        )
        # a single row is multiplied with columns as they lie if its elements are neighbours, as those of each column are
        self.is_vector = p.m == 1 and columns is not None and columns.depth == 1 and (rows is None or rows.depth == 1)
        # then columns are read to their ends, which memory is fastest at
        deep = DEPTH if not self.is_vector else p.k if rows is not None else WRITTEN
        self.cut = choose_cut(p, units, rows, columns, self.tile, target, deep)
        # columns that are no neighbours, or used often and too many to stay in the first cache as they lie, are brought
        # together by the library
        self.apart = columns is not None and p.n > 1 and (columns.free != 1 or self._is_large(self.cut))
        self.apart &= not self.is_vector

    def _is_large(self, cut: Cut) -> bool:
        """Whether a block of the second factor is worth a copy, which is in the order in which a product reads it."""
        row = cut.columns * SIZES[self.dtype]
        return cut.rows > 2 * self.tile[0] and row > NARROW and row * cut.depth > FIRST

    def plan(self) -> Plan:
        b, p, cut = self.b, self.p, self.cut
        along = (p.b, -(-p.m // cut.rows), -(-p.n // cut.columns))
        group, _, grid = group_number(self.kernel, math.prod(along))
        batch, i, j = ix.coordinates(group, along)
        self.batch = ix.axis("batch", p.b)
        b.set_axis(self.batch, b.index(batch))
        self.down = self.range(i, cut.rows, p.m)
        self.across = self.range(j, cut.columns, p.n)
        stride = -(-cut.columns // self.lanes) * self.lanes
        block = b.workgroup_memory(self.dtype, cut.rows * stride)
        first = None if self.rows is not None else self._buffer(cut.rows)
        self.wide = -(-cut.columns // self.tile[1]) * self.tile[1]
        if self.wide % 256 == 0:
            self.wide += self.tile[1]  # rows that far apart would share few lines of the cache
        second = None if self.columns is not None and not self.apart else self._buffer(self.wide)
        self.lines = None if self.columns is not None or self.along_columns else self._buffer(cut.columns)
        part = ix.axis("part", -(-p.k // cut.depth))
        with b.loop(part):
            depth = self.range(part, cut.depth, p.k)
            left = self._left(first, depth)
            right = self._right(second, depth)
            again = b.op("gt", b.index(part), self.number(0), dtype=BOOL)
            sizes = (self.size(self.down), self.size(self.across), self.size(depth))
            self._multiply(sizes, left, right, ((block, self.number(0)), self.number(stride)), again)
        length = p.columns.sizes[-1] if p.columns.sizes else 1
        if len(p.columns.sizes) < 2 or (cut.columns % length and cut.columns != p.n):
            length = p.n
        self.finish(block, stride, length, cut.columns % length == 0)
        return self.plan_of(grid)

    def _multiply(
        self,
        sizes: tuple[Value, Value, Value],
        left: Sequence[Value | tuple[Memory, Value]],
        right: Sequence[Value | tuple[Memory, Value]],
        result: tuple[tuple[Memory, Value], Value],
        again: Value,
    ) -> None:
        """The block of the result, or, `again`, what is added to it. Sizes: rows, columns, steps of k."""
        b, name, (goal, stride) = self.b, LIBRARY[self.dtype], result
        if self.is_vector:
            assert self.columns is not None
            lines = right[0], self.number(self.columns.free)
            b.call(f"gemv_{name}", (*sizes[1:], *lines, left[0], goal, self.number(1), again), [goal[0]])
        elif self.p.m == 1 and self.columns is not None and not self.apart:
            b.call(f"gevm_{name}", (*sizes[1:], left[0], left[2], *right[:2], goal, again), [goal[0]])
        else:
            b.call(f"gemm_{name}", (*sizes, *left, *right, goal, stride, again), [goal[0]])

    def _buffer(self, free: int) -> Memory:
        return self.b.workgroup_memory(self.dtype, free * self.cut.depth)

    # ------------------------------------------------------------------ operands
    def _in_place(self, side: Side, strides: Strides, free: Range, depth: Range) -> tuple[Memory, Value]:
        """Where an operand's block starts in memory."""
        e, b, p = self.kernel.e, self.b, self.p
        f, k = ix.axis("free", side.size), ix.axis("depth", p.k)
        b.set_axis(f, free.start)
        b.set_axis(k, depth.start)
        before = {v: len(places) for v, places in e.places.items()}
        p.element(e, side, self.batch, f, k)
        place = e.places[strides.value][before.get(strides.value, 0)]
        memory = e.memories[strides.value]
        assert memory is not None
        return memory, b.index(place)

    def _left(self, buffer: Memory | None, depth: Range) -> tuple[Value | tuple[Memory, Value], ...]:
        """The first factor's block: where it starts, and the steps to the next row and to the next of k."""
        if self.rows is not None:
            start = self._in_place(self.p.rows, self.rows, self.down, depth)
            return start, self.number(self.rows.free), self.number(self.rows.depth)
        assert buffer is not None
        along_rows = self.along_rows
        a_row, a_k = (1, self.cut.rows) if along_rows else (self.cut.depth, 1)

        def place(i: Value, k: Value) -> Value:
            b = self.b
            return b.op("add", b.op("mul", i, self.number(a_row)), b.op("mul", k, self.number(a_k)))

        if along_rows:
            self.write_rows(self.p.rows, buffer, self.down, self.through(depth, self.p.k), True, place)
        else:
            self.write_lines(self.p.rows, buffer, self.down, depth, True, place)
        return (buffer, self.number(0)), self.number(a_row), self.number(a_k)

    def _right(self, buffer: Memory | None, depth: Range) -> tuple[Value | tuple[Memory, Value], ...]:
        """The second factor's block: where it starts, and the steps to the next of k and to the next panel of columns."""
        b, nr = self.b, self.tile[1]
        start: tuple[Memory, Value]
        if self.columns is not None:
            start = self._in_place(self.p.columns, self.columns, self.across, depth)
            steps = self.number(self.columns.depth), self.number(self.columns.free)
            if not self.apart:
                return start, steps[0], self.number(nr)
        elif self.lines is not None:
            # computed columns, too, are brought together by the library
            across = self.number(self.cut.depth)
            self.write_lines(
                self.p.columns, self.lines, self.across, depth, True,
                lambda j, k: b.op("add", b.op("mul", j, across), k),
            )  # fmt: skip
            start, steps = (self.lines, self.number(0)), (self.number(1), across)
        assert buffer is not None
        if self.columns is None and self.lines is None:
            wide = self.number(self.wide)
            self.write_rows(
                self.p.columns, buffer, self.across, self.through(depth, self.p.k), True,
                lambda j, k: b.op("add", b.op("mul", k, wide), j),
            )  # fmt: skip
            return (buffer, self.number(0)), wide, self.number(nr)
        length, goal = self.size(depth), (buffer, self.number(0))
        b.call(f"pack_b_{LIBRARY[self.dtype]}", (length, self.size(self.across), start, *steps, goal), [buffer])
        return goal, self.number(nr), b.op("mul", length, self.number(nr))
