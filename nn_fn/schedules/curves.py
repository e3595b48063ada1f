"""The shapes that schedules are made of."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import asgfn.numpy as jnp
from nn_fn.optimisers.leafwise import check_number

Schedule = Callable[[Any], Any]


def progress(count: Any, begin: Any, steps: Any) -> Any:
    """How much of a transition is done, in [0, 1]."""
    return jnp.clip(jnp.asarray(count) - begin, 0, steps).astype(float) / steps


def linear_between(start: Any, end: Any, done: Any) -> Any:
    """start at done = 0, end at done = 1."""
    return (end - start) * done + start


def cosine_between(start: Any, end: Any, done: Any, exponent: Any = 1.0) -> Any:
    """Half a period of a cosine, to a power: start at done = 0, end at done = 1, flat at both."""
    return end + (start - end) * (0.5 * (1 + jnp.cos(math.pi * done))) ** exponent


def constant_schedule(value: float) -> Schedule:
    """Always `value`."""
    return lambda count: jnp.asarray(value, float)


def polynomial_schedule(
    init_value: float, end_value: float, power: float, transition_steps: int, transition_begin: int = 0
) -> Schedule:
    """end + (init - end) * (1 - t)**power, where t goes from 0 to 1 in `transition_steps` after `transition_begin`.

    Raises:
        ValueError: transition_steps is below 1, or transition_begin or power negative.
    """
    name = "polynomial_schedule"
    check_number(name, "transition_steps", transition_steps, 1)
    check_number(name, "transition_begin", transition_begin)
    check_number(name, "power", power)

    def schedule(count: Any) -> Any:
        return (init_value - end_value) * (1 - progress(count, transition_begin, transition_steps)) ** power + end_value

    return schedule


def linear_schedule(init_value: float, end_value: float, transition_steps: int, transition_begin: int = 0) -> Schedule:
    """From `init_value` to `end_value` in `transition_steps` after `transition_begin`, on a line."""
    return polynomial_schedule(init_value, end_value, 1, transition_steps, transition_begin)


def exponential_decay(
    init_value: float,
    transition_steps: int,
    decay_rate: float,
    transition_begin: int = 0,
    staircase: bool = False,
    end_value: float | None = None,
) -> Schedule:
    """init * decay_rate**((count - transition_begin) / transition_steps).

    Arguments:
        init_value: the value up to `transition_begin`.
        transition_steps: in so many steps the value is multiplied by `decay_rate` once.
        decay_rate: positive; above 1 the value grows.
        transition_begin: where it begins.
        staircase: only whole powers: steps in place of a curve.
        end_value: where to stop: a lower bound, or an upper one for a value that grows.

    Raises:
        ValueError: transition_steps is below 1, transition_begin negative, or decay_rate not positive.
    """
    name = "exponential_decay"
    check_number(name, "transition_steps", transition_steps, 1)
    check_number(name, "transition_begin", transition_begin)
    if isinstance(decay_rate, (int, float)) and not decay_rate > 0:
        raise ValueError(f"{name}: decay_rate must be positive, got {decay_rate!r}")

    def schedule(count: Any) -> Any:
        power = jnp.maximum(jnp.asarray(count) - transition_begin, 0).astype(float) / transition_steps
        value = init_value * decay_rate ** (jnp.floor(power) if staircase else power)
        if end_value is None:
            return value
        return jnp.where(jnp.asarray(decay_rate) < 1, jnp.maximum(value, end_value), jnp.minimum(value, end_value))

    return schedule


def cosine_decay_schedule(init_value: float, decay_steps: int, alpha: float = 0.0, exponent: float = 1.0) -> Schedule:
    """init * ((1 - alpha) * (½ (1 + cos(π t)))**exponent + alpha), where t goes from 0 to 1 in `decay_steps`.

    Source: I. Loshchilov, F. Hutter, SGDR, 2017.

    Raises:
        ValueError: decay_steps is below 1, or exponent negative.
    """
    check_number("cosine_decay_schedule", "decay_steps", decay_steps, 1)
    check_number("cosine_decay_schedule", "exponent", exponent)
    return lambda count: cosine_between(init_value, init_value * alpha, progress(count, 0, decay_steps), exponent)
