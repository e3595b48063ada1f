"""Calls of inner graphs replaced by what they hold, so that a picture can show it."""

from __future__ import annotations

from asgfn.graph import Asg, Node, inner_graphs


def inline_calls(asg: Asg) -> tuple[Asg, list[int]]:
    """The graph with every plain call (a `jit` inside a `jit`, ...) replaced by the nodes of the graph that it holds,
    in a scope of the inner graph's name; and for every node of the result the index of the node that it came from.

    Loops and branches stay: their bodies do not run exactly once.
    """
    origins = list(range(len(asg.nodes)))
    while any(_is_plain_call(node) for node in asg.nodes):
        asg, origins = _inline_once(asg, origins)
    return asg, origins


def _is_plain_call(node: Node) -> bool:
    graphs = inner_graphs(node.params)
    return node.primitive.category == "call" and len(graphs) == 1 and len(graphs[0].inputs) == len(node.inputs)


def _inline_once(asg: Asg, origins: list[int]) -> tuple[Asg, list[int]]:
    constants, constant_types = list(asg.constants), list(asg.constant_types)
    called = {index: inner_graphs(node.params)[0] for index, node in enumerate(asg.nodes) if _is_plain_call(node)}
    constants_of: dict[int, range] = {}
    for index, inner in called.items():
        start = len(asg.inputs) + len(constants)
        constants_of[index] = range(start, start + len(inner.constants))
        constants.extend(inner.constants)
        constant_types.extend(inner.constant_types)

    new_id = list(range(len(asg.inputs) + len(asg.constants)))
    nodes: list[Node] = []
    new_origins: list[int] = []
    next_id = len(asg.inputs) + len(constants)
    for index, node in enumerate(asg.nodes):
        inputs = tuple(new_id[value] for value in node.inputs)
        if index not in called:
            nodes.append(node._replace(inputs=inputs))
            new_origins.append(origins[index])
            new_id.extend(range(next_id, next_id + len(node.out_types)))
            next_id += len(node.out_types)
            continue
        inner = called[index]
        inner_id = [*inputs, *constants_of[index]]
        scope = _join(node.scope, inner.name or node.primitive.name)
        for held in inner.nodes:
            nodes.append(
                held._replace(inputs=tuple(inner_id[value] for value in held.inputs), scope=_join(scope, held.scope))
            )
            new_origins.append(origins[index])
            inner_id.extend(range(next_id, next_id + len(held.out_types)))
            next_id += len(held.out_types)
        new_id.extend(inner_id[value] for value in inner.outputs)
    expanded = asg.replace(
        constants=constants,
        constant_types=constant_types,
        nodes=nodes,
        outputs=tuple(new_id[value] for value in asg.outputs),
    )
    return expanded, new_origins


def _join(outer: str, inner: str) -> str:
    return "/".join(part for part in (outer, inner) if part)
