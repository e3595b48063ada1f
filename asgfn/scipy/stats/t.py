"""Student's t distribution with df degrees of freedom."""

from __future__ import annotations

import math

import asgfn.numpy as jnp
from asgfn.numpy.arguments import ArrayLike
from asgfn.scipy.special import gammaln
from asgfn.scipy.stats.arguments import located
from asgfn.tracing import Array


def logpdf(x: ArrayLike, df: ArrayLike, loc: ArrayLike = 0, scale: ArrayLike = 1) -> Array:
    """The logarithm of the density at x."""
    z, df, scale = located("t.logpdf", x, df, loc=loc, scale=scale)
    normaliser = gammaln(df / 2) - gammaln((df + 1) / 2) + 0.5 * jnp.log(df * math.pi) + jnp.log(scale)
    return -normaliser - (df + 1) / 2 * jnp.log1p(z * z / df)


def pdf(x: ArrayLike, df: ArrayLike, loc: ArrayLike = 0, scale: ArrayLike = 1) -> Array:
    """The density at x."""
    return jnp.exp(logpdf(x, df, loc, scale))
