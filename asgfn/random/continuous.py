"""Continuous distributions whose samples are a formula of one uniform number (by inversion of the distribution)."""

from __future__ import annotations

import math
from typing import Any

import ml_dtypes
import numpy as np

from asgfn import lax
from asgfn import numpy as jnp
from asgfn.random.arguments import batch_shape, canonical_shape, float_dtype, parameter
from asgfn.random.bits import random_bits
from asgfn.random.compiled import compiled
from asgfn.random.keys import single_key
from asgfn.random.uniforms import uniform_words
from asgfn.tracing import Array, as_array


def exponential(key: Any, shape: Any = (), dtype: Any = None) -> Array:
    """Exponential samples, density `exp(-x)` for x >= 0.

    Arguments:
        key: one random key.
        shape: the shape of the result.
        dtype: a floating-point dtype.
    """
    words, shape = single_key("exponential", key), canonical_shape("exponential", shape)
    return exponential_words(words, shape, float_dtype("exponential", dtype))


@compiled("exponential", "shape", "dtype")
def exponential_words(words: Array, shape: tuple[int, ...], dtype: np.dtype) -> Array:
    """`exponential` with checked arguments, from a raw key."""
    return -lax.log1p(-uniform_words(words, shape, dtype))


def gumbel(key: Any, shape: Any = (), dtype: Any = None, mode: str | None = None) -> Array:
    """Standard Gumbel samples, density `exp(-(x + exp(-x)))`.

    Arguments:
        key: one random key.
        shape: the shape of the result.
        dtype: a floating-point dtype.
        mode: how many random bits stand behind a sample. In float32, "low" (default) reaches up to about 16, "high"
            (twice the bits) up to about 32; "highest" has full relative precision at both ends.
    """
    words, shape = single_key("gumbel", key), canonical_shape("gumbel", shape)
    return gumbel_words(words, shape, float_dtype("gumbel", dtype), mode)


@compiled("gumbel", "shape", "dtype", "mode")
def gumbel_words(words: Array, shape: tuple[int, ...], dtype: np.dtype, mode: str | None = None) -> Array:
    """`gumbel` with checked shape and dtype, from a raw key."""
    info = ml_dtypes.finfo(dtype)
    if mode is None or mode == "low":
        return -lax.log(-lax.log(uniform_words(words, shape, dtype, float(info.tiny), 1.0)))
    if mode not in ("high", "highest"):
        raise ValueError(f'random.gumbel: mode is "low", "high" or "highest", got {mode!r}')
    if mode == "highest" and dtype == np.float32:
        return _gumbel_of_64_bits(random_bits(words, 32, (2, *shape)))
    pair = uniform_words(words, (2, *shape), dtype)
    high, low = pair[0], pair[1]
    # The second number fills in the bits below the first, where there is room for them.
    refined = high + np.array(2.0**-info.nmant, dtype) * low + np.array(info.tiny, dtype)
    x = jnp.where(high >= np.array(0.5, dtype), high, refined)
    return -lax.log(-lax.log1p(-x))


def _gumbel_of_64_bits(words: Array) -> Array:
    """float32 Gumbel samples of 64-bit fixed-point numbers x in (0, 1), given as two words each."""
    high, low = words[0], words[1]
    lower_half = high < np.uint32(1 << 31)
    # 1 - x as fixed point: the two's complement
    carry = (low == np.uint32(0)).astype(np.uint32)
    x = _fixed_point_to_float32(
        jnp.where(lower_half, high, ~high + carry), jnp.where(lower_half, low, ~low + np.uint32(1))
    )
    return jnp.where(lower_half, -lax.log(-lax.log1p(-x)), -lax.log(-lax.log(x)))


def _fixed_point_to_float32(high: Array, low: Array) -> Array:
    """The float32 of a 64-bit fraction, rounded towards zero, with all leading zeros moved to the exponent."""
    zeros_high, zeros_low = lax.clz(high), lax.clz(low)
    high_is_zero = zeros_high == np.uint32(32)
    below = jnp.where(high_is_zero, low << zeros_low, lax.shift_right_logical(low, np.uint32(32) - zeros_high))
    leading = (high << zeros_high) | below
    zeros = jnp.where(high_is_zero, zeros_low + np.uint32(32), zeros_high)
    mantissa = (leading >> np.uint32(8)) & np.uint32((1 << 23) - 1)
    exponent = (np.uint32(126) - zeros) << np.uint32(23)
    return lax.bitcast_convert_type(exponent & np.uint32((1 << 30) - (1 << 22)) | mantissa, np.dtype("float32"))


def laplace(key: Any, shape: Any = (), dtype: Any = None) -> Array:
    """Laplace samples, density `exp(-|x|) / 2`. See `exponential` for the arguments."""
    words, shape = single_key("laplace", key), canonical_shape("laplace", shape)
    return _laplace(words, shape, float_dtype("laplace", dtype))


@compiled("laplace", "shape", "dtype")
def _laplace(words: Array, shape: tuple[int, ...], dtype: np.dtype) -> Array:
    u = uniform_words(words, shape, dtype, -1.0 + float(ml_dtypes.finfo(dtype).epsneg), 1.0)
    return lax.sign(u) * lax.log1p(-lax.abs(u))


def logistic(key: Any, shape: Any = (), dtype: Any = None) -> Array:
    """Logistic samples, density `exp(-x) / (1 + exp(-x))**2`. See `exponential` for the arguments."""
    words, shape = single_key("logistic", key), canonical_shape("logistic", shape)
    return _logistic(words, shape, float_dtype("logistic", dtype))


@compiled("logistic", "shape", "dtype")
def _logistic(words: Array, shape: tuple[int, ...], dtype: np.dtype) -> Array:
    u = uniform_words(words, shape, dtype, float(ml_dtypes.finfo(dtype).tiny), 1.0)
    return lax.log(u) - lax.log1p(-u)


def cauchy(key: Any, shape: Any = (), dtype: Any = None) -> Array:
    """Cauchy samples, density `1 / (pi * (1 + x**2))`. See `exponential` for the arguments."""
    words, shape = single_key("cauchy", key), canonical_shape("cauchy", shape)
    return _cauchy(words, shape, float_dtype("cauchy", dtype))


@compiled("cauchy", "shape", "dtype")
def _cauchy(words: Array, shape: tuple[int, ...], dtype: np.dtype) -> Array:
    u = uniform_words(words, shape, dtype, float(ml_dtypes.finfo(dtype).eps), 1.0)
    return lax.tan((u - np.array(0.5, dtype)) * np.array(math.pi, dtype))


def pareto(key: Any, b: Any, shape: Any = None, dtype: Any = None) -> Array:
    """Pareto samples, density `b / x**(b + 1)` for x >= 1.

    Arguments:
        key: one random key.
        b: the shape parameter, > 0.
        shape: the shape of the result, to which `b` broadcasts; that of `b` by default.
        dtype: a floating-point dtype.
    """
    words, dtype = single_key("pareto", key), float_dtype("pareto", dtype)
    b = parameter("pareto", "b", b, dtype)
    shape = batch_shape("pareto", shape, b=b.shape)
    return lax.exp(exponential_words(words, shape, dtype) / jnp.broadcast_to(b, shape))


def rayleigh(key: Any, scale: Any, shape: Any = None, dtype: Any = None) -> Array:
    """Rayleigh samples, density `x / scale**2 * exp(-x**2 / (2 scale**2))` for x >= 0.

    Arguments:
        key: one random key.
        scale: the scale parameter, > 0.
        shape: the shape of the result, to which `scale` broadcasts; that of `scale` by default.
        dtype: a floating-point dtype.
    """
    words, dtype = single_key("rayleigh", key), float_dtype("rayleigh", dtype)
    scale = parameter("rayleigh", "scale", scale, dtype)
    shape = batch_shape("rayleigh", shape, scale=scale.shape)
    u = uniform_words(words, shape, dtype)
    return jnp.broadcast_to(scale, shape) * lax.sqrt(lax.log(u) * np.array(-2, dtype))


def weibull_min(key: Any, scale: Any, concentration: Any, shape: Any = (), dtype: Any = None) -> Array:
    """Weibull samples, density proportional to `x**(c - 1) * exp(-(x / scale)**c)` for x > 0.

    Arguments:
        key: one random key.
        scale: the scale parameter, > 0.
        concentration: the shape parameter c, > 0.
        shape: the shape of the random numbers; the result has the shape to which it and the parameters broadcast.
        dtype: a floating-point dtype.
    """
    words, dtype = single_key("weibull_min", key), float_dtype("weibull_min", dtype)
    u = uniform_words(words, canonical_shape("weibull_min", shape), dtype)
    return jnp.power(-lax.log1p(-u), 1.0 / as_array(concentration)) * scale


def triangular(key: Any, left: Any, mode: Any, right: Any, shape: Any = None, dtype: Any = None) -> Array:
    """Triangular samples: the density rises linearly from `left` to `mode` and falls linearly to `right`.

    Arguments:
        key: one random key.
        left, mode, right: with left <= mode <= right and left < right.
        shape: the shape of the result, to which the parameters broadcast; their joint shape by default.
        dtype: a floating-point dtype.
    """
    words, dtype = single_key("triangular", key), float_dtype("triangular", dtype)
    named = {"left": left, "mode": mode, "right": right}
    arrays = {label: parameter("triangular", label, value, dtype) for label, value in named.items()}
    shape = batch_shape("triangular", shape, **{label: array.shape for label, array in arrays.items()})
    left, mode, right = (jnp.broadcast_to(array, shape) for array in arrays.values())
    u = uniform_words(words, shape, dtype)
    rising = left + lax.sqrt(u * (right - left) * (mode - left))
    falling = right - lax.sqrt((1 - u) * (right - left) * (right - mode))
    return jnp.where(u < (mode - left) / (right - left), rising, falling)
