"""Transforms made of transforms."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from nn_fn.data.datasets import takes_rng


def _apply(owner: str, transform: Callable[..., Any], x: Any, rng: np.random.Generator | None) -> Any:
    if not takes_rng(transform):
        return transform(x)
    if rng is None:
        raise TypeError(f"{owner}: {transform!r} is random; call the transform with a numpy.random.Generator as `rng`")
    return transform(x, rng=rng)


@dataclass(frozen=True)
class Compose:
    """Transforms one after another; random ones draw from the same generator in turn.

    Arguments:
        transforms: functions of x, or of x and `rng`. None at all leaves x as it is.
    """

    transforms: Sequence[Callable[..., Any]]

    def __post_init__(self) -> None:
        object.__setattr__(self, "transforms", tuple(self.transforms))
        for transform in self.transforms:
            if not callable(transform):
                raise TypeError(f"Compose: a transform must be callable, got {type(transform).__name__}")

    @property
    def random(self) -> bool:
        """Whether a generator is needed."""
        return any(map(takes_rng, self.transforms))

    def __call__(self, x: Any, rng: np.random.Generator | None = None) -> Any:
        for transform in self.transforms:
            x = _apply("Compose", transform, x, rng)
        return x


@dataclass(frozen=True)
class ApplyTo:
    """Applies a transform to one part of an item or batch: `ApplyTo(0, t)` makes `(x, y)` into `(t(x), y)`.

    Arguments:
        key: an index of a tuple or list, a key of a dict, or a field name of a named tuple or dataclass.
        transform: a function of that part, or of it and `rng`.

    Raises:
        TypeError: for an item that has no parts of that kind.
        KeyError, IndexError: when the part does not exist.
    """

    key: Any
    transform: Callable[..., Any]

    @property
    def random(self) -> bool:
        """Whether a generator is needed."""
        return takes_rng(self.transform)

    def __call__(self, item: Any, rng: np.random.Generator | None = None) -> Any:
        change = lambda part: _apply("ApplyTo", self.transform, part, rng)  # noqa: E731
        if isinstance(item, dict):
            return {**item, self.key: change(item[self.key])}
        if isinstance(self.key, str) and hasattr(item, "_replace"):
            return item._replace(**{self.key: change(getattr(item, self.key))})
        if isinstance(self.key, str) and hasattr(item, "__dataclass_fields__"):
            return replace(item, **{self.key: change(getattr(item, self.key))})
        if isinstance(item, tuple | list) and not isinstance(self.key, str):
            parts = list(item)
            parts[self.key] = change(parts[self.key])
            return item._make(parts) if hasattr(item, "_make") else type(item)(parts)
        raise TypeError(f"ApplyTo: an item of type {type(item).__name__} has no part {self.key!r}")
