"""`custom_vjp`: functions that bring their own reverse derivative."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

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
from asgfn.primitives.shaping import convert_element_type, reduce_sum
from asgfn.tracing import Tracer, as_array, bind, trace_flat
from asgfn.transforms.batching import MappedAxis, batch_graph, batch_run
from asgfn.transforms.call import call_type
from asgfn.transforms.custom_linear import custom_transpose_p
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
from asgfn.tree_util import tree_flatten, tree_leaves, tree_unflatten


class CustomVjpPrimal:
    """What `fwd` of a custom_vjp with symbolic zeros gets for an argument: its value and whether it is differentiated."""

    def __init__(self, value: Any, perturbed: bool):
        self.value = value
        self.perturbed = perturbed


def _custom_vjp_linearize(
    primals: Sequence[Any], tangents: Sequence[Any], *, asg: Asg, fwd: Callable, bwd: Callable
) -> tuple:
    nonzero = tuple(not is_zero(t) for t in tangents)
    outs, residuals, res_tree = fwd(primals, nonzero)
    moved = bind(
        custom_transpose_p,
        *residuals,
        *(t for t in tangents if not is_zero(t)),
        bwd=bwd,
        nonzero=nonzero,
        result_types=tuple(tangent_type(t) for t in asg.out_types),
        residual_tree=res_tree,
        name=asg.name,
    )
    return outs, tuple(
        Zero(tangent_type(t)) if not dtypes.is_inexact(t.dtype) else m
        for m, t in zip(moved, asg.out_types, strict=True)
    )


def _custom_vjp_jvp(primals: Sequence[Any], tangents: Sequence[Any], *, asg: Asg, **params: Any) -> tuple:
    raise TransformError(
        f"forward-mode differentiation (jvp, jacfwd, hessian) of custom_vjp function {asg.name}: its rule only gives reverse mode. Use custom_jvp, which gives both, "
        "or grad and jacrev"
    )


def _custom_vjp_batch(
    axis: MappedAxis, args: Sequence[Any], dims: Sequence[int | None], *, asg: Asg, fwd: Callable, bwd: Callable
) -> tuple:
    batched = tuple(d is not None for d in dims)
    graph, _ = batch_graph(asg, batched, axis, (True,) * len(asg.outputs))
    in_dims = [0 if b else None for b in batched]

    def batched_fwd(primals: Sequence[Any], nonzero: tuple) -> tuple:
        caught: list[Any] = []

        def flat(*xs: Any) -> list[Any]:
            outs, residuals, tree = fwd(xs, nonzero)
            caught[:] = [tree]
            return [*outs, *residuals]

        derived, captured = trace_flat(flat, asg.inputs, name=f"fwd({asg.name})", why="custom_vjp")
        found, out_dims = batch_run(derived, [*primals, *captured], [*in_dims, *([None] * len(captured))], axis)
        found = [bdim_at_front(x, d, axis.size) for x, d in zip(found, out_dims, strict=True)]
        m = len(asg.outputs)
        return tuple(found[:m]), found[m:], caught[0]

    def batched_bwd(residual_tree: Any, residuals: Sequence[Any], cts: Sequence[Any]) -> list[Any]:
        n_res = len(residuals)
        present: list[bool] = []

        def flat(*xs: Any) -> list[Any]:
            given = iter(xs[n_res:])
            full = [
                Zero(tangent_type(t)) if is_zero(ct) else next(given) for ct, t in zip(cts, asg.out_types, strict=True)
            ]
            found = bwd(residual_tree, xs[:n_res], full)
            present[:] = [not is_zero(ct) for ct in found]
            return [ct for ct in found if not is_zero(ct)]

        some = [ct for ct in cts if not is_zero(ct)]
        types = [x.aval.update(shape=x.shape[1:]) for x in (*residuals, *some)]
        derived, captured = trace_flat(flat, types, name=f"bwd({asg.name})", why="custom_vjp")
        given = [*residuals, *some]
        found, out_dims = batch_run(
            derived, [*given, *captured], [*([0] * len(given)), *([None] * len(captured))], axis
        )
        found = [bdim_at_front(x, d, axis.size) for x, d in zip(found, out_dims, strict=True)]
        it = iter(found)
        full = [next(it) if p else None for p in present]
        # an argument that is not mapped gets the sum over the batch
        return [
            Zero(tangent_type(t)) if ct is None else ct if b else reduce_sum(ct, (0,))
            for ct, b, t in zip(full, batched, graph.inputs, strict=True)
        ]

    moved = [x if d is None else move_batch_axis(x, d, 0) for x, d in zip(args, dims, strict=True)]
    key = ("batched", batched, axis, asg)
    outs = bind(
        custom_vjp_call_p,
        *moved,
        asg=graph,
        fwd=Rule(asg.name, batched_fwd, *key, fwd),
        bwd=Rule(asg.name, batched_bwd, *key, bwd),
    )
    return outs, (0,) * len(outs)


custom_vjp_call_p = Primitive(
    "custom_vjp_call",
    category="call",
    type_rule=call_type,
    jvp=_custom_vjp_jvp,
    linearize=_custom_vjp_linearize,
    axis_batch=_custom_vjp_batch,
    multiple_results=True,
    holds_graphs=True,
    what="Calls a function that brings its own reverse derivative (custom_vjp).",
    formula="y, r = fwd(x); dx = bwd(r, dy)",
    why="Gradients that are clipped, estimated, or found by other means than the code.",
)


class custom_vjp(CustomFunction):
    """A function with a reverse derivative of its own.

    Arguments:
        fun: the function.
        nondiff_argnums: arguments that are not differentiated; `bwd` gets them first, as they are.

    The rule is given by ``defvjp(fwd, bwd)``: ``fwd(*args) -> (out, residuals)`` and
    ``bwd(*nondiff_args, residuals, ct) -> tuple`` with a cotangent an argument (None for zero).
    """

    def __init__(self, fun: Callable, nondiff_argnums: Sequence[int] = (), nondiff_argnames: Sequence[str] = ()):
        super().__init__(fun, nondiff_argnums, nondiff_argnames)
        self.fwd: Callable | None = None
        self.bwd: Callable | None = None
        self.symbolic_zeros = False

    def defvjp(self, fwd: Callable, bwd: Callable, symbolic_zeros: bool = False, optimize_remat: bool = False) -> None:
        """Sets the rule. With `symbolic_zeros` fwd gets `CustomVjpPrimal`s and bwd may get `SymbolicZero`s."""
        self.fwd = fwd
        self.bwd = bwd
        self.symbolic_zeros = symbolic_zeros

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        name = function_name(self.fun)
        if self.fwd is None or self.bwd is None:
            raise AttributeError(f"no rule for custom_vjp function {name}: define one with {name}.defvjp(fwd, bwd)")
        full = resolve_arguments(self.fun, args, kwargs)
        nums = tuple(n + len(full) if n < 0 else n for n in self.nondiff_argnums)
        for n in nums:
            if any(type(x) is Tracer for x in tree_leaves(full[n])):
                raise UnexpectedNondiff(
                    f"custom_vjp function {name}: argument {n} is in nondiff_argnums but is traced. Arguments there must be Python values; pass arrays as ordinary arguments and "
                    "return None for their cotangents"
                )
        f, dynamic, fixed = close_over(self.fun, full, nums)
        if nothing_traced(dynamic):
            return self.fun(*full)
        leaves, in_tree, asg, captured, out_tree = trace_call("custom_vjp", f, dynamic)
        n = len(leaves)
        fwd_full, bwd_full = self.fwd, self.bwd
        symbolic = self.symbolic_zeros
        arg_types = [x.aval for x in leaves]
        captured_types = [x.aval for x in captured]

        def fwd(primals: Sequence[Any], nonzero: tuple) -> tuple:
            if any(nonzero[n:]):
                raise TransformError(
                    f"custom_vjp function {name} uses a differentiated value that is not one of its arguments; pass it as an argument"
                )
            values = list(primals[:n])
            if symbolic:
                values = [CustomVjpPrimal(x, nz) for x, nz in zip(values, nonzero, strict=False)]
            args_in, _ = tree_unflatten(in_tree, values)
            given = iter(args_in)
            out = fwd_full(*(full[i] if i in nums else next(given) for i in range(len(full))))
            if not isinstance(out, (tuple, list)) or len(out) != 2:
                raise StructureError(
                    f"the fwd rule of {name} must return a pair (output, residuals), got {type(out).__name__}"
                )
            outs, tree = tree_flatten(out[0])
            if tree != out_tree:
                raise StructureError(
                    f"the fwd rule of {name} must return an output of the function's structure {out_tree}, got {tree}"
                )
            res_leaves, res_tree = tree_flatten(out[1])
            # residuals that are not arrays (strings, shapes) are part of the structure
            arrays, plan = [], []
            for leaf in res_leaves:
                try:
                    arrays.append(as_array(leaf))
                    plan.append(_ARRAY)
                except TypeError:
                    plan.append(leaf)
            outs = [as_array(x) for x in outs]
            outs = [
                convert_element_type(x, t.dtype) if x.weak_type and x.dtype != t.dtype else x
                for x, t in zip(outs, asg.out_types, strict=True)
            ]
            return tuple(outs), arrays, _ResidualTree(res_tree, tuple(plan))

        def bwd(res_tree: Any, residuals: Sequence[Any], cts: Sequence[Any]) -> list[Any]:
            res = res_tree.unflatten(residuals)
            filled = [(SymbolicZero(ct.aval) if symbolic else _zeros(ct.aval)) if is_zero(ct) else ct for ct in cts]
            found = bwd_full(*fixed, res, tree_unflatten(out_tree, filled))
            return [
                *_check_cotangents(name, found, in_tree, arg_types),
                *(Zero(tangent_type(t)) for t in captured_types),
            ]

        key = (self, fwd_full, bwd_full, tuple(fixed), in_tree, asg)
        outs = bind(
            custom_vjp_call_p, *leaves, *captured, asg=asg, fwd=Rule(name, fwd, *key), bwd=Rule(name, bwd, *key)
        )
        return tree_unflatten(out_tree, outs)


class UnexpectedNondiff(TransformError):
    """A traced value was passed for an argument in nondiff_argnums."""


_ARRAY = object()


class _ResidualTree(NamedTuple):
    """How residuals were packed, with those that are not arrays."""

    tree: Any
    plan: tuple

    def unflatten(self, arrays: Sequence[Any]) -> Any:
        given = iter(arrays)
        return tree_unflatten(self.tree, [next(given) if p is _ARRAY else p for p in self.plan])


def _zeros(t: ArrayType) -> Any:
    return instantiate_zeros(Zero(t))


def _check_cotangents(name: str, found: Any, in_tree: Any, types: Sequence[ArrayType]) -> list[Any]:
    args_tree = in_tree.children()[0]
    if isinstance(found, list):
        found = tuple(found)
    if not isinstance(found, tuple) or len(found) != args_tree.num_children:
        raise StructureError(
            f"the bwd rule of {name} must return a tuple with one cotangent for each of the {args_tree.num_children} differentiated arguments, got "
            + (f"{len(found)}" if isinstance(found, tuple) else type(found).__name__)
            + "; return None for arguments without one"
        )
    result: list[Any] = []
    at = 0
    for k, (ct, child) in enumerate(zip(found, args_tree.children(), strict=True)):
        expected = types[at : at + child.num_leaves]
        at += child.num_leaves
        if ct is None or isinstance(ct, SymbolicZero):
            result.extend(Zero(tangent_type(t)) for t in expected)
            continue
        leaves, tree = tree_flatten(ct, is_leaf=lambda x: x is None or isinstance(x, SymbolicZero))
        if tree != child:
            raise StructureError(
                f"the bwd rule of {name} returned a cotangent of structure {tree} for argument {k} of structure {child}"
            )
        for t, leaf in zip(expected, leaves, strict=True):
            wanted = tangent_type(t)
            if leaf is None or isinstance(leaf, SymbolicZero) or wanted.dtype == dtypes.float0:
                result.append(Zero(wanted))
                continue
            x = as_array(leaf)
            if x.weak_type and x.dtype != wanted.dtype:
                x = convert_element_type(x, wanted.dtype)
            if x.shape != wanted.shape or x.dtype != wanted.dtype:
                raise TransformError(
                    f"the bwd rule of {name} returned a cotangent of type {x.aval} for argument {k} of type {t}; they must agree"
                )
            result.append(x)
    return result
