"""Which results of a region its readers compute again instead of loading them.

A gradient often reads ``2 * d`` and ``d * scale`` next to ``d``: one array in memory is enough for all three.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple

from asgfn.transforms.region_graph import Cluster
from asgfn.transforms.region_masks import SMALL
from asgfn.transforms.region_roles import ELEMENTWISE, LOAD_COST, REDUCTION, cost_of
from asgfn.transforms.regions import Operation, Partitioner

# bytes of an element that smaller ones are not much better than: they have to be written first, and GPUs store masks as words
WORD = 4


def recomputed(partitioner: Partitioner) -> tuple[set[int], set[int]]:
    """The nodes that readers compute again, so that their results are not stored: what they are computed from is in memory
    anyway. And the small values (statistics of rows, say) that are stored for that.

    Such a result costs less than a load, and its readers have no more large operands with it than before. It may cost more
    (`FusionLimits.max_recomputed`) where the readers load all that it is computed from anyway: then a load in each of them
    is saved, a store, and memory from here to there, which is what the residuals of a gradient take. Contractions are not
    asked to compute again: they go through an operand many times.
    """
    return _Choice(partitioner).made()


class _Recipe(NamedTuple):
    """How a value is computed again: operations for an element, values that are loaded, nodes in between."""

    cost: int
    loads: frozenset[int]
    nodes: frozenset[int]


_TOO_MUCH = _Recipe(1 << 30, frozenset(), frozenset())


class _Choice:
    """What is computed again, decided value by value in the order of the program."""

    def __init__(self, partitioner: Partitioner):
        self.p = partitioner
        self.instead: dict[int, _Recipe] = {}  # of values that are not stored
        self.kept: set[int] = set()

    def made(self) -> tuple[set[int], set[int]]:
        p = self.p
        for op in p.operations:
            readers = _outside(p, op)
            roles = [p.roles[p.operations[r].node] for r in readers]
            if readers and all(role in (ELEMENTWISE, REDUCTION) for role in roles):
                self._consider(op, dict.fromkeys(p.clusters[r] for r in readers))
        return {node for recipe in self.instead.values() for node in recipe.nodes}, self.kept

    def _consider(self, op: Operation, clusters: Collection[Cluster]) -> None:
        """Has the readers compute a value, if they may."""
        p, result = self.p, self.p.types[op.value]
        recipe = self._of(op.value, result.size, LOAD_COST)
        if recipe is _TOO_MUCH:
            recipe = self._of(op.value, result.size, p.limits.max_recomputed // len(clusters))
        loads = recipe.loads
        small = frozenset(i for i in loads if _is_small(p, i, result.size))
        more_loads = 1 if recipe.cost <= LOAD_COST else 0
        if recipe is _TOO_MUCH or any(len(loads - small - c.inputs) > more_loads for c in clusters):
            return
        width = max(result.dtype.itemsize, WORD)
        if any(p.types[i].dtype.itemsize > width and i not in c.inputs for i in loads - small for c in clusters):
            return
        home = p.clusters[p.maker[op.value]]
        more = {i for i in small if not _in_memory(p, i)} - self.kept
        if _is_crowded(p, home, home.inputs, (home.outputs - {op.value}) | more) or any(
            _is_crowded(p, c, (c.inputs - {op.value}) | loads, c.outputs) for c in clusters
        ):
            return
        for cluster in clusters:
            cluster.inputs = (cluster.inputs - {op.value}) | loads
        for i in more:
            p.clusters[p.maker[i]].outputs.add(i)
        self.kept |= more
        self.instead[op.value] = recipe

    def _of(self, value: int, size: int, budget: int) -> _Recipe:
        """The recipe of an element-wise result, if it costs no more than the budget."""
        p = self.p
        number = p.asg.producers[value]
        node = p.asg.nodes[number]
        cost, loads, nodes = cost_of(node), frozenset[int](), frozenset((number,))
        for source in dict.fromkeys(s.value for i in node.inputs for s in p.sources[i]):
            if cost > budget:
                return _TOO_MUCH
            found = self._source(source, size, budget - cost)
            loads |= found.loads
            if not found.nodes <= nodes or found is _TOO_MUCH:
                cost, nodes = cost + found.cost, nodes | found.nodes
        return _Recipe(cost, loads, nodes) if cost <= budget else _TOO_MUCH

    def _source(self, value: int, size: int, budget: int) -> _Recipe:
        """The same of an operand: loaded, if it is in memory or small; computed, if it is element-wise itself."""
        p = self.p
        if value in self.instead:
            return self.instead[value]
        if _in_memory(p, value) or _is_small(p, value, size):
            return _Recipe(0, frozenset((value,)), frozenset())
        node = p.operations[p.maker[value]].node
        if p.roles[node] != ELEMENTWISE or len(p.asg.nodes[node].out_types) != 1:
            return _TOO_MUCH
        return self._of(value, size, budget)


def _is_small(p: Partitioner, value: int, size: int) -> bool:
    """Whether loading a value is nothing next to one of this size."""
    return p.types[value].size * SMALL <= size


def _is_crowded(p: Partitioner, cluster: Cluster, inputs: set[int] | frozenset[int], outputs: set[int]) -> bool:
    """Whether a region gets more operands than a kernel may have."""
    count = len(inputs) + len(outputs)
    return count > p.limits.max_operands and count > len(cluster.inputs) + len(cluster.outputs)


def _outside(p: Partitioner, op: Operation) -> list[int]:
    """Who reads an element-wise result in other regions; nobody counts if it must be in memory for another reason."""
    if (
        op.is_view
        or p.roles[op.node] != ELEMENTWISE
        or len(p.asg.nodes[op.node].out_types) != 1
        or p.is_output[op.value]
    ):
        return []
    home = p.clusters[p.maker[op.value]]
    return [r for r in p.readers.get(op.value, ()) if p.clusters[r] is not home]


def _in_memory(p: Partitioner, value: int) -> bool:
    maker = p.maker.get(value)
    if maker is None or p.is_output[value]:
        return True
    home = p.clusters[maker]
    return any(p.clusters[r] is not home for r in p.readers.get(value, ()))
