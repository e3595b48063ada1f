"""Graphs as bytes.

Layout: the magic ``ASGF``, a version byte, the CRC-32 of the body, the body in msgpack. The body holds, for each graph,
inputs, constants, nodes and outputs; everything is checked again when it is read.

How inputs and outputs are packed is stored as far as it is made of tuples, lists, dicts and None; graphs of functions on other
classes are called with flat arguments once loaded. Python code stays behind: a callback cannot be stored; of a rule of `custom_jvp` and its kin only the name is, so the loaded
graph computes the same values but refuses to be transformed there.
"""

from __future__ import annotations

import enum
import hashlib
import struct
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
import optree

from asgfn.errors import AsgError, GraphError
from asgfn.graph.asg import Asg, Node, Params
from asgfn.graph.types import ArrayType, SourceInfo
from asgfn.graph.validate import validate

MAGIC = b"ASGF"
VERSION = 1

_records: dict[str, type] = {}
_hooks: dict[str, tuple[type, Callable, Callable]] = {}
_find_primitive: Callable[[str], Any] = str


def set_primitive_lookup(find: Callable[[str], Any]) -> None:
    """Says how a primitive is found by name; `asgfn.primitives` does so."""
    global _find_primitive
    _find_primitive = find


def parameter_type(cls: type) -> type:
    """Class decorator: values of this NamedTuple, enum or frozen dataclass may stand in node parameters and be stored."""
    _records[cls.__name__] = cls
    return cls


def parameter_codec(name: str, cls: type, encode: Callable[[Any], Any], decode: Callable[[Any], Any]) -> None:
    """Says how values of a class are stored: `encode` gives something made of plain values, `decode` takes it back."""
    _hooks[name] = (cls, encode, decode)


# ---------------------------------------------------------------------------------------------- structures
def _encode_tree(tree: Any) -> Any:
    """A pytree structure as nested lists, or None if it holds anything but tuples, lists, dicts and None."""

    def encode(x: Any) -> list:
        if x is None:
            return ["none"]
        if type(x) is int:
            return ["leaf"]
        if type(x) is dict and all(type(k) in (str, int) for k in x):
            return ["dict", [[k, encode(v)] for k, v in x.items()]]
        if type(x) in (tuple, list):
            return [type(x).__name__, [encode(v) for v in x]]
        raise TypeError

    if tree is None:
        return None
    try:
        return encode(tree.unflatten(range(tree.num_leaves)))
    except TypeError:
        return None


def _decode_tree(code: Any, leaves: int) -> Any:
    """The structure back; GraphError unless it has this many leaves."""
    if code is None:
        return None

    def decode(c: list) -> Any:
        kind = c[0]
        if kind == "dict":
            return {k: decode(v) for k, v in c[1]}
        if kind in ("tuple", "list"):
            return (tuple if kind == "tuple" else list)(decode(v) for v in c[1])
        if kind not in ("none", "leaf"):
            raise GraphError(f"not a graph: {kind!r} is not a kind of container")
        return None if kind == "none" else 0

    tree = optree.tree_structure(decode(code), namespace="asgfn")
    if tree.num_leaves != leaves:
        raise GraphError(f"not a graph: a structure of {tree.num_leaves} leaves for {leaves} values")
    return tree


# ---------------------------------------------------------------------------------------------- writing
_PLAIN = frozenset((bool, int, float, str, type(None)))


def _encode(value: Any, where: tuple[Any, str]) -> Any:
    """A parameter as plain values. `where` says whose it is, for errors: the primitive and the parameter's name."""
    kind = type(value)
    if kind in _PLAIN:  # most are, so this is asked first
        return value
    if kind is tuple:
        return {"tuple": [v if type(v) in _PLAIN else _encode(v, where) for v in value]}
    if isinstance(value, enum.Enum):  # before str: enums may be strings
        if type(value).__name__ in _records:
            return {"enum": type(value).__name__, "name": value.name}
    elif isinstance(value, str):
        return value
    elif isinstance(value, (int, np.integer)):
        return int(value)
    if isinstance(value, np.dtype):
        return {"dtype": value.name}
    if isinstance(value, ArrayType):
        return {"type": [list(value.shape), value.dtype.name, value.weak_type]}
    if isinstance(value, Asg):
        return {"graph": _encode_graph(value)}
    if isinstance(value, (np.ndarray, np.generic)):
        value = np.asarray(value)
        return {"array": [list(value.shape), value.dtype.name, value.tobytes()]}
    if isinstance(value, complex):
        return {"complex": [value.real, value.imag]}
    if isinstance(value, tuple):
        if not hasattr(value, "_fields"):
            return {"tuple": [_encode(v, where) for v in value]}
        if kind.__name__ in _records:
            return {"record": kind.__name__, "values": [_encode(v, where) for v in value]}
    if isinstance(value, frozenset):
        return {"set": sorted((_encode(v, where) for v in value), key=repr)}
    if type(value).__name__ in _records and hasattr(value, "__dataclass_fields__"):
        fields = {k: _encode(getattr(value, k), where) for k in value.__dataclass_fields__}
        return {"dataclass": type(value).__name__, "fields": fields}
    for name, (cls, encode, _) in _hooks.items():
        if isinstance(value, cls):
            return {"coded": name, "value": _encode(encode(value), where)}
    raise GraphError(
        f"node {where[0]}, parameter {where[1]} holds {value!r} of type {type(value).__name__}, which cannot be stored: it is Python code or an object, not data. "
        "Remove callbacks before storing a graph"
    )


def _encode_graph(asg: Asg) -> dict:
    types: dict[ArrayType, int] = {}
    sources: dict[tuple, int] = {}

    def type_id(t: ArrayType) -> int:
        return types.setdefault(t, len(types))

    def source_id(s: SourceInfo | None) -> int:
        return -1 if s is None else sources.setdefault((s.file, s.line, s.function), len(sources))

    nodes = []
    for node in asg.nodes:
        params = {k: _encode(v, (node.primitive, k)) for k, v in node.params.items()}
        nodes.append(
            [
                node.primitive.name,
                node.inputs,
                params,
                [type_id(t) for t in node.out_types],
                node.scope,
                source_id(node.source),
            ]
        )
    body = {
        "name": asg.name,
        "inputs": [type_id(t) for t in asg.inputs],
        "input_names": list(asg.input_names),
        "constants": [[type_id(t), c.tobytes()] for c, t in zip(asg.constants, asg.constant_types, strict=True)],
        "nodes": nodes,
        "outputs": list(asg.outputs),
        "in_tree": _encode_tree(asg.in_tree),
        "out_tree": _encode_tree(asg.out_tree),
    }
    body["types"] = [[list(t.shape), t.dtype.name, t.weak_type] for t in types]
    body["sources"] = [list(s) for s in sources]
    return body


def to_bytes(asg: Asg) -> bytes:
    """The graph as bytes: msgpack behind a version and a checksum.

    Raises:
        GraphError: a parameter is Python code (a callback).
    """
    import msgpack

    body = msgpack.packb(_encode_graph(asg), use_bin_type=True)
    return MAGIC + bytes([VERSION]) + struct.pack("<I", zlib.crc32(body)) + body


def fingerprint(asg: Asg) -> tuple[bytes, list[SourceInfo]]:
    """What tells a graph from those that compute something else. Where a function stands in its file, and how its
    arguments are called and packed, makes no difference; only which nodes come from one line does.

    Returns:
        a hash, the same in every process; and the places in the user's program that the graph names, in an order that only
        depends on what is hashed.

    Raises:
        GraphError: a parameter is Python code (a callback).
    """
    import msgpack

    sources: list[SourceInfo] = []
    body = _encode_graph(asg)
    _take_places(body, sources)
    return hashlib.blake2b(msgpack.packb(body, use_bin_type=True), digest_size=20).digest(), sources


def _take_places(body: dict, sources: list[SourceInfo]) -> None:
    """Removes from an encoded graph, and from those in it, what the fingerprint leaves out."""
    sources += [SourceInfo(*s) for s in body.pop("sources")]
    del body["in_tree"], body["out_tree"], body["input_names"]
    for name, _, params, *_ in body["nodes"]:
        stack = list(params.values()) if _find_primitive(name).holds_graphs else []
        while stack:
            value = stack.pop()
            if isinstance(value, dict):
                if "graph" in value:
                    _take_places(value["graph"], sources)
                else:
                    stack.extend(value.values())
            elif isinstance(value, list):
                stack.extend(value)


# ---------------------------------------------------------------------------------------------- reading
def _dtype(name: Any) -> np.dtype:
    import ml_dtypes

    if not isinstance(name, str):
        raise GraphError(f"not a graph: {name!r} is not a dtype")
    if name == "void":  # float0, the type of tangents of integers
        return np.dtype([("float0", np.void, 0)])
    try:
        return np.dtype(getattr(ml_dtypes, name) if hasattr(ml_dtypes, name) else name)
    except TypeError:
        raise GraphError(f"not a graph: {name!r} is not a dtype") from None


def _array(shape: list, dtype: str, data: bytes) -> np.ndarray:
    # a copy, because the bytes belong to the message; read-only, because constants are never written to
    out = np.frombuffer(data, _dtype(dtype)).reshape(shape).copy()
    out.flags.writeable = False
    return out


def _decode(value: Any) -> Any:
    if not isinstance(value, dict):
        if value is None or isinstance(value, (bool, int, float, str)):
            return value
        raise GraphError(f"not a graph: unexpected {type(value).__name__}")
    if "tuple" in value:
        return tuple(_decode(v) for v in value["tuple"])
    if "dtype" in value:
        return _dtype(value["dtype"])
    if "type" in value:
        shape, dtype, weak = value["type"]
        return ArrayType(tuple(shape), _dtype(dtype), weak)
    if "graph" in value:
        return _decode_graph(value["graph"])
    if "array" in value:
        return _array(*value["array"])
    if "complex" in value:
        return complex(*value["complex"])
    if "set" in value:
        return frozenset(_decode(v) for v in value["set"])
    if "record" in value:
        return _records[value["record"]](*(_decode(v) for v in value["values"]))
    if "enum" in value:
        return _records[value["enum"]][value["name"]]  # type: ignore[index]
    if "dataclass" in value:
        return _records[value["dataclass"]](**{k: _decode(v) for k, v in value["fields"].items()})
    if "coded" in value:
        return _hooks[value["coded"]][2](_decode(value["value"]))
    raise GraphError(f"not a graph: unknown kind of value {sorted(value)}")


def _decode_graph(body: Any) -> Asg:
    types = [ArrayType(tuple(shape), _dtype(dtype), weak) for shape, dtype, weak in body["types"]]
    sources = [SourceInfo(file, line, function) for file, line, function in body["sources"]]
    constants = [_array(list(types[t].shape), types[t].dtype.name, data) for t, data in body["constants"]]
    nodes = []
    for name, inputs, params, out_types, scope, source in body["nodes"]:
        if not all(isinstance(i, int) for i in inputs) or not isinstance(scope, str):
            raise GraphError("not a graph: a node is malformed")
        nodes.append(
            Node(
                _find_primitive(name),
                tuple(inputs),
                Params({k: _decode(v) for k, v in params.items()}),
                tuple(types[_index(t, types)] for t in out_types),
                scope,
                None if source == -1 else sources[_index(source, sources)],
            )
        )
    return Asg(
        [types[_index(t, types)] for t in body["inputs"]],
        constants,
        nodes,
        [int(i) for i in body["outputs"]],
        constant_types=[types[t] for t, _ in body["constants"]],
        name=str(body["name"]),
        input_names=[str(n) for n in body["input_names"]],
        in_tree=_decode_tree(body["in_tree"], len(body["inputs"])),
        out_tree=_decode_tree(body["out_tree"], len(body["outputs"])),
    )


def _index(i: Any, table: list) -> int:
    if not isinstance(i, int) or not 0 <= i < len(table):
        raise GraphError(f"not a graph: {i!r} does not index a table of {len(table)}")
    return i


def from_bytes(data: bytes) -> Asg:
    """Reads what `to_bytes` wrote.

    Raises:
        GraphError: the data is truncated or altered, has another version, or does not describe a well-formed graph.
    """
    import msgpack

    if not isinstance(data, (bytes, bytearray, memoryview)):
        raise GraphError(f"from_bytes takes bytes, got {type(data).__name__}")
    data = bytes(data)
    head = len(MAGIC) + 5
    if len(data) < head or data[: len(MAGIC)] != MAGIC:
        raise GraphError(f"not a graph: the data ({len(data)} bytes) does not start with the mark of one")
    version = data[len(MAGIC)]
    if version != VERSION:
        raise GraphError(
            f"this graph was stored in version {version} of the format; this asgfn reads version {VERSION}"
        )
    (crc,) = struct.unpack("<I", data[len(MAGIC) + 1 : head])
    body = data[head:]
    if zlib.crc32(body) != crc:
        raise GraphError("the graph's data is damaged: its checksum does not match (truncated or altered)")
    try:
        asg = _decode_graph(msgpack.unpackb(body, raw=False, strict_map_key=False))
    except GraphError:
        raise
    except Exception as error:  # whatever a forged body makes the decoder stumble over
        message = error.args[0] if isinstance(error, AsgError) else error  # an AsgError's text would hold its place
        raise GraphError(f"not a graph: {type(error).__name__}: {message}") from None
    return validate(asg)
