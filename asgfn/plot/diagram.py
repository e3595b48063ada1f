"""A graph as boxes and wires: what a picture shows, before it is laid out and drawn."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from asgfn.graph import Asg
from asgfn.plot import labels
from asgfn.plot.layout import Wire
from asgfn.records import record, replace


@record
class Box:
    """One box of a picture.

    Attributes:
        kind: "input", "constant", "node", "output", "scope" (collapsed) or "more" (left out).
        category: decides the colour.
        name: the large line.
        details: small lines below it.
        tags: a type for each output, written where its wires leave.
        scope: the name scope of the operation, "a/b".
        nodes: indices of the graph's nodes that the box stands for.
        arguments: the full paths of the inputs that it stands for.
        holds_graphs: whether the box stands for more than one operation.
    """

    kind: str
    category: str
    name: str
    details: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    scope: str = ""
    nodes: tuple[int, ...] = ()
    arguments: tuple[str, ...] = ()
    holds_graphs: bool = False

    @property
    def is_source(self) -> bool:
        return self.kind in ("input", "constant")


@record
class Diagram:
    """Boxes in an order in which wires lead forward, and remarks for the picture's header."""

    boxes: tuple[Box, ...]
    wires: tuple[Wire, ...]
    notes: tuple[str, ...] = ()


def diagram_of(
    asg: Asg,
    *,
    origins: Sequence[int] | None = None,
    show_constants: bool = True,
    show_indices: bool = False,
) -> Diagram:
    """A box for each input, constant, node and output; scalar constants get a box at each of their uses.

    `origins[i]` is the index by which the user knows node i (calls may have been expanded).
    """
    boxes: list[Box] = []
    wires: list[Wire] = []
    # For each value, how to reach it: the box and output that make it, called once a use.
    makers: list[Callable[[], tuple[int, int] | None]] = []

    def add(box: Box) -> int:
        boxes.append(box)
        return len(boxes) - 1

    def connect(value: int, target: int) -> None:
        maker = makers[value]()
        if maker is not None:
            wires.append(Wire(*maker, target))

    for name, array_type in zip(asg.input_names, asg.inputs, strict=True):
        tags = (labels.type_tag(array_type),)
        makers.append(_fixed(add(Box("input", "input", labels.from_the_right(name), tags=tags, arguments=(name,))), 0))
    for constant, array_type in zip(asg.constants, asg.constant_types, strict=True):
        box = Box("constant", "constant", labels.constant_name(constant))
        if not show_constants:
            makers.append(_absent)
        elif constant.ndim == 0:
            makers.append(_fresh(add, box))
        else:
            makers.append(_fixed(add(replace(box, tags=(labels.type_tag(array_type),))), 0))
    for index, node in enumerate(asg.nodes):
        known_as = index if origins is None else origins[index]
        details = labels.node_details(node)
        if show_indices:
            details += (f"node {known_as}",)
        number = add(
            Box(
                "node",
                node.primitive.category,
                labels.from_the_left(node.primitive.name, labels.LONGEST_NAME),
                details,
                tuple(map(labels.type_tag, node.out_types)),
                node.scope,
                (known_as,),
                holds_graphs=bool(labels.inner_graphs(node.params)),
            )
        )
        for value in node.inputs:
            connect(value, number)
        makers.extend(_fixed(number, output) for output in range(len(node.out_types)))
    for value, name in zip(asg.outputs, labels.output_names(asg), strict=True):
        connect(value, add(Box("output", "output", name)))
    return in_order(Diagram(tuple(boxes), tuple(wires)))


def in_order(diagram: Diagram) -> Diagram:
    """The same diagram with sources first: boxes made late for constants move to the front."""
    order = sorted(range(len(diagram.boxes)), key=lambda number: not diagram.boxes[number].is_source)
    return select(diagram, order)


def select(diagram: Diagram, kept: Sequence[int]) -> Diagram:
    """The diagram of some boxes, in the given order, and the wires between them."""
    place = {number: index for index, number in enumerate(kept)}
    wires = (
        Wire(place[wire.source], wire.output, place[wire.target])
        for wire in diagram.wires
        if wire.source in place and wire.target in place
    )
    return replace(diagram, boxes=tuple(diagram.boxes[number] for number in kept), wires=tuple(wires))


def _absent() -> None:
    return None


def _fixed(box: int, output: int) -> Callable[[], tuple[int, int]]:
    return lambda: (box, output)


def _fresh(add: Callable[[Box], int], box: Box) -> Callable[[], tuple[int, int]]:
    return lambda: (add(box), 0)
