"""The beta-binomial distribution: a binomial whose probability has a beta distribution."""

from __future__ import annotations

import numpy as np

import asgfn.numpy as jnp
from asgfn.numpy.arguments import ArrayLike
from asgfn.scipy.special import betaln
from asgfn.scipy.stats.arguments import shifted
from asgfn.tracing import Array


def logpmf(k: ArrayLike, n: ArrayLike, a: ArrayLike, b: ArrayLike, loc: ArrayLike = 0) -> Array:
    """The logarithm of the probability of k."""
    k, n, a, b = shifted("betabinom.logpmf", k, n, a, b, loc=loc)
    outside = (k < 0) | (k > n)
    inside = jnp.where(outside, 0, jnp.floor(k))
    ways = -jnp.log(n + 1) - betaln(n - inside + 1, inside + 1)
    logarithm = jnp.where(outside, -np.inf, ways + betaln(inside + a, n - inside + b) - betaln(a, b))
    return jnp.where((n >= 0) & (a > 0) & (b > 0), logarithm, np.nan)


def pmf(k: ArrayLike, n: ArrayLike, a: ArrayLike, b: ArrayLike, loc: ArrayLike = 0) -> Array:
    """The probability of k."""
    return jnp.exp(logpmf(k, n, a, b, loc))
