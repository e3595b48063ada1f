"""Optimisers in Optax's form: pairs of pure functions ``init(params)`` and ``update(grads, state, params)``.

    optimiser = adam(1e-3)
    state = optimiser.init(params)
    updates, state = optimiser.update(grads, state, params)
    params = apply_updates(params, updates)

A learning rate is a number or a schedule: a function of how many updates were made before.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import asgfn.numpy as jnp
from asgfn import tree

Schedule = Callable[[Any], Any]


class GradientTransformation(NamedTuple):
    """``init(params) -> state`` and ``update(updates, state, params) -> (updates, state)``."""

    init: Callable[[Any], Any]
    update: Callable[..., tuple[Any, Any]]


def apply_updates(params: Any, updates: Any) -> Any:
    """params + updates, leaf by leaf, in the dtypes of params."""
    return tree.map(lambda p, u: (p + u).astype(p.dtype), params, updates)


def chain(*transforms: GradientTransformation) -> GradientTransformation:
    """Transformations one after another."""

    def init(params: Any) -> tuple:
        return tuple(t.init(params) for t in transforms)

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, tuple]:
        new_state = []
        for t, s in zip(transforms, state, strict=True):
            updates, s = t.update(updates, s, params)
            new_state.append(s)
        return updates, tuple(new_state)

    return GradientTransformation(init, update)


def _zeros_like(params: Any) -> Any:
    return tree.map(jnp.zeros_like, params)


class TraceState(NamedTuple):
    """Momentum: the running sum of updates."""

    trace: Any


def trace(decay: float, nesterov: bool = False) -> GradientTransformation:
    """Momentum: v = decay * v + g; with `nesterov` the update is g + decay * v."""

    def update(updates: Any, state: TraceState, params: Any = None) -> tuple[Any, TraceState]:
        velocity = tree.map(lambda g, v: g + decay * v, updates, state.trace)
        out = tree.map(lambda g, v: g + decay * v, updates, velocity) if nesterov else velocity
        return out, TraceState(velocity)

    return GradientTransformation(lambda params: TraceState(_zeros_like(params)), update)


class AdamState(NamedTuple):
    """Step count and the two moments."""

    count: Any
    mu: Any
    nu: Any


def _one_minus_power(decay: float, count: Any) -> Any:
    """1 - decay**count, to full precision: for 0.999 and one step, the plain formula loses half of float32's digits."""
    return -jnp.expm1(count * (math.log(decay) if decay > 0 else -math.inf))


def scale_by_adam(b1: float = 0.9, b2: float = 0.999, eps: float = 1e-8) -> GradientTransformation:
    """g -> m / (sqrt(v) + eps) with bias-corrected moments. Source: D. Kingma, J. Ba, Adam, 2015."""

    def init(params: Any) -> AdamState:
        return AdamState(jnp.zeros((), jnp.int32), _zeros_like(params), _zeros_like(params))

    def update(updates: Any, state: AdamState, params: Any = None) -> tuple[Any, AdamState]:
        count = state.count + 1
        mu = tree.map(lambda g, m: (1 - b1) * g + b1 * m, updates, state.mu)
        nu = tree.map(lambda g, v: (1 - b2) * (g * g) + b2 * v, updates, state.nu)
        # both corrections are scalars, so the large arrays see one multiplication each
        step = 1 / _one_minus_power(b1, count)
        root = 1 / jnp.sqrt(_one_minus_power(b2, count))
        out = tree.map(lambda m, v: (m * step) / (jnp.sqrt(v) * root + eps), mu, nu)
        return out, AdamState(count, mu, nu)

    return GradientTransformation(init, update)


def add_decayed_weights(weight_decay: float) -> GradientTransformation:
    """g -> g + weight_decay * params."""

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        if params is None:
            raise ValueError("weight decay needs the parameters: call update(grads, state, params)")
        return tree.map(lambda g, p: g + weight_decay * p, updates, params), state

    return GradientTransformation(lambda params: (), update)


class CountState(NamedTuple):
    """How many updates were made."""

    count: Any


def scale_by_learning_rate(learning_rate: float | Schedule) -> GradientTransformation:
    """g -> -learning_rate * g; a function of the step count is a schedule."""
    if not callable(learning_rate):
        rate = learning_rate
        return GradientTransformation(
            lambda params: (), lambda g, s, params=None: (tree.map(lambda x: -rate * x, g), s)
        )

    def update(updates: Any, state: CountState, params: Any = None) -> tuple[Any, CountState]:
        step_size = -learning_rate(state.count)
        return tree.map(lambda g: step_size * g, updates), CountState(state.count + 1)

    return GradientTransformation(lambda params: CountState(jnp.zeros((), jnp.int32)), update)


def sgd(
    learning_rate: float | Schedule, momentum: float | None = None, nesterov: bool = False
) -> GradientTransformation:
    """Gradient descent, with momentum if given."""
    parts = [trace(momentum, nesterov)] if momentum is not None else []
    return chain(*parts, scale_by_learning_rate(learning_rate))


def adam(
    learning_rate: float | Schedule, b1: float = 0.9, b2: float = 0.999, eps: float = 1e-8
) -> GradientTransformation:
    """Adam (D. Kingma, J. Ba, 2015)."""
    return chain(scale_by_adam(b1, b2, eps), scale_by_learning_rate(learning_rate))


def adamw(
    learning_rate: float | Schedule, b1: float = 0.9, b2: float = 0.999, eps: float = 1e-8, weight_decay: float = 1e-2
) -> GradientTransformation:
    """Adam with decoupled weight decay (I. Loshchilov, F. Hutter, 2019)."""
    return chain(scale_by_adam(b1, b2, eps), add_decayed_weights(weight_decay), scale_by_learning_rate(learning_rate))
