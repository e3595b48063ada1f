"""NumPy kernels of operations that rearrange elements. Most return views."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from asgfn import dtypes
from backends.numpy.registry import kernel


@kernel("broadcast_in_dim")
def _(in_types: Any, out_types: Any, *, shape: tuple, broadcast_dimensions: tuple) -> Callable:
    (x,) = in_types
    expanded = [1] * len(shape)
    for size, d in zip(x.shape, broadcast_dimensions, strict=True):
        expanded[d] = size
    middle = tuple(expanded)
    if middle == x.shape:
        return lambda a: np.broadcast_to(a, shape)
    return lambda a: np.broadcast_to(a.reshape(middle), shape)


@kernel("reshape")
def _(in_types: Any, out_types: Any, *, new_sizes: tuple) -> Callable:
    return lambda a: a.reshape(new_sizes)


@kernel("squeeze")
def _(in_types: Any, out_types: Any, *, dimensions: tuple) -> Callable:
    shape = out_types[0].shape
    return lambda a: a.reshape(shape)


@kernel("transpose")
def _(in_types: Any, out_types: Any, *, permutation: tuple) -> Callable:
    return lambda a: a.transpose(permutation)


@kernel("reduce_sum")
def _(in_types: Any, out_types: Any, *, axes: tuple) -> Callable:
    dtype = out_types[0].dtype
    if dtypes.is_floating(dtype) and dtype.itemsize == 2:
        return lambda a: np.add.reduce(a, axis=axes, dtype=np.float32).astype(dtype)
    reduce = np.add.reduce
    if len(axes) == 1:
        axis = axes[0]
        return lambda a: reduce(a, axis, dtype)
    return lambda a: reduce(a, axes, dtype)


@kernel("convert_element_type")
def _(in_types: Any, out_types: Any, *, new_dtype: np.dtype, weak_type: bool) -> Callable:
    old = in_types[0].dtype
    if old == new_dtype:
        return lambda a: a
    if dtypes.is_complex(old) and not dtypes.is_complex(new_dtype):
        if dtypes.is_bool(new_dtype):
            return lambda a: a != 0
        return lambda a: a.real.astype(new_dtype)
    if dtypes.is_floating(old) and dtypes.is_integer(new_dtype):
        info = np.iinfo(new_dtype)
        # XLA: out of range saturates, NaN becomes 0. The upper bound itself may not be a float of this precision.
        wide = np.dtype("float64") if old.itemsize < 8 else old
        low, high = (
            wide.type(info.min),
            np.nextafter(wide.type(info.max), wide.type(0)) if info.bits == 64 else wide.type(info.max),
        )

        def convert(a: np.ndarray) -> np.ndarray:
            x = a.astype(wide)
            inside = np.clip(x, low, high)
            out = np.where(np.isnan(x), 0, inside).astype(new_dtype)
            if info.bits == 64:
                out = np.where(x > high, new_dtype.type(info.max), out)
            return out

        return convert
    return lambda a: a.astype(new_dtype)


@kernel("bitcast_convert_type")
def _(in_types: Any, out_types: Any, *, new_dtype: np.dtype) -> Callable:
    shape = out_types[0].shape
    return lambda a: np.ascontiguousarray(a).view(new_dtype).reshape(shape)


@kernel("iota")
def _(in_types: Any, out_types: Any, *, dtype: np.dtype, shape: tuple, dimension: int) -> Callable:
    expanded = [1] * len(shape)
    expanded[dimension] = shape[dimension]
    middle = tuple(expanded)

    def count() -> np.ndarray:
        return np.broadcast_to(np.arange(shape[dimension]).astype(dtype).reshape(middle), shape)

    return count


@kernel("copy")
def _(in_types: Any, out_types: Any) -> Callable:
    return lambda a: a.copy()


@kernel("optimization_barrier")
def _(in_types: Any, out_types: Any) -> Callable:
    return lambda *xs: xs
