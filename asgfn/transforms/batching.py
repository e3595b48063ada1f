"""Vectorisation: every node is replaced by one that works on a whole batch."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any, NamedTuple

from asgfn.graph.asg import Asg, Node, inner_graphs
from asgfn.graph.caching import cached_by_graph
from asgfn.primitives.base import bdim_at_front
from asgfn.tracing import bind, trace_flat
from asgfn.transforms.forward import no_rule
from asgfn.transforms.interpret import constant_arrays, node_contexts


class MappedAxis(NamedTuple):
    """The axis that is being mapped: its name (for collectives; None if it has none) and its length."""

    name: Hashable
    size: int


def _names_axis(node: Node, axis: MappedAxis) -> bool:
    """Whether a node, or a graph that it holds, refers to the mapped axis by name."""
    if axis.name is None:
        return False
    if axis.name in node.params.get("axis_names", ()):
        return True
    return node.primitive.holds_graphs and any(axis.name in g.axis_names for g in inner_graphs(node.params))


def batch_run(
    asg: Asg, args: Sequence[Any], dims: Sequence[int | None], axis: MappedAxis
) -> tuple[list[Any], list[int | None]]:
    """Applies a graph to arguments of which some have an extra axis (at `dims`). Returns outputs and their extra axes."""
    env: list[Any] = [*args, *constant_arrays(asg)]
    at: list[int | None] = [*dims, *([None] * len(asg.constants))]
    dead_after = asg.dead_after
    with node_contexts() as enter:
        for index, node in enumerate(asg.nodes):
            enter(node)
            prim = node.primitive
            operands = [env[i] for i in node.inputs]
            operand_dims = [at[i] for i in node.inputs]
            out_dims: Any
            named = _names_axis(node, axis)
            if not named and all(d is None for d in operand_dims):
                out = bind(prim, *operands, **node.params)
                out_dims = (None,) * len(node.out_types) if prim.multiple_results else None
            elif prim.axis_batch is not None:
                out, out_dims = prim.axis_batch(axis, operands, operand_dims, **node.params)
            elif prim.batch is not None:
                out, out_dims = prim.batch(operands, operand_dims, **node.params)
            else:
                raise no_rule(node, "batching (vmap)")
            if prim.multiple_results:
                env.extend(out)
                at.extend(out_dims)
            else:
                env.append(out)
                at.append(out_dims)
            for i in dead_after[index]:
                env[i] = None
    return [env[i] for i in asg.outputs], [at[i] for i in asg.outputs]


@cached_by_graph(1024)
def batch_graph(
    asg: Asg, batched: tuple[bool, ...], axis: MappedAxis, force: tuple[bool, ...] | None = None
) -> tuple[Asg, tuple[bool, ...]]:
    """The graph that applies another to a batch.

    Arguments:
        batched: which inputs have the extra axis; it is their first.
        force: which outputs must have it, by repetition if need be.

    Returns:
        the graph, and which outputs have the extra axis (their first).
    """
    out_batched: tuple[bool, ...] = ()

    def rewritten(*args: Any) -> list[Any]:
        nonlocal out_batched
        outs, dims = batch_run(asg, args, [0 if b else None for b in batched], axis)
        out_batched = tuple(d is not None or (force is not None and force[i]) for i, d in enumerate(dims))
        return [bdim_at_front(o, d, axis.size) if b else o for o, d, b in zip(outs, dims, out_batched, strict=True)]

    types = [t.update(shape=(axis.size, *t.shape)) if b else t for t, b in zip(asg.inputs, batched, strict=True)]
    graph, _ = trace_flat(rewritten, types, name=f"vmap({asg.name})", input_names=asg.input_names, why="vmap")
    return graph, out_batched


def batch_fixpoint(
    asg: Asg, batched: Sequence[bool], axis: MappedAxis, carry_in: slice, carry_out: slice
) -> tuple[Asg, tuple[bool, ...], tuple[bool, ...]]:
    """Batches a loop body so that its carry stays consistent: a carry that comes out batched must go in batched.

    Returns:
        the graph, which inputs are batched, which outputs are.
    """
    mask = list(batched)
    n_out = len(asg.outputs)
    while True:
        force = [False] * n_out
        force[carry_out] = mask[carry_in]
        graph, out = batch_graph(asg, tuple(mask), axis, tuple(force))
        if list(out[carry_out]) == mask[carry_in]:
            return graph, tuple(mask), out
        mask[carry_in] = [a or b for a, b in zip(mask[carry_in], out[carry_out], strict=True)]
