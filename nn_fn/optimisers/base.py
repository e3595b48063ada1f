"""What an optimiser is: a pair of pure functions; how pairs are put together; how updates reach parameters."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, NamedTuple

import asgfn.numpy as jnp
from asgfn import tree
from nn_fn.optimisers.leafwise import leafwise

Schedule = Callable[[Any], Any]
ScalarOrSchedule = float | Schedule | Any
"""A number, a scalar array, or a function of how many updates were made before."""


class GradientTransformation(NamedTuple):
    """Two pure functions: ``init(params) -> state`` and ``update(updates, state, params) -> (updates, state)``.

    `updates` is a pytree like `params`: gradients on their way to becoming what is added to the parameters. A state is
    a pytree of arrays. An update may take keyword arguments besides (``value=`` of `reduce_on_plateau`): those given
    to an outer update reach every inner one that accepts them, by name or as ``**extra``.
    """

    init: Callable[[Any], Any]
    update: Callable[..., tuple[Any, Any]]


class EmptyState(NamedTuple):
    """The state of a transformation that remembers nothing."""


def with_extra_args(transformation: GradientTransformation) -> GradientTransformation:
    """The same transformation, ignoring the keyword arguments that its update does not know."""
    update = transformation.update
    parameters = inspect.signature(update).parameters.values()
    if any(p.kind is p.VAR_KEYWORD for p in parameters):
        return transformation
    known = {p.name for p in parameters if p.kind in (p.KEYWORD_ONLY, p.POSITIONAL_OR_KEYWORD)}

    def update_known(updates: Any, state: Any, params: Any = None, **extra: Any) -> tuple[Any, Any]:
        return update(updates, state, params, **{k: v for k, v in extra.items() if k in known})

    return GradientTransformation(transformation.init, update_known)


def stateless(f: Callable[[Any, Any], Any]) -> GradientTransformation:
    """A transformation without state, from ``f(updates, params) -> updates``."""

    def update(updates: Any, state: Any, params: Any = None, **extra: Any) -> tuple[Any, Any]:
        return f(updates, params), state

    return GradientTransformation(lambda params: EmptyState(), update)


def identity() -> GradientTransformation:
    """Changes nothing."""
    return stateless(lambda updates, params: updates)


def set_to_zero() -> GradientTransformation:
    """Replaces all updates by zeros: with `masked` or `multi_transform` it freezes parameters."""
    return stateless(lambda updates, params: tree.map(jnp.zeros_like, updates))


def chain(*transformations: GradientTransformation) -> GradientTransformation:
    """Transformations one after another; the state is the tuple of theirs.

    Raises (on update):
        ValueError: the state does not belong to this chain.
    """
    parts = [with_extra_args(t) for t in transformations]

    def init(params: Any) -> tuple:
        return tuple(t.init(params) for t in parts)

    def update(updates: Any, state: tuple, params: Any = None, **extra: Any) -> tuple[Any, tuple]:
        if not isinstance(state, tuple) or len(state) != len(parts):
            length = f"a tuple of length {len(state)}" if isinstance(state, tuple) else f"a {type(state).__name__}"
            raise ValueError(
                f"chain: the state must be a tuple of length {len(parts)}, one state a transformation, got {length}; "
                "make it with this chain's init(params)."
            )
        new_state = []
        for part, old in zip(parts, state, strict=True):
            updates, new = part.update(updates, old, params, **extra)
            new_state.append(new)
        return updates, tuple(new_state)

    return GradientTransformation(init, update)


def apply_updates(params: Any, updates: Any) -> Any:
    """params + updates, leaf by leaf, in the dtypes of params.

    Raises:
        StructureError, ShapeError: the trees or the shapes of their leaves differ; the message names the place.
    """
    return leafwise("apply_updates", lambda p, u: (p + u).astype(p.dtype), params, update=updates, first="parameter")


def require_params(name: str, params: Any) -> Any:
    """The parameters, or a ValueError that says how to give them."""
    if params is None:
        raise ValueError(f"{name} needs the parameters: call update(grads, state, params)")
    return params
