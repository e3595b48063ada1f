"""Reductions, arg-reductions and cumulative reductions, each a `reduce` or `accumulate` of one NumPy ufunc.

Half precisions are reduced in float32 and rounded once.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from asgfn.graph import ArrayType
from backends.numpy.registry import kernel

Types = tuple[ArrayType, ...]


def wide_dtype(dtype: np.dtype) -> np.dtype:
    """The dtype in which sums and comparisons of this dtype are computed: float32 for half precisions."""
    is_half = dtype.itemsize == 2 and dtype.kind not in "iub"
    return np.dtype(np.float32) if is_half else dtype


def lowest(dtype: np.dtype) -> Any:
    """The identity of max."""
    if dtype.kind in "iu":
        return np.iinfo(dtype).min
    return False if dtype.kind == "b" else -np.inf


def highest(dtype: np.dtype) -> Any:
    """The identity of min."""
    if dtype.kind in "iu":
        return np.iinfo(dtype).max
    return True if dtype.kind == "b" else np.inf


def _all_ones(dtype: np.dtype) -> Any:
    return ~np.zeros((), dtype)


# ---------------------------------------------------------------------------------------------- reduce
def _reduction(name: str, ufunc: np.ufunc, identity: Callable[[np.dtype], Any]) -> None:
    @kernel(name)
    def _(in_types: Types, out_types: Types, *, axes: tuple[int, ...]):
        dtype = in_types[0].dtype
        wide = wide_dtype(dtype)
        options = {"initial": wide.type(identity(wide))} if in_types[0].size == 0 else {}

        def run(x: np.ndarray) -> np.ndarray:
            x = x.astype(wide, copy=False)
            return np.asarray(ufunc.reduce(x, axis=axes, dtype=wide, **options)).astype(dtype, copy=False)

        return run


_reduction("reduce_max", np.maximum, lowest)
_reduction("reduce_min", np.minimum, highest)
_reduction("reduce_prod", np.multiply, lambda _: 1)
_reduction("reduce_and", np.bitwise_and, _all_ones)
_reduction("reduce_or", np.bitwise_or, lambda _: 0)
_reduction("reduce_xor", np.bitwise_xor, lambda _: 0)


def _arg_reduction(name: str, function: Callable[..., Any]) -> None:
    @kernel(name)
    def _(in_types: Types, out_types: Types, *, axes: tuple[int], index_dtype: np.dtype):
        (axis,) = axes
        wide = wide_dtype(in_types[0].dtype)
        return lambda x: np.asarray(function(x.astype(wide, copy=False), axis=axis)).astype(index_dtype)


_arg_reduction("argmax", np.argmax)
_arg_reduction("argmin", np.argmin)


# ---------------------------------------------------------------------------------------------- accumulate
def _cumulative(name: str, accumulate: Callable[..., np.ndarray]) -> None:
    @kernel(name)
    def _(in_types: Types, out_types: Types, *, axis: int, reverse: bool):
        dtype = in_types[0].dtype
        wide = wide_dtype(dtype)

        def run(x: np.ndarray) -> np.ndarray:
            if reverse:
                x = np.flip(x, axis)
            y = accumulate(x.astype(wide, copy=False), axis).astype(dtype, copy=False)
            return np.flip(y, axis) if reverse else y

        return run


def _complex_logaddexp(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """log(exp(x) + exp(y)), the larger real part factored out, with an argument in (-pi, pi]."""
    swap = x.real < y.real
    high, low = np.where(swap, y, x), np.where(swap, x, y)
    difference = np.where(np.isneginf(high.real), 0, low - high)  # not inf - inf
    out = high + np.log1p(np.exp(difference))
    return out.real + 1j * np.angle(np.exp(1j * out.imag))


def _cumlogsumexp(x: np.ndarray, axis: int) -> np.ndarray:
    if x.dtype.kind != "c":
        return np.logaddexp.accumulate(x, axis=axis)
    # by doubling: after the step of length d, each element holds the sum of the 2 d elements that end at it
    y = np.moveaxis(x, axis, 0).copy()
    step = 1
    while step < len(y):
        y[step:] = _complex_logaddexp(y[:-step].copy(), y[step:])
        step *= 2
    return np.moveaxis(y, 0, axis)


_cumulative("cumsum", lambda x, axis: np.add.accumulate(x, axis=axis, dtype=x.dtype))
_cumulative("cumprod", lambda x, axis: np.multiply.accumulate(x, axis=axis, dtype=x.dtype))
_cumulative("cummax", lambda x, axis: np.maximum.accumulate(x, axis=axis))
_cumulative("cummin", lambda x, axis: np.minimum.accumulate(x, axis=axis))
_cumulative("cumlogsumexp", _cumlogsumexp)


# ---------------------------------------------------------------------------------------------- reduce_precision
@kernel("reduce_precision")
def _(in_types: Types, out_types: Types, *, exponent_bits: int, mantissa_bits: int):
    """Rounds to nearest even in the bits, then overflows to infinity and underflows to zero (no subnormals)."""
    dtype = in_types[0].dtype
    bits = np.dtype(f"u{dtype.itemsize}")
    one = bits.type(1)
    mantissa = _mantissa_bits(dtype)
    exponent = 8 * dtype.itemsize - 1 - mantissa
    sign_mask = one << bits.type(8 * dtype.itemsize - 1)
    exponent_mask = sign_mask - (one << bits.type(mantissa))
    dropped = bits.type(max(mantissa - mantissa_bits, 0))
    bias, target_bias = (1 << (exponent - 1)) - 1, (1 << (min(exponent_bits, exponent) - 1)) - 1
    largest = bits.type((bias + target_bias) << mantissa)  # exponents above this overflow, with zeros for a mantissa
    smallest = bits.type((bias - target_bias) << mantissa)  # exponents up to this underflow

    def run(x: np.ndarray) -> np.ndarray:
        raw = np.ascontiguousarray(x).view(bits)
        y = raw
        if dropped:
            odd = (y >> dropped) & one
            y = (y + ((one << (dropped - one)) - one + odd)) & ~((one << dropped) - one)
        if exponent_bits < exponent:
            sign, magnitude = y & sign_mask, y & exponent_mask
            y = np.where(magnitude > largest, sign | exponent_mask, np.where(magnitude <= smallest, sign, y))
        y = np.where(np.isnan(x), raw, y).astype(bits, copy=False)
        return y.view(dtype).reshape(x.shape)

    return run


def _mantissa_bits(dtype: np.dtype) -> int:
    known = {"float16": 10, "bfloat16": 7, "float32": 23, "float64": 52}
    return known[dtype.name]
