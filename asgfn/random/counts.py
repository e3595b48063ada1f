"""Distributions of counts, by loops that draw until every element is done: Poisson, binomial, multinomial."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from asgfn import dtypes, lax
from asgfn import numpy as jnp
from asgfn.random.arguments import batch_shape, check_probability, float_dtype, int_dtype, parameter
from asgfn.random.bits import split_words, subkeys
from asgfn.random.compiled import compiled
from asgfn.random.keys import single_key
from asgfn.random.uniforms import uniform_words
from asgfn.tracing import Array

_FLOAT32 = np.dtype("float32")
_MAX_STEPS = np.iinfo(np.int32).max


def poisson(key: Any, lam: Any, shape: Any = None, dtype: Any = None) -> Array:
    """Poisson samples, probability `lam**k * exp(-lam) / k!`; -1 where `lam` is negative or NaN.

    Arguments:
        key: one random key.
        lam: the mean, >= 0.
        shape: the shape of the result, to which `lam` broadcasts; that of `lam` by default.
        dtype: an integer dtype.

    Method: Knuth's for lam < 10, else transformed rejection (Hörmann, "The transformed rejection method for
    generating Poisson random variables", 1993).
    """
    words, dtype = single_key("poisson", key), int_dtype("poisson", dtype)
    lam = parameter("poisson", "lam", lam, _FLOAT32)
    shape = batch_shape("poisson", shape, lam=lam.shape)
    return _poisson(words, jnp.broadcast_to(lam, shape), dtype)


@compiled("poisson", "dtype")
def _poisson(words: Array, lam: Array, dtype: np.dtype) -> Array:
    small = jnp.isnan(lam) | (lam < 10)
    by_product = _poisson_by_product(words, jnp.where(small, lam, jnp.zeros_like(lam)), dtype)
    by_rejection = _poisson_by_rejection(words, jnp.where(small, jnp.full_like(lam, 1e5), lam), dtype)
    counts = jnp.where(small, by_product, by_rejection)
    return jnp.where(lam == 0, jnp.zeros_like(counts), counts)


def _poisson_by_product(words: Array, lam: Array, dtype: np.dtype) -> Array:
    """How many uniform numbers can be multiplied before the product falls below exp(-lam)."""

    def step(state: tuple) -> tuple:
        steps, count, words, log_product = state
        words, subkey = subkeys(words)
        count = jnp.where(log_product > -lam, count + 1, count)
        return steps + 1, count, words, log_product + lax.log(uniform_words(subkey, lam.shape, _FLOAT32))

    def unfinished(state: tuple) -> Array:
        return jnp.any(state[3] > -lam) & (state[0] < _step_limit(dtype))

    start = (jnp.int32(0), jnp.zeros(lam.shape, dtype), words, jnp.zeros_like(lam))
    return lax.while_loop(unfinished, step, start)[1] - np.array(1, dtype)


def _poisson_by_rejection(words: Array, lam: Array, dtype: np.dtype) -> Array:
    log_lam = lax.log(lam)
    b = 0.931 + 2.53 * lax.sqrt(lam)
    a = -0.059 + 0.02483 * b
    inverse_alpha = 1.1239 + 1.1328 / (b - 3.4)
    squeeze = 0.9277 - 3.6224 / (b - 2)

    def propose(u: Array, v: Array) -> tuple[Array, Array]:
        us = 0.5 - lax.abs(u)
        k = lax.floor((2 * a / us + b) * u + lam + 0.43)
        log_bound = -lam + k * log_lam - lax.lgamma(k + 1)
        under_curve = lax.log(v * inverse_alpha / (a / (us * us) + b)) <= log_bound
        outside = (k < 0) | ((us < 0.013) & (v > us))
        return k, (us >= 0.07) & (v <= squeeze) | ~outside & under_curve

    return _until_accepted(words, propose, lam.shape, _FLOAT32, _step_limit(dtype)).astype(dtype)


def _until_accepted(words: Array, propose: Callable, shape: tuple[int, ...], dtype: np.dtype, step_limit: int) -> Array:
    """Draws u in [-1/2, 1/2) and v in [0, 1) until `propose(u, v) -> (k, accept)` has accepted everywhere.

    An element that goes on being accepted takes the newest value.
    """

    def step(state: tuple) -> tuple:
        steps, count, accepted, words = state
        words, u_key, v_key = subkeys(words, 3)
        u = uniform_words(u_key, shape, dtype) - np.array(0.5, dtype)
        k, accept = propose(u, uniform_words(v_key, shape, dtype))
        return steps + 1, jnp.where(accept, k, count), accepted | accept, words

    def unfinished(state: tuple) -> Array:
        return jnp.any(~state[2]) & (state[0] < step_limit)

    start = (jnp.int32(0), jnp.full(shape, -1, dtype), jnp.zeros(shape, bool), words)
    return lax.while_loop(unfinished, step, start)[1]


def _step_limit(dtype: np.dtype) -> int:
    return min(int(np.iinfo(dtype).max), _MAX_STEPS)


def binomial(key: Any, n: Any, p: Any, shape: Any = None, dtype: Any = None) -> Array:
    """Binomial samples: successes in n trials, as floating-point numbers; NaN where n or p is negative or NaN.

    Arguments:
        key: one random key.
        n: the number of trials, >= 0 (rounded down).
        p: the probability of success, 0 <= p <= 1.
        shape: the shape of the result, to which the parameters broadcast; their joint shape by default.
        dtype: a floating-point dtype.

    Method: sums of geometric numbers for n p <= 10, else transformed rejection (Hörmann, "The generation of binomial
    random variates", 1993).
    """
    words, dtype = single_key("binomial", key), float_dtype("binomial", dtype)
    check_probability("binomial", p)
    p = parameter("binomial", "p", p)
    n = parameter("binomial", "n", n, p.dtype)
    shape = batch_shape("binomial", shape, n=n.shape, p=p.shape)
    return _binomial(words, jnp.broadcast_to(n, shape), jnp.broadcast_to(p, shape), dtype)


@compiled("binomial", "dtype")
def _binomial(words: Array, n: Array, p: Array, dtype: np.dtype) -> Array:
    few_successes = p < 0.5
    q = jnp.where(few_successes, p, 1 - p)  # the smaller of the two probabilities is sampled
    bad_p, bad_n = jnp.isnan(q) | (q < 0), jnp.isnan(n) | (n < 0)
    infinite = jnp.isinf(n)
    q = jnp.where(bad_p, jnp.full_like(q, 0.01), q)
    small = bad_n | (n * q <= 10)
    n = lax.floor(n)
    # Each method gets harmless parameters where the other one counts.
    by_inversion = _binomial_by_inversion(words, jnp.where(small, n, jnp.zeros_like(n)), q)
    by_rejection = _binomial_by_rejection(
        words, jnp.where(small, jnp.full_like(n, 1e4), n), jnp.where(small, jnp.full_like(q, 0.5), q)
    )
    counts = jnp.where(small, by_inversion.astype(dtype), by_rejection.astype(dtype))
    counts = jnp.where(infinite, jnp.full_like(counts, np.inf), counts)
    counts = jnp.where(bad_p | bad_n, jnp.full_like(counts, np.nan), counts)
    return jnp.where(few_successes | bad_n | jnp.isnan(p) | infinite, counts, n.astype(dtype) - counts)


def _binomial_by_inversion(words: Array, n: Array, p: Array) -> Array:
    """How many geometric numbers can be added before their sum exceeds n."""
    log_failure = lax.log1p(-p)

    def step(state: tuple) -> tuple:
        steps, count, total, words = state
        subkey, words = subkeys(words)
        count = jnp.where(total <= n, count + 1, count)
        u = uniform_words(subkey, n.shape, p.dtype)
        return steps + 1, count, total + lax.ceil(lax.log(u) / log_failure), words

    def unfinished(state: tuple) -> Array:
        return jnp.any(state[2] <= n) & (state[0] < _MAX_STEPS)

    start = (jnp.int32(0), jnp.zeros_like(p), jnp.zeros_like(p), words)
    return lax.while_loop(unfinished, step, start)[1] - 1


def _binomial_by_rejection(words: Array, n: Array, p: Array) -> Array:
    deviation = lax.sqrt(n * p * (1 - p))
    b = 1.15 + 2.53 * deviation
    a = -0.0873 + 0.0248 * b + 0.01 * p
    centre = n * p + 0.5
    squeeze = 0.92 - 4.2 / b
    odds = p / (1 - p)
    alpha = (2.83 + 5.1 / b) * deviation
    mode = lax.floor((n + 1) * p)

    def propose(u: Array, v: Array) -> tuple[Array, Array]:
        us = 0.5 - lax.abs(u)
        k = lax.floor((2 * a / us + b) * u + centre)
        log_bound = (
            (mode + 0.5) * lax.log((mode + 1) / (odds * (n - mode + 1)))
            + (n + 1) * lax.log((n - mode + 1) / (n - k + 1))
            + (k + 0.5) * lax.log(odds * (n - k + 1) / (k + 1))
            + _stirling_tail(mode)
            + _stirling_tail(n - mode)
            - _stirling_tail(k)
            - _stirling_tail(n - k)
        )
        under_curve = lax.log(v * alpha / (a / (us * us) + b)) <= log_bound
        outside = (k < 0) | (k > n)
        return k, (us >= 0.07) & (v <= squeeze) | ~outside & under_curve

    return _until_accepted(words, propose, n.shape, p.dtype, _MAX_STEPS)


# log k! less Stirling's approximation (k + 1/2) log(k + 1) - (k + 1) + log(2 pi) / 2, for k = 0 … 9
_STIRLING_TAILS = (
    0.0810614667953272,
    0.0413406959554092,
    0.0276779256849983,
    0.02079067210376509,
    0.0166446911898211,
    0.0138761288230707,
    0.0118967099458917,
    0.0104112652619720,
    0.00925546218271273,
    0.00833056343336287,
)


def _stirling_tail(k: Array) -> Array:
    # Past the table its last entry stands in for the true value, which is between that and 0: the acceptance
    # probability is off by less than 1 %, as it is in JAX, with which samples shall agree.
    table = jnp.asarray(np.array(_STIRLING_TAILS, k.dtype))
    return jnp.take(table, lax.floor(jnp.clip(k, 0, 9)).astype(np.int32))


def multinomial(key: Any, n: Any, p: Any, *, shape: Any = None, dtype: Any = None, unroll: int | bool = 1) -> Array:
    """Multinomial samples: how often each category comes up in n trials, as floating-point numbers.

    Arguments:
        key: one random key.
        n: the number of trials; its shape broadcasts to `p.shape[:-1]`.
        p: the probabilities of the categories, along the last axis.
        shape: the shape of the result, categories included, to which `p` broadcasts; that of `p` by default.
        dtype: a floating-point dtype.
        unroll: for the `lax.scan` over the categories.
    """
    words, dtype = single_key("multinomial", key), float_dtype("multinomial", dtype)
    check_probability("multinomial", p)
    joint = dtypes.to_inexact(dtypes.result_type(jnp.asarray(n), jnp.asarray(p)))
    n, p = parameter("multinomial", "n", n, joint), parameter("multinomial", "p", p, joint)
    shape = batch_shape("multinomial", shape, p=p.shape)
    n, p = jnp.broadcast_to(n, shape[:-1]), jnp.moveaxis(jnp.broadcast_to(p, shape), -1, 0)
    # The count of a category is binomial among the trials that the earlier ones left.
    remaining = lax.cumsum(p, axis=0, reverse=True)
    ratios = p / jnp.where(remaining == 0, jnp.ones_like(remaining), remaining)

    def draw(trials_left: Array, category: tuple) -> tuple[Array, Array]:
        ratio, subkey = category
        count = _binomial(subkey, trials_left, jnp.clip(ratio, 0, 1), joint)
        return trials_left - count, count

    _, counts = lax.scan(draw, n, (ratios, split_words(words, ratios.shape[:1])), unroll=unroll)
    return jnp.moveaxis(counts, 0, -1).astype(dtype)
