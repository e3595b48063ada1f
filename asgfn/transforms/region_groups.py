"""Independent regions that share a kernel: the last step of a partition, and the order in which regions run."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from heapq import heapify, heappop, heappush

from asgfn.transforms.region_graph import Cluster


def grouped(
    clusters: Sequence[Cluster], mergeable: Collection[Cluster], max_operands: int, max_nodes: int
) -> list[list[Cluster]]:
    """Groups regions that do not depend on each other, and puts the groups in an order in which they can run.

    Every region gets a level: how far it is from the end of the program. Regions of one level cannot depend on each
    other, so joining them closes no cycle; and the updates of all parameters, which nobody reads, meet at one level.

    Arguments:
        clusters: in a topological order.
        mergeable: those that may be grouped.
        max_operands, max_nodes: limits of a group.
    """
    level: dict[Cluster, int] = {}
    by_level: dict[int, list[Cluster]] = {}
    for cluster in reversed(clusters):
        level[cluster] = 1 + max([level[c] for c in cluster.succs], default=0)
    for cluster in clusters:
        by_level.setdefault(level[cluster], []).append(cluster)
    allowed = set(mergeable)
    groups = []
    for same in by_level.values():
        groups += [[c] for c in same if c not in allowed]
        groups += _packed([c for c in same if c in allowed], max_operands, max_nodes)
    return _in_order(groups)


def _packed(clusters: Sequence[Cluster], max_operands: int, max_nodes: int) -> Iterator[list[Cluster]]:
    """Fills one group after the other."""
    group: list[Cluster] = []
    operands: set[int] = set()
    nodes = 0
    for cluster in clusters:
        operands |= cluster.inputs | cluster.outputs
        nodes += len(cluster.members)
        if group and (len(operands) > max_operands or nodes > max_nodes):
            yield group
            group = []
            operands = cluster.inputs | cluster.outputs
            nodes = len(cluster.members)
        group.append(cluster)
    if group:
        yield group


def _in_order(groups: Sequence[list[Cluster]]) -> list[list[Cluster]]:
    """The groups in an order in which they can run, near the one that their members had."""
    group_of = {c: k for k, group in enumerate(groups) for c in group}
    place = [max(c.order for c in group) for group in groups]
    waiting = [len({group_of[p] for c in group for p in c.preds}) for group in groups]
    ready = [(place[k], k) for k in range(len(groups)) if not waiting[k]]
    heapify(ready)
    ordered = []
    while ready:
        _, k = heappop(ready)
        ordered.append(groups[k])
        for follower in {group_of[s] for c in groups[k] for s in c.succs}:
            waiting[follower] -= 1
            if not waiting[follower]:
                heappush(ready, (place[follower], follower))
    return ordered
