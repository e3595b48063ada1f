"""Transformer blocks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from nn_fn import functional as F
from nn_fn.layers.attention import multi_head_attention
from nn_fn.layers.checks import probability
from nn_fn.layers.configuration import constructor
from nn_fn.layers.feed_forward import feed_forward
from nn_fn.layers.layer import Call, Layer, composite
from nn_fn.layers.normalization import layer_norm, rms_norm

NORMS = ("layer_norm", "rms_norm")


@constructor
def transformer_encoder_block(
    features: int,
    heads: int,
    hidden: int | None = None,
    *,
    dropout: float = 0.0,
    attention_dropout: float | None = None,
    activation: str | Layer = "relu",
    gated: bool = False,
    norm: str = "layer_norm",
    norm_first: bool = True,
    norm_eps: float = 1e-5,
    bias: bool = True,
    causal: bool = False,
    kv_heads: int | None = None,
    head_features: int | None = None,
    rope: bool | float = False,
    alibi: bool = False,
) -> Layer:
    """Self-attention and a feed-forward part, each with a shortcut, on x [..., length, features].

    With ``causal=True`` this is the block of a decoder-only language model.

    Pre-norm (``norm_first=True``; R. Xiong et al., 2020): x = x + attn(norm1(x)), then x = x + ff(norm2(x)). A model of
    such blocks needs one more norm at its end. Post-norm (A. Vaswani et al., 2017): x = norm1(x + attn(x)), then
    x = norm2(x + ff(x)). PyTorch's default is post-norm.

    Parameters: those of ``norm1``, ``attn`` (`multi_head_attention`), ``norm2`` and ``ff`` (`feed_forward`).

    Options: ``mask`` and, with rope, ``positions``, as `multi_head_attention`'s. A causal block takes the state of
    `init_cache` for decoding.

    Arguments:
        hidden: features inside of the feed-forward part; 4 * features by default.
        dropout: rate at which each part's result, and the feed-forward part's hidden features, are dropped.
        attention_dropout: rate for attention weights; `dropout` by default.
        activation, gated: see `feed_forward`.
        norm: "layer_norm" or "rms_norm".
        norm_eps: eps of the norms.
        bias: whether linear layers and layer norms have one.
        causal, kv_heads, head_features, rope, alibi: see `multi_head_attention`.

    Raises:
        ValueError: arguments out of range; the rest as `multi_head_attention`.
    """
    name = "transformer_encoder_block"
    rates = _rates(name, dropout, attention_dropout)
    attention = multi_head_attention(
        features,
        heads,
        kv_heads=kv_heads,
        head_features=head_features,
        bias=bias,
        dropout=rates[1],
        causal=causal,
        rope=rope,
        alibi=alibi,
    )
    children = {
        "norm1": _norm(name, norm, features, norm_eps, bias),
        "attn": attention,
        "norm2": _norm(name, norm, features, norm_eps, bias),
        "ff": feed_forward(features, hidden, activation, gated=gated, dropout=dropout, bias=bias),
    }

    def apply(call: Call, x: Any, mask: Any = None, positions: Any = None) -> Any:
        x = _around(call, "norm1", norm_first, dropout, x, lambda x: call("attn", x, mask=mask, positions=positions))
        return _around(call, "norm2", norm_first, dropout, x, lambda x: call("ff", x))

    # a context beside the encoder's own sequence is none of its options, though its attention could take one
    return replace(composite(name, children, apply), options=attention.options - {"context"})


@constructor
def transformer_decoder_block(
    features: int,
    heads: int,
    hidden: int | None = None,
    *,
    context_features: int | None = None,
    dropout: float = 0.0,
    attention_dropout: float | None = None,
    activation: str | Layer = "relu",
    gated: bool = False,
    norm: str = "layer_norm",
    norm_first: bool = True,
    norm_eps: float = 1e-5,
    bias: bool = True,
    causal: bool = True,
    kv_heads: int | None = None,
    head_features: int | None = None,
    rope: bool | float = False,
    alibi: bool = False,
) -> Layer:
    """Causal self-attention, attention to a context and a feed-forward part, each with a shortcut.

    The order of norms is as in `transformer_encoder_block`. rope and alibi are for self-attention only.

    Parameters: those of ``norm1``, ``attn``, ``norm2``, ``cross`` (both `multi_head_attention`), ``norm3`` and ``ff``
    (`feed_forward`).

    Options:
        context: [..., keys, context_features], what the encoder made; needed.
        mask: for self-attention, beside the causal one.
        context_mask: which query sees which part of the context; `padding_mask` makes it from lengths.
        positions: with rope, for self-attention.

    With the state of `init_cache` self-attention works piece by piece; keys and values of the context are computed anew
    in each call.

    Arguments:
        context_features: length of the context's last axis; `features` by default.
        causal: False lets self-attention look ahead; then there is no cache.

    Other arguments: see `transformer_encoder_block`.
    """
    name = "transformer_decoder_block"
    rates = _rates(name, dropout, attention_dropout)
    shared: dict[str, Any] = {"kv_heads": kv_heads, "head_features": head_features, "bias": bias, "dropout": rates[1]}
    attention = multi_head_attention(features, heads, causal=causal, rope=rope, alibi=alibi, **shared)
    context_features = features if context_features is None else context_features
    children = {
        "norm1": _norm(name, norm, features, norm_eps, bias),
        "attn": attention,
        "norm2": _norm(name, norm, features, norm_eps, bias),
        "cross": multi_head_attention(features, heads, kv_features=context_features, **shared),
        "norm3": _norm(name, norm, features, norm_eps, bias),
        "ff": feed_forward(features, hidden, activation, gated=gated, dropout=dropout, bias=bias),
    }

    def apply(
        call: Call, x: Any, context: Any = None, mask: Any = None, context_mask: Any = None, positions: Any = None
    ) -> Any:
        if context is None:
            raise ValueError(f"{name}: pass context=..., what the decoder attends to; without one it is {_WITHOUT}")
        x = _around(call, "norm1", norm_first, dropout, x, lambda x: call("attn", x, mask=mask, positions=positions))
        x = _around(
            call, "norm2", norm_first, dropout, x, lambda x: call("cross", x, context=context, mask=context_mask)
        )
        return _around(call, "norm3", norm_first, dropout, x, lambda x: call("ff", x))

    return composite(name, children, apply, options=("context", "context_mask"))


_WITHOUT = "transformer_encoder_block(..., causal=True)"


def _around(call: Call, norm: str, norm_first: bool, rate: float, x: Any, part: Callable[[Any], Any]) -> Any:
    """A part with its shortcut and norm, before the part or behind the sum."""
    y = part(call(norm, x) if norm_first else x)
    y = x + F.dropout(y, rate, call.train, key=call.next_key())
    return y if norm_first else call(norm, y)


def _rates(name: str, dropout: float, attention_dropout: float | None) -> tuple[float, float]:
    rates = (dropout, dropout if attention_dropout is None else attention_dropout)
    probability(name, dropout=rates[0], attention_dropout=rates[1])
    return rates


def _norm(name: str, norm: str, features: int, eps: float, bias: bool) -> Layer:
    if norm not in NORMS:
        raise ValueError(f"{name}: norm must be one of {', '.join(NORMS)}, got {norm!r}")
    return rms_norm(features, eps) if norm == "rms_norm" else layer_norm(features, eps, bias=bias)
