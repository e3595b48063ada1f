"""Dtypes as users name them: `float32`, `int8`, ... are dtypes and make arrays; and questions about dtypes."""

from __future__ import annotations

from typing import Any, Literal

import ml_dtypes
import numpy as np

from asgfn import dtypes
from asgfn.errors import DTypeError
from asgfn.numpy.arguments import ArrayLike, DTypeLike, convert, strong, to_array
from asgfn.numpy.creation import array
from asgfn.numpy.device import to_device
from asgfn.tracing import Array


class ScalarType:
    """A dtype by name. `float32(x)` converts, `dtype=float32` names, `x.dtype == float32` compares."""

    __slots__ = ("dtype",)

    dtype: np.dtype

    def __init__(self, dtype: Any) -> None:
        object.__setattr__(self, "dtype", np.dtype(dtype))

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError("dtypes are immutable")

    def __call__(self, x: Any = 0) -> Array:
        return array(x, self.dtype)

    def __repr__(self) -> str:
        return f"asgfn.numpy.{'bool_' if self.dtype == np.bool_ else self.dtype.name}"

    @property
    def __name__(self) -> str:
        return self.dtype.name

    @property
    def type(self) -> type:
        """NumPy's scalar class."""
        return self.dtype.type

    @property
    def itemsize(self) -> int:
        return self.dtype.itemsize

    def __eq__(self, other: Any) -> bool:
        if isinstance(other, ScalarType):
            return self.dtype == other.dtype
        try:
            return self.dtype == np.dtype(other) if other is not None else False
        except TypeError:
            return NotImplemented

    def __hash__(self) -> int:
        return hash(self.dtype.type)

    def __reduce__(self) -> tuple:
        return ScalarType, (self.dtype,)

    def __instancecheck__(self, instance: Any) -> bool:
        return getattr(instance, "dtype", None) == self.dtype


bool_ = ScalarType(np.bool_)
int8, int16, int32, int64 = (ScalarType(f"int{bits}") for bits in (8, 16, 32, 64))
uint8, uint16, uint32, uint64 = (ScalarType(f"uint{bits}") for bits in (8, 16, 32, 64))
float16, float32, float64 = (ScalarType(f"float{bits}") for bits in (16, 32, 64))
bfloat16 = ScalarType(ml_dtypes.bfloat16)
complex64, complex128 = ScalarType("complex64"), ScalarType("complex128")

# The widest of each kind, which is the default width: 32 bits, 64 when x64 is on.
int_, uint, float_, complex_ = int64, uint64, float64, complex128
single, double, csingle, cdouble = float32, float64, complex64, complex128

# Abstract kinds, for issubdtype.
generic, number, integer, inexact = np.generic, np.number, np.integer, np.inexact
signedinteger, unsignedinteger, floating = np.signedinteger, np.unsignedinteger, np.floating
complexfloating, character, flexible, object_ = np.complexfloating, np.character, np.flexible, np.object_
dtype = np.dtype


class finfo:
    """Limits of a floating dtype, as Python numbers; for a complex dtype those of its parts.

    Attributes:
        bits: width; dtype: the (real) dtype.
        eps: distance from 1 to the next larger number; epsneg: to the next smaller.
        max, min: largest and smallest finite number.
        smallest_normal, tiny: smallest positive number with full precision; smallest_subnormal: with any.
        resolution: 10**-precision, precision: number of decimal digits that survive.
        nmant, nexp: bits of mantissa and exponent; maxexp, minexp: range of the exponent.
    """

    dtype: np.dtype
    bits: int
    eps: float
    epsneg: float
    max: float
    min: float
    smallest_normal: float
    tiny: float
    smallest_subnormal: float
    resolution: float
    precision: int
    nmant: int
    nexp: int
    iexp: int
    maxexp: int
    minexp: int
    machep: int
    negep: int

    def __init__(self, dtype: Any) -> None:
        asked = dtypes.as_dtype(dtype)
        if not dtypes.is_inexact(asked):
            raise DTypeError(f"finfo takes a floating or complex dtype, got {asked}; use iinfo for integers")
        self.dtype = dtypes.real_dtype(asked)
        facts = ml_dtypes.finfo(self.dtype)
        self.bits = int(facts.bits)
        for name in ("eps", "epsneg", "max", "min", "smallest_normal", "tiny", "smallest_subnormal", "resolution"):
            setattr(self, name, float(getattr(facts, name)))
        for name in ("precision", "nmant", "nexp", "iexp", "maxexp", "minexp", "machep", "negep"):
            setattr(self, name, int(getattr(facts, name)))

    def __repr__(self) -> str:
        return f"finfo(min={self.min}, max={self.max}, eps={self.eps}, dtype={self.dtype.name})"


class iinfo:
    """Limits of an integer dtype: `bits`, `max`, `min` as Python ints, and `dtype`."""

    def __init__(self, int_type: Any) -> None:
        self.dtype = dtypes.as_dtype(type(int_type) if isinstance(int_type, int) else int_type)
        if not dtypes.is_integer(self.dtype):
            raise DTypeError(f"iinfo takes an integer dtype, got {self.dtype}; use finfo for floats")
        facts = np.iinfo(self.dtype)
        self.bits, self.max, self.min = int(facts.bits), int(facts.max), int(facts.min)

    def __repr__(self) -> str:
        return f"iinfo(min={self.min}, max={self.max}, dtype={self.dtype.name})"


# -------------------------------------------------------------------------------------------------- questions on dtypes


def result_type(*args: Any) -> np.dtype:
    """The dtype of an operation on these arrays, Python scalars and dtypes."""
    return dtypes.result_type(*args)


def promote_types(a: DTypeLike, b: DTypeLike) -> np.dtype:
    """The dtype in which two dtypes meet."""
    return dtypes.promote_types(a, b)


def can_cast(
    from_: Any, to: DTypeLike, casting: Literal["no", "equiv", "safe", "same_kind", "unsafe"] = "safe"
) -> bool:
    """Whether values of one dtype (or an array's) convert to another by a casting rule, as in NumPy."""
    return bool(np.can_cast(dtypes.as_dtype(from_), dtypes.as_dtype(to), casting=casting))


_KINDS = {
    "bool": dtypes.is_bool,
    "signed integer": dtypes.is_signed_integer,
    "unsigned integer": dtypes.is_unsigned_integer,
    "integral": dtypes.is_integer,
    "real floating": dtypes.is_floating,
    "complex floating": dtypes.is_complex,
    "numeric": lambda dtype: dtypes.is_integer(dtype) or dtypes.is_inexact(dtype),
}


def isdtype(dtype: DTypeLike, kind: Any) -> bool:
    """Whether a dtype is of a kind: "bool", "integral", "real floating", ..., another dtype, or any of a tuple."""
    dtype = dtypes.as_dtype(dtype)
    if isinstance(kind, tuple):
        return any(isdtype(dtype, one) for one in kind)
    if isinstance(kind, str):
        if kind in _KINDS:
            return bool(_KINDS[kind](dtype))
        try:
            return dtype == np.dtype(kind)
        except TypeError:
            raise DTypeError(f"isdtype: {kind!r} is not a kind; kinds are {', '.join(map(repr, _KINDS))}") from None
    return dtype == dtypes.as_dtype(kind)


def issubdtype(arg1: Any, arg2: Any) -> bool:
    """Whether a dtype lies below another in NumPy's hierarchy, where bfloat16 is a `floating`."""
    first, second = _type_in_hierarchy(arg1), _type_in_hierarchy(arg2)
    if first is ml_dtypes.bfloat16:
        return second in (ml_dtypes.bfloat16, np.floating, np.inexact, np.number, np.generic)
    return bool(np.issubdtype(first, second))


def _type_in_hierarchy(arg: Any) -> type:
    if isinstance(arg, type) and issubclass(arg, np.generic):
        return arg
    return dtypes.as_dtype(arg).type


def iscomplexobj(x: Any) -> bool:
    """Whether the dtype is complex, whatever the values."""
    return dtypes.is_complex(dtypes.result_type(x)) if x is not None else False


def isrealobj(x: Any) -> bool:
    """Whether the dtype is not complex."""
    return not iscomplexobj(x)


def isscalar(element: Any) -> bool:
    """Whether `element` is a Python or NumPy scalar or an array of rank 0."""
    if isinstance(element, (np.ndarray, Array)) or hasattr(type(element), "__jax_array__"):
        return np.ndim(element) == 0
    return bool(np.isscalar(element))


def astype(x: ArrayLike, dtype: DTypeLike, /, *, copy: bool = False, device: Any = None) -> Array:
    """`x` converted: floats to integers truncate, complex numbers lose their imaginary part, truth is "not zero".

    None as dtype means the default float.
    """
    x = to_array("astype", x)
    target = dtypes.default_float() if dtype is None else dtypes.canonicalize(dtype)
    result = convert(x, target)
    result = strong(result)
    return to_device(result, device) if device is not None else result
