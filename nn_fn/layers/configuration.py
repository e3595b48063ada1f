"""Layers as plain data: a configuration says which constructor was called with which arguments, all the way down.

config = to_config(model)          # dicts, tuples, numbers and strings: fit for JSON, msgpack, a diff, an editor
config["layers"][0]["out_features"] = 128
model = from_config(config)
"""

from __future__ import annotations

import functools
import inspect
import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any, TypeVar

import numpy as np

from nn_fn.initializers import Initializer
from nn_fn.layers.layer import Layer

KIND = "kind"  # the entry of a configuration that names the constructor
_constructors: dict[str, Callable[..., Layer]] = {}
F = TypeVar("F", bound=Callable[..., Layer])


def constructor(function: F) -> F:
    """Decorates a function that makes a layer from plain data (and other layers).

    It gives the layer its configuration, and `from_config` the way back. The function's name is the kind of layer, and
    has to be unique.

    Raises (when called):
        TypeError: an argument is neither plain data, nor a layer or initializer made from such.
    """
    kind = function.__name__
    if kind in _constructors:
        raise ValueError(f"there is already a layer constructor named {kind!r}")
    signature = inspect.signature(function)
    if KIND in signature.parameters:
        raise TypeError(f"{kind}: a layer constructor has no argument named {KIND!r}, which configurations use")

    @functools.wraps(function)
    def make(*args: Any, **kwargs: Any) -> Layer:
        made = function(*args, **kwargs)
        bound = signature.bind(*args, **kwargs)
        bound.apply_defaults()
        config = {name: _plain(kind, name, value) for name, value in bound.arguments.items()}
        return replace(made, config=_freeze(config), kind=kind, text_fn=layer_text)

    _constructors[kind] = make
    return make  # type: ignore[return-value]


def to_config(layer: Layer) -> dict[str, Any]:
    """A layer's configuration, with its kind under "kind": plain data that the caller owns.

    Raises:
        TypeError: the layer, or one in it, was not made by a registered constructor.
    """
    return _thaw(layer)


def from_config(config: Mapping[str, Any]) -> Layer:
    """The layer that a configuration describes.

    Raises:
        ValueError: there is no layer of this kind; TypeError: arguments that its constructor does not take.
    """
    kind = config.get(KIND) if isinstance(config, Mapping) else None
    if not isinstance(kind, str):
        raise ValueError(f'from_config: a configuration is a mapping with an entry "kind", got {config!r}')
    if kind not in _constructors:
        raise ValueError(f"from_config: there is no layer {kind!r}; there are {', '.join(sorted(_constructors))}")
    make = _constructors[kind]
    arguments = {name: _revive(value) for name, value in config.items() if name != KIND}
    positional: list[Any] = []
    keywords: dict[str, Any] = {}
    for parameter in inspect.signature(make).parameters.values():
        if parameter.kind is parameter.VAR_POSITIONAL:
            positional = list(arguments.pop(parameter.name, ()))
        elif parameter.kind is parameter.VAR_KEYWORD:
            keywords = dict(arguments.pop(parameter.name, {}))
    return make(*positional, **arguments, **keywords)


def to_json(layer: Layer, indent: int | None = 2) -> str:
    """A layer's configuration as JSON text."""
    return json.dumps(to_config(layer), indent=indent)


def from_json(text: str) -> Layer:
    """The layer that JSON text describes; see `from_config`."""
    return from_config(json.loads(text))


def layer_text(layer: Layer) -> str:
    """A layer as the expression that makes it; arguments that have their default are left out."""
    text, _ = _expression({KIND: layer.kind, **layer.config}, 0)
    return text


def _expression(config: Any, depth: int) -> tuple[str, bool]:
    """The text of a value, and whether it holds a layer (which then goes on a line of its own)."""
    if isinstance(config, Mapping) and KIND in config:
        parts = []
        nested = False
        signature = inspect.signature(_constructors[config[KIND]])
        for position, (name, parameter) in enumerate(signature.parameters.items()):
            value = config[name]
            if parameter.kind is parameter.VAR_POSITIONAL:
                found = [_expression(v, depth + 1) for v in value]
                parts += [text for text, _ in found]
                nested = nested or any(holds for _, holds in found)
            elif parameter.kind is parameter.VAR_KEYWORD:
                found = [(f"{k}={_expression(v, depth + 1)[0]}", True) for k, v in value.items()]
                parts += [text for text, _ in found]
                nested = nested or bool(found)
            elif value != parameter.default:
                text, holds = _expression(value, depth + 1)
                required = parameter.default is parameter.empty and position == len(parts)
                parts.append(text if required else f"{name}={text}")
                nested = nested or holds
        if not nested:
            return f"{config[KIND]}({', '.join(parts)})", True
        pad = "    " * (depth + 1)
        return f"{config[KIND]}(\n" + "".join(f"{pad}{part},\n" for part in parts) + "    " * depth + ")", True
    if isinstance(config, Mapping) and "initializer" in config:
        inside = ", ".join(f"{k}={v!r}" for k, v in config.items() if k != "initializer")
        return f"initializers.{config['initializer']}({inside})", False
    return repr(config), False


def _plain(kind: str, name: str, value: Any) -> Any:
    """An argument as plain data."""
    if isinstance(value, Layer):
        # a layer made by hand stays itself: all but saving the architecture works
        return {KIND: value.kind, **value.config} if value.kind else value
    if isinstance(value, Initializer):
        return value.to_config()
    if isinstance(value, (np.bool_, np.integer, np.floating)):
        return value.item()
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, (tuple, list)):
        return tuple(_plain(kind, name, v) for v in value)
    if isinstance(value, Mapping) and all(isinstance(k, str) for k in value):
        return {k: _plain(kind, name, v) for k, v in value.items()}
    raise TypeError(
        f"{kind}: {name} must be plain data (numbers, strings, bools, None, tuples, dicts), a layer, or one of "
        f"nn_fn.initializers, so that the architecture can be saved; got {type(value).__name__}"
    )


def _freeze(value: Any) -> Any:
    if isinstance(value, Mapping):
        return MappingProxyType({k: _freeze(v) for k, v in value.items()})
    return tuple(_freeze(v) for v in value) if isinstance(value, (tuple, list)) else value


def _thaw(value: Any) -> Any:
    if isinstance(value, Layer):
        if not value.kind:
            raise TypeError(
                f"{value.name}: this layer has no configuration that it could be rebuilt from; "
                "make it with a function that is decorated with nn_fn.constructor"
            )
        return {KIND: value.kind, **_thaw(value.config)}
    if isinstance(value, Mapping):
        return {k: _thaw(v) for k, v in value.items()}
    # lists, so that a configuration can be edited in place and looks the same after JSON
    return [_thaw(v) for v in value] if isinstance(value, tuple) else value


def _revive(value: Any) -> Any:
    """The argument that plain data stands for."""
    if isinstance(value, Mapping):
        if KIND in value:
            return from_config(value)
        if "initializer" in value:
            return Initializer.from_config(value)
        return {k: _revive(v) for k, v in value.items()}
    return tuple(_revive(v) for v in value) if isinstance(value, (list, tuple)) else value
