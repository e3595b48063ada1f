"""The negative binomial distribution: failures before the n-th success of probability p."""

from __future__ import annotations

import numpy as np

import asgfn.numpy as jnp
from asgfn.numpy.arguments import ArrayLike
from asgfn.scipy.special import gammaln, xlog1py
from asgfn.scipy.stats.arguments import shifted
from asgfn.tracing import Array


def logpmf(k: ArrayLike, n: ArrayLike, p: ArrayLike, loc: ArrayLike = 0) -> Array:
    """The logarithm of the probability of k."""
    k, n, p = shifted("nbinom.logpmf", k, n, p, loc=loc)
    inside = jnp.where(k < 0, 0, k)
    ways = gammaln(inside + n) - gammaln(n) - gammaln(inside + 1)
    return jnp.where(k < 0, -np.inf, ways + n * jnp.log(p) + xlog1py(inside, -p))


def pmf(k: ArrayLike, n: ArrayLike, p: ArrayLike, loc: ArrayLike = 0) -> Array:
    """The probability of k."""
    return jnp.exp(logpmf(k, n, p, loc))
