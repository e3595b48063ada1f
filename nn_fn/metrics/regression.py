"""Metrics of regression.

All take `update(state, prediction, target, mask=None)` with prediction and target of one shape. With ``outputs=None`` every
element is an example of its own. With ``outputs=n`` the arrays are [..., n], the mask has the shape of the axes before, and
`multioutput` says what happens to the n values: "uniform_average" (their mean) or "raw_values" (an array [n]).

Squares are taken in float32 (float64 when `enable_x64` is on): errors above 1e19 give inf.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import asgfn.numpy as jnp
from asgfn.errors import ShapeError
from asgfn.tracing import Array
from nn_fn.metrics import moments, sums
from nn_fn.metrics.inputs import positive_int, same_shape, weights_of
from nn_fn.metrics.means import mean_metric
from nn_fn.metrics.metric import Metric
from nn_fn.metrics.moments import Moments
from nn_fn.metrics.sums import Sum

MultiOutput = Literal["uniform_average", "raw_values"]


def mse(outputs: int | None = None, multioutput: MultiOutput = "uniform_average") -> Metric:
    """Mean squared error. See the module's text for inputs and arguments."""
    return _mean_of_errors("mse", lambda p, t: (p - t) ** 2, outputs, multioutput)


def rmse(outputs: int | None = None, multioutput: MultiOutput = "uniform_average") -> Metric:
    """Root of the mean squared error; with several outputs, "uniform_average" is the mean of their roots."""
    return _mean_of_errors("rmse", lambda p, t: (p - t) ** 2, outputs, multioutput, jnp.sqrt)


def mae(outputs: int | None = None, multioutput: MultiOutput = "uniform_average") -> Metric:
    """Mean absolute error. See the module's text for inputs and arguments."""
    return _mean_of_errors("mae", lambda p, t: jnp.abs(p - t), outputs, multioutput)


def mape(
    outputs: int | None = None,
    multioutput: MultiOutput = "uniform_average",
    *,
    eps: float = 2.0**-52,
    percent: bool = False,
) -> Metric:
    """Mean absolute percentage error: the mean of |prediction - target| / max(|target|, eps), as scikit-learn defines it.

    It is a fraction (0.1 is 10 %), not a percentage. Where targets are 0 it is huge.

    Arguments:
        eps: the smallest divisor; by default that of float64, whatever the dtype.
        percent: multiply by 100.
    """
    factor = 100.0 if percent else 1.0

    def error(p: Array, t: Array) -> Array:
        return jnp.abs(p - t) / jnp.maximum(jnp.abs(t), eps)

    return _mean_of_errors("mape", error, outputs, multioutput, lambda mean: mean * factor)


def mean_squared_log_error(outputs: int | None = None, multioutput: MultiOutput = "uniform_average") -> Metric:
    """Mean of (log(1 + prediction) - log(1 + target))²; nan if a value is below -1. See the module's text for the rest."""

    def error(p: Array, t: Array) -> Array:
        # the logarithm of the ratio, because a difference of two logarithms cancels where the values are close
        lower = jnp.minimum(p, t)
        apart = jnp.where(p == t, 0, jnp.log1p(jnp.abs(p - t) / (1 + lower)))
        return jnp.where(lower < -1, jnp.nan, apart**2)

    return _mean_of_errors("mean_squared_log_error", error, outputs, multioutput)


class MaxState(NamedTuple):
    """The greatest value so far, -inf without data."""

    greatest: Array


def max_error() -> Metric:
    """Greatest absolute error, over all elements; where the mask is not 0, weights make no difference."""

    def update(state: MaxState, prediction: Any, target: Any, mask: Any = None) -> MaxState:
        prediction, target = same_shape("max_error", prediction, target)
        taken = weights_of("max_error", mask, target.shape) != 0
        errors = jnp.where(taken, jnp.abs(prediction - target), -jnp.inf)
        return MaxState(jnp.maximum(state.greatest, jnp.max(errors, initial=-jnp.inf)))

    return Metric(
        name="max_error",
        init=lambda: MaxState(jnp.full((), -jnp.inf, sums.default_float())),
        update=update,
        merge=lambda a, b: MaxState(jnp.maximum(a.greatest, b.greatest)),
        compute=lambda state: jnp.where(state.greatest == -jnp.inf, jnp.nan, state.greatest),
        better="min",
    )


class VarianceState(NamedTuple):
    """Moments of targets and of errors, and how many examples have a weight."""

    target: Moments
    error: Moments
    number: Sum


def r2(
    outputs: int | None = None,
    multioutput: MultiOutput | Literal["variance_weighted"] = "uniform_average",
    *,
    force_finite: bool = True,
) -> Metric:
    """Coefficient of determination R²: 1 - Σ(target - prediction)² / Σ(target - mean target)².

    It streams: the state is a mean and a sum of squares of targets and of errors, merged without cancellation.

    Arguments:
        multioutput: see the module's text; "variance_weighted" weighs outputs by their targets' sums of squares.
        force_finite: for targets that are all equal, 1 if predictions are perfect, else 0; otherwise nan and -inf. As in
            scikit-learn.

    nan with fewer than two examples (masked ones aside).
    """

    def residual(error: Moments) -> Array:
        # Σe² = Σ(e - mean)² + n mean²: both terms are positive, so nothing cancels
        mean = sums.value(error.mean)
        return sums.value(error.squares) + mean * (mean * sums.value(error.weight))

    return _one_minus_ratio("r2", residual, outputs, multioutput, force_finite, least=2)


def explained_variance(
    outputs: int | None = None,
    multioutput: MultiOutput | Literal["variance_weighted"] = "uniform_average",
    *,
    force_finite: bool = True,
) -> Metric:
    """Share of the targets' variance that is explained: 1 - var(target - prediction) / var(target).

    Arguments as for `r2`; unlike there, a constant error costs nothing, and one example is enough.
    """
    return _one_minus_ratio(
        "explained_variance", lambda error: sums.value(error.squares), outputs, multioutput, force_finite, least=1
    )


# ----------------------------------------------------------------------------------------------------------- parts


def _outputs(name: str, outputs: int | None, multioutput: str, allowed: tuple[str, ...]) -> tuple[int, ...]:
    """The shape of one example."""
    if multioutput not in allowed:
        raise ValueError(f"{name}: multioutput must be one of {', '.join(map(repr, allowed))}, got {multioutput!r}")
    if outputs is None:
        if multioutput != "uniform_average":
            raise ValueError(f"{name}: multioutput={multioutput!r} needs the number of outputs: {name}(outputs=n)")
        return ()
    return (positive_int(name, "outputs", outputs),)


def _pair(name: str, prediction: Any, target: Any, shape: tuple[int, ...]) -> tuple[Array, Array]:
    prediction, target = same_shape(name, prediction, target)
    if shape and (target.ndim == 0 or target.shape[-1:] != shape):
        raise ShapeError(
            f"{name}: with outputs={shape[0]}, prediction and target must be [..., {shape[0]}], got {target.aval}"
        )
    return prediction, target


def _mean_of_errors(
    name: str,
    error: Callable[[Array, Array], Array],
    outputs: int | None,
    multioutput: str,
    finish: Callable[[Array], Array] = lambda mean: mean,
) -> Metric:
    shape = _outputs(name, outputs, multioutput, ("uniform_average", "raw_values"))

    def result(mean: Array) -> Array:
        mean = finish(mean)
        return mean if multioutput == "raw_values" else jnp.mean(mean)

    return mean_metric(name, lambda p, t: error(*_pair(name, p, t, shape)), "min", shape, result)


def _one_minus_ratio(
    name: str,
    residual: Callable[[Moments], Array],
    outputs: int | None,
    multioutput: str,
    force_finite: bool,
    least: int,
) -> Metric:
    """1 - residual / spread of the targets; `least` is how many examples it takes."""
    shape = _outputs(name, outputs, multioutput, ("uniform_average", "raw_values", "variance_weighted"))

    def update(state: VarianceState, prediction: Any, target: Any, mask: Any = None) -> VarianceState:
        prediction, target = _pair(name, prediction, target, shape)
        leading = target.shape[: target.ndim - len(shape)]
        weights = weights_of(name, mask, leading)
        axes = tuple(range(len(leading)))
        spread = jnp.broadcast_to(weights.reshape(leading + (1,) * len(shape)), target.shape)
        return VarianceState(
            moments.merge(state.target, moments.of_batch(target, spread, axes)),
            moments.merge(state.error, moments.of_batch(target - prediction, spread, axes)),
            sums.add(state.number, sums.exactly(jnp.sum(weights != 0))),
        )

    def compute(state: VarianceState) -> Array:
        left, spread = residual(state.error), sums.value(state.target.squares)
        flat = spread == 0
        scores = 1 - left / jnp.where(flat, 1, spread)
        perfect, hopeless = (1.0, 0.0) if force_finite else (jnp.nan, -jnp.inf)
        scores = jnp.where(flat, jnp.where(left == 0, perfect, hopeless), scores)
        if multioutput == "variance_weighted":
            weights = jnp.where(jnp.any(~flat), spread, 1)
            scores = jnp.sum(scores * weights) / jnp.sum(weights)
        elif multioutput == "uniform_average":
            scores = jnp.mean(scores)
        return jnp.where(sums.value(state.number) < least, jnp.nan, scores)

    def merge(a: VarianceState, b: VarianceState) -> VarianceState:
        return VarianceState(
            moments.merge(a.target, b.target), moments.merge(a.error, b.error), sums.add(a.number, b.number)
        )

    return Metric(
        name=name,
        init=lambda: VarianceState(moments.zero(shape), moments.zero(shape), sums.zero()),
        update=update,
        merge=merge,
        compute=compute,
        better="max",
    )
