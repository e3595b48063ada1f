"""The third step of a layered drawing: horizontal positions that keep chains straight and parents centred.

After Brandes and Koepf, "Fast and simple horizontal coordinate assignment" (Graph Drawing 2001): vertices are aligned
in vertical blocks with their median neighbour, the blocks are packed, and four such layouts (neighbours above or
below, packed to the left or to the right) are averaged. Three things differ from the paper. Links have priorities, so
that the longest chain of operations is drawn straight and what feeds it comes from the sides. They may leave and enter
a vertex off its centre, so a block's members are shifted against each other. And blocks are packed by longest paths in
the graph of blocks, which is simpler than the paper's classes and respects different widths.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from asgfn.plot.columns import Column, Strand, distance
from asgfn.plot.layering import topological_order
from asgfn.plot.relaxation import relaxed


def place(layers: Sequence[Sequence[int]], columns: Sequence[Column], strands: Sequence[Strand]) -> list[float]:
    """The horizontal centre of every vertex; no two columns of a layer overlap."""
    layouts = []
    for upside_down in (False, True):
        for mirrored in (False, True):
            problem = _Alignment(layers, columns, strands, upside_down=upside_down, mirrored=mirrored)
            layouts.append(problem.solve())
    return relaxed(layers, columns, strands, _combine(layouts, columns))


def _combine(layouts: list[list[float]], columns: Sequence[Column]) -> list[float]:
    """Shift the layouts to the narrowest one's left or right end, then take the mean of the two middle positions."""
    if not columns:
        return []

    def ends(layout: list[float]) -> tuple[float, float]:
        left = min(x - column.width / 2 for x, column in zip(layout, columns, strict=True))
        right = max(x + column.width / 2 for x, column in zip(layout, columns, strict=True))
        return left, right

    spans = [ends(layout) for layout in layouts]
    narrowest = min(spans, key=lambda span: span[1] - span[0])
    shifted = []
    for number, (layout, span) in enumerate(zip(layouts, spans, strict=True)):
        packed_right = number % 2
        shift = narrowest[packed_right] - span[packed_right]
        shifted.append([x + shift for x in layout])
    middle = [sorted(positions)[1:3] for positions in zip(*shifted, strict=True)]
    return [sum(pair) / 2 for pair in middle]


class _Alignment:
    """One of the four layouts. Mirroring and turning the problem leaves one case: align upwards, pack to the left."""

    def __init__(
        self,
        layers: Sequence[Sequence[int]],
        columns: Sequence[Column],
        strands: Sequence[Strand],
        *,
        upside_down: bool,
        mirrored: bool,
    ) -> None:
        self.mirrored = mirrored
        self.columns = columns
        self.layers = [list(reversed(layer)) if mirrored else list(layer) for layer in layers]
        if upside_down:
            self.layers.reverse()
        self.position = {vertex: place for layer in self.layers for place, vertex in enumerate(layer)}
        sign = -1.0 if mirrored else 1.0
        self.above: dict[int, list[Strand]] = {vertex: [] for vertex in self.position}
        for strand in strands:
            upper, lower, leaving, entering, priority = strand
            if upside_down:
                upper, lower, leaving, entering = lower, upper, entering, leaving
            self.above[lower].append(Strand(upper, lower, sign * leaving, sign * entering, priority))
        for strands_above in self.above.values():
            strands_above.sort(key=lambda strand: (self.position[strand.upper], strand.exit))
        self.highest_below = [-1] * len(columns)
        for strands_above in self.above.values():
            for strand in strands_above:
                self.highest_below[strand.upper] = max(self.highest_below[strand.upper], strand.priority)
        self.root = list(range(len(columns)))
        self.shift = [0.0] * len(columns)

    def solve(self) -> list[float]:
        conflicts = self._conflicts()
        taken = [False] * len(self.columns)
        for layer in self.layers[1:]:
            rightmost = -1
            for vertex in layer:
                for strand in self._candidates(vertex):
                    upper = strand.upper
                    if taken[upper] or self.position[upper] <= rightmost or (upper, vertex) in conflicts:
                        continue
                    taken[upper] = True
                    rightmost = self.position[upper]
                    self.root[vertex] = self.root[upper]
                    self.shift[vertex] = self.shift[upper] + strand.exit - strand.entry
                    break
        positions = self._pack()
        result = [positions[self.root[vertex]] + self.shift[vertex] for vertex in range(len(self.columns))]
        return [-x for x in result] if self.mirrored else result

    def _candidates(self, vertex: int) -> list[Strand]:
        """The strands to align a vertex along, best first: that of its long edge, else the median important ones."""
        strands = self.above[vertex]
        if self.columns[vertex].is_bend:
            inner = [strand for strand in strands if self.columns[strand.upper].is_bend]
            if inner:
                return inner
        if not strands:
            return []
        highest = max(strand.priority for strand in strands)
        important = [s for s in strands if s.priority == highest == self.highest_below[s.upper]]
        if not important:
            return []
        medians = dict.fromkeys(((len(important) - 1) // 2, len(important) // 2))
        return [important[index] for index in medians]

    def _conflicts(self) -> set[tuple[int, int]]:
        """Links that cross the inner part of a long edge: the long edge stays straight, the link bends."""
        found: set[tuple[int, int]] = set()
        for layer in self.layers[1:]:
            inner = [(self.position[upper], self.position[vertex]) for vertex in layer for upper in self._inner(vertex)]
            if not inner:
                continue
            # Walk the layer between successive inner links; a link from outside their span above crosses one.
            inner.sort(key=lambda ends: (ends[1], ends[0]))
            left_bound, next_inner = -1, 0
            for place, vertex in enumerate(layer):
                while next_inner < len(inner) and inner[next_inner][1] < place:
                    left_bound = max(left_bound, inner[next_inner][0])
                    next_inner += 1
                right_bound = inner[next_inner][0] if next_inner < len(inner) else len(self.position)
                if next_inner < len(inner) and inner[next_inner][1] == place:
                    continue
                for strand in self.above[vertex]:
                    if not left_bound <= self.position[strand.upper] <= right_bound:
                        found.add((strand.upper, vertex))
        return found

    def _inner(self, vertex: int) -> list[int]:
        if not self.columns[vertex].is_bend:
            return []
        return [strand.upper for strand in self.above[vertex] if self.columns[strand.upper].is_bend]

    def _pack(self) -> list[float]:
        """The leftmost position of every block; then each moves right, up to the block on its right, to close gaps."""
        gaps: dict[tuple[int, int], float] = {}
        for layer in self.layers:
            for left, right in pairwise(layer):
                gap = self.shift[left] + distance(self.columns[left], self.columns[right]) - self.shift[right]
                pair = (self.root[left], self.root[right])
                gaps[pair] = max(gaps.get(pair, gap), gap)
        count = len(self.columns)
        order = topological_order(count, list(gaps))
        right_of: list[list[tuple[int, float]]] = [[] for _ in range(count)]
        for (left, right), gap in gaps.items():
            right_of[left].append((right, gap))
        # A block starts where all its members, whatever their shifts, are right of zero.
        positions = [0.0] * count
        for vertex in range(count):
            edge = self.columns[vertex].width / 2 - self.shift[vertex]
            positions[self.root[vertex]] = max(positions[self.root[vertex]], edge)
        for block in order:
            for right, gap in right_of[block]:
                positions[right] = max(positions[right], positions[block] + gap)
        for block in reversed(order):
            if right_of[block]:
                positions[block] = max(positions[block], min(positions[right] - gap for right, gap in right_of[block]))
        return positions
