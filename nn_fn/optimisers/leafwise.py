"""What all transformations do alike: walk trees leaf by leaf, count, correct a bias, check their numbers."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

import asgfn.numpy as jnp
from asgfn import tree
from asgfn.errors import ShapeError, StructureError
from asgfn.tree_util import keystr, treedef_text


def leafwise(name: str, f: Callable[..., Any], updates: Any, *, first: str = "gradient", **others: Any) -> Any:
    """``f(leaf, other, ...)`` for every leaf of `updates` and those at the same place of other trees.

    Arguments:
        name: who asks, for error messages.
        f: from arrays to an array.
        updates: its structure is that of the result.
        first: what the leaves of `updates` are, for error messages.
        others: trees with the same structure and shapes, by what they are.

    Raises:
        StructureError: the trees differ; the message names the first place where they do.
        ShapeError: two leaves at the same place have different shapes.
    """
    leaves, treedef = tree.flatten(updates)
    leaves = [jnp.asarray(x) for x in leaves]
    columns = [_matched(name, leaves, treedef, other, first, what) for what, other in others.items()]
    return treedef.unflatten(list(map(f, leaves, *columns)))


def _matched(name: str, leaves: list, treedef: Any, other: Any, first: str, what: str) -> list:
    found, structure = tree.flatten(other)
    if structure != treedef:
        raise StructureError(_difference(name, treedef.unflatten(leaves), other, first, what))
    found = [jnp.asarray(x) for x in found]
    for number, (a, b) in enumerate(zip(leaves, found, strict=True)):
        if a.shape != b.shape:
            path = tree.leaves_with_path(other)[number][0]
            raise ShapeError(
                f"{name}: the {first} at {_place(path)} is {a.aval}, the {what} there is {b.aval}; their shapes must be "
                "equal. Was the state made by init(params) for these parameters?"
            )
    return found


def check_like(name: str, updates: Any, params: Any) -> None:
    """Raises a StructureError that names the place unless the two trees have one structure."""
    if tree.structure(updates) != tree.structure(params):
        raise StructureError(_difference(name, updates, params, "gradient", "parameter"))


def _place(path: Any) -> str:
    return keystr(tuple(path)) or "the root"


def _difference(name: str, updates: Any, other: Any, first: str, what: str) -> str:
    ours = [_place(path) for path, _ in tree.leaves_with_path(updates)]
    theirs = [_place(path) for path, _ in tree.leaves_with_path(other)]
    lacking = [p for p in theirs if p not in ours]
    extra = [p for p in ours if p not in theirs]
    parts = [f"there is no {first} at {', '.join(lacking)}"] * bool(lacking)
    parts += [f"there is no {what} at {', '.join(extra)}"] * bool(extra)
    detail = "; ".join(parts) or (
        f"the containers are {treedef_text(tree.structure(updates))} and {treedef_text(tree.structure(other))}"
    )
    return f"{name}: the trees of the {first}s and of the {what}s differ: {detail}."


def wide(x: Any) -> Any:
    """The array in float32 if it has less: what optimisers accumulate would be lost in 8 or 11 bits."""
    return x.astype(jnp.float32) if x.dtype.itemsize < 4 and jnp.issubdtype(x.dtype, jnp.floating) else x


def zeros(params: Any, dtype: Any = None, *, real: bool = False, fill: Any = 0) -> Any:
    """An accumulator for each parameter, of its shape.

    Arguments:
        params: a pytree of arrays.
        dtype: of all accumulators; by default each has its parameter's, or float32 if that has less.
        real: accumulators of complex parameters are real.
        fill: their value.
    """

    def make(p: Any) -> Any:
        p = jnp.asarray(p)
        own = p.dtype if dtype is None else dtype
        if dtype is None and jnp.issubdtype(own, jnp.floating) and own.itemsize < 4:
            own = jnp.float32
        elif real and jnp.issubdtype(own, jnp.complexfloating):
            own = jnp.finfo(own).dtype
        return jnp.full(p.shape, fill, own)

    return tree.map(make, params)


def squared(g: Any) -> Any:
    """The square of the magnitude, real."""
    if jnp.issubdtype(g.dtype, jnp.complexfloating):
        return g.real * g.real + g.imag * g.imag
    return g * g


def scalar(value: Any, like: Any) -> Any:
    """A hyperparameter next to an array: Python's numbers adapt by themselves, an array takes the other's precision."""
    if isinstance(value, (int, float)):
        return value
    value, dtype = jnp.asarray(value), like.dtype
    if value.dtype == dtype:
        return value
    if jnp.issubdtype(dtype, jnp.complexfloating):
        dtype = jnp.finfo(dtype).dtype
    return value.astype(dtype) if jnp.issubdtype(dtype, jnp.inexact) else value


def moment(decay: Any, new: Any, old: Any) -> Any:
    """(1 - decay) * new + decay * old, in the dtype of `old`."""
    decay = scalar(decay, old)
    return ((1 - decay) * new + decay * old).astype(old.dtype)


def zero_count() -> Any:
    """A step counter: int32, so that it counts exactly, unlike a float32 beyond 16,777,216."""
    return jnp.zeros((), jnp.int32)


def increment(count: Any) -> Any:
    """count + 1; at the largest int32 it stays there, where the plain sum would become negative."""
    return jnp.minimum(count, np.iinfo(np.int32).max - 1) + 1


def one_minus_power(decay: Any, count: Any) -> Any:
    """1 - decay**count, to full precision: for 0.999 and one step, the plain formula loses half of float32's digits."""
    if isinstance(decay, (int, float)):
        logarithm = math.log(decay) if decay > 0 else -math.inf
        return -jnp.expm1(count * logarithm)
    return -jnp.expm1(count * jnp.log(decay))


def check_number(
    name: str, what: str, value: Any, least: float = 0.0, most: float = math.inf, *, below: bool = False
) -> None:
    """Raises a ValueError unless least <= value <= most (< most with `below`). Arrays are not looked at."""
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        return
    if not (least <= value < most if below else least <= value <= most):
        if most == math.inf:
            wanted = f"at least {least:g}"
        else:
            wanted = f"in [{least:g}, {most:g}{')' if below else ']'}"
        raise ValueError(f"{name}: {what} must be {wanted}, got {value!r}")
