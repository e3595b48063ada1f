"""Running a graph node by node: the loop that every transform is a variation of."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from asgfn.graph.asg import Asg, Node
from asgfn.tracing import bind, concrete, state


def constant_arrays(asg: Asg) -> list[Any]:
    """The graph's constants as arrays; the same objects every time, so that a trace captures each once."""
    found = asg.__dict__.get("_constant_arrays")
    if found is None:
        found = [concrete(c, t) for c, t in zip(asg.constants, asg.constant_types, strict=True)]
        asg.__dict__["_constant_arrays"] = found
    return found


@contextmanager
def node_contexts(suffix: str = "") -> Iterator[Any]:
    """Gives a function that is told each node before it is rewritten: what is recorded then belongs to the node's
    scope and to the user's line that made it."""
    scope, source = state.scope, state.source

    def enter(node: Node) -> None:
        inner = node.scope
        state.scope = f"{scope}/{inner}" if scope and inner else scope or inner
        if node.source is not None:
            state.source = node.source

    try:
        yield enter
    finally:
        state.scope, state.source = scope, source


def run(asg: Asg, args: Sequence[Any]) -> list[Any]:
    """Applies a graph to arrays or tracers: evaluates it, or records its nodes on whatever is being traced."""
    env: list[Any] = [*args, *constant_arrays(asg)]
    dead_after = asg.dead_after
    with node_contexts() as enter:
        for index, node in enumerate(asg.nodes):
            enter(node)
            out = bind(node.primitive, *[env[i] for i in node.inputs], **node.params)
            if node.primitive.multiple_results:
                env.extend(out)
            else:
                env.append(out)
            for i in dead_after[index]:
                env[i] = None
    return [env[i] for i in asg.outputs]
