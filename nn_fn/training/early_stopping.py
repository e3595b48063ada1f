"""Early stopping: remembers the best parameters, and says when nothing better has come for a while."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import asgfn.numpy as jnp
from asgfn import random, tree
from asgfn.errors import DTypeError, ShapeError, StructureError
from asgfn.tracing import Array
from asgfn.tracing.concretize import is_concrete
from nn_fn.metrics import Metric
from nn_fn.training.directions import Direction, direction_of

if TYPE_CHECKING:
    from nn_fn.training.metric_logger import MetricLogger


class EarlyStoppingState(NamedTuple):
    """What `EarlyStopping` remembers: a pytree of arrays.

    Attributes:
        best_value: float; inf or -inf (the worst) before a value came.
        best_step: int32; -1 before a value came.
        best_params: copies of the parameters of that step; None if none were given.
        bad_updates: int32, updates since the last better value.
        updates: int32, all updates.
        found_nan: whether a value was nan.
    """

    best_value: Array
    best_step: Array
    best_params: Any
    bad_updates: Array
    updates: Array
    found_nan: Array


@dataclass(frozen=True)
class EarlyStopping:
    """Stops a run when a metric has not become better for `patience` updates.

        stopper = EarlyStopping("val_loss", patience=5)
        state = stopper.init(params)
        for step in ...:
            state = stopper.update(state, val_loss, params, step=step)
            if stopper.should_stop(state):
                break
        params = state.best_params

    A value is better if it is less than best - min_delta ("min"), or more than best + min_delta ("max"). A nan is never
    better. Works under `jit`, too, if `init` got the parameters.

    Arguments:
        metric: the name of what is watched, or a `Metric`.
        mode: "min" or "max", whichever is better; by default that of the `Metric`, or what follows from the name
            (`direction_of`).
        patience: how many updates in a row without a better value stop the run. With 0 and 1, the first one does.
        min_delta: by how much a value must be better, ≥ 0.
        stop_on_nan: a nan stops at once, whatever the patience.

    Raises:
        ValueError: an argument is out of range, or no mode is given and none follows.
    """

    metric: str | Metric
    mode: Literal["min", "max"] | None = None
    patience: int = 10
    min_delta: float = 0.0
    stop_on_nan: bool = False

    def __post_init__(self) -> None:
        if self.mode is None:
            object.__setattr__(self, "mode", self._direction())
        if self.mode not in ("min", "max"):
            raise ValueError(f"EarlyStopping: mode must be 'min' or 'max', got {self.mode!r}")
        if isinstance(self.patience, bool) or not isinstance(self.patience, int) or self.patience < 0:
            raise ValueError(f"EarlyStopping: patience must be an integer from 0, got {self.patience!r}")
        if not self.min_delta >= 0:
            raise ValueError(f"EarlyStopping: min_delta must be at least 0, got {self.min_delta!r}")

    @classmethod
    def from_logger(cls, logger: MetricLogger, name: str, **kwargs: Any) -> EarlyStopping:
        """One for a name, with the direction that a `MetricLogger` knows for it. Takes the other arguments, too."""
        return cls(name, mode=logger.direction(name), **kwargs)

    def _direction(self) -> Direction:
        known = self.metric.better if isinstance(self.metric, Metric) else direction_of(self.metric)
        if known not in ("min", "max"):
            raise ValueError(
                f"EarlyStopping: whether more or less of {self.metric!r} is better is not known; say mode='min' or 'max'"
            )
        return known

    @property
    def name(self) -> str:
        """The name of what is watched."""
        return self.metric.name if isinstance(self.metric, Metric) else self.metric

    def init(self, params: Any = None) -> EarlyStoppingState:
        """The state before the first value.

        Arguments:
            params: a pytree of parameters, as `update` will get it; it gives the state its structure, which `jit` and
                checkpoints need. None if parameters are not to be kept, or come with the first update.
        """
        return EarlyStoppingState(
            best_value=jnp.full((), jnp.inf if self.mode == "min" else -jnp.inf, jnp.zeros(()).dtype),
            best_step=jnp.full((), -1, jnp.int32),
            best_params=_copy(params),
            bad_updates=jnp.zeros((), jnp.int32),
            updates=jnp.zeros((), jnp.int32),
            found_nan=jnp.zeros((), bool),
        )

    def update(self, state: EarlyStoppingState, value: Any, params: Any = None, step: Any = None) -> EarlyStoppingState:
        """The state after a value.

        Arguments:
            value: a real number, shape [].
            params: the parameters that gave it. They are copied if the value is better, so that they may be donated to the
                next step. If the state has none yet, they are kept in any case.
            step: int, what `best_step` becomes if the value is better; by default the number of updates before.

        Raises:
            ShapeError, DTypeError: value is not one real number.
            StructureError: params do not have the structure of the state's, or are missing.
        """
        value = jnp.asarray(value)
        if value.shape != ():
            raise ShapeError(f"EarlyStopping({self.name!r}): value must be one number, got {value.aval}")
        if jnp.issubdtype(value.dtype, jnp.complexfloating):
            raise DTypeError(f"EarlyStopping({self.name!r}): value must be real, got {value.aval}")
        self._check_params(state, params)
        value = value.astype(state.best_value.dtype)
        if self.mode == "min":
            better = value < state.best_value - self.min_delta
        else:
            better = value > state.best_value + self.min_delta
        step = state.updates if step is None else jnp.asarray(step)
        return EarlyStoppingState(
            best_value=jnp.where(better, value, state.best_value),
            best_step=jnp.where(better, step, state.best_step).astype(jnp.int32),
            best_params=_choose(better, params, state.best_params),
            bad_updates=jnp.where(better, 0, state.bad_updates + 1).astype(jnp.int32),
            updates=state.updates + 1,
            found_nan=state.found_nan | jnp.isnan(value),
        )

    def should_stop(self, state: EarlyStoppingState) -> Array:
        """Whether to stop: a boolean, shape []."""
        stop = state.bad_updates >= max(self.patience, 1)
        return stop | state.found_nan if self.stop_on_nan else stop

    def _check_params(self, state: EarlyStoppingState, params: Any) -> None:
        if state.best_params is None:
            return
        kept, given = tree.structure(state.best_params), tree.structure(params)
        if kept != given:
            raise StructureError(
                f"EarlyStopping({self.name!r}): params must have the structure of those in the state, {kept}, got {given}"
            )


def _choose(better: Array, new: Any, old: Any) -> Any:
    if old is None:
        return _copy(new)
    if is_concrete(better):
        return _copy(new) if better else old
    return tree.map(lambda x, y: _rewrap(jnp.where(better, _bits(x), _bits(y)), x), new, old)


def _copy(params: Any) -> Any:
    return tree.map(lambda x: _rewrap(jnp.copy(_bits(x)), x), params)


def _bits(leaf: Any) -> Any:
    return random.key_data(leaf) if isinstance(leaf, random.PRNGKeyArray) else leaf


def _rewrap(bits: Array, leaf: Any) -> Any:
    return random.wrap_key_data(bits) if isinstance(leaf, random.PRNGKeyArray) else bits
