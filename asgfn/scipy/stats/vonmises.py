"""The von Mises distribution on the circle: exp(kappa cos(x)) / (2 pi I_0(kappa))."""

from __future__ import annotations

import math

import numpy as np

import asgfn.numpy as jnp
from asgfn import lax
from asgfn.numpy.arguments import ArrayLike
from asgfn.scipy.stats.arguments import promote
from asgfn.tracing import Array


def logpdf(x: ArrayLike, kappa: ArrayLike) -> Array:
    """The logarithm of the density at the angle x; NaN for kappa <= 0."""
    x, kappa = promote("vonmises.logpdf", x, kappa)
    # The scaled Bessel function leaves exp(kappa) out, which cos(x) - 1 makes up for.
    logarithm = kappa * (jnp.cos(x) - 1) - jnp.log(2 * math.pi * lax.bessel_i0e(kappa))
    return jnp.where(kappa > 0, logarithm, np.nan)


def pdf(x: ArrayLike, kappa: ArrayLike) -> Array:
    """The density at the angle x."""
    return jnp.exp(logpdf(x, kappa))
