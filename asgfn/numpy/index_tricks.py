"""Index arithmetic and the bracket notations `r_`, `c_`, `ix_`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from asgfn import dtypes, lax
from asgfn.errors import DTypeError, IndexOutOfRangeError, ShapeError
from asgfn.numpy.arguments import (
    ArrayLike,
    as_ints,
    concrete,
    constant,
    convert,
    promote_args,
    to_array,
)
from asgfn.numpy.arithmetic import remainder
from asgfn.numpy.creation import asarray
from asgfn.numpy.joining import concatenate
from asgfn.numpy.ranges import arange, linspace
from asgfn.numpy.selection import flatnonzero
from asgfn.tracing import Array


def ix_(*args: ArrayLike) -> tuple[Array, ...]:
    """Vectors shaped so that they index an open mesh: `x[ix_(rows, columns)]`. Masks stand for their true positions."""
    vectors = []
    for arg in args:
        vector = to_array("ix_", arg)
        if vector.ndim != 1:
            raise ShapeError(f"ix_ takes vectors, got shape {vector.shape}")
        if vector.dtype == np.bool_:
            vector = flatnonzero(vector)
        elif vector.size == 0:
            vector = convert(vector, dtypes.default_int())
        vectors.append(vector)
    shape = [1] * len(vectors)
    return tuple(lax.reshape(v, (*shape[:i], v.size, *shape[i + 1 :])) for i, v in enumerate(vectors))


def unravel_index(indices: ArrayLike, shape: int | Sequence[int]) -> tuple[Array, ...]:
    """Flat indices as one index for each axis of `shape`. Negative ones count from the end; others are clipped."""
    indices = to_array("unravel_index", indices)
    if not dtypes.is_integer(indices.dtype):
        raise DTypeError(f"unravel_index takes integers, got {indices.dtype}")
    sizes = as_ints(shape)
    total, dtype = math.prod(sizes), indices.dtype
    if dtypes.is_signed_integer(dtype):
        limited = lax.clamp(constant(-total, dtype), indices, constant(total - 1, dtype))
        flat = lax.select(lax.lt(limited, constant(0, dtype)), lax.add(limited, constant(total, dtype)), limited)
    else:
        flat = lax.min(indices, constant(max(total - 1, 0), dtype))
    result: list[Array] = []
    for size in reversed(sizes):
        divisor = constant(max(size, 1), dtype)
        result.append(lax.rem(flat, divisor))
        flat = lax.div(flat, divisor)
    return tuple(result[::-1])


def ravel_multi_index(
    multi_index: Any, dims: Sequence[int], mode: str | tuple[str, ...] = "raise", order: str = "C", *, dtype: Any = None
) -> Array:
    """One index for each axis as flat indices of an array of shape `dims`.

    Arguments:
        mode: for indices out of bounds: "raise" (needs concrete values), "wrap" or "clip"; or one for each axis.
        order: "C" for row-major, "F" for column-major.
    """
    indices = [to_array("ravel_multi_index", index) for index in multi_index]
    dims = tuple(int(size) for size in dims)
    if len(indices) != len(dims):
        raise ShapeError(f"ravel_multi_index: {len(indices)} indices do not fit {len(dims)} axes")
    for index in indices:
        if not dtypes.is_integer(index.dtype):
            raise DTypeError(f"ravel_multi_index takes integers, got {index.dtype}")
    modes = (mode,) * len(dims) if isinstance(mode, str) else mode
    dtype = dtypes.default_int() if dtype is None else dtypes.canonicalize(dtype)
    if order not in ("C", "F"):
        raise DTypeError(f"ravel_multi_index: order must be 'C' or 'F', got {order!r}")
    result: Any = constant(0, dtype, weak=False)
    for i, (index, size, how) in enumerate(zip(indices, dims, modes, strict=True)):
        index = _bounded(index, size, how)
        stride = math.prod(dims[i + 1 :]) if order == "C" else math.prod(dims[:i])
        term = convert(index, dtype)
        term = term if stride == 1 else lax.mul(term, constant(stride, dtype))
        result = term if i == 0 else lax.add(*promote_args("ravel_multi_index", result, term))
    return result


def _bounded(index: Array, size: int, mode: str) -> Array:
    if mode == "wrap":
        return remainder(index, size)
    if mode == "clip":
        return lax.clamp(constant(0, index.dtype), index, constant(size - 1, index.dtype))
    if mode != "raise":
        raise DTypeError(f"ravel_multi_index: mode must be 'raise', 'wrap' or 'clip', got {mode!r}")
    hint = "whether indices are in range cannot be checked while tracing: pass mode='clip' or mode='wrap'"
    values = concrete("ravel_multi_index", index, hint)
    if values.size and (values.min() < 0 or values.max() >= size):
        raise IndexOutOfRangeError(f"ravel_multi_index: an index is outside of 0 to {size - 1}")
    return index


class _Concatenator:
    """`r_[...]`: joins scalars, arrays and ranges; a leading string says how.

    It is "axis,ndmin,where the old axes go", or "r" or "c" for a vector as a row or column of a matrix.
    """

    def __init__(self, name: str, axis: int, ndmin: int, trans1d: int) -> None:
        self._name = name
        self._defaults = (axis, ndmin, trans1d)

    def __repr__(self) -> str:
        return f"<{self._name}>"

    def __getitem__(self, key: Any) -> Array:
        parts = list(key) if isinstance(key, tuple) else [key]
        axis, ndmin, trans1d = self._defaults
        matrix = parts[0] if parts and isinstance(parts[0], str) and parts[0] in ("r", "c") else None
        if matrix:
            parts.pop(0)
        elif parts and isinstance(parts[0], str):
            axis, ndmin, trans1d = self._directive(parts.pop(0))
        result = concatenate([self._expanded(part, ndmin, trans1d) for part in parts], axis)
        if matrix and result.ndim == 1:
            result = lax.expand_dims(result, (0 if matrix == "r" else 1,))
        return result

    def _directive(self, text: str) -> tuple[int, int, int]:
        try:
            numbers = [int(item) for item in text.split(",")]
        except ValueError:
            raise DTypeError(f"{self._name}: unknown directive {text!r}; it has up to three integers") from None
        first, second, third, *_ = (*numbers, *self._defaults[len(numbers) :])
        return first, second, third

    def _expanded(self, part: Any, ndmin: int, trans1d: int) -> Array:
        if isinstance(part, slice):
            start, step = part.start or 0, 1 if part.step is None else part.step
            array = (
                linspace(start, part.stop, int(abs(step)))
                if isinstance(step, complex)
                else arange(start, part.stop, step)
            )
        elif isinstance(part, str):
            raise DTypeError(f"{self._name}: a directive must come first, found {part!r}")
        elif isinstance(part, (list, tuple)):
            array = asarray(part)
        else:
            array = to_array(self._name, part)
        rank = max(ndmin, 1)
        if array.ndim >= rank:
            return array
        # the old axes stay in order; the new ones of length 1 fill the places that trans1d leaves
        new = rank - array.ndim
        first = max(trans1d + new + 1, 0) if trans1d < 0 else min(trans1d, new)
        shape = [1] * rank
        shape[first : first + array.ndim] = array.shape
        return lax.reshape(array, tuple(shape))


r_ = _Concatenator("r_", axis=0, ndmin=1, trans1d=-1)
c_ = _Concatenator("c_", axis=-1, ndmin=2, trans1d=0)
