"""Which operations become one kernel: the partition of a graph into regions.

The plan, in the order it happens:

1. Views (and what costs less than a load) are not operations of their own: every reader repeats them in its indexing.
2. The other operations start as a region each. Regions grow along edges, best reason first:
   contractions with what alone reads them; reductions with what they alone read and what follows row by row;
   contractions with the rest of their epilogues; element-wise operations with each other; contractions with their
   prologues; reductions with others that go through the same values; and last, small reductions of row-wise results with
   the rows.
3. Small regions that do not depend on each other are grouped.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from asgfn.graph.asg import Asg, Node
from asgfn.transforms.region_axes import AxisFactors
from asgfn.transforms.region_graph import ORDER, Cluster, Edge, Loops, TooFar, between, contract
from asgfn.transforms.region_groups import grouped
from asgfn.transforms.region_roles import (
    ALIASES,
    CONTRACTION,
    ELEMENTWISE,
    LOAD_COST,
    OPAQUE,
    REDUCTION,
    VIEW,
    cost_of,
    role_of,
)
from asgfn.transforms.region_rules import FusionLimits, fits

ALIAS = "alias"  # a reshape that is needed in memory: no kernel
GROUP = "group"


class Source(NamedTuple):
    """Where an operand comes from once views are seen through."""

    value: int
    selection: tuple[int, ...] | None  # for each factor of the value the factor of the operand that runs along it


class Operation(NamedTuple):
    """A unit of partitioning: a node, or a view whose result is needed in memory."""

    node: int
    value: int  # of its first result
    is_view: bool


class Region(NamedTuple):
    """A part of the partition.

    Attributes:
        kind: "elementwise", "reduction", "contraction", "group" (of independent regions), "opaque" or "alias".
        operations: in an order in which they can run.
        parts: the regions of a group.
    """

    kind: str
    operations: tuple[Operation, ...]
    parts: tuple[Region, ...] = ()


class Partitioner:
    """Partitions one graph. `inlined` says which nodes are repeated by their readers."""

    def __init__(self, asg: Asg, limits: FusionLimits):
        self.asg = asg
        self.limits = limits
        self.types = asg.value_types
        self.firsts = asg.first_outputs
        self.is_output = [False] * len(self.types)
        for i in asg.outputs:
            self.is_output[i] = True
        self.in_types = [[self.types[i] for i in node.inputs] for node in asg.nodes]
        self.roles = list(map(role_of, asg.nodes, self.in_types))
        self.costs = list(map(cost_of, asg.nodes))
        self.axes = AxisFactors(
            (self.types[node.inputs[0]].shape, node.out_types[0].shape)
            for node, role in zip(asg.nodes, self.roles, strict=True)
            if role == VIEW and node.primitive.name == "reshape"
        )
        n_in, n_const = len(asg.inputs), len(asg.constants)
        self.is_literal = [n_in <= i < n_in + n_const and not self.types[i].shape for i in range(n_in + n_const)]
        self.loops = Loops()
        self.nesting = False  # whether reductions of row-wise results join the rows' region already
        self.apart: set[tuple] = set()  # states of pairs of regions that no kernel can be
        self.merges = 0
        # pairs of regions between which there was too much to look at, and after how many merges
        self.refused: dict[tuple[Cluster, Cluster], int] = {}
        # for each operation: itself, the region that it is in, its loops (of its result, or of what it reduces)
        self.operations: list[Operation] = []
        self.clusters: list[Cluster] = []
        self.frames: list[range] = []
        self.is_contraction: list[bool] = []
        self.maker: dict[int, int] = {}  # value -> operation
        self.loops_of: dict[int, range | list[int]] = {}  # value -> its loops, outermost first
        self.readers: dict[int, list[int]] = {}  # value -> operations that read it
        self.along: dict[int, list[tuple[int, tuple[int, ...]]]] = {}  # value -> who reads it along which of its loops
        self.inlined: list[bool] = []
        self._find_inlined()
        self._make_operations()

    # ------------------------------------------------------------------ 1. what readers repeat
    def _find_inlined(self) -> None:
        """Marks nodes that are repeated by their readers, and finds where each value really comes from."""
        asg, types = self.asg, self.types
        self.sources: list[tuple[Source, ...]] = [
            () if literal else (Source(i, self.axes.identity(types[i].shape)),)
            for i, literal in enumerate(self.is_literal)
        ]
        cost = [0] * len(self.is_literal)
        fixed_only = [True] * len(self.is_literal)  # comes from inputs and constants alone
        sources = self.sources
        for node, role, first, own in zip(asg.nodes, self.roles, self.firsts, self.costs, strict=True):
            inputs = node.inputs
            spent = own + sum([cost[i] for i in inputs])
            shape = node.out_types[0].shape if node.out_types else ()
            repeat = False
            if role == VIEW:
                repeat = node.primitive.name != "concatenate" or len(asg.users[first]) <= 1
            elif role == ELEMENTWISE and len(node.out_types) == 1:
                repeat = spent <= LOAD_COST and not any([sources[i] for i in inputs])  # noqa: C419
                if not repeat and not shape and spent <= self.limits.max_scalar:
                    repeat = all(fixed_only[i] and not types[i].shape for i in inputs)
            self.inlined.append(repeat)
            if repeat:
                sources.append(self._through(node, shape))
                cost.append(spent)
                fixed_only.append(all([fixed_only[i] for i in inputs]))  # noqa: C419
                continue
            for value, t in enumerate(node.out_types, first):
                sources.append((Source(value, self.axes.identity(t.shape)),))
                cost.append(0)
                fixed_only.append(False)

    def _through(self, node: Node, shape: tuple[int, ...]) -> tuple[Source, ...]:
        """The sources of a repeated node's result."""
        found = []
        for i in node.inputs:
            if not self.sources[i]:
                continue
            selected = self.axes.selection(node.primitive.name, node.params, self.types[i].shape, shape)
            for value, inner in self.sources[i]:
                composed = None if selected is None or inner is None else tuple(map(selected.__getitem__, inner))
                found.append(Source(value, composed))
        return tuple(found)

    # ------------------------------------------------------------------ the regions to start from
    def _make_operations(self) -> None:
        effect = -1
        for index, (node, first) in enumerate(zip(self.asg.nodes, self.firsts, strict=True)):
            if self.inlined[index]:
                continue
            if self.roles[index] == OPAQUE:
                for i in node.inputs:
                    self._materialise(i)
            operation = self._add(index, first)
            if node.primitive.is_effectful(node.params):
                if effect >= 0:  # effects keep their order
                    self._connect(effect, operation, [])
                effect = operation
        for i in self.asg.outputs:
            self._materialise(i)

    def _materialise(self, value: int) -> None:
        """A repeated node's result that is needed in memory is an operation after all."""
        index = self.asg.producers[value]
        if index >= 0 and self.inlined[index] and value not in self.maker:
            self._add(index, value)

    def _add(self, index: int, first: int) -> int:
        node = self.asg.nodes[index]
        number = len(self.operations)
        is_view = self.inlined[index]
        self.operations.append(Operation(index, first, is_view))
        role = self.roles[index]
        in_types = self.in_types[index]
        out_shape = node.out_types[0].shape if node.out_types else ()
        if role == VIEW or is_view:
            kind = ALIAS if is_view and self._is_alias(first) else ELEMENTWISE
            reads = [(self._through(node, out_shape), out_shape)]
        elif role == OPAQUE:  # reads memory as it is
            kind = OPAQUE
            reads = [((Source(i, None),), ()) for i in node.inputs if not self.is_literal_value(i)]
        else:
            kind = role
            reads = [(self.sources[i], t.shape) for i, t in zip(node.inputs, in_types, strict=True)]

        shape = in_types[0].shape if kind == REDUCTION else out_shape
        frame = self.loops.new(self.axes.flat(shape))
        result: range | list[int] = frame
        if kind == REDUCTION:
            places = self.axes.positions(shape)
            result = [frame[p] for axis, ps in enumerate(places) if axis not in node.params["axes"] for p in ps]
        for k, t in enumerate(node.out_types):
            # nothing runs along the loops of an opaque operation, whose results may have any shapes
            self.loops_of[first + k] = self.loops.new(self.axes.flat(t.shape)) if kind == OPAQUE else result
            self.maker[first + k] = number

        rows = tuple(result) if kind == REDUCTION else ()
        size = max([math.prod(shape), *[t.size for t in in_types]])
        cluster = Cluster(kind, number, tuple(frame), rows, size, self.costs[index])
        self.clusters.append(cluster)
        self.frames.append(frame)
        self.is_contraction.append(kind == CONTRACTION)
        for sources, read_shape in reads:
            for value, selection in sources:
                loops = frame if read_shape == shape else range(0)  # a scalar operand has none
                if kind == CONTRACTION:
                    loops = self.loops.new(self.axes.flat(read_shape))
                    cluster.frames.add(frozenset(loops))
                self._read(cluster, value, selection, loops)
        for value in range(first, first + len(node.out_types)):
            if self.is_output[value] or self.asg.users[value]:
                cluster.outputs.add(value)
        return number

    def _read(self, reader: Cluster, value: int, selection: tuple[int, ...] | None, loops: range) -> None:
        """Enters that a region of one operation reads a value, along some of these loops."""
        (number,) = reader.members
        self.readers.setdefault(value, []).append(number)
        reader.inputs.add(value)
        pairs = None
        maker = self.maker.get(value)
        if selection is not None:
            along = tuple(map(loops.__getitem__, selection))
            self.along.setdefault(value, []).append((number, along))
            if maker is not None:
                pairs = tuple(zip(self.loops_of[value], along, strict=True))
        if maker is not None:
            self._connect(maker, number, [Edge(value, number, pairs)])

    def _connect(self, maker: int, reader: int, edges: list[Edge]) -> None:
        first, second = self.clusters[maker], self.clusters[reader]
        first.succs[second] = second.preds[first] = first.succs.get(second, []) + edges

    def is_literal_value(self, value: int) -> bool:
        """Whether a value is a scalar constant, which is written into the code that uses it."""
        return value < len(self.is_literal) and self.is_literal[value]

    def _is_alias(self, value: int) -> bool:
        """Whether a repeated value is its source's memory, perhaps under another shape."""
        while (index := self.asg.producers[value]) >= 0 and self.inlined[index]:
            node = self.asg.nodes[index]
            if node.primitive.name not in ALIASES:
                return False
            value = node.inputs[0]
        return True

    # ------------------------------------------------------------------ 2. growing regions along edges
    def partition(self) -> list[Region]:
        """The regions, in an order in which they can run."""
        self.grow()
        clusters = sorted(self.distinct(), key=ORDER)
        mergeable = [c for c in clusters if self._may_share_a_kernel(c)]
        return [
            self._region(group)
            for group in grouped(clusters, mergeable, self.limits.max_operands, self.limits.max_nodes)
        ]

    def distinct(self) -> list[Cluster]:
        """The regions that there are, each once."""
        return list(dict.fromkeys(self.clusters))

    def grow(self) -> None:
        """Has the regions grow as far as they do, one operation each at first."""
        everything = {(a, b) for a in (ELEMENTWISE, REDUCTION) for b in (ELEMENTWISE, REDUCTION)}
        self._sweep_down({(CONTRACTION, ELEMENTWISE)}, private=True)
        for _ in range(2):
            self._sweep_down({(REDUCTION, ELEMENTWISE), (REDUCTION, REDUCTION)})
            self._sweep_up({(ELEMENTWISE, REDUCTION)})
        self._sweep_down({(CONTRACTION, ELEMENTWISE)})
        self._sweep_up({(ELEMENTWISE, REDUCTION), (ELEMENTWISE, ELEMENTWISE)})
        self._sweep_down(everything | {(CONTRACTION, ELEMENTWISE)})
        self._sweep_up({(ELEMENTWISE, CONTRACTION)})
        self._sweep_across()
        self.nesting = True
        self._sweep_down({(REDUCTION, REDUCTION)})

    def _may_share_a_kernel(self, cluster: Cluster) -> bool:
        small = cluster.kind == REDUCTION and cluster.size <= self.limits.max_grouped
        return small or cluster.kind == ELEMENTWISE

    def _region(self, group: Sequence[Cluster]) -> Region:
        parts = [Region(c.kind, tuple([self.operations[k] for k in sorted(c.members)])) for c in group]
        if len(parts) == 1:
            return parts[0]
        return Region(GROUP, tuple([op for part in parts for op in part.operations]), tuple(parts))

    def _sweep_down(self, kinds: set[tuple[str, str]], private: bool = False) -> None:
        """Goes through the operations in order and merges each with the regions that it reads; if `private`, with
        those that nobody else reads."""
        if self._is_one():
            return
        wanted: dict[str, set[str]] = {}
        for kind, reader in kinds:
            wanted.setdefault(reader, set()).add(kind)
        seen: dict[Cluster, int] = {}  # after how many merges there was nothing left to do for a region
        for number in range(len(self.operations)):
            while True:
                second = self.clusters[number]
                firsts = wanted.get(second.kind)
                if firsts is None or seen.get(second) == self.merges:
                    break
                before = [c for c in second.preds if c.kind in firsts and (not private or self._is_private(c))]
                before.sort(key=ORDER, reverse=True)
                for first in before:
                    if self._merge(first, second):
                        break
                else:
                    seen[second] = self.merges
                    break

    def _sweep_up(self, kinds: set[tuple[str, str]]) -> None:
        """Goes through the operations backwards and merges each with the region that reads it, where only one does."""
        if self._is_one():
            return
        wanted = {kind for kind, _ in kinds}
        seen: dict[Cluster, int] = {}
        for number in range(len(self.operations) - 1, -1, -1):
            first = self.clusters[number]
            if first.kind in wanted and seen.get(first) != self.merges and self._is_private(first):
                (second,) = first.succs
                if (first.kind, second.kind) not in kinds or not self._merge(first, second):
                    seen[first] = self.merges

    def _sweep_across(self) -> None:
        """Merges reductions that keep the same rows and go through the same large value, neither reading the other."""
        for value, readers in self.along.items():
            known: list[tuple[int, tuple[int, ...]]] = []
            for number, loops in readers:
                if self.clusters[number].kind != REDUCTION or self.roles[self.operations[number].node] == VIEW:
                    continue
                if not any(self._merge_siblings(value, other, (number, loops)) for other in known):
                    known.append((number, loops))

    def _merge_siblings(self, value: int, one: tuple[int, tuple[int, ...]], other: tuple[int, tuple[int, ...]]) -> bool:
        """Merges the regions of two operations that read a value along these loops, if the result can be one kernel."""
        first, second = self.clusters[one[0]], self.clusters[other[0]]
        if first is second:
            return True
        if self.types[value].size * 2 < max(first.size, second.size) or second in first.succs or first in second.succs:
            return False
        edge = Edge(value, other[0], tuple(zip(one[1], other[1], strict=True)))
        named = self.loops.match([edge], first.frames | second.frames)
        if named is None or named(first.rows) != named(second.rows):
            return False
        if first.order > second.order:
            first, second = second, first
        inputs, outputs = first.inputs | second.inputs, first.outputs | second.outputs
        try:
            return self._become_one(first, second, [edge], second, inputs, outputs)
        except TooFar:
            return False

    def _is_one(self) -> bool:
        """Whether there is one region only."""
        return self.merges == len(self.operations) - 1

    def _is_private(self, cluster: Cluster) -> bool:
        return len(cluster.succs) == 1 and not any(self.is_output[i] for i in cluster.outputs)

    def _merge(self, first: Cluster, second: Cluster) -> bool:
        """Merges a region with one that reads it, if the result can be one kernel."""
        edges = first.succs[second]
        # regions only grow, so these say whether anything has changed since that limits and paths, and rules, look at
        pair = (first, second, len(first.members), len(second.members))
        state = (*pair, len(first.succs), self.nesting)
        if not edges or pair in self.apart or state in self.apart or self.refused.get((first, second)) == self.merges:
            return False
        if not first.succs.keys().isdisjoint(second.preds):  # the shortest of other paths, and the most frequent one
            self.apart.add(pair)
            return False
        if not fits(first, second, edges, self):
            self.apart.add(state)
            return False
        passed = {e.value for e in edges}
        inputs = first.inputs | (second.inputs - passed)
        mine = (first, second)
        inner = {i for i in passed if not self.is_output[i]}
        if len(first.succs) > 1:
            inner = {i for i in inner if all(self.clusters[r] in mine for r in reversed(self.readers[i]))}
        outputs = (first.outputs | second.outputs) - inner
        leads = second if first.kind == ELEMENTWISE or second.kind == REDUCTION else first
        try:
            done = self._become_one(first, second, edges, leads, inputs, outputs)
        except TooFar:
            self.refused[first, second] = self.merges
            return False
        if not done:
            self.apart.add(pair)
        return done

    def _become_one(
        self,
        first: Cluster,
        second: Cluster,
        edges: Sequence[Edge],
        leads: Cluster,
        inputs: set[int],
        outputs: set[int],
    ) -> bool:
        """Merges two regions, unless that is more than a kernel can be, or closes a cycle. What the result is, the leading
        one says.

        Raises:
            TooFar: whether it closes a cycle was not found out.
        """
        if len(first.members) + len(second.members) > self.limits.max_nodes:
            return False
        if len(inputs) + len(outputs) > self.limits.max_operands:
            return False
        path = between(first, second)
        if path is None:
            return False

        same = self.loops.same
        for edge in edges:
            for a, b in edge.loops or ():
                if same[a] != same[b]:
                    self.loops.join(a, b)
        self.merges += 1
        kind, domain, rows = leads.kind, leads.domain, leads.rows
        stays, gone = contract(first, second, path)
        stays.kind, stays.domain, stays.rows = kind, domain, rows
        stays.frames = {frozenset(map(same.__getitem__, frame)) for frame in first.frames | second.frames}
        stays.size = max(first.size, second.size)
        stays.cost = first.cost + second.cost
        stays.inputs, stays.outputs = inputs, outputs
        stays.members += gone.members
        for number in gone.members:
            self.clusters[number] = stays
        return True
