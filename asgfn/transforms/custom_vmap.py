"""`custom_vmap`: functions that bring their own vectorisation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from asgfn.control.associative import map as sequential_map
from asgfn.errors import StructureError, TransformError
from asgfn.graph.asg import Asg
from asgfn.primitives.base import (
    Primitive,
    move_batch_axis,
)
from asgfn.tracing import as_array, bind
from asgfn.transforms.batching import MappedAxis
from asgfn.transforms.call import call_type, jit_p
from asgfn.transforms.custom_rules import CustomFunction, Rule, resolve_arguments, trace_call
from asgfn.transforms.function import function_name
from asgfn.tree_util import tree_flatten, tree_leaves, tree_map, tree_unflatten


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


class custom_vmap(CustomFunction):
    """A function with a vectorisation rule of its own.

    The rule is given by `def_vmap`: ``rule(axis_size, in_batched, *args) -> (out, out_batched)``, where arguments that are
    batched have the mapped axis in front, and `in_batched`, `out_batched` are pytrees of bools.
    """

    def __init__(self, fun: Callable):
        super().__init__(fun)
        self.vmap_rule: Callable | None = None

    def def_vmap(self, vmap_rule: Callable) -> Callable:
        """Sets the rule; usable as a decorator."""
        self.vmap_rule = vmap_rule
        return vmap_rule

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        name = function_name(self.fun)
        if self.vmap_rule is None:
            raise AttributeError(f"no rule for custom_vmap function {name}: define one with {name}.def_vmap")
        full = resolve_arguments(self.fun, args, kwargs)
        leaves, in_tree, asg, captured, out_tree = trace_call("custom_vmap", self.fun, full)
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
