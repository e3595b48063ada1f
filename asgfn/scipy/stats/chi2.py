"""The chi-squared distribution with df degrees of freedom: a gamma distribution of shape df / 2, scale 2."""

from __future__ import annotations

import math

import numpy as np

import asgfn.numpy as jnp
from asgfn.numpy.arguments import ArrayLike
from asgfn.scipy.special import gammainc, gammaincc, gammaln, xlogy
from asgfn.scipy.stats.arguments import located
from asgfn.tracing import Array


def logpdf(x: ArrayLike, df: ArrayLike, loc: ArrayLike = 0, scale: ArrayLike = 1) -> Array:
    """The logarithm of the density at x."""
    z, df, scale = located("chi2.logpdf", x, df, loc=loc, scale=scale)
    half, inside = df / 2, jnp.where(z < 0, 1, z)
    logarithm = xlogy(half - 1, inside) - inside / 2 - gammaln(half) - half * math.log(2) - jnp.log(scale)
    return jnp.where(z < 0, -np.inf, logarithm)


def pdf(x: ArrayLike, df: ArrayLike, loc: ArrayLike = 0, scale: ArrayLike = 1) -> Array:
    """The density at x."""
    return jnp.exp(logpdf(x, df, loc, scale))


def cdf(x: ArrayLike, df: ArrayLike, loc: ArrayLike = 0, scale: ArrayLike = 1) -> Array:
    """The probability of a value at or below x."""
    z, df, _ = located("chi2.cdf", x, df, loc=loc, scale=scale)
    return gammainc(df / 2, jnp.maximum(z, 0) / 2)


def logcdf(x: ArrayLike, df: ArrayLike, loc: ArrayLike = 0, scale: ArrayLike = 1) -> Array:
    """The logarithm of `cdf`."""
    return jnp.log(cdf(x, df, loc, scale))


def sf(x: ArrayLike, df: ArrayLike, loc: ArrayLike = 0, scale: ArrayLike = 1) -> Array:
    """The probability of a value above x."""
    z, df, _ = located("chi2.sf", x, df, loc=loc, scale=scale)
    return gammaincc(df / 2, jnp.maximum(z, 0) / 2)


def logsf(x: ArrayLike, df: ArrayLike, loc: ArrayLike = 0, scale: ArrayLike = 1) -> Array:
    """The logarithm of `sf`."""
    return jnp.log(sf(x, df, loc, scale))
