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
from backends.kernels.schedules.simd_nest import Piece, is_plain, runs
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
        m0, m1, n0, n1: first and stop of its rows and columns.
    """

    batch: Index
    m0: Value
    m1: Value
    n0: Value
    n1: Value

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

    def range(self, number: Index, length: int, whole: int) -> Piece:
        """First and stop of a piece."""
        b = self.b
        first = b.index(number * length)
        if whole % length == 0:
            return first, b.op("add", first, self.number(length))
        return first, b.op("min", b.op("add", first, self.number(length)), self.number(whole))

    def at(self, index: Index, piece: Piece) -> Value:
        """The number of an index that a loop has set; that of an axis of one element is its piece's first."""
        return self.b.index(index) if index.terms else piece[0]

    # ------------------------------------------------------------------ operands
    def write_lines(
        self,
        side: Side,
        buffer: Memory,
        free: Piece,
        depth: Piece,
        is_whole: bool,
        place: Callable[[Value, Value], Value],
    ) -> None:
        """Writes a block of an operand to memory, along k: in runs along the last of the axes that it is made of, for there
        places go up in step.

        Arguments:
            is_whole: whether the block is some whole runs.
            place: where an element goes, by its numbers in the block.
        """
        b, p = self.b, self.p
        f = ix.axis("free", side.size)
        with b.loop(f, start=free[0], stop=free[1]):
            i = b.op("sub", self.at(f, free), free[0])
            with runs(b, self.target, p.k, p.depth[-1] if p.depth else 1, depth, is_whole) as k:
                element = p.read(self.kernel.e, side, self.batch, f, k)
                b.store(buffer, place(i, b.op("sub", self.at(k, depth), depth[0])), element)

    def write_rows(
        self,
        side: Side,
        buffer: Memory,
        free: Piece,
        steps: AbstractContextManager[tuple[Index, Value]],
        is_whole: bool,
        place: Callable[[Value, Value], Value],
    ) -> None:
        """The same along the free axes; `steps` goes through k: steps, and their numbers in the block."""
        b, p = self.b, self.p
        length = side.sizes[-1] if side.sizes else 1
        with steps as (k, number), runs(b, self.target, side.size, length, free, is_whole) as f:
            element = p.read(self.kernel.e, side, self.batch, f, k)
            b.store(buffer, place(b.op("sub", self.at(f, free), free[0]), number), element)

    @contextmanager
    def steps(self, depth: Piece) -> Iterator[tuple[Index, Value]]:
        """Goes through a piece of k."""
        k = ix.axis("step", self.p.k)
        with self.b.loop(k, start=depth[0], stop=depth[1]):
            yield k, self.b.op("sub", self.at(k, depth), depth[0])

    # ------------------------------------------------------------------ results
    def finish(self, block: Memory, stride: int, length: int, is_whole: bool) -> None:
        """Makes of a block what the region wants, along its columns, in runs of a length.

        Arguments:
            is_whole: whether the block is some whole runs.
        """
        b, p = self.b, self.p
        m, rows, columns = ix.axis("m", p.m), (self.m0, self.m1), (self.n0, self.n1)
        with b.loop(m, start=self.m0, stop=self.m1):
            row = b.op("mul", b.op("sub", self.at(m, rows), self.m0), self.number(stride))
            with runs(b, self.target, p.n, length, columns, is_whole) as n:
                column = b.op("sub", self.at(n, columns), self.n0)
                total = b.load(block, b.op("add", row, column))
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
