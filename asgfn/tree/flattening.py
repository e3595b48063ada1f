"""Flattening and what follows from it: map, reduce, transpose, and their forms with key paths.

A pytree is a nest of nodes (lists, tuples, dicts, registered classes, `None`) around leaves. `tree_flatten` and
`tree_unflatten` are optree's C++ functions with asgfn's namespace filled in; a `PyTreeDef` is optree's
`PyTreeSpec`: hashable, comparable, with `.num_leaves`, `.unflatten(leaves)`, `.children()`, `.flatten_up_to(tree)`.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from typing import Any

import optree

from asgfn.errors import StructureError
from asgfn.tree.differences import first_difference, treedef_text
from asgfn.tree.keys import KeyEntry, KeyPath, treedef_keys, treedef_paths
from asgfn.tree.registry import NAMESPACE

PyTreeDef = optree.PyTreeSpec
IsLeaf = Callable[[Any], bool]

_flatten, _leaves, _structure = optree.tree_flatten, optree.tree_leaves, optree.tree_structure
_UNSPECIFIED = object()


def tree_flatten(tree: Any, is_leaf: IsLeaf | None = None) -> tuple[list[Any], PyTreeDef]:
    """Takes a pytree apart.

    Arguments:
        tree: any object; one that is no node is itself a single leaf.
        is_leaf: called on every node before it is taken apart; `True` makes the node a leaf.

    Returns:
        `(leaves, treedef)`: the leaves in order, left to right, dicts in the order of their sorted keys, and the
        structure, from which `tree_unflatten` rebuilds the tree.
    """
    return _flatten(tree, is_leaf, namespace=NAMESPACE)


def tree_leaves(tree: Any, is_leaf: IsLeaf | None = None) -> list[Any]:
    """The leaves of a pytree, in order."""
    return _leaves(tree, is_leaf, namespace=NAMESPACE)


def tree_structure(tree: Any, is_leaf: IsLeaf | None = None) -> PyTreeDef:
    """The structure of a pytree, without its leaves."""
    return _structure(tree, is_leaf, namespace=NAMESPACE)


def tree_unflatten(treedef: PyTreeDef, leaves: Iterable[Any]) -> Any:
    """Rebuilds a pytree from its structure and its leaves.

    Raises:
        ValueError: there are more or fewer leaves than the structure holds.
    """
    return treedef.unflatten(leaves)


def tree_is_leaf(tree: Any, is_leaf: IsLeaf | None = None) -> bool:
    """Whether an object is one leaf (and not a node, such as a list, a dict or `None`)."""
    return optree.tree_is_leaf(tree, is_leaf, namespace=NAMESPACE)


def is_tree_node(typ: type) -> bool:
    """Whether instances of this type are pytree nodes."""
    if optree.register_pytree_node.get(typ, namespace=NAMESPACE) is not None:
        return True
    return optree.is_namedtuple_class(typ) or optree.is_structseq_class(typ)


def all_leaves(iterable: Iterable[Any], is_leaf: IsLeaf | None = None) -> bool:
    """Whether every element of the iterable is a leaf."""
    return optree.all_leaves(iterable, is_leaf, namespace=NAMESPACE)


def tree_map(f: Callable[..., Any], tree: Any, *rest: Any, is_leaf: IsLeaf | None = None) -> Any:
    """Applies a function to every leaf, or to the corresponding leaves of several trees.

    Arguments:
        f: takes `1 + len(rest)` arguments.
        tree: its structure is that of the result.
        rest: further trees, each with the structure of `tree` or with subtrees where `tree` has leaves.
        is_leaf: makes nodes of `tree` leaves, see `tree_flatten`.

    Raises:
        StructureError: a tree in `rest` has a different structure; the message names the first differing place.
    """
    leaves, treedef = _flatten(tree, is_leaf, namespace=NAMESPACE)
    if not rest:
        return treedef.unflatten(map(f, leaves))
    return treedef.unflatten(map(f, leaves, *_flatten_rest("tree.map", treedef, rest)))


def _flatten_rest(name: str, treedef: PyTreeDef, rest: tuple[Any, ...]) -> list[list[Any]]:
    columns = []
    for number, tree in enumerate(rest, start=2):
        try:
            columns.append(treedef.flatten_up_to(tree))
        except (ValueError, TypeError) as error:
            detail = first_difference(treedef, tree_structure(tree), "tree 1", f"tree {number}") or str(error)
            raise StructureError(
                f"{name}: tree {number} does not have the structure of tree 1: {detail}.\n"
                f"  tree 1: {treedef_text(treedef)}\n  tree {number}: {treedef_text(tree_structure(tree))}"
            ) from None
    return columns


def tree_reduce(
    function: Callable[[Any, Any], Any], tree: Any, initializer: Any = _UNSPECIFIED, is_leaf: IsLeaf | None = None
) -> Any:
    """Folds the leaves from left to right: `function(function(initializer, leaf_0), leaf_1)` ….

    Raises:
        TypeError: the tree has no leaves and there is no initializer.
    """
    leaves = tree_leaves(tree, is_leaf)
    if initializer is not _UNSPECIFIED:
        return functools.reduce(function, leaves, initializer)
    if not leaves:
        raise TypeError("tree.reduce: the tree has no leaves and no initializer is given.")
    return functools.reduce(function, leaves)


def tree_reduce_associative(
    operation: Callable[[Any, Any], Any], tree: Any, *, identity: Any = _UNSPECIFIED, is_leaf: IsLeaf | None = None
) -> Any:
    """Folds the leaves pairwise, as a balanced tree: depth log2(leaves), for an associative operation.

    Raises:
        TypeError: the tree has no leaves and there is no identity.
    """
    values = tree_leaves(tree, is_leaf)
    if not values:
        if identity is _UNSPECIFIED:
            raise TypeError("tree.reduce_associative: the tree has no leaves and no identity is given.")
        return identity
    while len(values) > 1:
        odd_one = values[len(values) & ~1 :]
        values = [operation(a, b) for a, b in zip(values[0::2], values[1::2], strict=False)] + odd_one
    return values[0]


def tree_all(tree: Any, *, is_leaf: IsLeaf | None = None) -> bool:
    """Whether every leaf is true (`True` for a tree without leaves)."""
    return all(tree_leaves(tree, is_leaf))


def tree_transpose(outer_treedef: PyTreeDef, inner_treedef: PyTreeDef | None, pytree_to_transpose: Any) -> Any:
    """Turns a tree of trees inside out, as a list of dicts into a dict of lists.

    Arguments:
        outer_treedef: the structure of the outer tree.
        inner_treedef: the structure each of its leaves has; `None` takes that of the first one.
        pytree_to_transpose: a tree with the structure `outer_treedef.compose(inner_treedef)`.

    Returns:
        A tree with the structure `inner_treedef.compose(outer_treedef)`.
    """
    (subtrees,) = _flatten_rest("tree.transpose", outer_treedef, (pytree_to_transpose,))
    if inner_treedef is None:
        if not subtrees:
            raise StructureError("tree.transpose: give inner_treedef when the outer tree has no leaves.")
        inner_treedef = tree_structure(subtrees[0])
    rows = []
    for number, subtree in enumerate(subtrees):
        leaves, treedef = tree_flatten(subtree)
        if treedef != inner_treedef:
            raise StructureError(
                f"tree.transpose: subtree {number} has the structure {treedef_text(treedef)}, "
                f"but the inner structure is {treedef_text(inner_treedef)}."
            )
        rows.append(leaves)
    columns = zip(*rows, strict=True) if rows else ((),) * inner_treedef.num_leaves
    return inner_treedef.unflatten(outer_treedef.unflatten(column) for column in columns)


def tree_flatten_with_path(
    tree: Any, is_leaf: Callable[..., bool] | None = None, is_leaf_takes_path: bool = False
) -> tuple[list[tuple[KeyPath, Any]], PyTreeDef]:
    """As `tree_flatten`, but each leaf comes as `(path, leaf)`; `keystr(path)` prints a path.

    Arguments:
        tree: the pytree.
        is_leaf: see `tree_flatten`.
        is_leaf_takes_path: call `is_leaf(path, node)` instead of `is_leaf(node)`.
    """
    if is_leaf is not None and is_leaf_takes_path:
        is_leaf = _predicate_on_path(is_leaf)
    leaves, treedef = tree_flatten(tree, is_leaf)
    return list(zip(treedef_paths(treedef), leaves, strict=True)), treedef


def _predicate_on_path(is_leaf: Callable[[KeyPath, Any], bool]) -> IsLeaf:
    # Nodes are visited in depth-first order, parents first, so a stack of pending paths stays in step with them.
    pending: list[KeyPath] = [()]

    def predicate(node: Any) -> bool:
        path = pending.pop()
        if is_leaf(path, node):
            return True
        pending.extend((*path, key) for key, _ in reversed(_keyed_children(node)))
        return False

    return predicate


def _keyed_children(node: Any) -> list[tuple[KeyEntry, Any]]:
    children, treedef = tree_flatten(node, lambda x: x is not node)
    if treedef.is_leaf():
        return []
    return list(zip(treedef_keys(treedef), children, strict=True))


def tree_leaves_with_path(
    tree: Any, is_leaf: Callable[..., bool] | None = None, is_leaf_takes_path: bool = False
) -> list[tuple[KeyPath, Any]]:
    """The `(path, leaf)` pairs of a tree, see `tree_flatten_with_path`."""
    return tree_flatten_with_path(tree, is_leaf, is_leaf_takes_path)[0]


def tree_map_with_path(
    f: Callable[..., Any],
    tree: Any,
    *rest: Any,
    is_leaf: Callable[..., bool] | None = None,
    is_leaf_takes_path: bool = False,
) -> Any:
    """As `tree_map`, but calls `f(path, leaf, *other_leaves)`."""
    pairs, treedef = tree_flatten_with_path(tree, is_leaf, is_leaf_takes_path)
    paths, leaves = zip(*pairs, strict=True) if pairs else ((), ())
    return treedef.unflatten(map(f, paths, leaves, *_flatten_rest("tree.map_with_path", treedef, rest)))


def flatten_one_level(tree: Any) -> tuple[tuple[Any, ...], Any]:
    """The direct children of a node and its auxiliary data. Raises ValueError on a leaf."""
    children, aux_data, _, _ = optree.tree_flatten_one_level(tree, namespace=NAMESPACE)
    return tuple(children), aux_data


def flatten_one_level_with_keys(tree: Any) -> tuple[list[tuple[KeyEntry, Any]], Any]:
    """As `flatten_one_level`, but each child comes as `(key, child)`."""
    _, aux_data = flatten_one_level(tree)
    return _keyed_children(tree), aux_data


def treedef_is_leaf(treedef: PyTreeDef) -> bool:
    """Whether this is the structure of a single leaf (`None` and `()` are nodes)."""
    return treedef.is_leaf()


def treedef_children(treedef: PyTreeDef) -> list[PyTreeDef]:
    """The structures of the root's children."""
    return treedef.children()


def treedef_tuple(treedefs: Iterable[PyTreeDef]) -> PyTreeDef:
    """The structure of a tuple of trees, from the structure of each."""
    return optree.treespec_tuple(treedefs, namespace=NAMESPACE)


def build_tree(treedef: PyTreeDef, xs: Any) -> Any:
    """Builds a tree from its structure and nested iterables of the same form, such as lists for every node."""
    root = treedef.one_level()
    if root is None:
        return xs
    return root.unflatten(build_tree(child, x) for child, x in zip(treedef.children(), xs, strict=True))
