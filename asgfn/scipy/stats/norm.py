"""The normal distribution: exp(-z^2 / 2) / sqrt(2 pi), with z = (x - loc) / scale."""

from __future__ import annotations

import math

import asgfn.numpy as jnp
from asgfn.numpy.arguments import ArrayLike
from asgfn.scipy.special import log_ndtr, ndtr, ndtri
from asgfn.scipy.stats.arguments import located, promote
from asgfn.tracing import Array


def logpdf(x: ArrayLike, loc: ArrayLike = 0, scale: ArrayLike = 1) -> Array:
    """The logarithm of the density at x."""
    z, scale = located("norm.logpdf", x, loc=loc, scale=scale)
    return -0.5 * (z * z) - (0.5 * math.log(2 * math.pi) + jnp.log(scale))


def pdf(x: ArrayLike, loc: ArrayLike = 0, scale: ArrayLike = 1) -> Array:
    """The density at x."""
    return jnp.exp(logpdf(x, loc, scale))


def logcdf(x: ArrayLike, loc: ArrayLike = 0, scale: ArrayLike = 1) -> Array:
    """The logarithm of `cdf`."""
    z, _ = located("norm.logcdf", x, loc=loc, scale=scale)
    return log_ndtr(z)


def cdf(x: ArrayLike, loc: ArrayLike = 0, scale: ArrayLike = 1) -> Array:
    """The probability of a value at or below x."""
    z, _ = located("norm.cdf", x, loc=loc, scale=scale)
    return ndtr(z)


def logsf(x: ArrayLike, loc: ArrayLike = 0, scale: ArrayLike = 1) -> Array:
    """The logarithm of `sf`."""
    z, _ = located("norm.logsf", x, loc=loc, scale=scale)
    return log_ndtr(-z)


def sf(x: ArrayLike, loc: ArrayLike = 0, scale: ArrayLike = 1) -> Array:
    """The probability of a value above x."""
    z, _ = located("norm.sf", x, loc=loc, scale=scale)
    return ndtr(-z)


def ppf(q: ArrayLike, loc: ArrayLike = 0, scale: ArrayLike = 1) -> Array:
    """The quantile: the inverse of `cdf`."""
    q, loc, scale = promote("norm.ppf", q, loc, scale)
    return ndtri(q) * scale + loc


def isf(q: ArrayLike, loc: ArrayLike = 0, scale: ArrayLike = 1) -> Array:
    """The inverse of `sf`."""
    q, loc, scale = promote("norm.isf", q, loc, scale)
    return loc - ndtri(q) * scale
