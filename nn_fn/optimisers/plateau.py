"""A learning rate that falls when a value stops improving."""

from __future__ import annotations

from typing import Any, NamedTuple

import asgfn.numpy as jnp
from nn_fn.optimisers.base import GradientTransformation
from nn_fn.optimisers.leafwise import check_number, increment, leafwise, scalar, zero_count


class ReduceOnPlateauState(NamedTuple):
    """All scalars.

    Attributes:
        scale: what updates are multiplied with.
        best_value: the best mean value so far.
        plateau_count: int32, how many mean values in sequence were no improvement.
        cooldown_count: int32, how many mean values are still to be ignored.
        count: int32, how many values are in the present mean.
        avg_value: that mean.
    """

    scale: Any
    best_value: Any
    plateau_count: Any
    cooldown_count: Any
    count: Any
    avg_value: Any


def reduce_on_plateau(
    factor: float = 0.1,
    patience: int = 10,
    rtol: float = 1e-4,
    atol: float = 0.0,
    cooldown: int = 0,
    accumulation_size: int = 1,
    min_scale: float = 0.0,
    *,
    mode: str = "min",
) -> GradientTransformation:
    """Multiplies updates by a scale, which is multiplied by `factor` whenever a value has not improved for long.

    Put it into a chain, and give the value to every update: ``optimiser.update(grads, state, params, value=loss)``. The
    scale is in the state: `ReduceOnPlateauState.scale`.

    Arguments:
        factor: in (0, 1).
        patience: how many values in sequence without improvement reduce the scale, at least 1. (PyTorch's
            ``ReduceLROnPlateau(patience=n)`` waits for one more: n + 1 here.)
        rtol, atol: a value is an improvement if it is less than (1 - rtol) * best - atol, or with mode "max" greater than
            (1 + rtol) * best + atol. PyTorch's ``threshold=t`` is ``rtol=t, atol=0`` with ``threshold_mode="rel"`` and
            ``rtol=0, atol=t`` with "abs". For values that may be negative use `atol`.
        cooldown: how many values are ignored after a reduction.
        accumulation_size: of so many values the mean is taken and looked at.
        min_scale: the scale stays at or above it.
        mode: "min" if small values are good, "max" if large ones are.

    Raises:
        ValueError: an argument is out of range.
        TypeError (on update): there is no ``value=``.
    """
    name = "reduce_on_plateau"
    if isinstance(factor, (int, float)) and not 0 < factor < 1:
        raise ValueError(f"{name}: factor must be in (0, 1), got {factor!r}")
    check_number(name, "patience", patience, 1)
    check_number(name, "accumulation_size", accumulation_size, 1)
    check_number(name, "cooldown", cooldown)
    check_number(name, "atol", atol)
    check_number(name, "min_scale", min_scale)
    check_number(name, "rtol", rtol, most=1)
    if isinstance(rtol, (int, float)) and isinstance(atol, (int, float)) and rtol == atol == 0:
        raise ValueError(f"{name}: rtol or atol must be positive")
    if mode not in ("min", "max"):
        raise ValueError(f'{name}: mode must be "min" or "max", got {mode!r}')
    worst = float("inf") if mode == "min" else -float("inf")

    def init(params: Any) -> ReduceOnPlateauState:
        zero = zero_count()
        return ReduceOnPlateauState(jnp.ones(()), jnp.full((), worst, float), zero, zero, zero, jnp.zeros(()))

    def look(state: ReduceOnPlateauState) -> ReduceOnPlateauState:
        value, best = state.avg_value, state.best_value
        better = value < (1 - rtol) * best - atol if mode == "min" else value > (1 + rtol) * best + atol
        cooling = state.cooldown_count > 0
        waited = jnp.where(better | cooling, 0, increment(state.plateau_count))
        reduce = waited >= patience
        scale = jnp.where(reduce, jnp.maximum(state.scale * factor, min_scale), state.scale)
        return ReduceOnPlateauState(
            scale=scale.astype(state.scale.dtype),
            best_value=jnp.where(better, value, best),
            plateau_count=jnp.where(reduce, 0, waited).astype(jnp.int32),
            cooldown_count=jnp.where(cooling, state.cooldown_count - 1, jnp.where(reduce, cooldown, 0)).astype(
                jnp.int32
            ),
            count=zero_count(),
            avg_value=jnp.zeros_like(value),
        )

    def update(
        updates: Any, state: ReduceOnPlateauState, params: Any = None, *, value: Any = None, **extra: Any
    ) -> tuple[Any, ReduceOnPlateauState]:
        if value is None:
            raise TypeError(f"{name} needs the value to watch: call update(grads, state, params, value=loss)")
        value = jnp.asarray(value).astype(state.avg_value.dtype)
        count = increment(state.count)
        gathered = state._replace(avg_value=state.avg_value + (value - state.avg_value) / count, count=count)
        full = count >= accumulation_size
        state = ReduceOnPlateauState(*(jnp.where(full, a, b) for a, b in zip(look(gathered), gathered, strict=True)))
        return leafwise(name, lambda g: g * scalar(state.scale, g), updates), state

    return GradientTransformation(init, update)
