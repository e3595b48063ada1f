"""A region around a contraction: what its operands are computed from, and what is made of its result."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Protocol

import numpy as np

from asgfn.graph.asg import Asg, Node
from backends.kernels import index as ix
from backends.kernels import scalar
from backends.kernels.elements import Coordinates, Elements, rule_of
from backends.kernels.index import Index
from backends.kernels.ir import SIZES, Builder, Kernel, Memory, Value
from backends.kernels.lowering import Argument, Stage
from backends.kernels.schedules.assembly import is_wide
from backends.kernels.schedules.contraction_problem import Arithmetic, Contraction, Side, contraction_of
from backends.kernels.schedules.tiles import WIDE
from backends.kernels.target import Target
from backends.kernels.types import Types

CONTRACTIONS = frozenset(("dot_general", "conv_general_dilated"))
# elements that are so close in memory are worth reading together
CLOSE = 8
_RESHAPES = frozenset(("reshape", "squeeze", "expand_dims"))


class Misaligned(Exception):
    """A result needs other elements of the contraction than the one at its own place."""


class NotWide(Exception):
    """A memory that was to move four neighbours at a time is needed in another way, too."""


class RegionElements(Elements):
    """Elements of a region in which one element of the contraction is known.

    Attributes:
        target: the contraction's value.
        element: its element, wherever it is asked for; None while it must not be asked for.
        strict: coordinates at which alone it may be asked for (None: not checked).
        used: memories that are read.
    """

    def __init__(self, target: int, builder: Builder, asg: Asg, types: Types, memories: Sequence[Memory | None]):
        super().__init__(builder, asg, types, list(memories), ())  # type: ignore[arg-type]
        self.target = target
        self.element: Value | None = None
        self.strict: Coordinates | None = None
        self.used: set[int] = set()

    def at(self, value: int, coordinates: Coordinates, mask: Value | None = None) -> Value:
        if value != self.target:
            return super().at(value, coordinates, mask)
        if self.element is None or (self.strict is not None and self.strict != coordinates):
            raise Misaligned
        return self.element

    def load(self, memory: Memory, place: Index, dtype: np.dtype, mask: Value | None) -> Value:
        self.used.add(id(memory))
        if memory.width > 1 and not is_wide(place):
            raise NotWide
        return super().load(memory, place, dtype, mask)


class Region:
    """One contraction with its prologues and epilogue.

    Attributes:
        asg: the region's graph.
        product: the contraction as a product of matrices, columns being neighbours in the first result if possible.
        batch_is_innermost: whether those of the batch are, instead.
        is_aligned: whether each element of the results needs the contraction's element at its own place, and no other.
            If not, there is no kernel of it.
        value: the contraction's value.
        types: how dtypes are represented.
    """

    def __init__(self, asg: Asg, types: Types):
        self.asg, self.types = asg, types
        (number,) = [k for k, node in enumerate(asg.nodes) if node.primitive.name in CONTRACTIONS]
        node = asg.nodes[number]
        self.node, self.value = node, asg.first_outputs[number]
        self.value_types = asg.value_types
        x, y = (self.value_types[i] for i in node.inputs)
        self.product: Contraction = contraction_of(node, (x, y))
        self.batch_is_innermost = False
        self._followers = self._find_followers(number)
        self.is_aligned = self._moves_nothing(number) or self._are_aligned()
        if self.is_aligned:
            self._orient()

    # ------------------------------------------------------------------ where results are
    def _find_followers(self, number: int) -> list[tuple[Node, int, int]]:
        """Nodes after the contraction whose elements belong to its elements: node, operand that says which, result."""
        known = {self.value}
        found = []
        for node, first in zip(self.asg.nodes[number + 1 :], self.asg.first_outputs[number + 1 :], strict=True):
            operand = next((i for i in node.inputs if i in known and self._keeps(node, i)), None)
            if operand is not None:
                known.update(range(first, first + len(node.out_types)))
                found.append((node, operand, first))
        return found

    def _moves_nothing(self, number: int) -> bool:
        """Whether results are made of the contraction by operations that compute each element of their operands' at its
        place."""
        made = {self.value}
        for node, first in zip(self.asg.nodes[number + 1 :], self.asg.first_outputs[number + 1 :], strict=True):
            operand = next((i for i in node.inputs if i in made), None)
            if operand is not None:
                if not self._is_elementwise(node, operand):
                    return False
                made.update(range(first, first + len(node.out_types)))
        return made.issuperset(self.asg.outputs)

    def _keeps(self, node: Node, operand: int) -> bool:
        """Whether a node's elements are its operand's, one for one."""
        if node.primitive.name in ("transpose", "broadcast_in_dim", *_RESHAPES):
            return self.value_types[operand].size == node.out_types[0].size
        return self._is_elementwise(node, operand)

    def _is_elementwise(self, node: Node, operand: int) -> bool:
        name = node.primitive.name
        is_computed = name in ("copy", "name", "stop_gradient", "optimization_barrier") or (
            name in scalar.RULES and rule_of(name) is None
        )
        return is_computed and self.value_types[operand].shape == node.out_types[0].shape

    def places(self, coordinates: Coordinates) -> dict[int, Coordinates]:
        """Coordinates of the elements, of all values that follow it, that belong to an element of the contraction."""
        found = {self.value: coordinates}
        for node, operand, first in self._followers:
            at, shape, out = found[operand], self.value_types[operand].shape, node.out_types[0].shape
            name = node.primitive.name
            if name == "transpose":
                at = tuple(at[axis] for axis in node.params["permutation"])
            elif name == "broadcast_in_dim":
                spread = dict(zip(node.params["broadcast_dimensions"], at, strict=True))
                at = tuple(spread.get(axis, ix.constant(0)) for axis in range(len(out)))
            elif name in _RESHAPES:
                at = ix.coordinates(ix.linear(at, shape), out)
            for k in range(len(node.out_types)):
                found[first + k] = at
        return found

    def _are_aligned(self) -> bool:
        """Whether each element of the results needs the contraction's element at its own place, and no other."""
        b = Builder()
        coordinates = []
        for n in self.value_types[self.value].shape:
            axis = ix.axis("d", n)
            b.set_axis(axis, b.builtin("thread"))
            coordinates.append(axis)
        e = self.elements(b)
        e.strict = tuple(coordinates)
        register = self.types.register(self.product.dtype)
        e.element = b.read(
            b.variable(b.constant(False if register == "bool" else 0.0 if register[0] == "f" else 0, register))
        )
        places = self.places(tuple(coordinates))
        if any(value not in places for value in self.asg.outputs):
            return False
        try:
            for value in self.asg.outputs:
                e.at(value, places[value])
        except Misaligned:
            return False
        return True

    def _orient(self) -> None:
        """Exchanges rows and columns if rows are closer to each other than columns in the first result."""
        p, output = self.product, self.asg.outputs[0]
        zero, one = ix.constant(0), ix.constant(1)

        def place(*at: Index) -> int:
            found = ix.linear(self.places(p.result(*at))[output], self.value_types[output].shape)
            return found.constant

        start = place(zero, zero, zero)
        steps = [
            abs(place(*(one if k == axis else zero for k in range(3))) - start) if size > 1 else 1 << 62
            for axis, size in enumerate((p.b, p.m, p.n))
        ]
        if steps[1] < steps[2]:
            self.product = p.swapped()
        self.batch_is_innermost = steps[0] < min(steps[1:])

    # ------------------------------------------------------------------ code
    def elements(self, b: Builder, memories: Sequence[Memory | None] | None = None) -> RegionElements:
        """The elements of the region's graph, with these memories for its inputs and constants."""
        if memories is None:
            types = [*self.asg.inputs, *self.asg.constant_types]
            literals = [False] * len(self.asg.inputs) + [not t.shape for t in self.asg.constant_types]
            memories = [
                None if literal else Memory(f"in{k}", self.types.storage(t.dtype), t.size)
                for k, (t, literal) in enumerate(zip(types, literals, strict=True))
            ]
        return RegionElements(self.value, b, self.asg, self.types, memories)

    def neighbours(self, side: Side, product: Contraction | None = None) -> tuple[str, bool]:
        """Along which axis elements of an operand are neighbours, or closest, "free" or "depth" ("" if neither); and
        whether four of them can be read together."""
        p = self.product if product is None else product
        wide: dict[str, tuple[bool, bool]] = {}
        for which, size in (("free", side.size), ("depth", p.k)):
            b = Builder()
            e = self.elements(b)
            axes = {}
            for name, n in (("batch", p.b), ("free", side.size), ("depth", p.k)):
                grouped = name == which and size % WIDE == 0
                axes[name] = ix.axis(name, n // WIDE) * WIDE if grouped else ix.axis(name, n)
                for atom in axes[name].terms:
                    b.axes[atom] = b.builtin("thread")  # type: ignore[index]
            lanes = min(WIDE, size)
            for lane in range(lanes):
                at = {**axes, which: axes[which] + lane if size % WIDE == 0 else ix.constant(lane)}
                p.read(e, side, at["batch"], at["free"], at["depth"])
            wide[which] = _neighbours(e, lanes)
        for which, (beside, together) in wide.items():
            if beside and together:
                return which, True
        for which, (beside, _) in wide.items():
            if beside:
                return which, False
        steps = {which: self._step(p, side, which) for which in wide}
        closest = min(steps, key=steps.__getitem__)
        return (closest if steps[closest] <= CLOSE else ""), False

    def _step(self, p: Contraction, side: Side, which: str) -> float:
        """How far the first two elements of an operand along an axis are apart in memory; infinite if that is not known."""
        if (side.size if which == "free" else p.k) < 2:
            return math.inf
        zero = ix.constant(0)
        places = []
        for number in range(2):
            e = self.elements(Builder())
            at = {"batch": zero, "free": zero, "depth": zero, which: ix.constant(number)}
            p.read(e, side, at["batch"], at["free"], at["depth"])
            sizes = [(e.value_types[v].size, v) for v in e.places]
            places.append(e.places[max(sizes)[1]][0] if sizes else zero)
        step = places[1] - places[0]
        return abs(step.constant) if step.is_constant and step.constant else math.inf


def _neighbours(e: RegionElements, lanes: int) -> tuple[bool, bool]:
    """Of the largest memory that was read for neighbouring elements: whether they are neighbours; a group of four."""
    candidates = [(e.value_types[v].size, v) for v in e.places if e.value_types[v].size > 1]
    if not candidates or lanes < 2:
        return False, False
    size, value = max(candidates)
    # in the order of the lanes, as often as each was read
    places = e.places[value]
    per = len(places) // lanes
    if per == 0 or len(places) % lanes:
        return False, False
    places = places[::per]
    beside = all(place - places[0] == k for k, place in enumerate(places))
    return beside, beside and are_neighbours(places, size)


class RegionKernel:
    """A kernel of a region while it is written: its memories, which of them are used, and how wide.

    It is written twice: only then is known which memories always move four neighbours at a time. The first time
    (`draft`) what is costly to write and touches none of them may be left out.
    """

    def __init__(self, region: Region, target: Target, split: int, previous: RegionKernel | None):
        self.region, self.target = region, target
        self.draft = previous is None
        self.b = b = Builder()
        asg, types = region.asg, region.types
        wide = previous.wide_arguments() if previous is not None else frozenset()
        self.memory_of: dict[Argument, Memory] = {}
        memories: list[Memory | None] = []
        constants = 0
        for k, t in enumerate(asg.inputs):
            memories.append(self._memory(Argument("input", k), types.storage(t.dtype), t.size))
        for t in asg.constant_types:
            memory = None
            if t.shape:
                memory = self._memory(Argument("constant", constants), types.storage(t.dtype), t.size)
                constants += 1
            memories.append(memory)
        self.e = region.elements(b, memories)
        self.outputs = [
            self._memory(Argument("output", k), types.storage(t.dtype), t.size) for k, t in enumerate(asg.out_types)
        ]
        self.temporary = self._memory(Argument("temporary", 0), *partial_sums(region, split)) if split > 1 else None
        for argument in wide:
            memory = self.memory_of[argument]
            memory.width, memory.size = WIDE, memory.size // WIDE
        self.work = Arithmetic(region.product.dtype, self.e)
        self._stores: dict[int, list[bool]] = {}
        self._partial_places: list[Index] = []
        self._narrow = False

    def _memory(self, argument: Argument, dtype: str, size: int) -> Memory:
        memory = self.memory_of[argument] = Memory(f"{argument.kind}{argument.number}", dtype, size)
        return memory

    def memory(self, argument: Argument, dtype: str, size: int) -> Memory:
        """One more memory that the kernel is called with, if it uses it."""
        return self._memory(argument, dtype, size)

    def forget_width(self) -> None:
        """Lets no memory be wide."""
        self._narrow = True

    def wide_arguments(self) -> frozenset[Argument]:
        """Memories that always move four neighbours at a time."""
        found: set[Argument] = set()
        if self._narrow:
            return frozenset()
        places = {id(self.e.memories[v]): p for v, p in self.e.places.items()}
        places[id(self.temporary)] = self._partial_places
        for argument, memory in self.memory_of.items():
            if memory.size % WIDE or memory.size < WIDE:
                continue
            stores, loads = self._stores.get(id(memory), []), places.get(id(memory), [])
            if (stores or loads) and all(stores) and all(map(is_wide, loads)):
                found.add(argument)
        return frozenset(found)

    # ------------------------------------------------------------------ results
    def store(self, memory: Memory, places: Sequence[Index], values: Sequence[Value]) -> None:
        """Stores elements, four at a time if the memory is wide."""
        together = are_neighbours(places, memory.size * memory.width)
        self._stores.setdefault(id(memory), []).append(together)
        if memory.width > 1 and not together:
            raise NotWide
        if memory.width > 1:
            self.b.store(memory, self.b.index(places[0].over(WIDE)), tuple(values))
            return
        for place, value in zip(places, values, strict=True):
            self.b.store(memory, self.b.index(place), value)

    def finish(self, elements: Sequence[tuple[Index, Index, Index]], totals: Sequence[Value]) -> None:
        """Computes and stores what the region makes of elements (b, m, n) of the contraction."""
        self.finish_at([self.region.product.result(*element) for element in elements], totals)

    def finish_at(self, elements: Sequence[Coordinates], totals: Sequence[Value]) -> None:
        """The same, by their coordinates in the contraction's result."""
        e, asg = self.e, self.region.asg
        places: list[list[Index]] = [[] for _ in asg.outputs]
        values: list[list[Value]] = [[] for _ in asg.outputs]
        for element, total in zip(elements, totals, strict=True):
            e.element = self.work.result(total)
            at = self.region.places(element)
            for k, (value, t) in enumerate(zip(asg.outputs, asg.out_types, strict=True)):
                places[k].append(ix.linear(at[value], t.shape))
                values[k].append(e.types.to_memory(self.b, e.at(value, at[value]), t.dtype))
        e.element = None
        for memory, at_, found in zip(self.outputs, places, values, strict=True):
            self.store(memory, at_, found)

    def partial_place(self, split: Index, b: Index, m: Index, n: Index) -> Index:
        """Where a partial sum is in the temporary memory."""
        p = self.region.product
        return ((split * p.b + b) * p.m + m) * p.n + n

    def read_partial(self, place: Index) -> Value:
        """A partial sum."""
        assert self.temporary is not None
        self._partial_places.append(place)
        return self.e.load(self.temporary, place, _PLAIN[self.work.register], None)

    # ------------------------------------------------------------------ the whole
    def stage(self, name: str, threads: int, grid: tuple[int, int, int], flops: float = 0.0) -> Stage:
        """The finished kernel, called with the memories that it uses."""
        used = [
            (argument, memory)
            for argument, memory in self.memory_of.items()
            if id(memory) in self.e.used or id(memory) in self._stores
        ]
        self.b.memories = [memory for _, memory in used]
        moved = sum(memory.size * memory.width * SIZES[memory.dtype] for _, memory in used)
        kernel: Kernel = self.b.kernel(name, (threads,), grid, flops=flops, bytes=float(moved))
        return Stage(kernel, tuple(argument for argument, _ in used))


_PLAIN = {"f32": np.dtype(np.float32), "i32": np.dtype(np.int32), "u32": np.dtype(np.uint32)}


def are_neighbours(places: Sequence[Index], size: int) -> bool:
    """Whether these are the places of one group of four in a memory of this size."""
    if len(places) != WIDE or size % WIDE or not places[0].divides(WIDE):
        return False
    return all(place - places[0] == k for k, place in enumerate(places))


def partial_sums(region: Region, split: int) -> tuple[str, int]:
    """Type and number of elements of a memory for partial sums."""
    p = region.product
    register = region.types.register(p.dtype)
    return {"f16": "f32", "bool": "u32"}.get(register, register), split * p.b * p.m * p.n


class Writer(Protocol):
    """Writes a kernel; `previous` is its draft, None if this is the draft."""

    def __call__(self, previous: RegionKernel | None) -> tuple[RegionKernel, Stage]: ...


def written_twice(write: Writer) -> Stage:
    """A kernel, written first as a draft to learn which memories can be wide."""
    draft, _ = write(None)
    try:
        return write(draft)[1]
    except NotWide:
        draft.forget_width()
        return write(draft)[1]


def group_number(kernel: RegionKernel, groups: int) -> tuple[Index, Value | None, tuple[int, int, int]]:
    """The number of a workgroup as an index below `groups`; whether there is such a group (None: always); the grid."""
    b = kernel.b
    grid = kernel.target.grid_of(groups)
    number = b.builtin("group_x")
    if grid[1] > 1:
        number = b.op("add", b.op("mul", b.builtin("group_y"), b.constant(grid[0], "i32")), number)
    group = ix.axis("group", groups)
    b.set_axis(group, number)
    inside = None
    if grid[0] * grid[1] > groups:
        inside = b.op("lt", number, b.constant(groups, "i32"), dtype="bool")
    return group, inside, grid
