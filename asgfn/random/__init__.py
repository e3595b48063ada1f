"""Random numbers without state: the names of `jax.random`.

A sampler is a pure function of a key. `key(seed)` makes a key, `split` and `fold_in` derive independent ones from it,
and each key is to be used once:

    key = random.key(0)
    key, subkey = random.split(key)
    x = random.normal(subkey, (3, 4))

The bits come from Threefry-2x32 and equal those of JAX for the same key, shape and dtype, on every backend.
"""

from __future__ import annotations

from asgfn.random.continuous import (
    cauchy,
    exponential,
    gumbel,
    laplace,
    logistic,
    pareto,
    rayleigh,
    triangular,
    weibull_min,
)
from asgfn.random.counts import binomial, multinomial, poisson
from asgfn.random.discrete import bernoulli, categorical, geometric, rademacher
from asgfn.random.gammas import ball, beta, chisquare, dirichlet, f, gamma, generalized_normal, loggamma, t
from asgfn.random.key_array import PRNGKeyArray, prng_key
from asgfn.random.keys import PRNGKey, clone, fold_in, key, key_data, key_dtype, key_impl, split, wrap_key_data
from asgfn.random.normals import (
    double_sided_maxwell,
    lognormal,
    maxwell,
    multivariate_normal,
    normal,
    orthogonal,
    truncated_normal,
    wald,
)
from asgfn.random.selection import choice, permutation
from asgfn.random.uniforms import bits, randint, uniform

__all__ = [
    "PRNGKey",
    "PRNGKeyArray",
    "ball",
    "bernoulli",
    "beta",
    "binomial",
    "bits",
    "categorical",
    "cauchy",
    "chisquare",
    "choice",
    "clone",
    "dirichlet",
    "double_sided_maxwell",
    "exponential",
    "f",
    "fold_in",
    "gamma",
    "generalized_normal",
    "geometric",
    "gumbel",
    "key",
    "key_data",
    "key_dtype",
    "key_impl",
    "laplace",
    "loggamma",
    "logistic",
    "lognormal",
    "maxwell",
    "multinomial",
    "multivariate_normal",
    "normal",
    "orthogonal",
    "pareto",
    "permutation",
    "poisson",
    "prng_key",
    "rademacher",
    "randint",
    "rayleigh",
    "split",
    "t",
    "triangular",
    "truncated_normal",
    "uniform",
    "wald",
    "weibull_min",
    "wrap_key_data",
]
