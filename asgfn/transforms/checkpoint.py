"""`checkpoint` (alias `remat`): trade memory for computation.

A checkpointed call is a node. Linearising it keeps its operands instead of its intermediate values; the linear part recomputes
what it needs, behind a barrier so that nothing merges the recomputation with the first computation. A policy may name
values that are kept after all.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any

from asgfn import dtypes
from asgfn.errors import TransformError
from asgfn.graph.asg import Asg
from asgfn.graph.caching import cached_by_graph
from asgfn.graph.edit import extract
from asgfn.graph.types import ArrayType
from asgfn.primitives.base import Primitive, is_zero, linear_jvp, tangent_type
from asgfn.tracing import bind, trace_flat
from asgfn.transforms.call import call_rules, call_type, jit_p, spread
from asgfn.transforms.function import as_function, check_leaves, function_name, leaf_names, trace_to_graph
from asgfn.transforms.interpret import constant_arrays, node_contexts, run
from asgfn.transforms.linear import linearize_graph
from asgfn.transforms.static import StaticArguments
from asgfn.tree_util import tree_flatten, tree_map, tree_unflatten

name_p: Primitive = Primitive(
    "name",
    category="call",
    type_rule=lambda x, *, name: x,
    jvp=linear_jvp("name"),
    transpose=lambda ct, x, *, name: [ct],
    batch=lambda args, dims, *, name: (bind(name_p, args[0], name=name), dims[0]),
    what="Gives a value a name that checkpoint policies can refer to.",
    formula="y = x",
    why="Choosing by hand which activations to keep.",
)


def checkpoint_name(x: Any, name: str) -> Any:
    """x unchanged, its arrays marked with a name for `checkpoint_policies.save_only_these_names`."""
    return tree_map(lambda leaf: bind(name_p, leaf, name=str(name)), x)


# ---------------------------------------------------------------------------------------------- policies
class checkpoint_policies:
    """Which values a checkpointed function may keep: predicates ``(primitive, *types, **params) -> bool``."""

    @staticmethod
    def everything_saveable(prim: Any, *_: Any, **__: Any) -> bool:
        """Keeps everything: no recomputation."""
        return True

    @staticmethod
    def nothing_saveable(prim: Any, *_: Any, **__: Any) -> bool:
        """Keeps nothing but the arguments (the default)."""
        return False

    @staticmethod
    def dots_saveable(prim: Any, *_: Any, **__: Any) -> bool:
        """Keeps results of matrix products and convolutions."""
        return prim.name in ("dot_general", "conv_general_dilated")

    checkpoint_dots = dots_saveable

    @staticmethod
    def dots_with_no_batch_dims_saveable(prim: Any, *_: Any, **params: Any) -> bool:
        """Keeps results of matrix products without batch dimensions: those of linear layers."""
        return prim.name == "dot_general" and not params["dimension_numbers"][1][0]

    checkpoint_dots_with_no_batch_dims = dots_with_no_batch_dims_saveable

    @staticmethod
    def save_only_these_names(*names: str) -> Callable:
        """Keeps values marked with `checkpoint_name` under one of these names."""
        wanted = frozenset(names)
        return lambda prim, *_, **params: prim.name == "name" and params["name"] in wanted

    @staticmethod
    def save_any_names_but_these(*names: str) -> Callable:
        """Keeps values marked with `checkpoint_name` under any other name."""
        unwanted = frozenset(names)
        return lambda prim, *_, **params: prim.name == "name" and params["name"] not in unwanted

    @staticmethod
    def save_anything_except_these_names(*names: str) -> Callable:
        """Keeps everything except values marked under one of these names."""
        unwanted = frozenset(names)
        return lambda prim, *_, **params: not (prim.name == "name" and params["name"] in unwanted)

    @staticmethod
    def save_from_both_policies(first: Callable, second: Callable) -> Callable:
        """Keeps what either policy keeps."""
        return lambda prim, *types, **params: first(prim, *types, **params) or second(prim, *types, **params)


# ---------------------------------------------------------------------------------------------- the primitive
@cached_by_graph(256)
def _split_graph(
    asg: Asg, nonzero: tuple[bool, ...], policy: Callable | None
) -> tuple[Asg, Asg, tuple[bool, ...], tuple]:
    """Values and linear part of a checkpointed graph.

    Returns:
        a graph from inputs to outputs and kept values; a graph from tangents, inputs and kept values to tangents, which
        recomputes the rest; which outputs have tangents; types of the kept values.
    """
    known, linear, present = linearize_graph(asg, nonzero)
    m, n_in = len(asg.outputs), len(known.inputs)
    n_t = sum(nonzero)
    kept: list[int] = []
    if policy is not None:
        types = known.value_types
        needed = set(extract(known, known.outputs[m:]).nodes)  # only what the linear part depends on is worth keeping
        for node, first in zip(known.nodes, known.first_outputs, strict=True):
            if node in needed or node.primitive.name == "name":
                if policy(node.primitive, *(types[i] for i in node.inputs), **node.params):
                    kept.extend(range(first, first + len(node.out_types)))
    forward = known.replace(outputs=(*known.outputs[:m], *kept), out_tree=None)
    kept_types = tuple(known.value_types[i] for i in kept)
    place = {i: k for k, i in enumerate(kept)}

    def recompute(*args: Any) -> list[Any]:
        tangents, primals, saved = args[:n_t], args[n_t : n_t + n_in], args[n_t + n_in :]
        env: list[Any] = [*primals, *constant_arrays(known)]
        with node_contexts() as enter:
            for node, first in zip(known.nodes, known.first_outputs, strict=True):
                ids = range(first, first + len(node.out_types))
                if all(i in place for i in ids):
                    env.extend(saved[place[i]] for i in ids)
                    continue
                if node.primitive.is_effectful(node.params):  # prints happen once
                    if not node.out_types:
                        continue
                enter(node)
                out = bind(node.primitive, *[env[i] for i in node.inputs], **node.params)
                env.extend(out if node.primitive.multiple_results else (out,))
        residuals = [env[i] for i in known.outputs[m:]]
        return run(linear, [*tangents, *residuals])

    t_types = [tangent_type(t) for t, nz in zip(asg.inputs, nonzero, strict=True) if nz]
    again, _ = trace_flat(
        recompute, [*t_types, *known.inputs, *kept_types], name=f"recompute({asg.name})", why="checkpoint"
    )
    return forward, again, present, kept_types


def _linearize(primals: Sequence[Any], tangents: Sequence[Any], *, asg: Asg, policy: Any, prevent_cse: bool) -> tuple:
    nonzero = tuple(not is_zero(t) for t in tangents)
    forward, again, present, _ = _split_graph(asg, nonzero, policy)
    outs = bind(jit_p, *primals, asg=forward, name=f"checkpoint({asg.name})")
    m = len(asg.outputs)
    if not any(present):
        return outs[:m], spread((), present, asg.out_types)
    ts = [t for t in tangents if not is_zero(t)]
    moved = bind(checkpoint_p, *ts, *primals, *outs[m:], asg=again, policy=None, prevent_cse=prevent_cse)
    return outs[:m], spread(moved, present, asg.out_types)


checkpoint_p = Primitive(
    "checkpoint",
    category="call",
    type_rule=call_type,
    **{**call_rules("checkpoint"), "linearize": _linearize},
    multiple_results=True,
    holds_graphs=True,
    what="Calls a function whose intermediate values are computed again for the gradient instead of being kept.",
    formula="y = f(x)",
    why="Deep networks that do not fit into memory otherwise.",
)


def checkpoint(
    fun: Callable,
    *,
    prevent_cse: bool = True,
    policy: Callable | None = None,
    static_argnums: int | Sequence[int] = (),
    concrete: bool = False,
) -> Callable:
    """A function that saves memory under differentiation by computing its intermediate values again.

    Arguments:
        policy: what to keep anyway, see `checkpoint_policies`; by default only the arguments.
        static_argnums: arguments that are Python values.
        prevent_cse: keep the recomputation apart from the first computation, so that it is not optimised away.

    Source: A. Griewank, A. Walther, Algorithm 799: Revolve, 2000; T. Chen et al., Training Deep Nets with Sublinear Memory Cost, 2016.
    """
    f = as_function("checkpoint", fun)
    if concrete:
        raise TransformError(
            "checkpoint: the option concrete=True is gone, as in JAX; make the arguments that Python looks at static (static_argnums)"
        )
    static = StaticArguments(f, static_argnums)

    @wraps(f, updated=())
    def checkpointed(*args: Any, **kwargs: Any) -> Any:
        inner, dynamic, named = static.bind(args, kwargs)
        leaves, _ = tree_flatten((tuple(dynamic), named))
        leaves = check_leaves(leaves, lambda: leaf_names(inner, dynamic, named), "checkpoint", f)
        asg, captured, out_tree = trace_to_graph(
            inner, dynamic, named, why="checkpoint", types=[x.aval for x in leaves]
        )
        outs = bind(
            checkpoint_p,
            *leaves,
            *captured,
            asg=asg.replace(name=function_name(f)),
            policy=policy,
            prevent_cse=prevent_cse,
        )
        return tree_unflatten(out_tree, outs)

    return checkpointed


remat = checkpoint


# ---------------------------------------------------------------------------------------------- what is saved
def saved_residuals(f: Callable, *args: Any, **kwargs: Any) -> list[tuple[ArrayType, str]]:
    """What reverse-mode differentiation of f at these arguments keeps in memory: types, and where each comes from."""
    f = as_function("saved_residuals", f)
    asg, captured, _ = trace_to_graph(f, args, kwargs, why="saved_residuals")
    if captured:
        raise TransformError(
            "saved_residuals: the function uses traced values of an enclosing function; pass them as arguments"
        )
    nonzero = tuple(dtypes.is_inexact(t.dtype) for t in asg.inputs)
    known, _, _ = linearize_graph(_flattened(asg), nonzero)
    m = len(asg.outputs)
    found: list[tuple[ArrayType, str]] = []
    seen = set()
    for i in known.outputs[m:]:
        if i in seen:
            continue
        seen.add(i)
        t = known.value_types[i]
        if i < len(known.inputs):
            found.append((t, f"from the argument {known.input_names[i]}"))
        elif i < len(known.inputs) + len(known.constants):
            found.append((t, "from a constant"))
        else:
            node = known.nodes[known.producers[i]]
            if node.primitive.name == "name":
                found.append((t, f"named '{node.params['name']}' from {node.source}"))
            else:
                found.append((t, f"output of {node.primitive.name} from {node.source}"))
    return [(t, where) for t, where in found if t.dtype != dtypes.float0]


def _flattened(asg: Asg) -> Asg:
    """The graph with plain calls inlined, so that residuals are named by the operations inside them."""

    def flat(*args: Any) -> list[Any]:
        def walk(g: Asg, values: Sequence[Any]) -> list[Any]:
            env: list[Any] = [*values, *constant_arrays(g)]
            with node_contexts() as enter:
                for node in g.nodes:
                    enter(node)
                    operands = [env[i] for i in node.inputs]
                    if node.primitive is jit_p:
                        env.extend(walk(node.params["asg"], operands))
                    else:
                        out = bind(node.primitive, *operands, **node.params)
                        env.extend(out if node.primitive.multiple_results else (out,))
            return [env[i] for i in g.outputs]

        return walk(asg, args)

    return trace_flat(flat, asg.inputs, name=asg.name, input_names=asg.input_names, why="saved_residuals")[0]


def print_saved_residuals(f: Callable, *args: Any, **kwargs: Any) -> None:
    """Prints a line for each value that differentiating f keeps in memory."""
    for t, where in saved_residuals(f, *args, **kwargs):
        print(f"{t} {where}")
