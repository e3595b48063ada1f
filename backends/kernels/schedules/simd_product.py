"""Contractions of a processor with vectors: blocks of the result, by a function of the processor's library.

A workgroup computes a block of the result in its own memory, over parts of k, and makes of it what the region wants while it is
in the cache. The library multiplies what lies in memory with any strides (columns of the second factor must be
neighbours). Operands that are computed, padded, or lie otherwise are written out first, a block at a time.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from backends.kernels import index as ix
from backends.kernels.index import Digit, Index
from backends.kernels.ir import BOOL, F32, I32, Builder, Memory, Value
from backends.kernels.lowering import Plan, constants_of
from backends.kernels.schedules.contraction_problem import Contraction, Side
from backends.kernels.schedules.contraction_region import Region, RegionKernel, group_number
from backends.kernels.target import Target

# steps of k that are summed before they are added to the result; the library's number divides it
DEPTH = 512
# elements of a block of the result, and of one of an operand that is written out
BLOCK = 1 << 15
WRITTEN = 1 << 16
# products of fewer operations are one piece for each batch; those of so many are worth any number of pieces
SMALL, LARGE = 1 << 20, 1 << 25
_LIBRARY = {F32: "f32", "f64": "f64"}


@dataclass(frozen=True)
class Strides:
    """An operand as it lies in memory: which one, and the steps to the next free index and to the next of k."""

    value: int
    free: int
    depth: int


@dataclass(frozen=True)
class Cut:
    """Rows and columns of a block of the result, and steps of k in a part."""

    rows: int
    columns: int
    depth: int


def strides_of(region: Region, side: Side) -> Strides | None:
    """How an operand lies in memory; None if it has to be written out."""
    b, p = Builder(), region.product
    e = region.elements(b)
    batch, free, depth = (ix.axis(name, n) for name, n in (("batch", p.b), ("free", side.size), ("depth", p.k)))
    for axis in (batch, free, depth):
        b.set_axis(axis, b.builtin("thread"))
    found, mask = p.element(e, side, batch, free, depth)
    if mask is not None or found.op != "load" or found.dtype not in _LIBRARY or len(e.places) != 1:
        return None
    ((value, places),) = e.places.items()
    place = places[0]
    steps = []
    for axis in (free, depth):
        atoms = list(axis.terms)
        if any(isinstance(a, Digit) and set(atoms) & set(a.index.atoms()) for a in place.terms):
            return None
        steps.append(sum(place.terms.get(atom, 0) for atom in atoms))
    return Strides(value, steps[0], steps[1])


def simd_product(region: Region, target: Target) -> Plan | None:
    """The plan of a region."""
    p = region.product
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


@dataclass(frozen=True)
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
) -> Cut:
    """Blocks that give every core something to do, and write operands out as seldom as can be. `tile`: the library's."""
    mr, nr = units.m, units.n
    b, m, n, k = p.b, p.m, p.n, p.k
    depth = min(k, max(DEPTH // units.k, 1) * units.k)
    work = 2.0 * m * n * k
    wanted = 1 if work * b < SMALL or target.cores == 1 else target.cores * (4 if work * b >= LARGE else 2)
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


class _Writer:
    """Writes the kernel of a region."""

    def __init__(self, region: Region, target: Target, rows: Strides | None, columns: Strides | None):
        self.region, self.target = region, target
        self.rows, self.columns = rows, columns
        p = self.p = region.product
        self.kernel = kernel = RegionKernel(region, target, 1, None)
        self.b = kernel.b
        self.dtype = kernel.work.register
        self.tile = target.tile(self.dtype)
        # along which axis operands are read when they are written out
        self.along_rows = rows is None and region.neighbours(p.rows)[0] == "free"
        self.along_columns = columns is None and region.neighbours(p.columns)[0] != "depth"
        units = Units(
            _unit(p.rows.sizes, self.along_rows, self.tile[0]),
            _unit(p.columns.sizes, self.along_columns, self.tile[1]),
            _unit(p.depth, (rows is None and not self.along_rows) or (columns is None and not self.along_columns), 1),
        )
        self.cut = choose_cut(p, units, rows, columns, self.tile, target)
        self.lanes = target.simd
        # columns that are no neighbours are brought together by the library
        self.apart = columns is not None and columns.free != 1 and p.n > 1

    def plan(self) -> Plan:
        b, p, cut = self.b, self.p, self.cut
        along = (p.b, -(-p.m // cut.rows), -(-p.n // cut.columns))
        group, _, grid = group_number(self.kernel, math.prod(along))
        batch, i, j = ix.coordinates(group, along)
        self.batch = ix.axis("batch", p.b)
        b.set_axis(self.batch, b.index(batch))
        self.m0, self.m1 = self._range(i, cut.rows, p.m)
        self.n0, self.n1 = self._range(j, cut.columns, p.n)
        self.height, self.width = b.op("sub", self.m1, self.m0), b.op("sub", self.n1, self.n0)
        stride = -(-cut.columns // self.lanes) * self.lanes
        block = b.workgroup_memory(self.dtype, cut.rows * stride)
        first = self._buffer(self.rows, cut.rows)
        self.wide = -(-cut.columns // self.tile[1]) * self.tile[1]
        if self.wide % 256 == 0:
            self.wide += self.tile[1]  # rows that far apart would share few lines of the cache
        second = self._buffer(None if self.apart else self.columns, self.wide)
        part = ix.axis("part", -(-p.k // cut.depth))
        with b.loop(part):
            k0, k1 = self._range(part, cut.depth, p.k)
            left = self._left(first, k0, k1)
            right = self._right(second, k0, k1)
            again = b.op("gt", b.index(part), self._number(0), dtype=BOOL)
            depth = b.op("sub", k1, k0)
            sizes = (self.height, self.width, depth)
            result = ((block, self._number(0)), self._number(stride), again)
            b.call(f"gemm_{_LIBRARY[self.dtype]}", (*sizes, *left, *right, *result), [block])
        self._finish(block, stride)
        name = self.region.asg.name or self.region.node.primitive.name
        flops = 2.0 * p.b * p.m * p.n * p.k
        stage = self.kernel.stage(name, self.lanes, grid, flops=flops)
        return Plan((stage,), constants_of(self.region.asg, self.target))

    # ------------------------------------------------------------------ numbers
    def _number(self, n: int) -> Value:
        return self.b.constant(n, I32)

    def _range(self, number: Index, length: int, whole: int) -> tuple[Value, Value]:
        """First and stop of a piece."""
        b = self.b
        first = b.index(number * length)
        if whole % length == 0:
            return first, b.op("add", first, self._number(length))
        return first, b.op("min", b.op("add", first, self._number(length)), self._number(whole))

    def _buffer(self, strides: Strides | None, free: int) -> Memory | None:
        if strides is not None:
            return None
        return self.b.workgroup_memory(self.dtype, free * self.cut.depth)

    # ------------------------------------------------------------------ operands
    def _in_place(self, side: Side, strides: Strides, free: Value, k0: Value) -> tuple[Memory, Value]:
        """Where an operand's block starts in memory."""
        e, b, p = self.kernel.e, self.b, self.p
        f, k = ix.axis("free", side.size), ix.axis("depth", p.k)
        b.set_axis(f, free)
        b.set_axis(k, k0)
        before = {v: len(places) for v, places in e.places.items()}
        p.element(e, side, self.batch, f, k)
        place = e.places[strides.value][before.get(strides.value, 0)]
        memory = e.memories[strides.value]
        assert memory is not None
        return memory, b.index(place)

    def _left(self, buffer: Memory | None, k0: Value, k1: Value) -> tuple[Value | tuple[Memory, Value], ...]:
        """The first factor's block: where it starts, and the steps to the next row and to the next of k."""
        if self.rows is not None:
            start = self._in_place(self.p.rows, self.rows, self.m0, k0)
            return start, self._number(self.rows.free), self._number(self.rows.depth)
        assert buffer is not None
        rows, depth = self.cut.rows, self.cut.depth
        along_rows = self.along_rows
        a_row, a_k = (1, rows) if along_rows else (depth, 1)

        def place(i: Value, k: Value) -> Value:
            b = self.b
            return b.op("add", b.op("mul", i, self._number(a_row)), b.op("mul", k, self._number(a_k)))

        self._write_out(self.p.rows, buffer, (self.m0, self.m1), (k0, k1), along_rows, place)
        return (buffer, self._number(0)), self._number(a_row), self._number(a_k)

    def _right(self, buffer: Memory | None, k0: Value, k1: Value) -> tuple[Value | tuple[Memory, Value], ...]:
        """The second factor's block: where it starts, and the steps to the next of k and to the next panel of columns."""
        nr = self.tile[1]
        if self.columns is not None:
            start = self._in_place(self.p.columns, self.columns, self.n0, k0)
            if self.apart:
                assert buffer is not None
                depth, steps = self.b.op("sub", k1, k0), (self.columns.depth, self.columns.free)
                goal = (buffer, self._number(0))
                sizes = (depth, self.width)
                name = f"pack_b_{_LIBRARY[self.dtype]}"
                self.b.call(name, (*sizes, start, *map(self._number, steps), goal), [buffer])
                return goal, self._number(nr), self.b.op("mul", depth, self._number(nr))
            return start, self._number(self.columns.depth), self._number(nr)
        assert buffer is not None

        def place(j: Value, k: Value) -> Value:
            return self.b.op("add", self.b.op("mul", k, self._number(self.wide)), j)

        self._write_out(self.p.columns, buffer, (self.n0, self.n1), (k0, k1), self.along_columns, place)
        return (buffer, self._number(0)), self._number(self.wide), self._number(nr)

    def _write_out(
        self,
        side: Side,
        buffer: Memory,
        free: tuple[Value, Value],
        depth: tuple[Value, Value],
        along_free: bool,
        place: Callable[[Value, Value], Value],
    ) -> None:
        """Writes a block of an operand to memory, along the axis on which neighbours are read.

        The block is some whole runs along the last of the axes that this one is made of: in a run, places go up in step.
        """
        b = self.b
        sizes, piece = (side.sizes, free) if along_free else (self.p.depth, depth)
        others, (first, stop) = (self.p.depth, depth) if along_free else (side.sizes, free)
        outer = ix.axis("outer", math.prod(others))
        length = sizes[-1] if sizes else 1
        run, inner = ix.axis("run", math.prod(sizes) // length), ix.axis("inner", length)
        start, end = (self._over(x, length) for x in piece)
        with b.loop(outer, start=first, stop=stop), b.loop(run, start=start, stop=end):
            with b.loop(inner, start=b.builtin("thread"), stop=length, step=self.lanes):
                number = run * length + inner
                f, k = (number, outer) if along_free else (outer, number)
                element = self.p.read(self.kernel.e, side, self.batch, f, k)
                at = place(b.op("sub", self._at(f, free), free[0]), b.op("sub", self._at(k, depth), depth[0]))
                b.store(buffer, at, element)

    def _over(self, number: Value, length: int) -> Value:
        """A multiple of a length, divided by it."""
        if length == 1:
            return number
        b = self.b
        found = b.op("div", b.op("convert", number, dtype="u32"), b.constant(length, "u32"))
        return b.op("convert", found, dtype=I32)

    def _at(self, index: Index, piece: tuple[Value, Value]) -> Value:
        """The number of an index that a loop has set; that of an axis of one element is its piece's first."""
        return self.b.index(index) if index.terms else piece[0]

    # ------------------------------------------------------------------ results
    def _finish(self, block: Memory, stride: int) -> None:
        """Makes of a block what the region wants."""
        b, p = self.b, self.p
        m, n = ix.axis("m", p.m), ix.axis("n", p.n)
        length = p.columns.sizes[-1] if p.columns.sizes else 1
        in_runs = len(p.columns.sizes) > 1 and (self.cut.columns % length == 0 or self.cut.columns == p.n)
        with b.loop(m, start=self.m0, stop=self.m1):
            row = b.op("mul", b.op("sub", self._at(m, (self.m0, self.m1)), self.m0), self._number(stride))

            def finish(n: Index) -> None:
                column = b.op("sub", self._at(n, (self.n0, self.n1)), self.n0)
                total = b.load(block, b.op("add", row, column))
                self.kernel.finish([(self.batch, m, n)], [total])

            if not in_runs:
                with b.loop(n, start=b.op("add", self.n0, b.builtin("thread")), stop=self.n1, step=self.lanes):
                    finish(n)
                return
            run, inner = ix.axis("run", p.n // length), ix.axis("inner", length)
            with b.loop(run, start=self._over(self.n0, length), stop=self._over(self.n1, length)):
                with b.loop(inner, start=b.builtin("thread"), stop=length, step=self.lanes):
                    finish(run * length + inner)
