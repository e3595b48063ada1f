"""The structure of a pytree as plain data, and back.

`encode` takes a tree apart: its arrays, by readable names ("params.block.0.attn.q.weight"), and a **code** that says how
they belong together, made of nested lists, text, numbers and bytes, as msgpack can hold. A code is

    None, True, 1, 0.5, "text", b"bytes"        the value itself
    ["int", bytes], ["complex", re, im]         numbers that msgpack does not have
    ["array", name, weak]                       an array and whether its dtype is weak
    ["key", name]                               typed random keys, stored as their words
    ["list", child, ...], ["tuple", child, ...]
    ["dict", key, child, key, child, ...]       in the order of the dict; keys are codes too
    ["named", class, field, child, ...]         a NamedTuple
    ["node", class, label, child, ...]          a registered class, such as a dataclass

Classes are written down by name only, so nothing that is read can choose code to run. They are made again from a tree
that the caller gives, `like`; without one, a NamedTuple becomes a namedtuple of the same name and fields, and another
registered class a dict. (An OrderedDict or defaultdict counts as a dict, a deque as a list.)
"""

from __future__ import annotations

import copy
import functools
import keyword
from collections import deque, namedtuple
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

from asgfn import random
from asgfn.tree_util import flatten_one_level_with_keys, is_tree_node, keystr, tree_structure
from nn_fn.checkpoints.safetensors_file import storable

Code = Any
ANYTHING = ...  # in `like`: whatever the file has here
ABSENT = object()
DEEPEST = 200  # levels; far below what Python and msgpack can nest
DEEPEST_KEY = 20
_SCALARS = (type(None), bool, int, float, complex, str, bytes)


class Node(NamedTuple):
    """A container, in a tree or in a code: its kind, its class's name, and its children by key."""

    kind: str
    type_name: str
    children: dict[Any, Any]


# ---------------------------------------------------------------------------------------------------- taking apart
def encode(tree: Any) -> tuple[Code, dict[str, np.ndarray]]:
    """The structure of a tree as a code, and its arrays by name.

    Raises:
        TypeError: something in it is neither a container, nor an array with a dtype of the safetensors format, nor a
            random key, number, text, bytes or None.
        ValueError: it is nested too deeply.
    """
    arrays: dict[str, np.ndarray] = {}

    def add(path: tuple, value: Any) -> str:
        plain = path_name(path)
        name, number = plain, 1
        while name in arrays or name == "__metadata__":  # {"a.b": x, "a": {"b": y}}
            number += 1
            name = f"{plain}#{number}"
        arrays[name] = storable(f"save_checkpoint: {name}", value)
        return name

    def visit(node: Any, path: tuple) -> Code:
        if len(path) > DEEPEST:
            raise ValueError(f"save_checkpoint: {path_name(path[:3])}... is nested more than {DEEPEST} levels deep")
        if type(node) in _SCALARS:
            return encode_scalar(node)
        if isinstance(node, random.PRNGKeyArray):
            return ["key", add(path, random.key_data(node))]
        opened = open_tree(node)
        if opened is None:
            if not _is_array(node):
                raise TypeError(
                    f"save_checkpoint: {path_name(path)} is {node!r} of type {type(node).__name__}, which is not data; "
                    "checkpoints hold containers of arrays, random keys, numbers, text, bytes and None"
                )
            return ["array", add(path, node), bool(getattr(node, "weak_type", False))]
        code: list = [opened.kind]
        if opened.kind in ("named", "node"):
            code.append(opened.type_name)
        for key, child in opened.children.items():
            if opened.kind == "dict":
                code.append(_encode_key(key, path))
            elif opened.kind in ("named", "node"):
                code.append(key)
            code.append(visit(child, (*path, key)))
        return code

    return visit(tree, ()), arrays


def encode_scalar(value: Any) -> Code:
    """The code of None, a number, text or bytes."""
    if type(value) is int and not -(2**63) <= value < 2**64:
        return ["int", value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)]
    if type(value) is complex:
        return ["complex", value.real, value.imag]
    return value


def _encode_key(key: Any, path: tuple, depth: int = 0) -> Code:
    if type(key) in _SCALARS:
        return encode_scalar(key)
    if type(key) is tuple and depth < DEEPEST_KEY:
        return ["tuple", *(_encode_key(part, path, depth + 1) for part in key)]
    raise TypeError(
        f"save_checkpoint: {path_name(path)} has the key {key!r} of type {type(key).__name__}; keys of dicts are to be "
        "text, bytes, numbers, None or tuples of these"
    )


def open_tree(tree: Any) -> Node | None:
    """The container at the root of a tree, or None if that is a leaf or None."""
    kind = type(tree)
    if tree is None or isinstance(tree, random.PRNGKeyArray) or not is_tree_node(kind):
        return None
    if isinstance(tree, dict):  # OrderedDict and defaultdict, too
        return Node("dict", kind.__name__, tree)
    if kind in (list, tuple, deque):
        return Node("tuple" if kind is tuple else "list", kind.__name__, dict(enumerate(tree)))
    if isinstance(tree, tuple) and hasattr(kind, "_fields"):
        return Node("named", kind.__name__, dict(zip(kind._fields, tree, strict=True)))
    children: dict[Any, Any] = {}
    for key, child in flatten_one_level_with_keys(tree)[0]:
        label = keystr((key,), simple=True)
        children[label if label not in children else f"{label}#{len(children)}"] = child
    return Node("node", kind.__name__, children)


def path_name(path: tuple) -> str:
    """A path as readable text: its keys, joined by dots."""
    parts = (key if type(key) is str else str(key) for key in path)
    return ".".join(parts).encode("utf-8", "backslashreplace").decode() or "value"


def _is_array(leaf: Any) -> bool:
    return hasattr(leaf, "shape") and hasattr(leaf, "dtype") and hasattr(leaf, "__array__")


# ------------------------------------------------------------------------------------------------ putting together
def open_code(code: Code) -> Node | None:
    """The container at the root of a code, or None if that is a leaf.

    Raises:
        ValueError: this is no code.
    """
    if type(code) is not list:
        if type(code) not in _SCALARS:
            raise ValueError(f"unexpected {type(code).__name__} in the structure")
        return None
    kind, *rest = code
    if kind in ("list", "tuple"):
        return Node(kind, kind, dict(enumerate(rest)))
    if kind == "dict":
        keys, type_name = [_decode_key(key) for key in rest[0::2]], "dict"
        children = rest[1::2]
    elif kind in ("named", "node"):
        type_name, *rest = rest
        keys, children = rest[0::2], rest[1::2]
        if not all(type(text) is str for text in (type_name, *keys)):
            raise ValueError(f"a {kind} in the structure is not named by text")
    else:
        _check_leaf(code)
        return None
    found = dict(zip(keys, children, strict=True))
    if len(found) != len(keys):
        raise ValueError(f"a {kind} in the structure has a key twice")
    return Node(kind, type_name, found)


def _check_leaf(code: list) -> None:
    match code:
        case ["int", bytes()] | ["complex", float(), float()] | ["key", str()] | ["array", str(), bool()]:
            return
    raise ValueError(f"unknown kind {code[0]!r} in the structure")


def decode_scalar(code: Code) -> Any:
    """The number, text, bytes or None that `encode_scalar` made a code of."""
    match code:
        case ["int", data]:
            return int.from_bytes(data, "little", signed=True)
        case ["complex", real, imaginary]:
            return complex(real, imaginary)
    return code


def _decode_key(code: Code, depth: int = 0) -> Any:
    if type(code) is list and code[:1] == ["tuple"] and depth < DEEPEST_KEY:
        return tuple(_decode_key(part, depth + 1) for part in code[1:])
    if open_code(code) is not None or (type(code) is list and code[0] in ("array", "key")):
        raise ValueError("a dict in the structure has a key that is no number or text")
    return decode_scalar(code)


def leaves(code: Code, path: tuple = ()) -> Iterator[tuple[tuple, Code]]:
    """The leaves of a code with their paths. Raises ValueError if it is no code or nested too deeply."""
    if len(path) > DEEPEST:
        raise ValueError(f"the structure is nested more than {DEEPEST} levels deep")
    opened = open_code(code)
    if opened is None:
        yield path, code
    else:
        for key, child in opened.children.items():
            yield from leaves(child, (*path, key))


def decode(code: Code, like: Any, array: Callable[[str, bool], Any]) -> Any:
    """The tree that a code describes.

    Arguments:
        code: one that `leaves` has walked through, so that it is known to be sound.
        like: a tree without `differences`, from which classes are taken; or ABSENT.
        array: gives the array of a name; told whether its dtype is weak.
    """
    opened = open_code(code)
    if opened is None:
        match code:
            case ["array", name, weak]:
                return array(name, weak)
            case ["key", name]:
                return random.wrap_key_data(array(name, False))
        return decode_scalar(code)
    if like is ABSENT or like is ANYTHING:
        children = {key: decode(child, ABSENT, array) for key, child in opened.children.items()}
        match opened.kind:
            case "list" | "tuple":
                return list(children.values()) if opened.kind == "list" else tuple(children.values())
            case "named":
                return _stand_in(opened.type_name, tuple(children))(*children.values())
        return children
    expected = open_tree(like)
    assert expected is not None
    children = {key: decode(opened.children[key], part, array) for key, part in expected.children.items()}
    if expected.kind == "dict":
        result = copy.copy(like)  # keeps the class, the order of the keys and a default factory
        result.update(children)
        return result
    return tree_structure(like, is_leaf=lambda x: x is not like).unflatten(children.values())


@functools.lru_cache(maxsize=256)  # one class for all trees, or they would have different structures
def _stand_in(name: str, fields: tuple[str, ...]) -> type:
    # namedtuple refuses what is no identifier in a class's name; a field that is none it names by its number
    usable = name.isidentifier() and not keyword.iskeyword(name)
    return namedtuple(name if usable else "NamedTuple", fields, rename=True)  # type: ignore[misc]


# ------------------------------------------------------------------------------------------------------- comparing
def differences(code: Code, like: Any, type_of: Callable[[str], tuple[np.dtype, tuple[int, ...]]]) -> list[str]:
    """In words, all places where a code does not have the containers, keys, shapes and dtypes of a tree.

    Classes of NamedTuples and other nodes may have been renamed, as long as their fields are the same. Where the tree
    holds `...`, anything is fine.

    Arguments:
        type_of: dtype and shape of an array of the file.
    """
    found: list[str] = []

    def compare(code: Code, like: Any, path: tuple) -> None:
        if like is ANYTHING:
            return
        ours, theirs = open_code(code), open_tree(like)
        if ours is None and theirs is None:
            if not _leaf_fits(code, like, type_of):
                report(path, f"{_describe_code(code, type_of)} in the file, {_describe(like)} expected")
        elif ours is None or theirs is None or ours.kind != theirs.kind:
            report(path, f"{_describe_code(code, type_of)} in the file, {_describe(like)} expected")
        else:
            for key, part in theirs.children.items():
                if key in ours.children:
                    compare(ours.children[key], part, (*path, key))
                else:
                    for below in _paths_of_leaves(part, (*path, key)):
                        report(below, "missing")
            for key, child in ours.children.items():
                if key not in theirs.children:
                    below_it = [below for below, _ in leaves(child, (*path, key))]
                    for below in below_it or [(*path, key)]:
                        report(below, "in the file only")

    def report(path: tuple, what: str) -> None:
        found.append(f"{path_name(path)}: {what}")

    compare(code, like, ())
    return found


def _paths_of_leaves(tree: Any, path: tuple) -> list[tuple]:
    opened = open_tree(tree)
    if opened is None or not opened.children:
        return [path]
    return [below for key, child in opened.children.items() for below in _paths_of_leaves(child, (*path, key))]


def _leaf_fits(code: Code, like: Any, type_of: Callable) -> bool:
    match code:
        case ["array", name, _]:
            return (
                not _is_key(like)
                and hasattr(like, "dtype")
                and type_of(name) == (np.dtype(like.dtype), tuple(like.shape))
            )
        case ["key", name]:
            return _is_key(like) and type_of(name)[1] == (*like.shape, 2)
    value = decode_scalar(code)
    return type(value) is type(like) or (type(value) is int and type(like) is float)


def _is_key(leaf: Any) -> bool:
    return isinstance(leaf, random.PRNGKeyArray)


def _describe_code(code: Code, type_of: Callable) -> str:
    opened = open_code(code)
    if opened is not None:
        return f"a {opened.type_name}"
    match code:
        case ["array", name, _]:
            return _type_text(*type_of(name))
        case ["key", name]:
            return _type_text("key<fry>", type_of(name)[1][:-1])
    value = decode_scalar(code)
    return "None" if value is None else f"a Python {type(value).__name__}"


def _describe(like: Any) -> str:
    if hasattr(like, "shape") and hasattr(like, "dtype"):
        return _type_text(like.dtype, like.shape)
    if like is None:
        return "None"
    return f"a Python {type(like).__name__}" if type(like) in _SCALARS else f"a {type(like).__name__}"


def _type_text(dtype: Any, shape: Any) -> str:
    return f"{getattr(dtype, 'name', dtype)}[{','.join(map(str, shape))}]"
