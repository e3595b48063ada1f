"""The loops of a region: along which of them each value runs, and which of them its reductions keep.

A region was put together by `asgfn.transforms.regions`, which knows that. The region's graph alone does not say it any
more, so it is partitioned once again: what was one region is one region again.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

from asgfn.graph.asg import Asg, Node
from asgfn.records import record
from asgfn.transforms.region_axes import AxisFactors
from asgfn.transforms.region_graph import Edge
from asgfn.transforms.region_roles import ELEMENTWISE, REDUCTION
from asgfn.transforms.region_rules import FusionLimits
from asgfn.transforms.regions import Partitioner
from backends.kernels import index as ix
from backends.kernels.index import Index

# whatever is one region already stays one
_NO_LIMITS = FusionLimits(max_operands=1 << 30, max_nodes=1 << 30, max_row=1 << 60, max_grouped=0)

Loops = tuple[int, ...]


@record
class Placed:
    """A value whose elements are counted by loops.

    Attributes:
        value: in the region's graph.
        loops: for each factor of its axes the loop that runs along it, outermost first.
    """

    value: int
    loops: Loops


@record
class Reduction:
    """A reduction of a region.

    Attributes:
        node: of the region's graph.
        operand: what it reduces, and the loops of that.
        result: what it makes, and the loops that stay.
        depth: 1 more than that of any reduction that it depends on.
    """

    node: Node
    operand: Placed
    result: Placed
    depth: int


@record
class RegionLoops:
    """The loops of one region.

    Attributes:
        asg: the region's graph.
        lengths: of each loop.
        rows: loops that all reductions keep; of a region without reductions, all loops.
        reductions: in an order in which they can be computed.
        outputs: the results.
        depths: for each value of the graph how many reductions, one after another, it depends on.
    """

    asg: Asg
    axes: AxisFactors
    lengths: Mapping[int, int]
    rows: frozenset[int]
    reductions: tuple[Reduction, ...]
    outputs: tuple[Placed, ...]
    depths: tuple[int, ...]

    def steps(self, loops: Iterable[int]) -> int:
        """How often the body of a nest of loops runs."""
        return math.prod(self.lengths[x] for x in loops)

    def coordinates(self, placed: Placed, at: Mapping[int, Index]) -> tuple[Index, ...]:
        """Coordinates of a value's element, from the indices of loops."""
        shape = self.asg.value_types[placed.value].shape
        factors = self.axes.flat(shape)
        found = []
        for places in self.axes.positions(shape):
            loops = [at[placed.loops[k]] for k in places]
            found.append(loops[0] if len(loops) == 1 else ix.linear(loops, factors[places.start : places.stop]))
        return tuple(found)

    def indices(self, placed: Placed, coordinates: Sequence[Index]) -> dict[int, Index]:
        """The indices of loops, from coordinates of a value's element."""
        shape = self.asg.value_types[placed.value].shape
        factors = self.axes.flat(shape)
        found = {}
        for index, places in zip(coordinates, self.axes.positions(shape), strict=True):
            step = 1
            for k in reversed(places):
                found[placed.loops[k]] = index.digit(step, None if k == places[0] else factors[k])
                step *= factors[k]
        return found


def find_loops(asg: Asg) -> RegionLoops | None:
    """The loops of a region of kind "elementwise" or "reduction", or of several reduction regions that keep the same rows;
    None if the graph is nothing of that kind."""
    partitioner = Partitioner(asg, _NO_LIMITS)
    partitioner.grow()
    # what is neither reduced nor stored is computed again wherever it is used, whichever loops that has
    results = {v for v in asg.outputs if v in partitioner.maker}
    clusters = [c for c in partitioner.distinct() if c.kind != ELEMENTWISE or c.outputs & results]
    kinds = {c.kind for c in clusters}
    if kinds != {REDUCTION} and not (kinds == {ELEMENTWISE} and len(clusters) == 1):
        return None
    _identify(partitioner)
    same = partitioner.loops.same
    depths = _depths(asg, partitioner)

    def placed(value: int, loops: Iterable[int]) -> Placed:
        return Placed(value, tuple(map(same.__getitem__, loops)))

    reductions = []
    for number, op in enumerate(partitioner.operations):
        node = asg.nodes[op.node]
        if partitioner.roles[op.node] == REDUCTION:
            operand = placed(node.inputs[0], partitioner.frames[number])
            result = placed(op.value, partitioner.loops_of[op.value])
            reductions.append(Reduction(node, operand, result, depths[op.value]))
    if any(value not in partitioner.loops_of for value in asg.outputs):
        return None
    outputs = tuple(placed(value, partitioner.loops_of[value]) for value in asg.outputs)
    (rows, *others) = [frozenset([same[x] for x in (c.rows if c.kind == REDUCTION else c.domain)]) for c in clusters]
    nests = [r.operand.loops for r in reductions] + [o.loops for o in outputs]
    if any(other != rows for other in others) or any(not rows <= set(r.result.loops) for r in reductions):
        return None
    if any(not rows <= set(nest) or len(set(nest)) < len(nest) for nest in nests):
        return None
    lengths = {x: partitioner.loops.lengths[x] for nest in nests for x in nest}
    return RegionLoops(asg, partitioner.axes, lengths, rows, tuple(reductions), outputs, depths)


def _identify(partitioner: Partitioner) -> None:
    """Gives loops of different nests that run along the same axis of an operand one name, so that what one nest has
    loaded is known in the other. That is never wrong: a nest only cares that its own loops differ."""
    loops = partitioner.loops
    same, lengths = loops.same, loops.lengths
    nests = list(dict.fromkeys(tuple([same[x] for x in frame]) for frame in partitioner.frames))
    pairs = []
    for reads in partitioner.along.values():
        pairs += [(a, b) for _, other in reads[1:] for a, b in zip(reads[0][1], other, strict=True)]
    longest = max(nests, key=loops.steps, default=())
    for nest in nests:
        pairs += [(a, b) for a in longest for b in nest if lengths[a] == lengths[b]]
    for a, b in pairs:
        if same[a] == same[b]:
            continue
        frames = {frozenset([same[x] for x in nest]) for nest in nests}
        if loops.match([Edge(-1, -1, ((a, b),))], frames) is not None:
            loops.join(a, b)


def _depths(asg: Asg, partitioner: Partitioner) -> tuple[int, ...]:
    depths = [0] * (len(asg.inputs) + len(asg.constants))
    for node, role in zip(asg.nodes, partitioner.roles, strict=True):
        depth = max(map(depths.__getitem__, node.inputs), default=0) + (role == REDUCTION)
        depths += [depth] * len(node.out_types)
    return tuple(depths)
