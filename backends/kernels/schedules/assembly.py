"""Kernels made of parts: each part is some of the workgroups, and computes a graph of its own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from asgfn.graph.asg import Asg
from backends.kernels import index as ix
from backends.kernels.elements import Coordinates, Elements
from backends.kernels.index import Index
from backends.kernels.ir import BOOL, I32, Builder, Memory, Value
from backends.kernels.lowering import Argument, Stage
from backends.kernels.schedules.rows_team import Scratch
from backends.kernels.target import Target

WIDE = 4  # elements that one access moves, where it can

_NAMES = {"input": "in", "constant": "constant", "output": "out", "temporary": "temporary"}


class Part(Protocol):
    """What a range of workgroups does.

    Attributes:
        asg: what it computes.
        threads: of each workgroup.
        groups: number of workgroups.
    """

    asg: Asg
    threads: int
    groups: int

    def write(
        self, b: Builder, memories: Sequence[Memory | None], outputs: Sequence[Memory], group: Value, scratch: Scratch
    ) -> Elements:
        """Writes its code: for the workgroup of this number, with memories for the graph's inputs and constants and
        for its results. Numbers that are too large are of workgroups with nothing to do."""


class Bound(NamedTuple):
    """A part and its memories. Constants that are scalars have none."""

    part: Part
    inputs: tuple[Argument, ...]
    constants: tuple[Argument | None, ...]
    outputs: tuple[Argument, ...]
    output_types: tuple[tuple[str, int], ...]  # type (of the IR) and number of elements
    extra: tuple[tuple[Argument, str, int], ...] = ()  # memories that it reads besides, with types and sizes


def bound(part: Part, target: Target) -> Bound:
    """A part whose memories are those of its graph."""
    asg = part.asg
    numbers = iter(range(len(asg.constants)))
    constants = tuple(Argument("constant", next(numbers)) if t.shape else None for t in asg.constant_types)
    return Bound(
        part,
        tuple(Argument("input", k) for k in range(len(asg.inputs))),
        constants,
        tuple(Argument("output", k) for k in range(len(asg.outputs))),
        tuple((target.types.storage(t.dtype), t.size) for t in asg.out_types),
    )


def assemble(parts: Sequence[Bound], target: Target, name: str) -> Stage:
    """One kernel that does all parts, which have equally many threads in a workgroup.

    It is written twice: which memories it reads, and which of them always in groups of four neighbours, is known
    once it is written. For vectors of a processor there are no such groups, and once is enough.
    """
    first = _Attempt(parts, target, name, None, frozenset())
    if target.simd:
        first.forget_unread()
        return first.stage()
    return _Attempt(parts, target, name, first.read, first.can_be_wide()).stage()


class _Attempt:
    def __init__(
        self,
        parts: Sequence[Bound],
        target: Target,
        name: str,
        read: frozenset[Argument] | None,
        wide: frozenset[Argument],
    ):
        self.parts, self.target, self.name = parts, target, name
        self.b = b = Builder()
        self.memories: dict[Argument, Memory] = {}
        self.places: dict[Argument, list[Index]] = {}
        self.scratch = Scratch(b, target)
        for p in parts:
            asg = p.part.asg
            types = [*asg.inputs, *asg.constant_types]
            for argument, t in zip((*p.inputs, *p.constants), types, strict=True):
                if argument is not None and (read is None or argument in read) and argument not in self.memories:
                    self._argument(argument, target.types.storage(t.dtype), t.size)
            for argument, dtype, size in p.extra:
                self._argument(argument, dtype, size)
        for p in parts:
            for argument, (dtype, size) in zip(p.outputs, p.output_types, strict=True):
                self._argument(argument, dtype, size)
        for argument in wide:
            widen(self.memories[argument])
        groups = sum(p.part.groups for p in parts)
        self.grid = target.grid_of(groups)
        group = b.builtin("group_x")
        if self.grid[1] > 1:
            group = b.op("add", b.op("mul", b.builtin("group_y"), b.constant(self.grid[0], I32)), group)
        self._branch(list(parts), group, 0)
        self.read = frozenset(self.places)

    def _argument(self, argument: Argument, dtype: str, size: int) -> None:
        self.memories[argument] = self.b.argument(f"{_NAMES[argument.kind]}{argument.number}", dtype, size)

    def _branch(self, parts: list[Bound], group: Value, start: int) -> None:
        """Finds the part that a workgroup belongs to by halving; `start` is the number of the first one's first group."""
        b = self.b
        if len(parts) == 1:
            (p,) = parts
            if start or len(self.parts) > 1:
                # read from a variable, so that what is computed from it is computed in this branch only
                group = b.read(b.variable(b.op("sub", group, b.constant(start, I32))))
            self.scratch.begin()
            memories = [self.memories.get(a) if a is not None else None for a in (*p.inputs, *p.constants)]
            memories += [self.memories[argument] for argument, _, _ in p.extra]
            e = p.part.write(b, memories, [self.memories[a] for a in p.outputs], group, self.scratch)
            arguments = (*p.inputs, *p.constants)
            for value, places in e.places.items():
                argument = arguments[value]
                assert argument is not None
                self.places.setdefault(argument, []).extend(places)
            return
        half = len(parts) // 2
        middle = start + sum(p.part.groups for p in parts[:half])
        below = b.op("lt", group, b.constant(middle, I32), dtype=BOOL)
        with b.when(below):
            self._branch(parts[:half], group, start)
        with b.when(b.op("not", below)):
            self._branch(parts[half:], group, middle)

    def forget_unread(self) -> None:
        """Leaves out the operands that are not read."""
        for argument in [a for a in self.memories if a.kind in ("input", "constant") and a not in self.read]:
            self.b.memories.remove(self.memories.pop(argument))

    def can_be_wide(self) -> frozenset[Argument]:
        """Memories of which only groups of four neighbours are read."""
        return frozenset(
            a
            for a, places in self.places.items()
            if self.memories[a].size % WIDE == 0 and all(is_wide(p) for p in places)
        )

    def stage(self) -> Stage:
        moved = sum(t.nbytes for p in self.parts for t in (*p.part.asg.inputs, *p.part.asg.out_types))
        work = sum(
            max([t.size for t in (*p.part.asg.inputs, *p.part.asg.out_types)], default=0) * len(p.part.asg.nodes)
            for p in self.parts
        )
        threads = self.parts[0].part.threads
        kernel = self.b.kernel(self.name, (threads,), self.grid, bytes=float(moved), flops=float(work))
        return Stage(kernel, tuple(self.memories))


def is_wide(place: Index) -> bool:
    """Whether an element and its neighbours in the same group of four can be read together."""
    return (place - place.constant % WIDE).divides(WIDE)


def widen(memory: Memory) -> None:
    """Makes a memory one that is accessed four elements at a time."""
    if memory.width == 1:
        memory.width, memory.size = WIDE, memory.size // WIDE


def store_elements(b: Builder, e: Elements, value: int, memory: Memory, coordinates: Sequence[Coordinates]) -> None:
    """Computes elements of a value and writes them to memory."""
    store(b, memory, [ix.linear(c, e.type(value).shape) for c in coordinates], stored_elements(e, value, coordinates))


def stored_elements(e: Elements, value: int, coordinates: Sequence[Coordinates]) -> list[Value]:
    """Elements of a value, as memory has them."""
    return [e.types.to_memory(e.builder, e.at(value, c), e.type(value).dtype) for c in coordinates]


def store(b: Builder, memory: Memory, places: Sequence[Index], elements: Sequence[Value]) -> None:
    """Writes elements to memory: four at a time if they are neighbours, by rows or by columns of a square."""
    for groups in _fours(len(places)):
        size = memory.size * memory.width
        if all(are_neighbours([places[k] for k in group], size) for group in groups):
            widen(memory)
            for group in groups:
                b.store(memory, b.index(places[group[0]].over(WIDE)), tuple(elements[k] for k in group))
            return
    for place, element in zip(places, elements, strict=True):
        b.store(memory, b.index(place), element)


def _fours(count: int) -> list[list[tuple[int, ...]]]:
    """The ways to see so many elements as groups of four."""
    if count == WIDE:
        return [[(0, 1, 2, 3)]]
    if count == WIDE * WIDE:
        by_row = [tuple(range(k * WIDE, k * WIDE + WIDE)) for k in range(WIDE)]
        return [by_row, list(zip(*by_row, strict=True))]
    return []


def are_neighbours(places: Sequence[Index], size: int) -> bool:
    """Whether these are the places of one group of four in a memory of this size."""
    if len(places) != WIDE or size % WIDE or not places[0].divides(WIDE):
        return False
    return all(place == places[0] + k for k, place in enumerate(places))
