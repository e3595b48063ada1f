"""Schedules for whole runs: warm-up and then decay, one cycle, restarts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from nn_fn.optimisers.leafwise import check_number
from nn_fn.schedules.curves import (
    Schedule,
    constant_schedule,
    cosine_between,
    exponential_decay,
    linear_schedule,
    progress,
)
from nn_fn.schedules.piecewise import interpolate, join_schedules


def _after_warmup(name: str, init_value: float, peak_value: float, warmup_steps: int, following: Schedule) -> Schedule:
    """Linear from `init_value` to `peak_value`, then another schedule; with 0 steps that one alone."""
    check_number(name, "warmup_steps", warmup_steps)
    if warmup_steps == 0:
        return following
    return join_schedules([linear_schedule(init_value, peak_value, warmup_steps), following], [warmup_steps])


def warmup_constant_schedule(init_value: float, peak_value: float, warmup_steps: int) -> Schedule:
    """Linear from `init_value` to `peak_value` in `warmup_steps`, then constant.

    Raises:
        ValueError: warmup_steps is negative.
    """
    following = constant_schedule(peak_value)
    return _after_warmup("warmup_constant_schedule", init_value, peak_value, warmup_steps, following)


def warmup_cosine_decay_schedule(
    init_value: float,
    peak_value: float,
    warmup_steps: int,
    decay_steps: int,
    end_value: float = 0.0,
    exponent: float = 1.0,
) -> Schedule:
    """Linear from `init_value` to `peak_value` in `warmup_steps`, then half a cosine to `end_value`.

    Arguments:
        decay_steps: the length of the whole schedule, warm-up included.
        exponent: the cosine's, see `cosine_decay_schedule`.

    Raises:
        ValueError: warmup_steps is negative, or decay_steps not greater.
    """
    name = "warmup_cosine_decay_schedule"
    return _warmup_cosine(name, "decay_steps", init_value, peak_value, warmup_steps, decay_steps, end_value, exponent)


def _warmup_cosine(
    name: str, what: str, init: float, peak: float, warmup_steps: int, total: int, end: float, exponent: float
) -> Schedule:
    if not total > warmup_steps:
        raise ValueError(
            f"{name}: {what} counts the warm-up too, so it must be greater than warmup_steps; got {what}={total}, "
            f"warmup_steps={warmup_steps}"
        )
    check_number(name, "exponent", exponent)

    def decay(count: Any) -> Any:
        return cosine_between(peak, end, progress(count, 0, total - warmup_steps), exponent)

    return _after_warmup(name, init, peak, warmup_steps, decay)


def warmup_exponential_decay_schedule(
    init_value: float,
    peak_value: float,
    warmup_steps: int,
    transition_steps: int,
    decay_rate: float,
    transition_begin: int = 0,
    staircase: bool = False,
    end_value: float | None = None,
) -> Schedule:
    """Linear from `init_value` to `peak_value` in `warmup_steps`, then `exponential_decay`, which counts from there."""
    decay = exponential_decay(peak_value, transition_steps, decay_rate, transition_begin, staircase, end_value)
    return _after_warmup("warmup_exponential_decay_schedule", init_value, peak_value, warmup_steps, decay)


def sgdr_schedule(cosine_kwargs: Iterable[Mapping[str, Any]]) -> Schedule:
    """Several `warmup_cosine_decay_schedule`, one after another, from their arguments. Source: I. Loshchilov, F. Hutter,
    SGDR, 2017.
    """
    cycles = [dict(kwargs) for kwargs in cosine_kwargs]
    ends = [0]
    for kwargs in cycles:
        ends.append(ends[-1] + kwargs["decay_steps"])
    return join_schedules([warmup_cosine_decay_schedule(**kwargs) for kwargs in cycles], ends[1:-1])


def _check_cycle(name: str, transition_steps: int, fractions: Mapping[str, float]) -> None:
    check_number(name, "transition_steps", transition_steps, 1)
    for what, value in fractions.items():
        check_number(name, what, value, most=1)


def linear_onecycle_schedule(
    transition_steps: int,
    peak_value: float,
    pct_start: float = 0.3,
    pct_final: float = 0.85,
    div_factor: float = 25.0,
    final_div_factor: float = 1e4,
) -> Schedule:
    """Up to `peak_value`, down again, and further down, on lines.

    Source: L. Smith, N. Topin, Super-convergence, 2018.

    Arguments:
        transition_steps: the length of the cycle.
        pct_start: the fraction of it until the peak.
        pct_final: the fraction until the value is down at where it began.
        div_factor: it begins at peak_value / div_factor.
        final_div_factor: it ends at peak_value / (div_factor * final_div_factor).
    """
    name = "linear_onecycle_schedule"
    _check_cycle(name, transition_steps, {"pct_start": pct_start, "pct_final": pct_final})
    if pct_final < pct_start:
        raise ValueError(f"{name}: pct_final must not be less than pct_start, got {pct_final!r} and {pct_start!r}")
    return interpolate(
        name,
        "linear",
        peak_value / div_factor,
        [
            (int(pct_start * transition_steps), div_factor),
            (int(pct_final * transition_steps), 1.0 / div_factor),
            (transition_steps, 1.0 / final_div_factor),
        ],
    )


def cosine_onecycle_schedule(
    transition_steps: int,
    peak_value: float,
    pct_start: float = 0.3,
    div_factor: float = 25.0,
    final_div_factor: float = 1e4,
) -> Schedule:
    """Up to `peak_value` and down, on half cosines. Arguments as for `linear_onecycle_schedule`."""
    name = "cosine_onecycle_schedule"
    _check_cycle(name, transition_steps, {"pct_start": pct_start})
    return interpolate(
        name,
        "cosine",
        peak_value / div_factor,
        [
            (int(pct_start * transition_steps), div_factor),
            (int(transition_steps), 1.0 / (div_factor * final_div_factor)),
        ],
    )


def linear_warmup(peak_value: float, warmup_steps: int, init_value: float = 0.0) -> Schedule:
    """`warmup_constant_schedule` with its arguments in another order: from 0 unless `init_value` is given."""
    return warmup_constant_schedule(init_value, peak_value, warmup_steps)


def warmup_cosine(
    peak_value: float, warmup_steps: int, total_steps: int, end_value: float = 0.0, init_value: float = 0.0
) -> Schedule:
    """`warmup_cosine_decay_schedule` with its arguments in another order.

    Raises:
        ValueError: warmup_steps is negative, or total_steps not greater.
    """
    return _warmup_cosine(
        "warmup_cosine", "total_steps", init_value, peak_value, warmup_steps, total_steps, end_value, 1
    )
