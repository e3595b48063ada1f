"""The Dirichlet distribution on the simplex; the components are the first axis of x, as in SciPy."""

from __future__ import annotations

import numpy as np

import asgfn.numpy as jnp
from asgfn.errors import ShapeError
from asgfn.numpy.arguments import ArrayLike, promote_dtypes_inexact, to_array
from asgfn.scipy.special import gammaln, xlogy
from asgfn.tracing import Array


def logpdf(x: ArrayLike, alpha: ArrayLike) -> Array:
    """The logarithm of the density at x [k, ...] or [k - 1, ...] (the last component left out), alpha [k]."""
    x, alpha = promote_dtypes_inexact(to_array("dirichlet.logpdf", x), to_array("dirichlet.logpdf", alpha))
    if alpha.ndim != 1 or not x.ndim or x.shape[0] not in (alpha.shape[0], alpha.shape[0] - 1):
        raise ShapeError(
            f"dirichlet.logpdf: alpha must be [k] and x [k, ...] or [k - 1, ...], got {alpha.aval} and {x.aval}"
        )
    if x.shape[0] != alpha.shape[0]:
        x = jnp.concatenate([x, 1 - jnp.sum(x, axis=0, keepdims=True)])
    weights = alpha.reshape(-1, *(1,) * (x.ndim - 1))
    normaliser = jnp.sum(gammaln(alpha)) - gammaln(jnp.sum(alpha))
    inside = jnp.all(x >= 0, axis=0) & (jnp.abs(jnp.sum(x, axis=0) - 1) < 1e-5)
    return jnp.where(inside, jnp.sum(xlogy(weights - 1, x), axis=0) - normaliser, -np.inf)


def pdf(x: ArrayLike, alpha: ArrayLike) -> Array:
    """The density at x."""
    return jnp.exp(logpdf(x, alpha))
