"""What functions with rules of their own share.

A call of one becomes a node that holds the traced function and, beside it, the rule as a Python function on flat lists. The
rule is traced only when a transform needs it.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from functools import partial, update_wrapper
from typing import Any

from asgfn.errors import TransformError
from asgfn.graph.asg import Asg
from asgfn.graph.serial import parameter_codec
from asgfn.graph.types import ArrayType
from asgfn.primitives.base import (
    Zero,
    instantiate_zeros,
    tangent_type,
)
from asgfn.tracing import Tracer, as_array, state, trace_flat
from asgfn.transforms.function import FlatFunction, function_name, leaf_names
from asgfn.tree_util import tree_flatten, tree_leaves, tree_structure


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


def resolve_arguments(f: Callable, args: Sequence[Any], kwargs: dict[str, Any]) -> tuple:
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


def close_over(f: Callable, args: Sequence[Any], nums: Sequence[int]) -> tuple[Callable, list[Any], list[Any]]:
    """f with the arguments at `nums` fixed; the other arguments; the fixed ones."""
    nums = tuple(n + len(args) if n < 0 else n for n in nums)
    fixed = {n: args[n] for n in nums}
    rest = [a for i, a in enumerate(args) if i not in fixed]

    def partial(*dynamic: Any) -> Any:
        given = iter(dynamic)
        return f(*(fixed[i] if i in fixed else next(given) for i in range(len(args))))

    partial.__name__ = function_name(f)
    return partial, rest, [fixed[n] for n in nums]


def nothing_traced(args: Sequence[Any]) -> bool:
    """Whether no transform can see this call, so that the function itself will do."""
    return state.staging is None and not any(type(x) is Tracer for x in tree_leaves(args))


def trace_call(name: str, f: Callable, args: Sequence[Any]) -> tuple[list[Any], Any, Asg, list[Any], Any]:
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


class CustomFunction:
    """What `custom_jvp`, `custom_vjp` and `custom_vmap` share: they stand for the function that they wrap.

    Attributes:
        fun: the function.
        nondiff_argnums: positions of arguments that rules get as they are.
    """

    __call__: Callable[..., Any]

    def __init__(self, fun: Callable, nondiff_argnums: Sequence[int] = (), nondiff_argnames: Sequence[str] = ()):
        update_wrapper(self, fun, updated=())
        self.fun = fun
        names = list(inspect.signature(fun).parameters) if nondiff_argnames else []
        self.nondiff_argnums = tuple(nondiff_argnums) + tuple(names.index(n) for n in nondiff_argnames)

    def __get__(self, instance: Any, owner: Any = None) -> Any:
        """As a method: binds like a function does."""
        return self if instance is None else partial(self, instance)

    def __getattr__(self, name: str) -> Any:
        if name == "fun":  # not there yet: nothing to forward to
            raise AttributeError(name)
        return getattr(self.fun, name)
