"""Layered layout of boxes, wires and nested frames: pure geometry, it knows neither programs nor matplotlib.

Lengths are in points and y grows downward. Each frame is laid out by itself, innermost first; in the layout around it,
it is then one large vertex. A wire that crosses a frame's border does so at a port: a vertex on the border inside, an
offset on the large vertex outside. So no box can overlap a foreign frame, and no wire can run through a box: wires turn
only in the gaps between layers, and pass a layer vertically, in a column of their own.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from asgfn.plot.level import Edge, End, Item, LevelPlan, Path, Rectangle, Value, plan_level
from asgfn.records import record

FRAME_PADDING = 10.0
PORT_CLEARANCE = 6.0


class BoxSize(NamedTuple):
    """A box to place. `exits` are the offsets, from its centre, at which the wires of its outputs leave."""

    width: float
    height: float
    frame: int = -1
    exits: tuple[float, ...] = (0.0,)


class FrameSize(NamedTuple):
    """A frame around boxes and other frames, with room for its title. It comes after its parent; -1 is the page."""

    parent: int
    title_width: float
    title_height: float


class Wire(NamedTuple):
    """From an output of one box to another box. Wires that share source and output share their trunk."""

    source: int
    output: int
    target: int


@record
class Layout:
    """Where everything goes: a rectangle for each box, frame and frame's title, and the paths of the wires."""

    boxes: tuple[Rectangle, ...]
    frames: tuple[Rectangle, ...]
    titles: tuple[Rectangle, ...]
    paths: tuple[Path, ...]
    width: float
    height: float


def arrange(boxes: Sequence[BoxSize], wires: Sequence[Wire], frames: Sequence[FrameSize] = ()) -> Layout:
    """Place boxes in layers from top to bottom along their wires, each frame around its own boxes and frames only.

    Raises ValueError when the wires form a cycle, also between frames: `asgfn.plot.scopes` cuts scopes so that they
    do not.
    """
    levels = _split_into_levels(boxes, wires, frames)
    laid_out: dict[int, _Frame] = {}
    for index in [*range(len(frames) - 1, -1, -1), -1]:
        level = levels[index]
        sizes = {}
        for item in level.items:
            if item.frame >= 0:
                inner = laid_out[item.frame]
                sizes[item] = (inner.width, inner.height)
            elif item.box >= 0:
                sizes[item] = (boxes[item.box].width, boxes[item.box].height)
        exits = {end: _offset(end, boxes, laid_out, is_entry=False) for end in level.starts()}
        entries = {end: _offset(end, boxes, laid_out, is_entry=True) for end in level.ends()}
        title = (frames[index].title_width, frames[index].title_height) if index >= 0 else (0.0, 0.0)
        plan = plan_level(sizes, level.edges, exits, entries, border_height=title[1])
        laid_out[index] = _enclose(plan, title if index >= 0 else None)
    return _compose(len(boxes), len(frames), laid_out)


class _Level:
    """What lies directly inside a frame (or on the page): boxes, frames, ports on the border, and pieces of wires."""

    def __init__(self) -> None:
        self.items: list[Item] = []
        self.edges: list[Edge] = []
        self._ports: dict[tuple[End, End], Edge] = {}

    def connect(self, start: End, end: End, wire: int) -> None:
        """Add a piece of a wire. Pieces that end in the same port are one; each wire into a box stays its own."""
        edge = self._ports.get((start, end))
        if edge is None or end.item.box >= 0:
            edge = Edge(start, end, [])
            self.edges.append(edge)
            self._ports[start, end] = edge
        edge.wires.append(wire)

    def starts(self) -> set[End]:
        return {edge.start for edge in self.edges}

    def ends(self) -> set[End]:
        return {edge.end for edge in self.edges if edge.end.item.box < 0}


def _split_into_levels(
    boxes: Sequence[BoxSize], wires: Sequence[Wire], frames: Sequence[FrameSize]
) -> dict[int, _Level]:
    levels = {index: _Level() for index in range(-1, len(frames))}
    for index, frame in enumerate(frames):
        levels[frame.parent].items.append(Item(frame=index))
    for index, box in enumerate(boxes):
        levels[box.frame].items.append(Item(box=index))
    enclosing = {-1: [-1]}
    for index, frame in enumerate(frames):
        enclosing[index] = [index, *enclosing[frame.parent]]
    for number, wire in enumerate(wires):
        value = Value(wire.source, wire.output)
        outward, inward = enclosing[boxes[wire.source].frame], enclosing[boxes[wire.target].frame]
        shared = next(frame for frame in outward if frame in inward)
        start, end = End(Item(box=wire.source), value), End(Item(box=wire.target), value)
        for crossed in outward[: outward.index(shared)]:
            levels[crossed].connect(start, End(Item(port="exit", value=value), value), number)
            start = End(Item(frame=crossed), value)
        for crossed in inward[: inward.index(shared)]:
            levels[crossed].connect(End(Item(port="entry", value=value), value), end, number)
            end = End(Item(frame=crossed), value)
        levels[shared].connect(start, end, number)
    return levels


@record
class _Frame:
    """A finished level in coordinates of its own, from its top left corner."""

    rectangles: dict[Item, Rectangle]
    paths: list[Path]
    title: Rectangle
    width: float
    height: float

    def port(self, value: Value, *, is_entry: bool) -> float:
        """Where a value crosses the border: its horizontal offset from the frame's centre."""
        port = Item(port="entry" if is_entry else "exit", value=value)
        return self.rectangles[port].centre[0] - self.width / 2


def _offset(end: End, boxes: Sequence[BoxSize], frames: dict[int, _Frame], *, is_entry: bool) -> float:
    if end.item.frame >= 0:
        return frames[end.item.frame].port(end.value, is_entry=is_entry)
    if end.item.box >= 0:
        return boxes[end.item.box].exits[end.value.output]
    return 0.0


def _enclose(plan: LevelPlan, title: tuple[float, float] | None) -> _Frame:
    """Draw the border around a level: none on the page, else with padding and a title that no wire crosses."""
    left, right, down = plan.left, plan.right, 0.0
    title_left = title_width = title_height = 0.0
    height = plan.height
    if title is not None:
        title_width, title_height = title
        left, right = left - FRAME_PADDING, right + FRAME_PADDING
        entries = sorted(rectangle.centre[0] for item, rectangle in plan.rectangles.items() if item.port == "entry")
        title_left, left, right = _fit_title(title_width, left, right, entries)
        if not entries:
            down = title_height + FRAME_PADDING / 2
            height += down
        if not any(item.port == "exit" for item in plan.rectangles):
            height += FRAME_PADDING
    return _Frame(
        {
            item: rectangle.moved(-left, 0 if item.port == "entry" else down)
            for item, rectangle in plan.rectangles.items()
        },
        [path.moved(-left, down) for path in plan.paths],
        Rectangle(title_left - left, 0, title_width, title_height),
        right - left,
        height,
    )


def _fit_title(width: float, left: float, right: float, ports: Sequence[float]) -> tuple[float, float, float]:
    """The title's left end between two ports, as far left as it fits, and the borders, moved if it fits nowhere."""
    right = max(right, left + width)
    start = left
    for port in ports:
        if start + width <= port - PORT_CLEARANCE:
            return start, left, right
        start = port + PORT_CLEARANCE
    if start + width <= right:
        return start, left, right
    left = ports[0] - PORT_CLEARANCE - width
    return left, left, right


def _compose(box_count: int, frame_count: int, levels: dict[int, _Frame]) -> Layout:
    """Move every level to its place on the page; frames come after their parents."""
    nothing = Rectangle(0, 0, 0, 0)
    boxes, frames, titles = [nothing] * box_count, [nothing] * frame_count, [nothing] * frame_count
    paths: list[Path] = []
    for index in range(-1, frame_count):
        level = levels[index]
        x, y = (frames[index].left, frames[index].top) if index >= 0 else (0.0, 0.0)
        for item, rectangle in level.rectangles.items():
            if item.frame >= 0:
                frames[item.frame] = rectangle.moved(x, y)
            elif item.box >= 0:
                boxes[item.box] = rectangle.moved(x, y)
        paths.extend(path.moved(x, y) for path in level.paths)
        if index >= 0:
            titles[index] = level.title.moved(x, y)
    page = levels[-1]
    return Layout(tuple(boxes), tuple(frames), tuple(titles), tuple(paths), page.width, page.height)
