"""Clusters of operations that grow by merging along edges, without ever making a cycle.

The clusters are kept in a topological order. Merging a cluster with one that reads it is allowed when no other path
leads from the first to the second; whether there is one is looked for only between their two places in the order, and
a merge moves only what lies there (Pearce and Kelly, A Dynamic Topological Sort Algorithm for Directed Acyclic Graphs,
2006, for contractions instead of insertions).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

# a search that visits more clusters than this gives up, and the merge does not happen
SEARCH_LIMIT = 1000


class Edge(NamedTuple):
    """A value that one operation makes and another reads."""

    value: int
    reader: int  # the reading operation
    # which loop of the maker (a factor of its result) runs along which of the reader; None when they do not run alike
    loops: tuple[tuple[int, int], ...] | None


class Cluster:
    """Operations that will be one region. Loops are numbers of `Loops`."""

    __slots__ = (
        "cost",
        "domain",
        "frames",
        "inputs",
        "kind",
        "members",
        "order",
        "outputs",
        "preds",
        "rows",
        "size",
        "succs",
    )

    def __init__(self, kind: str, member: int, domain: tuple[int, ...], rows: tuple[int, ...], size: int, cost: int):
        self.kind = kind
        self.members = [member]
        self.domain = domain  # loops of the results (of the operand, for reductions)
        self.rows = rows  # reductions: the loops that stay; one workgroup does all that belongs to one of their steps
        self.frames = {frozenset(domain)}  # the loop nests of the members
        self.size = size  # the largest number of elements of a loop nest
        self.cost = cost  # of one element
        self.order = member
        self.preds: dict[Cluster, list[Edge]] = {}
        self.succs: dict[Cluster, list[Edge]] = {}
        self.inputs: set[int] = set()  # values from outside, scalar constants excepted
        self.outputs: set[int] = set()  # values that are needed outside


class Loops:
    """Loops by number, and which of them are the same one: a union-find."""

    def __init__(self) -> None:
        self.lengths: list[int] = []
        self._parent: list[int] = []

    def new(self, lengths: Sequence[int]) -> range:
        """Loops of these lengths."""
        first = len(self._parent)
        self.lengths += lengths
        added = range(first, first + len(lengths))
        self._parent += added
        return added

    def steps(self, loops: Iterable[int]) -> int:
        """How often the body of a nest of loops runs."""
        return math.prod(self.lengths[x] for x in loops)

    def find(self, loop: int) -> int:
        parent = self._parent
        while parent[loop] != loop:
            parent[loop] = parent[parent[loop]]
            loop = parent[loop]
        return loop

    def join(self, a: int, b: int) -> None:
        self._parent[self.find(a)] = self.find(b)

    def match(self, edges: Sequence[Edge], frames: Iterable[frozenset[int]]) -> Callable[[int], int] | None:
        """What each loop becomes when these edges make loops the same: a function of loops.

        None if values do not run alike along an edge, or if two loops of one of these frames would become one.
        """
        joined: dict[int, int] = {}
        parent = self._parent

        def find(loop: int) -> int:
            if parent[loop] != loop:
                loop = self.find(loop)
            while loop in joined:
                loop = joined[loop]
            return loop

        for edge in edges:
            if edge.loops is None:
                return None
            for a, b in edge.loops:
                a, b = find(a), find(b)
                if a != b:
                    joined[a] = b
        for frame in frames:
            if not joined.keys().isdisjoint(frame) and len({find(x) for x in frame}) < len(frame):
                return None
        return find


def between(first: Cluster, second: Cluster) -> tuple[list[Cluster], list[Cluster]] | None:
    """What lies between two clusters, the second reading the first: what the second needs, and what needs the first.

    None when another path leads from the first to the second (or none was ruled out within the limit): merging them
    would close a cycle.
    """
    after = _reach(second.order, first, lambda c: c.succs, second, forward=True)
    if after is None:
        return None
    before = _reach(first.order, second, lambda c: c.preds, first, forward=False)
    if before is None:
        return None
    return before, after


def _reach(
    bound: int, start: Cluster, neighbours: Callable[[Cluster], dict], target: Cluster, forward: bool
) -> list[Cluster] | None:
    found: list[Cluster] = []
    seen = {start, target}
    stack = [c for c in neighbours(start) if c is not target]
    while stack:
        c = stack.pop()
        if c in seen or (c.order > bound if forward else c.order < bound):
            continue
        seen.add(c)
        found.append(c)
        if len(found) > SEARCH_LIMIT:
            return None
        following = neighbours(c)
        if target in following:
            return None
        stack.extend(following)
    return found


def contract(
    first: Cluster, second: Cluster, between_them: tuple[list[Cluster], list[Cluster]]
) -> tuple[Cluster, Cluster]:
    """Makes two adjacent clusters one in the graph of clusters. Returns the one that stays and the one that is gone."""
    before, after = between_them
    before.sort(key=lambda c: c.order)
    after.sort(key=lambda c: c.order)
    places = sorted([first.order, second.order, *(c.order for c in before), *(c.order for c in after)])

    stays, gone = first, second
    if _weight(gone) > _weight(stays):
        stays, gone = gone, stays
    for mine, theirs in ((_preds, _succs), (_succs, _preds)):
        mine(stays).pop(gone, None)
        for other, edges in mine(gone).items():
            if other is stays:
                continue
            del theirs(other)[gone]
            edges = mine(stays).get(other, []) + edges
            mine(stays)[other] = edges
            theirs(other)[stays] = edges
        mine(gone).clear()
    for place, cluster in zip(places, [*before, stays, *after], strict=False):
        cluster.order = place
    return stays, gone


def _preds(c: Cluster) -> dict[Cluster, list[Edge]]:
    return c.preds


def _succs(c: Cluster) -> dict[Cluster, list[Edge]]:
    return c.succs


def _weight(c: Cluster) -> int:
    """What it costs to be the one that goes."""
    return len(c.members) + len(c.preds) + len(c.succs)
