"""Which results of a region its readers compute again instead of loading them.

A gradient often reads ``2 * d`` and ``d * scale`` next to ``d``: one array in memory is enough for all three.
"""

from __future__ import annotations

from asgfn.transforms.region_roles import ELEMENTWISE, LOAD_COST, REDUCTION, cost_of
from asgfn.transforms.regions import Operation, Partitioner


def recomputed(partitioner: Partitioner) -> set[int]:
    """The nodes whose results are not stored, because what they are computed from is in memory anyway.

    Such a node costs less than a load, and its readers have no more operands with it than before. Contractions are not
    asked to compute again: they go through an operand many times.
    """
    p = partitioner
    instead: dict[int, tuple[int, frozenset[int]]] = {}  # values that are not stored: cost and what is loaded instead
    for op in p.operations:
        readers = _outside(p, op)
        if not readers or any(p.roles[p.operations[r].node] not in (ELEMENTWISE, REDUCTION) for r in readers):
            continue
        node, result = p.asg.nodes[op.node], p.types[op.value].dtype
        cost = cost_of(node)
        loads: frozenset[int] = frozenset()
        for source in dict.fromkeys(s.value for i in node.inputs for s in p.sources[i]):
            spent, needs = instead.get(source, (0, frozenset((source,))))
            cost += spent
            loads |= needs
            if not (source in instead or _in_memory(p, source)) or p.types[source].dtype.itemsize > result.itemsize:
                cost = LOAD_COST + 1
        clusters = dict.fromkeys(p.clusters[r] for r in readers)
        if cost <= LOAD_COST and all(len(loads - c.inputs) <= 1 for c in clusters):
            for cluster in clusters:
                cluster.inputs = (cluster.inputs - {op.value}) | loads
            instead[op.value] = cost, loads
    return {p.asg.producers[value] for value in instead}


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
