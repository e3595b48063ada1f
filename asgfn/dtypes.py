"""Dtypes and their promotion: JAX's lattice with weak Python scalars.

The lattice is the one of JAX's type promotion design note: a join of two dtypes is their least upper bound in the
graph `_UP` below, where ``i*``, ``f*`` and ``c*`` stand for Python's int, float and complex.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import ml_dtypes
import numpy as np

from asgfn.config import config
from asgfn.errors import DTypeError, TypePromotionError
from asgfn.graph.types import ArrayType

bfloat16 = np.dtype(ml_dtypes.bfloat16)
float0 = np.dtype([("float0", np.void, 0)])  # the tangent dtype of integers and booleans; it holds nothing


class prng_key(np.void):  # type: ignore[misc]
    """The scalar type of random keys: `jnp.issubdtype(x.dtype, prng_key)` tells keys from numbers."""


_WIDE = {"int64": "int32", "uint64": "uint32", "float64": "float32", "complex128": "complex64"}
_NARROW = {np.dtype(wide): np.dtype(narrow) for wide, narrow in _WIDE.items()}

_bool = np.dtype(bool)
_FLOATS = frozenset(map(np.dtype, ("float16", "float32", "float64"))) | {bfloat16}
_COMPLEX = frozenset(map(np.dtype, ("complex64", "complex128")))
_SIGNED = frozenset(map(np.dtype, ("int8", "int16", "int32", "int64")))
_UNSIGNED = frozenset(map(np.dtype, ("uint8", "uint16", "uint32", "uint64")))
SUPPORTED = _FLOATS | _COMPLEX | _SIGNED | _UNSIGNED | {_bool}


def is_floating(dtype: Any) -> bool:
    """Real floating point, bfloat16 included."""
    return dtype in _FLOATS


def is_complex(dtype: Any) -> bool:
    return dtype in _COMPLEX


def is_inexact(dtype: Any) -> bool:
    """Floating point or complex: what can be differentiated."""
    return dtype in _FLOATS or dtype in _COMPLEX


def is_integer(dtype: Any) -> bool:
    return dtype in _SIGNED or dtype in _UNSIGNED


def is_signed_integer(dtype: Any) -> bool:
    return dtype in _SIGNED


def is_unsigned_integer(dtype: Any) -> bool:
    return dtype in _UNSIGNED


def is_bool(dtype: Any) -> bool:
    return dtype == _bool


@cache
def _as_dtype(dtype: Any) -> np.dtype:
    try:
        return np.dtype(dtype)
    except TypeError as error:
        raise DTypeError(f"{dtype!r} is not a dtype") from error


def as_dtype(dtype: Any) -> np.dtype:
    """np.dtype of anything that names one: a string, a NumPy or Python type, an asgfn scalar type, an array."""
    if isinstance(dtype, np.dtype):
        return dtype
    found = getattr(dtype, "dtype", None)
    if isinstance(found, np.dtype):
        return found
    return _as_dtype(dtype)


def canonicalize(dtype: Any) -> np.dtype:
    """The dtype that asgfn stores for this request: 64-bit becomes 32-bit unless `enable_x64` is on.

    Python's `int`, `float` and `complex` mean the default width.
    """
    dtype = as_dtype(dtype)
    if not config.enable_x64:
        dtype = _NARROW.get(dtype, dtype)
    if dtype not in SUPPORTED and dtype != float0:
        if dtype.isnative or dtype.newbyteorder("=") not in SUPPORTED:
            raise DTypeError(
                f"dtype {dtype} is not supported: arrays hold booleans, integers, floats (bfloat16 included) or complex numbers"
            )
        dtype = dtype.newbyteorder("=")
    return dtype


def default_float() -> np.dtype:
    return np.dtype("float64") if config.enable_x64 else np.dtype("float32")


def default_int() -> np.dtype:
    return np.dtype("int64") if config.enable_x64 else np.dtype("int32")


def default_uint() -> np.dtype:
    return np.dtype("uint64") if config.enable_x64 else np.dtype("uint32")


def default_complex() -> np.dtype:
    return np.dtype("complex128") if config.enable_x64 else np.dtype("complex64")


def to_inexact(dtype: Any) -> np.dtype:
    """The dtype in which a function such as `sin` of an array of this dtype is computed."""
    dtype = np.dtype(dtype)
    return dtype if is_inexact(dtype) else default_float()


def real_dtype(dtype: Any) -> np.dtype:
    """float32 of complex64, float64 of complex128, others unchanged."""
    dtype = np.dtype(dtype)
    if dtype == np.complex64:
        return np.dtype("float32")
    return np.dtype("float64") if dtype == np.complex128 else dtype


def complex_dtype(dtype: Any) -> np.dtype:
    """The complex dtype whose parts have this real dtype (half precision gives complex64)."""
    dtype = np.dtype(dtype)
    if is_complex(dtype):
        return dtype
    return np.dtype("complex128") if dtype == np.float64 else np.dtype("complex64")


# ---------------------------------------------------------------------------------------------- the lattice
_UP: dict[str, tuple[str, ...]] = {
    "bool": ("i*",),
    "i*": ("uint8", "int8"),
    "uint8": ("int16", "uint16"),
    "uint16": ("int32", "uint32"),
    "uint32": ("int64", "uint64"),
    "uint64": ("f*",),
    "int8": ("int16",),
    "int16": ("int32",),
    "int32": ("int64",),
    "int64": ("f*",),
    "f*": ("c*", "bfloat16", "float16"),
    "bfloat16": ("float32",),
    "float16": ("float32",),
    "float32": ("float64", "complex64"),
    "float64": ("complex128",),
    "c*": ("complex64",),
    "complex64": ("complex128",),
    "complex128": (),
}
_WEAK = {"b": "bool", "i": "i*", "u": "i*", "f": "f*", "c": "c*", "V": "f*"}


@cache
def _above(name: str) -> frozenset[str]:
    seen = {name}
    todo = [name]
    while todo:
        for up in _UP[todo.pop()]:
            if up not in seen:
                seen.add(up)
                todo.append(up)
    return frozenset(seen)


@cache
def _join(names: frozenset[str]) -> str:
    common = frozenset.intersection(*map(_above, names))
    for name in common:
        if _above(name) >= common:
            return name
    raise DTypeError(f"no common dtype for {sorted(names)}")


@cache
def _promote(
    dtypes: tuple[np.dtype, ...], weak: tuple[bool, ...], x64: bool, strict: bool = False
) -> tuple[np.dtype, bool]:
    if len(set(dtypes)) == 1 and (len(dtypes) == 1 or not all(weak)):
        return dtypes[0], weak[0] if len(dtypes) == 1 else False
    if strict and len({d for d, w in zip(dtypes, weak, strict=True) if not w}) > 1:
        listed = ", ".join(dict.fromkeys(d.name for d in dtypes))
        raise TypePromotionError(
            f"numpy_dtype_promotion is 'strict', so dtypes {listed} are not promoted implicitly; convert them with x.astype(...)"
        )
    if all(weak):
        joined, is_weak = _join(frozenset(d.name for d in dtypes)), True
    else:
        names = frozenset(
            _WEAK["f" if is_floating(d) else d.kind] if w else d.name for d, w in zip(dtypes, weak, strict=True)
        )
        joined = _join(names)
        is_weak = joined.endswith("*")
    defaults = {"i*": default_int, "f*": default_float, "c*": default_complex}
    dtype = defaults[joined]() if joined in defaults else canonicalize(bfloat16 if joined == "bfloat16" else joined)
    return dtype, is_weak and dtype != _bool


def scalar_dtype(x: Any) -> np.dtype | None:
    """The (weak) dtype of a Python scalar, None for anything else."""
    kind = type(x)
    if kind is float:
        return default_float()
    if kind is int:
        return default_int()
    if kind is bool:
        return _bool
    if kind is complex:
        return default_complex()
    return None


def _type_of(x: Any) -> tuple[np.dtype, bool]:
    aval = getattr(x, "aval", None)
    if isinstance(aval, ArrayType):
        return aval.dtype, aval.weak_type
    if isinstance(x, ArrayType):
        return x.dtype, x.weak_type
    dtype = scalar_dtype(x)
    if dtype is not None:
        return dtype, dtype != _bool
    if isinstance(x, type) and x in (int, float, complex):
        return canonicalize(x), True
    if isinstance(x, (np.ndarray, np.generic)) or (not isinstance(x, (np.dtype, type)) and hasattr(x, "shape")):
        return canonicalize(x.dtype), bool(getattr(x, "weak_type", False))
    return canonicalize(x), False


def promote_avals(types: tuple[ArrayType, ...]) -> tuple[np.dtype, bool]:
    """The joint dtype of several types and whether it is weak: the hot path of `asgfn.numpy`."""
    return _promote(
        tuple(t.dtype for t in types),
        tuple(t.weak_type for t in types),
        config.enable_x64,
        config.numpy_dtype_promotion == "strict",
    )


def result_type(*args: Any, return_weak: bool = False) -> Any:
    """The dtype of an operation on these arrays, scalars or dtypes.

    Raises:
        ValueError: without arguments.
    """
    if not args:
        raise ValueError("result_type needs at least one array or dtype")
    dtypes, weak = zip(*map(_type_of, args), strict=True)
    dtype, is_weak = _promote(dtypes, weak, config.enable_x64, config.numpy_dtype_promotion == "strict")
    dtype = canonicalize(dtype)
    return (dtype, is_weak) if return_weak else dtype


def promote_types(a: Any, b: Any) -> np.dtype:
    """The join of two dtypes; Python's int, float and complex count as weak."""
    return result_type(a, b)


canonicalize_dtype = canonicalize
