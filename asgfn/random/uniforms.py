"""Uniform samples: bits, floating-point numbers, integers."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np

from asgfn import dtypes, lax
from asgfn import numpy as jnp
from asgfn.errors import DTypeError
from asgfn.random.arguments import (
    batch_shape,
    canonical_shape,
    check_bounds,
    float_dtype,
    int_dtype,
    parameter,
)
from asgfn.random.bits import UNSIGNED, lane_bits, random_bits, subkeys
from asgfn.random.compiled import compiled
from asgfn.random.keys import single_key
from asgfn.tracing import Array


def bits(key: Any, shape: Any = (), dtype: Any = None) -> Array:
    """Uniform random bits, as unsigned integers.

    Arguments:
        key: one random key.
        shape: the shape of the result.
        dtype: an unsigned integer dtype, `uint32` (`uint64` under `enable_x64`) by default.
    """
    words = single_key("bits", key)
    dtype = dtypes.default_uint() if dtype is None else dtypes.canonicalize(dtype)
    if not dtypes.is_unsigned_integer(dtype):
        raise DTypeError(f"random.bits makes unsigned integers, not {dtype.name}")
    return random_bits(words, dtype.itemsize * 8, canonical_shape("bits", shape))


def uniform(key: Any, shape: Any = (), dtype: Any = None, minval: Any = 0.0, maxval: Any = 1.0) -> Array:
    """Uniform floating-point samples in [minval, maxval).

    Arguments:
        key: one random key.
        shape: the shape of the result.
        dtype: a floating-point dtype.
        minval, maxval: the bounds; their shapes broadcast to `shape`.

    The numbers are multiples of 2**-23 (float32) times the width of the interval. When that is rounded, a sample may
    equal `maxval`.
    """
    words = single_key("uniform", key)
    dtype = float_dtype("uniform", dtype)
    shape = batch_shape("uniform", canonical_shape("uniform", shape), minval=np.shape(minval), maxval=np.shape(maxval))
    check_bounds("uniform", minval, maxval)
    return uniform_words(words, shape, dtype, minval, maxval)


def uniform_words(words: Array, shape: tuple[int, ...], dtype: np.dtype, minval: Any = 0.0, maxval: Any = 1.0) -> Array:
    """`uniform` with checked arguments, from a raw key."""
    if _is_number(minval, 0) and _is_number(maxval, 1):
        return _uniform(words, shape, dtype)
    return _uniform(words, shape, dtype, _bound("minval", minval, dtype), _bound("maxval", maxval, dtype))


@compiled("uniform", "shape", "dtype")
def _uniform(
    words: Array, shape: tuple[int, ...], dtype: np.dtype, minval: Array | None = None, maxval: Array | None = None
) -> Array:
    unit = _unit_interval(random_bits(words, _bits_needed(dtype), shape), dtype)
    if minval is None or maxval is None:
        return unit
    return _rescale(unit, *(jnp.broadcast_to(bound, shape) if bound.ndim else bound for bound in (minval, maxval)))


def lane_uniform(words: Array, dtype: np.dtype, minval: float = 0.0, maxval: float = 1.0) -> Array:
    """What `uniform(key, (), dtype, minval, maxval)` gives for each of many keys: `(n, 2)` words to `(n,)` numbers."""
    unit = _unit_interval(lane_bits(words, _bits_needed(dtype)), dtype)
    if _is_number(minval, 0) and _is_number(maxval, 1):
        return unit
    return _rescale(unit, np.array(minval, dtype), np.array(maxval, dtype))


def _is_number(x: Any, value: int) -> bool:
    return isinstance(x, int | float) and x == value


def _bits_needed(dtype: np.dtype) -> int:
    # bfloat16 has a mantissa of 7 bits: 8 random bits are enough.
    return 8 if ml_dtypes.finfo(dtype).nmant < 8 else dtype.itemsize * 8


def _unit_interval(bits: Array, dtype: np.dtype) -> Array:
    """Random bits as the mantissa of a number in [1, 2), less 1."""
    mantissa = ml_dtypes.finfo(dtype).nmant
    unsigned = UNSIGNED[dtype.itemsize * 8]
    unused = bits.dtype.itemsize * 8 - mantissa
    pattern = bits.astype(unsigned) >> unsigned.type(unused) | np.array(1, dtype).view(unsigned)
    return lax.bitcast_convert_type(pattern, dtype) - np.array(1, dtype)


def _bound(label: str, value: Any, dtype: np.dtype) -> Array:
    if isinstance(value, int | float):
        return jnp.asarray(np.array(value, dtype))
    return parameter("uniform", label, value, dtype)


def _rescale(unit: Array, low: Any, high: Any) -> Array:
    return jnp.maximum(low, unit * (high - low) + low)


def randint(key: Any, shape: Any, minval: Any, maxval: Any, dtype: Any = None) -> Array:
    """Uniform integers in [minval, maxval).

    Arguments:
        key: one random key.
        shape: the shape of the result.
        minval, maxval: integers, or arrays of them that broadcast to `shape`; `maxval` may be one more than the
            greatest number of the dtype. Where `maxval <= minval` the result is `minval`.
        dtype: an integer dtype.

    Twice as many random bits as the dtype has are taken modulo the width of the interval, so the bias is below
    `width / 2**bits`. Results of 8 and 16 bits are sampled in 32 bits.
    """
    words = single_key("randint", key)
    dtype = int_dtype("randint", dtype)
    shape = batch_shape("randint", canonical_shape("randint", shape), minval=np.shape(minval), maxval=np.shape(maxval))
    check_bounds("randint", minval, maxval)
    if dtype.itemsize >= 4:
        return _randint(words, shape, dtype, minval, maxval, np.iinfo(dtype))
    return _randint(words, shape, np.dtype("int32"), minval, maxval, np.iinfo(dtype)).astype(dtype)


def _randint(words: Array, shape: tuple[int, ...], dtype: np.dtype, minval: Any, maxval: Any, limits: Any) -> Array:
    """Integers of this dtype of 32 or 64 bits, within the limits of the dtype that was asked for."""
    if not (_is_integer_number(minval) and _is_integer_number(maxval)):
        low, span = _interval(_integers(minval), _integers(maxval), dtype, limits)
        return _from_interval(words, low, span, None, shape)
    width = dtype.itemsize * 8
    least, count, weight = _static_interval(int(minval), int(maxval), width, limits)
    number = UNSIGNED[width].type
    start = jnp.asarray(np.array(least, dtype))
    if count == 1 << width:
        return start + random_bits(subkeys(words)[1], width, shape).astype(dtype)
    if not weight:
        return _from_power_of_two(words, start, jnp.asarray(number(count)), shape)
    return _from_interval(words, start, jnp.asarray(number(count)), jnp.asarray(number(weight)), shape)


@compiled("randint", "shape")
def _from_interval(words: Array, low: Array, span: Array, weight: Array | None, shape: tuple[int, ...]) -> Array:
    """`low` plus a 2n-bit random number modulo `span`, which has n bits: (high * 2**n + low) % span."""
    width = span.dtype.itemsize * 8
    if weight is None:
        half = lax.rem(jnp.full_like(span, 1 << (width // 2)), span)
        weight = lax.rem(half * half, span)
    high_key, low_key = subkeys(words)
    span, weight = (jnp.broadcast_to(x, shape) for x in (span, weight))
    high_part = lax.rem(random_bits(high_key, width, shape), span) * weight
    offset = lax.rem(high_part + lax.rem(random_bits(low_key, width, shape), span), span)
    return jnp.broadcast_to(low, shape) + offset.astype(low.dtype)


@compiled("randint", "shape")
def _from_power_of_two(words: Array, low: Array, span: Array, shape: tuple[int, ...]) -> Array:
    """As `_from_interval` where `span` divides 2**n: the upper half of the bits does not count."""
    bits = random_bits(subkeys(words)[1], span.dtype.itemsize * 8, shape)
    return low + lax.rem(bits, jnp.broadcast_to(span, shape)).astype(low.dtype)


def _is_integer_number(value: Any) -> bool:
    return isinstance(value, int | np.integer)


def _static_interval(minval: int, maxval: int, width: int, limits: Any) -> tuple[int, int, int]:
    """The least number, the width of the interval, and the weight of the high bits."""
    low, high = max(minval, limits.min), min(maxval, limits.max + 1)
    low, high = min(low, limits.max), max(high, limits.min)
    span = high - low if high > low else 1
    half = (1 << (width // 2)) % span
    return low, span, half * half % (1 << width) % span


def _integers(value: Any) -> Array:
    array = jnp.asarray(value)
    return array if dtypes.is_integer(array.dtype) else array.astype(dtypes.default_int())


def _interval(minval: Array, maxval: Array, dtype: np.dtype, limits: Any) -> tuple[Array, Array]:
    """The least number, and the width of the interval as an unsigned number (0 means all of them)."""
    beyond = maxval > np.array(min(limits.max, np.iinfo(maxval.dtype).max), maxval.dtype)
    low, high = _clip(minval, limits).astype(dtype), _clip(maxval, limits).astype(dtype)
    unsigned = UNSIGNED[dtype.itemsize * 8]
    span = jnp.where(high > low, (high - low).astype(unsigned), unsigned.type(1))
    return low, jnp.where(beyond & (high > low), span + unsigned.type(1), span)


def _clip(value: Array, limits: Any) -> Array:
    own = np.iinfo(value.dtype)
    least, greatest = max(own.min, limits.min), min(own.max, limits.max)
    return jnp.clip(value, np.array(least, value.dtype), np.array(greatest, value.dtype))
