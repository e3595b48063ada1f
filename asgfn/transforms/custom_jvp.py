"""`custom_jvp`: functions that bring their own forward derivative."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from asgfn import dtypes
from asgfn.errors import StructureError, TransformError
from asgfn.graph.asg import Asg
from asgfn.graph.types import ArrayType
from asgfn.primitives.base import (
    Primitive,
    Zero,
    bdim_at_front,
    instantiate_zeros,
    is_zero,
    move_batch_axis,
    tangent_type,
)
from asgfn.primitives.shaping import convert_element_type
from asgfn.tracing import Array, as_array, bind, trace_flat
from asgfn.transforms.batching import MappedAxis, batch_graph, batch_run
from asgfn.transforms.call import call_type
from asgfn.transforms.custom_rules import (
    CustomFunction,
    Rule,
    SymbolicZero,
    close_over,
    nothing_traced,
    resolve_arguments,
    trace_call,
)
from asgfn.transforms.function import function_name
from asgfn.tree_util import tree_flatten, tree_map, tree_unflatten


def _custom_jvp_rule(primals: Sequence[Any], tangents: Sequence[Any], *, asg: Asg, rule: Callable) -> tuple:
    return rule(primals, tangents)


def _custom_jvp_batch(
    axis: MappedAxis, args: Sequence[Any], dims: Sequence[int | None], *, asg: Asg, rule: Callable
) -> tuple:
    batched = tuple(d is not None for d in dims)
    graph, _ = batch_graph(asg, batched, axis, (True,) * len(asg.outputs))
    n = len(asg.inputs)

    def batched_rule(primals: Sequence[Any], tangents: Sequence[Any]) -> tuple:
        nonzero = tuple(not is_zero(t) for t in tangents)
        present: list[bool] = []

        def flat(*xs: Any) -> list[Any]:
            given = iter(xs[n:])
            ts = [next(given) if nz else Zero(tangent_type(t)) for nz, t in zip(nonzero, asg.inputs, strict=True)]
            outs, moved = rule(xs[:n], ts)
            present[:] = [not is_zero(t) for t in moved]
            return [*outs, *(t for t in moved if not is_zero(t))]

        types = [*asg.inputs, *(tangent_type(t) for t, nz in zip(asg.inputs, nonzero, strict=True) if nz)]
        derived, captured = trace_flat(flat, types, name=f"jvp({asg.name})", why="custom_jvp")
        in_dims = [0 if b else None for b in batched]
        in_dims += [d for d, nz in zip(in_dims, nonzero, strict=True) if nz]
        given = [*primals, *(t for t in tangents if not is_zero(t)), *captured]
        found, out_dims = batch_run(derived, given, [*in_dims, *([None] * len(captured))], axis)
        found = [bdim_at_front(x, d, axis.size) for x, d in zip(found, out_dims, strict=True)]
        m = len(asg.outputs)
        ts = iter(found[m:])
        return tuple(found[:m]), tuple(
            next(ts) if p else Zero(tangent_type(o.aval)) for p, o in zip(present, found[:m], strict=True)
        )

    moved = [x if d is None else move_batch_axis(x, d, 0) for x, d in zip(args, dims, strict=True)]
    wrapped = Rule(asg.name, batched_rule, "batched", rule, batched, axis, asg)
    outs = bind(custom_jvp_call_p, *moved, asg=graph, rule=wrapped)
    return outs, (0,) * len(outs)


custom_jvp_call_p = Primitive(
    "custom_jvp_call",
    category="call",
    type_rule=call_type,
    jvp=_custom_jvp_rule,
    axis_batch=_custom_jvp_batch,
    multiple_results=True,
    holds_graphs=True,
    what="Calls a function that brings its own derivative (custom_jvp).",
    formula="y = f(x), dy = rule(x, dx)",
    why="Derivatives that are more accurate, cheaper or otherwise defined than those of the code.",
)


class custom_jvp(CustomFunction):
    """A function with a forward derivative of its own.

    Arguments:
        fun: the function.
        nondiff_argnums: arguments that are not differentiated; the rule gets them first, as they are.

    The rule is given by `defjvp`: ``rule(*nondiff_args, primals, tangents) -> (out, tangent_out)``; it must be linear in the tangents,
    and gives reverse mode too. `defjvps` takes one ``(t, ans, *primals)`` an argument.

    Example:
        >>> @custom_jvp
        ... def f(x): return jnp.log(1 + jnp.exp(x))
        >>> @f.defjvp
        ... def f_jvp(primals, tangents):
        ...     (x,), (t,) = primals, tangents
        ...     return f(x), t * jax.nn.sigmoid(x)
    """

    def __init__(self, fun: Callable, nondiff_argnums: Sequence[int] = (), nondiff_argnames: Sequence[str] = ()):
        super().__init__(fun, nondiff_argnums, nondiff_argnames)
        self.jvp: Callable | None = None
        self.symbolic_zeros = False

    def defjvp(self, jvp: Callable, symbolic_zeros: bool = False) -> Callable:
        """Sets the rule; usable as a decorator. With `symbolic_zeros` zero tangents arrive as `SymbolicZero`."""
        self.jvp = jvp
        self.symbolic_zeros = symbolic_zeros
        return jvp

    def defjvps(self, *jvps: Callable | None) -> None:
        """Sets the rule argument by argument: ``(tangent, answer, *primals) -> share of the tangent``, or None for zero."""
        if self.nondiff_argnums:
            raise TypeError("defjvps cannot be used together with nondiff_argnums; use defjvp")

        def rule(primals: Sequence[Any], tangents: Sequence[Any]) -> tuple:
            out = self(*primals)
            shares = [f(t, out, *primals) for f, t in zip(jvps, tangents, strict=True) if f is not None]
            if not shares:
                return out, tree_map(lambda o: instantiate_zeros(Zero(tangent_type(o.aval))), out)
            return out, tree_map(lambda *xs: sum(xs[1:], start=xs[0]), *shares)

        self.defjvp(rule)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        name = function_name(self.fun)
        if self.jvp is None:
            raise AttributeError(f"no rule for custom_jvp function {name}: define one with {name}.defjvp")
        full = resolve_arguments(self.fun, args, kwargs)
        f, dynamic, fixed = close_over(self.fun, full, self.nondiff_argnums)
        if nothing_traced(dynamic):
            return self.fun(*full)
        leaves, in_tree, asg, captured, out_tree = trace_call("custom_jvp", f, dynamic)
        n = len(leaves)
        rule = self.jvp

        def flat_rule(primals: Sequence[Any], tangents: Sequence[Any]) -> tuple:
            args_in, _ = tree_unflatten(in_tree, primals[:n])
            filled = [
                (SymbolicZero(t.aval) if self.symbolic_zeros else instantiate_zeros(t)) if is_zero(t) else t
                for t in tangents[:n]
            ]
            args_t, _ = tree_unflatten(in_tree, filled)
            if any(not is_zero(t) for t in tangents[n:]):
                raise TransformError(
                    f"custom_jvp function {name} uses a differentiated value that is not one of its arguments; pass it as an argument"
                )
            result = rule(*fixed, args_in, args_t)
            return _check_jvp(name, result, out_tree, asg.out_types)

        wrapped = Rule(name, flat_rule, self, rule, tuple(fixed), in_tree, asg)
        outs = bind(custom_jvp_call_p, *leaves, *captured, asg=asg, rule=wrapped)
        return tree_unflatten(out_tree, outs)


def _check_jvp(name: str, result: Any, out_tree: Any, out_types: Sequence[ArrayType]) -> tuple:
    if not isinstance(result, (tuple, list)) or len(result) != 2:
        raise StructureError(
            f"the jvp rule of {name} must return a pair (output, tangent), got {type(result).__name__}"
        )
    outs, tree = tree_flatten(result[0])
    moved, moved_tree = tree_flatten(result[1], is_leaf=lambda x: isinstance(x, SymbolicZero))
    if tree != out_tree or moved_tree != out_tree:
        raise StructureError(
            f"the jvp rule of {name} must return output and tangent of the function's structure {out_tree}, got {tree} and {moved_tree}"
        )
    final: list[Array | Zero] = []
    for k, (t, m) in enumerate(zip(out_types, moved, strict=True)):
        expected = tangent_type(t)
        if isinstance(m, SymbolicZero) or getattr(m, "dtype", None) == dtypes.float0:
            final.append(Zero(expected))
            continue
        m = as_array(m)
        if expected.dtype == dtypes.float0:
            final.append(Zero(expected))
            continue
        if m.weak_type and m.dtype != expected.dtype:
            m = convert_element_type(m, expected.dtype)
        if m.shape != expected.shape or m.dtype != expected.dtype:
            raise TransformError(
                f"the jvp rule of {name} returned a tangent of type {m.aval} for output {k} of type {t}; they must agree"
            )
        final.append(m)
    primal = [
        convert_element_type(x, t.dtype) if as_array(x).weak_type and as_array(x).dtype != t.dtype else as_array(x)
        for x, t in zip(outs, out_types, strict=True)
    ]
    return tuple(primal), tuple(final)
