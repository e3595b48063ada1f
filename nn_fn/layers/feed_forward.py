"""The part of a transformer block that works on each position by itself."""

from __future__ import annotations

from typing import Any

from nn_fn import functional as F
from nn_fn.initializers import Initializer
from nn_fn.layers.activation import ACTIVATIONS
from nn_fn.layers.checks import positive, probability
from nn_fn.layers.configuration import constructor
from nn_fn.layers.layer import Call, Layer, composite
from nn_fn.layers.linear import linear


@constructor
def feed_forward(
    features: int,
    hidden: int | None = None,
    activation: str | Layer = "relu",
    *,
    gated: bool = False,
    dropout: float = 0.0,
    bias: bool = True,
    weight_init: str | Initializer = "fan_in_uniform",
    bias_init: str | Initializer = "fan_in_uniform",
) -> Layer:
    """linear2(activation(linear1(x))) over the last axis of x (A. Vaswani et al., 2017, 3.3).

    Arguments:
        features: length of the last axis of x and of the result.
        hidden: length in between; 4 * features by default.
        activation: a name of `ACTIVATIONS`, or a layer that keeps the shape.
        gated: linear2(activation(gate(x)) * linear1(x)) instead (N. Shazeer, GLU variants, 2020): with "silu" this is
            SwiGLU, with "gelu" GEGLU, with "sigmoid" GLU.
        dropout: rate, behind the activation.
        bias: whether the linear layers have one.

    Raises:
        ValueError: a size or rate out of range, an unknown activation.
    """
    hidden = 4 * features if hidden is None else hidden
    positive("feed_forward", features=features, hidden=hidden)
    probability("feed_forward", dropout=dropout)
    if not isinstance(activation, Layer) and activation not in ACTIVATIONS:
        raise ValueError(f"feed_forward: activation {activation!r} is not one of {', '.join(ACTIVATIONS)}")
    inits: dict[str, Any] = {"bias": bias, "weight_init": weight_init, "bias_init": bias_init}
    children = {"linear1": linear(features, hidden, **inits), "linear2": linear(hidden, features, **inits)}
    if gated:
        children["gate"] = linear(features, hidden, **inits)
    if isinstance(activation, Layer):
        children["activation"] = activation

    def activate(call: Call, x: Any) -> Any:
        return call("activation", x) if isinstance(activation, Layer) else getattr(F, activation)(x)

    def apply(call: Call, x: Any) -> Any:
        inner = call("linear1", x)
        inner = activate(call, call("gate", x)) * inner if gated else activate(call, inner)
        inner = F.dropout(inner, dropout, call.train, key=call.next_key())
        return call("linear2", inner)

    return composite("feed_forward", children, apply)
