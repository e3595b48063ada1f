"""Which results of a region its readers compute again instead of loading them.

A gradient often reads ``2 * d`` and ``d * scale`` next to ``d``: one array in memory is enough for all three.
"""

from __future__ import annotations

from asgfn.transforms.region_graph import Cluster
from asgfn.transforms.region_roles import ELEMENTWISE, LOAD_COST, cost_of
from asgfn.transforms.regions import Partitioner


def recomputed(partitioner: Partitioner) -> set[int]:
    """The nodes whose results are not stored, because what they are computed from is in memory anyway.

    Such a node costs less than a load, and its readers have no more operands with it than before. Contractions are not
    asked to compute again: they go through an operand many times.
    """
    asg, types = partitioner.asg, partitioner.types
    extra_cost: dict[int, int] = {}  # values that are not stored, and what it takes to have one
    found = set()
    for op in partitioner.operations:
        node, value = asg.nodes[op.node], op.value
        home = partitioner.clusters[partitioner.maker[value]] if node.out_types else None
        if op.is_view or home is None or partitioner.roles[op.node] != ELEMENTWISE or len(node.out_types) != 1:
            continue
        readers = [r for r in partitioner.readers.get(value, ()) if partitioner.clusters[r] is not home]
        if not readers or partitioner.is_output[value]:
            continue
        if any(partitioner.roles[partitioner.operations[r].node] not in ("elementwise", "reduction") for r in readers):
            continue
        sources = dict.fromkeys(s.value for i in node.inputs for s in partitioner.sources[i])
        cost = cost_of(node) + sum(extra_cost.get(s, 0) for s in sources)
        if cost > LOAD_COST or not all(_in_memory(partitioner, s, extra_cost) for s in sources):
            continue
        if any(types[s].dtype.itemsize > types[value].dtype.itemsize for s in sources):
            continue
        loads = {leaf for s in sources for leaf in _leaves(partitioner, s, extra_cost)}
        clusters = list(dict.fromkeys(partitioner.clusters[r] for r in readers))
        if all(len(loads - c.inputs) <= 1 for c in clusters):
            for cluster in clusters:
                cluster.inputs = (cluster.inputs - {value}) | loads
            extra_cost[value] = cost
            found.add(op.node)
    return found
