"""The Cauchy distribution: 1 / (pi (1 + z^2)), with z = (x - loc) / scale."""

from __future__ import annotations

import math

import asgfn.numpy as jnp
from asgfn.numpy.arguments import ArrayLike
from asgfn.scipy.stats.arguments import located, promote
from asgfn.tracing import Array


def logpdf(x: ArrayLike, loc: ArrayLike = 0, scale: ArrayLike = 1) -> Array:
    """The logarithm of the density at x."""
    z, scale = located("cauchy.logpdf", x, loc=loc, scale=scale)
    return -math.log(math.pi) - jnp.log(scale) - jnp.log1p(z * z)


def pdf(x: ArrayLike, loc: ArrayLike = 0, scale: ArrayLike = 1) -> Array:
    """The density at x."""
    return jnp.exp(logpdf(x, loc, scale))


def cdf(x: ArrayLike, loc: ArrayLike = 0, scale: ArrayLike = 1) -> Array:
    """The probability of a value at or below x."""
    z, _ = located("cauchy.cdf", x, loc=loc, scale=scale)
    # arctan2 keeps the digits of the left tail, which 1/2 + arctan(z) / pi would cancel.
    return jnp.arctan2(jnp.ones_like(z), -z) / math.pi


def logcdf(x: ArrayLike, loc: ArrayLike = 0, scale: ArrayLike = 1) -> Array:
    """The logarithm of `cdf`."""
    return jnp.log(cdf(x, loc, scale))


def sf(x: ArrayLike, loc: ArrayLike = 0, scale: ArrayLike = 1) -> Array:
    """The probability of a value above x."""
    z, _ = located("cauchy.sf", x, loc=loc, scale=scale)
    return jnp.arctan2(jnp.ones_like(z), z) / math.pi


def logsf(x: ArrayLike, loc: ArrayLike = 0, scale: ArrayLike = 1) -> Array:
    """The logarithm of `sf`."""
    return jnp.log(sf(x, loc, scale))


def ppf(q: ArrayLike, loc: ArrayLike = 0, scale: ArrayLike = 1) -> Array:
    """The quantile: the inverse of `cdf`."""
    q, loc, scale = promote("cauchy.ppf", q, loc, scale)
    return jnp.tan(math.pi * (q - 0.5)) * scale + loc


def isf(q: ArrayLike, loc: ArrayLike = 0, scale: ArrayLike = 1) -> Array:
    """The inverse of `sf`."""
    q, loc, scale = promote("cauchy.isf", q, loc, scale)
    return jnp.tan(math.pi * (0.5 - q)) * scale + loc
