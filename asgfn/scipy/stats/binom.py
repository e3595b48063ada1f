"""The binomial distribution: successes in n trials of probability p."""

from __future__ import annotations

import numpy as np

import asgfn.numpy as jnp
from asgfn.numpy.arguments import ArrayLike
from asgfn.scipy.special import gammaln, xlog1py, xlogy
from asgfn.scipy.stats.arguments import shifted
from asgfn.tracing import Array


def logpmf(k: ArrayLike, n: ArrayLike, p: ArrayLike, loc: ArrayLike = 0) -> Array:
    """The logarithm of the probability of k."""
    k, n, p = shifted("binom.logpmf", k, n, p, loc=loc)
    outside = (k < 0) | (k > n)
    inside = jnp.where(outside, 0, k)
    ways = gammaln(n + 1) - gammaln(inside + 1) - gammaln(n - inside + 1)
    return jnp.where(outside, -np.inf, ways + xlogy(inside, p) + xlog1py(n - inside, -p))


def pmf(k: ArrayLike, n: ArrayLike, p: ArrayLike, loc: ArrayLike = 0) -> Array:
    """The probability of k."""
    return jnp.exp(logpmf(k, n, p, loc))
