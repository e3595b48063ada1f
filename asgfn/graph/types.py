"""`ArrayType`: what a graph knows about an array before it exists."""

from __future__ import annotations

import math
import operator
from typing import Any

import numpy as np

_interned: dict[tuple, ArrayType] = {}


class ArrayType:
    """The shape and dtype of an array, and whether the dtype is weak (came from a Python scalar).

    Types are interned: equal types are the same object, so comparing and hashing them costs nothing. That is what
    makes the cache lookup of a jitted call with a hundred leaves cheap.
    """

    __slots__ = ("dtype", "ndim", "shape", "size", "weak_type")

    shape: tuple[int, ...]
    dtype: np.dtype
    weak_type: bool
    ndim: int
    size: int

    def __new__(cls, shape: Any, dtype: Any, weak_type: bool = False) -> ArrayType:
        try:
            return _interned[(shape, dtype, weak_type)]
        except (KeyError, TypeError):
            pass
        shape = tuple(operator.index(d) for d in shape)
        if any(d < 0 for d in shape):
            raise ValueError(f"array dimensions must be non-negative, got shape {shape}")
        dtype = np.dtype(dtype)
        new = object.__new__(cls)
        put = object.__setattr__
        put(new, "shape", shape)
        put(new, "dtype", dtype)
        put(new, "weak_type", bool(weak_type))
        put(new, "ndim", len(shape))
        put(new, "size", math.prod(shape))
        return _interned.setdefault((shape, dtype, bool(weak_type)), new)

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError("ArrayType is immutable; use .update(shape=..., dtype=..., weak_type=...)")

    def __reduce__(self) -> tuple:
        return ArrayType, (self.shape, self.dtype, self.weak_type)

    def update(self, shape: Any = None, dtype: Any = None, weak_type: bool | None = None) -> ArrayType:
        """A copy with some attributes replaced."""
        return ArrayType(
            self.shape if shape is None else shape,
            self.dtype if dtype is None else dtype,
            self.weak_type if weak_type is None else weak_type,
        )

    @property
    def nbytes(self) -> int:
        """Bytes that the array's elements take."""
        return self.size * self.dtype.itemsize

    def __str__(self) -> str:
        return f"{self.dtype.name}[{','.join(map(str, self.shape))}]"

    def __repr__(self) -> str:
        weak = ", weak_type=True" if self.weak_type else ""
        return f"ArrayType({self.shape}, {self.dtype.name}{weak})"


class SourceInfo:
    """A place in the user's program."""

    __slots__ = ("file", "function", "line")

    def __init__(self, file: str, line: int, function: str):
        self.file = file
        self.line = line
        self.function = function

    def __str__(self) -> str:
        return f"{self.file}:{self.line} ({self.function})"

    def __repr__(self) -> str:
        return f"SourceInfo({self.file!r}, {self.line}, {self.function!r})"
