"""Forward mode: each node is followed by its derivative applied to the tangents of its operands."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from asgfn.errors import TransformError
from asgfn.graph.asg import Asg, Node
from asgfn.graph.caching import cached_by_graph
from asgfn.primitives.base import Zero, instantiate_zeros, tangent_type
from asgfn.tracing import bind, trace_flat
from asgfn.transforms.interpret import constant_arrays, node_contexts

_ZERO = frozenset({Zero})


def jvp_run(
    asg: Asg, primals: Sequence[Any], tangents: Sequence[Any], *, split: bool = False
) -> tuple[list[Any], list[Any]]:
    """Values and tangents of a graph's outputs.

    Arguments:
        tangents: one a primal; `Zero` where there is none.
        split: use the rules of primitives that hold graphs which keep apart what the tangents do not touch; for `linearize`.
    """
    values: list[Any] = [*primals, *constant_arrays(asg)]
    moving: list[Any] = [*tangents, *(Zero(tangent_type(t)) for t in asg.constant_types)]
    dead_after = asg.dead_after
    with node_contexts() as enter:
        for index, node in enumerate(asg.nodes):
            enter(node)
            prim = node.primitive
            args = [values[i] for i in node.inputs]
            ts = [moving[i] for i in node.inputs]
            if _ZERO.issuperset(map(type, ts)):
                out = bind(prim, *args, **node.params)
                if prim.multiple_results:
                    values.extend(out)
                else:
                    values.append(out)
                moving.extend([Zero(tangent_type(t)) for t in node.out_types])
            else:
                rule = prim.linearize if split and prim.linearize is not None else prim.jvp
                if rule is None:
                    raise no_rule(node, "derivative (jvp)")
                out, tangent = rule(args, ts, **node.params)
                if prim.multiple_results:
                    values.extend(out)
                    moving.extend(tangent)
                else:
                    values.append(out)
                    moving.append(tangent)
            for i in dead_after[index]:
                values[i] = moving[i] = None
    return [values[i] for i in asg.outputs], [moving[i] for i in asg.outputs]


def no_rule(node: Node, rule: str) -> TransformError:
    """The error for a primitive that lacks a rule."""
    where = f" at {node.source}" if node.source else ""
    return TransformError(
        f"{node.primitive.name} has no {rule} rule{where}. If the operation is yours, give it one with custom_jvp or custom_vjp; "
        "if no derivative is wanted there, use stop_gradient on its operands"
    )


@cached_by_graph(1024)
def jvp_graph(
    asg: Asg, nonzero: tuple[bool, ...], force: tuple[bool, ...] | None = None
) -> tuple[Asg, tuple[bool, ...]]:
    """The graph of a graph's forward derivative.

    Arguments:
        nonzero: which inputs have a tangent.
        force: which outputs must have one, zeros if need be.

    Returns:
        a graph from all primals and the tangents of the inputs so marked to all outputs and the tangents that exist, and
        which those are.
    """
    n = len(asg.inputs)
    out_nonzero: tuple[bool, ...] = ()

    def rewritten(*args: Any) -> list[Any]:
        nonlocal out_nonzero
        given = iter(args[n:])
        tangents = [next(given) if nz else Zero(tangent_type(t)) for nz, t in zip(nonzero, asg.inputs, strict=True)]
        outs, out_tangents = jvp_run(asg, args[:n], tangents)
        if force is not None:
            out_tangents = [instantiate_zeros(t) if f else t for t, f in zip(out_tangents, force, strict=True)]
        out_nonzero = tuple(type(t) is not Zero for t in out_tangents)
        return [*outs, *(t for t in out_tangents if type(t) is not Zero)]

    types = [*asg.inputs, *(tangent_type(t) for t, nz in zip(asg.inputs, nonzero, strict=True) if nz)]
    graph, _ = trace_flat(rewritten, types, name=f"jvp({asg.name})", why="jvp")
    return graph, out_nonzero
