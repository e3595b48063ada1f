"""Path keys: how one step from a pytree node to a child is named, and how a whole path is printed."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

import optree

from asgfn.records import record

KeyEntry = Any
KeyPath = tuple[KeyEntry, ...]


@record
class DictKey:
    """The step into a dict-like node: `node[key]`."""

    key: Hashable

    def __str__(self) -> str:
        return f"[{self.key!r}]"


@record
class SequenceKey:
    """The step into a list or tuple: `node[idx]`."""

    idx: int

    def __str__(self) -> str:
        return f"[{self.idx!r}]"


@record
class GetAttrKey:
    """The step into an attribute, as of a named tuple or a registered dataclass: `node.name`."""

    name: str

    def __str__(self) -> str:
        return f".{self.name}"


@record
class FlattenedIndexKey:
    """The step into the `key`-th child of a node whose type was registered without named keys."""

    key: int

    def __str__(self) -> str:
        return f"[<flat index {self.key}>]"


def keystr(keys: KeyPath, *, simple: bool = False, separator: str = "") -> str:
    """A key path as text.

    Arguments:
        keys: a path from `tree_flatten_with_path`.
        simple: print the bare key, index or attribute name, without brackets, quotes and dots.
        separator: what stands between two steps.

    Returns:
        By default an expression to append to the tree's name, such as `['layers'][0].w`; with `simple=True`
        and `separator="/"` the same path is `layers/0/w`.
    """
    return separator.join(map(_bare_text if simple else str, keys))


def _bare_text(key: KeyEntry) -> str:
    match key:
        case DictKey(value) | SequenceKey(value) | GetAttrKey(value) | FlattenedIndexKey(value):
            return str(value)
    return str(key)


_KEY_OF_KIND = {
    optree.PyTreeKind.DICT: DictKey,
    optree.PyTreeKind.ORDEREDDICT: DictKey,
    optree.PyTreeKind.DEFAULTDICT: DictKey,
    optree.PyTreeKind.LIST: SequenceKey,
    optree.PyTreeKind.TUPLE: SequenceKey,
    optree.PyTreeKind.DEQUE: SequenceKey,
}


def _key_of_entry(entry: optree.PyTreeEntry) -> KeyEntry:
    make = _KEY_OF_KIND.get(entry.kind)
    if make is not None:
        return make(entry.entry)
    if isinstance(entry, optree.NamedTupleEntry | optree.StructSequenceEntry):
        return GetAttrKey(entry.field)
    # A custom node: its flatten function named the children itself, or optree numbered them.
    return FlattenedIndexKey(entry.entry) if isinstance(entry.entry, int) else entry.entry


def treedef_paths(treedef: optree.PyTreeSpec) -> list[KeyPath]:
    """The key path of every leaf of a tree with this structure, in flattening order."""
    return [tuple(map(_key_of_entry, accessor)) for accessor in treedef.accessors()]


def treedef_keys(treedef: optree.PyTreeSpec) -> list[KeyEntry]:
    """The keys of the root's children (none when the root is a leaf)."""
    root = treedef.one_level()
    return [] if root is None else [path[0] for path in treedef_paths(root)]
