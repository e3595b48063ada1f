"""The gamma distribution: z^(a-1) exp(-z) / Gamma(a) for z = (x - loc) / scale >= 0."""

from __future__ import annotations

import numpy as np

import asgfn.numpy as jnp
from asgfn.numpy.arguments import ArrayLike
from asgfn.scipy.special import gammainc, gammaincc, gammaln, xlogy
from asgfn.scipy.stats.arguments import located
from asgfn.tracing import Array


def logpdf(x: ArrayLike, a: ArrayLike, loc: ArrayLike = 0, scale: ArrayLike = 1) -> Array:
    """The logarithm of the density at x."""
    z, a, scale = located("gamma.logpdf", x, a, loc=loc, scale=scale)
    inside = jnp.where(z < 0, 1, z)
    return jnp.where(z < 0, -np.inf, xlogy(a - 1, inside) - inside - gammaln(a) - jnp.log(scale))


def pdf(x: ArrayLike, a: ArrayLike, loc: ArrayLike = 0, scale: ArrayLike = 1) -> Array:
    """The density at x."""
    return jnp.exp(logpdf(x, a, loc, scale))


def cdf(x: ArrayLike, a: ArrayLike, loc: ArrayLike = 0, scale: ArrayLike = 1) -> Array:
    """The probability of a value at or below x."""
    z, a, _ = located("gamma.cdf", x, a, loc=loc, scale=scale)
    return gammainc(a, jnp.maximum(z, 0))


def logcdf(x: ArrayLike, a: ArrayLike, loc: ArrayLike = 0, scale: ArrayLike = 1) -> Array:
    """The logarithm of `cdf`."""
    return jnp.log(cdf(x, a, loc, scale))


def sf(x: ArrayLike, a: ArrayLike, loc: ArrayLike = 0, scale: ArrayLike = 1) -> Array:
    """The probability of a value above x."""
    z, a, _ = located("gamma.sf", x, a, loc=loc, scale=scale)
    return gammaincc(a, jnp.maximum(z, 0))


def logsf(x: ArrayLike, a: ArrayLike, loc: ArrayLike = 0, scale: ArrayLike = 1) -> Array:
    """The logarithm of `sf`."""
    return jnp.log(sf(x, a, loc, scale))
