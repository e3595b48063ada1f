"""A part of a diagram: what lies within a few steps of one node."""

from __future__ import annotations

import operator
from typing import Any

from asgfn.plot import labels
from asgfn.plot.diagram import Box, Diagram, in_order, select
from asgfn.plot.layout import Wire

DEFAULT_RADIUS = 2


def restrict(diagram: Diagram, neighbourhood: Any, node_count: int) -> Diagram:
    """Keep the boxes that at most `radius` wires, followed in either direction, separate from a node.

    What is left out leaves a trace: a faint box stands for each value that comes from outside and, once a box, for
    the readers outside.

    Arguments:
        neighbourhood: a node's index, or `(index, radius)`.
        node_count: the number of nodes of the graph.

    Raises:
        ValueError: when it is something else, or the radius is negative.
        IndexError: when there is no such node.
    """
    index, radius = _parse(neighbourhood)
    if not 0 <= index < node_count:
        raise IndexError(f"graph: neighbourhood of node {index}, but the nodes are 0 to {node_count - 1}")
    near = {number for number, box in enumerate(diagram.boxes) if index in box.nodes}
    frontier = set(near)
    for _ in range(radius):
        reached = {wire.target for wire in diagram.wires if wire.source in frontier}
        reached |= {wire.source for wire in diagram.wires if wire.target in frontier}
        frontier = reached - near
        near |= frontier
    kept = sorted(near)
    part = select(diagram, kept)
    place = {number: index for index, number in enumerate(kept)}

    boxes, wires = list(part.boxes), list(part.wires)
    outside_makers: dict[tuple[int, int], int] = {}
    readers: dict[int, set[int]] = {}
    for wire in diagram.wires:
        if wire.source in near and wire.target not in near:
            readers.setdefault(wire.source, set()).add(wire.target)
        if wire.target in near and wire.source not in near:
            maker = diagram.boxes[wire.source]
            if (wire.source, wire.output) not in outside_makers:
                outside_makers[wire.source, wire.output] = len(boxes)
                tags = maker.tags[wire.output : wire.output + 1]
                boxes.append(Box("more", "", f"… {maker.name}", tags=tags))
            wires.append(Wire(outside_makers[wire.source, wire.output], 0, place[wire.target]))
    for number, targets in readers.items():
        wires.append(Wire(place[number], 0, len(boxes)))
        boxes.append(Box("more", "", f"{len(targets)} more …"))
    shown = sum(box.kind == "node" for box in part.boxes)
    note = f"node {index} and what is within {radius} of it: {shown:,} of {labels.operations(node_count)}"
    return in_order(Diagram(tuple(boxes), tuple(wires), (*diagram.notes, note)))


def _parse(neighbourhood: Any) -> tuple[int, int]:
    pair = neighbourhood if isinstance(neighbourhood, tuple | list) else (neighbourhood, DEFAULT_RADIUS)
    try:
        index, radius = map(operator.index, pair)
    except (TypeError, ValueError):
        raise ValueError(
            f"graph: neighbourhood must be a node's index or (index, radius), got {neighbourhood!r}"
        ) from None
    if radius < 0:
        raise ValueError(f"graph: the radius of a neighbourhood must be at least 0, got {radius}")
    return index, radius
