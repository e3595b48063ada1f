"""NumPy kernels of element-wise primitives.

Where NumPy's ufunc has StableHLO's semantics it is used as it is; the others are spelled out here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from asgfn import dtypes
from backends.numpy.registry import kernel, register_ufunc

for _name, _ufunc in {
    "add": np.add,
    "sub": np.subtract,
    "mul": np.multiply,
    "neg": np.negative,
    "floor": np.floor,
    "ceil": np.ceil,
    "square": np.square,
    "eq": np.equal,
    "ne": np.not_equal,
    "ge": np.greater_equal,
    "gt": np.greater,
    "le": np.less_equal,
    "lt": np.less,
    "is_finite": np.isfinite,
    "and": np.bitwise_and,
    "or": np.bitwise_or,
    "xor": np.bitwise_xor,
    "not": np.invert,
    "conj": np.conjugate,
    "log": np.log,
    "log1p": np.log1p,
    "sqrt": np.sqrt,
    "cbrt": np.cbrt,
    "sin": np.sin,
    "cos": np.cos,
    "tan": np.tan,
    "asin": np.arcsin,
    "acos": np.arccos,
    "atan": np.arctan,
    "atan2": np.arctan2,
    "sinh": np.sinh,
    "cosh": np.cosh,
    "tanh": np.tanh,
    "asinh": np.arcsinh,
    "acosh": np.arccosh,
    "atanh": np.arctanh,
    "exp": np.exp,
    "exp2": np.exp2,
    "abs": np.absolute,
}.items():
    register_ufunc(_name, _ufunc)


def _unary(name: str) -> Callable:
    """Registers a kernel that does not depend on types."""

    def register(function: Callable) -> Callable:
        kernel(name)(lambda in_types, out_types, **params: function)
        return function

    return register


@kernel("max")
def _(in_types: Any, out_types: Any) -> Callable:
    return np.logical_or if in_types[0].dtype == np.bool_ else np.maximum


@kernel("min")
def _(in_types: Any, out_types: Any) -> Callable:
    return np.logical_and if in_types[0].dtype == np.bool_ else np.minimum


@kernel("div")
def _(in_types: Any, out_types: Any) -> Callable:
    dtype = in_types[0].dtype
    if not dtypes.is_integer(dtype):
        return np.divide

    def divide(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        # XLA: x / 0 has all bits set, and the smallest integer divided by -1 is itself
        zero = b == 0
        safe = np.where(zero, dtype.type(1), b)
        quotient = np.floor_divide(a, safe)
        if dtypes.is_signed_integer(dtype):
            remainder = a - quotient * safe
            quotient = quotient + ((remainder != 0) & ((a < 0) != (safe < 0)))
        all_bits = np.array(-1).astype(dtype) if dtypes.is_signed_integer(dtype) else np.iinfo(dtype).max
        return np.where(zero, all_bits, quotient).astype(dtype)

    return divide


@kernel("rem")
def _(in_types: Any, out_types: Any) -> Callable:
    if not dtypes.is_integer(in_types[0].dtype):
        return np.fmod

    def remainder(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        zero = b == 0
        return np.where(zero, a, np.fmod(a, np.where(zero, b.dtype.type(1), b)))  # XLA: x rem 0 is x

    return remainder


@kernel("sign")
def _(in_types: Any, out_types: Any) -> Callable:
    dtype = in_types[0].dtype
    if dtypes.is_floating(dtype):
        # np.sign drops the sign of -0.0
        return lambda x: np.where(x == 0, x, np.sign(x))
    return np.sign


@kernel("round")
def _(in_types: Any, out_types: Any, *, rounding_method: int) -> Callable:
    if rounding_method == 1:
        return np.rint

    def away(x: np.ndarray) -> np.ndarray:
        whole = np.trunc(x)
        return np.where(np.abs(x - whole) >= 0.5, whole + np.copysign(np.ones_like(x), x), np.copysign(whole, x))

    return away


@kernel("integer_pow")
def _(in_types: Any, out_types: Any, *, y: int) -> Callable:
    def power(x: np.ndarray) -> np.ndarray:
        # square and multiply, as XLA does: the result does not depend on the platform's pow
        n = -y if y < 0 else y
        result = None
        base = x
        while n:
            if n & 1:
                result = base if result is None else result * base
            n >>= 1
            if n:
                base = base * base
        if result is None:
            return np.ones_like(x)
        return np.reciprocal(result) if y < 0 else result

    return power


@kernel("pow")
def _(in_types: Any, out_types: Any) -> Callable:
    x, y = in_types
    if x.dtype == y.dtype:
        return np.power
    dtype = x.dtype
    return lambda a, b: np.power(a, b.astype(dtype))


@kernel("nextafter")
def _(in_types: Any, out_types: Any) -> Callable:
    return np.nextafter


@kernel("expm1")
def _(in_types: Any, out_types: Any) -> Callable:
    return _complex_expm1 if dtypes.is_complex(in_types[0].dtype) else np.expm1


def _complex_expm1(z: np.ndarray) -> np.ndarray:
    """exp(z) - 1 with the values of C99's Annex G, where np.expm1 makes NaN of infinity times zero."""
    out = np.array(np.expm1(z))
    a, b = np.real(z), np.imag(z)
    on_axis = b == 0
    lost = ~np.isfinite(b)  # no direction: only the magnitude can be told
    low, high = lost & (a == -np.inf), lost & (a == np.inf)
    real = np.where(on_axis, np.expm1(a), np.where(low, -1.0, np.where(high, np.inf, out.real)))
    imag = np.where(on_axis, b, np.where(low, np.copysign(0.0, b), np.where(high, np.nan, out.imag)))
    out.real, out.imag = real, imag
    return out


@_unary("logistic")
def _logistic(x: np.ndarray) -> np.ndarray:
    # the smaller of e^x and e^-x is never above 1, so nothing overflows and both tails keep their digits
    if np.iscomplexobj(x):
        return 1 / (1 + np.exp(-x))
    e = np.exp(-np.abs(x))
    return np.where(x >= 0, x.dtype.type(1), e) / (1 + e)


@_unary("rsqrt")
def _rsqrt(x: np.ndarray) -> np.ndarray:
    return np.reciprocal(np.sqrt(x))


@kernel("real")
def _(in_types: Any, out_types: Any) -> Callable:
    return lambda x: x.real


@kernel("imag")
def _(in_types: Any, out_types: Any) -> Callable:
    return lambda x: x.imag


@kernel("complex")
def _(in_types: Any, out_types: Any) -> Callable:
    (out,) = out_types

    def build(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        z = np.empty(out.shape, out.dtype)
        z.real = a
        z.imag = b
        return z

    return build


def _shift(name: str, operation: Callable, arithmetic: bool = False, logical: bool = False) -> None:
    def factory(in_types: Any, out_types: Any) -> Callable:
        dtype = in_types[0].dtype
        bits = dtype.itemsize * 8
        unsigned = np.dtype(f"uint{bits}")

        def shift(a: np.ndarray, b: np.ndarray) -> np.ndarray:
            amount = b.view(unsigned) if b.dtype != unsigned else b
            inside = amount < bits
            n = np.where(inside, amount, 0)
            if arithmetic:
                n = np.where(inside, amount, bits - 1)
                return operation(a, n.astype(dtype))
            result = operation(a.view(unsigned) if logical else a, n.astype(unsigned if logical else dtype))
            return np.where(inside, result, 0).astype(dtype)

        return shift

    kernel(name)(factory)


_shift("shift_left", np.left_shift)
_shift("shift_right_logical", np.right_shift, logical=True)
_shift("shift_right_arithmetic", np.right_shift, arithmetic=True)


@kernel("population_count")
def _(in_types: Any, out_types: Any) -> Callable:
    dtype = in_types[0].dtype
    unsigned = np.dtype(f"uint{dtype.itemsize * 8}")
    return lambda x: np.bitwise_count(x.view(unsigned)).astype(dtype)


@kernel("clz")
def _(in_types: Any, out_types: Any) -> Callable:
    dtype = in_types[0].dtype
    bits = dtype.itemsize * 8
    unsigned = np.dtype(f"uint{bits}")

    def clz(x: np.ndarray) -> np.ndarray:
        v = x.view(unsigned).copy()
        step = bits // 2
        while step:  # smear the highest bit downwards, then count
            v |= v >> unsigned.type(step)
            step //= 2
        return (bits - np.bitwise_count(v).astype(np.int64)).astype(dtype)

    return clz


@kernel("select_n")
def _(in_types: Any, out_types: Any) -> Callable:
    which, *cases = in_types
    (out,) = out_types
    if len(cases) == 1:
        return lambda w, x: x
    if which.dtype == np.bool_:
        shape = out.shape
        if which.shape == shape or not shape:
            return lambda w, a, b: np.where(w, b, a)
        return lambda w, a, b: np.broadcast_to(b if w else a, shape)
    last = len(cases) - 1

    def choose(w: np.ndarray, *xs: np.ndarray) -> np.ndarray:
        return (
            np.choose(np.clip(w, 0, last), [np.broadcast_to(x, out.shape) for x in xs])
            if last < 31
            else np.take_along_axis(
                np.stack([np.broadcast_to(x, out.shape) for x in xs]), np.clip(w, 0, last)[None], 0
            )[0]
        )

    return choose


@kernel("clamp")
def _(in_types: Any, out_types: Any) -> Callable:
    return lambda lo, x, hi: np.minimum(np.maximum(x, lo), hi)
