"""The Pareto distribution: b / z^(b+1) for z = (x - loc) / scale >= 1."""

from __future__ import annotations

import numpy as np

import asgfn.numpy as jnp
from asgfn.numpy.arguments import ArrayLike
from asgfn.scipy.stats.arguments import located, promote
from asgfn.tracing import Array


def logpdf(x: ArrayLike, b: ArrayLike, loc: ArrayLike = 0, scale: ArrayLike = 1) -> Array:
    """The logarithm of the density at x."""
    z, b, scale = located("pareto.logpdf", x, b, loc=loc, scale=scale)
    return jnp.where(z < 1, -np.inf, jnp.log(b / scale) - (b + 1) * jnp.log(jnp.where(z < 1, 1, z)))


def pdf(x: ArrayLike, b: ArrayLike, loc: ArrayLike = 0, scale: ArrayLike = 1) -> Array:
    """The density at x."""
    return jnp.exp(logpdf(x, b, loc, scale))


def logsf(x: ArrayLike, b: ArrayLike, loc: ArrayLike = 0, scale: ArrayLike = 1) -> Array:
    """The logarithm of `sf`."""
    z, b, _ = located("pareto.logsf", x, b, loc=loc, scale=scale)
    return -b * jnp.log(jnp.maximum(z, 1))


def sf(x: ArrayLike, b: ArrayLike, loc: ArrayLike = 0, scale: ArrayLike = 1) -> Array:
    """The probability of a value above x."""
    return jnp.exp(logsf(x, b, loc, scale))


def cdf(x: ArrayLike, b: ArrayLike, loc: ArrayLike = 0, scale: ArrayLike = 1) -> Array:
    """The probability of a value at or below x."""
    return -jnp.expm1(logsf(x, b, loc, scale))


def logcdf(x: ArrayLike, b: ArrayLike, loc: ArrayLike = 0, scale: ArrayLike = 1) -> Array:
    """The logarithm of `cdf`."""
    return jnp.log(cdf(x, b, loc, scale))


def ppf(q: ArrayLike, b: ArrayLike, loc: ArrayLike = 0, scale: ArrayLike = 1) -> Array:
    """The quantile: the inverse of `cdf`."""
    q, b, loc, scale = promote("pareto.ppf", q, b, loc, scale)
    return loc + scale * jnp.exp(-jnp.log1p(-q) / b)
