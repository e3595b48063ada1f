"""How what a convolution's windows see lies in an image."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from asgfn.records import record
from backends.kernels import index as ix
from backends.kernels.index import Index
from backends.kernels.ir import Builder
from backends.kernels.schedules.contraction_problem import Contraction, Sizes
from backends.kernels.schedules.contraction_region import Region
from backends.kernels.schedules.simd_nest import is_plain


@record
class Image:
    """How the elements that windows see lie in an image: for each of its axes, steps along it for a step along each axis that
    m, or k, is made of."""

    free: tuple[Sizes, ...]
    depth: tuple[Sizes, ...]

    def is_shared(self, axis: int) -> bool:
        """Whether windows see the same elements at other places along an axis of k."""
        return any(of_depth[axis] and any(of_free) for of_free, of_depth in zip(self.free, self.depth, strict=True))

    def reordered(self, rows: Sequence[int], depth: Sequence[int]) -> Image:
        """The same, with the axes that m and k are made of in other orders."""
        return Image(
            tuple(tuple(steps[axis] for axis in rows) for steps in self.free),
            tuple(tuple(steps[axis] for axis in depth) for steps in self.depth),
        )


def in_order_of_result(region: Region, p: Contraction, image: Image, depth: Sequence[int]) -> tuple[Contraction, Image]:
    """The same with rows in the order of the result, and the axes that k is made of in this one."""
    output = region.asg.outputs[0]
    shape = region.value_types[output].shape
    zero = ix.constant(0)

    def step(axis: int) -> int:
        at = math.prod(p.rows.sizes[axis + 1 :])
        found = ix.linear(region.places(p.result(zero, ix.constant(at), zero))[output], shape)
        return found.constant

    rows = sorted(range(len(p.rows.sizes)), key=lambda axis: -step(axis) if p.rows.sizes[axis] > 1 else -math.inf)
    return p.reordered(rows, depth), image.reordered(rows, depth)


def image_of(p: Contraction) -> Image | None:
    """How the rows' elements lie in their image; None if they are not at sums of steps along all axes."""
    b = Builder()
    batch = ix.axis("batch", p.b)
    free = tuple(ix.axis("free", n) for n in p.rows.sizes)
    depth = tuple(ix.axis("depth", n) for n in p.depth)
    for axis in (batch, *free, *depth):
        b.set_axis(axis, b.builtin("thread"))
    place, _ = p.rows.place(b, ix.coordinates(batch, p.batch), free, depth)
    if not all(is_plain(at, axis) for at in place for axis in (*free, *depth)):
        return None

    def step(at: Index, axis: Index) -> int:
        return sum(at.terms.get(atom, 0) for atom in axis.terms)

    in_free, in_depth = (tuple(tuple(step(at, axis) for axis in axes) for at in place) for axes in (free, depth))
    return None if any(c < 0 for steps in (*in_free, *in_depth) for c in steps) else Image(in_free, in_depth)


def sum_of(at: Iterable[Index], steps: Sequence[int]) -> Index:
    """Where a place is, with these steps along its axes."""
    return sum((i * step for i, step in zip(at, steps, strict=True)), ix.constant(0))


@record
class Stored:
    """A value of a region that one of its inputs or constants holds: which one, how far neighbours along each axis of the value
    are apart there, and where its first element is."""

    value: int
    steps: Sizes
    start: int


def stored_as(region: Region, value: int, dtype: str) -> Stored | None:
    """How a value lies in memory; None if it is computed, or is of another type there."""
    b = Builder()
    axes = tuple(ix.axis("image", n) for n in region.value_types[value].shape)
    for axis in axes:
        b.set_axis(axis, b.builtin("thread"))
    e = region.elements(b)
    found = e.at(value, axes)
    if found.op != "load" or found.dtype != dtype or len(e.places) != 1:
        return None
    ((holder, (place, *_)),) = e.places.items()
    if not all(is_plain(place, axis) for axis in axes):
        return None
    return Stored(holder, tuple(sum(place.terms.get(atom, 0) for atom in axis.terms) for axis in axes), place.constant)
