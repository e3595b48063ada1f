"""Compiled programs as bytes: what a program does, without the graph that it was compiled from.

Records (memories, steps) are numbered in the order in which they are met, so that those that are shared stay shared. What
is long and comes often, such as the source of a kernel that every layer has, is written once. There is no Python code in it.
"""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from asgfn.errors import GraphError
from asgfn.graph.asg import Asg, Node
from asgfn.graph.edit import GraphBuilder
from asgfn.graph.serial import from_bytes, to_bytes
from asgfn.graph.types import ArrayType, SourceInfo
from asgfn.records import fields
from backends.kernels.ir import Kernel
from backends.kernels.types import Types
from backends.programs.finished import Finished
from backends.programs.steps import (
    Branch,
    Commands,
    Dispatch,
    Download,
    Guard,
    Host,
    Loop,
    NodeCall,
    Reshape,
    Storage,
    Upload,
    While,
)  # fmt: skip

# arrays of so many bytes are looked for among the constants of the graph
LARGE = 1 << 12
# bytes of arrays that a stored program may hold itself
MOST_ARRAYS = 1 << 25

_RECORDS: tuple[type, ...] = (Storage, Dispatch, Loop, Guard, Host, Download, Upload, Branch, While, Commands, Reshape)
# what is only needed while a program is compiled, and what belongs to one process
_FORGOTTEN = {
    Storage: {"scopes": (), "joined": None},
    Dispatch: {"make_source": None, "pipeline": None, "writes_for": None, "in_place": ()},
}
_PLAIN = (bool, int, float, str, bytes, type(None))


def _fields(cls: type) -> list[str]:
    return list(vars(cls)["__slots__"] if "__slots__" in vars(cls) else fields(cls))


_FIELDS = {cls: [f for f in _fields(cls) if f not in _FORGOTTEN.get(cls, {})] for cls in _RECORDS}
_LONG = 64  # characters of a text that is written once


class NotStorable(Exception):
    """A program holds Python code or more data than is worth storing."""


class NotAProgram(Exception):
    """The bytes are not those of a program."""


def graph_constants(asg: Asg) -> Iterator[np.ndarray]:
    """The constants of a graph and of those in it, in an order that only depends on the graph."""
    yield from asg.constants
    for inner in asg.inner:
        yield from graph_constants(inner)


# ---------------------------------------------------------------------------------------------- writing
class _Encoder:
    def __init__(self, asg: Asg, types: Types, places: Sequence[SourceInfo]):
        self.texts: dict[str, int] = {}
        self.types: dict[ArrayType, int] = {}
        self.arrays: list[list] = []
        self._array_numbers: dict[int, int] = {}
        self._kept: list[Any] = []
        self._records: dict[int, int] = {}
        self._places = {(p.file, p.line, p.function): k for k, p in reversed(list(enumerate(places)))}
        self._bytes = 0
        self._asg, self._device_types = asg, types
        self._known: dict[bytes, list] | None = None

    def encode(self, value: Any) -> Any:
        kind = type(value)
        if kind is str and len(value) > _LONG:
            return ["s", self.texts.setdefault(value, len(self.texts))]
        if kind in _PLAIN:
            return value
        if kind is list or kind is tuple:
            return ["l" if kind is list else "t", *map(self.encode, value)]
        if kind in _FIELDS:
            return self._record(value)
        if kind is dict:
            return ["d", *[self.encode(x) for pair in value.items() for x in pair]]
        if kind is frozenset:
            return ["f", *map(self.encode, sorted(value))]
        if kind is range:
            return ["r", value.start, value.stop, value.step]
        if kind is ArrayType:
            return ["T", self.types.setdefault(value, len(self.types))]
        if kind is SourceInfo:
            number = self._places.get((value.file, value.line, value.function))
            return ["P", value.file, value.line, value.function] if number is None else ["p", number]
        if kind is Kernel:
            facts = [*value.workgroup], [*value.grid], sorted(value.features), float(value.flops), float(value.bytes)
            return ["k", value.name, *facts]
        if kind is NodeCall:
            return ["h", self._node(value)]
        if isinstance(value, np.ndarray):
            return ["a", self._array(value)]
        if isinstance(value, np.integer):
            return int(value)
        raise NotStorable(f"{value!r}")

    def _record(self, value: Any) -> list:
        if isinstance(value, Storage):
            value = value.root
        number = self._records.get(id(value))
        if number is not None:
            return ["o", number]
        self._records[id(value)] = len(self._records)
        self._kept.append(value)
        kind = type(value)
        return ["n", _RECORDS.index(kind), *[self.encode(getattr(value, name)) for name in _FIELDS[kind]]]

    def _node(self, call: NodeCall) -> bytes:
        builder = GraphBuilder(list(call.in_types))
        operands = range(len(call.in_types))
        outs = builder.add(Node(call.primitive, tuple(operands), call.params, call.out_types), list(operands))
        try:
            return to_bytes(builder.build(list(outs)))
        except GraphError as error:
            raise NotStorable(str(error)) from None

    def _array(self, value: np.ndarray) -> int:
        number = self._array_numbers.get(id(value))
        if number is None:
            number = self._array_numbers[id(value)] = len(self.arrays)
            self._kept.append(value)
            self.arrays.append(self._found(value) or self._whole(value))
        return number

    def _whole(self, value: np.ndarray) -> list:
        self._bytes += value.nbytes
        if self._bytes > MOST_ARRAYS or value.dtype.hasobject:
            raise NotStorable("large arrays")
        return [[*value.shape], value.dtype.name, value.tobytes()]

    def _found(self, value: np.ndarray) -> list | None:
        """A large array as a constant of the graph, which whoever reads the program has: number, dtype, shape."""
        if value.nbytes < LARGE:
            return None
        if self._known is None:
            self._known = {}
            for k, constant in enumerate(graph_constants(self._asg)):
                if constant.nbytes >= LARGE:
                    dtypes = [constant.dtype]
                    if self._device_types.holds(constant.dtype):
                        dtypes.append(np.dtype(self._device_types.numpy_storage(constant.dtype)))
                    for dtype in dtypes:
                        self._known.setdefault(_digest(constant.astype(dtype)), [k, dtype.name])
        found = self._known.get(_digest(value))
        return None if found is None else [*found, [*value.shape]]


def _digest(value: np.ndarray) -> bytes:
    start = f"{value.dtype.name} {value.size} ".encode()
    return hashlib.blake2b(start + np.ascontiguousarray(value).tobytes(), digest_size=20).digest()


def to_stored(finished: Finished, asg: Asg, types: Types, places: Sequence[SourceInfo]) -> bytes:
    """A program as bytes.

    Arguments:
        asg: the graph that it was compiled from, whose large constants are left out.
        types: how dtypes are represented on its device.
        places: the places in the user's program that the graph names, as its fingerprint has them.

    Raises:
        NotStorable: it calls Python, or holds more data than is worth it.
    """
    import msgpack

    encoder = _Encoder(asg, types, places)
    try:
        whole = [encoder.encode(part) for part in finished]
    except RecursionError:  # loops in loops in loops
        raise NotStorable("too deep") from None
    table = [[*t.shape, t.dtype.name, t.weak_type] for t in encoder.types]
    body = msgpack.packb([list(encoder.texts), table, encoder.arrays, whole], use_bin_type=True)
    return zlib.compress(body, 1)


# ---------------------------------------------------------------------------------------------- reading
class _Decoder:
    def __init__(self, asg: Asg, places: Sequence[SourceInfo], texts: list, types: list, arrays: list):
        self._places, self._texts = places, texts
        self._types = [ArrayType(tuple(shape), _dtype(name), weak) for *shape, name, weak in types]
        constants = list(graph_constants(asg)) if any(isinstance(a[0], int) for a in arrays) else []
        self._arrays = [_array(a, constants) for a in arrays]
        self._records: list[Any] = []

    def decode(self, value: Any) -> Any:
        if type(value) is not list:
            return value
        kind = value[0]
        if kind == "o":
            return self._records[value[1]]
        if kind == "n":
            return self._record(value)
        if kind == "l":
            return [x if type(x) is not list else self.decode(x) for x in value[1:]]
        if kind == "t":
            return tuple([x if type(x) is not list else self.decode(x) for x in value[1:]])
        if kind == "s":
            return self._texts[value[1]]
        if kind == "d":
            parts = [self.decode(x) for x in value[1:]]
            return dict(zip(parts[::2], parts[1::2], strict=True))
        if kind == "T":
            return self._types[value[1]]
        if kind == "p":
            return self._places[value[1]]
        if kind == "P":
            return SourceInfo(*value[1:])
        if kind == "k":
            _, name, workgroup, grid, features, flops, nbytes = value
            return Kernel(
                name, [], [], tuple(workgroup), tuple(grid), features=frozenset(features), flops=flops, bytes=nbytes
            )
        if kind == "a":
            return self._arrays[value[1]]
        if kind == "f":
            return frozenset(map(self.decode, value[1:]))
        if kind == "r":
            return range(*value[1:])
        if kind == "h":
            return _node_call(from_bytes(value[1]))
        raise NotAProgram(f"unknown kind {kind!r}")

    def _record(self, value: list) -> Any:
        cls = _RECORDS[value[1]]
        names = _FIELDS[cls]
        if len(value) != len(names) + 2:
            raise NotAProgram(cls.__name__)
        made = object.__new__(cls)
        self._records.append(made)
        put = object.__setattr__
        for name, field in _FORGOTTEN.get(cls, {}).items():
            put(made, name, field)
        for name, field in zip(names, value[2:], strict=True):
            put(made, name, field if type(field) is not list else self.decode(field))
        return made


def _dtype(name: str) -> np.dtype:
    import ml_dtypes

    return np.dtype(getattr(ml_dtypes, name, name))


def _array(stored: list, constants: Sequence[np.ndarray]) -> np.ndarray:
    if isinstance(stored[0], int):
        number, name, shape = stored
        found = np.ascontiguousarray(constants[number].astype(_dtype(name), copy=False))
    else:
        shape, name, data = stored
        found = np.frombuffer(data, _dtype(name))
    return found.reshape(shape)


def _node_call(asg: Asg) -> NodeCall:
    (node,) = asg.nodes
    return NodeCall(node.primitive, asg.inputs, node.out_types, node.params)


def from_stored(data: bytes, asg: Asg, places: Sequence[SourceInfo]) -> Finished:
    """The program that `to_stored` made, given an equal graph.

    Raises:
        NotAProgram: the bytes were not made by this version.
    """
    import msgpack

    try:
        texts, types, arrays, whole = msgpack.unpackb(zlib.decompress(data), raw=False, strict_map_key=False)
        decoder = _Decoder(asg, places, texts, types, arrays)
        finished = Finished(*map(decoder.decode, whole))
        if finished.in_types != asg.inputs or len(finished.outputs) != len(asg.outputs):
            raise NotAProgram("it is the program of another graph")
    except NotAProgram:
        raise
    except Exception as error:  # whatever forged bytes make the decoder stumble over
        raise NotAProgram(f"{type(error).__name__}: {error}") from None
    return finished
