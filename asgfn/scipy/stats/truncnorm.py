"""The standard normal truncated to [a, b], then scaled by `scale` and shifted by `loc`."""

from __future__ import annotations

import math

import numpy as np

import asgfn.numpy as jnp
from asgfn.numpy.arguments import ArrayLike
from asgfn.scipy.special import log_ndtr
from asgfn.scipy.stats.arguments import located
from asgfn.tracing import Array


def logpdf(x: ArrayLike, a: ArrayLike, b: ArrayLike, loc: ArrayLike = 0, scale: ArrayLike = 1) -> Array:
    """The logarithm of the density at x."""
    z, a, b, scale = located("truncnorm.logpdf", x, a, b, loc=loc, scale=scale)
    density = -0.5 * (z * z) - 0.5 * math.log(2 * math.pi) - jnp.log(scale) - _log_mass(a, b)
    return jnp.where((z < a) | (z > b), -np.inf, density)


def pdf(x: ArrayLike, a: ArrayLike, b: ArrayLike, loc: ArrayLike = 0, scale: ArrayLike = 1) -> Array:
    """The density at x."""
    return jnp.exp(logpdf(x, a, b, loc, scale))


def logcdf(x: ArrayLike, a: ArrayLike, b: ArrayLike, loc: ArrayLike = 0, scale: ArrayLike = 1) -> Array:
    """The logarithm of `cdf`."""
    z, a, b, _ = located("truncnorm.logcdf", x, a, b, loc=loc, scale=scale)
    return _log_share(a, jnp.clip(z, a, b), a, b)


def cdf(x: ArrayLike, a: ArrayLike, b: ArrayLike, loc: ArrayLike = 0, scale: ArrayLike = 1) -> Array:
    """The probability of a value at or below x."""
    return jnp.exp(logcdf(x, a, b, loc, scale))


def logsf(x: ArrayLike, a: ArrayLike, b: ArrayLike, loc: ArrayLike = 0, scale: ArrayLike = 1) -> Array:
    """The logarithm of `sf`."""
    z, a, b, _ = located("truncnorm.logsf", x, a, b, loc=loc, scale=scale)
    return _log_share(jnp.clip(z, a, b), b, a, b)


def sf(x: ArrayLike, a: ArrayLike, b: ArrayLike, loc: ArrayLike = 0, scale: ArrayLike = 1) -> Array:
    """The probability of a value above x."""
    return jnp.exp(logsf(x, a, b, loc, scale))


def _log_share(low: Array, high: Array, a: Array, b: Array) -> Array:
    """The logarithm of the normal's mass in [low, high] over that in [a, b]; an empty interval gives -inf."""
    empty = low >= high
    mass = _log_mass(jnp.where(empty, a, low), jnp.where(empty, b, high))
    return jnp.where(empty, -np.inf, jnp.minimum(mass - _log_mass(a, b), 0))


def _log_mass(a: Array, b: Array) -> Array:
    """The logarithm of the standard normal's mass in [a, b], computed in the tail where it does not cancel."""
    right = a > 0
    low, high = jnp.where(right, -b, a), jnp.where(right, -a, b)
    upper, lower = log_ndtr(high), log_ndtr(low)
    return upper + jnp.log1p(-jnp.exp(lower - upper))
