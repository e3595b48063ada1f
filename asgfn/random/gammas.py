"""The gamma distribution, by rejection, and those made from it.

Samples are differentiable in the shape parameter: d sample / d a is the implicit derivative of the distribution
function (Figurnov, Mohamed and Mnih, "Implicit reparameterization gradients", 2018).
"""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np

from asgfn import lax
from asgfn import numpy as jnp
from asgfn.errors import ShapeError
from asgfn.random.arguments import batch_shape, canonical_shape, float_dtype, parameter
from asgfn.random.bits import lane_subkeys, split_words, subkeys
from asgfn.random.compiled import compiled
from asgfn.random.continuous import exponential_words
from asgfn.random.discrete import rademacher
from asgfn.random.keys import single_key
from asgfn.random.normals import lane_normal, normal_words
from asgfn.random.uniforms import lane_uniform
from asgfn.tracing import Array, as_array
from asgfn.transforms.custom_jvp import custom_jvp


def gamma(key: Any, a: Any, shape: Any = None, dtype: Any = None) -> Array:
    """Gamma samples of scale 1, density proportional to `x**(a - 1) * exp(-x)` for x >= 0.

    Arguments:
        key: one random key.
        a: the shape parameter, > 0.
        shape: the shape of the result, to which `a` broadcasts; that of `a` by default.
        dtype: a floating-point dtype.
    """
    return _gamma("gamma", key, a, shape, dtype, in_logs=False)


def loggamma(key: Any, a: Any, shape: Any = None, dtype: Any = None) -> Array:
    """Logarithms of gamma samples, exact also where `gamma` underflows to 0 (a << 1). See `gamma` for the arguments."""
    return _gamma("loggamma", key, a, shape, dtype, in_logs=True)


def _gamma(name: str, key: Any, a: Any, shape: Any, dtype: Any, *, in_logs: bool) -> Array:
    words, dtype = single_key(name, key), float_dtype(name, dtype)
    a = parameter(name, "a", a, dtype)
    shape = batch_shape(name, shape, a=a.shape)
    return _gamma_words(words, a, shape, in_logs)


@compiled("gamma", "shape", "in_logs")
def _gamma_words(words: Array, a: Array, shape: tuple[int, ...], in_logs: bool) -> Array:
    lanes = jnp.ravel(jnp.broadcast_to(a, shape))
    sample = _log_samples if in_logs else _samples
    return jnp.reshape(sample(split_words(words, lanes.shape), lanes), shape)


@custom_jvp
def _samples(words: Array, a: Array) -> Array:
    return _draw(words, a, in_logs=False)


@_samples.defjvp
def _samples_jvp(primals: tuple, tangents: tuple) -> tuple[Array, Array]:
    sample = _samples(*primals)
    return sample, tangents[1] * lax.random_gamma_grad(primals[1], sample)


@custom_jvp
def _log_samples(words: Array, a: Array) -> Array:
    return _draw(words, a, in_logs=True)


@_log_samples.defjvp
def _log_samples_jvp(primals: tuple, tangents: tuple) -> tuple[Array, Array]:
    logs = _log_samples(*primals)
    sample = lax.exp(logs)
    sample = jnp.where(sample == 0, np.array(ml_dtypes.finfo(sample.dtype).tiny, sample.dtype), sample)
    return logs, tangents[1] * (lax.random_gamma_grad(primals[1], sample) / sample)


def _draw(words: Array, a: Array, *, in_logs: bool) -> Array:
    """A gamma sample (or its logarithm) for each key in `(n, 2)` and parameter in `(n,)`.

    Method: Marsaglia and Tsang, "A simple method for generating gamma variables", 2000, for a >= 1. A sample for
    a < 1 is one for a + 1, times `u**(1 / a)` with u uniform.
    """
    dtype = a.dtype
    loop_key, boost_key = lane_subkeys(words)
    large = a >= 1
    d = jnp.where(large, a, a + 1) - np.array(1 / 3, dtype)
    v = _accepted(loop_key, d)
    if in_logs:
        log_u = lax.log1p(-lane_uniform(boost_key, dtype))
        zero = jnp.zeros_like(a)
        return lax.log(d) + lax.log(v) + jnp.where(large | (log_u == 0), zero, log_u * (1 / a))
    u = 1 - lane_uniform(boost_key, dtype)
    return d * v * jnp.where(large, jnp.ones_like(a), lax.pow(u, 1 / a))


def _accepted(words: Array, d: Array) -> Array:
    """The accepted value v = (1 + c x)**3 of each lane. All lanes advance together; those that are done keep theirs."""
    dtype = d.dtype
    c = lax.div(np.array(1 / 3, dtype), lax.sqrt(d))
    half, squeeze = np.array(0.5, dtype), np.array(0.0331, dtype)

    def is_rejected(x_squared: Array, v: Array, u: Array) -> Array:
        return (u >= 1 - squeeze * (x_squared * x_squared)) & (
            lax.log(u) >= x_squared * half + d * (1 - v + lax.log(v))
        )

    def any_rejected(state: tuple) -> Array:
        return jnp.any(is_rejected(*state[1:]))

    def propose(state: tuple) -> tuple:
        words, x_squared, v, u = state
        rejected = is_rejected(x_squared, v, u)
        new_words, x_words, u_words = lane_subkeys(words, 3)
        x, root = _positive_root(x_words, c, rejected)
        proposal = (new_words, x * x, root * root * root, lane_uniform(u_words, dtype))
        return _update(rejected, proposal, state)

    start = (words, jnp.zeros_like(d), jnp.ones_like(d), jnp.full_like(d, 2))
    return lax.while_loop(any_rejected, propose, start)[2]


def _positive_root(words: Array, c: Array, wanted: Array) -> tuple[Array, Array]:
    """In the wanted lanes, normal numbers x with 1 + c x > 0, and that root."""

    def not_positive(state: tuple) -> Array:
        return jnp.any(state[2] <= 0)

    def redraw(state: tuple) -> tuple:
        new_words, x_words = lane_subkeys(state[0])
        x = lane_normal(x_words, c.dtype)
        return _update(state[2] <= 0, (new_words, x, 1 + x * c), state)

    start = (words, jnp.zeros_like(c), jnp.where(wanted, -jnp.ones_like(c), jnp.ones_like(c)))
    _, x, root = lax.while_loop(not_positive, redraw, start)
    return x, root


def _update(lanes: Array, new: tuple, old: tuple) -> tuple:
    """The new state in these lanes, the old one in the others; the first entry is the lanes' keys."""
    keys = jnp.where(lanes[:, None], new[0], old[0])
    return keys, *(jnp.where(lanes, x, y) for x, y in zip(new[1:], old[1:], strict=True))


def beta(key: Any, a: Any, b: Any, shape: Any = None, dtype: Any = None) -> Array:
    """Beta samples, density proportional to `x**(a - 1) * (1 - x)**(b - 1)` for 0 <= x <= 1.

    Arguments:
        key: one random key.
        a, b: the two parameters, > 0.
        shape: the shape of the result, to which the parameters broadcast; their joint shape by default.
        dtype: a floating-point dtype.
    """
    words, dtype = single_key("beta", key), float_dtype("beta", dtype)
    a, b = parameter("beta", "a", a, dtype), parameter("beta", "b", b, dtype)
    shape = batch_shape("beta", shape, a=a.shape, b=b.shape)
    key_a, key_b = subkeys(words)
    log_a, log_b = loggamma(key_a, a, shape, dtype), loggamma(key_b, b, shape, dtype)
    greater = lax.max(log_a, log_b)
    scaled_a, scaled_b = lax.exp(log_a - greater), lax.exp(log_b - greater)
    return scaled_a / (scaled_a + scaled_b)


def dirichlet(key: Any, alpha: Any, shape: Any = None, dtype: Any = None) -> Array:
    """Dirichlet samples: probability vectors, density proportional to the product of `x_i**(alpha_i - 1)`.

    Arguments:
        key: one random key.
        alpha: the parameters, > 0, of shape `(..., n)`.
        shape: the batch shape of the result, to which that of `alpha` broadcasts; that of `alpha` by default.
        dtype: a floating-point dtype.

    Returns:
        Samples of shape `(*shape, n)`.
    """
    words, dtype = single_key("dirichlet", key), float_dtype("dirichlet", dtype)
    alpha = parameter("dirichlet", "alpha", alpha, dtype)
    if not alpha.ndim:
        raise ShapeError("random.dirichlet: alpha has shape (..., n), got a scalar")
    shape = batch_shape("dirichlet", shape, alpha=alpha.shape[:-1])
    logs = loggamma(words, alpha, (*shape, alpha.shape[-1]), dtype)
    scaled = lax.exp(logs - lax.stop_gradient(jnp.max(logs, axis=-1, keepdims=True)))
    return scaled / jnp.sum(scaled, axis=-1, keepdims=True)


def chisquare(key: Any, df: Any, shape: Any = None, dtype: Any = None) -> Array:
    """Chi-square samples, density proportional to `x**(df / 2 - 1) * exp(-x / 2)` for x > 0.

    Arguments:
        key: one random key.
        df: the degrees of freedom, > 0.
        shape: the shape of the result, to which `df` broadcasts; that of `df` by default.
        dtype: a floating-point dtype.
    """
    words, dtype = single_key("chisquare", key), float_dtype("chisquare", dtype)
    df = parameter("chisquare", "df", df, dtype)
    shape = batch_shape("chisquare", shape, df=df.shape)
    return lax.exp(loggamma(words, df / 2, shape, dtype)) * np.array(2, dtype)


def f(key: Any, dfnum: Any, dfden: Any, shape: Any = None, dtype: Any = None) -> Array:
    """F samples: the ratio of two chi-square samples, each divided by its degrees of freedom.

    Arguments:
        key: one random key.
        dfnum, dfden: the degrees of freedom of numerator and denominator, > 0.
        shape: the shape of the result, to which the parameters broadcast; their joint shape by default.
        dtype: a floating-point dtype.
    """
    words, dtype = single_key("f", key), float_dtype("f", dtype)
    dfnum, dfden = parameter("f", "dfnum", dfnum, dtype), parameter("f", "dfden", dfden, dtype)
    shape = batch_shape("f", shape, dfnum=dfnum.shape, dfden=dfden.shape)
    key_den, key_num = subkeys(words)
    numerator = chisquare(key_num, dfnum, shape, dtype) / jnp.broadcast_to(dfnum, shape)
    return numerator / (chisquare(key_den, dfden, shape, dtype) / jnp.broadcast_to(dfden, shape))


def t(key: Any, df: Any, shape: Any = None, dtype: Any = None) -> Array:
    """Student's t samples, density proportional to `(1 + x**2 / df)**(-(df + 1) / 2)`.

    Arguments:
        key: one random key.
        df: the degrees of freedom, > 0.
        shape: the shape of the result, to which `df` broadcasts; that of `df` by default.
        dtype: a floating-point dtype.
    """
    words, dtype = single_key("t", key), float_dtype("t", dtype)
    df = parameter("t", "df", df, dtype)
    shape = batch_shape("t", shape, df=df.shape)
    normal_key, gamma_key = subkeys(words)
    half = jnp.broadcast_to(df / 2, shape)
    return normal_words(normal_key, shape, dtype) * lax.sqrt(half / gamma(gamma_key, half, shape, dtype))


def generalized_normal(key: Any, p: Any, shape: Any = (), dtype: Any = None) -> Array:
    """Generalised normal samples, density proportional to `exp(-|x|**p)`.

    Arguments:
        key: one random key.
        p: the exponent, > 0; its shape broadcasts to `shape`.
        shape: the shape of the result.
        dtype: a floating-point dtype.
    """
    words, dtype = single_key("generalized_normal", key), float_dtype("generalized_normal", dtype)
    shape = canonical_shape("generalized_normal", shape)
    gamma_key, sign_key = subkeys(words)
    power = 1 / as_array(p)
    return rademacher(sign_key, shape, dtype) * gamma(gamma_key, power, shape, dtype) ** power


def ball(key: Any, d: int, p: Any = 2, shape: Any = (), dtype: Any = None) -> Array:
    """Uniform samples from the unit ball of the Lp norm.

    Arguments:
        key: one random key.
        d: the dimension.
        p: the exponent of the norm, > 0.
        shape: the batch shape of the result.
        dtype: a floating-point dtype.

    Returns:
        Points of shape `(*shape, d)`.

    Method: Barthe, Guédon, Mendelson and Naor, "A probabilistic approach to the geometry of the Lp-ball", 2005.
    """
    words, dtype = single_key("ball", key), float_dtype("ball", dtype)
    shape, (d,) = canonical_shape("ball", shape), canonical_shape("ball", d)
    direction_key, radius_key = subkeys(words)
    p = as_array(p)
    g = generalized_normal(direction_key, p, (*shape, d), dtype)
    norms = jnp.sum(jnp.abs(g) ** p, axis=-1) + exponential_words(radius_key, shape, dtype)
    return g / (norms ** (1 / p))[..., None]
