"""Clusters of operations that grow by merging along edges, without ever making a cycle.

The clusters are kept in a topological order. Merging a cluster with one that reads it is allowed when no other path
leads from the first to the second; whether there is one is looked for only between their two places in the order, and
a merge moves only what lies there (Pearce and Kelly, A Dynamic Topological Sort Algorithm for Directed Acyclic Graphs,
2006, for contractions instead of insertions).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from operator import attrgetter
from typing import NamedTuple

ORDER = attrgetter("order")
# a search that visits more clusters than this gives up, and the merge does not happen
SEARCH_LIMIT = 1000


class TooFar(Exception):
    """A search has visited more clusters than its limit."""


class Edge(NamedTuple):
    """A value that one operation makes and another reads."""

    value: int
    reader: int  # the reading operation
    # which loop of the maker (a factor of its result) runs along which of the reader; None when they do not run alike
    loops: tuple[tuple[int, int], ...] | None


# the loops that some become
Renaming = Callable[[Iterable[int]], set[int]]


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
    """Loops by number, and which of them are the same one.

    Attributes:
        lengths: of each loop.
        same: for each loop the one that stands for it.
    """

    def __init__(self) -> None:
        self.lengths: list[int] = []
        self.same: list[int] = []
        self._members: dict[int, list[int]] = {}  # by what stands for several loops: these

    def new(self, lengths: Sequence[int]) -> range:
        """Loops of these lengths."""
        first = len(self.same)
        self.lengths += lengths
        added = range(first, first + len(lengths))
        self.same += added
        return added

    def steps(self, loops: Iterable[int]) -> int:
        """How often the body of a nest of loops runs."""
        return math.prod(self.lengths[x] for x in loops)

    def join(self, a: int, b: int) -> None:
        """Makes two loops, and those that are the same, one. Another one stands for those of which there are fewer."""
        same, members = self.same, self._members
        a, b = same[a], same[b]
        if a == b:
            return
        fewer, more = members.pop(a, None) or [a], members.pop(b, None) or [b]
        if len(fewer) > len(more):
            fewer, more, b = more, fewer, a
        for loop in fewer:
            same[loop] = b
        more += fewer
        members[b] = more

    def match(self, edges: Sequence[Edge], frames: Iterable[frozenset[int]]) -> Renaming | None:
        """What loops become when these edges make loops the same.

        None if values do not run alike along an edge, or if two loops of one of these frames would become one.

        Arguments:
            frames: of loops that stand for themselves.
        """
        same = self.same
        joined: dict[int, int] = {}
        for edge in edges:
            if edge.loops is None:
                return None
            for a, b in edge.loops:
                a, b = same[a], same[b]
                a, b = joined.get(a, a), joined.get(b, b)
                if a != b:
                    if a in joined.values():
                        joined.update(dict.fromkeys([x for x, y in joined.items() if y == a], b))
                    joined[a] = b
        stands_for = same.__getitem__

        def named(loops: Iterable[int]) -> set[int]:
            found = set(map(stands_for, loops))
            for loop in joined.keys() & found:
                found.remove(loop)
                found.add(joined[loop])
            return found

        for frame in frames if joined else ():
            if not joined.keys().isdisjoint(frame) and len(named(frame)) < len(frame):
                return None
        return named


def between(first: Cluster, second: Cluster) -> tuple[list[Cluster], list[Cluster]] | None:
    """What lies between two clusters, the second perhaps reading the first: what the second needs, and what needs the first.

    None when another path leads from the first to the second: merging them would close a cycle. While neither of the two
    grows, it stays.

    Raises:
        TooFar: no path was found within the limit.
    """
    if len(first.succs) == len(second.preds) == 1 and second in first.succs:
        return [], []
    after = _reach(second.order, first, _SUCCS, second, forward=True)
    if after is None:
        return None
    before = _reach(first.order, second, _PREDS, first, forward=False)
    if before is None:
        return None
    return before, after


_PREDS, _SUCCS = attrgetter("preds"), attrgetter("succs")


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
            raise TooFar
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
    stays, gone = first, second
    if _weight(gone) > _weight(stays):
        stays, gone = gone, stays
    places = [first.order]
    if before or after:
        before.sort(key=ORDER)
        after.sort(key=ORDER)
        places = sorted(map(ORDER, (first, second, *before, *after)))
    stays.preds.pop(gone, None)
    stays.succs.pop(gone, None)
    for other, edges in gone.preds.items():
        if other is not stays:
            del other.succs[gone]
            stays.preds[other] = other.succs[stays] = stays.preds.get(other, []) + edges
    for other, edges in gone.succs.items():
        if other is not stays:
            del other.preds[gone]
            stays.succs[other] = other.preds[stays] = stays.succs.get(other, []) + edges
    gone.preds.clear()
    gone.succs.clear()
    for place, cluster in zip(places, (*before, stays, *after), strict=False):
        cluster.order = place
    return stays, gone


def _weight(c: Cluster) -> int:
    """What it costs to be the one that goes."""
    return len(c.members) + len(c.preds) + len(c.succs)
