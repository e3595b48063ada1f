"""Scaled dot-product attention."""

from __future__ import annotations

import math

import numpy as np

import asgfn.numpy as jnp
from asgfn import dtypes
from asgfn.errors import DTypeError, ShapeError
from asgfn.nn.softmax import logsumexp, softmax
from asgfn.numpy.arguments import ArrayLike
from asgfn.tracing import Array


def dot_product_attention(
    query: ArrayLike,
    key: ArrayLike,
    value: ArrayLike,
    bias: ArrayLike | None = None,
    mask: ArrayLike | None = None,
    *,
    scale: float | None = None,
    is_causal: bool = False,
    query_seq_lengths: ArrayLike | None = None,
    key_value_seq_lengths: ArrayLike | None = None,
    local_window_size: int | tuple[int, int] | None = None,
    implementation: str | None = None,
    return_residual: bool = False,
) -> Array | tuple[Array, Array]:
    """softmax(query key^T * scale + bias, masked) value, for each head (Vaswani et al., 2017).

    Letters: B batch, T query positions, S key positions, N query heads, K key heads, H size of a head. N must be a
    multiple of K: 1 group a head is multi-head attention, K = 1 multi-query, between them grouped-query attention.

    Arguments:
        query: [B, T, N, H] or [T, N, H].
        key, value: [B, S, K, H] or [S, K, H]; the dtype of `query`.
        bias: added to the scores; broadcastable to [B, N, T, S] (its head axis is 1 or N).
        mask: boolean, like `bias`; False removes a pair. A row that keeps no pair averages all values.
        scale: factor of the scores, 1 / sqrt(H) by default.
        is_causal: position t sees only positions s <= t.
        query_seq_lengths: int32[B]; query positions from there on give 0.
        key_value_seq_lengths: int32[B]; key positions from there on are not seen.
        local_window_size: (left, right) or one int for both: t sees t - left <= s <= t + right.
        implementation: None or "xla" (the plain program; compiling backends fuse it).
        return_residual: also return the log-sum-exp of each row's scores, [B, T, N].

    Returns:
        An array like `query`. Scores and softmax are computed in float32, or in float64 for float64 operands.

    Raises:
        ShapeError, DTypeError: operands do not fit; ValueError: an unknown implementation.
    """
    if implementation not in (None, "xla"):
        raise ValueError(f"dot_product_attention: implementation must be None or 'xla', got {implementation!r}")
    out_shape = jnp.shape(query)
    query, key, value, bias, mask = map(_with_four_axes, (query, key, value, bias, mask))
    _check(query, key, value, bias, mask)
    batch, queries, heads, size = query.shape
    keys, groups = key.shape[1], key.shape[2]
    lengths = [
        _sequence_lengths(name, value, batch)
        for name, value in (("query", query_seq_lengths), ("key_value", key_value_seq_lengths))
    ]
    score_dtype = dtypes.promote_types(query.dtype, np.float32)
    # Without groups the group axis g is left out altogether, not kept with length 1.
    g = "" if heads == groups else "g"
    if g:
        query = query.reshape(batch, queries, groups, heads // groups, size)
    scores = jnp.einsum(f"btk{g}h,bskh->bk{g}ts", query, key, preferred_element_type=score_dtype)
    scores = scores * (1 / math.sqrt(size) if scale is None else jnp.asarray(scale, score_dtype))
    if bias is not None:
        scores = (scores + _by_group(bias, heads, groups)).astype(score_dtype)
    keep = _visible(scores.ndim, queries, keys, is_causal, local_window_size, *lengths)
    if mask is not None:
        keep = [_by_group(mask, heads, groups), *keep]
    if keep:
        combined = keep[0]
        for other in keep[1:]:
            combined = jnp.logical_and(combined, other)
        # Finite, so that a row without any visible key has a defined softmax and gradient.
        scores = jnp.where(combined, scores, -0.7 * float(np.finfo(score_dtype).max))
    weights = softmax(scores, axis=-1).astype(key.dtype)
    out = jnp.einsum(f"bk{g}ts,bskh->btk{g}h", weights, value)
    if lengths[0] is not None:
        real = jnp.arange(queries)[None, :] < lengths[0][:, None]
        out = jnp.where(jnp.expand_dims(real, tuple(range(2, out.ndim))), out, 0)
    out = out.reshape(out_shape)
    if not return_residual:
        return out
    residual = jnp.moveaxis(logsumexp(scores, axis=-1), -1, 1).astype(key.dtype)
    return out, residual.reshape(out_shape[:-1])


def _with_four_axes(x: ArrayLike | None) -> Array | None:
    if x is None:
        return None
    x = jnp.asarray(x)
    return x.reshape((1,) * (4 - x.ndim) + x.shape) if x.ndim < 4 else x


def _check(query: Array, key: Array, value: Array, bias: Array | None, mask: Array | None) -> None:
    named = {"query": query, "key": key, "value": value, "bias": bias, "mask": mask}
    listed = ", ".join(f"{name} {x.aval}" for name, x in named.items() if x is not None)
    if any(x is not None and x.ndim != 4 for x in named.values()):
        raise ShapeError(f"dot_product_attention: operands have at most 4 axes, got {listed}")
    batch, keys, groups, size = key.shape
    if value.shape != key.shape:
        raise ShapeError(f"dot_product_attention: value must have the shape of key, [B, S, K, H]; got {listed}")
    if (query.shape[0], query.shape[3]) != (batch, size):
        raise ShapeError(f"dot_product_attention: query must agree with key in batch and head size; got {listed}")
    heads, queries = query.shape[2], query.shape[1]
    if groups == 0 or heads % groups:
        raise ShapeError(f"dot_product_attention: the query heads must be a multiple of the key heads; got {listed}")
    if not query.dtype == key.dtype == value.dtype:
        raise DTypeError(f"dot_product_attention: query, key and value must have one dtype; got {listed}")
    if mask is not None and mask.dtype != bool:
        raise DTypeError(f"dot_product_attention: mask must be boolean (True keeps a pair); got {listed}")
    for extra in (bias, mask):
        wanted = (batch, heads, queries, keys)
        if extra is not None and any(n not in (1, m) for n, m in zip(extra.shape, wanted, strict=True)):
            raise ShapeError(
                f"dot_product_attention: bias and mask must broadcast to [B, N, T, S] = {wanted}; got {listed}"
            )


def _sequence_lengths(name: str, lengths: ArrayLike | None, batch: int) -> Array | None:
    if lengths is None:
        return None
    lengths = jnp.asarray(lengths)
    if lengths.shape != (batch,) or not dtypes.is_integer(lengths.dtype):
        raise ShapeError(
            f"dot_product_attention: {name}_seq_lengths must hold one integer a batch entry, int32[{batch}]; "
            f"got {lengths.aval}"
        )
    return lengths


def _by_group(x: Array, heads: int, groups: int) -> Array:
    """[B, N, T, S] as [B, K, N/K, T, S] where there are groups; a head axis of length 1 stays 1."""
    if heads == groups:
        return x
    batch, own_heads, queries, keys = x.shape
    if own_heads == 1:
        return x.reshape(batch, 1, 1, queries, keys)
    return x.reshape(batch, groups, heads // groups, queries, keys)


def _visible(
    rank: int,
    queries: int,
    keys: int,
    is_causal: bool,
    window: int | tuple[int, int] | None,
    query_lengths: Array | None,
    key_lengths: Array | None,
) -> list[Array]:
    """Boolean arrays, broadcastable to scores of this rank [B, ..., T, S], all of which a visible pair satisfies."""
    row, column = jnp.arange(queries)[:, None], jnp.arange(keys)[None, :]
    masks = []
    if is_causal:
        masks.append(column <= row)
    if window is not None:
        left, right = (window, window) if isinstance(window, int) else window
        masks.append(jnp.logical_and(column >= row - left, column <= row + right))
    for positions, lengths in ((row, query_lengths), (column, key_lengths)):
        if lengths is not None:
            masks.append(positions < lengths.reshape(-1, *(1,) * (rank - 1)))
    return masks
