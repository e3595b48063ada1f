"""The second step of a layered drawing: order the vertices of every layer so that few edges cross.

Layers are sorted by the mean position (barycentre) of each vertex's neighbours in the layer above, then below, and so
on (Sugiyama, Tagawa and Toda, "Methods for visual understanding of hierarchical system structures", IEEE Trans. SMC 11,
1981); in between, neighbours in a layer are swapped where that removes a crossing. The best order seen is kept.
"""

from __future__ import annotations

from bisect import bisect_right, insort
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

# How much work a level may take: passes over all edges, passes without a gain, edges up to which neighbours are swapped.
EDGE_VISITS = 600_000
MOST_PASSES = 24
PATIENCE = 5
LARGEST_SWAPPED = 6000


class Link(NamedTuple):
    """An edge between two vertices in consecutive layers.

    `exit` and `entry` say where it leaves and enters its vertices: offsets from their centres, as fractions of the
    width, so between -0.5 and 0.5.
    """

    upper: int
    lower: int
    exit: float = 0.0
    entry: float = 0.0


def order_layers(layers: Sequence[Sequence[int]], links: Sequence[Link]) -> list[list[int]]:
    """The same layers, each in an order with few crossings. Deterministic; ties keep the given order."""
    graph = _Links(layers, links)
    best: list[list[int]] = []
    fewest = -1
    passes = max(4, min(MOST_PASSES, EDGE_VISITS // max(1, len(links)) // 2))
    for start in (graph.depth_first_order(), [list(layer) for layer in layers]):
        order, last_gain, lowest = start, 0, -1
        for number in range(passes + 1):
            if number:
                graph.sweep(order, downward=number % 2 == 1, flip_ties=number % 4 >= 2)
            crossings = graph.crossings(order)
            if lowest < 0 or crossings < lowest:
                last_gain, lowest = number, crossings
            if fewest < 0 or crossings < fewest:
                best, fewest = [list(layer) for layer in order], crossings
            if not fewest:
                return best
            if number - last_gain > PATIENCE:
                break
    if len(links) <= LARGEST_SWAPPED:
        graph.swap_neighbours(best)
    return best


class _Links:
    """The links of a layered graph by vertex, in both directions."""

    def __init__(self, layers: Sequence[Sequence[int]], links: Sequence[Link]) -> None:
        self.layers = layers
        self.layer_of = {vertex: index for index, layer in enumerate(layers) for vertex in layer}
        self.above: dict[int, list[tuple[int, float, float]]] = {vertex: [] for vertex in self.layer_of}
        self.below: dict[int, list[tuple[int, float, float]]] = {vertex: [] for vertex in self.layer_of}
        for link in links:
            # Most vertices are much narrower than the distance between two centres: hence the factor.
            self.above[link.lower].append((link.upper, 0.9 * link.exit, 0.9 * link.entry))
            self.below[link.upper].append((link.lower, 0.9 * link.entry, 0.9 * link.exit))

    def depth_first_order(self) -> list[list[int]]:
        """Vertices in the order in which a walk from the first ones meets them: branches stay together."""
        seen: set[int] = set()
        order: list[list[int]] = [[] for _ in self.layers]
        for layer in self.layers:
            for start in layer:
                stack = [start]
                while stack:
                    vertex = stack.pop()
                    if vertex in seen:
                        continue
                    seen.add(vertex)
                    order[self.layer_of[vertex]].append(vertex)
                    stack.extend(other for other, _, _ in reversed(self.below[vertex]))
                    stack.extend(other for other, _, _ in reversed(self.above[vertex]))
        return order

    def sweep(self, order: list[list[int]], *, downward: bool, flip_ties: bool) -> None:
        """Sort each layer by the barycentres of the neighbours in the layer before it."""
        neighbours = self.above if downward else self.below
        indices = range(1, len(order)) if downward else range(len(order) - 2, -1, -1)
        for index in indices:
            fixed = order[index - 1] if downward else order[index + 1]
            position = {vertex: place for place, vertex in enumerate(fixed)}
            layer = order[index]
            keys: dict[int, float] = {}
            for vertex in layer:
                links = neighbours[vertex]
                if links:
                    keys[vertex] = sum(position[other] + there - here for other, there, here in links) / len(links)
            linked = [vertex for vertex in layer if vertex in keys]
            if flip_ties:
                linked.reverse()
            linked.sort(key=keys.__getitem__)
            ordered = iter(linked)
            order[index] = [next(ordered) if vertex in keys else vertex for vertex in layer]

    def crossings(self, order: list[list[int]]) -> int:
        """How many pairs of links cross, over all pairs of consecutive layers."""
        total = 0
        for upper, lower in pairwise(order):
            position = {vertex: place for place, vertex in enumerate(lower)}
            passed: list[float] = []
            for vertex in upper:
                ends = sorted((here, position[other] + there) for other, there, here in self.below[vertex])
                for _, end in ends:
                    total += len(passed) - bisect_right(passed, end)
                    insort(passed, end)
        return total

    def swap_neighbours(self, order: list[list[int]]) -> None:
        """Swap neighbours in a layer for as long as that removes crossings."""
        for _ in range(8):
            improved = False
            for index, layer in enumerate(order):
                above = {vertex: place for place, vertex in enumerate(order[index - 1])} if index else {}
                below = (
                    {vertex: place for place, vertex in enumerate(order[index + 1])} if index + 1 < len(order) else {}
                )
                ends_above = {v: sorted(above[u] + there for u, there, _ in self.above[v]) for v in layer}
                ends_below = {v: sorted(below[u] + there for u, there, _ in self.below[v]) for v in layer}
                for place in range(len(layer) - 1):
                    left, right = layer[place], layer[place + 1]
                    gain = _excess(ends_above[left], ends_above[right]) + _excess(ends_below[left], ends_below[right])
                    if gain > 0:
                        layer[place], layer[place + 1] = right, left
                        improved = True
            if not improved:
                return


def _excess(left: list[float], right: list[float]) -> int:
    """Crossings of links ending at `left` with those at `right` (both sorted) less the crossings once swapped."""
    total = 0
    for end in left:
        before = bisect_right(right, end)
        equal = 0
        while before - equal and right[before - equal - 1] == end:
            equal += 1
        total += (before - equal) - (len(right) - before)
    return total
