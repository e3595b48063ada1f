"""What a metric is: four pure functions over a state that can be merged.

    metric = accuracy()
    state = metric.init()
    for scores, targets in batches:
        state = update(state, scores, targets)      # update = asgfn.jit(metric.update)
    metric.compute(state)

A state is a pytree of arrays. `merge` joins the states of two parts of the data, however they were split, which is what
evaluation on several devices or processes needs.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

Better = Literal["max", "min"] | None


@dataclass(frozen=True)
class Metric:
    """A measure of predictions, as pure functions.

    Every function works under `jit`, unless a metric says otherwise. A metric of no data at all is nan.

    Attributes:
        name: what it is called in logs; `dataclasses.replace(metric, name=...)` gives it another name.
        init: ``init() -> state``, a pytree of arrays.
        update: ``update(state, ...) -> state``. What follows the state depends on the metric, most often a prediction
            and a target. Most take ``mask=``: booleans or weights, of the examples' shape or of its leading axes; where
            it is False or 0, what the arrays hold does not matter (even nan), so padded batches can be masked.
        merge: ``merge(a, b) -> state``, associative and commutative, up to rounding where the sums are not of whole
            numbers.
        compute: ``compute(state)``, a scalar, an array or a dict of them.
        better: "max" or "min", whichever is better; None if neither is; for a collection, a dict by name.
    """

    name: str
    init: Callable[[], Any]
    update: Callable[..., Any]
    merge: Callable[[Any, Any], Any]
    compute: Callable[[Any], Any]
    better: Better | Mapping[str, Any] = None

    def evaluate(self, *args: Any, **kwargs: Any) -> Any:
        """The metric of one batch: ``compute(update(init(), ...))``."""
        return self.compute(self.update(self.init(), *args, **kwargs))

    def merge_all(self, states: Iterable[Any]) -> Any:
        """The state of all parts together; of none, the empty state."""
        states = list(states)
        return functools.reduce(self.merge, states) if states else self.init()

    def __repr__(self) -> str:
        return f"Metric({self.name!r}, better={self.better!r})"


def collection(**metrics: Metric) -> Metric:
    """Several metrics of the same data, as one metric whose state and result are dicts.

    `update` passes what it gets to each of them. Collections nest.

        evaluation = collection(accuracy=accuracy(), top5=top_k_accuracy(5), loss=log_loss(from_logits=True))

    Raises:
        ValueError: no metric is given.
        TypeError: something given is not a Metric.
    """
    if not metrics:
        raise ValueError("collection: at least one metric must be given, as in collection(accuracy=accuracy())")
    for name, metric in metrics.items():
        if not isinstance(metric, Metric):
            raise TypeError(
                f"collection: {name} must be a Metric, got {metric!r}"
                + (
                    f"; call it: {name}={metric.__name__}(...)"
                    if callable(metric) and hasattr(metric, "__name__")
                    else ""
                )
            )

    def update(state: Any, *args: Any, **kwargs: Any) -> dict[str, Any]:
        return {name: metric.update(state[name], *args, **kwargs) for name, metric in metrics.items()}

    return Metric(
        name="collection",
        init=lambda: {name: metric.init() for name, metric in metrics.items()},
        update=update,
        merge=lambda a, b: {name: metric.merge(a[name], b[name]) for name, metric in metrics.items()},
        compute=lambda state: {name: metric.compute(state[name]) for name, metric in metrics.items()},
        better={name: metric.better for name, metric in metrics.items()},
    )
