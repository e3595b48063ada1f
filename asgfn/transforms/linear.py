"""Reverse mode in two steps: `linearize` splits a program into its values and a linear map of the tangents;
`transpose` turns that map around.

The split needs no analysis. The forward rules run with the tangents as tracers of a trace of their own, one level above
everything else. An operation on values alone goes where values live; an operation that touches a tangent lands in the
inner trace, and the values it uses are captured there: they are the residuals.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from asgfn import dtypes
from asgfn.errors import TransformError
from asgfn.graph.asg import Asg
from asgfn.graph.caching import cached_by_graph
from asgfn.primitives.base import Linear, Zero, add_tangents, instantiate_zeros, tangent_type
from asgfn.tracing import Trace, bind, trace_flat
from asgfn.tracing.trace import close_trace, open_trace
from asgfn.transforms.forward import jvp_run, no_rule
from asgfn.transforms.interpret import constant_arrays, node_contexts


def linearize_run(
    asg: Asg, primals: Sequence[Any], nonzero: Sequence[bool], force: Sequence[bool] | None = None
) -> tuple[list[Any], Asg, list[Any], tuple[bool, ...]]:
    """Evaluates a graph and finds its derivative there as a linear graph.

    Returns:
        the outputs; the linear graph, from the tangents of the inputs marked `nonzero` followed by the residuals to
        the tangents that exist; the residuals; which outputs have a tangent.
    """
    inner = Trace(staging=False, name=f"linear({asg.name})", why="linearize")
    saved = open_trace(inner)
    try:
        tangents = [
            inner.new_input(tangent_type(t)) if nz else Zero(tangent_type(t))
            for t, nz in zip(asg.inputs, nonzero, strict=True)
        ]
        outs, out_tangents = jvp_run(asg, primals, tangents, split=True)
        if force is not None:
            out_tangents = [instantiate_zeros(t) if f else t for t, f in zip(out_tangents, force, strict=True)]
        present = tuple(type(t) is not Zero for t in out_tangents)
        linear, residuals = inner.finish([t for t in out_tangents if type(t) is not Zero])
    finally:
        close_trace(inner, saved)
    return outs, linear, residuals, present


def transpose_run(asg: Asg, args: Sequence[Any], cts: Sequence[Any]) -> list[Any]:
    """Cotangents of a graph's linear inputs.

    Arguments:
        args: one an input: a value, or `Linear` for the inputs in which the graph is linear.
        cts: one an output; `Zero` or None where there is none.

    Returns:
        one an input: a cotangent, `Zero`, or None for inputs that are not linear.
    """
    env: list[Any] = [*args, *constant_arrays(asg)]
    linear_nodes = []
    with node_contexts() as enter:
        for node, first in zip(asg.nodes, asg.first_outputs, strict=True):
            operands = [env[i] for i in node.inputs]
            if Linear in map(type, operands):
                env.extend([Linear(t) for t in node.out_types])
                linear_nodes.append((node, first))
            else:
                enter(node)
                out = bind(node.primitive, *operands, **node.params)
                if node.primitive.multiple_results:
                    env.extend(out)
                else:
                    env.append(out)

        pending: dict[int, Any] = {}
        for i, ct in zip(asg.outputs, cts, strict=True):
            if ct is not None and type(ct) is not Zero and type(env[i]) is Linear:
                pending[i] = add_tangents(pending.get(i), ct)

        types = asg.value_types
        while linear_nodes:
            node, first = linear_nodes.pop()
            out_cts = [pending.pop(first + k, None) for k in range(len(node.out_types))]
            if all(ct is None for ct in out_cts):
                continue
            enter(node)
            prim = node.primitive
            if prim.transpose is None:
                raise no_rule(node, "transpose")
            out_ct: Any = out_cts[0]
            if prim.multiple_results:
                out_ct = tuple(
                    Zero(tangent_type(t)) if ct is None else ct for ct, t in zip(out_cts, node.out_types, strict=True)
                )
            operands = [env[i] for i in node.inputs]
            found = prim.transpose(out_ct, *operands, **node.params)
            for i, ct in zip(node.inputs, found, strict=True):
                if ct is None or type(ct) is Zero or type(env[i]) is not Linear:
                    continue
                if ct.shape != types[i].shape or ct.dtype != types[i].dtype:
                    raise TransformError(
                        f"the transpose rule of {prim.name} gave a cotangent {ct.dtype}{ct.shape} for an operand of type {types[i]}; "
                        "they must agree. This is a defect of the rule"
                    )
                pending[i] = add_tangents(pending.get(i), ct)
    result: list[Any] = []
    for i, x in enumerate(args):
        if type(x) is not Linear:
            result.append(None)
        else:
            result.append(pending.get(i, Zero(x.aval)))
    return result


# ---------------------------------------------------------------------------------------------- graph to graph
@cached_by_graph(1024)
def linearize_graph(
    asg: Asg, nonzero: tuple[bool, ...], force: tuple[bool, ...] | None = None
) -> tuple[Asg, Asg, tuple[bool, ...]]:
    """Splits a graph's forward derivative into a graph of values and a linear graph.

    Returns:
        a graph from the inputs to the outputs followed by the residuals; a graph from the tangents of the inputs
        marked `nonzero` followed by the residuals to the tangents that exist; which outputs have one.
    """
    found: list[Any] = []

    def values(*primals: Any) -> list[Any]:
        outs, linear, residuals, present = linearize_run(asg, primals, nonzero, force)
        found[:] = linear, present
        return [*outs, *residuals]

    known, _ = trace_flat(values, asg.inputs, name=asg.name, input_names=asg.input_names, why="linearize")
    linear, present = found
    return known, linear, present


@cached_by_graph(1024)
def transpose_graph(
    asg: Asg, linear: tuple[bool, ...], ct_present: tuple[bool, ...], force: tuple[bool, ...] | None = None
) -> tuple[Asg, tuple[bool, ...]]:
    """The transpose of a graph that is linear in some inputs.

    Arguments:
        linear: which inputs the graph is linear in.
        ct_present: which outputs have a cotangent.
        force: which of the linear inputs must get one, zeros if need be.

    Returns:
        a graph from the other inputs and the present cotangents to cotangents of the linear inputs that have one, and
        which of the linear inputs these are.
    """
    present: tuple[bool, ...] = ()
    plain_types = [t for t, lin in zip(asg.inputs, linear, strict=True) if not lin]
    ct_types = [tangent_type(t) for t, p in zip(asg.out_types, ct_present, strict=True) if p]

    def backward(*args: Any) -> list[Any]:
        nonlocal present
        plain = iter(args[: len(plain_types)])
        given = iter(args[len(plain_types) :])
        operands = [Linear(t) if lin else next(plain) for t, lin in zip(asg.inputs, linear, strict=True)]
        cts = [next(given) if p else None for p in ct_present]
        found = [ct for ct, lin in zip(transpose_run(asg, operands, cts), linear, strict=True) if lin]
        if force is not None:
            found = [instantiate_zeros(ct) if f else ct for ct, f in zip(found, force, strict=True)]
        present = tuple(type(ct) is not Zero for ct in found)
        return [ct for ct in found if type(ct) is not Zero]

    graph, _ = trace_flat(backward, [*plain_types, *ct_types], name=f"transpose({asg.name})", why="transpose")
    return graph, present


def differentiable(dtype: Any) -> bool:
    """Whether values of this dtype have tangents."""
    return dtypes.is_inexact(dtype)
