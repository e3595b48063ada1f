"""Which boxes and wires of a picture stand out."""

from __future__ import annotations

import operator
from collections.abc import Iterable, Sequence
from typing import Any

from asgfn.plot.diagram import Diagram
from asgfn.records import record


@record
class Path:
    """Every way from one place of a graph to another, for `graph(..., highlight=Path(start, end))`.

    Attributes:
        start, end: the index of a node, or the name of an input such as `"params['w']"`.
    """

    start: int | str
    end: int | str


@record
class Highlight:
    boxes: frozenset[int] = frozenset()
    wires: frozenset[int] = frozenset()


def find_highlight(diagram: Diagram, wanted: Any, known_inputs: Sequence[str], node_count: int) -> Highlight:
    """The boxes and wires that `wanted` means.

    Arguments:
        wanted: None, a node index or an input's name, several of them (these nodes with all their wires), or a `Path`
            (the nodes and wires of every way between its ends).

    Raises:
        IndexError: for a node that does not exist.
        ValueError: for an unknown input, or a path between nodes that no way connects.
        TypeError: for anything else.
    """
    if wanted is None:
        return Highlight()
    if isinstance(wanted, Path):
        return _ways_between(diagram, wanted, known_inputs, node_count)
    if isinstance(wanted, str) or not isinstance(wanted, Iterable):
        wanted = [wanted]
    chosen: set[int] = set()
    for reference in wanted:
        chosen |= _boxes_of(diagram, reference, known_inputs, node_count)
    wires = (number for number, wire in enumerate(diagram.wires) if wire.source in chosen or wire.target in chosen)
    return Highlight(frozenset(chosen), frozenset(wires))


def _boxes_of(diagram: Diagram, reference: Any, known_inputs: Sequence[str], node_count: int) -> set[int]:
    """The boxes that stand for a node or an input; none when the picture leaves it out."""
    if isinstance(reference, str):
        if reference not in known_inputs:
            names = ", ".join(map(repr, known_inputs[:20]))
            raise ValueError(f"graph: no input is named {reference!r}; inputs of this graph: {names}")
        return {number for number, box in enumerate(diagram.boxes) if reference in box.arguments}
    try:
        index = operator.index(reference)
    except TypeError:
        raise TypeError(
            f"graph: highlight takes node indices, names of inputs or asgfn.plot.Path(start, end), got {reference!r}"
        ) from None
    if not 0 <= index < node_count:
        raise IndexError(f"graph: highlight of node {index}, but the nodes are 0 to {node_count - 1}")
    return {number for number, box in enumerate(diagram.boxes) if index in box.nodes}


def _ways_between(diagram: Diagram, path: Path, known_inputs: Sequence[str], node_count: int) -> Highlight:
    start = _boxes_of(diagram, path.start, known_inputs, node_count)
    end = _boxes_of(diagram, path.end, known_inputs, node_count)
    forward = [(wire.source, wire.target) for wire in diagram.wires]
    after = _reachable(start, forward)
    before = _reachable(end, [(target, source) for source, target in forward])
    boxes = after & before
    if not boxes and start and end:
        raise ValueError(f"graph: no path leads from {path.start!r} to {path.end!r}")
    wires = (number for number, ends in enumerate(forward) if boxes.issuperset(ends))
    return Highlight(frozenset(boxes), frozenset(wires))


def _reachable(start: set[int], edges: Sequence[tuple[int, int]]) -> set[int]:
    onward: dict[int, list[int]] = {}
    for tail, head in edges:
        onward.setdefault(tail, []).append(head)
    reached, waiting = set(start), list(start)
    while waiting:
        for head in onward.get(waiting.pop(), ()):
            if head not in reached:
                reached.add(head)
                waiting.append(head)
    return reached
