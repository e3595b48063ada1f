"""From the user's functions on pytrees to graphs on flat lists, and back."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from types import FunctionType
from typing import Any

from asgfn import dtypes
from asgfn.errors import NotAnArrayError, TransformError
from asgfn.graph.asg import Asg
from asgfn.graph.types import ArrayType
from asgfn.primitives.shaping import convert_element_type
from asgfn.tracing import Array, as_array, trace_flat, type_of
from asgfn.transforms.interpret import run
from asgfn.transforms.static import StaticArguments
from asgfn.tree_util import keystr, tree_flatten, tree_flatten_with_path, tree_structure, tree_unflatten


def function_name(f: Any) -> str:
    """A name for error messages and pictures."""
    while hasattr(f, "func"):  # functools.partial
        f = f.func
    return getattr(f, "__name__", type(f).__name__)


def _parameter_names(f: Callable) -> tuple[str, ...]:
    known = getattr(f, "argument_names", None)  # a function some of whose arguments were filled in
    if known is not None:
        return known
    if type(f) is FunctionType and not f.__dict__:  # which most are; others may tell of another signature
        return f.__code__.co_varnames[: f.__code__.co_argcount]
    try:
        parameters = inspect.signature(f).parameters.values()
    except (TypeError, ValueError):
        return ()
    return tuple(p.name for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD))


def argument_name(f: Any, position: int) -> str:
    """The name of a positional parameter of f."""
    names = _parameter_names(f)
    return names[position] if position < len(names) else f"args[{position}]"


def leaf_names(
    f: Any, args: Sequence[Any], kwargs: dict[str, Any] | None = None, positions: Sequence[int] | None = None
) -> list[str]:
    """A path such as ``params['w']`` for every leaf of the arguments, in flattening order."""
    names: list[str] = []
    known = _parameter_names(f)
    for k, arg in enumerate(args):
        at = positions[k] if positions is not None else k
        base = known[at] if at < len(known) else f"args[{at}]"
        if isinstance(arg, Array):
            names.append(base)
            continue
        names.extend(base + keystr(path) for path, _ in tree_flatten_with_path(arg)[0])
    for key in sorted(kwargs or {}):
        names.extend(key + keystr(path) for path, _ in tree_flatten_with_path(kwargs[key])[0])  # type: ignore[index]
    return names


def check_leaves(leaves: Sequence[Any], names: Callable[[], list[str]], transform: str, f: Any) -> list[Any]:
    """Leaves as arrays.

    Raises:
        NotAnArrayError: naming the argument path of a leaf that is not an array.
    """
    out = []
    for k, leaf in enumerate(leaves):
        try:
            out.append(as_array(leaf))
        except NotAnArrayError as error:
            raise NotAnArrayError(f"{transform}({function_name(f)}): argument {names()[k]}: {error.args[0]}") from None
    return out


class FlatFunction:
    """A function on pytrees as a function on flat lists; after a call `out_tree` tells how its result was packed."""

    def __init__(self, f: Callable, in_tree: Any):
        self.f = f
        self.in_tree = in_tree
        self.out_tree: Any = None

    def __call__(self, *leaves: Any) -> list[Any]:
        args, kwargs = tree_unflatten(self.in_tree, leaves)
        result = self.f(*args, **kwargs)
        out, self.out_tree = tree_flatten(result)
        return check_outputs(out, result, self.f)


def check_outputs(leaves: Sequence[Any], result: Any, f: Any) -> list[Array]:
    """The leaves of a function's result as arrays.

    Raises:
        TransformError: naming the path of a leaf that is not an array.
    """
    try:
        return [as_array(leaf) for leaf in leaves]
    except NotAnArrayError as error:
        for path, leaf in tree_flatten_with_path(result)[0]:
            try:
                as_array(leaf)
            except NotAnArrayError:
                raise NotAnArrayError(
                    f"{function_name(f)} returned something that is not an array{' at ' + keystr(path) if path else ''}: {error.args[0]}"
                ) from None
        raise


def trace_to_graph(
    f: Callable,
    args: Sequence[Any],
    kwargs: dict[str, Any] | None = None,
    *,
    staging: bool = True,
    values: bool = False,
    why: str = "jit",
    types: Sequence[ArrayType] | None = None,
) -> tuple[Asg, list[Any], Any]:
    """Traces f on arguments of these types.

    Arguments:
        values: let Python see the arguments' values while f runs (`if x > 0:`).

    Returns:
        the graph (its inputs are the leaves of the arguments, then captured tracers), the captured tracers, and the
        structure of the result.
    """
    leaves, in_tree = tree_flatten((tuple(args), kwargs or {}))
    if types is None:
        types = [type_of(leaf) for leaf in leaves]
    flat = FlatFunction(f, in_tree)
    asg, captured = trace_flat(
        flat,
        types,
        name=function_name(f),
        input_names=leaf_names(f, args, kwargs),
        values=list(leaves) if values else None,
        staging=staging,
        why=why,
    )
    return asg, captured, flat.out_tree


def trace(f: Callable, **static: Any) -> Callable[..., Asg]:
    """``trace(f)(*args)`` is the graph of f for arguments of these shapes and dtypes.

    Arguments:
        f: a function from pytrees of arrays to a pytree of arrays (or an Asg, which is returned as it is).
        static_argnums, static_argnames: arguments that are passed to f as they are.

    The arguments may be arrays, Python numbers, or `ShapeDtypeStruct`s. The graph is called like f.

    Example:
        >>> import asgfn, asgfn.numpy as jnp
        >>> asg = asgfn.trace(lambda x: jnp.sin(x) * 2)(jnp.ones(3))
        >>> [node.primitive.name for node in asg.nodes]
        ['sin', 'mul']
    """
    split = StaticArguments(f, **static)

    def traced(*args: Any, **kwargs: Any) -> Asg:
        if isinstance(f, Asg):
            return f
        fun, dynamic, named = split.bind(args, kwargs)
        asg, captured, out_tree = trace_to_graph(fun, dynamic, named, why="trace")
        if captured:
            raise TransformError(
                f"trace({function_name(f)}): the function uses traced values of an enclosing function ({len(captured)} of them); a graph must be closed, so pass them as arguments"
            )
        return asg.replace(in_tree=tree_structure((tuple(dynamic), named)), out_tree=out_tree, name=function_name(f))

    return traced


def call_graph(asg: Asg, *args: Any, **kwargs: Any) -> Any:
    """What calling an `Asg` does: evaluates it on arrays packed as its function took them, or on a flat list."""
    leaves, tree = tree_flatten((args, kwargs))
    if asg.in_tree is not None and tree != asg.in_tree and len(leaves) != len(asg.inputs):
        raise TransformError(f"calling graph {asg.name}: it takes arguments of structure {asg.in_tree}, got {tree}")
    if len(leaves) != len(asg.inputs):
        raise TransformError(f"calling graph {asg.name}: it takes {len(asg.inputs)} arrays, got {len(leaves)}")
    arrays = []
    for k, (leaf, t) in enumerate(zip(leaves, asg.inputs, strict=True)):
        x = as_array(leaf)
        if x.weak_type and x.dtype != t.dtype and dtypes.promote_avals((x.aval, t))[0] == t.dtype:
            x = convert_element_type(x, t.dtype)
        if x.shape != t.shape or x.dtype != t.dtype:
            raise TransformError(f"calling graph {asg.name}: argument {asg.input_names[k]} must be {t}, got {x.aval}")
        arrays.append(x)
    outs = run(asg, arrays)
    if asg.out_tree is not None:
        return tree_unflatten(asg.out_tree, outs)
    return outs[0] if len(outs) == 1 else tuple(outs)


# Asg only declares it: graphs know nothing of interpreters


def as_function(name: str, fun: Any) -> Callable:
    """A function that a transform may be applied to: a callable, or a graph.

    Raises:
        TypeError: it is neither.
    """
    if isinstance(fun, Asg):

        def apply(*args: Any, **kwargs: Any) -> Any:
            return call_graph(fun, *args, **kwargs)

        apply.__name__ = fun.name or "graph"
        return apply
    if not callable(fun):
        raise TypeError(f"{name}: expected a function or a graph, got {fun!r} of type {type(fun).__name__}")
    if hasattr(fun, "__code__") and fun.__code__.co_flags & 0x20:
        raise TypeError(
            f"{name}: {function_name(fun)} is a generator function; transforms need functions that return arrays"
        )
    return fun


Asg.__call__ = call_graph  # type: ignore[method-assign]
