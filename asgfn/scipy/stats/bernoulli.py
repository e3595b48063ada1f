"""The Bernoulli distribution: 1 with probability p, 0 otherwise."""

from __future__ import annotations

import numpy as np

import asgfn.numpy as jnp
from asgfn.numpy.arguments import ArrayLike
from asgfn.scipy.special import xlog1py, xlogy
from asgfn.scipy.stats.arguments import promote, shifted
from asgfn.tracing import Array


def logpmf(k: ArrayLike, p: ArrayLike, loc: ArrayLike = 0) -> Array:
    """The logarithm of the probability of k."""
    k, p = shifted("bernoulli.logpmf", k, p, loc=loc)
    return jnp.where((k == 0) | (k == 1), xlogy(k, p) + xlog1py(1 - k, -p), -np.inf)


def pmf(k: ArrayLike, p: ArrayLike, loc: ArrayLike = 0) -> Array:
    """The probability of k."""
    return jnp.exp(logpmf(k, p, loc))


def cdf(k: ArrayLike, p: ArrayLike) -> Array:
    """The probability of a value at or below k."""
    k, p = promote("bernoulli.cdf", k, p)
    valid = (p >= 0) & (p <= 1)
    return jnp.where(~valid | jnp.isnan(k), np.nan, jnp.where(k < 0, 0, jnp.where(k < 1, 1 - p, 1)))


def ppf(q: ArrayLike, p: ArrayLike) -> Array:
    """The least k with cdf(k) >= q."""
    q, p = promote("bernoulli.ppf", q, p)
    valid = (q >= 0) & (q <= 1) & (p >= 0) & (p <= 1)
    return jnp.where(valid, jnp.where(q <= 1 - p, 0.0, 1.0), np.nan)
