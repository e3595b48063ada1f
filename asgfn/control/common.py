"""What `scan`, `cond` and `while_loop` share: tracing their functions and checking what goes round."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from asgfn import dtypes
from asgfn.errors import GraphError, StructureError
from asgfn.graph.asg import Asg
from asgfn.graph.types import ArrayType
from asgfn.primitives.shaping import convert_element_type
from asgfn.tracing import Array, as_array, trace_flat
from asgfn.transforms.function import FlatFunction, function_name
from asgfn.tree_util import keystr, tree_flatten, tree_flatten_with_path, tree_unflatten


def arrays_of(name: str, tree: Any) -> tuple[list[Array], Any]:
    """The leaves of a pytree as arrays, and its structure."""
    leaves, structure = tree_flatten(tree)
    return [as_array(x, name) for x in leaves], structure


def trace_body(
    name: str, f: Callable, in_tree: Any, types: Sequence[ArrayType], names: Sequence[str] | None = None
) -> tuple[Asg, list[Any], Any]:
    """Traces a body on arguments packed as `in_tree`. Returns graph, captured tracers and the result's structure."""
    flat = FlatFunction(f, in_tree)
    asg, captured = trace_flat(flat, types, name=function_name(f), input_names=names, why=name)
    return asg, captured, flat.out_tree


def check_count(name: str, types: Sequence[ArrayType], expected: int) -> None:
    """Raises GraphError unless there are that many types."""
    if len(types) != expected:
        raise GraphError(f"{name}: {expected} values are expected, got {len(types)}")


def check_same(name: str, expected: Sequence[ArrayType], types: Sequence[ArrayType]) -> None:
    """Raises GraphError unless types agree in shape and dtype: the graphs that a loop or branch holds must fit together."""
    check_count(name, types, len(expected))
    for k, (t, e) in enumerate(zip(types, expected, strict=True)):
        if t is not e and (t.shape != e.shape or t.dtype != e.dtype):
            raise GraphError(f"{name}: value {k} must be {e}, got {t}")


def paths_of(base: str, structure: Any) -> list[str]:
    """A path for every leaf of a structure."""
    filled = tree_unflatten(structure, range(structure.num_leaves))
    return [base + keystr(p) for p, _ in tree_flatten_with_path(filled)[0]]


def promoted_carry(name: str, init: Sequence[Array], out_types: Sequence[ArrayType]) -> list[Array] | None:
    """Initial carry with weakly typed leaves given the dtype that the body returns; None if nothing changes.

    `scan(f, 0, xs)` may thus count in float32.
    """
    changed = False
    result = []
    for x, t in zip(init, out_types, strict=True):
        if x.weak_type and (x.dtype != t.dtype or not t.weak_type) and x.shape == t.shape:
            joined = dtypes.promote_avals((x.aval, t))[0]
            if joined == t.dtype:
                x = convert_element_type(x, t.dtype, t.weak_type)
                changed = True
        result.append(x)
    return result if changed else None


def check_carry(
    name: str, f: Any, in_tree: Any, out_tree: Any, init: Sequence[ArrayType], out: Sequence[ArrayType]
) -> None:
    """Raises StructureError unless the body returns the carry as it got it; names every leaf that differs."""
    if in_tree != out_tree:
        raise StructureError(
            f"{name}: {function_name(f)} must return a carry of the structure that it gets:\n  in:  {in_tree}\n  out: {out_tree}"
        )
    different = [
        f"  {path}: {a} goes in, {b} comes out"
        for path, a, b in zip(paths_of("carry", in_tree), init, out, strict=True)
        if a.shape != b.shape or a.dtype != b.dtype
    ]
    if different:
        raise StructureError(
            f"{name}: the carry must keep its types through {function_name(f)}, but these leaves change:\n"
            + "\n".join(different)
            + "\nConvert the initial value (e.g. jnp.float32(0) instead of 0, x.astype(...)) or the returned one"
        )


def check_like(
    name: str, what: str, f: Callable, tree: Any, types: Sequence[ArrayType], out_tree: Any, out: Any
) -> None:
    """Raises unless a function's result has the given structure and types."""
    if out_tree != tree:
        raise StructureError(
            f"{name}: {function_name(f)} must return {what}, of structure {tree}, but it returns {out_tree}"
        )
    rows = [
        f"  {path}: {b} instead of {a}"
        for path, a, b in zip(paths_of("output", tree), types, out, strict=True)
        if a.shape != b.shape or a.dtype != b.dtype
    ]
    if rows:
        raise StructureError(
            f"{name}: {function_name(f)} must return {what}, with the same types, but:\n" + "\n".join(rows)
        )


def solution_tree(name: str, f: Callable, tree: Any, has_aux: bool) -> Any:
    """The structure of the solution in the structure of a solver's result."""
    if not has_aux:
        return tree
    if tree.type is not tuple or tree.num_children != 2:
        raise StructureError(
            f"{name}(..., has_aux=True): {function_name(f)} must return a pair (solution, aux), got {tree}"
        )
    return tree.children()[0]
