"""The Laplace distribution: exp(-|z|) / 2, with z = (x - loc) / scale."""

from __future__ import annotations

import asgfn.numpy as jnp
from asgfn.numpy.arguments import ArrayLike
from asgfn.scipy.stats.arguments import located
from asgfn.tracing import Array


def logpdf(x: ArrayLike, loc: ArrayLike = 0, scale: ArrayLike = 1) -> Array:
    """The logarithm of the density at x."""
    z, scale = located("laplace.logpdf", x, loc=loc, scale=scale)
    return -jnp.abs(z) - jnp.log(2 * scale)


def pdf(x: ArrayLike, loc: ArrayLike = 0, scale: ArrayLike = 1) -> Array:
    """The density at x."""
    return jnp.exp(logpdf(x, loc, scale))


def cdf(x: ArrayLike, loc: ArrayLike = 0, scale: ArrayLike = 1) -> Array:
    """The probability of a value at or below x."""
    z, _ = located("laplace.cdf", x, loc=loc, scale=scale)
    tail = 0.5 * jnp.exp(-jnp.abs(z))
    return jnp.where(z <= 0, tail, 1 - tail)
