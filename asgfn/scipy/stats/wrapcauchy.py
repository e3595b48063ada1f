"""The Cauchy distribution wrapped around the circle [0, 2 pi], 0 < c < 1."""

from __future__ import annotations

import math

import numpy as np

import asgfn.numpy as jnp
from asgfn.numpy.arguments import ArrayLike
from asgfn.scipy.stats.arguments import promote
from asgfn.tracing import Array


def logpdf(x: ArrayLike, c: ArrayLike) -> Array:
    """The logarithm of the density at the angle x."""
    x, c = promote("wrapcauchy.logpdf", x, c)
    logarithm = jnp.log1p(-c * c) - math.log(2 * math.pi) - jnp.log(1 + c * c - 2 * c * jnp.cos(x))
    inside = jnp.where((x >= 0) & (x <= 2 * math.pi), logarithm, -np.inf)
    return jnp.where((c > 0) & (c < 1), inside, np.nan)


def pdf(x: ArrayLike, c: ArrayLike) -> Array:
    """The density at the angle x."""
    return jnp.exp(logpdf(x, c))
