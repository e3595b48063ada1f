"""Element-wise functions as layers."""

from __future__ import annotations

import inspect
from typing import Any

from nn_fn import functional as F
from nn_fn.layers.configuration import constructor
from nn_fn.layers.layer import Layer, simple

ACTIVATIONS = (
    "relu", "relu6", "leaky_relu", "elu", "celu", "selu", "gelu", "silu", "mish", "softplus", "sigmoid", "logsigmoid",
    "tanh", "hardtanh", "hardsigmoid", "hardswish", "hardshrink", "softshrink", "tanhshrink", "softsign", "softmax",
    "softmin", "log_softmax", "glu", "threshold",
)  # fmt: skip


@constructor
def activation(name: str, **options: Any) -> Layer:
    """A function of `nn_fn.functional` by name, one of `ACTIVATIONS`, with its options:

        activation("relu"), activation("leaky_relu", negative_slope=0.2), activation("softmax", axis=1)

    Raises:
        ValueError: there is no activation of this name; TypeError: it has no such option.
    """
    if name not in ACTIVATIONS:
        raise ValueError(f"activation: {name!r} is not one of {', '.join(ACTIVATIONS)}")
    function = getattr(F, name)
    known = [p for p in inspect.signature(function).parameters if p != "x"]
    for option in options:
        if option not in known:
            takes = f"it takes {', '.join(known)}" if known else "it takes none"
            raise TypeError(f"activation: {name} has no option {option!r}; {takes}")
    return simple(name, lambda params, x: function(x, **options))
