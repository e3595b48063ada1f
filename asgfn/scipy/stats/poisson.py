"""The Poisson distribution: events of rate mu, mu^k exp(-mu) / k!."""

from __future__ import annotations

import math

import numpy as np

import asgfn.numpy as jnp
from asgfn.numpy.arguments import ArrayLike
from asgfn.scipy.special import gammaincc, gammaln, xlogy
from asgfn.scipy.stats.arguments import promote, shifted
from asgfn.tracing import Array


def logpmf(k: ArrayLike, mu: ArrayLike, loc: ArrayLike = 0) -> Array:
    """The logarithm of the probability of k."""
    k, mu = shifted("poisson.logpmf", k, mu, loc=loc)
    outside = (k < 0) | (k != jnp.floor(k))
    inside = jnp.where(outside, 0, k)
    return jnp.where(outside, -np.inf, xlogy(inside, mu) - gammaln(inside + 1) - mu)


def pmf(k: ArrayLike, mu: ArrayLike, loc: ArrayLike = 0) -> Array:
    """The probability of k."""
    return jnp.exp(logpmf(k, mu, loc))


def cdf(k: ArrayLike, mu: ArrayLike, loc: ArrayLike = 0) -> Array:
    """The probability of a value at or below k."""
    k, mu = shifted("poisson.cdf", k, mu, loc=loc)
    return jnp.where(k < 0, 0, gammaincc(jnp.floor(jnp.maximum(k, 0)) + 1, mu))


def entropy(mu: ArrayLike, loc: ArrayLike = 0) -> Array:
    """The entropy in nats: a sum over the likely values, or its asymptotic series for mu > 20."""
    mu, loc = promote("poisson.entropy", mu, loc)
    k = jnp.arange(60).astype(mu.dtype)
    small = jnp.where((mu > 0) & (mu <= 20), mu, 1)[..., None]
    logarithms = logpmf(k, small)
    total = -jnp.sum(jnp.exp(logarithms) * logarithms, axis=-1)
    inverse = 1 / jnp.where(mu > 20, mu, 20)
    series = 0.5 * jnp.log(2 * math.pi * math.e / inverse)
    series = series - inverse * (1 / 12 + inverse * (1 / 24 + inverse * (19 / 360)))
    entropy_of_positive = jnp.where(mu > 20, series, total)
    return jnp.where(mu > 0, entropy_of_positive, jnp.where(mu == 0, 0, np.nan))
