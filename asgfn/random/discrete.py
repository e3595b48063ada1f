"""Discrete distributions whose samples are a formula of one uniform number."""

from __future__ import annotations

import math
from typing import Any

import ml_dtypes
import numpy as np

from asgfn import dtypes, lax
from asgfn import numpy as jnp
from asgfn.errors import AxisError, DTypeError, ShapeError
from asgfn.random.arguments import batch_shape, canonical_shape, check_probability, int_dtype, parameter
from asgfn.random.compiled import compiled
from asgfn.random.continuous import gumbel_words
from asgfn.random.keys import single_key
from asgfn.random.uniforms import uniform_words
from asgfn.tracing import Array


def bernoulli(key: Any, p: Any = 0.5, shape: Any = None, mode: str = "low") -> Array:
    """Booleans that are true with probability p.

    Arguments:
        key: one random key.
        p: the probability, of a floating-point dtype.
        shape: the shape of the result, to which `p` broadcasts; that of `p` by default.
        mode: "low" compares with 23 random bits (for float32) and so ignores p below 1e-7; "high" with twice as many.
    """
    words = single_key("bernoulli", key)
    if mode not in ("low", "high"):
        raise ValueError(f'random.bernoulli: mode is "low" or "high", got {mode!r}')
    check_probability("bernoulli", p)
    p = jnp.asarray(p)
    if not dtypes.is_floating(p.dtype):
        raise DTypeError(f"random.bernoulli: p must be floating point, got {p.dtype.name}; write 1.0 instead of 1")
    shape = batch_shape("bernoulli", shape, p=p.shape)
    return _bernoulli(words, p, shape, mode)


@compiled("bernoulli", "shape", "mode")
def _bernoulli(words: Array, p: Array, shape: tuple[int, ...], mode: str) -> Array:
    p = jnp.broadcast_to(p, shape)
    if mode == "low":
        return uniform_words(words, shape, p.dtype) < p
    pair = uniform_words(words, (2, *shape), p.dtype)
    return pair[1] * np.array(2.0 ** -ml_dtypes.finfo(p.dtype).nmant, p.dtype) < p - pair[0]


def rademacher(key: Any, shape: Any = (), dtype: Any = None) -> Array:
    """Random signs: -1 or 1, each with probability 1/2.

    Arguments:
        key: one random key.
        shape: the shape of the result.
        dtype: any numeric dtype, `int32` (`int64` under `enable_x64`) by default.
    """
    words, shape = single_key("rademacher", key), canonical_shape("rademacher", shape)
    dtype = dtypes.default_int() if dtype is None else dtypes.canonicalize(dtype)
    heads = uniform_words(words, shape, dtypes.default_float()) < 0.5
    return jnp.where(heads, np.array(1).astype(dtype), np.array(-1).astype(dtype))


def geometric(key: Any, p: Any, shape: Any = None, dtype: Any = None) -> Array:
    """Geometric samples: the number of trials up to and including the first success, `p * (1 - p)**(k - 1)`.

    Arguments:
        key: one random key.
        p: the probability of success, 0 < p < 1.
        shape: the shape of the result, to which `p` broadcasts; that of `p` by default.
        dtype: an integer dtype.
    """
    words, dtype = single_key("geometric", key), int_dtype("geometric", dtype)
    check_probability("geometric", p)
    p = parameter("geometric", "p", p)
    shape = batch_shape("geometric", shape, p=p.shape)
    u = uniform_words(words, shape, p.dtype)
    u = jnp.where(u == 0, np.array(1, p.dtype), u)  # log 0 would be no number of trials
    return (lax.floor(lax.log(u) / jnp.broadcast_to(lax.log1p(-p), shape)) + 1).astype(dtype)


def categorical(
    key: Any, logits: Any, axis: int = -1, shape: Any = None, replace: bool = True, mode: str | None = None
) -> Array:
    """Indices drawn with probabilities `softmax(logits, axis)`.

    Arguments:
        key: one random key.
        logits: unnormalised log-probabilities.
        axis: the axis of `logits` along which the categories lie.
        shape: the shape of the result; its last axes are those of `logits` without `axis`, axes in front of them
            hold further samples. By default one sample for each distribution.
        replace: draw the further samples with replacement; without, they are distinct.
        mode: see `gumbel`.

    Method: the Gumbel-max trick, and Gumbel-top-k without replacement (Kool, van Hoof and Welling, "Stochastic beams
    and where to find them", 2019).
    """
    words = single_key("categorical", key)
    logits = parameter("categorical", "logits", logits)
    if not -logits.ndim <= axis < logits.ndim:
        raise AxisError(f"random.categorical: axis {axis} is out of range for logits of shape {logits.shape}")
    axis %= logits.ndim
    batch = logits.shape[:axis] + logits.shape[axis + 1 :]
    shape = batch_shape("categorical", shape, **{"logits without axis": batch})
    extra, own = shape[: len(shape) - len(batch)], shape[len(shape) - len(batch) :]
    if replace:
        noise_shape = (*extra, *own[:axis], logits.shape[axis], *own[axis:])
        noise = gumbel_words(words, noise_shape, logits.dtype, mode)
        return jnp.argmax(noise + jnp.broadcast_to(logits, noise_shape), axis=len(extra) + axis)
    if own != batch:
        raise ShapeError(f"random.categorical: without replacement shape must end with {batch}, got {shape}")
    count = math.prod(extra)
    if count > logits.shape[axis]:
        raise ShapeError(
            f"random.categorical: {count} samples without replacement are more than the {logits.shape[axis]} categories"
        )
    noisy = logits + gumbel_words(words, logits.shape, logits.dtype, mode)
    _, indices = lax.top_k(jnp.moveaxis(noisy, axis, -1), count)
    return jnp.reshape(jnp.moveaxis(indices, -1, 0), shape)
