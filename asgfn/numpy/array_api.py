"""What the array API standard lets a program ask the library: `__array_namespace_info__`."""

from __future__ import annotations

from typing import Any

import numpy as np

from asgfn import dtypes
from asgfn.errors import DTypeError
from asgfn.numpy.dtype_tools import _KINDS
from asgfn.placement import devices as all_devices

__array_api_version__ = "2024.12"

_ALL = (
    "bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64",
    "float32", "float64", "complex64", "complex128",
)  # fmt: skip


class ArrayNamespaceInfo:
    """Capabilities, devices and dtypes of this namespace. The dtypes are those that can be stored now (see x64)."""

    def capabilities(self) -> dict[str, Any]:
        """What the namespace can do outside of traced functions; under `jit` shapes cannot depend on data."""
        return {"boolean indexing": True, "data-dependent shapes": True, "max dimensions": 64}

    def default_device(self) -> Any:
        """The device on which arrays are made unless asked otherwise."""
        return self.devices()[0]

    def devices(self) -> list[Any]:
        """All devices."""
        return list(all_devices())

    def default_dtypes(self, *, device: Any = None) -> dict[str, np.dtype]:
        """The dtypes of arrays made without one."""
        return {
            "real floating": dtypes.default_float(),
            "complex floating": dtypes.default_complex(),
            "integral": dtypes.default_int(),
            "indexing": dtypes.default_int(),
        }

    def dtypes(self, *, device: Any = None, kind: str | tuple[str, ...] | None = None) -> dict[str, np.dtype]:
        """The dtypes of a kind (or several, or all) by name."""
        kinds = (kind,) if isinstance(kind, str) else kind
        for name in kinds or ():
            if name not in _KINDS:
                raise DTypeError(f"dtypes: {name!r} is not a kind; kinds are {', '.join(map(repr, _KINDS))}")
        stored = {name: np.dtype(name) for name in _ALL if dtypes.canonicalize(name) == np.dtype(name)}
        if kinds is None:
            return stored
        return {name: dtype for name, dtype in stored.items() if any(_KINDS[one](dtype) for one in kinds)}


def __array_namespace_info__() -> ArrayNamespaceInfo:
    """Inspection of the namespace: capabilities, devices, dtypes (array API standard)."""
    return ArrayNamespaceInfo()
