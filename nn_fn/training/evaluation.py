"""Metrics of a model over a data set."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import asgfn
from nn_fn.layers.layer import Layer
from nn_fn.metrics import Metric


def evaluator(
    model: Layer, metric: Metric, batches: Iterable[Any], *, backend: str | None = None
) -> Callable[[Any, Any], Any]:
    """A function ``evaluate(params, model_state) -> metrics`` that goes through batches ``(x, target)``.

    Arguments:
        metric: a `Metric` of prediction and target; most often a `metrics.collection`, whose result is a dict.
        batches: gives its batches anew each time (a `DataLoader`, a list). One whole pass is made a call.
        backend: where it runs; see `asgfn.jit`.
    """

    @asgfn.jit(backend=backend)
    def update(state: Any, params: Any, model_state: Any, x: Any, target: Any) -> Any:
        prediction, _ = model(params, model_state, x)
        return metric.update(state, prediction, target)

    def evaluate(params: Any, model_state: Any) -> Any:
        state = metric.init()
        for x, target in batches:
            state = update(state, params, model_state, x, target)
        return metric.compute(state)

    return evaluate
