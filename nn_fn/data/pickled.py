"""Plain data and byte arrays from a pickle, without running anything that the pickle names.

A pickle is a program that may call any function, and even restricted unpicklers take memory by what it claims. Here,
the instructions that plain data need are carried out on a list, and the only names that are understood are the three by
which NumPy stores an array.
"""

from __future__ import annotations

import math
import pickletools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from nn_fn.data.errors import DataError

RECONSTRUCT, NDARRAY, DTYPE = "_reconstruct", "ndarray", "dtype"
# module and name with a blank between, as `pickletools` gives them
NAMES = {
    "numpy.core.multiarray _reconstruct": RECONSTRUCT,
    "numpy._core.multiarray _reconstruct": RECONSTRUCT,
    "numpy ndarray": NDARRAY,
    "numpy dtype": DTYPE,
}


class _Global:
    """A name that a pickle refers to."""

    def __init__(self, name: str):
        self.name = name


class _StoredDtype:
    """A dtype that is being put together."""

    def __init__(self, name: Any):
        self.name = name


class _StoredArray:
    """An array that is being put together; `array` is None until its state came."""

    array: np.ndarray | None = None


def load_plain_pickle(content: bytes, source: str | Path) -> Any:
    """The value of a pickle of dictionaries, lists, strings, integers, booleans, None and uint8 arrays.

    Strings of Python 2 become `bytes`. Arrays are read-only views. Time and memory are proportional to `len(content)`.

    Raises:
        DataError: when the pickle is damaged, or holds anything else.
    """
    try:
        return _Machine().run(content)
    except DataError as error:
        raise DataError(f"{source}: {error.args[0]}") from error
    except (ValueError, IndexError, KeyError, TypeError, OverflowError) as error:
        raise DataError(f"{source}: the pickle is damaged: {error}") from error


class _Machine:
    """The stack machine of the pickle format, with a small set of instructions."""

    def __init__(self) -> None:
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}

    def run(self, content: bytes) -> Any:
        for opcode, argument, position in pickletools.genops(content):
            name = opcode.name
            if name in CONSTANTS:
                self.stack.append(CONSTANTS[name](argument))
            elif name in ACTIONS:
                ACTIONS[name](self, argument)
            elif name == "STOP":
                assert position is not None
                if len(self.stack) != 1 or self.marks or position + 1 != len(content):
                    raise DataError("the pickle does not end with its one value")
                return _finished(self.stack[0])
            else:
                raise DataError(f"the pickle uses the instruction {name}, which plain data and arrays do not need")
        raise DataError("the pickle ends early")

    def pop(self, kind: type = object) -> Any:
        # what lies below a mark belongs to another collection
        if len(self.stack) <= (self.marks[-1] if self.marks else 0):
            raise DataError("the pickle takes a value that is not there")
        value = self.stack.pop()
        if not isinstance(value, kind):
            raise DataError(f"the pickle has a {type(value).__name__} where a {kind.__name__} is needed")
        return value

    def peek(self, kind: type) -> Any:
        value = self.pop(kind)
        self.stack.append(value)
        return value

    def pop_to_mark(self) -> list[Any]:
        if not self.marks:
            raise DataError("the pickle closes a collection that it did not open")
        start = self.marks.pop()
        values = self.stack[start:]
        del self.stack[start:]
        return values

    def tuple_of(self, count: int) -> None:
        values = [self.pop() for _ in range(count)]
        self.stack.append(tuple(reversed(values)))

    def extend(self, values: list[Any]) -> None:
        self.peek(list).extend(map(_finished, values))

    def set_items(self, values: list[Any]) -> None:
        if len(values) % 2:
            raise DataError("the pickle has a key without a value")
        target = self.peek(dict)
        for key, value in zip(values[::2], values[1::2], strict=True):
            # hashing other things may recurse without bound
            if type(key) not in (bytes, str, int):
                raise DataError(f"the pickle has a dictionary key of type {type(key).__name__}")
            target[key] = _finished(value)

    def call(self) -> None:
        arguments, function = self.pop(tuple), self.pop(_Global).name
        if function == RECONSTRUCT:
            if not arguments or not isinstance(arguments[0], _Global) or arguments[0].name != NDARRAY:
                raise DataError("the pickle has an array of a class of its own")
            self.stack.append(_StoredArray())
        elif function == DTYPE and arguments:
            self.stack.append(_StoredDtype(arguments[0]))
        else:
            raise DataError(f"the pickle calls {function} in an unknown way")

    def build(self) -> None:
        state, target = self.pop(tuple), self.peek(object)
        if isinstance(target, _StoredArray):
            target.array = _array_of(state)
        elif not isinstance(target, _StoredDtype):
            raise DataError(f"the pickle sets the state of a {type(target).__name__}")

    def name(self, name: str) -> None:
        if name not in NAMES:
            raise DataError(f"the pickle refers to {name.replace(' ', '.')!r}; only arrays are understood")
        self.stack.append(_Global(NAMES[name]))

    def stack_name(self) -> None:
        name, module = self.pop(str), self.pop(str)
        self.name(f"{module} {name}")


def _finished(value: Any) -> Any:
    """A value as it is returned: arrays in place of their parts, nothing of the machine itself."""
    if isinstance(value, _StoredArray):
        if value.array is None:
            raise DataError("the pickle has an array without numbers")
        return value.array
    # tuples occur as arguments only; inside of data they could hide parts of an array
    if isinstance(value, (_Global, _StoredDtype, tuple)):
        raise DataError("the pickle has something else than plain data and arrays")
    return value


def _array_of(state: tuple[Any, ...]) -> np.ndarray:
    """The array of NumPy's stored state: version, shape, dtype, whether the order is Fortran's, and the bytes."""
    if len(state) != 5:
        raise DataError(f"the pickle has an array of {len(state)} parts, expected 5")
    _, shape, dtype, fortran, data = state
    if not isinstance(dtype, _StoredDtype) or dtype.name not in (b"u1", "u1"):
        raise DataError(f"the pickle has an array of dtype {getattr(dtype, 'name', dtype)!r}; only uint8 is understood")
    if not isinstance(shape, tuple) or not all(type(size) is int and size >= 0 for size in shape) or len(shape) > 32:
        raise DataError("the pickle has an array without a proper shape")
    if not isinstance(data, bytes) or math.prod(shape) != len(data):
        raise DataError(f"the pickle has an array of shape {shape} whose number of bytes differs")
    return np.frombuffer(data, np.uint8).reshape(shape, order="F" if fortran else "C")


def _same(argument: Any) -> Any:
    return argument


def _python2_string(argument: str) -> bytes:
    return argument.encode("latin-1")


CONSTANTS: dict[str, Callable[[Any], Any]] = {
    **dict.fromkeys(("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1"), _same),
    **dict.fromkeys(("BINBYTES", "SHORT_BINBYTES", "BINBYTES8"), _same),
    **dict.fromkeys(("UNICODE", "BINUNICODE", "SHORT_BINUNICODE"), _same),
    **dict.fromkeys(("STRING", "BINSTRING", "SHORT_BINSTRING"), _python2_string),
    "NONE": lambda _: None,
    "NEWTRUE": lambda _: True,
    "NEWFALSE": lambda _: False,
    "EMPTY_DICT": lambda _: {},
    "EMPTY_LIST": lambda _: [],
    "EMPTY_TUPLE": lambda _: (),
}


def _memoize(machine: _Machine, index: int | None) -> None:
    machine.memo[len(machine.memo) if index is None else int(index)] = machine.peek(object)


def _new_dict(machine: _Machine, _: Any) -> None:
    values = machine.pop_to_mark()
    machine.stack.append({})
    machine.set_items(values)


def _set_item(machine: _Machine, _: Any) -> None:
    value, key = machine.pop(), machine.pop()
    machine.set_items([key, value])


ACTIONS: dict[str, Callable[[_Machine, Any], None]] = {
    "PROTO": lambda machine, _: None,
    "FRAME": lambda machine, _: None,
    "MARK": lambda machine, _: machine.marks.append(len(machine.stack)),
    **dict.fromkeys(("PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"), _memoize),
    **dict.fromkeys(("GET", "BINGET", "LONG_BINGET"), lambda machine, i: machine.stack.append(machine.memo[int(i)])),
    "TUPLE": lambda machine, _: machine.stack.append(tuple(machine.pop_to_mark())),
    "TUPLE1": lambda machine, _: machine.tuple_of(1),
    "TUPLE2": lambda machine, _: machine.tuple_of(2),
    "TUPLE3": lambda machine, _: machine.tuple_of(3),
    "LIST": lambda machine, _: machine.stack.append([_finished(value) for value in machine.pop_to_mark()]),
    "DICT": _new_dict,
    "APPEND": lambda machine, _: machine.extend([machine.pop()]),
    "APPENDS": lambda machine, _: machine.extend(machine.pop_to_mark()),
    "SETITEM": _set_item,
    "SETITEMS": lambda machine, _: machine.set_items(machine.pop_to_mark()),
    "GLOBAL": lambda machine, argument: machine.name(argument),
    "STACK_GLOBAL": lambda machine, _: machine.stack_name(),
    "REDUCE": lambda machine, _: machine.call(),
    "BUILD": lambda machine, _: machine.build(),
}
