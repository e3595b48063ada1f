"""Where two tree structures differ, in words, and how a structure is printed."""

from __future__ import annotations

from collections.abc import Iterator

import optree

from asgfn.tree.keys import KeyPath, keystr, treedef_keys
from asgfn.tree.registry import NAMESPACE

PyTreeDef = optree.PyTreeSpec

_MAPPINGS = frozenset({optree.PyTreeKind.DICT, optree.PyTreeKind.ORDEREDDICT, optree.PyTreeKind.DEFAULTDICT})


def treedef_text(treedef: PyTreeDef) -> str:
    """A structure for messages: `PyTreeDef([*, {'a': *}])`."""
    text = repr(treedef).replace("PyTreeSpec(", "PyTreeDef(", 1)
    return text.removesuffix(f", namespace={NAMESPACE!r})") + ")" if treedef.namespace else text


def paired_children(prefix: PyTreeDef, full: PyTreeDef) -> Iterator[tuple[int, PyTreeDef, PyTreeDef]]:
    """`(index in the prefix, its child, the full tree's child)`; dict-like nodes pair by key, whatever their order."""
    ours, theirs = prefix.children(), full.children()
    if prefix.kind not in _MAPPINGS:
        for index, (below, child) in enumerate(zip(ours, theirs, strict=True)):
            yield index, below, child
        return
    index_of = {key: index for index, key in enumerate(prefix.entries())}
    for key, child in zip(full.entries(), theirs, strict=True):
        yield index_of[key], ours[index_of[key]], child


def first_difference(prefix: PyTreeDef, full: PyTreeDef, name: str, other: str = "the tree") -> str | None:
    """The first place where one structure fails to be a prefix of another, in words; `None` when it is a prefix."""
    for path, text in differences(prefix, full, other):
        return f"at {name}{keystr(path)}, {text}"
    return None


def differences(prefix: PyTreeDef, full: PyTreeDef, other: str, path: KeyPath = ()) -> Iterator[tuple[KeyPath, str]]:
    if prefix.is_leaf():
        return
    if (text := _node_difference(prefix, full, other)) is not None:
        yield path, text
        return
    keys = treedef_keys(prefix)
    for index, below, child in paired_children(prefix, full):
        yield from differences(below, child, other, (*path, keys[index]))


def _node_difference(prefix: PyTreeDef, full: PyTreeDef, other: str) -> str | None:
    both_mappings = prefix.kind in _MAPPINGS and full.kind in _MAPPINGS
    if prefix.type is not full.type and not both_mappings:
        return f"there is {_describe(prefix)} where {other} has {_describe(full)}"
    if both_mappings:
        keys, full_keys = prefix.entries(), full.entries()
        missing, extra = [k for k in full_keys if k not in keys], [k for k in keys if k not in full_keys]
        if missing or extra:
            texts = [f"lacks the keys {missing}"] * bool(missing) + [f"has the extra keys {extra}"] * bool(extra)
            return f"the {_type_name(prefix)} {' and '.join(texts)}"
        return None
    if prefix.num_children != full.num_children:
        return f"there is {_describe(prefix)} where {other} has {_describe(full)}"
    ours, theirs = prefix.one_level(), full.one_level()
    if ours is not None and theirs is not None and ours != theirs:
        return (
            f"two nodes of type {_type_name(prefix)} differ in their static data: "
            f"{treedef_text(ours)} and {treedef_text(theirs)}"
        )
    return None


def _type_name(treedef: PyTreeDef) -> str:
    return getattr(treedef.type, "__name__", "leaf")


def _describe(treedef: PyTreeDef) -> str:
    if treedef.is_leaf():
        return "a leaf"
    if treedef.kind == optree.PyTreeKind.NONE:
        return "None"
    name = _type_name(treedef)
    if treedef.kind in _MAPPINGS:
        return f"a {name} with the keys {treedef.entries()}"
    return f"a {name} of length {treedef.num_children}"
