"""The layout of one level: the boxes, inner frames and border ports of one frame, in layers from top to bottom."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from asgfn.plot.columns import Column, Strand
from asgfn.plot.layering import assign_layers
from asgfn.plot.ordering import Link, order_layers
from asgfn.plot.placement import place
from asgfn.records import field, record

BOX_MARGIN = 14.0
BEND_MARGIN = 7.0
BEND_WIDTH = 2.0
ENTRY_SPACING = 14.0
SMALLEST_GAP = 18.0
LARGEST_GAP = 150.0
GAP_PER_SHIFT = 0.09
GAP_PER_LONG_SHIFT = 1.2
LONG_SHIFT = 60.0
SAME_POINT = 1e-6


class Rectangle(NamedTuple):
    left: float
    top: float
    width: float
    height: float

    @property
    def right(self) -> float:
        return self.left + self.width

    @property
    def bottom(self) -> float:
        return self.top + self.height

    @property
    def centre(self) -> tuple[float, float]:
        return self.left + self.width / 2, self.top + self.height / 2

    def moved(self, x: float, y: float) -> Rectangle:
        return Rectangle(self.left + x, self.top + y, self.width, self.height)


class Path(NamedTuple):
    """A piece of one or more wires: points from top to bottom, joined by a line where x is equal, else by a bow that
    starts and ends vertically."""

    points: tuple[tuple[float, float], ...]
    wires: tuple[int, ...]
    ends_in_box: bool

    def moved(self, x: float, y: float) -> Path:
        return self._replace(points=tuple((px + x, py + y) for px, py in self.points))


class Value(NamedTuple):
    """What a wire carries: an output of a box."""

    box: int
    output: int


class Item(NamedTuple):
    """A vertex of a level: a box, an inner frame, or the port ("entry" or "exit") of a value on the border."""

    box: int = -1
    frame: int = -1
    port: str = ""
    value: Value | None = None


class End(NamedTuple):
    """One end of an edge: an item, and the value that leaves or enters it there."""

    item: Item
    value: Value


@record
class Edge:
    """The piece of one or more wires that lies in this level."""

    start: End
    end: End
    wires: list[int]


class LevelPlan(NamedTuple):
    """Where a level's items and edges go; the top is at y = 0, the x axis is arbitrary."""

    rectangles: dict[Item, Rectangle]
    paths: list[Path]
    left: float
    right: float
    height: float


def plan_level(
    sizes: Mapping[Item, tuple[float, float]],
    edges: Sequence[Edge],
    exits: Mapping[End, float],
    entries: Mapping[End, float],
    *,
    border_height: float,
) -> LevelPlan:
    """Lay out one level.

    Arguments:
        sizes: width and height of each box and inner frame.
        edges: in any order; a box's edges enter it side by side.
        exits, entries: horizontal offsets, from the centres of the items, at which edges leave and enter.
        border_height: of the strip at the top that wires from entry ports cross vertically (beside the title).
    """
    ports = dict.fromkeys(end.item for edge in edges for end in (edge.start, edge.end) if end.item.port)
    sheet = _Sheet([*sizes, *ports], edges)
    for item in sheet.items:
        width, height = sizes.get(item, (BEND_WIDTH, border_height if item.port == "entry" else 0.0))
        sheet.add_vertex(width, height, is_bend=False, layer=sheet.layer_of[item])
    sheet.add_strands(exits, entries)
    sheet.order()
    sheet.spread_entries()
    return sheet.draw()


@record(frozen=False)
class _Strand:
    """A piece of an edge between two consecutive layers."""

    upper: int
    lower: int
    exit: float
    entry: float
    priority: int = 0
    wires: list[int] = field(default_factory=list)


class _Sheet:
    """The layered graph of one level: a vertex for each item, then one for each layer that a long edge passes."""

    def __init__(self, items: list[Item], edges: Sequence[Edge]) -> None:
        self.items = items
        self.edges = edges
        self.layer_of = _layers(items, edges)
        self.layers: list[list[int]] = [[] for _ in range(max(self.layer_of.values(), default=-1) + 1)]
        self.columns: list[Column] = []
        self.heights: list[float] = []
        self.strands: list[_Strand] = []

    def add_vertex(self, width: float, height: float, *, is_bend: bool, layer: int) -> int:
        margin = BEND_MARGIN if width == BEND_WIDTH else BOX_MARGIN
        self.columns.append(Column(width, margin, is_bend))
        self.heights.append(height)
        self.layers[layer].append(len(self.columns) - 1)
        return len(self.columns) - 1

    def add_strands(self, exits: Mapping[End, float], entries: Mapping[End, float]) -> None:
        """Cut the edges into strands. Edges with the same start share a trunk, from which each turns off last."""
        number_of = {item: number for number, item in enumerate(self.items)}
        chain_length = self._chain_lengths()
        by_start: dict[End, list[Edge]] = {}
        for edge in self.edges:
            by_start.setdefault(edge.start, []).append(edge)
        for start, branches in by_start.items():
            # tips[k] is where the trunk stands after k layers; strands[k] is the one that leads there.
            tips = [number_of[start.item]]
            trunk: list[_Strand] = []
            first = self.layer_of[start.item]
            for edge in branches:
                above = self.layer_of[edge.end.item] - first - 1
                while len(tips) <= above:
                    bend = self.add_vertex(BEND_WIDTH, 0.0, is_bend=True, layer=first + len(tips))
                    trunk.append(_Strand(tips[-1], bend, exits[start] if len(tips) == 1 else 0.0, 0.0))
                    tips.append(bend)
                target = number_of[edge.end.item]
                priority = chain_length[edge.start.item, edge.end.item]
                for strand in trunk[:above]:
                    strand.wires.extend(edge.wires)
                    strand.priority = max(strand.priority, priority)
                leaving, entering = exits[start] if above == 0 else 0.0, entries.get(edge.end, 0.0)
                self.strands.append(_Strand(tips[above], target, leaving, entering, priority, list(edge.wires)))
            self.strands.extend(trunk)

    def _chain_lengths(self) -> dict[tuple[Item, Item], int]:
        """For every edge, how many edges the longest chain through it has."""
        before, after = dict.fromkeys(self.items, 0), dict.fromkeys(self.items, 0)
        downward = sorted(self.edges, key=lambda edge: self.layer_of[edge.start.item])
        for edge in downward:
            before[edge.end.item] = max(before[edge.end.item], before[edge.start.item] + 1)
        for edge in reversed(downward):
            after[edge.start.item] = max(after[edge.start.item], after[edge.end.item] + 1)
        ends = ((edge.start.item, edge.end.item) for edge in self.edges)
        return {(start, end): before[start] + 1 + after[end] for start, end in ends}

    def order(self) -> None:
        incoming: dict[int, int] = {}
        for strand in self.strands:
            incoming[strand.lower] = incoming.get(strand.lower, 0) + 1
        links = []
        rank: dict[int, int] = {}
        for strand in self.strands:
            entry = strand.entry / self.columns[strand.lower].width
            if self._is_box(strand.lower):  # a wish: operands from left to right
                rank[strand.lower] = rank.get(strand.lower, 0) + 1
                entry = 0.5 * (rank[strand.lower] / (incoming[strand.lower] + 1) - 0.5)
            links.append(Link(strand.upper, strand.lower, strand.exit / self.columns[strand.upper].width, entry))
        self.layers = order_layers(self.layers, links)

    def spread_entries(self) -> None:
        """Let the strands that enter a box arrive side by side, in the order in which they come from above."""
        position = {vertex: place for layer in self.layers for place, vertex in enumerate(layer)}
        arriving: dict[int, list[_Strand]] = {}
        for strand in self.strands:
            if self._is_box(strand.lower):
                arriving.setdefault(strand.lower, []).append(strand)
        for vertex, strands in arriving.items():
            strands.sort(key=lambda strand: (position[strand.upper], strand.exit))
            width = self.columns[vertex].width
            for strand, offset in zip(strands, _entry_offsets([s.priority for s in strands], width), strict=True):
                strand.entry = offset

    def draw(self) -> LevelPlan:
        centres = place(
            self.layers,
            self.columns,
            [Strand(s.upper, s.lower, s.exit, s.entry, s.priority) for s in self.strands],
        )
        tops, bottoms = self._layer_spans(centres)
        layer_of = {vertex: index for index, layer in enumerate(self.layers) for vertex in layer}
        rectangles = self._rectangles(centres, tops, bottoms, layer_of)
        paths = []
        for chain in self._chains():
            points = []
            for strand in chain:
                upper, lower = layer_of[strand.upper], layer_of[strand.lower]
                start = rectangles[strand.upper].bottom if self._is_solid(strand.upper) else tops[upper]
                end = rectangles[strand.lower].top if self._is_solid(strand.lower) else tops[lower]
                x_start, x_end = centres[strand.upper] + strand.exit, centres[strand.lower] + strand.entry
                points += [(x_start, start), (x_start, bottoms[upper]), (x_end, tops[lower]), (x_end, end)]
            wires, last = tuple(chain[0].wires), chain[-1].lower
            paths.append(Path(_without_repeats(points), wires, self._is_box(last)))
        return LevelPlan(
            {item: rectangles[number] for number, item in enumerate(self.items)},
            paths,
            min((rectangle.left for rectangle in rectangles), default=0.0),
            max((rectangle.right for rectangle in rectangles), default=0.0),
            bottoms[-1] if bottoms else 0.0,
        )

    def _chains(self) -> list[list[_Strand]]:
        """Strands that follow each other without a branch, from top to bottom."""
        below: dict[int, list[_Strand]] = {}
        for strand in self.strands:
            below.setdefault(strand.upper, []).append(strand)

        def passes_through(vertex: int) -> bool:
            return self.columns[vertex].is_bend and len(below[vertex]) == 1

        chains = []
        for strand in self.strands:
            if passes_through(strand.upper):
                continue
            chain = [strand]
            while passes_through(chain[-1].lower):
                chain.append(below[chain[-1].lower][0])
            chains.append(chain)
        return chains

    def _is_solid(self, vertex: int) -> bool:
        """Whether a vertex is a box or a frame: wires pass through ports and bends."""
        return vertex < len(self.items) and not self.items[vertex].port

    def _is_box(self, vertex: int) -> bool:
        return vertex < len(self.items) and self.items[vertex].box >= 0

    def _layer_spans(self, centres: Sequence[float]) -> tuple[list[float], list[float]]:
        """Top and bottom of each layer. Gaps grow with the ways that wires go sideways: none runs flat or crowded."""
        layer_of = {vertex: index for index, layer in enumerate(self.layers) for vertex in layer}
        sideways = [0.0] * len(self.layers)
        crowd = [0.0] * len(self.layers)
        for strand in self.strands:
            way = abs(centres[strand.upper] + strand.exit - centres[strand.lower] - strand.entry)
            index = layer_of[strand.upper]
            sideways[index] = max(sideways[index], GAP_PER_SHIFT * way)
            crowd[index] += GAP_PER_LONG_SHIFT * (way > LONG_SHIFT)
        tops, bottoms, y = [], [], 0.0
        for index, layer in enumerate(self.layers):
            tops.append(y)
            y += max(self.heights[vertex] for vertex in layer)
            bottoms.append(y)
            y += min(LARGEST_GAP, SMALLEST_GAP + sideways[index] + crowd[index])
        return tops, bottoms

    def _rectangles(
        self, centres: Sequence[float], tops: Sequence[float], bottoms: Sequence[float], layer_of: Mapping[int, int]
    ) -> list[Rectangle]:
        """Every vertex in its layer: sources stand low, near their consumers, sinks high, the others in the middle."""
        has_strand_above = {strand.lower for strand in self.strands}
        has_strand_below = {strand.upper for strand in self.strands}
        rectangles = []
        for vertex, column in enumerate(self.columns):
            top, bottom = tops[layer_of[vertex]], bottoms[layer_of[vertex]]
            free = bottom - top - self.heights[vertex]
            if vertex not in has_strand_below:
                share = 0.0
            elif vertex not in has_strand_above:
                share = 1.0
            else:
                share = 0.5
            left = centres[vertex] - column.width / 2
            rectangles.append(Rectangle(left, top + share * free, column.width, self.heights[vertex]))
        return rectangles


def _entry_offsets(priorities: Sequence[int], width: float) -> list[float]:
    """Where strands enter a box: the one on the longest chain in the middle, so that the chain is straight."""
    count = len(priorities)
    spacing = min(ENTRY_SPACING, 0.8 * width / count)
    middle = (count - 1) / 2
    if priorities.count(max(priorities)) == 1:
        chosen = priorities.index(max(priorities))
        if max(chosen, count - 1 - chosen) * spacing <= 0.4 * width:
            middle = chosen
    return [(index - middle) * spacing for index in range(count)]


def _without_repeats(points: Sequence[tuple[float, float]]) -> tuple[tuple[float, float], ...]:
    kept = [points[0]]
    for x, y in points[1:]:
        if abs(x - kept[-1][0]) + abs(y - kept[-1][1]) > SAME_POINT:
            kept.append((x, y))
    return tuple(kept)


def _layers(items: Sequence[Item], edges: Sequence[Edge]) -> dict[Item, int]:
    """A layer for each item, with the entry ports alone in the first one and the exit ports alone in the last."""
    vertices: dict[Item | str, int] = {}
    for item in items:
        vertices.setdefault(item.port or item, len(vertices))
    inner = [number for vertex, number in vertices.items() if not isinstance(vertex, str)]
    border = []
    if "entry" in vertices:
        border += [(vertices["entry"], number) for number in inner]
    if "exit" in vertices:
        border += [(number, vertices["exit"]) for number in inner]
    numbered = [
        (vertices[edge.start.item.port or edge.start.item], vertices[edge.end.item.port or edge.end.item])
        for edge in edges
    ]
    layers = assign_layers(len(vertices), numbered, border)
    return {item: layers[vertices[item.port or item]] for item in items}
