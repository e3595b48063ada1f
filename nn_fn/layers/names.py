"""Parameters by their path names, such as "block.0.attn.q.weight", and back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from asgfn.errors import StructureError
from asgfn.tree_util import DictKey, GetAttrKey, SequenceKey, tree_flatten_with_path


def named_parameters(params: Any) -> dict[str, Any]:
    """The arrays of a nested dict (or any pytree) in the order of the tree, by path names joined with dots."""
    return {path_name(path): leaf for path, leaf in tree_flatten_with_path(params)[0]}


def nested_parameters(named: Mapping[str, Any], like: Any = None) -> Any:
    """The nested dict that path names describe: the inverse of `named_parameters`.

    Arguments:
        like: parameters whose structure the result takes (entries without arrays included); every name must occur.

    Raises:
        StructureError: a name is missing or left over, or is a prefix of another.
    """
    if like is not None:
        return _fill(named, like)
    nested: dict[str, Any] = {}
    for name, value in named.items():
        *parents, last = name.split(".")
        place = nested
        for parent in parents:
            place = place.setdefault(parent, {})
            if not isinstance(place, dict):
                raise StructureError(f"nested_parameters: {parent!r} in {name!r} is an array as well as a group")
        if last in place:
            raise StructureError(f"nested_parameters: {name!r} is an array as well as a group")
        place[last] = value
    return nested


def _fill(named: Mapping[str, Any], like: Any) -> Any:
    from asgfn.tree_util import tree_unflatten

    flat, structure = tree_flatten_with_path(like)
    names = [path_name(path) for path, _ in flat]
    missing = [name for name in names if name not in named]
    extra = sorted(named.keys() - set(names))
    if missing or extra:
        problems = [f"  {name}: missing" for name in missing] + [f"  {name}: not in the model" for name in extra]
        raise StructureError("nested_parameters: the names do not fit:\n" + "\n".join(problems))
    return tree_unflatten(structure, [named[name] for name in names])


def path_name(path: Any) -> str:
    """A path in a pytree as names joined with dots."""
    parts = []
    for entry in path:
        if isinstance(entry, DictKey):
            parts.append(str(entry.key))
        elif isinstance(entry, SequenceKey):
            parts.append(str(entry.idx))
        elif isinstance(entry, GetAttrKey):
            parts.append(entry.name)
        else:
            parts.append(str(getattr(entry, "key", entry)))
    return ".".join(parts)
