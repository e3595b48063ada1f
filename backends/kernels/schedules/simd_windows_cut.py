"""How a convolution of a processor with vectors is cut: boxes of positions, of features, and of what is summed over."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from asgfn.records import record
from backends.kernels import index as ix
from backends.kernels.elements import Coordinates
from backends.kernels.index import Index
from backends.kernels.schedules.contraction_problem import Contraction, Sizes
from backends.kernels.target import Target

# steps of k that are summed before they are added to the result; it depends on nothing else, for it decides the rounding
DEPTH = 512
# elements of a block of the result, and of the part of an image that it sees, which should stay in the second cache
BLOCK, IMAGE = 1 << 16, 1 << 17
# roughly, in cycles: an element that is written out as vectors, or turned; what a group and a part of k cost besides
WRITTEN, TURNED, GROUP, PART = 0.4, 1.0, 3000.0, 500.0


@record
class Box:
    """Some neighbours of an axis, with all of the axes after it, for one place along those before it.

    Attributes:
        sizes: of all axes.
        axis: which one is cut.
        count: how many neighbours; the last box may have fewer.
    """

    sizes: Sizes
    axis: int
    count: int

    @property
    def lengths(self) -> Sizes:
        """Along each axis."""
        return (*((1,) * self.axis), self.count, *self.sizes[self.axis + 1 :])

    @property
    def inner(self) -> int:
        """Elements for one place along the axis that is cut."""
        return math.prod(self.sizes[self.axis + 1 :])

    @property
    def length(self) -> int:
        return self.count * self.inner

    @property
    def pieces(self) -> Sizes:
        """How many boxes there are, for each place along the axes before, and along the one that is cut."""
        return math.prod(self.sizes[: self.axis]), -(-self.sizes[self.axis] // self.count)

    def first(self, number: Index) -> Coordinates:
        """The coordinates of a box's first element."""
        lead, piece = ix.coordinates(number, self.pieces)
        rest = (ix.constant(0),) * (len(self.sizes) - self.axis - 1)
        return (*ix.coordinates(lead, self.sizes[: self.axis]), piece * self.count, *rest)


def depth_box(sizes: Sizes) -> Box:
    """The steps of a part of k: equal boxes of no more than so many."""
    axis, inner = len(sizes) - 1, 1
    while axis and inner * sizes[axis] <= DEPTH:
        inner *= sizes[axis]
        axis -= 1
    return Box(sizes, axis, _share(sizes[axis], max(1, DEPTH // inner)))


def _share(size: int, most: int) -> int:
    """The length of equal pieces that are not longer than that."""
    return math.ceil(size / math.ceil(size / most)) if size else 1


def divisor(n: int, most: int) -> int:
    """The largest one that is not larger than that."""
    return max(k for k in range(1, most + 1) if n % k == 0)


def equal_boxes(sizes: Sizes, most: int) -> Box:
    """Boxes of no more than so many elements, all of one length."""
    axis, inner = len(sizes) - 1, 1
    while axis and inner * sizes[axis] <= most:
        inner *= sizes[axis]
        axis -= 1
    return Box(sizes, axis, divisor(sizes[axis], max(1, most // inner)))


def boxes(sizes: Sizes) -> Iterator[Box]:
    """Ways to cut some axes."""
    for axis, size in enumerate(sizes):
        for pieces in _counts(size):
            yield Box(sizes, axis, -(-size // pieces))


def _counts(most: int) -> Iterator[int]:
    """Numbers of pieces that are worth a thought."""
    pieces = 1
    while pieces <= most:
        yield pieces
        pieces += 1 if pieces < 8 else pieces // 4


@record
class Costs:
    """What there is to do besides the product.

    Attributes:
        free, depth: for each axis of the image, steps along it for a step along each axis that m, or k, is made of.
        column: cycles for an element of the other operand.
        is_turned: whether blocks are turned at last.
    """

    free: Sequence[Sizes]
    depth: Sequence[Sizes]
    column: float
    is_turned: bool


def seen(free: Sequence[Sizes], depth: Sequence[Sizes], m: Box, k: Box) -> tuple[Sizes, Sizes]:
    """Along each axis of an image: the distance of elements that windows see, and how many they are.

    Arguments:
        free, depth: for each axis of the image, steps along it for a step along each axis that m, or k, is made of.
    """
    steps, extents = [], []
    lengths = (*m.lengths, *k.lengths)
    for of_free, of_depth in zip(free, depth, strict=True):
        moves = [(c, n - 1) for c, n in zip((*of_free, *of_depth), lengths, strict=True) if c and n > 1]
        step = math.gcd(*(c for c, _ in moves)) or 1
        steps.append(step)
        extents.append(1 + sum(c // step * n for c, n in moves))
    return tuple(steps), tuple(extents)


def choose(p: Contraction, costs: Costs, tile: tuple[int, int], target: Target) -> tuple[Box, int, Box]:
    """The box of rows, the number of columns and the box of k of a block, so that all is done soon by all cores. `tile`: the
    library's."""
    k = depth_box(p.depth)
    parts = math.prod(k.pieces)
    (mr, nr), lanes = tile, target.simd * tile[1] // target.product[1]
    # of each axis of the image: steps for rows, and how far a part of k reaches, in steps of so many
    axes = [
        (of_free, math.gcd(*(c for c, n in along if n > 1)), sum(c * (n - 1) for c, n in along))
        for of_free, of_depth in zip(costs.free, costs.depth, strict=True)
        for along in [list(zip(of_depth, k.lengths, strict=True))]
    ]

    def elements(m: Box) -> int:
        """Of the image, those that a block sees in a part of k: the product of what `seen` counts."""
        found, lengths = 1, m.lengths
        for of_free, common, reach in axes:
            for c, n in zip(of_free, lengths, strict=True):
                if c and n > 1:
                    common, reach = math.gcd(common, c), reach + c * (n - 1)
            found *= 1 + (reach // common if common else 0)
        return found

    def tiles(columns: int) -> float:
        """Cycles for a step of k of a strip: two products of vectors in each, or two that are read."""
        panels, rest = divmod(-(-columns // lanes), nr // lanes)
        if rest == 1 and panels:  # makes two tiles with a panel
            panels, rest = panels - 1, 1 + nr // lanes
        return panels * mr * nr / lanes / 2 + (max(mr * rest, mr + rest + 2) / 2 if rest else 0.0)

    steps, whole, batches = p.useful * k.length * parts, p.n, p.b
    widths = {min(whole, -(-whole // pieces // lanes) * lanes) for pieces in _counts(4 * target.cores)}
    # of a number of columns: how many pieces; what they cost for each strip of rows, each row, and besides
    per_row = WRITTEN + TURNED * costs.is_turned
    columns = [
        (n, -(-whole // n), steps * tiles(n), per_row * n, costs.column * n * steps)
        for n in sorted(widths, reverse=True)
    ]
    best, chosen = math.inf, None
    for m in boxes(p.rows.sizes):
        rows, strips, pieces = m.length, -(-m.length // mr), batches * math.prod(m.pieces)
        image = elements(m)
        fixed = GROUP + parts * (PART + WRITTEN * image)
        for n, across, of_strip, of_row, others in columns:
            cycles = fixed + strips * of_strip + others + rows * of_row
            if rows * n > BLOCK or image > IMAGE:
                cycles *= 1.5
            # what the last ones leave undone is a loss, too, when not all cores are equally fast
            cycles *= -(-pieces * across // target.cores) + 0.25
            if cycles < best:
                best, chosen = cycles, (m, n)
    assert chosen is not None, "rows can be cut"
    return *chosen, k
