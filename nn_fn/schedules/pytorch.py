"""PyTorch's schedulers as functions of their step count (see `per_epoch` for steps that are not epochs).

`init_value` is the learning rate of the optimiser there, the other arguments are those of ``torch.optim.lr_scheduler``.
`ReduceLROnPlateau` is the transformation `nn_fn.optimisers.reduce_on_plateau`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

import asgfn.numpy as jnp
from nn_fn.optimisers.leafwise import check_number
from nn_fn.schedules.curves import Schedule, cosine_between, linear_between, polynomial_schedule, progress

_LONGEST = np.iinfo(np.int32).max


def _reached(count: Any, places: np.ndarray) -> Any:
    """How many of the places are at or before the count: int32."""
    return jnp.sum(jnp.asarray(count)[..., None] >= places, axis=-1, dtype=jnp.int32)


def step_lr(init_value: float, step_size: int, gamma: float = 0.1) -> Schedule:
    """`init_value`, multiplied by `gamma` every `step_size` counts.

    Raises:
        ValueError: step_size is below 1, or gamma negative.
    """
    check_number("step_lr", "step_size", step_size, 1)
    check_number("step_lr", "gamma", gamma)
    return lambda count: init_value * gamma ** (jnp.maximum(jnp.asarray(count), 0) // step_size).astype(float)


def multi_step_lr(init_value: float, milestones: Iterable[int], gamma: float = 0.1) -> Schedule:
    """`init_value`, multiplied by `gamma` at each milestone.

    Raises:
        ValueError: a milestone or gamma is negative.
    """
    milestones = sorted(milestones)
    check_number("multi_step_lr", "gamma", gamma)
    for milestone in milestones:
        check_number("multi_step_lr", "a milestone", milestone)
    places = np.asarray(milestones, np.float64)
    return lambda count: init_value * gamma ** _reached(count, places)


def exponential_lr(init_value: float, gamma: float) -> Schedule:
    """init * gamma**count.

    Raises:
        ValueError: gamma is negative.
    """
    check_number("exponential_lr", "gamma", gamma)
    return lambda count: init_value * gamma ** jnp.maximum(jnp.asarray(count), 0).astype(float)


def constant_lr(init_value: float, factor: float = 1 / 3, total_iters: int = 5) -> Schedule:
    """init * factor before count `total_iters`, then init.

    Raises:
        ValueError: factor is not in [0, 1], or total_iters negative.
    """
    check_number("constant_lr", "factor", factor, most=1)
    check_number("constant_lr", "total_iters", total_iters)
    return lambda count: init_value * jnp.where(jnp.asarray(count) < total_iters, factor, 1.0)


def linear_lr(
    init_value: float, start_factor: float = 1 / 3, end_factor: float = 1.0, total_iters: int = 5
) -> Schedule:
    """init times a factor that goes from `start_factor` to `end_factor` in `total_iters` counts.

    Raises:
        ValueError: a factor is not in [0, 1], or total_iters below 1.
    """
    check_number("linear_lr", "start_factor", start_factor, most=1)
    check_number("linear_lr", "end_factor", end_factor, most=1)
    check_number("linear_lr", "total_iters", total_iters, 1)
    return lambda count: init_value * linear_between(start_factor, end_factor, progress(count, 0, total_iters))


def polynomial_lr(init_value: float, total_iters: int = 5, power: float = 1.0) -> Schedule:
    """init * (1 - count / total_iters)**power, and 0 from count `total_iters` on.

    Raises:
        ValueError: total_iters is below 1, or power negative.
    """
    check_number("polynomial_lr", "total_iters", total_iters, 1)
    return polynomial_schedule(init_value, 0.0, power, total_iters)


def cosine_annealing_lr(init_value: float, T_max: int, eta_min: float = 0.0) -> Schedule:
    """eta_min + ½ (init - eta_min) (1 + cos(π count / T_max)), and `eta_min` from count `T_max` on.

    PyTorch's rises again after `T_max`; to have that, use `cosine_annealing_warm_restarts` or `sgdr_schedule`. Source:
    I. Loshchilov, F. Hutter, SGDR, 2017.

    Raises:
        ValueError: T_max is below 1.
    """
    check_number("cosine_annealing_lr", "T_max", T_max, 1)
    return lambda count: cosine_between(init_value, eta_min, progress(count, 0, T_max))


def cosine_annealing_warm_restarts(init_value: float, T_0: int, T_mult: int = 1, eta_min: float = 0.0) -> Schedule:
    """Half a cosine from `init_value` down to `eta_min`, again and again.

    Arguments:
        T_0: the length of the first cycle.
        T_mult: each cycle is so many times as long as the one before.

    Raises:
        ValueError: T_0 or T_mult is below 1, or not whole.
    """
    name = "cosine_annealing_warm_restarts"
    for what, value in (("T_0", T_0), ("T_mult", T_mult)):
        check_number(name, what, value, 1)
        if value != int(value):
            raise ValueError(f"{name}: {what} must be a whole number, got {value!r}")
    if T_mult == 1:
        return lambda count: cosine_between(
            init_value, eta_min, (jnp.maximum(jnp.asarray(count), 0) % T_0).astype(float) / T_0
        )
    starts = [0]
    lengths = [int(T_0)]
    while starts[-1] + lengths[-1] <= _LONGEST:
        starts.append(starts[-1] + lengths[-1])
        lengths.append(lengths[-1] * int(T_mult))
    # a table, and not a logarithm, which would be wrong by rounding where a cycle begins
    first, length = np.asarray(starts, np.int32), np.asarray(lengths, np.float64)

    def schedule(count: Any) -> Any:
        count = jnp.maximum(jnp.asarray(count), 0)
        cycle = _reached(count, first) - 1
        done = (count - jnp.asarray(first)[cycle]).astype(float) / jnp.asarray(length, float)[cycle]
        return cosine_between(init_value, eta_min, done)

    return schedule


def one_cycle_lr(
    max_lr: float,
    total_steps: int,
    pct_start: float = 0.3,
    anneal_strategy: str = "cos",
    div_factor: float = 25.0,
    final_div_factor: float = 1e4,
    three_phase: bool = False,
) -> Schedule:
    """Up to `max_lr` and down to nearly nothing at count total_steps - 1, where it stays.

    Source: L. Smith, N. Topin, Super-convergence, 2018.

    Arguments:
        max_lr: the peak.
        total_steps: the number of values: counts 0 to total_steps - 1.
        pct_start: the fraction of the steps until the peak.
        anneal_strategy: "cos" or "linear".
        div_factor: it begins at max_lr / div_factor.
        final_div_factor: it ends at max_lr / (div_factor * final_div_factor).
        three_phase: first down to the beginning, as fast as up, and then further, in place of all the way at once.

    Raises:
        ValueError: total_steps is below 1, pct_start not in [0, 1], or the strategy another.
    """
    name = "one_cycle_lr"
    check_number(name, "total_steps", total_steps, 1)
    check_number(name, "pct_start", pct_start, most=1)
    if anneal_strategy not in ("cos", "linear"):
        raise ValueError(f'{name}: anneal_strategy must be "cos" or "linear", got {anneal_strategy!r}')
    between = cosine_between if anneal_strategy == "cos" else linear_between
    initial = max_lr / div_factor
    values = [initial, max_lr, initial, initial / final_div_factor] if three_phase else [initial, max_lr]
    ends = [pct_start * total_steps - 1, total_steps - 1.0]
    if three_phase:
        ends.insert(1, 2 * pct_start * total_steps - 2)
    else:
        values.append(initial / final_div_factor)

    def schedule(count: Any) -> Any:
        count = jnp.clip(jnp.asarray(count), 0, total_steps - 1).astype(float)
        starts = [0.0, *ends[:-1]]
        phases = list(zip(starts, ends, values, values[1:], strict=False))
        value = None
        for start, end, low, high in reversed(phases):
            done = jnp.clip((count - start) / max(end - start, 1e-9), 0, 1)
            inside = between(low, high, done)
            value = inside if value is None else jnp.where(count <= end, inside, value)
        return value

    return schedule
