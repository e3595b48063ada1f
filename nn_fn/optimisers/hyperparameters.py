"""Hyperparameters as part of an optimiser's state, where they can be read, changed and saved."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import numpy as np

import asgfn
import asgfn.numpy as jnp
from asgfn import tree
from nn_fn.optimisers.base import GradientTransformation, with_extra_args
from nn_fn.optimisers.leafwise import increment, zero_count


class InjectHyperparamsState(NamedTuple):
    """Step count, int32[]; the hyperparameters, scalar arrays by name; and the state of the transformation."""

    count: Any
    hyperparams: dict[str, Any]
    inner_state: Any


def inject_hyperparams(
    inner_factory: Callable[..., GradientTransformation],
    static_args: str | Iterable[str] = (),
    hyperparam_dtype: Any = None,
) -> Callable[..., GradientTransformation]:
    """Makes a function's numbers and schedules part of the state.

        optimiser = inject_hyperparams(adam)(learning_rate=1e-3)
        state = optimiser.init(params)
        state.hyperparams["learning_rate"]
        state = set_hyperparams(state, learning_rate=1e-4)

    Numbers stay until they are set. Schedules are evaluated at every update, and what was used is in the state.

    Arguments:
        inner_factory: makes a transformation, as `adam` does.
        static_args: names of its arguments that must stay as they are: functions that are no schedules (a mask), and
            numbers that are used while tracing (`min_dim_size_to_factor` of `adafactor`). Booleans, None and strings
            stay anyhow.
        hyperparam_dtype: of floats; by default that of the widest floating parameter.

    Raises:
        ValueError: a name in static_args is no argument.
    """
    static = {static_args} if isinstance(static_args, str) else set(static_args)
    signature = inspect.signature(inner_factory)
    if unknown := static - set(signature.parameters):
        raise ValueError(
            f"inject_hyperparams: {sorted(unknown)} in static_args are no arguments of {inner_factory.__name__}, which "
            f"takes {', '.join(signature.parameters)}"
        )

    @functools.wraps(inner_factory)
    def make(*args: Any, **kwargs: Any) -> GradientTransformation:
        inner_factory(*args, **kwargs)  # reports bad numbers, which later are arrays that nobody looks into
        bound = signature.bind(*args, **kwargs)
        bound.apply_defaults()
        schedules, numbers, others = {}, {}, {}
        for name, value in bound.arguments.items():
            if name in static or isinstance(value, bool):
                others[name] = value
            elif callable(value) and not isinstance(value, type):
                schedules[name] = value
            elif isinstance(value, (int, float, np.ndarray, np.generic, asgfn.Array)):
                numbers[name] = value
            else:
                others[name] = value

        def converted(value: Any, params: Any) -> Any:
            value = jnp.asarray(value)
            if not jnp.issubdtype(value.dtype, jnp.floating):
                return value
            return value.astype(_widest(params) if hyperparam_dtype is None else hyperparam_dtype)

        def scheduled(count: Any, params: Any) -> dict[str, Any]:
            return {name: converted(f(count), params) for name, f in schedules.items()}

        def inner(values: dict[str, Any]) -> GradientTransformation:
            return with_extra_args(inner_factory(**others, **values))

        def init(params: Any) -> InjectHyperparamsState:
            count = zero_count()
            values = {name: converted(v, params) for name, v in numbers.items()} | scheduled(count, params)
            return InjectHyperparamsState(count, values, inner(values).init(params))

        def update(
            updates: Any, state: InjectHyperparamsState, params: Any = None, **extra: Any
        ) -> tuple[Any, InjectHyperparamsState]:
            values = state.hyperparams | scheduled(state.count, updates if params is None else params)
            out, inner_state = inner(values).update(updates, state.inner_state, params, **extra)
            return out, InjectHyperparamsState(increment(state.count), values, inner_state)

        return GradientTransformation(init, update)

    return make


def _widest(params: Any) -> Any:
    dtypes = {jnp.asarray(p).dtype for p in tree.leaves(params)}
    floating = [d for d in dtypes if jnp.issubdtype(d, jnp.floating)]
    return jnp.result_type(jnp.float32, *floating)


def _is_injected(state: Any) -> bool:
    return isinstance(state, InjectHyperparamsState)


def get_hyperparams(state: Any) -> dict[str, Any]:
    """The hyperparameters in an optimiser's state, wherever `inject_hyperparams` is in it; an outer one comes first."""
    found: dict[str, Any] = {}
    for s in tree.leaves(state, is_leaf=_is_injected):
        if _is_injected(s):
            found = found | {
                k: v for k, v in (get_hyperparams(s.inner_state) | s.hyperparams).items() if k not in found
            }
    return found


def set_hyperparams(state: Any, **values: Any) -> Any:
    """The state with other hyperparameters, in all places where `inject_hyperparams` has one of that name.

    A scheduled hyperparameter is computed anew at every update: setting it changes nothing.

    Raises:
        ValueError: the state has no such hyperparameter.
    """
    known = get_hyperparams(state)
    if unknown := [name for name in values if name not in known]:
        raise ValueError(
            f"set_hyperparams: no {', '.join(unknown)} in the state; it has {', '.join(known) or 'no hyperparameters'}. "
            "They get there by inject_hyperparams."
        )

    def replace(s: Any) -> Any:
        if not _is_injected(s):
            return s
        new = {k: jnp.asarray(values[k]).astype(v.dtype) if k in values else v for k, v in s.hyperparams.items()}
        return s._replace(hyperparams=new, inner_state=tree.map(replace, s.inner_state, is_leaf=_is_injected))

    return tree.map(replace, state, is_leaf=_is_injected)
