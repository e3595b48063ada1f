"""Python called from programs: `pure_callback`, `io_callback`, `debug.callback`, `debug.print`; and `stop_gradient`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from asgfn import dtypes
from asgfn.errors import CallbackError, TransformError
from asgfn.graph.types import ArrayType
from asgfn.primitives.base import Primitive, Zero, bdim_at_front, tangent_type
from asgfn.primitives.padding import concatenate
from asgfn.primitives.shaping import expand_dims
from asgfn.primitives.slicing import index_in_dim
from asgfn.tracing import as_array, bind, concrete
from asgfn.tree_util import keystr, tree_flatten, tree_flatten_with_path, tree_map, tree_unflatten


# ---------------------------------------------------------------------------------------------- pure_callback
def _callback_type(*types: ArrayType, result_types: tuple, **params: Any) -> tuple:
    return result_types


def _callback_jvp(primals: Sequence[Any], tangents: Sequence[Any], *, result_types: tuple, **params: Any) -> tuple:
    if all(not dtypes.is_inexact(t.dtype) for t in result_types):
        outs = bind(pure_callback_p, *primals, result_types=result_types, **params)
        return outs, tuple(Zero(tangent_type(t)) for t in result_types)
    raise TransformError(
        "pure_callback has no derivative, because Python code cannot be differentiated: wrap the call in a custom_jvp or custom_vjp function, or stop_gradient its arguments"
    )


def _sequential(call: Callable, args: Sequence[Any], dims: Sequence[int | None], size: int) -> list[tuple]:
    front = [bdim_at_front(x, d, size) if d is not None else x for x, d in zip(args, dims, strict=True)]
    return [
        call([index_in_dim(x, i, 0, keepdims=False) if d is not None else x for x, d in zip(front, dims, strict=True)])
        for i in range(size)
    ]


def _callback_batch(
    args: Sequence[Any],
    dims: Sequence[int | None],
    *,
    callback: Callable,
    result_types: tuple,
    vmap_method: str | None,
    in_tree: Any,
) -> tuple:
    size = next(x.shape[d] for x, d in zip(args, dims, strict=True) if d is not None)
    batched_types = tuple(t.update(shape=(size, *t.shape)) for t in result_types)
    params = {"callback": callback, "vmap_method": vmap_method, "in_tree": in_tree}
    if vmap_method in ("expand_dims", "broadcast_all"):
        full = []
        for x, d in zip(args, dims, strict=True):
            if d is not None or vmap_method == "broadcast_all":
                full.append(bdim_at_front(x, d, size))
            else:
                full.append(expand_dims(x, (0,)))
        return bind(pure_callback_p, *full, result_types=batched_types, **params), (0,) * len(result_types)
    if vmap_method in ("sequential", "sequential_unrolled"):
        rows = _sequential(lambda xs: bind(pure_callback_p, *xs, result_types=result_types, **params), args, dims, size)
        outs = tuple(concatenate([expand_dims(y, (0,)) for y in column], 0) for column in zip(*rows, strict=True))
        return outs, (0,) * len(outs)
    raise TransformError(
        "pure_callback under vmap: say how with vmap_method='sequential' (one call an element), 'expand_dims' or 'broadcast_all' (one call with a leading batch axis)"
    )


pure_callback_p = Primitive(
    "pure_callback",
    category="callback",
    type_rule=_callback_type,
    jvp=_callback_jvp,
    batch=_callback_batch,
    multiple_results=True,
    what="Calls a Python function on the arrays' values.",
    formula="y = python(x)",
    why="NumPy, SciPy or anything else inside a jitted program.",
)


def _result_types(name: str, result_shape_dtypes: Any) -> tuple[tuple[ArrayType, ...], Any]:
    leaves, tree = tree_flatten(result_shape_dtypes)
    for leaf in leaves:
        if not hasattr(leaf, "shape") or not hasattr(leaf, "dtype"):
            raise TypeError(f"{name}: result_shape_dtypes must be made of arrays or ShapeDtypeStructs, got {leaf!r}")
    return tuple(ArrayType(tuple(x.shape), dtypes.canonicalize(x.dtype)) for x in leaves), tree


def checked_results(
    name: str, callback: Callable, result: Any, tree: Any, types: Sequence[ArrayType]
) -> list[np.ndarray]:
    """A callback's results as arrays of the promised types.

    Raises:
        CallbackError: structure, shape or dtype differ from what was promised.
    """
    _, found = tree_flatten(result)
    who = getattr(callback, "__name__", repr(callback))
    if found != tree:
        raise CallbackError(f"{name}: {who} promised a result of structure {tree} but returned {found}")
    arrays = []
    for (path, leaf), t in zip(tree_flatten_with_path(result)[0], types, strict=True):
        x = np.asarray(leaf)
        if x.shape != t.shape or dtypes.canonicalize(x.dtype) != t.dtype:
            raise CallbackError(
                f"{name}: {who} promised {t}{' at ' + keystr(path) if path else ''} but returned {x.dtype.name}{list(x.shape)}"
            )
        arrays.append(np.array(x, t.dtype))
    return arrays


class _FlatCallback:
    """A user's callback on flat lists of NumPy arrays. Equal to others that do the same, so that programs can be shared."""

    def __init__(self, name: str, f: Callable, tree: Any, types: tuple, in_tree: Any, arrays: bool = True):
        self.name, self.f, self.tree, self.types, self.in_tree, self.arrays = name, f, tree, types, in_tree, arrays
        self.__name__ = getattr(f, "__name__", "callback")

    def _key(self) -> tuple:
        return self.name, self.f, self.tree, self.types, self.in_tree

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _FlatCallback) and self._key() == other._key()

    def __hash__(self) -> int:
        return hash((self.name, self.tree, self.in_tree))

    def __call__(self, values: Sequence[np.ndarray], result_types: Sequence[ArrayType]) -> list[np.ndarray]:
        wrapped = [concrete(np.array(v), ArrayType(np.shape(v), v.dtype)) for v in values]
        args, kwargs = tree_unflatten(self.in_tree, wrapped)
        return checked_results(self.name, self.f, self.f(*args, **kwargs), self.tree, result_types)


def pure_callback(
    callback: Callable,
    result_shape_dtypes: Any,
    *args: Any,
    sharding: Any = None,
    vmap_method: str | None = None,
    vectorized: Any = None,
    **kwargs: Any,
) -> Any:
    """Calls a Python function without side effects from a program.

    Arguments:
        callback: gets arrays packed like args and kwargs; returns NumPy arrays.
        result_shape_dtypes: what it returns, as a pytree of `ShapeDtypeStruct`s.
        vmap_method: what `vmap` does: "sequential", "expand_dims" or "broadcast_all"; without it `vmap` raises.

    Raises:
        CallbackError: it returns something else than promised.
    """
    leaves, in_tree = tree_flatten((args, kwargs))
    types, tree = _result_types("pure_callback", result_shape_dtypes)
    flat = _FlatCallback("pure_callback", callback, tree, types, in_tree)
    outs = bind(pure_callback_p, *leaves, callback=flat, result_types=types, vmap_method=vmap_method, in_tree=in_tree)
    return tree_unflatten(tree, outs)


# ---------------------------------------------------------------------------------------------- effects
def _effect_type(*types: ArrayType, result_types: tuple, **params: Any) -> tuple:
    return result_types


def _effect_jvp(primals: Sequence[Any], tangents: Sequence[Any], *, result_types: tuple, **params: Any) -> tuple:
    if result_types:
        raise TransformError("io_callback has no derivative: wrap the call in a custom_jvp or custom_vjp function")
    return bind(effect_p, *primals, result_types=result_types, **params), ()


def _effect_batch(args: Sequence[Any], dims: Sequence[int | None], *, result_types: tuple, **params: Any) -> tuple:
    if params["ordered"]:
        raise TransformError(
            "io_callback(ordered=True) cannot be mapped: a batch has no order; use ordered=False, or lax.map"
        )
    size = next(x.shape[d] for x, d in zip(args, dims, strict=True) if d is not None)
    rows = _sequential(lambda xs: bind(effect_p, *xs, result_types=result_types, **params), args, dims, size)
    outs = tuple(concatenate([expand_dims(y, (0,)) for y in column], 0) for column in zip(*rows, strict=True))
    return outs, (0,) * len(outs)


effect_p = Primitive(
    "callback",
    category="callback",
    type_rule=_effect_type,
    jvp=_effect_jvp,
    transpose=lambda cts, *operands, **params: [None] * len(operands),
    batch=_effect_batch,
    multiple_results=True,
    effect=True,
    what="Calls a Python function for its side effect.",
    formula="python(x)",
    why="Printing, logging, progress, inspecting values of a compiled program.",
)


def io_callback(
    callback: Callable, result_shape_dtypes: Any, *args: Any, sharding: Any = None, ordered: bool = False, **kwargs: Any
) -> Any:
    """Calls a Python function with side effects from a program; the call is never dropped or repeated. Effects happen in program order."""
    leaves, in_tree = tree_flatten((args, kwargs))
    types, tree = _result_types("io_callback", result_shape_dtypes)
    flat = _FlatCallback("io_callback", callback, tree, types, in_tree)
    outs = bind(effect_p, *leaves, callback=flat, result_types=types, ordered=bool(ordered))
    return tree_unflatten(tree, outs)


class _DebugCallback(_FlatCallback):
    """A callback whose result does not matter."""

    def __call__(self, values: Sequence[np.ndarray], result_types: Sequence[ArrayType]) -> list[np.ndarray]:
        wrapped = [concrete(np.array(v), ArrayType(np.shape(v), v.dtype)) for v in values]
        args, kwargs = tree_unflatten(self.in_tree, wrapped)
        self.f(*args, **kwargs)
        return []


def debug_callback(
    callback: Callable, *args: Any, ordered: bool = False, partitioned: bool = False, **kwargs: Any
) -> None:
    """Calls a Python function with values of a running program (also under grad, vmap and in loops); its result is ignored."""
    arrays: list[Any] = []
    leaves, in_tree = tree_flatten((args, kwargs))
    static: dict[int, Any] = {}
    for i, leaf in enumerate(leaves):
        try:
            arrays.append(as_array(leaf))
        except TypeError:  # strings and the like go through as they are
            static[i] = leaf
    n = len(leaves)

    def fill(*values: Any) -> None:
        given = iter(values)
        full = [static[i] if i in static else next(given) for i in range(n)]
        a, k = tree_unflatten(in_tree, full)
        callback(*a, **k)

    fill.__name__ = getattr(callback, "__name__", "callback")
    flat_tree = tree_flatten((tuple(arrays), {}))[1]
    bind(
        effect_p,
        *arrays,
        callback=_DebugCallback("debug.callback", fill, None, (), flat_tree),
        result_types=(),
        ordered=bool(ordered),
    )


def debug_print(
    fmt: str,
    *args: Any,
    ordered: bool = False,
    partitioned: bool = False,
    skip_format_check: bool = False,
    **kwargs: Any,
) -> None:
    """Prints values of a running program: ``debug.print("x = {x}", x=x)``. The format is a `str.format` string, not an f-string."""
    if not isinstance(fmt, str):
        raise TypeError(
            f"debug.print: the first argument is a format string, got {type(fmt).__name__}; write debug.print('x = {{}}', x)"
        )
    probe = _Probe()
    try:
        fmt.format(*[probe] * len(args), **dict.fromkeys(kwargs, probe))
    except (IndexError, KeyError) as error:
        raise ValueError(
            f"debug.print: the format {fmt!r} does not fit its arguments ({error}). Pass values as arguments instead of putting them into an f-string"
        ) from None

    def show(*values: Any, **named: Any) -> None:
        print(fmt.format(*map(_printable, values), **{k: _printable(v) for k, v in named.items()}))

    debug_callback(show, *args, ordered=ordered, **kwargs)


class _Probe:
    """Accepts any format specification and access, to check a format string."""

    def __format__(self, spec: str) -> str:
        return ""

    def __getattr__(self, name: str) -> _Probe:
        return self

    def __getitem__(self, key: Any) -> _Probe:
        return self


def _printable(x: Any) -> Any:
    def leaf(v: Any) -> Any:
        return np.asarray(v)[()] if hasattr(v, "aval") else v

    return tree_map(leaf, x)


# ---------------------------------------------------------------------------------------------- stop_gradient
stop_gradient_p: Primitive = Primitive(
    "stop_gradient",
    category="call",
    type_rule=lambda x: x,
    jvp=lambda primals, tangents: (bind(stop_gradient_p, primals[0]), Zero(tangent_type(primals[0].aval))),
    batch=lambda args, dims: (bind(stop_gradient_p, args[0]), dims[0]),
    what="The same value, treated as a constant by differentiation.",
    formula="y = x, dy = 0",
    why="Target networks, straight-through estimators, frozen parts.",
)


def stop_gradient(x: Any) -> Any:
    """x (a pytree) unchanged, but with zero derivative."""

    def one(leaf: Any) -> Any:
        leaf = as_array(leaf, "stop_gradient")
        return bind(stop_gradient_p, leaf) if dtypes.is_inexact(leaf.dtype) else leaf

    return tree_map(one, x)
