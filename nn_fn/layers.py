"""Layers: immutable records of a configuration and two pure functions.

    layer = linear(64, 10)
    params, state = layer.init(asgfn.random.key(0))
    y = layer(params, x)                                        # a layer without state
    y, state = layer(params, state, x, key=key, train=True)     # any layer

Parameters and state are nested dicts, so that every array has a path such as ``params['0']['weight']``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import asgfn
import asgfn.numpy as jnp
from asgfn.errors import ShapeError

ACTIVATIONS = ("relu", "gelu", "silu", "tanh", "sigmoid", "leaky_relu", "elu", "softplus", "softmax", "log_softmax")


@dataclass(frozen=True, eq=False)  # hashed by identity, so that a layer can be a static argument of jit
class Layer:
    """A layer.

    Attributes:
        name: what kind of layer it is; also the scope of its operations in graphs.
        config: its configuration as plain data (numbers, strings, bools, tuples, nested configurations).
        init_fn: ``key -> (params, state)``.
        apply_fn: ``(params, state, x, key, train) -> (y, state)``.
        stateful: whether it has state (running statistics, caches).
    """

    name: str
    config: Mapping[str, Any]
    init_fn: Callable[[Any], tuple[Any, Any]]
    apply_fn: Callable[..., tuple[Any, Any]]
    stateful: bool = False

    def init(self, key: Any) -> tuple[Any, Any]:
        """Parameters and state, drawn with a random key."""
        return self.init_fn(key)

    def __call__(self, params: Any, *args: Any, key: Any = None, train: bool = False) -> Any:
        """``layer(params, state, x)`` gives ``(y, state)``; ``layer(params, x)``, for a layer without state, gives y.

        Arguments:
            key: a random key, for layers that need one while training.
            train: whether this is training (dropout, batch statistics).
        """
        if len(args) == 1 and not self.stateful:
            with asgfn.named_scope(self.name):
                return self.apply_fn(params, {}, args[0], key, train)[0]
        if len(args) != 2:
            wanted = "layer(params, state, x)" + ("" if self.stateful else " or layer(params, x)")
            raise TypeError(f"{self.name}: call it as {wanted}; got {len(args) + 1} positional arguments")
        state, x = args
        with asgfn.named_scope(self.name):
            return self.apply_fn(params, state, x, key, train)


def _config(**values: Any) -> Mapping[str, Any]:
    return MappingProxyType(values)


def linear(in_features: int, out_features: int, bias: bool = True) -> Layer:
    """y = x W + b over the last axis.

    Parameters: ``weight`` [in, out] and ``bias`` [out], uniform in ±1/sqrt(in) (PyTorch's default for linear layers).

    Raises (when called):
        ShapeError: the last axis of x is not `in_features` long.
    """
    bound = 1.0 / math.sqrt(in_features)

    def init(key: Any) -> tuple[dict, dict]:
        weight_key, bias_key = asgfn.random.split(key)
        params = {"weight": asgfn.random.uniform(weight_key, (in_features, out_features), minval=-bound, maxval=bound)}
        if bias:
            params["bias"] = asgfn.random.uniform(bias_key, (out_features,), minval=-bound, maxval=bound)
        return params, {}

    def apply(params: Any, state: Any, x: Any, key: Any, train: bool) -> tuple[Any, Any]:
        x = jnp.asarray(x)
        if x.ndim == 0 or x.shape[-1] != in_features:
            raise ShapeError(
                f"linear({in_features}, {out_features}): the last axis of the input must have length {in_features}, "
                f"got {x.aval}"
            )
        y = x @ params["weight"]
        return (y + params["bias"] if bias else y), state

    return Layer("linear", _config(in_features=in_features, out_features=out_features, bias=bias), init, apply)


def activation(name: str) -> Layer:
    """An element-wise function by name, one of `ACTIVATIONS`.

    Raises:
        ValueError: there is no activation of this name.
    """
    if name not in ACTIVATIONS:
        raise ValueError(f"activation: {name!r} is not one of {', '.join(ACTIVATIONS)}")
    function = getattr(asgfn.nn, name)
    return Layer(name, _config(), lambda key: ({}, {}), lambda params, state, x, key, train: (function(x), state))


def dropout(rate: float) -> Layer:
    """While training, sets each element to zero with probability `rate` and scales the others by 1 / (1 - rate).

    Source: N. Srivastava et al., Dropout, 2014 (inverted form).

    Raises:
        ValueError: rate is not in [0, 1), or (when called for training) there is no key.
    """
    if not 0.0 <= rate < 1.0:
        raise ValueError(f"dropout: rate must be in [0, 1), got {rate}")

    def apply(params: Any, state: Any, x: Any, key: Any, train: bool) -> tuple[Any, Any]:
        if not train or rate == 0.0:
            return x, state
        if key is None:
            raise ValueError("dropout: training needs a random key; pass key=... to the model")
        x = jnp.asarray(x)
        keep = asgfn.random.bernoulli(key, 1.0 - rate, x.shape)
        return jnp.where(keep, x / (1.0 - rate), 0.0), state

    return Layer("dropout", _config(rate=rate), lambda key: ({}, {}), apply)


def sequential(*layers: Layer) -> Layer:
    """Layers one after another; layer i has its parameters under the name ``str(i)``."""
    names = [str(i) for i in range(len(layers))]

    def init(key: Any) -> tuple[dict, dict]:
        made = [layer.init(k) for layer, k in zip(layers, asgfn.random.split(key, len(layers)), strict=True)]
        return {n: p for n, (p, _) in zip(names, made, strict=True)}, {
            n: s for n, (_, s) in zip(names, made, strict=True)
        }

    def apply(params: Any, state: Any, x: Any, key: Any, train: bool) -> tuple[Any, Any]:
        keys = asgfn.random.split(key, len(layers)) if key is not None else [None] * len(layers)
        new_state = {}
        for name, layer, k in zip(names, layers, keys, strict=True):
            with asgfn.named_scope(f"{name}.{layer.name}"):
                x, new_state[name] = layer.apply_fn(params[name], state.get(name, {}), x, k, train)
        return x, new_state

    config = _config(layers=tuple({"name": layer.name, **layer.config} for layer in layers))
    return Layer("sequential", config, init, apply, stateful=any(layer.stateful for layer in layers))
