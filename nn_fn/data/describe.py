"""A configuration in words that are the same in every process and every run, so that two can be compared."""

from __future__ import annotations

import dataclasses
import functools
import zlib
from typing import Any

import numpy as np


def describe(value: Any) -> str:
    """Records by their fields, arrays by shape, dtype and checksum, functions by name, other objects by type.

    Unlike `repr` the result has no addresses in it, and it is short for large arrays.
    """
    if value is None or isinstance(value, bool | int | float | complex | str | bytes | np.generic):
        return repr(value)
    if isinstance(value, np.ndarray):
        checksum = zlib.crc32(np.ascontiguousarray(value).reshape(-1).view(np.uint8).data) if value.size else 0
        return f"array({value.dtype}{list(value.shape)}, crc32={checksum:08x})"
    if isinstance(value, range):
        return repr(value)
    if isinstance(value, list | tuple):
        text = ", ".join(map(describe, value))
        if len(text) > 1000:
            text = f"{len(value)} items, crc32={zlib.crc32(text.encode()):08x}"
        return f"{type(value).__name__}({text})"
    if isinstance(value, dict):
        return f"dict({', '.join(f'{describe(k)}: {describe(v)}' for k, v in value.items())})"
    if isinstance(value, functools.partial):
        return f"partial({describe(value.func)}, {describe(value.args)}, {describe(value.keywords)})"
    name = f"{type(value).__module__}.{type(value).__qualname__}"
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = (f"{f.name}={describe(getattr(value, f.name))}" for f in dataclasses.fields(value))
        return f"{name}({', '.join(fields)})"
    if hasattr(value, "__qualname__"):
        return f"{value.__module__}.{value.__qualname__}"
    return name
