"""The tiled product of matrices on tensor cores.

A workgroup computes a tile of the result, each of its subgroups a part of it, as sums of small matrices that the threads of
the subgroup hold together. Along the contracted axis it goes in steps: its threads together copy a step of both operands
into workgroup memory, as 16-bit floats, in the order in which memory has them; matrices are loaded from either order. The
next step is read from memory while this one is multiplied. Results pass through workgroup memory, a few matrices at a time,
to threads that know the places of their elements.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from backends.kernels import index as ix
from backends.kernels.index import Index
from backends.kernels.ir import BOOL, F16, F32, I32, U32, Memory, Value, Variable, matrix
from backends.kernels.lowering import Stage
from backends.kernels.schedules.contraction_problem import Side
from backends.kernels.schedules.contraction_region import Region, RegionKernel, group_number, written_twice
from backends.kernels.schedules.matmul import TOGETHER, bounded, clamped
from backends.kernels.schedules.tensor_maxima import largest_of
from backends.kernels.schedules.tensor_pieces import NOT_FINITE, Pieces, exponent, power, split, unscales
from backends.kernels.schedules.tiles import RESULT_PADDING, WIDE, TensorTile
from backends.kernels.target import MatrixShape, Target


def matmul_tensor(region: Region, tile: TensorTile, pieces: Pieces, target: Target, name: str) -> Stage:
    """The kernel of a tile schedule for tensor cores. With `split` > 1 it leaves partial sums in temporary memory 0.

    If the pieces are scaled, it reads what `maxima` left in the temporary memory after that.
    """
    shape = target.matrix(F16, F32)
    assert shape is not None
    reading = [region.neighbours(side)[0] for side in (region.product.rows, region.product.columns)]

    def write(previous: RegionKernel | None) -> tuple[RegionKernel, Stage]:
        kernel = _Kernel(region, tile, pieces, shape, target, reading, previous)
        p = region.product
        flops = 2.0 * p.b * p.m * p.n * p.k
        return kernel.kernel, kernel.kernel.stage(name, tile.threads, kernel.grid, flops)

    return written_twice(write)


def result_columns(tile: TensorTile, shape: MatrixShape, pieces: Pieces, target: Target) -> int | None:
    """How many columns of its part a subgroup hands over at a time; None if the tile does not fit into workgroup memory."""
    left = target.workgroup_bytes - tile.staged_bytes(pieces.counts) - (8 * tile.threads if pieces.scaled else 0)
    columns = tile.part_columns
    while columns >= shape.n:
        if tile.part_columns % columns == 0 and tile.result_bytes(shape.m, columns) <= left:
            return columns
        columns -= shape.n
    return None


def fits(tile: TensorTile, pieces: Pieces, target: Target) -> bool:
    """Whether a device can run it."""
    shape = target.matrix(F16, F32)
    if shape is None or tile.subgroup != target.subgroup[0] or tile.threads > target.workgroup_threads:
        return False
    whole = tile.part_rows % shape.m == 0 and tile.part_columns % shape.n == 0 and tile.depth % shape.k == 0
    return whole and result_columns(tile, shape, pieces, target) is not None


class _Kernel:
    def __init__(
        self,
        region: Region,
        tile: TensorTile,
        pieces: Pieces,
        shape: MatrixShape,
        target: Target,
        reading: list[str],
        previous: RegionKernel | None,
    ):
        p = self.product = region.product.in_steps(tile.depth)
        self.tile, self.pieces, self.shape = tile, pieces, shape
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
            self.thread = ix.axis("thread", tile.threads)
            b.set_axis(self.thread, b.builtin("thread"))
            number = ix.axis("subgroup", tile.threads // tile.subgroup)
            b.set_axis(number, b.builtin("subgroup"))
            self.across = tile.columns // tile.part_columns
            self.part_row, self.part_column = number.digit(self.across), number.digit(1, self.across)
            self.subgroup = number
            self._find_scales()
            operands = [
                _Operand(self, p.rows, tile.rows, self.row_tile, reading[0], pieces.rows, self.scales[0]),
                _Operand(self, p.columns, tile.columns, self.column_tile, reading[1], pieces.columns, self.scales[1]),
            ]
            totals = self._totals()
            self._sum(operands, totals)
            self._finish(totals, result_columns(tile, shape, pieces, target))

    def _find_scales(self) -> None:
        b = self.b
        self.scales: tuple[Value | None, Value | None] = (None, None)
        self.unscales: tuple[Value, ...] = ()
        self.odd: Value | None = None  # whether an operand has an element that is not finite
        if not self.pieces.scaled:
            return
        largest = largest_of(self.kernel, 1 if self.tile.split > 1 else 0, self.tile.threads)
        rows, columns = (exponent(b, bits) for bits in largest)
        self.scales = power(b, rows), power(b, columns)
        self.unscales = unscales(b, (rows, columns))
        limit = b.constant(NOT_FINITE, U32)
        self.odd = b.op("ge", b.op("max", *largest), limit, dtype=BOOL)

    # ------------------------------------------------------------------ the sum
    def _totals(self) -> list[list[Variable]]:
        """The matrices of a subgroup's part of the result."""
        m, n = self.shape.m, self.shape.n
        zero = self.b.zero_matrix(matrix("result", F32, m, n))
        across, down = self.tile.part_columns // n, self.tile.part_rows // m
        return [[self.b.variable(zero) for _ in range(across)] for _ in range(down)]

    def _sum(self, operands: list[_Operand], totals: list[list[Variable]]) -> None:
        b, tile = self.b, self.tile
        first = self.part * self.steps
        for operand in operands:
            operand.fetch(first)
        step = ix.axis("step", self.steps)
        if tile.buffers == 1 or self.steps == 1:
            with b.loop(step):
                for operand in operands:
                    operand.put(None)
                b.barrier()
                with self._next(step) as following:
                    if following is not None:
                        for operand in operands:
                            operand.fetch(first + following)
                self._multiply(operands, totals, None)
                b.barrier()
            return
        for operand in operands:
            operand.put(None)
        b.barrier()
        with b.loop(step):
            with self._next(step) as following:
                assert following is not None
                for operand in operands:
                    operand.fetch(first + following)
            self._multiply(operands, totals, step.digit(1, 2))
            with self._next(step):
                for operand in operands:
                    operand.put((step + 1).digit(1, 2))
            b.barrier()

    @contextmanager
    def _next(self, step: Index) -> Iterator[Index | None]:
        """Where there is a next step, and its number."""
        b = self.b
        if self.steps == 1:
            yield None
            return
        following = b.op("add", b.index(step), b.constant(1, I32))
        with b.when(b.op("lt", following, b.constant(self.steps, I32), dtype=BOOL)):
            yield ix.computed(following, 1, self.steps - 1)

    def _multiply(self, operands: list[_Operand], totals: list[list[Variable]], buffer: Index | None) -> None:
        """Adds the products of one step."""
        if self.kernel.draft:
            return
        b, (_, _, m, n, k) = self.b, self.shape
        rows, columns = operands
        for deep in range(0, self.tile.depth, k):
            left = [
                [rows.matrix("left", buffer, piece, self.part_row, i * m, deep, (m, k)) for i in range(len(totals))]
                for piece in range(self.pieces.rows)
            ]
            right = [
                [
                    columns.matrix("right", buffer, piece, self.part_column, j * n, deep, (k, n))
                    for j in range(len(totals[0]))
                ]
                for piece in range(self.pieces.columns)
            ]
            # the largest products come last
            pairs = [(x, y) for x in range(self.pieces.rows) for y in range(self.pieces.columns) if x + y < 2]
            for x, y in sorted(pairs, key=sum, reverse=True):
                for i, line in enumerate(totals):
                    for j, total in enumerate(line):
                        b.assign(total, b.multiply_matrices(left[x][i], right[y][j], b.read(total)))

    # ------------------------------------------------------------------ the results
    def _finish(self, totals: list[list[Variable]], at_a_time: int | None) -> None:
        """Hands the matrices over, some columns of one row of matrices at a time."""
        assert at_a_time is not None
        b, (_, _, m, n, _) = self.b, self.shape
        stride = at_a_time + RESULT_PADDING
        subgroups = self.tile.threads // self.tile.subgroup
        memory = b.workgroup_memory(F32, subgroups * m * stride)
        start = b.index(self.subgroup * (m * stride))
        for i, line in enumerate(totals):
            for first in range(0, len(line), at_a_time // n):
                if self.kernel.draft and (i or first):
                    continue
                if i or first:
                    b.barrier()
                for j in range(at_a_time // n):
                    place = b.op("add", start, b.constant(j * n, I32)) if j else start
                    if not self.kernel.draft:
                        b.store_matrix(memory, place, b.read(line[first + j]), stride)
                b.barrier()
                self._hand_over(memory, stride, i * m, first * n, at_a_time)

    def _hand_over(self, memory: Memory, stride: int, down: int, right: int, columns: int) -> None:
        """Each thread finishes groups of four neighbours: threads of a subgroup do not keep to its own results."""
        b, tile, m = self.b, self.tile, self.shape.m
        across = columns // WIDE
        count = tile.threads // tile.subgroup * m * across
        turns = ix.axis("turn", _ceil(count, tile.threads))
        with b.loop(turns):
            number = turns * tile.threads + self.thread
            exists = None
            if count % tile.threads:
                value = b.index(number)
                exists = b.op("lt", value, b.constant(count, I32), dtype=BOOL)
                number = ix.axis("group", count)
                b.set_axis(number, value)
            with b.when(exists):
                group, line, part = number.digit(1, across), number.digit(across, m), number.digit(across * m)
                start = (part * m + line) * stride + group * WIDE
                found = [b.load(memory, b.index(start + k)) for k in range(WIDE)]
                row = self.row_tile * tile.rows + part.digit(self.across) * tile.part_rows + (line + down)
                column = self.column_tile * tile.columns + part.digit(1, self.across) * tile.part_columns
                self._finish_group(row, column + (group * WIDE + right), found)

    def _finish_group(self, row: Index, column: Index, totals: list[Value]) -> None:
        b, n = self.b, self.product.n
        row, inside = bounded(b, row, self.product.m, self.tile.rows)
        with b.when(inside):
            if n % WIDE == 0:
                group, inside = bounded(b, column.over(WIDE), n // WIDE, self.tile.columns // WIDE)
                with b.when(inside):
                    self._store(row, [group * WIDE + k for k in range(WIDE)], totals)
                return
            for k, total in enumerate(totals):
                at, inside = bounded(b, column + k, n, self.tile.columns)
                with b.when(inside):
                    self._store(row, [at], [total])

    def _store(self, row: Index, columns: list[Index], totals: list[Value]) -> None:
        kernel, b = self.kernel, self.b
        for factor in self.unscales:
            totals = [b.op("mul", total, factor) for total in totals]
        totals = self._without_scales(row, columns, totals)
        if kernel.temporary is None:
            kernel.finish([(self.batch, row, c) for c in columns], totals)
        else:
            places = [kernel.partial_place(self.part, self.batch, row, c) for c in columns]
            kernel.store(kernel.temporary, places, totals)

    def _without_scales(self, row: Index, columns: list[Index], totals: list[Value]) -> list[Value]:
        """The sums, computed plainly where there is an operand that has no scale."""
        if self.odd is None:
            return totals
        b, p, kernel = self.b, self.product, self.kernel
        results = [b.variable(total) for total in totals]
        with b.when(self.odd):
            for result in results:
                b.assign(result, kernel.work.zero)
            length = self.steps * self.tile.depth
            deep = ix.axis("deep", length)
            with b.loop(deep):
                at, mask = self.deep(self.part * length + deep, length * self.tile.split, 1)
                left = p.read(kernel.e, p.rows, self.batch, row, at, mask)
                for column, result in zip(columns, results, strict=True):
                    right = p.read(kernel.e, p.columns, self.batch, column, at, mask)
                    b.assign(result, kernel.work.add_product(left, right, b.read(result)))
        return [b.read(result) for result in results]

    def deep(self, at: Index, extent: int, group: int) -> tuple[Index, Value | None]:
        """A place on the contracted axis, in groups; and whether it is below its end."""
        b, p = self.b, self.product
        if extent * group == p.k:
            return at, None
        value = b.index(at)
        axis = ix.axis("deep", p.k // group)
        b.set_axis(axis, value)
        return axis, b.op("lt", value, b.constant(p.k // group, I32), dtype=BOOL)


class _Operand:
    """One operand in workgroup memory, and who copies what: four neighbours at a time, along whichever axis they lie."""

    def __init__(
        self, whole: _Kernel, side: Side, extent: int, tile_number: Index, along: str, pieces: int, scale: Value | None
    ):
        self.whole, self.kernel, self.product, self.side, self.b = whole, whole.kernel, whole.product, side, whole.b
        tile, b, p = whole.tile, whole.b, whole.product
        self.scale, self.extent, self.depth = scale, extent, tile.depth
        self.by_depth = along == "depth"
        lines, length = (extent, tile.depth) if self.by_depth else (tile.depth, extent)
        self.stride = (length + tile.padding) // WIDE  # of lines, in groups of four
        self.size = lines * self.stride
        self.memories = [b.workgroup_memory(F16, tile.buffers * self.size) for _ in range(pieces)]
        for memory in self.memories:
            memory.width = WIDE
        self.dtype = F32 if scale is not None else F16
        self.part = tile.part_rows if side is p.rows else tile.part_columns
        # places beyond the end of the contracted axis are zeros
        self.extent_deep = whole.steps * tile.split * tile.depth
        self.units: list[_Unit] = []
        count = extent * tile.depth // WIDE
        zero = b.splat(b.constant(0.0, self.dtype))
        for start in range(0, count, tile.threads):
            number = whole.thread + start
            exists = None
            if start + tile.threads > count:
                value = b.index(number)
                exists = b.op("lt", value, b.constant(count, I32), dtype=BOOL)
                number = ix.axis("unit", count)
                b.set_axis(number, value)
            group, line = number.digit(1, length // WIDE), number.digit(length // WIDE)
            if self.by_depth:
                free = [self._clamped(tile_number * extent + line, 1, extent)]
                deep = group
            else:
                free = self._four(tile_number * extent + group * WIDE, extent)
                deep = line
            self.units.append(_Unit(exists, line * self.stride + group, free, deep, b.variable(zero)))

    def _clamped(self, at: Index, group: int, extent: int) -> Index:
        """A place on the free axis, in groups; beyond its end, the last one again, whose products nobody wants."""
        size = self.side.size
        return at if size % extent == 0 else clamped(self.b, at, size // group)

    def _four(self, first: Index, extent: int) -> list[Index]:
        if self.side.size % WIDE == 0:
            group = self._clamped(first.over(WIDE), WIDE, extent)
            return [group * WIDE + k for k in range(WIDE)]
        return [self._clamped(first + k, 1, extent) for k in range(WIDE)]

    def fetch(self, step: Index) -> None:
        """Reads a step of the operand into registers."""
        b, p = self.b, self.product
        for unit in self.units:
            with b.when(unit.exists):
                found = []
                if self.by_depth and p.k % WIDE == 0:
                    at = step * (self.depth // WIDE) + unit.deep
                    group, mask = self.whole.deep(at, self.extent_deep // WIDE, WIDE)
                    found = [self._read(unit.free[0], group * WIDE + k, mask) for k in range(WIDE)]
                elif self.by_depth:
                    for k in range(WIDE):
                        at, mask = self.whole.deep(step * self.depth + unit.deep * WIDE + k, self.extent_deep, 1)
                        found.append(self._read(unit.free[0], at, mask))
                else:
                    at, mask = self.whole.deep(step * self.depth + unit.deep, self.extent_deep, 1)
                    found = [self._read(free, at, mask) for free in unit.free]
                b.assign(unit.values, b.pack(found))

    def _read(self, free: Index, at: Index, mask: Value | None) -> Value:
        b, p = self.b, self.product
        if self.dtype == F32:
            return p.read(self.kernel.e, self.side, self.whole.batch, free, at, mask)
        found, mask = p.element(self.kernel.e, self.side, self.whole.batch, free, at, mask)
        return found if mask is None else b.select(mask, found, b.constant(0.0, F16))

    def put(self, buffer: Index | None) -> None:
        """Writes what was read into workgroup memory."""
        b = self.b
        for unit in self.units:
            with b.when(unit.exists):
                at = b.index(unit.place if buffer is None else unit.place + buffer * self.size)
                values = b.read(unit.values)
                if self.scale is None:
                    b.store(self.memories[0], at, values)
                    continue
                lanes = [b.op("mul", b.lane(values, k), self.scale) for k in range(WIDE)]
                pieces = [split(b, lane, len(self.memories)) for lane in lanes]
                for memory, parts in zip(self.memories, zip(*pieces, strict=True), strict=True):
                    b.store(memory, at, b.pack(parts))

    def matrix(
        self, role: str, buffer: Index | None, piece: int, part: Index, free: int, deep: int, shape: tuple[int, int]
    ) -> Value:
        """A matrix of a piece: from this place of a subgroup's part, and of the step."""
        b = self.b
        line, group = (part * self.part + free, deep) if self.by_depth else (ix.constant(deep), part * self.part + free)
        place = line * self.stride + (ix.constant(group) if isinstance(group, int) else group).over(WIDE)
        if buffer is not None:
            place = place + buffer * self.size
        by_columns = self.by_depth == (role == "right")
        dtype = matrix(role, F16, *shape)
        return b.load_matrix(dtype, self.memories[piece], b.index(place), self.stride, by_columns)


class _Unit:
    """What a thread copies at a time.

    Attributes:
        exists: whether this thread has such a unit; None: all have.
        place: where it goes in workgroup memory, in groups of four.
        free: places on the operand's free axis: four, or one if its neighbours are along the contracted axis.
        deep: its place in the step, or that of its four neighbours.
        values: where it waits for its turn.
    """

    def __init__(self, exists: Value | None, place: Index, free: list[Index], deep: Index, values: Variable):
        self.exists, self.place, self.free, self.deep, self.values = exists, place, free, deep, values


def _ceil(a: int, b: int) -> int:
    return -(-a // b)
