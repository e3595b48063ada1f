"""Functions that close over traced values, made explicit: `closure_convert`, `custom_gradient`."""

from __future__ import annotations

from collections.abc import Callable
from functools import update_wrapper
from typing import Any

from asgfn.primitives.base import (
    tangent_type,
)
from asgfn.tracing import as_array, trace_flat
from asgfn.transforms.custom_vjp import custom_vjp
from asgfn.transforms.function import FlatFunction, function_name
from asgfn.transforms.interpret import run
from asgfn.tree_util import register_pytree_node, tree_flatten, tree_leaves, tree_structure, tree_unflatten


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
