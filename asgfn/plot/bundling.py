"""Fewer lines around collapsed scopes: values that go the same way share one wire, leaves of a pytree one box."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from itertools import takewhile

from asgfn.plot import labels
from asgfn.plot.diagram import Box, Diagram
from asgfn.plot.layout import Wire
from asgfn.plot.scopes import Grouping
from asgfn.records import replace

SMALLEST_BUNDLE = 3


def bundled(diagram: Diagram, grouping: Grouping) -> tuple[Diagram, Grouping]:
    """Where at least three of them lead between the same boxes, one of them a collapsed scope:

    * inputs that only collapsed scopes read become one box,
    * so do outputs that one collapsed scope makes,
    * values that leave a collapsed scope become one wire.
    """
    diagram, grouping = _with_merged_boxes(diagram, grouping)
    return _with_merged_exits(diagram), grouping


def _with_merged_boxes(diagram: Diagram, grouping: Grouping) -> tuple[Diagram, Grouping]:
    makers: dict[int, set[int]] = {}
    readers: dict[int, set[int]] = {}
    for wire in diagram.wires:
        makers.setdefault(wire.target, set()).add(wire.source)
        readers.setdefault(wire.source, set()).add(wire.target)

    def way(number: int) -> Hashable:
        """What a box must share with others to become one with them; None for boxes that stay."""
        box = diagram.boxes[number]
        if box.kind not in ("input", "output"):
            return None
        others = (readers if box.kind == "input" else makers).get(number, set())
        if not others or any(diagram.boxes[other].kind != "scope" for other in others):
            return None
        return box.kind, frozenset(others)

    groups = _alike(range(len(diagram.boxes)), way)
    boxes: list[Box] = []
    scope_of: list[int] = []
    place: dict[int, int] = {}
    for group in groups:
        for number in group:
            place[number] = len(boxes)
        boxes.append(_merged([diagram.boxes[number] for number in group]))
        scope_of.append(grouping.scope_of[group[0]])
    merged = {place[group[0]] for group in groups if len(group) > 1}
    wires: list[Wire] = []
    seen: set[Wire] = set()
    for source, output, target in diagram.wires:
        wire = Wire(place[source], output, place[target])
        if wire.source not in merged or wire not in seen:
            wires.append(wire)
        seen.add(wire)
    return replace(diagram, boxes=tuple(boxes), wires=tuple(wires)), replace(grouping, scope_of=tuple(scope_of))


def _with_merged_exits(diagram: Diagram) -> Diagram:
    targets: dict[tuple[int, int], list[int]] = {}
    for wire in diagram.wires:
        targets.setdefault((wire.source, wire.output), []).append(wire.target)
    boxes = list(diagram.boxes)
    exits: dict[tuple[int, int], tuple[int, bool]] = {}
    for number, box in enumerate(diagram.boxes):
        if box.kind != "scope":
            continue
        ways = [tuple(targets.get((number, output), ())) for output in range(len(box.tags))]
        groups = _alike(range(len(box.tags)), ways.__getitem__)
        tags = [box.tags[group[0]] if len(group) == 1 else f"{len(group)} values" for group in groups]
        boxes[number] = replace(box, tags=tuple(tags))
        for index, group in enumerate(groups):
            exits.update({(number, output): (index, len(group) > 1) for output in group})
    wires: list[Wire] = []
    seen: set[Wire] = set()
    for wire in diagram.wires:
        output, is_bundle = exits.get((wire.source, wire.output), (wire.output, False))
        new = wire._replace(output=output)
        if not is_bundle or new not in seen:
            wires.append(new)
        seen.add(new)
    return replace(diagram, boxes=tuple(boxes), wires=tuple(wires))


def _alike(numbers: Iterable[int], key: Callable[[int], Hashable]) -> list[list[int]]:
    """The numbers, grouped where at least three have the same key other than None; in the order of first members."""
    members: dict[Hashable, list[int]] = {}
    keys = {}
    for number in numbers:
        keys[number] = key(number)
        members.setdefault(keys[number], []).append(number)
    groups = []
    for number, own in keys.items():
        group = members[own]
        if own is None or len(group) < SMALLEST_BUNDLE:
            groups.append([number])
        elif number == group[0]:
            groups.append(group)
    return groups


def _shared_start(names: Sequence[str]) -> str:
    same = takewhile(lambda letters: len(set(letters)) == 1, zip(*names, strict=False))
    return "".join(letters[0] for letters in same)


def _merged(boxes: Sequence[Box]) -> Box:
    if len(boxes) == 1:
        return boxes[0]
    first = boxes[0]
    arguments = [argument for box in boxes for argument in box.arguments]
    prefix = _shared_start(arguments).rstrip("['.")
    return replace(
        first,
        name=f"{len(boxes)} {first.kind}s",
        details=(labels.from_the_right(prefix, labels.LONGEST_DETAIL),) if prefix else (),
        tags=(f"{len(boxes)} values",) if first.kind == "input" else (),
        arguments=tuple(arguments),
    )
