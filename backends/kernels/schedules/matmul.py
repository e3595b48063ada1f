"""The tiled product of matrices.

A workgroup computes a tile of the result. Along the contracted axis it goes in steps: its threads together copy a step of
both operands into workgroup memory, then each thread multiplies what its part of the tile needs, in registers. Operands
are kept there with the contracted axis outermost, in groups of four neighbours of the free axis, so that one access reads
four numbers for either side. The next step is read from memory while this one is multiplied.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from backends.kernels import index as ix
from backends.kernels.index import Index
from backends.kernels.ir import BOOL, I32, U32, Builder, Memory, Value, Variable
from backends.kernels.lowering import Stage
from backends.kernels.schedules.contraction_problem import Side
from backends.kernels.schedules.contraction_region import Region, RegionKernel, group_number, written_twice
from backends.kernels.schedules.tiles import WIDE, Tile
from backends.kernels.target import Target

# so many tiles of rows are worked on together, one tile of columns after the other: what they read stays in cache
TOGETHER = 8


def matmul(region: Region, tile: Tile, target: Target, name: str) -> Stage:
    """The kernel of a tile schedule. With `split` > 1 it leaves partial sums in temporary memory 0."""
    product = region.product.in_steps(tile.depth)
    reading = [region.neighbours(side, product) for side in (product.rows, product.columns)]

    def write(previous: RegionKernel | None) -> tuple[RegionKernel, Stage]:
        kernel = _Kernel(region, tile, target, reading, previous)
        p = region.product
        return kernel.kernel, kernel.kernel.stage(
            name, tile.threads, kernel.grid, 2.0 * p.b * p.m * p.n * p.k * p.useful
        )

    return written_twice(write)


class _Kernel:
    def __init__(
        self, region: Region, tile: Tile, target: Target, reading: list[tuple[str, bool]], previous: RegionKernel | None
    ):
        p = self.product = region.product.in_steps(tile.depth)
        self.tile = tile
        self.kernel = kernel = RegionKernel(region, target, tile.split, previous)
        b = self.b = kernel.b
        self.steps = _ceil(_ceil(p.k, tile.depth), tile.split)  # of each part of the contracted axis
        row_tiles, column_tiles = _ceil(p.m, tile.rows), _ceil(p.n, tile.columns)
        group, inside, self.grid = group_number(kernel, row_tiles * column_tiles * p.b * tile.split)
        with b.when(inside):
            place = group.digit(1, row_tiles * column_tiles)
            rest = group.digit(row_tiles * column_tiles)
            self.batch, self.part = rest.digit(1, p.b), rest.digit(p.b)
            together = next(n for n in (TOGETHER, 4, 2, 1) if row_tiles % n == 0)
            band = together * column_tiles
            self.row_tile = place.digit(band) * together + place.digit(1, together)
            self.column_tile = place.digit(together, column_tiles)
            self._find_thread()
            self._find_steps()
            operands = [
                _Operand(self, p.rows, tile.rows, self.row_tile, *reading[0]),
                _Operand(self, p.columns, tile.columns, self.column_tile, *reading[1]),
            ]
            totals = self._totals()
            self._sum(operands, totals)
            self._finish(totals)

    def _find_thread(self) -> None:
        """The place of a thread in the tile. The 32 threads that run in step form a rectangle: they read fewer numbers."""
        tile, b = self.tile, self.b
        self.across, self.down = tile.columns // tile.thread_columns, tile.rows // tile.thread_rows
        self.thread = ix.axis("thread", tile.threads)
        b.set_axis(self.thread, b.builtin("thread"))
        t = self.thread
        if self.across % 8 == 0 and self.down % 4 == 0:
            block = t.digit(32)
            self.x = block.digit(1, self.across // 8) * 8 + t.digit(1, 8)
            self.y = block.digit(self.across // 8) * 4 + t.digit(8, 4)
        else:
            self.x, self.y = t.digit(1, self.across), t.digit(self.across)

    def _find_steps(self) -> None:
        """How many steps this workgroup has, if those of a convolution depend on its part of the batch (else None)."""
        p, b = self.product, self.b
        self.stop: Value | None = None
        self.all_taps: list[Value | None] = []
        if p.all_taps is None or p.channels is not None:
            return
        self.all_taps = p.all_taps(b, ix.coordinates(self.batch, p.batch))
        outer, *taps, _ = p.depth
        count = b.constant(outer, I32)
        for n, whole in zip(taps, self.all_taps, strict=True):
            length = b.constant(n, I32)
            if whole is not None:
                length = b.select(whole, length, b.constant(n - 1, I32))
            count = b.op("mul", count, length)
        left = b.op("sub", count, b.index(self.part * self.steps))
        self.stop = b.op("min", left, b.constant(self.steps, I32))

    def step_number(self, step: Index) -> Index:
        """The number of a step among those of the whole contracted axis, from that among those which this workgroup has."""
        if self.stop is None:
            return step
        b = self.b
        outer, *lengths, _ = self.product.depth
        rest = b.op("convert", b.index(step), dtype=U32)
        taps: list[Index] = []
        for n, whole in reversed([*zip(lengths, self.all_taps, strict=True)]):
            tap, following = (b.op(op, rest, b.constant(n, U32)) for op in ("rem", "div"))
            if whole is not None:
                fewer = b.constant(max(n - 1, 1), U32)
                tap = b.select(whole, tap, b.op("rem", rest, fewer))
                following = b.select(whole, following, b.op("div", rest, fewer))
            rest = following
            taps.insert(0, ix.computed(b.op("convert", tap, dtype=I32), 0, n - 1))
        channel = ix.computed(b.op("convert", rest, dtype=I32), 0, outer - 1)
        return ix.linear([channel, *taps], [outer, *lengths])

    # ------------------------------------------------------------------ the sum
    def _totals(self) -> list[list[Variable]]:
        zero = self.b.splat(self.kernel.work.zero)
        return [
            [self.b.variable(zero) for _ in range(self.tile.thread_columns // WIDE)]
            for _ in range(self.tile.thread_rows)
        ]

    def _sum(self, operands: list[_Operand], totals: list[list[Variable]]) -> None:
        b, tile = self.b, self.tile
        first = self.part * self.steps
        there_are = None if self.stop is None else b.op("gt", self.stop, b.constant(0, I32), dtype=BOOL)
        with b.when(there_are):
            for operand in operands:
                operand.fetch(first)
        if self.steps == 1:
            for operand in operands:
                operand.put(None)
            b.barrier()
            self._multiply(operands, totals, None)
            return
        step = ix.axis("step", self.steps)
        stop = self.stop
        if tile.buffers == 1:
            with b.loop(step, stop=stop):
                for operand in operands:
                    operand.put(None)
                b.barrier()
                with self._next(step) as following:
                    for operand in operands:
                        operand.fetch(first + following)
                self._multiply(operands, totals, None)
                b.barrier()
            return
        for operand in operands:
            operand.put(None)
        b.barrier()
        with b.loop(step, stop=stop):
            with self._next(step) as following:
                for operand in operands:
                    operand.fetch(first + following)
            self._multiply(operands, totals, step.digit(1, 2))
            with self._next(step):
                for operand in operands:
                    operand.put((step + 1).digit(1, 2))
            b.barrier()

    @contextmanager
    def _next(self, step: Index) -> Iterator[Index]:
        """Where there is a next step, and its number."""
        b = self.b
        following = b.op("add", b.index(step), b.constant(1, I32))
        stop = b.constant(self.steps, I32) if self.stop is None else self.stop
        more = b.op("lt", following, stop, dtype=BOOL)
        with b.when(more):
            yield ix.computed(following, 1, self.steps - 1)

    def _multiply(self, operands: list[_Operand], totals: list[list[Variable]], buffer: Index | None) -> None:
        """Adds the products of one step."""
        if self.kernel.draft:
            return
        b, tile = self.b, self.tile
        rows, columns = operands
        base = [o.start(buffer, at) for o, at in ((rows, self.y), (columns, self.x))]
        unroll = tile.unroll if tile.depth % tile.unroll == 0 else tile.depth
        chunk = ix.axis("chunk", tile.depth // unroll)
        with b.loop(chunk):
            starts = [b.index(at + chunk * (unroll * o.stride)) for o, at in zip(operands, base, strict=True)]
            for k in range(unroll):
                # next to where it is used: there it is part of the address
                left = [rows.load(starts[0], k * rows.stride + i * self.down) for i in range(tile.thread_rows // WIDE)]
                right = [
                    columns.load(starts[1], k * columns.stride + j * self.across)
                    for j in range(tile.thread_columns // WIDE)
                ]
                for i, line in enumerate(totals):
                    factor = b.splat(b.lane(left[i // WIDE], i % WIDE))
                    for total, other in zip(line, right, strict=True):
                        b.assign(total, self.kernel.work.add_product(factor, other, b.read(total)))

    # ------------------------------------------------------------------ the results
    def _finish(self, totals: list[list[Variable]]) -> None:
        b, p, tile = self.b, self.product, self.tile
        for i, line in enumerate(totals):
            if self.kernel.draft and i:
                break
            row = self.row_tile * tile.rows + self.y * WIDE + (i // WIDE * self.down * WIDE + i % WIDE)
            row, inside = bounded(b, row, p.m, tile.rows)
            with b.when(inside):
                for j, total in enumerate(line):
                    column = self.column_tile * tile.columns + (self.x + j * self.across) * WIDE
                    self._finish_group(row, column, b.read(total))

    def _finish_group(self, row: Index, column: Index, total: Value) -> None:
        b, n = self.b, self.product.n
        lanes = [b.lane(total, k) for k in range(WIDE)]
        if n % WIDE == 0:
            group, inside = bounded(b, column.over(WIDE), n // WIDE, self.tile.columns // WIDE)
            with b.when(inside):
                self._store(row, [group * WIDE + k for k in range(WIDE)], lanes)
            return
        for k, lane in enumerate(lanes):
            at, inside = bounded(b, column + k, n, self.tile.columns)
            with b.when(inside):
                self._store(row, [at], [lane])

    def _store(self, row: Index, columns: list[Index], totals: list[Value]) -> None:
        kernel = self.kernel
        if kernel.temporary is None:
            kernel.finish([(self.batch, row, c) for c in columns], totals)
        else:
            places = [kernel.partial_place(self.part, self.batch, row, c) for c in columns]
            kernel.store(kernel.temporary, places, totals)


class _Operand:
    """One operand in workgroup memory, and who copies what.

    The unit of copying is four neighbours of the free axis at one place of the contracted axis, or, where the operand is
    stored the other way round, at four places: a block of 4 x 4 that is turned around in registers. Where four neighbours of
    the free axis cannot be read together (the windows of a convolution), it is one element: then neighbouring threads read
    neighbouring elements, and all that a thread reads is at one place of the free axis, or at few.
    """

    def __init__(self, whole: _Kernel, side: Side, extent: int, tile_number: Index, along: str, together: bool):
        self.kernel, self.product, self.side, self.b = whole.kernel, whole.product, side, whole.b
        tile = whole.tile
        self.batch = whole.batch
        self.depth, self.groups = tile.depth, extent // WIDE
        p = self.product
        self.whole_steps = p.k // tile.depth if p.k % tile.depth == 0 else None
        turned = tile.blocks and along == "depth" and together and tile.depth % WIDE == 0 and p.k % WIDE == 0
        self.deep = WIDE if turned else 1
        self.wide = 1 if along == "free" and not together else WIDE
        # a padded line puts what is neighbours along the contracted axis into different banks
        padding = 1 if along == "depth" and _fits_padded(whole) else 0
        self.stride = self.groups + padding
        memory_type = self.kernel.work.register
        self.memory: Memory = self.b.workgroup_memory(memory_type, tile.buffers * tile.depth * self.stride)
        self.memory.width = WIDE
        self.whole = whole
        self.masked = whole.stop is None and whole.steps * tile.split * tile.depth != p.k
        self.units: list[_Unit] = []
        across = extent // self.wide
        count = across * (tile.depth // self.deep)
        zero = self.kernel.work.zero if self.wide == 1 else self.b.splat(self.kernel.work.zero)
        for start in range(0, count, tile.threads):
            number = whole.thread + start
            exists = None
            if start + tile.threads > count:
                value = self.b.index(number)
                exists = self.b.op("lt", value, self.b.constant(count, I32), dtype=BOOL)
                number = ix.axis("unit", count)
                self.b.set_axis(number, value)
            inner = tile.depth // self.deep if along == "depth" else across
            if exists is None and start % inner == 0:  # units of a thread that differ by a constant only
                fast, slow = whole.thread.digit(1, inner), whole.thread.digit(inner) + start // inner
            else:
                fast, slow = number.digit(1, inner), number.digit(inner)
            deep, group = (fast, slow) if along == "depth" else (slow, fast)
            lanes = self._lanes(tile_number * extent + group * self.wide, side.size, extent)
            values = [self.b.variable(zero) for _ in range(self.deep)]
            self.units.append(_Unit(exists, group, deep, lanes, values))

    def _lanes(self, first: Index, size: int, extent: int) -> list[Index]:
        """Places on the free axis; beyond its end, the last ones again, whose products nobody wants."""
        b = self.b
        if size % extent == 0:
            return [first + k for k in range(self.wide)]
        if self.wide == WIDE and size % WIDE == 0:
            group = clamped(b, first.over(WIDE), size // WIDE)
            return [group * WIDE + k for k in range(WIDE)]
        return [clamped(b, first + k, size) for k in range(self.wide)]

    def fetch(self, step: Index) -> None:
        """Reads a step of the operand into registers."""
        b, p = self.b, self.product
        exists = None
        if self.whole.stop is not None:
            step = self.whole.step_number(step)
        elif self.masked and self.whole_steps is not None:
            value = b.index(step)
            exists = b.op("lt", value, b.constant(self.whole_steps, I32), dtype=BOOL)
            step = ix.axis("step", self.whole_steps)
            b.set_axis(step, value)
        for unit in self.units:
            with b.when(unit.exists):
                start = step * (self.depth // self.deep) + unit.deep
                mask = exists
                if self.masked and self.whole_steps is None:
                    value = b.index(start)
                    mask = b.op("lt", value, b.constant(p.k // self.deep, I32), dtype=BOOL)
                    start = ix.axis("deep", p.k // self.deep)
                    b.set_axis(start, value)
                for k, variable in enumerate(unit.values):
                    at = start * self.deep + k
                    values = [p.read(self.kernel.e, self.side, self.batch, lane, at, mask) for lane in unit.lanes]
                    b.assign(variable, values[0] if self.wide == 1 else b.pack(values))

    def put(self, buffer: Index | None) -> None:
        """Writes what was read into workgroup memory."""
        b = self.b
        for unit in self.units:
            with b.when(unit.exists):
                for k, variable in enumerate(unit.values):
                    group = unit.group if self.wide == WIDE else unit.group.digit(WIDE)
                    place = (unit.deep * self.deep + k) * self.stride + group
                    if buffer is not None:
                        place = place + buffer * (self.depth * self.stride)
                    if self.wide == WIDE:
                        b.store(self.memory, b.index(place), b.read(variable))
                    else:
                        lane = b.index(unit.group.digit(1, WIDE))
                        b.store_lane(self.memory, b.index(place), lane, b.read(variable))

    def start(self, buffer: Index | None, at: Index) -> Index:
        """Where a thread's first group is."""
        return at if buffer is None else at + buffer * (self.depth * self.stride)

    def load(self, start: Value, offset: int) -> Value:
        b = self.b
        place = b.op("add", start, b.constant(offset, I32), depth=b.depth) if offset else start
        return b.load_vector(self.memory, place)


class _Unit:
    """What a thread copies at a time.

    Attributes:
        exists: whether this thread has such a unit; None: all have.
        group, deep: its place in the step: the number of its group of four, or of its one element, and along the depth.
        lanes: its places on the operand's free axis.
        values: where it waits for its turn.
    """

    def __init__(self, exists: Value | None, group: Index, deep: Index, lanes: list[Index], values: list[Variable]):
        self.exists, self.group, self.deep, self.lanes, self.values = exists, group, deep, lanes, values


def _fits_padded(whole: _Kernel) -> bool:
    tile = whole.tile
    padded = 4 * tile.buffers * tile.depth * (tile.rows + tile.columns + 2 * WIDE)
    return padded <= whole.kernel.target.workgroup_bytes


def bounded(b: Builder, index: Index, size: int, extent: int) -> tuple[Index, Value | None]:
    """An index that may run beyond a size which is no multiple of the extent; and whether it does not."""
    if size % extent == 0:
        return index, None
    value = b.index(index)
    inside = b.op("lt", value, b.constant(size, I32), dtype=BOOL)
    axis = ix.axis("bounded", size)
    b.set_axis(axis, value)
    return axis, inside


def clamped(b: Builder, index: Index, size: int) -> Index:
    """An index, or the last one below a size."""
    axis = ix.axis("clamped", size)
    b.set_axis(axis, b.op("min", b.index(index), b.constant(size - 1, I32)))
    return axis


def _ceil(a: int, b: int) -> int:
    return -(-a // b)
