"""The normal distribution and those made from it."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from asgfn import dtypes, lax
from asgfn import numpy as jnp
from asgfn.errors import ShapeError
from asgfn.random.arguments import batch_shape, canonical_shape, float_dtype, parameter
from asgfn.random.bits import subkeys
from asgfn.random.compiled import compiled
from asgfn.random.discrete import rademacher
from asgfn.random.keys import single_key
from asgfn.random.uniforms import lane_uniform, uniform_words
from asgfn.tracing import Array


def normal(key: Any, shape: Any = (), dtype: Any = None) -> Array:
    """Standard normal samples, density `exp(-x**2 / 2) / sqrt(2 pi)`.

    Arguments:
        key: one random key.
        shape: the shape of the result.
        dtype: a floating-point dtype, or a complex one: then real and imaginary part have variance 1/2 each.
    """
    words, shape = single_key("normal", key), canonical_shape("normal", shape)
    return normal_words(words, shape, float_dtype("normal", dtype, allow_complex=True))


@compiled("normal", "shape", "dtype")
def normal_words(words: Array, shape: tuple[int, ...], dtype: np.dtype) -> Array:
    """`normal` with checked arguments, from a raw key."""
    if dtypes.is_complex(dtype):
        real = dtypes.real_dtype(dtype)
        parts = [normal_words(subkey, shape, real) for subkey in subkeys(words)]
        return lax.complex(*parts) / np.array(math.sqrt(2), dtype)
    return _from_uniform(uniform_words(words, shape, dtype, _above_minus_one(dtype), 1.0), dtype)


def lane_normal(words: Array, dtype: np.dtype) -> Array:
    """What `normal(key, (), dtype)` gives for each of many keys: `(n, 2)` words to `(n,)` numbers."""
    return _from_uniform(lane_uniform(words, dtype, _above_minus_one(dtype), 1.0), dtype)


def _above_minus_one(dtype: np.dtype) -> float:
    """The least number of this dtype in the open interval (-1, 1)."""
    return float(np.nextafter(np.array(-1, dtype), np.array(0, dtype)))


def _from_uniform(u: Array, dtype: np.dtype) -> Array:
    return lax.erf_inv(u) * np.array(math.sqrt(2), dtype)


def truncated_normal(key: Any, lower: Any, upper: Any, shape: Any = None, dtype: Any = None) -> Array:
    """Standard normal samples that lie in the open interval (lower, upper).

    Arguments:
        key: one random key.
        lower, upper: the bounds.
        shape: the shape of the result, to which the bounds broadcast; their joint shape by default.
        dtype: a floating-point dtype.
    """
    words, dtype = single_key("truncated_normal", key), float_dtype("truncated_normal", dtype)
    lower = parameter("truncated_normal", "lower", lower, dtype)
    upper = parameter("truncated_normal", "upper", upper, dtype)
    shape = batch_shape("truncated_normal", shape, lower=lower.shape, upper=upper.shape)
    return _truncated_normal(words, lower, upper, shape)


@compiled("truncated_normal", "shape")
def _truncated_normal(words: Array, lower: Array, upper: Array, shape: tuple[int, ...]) -> Array:
    dtype = lower.dtype
    sqrt2 = np.array(math.sqrt(2), dtype)
    x = _from_uniform(uniform_words(words, shape, dtype, lax.erf(lower / sqrt2), lax.erf(upper / sqrt2)), dtype)
    # Rounding may push a sample onto or past a bound.
    infinity = np.array(np.inf, dtype)
    least = lax.nextafter(lax.stop_gradient(lower), jnp.full_like(lower, infinity))
    greatest = lax.nextafter(lax.stop_gradient(upper), jnp.full_like(upper, -infinity))
    return jnp.clip(x, jnp.broadcast_to(least, shape), jnp.broadcast_to(greatest, shape))


def lognormal(key: Any, sigma: Any = 1.0, shape: Any = None, dtype: Any = None) -> Array:
    """Log-normal samples: `exp(sigma * z)` for standard normal z.

    Arguments:
        key: one random key.
        sigma: the standard deviation of the logarithm.
        shape: the shape of the result, to which `sigma` broadcasts; that of `sigma` by default.
        dtype: a floating-point or complex dtype.
    """
    words, dtype = single_key("lognormal", key), float_dtype("lognormal", dtype, allow_complex=True)
    sigma = jnp.asarray(sigma).astype(dtype)
    shape = batch_shape("lognormal", shape, sigma=sigma.shape)
    return lax.exp(normal_words(words, shape, dtype) * jnp.broadcast_to(sigma, shape))


def maxwell(key: Any, shape: Any = (), dtype: Any = None) -> Array:
    """Maxwell samples, density proportional to `x**2 * exp(-x**2 / 2)` for x >= 0: lengths of normal 3-vectors.

    Arguments:
        key: one random key.
        shape: the shape of the result.
        dtype: a floating-point dtype.
    """
    words, dtype = single_key("maxwell", key), float_dtype("maxwell", dtype)
    vectors = normal_words(words, (*canonical_shape("maxwell", shape), 3), dtype)
    return lax.sqrt(jnp.sum(vectors * vectors, axis=-1))


def double_sided_maxwell(key: Any, loc: Any, scale: Any, shape: Any = (), dtype: Any = None) -> Array:
    """Double-sided Maxwell samples: density proportional to `z**2 * exp(-z**2 / 2)` with `z = (x - loc) / scale`.

    Arguments:
        key: one random key.
        loc, scale: centre and scale.
        shape: put in front of the joint shape of `loc` and `scale` (an empty one counts as that joint shape).
        dtype: a floating-point dtype.
    """
    words, dtype = single_key("double_sided_maxwell", key), float_dtype("double_sided_maxwell", dtype)
    joint = batch_shape("double_sided_maxwell", None, loc=np.shape(loc), scale=np.shape(scale))
    shape = (canonical_shape("double_sided_maxwell", shape) or joint) + joint
    length_key, sign_key = subkeys(words)
    return rademacher(sign_key, shape, dtype) * maxwell(length_key, shape, dtype) * scale + loc


def wald(key: Any, mean: Any, shape: Any = None, dtype: Any = None) -> Array:
    """Wald (inverse Gaussian) samples of scale 1, density `exp(-(x - mean)**2 / (2 mean**2 x)) / sqrt(2 pi x**3)`.

    Arguments:
        key: one random key.
        mean: the mean, > 0.
        shape: the shape of the result, to which `mean` broadcasts; that of `mean` by default.
        dtype: a floating-point dtype.

    Method: Michael, Schucany and Haas, "Generating random variates using transformations with multiple roots", 1976.
    """
    words, dtype = single_key("wald", key), float_dtype("wald", dtype)
    mean = parameter("wald", "mean", mean, dtype)
    shape = batch_shape("wald", shape, mean=mean.shape)
    mean = jnp.broadcast_to(mean, shape)
    normal_key, uniform_key = subkeys(words)
    v = normal_words(normal_key, shape, dtype)
    y = v * v
    squared = mean * mean
    x = mean + squared * y / 2 - mean / 2 * lax.sqrt(4 * mean * y + squared * (y * y))
    return jnp.where(uniform_words(uniform_key, shape, dtype) <= mean / (mean + x), x, squared / x)


def multivariate_normal(
    key: Any, mean: Any, cov: Any, shape: Any = None, dtype: Any = None, method: str = "cholesky"
) -> Array:
    """Normal samples with a given mean vector and covariance matrix.

    Arguments:
        key: one random key.
        mean: shape `(..., n)`.
        cov: positive semi-definite, shape `(..., n, n)`.
        shape: the batch shape of the result, to which the batch shapes of `mean` and `cov` broadcast; their joint
            shape by default.
        dtype: a floating-point dtype, that of `mean` and `cov` by default.
        method: "cholesky" (the fastest; `cov` must be positive definite), "eigh" or "svd".

    Returns:
        Samples of shape `(*shape, n)`.
    """
    words = single_key("multivariate_normal", key)
    joint = dtypes.to_inexact(dtypes.result_type(jnp.asarray(mean), jnp.asarray(cov)))
    mean, cov = (parameter("multivariate_normal", *named, joint) for named in (("mean", mean), ("cov", cov)))
    dtype = float_dtype("multivariate_normal", joint if dtype is None else dtype)
    n = mean.shape[-1] if mean.ndim else 0
    if not mean.ndim or cov.shape[-2:] != (n, n):
        raise ShapeError(
            "random.multivariate_normal: mean has shape (..., n) and cov has shape (..., n, n), "
            f"got mean {mean.shape} and cov {cov.shape}"
        )
    shape = batch_shape("multivariate_normal", shape, mean=mean.shape[:-1], cov=cov.shape[:-2])
    samples = normal_words(words, (*shape, n), dtype)
    return mean + jnp.squeeze(_square_root(cov, method) @ samples[..., None], -1)


def _square_root(cov: Array, method: str) -> Array:
    """A matrix A with A Aᵀ = cov."""
    if method == "cholesky":
        return jnp.linalg.cholesky(cov)
    if method == "eigh":
        values, vectors = jnp.linalg.eigh(cov)
    elif method == "svd":
        vectors, values, _ = jnp.linalg.svd(cov)
    else:
        raise ValueError(f'random.multivariate_normal: method is "cholesky", "eigh" or "svd", got {method!r}')
    return vectors * lax.sqrt(values)[..., None, :]


def orthogonal(key: Any, n: int, shape: Any = (), dtype: Any = None, m: int | None = None) -> Array:
    """Orthogonal (for a complex dtype unitary) matrices, uniformly distributed.

    Arguments:
        key: one random key.
        n: the number of rows.
        shape: the batch shape of the result.
        dtype: a floating-point or complex dtype.
        m: the number of columns, `n` by default; of the rows and columns, the fewer are orthonormal.

    Returns:
        Matrices of shape `(*shape, n, m)`.

    Method: Mezzadri, "How to generate random matrices from the classical compact groups", 2007.
    """
    words, shape = single_key("orthogonal", key), canonical_shape("orthogonal", shape)
    dtype = float_dtype("orthogonal", dtype, allow_complex=True)
    (n, m) = canonical_shape("orthogonal", (n, n if m is None else m))
    q, r = jnp.linalg.qr(normal_words(words, (*shape, max(n, m), min(n, m)), dtype))
    # QR leaves the signs of the columns open; without fixing them the result would not be uniform.
    q = q * jnp.expand_dims(lax.sign(jnp.diagonal(r, axis1=-2, axis2=-1)), -2)
    return jnp.swapaxes(q, -1, -2) if n < m else q
