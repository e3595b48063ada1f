"""The geometric distribution: trials until the first success of probability p, k = 1, 2, ...."""

from __future__ import annotations

import numpy as np

import asgfn.numpy as jnp
from asgfn.numpy.arguments import ArrayLike
from asgfn.scipy.special import xlog1py
from asgfn.scipy.stats.arguments import shifted
from asgfn.tracing import Array


def logpmf(k: ArrayLike, p: ArrayLike, loc: ArrayLike = 0) -> Array:
    """The logarithm of the probability of k."""
    k, p = shifted("geom.logpmf", k, p, loc=loc)
    return jnp.where(k < 1, -np.inf, xlog1py(k - 1, -p) + jnp.log(p))


def pmf(k: ArrayLike, p: ArrayLike, loc: ArrayLike = 0) -> Array:
    """The probability of k."""
    return jnp.exp(logpmf(k, p, loc))
