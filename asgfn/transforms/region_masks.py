"""Masks that can be had from what is in memory anyway.

``relu(x)`` is ``where(x <= 0, 0, x)``, and its derivative needs the mask ``x <= 0`` long after. The mask of the result is
the same, ``relu(x) <= 0``, and the result is in memory if a contraction or another kernel of its own reads it. So the mask
is taken from there instead of being stored; unless x itself is little work from one array that is in memory (a
normalisation's operand).
"""

from __future__ import annotations

from collections.abc import Sequence

from asgfn.graph.asg import Asg, Node
from asgfn.graph.edit import GraphBuilder
from asgfn.transforms.region_roles import CONTRACTION, ELEMENTWISE, LOAD_COST, OPAQUE, REDUCTION, VIEW, cost_of, role_of

# a value that is so much smaller than another costs nothing to load next to it
SMALL = 64


def with_masks_of_results(asg: Asg) -> Asg:
    """The graph in which masks ``x <= c`` are those of ``where(x <= c, c, x)``, for whoever reads them later, where this is
    stored. The two are equal for all x and c, NaN included."""
    masks: dict[int, Node] = {}  # the mask of each such `where`
    for index, node in enumerate(asg.nodes):
        mask = _mask_of(asg, node)
        if mask is None or len(asg.users[node.inputs[0]]) < 2:
            continue
        if _is_read(asg, asg.first_outputs[index], (CONTRACTION, OPAQUE)) and not _is_cheap(asg, node.inputs[1]):
            masks[index] = mask
    if not masks:
        return asg
    builder = GraphBuilder(asg.inputs, asg.constants, asg.constant_types)
    new = list(range(len(asg.inputs) + len(asg.constants)))
    outputs = set(asg.outputs)
    for index, node in enumerate(asg.nodes):
        (*made,) = builder.add(node, [new[i] for i in node.inputs])
        new += made
        if index in masks and node.inputs[0] not in outputs:
            again = masks[index]
            (new[node.inputs[0]],) = builder.add(again, [made[0], new[again.inputs[1]]])
    labels = {k: getattr(asg, k) for k in ("name", "input_names", "in_tree", "out_tree")}
    return builder.build([new[i] for i in asg.outputs], **labels)


def _mask_of(asg: Asg, node: Node) -> Node | None:
    """The mask x <= c, if a node is where(x <= c, c, x)."""
    if node.primitive.name != "select_n" or len(node.inputs) != 3:
        return None
    which, x, c = node.inputs
    maker = asg.producers[which]
    if maker < 0:
        return None
    mask = asg.nodes[maker]
    return mask if mask.primitive.name == "le" and mask.inputs == (x, c) else None


def _is_read(asg: Asg, value: int, roles: Sequence[str]) -> bool:
    """Whether a value is a result of the program, or some operation of these roles reads it."""
    return value in asg.outputs or any(_role(asg, reader) in roles for reader in asg.users[value])


def _role(asg: Asg, index: int) -> str:
    node, types = asg.nodes[index], asg.value_types
    return role_of(node, [types[i] for i in node.inputs])


def _is_cheap(asg: Asg, value: int) -> bool:
    """Whether a value is little work from one array that is in memory, and from much smaller ones."""
    size = asg.value_types[value].size
    sources: set[int] = set()
    cost = 0
    stack, seen = [value], {value}
    while stack and cost <= LOAD_COST:
        v = stack.pop()
        maker = asg.producers[v]
        if maker >= 0 and _role(asg, maker) in (ELEMENTWISE, VIEW):
            cost += cost_of(asg.nodes[maker])
            inputs = {i for i in asg.nodes[maker].inputs if asg.value_types[i].size * SMALL > size} - seen
            seen |= inputs
            stack += inputs
        else:
            sources.add(v)
    if cost > LOAD_COST or len(sources) != 1:
        return False
    (source,) = sources
    return asg.producers[source] < 0 or _is_read(asg, source, (REDUCTION, CONTRACTION, OPAQUE))
