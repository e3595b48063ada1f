"""A state that keeps examples, for metrics that must see all of them at once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import asgfn.numpy as jnp
from asgfn.errors import ShapeError
from asgfn.tracing import Array
from nn_fn.metrics.sums import default_float


class Examples(NamedTuple):
    """Columns of examples, with weights; where a weight is 0 the entry is empty.

    Attributes:
        columns: arrays [n, ...] by name.
        weight: float [n].
        taken: int32, how many examples were given with a weight that is not 0. More than a fixed n means that some are
            missing.
    """

    columns: dict[str, Array]
    weight: Array
    taken: Array


def empty(columns: Mapping[str, tuple[tuple[int, ...], Any]], capacity: int | None) -> Examples:
    """No examples. `columns` says the shape of an entry and the dtype of each column."""
    n = capacity or 0
    arrays = {name: jnp.zeros((n, *shape), dtype) for name, (shape, dtype) in columns.items()}
    return Examples(arrays, jnp.zeros(n), jnp.zeros((), jnp.int32))


def append(state: Examples, columns: Mapping[str, Array], weight: Array, capacity: int | None) -> Examples:
    """Adds examples: at the end of arrays that grow, or into the next places of arrays of a fixed length."""
    weight = weight.astype(default_float())
    for name, column in state.columns.items():
        if columns[name].shape[1:] != column.shape[1:]:
            raise ShapeError(f"{name} must be [n, {column.shape[1:]}] as in the state, got {columns[name].aval}")
    taken = weight != 0
    # what is masked may be anything, also nan
    columns = {name: _only(column, taken).astype(state.columns[name].dtype) for name, column in columns.items()}
    number = jnp.sum(taken, dtype=jnp.int32)
    if capacity is None:
        grown = {name: jnp.concatenate([state.columns[name], columns[name]]) for name in state.columns}
        return Examples(grown, jnp.concatenate([state.weight, weight]), state.taken + number)
    place = state.taken + jnp.cumsum(taken, dtype=jnp.int32) - 1
    place = jnp.where(taken & (place < capacity), place, capacity)
    filled = {name: column.at[place].set(columns[name], mode="drop") for name, column in state.columns.items()}
    # one more than fits is enough to know
    all_taken = jnp.minimum(state.taken + number, capacity + 1)
    return Examples(filled, state.weight.at[place].set(weight, mode="drop"), all_taken)


def merge(a: Examples, b: Examples, capacity: int | None) -> Examples:
    """The examples of both."""
    merged = append(a, b.columns, b.weight, capacity)
    if capacity is None:
        return merged
    return merged._replace(taken=jnp.minimum(a.taken + b.taken, capacity + 1))


def _only(column: Array, taken: Array) -> Array:
    return jnp.where(taken.reshape(taken.shape + (1,) * (column.ndim - 1)), column, jnp.zeros_like(column))
