"""Random order and random choice among the elements of an array."""

from __future__ import annotations

import math
import operator
from typing import Any

import numpy as np

from asgfn import dtypes, lax
from asgfn import numpy as jnp
from asgfn.errors import AxisError, DTypeError, ShapeError
from asgfn.random.arguments import canonical_shape, check_probability, parameter
from asgfn.random.bits import random_bits, subkeys
from asgfn.random.compiled import compiled
from asgfn.random.continuous import gumbel_words
from asgfn.random.keys import single_key
from asgfn.random.uniforms import randint, uniform_words
from asgfn.tracing import Array, as_array


def permutation(key: Any, x: Any, axis: int = 0, independent: bool = False) -> Array:
    """The elements of an array in random order.

    Arguments:
        key: one random key.
        x: an array, or an integer n for `arange(n)`.
        axis: the axis along which the order changes.
        independent: a different order for each vector along the axis; else whole slices change places.
    """
    words = single_key("permutation", key)
    x = jnp.arange(_population_size("permutation", x)) if np.ndim(x) == 0 else jnp.asarray(x)
    axis = _axis("permutation", axis, x.shape)
    if independent or x.ndim == 1:
        return _shuffle(words, x, axis)
    return jnp.take(x, _shuffle(words, jnp.arange(x.shape[axis]), 0), axis=axis)


@compiled("shuffle", "axis")
def _shuffle(words: Array, x: Array, axis: int) -> Array:
    # Sorting by random 32-bit numbers, which may collide: so often that all elements almost surely get different
    # numbers in some round. With n**3 < 2**(32 * rounds) a pair collides in every round with probability < 1/n.
    rounds = math.ceil(3 * math.log(max(1, x.size)) / math.log(2**32 - 1))
    for _ in range(rounds):
        words, subkey = subkeys(words)
        _, x = lax.sort_key_val(random_bits(subkey, 32, x.shape), x, dimension=axis)
    return x


def _population_size(name: str, n: Any) -> int:
    """The number n of elements of the range that stands for an array."""
    dtype = as_array(n, f"random.{name}").dtype
    if not dtypes.is_integer(dtype):
        raise DTypeError(f"random.{name} takes an array or an integer, got a scalar of dtype {dtype.name}")
    return operator.index(n)


def _axis(name: str, axis: int, shape: tuple[int, ...]) -> int:
    if not -len(shape) <= axis < len(shape):
        raise AxisError(f"random.{name}: axis {axis} is out of range for an array of shape {shape}")
    return axis % len(shape)


def choice(
    key: Any, a: Any, shape: Any = (), replace: bool = True, p: Any = None, axis: int = 0, mode: str | None = None
) -> Array:
    """Random elements of an array.

    Arguments:
        key: one random key.
        a: an array, or an integer n for `arange(n)`.
        shape: how many, as a shape.
        replace: whether an element may be drawn more than once.
        p: the probability of each element along `axis`, of shape `(a.shape[axis],)`; equal ones by default. They need
            not sum to 1. Without replacement there must be as many non-zero ones as samples.
        axis: the axis along which slices of `a` are drawn.
        mode: see `gumbel`; used with `p` and `replace=False`.

    Returns:
        An array of shape `(*a.shape[:axis], *shape, *a.shape[axis + 1:])`.
    """
    words = single_key("choice", key)
    shape = canonical_shape("choice", shape)
    is_range = np.ndim(a) == 0
    a_shape = (_population_size("choice", a),) if is_range else np.shape(a)
    a = jnp.asarray(a)
    axis = _axis("choice", axis, a_shape)
    size, draws = a_shape[axis], math.prod(shape)
    result_shape = a_shape[:axis] + shape + a_shape[axis + 1 :]
    if draws == 0:
        return jnp.zeros(result_shape, a.dtype)
    if size <= 0:
        raise ShapeError(f"random.choice: there is nothing to choose from: a has {size} elements along axis {axis}")
    if not replace and draws > size:
        raise ShapeError(f"random.choice: {draws} samples without replacement are more than the {size} elements")
    if p is None and not replace:
        order = permutation(words, size if is_range else a, axis)
        return jnp.reshape(lax.slice_in_dim(order, 0, draws, axis=axis), result_shape)
    indices = randint(words, shape, 0, size) if p is None else _weighted_indices(words, shape, p, size, replace, mode)
    return jnp.reshape(indices if is_range else jnp.take(a, indices, axis=axis), result_shape)


def _weighted_indices(
    words: Array, shape: tuple[int, ...], p: Any, size: int, replace: bool, mode: str | None
) -> Array:
    check_probability("choice", p)
    p = parameter("choice", "p", p)
    if p.shape != (size,):
        raise ShapeError(
            f"random.choice: p must hold one probability for each of the {size} elements, got shape {p.shape}"
        )
    if replace:
        cumulative = jnp.cumsum(p)
        u = cumulative[-1] * (np.array(1, p.dtype) - uniform_words(words, shape, p.dtype))
        indices = jnp.searchsorted(cumulative, u)
    else:
        scores = gumbel_words(words, (size,), p.dtype, mode) + lax.log(p)
        indices = lax.top_k(scores, math.prod(shape))[1]
    return indices.astype(dtypes.default_int())
