"""`custom_jvp`, `custom_vjp`, `custom_vmap`: functions that bring rules of their own.

A call becomes a node that holds the traced function and, beside it, the rule as a Python function on flat lists. The rule is
traced only when a transform needs it.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from functools import partial, update_wrapper
from typing import Any, NamedTuple

import numpy as np

from asgfn import dtypes
from asgfn.control.associative import map as sequential_map
from asgfn.errors import StructureError, TransformError
from asgfn.graph.asg import Asg
from asgfn.graph.serial import parameter_codec
from asgfn.graph.types import ArrayType
from asgfn.primitives.base import (
    Primitive,
    Zero,
    bdim_at_front,
    instantiate_zeros,
    is_linear,
    is_zero,
    move_batch_axis,
    tangent_type,
)
from asgfn.primitives.shaping import convert_element_type, reduce_sum
from asgfn.tracing import Array, Tracer, as_array, bind, state, trace_flat
from asgfn.transforms.batching import MappedAxis, batch_graph, batch_run
from asgfn.transforms.call import call_type, jit_p
from asgfn.transforms.function import FlatFunction, function_name, leaf_names
from asgfn.transforms.interpret import run
from asgfn.tree_util import register_pytree_node, tree_flatten, tree_leaves, tree_map, tree_structure, tree_unflatten


class SymbolicZero:
    """What a rule with `symbolic_zeros=True` gets in place of a tangent or cotangent that is zero."""

    def __init__(self, aval: ArrayType):
        self.aval = aval

    shape = property(lambda self: self.aval.shape)
    dtype = property(lambda self: self.aval.dtype)
    ndim = property(lambda self: self.aval.ndim)

    def __repr__(self) -> str:
        return f"SymbolicZero({self.aval})"


def zero_from_primal(x: Any, symbolic_zeros: bool = False) -> Any:
    """The zero tangent of a value: an array, or a `SymbolicZero`."""
    t = tangent_type(as_array(x).aval)
    return SymbolicZero(t) if symbolic_zeros else instantiate_zeros(Zero(t))


class CustomVjpPrimal:
    """What `fwd` of a custom_vjp with symbolic zeros gets for an argument: its value and whether it is differentiated."""

    def __init__(self, value: Any, perturbed: bool):
        self.value = value
        self.perturbed = perturbed


class Rule:
    """A rule on flat lists, as a node's parameter.

    Two rules are equal when they come from the same custom function with the same fixed arguments and structure, so graphs
    traced twice are equal. Rules are Python code: a stored graph keeps only the name, and its rule then refuses to be used.
    """

    __slots__ = ("_key", "call", "name")

    def __init__(self, name: str, call: Callable, *key: Any):
        self.name = name
        self.call = call
        try:
            hash(key)
            self._key: Any = key
        except TypeError:  # a fixed argument is not hashable: this rule equals only itself
            self._key = object()

    def __call__(self, *args: Any) -> Any:
        return self.call(*args)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Rule) and self._key == other._key

    def __hash__(self) -> int:
        return hash(self._key)

    def __repr__(self) -> str:
        return f"<rule of {self.name}>"


def _lost(name: str) -> Rule:
    def refuse(*args: Any) -> Any:
        raise TransformError(
            f"the derivative or batching rule of {name} was not stored with its graph, because it is Python code; trace the function again to transform it"
        )

    return Rule(name, refuse, "lost", name)


parameter_codec("rule", Rule, lambda rule: rule.name, _lost)


def _resolve(f: Callable, args: Sequence[Any], kwargs: dict[str, Any]) -> tuple:
    """Positional arguments with keywords and defaults filled in: rules take everything by position."""
    try:
        bound = inspect.signature(f).bind(*args, **kwargs)
    except ValueError:
        return tuple(args)
    bound.apply_defaults()
    if bound.kwargs:
        raise TypeError(
            f"{function_name(f)}: functions with custom derivatives take their arguments by position, got keyword arguments {sorted(bound.kwargs)}"
        )
    return bound.args


def _close_over(f: Callable, args: Sequence[Any], nums: Sequence[int]) -> tuple[Callable, list[Any], list[Any]]:
    """f with the arguments at `nums` fixed; the other arguments; the fixed ones."""
    nums = tuple(n + len(args) if n < 0 else n for n in nums)
    fixed = {n: args[n] for n in nums}
    rest = [a for i, a in enumerate(args) if i not in fixed]

    def partial(*dynamic: Any) -> Any:
        given = iter(dynamic)
        return f(*(fixed[i] if i in fixed else next(given) for i in range(len(args))))

    partial.__name__ = function_name(f)
    return partial, rest, [fixed[n] for n in nums]


def _nothing_traced(args: Sequence[Any]) -> bool:
    """Whether no transform can see this call, so that the function itself will do."""
    return state.staging is None and not any(type(x) is Tracer for x in tree_leaves(args))


def _trace_call(name: str, f: Callable, args: Sequence[Any]) -> tuple[list[Any], Any, Asg, list[Any], Any]:
    leaves, _ = tree_flatten(tuple(args))
    leaves = [as_array(x, function_name(f)) for x in leaves]
    in_tree = tree_structure((tuple(args), {}))
    flat = FlatFunction(f, in_tree)
    # Python may look at values here as it may around this call
    values: list[Any] | None = list(leaves) if state.staging is None else None
    asg, captured = trace_flat(
        flat,
        [x.aval for x in leaves],
        name=function_name(f),
        input_names=leaf_names(f, args),
        values=values,
        staging=values is None,
        why=name,
    )
    return leaves, in_tree, asg, captured, flat.out_tree


# ---------------------------------------------------------------------------------------------- custom_jvp
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


class custom_jvp:
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
        update_wrapper(self, fun, updated=())
        self.fun = fun
        names = list(inspect.signature(fun).parameters) if nondiff_argnames else []
        self.nondiff_argnums = tuple(nondiff_argnums) + tuple(names.index(n) for n in nondiff_argnames)
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

    def __get__(self, instance: Any, owner: Any = None) -> Any:
        if instance is None:
            return self
        return partial(self, instance)

    def __getattr__(self, name: str) -> Any:
        if name == "fun":  # not there yet: nothing to forward to
            raise AttributeError(name)
        return getattr(self.fun, name)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        name = function_name(self.fun)
        if self.jvp is None:
            raise AttributeError(f"no rule for custom_jvp function {name}: define one with {name}.defjvp")
        full = _resolve(self.fun, args, kwargs)
        f, dynamic, fixed = _close_over(self.fun, full, self.nondiff_argnums)
        if _nothing_traced(dynamic):
            return self.fun(*full)
        leaves, in_tree, asg, captured, out_tree = _trace_call("custom_jvp", f, dynamic)
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


# ---------------------------------------------------------------------------------------------- custom_vjp
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


def _transpose_type(*types: ArrayType, result_types: tuple, **params: Any) -> tuple:
    return result_types


def _custom_transpose(
    cts: Sequence[Any],
    *operands: Any,
    bwd: Callable,
    nonzero: tuple,
    result_types: tuple,
    residual_tree: Any,
    name: str,
) -> list:
    residuals = [x for x in operands if not is_linear(x)]
    n_res = len(operands) - sum(nonzero)
    if len(residuals) != n_res:
        raise TransformError(f"custom_vjp function {name}: its residuals depend on what is being transposed")
    found = bwd(residual_tree, residuals, cts)
    return [*([None] * n_res), *(ct for ct, nz in zip(found, nonzero, strict=True) if nz)]


def _custom_transpose_jvp(primals: Sequence[Any], tangents: Sequence[Any], *, name: str, **params: Any) -> tuple:
    raise TransformError(
        f"the linear map of custom_vjp function {name} cannot be differentiated before it is transposed; use custom_jvp, or nest grad instead"
    )


def _custom_transpose_batch(
    axis: MappedAxis,
    args: Sequence[Any],
    dims: Sequence[int | None],
    *,
    bwd: Callable,
    nonzero: tuple,
    result_types: tuple,
    residual_tree: Any,
    name: str,
) -> tuple:
    n_res = len(args) - sum(nonzero)
    full = [bdim_at_front(x, d, axis.size) for x, d in zip(args, dims, strict=True)]
    res_types = [x.aval.update(shape=x.shape[1:]) for x in full[:n_res]]

    def batched_bwd(tree: Any, residuals: Sequence[Any], cts: Sequence[Any]) -> list[Any]:
        present: list[bool] = []

        def flat(*xs: Any) -> list[Any]:
            given = iter(xs[n_res:])
            found = bwd(
                tree,
                xs[:n_res],
                [Zero(t) if is_zero(ct) else next(given) for ct, t in zip(cts, result_types, strict=True)],
            )
            present[:] = [not is_zero(ct) for ct in found]
            return [ct for ct in found if not is_zero(ct)]

        some = [ct for ct in cts if not is_zero(ct)]
        types = [*res_types, *(ct.aval.update(shape=ct.shape[1:]) for ct in some)]
        derived, captured = trace_flat(flat, types, name=f"bwd({name})", why="custom_vjp")
        given = [*residuals, *some]
        found, out_dims = batch_run(
            derived, [*given, *captured], [*([0] * len(given)), *([None] * len(captured))], axis
        )
        it = iter(bdim_at_front(x, d, axis.size) for x, d in zip(found, out_dims, strict=True))
        return [next(it) if p else Zero(ArrayType((), np.dtype("float32"))) for p in present]

    new_types = tuple(t.update(shape=(axis.size, *t.shape)) for t in result_types)
    wrapped = Rule(name, batched_bwd, "batched", bwd, axis, nonzero, result_types)
    outs = bind(
        custom_transpose_p,
        *full,
        bwd=wrapped,
        nonzero=nonzero,
        result_types=new_types,
        residual_tree=residual_tree,
        name=name,
    )
    return outs, (0,) * len(outs)


custom_transpose_p = Primitive(
    "custom_vjp_linear",
    category="call",
    type_rule=_transpose_type,
    jvp=_custom_transpose_jvp,
    transpose=_custom_transpose,
    axis_batch=_custom_transpose_batch,
    multiple_results=True,
    what="The linear map whose transpose a custom_vjp rule is; it exists only until it is transposed.",
    formula="dx = bwd(r, dy)",
    why="Carries a reverse rule through linearisation.",
)


class custom_vjp:
    """A function with a reverse derivative of its own.

    Arguments:
        fun: the function.
        nondiff_argnums: arguments that are not differentiated; `bwd` gets them first, as they are.

    The rule is given by ``defvjp(fwd, bwd)``: ``fwd(*args) -> (out, residuals)`` and
    ``bwd(*nondiff_args, residuals, ct) -> tuple`` with a cotangent an argument (None for zero).
    """

    def __init__(self, fun: Callable, nondiff_argnums: Sequence[int] = (), nondiff_argnames: Sequence[str] = ()):
        update_wrapper(self, fun, updated=())
        self.fun = fun
        names = list(inspect.signature(fun).parameters) if nondiff_argnames else []
        self.nondiff_argnums = tuple(nondiff_argnums) + tuple(names.index(n) for n in nondiff_argnames)
        self.fwd: Callable | None = None
        self.bwd: Callable | None = None
        self.symbolic_zeros = False

    def defvjp(self, fwd: Callable, bwd: Callable, symbolic_zeros: bool = False, optimize_remat: bool = False) -> None:
        """Sets the rule. With `symbolic_zeros` fwd gets `CustomVjpPrimal`s and bwd may get `SymbolicZero`s."""
        self.fwd = fwd
        self.bwd = bwd
        self.symbolic_zeros = symbolic_zeros

    def __get__(self, instance: Any, owner: Any = None) -> Any:
        if instance is None:
            return self
        return partial(self, instance)

    def __getattr__(self, name: str) -> Any:
        if name == "fun":  # not there yet: nothing to forward to
            raise AttributeError(name)
        return getattr(self.fun, name)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        name = function_name(self.fun)
        if self.fwd is None or self.bwd is None:
            raise AttributeError(f"no rule for custom_vjp function {name}: define one with {name}.defvjp(fwd, bwd)")
        full = _resolve(self.fun, args, kwargs)
        nums = tuple(n + len(full) if n < 0 else n for n in self.nondiff_argnums)
        for n in nums:
            if any(type(x) is Tracer for x in tree_leaves(full[n])):
                raise UnexpectedNondiff(
                    f"custom_vjp function {name}: argument {n} is in nondiff_argnums but is traced. Arguments there must be Python values; pass arrays as ordinary arguments and "
                    "return None for their cotangents"
                )
        f, dynamic, fixed = _close_over(self.fun, full, nums)
        if _nothing_traced(dynamic):
            return self.fun(*full)
        leaves, in_tree, asg, captured, out_tree = _trace_call("custom_vjp", f, dynamic)
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


def custom_gradient(fun: Callable) -> Callable:
    """A function that returns ``(output, vjp_function)`` as one with a custom reverse derivative."""

    def primal(*args: Any, **kwargs: Any) -> Any:
        return fun(*args, **kwargs)[0]

    update_wrapper(primal, fun, updated=())
    wrapped = custom_vjp(primal)

    def fwd(*args: Any) -> tuple:
        out, rule = fun(*args)
        out_leaves, out_tree = tree_flatten(out)
        types = [tangent_type(as_array(x).aval) for x in out_leaves]
        cts_tree: Any = None

        def pull(*cts: Any) -> list[Any]:
            nonlocal cts_tree
            found = rule(tree_unflatten(out_tree, cts))
            leaves, cts_tree = tree_flatten(tuple(found) if isinstance(found, (tuple, list)) else (found,))
            return leaves

        # the rule closes over values of this trace: they become residuals
        asg, captured = trace_flat(pull, types, name=function_name(rule), why="custom_gradient")
        return out, (captured, _Static((asg, cts_tree)))

    def bwd(residuals: Any, ct: Any) -> tuple:
        captured, held = residuals
        asg, cts_tree = held.value
        return tree_unflatten(cts_tree, run(asg, [*tree_leaves(ct), *captured]))

    wrapped.defvjp(fwd, bwd)
    return wrapped


class _Static:
    """A value that is part of a pytree's structure."""

    def __init__(self, value: Any):
        self.value = value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Static) and self.value == other.value

    def __hash__(self) -> int:
        return hash(self.value)


register_pytree_node(_Static, lambda s: ((), s.value), lambda value, _: _Static(value))


# ---------------------------------------------------------------------------------------------- custom_vmap
def _custom_vmap_jvp(primals: Sequence[Any], tangents: Sequence[Any], *, asg: Asg, rule: Callable) -> tuple:
    assert jit_p.jvp is not None
    return jit_p.jvp(primals, tangents, asg=asg, name=asg.name)


def _custom_vmap_linearize(primals: Sequence[Any], tangents: Sequence[Any], *, asg: Asg, rule: Callable) -> tuple:
    assert jit_p.linearize is not None
    return jit_p.linearize(primals, tangents, asg=asg, name=asg.name)


def _custom_vmap_batch(
    axis: MappedAxis, args: Sequence[Any], dims: Sequence[int | None], *, asg: Asg, rule: Callable
) -> tuple:
    moved = [x if d is None else move_batch_axis(x, d, 0) for x, d in zip(args, dims, strict=True)]
    outs, batched = rule(axis.size, moved, [d is not None for d in dims])
    return tuple(outs), tuple(0 if b else None for b in batched)


custom_vmap_call_p = Primitive(
    "custom_vmap_call",
    category="call",
    type_rule=call_type,
    jvp=_custom_vmap_jvp,
    linearize=_custom_vmap_linearize,
    axis_batch=_custom_vmap_batch,
    multiple_results=True,
    holds_graphs=True,
    what="Calls a function that brings its own vectorisation (custom_vmap).",
    formula="y[i] = f(x[i]) by rule",
    why="A batched algorithm that is better than mapping the single one.",
)


class custom_vmap:
    """A function with a vectorisation rule of its own.

    The rule is given by `def_vmap`: ``rule(axis_size, in_batched, *args) -> (out, out_batched)``, where arguments that are
    batched have the mapped axis in front, and `in_batched`, `out_batched` are pytrees of bools.
    """

    def __init__(self, fun: Callable):
        update_wrapper(self, fun, updated=())
        self.fun = fun
        self.vmap_rule: Callable | None = None

    def def_vmap(self, vmap_rule: Callable) -> Callable:
        """Sets the rule; usable as a decorator."""
        self.vmap_rule = vmap_rule
        return vmap_rule

    def __getattr__(self, name: str) -> Any:
        if name == "fun":  # not there yet: nothing to forward to
            raise AttributeError(name)
        return getattr(self.fun, name)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        name = function_name(self.fun)
        if self.vmap_rule is None:
            raise AttributeError(f"no rule for custom_vmap function {name}: define one with {name}.def_vmap")
        full = _resolve(self.fun, args, kwargs)
        leaves, in_tree, asg, captured, out_tree = _trace_call("custom_vmap", self.fun, full)
        if captured:
            raise TransformError(
                f"custom_vmap function {name} uses a traced value that is not one of its arguments; pass it as an argument"
            )
        user_rule = self.vmap_rule

        def rule(size: int, values: Sequence[Any], batched: Sequence[bool]) -> tuple:
            args_in, _ = tree_unflatten(in_tree, values)
            marks, _ = tree_unflatten(in_tree, batched)
            result = user_rule(size, list(marks), *args_in)
            if not isinstance(result, (tuple, list)) or len(result) != 2:
                raise StructureError(
                    f"the vmap rule of {name} must return a pair (output, out_batched), got {type(result).__name__}"
                )
            outs, tree = tree_flatten(result[0])
            out_marks, marks_tree = tree_flatten(result[1])
            if tree != out_tree or (marks_tree != out_tree and len(out_marks) != 1):
                raise StructureError(
                    f"the vmap rule of {name} must return outputs of structure {out_tree}, got {tree} (out_batched: {marks_tree})"
                )
            if len(out_marks) == 1:
                out_marks = out_marks * len(outs)
            return [as_array(x) for x in outs], [bool(b) for b in out_marks]

        outs = bind(custom_vmap_call_p, *leaves, asg=asg, rule=Rule(name, rule, self, user_rule, in_tree, asg))
        return tree_unflatten(out_tree, outs)


def sequential_vmap(fun: Callable) -> custom_vmap:
    """A function that `vmap` applies to one element after another (with `lax.map`)."""
    wrapped = custom_vmap(fun)

    @wrapped.def_vmap
    def rule(axis_size: int, in_batched: list, *args: Any) -> tuple:
        leaves, tree = tree_flatten(args)
        marks = tree_leaves(in_batched)
        mapped = [x for x, b in zip(leaves, marks, strict=True) if b]

        def one(xs: Any) -> Any:
            given = iter(xs)
            return fun(*tree_unflatten(tree, [next(given) if b else x for x, b in zip(leaves, marks, strict=True)]))

        out = sequential_map(one, mapped)
        return out, tree_map(lambda _: True, out)

    return wrapped


def closure_convert(fun: Callable, *example_args: Any) -> tuple[Callable, list[Any]]:
    """Makes the traced values that a function closes over into arguments.

    Returns:
        (converted, consts): ``converted(*args, *consts)`` equals ``fun(*args)``.
    """
    leaves, _ = tree_flatten((tuple(example_args), {}))
    in_tree = tree_structure((tuple(example_args), {}))
    flat = FlatFunction(fun, in_tree)
    asg, captured = trace_flat(flat, [as_array(x).aval for x in leaves], name=function_name(fun), why="closure_convert")
    n = len(example_args)
    out_tree = flat.out_tree

    def converted(*args_and_consts: Any) -> Any:
        args, consts = args_and_consts[:n], args_and_consts[n:]
        return tree_unflatten(out_tree, run(asg, [as_array(x) for x in (*tree_leaves(tuple(args)), *consts)]))

    return converted, list(captured)
