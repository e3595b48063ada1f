"""The multinomial distribution: counts of n trials with probabilities p along the last axis."""

from __future__ import annotations

import numpy as np

import asgfn.numpy as jnp
from asgfn.numpy.arguments import ArrayLike
from asgfn.scipy.special import gammaln, xlogy
from asgfn.scipy.stats.arguments import promote
from asgfn.tracing import Array


def logpmf(x: ArrayLike, n: ArrayLike, p: ArrayLike) -> Array:
    """The logarithm of the probability of counts x [..., k], given p [..., k]; -inf if they do not sum to n."""
    x, p = promote("multinomial.logpmf", x, p)
    n = jnp.asarray(n).astype(x.dtype)
    ways = gammaln(n + 1) - jnp.sum(gammaln(x + 1), axis=-1)
    return jnp.where(jnp.sum(x, axis=-1) == n, ways + jnp.sum(xlogy(x, p), axis=-1), -np.inf)


def pmf(x: ArrayLike, n: ArrayLike, p: ArrayLike) -> Array:
    """The probability of counts x."""
    return jnp.exp(logpmf(x, n, p))
