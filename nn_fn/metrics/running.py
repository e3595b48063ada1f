"""Running statistics of numbers: mean, standard deviation, least and greatest value, exponential moving average."""

from __future__ import annotations

from typing import Any, NamedTuple

import asgfn.numpy as jnp
from asgfn.errors import ShapeError
from asgfn.tracing import Array
from nn_fn.metrics import moments, sums
from nn_fn.metrics.inputs import real, weights_of
from nn_fn.metrics.means import mean_metric
from nn_fn.metrics.metric import Metric
from nn_fn.metrics.moments import Moments


def running_mean() -> Metric:
    """Mean of all values. `update(state, values, mask=None)` takes values of any shape."""
    return mean_metric("mean", lambda values: real("running_mean", "values", values), None)


def running_std(ddof: float = 0) -> Metric:
    """Standard deviation of all values: the root of Σ w (x - mean)² / (Σ w - ddof).

    `update(state, values, mask=None)` takes values of any shape. Variances are merged without cancellation.

    Arguments:
        ddof: 0 for that of a population, 1 for that of a sample.

    nan while Σ w ≤ ddof.
    """

    def update(state: Moments, values: Any, mask: Any = None) -> Moments:
        values = real("running_std", "values", values)
        weights = weights_of("running_std", mask, values.shape)
        return moments.merge(state, moments.of_batch(values, weights, tuple(range(values.ndim))))

    def compute(state: Moments) -> Array:
        rest = sums.value(state.weight) - ddof
        enough = (rest > 0) & (sums.value(state.weight) > 0)
        return jnp.where(enough, jnp.sqrt(sums.value(state.squares) / jnp.where(enough, rest, 1)), jnp.nan)

    return Metric("std", moments.zero, update, moments.merge, compute)


class MinMaxState(NamedTuple):
    """The least value so far (inf without data) and the greatest (-inf without data)."""

    min: Array
    max: Array
    number: sums.Sum


def running_min_max() -> Metric:
    """The least and the greatest value, as a dict of "min" and "max"; both nan without data, or if a value is nan.

    `update(state, values, mask=None)` takes values of any shape; what has a weight of 0 is left out.
    """

    def update(state: MinMaxState, values: Any, mask: Any = None) -> MinMaxState:
        values = real("running_min_max", "values", values)
        taken = weights_of("running_min_max", mask, values.shape) != 0
        return merge(
            state,
            MinMaxState(
                jnp.min(jnp.where(taken, values, jnp.inf), initial=jnp.inf),
                jnp.max(jnp.where(taken, values, -jnp.inf), initial=-jnp.inf),
                sums.exactly(jnp.sum(taken)),
            ),
        )

    def merge(a: MinMaxState, b: MinMaxState) -> MinMaxState:
        return MinMaxState(jnp.minimum(a.min, b.min), jnp.maximum(a.max, b.max), sums.add(a.number, b.number))

    def compute(state: MinMaxState) -> dict[str, Array]:
        none = sums.value(state.number) == 0
        return {"min": jnp.where(none, jnp.nan, state.min), "max": jnp.where(none, jnp.nan, state.max)}

    return Metric(
        name="min_max",
        init=lambda: MinMaxState(
            jnp.full((), jnp.inf, sums.default_float()), jnp.full((), -jnp.inf, sums.default_float()), sums.zero()
        ),
        update=update,
        merge=merge,
        compute=compute,
    )


class EmaState(NamedTuple):
    """The average, and whether there was a value."""

    average: Array
    started: Array


def ema(alpha: float) -> Metric:
    """Exponential moving average: the first value, then average + alpha (value - average).

    `update(state, value, mask=None)` takes one number; with a mask that is False or 0 it is left out.

    An average of this kind depends on the order of values, and two of them do not say what that of both would have been:
    `merge` raises. (For distributed evaluation, take `running_mean`.)

    Arguments:
        alpha: the weight of the newest value, 0 < alpha ≤ 1.

    Raises:
        ValueError: alpha is out of range, or (merge) always.
        ShapeError (update): the value is not one number.
    """
    if not 0 < alpha <= 1:
        raise ValueError(f"ema: alpha must be above 0 and at most 1, got {alpha!r}")

    def update(state: EmaState, value: Any, mask: Any = None) -> EmaState:
        value = real("ema", "value", value)
        if value.shape != ():
            raise ShapeError(
                f"ema: value must be one number, got {value.aval}; give a mean, or update for each in order"
            )
        taken = weights_of("ema", mask, ()) != 0
        moved = jnp.where(state.started, state.average + alpha * (value - state.average), value)
        return EmaState(jnp.where(taken, moved, state.average), state.started | taken)

    def merge(a: EmaState, b: EmaState) -> EmaState:
        raise ValueError(
            "ema: exponential moving averages cannot be merged, because they depend on the order of values; "
            "update one state with all values in order, or use running_mean"
        )

    return Metric(
        name="ema",
        init=lambda: EmaState(jnp.zeros(()), jnp.zeros((), bool)),
        update=update,
        merge=merge,
        compute=lambda state: jnp.where(state.started, state.average, jnp.nan),
    )


def ema_from_span(span: float) -> Metric:
    """`ema` with alpha = 2 / (span + 1): the values' mean age is that of a plain mean over `span` values.

    Raises:
        ValueError: span is below 1.
    """
    if not span >= 1:
        raise ValueError(f"ema_from_span: span must be at least 1, got {span!r}")
    return ema(2 / (span + 1))
