"""How Python and NumPy get at the value of a concrete array: `bool(x)`, `float(x)`, `np.asarray(x)`, `print(x)`, ..."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import numpy as np

from asgfn import dtypes
from asgfn.errors import DTypeError, ShapeError
from asgfn.graph import ArrayType
from asgfn.placement import devices as all_devices
from asgfn.tracing import Array, ConcreteArray, concrete


def _scalar(x: ConcreteArray, what: str) -> Any:
    if x.shape:
        raise ShapeError(f"{what} takes an array of rank 0, got shape {x.shape}; pick an element, or use x.item()")
    return x.value[()]


def _bool(self: ConcreteArray) -> bool:
    if self.size != 1:
        raise ShapeError(
            f"the truth value of an array with {self.size} elements (shape {self.shape}) is ambiguous; "
            "use x.any(), x.all() or x.size"
        )
    return bool(self.value.reshape(())[()])


def _int(self: ConcreteArray) -> int:
    return int(_scalar(self, "int()"))


def _float(self: ConcreteArray) -> float:
    if dtypes.is_complex(self.dtype):
        raise DTypeError("float() is not defined for complex numbers; take x.real first")
    return float(_scalar(self, "float()"))


def _complex(self: ConcreteArray) -> complex:
    return complex(_scalar(self, "complex()"))


def _index(self: ConcreteArray) -> int:
    if self.shape or not dtypes.is_integer(self.dtype):
        raise DTypeError(f"only integer arrays of rank 0 can be an index, got {self.aval}")
    return operator.index(self.value[()])


def _array(self: ConcreteArray, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
    """The value as a NumPy array, read-only unless copied."""
    if dtype is None and not copy:
        return self.value
    return np.array(self.value, dtype=dtype, copy=copy)


def _item(self: ConcreteArray, *args: int) -> bool | int | float | complex:
    """An element as a Python number: the only one, or the one at a flat or full index."""
    if not args and self.size != 1:
        raise ShapeError(f"item() without an index takes an array of one element, got shape {self.shape}")
    value = self.value.item(*args)
    return value if isinstance(value, (bool, int, float, complex)) else float(value)


def _tolist(self: ConcreteArray) -> Any:
    """The value as (nested lists of) Python numbers."""
    value = self.value
    return (value.astype(np.float32) if value.dtype == dtypes.bfloat16 else value).tolist()


def _repr(self: ConcreteArray) -> str:
    if self.is_deleted():
        return f"Array(deleted, {self.aval})"
    weak = ", weak_type=True" if self.weak_type else ""
    body = np.array2string(self.value, separator=", ", prefix="Array(") if self.size else f"[], shape={self.shape}"
    return f"Array({body}, dtype={self.dtype.name}{weak})"


def _str(self: ConcreteArray) -> str:
    return str(self.value)


def _format(self: ConcreteArray, spec: str) -> str:
    return format(self.value[()], spec) if not self.shape else format(str(self), spec)


def _dlpack(
    self: ConcreteArray,
    *,
    stream: Any = None,
    max_version: tuple[int, int] | None = None,
    dl_device: Any = None,
    copy: bool | None = None,
) -> Any:
    """The array as a DLPack capsule. Consumers that cannot promise not to write get a copy."""
    value = self.value
    read_only_is_known = max_version is not None and max_version[0] >= 1
    if copy is False and not read_only_is_known:
        raise BufferError("arrays are immutable: before DLPack 1.0 they can be exported as a copy only")
    if copy or not read_only_is_known:
        value = value.copy()
    options: dict[str, Any] = {"max_version": max_version} if max_version is not None else {}
    return value.__dlpack__(stream=stream, dl_device=dl_device, **options)


def _dlpack_device(self: ConcreteArray) -> tuple[int, int]:
    return self.value.__dlpack_device__()


def _rebuild(value: np.ndarray, weak_type: bool) -> ConcreteArray:
    return concrete(value, ArrayType(value.shape, value.dtype, weak_type))


def _reduce(self: ConcreteArray) -> tuple:
    return _rebuild, (np.array(self.value), self.weak_type)


def _devices(self: Array) -> set[Any]:
    """The device on which the array lives, as a set of one."""
    return {getattr(self, "device", None) or all_devices()[0]}


def _copy_to_host_async(self: ConcreteArray) -> None:
    """Starts copying the value to the host; here values are copied when they are asked for."""


HOST_METHODS: dict[str, Callable] = {
    "__bool__": _bool,
    "__int__": _int,
    "__float__": _float,
    "__complex__": _complex,
    "__index__": _index,
    "__array__": _array,
    "__repr__": _repr,
    "__str__": _str,
    "__format__": _format,
    "__dlpack__": _dlpack,
    "__dlpack_device__": _dlpack_device,
    "__reduce__": _reduce,
    "item": _item,
    "tolist": _tolist,
    "devices": _devices,
    "copy_to_host_async": _copy_to_host_async,
}
