"""Convolutions of a processor with vectors: an element of a window is read where it is in the image.

A workgroup computes a block of the result: positions (for the gradient of a kernel: channels and taps) by features. It goes
over parts of k. What the block's windows see of the image in one is written out once, with the padding around it. There an
element of a window is at the sum of two numbers, one of its row and one of its step of k, which the library's product finds
in two tables. Features are the vectors' lanes; a block whose positions are neighbours in the result is turned before
something is made of it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import numpy as np

from backends.kernels import index as ix
from backends.kernels.elements import Coordinates
from backends.kernels.index import Index
from backends.kernels.ir import BOOL, I32, Builder, Memory, Value
from backends.kernels.lowering import Plan
from backends.kernels.schedules.contraction_problem import Sizes
from backends.kernels.schedules.contraction_region import Region, group_number
from backends.kernels.schedules.simd_block import LIBRARY, BlockWriter, Strides, strides_at, strides_of
from backends.kernels.schedules.simd_nest import Range, is_plain, over
from backends.kernels.schedules.simd_windows_cut import Box, Costs, choose, depth_box, seen
from backends.kernels.schedules.simd_windows_image import Image, Stored, image_of, in_order_of_result, stored_as, sum_of
from backends.kernels.target import Target

# cycles for an element of the other operand: brought together in registers, or written out, or read one by one
_PACKED, _APART = 1.0, 2.0
# elements: planes of an image that are multiples of so many apart share few lines of the first cache
_WAY = 256


def simd_windows(region: Region, target: Target) -> Plan | None:
    """The plan of a region one of whose operands is an image; None if it is better computed otherwise."""
    p = region.product
    is_turned = p.columns.is_image
    p = p.swapped() if is_turned else p
    image = image_of(p)
    if image is None or 2 * p.n < target.simd or strides_of(region, p.rows) is not None:
        return None
    shared = [image.is_shared(axis) for axis in range(len(p.depth))]
    if is_turned and not any(shared) and p.useful == 1.0 and p.rows.sizes[-1] >= target.simd:
        # windows of one element, neighbours in the image as in the result: nothing needs to be turned
        if region.neighbours(p.rows)[0] == "free":
            return None
    # in k first what windows do not share
    depth = sorted(range(len(p.depth)), key=shared.__getitem__)
    region.product, image = in_order_of_result(region, p, image, depth)
    return _Writer(region, target, image, is_turned).plan()


class _Writer(BlockWriter):
    """Writes the kernel of a region."""

    def __init__(self, region: Region, target: Target, image: Image, is_turned: bool):
        super().__init__(region, target)
        self.image, self.is_turned = image, is_turned
        p = self.p
        self.stored = stored_as(region, p.rows.value, self.dtype)
        self.columns = self._columns(depth_box(p.depth))
        axis = depth_box(p.depth).axis
        # columns that are no neighbours are brought together by the library; so are computed ones that are written out by
        # rows, which hold all steps of a part
        self.by_rows = (
            self.columns is None
            and p.depth[-1] >= self.lanes
            and region.neighbours(p.columns, p)[0] == "depth"
            and not any(tap > axis for tap in self._uneven())
        )
        self.packed = self.by_rows or (self.columns is not None and self.columns.free != 1)
        column = _PACKED if self.packed else _APART if self.columns is None else 0.0
        costs = Costs(image.free, image.depth, column, is_turned)
        self.m, self.width, self.k = choose(p, costs, self.tile, target)

    def _columns(self, box: Box) -> Strides | None:
        """How the other operand lies in a part of k."""
        p = self.p
        free, local, number = ix.axis("free", p.n), ix.axis("local", box.length), ix.axis("part", math.prod(box.pieces))
        depth = tuple(i + j for i, j in zip(box.first(number), ix.coordinates(local, box.lengths), strict=True))
        return strides_at(self.region, p.columns, ix.coordinates(free, p.columns.sizes), depth, (free, local))

    def plan(self) -> Plan:
        b, p = self.b, self.p
        along = (p.b, math.prod(self.m.pieces), -(-p.n // self.width))
        group, _, grid = group_number(self.kernel, math.prod(along))
        batch, i, j = ix.coordinates(group, along)
        self.batch = self._named("batch", p.b, batch)
        piece = self._named("piece", along[1], i)
        self.down = self._range(self.m, piece)
        self.across = self.range(j, self.width, p.n)
        height, width = self.size(self.down), self.size(self.across)
        stride = -(-self.width // self.lanes) * self.lanes
        # whole vectors are turned: there may be more rows than the block has
        rows = -(-self.m.length // self.lanes) * self.lanes
        block = b.workgroup_memory(self.dtype, rows * stride)
        self.taps = self._taps(b, self.batch)
        self._place_image()
        part = ix.axis("part", math.prod(self.k.pieces))
        nr = -(-self.width // self.tile[1]) * self.tile[1]
        panels = (
            None if self.columns is not None and not self.packed else b.workgroup_memory(self.dtype, nr * self.k.length)
        )
        lines = b.workgroup_memory(self.dtype, self.width * self.k.length) if self.by_rows else None
        with b.loop(part):
            depth = self._range(self.k, part)
            left = self._left(self.m.first(piece), self.k.first(part))
            right = self._right(panels, lines, nr, depth, part)
            again = b.op("gt", b.index(part), self.number(0), dtype=BOOL)
            sizes = (height, width, self._count(depth, part))
            result = ((block, self.number(0)), self.number(stride), again)
            b.call(f"gemm_windows_{LIBRARY[self.dtype]}", (*sizes, *left, *right, *result), [block])
        if self.is_turned:
            turned = b.workgroup_memory(self.dtype, rows * stride)
            source, target = (
                ((block, self.number(0)), self.number(stride)),
                ((turned, self.number(0)), self.number(rows)),
            )
            b.call(f"turn_{LIBRARY[self.dtype]}", (height, width, *source, *target), [turned])
            self.region.product = self.p = p.swapped()
            self.down, self.across = self.across, self.down
            length = self._plane()
            self.finish(turned, rows, length, self.m.length % length == 0)
        else:
            self.finish(block, stride, p.n, self.width == p.n)
        return self.plan_of(grid)

    def _named(self, name: str, size: int, number: Index) -> Index:
        """An axis that has this number."""
        axis = ix.axis(name, size)
        self.b.set_axis(axis, self.b.index(number))
        return axis

    def _range(self, box: Box, number: Index) -> Range:
        """The rows, or steps of k, of a box."""
        b = self.b
        index = ix.linear(box.first(number), box.sizes)
        first = b.index(index)
        size = box.sizes[box.axis]
        if size % box.count == 0:
            return Range(index, first, b.op("add", first, self.number(box.length)), box.length)
        _, piece = ix.coordinates(number, box.pieces)
        left = b.op("mul", b.index(-piece * box.count + size), self.number(box.inner))
        return Range(index, first, b.op("add", first, b.op("min", self.number(box.length), left)), None)

    def _plane(self) -> int:
        """How many columns are neighbours in the first result wherever they start."""
        p, output = self.p, self.region.asg.outputs[0]
        for axis in range(len(p.columns.sizes)):
            length = math.prod(p.columns.sizes[axis:])
            inner = ix.axis("inner", length)
            at = p.result(ix.constant(0), ix.constant(0), inner)
            place = ix.linear(self.region.places(at)[output], self.region.value_types[output].shape)
            if is_plain(place, inner):
                return length
        return 1

    # ------------------------------------------------------------------ operands
    def _place_image(self) -> None:
        """The memory that a block's part of the image is written to, and the tables of its places."""
        b, image = self.b, self.image
        self.distances, self.extents = seen(image.free, image.depth, self.m, self.k)
        pitch, pitches = 1, []
        for n in reversed(self.extents):
            pitches.append(pitch)
            pitch *= n
            if n > 1 and pitch % _WAY == 0:
                pitch += self.lanes
        self.pitches = pitches[::-1]
        # the last line is written in whole vectors, too
        self.written = b.workgroup_memory(self.dtype, pitch + self.lanes)
        rows, steps = (
            tuple(
                sum(c[axis] // g * s for c, g, s in zip(moves, self.distances, self.pitches, strict=True))
                for axis in range(len(moves[0]))
            )
            for moves in (image.free, image.depth)
        )
        self.tables = tuple(
            (table, self.number(0)) for table in (self._table(self.m.lengths, rows), self._table_of_steps(steps))
        )

    def _table(self, lengths: Sizes, steps: Sizes) -> Memory:
        """Where the elements of a box are, from its first one on."""
        places = np.zeros((), np.int64)
        for length, step in zip(lengths, steps, strict=True):
            places = places[..., None] + step * np.arange(length)
        return self.table(places.reshape(-1))

    def _uneven(self) -> list[int]:
        """Along which axes of k the number of taps depends on the batch."""
        b, batch = Builder(), ix.axis("batch", self.p.b)
        b.set_axis(batch, b.builtin("thread"))
        return list(self._taps(b, batch))

    def _taps(self, b: Builder, batch: Index) -> dict[int, Value]:
        """How many taps there are along axes of k, where that depends on the batch."""
        p = self.p
        if p.all_taps is None:
            return {}
        found = p.all_taps(b, ix.coordinates(batch, p.batch))
        others = [axis for axis in range(len(p.depth)) if axis != p.channels]
        return {
            axis: b.select(whole, b.constant(p.depth[axis], I32), b.constant(p.depth[axis] - 1, I32))
            for axis, whole in zip(others, found, strict=True)
            if whole is not None
        }

    def _table_of_steps(self, steps: Sizes) -> Memory:
        """Where the elements for the steps of a part of k are, from the first one on. If it has fewer along the axis that is
        cut, they are the first ones."""
        b, k = self.b, self.k
        inner = {axis: count for axis, count in self.taps.items() if axis > k.axis}
        if not inner:
            return self._table(k.lengths, steps)
        table = b.workgroup_memory(I32, k.length)
        with self._some_steps([inner.get(axis, self.number(n)) for axis, n in enumerate(k.lengths)]) as (at, number):
            b.store(table, number, b.index(sum_of(at, steps)))
        return table

    @contextmanager
    def _some_steps(self, lengths: list[Value]) -> Iterator[tuple[Coordinates, Value]]:
        """Goes through steps of a part of k, so many along each axis: their coordinates in it, and their numbers."""
        b, number = self.b, self.number(0)
        axes = tuple(ix.axis("step", n) for n in self.k.lengths)
        with ExitStack() as loops:
            for index, length in zip(axes, lengths, strict=True):
                loops.enter_context(b.loop(index, stop=length))
                number = b.op("add", b.op("mul", number, length), b.index(index))
            yield axes, number

    def _lengths(self, depth: Range, part: Index) -> list[Value]:
        """How many steps there are in a part of k along its axes."""
        b, k = self.b, self.k
        found = [self.number(n) for n in k.lengths]
        found[k.axis] = self.number(k.count) if depth.count is not None else over(b, self.size(depth), k.inner)
        for axis, count in self.taps.items():
            left = b.op("sub", count, b.index(k.first(part)[axis]))
            found[axis] = b.op("max", b.op("min", found[axis], left), self.number(0))
        return found

    def _count(self, depth: Range, part: Index) -> Value:
        """How many steps a part of k has."""
        b = self.b
        if not self.taps:
            return self.size(depth)
        total = self.number(1)
        for length in self._lengths(depth, part):
            total = b.op("mul", total, length)
        return total

    @contextmanager
    def _numbered(self, depth: Range, part: Index) -> Iterator[tuple[Index, Value]]:
        """Goes through a part of k: steps, and their numbers in it."""
        if not self.taps:
            with self.through(depth, self.p.k) as found:
                yield found
            return
        with self._some_steps(self._lengths(depth, part)) as (at, number):
            yield ix.linear((i + j for i, j in zip(self.k.first(part), at, strict=True)), self.p.depth), number

    def _left(self, free: Coordinates, depth: Coordinates) -> tuple[tuple[Memory, Value], ...]:
        """The image: what the block sees of it, from the first element of its first window on, is written out, with zeros
        where there is nothing; and the tables of its places."""
        first, _ = self.p.rows.place(self.b, ix.coordinates(self.batch, self.p.batch), free, depth)
        *outer, lanes = [d for d, n in enumerate(self.extents) if n > 1] or [len(first) - 1]
        if self.stored is not None and self.stored.steps[lanes] * self.distances[lanes] == 1:
            self._pad(self.stored, first, outer, lanes)
        else:
            self._compute(first, outer, lanes)
        return (self.written, self.number(0)), *self.tables

    def _pad(self, stored: Stored, first: Coordinates, outer: list[int], lanes: int) -> None:
        """Has the image written out by the library: lines of neighbours, and planes of lines.

        Arguments:
            first: coordinates of the first element.
            outer, lanes: the axes along which there are several, and the last of them.
        """
        b, e, shape = self.b, self.kernel.e, self.kernel.e.type(self.p.rows.value).shape
        looped, called = outer[:-2], (*outer[-2:], lanes)
        axes = {d: ix.axis("image", self.extents[d]) for d in looped}
        memory = e.memories[stored.value]
        assert memory is not None
        e.used.add(id(memory))
        with ExitStack() as loops:
            for axis in axes.values():
                loops.enter_context(b.loop(axis))
            at = [i + axes[d] * self.distances[d] if d in axes else i for d, i in enumerate(first)]
            # where there is nothing along the other axes, lines have no elements
            inside = b.both(*(b.within(i, 0, shape[d]) for d, i in enumerate(at) if d not in called))
            size = self.number(shape[lanes])
            size = size if inside is None else b.select(inside, size, self.number(0))
            arguments: list[Index | int] = [
                *(1, 0, 1, 1, 0, 0) * (2 - len(outer[-2:]))
            ]  # a single plane, a single line
            for d in outer[-2:]:
                steps = self.distances[d], stored.steps[d] * self.distances[d], self.pitches[d]
                arguments += [self.extents[d], at[d], shape[d], *steps]
            numbers = [b.index(n) if isinstance(n, Index) else self.number(n) for n in arguments]
            line = self.number(self.extents[lanes]), b.index(at[lanes]), size
            source = b.index(sum_of(at, stored.steps) + stored.start)
            target = b.index(sum_of(axes.values(), [self.pitches[d] for d in looped]))
            places = (memory, source), (self.written, target)
            b.call(f"pad_{LIBRARY[self.dtype]}", (*places, *numbers, *line), [self.written])

    def _compute(self, first: Coordinates, outer: list[int], lanes: int) -> None:
        """Writes the image out element by element; arguments as those of `_pad`."""
        b, p, e, work = self.b, self.p, self.kernel.e, self.kernel.work
        t = e.type(p.rows.value)
        axes = {d: ix.axis("image", self.extents[d]) for d in outer}
        # whole vectors: what is after the end of a line is written later, or is nothing
        length = -(-self.extents[lanes] // self.lanes) * self.lanes
        axes[lanes] = ix.axis("image", length)
        with ExitStack() as loops:
            for d in outer:
                loops.enter_context(b.loop(axes[d]))
            loops.enter_context(b.loop(axes[lanes], start=b.builtin("thread"), stop=length, step=self.lanes))
            at = tuple(i + axes[d] * self.distances[d] if d in axes else i for d, i in enumerate(first))
            inside = b.both(*(b.within(i, 0, n) for i, n in zip(at, t.shape, strict=True)))
            element = work.operand(e.at(p.rows.value, at, inside), t.dtype)
            element = element if inside is None else b.select(inside, element, work.zero)
            b.store(self.written, b.index(sum_of(axes.values(), [self.pitches[d] for d in axes])), element)

    def _right(
        self, panels: Memory | None, lines: Memory | None, wide: int, depth: Range, part: Index
    ) -> tuple[Value | tuple[Memory, Value], ...]:
        """The other operand's block: where it starts, and the steps to the next of k and to the next panel of columns."""
        b, p, nr = self.b, self.p, self.tile[1]
        length, width = self.size(depth), self.size(self.across)
        if self.columns is not None:
            start: tuple[Memory, Value] = self._in_place(self.columns, part)
            steps = (self.number(self.columns.depth), self.number(self.columns.free))
            if not self.packed:
                return start, steps[0], self.number(nr)
        elif lines is not None:
            stride = self.number(self.k.length)
            is_whole = self.k.axis < len(p.depth) - 1 or self.k.count == p.depth[-1]

            def in_line(j: Value, k: Value) -> Value:
                return b.op("add", b.op("mul", j, stride), k)

            self.write_lines(p.columns, lines, self.across, depth, is_whole, in_line)
            start, steps = (lines, self.number(0)), (self.number(1), stride)
        assert panels is not None
        if self.packed:
            b.call(f"pack_b_{LIBRARY[self.dtype]}", (length, width, start, *steps, (panels, self.number(0))), [panels])
            return (panels, self.number(0)), self.number(nr), b.op("mul", length, self.number(nr))

        def in_row(j: Value, k: Value) -> Value:
            return b.op("add", b.op("mul", k, self.number(wide)), j)

        is_whole = self.width % (p.columns.sizes[-1] if p.columns.sizes else 1) == 0
        steps_of_part = self._numbered(depth, part)
        self.write_rows(p.columns, panels, self.across, steps_of_part, is_whole, in_row)
        return (panels, self.number(0)), self.number(wide), self.number(nr)

    def _in_place(self, strides: Strides, part: Index) -> tuple[Memory, Value]:
        """Where the other operand's block starts in memory."""
        b, p, e = self.b, self.p, self.kernel.e
        free = ix.axis("free", p.n)
        b.set_axis(free, self.across.start)
        before = len(e.places.get(strides.value, ()))
        place, _ = p.columns.place(
            b, ix.coordinates(self.batch, p.batch), ix.coordinates(free, p.columns.sizes), self.k.first(part)
        )
        e.at(p.columns.value, place, None)
        memory = e.memories[strides.value]
        assert memory is not None
        return memory, b.index(e.places[strides.value][before])
