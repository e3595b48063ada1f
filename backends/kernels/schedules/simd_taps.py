"""Convolutions with few features a group, of a processor with vectors: lanes are neighbours of an image.

Along each of its axes windows move in two ways: far, from position to position, and a little, from tap to tap. What a
workgroup sees of the image is written out once, with the padding around it, and taken apart by the steps between
positions. Then neighbouring positions see neighbours, along a row and on into the next one: positions are numbers of a
flat space, with gaps where rows end, and a tap is a distance in it. If the result has the positions, vectors of them
are summed over taps; if it has the taps (the gradient of a kernel), a vector of sums for each goes over the positions.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

from asgfn.records import record
from backends.kernels import index as ix
from backends.kernels.elements import Coordinates
from backends.kernels.functions_notation import Number, where
from backends.kernels.index import Index
from backends.kernels.ir import F16, Memory, Value
from backends.kernels.lowering import Plan
from backends.kernels.schedules.contraction_problem import Contraction, Sizes
from backends.kernels.schedules.contraction_region import Region, group_number
from backends.kernels.schedules.simd_block import LIBRARY, BlockWriter, strides_of
from backends.kernels.schedules.simd_windows_cut import Box, boxes, divisor, equal_boxes, seen
from backends.kernels.schedules.simd_windows_image import Image, image_of, in_order_of_result, sum_of
from backends.kernels.target import Target

# elements of what a workgroup sees of an image: it stays in the second cache, and mostly in the first
WRITTEN = 1 << 14
# positions for which a workgroup of its own is worth its start
SHARE = 1 << 12
# taps that are written out one by one
UNROLLED = 64


@record
class Layout:
    """How a part of an image lies in memory.

    Attributes:
        distances: along each axis of the image, of elements that are seen.
        steps: from position to position, in distances: elements go to so many classes (1: windows do not move far along it).
        classes: how many of these are seen.
        extents: how many elements of a class there are.
        pitches: from class to class, and from one element of a class to the next.
    """

    distances: Sizes
    steps: Sizes
    classes: Sizes
    extents: Sizes
    pitches: tuple[Sizes, Sizes]
    size: int

    def place(self, at: Coordinates) -> Index:
        """Where an element is, by its coordinates in distances."""
        found = ix.constant(0)
        for i, step, of_class, pitch in zip(at, self.steps, *self.pitches, strict=True):
            found = found + i.digit(1, step) * of_class + i.digit(step) * pitch
        return found


def layout(far: Sequence[Sizes], near: Sequence[Sizes], positions: Box, taps: Sizes) -> Layout:
    """That of what some positions see. `far`, `near`: steps along each axis of the image for a step along those of
    positions, and of taps."""
    distances, extents = seen(far, near, positions, Box(taps, 0, taps[0]))
    steps = tuple(max(sum(c) // distance, 1) for c, distance in zip(far, distances, strict=True))
    classes = tuple(min(s, n) for s, n in zip(steps, extents, strict=True))
    extents = tuple(-(-n // s) for n, s in zip(extents, steps, strict=True))
    # axes along which windows do not move far are outside, for the others are one flat space
    inner = sorted(range(len(far)), key=lambda axis: (any(far[axis]), axis), reverse=True)
    size, pitches, of_class = 1, [0] * len(far), [0] * len(far)
    for axis in inner:
        pitches[axis] = size
        size *= extents[axis]
    for axis in inner:
        of_class[axis] = size
        size *= classes[axis]
    return Layout(distances, steps, classes, extents, (tuple(of_class), tuple(pitches)), size)


def simd_taps(region: Region, target: Target) -> Plan | None:
    """The plan of a region one of whose operands is an image; None if it is better computed otherwise."""
    p = region.product
    if region.types.register(p.dtype) not in (*LIBRARY, F16):
        return None
    p = p.swapped() if p.columns.is_image else p
    image = image_of(p) if 2 * p.n <= target.simd else None
    if image is None or strides_of(region, p.rows) is not None:
        return None
    p, image = in_order_of_result(region, p, image, range(len(p.depth)))
    by_taps = p.k > p.m
    far, near = (image.depth, image.free) if by_taps else (image.free, image.depth)
    one_by_one = all(sum(map(bool, of)) <= 1 for of in (*far, *near))
    if not one_by_one or not any(far[-1]):
        return None
    box = positions_of(p, far, near, by_taps, target)
    if box is None:
        return None
    region.product = p
    return (_OfTaps if by_taps else _OfPositions)(region, target, Image(far, near), box).plan()


def positions_of(
    p: Contraction, far: Sequence[Sizes], near: Sequence[Sizes], by_taps: bool, target: Target
) -> Box | None:
    """Those of a workgroup, or of a part of what it sums over; None if what one sees is too much."""
    sizes, taps = (p.depth, p.rows.sizes) if by_taps else (p.rows.sizes, p.depth)
    fitting = [box for box in boxes(sizes) if layout(far, near, box, taps).size <= WRITTEN]
    if by_taps:  # decides the order of sums
        return next(iter(fitting), None)
    enough = (b for b in fitting if p.b * math.prod(b.pieces) >= 2 * target.cores or b.length <= SHARE)
    return next(enough, fitting[-1] if fitting else None)


class _Writer(BlockWriter):
    """What both kernels have in common.

    Attributes:
        taps: lengths of the axes that these are made of.
        layout: of the image in memory.
        pitches: distances of neighbouring positions, along each axis, in the flat space.
        length: how many places of the flat space a box of positions is within.
    """

    def __init__(self, region: Region, target: Target, image: Image, box: Box, taps: Sizes):
        super().__init__(region, target)
        self.image, self.box, self.taps = image, box, taps
        self.layout = layout(image.free, image.depth, box, taps)
        self.pitches = tuple(
            sum(pitch for of, pitch in zip(image.free, self.layout.pitches[1], strict=True) if of[axis])
            for axis in range(len(box.sizes))
        )
        self.length = 1 + sum((n - 1) * pitch for n, pitch in zip(box.lengths, self.pitches, strict=True))

    def batch_and_piece(self, pieces: int) -> tuple[Index, tuple[int, int, int]]:
        """The number of a workgroup's box, and the grid; sets which of the batch it is."""
        b = self.b
        group, _, grid = group_number(self.kernel, self.p.b * pieces)
        numbers = ix.coordinates(group, (self.p.b, pieces))
        self.batch, piece = ix.axis("batch", self.p.b), ix.axis("piece", pieces)
        b.set_axis(self.batch, b.index(numbers[0]))
        b.set_axis(piece, b.index(numbers[1]))
        return piece, grid

    def write_image(self, written: Memory, free: Coordinates, depth: Coordinates) -> None:
        """Writes what is seen of the image, from the first element of the first window on, with zeros where there is nothing."""
        b, p, e, work, lay = self.b, self.p, self.kernel.e, self.kernel.work, self.layout
        t = e.type(p.rows.value)
        first, _ = p.rows.place(b, ix.coordinates(self.batch, p.batch), free, depth)
        classes = tuple(ix.axis("class", n) for n in lay.classes)
        axes = tuple(ix.axis("image", n) for n in lay.extents)
        across = max((axis for axis, n in enumerate(lay.extents) if n > 1), default=len(axes) - 1)
        with ExitStack() as loops:
            for axis, index in enumerate(axes):
                if axis != across:
                    loops.enter_context(b.loop(index))
            for index in classes:
                loops.enter_context(b.loop(index))
            loops.enter_context(
                b.loop(axes[across], start=b.builtin("thread"), stop=lay.extents[across], step=self.lanes)
            )
            found = zip(first, axes, classes, lay.steps, lay.distances, strict=True)
            at = tuple(i + (axis * step + of_class) * distance for i, axis, of_class, step, distance in found)
            inside = b.both(*(b.within(i, 0, n) for i, n in zip(at, t.shape, strict=True)))
            element = work.operand(e.at(p.rows.value, at, inside), t.dtype)
            element = element if inside is None else b.select(inside, element, work.zero)
            b.store(written, b.index(sum_of(axes, lay.pitches[1]) + sum_of(classes, lay.pitches[0])), element)

    def distance(self, tap: Coordinates) -> Index:
        """From a position to what it sees by a tap."""
        near = zip(self.image.depth, self.layout.distances, strict=True)
        return self.layout.place(tuple(sum_of(tap, [c // distance for c in of]) for of, distance in near))

    def count(self, number: Index) -> Value | int:
        """How many positions a box has along the axis that is cut."""
        b, box = self.b, self.box
        whole = box.sizes[box.axis]
        if whole % box.count == 0:
            return box.count
        _, piece = ix.coordinates(number, box.pieces)
        return b.op("min", self.number(box.count), b.index(-piece * box.count + whole))

    @contextmanager
    def positions(self, number: Index) -> Iterator[tuple[Coordinates, Index]]:
        """Goes through those of a box, a vector of neighbours at a time: coordinates, and places in the flat space."""
        b, box = self.b, self.box
        axes = tuple(ix.axis("position", n) for n in box.lengths)
        across = min(
            (axis for axis, n in enumerate(box.lengths) if n > 1), key=self.pitches.__getitem__, default=len(axes) - 1
        )
        with ExitStack() as loops:
            for axis in (*(i for i in range(len(axes)) if i != across), across):
                stop = self.count(number) if axis == box.axis else box.lengths[axis]
                if axis == across:
                    loops.enter_context(b.loop(axes[axis], b.builtin("thread"), stop, self.lanes))
                else:
                    loops.enter_context(b.loop(axes[axis], 0, stop))
            at = tuple(i + j for i, j in zip(box.first(number), axes, strict=True))
            yield at, sum_of(axes, self.pitches)

    @contextmanager
    def each_tap(self) -> Iterator[Coordinates]:
        """Goes through all taps."""
        axes = tuple(ix.axis("tap", n) for n in self.taps)
        with ExitStack() as loops:
            for k, axis in enumerate(axes):
                loops.enter_context(self.b.loop(axis, unroll=math.prod(self.taps[k:]) <= UNROLLED))
            yield axes


class _OfPositions(_Writer):
    """Vectors of positions are summed over taps."""

    def __init__(self, region: Region, target: Target, image: Image, box: Box):
        super().__init__(region, target, image, box, region.product.depth)
        # features share what is read of the image, and vectors what is read of the kernel
        self.together = divisor(self.p.n, 4)
        count = -(-self.length // self.lanes)
        most = max(1, min(8, self.registers * 3 // 4 // self.together))
        self.vectors = min(range(1, most + 1), key=lambda n: (-(-count // n) * (n + 1), n))
        self.width = -(-count // self.vectors) * self.vectors * self.lanes

    def plan(self) -> Plan:
        b, p, lay = self.b, self.p, self.layout
        piece, grid = self.batch_and_piece(math.prod(self.box.pieces))
        written = b.workgroup_memory(self.dtype, lay.size + self.width - self.length)
        kernel = b.workgroup_memory(self.dtype, p.n * p.k)
        block = b.workgroup_memory(self.dtype, p.n * self.width)
        zeros = tuple(ix.constant(0) for _ in p.depth)
        self.write_image(written, self.box.first(piece), zeros)
        entry = ix.axis("entry", p.n * p.k)
        with b.loop(entry, b.builtin("thread"), p.n * p.k, self.lanes):
            feature, k = ix.coordinates(entry, (p.n, p.k))
            b.store(kernel, b.index(entry), p.read(self.kernel.e, p.columns, self.batch, feature, k))
        some = ix.axis("features", p.n // self.together)
        with b.loop(some):
            self._sum(written, kernel, block, some * self.together)
        feature = ix.axis("feature", p.n)
        with b.loop(feature), self.positions(piece) as (at, place):
            total = b.load(block, b.index(feature * self.width + place))
            batch, columns = ix.coordinates(self.batch, p.batch), ix.coordinates(feature, p.columns.sizes)
            self.kernel.finish_at([p.out(batch, at, columns)], [total])
        return self.plan_of(grid)

    def _sum(self, written: Memory, kernel: Memory, block: Memory, first: Index) -> None:
        b, p, work = self.b, self.p, self.kernel.work
        place, vectors = ix.axis("place", self.width), range(self.vectors)
        features = [first + k for k in range(self.together)]
        with b.loop(place, b.builtin("thread"), self.width, self.vectors * self.lanes):
            totals = [[b.variable(work.zero) for _ in vectors] for _ in features]
            with self.each_tap() as tap:
                there = None
                if p.all_taps is not None:
                    _, there = p.columns.place(b, ix.coordinates(self.batch, p.batch), (first,), tap)
                with b.when(there):
                    beside = place + self.distance(tap)
                    elements = [b.load(written, b.index(beside + k * self.lanes)) for k in vectors]
                    for feature, of_feature in zip(features, totals, strict=True):
                        factor = b.load(kernel, b.index(feature * p.k + ix.linear(tap, p.depth)))
                        for element, total in zip(elements, of_feature, strict=True):
                            b.assign(total, work.add_product(element, factor, b.read(total)))
            for feature, of_feature in zip(features, totals, strict=True):
                for k, total in enumerate(of_feature):
                    b.store(block, b.index(feature * self.width + place + k * self.lanes), b.read(total))


class _OfTaps(_Writer):
    """A vector of sums for each tap goes over positions: its elements are added at the end of each part of them."""

    def __init__(self, region: Region, target: Target, image: Image, box: Box):
        super().__init__(region, target, image, box, region.product.rows.sizes)
        self.together = divisor(self.p.n, 2)
        self.tile_of_taps = equal_boxes(self.taps, self.registers // self.together)

    def plan(self) -> Plan:
        b, p = self.b, self.p
        _, grid = self.batch_and_piece(1)
        written = b.workgroup_memory(self.dtype, self.layout.size)
        others = b.workgroup_memory(self.dtype, p.n * self.length)
        block = b.workgroup_memory(self.dtype, p.n * p.m)
        self._fill(block, p.n * p.m, self.kernel.work.zero)
        # gaps stay as they are
        self._fill(others, p.n * self.length, self._gap().value)
        part = ix.axis("part", math.prod(self.box.pieces))
        feature = ix.axis("feature", p.n)
        some = ix.axis("features", p.n // self.together)
        with b.loop(part):
            self.write_image(written, tuple(ix.constant(0) for _ in self.taps), self.box.first(part))
            if self.box.sizes[self.box.axis] % self.box.count:
                self._fill(others, p.n * self.length, self._gap().value)
            with b.loop(feature), self.positions(part) as (at, place):
                b.store(others, b.index(feature * self.length + place), self._other(feature, at))
            with b.loop(some):
                self._sum(written, others, block, some * self.together)
        tap = ix.axis("tap", p.m)
        with b.loop(feature), b.loop(tap, b.builtin("thread"), p.m, self.lanes):
            total = b.load(block, b.index(feature * p.m + tap))
            self.kernel.finish([(self.batch, tap, feature)], [total])
        return self.plan_of(grid)

    def _gap(self) -> Number:
        """What stands where there is no position: a NaN that is no element, as these have but one. Zero would not do: the
        image may have an infinite element there."""
        return (Number(self.b, self.kernel.work.zero).like(math.nan).bits() + 1).real_bits()

    def _other(self, feature: Index, at: Coordinates) -> Value:
        """What the image's elements for a position are multiplied with."""
        b, p = self.b, self.p
        axes = (ix.coordinates(self.batch, p.batch), ix.coordinates(feature, p.columns.sizes), at)
        found, inside = p.element_at(self.kernel.e, p.columns, axes)
        element = Number(b, self.kernel.work.operand(found, self.kernel.e.type(p.columns.value).dtype))
        element = where(element.equals(element), element, math.nan)
        return element.value if inside is None else b.select(inside, element.value, self._gap().value)

    def _fill(self, memory: Memory, size: int, value: Value) -> None:
        b, entry = self.b, ix.axis("entry", size)
        with b.loop(entry, b.builtin("thread"), size, self.lanes):
            b.store(memory, b.index(entry), value)

    def _sum(self, written: Memory, others: Memory, block: Memory, first: Index) -> None:
        b, p, work, box = self.b, self.p, self.kernel.work, self.tile_of_taps
        number, place = ix.axis("tile", math.prod(box.pieces)), ix.axis("place", self.length)
        inner = [ix.coordinates(ix.constant(k), box.lengths) for k in range(box.length)]
        features = [first + k for k in range(self.together)]
        with b.loop(number):
            taps = [tuple(i + j for i, j in zip(box.first(number), at, strict=True)) for at in inner]
            totals = [[b.variable(work.zero) for _ in features] for _ in taps]
            with b.loop(place, b.builtin("thread"), self.length, self.lanes):
                factors = [b.load(others, b.index(feature * self.length + place)) for feature in features]
                is_gap = Number(b, factors[0]).bits().equals(self._gap().bits()).value
                factors = [b.select(is_gap, work.zero, factor) for factor in factors]
                for tap, of_tap in zip(taps, totals, strict=True):
                    element = b.select(is_gap, work.zero, b.load(written, b.index(place + self.distance(tap))))
                    for factor, total in zip(factors, of_tap, strict=True):
                        b.assign(total, work.add_product(element, factor, b.read(total)))
            for tap, of_tap in zip(taps, totals, strict=True):
                for feature, total in zip(features, of_tap, strict=True):
                    found = b.op("subgroup_broadcast_first", b.op("subgroup_add", b.read(total)))
                    at = b.index(feature * p.m + ix.linear(tap, self.taps))
                    b.store(block, at, work.add(b.load(block, at), found))
