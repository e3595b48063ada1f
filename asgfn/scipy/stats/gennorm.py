"""The generalised normal distribution: exp(-|x|^beta), normalised."""

from __future__ import annotations

import asgfn.numpy as jnp
from asgfn.numpy.arguments import ArrayLike
from asgfn.scipy.special import gammainc, gammaln
from asgfn.scipy.stats.arguments import promote
from asgfn.tracing import Array


def logpdf(x: ArrayLike, beta: ArrayLike) -> Array:
    """The logarithm of the density at x."""
    x, beta = promote("gennorm.logpdf", x, beta)
    return jnp.log(0.5 * beta) - gammaln(1 / beta) - jnp.abs(x) ** beta


def pdf(x: ArrayLike, beta: ArrayLike) -> Array:
    """The density at x."""
    return jnp.exp(logpdf(x, beta))


def cdf(x: ArrayLike, beta: ArrayLike) -> Array:
    """The probability of a value at or below x."""
    x, beta = promote("gennorm.cdf", x, beta)
    return 0.5 * (1 + jnp.sign(x) * gammainc(1 / beta, jnp.abs(x) ** beta))
