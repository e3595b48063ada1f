"""Metrics that are a weighted mean over examples, which most are."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import asgfn.numpy as jnp
from asgfn.tracing import Array
from nn_fn.metrics import sums
from nn_fn.metrics.inputs import weights_of
from nn_fn.metrics.metric import Better, Metric
from nn_fn.metrics.sums import Sum


class MeanState(NamedTuple):
    """The sums of weighted values and of weights."""

    total: Sum
    weight: Sum


def mean_of(state: MeanState) -> Array:
    """total / weight; nan without data."""
    weight = sums.value(state.weight)
    return jnp.where(weight == 0, jnp.nan, sums.value(state.total) / jnp.where(weight == 0, 1, weight))


def mean_metric(
    name: str,
    values: Callable[..., Array],
    better: Better,
    shape: tuple[int, ...] = (),
    finish: Callable[[Array], Any] = lambda mean: mean,
    check: Callable[..., None] | None = None,
) -> Metric:
    """The weighted mean of a value that each example has.

    Arguments:
        values: ``values(*inputs) -> Array``: the examples' values, [..., *shape]; anything where they are masked.
        shape: the axes of a value; the mean is over the axes before them.
        finish: what is done to the mean.
        check: ``check(weights, *inputs)`` raises if inputs of examples that count are wrong.
    """

    def update(state: MeanState, *inputs: Any, mask: Any = None) -> MeanState:
        found = values(*inputs)
        leading = found.shape[: found.ndim - len(shape)]
        weights = weights_of(name, mask, leading)
        if check is not None:
            check(weights, *inputs)
        axes = tuple(range(len(leading)))
        spread = jnp.broadcast_to(weights.reshape(leading + (1,) * len(shape)), found.shape)
        return MeanState(
            sums.add(state.total, sums.batch_sum(found, spread, axes)),
            sums.add(state.weight, sums.batch_sum(jnp.ones(leading, bool), weights)),
        )

    return Metric(
        name=name,
        init=lambda: MeanState(sums.zero(shape), sums.zero()),
        update=update,
        merge=lambda a, b: MeanState(sums.add(a.total, b.total), sums.add(a.weight, b.weight)),
        compute=lambda state: finish(mean_of(state)),
        better=better,
    )
