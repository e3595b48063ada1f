"""Prefix trees: one value for a whole subtree, as in `vmap(f, in_axes=({"w": 0, "b": None}, 0))`.

A tree is a prefix of another when it has the same nodes from the root down to its leaves; each of its leaves stands
for the whole subtree at that place. Structures alone are compared, so no user class is built with stand-in values.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import accumulate
from typing import Any

from asgfn.errors import StructureError
from asgfn.tree.differences import differences, first_difference, paired_children, treedef_text
from asgfn.tree.flattening import IsLeaf, PyTreeDef, tree_flatten, tree_structure
from asgfn.tree.keys import keystr


def broadcast_prefix(
    prefix_tree: Any, full_tree: Any, is_leaf: IsLeaf | None = None, *, name: str = "prefix tree"
) -> list[Any]:
    """The leaves of a prefix tree, each repeated for every leaf of the subtree that it stands for.

    Arguments:
        prefix_tree: a prefix of `full_tree`.
        full_tree: the tree to fill.
        is_leaf: makes nodes of `prefix_tree` leaves; `lambda x: x is None` makes `None` a value.
        name: what the prefix tree is, for error messages.

    Returns:
        One value for each leaf of `full_tree`.

    Raises:
        StructureError: it is not a prefix; the message gives the path and both structures.
    """
    return flatten_prefix(name, tree_structure(full_tree), prefix_tree, is_leaf)


def tree_broadcast(prefix_tree: Any, full_tree: Any, is_leaf: IsLeaf | None = None) -> Any:
    """A tree with the structure of `full_tree` and the values of a prefix tree, see `broadcast_prefix`."""
    leaves = broadcast_prefix(prefix_tree, full_tree, is_leaf, name="tree.broadcast: prefix_tree")
    return tree_structure(full_tree).unflatten(leaves)


def flatten_axes(name: str, treedef: PyTreeDef, axes_tree: Any) -> list[Any]:
    """One axis for each leaf of a structure, from a prefix tree of axes in which `None` is a value.

    Arguments:
        name: what the axes are, as "vmap in_axes".
        treedef: the structure of the arguments they belong to.
        axes_tree: an int, `None`, or a prefix of that structure with such leaves.
    """
    if axes_tree is None or isinstance(axes_tree, int):
        return [axes_tree] * treedef.num_leaves
    return flatten_prefix(name, treedef, axes_tree, lambda x: x is None)


def flatten_prefix(name: str, treedef: PyTreeDef, prefix_tree: Any, is_leaf: IsLeaf | None = None) -> list[Any]:
    """`broadcast_prefix` for a full tree of which only the structure is at hand."""
    values, prefix = tree_flatten(prefix_tree, is_leaf)
    if prefix == treedef:
        return values
    if (detail := first_difference(prefix, treedef, name)) is not None:
        raise StructureError(
            f"{name} is not a prefix of the tree it belongs to: {detail}.\n"
            f"  {name}: {treedef_text(prefix)}\n  the tree: {treedef_text(treedef)}\n"
            "Give it the same containers as that tree, or stop earlier with one value for a whole subtree."
        )
    return [values[index] for index, count in _spans(prefix, treedef) for _ in range(count)]


def _spans(prefix: PyTreeDef, full: PyTreeDef, first: int = 0) -> Iterator[tuple[int, int]]:
    """`(index of a prefix leaf, number of leaves it stands for)`, in the order of the full tree's leaves."""
    if prefix.is_leaf():
        yield first, full.num_leaves
        return
    starts = list(accumulate((child.num_leaves for child in prefix.children()), initial=first))
    for index, below, child in paired_children(prefix, full):
        yield from _spans(below, child, starts[index])


def prefix_errors(prefix_tree: Any, full_tree: Any, is_leaf: IsLeaf | None = None, name: str = "prefix") -> list[str]:
    """Every place where a tree fails to be a prefix of another, one line each; empty when it is a prefix."""
    prefix, full = tree_structure(prefix_tree, is_leaf), tree_structure(full_tree)
    return [f"at {name}{keystr(path)}, {text}" for path, text in differences(prefix, full, "the tree")]
