"""The multivariate normal distribution; the last axis holds the components."""

from __future__ import annotations

import math

import asgfn.numpy as jnp
from asgfn.errors import ShapeError
from asgfn.numpy.arguments import ArrayLike, promote_dtypes_inexact, to_array
from asgfn.primitives.linalg import cholesky, triangular_solve
from asgfn.tracing import Array


def logpdf(x: ArrayLike, mean: ArrayLike, cov: ArrayLike, allow_singular: None = None) -> Array:
    """The logarithm of the density.

    Arguments:
        x: [..., n], or a scalar for one component.
        mean: [..., n] or a scalar.
        cov: [..., n, n], or a scalar variance.
    """
    if allow_singular is not None:
        raise NotImplementedError("multivariate_normal.logpdf: allow_singular is not supported")
    x, mean, cov = promote_dtypes_inexact(*(to_array("multivariate_normal.logpdf", v) for v in (x, mean, cov)))
    if not mean.ndim or not mean.shape[-1] or cov.ndim < 2:
        if cov.ndim:
            raise ShapeError(
                f"multivariate_normal.logpdf: a scalar mean needs a scalar variance, got {mean.aval} and {cov.aval}"
            )
        return -0.5 * (jnp.square(x - mean) / cov + jnp.log(2 * math.pi * cov))
    size = mean.shape[-1]
    if cov.shape[-2:] != (size, size):
        raise ShapeError(
            f"multivariate_normal.logpdf: cov must be [..., {size}, {size}] for mean {mean.aval}, got {cov.aval}"
        )
    factor = cholesky(cov)
    difference = x - mean
    leading = jnp.broadcast_shapes(difference.shape[:-1], factor.shape[:-2])
    difference = jnp.broadcast_to(difference, (*leading, size))
    factor = jnp.broadcast_to(factor, (*leading, size, size))
    whitened = triangular_solve(factor, difference, left_side=True, lower=True)
    log_root = jnp.sum(jnp.log(jnp.diagonal(factor, axis1=-2, axis2=-1)), axis=-1)
    return -0.5 * jnp.sum(jnp.square(whitened), axis=-1) - log_root - 0.5 * size * math.log(2 * math.pi)


def pdf(x: ArrayLike, mean: ArrayLike, cov: ArrayLike) -> Array:
    """The density at x."""
    return jnp.exp(logpdf(x, mean, cov))
