"""The linear layer."""

from __future__ import annotations

import math
from typing import Any

import asgfn.numpy as jnp
from asgfn import random
from asgfn.errors import ShapeError
from nn_fn import functional as F
from nn_fn import initializers
from nn_fn.initializers import Initializer
from nn_fn.layers.checks import positive
from nn_fn.layers.configuration import constructor
from nn_fn.layers.layer import Layer, simple


@constructor
def linear(
    in_features: int,
    out_features: int,
    bias: bool = True,
    weight_init: str | Initializer = "fan_in_uniform",
    bias_init: str | Initializer = "fan_in_uniform",
) -> Layer:
    """y = x W + b over the last axis of x, which may have any number of axes.

    Parameters: ``weight`` [in_features, out_features] and ``bias`` [out_features], by default uniform in
    ±1 / sqrt(in_features), as PyTorch's.

    Raises (when called):
        ShapeError: the last axis of x is not `in_features` long.
    """
    positive("linear", in_features=in_features, out_features=out_features)
    make_weight, make_bias = initializers.get(weight_init), initializers.get(bias_init)

    def init(key: Any) -> dict[str, Any]:
        weight_key, bias_key = random.split(key)
        params = {"weight": make_weight(weight_key, (in_features, out_features))}
        if bias:
            params["bias"] = initial_bias(make_bias, bias_key, out_features, in_features)
        return params

    def apply(params: Any, x: Any) -> Any:
        x = jnp.asarray(x)
        if x.ndim == 0 or x.shape[-1] != in_features:
            raise ShapeError(
                f"linear({in_features}, {out_features}): the last axis of the input must have length {in_features}, "
                f"got {x.aval}"
            )
        return F.linear(x, params["weight"], params.get("bias"))

    return simple("linear", apply, init)


def initial_bias(initializer: Initializer, key: Any, size: int, fan_in: int) -> Any:
    """A bias [size] of units with `fan_in` inputs each, on which "fan_in_uniform" depends and others do not."""
    if initializer.name == "fan_in_uniform":
        bound = 1 / math.sqrt(fan_in)
        initializer = initializers.uniform(-bound, bound)
    return initializer(key, (size,))
