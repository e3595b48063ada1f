"""Mean and variance of streams, without the cancellation of E[x²] - E[x]².

Source: T. Chan, G. Golub, R. LeVeque, Updating formulae and a pairwise algorithm for computing sample variances, 1979;
B. Welford, Note on a method for calculating corrected sums of squares and products, 1962.
"""

from __future__ import annotations

from typing import NamedTuple

import asgfn.numpy as jnp
from asgfn.tracing import Array
from nn_fn.metrics import sums
from nn_fn.metrics.sums import Sum


class Moments(NamedTuple):
    """Weight, weighted mean, and weighted sum of squared differences from the mean (`squares`)."""

    weight: Sum
    mean: Sum
    squares: Sum


def zero(shape: tuple[int, ...] = ()) -> Moments:
    """The moments of nothing."""
    return Moments(sums.zero(shape), sums.zero(shape), sums.zero(shape))


def of_batch(values: Array, weights: Array, axis: tuple[int, ...]) -> Moments:
    """The moments of values along axes, with weights of their shape; where a weight is 0 the value does not matter."""
    taken = weights != 0
    values = jnp.where(taken, values, 0)
    weight = sums.batch_sum(jnp.ones(values.shape, bool), weights, axis)
    factor = weights.astype(values.dtype) / _spread(_at_least_tiny(sums.value(weight)), values, axis)
    # a first guess within the values' range, which is exact if all are equal; then what it lacks
    lowest = jnp.min(jnp.where(taken, values, jnp.inf), axis=axis, initial=jnp.inf)
    highest = jnp.max(jnp.where(taken, values, -jnp.inf), axis=axis, initial=-jnp.inf)
    guess = jnp.where(lowest <= highest, jnp.clip(jnp.sum(values * factor, axis=axis), lowest, highest), 0)
    guess = jnp.where(jnp.any(jnp.isnan(values), axis=axis), jnp.nan, guess)
    off = jnp.where(taken, values - _spread(guess, values, axis), 0)
    rest = jnp.sum(off * factor, axis=axis)
    off = jnp.where(taken, off - _spread(rest, values, axis), 0)
    mean = sums.add(sums.exactly(guess), sums.exactly(rest))
    return Moments(weight, mean, sums.batch_sum(off * off, weights, axis))


def merge(a: Moments, b: Moments) -> Moments:
    """The moments of both together."""
    weight = sums.add(a.weight, b.weight)
    of_a, of_b = sums.value(a.weight), sums.value(b.weight)
    whole = _at_least_tiny(sums.value(weight))
    apart = sums.value(sums.subtract(b.mean, a.mean))
    apart = jnp.where((of_a == 0) | (of_b == 0), 0, apart)
    moved = sums.add(a.mean, sums.exactly(apart * (of_b / whole)))
    mean = Sum(*(jnp.where(of_a == 0, y, jnp.where(of_b == 0, x, z)) for x, y, z in zip(a.mean, b.mean, moved)))
    between = apart * (apart * (of_a * (of_b / whole)))
    return Moments(weight, mean, sums.add(sums.add(a.squares, b.squares), sums.exactly(between)))


def _at_least_tiny(weight: Array) -> Array:
    return jnp.where(weight == 0, 1, weight)


def _spread(x: Array, values: Array, axis: tuple[int, ...]) -> Array:
    return jnp.expand_dims(x, axis) if axis else x
