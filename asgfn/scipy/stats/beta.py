"""The beta distribution: z^(a-1) (1 - z)^(b-1) / B(a, b) for z = (x - loc) / scale in [0, 1]."""

from __future__ import annotations

import numpy as np

import asgfn.numpy as jnp
from asgfn.numpy.arguments import ArrayLike
from asgfn.scipy.special import betainc, betaln, xlog1py, xlogy
from asgfn.scipy.stats.arguments import located
from asgfn.tracing import Array


def logpdf(x: ArrayLike, a: ArrayLike, b: ArrayLike, loc: ArrayLike = 0, scale: ArrayLike = 1) -> Array:
    """The logarithm of the density at x."""
    z, a, b, scale = located("beta.logpdf", x, a, b, loc=loc, scale=scale)
    outside = (z < 0) | (z > 1)
    inside = jnp.where(outside, 0.5, z)
    logarithm = xlogy(a - 1, inside) + xlog1py(b - 1, -inside) - betaln(a, b) - jnp.log(scale)
    return jnp.where(outside, -np.inf, logarithm)


def pdf(x: ArrayLike, a: ArrayLike, b: ArrayLike, loc: ArrayLike = 0, scale: ArrayLike = 1) -> Array:
    """The density at x."""
    return jnp.exp(logpdf(x, a, b, loc, scale))


def cdf(x: ArrayLike, a: ArrayLike, b: ArrayLike, loc: ArrayLike = 0, scale: ArrayLike = 1) -> Array:
    """The probability of a value at or below x."""
    z, a, b, _ = located("beta.cdf", x, a, b, loc=loc, scale=scale)
    return betainc(a, b, jnp.clip(z, 0, 1))


def logcdf(x: ArrayLike, a: ArrayLike, b: ArrayLike, loc: ArrayLike = 0, scale: ArrayLike = 1) -> Array:
    """The logarithm of `cdf`."""
    return jnp.log(cdf(x, a, b, loc, scale))


def sf(x: ArrayLike, a: ArrayLike, b: ArrayLike, loc: ArrayLike = 0, scale: ArrayLike = 1) -> Array:
    """The probability of a value above x."""
    z, a, b, _ = located("beta.sf", x, a, b, loc=loc, scale=scale)
    return betainc(b, a, 1 - jnp.clip(z, 0, 1))


def logsf(x: ArrayLike, a: ArrayLike, b: ArrayLike, loc: ArrayLike = 0, scale: ArrayLike = 1) -> Array:
    """The logarithm of `sf`."""
    return jnp.log(sf(x, a, b, loc, scale))
