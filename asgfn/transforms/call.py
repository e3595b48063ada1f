"""`jit_p`: a node that calls another graph. It keeps the structure of the user's program until `simplify` inlines it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from asgfn.errors import GraphError
from asgfn.graph.asg import Asg
from asgfn.graph.types import ArrayType
from asgfn.primitives.base import Primitive, Zero, is_linear, is_zero, move_batch_axis, primitive, tangent_type
from asgfn.transforms.batching import MappedAxis, batch_graph
from asgfn.transforms.forward import jvp_graph
from asgfn.transforms.linear import linearize_graph, transpose_graph


def call_type(*types: ArrayType, asg: Asg, **params: Any) -> tuple[ArrayType, ...]:
    """The type rule of every primitive that calls one graph with its operands."""
    if len(types) != len(asg.inputs) or any(
        a.shape != b.shape or a.dtype != b.dtype for a, b in zip(types, asg.inputs, strict=True)
    ):
        raise GraphError(
            f"call of {asg.name or 'a graph'}: it takes ({', '.join(map(str, asg.inputs))}) but got ({', '.join(map(str, types))})"
        )
    return asg.out_types


def spread(values: Sequence[Any], present: Sequence[bool], types: Sequence[ArrayType]) -> tuple:
    """Tangents with `Zero` put back where there is none."""
    given = iter(values)
    return tuple(next(given) if p else Zero(tangent_type(t)) for p, t in zip(present, types, strict=True))


def call_rules(name: str, derivative: str | None = None) -> dict[str, Any]:
    """The rules of a primitive that calls one graph: each applies the transform to the graph and calls the result.

    Arguments:
        name: of the primitive, which calls batched graphs too.
        derivative: of the primitive that calls derived graphs, if that is another one; it gets the call's name alone.
    """

    def call_derived(*operands: Any, asg: Asg, **params: Any) -> Any:
        if derivative is not None:
            return primitive(derivative).bind(*operands, asg=asg, name=params["name"])
        return primitive(name).bind(*operands, asg=asg, **params)

    def jvp(primals: Sequence[Any], tangents: Sequence[Any], *, asg: Asg, **params: Any) -> tuple:
        nonzero = tuple(not is_zero(t) for t in tangents)
        graph, present = jvp_graph(asg, nonzero)
        outs = call_derived(*primals, *(t for t in tangents if not is_zero(t)), asg=graph, **params)
        n = len(asg.outputs)
        return outs[:n], spread(outs[n:], present, asg.out_types)

    def linearize(primals: Sequence[Any], tangents: Sequence[Any], *, asg: Asg, **params: Any) -> tuple:
        nonzero = tuple(not is_zero(t) for t in tangents)
        known, linear, present = linearize_graph(asg, nonzero)
        outs = call_derived(*primals, asg=known, **params)
        n = len(asg.outputs)
        moved: Sequence[Any] = ()
        if linear.outputs:
            given = (t for t in tangents if not is_zero(t))
            moved = call_derived(*given, *outs[n:], asg=linear, **params)
        return outs[:n], spread(moved, present, asg.out_types)

    def transpose(cts: Sequence[Any], *operands: Any, asg: Asg, **params: Any) -> list:
        linear = tuple(is_linear(x) for x in operands)
        graph, present = transpose_graph(asg, linear, tuple(not is_zero(ct) for ct in cts))
        plain = (x for x in operands if not is_linear(x))
        outs = iter(call_derived(*plain, *(ct for ct in cts if not is_zero(ct)), asg=graph, **params))
        found = iter([next(outs) if p else None for p in present])
        return [next(found) if lin else None for lin in linear]

    def axis_batch(
        axis: MappedAxis, args: Sequence[Any], dims: Sequence[int | None], *, asg: Asg, **params: Any
    ) -> tuple:
        graph, batched = batch_graph(asg, tuple(d is not None for d in dims), axis)
        moved = [x if d is None else move_batch_axis(x, d, 0) for x, d in zip(args, dims, strict=True)]
        return primitive(name).bind(*moved, asg=graph, **params), tuple(0 if b else None for b in batched)

    return {"jvp": jvp, "linearize": linearize, "transpose": transpose, "axis_batch": axis_batch}


jit_p = Primitive(
    "jit",
    category="call",
    type_rule=call_type,
    **call_rules("jit"),
    multiple_results=True,
    holds_graphs=True,
    what="Calls a function that was traced on its own.",
    formula="y = f(x)",
    why="Keeps a program's parts recognisable; a jitted function called by another.",
)
