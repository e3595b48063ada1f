"""`Array`: the value that users hold, concrete or traced.

The operators and methods (`x + y`, `x.sum()`, `x.at[...]`) are the functions of `asgfn.numpy`; that package installs
them here when it is imported, so that an operation is written once.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import repeat
from typing import TYPE_CHECKING, Any

import numpy as np

from asgfn.backend import get_backend
from asgfn.errors import DeletedArrayError, NotAnArrayError
from asgfn.graph.types import ArrayType


class Array:
    """An immutable n-dimensional array.

    Users make arrays with `asgfn.numpy.array`, `zeros`, ... Under a transform the same name stands for a traced
    value (`Tracer`), which has a shape and a dtype but no value yet.
    """

    __slots__ = ("__weakref__", "aval")
    __array_priority__ = 100  # NumPy arrays on the left of an operator let us answer
    __hash__ = None  # type: ignore[assignment]

    aval: ArrayType

    if TYPE_CHECKING:  # for type checkers: what asgfn.numpy installs

        def __getattr__(self, name: str) -> Any: ...
        def __getitem__(self, index: Any) -> Array: ...
        def __len__(self) -> int: ...
        def __iter__(self) -> Iterator[Array]: ...
        def __bool__(self) -> bool: ...
        def __int__(self) -> int: ...
        def __float__(self) -> float: ...
        def __index__(self) -> int: ...
        def __neg__(self) -> Array: ...
        def __pos__(self) -> Array: ...
        def __abs__(self) -> Array: ...
        def __invert__(self) -> Array: ...
        def __add__(self, other: Any) -> Array: ...
        def __radd__(self, other: Any) -> Array: ...
        def __sub__(self, other: Any) -> Array: ...
        def __rsub__(self, other: Any) -> Array: ...
        def __mul__(self, other: Any) -> Array: ...
        def __rmul__(self, other: Any) -> Array: ...
        def __truediv__(self, other: Any) -> Array: ...
        def __rtruediv__(self, other: Any) -> Array: ...
        def __floordiv__(self, other: Any) -> Array: ...
        def __rfloordiv__(self, other: Any) -> Array: ...
        def __mod__(self, other: Any) -> Array: ...
        def __rmod__(self, other: Any) -> Array: ...
        def __pow__(self, other: Any) -> Array: ...
        def __rpow__(self, other: Any) -> Array: ...
        def __matmul__(self, other: Any) -> Array: ...
        def __rmatmul__(self, other: Any) -> Array: ...
        def __and__(self, other: Any) -> Array: ...
        def __rand__(self, other: Any) -> Array: ...
        def __or__(self, other: Any) -> Array: ...
        def __ror__(self, other: Any) -> Array: ...
        def __xor__(self, other: Any) -> Array: ...
        def __rxor__(self, other: Any) -> Array: ...
        def __lshift__(self, other: Any) -> Array: ...
        def __rlshift__(self, other: Any) -> Array: ...
        def __rshift__(self, other: Any) -> Array: ...
        def __rrshift__(self, other: Any) -> Array: ...
        def __eq__(self, other: Any) -> Array: ...  # type: ignore[override]
        def __ne__(self, other: Any) -> Array: ...  # type: ignore[override]
        def __lt__(self, other: Any) -> Array: ...
        def __le__(self, other: Any) -> Array: ...
        def __gt__(self, other: Any) -> Array: ...
        def __ge__(self, other: Any) -> Array: ...

    def __new__(cls, *args: Any, **kwargs: Any) -> Array:
        if cls is Array:
            raise TypeError("Array is not called directly: make arrays with asgfn.numpy.array(...)")
        return object.__new__(cls)

    @property
    def shape(self) -> tuple[int, ...]:
        """Lengths of the axes."""
        return self.aval.shape

    @property
    def dtype(self) -> np.dtype:
        """Type of the elements."""
        return self.aval.dtype

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return self.aval.ndim

    @property
    def size(self) -> int:
        """Number of elements."""
        return self.aval.size

    @property
    def nbytes(self) -> int:
        """Bytes that the elements take."""
        return self.aval.nbytes

    @property
    def itemsize(self) -> int:
        """Bytes that one element takes."""
        return self.aval.dtype.itemsize

    @property
    def weak_type(self) -> bool:
        """Whether the dtype came from a Python scalar and gives way to other dtypes in promotion."""
        return self.aval.weak_type


_new = object.__new__


class ConcreteArray(Array):
    """An array that has its value, on some backend's device.

    `buffer` is that backend's own representation (an `np.ndarray` for the CPU); None after the array was donated.
    """

    __slots__ = ("buffer", "home", "mirror")

    buffer: Any
    home: Any  # the backend that holds the buffer; None for the host's memory
    mirror: Any  # a backend's copy of an array in the host's memory; not set before there is one

    @property
    def device(self) -> Any:
        """The device that holds the array."""
        return (self.home or get_backend("numpy")).devices()[0]

    @property
    def value(self) -> np.ndarray:
        """The value as a read-only NumPy array (a copy when it lives on another device)."""
        buffer = self.buffer
        if type(buffer) is np.ndarray:
            buffer.setflags(write=False)  # here rather than at creation: most arrays are never seen by Python
            return buffer
        if buffer is None:
            raise DeletedArrayError(
                f"this array ({self.aval}) was deleted: it was donated to a jitted call (donate_argnums) or .delete() was called. "
                "Keep using the call's result instead, or do not donate the argument"
            )
        return self.home.to_host(buffer, self.aval)

    def delete(self) -> None:
        """Gives the memory back; later use raises DeletedArrayError."""
        self.buffer = self.mirror = None

    def is_deleted(self) -> bool:
        return self.buffer is None

    def block_until_ready(self) -> ConcreteArray:
        """Waits until the value has been computed. Returns the array."""
        if self.buffer is None:
            _ = self.value
        if self.home is not None:
            self.home.wait([self.buffer])
        return self


def concrete(value: np.ndarray, aval: ArrayType) -> ConcreteArray:
    """Wraps a NumPy array that nobody else will write to."""
    array = _new(ConcreteArray)  # skips Array.__new__, which is for users
    if type(value) is not np.ndarray:
        value = np.asarray(value)
    array.buffer = value
    array.home = None
    array.aval = aval
    return array


def resident(buffer: Any, aval: ArrayType, home: Any) -> ConcreteArray:
    """Wraps a backend's buffer; one that is a NumPy array is in the host's memory."""
    if type(buffer) is np.ndarray:
        return concrete(buffer, aval)
    array = _new(ConcreteArray)
    array.buffer = buffer
    array.home = home
    array.aval = aval
    return array


def residents(buffers: Sequence[Any], avals: Sequence[ArrayType], home: Any) -> list[ConcreteArray]:
    """Wraps buffers of one backend, none of which is a NumPy array: for many of them, faster than `resident`."""
    arrays = list(map(_new, repeat(ConcreteArray, len(avals))))
    for array, buffer, aval in zip(arrays, buffers, avals, strict=True):
        array.buffer = buffer
        array.home = home
        array.aval = aval
    return arrays


def reject(x: Any, where: str = "") -> NotAnArrayError:
    """The error for something that is not an array, with a remedy for the usual cases."""
    kind = type(x)
    what = f"{where}: " if where else ""
    if isinstance(x, (list, tuple)):
        hint = f"{kind.__name__}s are not taken as arrays implicitly; write asgfn.numpy.asarray(...)"
    elif x is None:
        hint = "None is not an array; did a function forget to return, or an optional argument go missing?"
    elif isinstance(x, str):
        hint = "strings are not arrays; pass them as static arguments (static_argnums, static_argnames)"
    elif isinstance(x, dict) or hasattr(x, "__dataclass_fields__"):
        hint = "this is a container: use its leaves, or asgfn.tree.map to work on all of them"
    else:
        hint = "expected an array or a number"
    return NotAnArrayError(f"{what}{_short(x)} of type {kind.__name__} is not an array: {hint}")


def _short(x: Any) -> str:
    text = repr(x)
    return text if len(text) <= 60 else text[:57] + "..."
