"""Masks of attention: which query sees which key.

A boolean mask is True where the query sees the key; a float one is added to the scores, so that -inf hides a key. Masks
broadcast to [batch, heads, queries, keys].
"""

from __future__ import annotations

import math
from typing import Any

import asgfn.numpy as jnp
from asgfn import dtypes
from asgfn.errors import DTypeError, ShapeError
from asgfn.numpy.arguments import to_array
from asgfn.tracing import Array
from nn_fn.functional.arguments import static_int


def causal_mask(queries: int, keys: int | None = None, offset: Any = 0) -> Array:
    """Each query sees the keys up to its own position: True where key <= query + offset.

    Arguments:
        queries, keys: how many there are; as many keys as queries by default.
        offset: the position of the first query among the keys; an integer, may be traced.

    Returns:
        bool [queries, keys].
    """
    queries = static_int("causal_mask", "queries", queries, 0)
    keys = queries if keys is None else static_int("causal_mask", "keys", keys, 0)
    return jnp.arange(keys)[None, :] <= jnp.arange(queries)[:, None] + offset


def padding_mask(present: Any, length: int | None = None) -> Array:
    """Hides the keys that are padding from all queries.

    Arguments:
        present: which keys are there: integers [...], each the length of a sequence whose rest is padding; or booleans
            [..., keys], False for padding.
        length: for integers: the number of keys, padding included.

    Returns:
        bool [..., 1, 1, keys], which broadcasts over heads and queries.

    Raises:
        DTypeError: `present` holds neither integers nor booleans.
        ShapeError: booleans without an axis, or of another length than `length`.
        ValueError: integers without `length`.
    """
    present = to_array("padding_mask", present)
    if dtypes.is_integer(present.dtype):
        if length is None:
            raise ValueError("padding_mask: lengths of sequences need length=, the number of keys with padding")
        present = jnp.arange(static_int("padding_mask", "length", length, 0)) < present[..., None]
    elif present.dtype != bool:
        raise DTypeError(f"padding_mask: give lengths (integers) or booleans [..., keys], got {present.aval}")
    elif present.ndim == 0 or length not in (None, present.shape[-1]):
        wanted = "..., keys" if length is None else f"..., {length}"
        raise ShapeError(f"padding_mask: booleans must be [{wanted}], got {present.aval}")
    return present[..., None, None, :]


def combine_masks(*masks: Any) -> Array | None:
    """One mask that hides what any of several hides. None among them is skipped; None if there are no others.

    Boolean masks give a boolean one. With a float one among them, the result is float: their sum, and -inf where a
    boolean one is False.

    Raises:
        DTypeError: a mask is neither boolean nor floating point; ShapeError: their shapes do not broadcast.
    """
    given = [to_array("combine_masks", mask) for mask in masks if mask is not None]
    for mask in given:
        if mask.dtype != bool and not dtypes.is_floating(mask.dtype):
            raise DTypeError(
                f"combine_masks: a mask is boolean or float, got {mask.aval}; for zeros and ones: mask != 0"
            )
    seen = [mask for mask in given if mask.dtype == bool]
    added = [mask for mask in given if mask.dtype != bool]
    visible = None
    for mask in seen:
        visible = mask if visible is None else visible & mask
    if not added:
        return visible
    total = added[0]
    for mask in added[1:]:
        total = total + mask
    return total if visible is None else jnp.where(visible, total, -math.inf)
