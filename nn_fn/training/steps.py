"""The pure step of a training loop, made from a loss and an optimiser.

loss_fn = supervised(model, functional.cross_entropy)
step = train_step(loss_fn, optimiser)
state = init_train_state(model, optimiser, key)
state, values = step(state, batch)          # values: {"loss": ...}
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import asgfn
import asgfn.numpy as jnp
from asgfn import random
from nn_fn.layers.layer import Layer
from nn_fn.optimisers import GradientTransformation, apply_updates
from nn_fn.optimisers.base import with_extra_args
from nn_fn.precision import NoLossScale, Policy, scaled_value_and_grad, select_tree

LossFunction = Callable[[Any, Any, Any, Any], tuple[Any, tuple[Any, Mapping[str, Any]]]]
"""``loss_fn(params, model_state, batch, key) -> (loss, (model_state, values))``: a scalar, the model's new state, and
scalars by name that are worth logging."""


class TrainState(NamedTuple):
    """Everything that a step changes: a pytree, fit for a checkpoint.

    Attributes:
        step: int32[], how many steps were made.
        params: the parameters.
        model_state: the model's state.
        opt_state: the optimiser's state.
        key: the random key of the run; each step uses ``fold_in(key, step)``.
        loss_scale: see `nn_fn.precision`.
    """

    step: Any
    params: Any
    model_state: Any
    opt_state: Any
    key: Any
    loss_scale: Any = NoLossScale()


def init_train_state(model: Layer, optimiser: GradientTransformation, key: Any, loss_scale: Any = None) -> TrainState:
    """The state before the first step, drawn with a random key.

    Arguments:
        loss_scale: for float16, a `nn_fn.precision.DynamicLossScale()`.
    """
    init_key, run_key = random.split(key)
    params, model_state = model.init(init_key)
    scale = NoLossScale() if loss_scale is None else loss_scale
    return TrainState(jnp.zeros((), jnp.int32), params, model_state, optimiser.init(params), run_key, scale)


def supervised(
    model: Layer, loss: Callable[[Any, Any], Any], values: Mapping[str, Callable[[Any, Any], Any]] | None = None
) -> LossFunction:
    """The loss of a model on batches ``(x, target)``: ``loss(model(x), target)``, as while training.

    Arguments:
        values: more scalars to log: functions of prediction and target by name.
    """

    def loss_fn(params: Any, model_state: Any, batch: Any, key: Any) -> tuple[Any, tuple[Any, dict[str, Any]]]:
        x, target = batch
        prediction, model_state = model(params, model_state, x, key=key, train=True)
        more = {name: f(prediction, target) for name, f in (values or {}).items()}
        return loss(prediction, target), (model_state, more)

    return loss_fn


def train_step(
    loss_fn: LossFunction,
    optimiser: GradientTransformation,
    *,
    policy: Policy | None = None,
    backend: str | None = None,
    jit: bool = True,
) -> Callable[[TrainState, Any], tuple[TrainState, dict[str, Any]]]:
    """One step of training as a pure function: ``step(train_state, batch) -> (train_state, values)``.

    The values are "loss" and what the loss function adds. The loss is also given to the optimiser, as ``value=``. With
    a loss scale in the state, a step whose gradients are not finite changes nothing but the scale and the counter.

    Arguments:
        loss_fn: see `LossFunction`.
        policy: dtypes to compute in: parameters and batch are cast before the loss sees them; the model's state stays.
        backend: where it runs; see `asgfn.jit`.
        jit: compile it. Then the state that it is called with is donated: use the one that it returns.
    """
    optimiser = with_extra_args(optimiser)

    def step(s: TrainState, batch: Any) -> tuple[TrainState, dict[str, Any]]:
        def objective(params: Any) -> tuple[Any, Any]:
            inner_batch = batch
            if policy is not None:
                params, inner_batch = policy.cast_to_compute((params, batch))
            loss, aux = loss_fn(params, s.model_state, inner_batch, random.fold_in(s.key, s.step))
            return loss if policy is None else policy.cast_to_output(loss), aux

        (loss, (model_state, values)), grads, finite = scaled_value_and_grad(objective, has_aux=True)(
            s.loss_scale, s.params
        )
        updates, opt_state = optimiser.update(grads, s.opt_state, s.params, value=loss)
        params = apply_updates(s.params, updates)
        if not isinstance(s.loss_scale, NoLossScale):
            old = s.params, s.model_state, s.opt_state
            params, model_state, opt_state = select_tree(finite, (params, model_state, opt_state), old)
        scale = s.loss_scale.adjust(finite)
        return TrainState(s.step + 1, params, model_state, opt_state, s.key, scale), {"loss": loss, **values}

    return asgfn.jit(step, donate_argnums=0, backend=backend) if jit else step
