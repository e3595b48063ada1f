"""Schedules made of pieces."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import asgfn.numpy as jnp
from nn_fn.optimisers.leafwise import check_number
from nn_fn.schedules.curves import Schedule, cosine_between, linear_between, progress


def join_schedules(schedules: Sequence[Schedule], boundaries: Sequence[int]) -> Schedule:
    """One schedule after another: each counts from 0 at the boundary where it begins.

    Raises:
        ValueError: there is not one boundary fewer than schedules, or boundaries are negative or descend.
    """
    schedules, boundaries = list(schedules), list(boundaries)
    if not schedules or len(boundaries) != len(schedules) - 1:
        raise ValueError(
            f"join_schedules: {len(schedules)} schedules need {max(len(schedules) - 1, 0)} boundaries between them, got "
            f"{len(boundaries)}"
        )
    _check_boundaries("join_schedules", boundaries)

    def schedule(count: Any) -> Any:
        count = jnp.asarray(count)
        value = jnp.asarray(schedules[0](count), float)
        for boundary, following in zip(boundaries, schedules[1:], strict=True):
            value = jnp.where(count < boundary, value, following(jnp.maximum(count - boundary, 0)))
        return value

    return schedule


def per_epoch(schedule: Schedule, steps_per_epoch: int) -> Schedule:
    """A schedule of epochs as one of steps: ``schedule(count // steps_per_epoch)``."""
    check_number("per_epoch", "steps_per_epoch", steps_per_epoch, 1)
    return lambda count: schedule(jnp.asarray(count) // steps_per_epoch)


def _check_boundaries(name: str, boundaries: Sequence[int]) -> None:
    for boundary in boundaries:
        check_number(name, "a boundary", boundary)
    if any(a > b for a, b in itertools.pairwise(boundaries)):
        raise ValueError(f"{name}: boundaries must ascend, got {boundaries}")


def _sorted_scales(name: str, boundaries_and_scales: Mapping[int, float] | None) -> list[tuple[int, float]]:
    pairs = sorted((boundaries_and_scales or {}).items())
    _check_boundaries(name, [boundary for boundary, _ in pairs])
    for boundary, scale in pairs:
        check_number(name, f"the scale at {boundary}", scale)
    return pairs


def piecewise_constant_schedule(
    init_value: float, boundaries_and_scales: Mapping[int, float] | None = None
) -> Schedule:
    """`init_value`, multiplied by a scale from each boundary on: ``{100: 0.1}`` is a tenth from count 100 on.

    Raises:
        ValueError: a boundary or a scale is negative.
    """
    pairs = _sorted_scales("piecewise_constant_schedule", boundaries_and_scales)

    def schedule(count: Any) -> Any:
        value = jnp.asarray(init_value, float)
        for boundary, scale in pairs:
            value = value * jnp.where(jnp.asarray(count) < boundary, 1, scale)
        return value

    return schedule


def piecewise_interpolate_schedule(
    interpolate_type: str, init_value: float, boundaries_and_scales: Mapping[int, float] | None = None
) -> Schedule:
    """Interpolates between `init_value` at 0 and its products with the scales so far, at the boundaries.

    Arguments:
        interpolate_type: "linear" or "cosine".
        init_value: the value at 0.
        boundaries_and_scales: scales by count.

    Raises:
        ValueError: the type is another, or a boundary or a scale is negative.
    """
    name = "piecewise_interpolate_schedule"
    return interpolate(name, interpolate_type, init_value, _sorted_scales(name, boundaries_and_scales))


def interpolate(name: str, kind: str, init_value: float, pairs: Iterable[tuple[int, float]]) -> Schedule:
    """`piecewise_interpolate_schedule` of ascending boundaries with scales; those that are equal make a jump."""
    between = {"linear": linear_between, "cosine": cosine_between}.get(kind)
    if between is None:
        raise ValueError(f'{name}: interpolate_type must be "linear" or "cosine", got {kind!r}')

    def schedule(count: Any) -> Any:
        count = jnp.asarray(count)
        begin, start = 0, init_value
        value = jnp.asarray(init_value, float)
        for boundary, scale in pairs:
            end = start * scale
            inside = between(start, end, progress(count, begin, max(boundary - begin, 1)))
            value = jnp.where(count < begin, value, inside)
            begin, start = boundary, end
        return jnp.where(count < begin, value, start)

    return schedule
