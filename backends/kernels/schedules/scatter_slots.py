"""The geometry of a scatter, and what its kernels have in common.

A scatter is brought to one form, as in the NumPy backend. The axes of the operand fall into those that each window covers
whole ("kept") and those where windows start somewhere ("placed"). The placed axes make up the rows of the operand, the kept
ones its columns; each update of a row is a slot, in the order of the updates.
"""

from __future__ import annotations

import math
from typing import Any

from asgfn.graph.asg import Asg
from asgfn.primitives.gather import GatherScatterMode, window_axes
from asgfn.primitives.scatter import window_sizes
from asgfn.records import record
from backends.kernels import index as ix
from backends.kernels.elements import Elements
from backends.kernels.elements_indexing import window_start
from backends.kernels.index import Index
from backends.kernels.ir import BOOL, I32, U32, Builder, Memory, Value
from backends.kernels.lowering import Argument
from backends.kernels.monoids import Monoid
from backends.kernels.schedules.sorter import Reader
from backends.kernels.schedules.stages import Stages
from backends.kernels.target import Target

NOWHERE = 0xFFFFFFFF  # the row of a slot that is dropped
COMBINERS = {"scatter": "last", "scatter_add": "add", "scatter_mul": "mul", "scatter_min": "min", "scatter_max": "max"}


class Slots:
    """The geometry of a scatter.

    Attributes:
        shape: of the slots: the positions, then the window's extent on the placed axes.
        count: number of slots.
        rows, width: number of rows and columns of the operand.
    """

    def __init__(self, asg: Asg):
        (node,) = asg.nodes
        self.operand, self.indices, self.updates = asg.inputs
        self.numbers = node.params["dimension_numbers"]
        self.drops = node.params["mode"] != GatherScatterMode.CLIP
        window_dims, inserted, _, batching, _ = self.numbers
        shape = self.operand.shape
        self.sizes = window_sizes(shape, self.updates.shape, self.numbers)
        covered = [self.sizes[a] == shape[a] and a not in batching for a in range(len(shape))]
        self.kept = [a for a in range(len(shape)) if covered[a]]
        self.placed = [a for a in range(len(shape)) if not covered[a]]
        self.window_axis = dict(zip(window_axes(len(shape), inserted, batching), window_dims, strict=True))
        self.position_axes = [a for a in range(self.updates.ndim) if a not in window_dims]
        self.extents = [a for a in self.placed if a in self.window_axis]
        self.shape = self.indices.shape[:-1] + tuple([self.sizes[a] for a in self.extents])
        self.count = math.prod(self.shape)
        self.rows = math.prod([shape[a] for a in self.placed])
        self.width = math.prod([shape[a] for a in self.kept])

    @property
    def positions(self) -> int:
        """How many windows may meet: those of different batch entries never do."""
        apart = self.numbers.scatter_indices_batching_dims
        return math.prod([n for axis, n in enumerate(self.indices.shape[:-1]) if axis not in apart])

    def row(self, e: Elements, slot: Index) -> tuple[Index, Value | None]:
        """The row that a slot updates, and whether it is not to be dropped (None: it never is)."""
        at = ix.coordinates(slot, self.shape)
        position = at[: self.indices.ndim - 1]
        place = dict.fromkeys(self.placed, ix.constant(0))
        place.update(zip(self.extents, at[len(position) :], strict=True))
        for axis, index_axis in zip(
            self.numbers.operand_batching_dims, self.numbers.scatter_indices_batching_dims, strict=True
        ):
            place[axis] = position[index_axis]
        checks = []
        for k, axis in enumerate(self.numbers.scatter_dims_to_operand_dims):
            room = self.operand.shape[axis] - self.sizes[axis]
            start, inside = window_start(e, 1, (*position, ix.constant(k)), room, None, self.drops)
            checks.append(inside)
            if axis in place:
                place[axis] = place[axis] + start
        shape = [self.operand.shape[a] for a in self.placed]
        return ix.linear([place[a] for a in self.placed], shape), e.builder.both(*checks)

    def update(self, slot: Index, column: Index) -> tuple[Index, ...]:
        """Coordinates of a slot's element in the updates."""
        at = ix.coordinates(slot, self.shape)
        positions = self.indices.ndim - 1
        found = dict(zip(self.position_axes, at[:positions], strict=True))
        windows = dict(zip(self.extents, at[positions:], strict=True))
        windows.update(zip(self.kept, ix.coordinates(column, self._kept_shape), strict=True))
        found.update((update_axis, windows[axis]) for axis, update_axis in self.window_axis.items())
        return tuple([found[a] for a in range(self.updates.ndim)])

    def place(self, row: Index, column: Index) -> Index:
        """Where in the operand's memory an element of a row is."""
        placed = tuple([self.operand.shape[a] for a in self.placed])
        at = dict(zip(self.placed, ix.coordinates(row, placed), strict=True))
        at.update(zip(self.kept, ix.coordinates(column, self._kept_shape), strict=True))
        return ix.linear([at[a] for a in range(self.operand.ndim)], self.operand.shape)

    @property
    def _kept_shape(self) -> tuple[int, ...]:
        return tuple([self.operand.shape[a] for a in self.kept])


class Scatter:
    """What is known of a scatter whose stages are being written.

    Attributes:
        slots: the geometry.
        monoid: what puts an element and an update together.
    """

    def __init__(self, asg: Asg, target: Target):
        (node,) = asg.nodes
        self.asg, self.types = asg, target.types
        self.params = node.params
        self.stages = Stages(target)
        self.slots = Slots(asg)
        self.dtype = asg.inputs[0].dtype
        self.monoid = Monoid(target.types, COMBINERS[node.primitive.name], self.dtype)

    def elements(self, b: Builder, indices: bool = True, updates: bool = True) -> Elements:
        """The elements of the inputs that a kernel reads."""
        bound: list[Any] = [None, None, None]
        for k, wanted in ((1, indices), (2, updates)):
            if wanted:
                t = self.asg.inputs[k]
                bound[k] = self.stages.bind(b, Argument("input", k), f"input{k}", self.types.storage(t.dtype), t.size)
        return Elements(b, self.asg, self.types, bound, [])

    def output(self, b: Builder) -> Memory:
        t = self.asg.inputs[0]
        memory = self.stages.bind(b, Argument("output", 0), "output", self.types.storage(t.dtype), t.size)
        memory.written = True
        return memory

    def update(self, e: Elements, slot: Index, column: Index) -> Value:
        """An update as a partial result."""
        return self.monoid.widen(e.builder, e.at(2, self.slots.update(slot, column)))

    def merge(self, b: Builder, memory: Memory, place: Value, value: Value) -> None:
        """Puts an element of the output and a partial result together."""
        if self.monoid.name != "last":
            element = self.types.from_memory(b, b.load(memory, place), self.dtype)
            value = self.monoid.combine(b, self.monoid.widen(b, element), value)
        b.store(memory, place, self.types.to_memory(b, self.monoid.narrow(b, value), self.dtype))

    @property
    def name(self) -> str:
        """Of kernels."""
        return f"scatter {self.monoid.name}"


@record
class SlotRows:
    """The rows of all slots, in the order of the slots, as what is sorted."""

    scatter: Scatter

    @property
    def count(self) -> int:
        return self.scatter.slots.count

    def open(self, stages: Stages, b: Builder) -> Reader:
        e = self.scatter.elements(b, updates=False)

        def key(line: Index, k: Index) -> Value:
            row, inside = self.scatter.slots.row(e, k)
            found = b.op("convert", b.index(row), dtype=U32)
            return found if inside is None else b.select(inside, found, b.constant(NOWHERE, U32))

        return Reader(key, lambda line, k: b.index(k))


def exists(b: Builder, key: Value) -> Value:
    """Whether a row that was sorted is one of the operand."""
    return b.op("ne", key, b.constant(NOWHERE, U32), dtype=BOOL)


def row_of(b: Builder, key: Value, rows: int) -> Index:
    """A row that was sorted, as an index."""
    return ix.computed(b.op("convert", key, dtype=I32), 0, rows - 1)
