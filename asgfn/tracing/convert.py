"""From what users pass to arrays: NumPy arrays, Python numbers and what announces itself as an array."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from asgfn import dtypes
from asgfn.config import config
from asgfn.errors import (
    NotAnArrayError,
)
from asgfn.graph.types import ArrayType
from asgfn.tracing.array import Array, ConcreteArray, concrete, reject
from asgfn.tracing.tracer import Tracer

_small_scalars: dict[tuple, ConcreteArray] = {}


def _scalar(x: Any, dtype: np.dtype) -> ConcreteArray:
    weak = type(x) is not bool
    try:
        value = np.array(x, dtype)
    except OverflowError:
        raise OverflowError(
            f"Python int {x} is too large to convert to {dtype.name}"
            + ("" if config.enable_x64 else "; 64-bit dtypes need asgfn.config.update('enable_x64', True)")
        ) from None
    return concrete(value, ArrayType((), dtype, weak))


def as_array(x: Any, where: str = "") -> Array:
    """An Array of anything that may stand for one: arrays, NumPy arrays and scalars, Python numbers (weakly typed).

    Raises:
        NotAnArrayError: for anything else (lists, None, strings, ...).
    """
    kind = type(x)
    if kind is ConcreteArray or kind is Tracer:
        return x
    dtype = dtypes.scalar_dtype(x)
    if dtype is not None:
        key = (kind, x, dtype)
        if x == 0 or kind is complex:  # 0.0 and -0.0 are equal but not the same
            return _scalar(x, dtype)
        found = _small_scalars.get(key)
        if found is None or found.buffer is None:  # somebody may have deleted theirs
            found = _scalar(x, dtype)
            if len(_small_scalars) < 4096:
                _small_scalars[key] = found
        return found
    if isinstance(x, (np.ndarray, np.generic)):
        if isinstance(x, np.ma.MaskedArray):
            raise NotAnArrayError(
                f"{where or 'asgfn'}: masked arrays are not supported; fill them first (x.filled(value))"
            )
        value = np.array(x, dtype=dtypes.canonicalize(x.dtype), order="C", copy=True)
        return concrete(value, ArrayType(value.shape, value.dtype))
    if isinstance(x, Array):
        return x
    convert = getattr(x, "__asgfn_array__", None) or getattr(x, "__jax_array__", None)
    if convert is not None:
        return as_array(convert(), where)
    # torch tensors, pandas columns and the like; containers and objects are not silently turned into arrays
    if hasattr(x, "__array__") and hasattr(x, "dtype"):
        return as_array(np.asarray(x), where)
    if isinstance(x, (int, float, complex)):  # subclasses: enum members, ...
        base: Callable[[Any], complex] = next(b for b in (bool, int, float, complex) if isinstance(x, b))
        return as_array(base(x))
    raise reject(x, where)


def type_of(x: Any) -> ArrayType:
    """The ArrayType of anything that `as_array` takes, or of a ShapeDtypeStruct-like object."""
    aval = getattr(x, "aval", None)
    if isinstance(aval, ArrayType):
        return aval
    if isinstance(x, ArrayType):
        return x
    if not isinstance(x, (np.ndarray, np.generic)) and hasattr(x, "shape") and hasattr(x, "dtype"):
        return ArrayType(tuple(x.shape), dtypes.canonicalize(x.dtype), bool(getattr(x, "weak_type", False)))
    if isinstance(x, (np.ndarray, np.generic)):
        return ArrayType(x.shape, dtypes.canonicalize(x.dtype))
    return as_array(x).aval
