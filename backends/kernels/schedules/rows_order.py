"""In which order the loops of a region should run, so that neighbouring threads touch neighbouring elements."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

from asgfn.graph.asg import Asg, Node
from asgfn.graph.types import ArrayType
from asgfn.records import record
from backends.kernels import index as ix
from backends.kernels.elements import Coordinates, Elements
from backends.kernels.index import Axis, Index
from backends.kernels.ir import Builder, Memory, Value
from backends.kernels.loops import RegionLoops
from backends.kernels.target import Target
from backends.kernels.types import Types


class NotComputed(Exception):
    """A reduction's result was asked for that this kernel has not computed: the region is no case for this schedule."""


class RowElements(Elements):
    """Elements of a region whose reductions are computed by the schedule.

    Attributes:
        known: for each reduction's result that was computed, what its element at some coordinates is.
        kept: the same for values that a pass has left in memory.
    """

    def __init__(
        self,
        b: Builder,
        asg: Asg,
        types: Types,
        inputs: Sequence[Memory],
        constants: Sequence[Memory | None],
        reduced: Collection[int],
    ):
        super().__init__(b, asg, types, inputs, constants)
        self.reduced = frozenset(reduced)
        self.known: dict[int, Callable[[Coordinates], Value]] = {}
        self.kept: dict[int, Callable[[Coordinates], Value]] = {}

    def _compute(self, value: int, coordinates: Coordinates, mask: Value | None) -> Value:
        if value in self.reduced:
            if value not in self.known:
                raise NotComputed(f"value {value} of {self.asg.name}")
            return self.known[value](coordinates)
        if value in self.kept:
            return self.kept[value](coordinates)
        return super()._compute(value, coordinates, mask)


class _Places(RowElements):
    """Elements of which only the places in memory are of interest: neither loads nor formulas are written out."""

    def _input(self, value: int, coordinates: Coordinates, mask: Value | None) -> Value:
        t = self.value_types[value]
        self.places.setdefault(value, []).append(ix.linear(coordinates, t.shape))
        return self._any(t)

    def _apply(self, node: Node, operands: Sequence[Value], in_types: Sequence[ArrayType]) -> Value | list[Value]:
        made = [self._any(t) for t in node.out_types]
        return made[0] if len(made) == 1 else made

    def _any(self, t: ArrayType) -> Value:
        return Value("any", (), self.types.register(t.dtype), None, 0, "any")


@record
class Order:
    """Which loops should be inner ones.

    Attributes:
        ranks: for each loop the typical logarithm of its step in memory: the inner ones have small numbers.
        contiguous: loops along which some memory's neighbouring elements are, and how many bytes such memories have.
        at: an index for each loop.
        places: in memory, at these indices, of what is read and written, each with the bytes of that memory.
        operations: of the kernel language, for one element of everything. On processors, and without reductions, where they
            are only weighed roughly or not at all, a formula counts as one.
        wide: how many neighbours a thread should take at once, where it can.
    """

    ranks: dict[int, float]
    contiguous: dict[int, float]
    at: Mapping[int, Index]
    places: Sequence[tuple[int, Index]]
    operations: int
    wide: int = 4

    def sorted(self, loops: Iterable[int]) -> tuple[int, ...]:
        """Loops, the outermost first."""
        return tuple(sorted(loops, key=lambda x: (-self.ranks.get(x, math.inf), x)))

    def crossing(self, loops: Iterable[int]) -> tuple[int, int] | None:
        """Two loops (the first the outer one) along which large memories are contiguous, some along either."""
        most = sorted((x for x in loops if x in self.contiguous), key=lambda x: -self.contiguous[x])[:2]
        if len(most) < 2 or self.contiguous[most[1]] * 4 < self.contiguous[most[0]]:
            return None
        outer, inner = self.sorted(most)
        return outer, inner


def find_order(loops: RegionLoops, target: Target) -> Order:
    """The order of a region's loops, weighing each memory by its size."""
    at = {x: ix.axis(f"loop{x}", n) for x, n in loops.lengths.items()}
    loop_of: dict[object, int] = {atom: x for x, i in at.items() for atom in i.terms}
    found, operations = _places_and_operations(loops, target, at)
    totals: dict[int, list[float]] = {}
    contiguous: dict[int, float] = {}
    for weight, place in found:
        for atom, step in place.terms.items():
            if not isinstance(atom, Axis) or atom not in loop_of:
                continue  # a digit, say
            x = loop_of[atom]
            total = totals.setdefault(x, [0.0, 0.0])
            total[0] += weight * math.log2(abs(step))
            total[1] += weight
            if step == 1:
                contiguous[x] = contiguous.get(x, 0.0) + weight
    ranks = {x: total / weight for x, (total, weight) in totals.items()}
    return Order(ranks, contiguous, at, found, operations, 1 if target.simd else 4)


def places_of(loops: RegionLoops, target: Target, at: Mapping[int, Index]) -> list[tuple[int, Index]]:
    """The places in memory, each with the bytes of that memory, of what a region reads and writes at these indices of
    its loops."""
    return _places_and_operations(loops, target, at)[0]


def _places_and_operations(
    loops: RegionLoops, target: Target, at: Mapping[int, Index]
) -> tuple[list[tuple[int, Index]], int]:
    """The same, and how many operations that takes; see `Order`."""
    asg = loops.asg
    b = Builder()
    for index in at.values():
        for atom in index.atoms():
            b.set_axis(Index({atom: 1}), b.builtin("thread"))
    types, reduced = target.types, [r.result.value for r in loops.reductions]
    # how long formulas are matters where the loops of devices are unrolled
    are_counted = bool(loops.reductions) and not target.simd
    if are_counted:
        inputs = [Memory(f"in{k}", types.storage(t.dtype), t.size) for k, t in enumerate(asg.inputs)]
        constants = [
            Memory(f"constant{k}", types.storage(t.dtype), t.size) if t.shape else None
            for k, t in enumerate(asg.constant_types)
        ]
        e = RowElements(b, asg, types, inputs, constants, reduced)
    else:
        e = _Places(b, asg, types, (), (), reduced)
    for r in loops.reductions:
        dtype = r.node.out_types[0].dtype
        e.known[r.result.value] = lambda _, dtype=dtype: types.constant(b, 1, dtype)  # type: ignore[misc]
        e.at(r.operand.value, loops.coordinates(r.operand, at))
    found: list[tuple[int, Index]] = []
    for o in loops.outputs:
        coordinates = loops.coordinates(o, at)
        e.at(o.value, coordinates)
        t = asg.value_types[o.value]
        found.append((t.nbytes, ix.linear(coordinates, t.shape)))
    for value, places in e.places.items():
        found += [(asg.value_types[value].nbytes, place) for place in dict.fromkeys(places)]
    return found, b.count if are_counted else b.count + len(asg.nodes)
