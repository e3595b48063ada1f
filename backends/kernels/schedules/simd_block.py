"""Blocks of a contraction's result, for a processor with vectors: how operands are written out, and what is made of a block."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import numpy as np

from asgfn.records import record
from backends.kernels import index as ix
from backends.kernels.elements import Coordinates
from backends.kernels.index import Index
from backends.kernels.ir import F32, I32, SIZES, Builder, Memory, Value
from backends.kernels.lowering import Argument, Plan, constants_of
from backends.kernels.schedules.contraction_problem import Side
from backends.kernels.schedules.contraction_region import Region, RegionKernel
from backends.kernels.schedules.simd_nest import Range, is_plain, runs
from backends.kernels.target import Target

# the library's name of a type
LIBRARY = {F32: "f32", "f64": "f64"}


@record
class Strides:
    """An operand as it lies in memory: which one, and the steps to the next free index and to the next of k."""

    value: int
    free: int
    depth: int


def strides_at(
    region: Region, side: Side, free: Coordinates, depth: Coordinates, axes: tuple[Index, Index]
) -> Strides | None:
    """How an operand lies in memory, with these coordinates made of two axes (and others); None if it has to be written
    out."""
    b, p = Builder(), region.product
    e = region.elements(b)
    batch = ix.axis("batch", p.b)
    for atom in {atom for i in (batch, *free, *depth) for atom in i.atoms()}:
        b.axes[atom] = b.builtin("thread")  # type: ignore[index]
    place_, mask = side.place(b, ix.coordinates(batch, p.batch), free, depth)
    found = e.at(side.value, place_, mask)
    if mask is not None or found.op != "load" or found.dtype not in LIBRARY or len(e.places) != 1:
        return None
    ((value, places),) = e.places.items()
    place = places[0]
    steps = []
    for axis in axes:
        atoms = list(axis.terms)
        if not is_plain(place, axis):
            return None
        steps.append(sum(place.terms.get(atom, 0) for atom in atoms))
    return Strides(value, steps[0], steps[1])


def strides_of(region: Region, side: Side) -> Strides | None:
    """How an operand lies in memory; None if it has to be written out."""
    p = region.product
    free, depth = ix.axis("free", side.size), ix.axis("depth", p.k)
    return strides_at(region, side, ix.coordinates(free, side.sizes), ix.coordinates(depth, p.depth), (free, depth))


class BlockWriter:
    """What the writers of blocks have in common.

    Attributes:
        tile: rows and columns of a product that the library keeps in registers.
        registers: how many vectors of sums stay there.
        batch: the block's index of the batch.
        down, across: its rows and columns.
    """

    batch: Index
    down: Range
    across: Range

    def __init__(self, region: Region, target: Target):
        self.region, self.target = region, target
        self.p = region.product
        self.kernel = kernel = RegionKernel(region, target, 1, None)
        self.b = kernel.b
        self.constants: list[np.ndarray] = []  # that it has besides the region's
        self.dtype = kernel.work.register
        self.lanes = target.simd
        self.tile = target.tile(self.dtype)
        self.registers = math.prod(self.tile) * SIZES[self.dtype] // (4 * self.lanes)

    # ------------------------------------------------------------------ numbers
    def number(self, n: int) -> Value:
        return self.b.constant(n, I32)

    def range(self, number: Index, length: int, whole: int) -> Range:
        """A piece of an axis, by its number; the last one may be shorter."""
        b, first = self.b, number * length
        start = b.index(first)
        stop = b.op("add", start, self.number(length))
        if whole % length == 0:
            return Range(first, start, stop, length)
        return Range(first, start, b.op("min", stop, self.number(whole)), None)

    def size(self, piece: Range) -> Value:
        """How many neighbours a range has."""
        return self.b.op("sub", piece.stop, piece.start) if piece.count is None else self.number(piece.count)

    @contextmanager
    def through(self, piece: Range, whole: int) -> Iterator[tuple[Index, Value]]:
        """Goes through a piece of an axis of a length: indices, and their numbers in the piece."""
        b = self.b
        if piece.count is not None:
            number = ix.axis("number", piece.count)
            with b.loop(number, certain=True):
                yield piece.first + number, b.index(number)
            return
        i = ix.axis("i", whole)
        with b.loop(i, start=piece.start, stop=piece.stop):
            yield i, b.op("sub", b.index(i), piece.start)

    # ------------------------------------------------------------------ operands
    def write_lines(
        self,
        side: Side,
        buffer: Memory,
        free: Range,
        depth: Range,
        is_whole: bool,
        place: Callable[[Value, Value], Value],
    ) -> None:
        """Writes a block of an operand to memory, along k: in runs along the last of the axes that it is made of, for there
        places go up in step.

        Arguments:
            is_whole: whether the block is some whole runs.
            place: where an element goes, by its numbers in the block.
        """
        p = self.p
        with (
            self.through(free, side.size) as (f, i),
            runs(self.b, self.target, p.k, p.depth[-1] if p.depth else 1, depth, is_whole) as (k, number),
        ):
            self.b.store(buffer, place(i, number), p.read(self.kernel.e, side, self.batch, f, k))

    def write_rows(
        self,
        side: Side,
        buffer: Memory,
        free: Range,
        steps: AbstractContextManager[tuple[Index, Value]],
        is_whole: bool,
        place: Callable[[Value, Value], Value],
    ) -> None:
        """The same along the free axes; `steps` goes through k: steps, and their numbers in the block."""
        length = side.sizes[-1] if side.sizes else 1
        with steps as (k, number), runs(self.b, self.target, side.size, length, free, is_whole) as (f, i):
            self.b.store(buffer, place(i, number), self.p.read(self.kernel.e, side, self.batch, f, k))

    # ------------------------------------------------------------------ results
    def finish(self, block: Memory, stride: int, length: int, is_whole: bool) -> None:
        """Makes of a block what the region wants, along its columns, in runs of a length.

        Arguments:
            is_whole: whether the block is some whole runs.
        """
        b, p = self.b, self.p
        with self.through(self.down, p.m) as (m, i):
            row = b.op("mul", i, self.number(stride))
            with runs(b, self.target, p.n, length, self.across, is_whole) as (n, j):
                total = b.load(block, b.op("add", row, j))
                self.kernel.finish([(self.batch, m, n)], [total])

    def table(self, numbers: np.ndarray) -> Memory:
        """Memory that holds these integers."""
        stored = np.ascontiguousarray(numbers, np.int32)
        argument = Argument("constant", len(constants_of(self.region.asg, self.target)) + len(self.constants))
        self.constants.append(stored)
        memory = self.kernel.memory(argument, I32, stored.size)
        self.kernel.e.used.add(id(memory))
        return memory

    def plan_of(self, grid: tuple[int, int, int]) -> Plan:
        """The plan that is this kernel, with such a grid."""
        p, asg = self.p, self.region.asg
        name = asg.name or self.region.node.primitive.name
        stage = self.kernel.stage(name, self.lanes, grid, flops=2.0 * p.b * p.m * p.n * p.k)
        return Plan((stage,), (*constants_of(asg, self.target), *self.constants))
