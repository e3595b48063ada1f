"""Scaled dot-product attention over arrays [..., heads, length, features]."""

from __future__ import annotations

import math
from typing import Any

import asgfn.numpy as jnp
from asgfn import dtypes, nn
from asgfn.errors import DTypeError, ShapeError
from asgfn.numpy.arguments import computation_dtype, to_array
from asgfn.tracing import Array
from nn_fn.functional.arguments import float_array, same_dtype
from nn_fn.functional.dropout import dropout

_NAME = "scaled_dot_product_attention"


def scaled_dot_product_attention(
    query: Any,
    key: Any,
    value: Any,
    attn_mask: Any = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
    *,
    dropout_key: Any = None,
) -> Array:
    """softmax(query key^T * scale + mask) value (Vaswani et al., 2017).

    Letters: L query positions, S key positions, E features of a head, Ev features of a value. Leading axes are batch
    and heads, and must agree. `asgfn.nn.dot_product_attention` is the same for arrays [batch, length, heads, features].

    Arguments:
        query: float, [..., L, E].
        key: float, [..., S, E].
        value: float, [..., S, Ev].
        attn_mask: broadcastable to [..., L, S]. Boolean: True where the query sees the key. Float: added to the scores
            (-inf hides a key). A query that sees no key at all gives zeros, with gradient zero.
        dropout_p: probability that a weight is dropped. Drops whenever it is above 0: pass 0 when not training.
        is_causal: query i sees keys 0 to i only; together with `attn_mask`, both must allow a pair.
        scale: factor of the scores, 1 / sqrt(E) by default.
        enable_gqa: grouped-query attention (Ainslie et al., 2023): axis -3 of query, its heads, may be a multiple of
            that of key and value; consecutive query heads share a key head.
        dropout_key: a random key; needed with dropout_p > 0.

    Returns:
        Float, [..., L, Ev], of the dtype of the operands. Scores and softmax of 16-bit operands are float32.

    Raises:
        ShapeError, DTypeError: operands do not fit.
        ValueError: dropout_p is no probability, or dropout_key is missing.
    """
    query, key, value = (float_array(_NAME, what, x) for what, x in (("query", query), ("key", key), ("value", value)))
    mask = None if attn_mask is None else to_array(_NAME, attn_mask)
    _check(query, key, value, mask, enable_gqa)
    if dropout_p and dropout_key is None:
        raise ValueError(
            f"{_NAME}: dropout_p = {dropout_p} needs a random key: pass dropout_key=..., or dropout_p=0.0 when not "
            "training"
        )
    leading, queries, size = query.shape[:-2], query.shape[-2], query.shape[-1]
    keys = key.shape[-2]
    score_dtype = computation_dtype(query.dtype)

    scores = jnp.matmul(
        _heads_together(query, key), jnp.swapaxes(key, -1, -2), preferred_element_type=score_dtype
    ).reshape(*leading, queries, keys)
    scores = scores * ((1 / math.sqrt(size) if size else 1.0) if scale is None else scale)
    visible = None
    if mask is not None and mask.dtype == bool:
        visible = mask
    elif mask is not None:
        scores = scores + mask.astype(score_dtype)
        visible = scores != -math.inf
    if is_causal:
        earlier = jnp.arange(keys)[None, :] <= jnp.arange(queries)[:, None]
        visible = earlier if visible is None else visible & earlier
    # With `where` the softmax of a row that sees nothing is zero, not NaN.
    weights = nn.softmax(scores, axis=-1, where=visible)
    weights = dropout(weights, dropout_p, key=dropout_key).astype(value.dtype)
    out = jnp.matmul(_heads_together(weights, value), value)
    return out.reshape(*leading, queries, value.shape[-1])


def _heads_together(x: Array, other: Array) -> Array:
    """The rows of the heads of x that share a head of `other`, one after another: [..., heads of other, rows, n]."""
    if x.shape[:-2] == other.shape[:-2]:
        return x
    return x.reshape(*other.shape[:-2], x.shape[-3] // other.shape[-3] * x.shape[-2], x.shape[-1])


def _check(query: Array, key: Array, value: Array, mask: Array | None, grouped: bool) -> None:
    named = {"query": query, "key": key, "value": value}
    listed = ", ".join(f"{what} {x.aval}" for what, x in named.items())
    least = 3 if grouped else 2
    if any(x.ndim < least for x in named.values()):
        axes = "[..., heads, length, features]" if grouped else "[..., length, features]"
        raise ShapeError(f"{_NAME}: operands are {axes}, got {listed}")
    same_dtype(_NAME, **named)
    if query.shape[-1] != key.shape[-1]:
        raise ShapeError(f"{_NAME}: query and key must have the same number of features (last axis); got {listed}")
    if key.shape[:-1] != value.shape[:-1]:
        raise ShapeError(f"{_NAME}: key and value must agree in all axes but the last; got {listed}")
    if grouped:
        heads, shared = query.shape[-3], key.shape[-3]
        if query.shape[:-3] != key.shape[:-3] or shared == 0 or heads % shared:
            raise ShapeError(
                f"{_NAME}: with enable_gqa the query heads (axis -3) must be a multiple of the key heads, and the axes "
                f"before them equal; got {listed}"
            )
    elif query.shape[:-2] != key.shape[:-2]:
        raise ShapeError(
            f"{_NAME}: query, key and value must have the same leading axes (batch, heads); got {listed}. "
            "enable_gqa=True allows fewer key heads; jnp.broadcast_to makes others fit"
        )
    if mask is None:
        return
    if mask.dtype != bool and not dtypes.is_floating(mask.dtype):
        raise DTypeError(
            f"{_NAME}: attn_mask must be boolean (True: seen) or float (added), got {mask.aval}; for zeros and ones "
            "write attn_mask != 0"
        )
    wanted = (*query.shape[:-1], key.shape[-2])
    fits = mask.ndim <= len(wanted) and all(
        n in (1, m) for n, m in zip(reversed(mask.shape), reversed(wanted), strict=False)
    )
    if not fits:
        raise ShapeError(
            f"{_NAME}: attn_mask must broadcast to [..., L, S] = {wanted}, got {mask.aval}; operands are {listed}"
        )
