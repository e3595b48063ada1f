"""Convolutions whose groups are neighbours, of a processor with vectors: lanes are groups.

That is how depthwise convolutions lie with their channels last. All lanes are at one position and one tap, so nothing has to
be written out first, and what lies in the padding is left out. If the result has the positions, vectors of groups are
summed over taps at each; if it has the taps (the gradient of a kernel), over positions for each.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from backends.kernels import index as ix
from backends.kernels.elements import Coordinates
from backends.kernels.index import Index
from backends.kernels.ir import F16, Builder, Value
from backends.kernels.lowering import Plan
from backends.kernels.schedules.contraction_problem import Contraction, Side
from backends.kernels.schedules.contraction_region import Region, group_number
from backends.kernels.schedules.simd_block import LIBRARY, BlockWriter
from backends.kernels.schedules.simd_nest import is_plain
from backends.kernels.schedules.simd_windows_cut import Box, boxes, depth_box, divisor, equal_boxes
from backends.kernels.target import Target

# elements of neighbouring groups that are no further apart are read together
NEAR = 4
# positions of a workgroup: what they see of some channels stays in the first caches
POSITIONS = 256
# taps that are written out one by one
UNROLLED = 16


def simd_groups(region: Region, target: Target) -> Plan | None:
    """The plan of a region one of whose operands is an image; None if it is better computed otherwise."""
    p = region.product
    if region.types.register(p.dtype) not in (*LIBRARY, F16) or 2 * p.batch[0] < target.simd:
        return None
    p = p.swapped() if p.columns.is_image else p
    if not 0 < _step(region, p) <= NEAR:
        return None
    region.product = p
    return (_OfTaps if p.k > p.m else _OfPositions)(region, target).plan()


def _step(region: Region, p: Contraction) -> int:
    """How far elements of the image for neighbouring groups are apart in memory; 0 if that is not known."""
    b, side = Builder(), p.rows
    e = region.elements(b)
    axes = [tuple(ix.axis("i", n) for n in sizes) for sizes in (p.batch, side.sizes, p.depth)]
    for axis in (i for some in axes for i in some):
        b.set_axis(axis, b.builtin("thread"))
    p.read_at(e, side, axes)
    size, value = max(((e.value_types[v].size, v) for v in e.places), default=(0, -1))
    if not size:
        return 0
    group, place = axes[0][0], e.places[value][0]
    return sum(place.terms.get(atom, 0) for atom in group.terms) if is_plain(place, group) else 0


class _Writer(BlockWriter):
    """What both kernels have in common.

    Attributes:
        vectors: of groups that a workgroup computes.
    """

    vectors = 1

    def __init__(self, region: Region, target: Target):
        super().__init__(region, target)
        self.count = -(-self.p.batch[0] // self.lanes)

    def begin(self, pieces: int) -> tuple[Index, tuple[int, int, int]]:
        """The number of a workgroup's piece, and the grid; sets which groups it computes."""
        b, (groups, *others) = self.b, self.p.batch
        sizes = (math.prod(others), pieces, self.count // self.vectors)
        group, _, grid = group_number(self.kernel, math.prod(sizes))
        axes = tuple(ix.axis("number", n) for n in sizes)
        for axis, number in zip(axes, ix.coordinates(group, sizes), strict=True):
            b.set_axis(axis, b.index(number))
        rest, piece, block = axes
        lane = ix.axis("lane", self.lanes)
        b.set_axis(lane, b.builtin("thread"))
        of_vector = [(block * self.vectors + k) * self.lanes + lane for k in range(self.vectors)]
        self.batches = [(group, *ix.coordinates(rest, tuple(others))) for group in of_vector]
        self.masks = [b.within(group, 0, groups) for group in of_vector]
        return piece, grid

    @contextmanager
    def boxed(self, box: Box, number: Index) -> Iterator[Coordinates]:
        """Goes through the elements of a box."""
        b = self.b
        axes = tuple(ix.axis("at", n) for n in box.lengths)
        first = box.first(number)
        with ExitStack() as loops:
            for k, axis in enumerate(axes):
                stop: Value | int = box.lengths[k]
                if k == box.axis and box.sizes[k] % box.count:
                    left = b.index(-first[k] + box.sizes[k])
                    stop = b.op("min", self.number(box.count), left)
                loops.enter_context(b.loop(axis, 0, stop))
            yield tuple(i + j for i, j in zip(first, axes, strict=True))

    def element(self, side: Side, vector: int, free: Coordinates, depth: Coordinates, is_there: bool) -> Value:
        """A vector of an operand. `is_there`: whether it is known that there are elements; if not, there may be anything."""
        b, e = self.b, self.kernel.e
        place, inside = side.place(b, self.batches[vector], free, depth)
        mask = b.both(self.masks[vector], None if is_there else inside)
        return self.kernel.work.operand(e.at(side.value, place, mask), e.type(side.value).dtype)

    def there(self, free: Coordinates, depth: Coordinates, column: Coordinates) -> Value | None:
        """Whether both operands have an element for a position and a tap."""
        b, p = self.b, self.p
        _, image = p.rows.place(b, self.batches[0], free, depth)
        _, other = p.columns.place(b, self.batches[0], column, depth)
        return b.both(image, other)

    def finish_vector(self, vector: int, free: Coordinates, column: Coordinates, total: Value) -> None:
        with self.b.when(self.masks[vector]):
            self.kernel.finish_at([self.p.out(self.batches[vector], free, column)], [total])

    def column(self, feature: Index) -> Coordinates:
        return ix.coordinates(feature, self.p.columns.sizes)


class _OfPositions(_Writer):
    """At each position vectors of groups are summed over taps."""

    def __init__(self, region: Region, target: Target):
        super().__init__(region, target)
        self.together = divisor(self.p.n, 4)
        self.vectors = divisor(self.count, max(1, min(4, self.registers // self.together)))

    def plan(self) -> Plan:
        b, p, work = self.b, self.p, self.kernel.work
        box = next(box for box in boxes(p.rows.sizes) if box.length <= POSITIONS)
        piece, grid = self.begin(math.prod(box.pieces))
        vectors, wide = range(self.vectors), self.vectors * self.lanes
        kernel = b.workgroup_memory(self.dtype, p.n * p.k * wide)
        feature, step, lane = ix.axis("feature", p.n), ix.axis("step", p.k), b.builtin("thread")

        def place(feature: Index, step: Index, vector: int) -> Value:
            return b.op("add", b.index((feature * p.k + step) * wide + vector * self.lanes), lane)

        with b.loop(feature), b.loop(step):
            for vector in vectors:
                at = (self.batches[vector], self.column(feature), ix.coordinates(step, p.depth))
                b.store(
                    kernel, place(feature, step, vector), p.read_at(self.kernel.e, p.columns, at, self.masks[vector])
                )
        some = ix.axis("features", p.n // self.together)
        features = [some * self.together + k for k in range(self.together)]
        taps = tuple(ix.axis("tap", n) for n in p.depth)
        with self.boxed(box, piece) as at_, b.loop(some):
            totals = [[b.variable(work.zero) for _ in vectors] for _ in features]
            with ExitStack() as loops:
                for axis in taps:
                    loops.enter_context(b.loop(axis, unroll=p.k <= UNROLLED))
                loops.enter_context(b.when(self.there(at_, taps, self.column(features[0]))))
                for vector in vectors:
                    element = self.element(p.rows, vector, at_, taps, True)
                    for feature, of_feature in zip(features, totals, strict=True):
                        factor = b.load(kernel, place(feature, ix.linear(taps, p.depth), vector))
                        total = of_feature[vector]
                        b.assign(total, work.add_product(element, factor, b.read(total)))
            for feature, of_feature in zip(features, totals, strict=True):
                for vector, total in enumerate(of_feature):
                    self.finish_vector(vector, at_, self.column(feature), b.read(total))
        return self.plan_of(grid)


class _OfTaps(_Writer):
    """For each tap vectors of groups are summed over positions, and these sums over parts of the positions."""

    def __init__(self, region: Region, target: Target):
        super().__init__(region, target)
        self.together = divisor(self.p.n, 2)
        # two vectors at a time leave enough to do for all cores, or are not worth it
        if self.together == 1 and self.count % 2 == 0 and self.count >= 4 * target.cores:
            self.vectors = 2

    def plan(self) -> Plan:
        b, p, work = self.b, self.p, self.kernel.work
        box, tile = depth_box(p.depth), equal_boxes(p.rows.sizes, self.registers // (self.together * self.vectors))
        _, grid = self.begin(1)
        vectors, wide = range(self.vectors), self.vectors * self.lanes
        sums = b.workgroup_memory(self.dtype, p.n * p.m * wide)
        entry, lane = ix.axis("entry", p.n * p.m), b.builtin("thread")

        def place(entry: Index, vector: int) -> Value:
            return b.op("add", b.index(entry * wide + vector * self.lanes), lane)

        with b.loop(entry):
            for vector in vectors:
                b.store(sums, place(entry, vector), work.zero)
        part, number = ix.axis("part", math.prod(box.pieces)), ix.axis("tile", math.prod(tile.pieces))
        some = ix.axis("features", p.n // self.together)
        # what is multiplied with an element of the image: features of each vector
        others = [(some * self.together + k, vector) for vector in vectors for k in range(self.together)]
        inner = [ix.coordinates(ix.constant(k), tile.lengths) for k in range(tile.length)]
        taps = [tuple(i + j for i, j in zip(tile.first(number), at, strict=True)) for at in inner]
        with b.loop(part), b.loop(number), b.loop(some):
            totals = [[b.variable(work.zero) for _ in others] for _ in taps]
            with self.boxed(box, part) as position:
                factors = [self.element(p.columns, v, self.column(feature), position, False) for feature, v in others]
                for tap, of_tap in zip(taps, totals, strict=True):
                    with b.when(self.there(tap, position, self.column(others[0][0]))):
                        elements = [self.element(p.rows, vector, tap, position, True) for vector in vectors]
                        for (_, vector), factor, total in zip(others, factors, of_tap, strict=True):
                            b.assign(total, work.add_product(elements[vector], factor, b.read(total)))
            for tap, of_tap in zip(taps, totals, strict=True):
                for (feature, vector), total in zip(others, of_tap, strict=True):
                    at = place(feature * p.m + ix.linear(tap, p.rows.sizes), vector)
                    b.store(sums, at, work.add(b.load(sums, at), b.read(total)))
        feature, tap_ = ix.axis("feature", p.n), ix.axis("tap", p.m)
        with b.loop(feature), b.loop(tap_):
            for vector in vectors:
                found = b.load(sums, place(feature * p.m + tap_, vector))
                self.finish_vector(vector, ix.coordinates(tap_, p.rows.sizes), self.column(feature), found)
        return self.plan_of(grid)
