"""Multi-head attention."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import asgfn.numpy as jnp
from asgfn import lax
from asgfn.errors import ShapeError
from asgfn.numpy.arguments import computation_dtype
from asgfn.tracing import Array
from asgfn.tracing.concretize import is_concrete
from nn_fn import functional as F
from nn_fn.functional.arguments import float_array
from nn_fn.initializers import Initializer
from nn_fn.layers.checks import positive, probability
from nn_fn.layers.configuration import constructor
from nn_fn.layers.layer import Call, Layer, composite
from nn_fn.layers.linear import linear
from nn_fn.layers.masks import causal_mask, combine_masks
from nn_fn.layers.positions import alibi_bias, checked_positions, position_ids, rotary

_NAME = "multi_head_attention"


@constructor
def multi_head_attention(
    features: int,
    heads: int,
    *,
    kv_heads: int | None = None,
    head_features: int | None = None,
    kv_features: int | None = None,
    bias: bool = True,
    dropout: float = 0.0,
    causal: bool = False,
    rope: bool | float = False,
    alibi: bool = False,
    weight_init: str | Initializer = "xavier_uniform",
    bias_init: str | Initializer = "zeros",
) -> Layer:
    """Attention with several heads (A. Vaswani et al., 2017, 3.2) on x [..., length, features].

    Parameters: linear layers ``q``, ``k``, ``v`` and ``out``, each with ``weight`` and ``bias``. The heads' parts of q, k
    and v stand one after another.

    Options:
        context: [..., keys, kv_features], with the leading axes of x: keys and values come from there instead of from x
            (cross-attention). Layers that are causal, rope or alibi do not take it; those with `kv_features` need it.
        mask: broadcastable to [..., heads, queries, keys]; boolean, True where a query sees a key, or float, added to
            the scores. `padding_mask` makes it from lengths. A query that sees no key gives zeros before ``out``.
        positions: integers [..., length] for rope, instead of 0, 1, 2, ...

    Decoding: the state that `init_cache` gives a causal layer holds ``cache``: ``key`` and ``value`` [batch, max_length,
    kv_heads, head_features] and ``index``, the number of positions seen. A call with such a state takes x as the
    positions that follow, any number of them, and they see all positions up to their own. A mask then speaks about
    max_length keys. Layers that are not causal need the whole sequence at once, and keep no cache.

    Arguments:
        features: length of the last axis of x and of the result.
        heads: number of heads.
        kv_heads: number of heads of keys and values, a divisor of `heads` (grouped-query attention, J. Ainslie et al.,
            2023); `heads` by default.
        head_features: features of a head; features / heads by default.
        kv_features: features of the context, for cross-attention.
        bias: whether the linear layers have one.
        dropout: rate at which attention weights are dropped while training.
        causal: a position sees only itself and those before.
        rope: queries and keys are rotated by position (`rotary`); a number is its base, True is 10000.
        alibi: scores fall with distance (`alibi_bias`).

    Raises:
        ValueError: sizes that do not divide, or arguments that exclude each other. When called: training with dropout
            without a key, no context where one is needed, more positions than the cache has room for. If the index is
            traced, so that the last cannot be known, what is computed beyond the room is NaN.
        ShapeError (when called): shapes do not fit.
    """
    kv_heads = heads if kv_heads is None else kv_heads
    positive(_NAME, features=features, heads=heads, kv_heads=kv_heads)
    if heads % kv_heads:
        raise ValueError(f"{_NAME}: kv_heads={kv_heads} must divide heads={heads}")
    if head_features is None:
        if features % heads:
            raise ValueError(f"{_NAME}: heads={heads} must divide features={features}; or give head_features")
        head_features = features // heads
    positive(_NAME, head_features=head_features, kv_features=features if kv_features is None else kv_features)
    probability(_NAME, dropout=dropout)
    base = _base(rope)
    if base is not None and head_features % 2:
        raise ValueError(f"{_NAME}: rope turns pairs of features, so head_features={head_features} must be even")
    only_self = causal or base is not None or alibi
    if only_self and kv_features is not None:
        raise ValueError(
            f"{_NAME}: causal, rope and alibi relate the positions of one sequence; kv_features has another"
        )

    inits: dict[str, Any] = {"bias": bias, "weight_init": weight_init, "bias_init": bias_init}
    source = features if kv_features is None else kv_features
    children = {
        "q": linear(features, heads * head_features, **inits),
        "k": linear(source, kv_heads * head_features, **inits),
        "v": linear(source, kv_heads * head_features, **inits),
        "out": linear(heads * head_features, features, **inits),
    }

    def apply(call: Call, x: Any, context: Any = None, mask: Any = None, positions: Any = None) -> Any:
        x = float_array(_NAME, "x", x)
        if x.ndim < 2 or x.shape[-1] != features:
            raise ShapeError(f"{_NAME}: the input must be [..., length, {features}], got {x.aval}")
        context = _checked_context(x, context, kv_features, source)
        q = _split(call("q", x), heads)
        k, v = _split(call("k", context), kv_heads), _split(call("v", context), kv_heads)

        cache = call.state.get("cache") if causal else None
        start = 0 if cache is None else cache["index"]
        if base is not None:
            ids = position_ids(x.shape[-2], offset=start) if positions is None else positions
            ids = checked_positions(_NAME, ids, x)[..., None]
            q, k = rotary(q, ids, base=base), rotary(k, ids, base=base)
        room = None
        if cache is not None:
            k, v, room, call.state["cache"] = _extended(cache, k, v)
            mask = combine_masks(mask, causal_mask(x.shape[-2], k.shape[-3], start))
        if alibi:
            falling = alibi_bias(heads, x.shape[-2], k.shape[-3], offset=start, dtype=computation_dtype(x.dtype))
            mask = combine_masks(mask, falling)

        drop_key = None
        if call.train and dropout:
            drop_key = call.next_key()
            if drop_key is None:
                raise ValueError(f"{_NAME}: training with dropout needs a random key; pass key=... to the model")
        y = F.scaled_dot_product_attention(
            jnp.swapaxes(q, -3, -2),
            jnp.swapaxes(k, -3, -2),
            jnp.swapaxes(v, -3, -2),
            mask,
            dropout if call.train else 0.0,
            is_causal=causal and cache is None,
            enable_gqa=kv_heads != heads,
            dropout_key=drop_key,
        )
        y = jnp.swapaxes(y, -3, -2).reshape(*x.shape[:-1], heads * head_features)
        return call("out", y if room is None else jnp.where(room, y, math.nan))

    def cache_fn(state: Any, batch: int, max_length: int, dtype: Any) -> Any:
        if not causal:
            return state
        positive("init_cache", batch=batch, max_length=max_length)
        empty = jnp.zeros((batch, max_length, kv_heads, head_features), dtype)
        return {**state, "cache": {"key": empty, "value": empty, "index": jnp.zeros((), "int32")}}

    options = ["mask"]
    options += [] if only_self else ["context"]
    options += [] if base is None else ["positions"]
    layer = composite(_NAME, children, apply, options=tuple(options))
    return replace(layer, cache_fn=cache_fn)


def _base(rope: bool | float) -> float | None:
    if rope is False:
        return None
    base = 10000.0 if rope is True else float(rope)
    if not base > 0:
        raise ValueError(f"{_NAME}: the base of rope must be positive, got {rope!r}")
    return base


def _checked_context(x: Array, context: Any, kv_features: int | None, width: int) -> Array:
    if context is None:
        if kv_features is not None:
            raise ValueError(f"{_NAME}: kv_features={kv_features} makes this cross-attention; pass context=...")
        return x
    context = float_array(_NAME, "context", context)
    if context.ndim != x.ndim or context.shape[:-2] != x.shape[:-2] or context.shape[-1] != width:
        raise ShapeError(
            f"{_NAME}: context must be [..., keys, {width}] with the leading axes of the input {x.aval}, "
            f"got {context.aval}"
        )
    return context


def _split(x: Array, heads: int) -> Array:
    """[..., length, heads * n] as [..., length, heads, n]."""
    return x.reshape(*x.shape[:-1], heads, x.shape[-1] // heads)


def _extended(cache: Any, k: Array, v: Array) -> tuple[Array, Array, Array, dict]:
    """All keys and values seen with these among them, whether they had room, and the new cache."""
    index, kept = cache["index"], cache["key"]
    room = kept.shape[1]
    if (k.shape[:-3], k.shape[-2:]) != (kept.shape[:1], kept.shape[2:]):
        raise ShapeError(
            f"{_NAME}: the cache is for keys [batch, length, heads, features] of {kept.aval}, got {k.aval}; "
            "init_cache has to be called with the batch size of the input"
        )
    new = k.shape[1]
    if new > room or (is_concrete(index) and int(index) + new > room):
        seen = f"{int(index)} seen" if is_concrete(index) else "those seen"
        raise ValueError(
            f"{_NAME}: {new} new positions after {seen} do not fit in the cache of {room}; "
            "call init_cache with a larger max_length"
        )
    zero = jnp.zeros((), index.dtype)
    at = (zero, index, zero, zero)
    keys = lax.dynamic_update_slice(kept, k.astype(kept.dtype), at)
    values = lax.dynamic_update_slice(cache["value"], v.astype(kept.dtype), at)
    return (
        keys.astype(k.dtype),
        values.astype(v.dtype),
        index + new <= room,
        {"key": keys, "value": values, "index": index + new},
    )
