"""Transformations around a transformation: accumulation of gradients, skipping what is not finite, averages of
parameters.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import asgfn.numpy as jnp
from asgfn import eval_shape, lax, tree
from nn_fn.optimisers.base import GradientTransformation, require_params, with_extra_args
from nn_fn.optimisers.clipping import global_norm
from nn_fn.optimisers.leafwise import check_number, increment, leafwise, moment, scalar, wide, zero_count, zeros


def all_finite(values: Any) -> Any:
    """Whether no leaf has a NaN or an infinity: bool[]. True for a tree without leaves."""
    finite = [jnp.all(jnp.isfinite(x)) for x in tree.leaves(values)]
    return jnp.all(jnp.stack(finite)) if finite else jnp.asarray(True)


def _update_if(
    condition: Any, inner: GradientTransformation, updates: Any, state: Any, params: Any, extra: dict
) -> Any:
    """``(updates, state)`` of an inner transformation; where the condition is false, zeros and the old state.

    What does not happen is not computed.
    """

    def do(operands: tuple) -> tuple[Any, Any]:
        return inner.update(*operands, **extra)

    def skip(operands: tuple) -> tuple[Any, Any]:
        return tree.map(lambda x: jnp.zeros(x.shape, x.dtype), eval_shape(do, operands)[0]), operands[1]

    return lax.cond(condition, do, skip, (updates, state, params))


class ApplyIfFiniteState(NamedTuple):
    """Attributes:
    notfinite_count: int32[], how many of the last updates in sequence had a NaN or an infinity.
    last_finite: bool[], whether the last one had none.
    total_notfinite: int32[], how many had since the beginning.
    inner_state: the state of the inner transformation.
    """

    notfinite_count: Any
    last_finite: Any
    total_notfinite: Any
    inner_state: Any


def apply_if_finite(inner: GradientTransformation, max_consecutive_errors: int) -> GradientTransformation:
    """Skips updates with a NaN or an infinity: parameters and the inner state stay as they are.

    After more than `max_consecutive_errors` such updates in sequence they are applied, so that a run that is lost does
    not look as if it trained.
    """
    check_number("apply_if_finite", "max_consecutive_errors", max_consecutive_errors)
    inner = with_extra_args(inner)

    def init(params: Any) -> ApplyIfFiniteState:
        return ApplyIfFiniteState(zero_count(), jnp.asarray(True), zero_count(), inner.init(params))

    def update(
        updates: Any, state: ApplyIfFiniteState, params: Any = None, **extra: Any
    ) -> tuple[Any, ApplyIfFiniteState]:
        finite = all_finite(updates)
        bad = jnp.where(finite, 0, increment(state.notfinite_count)).astype(jnp.int32)
        total = jnp.where(finite, state.total_notfinite, increment(state.total_notfinite))
        apply = finite | (bad > max_consecutive_errors)
        out, inner_state = _update_if(apply, inner, updates, state.inner_state, params, extra)
        return out, ApplyIfFiniteState(bad, finite, total, inner_state)

    return GradientTransformation(init, update)


class MultiStepsState(NamedTuple):
    """Attributes:
    mini_step: int32[], how many gradients are accumulated at present.
    gradient_step: int32[], how many updates the inner optimiser made.
    inner_opt_state: its state.
    acc_grads: the mean, or the sum, of the accumulated gradients.
    skip_state: what the function said that may skip gradients.
    """

    mini_step: Any
    gradient_step: Any
    inner_opt_state: Any
    acc_grads: Any
    skip_state: Any = ()


def skip_not_finite(updates: Any, gradient_step: Any, params: Any) -> tuple[Any, dict]:
    """For `MultiSteps`: leaves out gradients with a NaN or an infinity."""
    counts = [jnp.sum(~jnp.isfinite(x)) for x in tree.leaves(updates)]
    bad = sum(counts, jnp.zeros((), jnp.int32))
    return bad > 0, {"should_skip": bad > 0, "num_not_finite": bad}


def skip_large_updates(updates: Any, gradient_step: Any, params: Any, max_squared_norm: float) -> tuple[Any, dict]:
    """For `MultiSteps`, with `functools.partial`: leaves out gradients whose squared norm is not below a limit."""
    norm = global_norm(updates)
    skip = ~(norm < jnp.sqrt(max_squared_norm))
    return skip, {"should_skip": skip, "norm_squared": norm * norm}


@dataclass(frozen=True)
class MultiSteps:
    """Gradient accumulation: an optimiser that makes one update out of every k gradients.

    It has `init` and `update` like a `GradientTransformation` (and is turned into one by `gradient_transformation()`).
    In between, updates are zeros and the inner optimiser is not run.

    Attributes:
        opt: the inner optimiser. Its schedules count its own updates.
        every_k_schedule: k, or a function from the number of updates made so far to k.
        use_grad_mean: whether it gets the mean of the k gradients, or their sum.
        should_skip_update_fn: ``(grads, gradient_step, params) -> (bool[], pytree of arrays)``; gradients for which it
            says True are left out and do not count, see `skip_not_finite`. The pytree lands in the state.
        accumulator_dtype: by default the parameters', or float32 if that has less.
    """

    opt: GradientTransformation
    every_k_schedule: int | Callable[[Any], Any]
    use_grad_mean: bool = True
    should_skip_update_fn: Callable[[Any, Any, Any], tuple[Any, Any]] | None = None
    accumulator_dtype: Any = None

    def __post_init__(self) -> None:
        if not callable(self.every_k_schedule):
            check_number("MultiSteps", "every_k_schedule", self.every_k_schedule, 1)

    def init(self, params: Any) -> MultiStepsState:
        count = zero_count()
        skip_state = ()
        if self.should_skip_update_fn is not None:
            _, skip_state = self.should_skip_update_fn(tree.map(jnp.zeros_like, params), count, params)
        acc_grads = zeros(params, self.accumulator_dtype)
        return MultiStepsState(count, count, self.opt.init(params), acc_grads, skip_state)

    def update(
        self, updates: Any, state: MultiStepsState, params: Any = None, **extra: Any
    ) -> tuple[Any, MultiStepsState]:
        k = self.every_k_schedule
        k = k(state.gradient_step) if callable(k) else k
        skip, skip_state = jnp.asarray(False), state.skip_state
        if self.should_skip_update_fn is not None:
            skip, skip_state = self.should_skip_update_fn(updates, state.gradient_step, params)

        def accumulate(g: Any, a: Any) -> Any:
            new = a + (g - a) / scalar(state.mini_step + 1, a) if self.use_grad_mean else a + g
            return jnp.where(skip, a, new).astype(a.dtype)

        acc = leafwise("MultiSteps", accumulate, updates, accumulator=state.acc_grads)
        emit = ~skip & (state.mini_step + 1 >= k)
        ready = tree.map(lambda a, g: a.astype(wide(jnp.asarray(g)).dtype), acc, updates)
        inner = with_extra_args(self.opt)
        out, inner_state = _update_if(emit, inner, ready, state.inner_opt_state, params, extra)
        return out, MultiStepsState(
            mini_step=jnp.where(emit, 0, jnp.where(skip, state.mini_step, state.mini_step + 1)).astype(jnp.int32),
            gradient_step=jnp.where(emit, increment(state.gradient_step), state.gradient_step),
            inner_opt_state=inner_state,
            acc_grads=tree.map(lambda a: jnp.where(emit, 0, a).astype(a.dtype), acc),
            skip_state=skip_state,
        )

    def has_updated(self, state: MultiStepsState) -> Any:
        """Whether the last update changed the parameters: bool[]."""
        return (state.mini_step == 0) & (state.gradient_step > 0)

    def gradient_transformation(self) -> GradientTransformation:
        return GradientTransformation(self.init, self.update)


class ParamsEmaState(NamedTuple):
    """The decayed sum of parameters, and the sum of its weights, a scalar."""

    ema: Any
    weight: Any


def params_ema(decay: float, debias: bool = True, accumulator_dtype: Any = None) -> GradientTransformation:
    """Keeps an exponential moving average of the parameters: ema = decay * ema + (1 - decay) * (params + updates).

    Updates pass unchanged. It must come last in a chain, where updates are what is added to the parameters:
    ``chain(adam(1e-3), params_ema(0.999))``. For evaluation, `ema_params` takes the average out of the state. Source:
    B. Polyak, A. Juditsky, Acceleration of stochastic approximation by averaging, 1992.

    Arguments:
        decay: in [0, 1): 1 - 1/decay steps is about how far back the average looks.
        debias: starts at nothing and divides by the sum of weights, as Adam does. False starts at the first parameters.
        accumulator_dtype: by default the parameters', or float32 if that has less.
    """
    name = "params_ema"
    check_number(name, "decay", decay, most=1, below=True)

    def init(params: Any) -> ParamsEmaState:
        start = zeros(params, accumulator_dtype)
        if not debias:
            start = tree.map(lambda p, z: jnp.asarray(p).astype(z.dtype), params, start)
        return ParamsEmaState(start, jnp.zeros(()) if debias else jnp.ones(()))

    def update(updates: Any, state: ParamsEmaState, params: Any = None, **extra: Any) -> tuple[Any, ParamsEmaState]:
        mean = leafwise(
            name,
            lambda u, p, e: moment(decay, wide(p) + u, e),
            updates,
            parameter=require_params(name, params),
            average=state.ema,
        )
        weight = moment(decay, 1, state.weight) if debias else state.weight
        return updates, ParamsEmaState(mean, weight)

    return GradientTransformation(init, update)


def ema_params(state: Any, params: Any = None) -> Any:
    """The averaged parameters in an optimiser's state that has one `params_ema` in it.

    Arguments:
        state: of `params_ema`, or of a chain or wrapper around it.
        params: if given, the average has their dtypes.

    Before the first update the average with `debias` does not exist; then `params` is the answer, if given, and zeros
    if not.

    Raises:
        ValueError: there is no average in the state, or there are several.
    """

    def is_average(s: Any) -> bool:
        return isinstance(s, ParamsEmaState)

    found = [s for s in tree.leaves(state, is_leaf=is_average) if is_average(s)]
    if len(found) != 1:
        raise ValueError(f"ema_params: the state must have one params_ema in it, found {len(found)}")
    average, weight = found[0]
    begun = weight > 0
    factor = 1 / jnp.where(begun, weight, 1)
    if params is None:
        return tree.map(lambda e: e * scalar(factor, e), average)

    def one(p: Any, e: Any) -> Any:
        return jnp.where(begun, e * scalar(factor, e), p).astype(p.dtype)

    return leafwise("ema_params", one, params, first="parameter", average=average)
