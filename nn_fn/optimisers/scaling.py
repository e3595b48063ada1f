"""Transformations that multiply: by a number, a schedule, or a ratio of norms; what is added: decayed weights, noise."""

from __future__ import annotations

from typing import Any, NamedTuple

import asgfn.numpy as jnp
from asgfn import random, tree
from nn_fn.optimisers.base import (
    GradientTransformation,
    ScalarOrSchedule,
    Schedule,
    identity,
    require_params,
    stateless,
)
from nn_fn.optimisers.leafwise import check_number, increment, leafwise, scalar, squared, wide, zero_count
from nn_fn.optimisers.masking import MaskOrFn, masked


class CountState(NamedTuple):
    """How many updates were made: int32[]."""

    count: Any


def _times(factor: Any, updates: Any) -> Any:
    return tree.map(lambda g: scalar(factor, jnp.asarray(g)) * g, updates)


def scale(step_size: float | Any) -> GradientTransformation:
    """g -> step_size * g. The step size is a number or a scalar array."""
    return stateless(lambda updates, params: _times(step_size, updates))


def scale_by_schedule(step_size_fn: Schedule) -> GradientTransformation:
    """g -> step_size_fn(count) * g, where count is how many updates were made before: int32[], 0 at first."""

    def update(updates: Any, state: CountState, params: Any = None, **extra: Any) -> tuple[Any, CountState]:
        return _times(step_size_fn(state.count), updates), CountState(increment(state.count))

    return GradientTransformation(lambda params: CountState(zero_count()), update)


def scale_by_learning_rate(learning_rate: ScalarOrSchedule | None, *, flip_sign: bool = True) -> GradientTransformation:
    """g -> -learning_rate * g.

    Arguments:
        learning_rate: a number, a scalar array, or a schedule: a function of how many updates were made before. With
            None nothing happens.
        flip_sign: False for + learning_rate * g.
    """
    if learning_rate is None:
        return identity()
    sign = -1 if flip_sign else 1
    if callable(learning_rate):
        return scale_by_schedule(lambda count: sign * learning_rate(count))
    return scale(sign * learning_rate)


def safe_norm(x: Any, min_norm: Any) -> Any:
    """max(norm of x, min_norm), in at least float32, whose gradient is 0 where `min_norm` counts, not NaN."""
    total = jnp.sum(squared(wide(x)))
    small = jnp.sqrt(total) <= min_norm
    return jnp.where(small, scalar(min_norm, total), jnp.sqrt(jnp.where(small, 1, total)))


def scale_by_trust_ratio(
    min_norm: float = 0.0, trust_coefficient: float = 1.0, eps: float = 0.0
) -> GradientTransformation:
    """g -> g * trust_coefficient * norm(p) / (norm(g) + eps), for each leaf; unchanged where a norm is 0.

    Norms below `min_norm` count as `min_norm`. Source: Y. You and others, Large batch training of convolutional
    networks, 2017 (LARS), and Large batch optimization for deep learning, 2020 (LAMB).
    """

    def one(g: Any, p: Any) -> Any:
        param_norm, update_norm = safe_norm(p, min_norm), safe_norm(g, min_norm)
        defined = (param_norm != 0) & (update_norm != 0)
        ratio = trust_coefficient * param_norm / (jnp.where(defined, update_norm, 1) + eps)
        return g * scalar(jnp.where(defined, ratio, 1), g)

    def scaled(updates: Any, params: Any) -> Any:
        name = "scale_by_trust_ratio"
        return leafwise(name, one, updates, parameter=require_params(name, params))

    return stateless(scaled)


def scale_by_param_block_norm(min_scale: float = 1e-3) -> GradientTransformation:
    """g -> g * max(norm(p), min_scale), for each leaf."""

    def scaled(updates: Any, params: Any) -> Any:
        name = "scale_by_param_block_norm"

        def one(g: Any, p: Any) -> Any:
            return g * scalar(safe_norm(p, min_scale), g)

        return leafwise(name, one, updates, parameter=require_params(name, params))

    return stateless(scaled)


def scale_by_param_block_rms(min_scale: float = 1e-3) -> GradientTransformation:
    """g -> g * max(root mean square of p, min_scale), for each leaf. Empty leaves stay as they are."""

    def one(g: Any, p: Any) -> Any:
        if not p.size:
            return g
        root = float(p.size) ** 0.5
        return g * scalar(safe_norm(p, min_scale * root) / root, g)

    def scaled(updates: Any, params: Any) -> Any:
        name = "scale_by_param_block_rms"
        return leafwise(name, one, updates, parameter=require_params(name, params))

    return stateless(scaled)


def add_decayed_weights(weight_decay: ScalarOrSchedule = 0.0, mask: MaskOrFn | None = None) -> GradientTransformation:
    """g -> g + weight_decay * p.

    Before an adaptive scaling this is the gradient of ½ weight_decay |p|² (what PyTorch's ``Adam(weight_decay=)`` does),
    after it the decoupled weight decay of AdamW.

    Arguments:
        weight_decay: a number, a scalar array or a schedule.
        mask: which parameters decay, see `masked`; all by default. Usual is to spare biases and scales:
            ``mask=lambda params: tree.map(lambda p: p.ndim > 1, params)``.
    """
    check_number("add_decayed_weights", "weight_decay", weight_decay)

    def decayed(updates: Any, params: Any, rate: Any) -> Any:
        params = require_params("weight decay", params)
        if isinstance(rate, (int, float)) and rate == 0:
            return updates
        return leafwise("add_decayed_weights", lambda g, p: g + scalar(rate, p) * p, updates, parameter=params)

    if callable(weight_decay):
        schedule: Schedule = weight_decay

        def update(updates: Any, state: CountState, params: Any = None, **extra: Any) -> tuple[Any, CountState]:
            return decayed(updates, params, schedule(state.count)), CountState(increment(state.count))

        transformation = GradientTransformation(lambda params: CountState(zero_count()), update)
    else:
        transformation = stateless(lambda updates, params: decayed(updates, params, weight_decay))
    return transformation if mask is None else masked(transformation, mask)


class AddNoiseState(NamedTuple):
    """Step count, int32[], and the random key."""

    count: Any
    rng_key: Any


def add_noise(eta: float, gamma: float, key: Any) -> GradientTransformation:
    """g -> g + normal noise of variance eta / (1 + count)**gamma, independent for every element and step.

    Source: A. Neelakantan and others, Adding gradient noise improves learning for very deep networks, 2015.

    Arguments:
        eta, gamma: the variance at first, and how fast it falls.
        key: a random key, or an int from which one is made.
    """
    check_number("add_noise", "eta", eta)

    def init(params: Any) -> AddNoiseState:
        return AddNoiseState(zero_count(), random.key(key) if isinstance(key, int) else key)

    def update(updates: Any, state: AddNoiseState, params: Any = None, **extra: Any) -> tuple[Any, AddNoiseState]:
        count = increment(state.count)
        deviation = jnp.sqrt(eta / count**gamma)
        next_key, key_now = random.split(state.rng_key)
        leaves, treedef = tree.flatten(updates)
        keys = random.split(key_now, len(leaves)) if leaves else []
        noisy = [
            g + scalar(deviation, g) * random.normal(k, g.shape, g.dtype)
            for g, k in zip(map(jnp.asarray, leaves), keys, strict=True)
        ]
        return treedef.unflatten(noisy), AddNoiseState(count, next_key)

    return GradientTransformation(init, update)
