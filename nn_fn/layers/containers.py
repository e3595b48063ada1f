"""Layers made of layers: one after another, side by side, around a shortcut, many times over."""

from __future__ import annotations

from typing import Any

import asgfn
import asgfn.numpy as jnp
from asgfn import lax, tree
from asgfn.errors import ShapeError
from nn_fn.layers.configuration import constructor
from nn_fn.layers.layer import Call, Layer, apply_layer, composite


@constructor
def sequential(*layers: Layer, **named: Layer) -> Layer:
    """Layers one after another.

    Arguments:
        layers: their parameters stand under "0", "1", ...
        named: further ones, whose parameters stand under these names.

    Options are those of all layers together; each layer gets what it takes.
    """
    children = {**{str(i): layer for i, layer in enumerate(layers)}, **named}
    _check_layers("sequential", children)

    def apply(call: Call, x: Any, **options: Any) -> Any:
        for name in children:
            x = call(name, x, **options)
        return x

    return composite("sequential", children, apply)


@constructor
def residual(layer: Layer, shortcut: Layer | None = None) -> Layer:
    """layer(x) + x, or layer(x) + shortcut(x) (K. He et al., 2016).

    Raises (when called):
        ShapeError: the two have different shapes.
    """
    children = {"layer": layer} if shortcut is None else {"layer": layer, "shortcut": shortcut}
    _check_layers("residual", children)

    def apply(call: Call, x: Any, **options: Any) -> Any:
        y = call("layer", x, **options)
        x = jnp.asarray(x) if shortcut is None else call("shortcut", x, **options)
        if y.shape != x.shape:
            raise ShapeError(
                f"residual: the layer gives {y.aval}, which cannot be added to the shortcut's {x.aval}; "
                "give a shortcut layer that makes this shape"
            )
        return x + y

    return composite("residual", children, apply)


COMBINE = ("concatenate", "stack", "sum", "mean", "tuple")


@constructor
def parallel(*layers: Layer, combine: str = "concatenate", axis: int = -1, **named: Layer) -> Layer:
    """Layers side by side, all on the same input.

    Arguments:
        combine: what becomes of their results: "concatenate" or "stack" along `axis`, "sum", "mean", or "tuple".
        named: layers whose parameters stand under these names; the others stand under "0", "1", ...
    """
    if combine not in COMBINE:
        raise ValueError(f"parallel: combine must be one of {', '.join(COMBINE)}, got {combine!r}")
    children = {**{str(i): layer for i, layer in enumerate(layers)}, **named}
    _check_layers("parallel", children)
    if not children:
        raise ValueError("parallel: give at least one layer")

    def apply(call: Call, x: Any, **options: Any) -> Any:
        results = [call(name, x, **options) for name in children]
        if combine == "tuple":
            return tuple(results)
        if combine == "concatenate":
            return jnp.concatenate(results, axis=axis)
        if combine == "stack":
            return jnp.stack(results, axis=axis)
        if any(r.shape != results[0].shape for r in results):
            listed = ", ".join(str(r.aval) for r in results)
            raise ShapeError(f"parallel: results must have one shape to be combined by {combine!r}; got {listed}")
        total = sum(results[1:], results[0])
        return total if combine == "sum" else total / len(results)

    return composite("parallel", children, apply)


@constructor
def repeat(layer: Layer, count: int, remat: bool = False) -> Layer:
    """The same layer `count` times, each with parameters of its own, as one loop (`lax.scan`).

    The graph holds the layer once, however often it is repeated. Every array of parameters and state has a leading axis
    of length `count`; they stand under "layer". What the layer gives must have the shape and dtype of what it takes.

    Arguments:
        remat: recompute what is inside the layer during the backward pass, instead of keeping it: memory grows with one
            layer instead of `count`.
    """
    _check_layers("repeat", {"layer": layer})
    if isinstance(count, bool) or not isinstance(count, int) or count < 1:
        raise ValueError(f"repeat: count must be a positive integer, got {count!r}")

    def init(key: Any) -> tuple[dict, dict]:
        made = [layer.init(k) for k in asgfn.random.split(key, count)]
        params, state = tree.map(lambda *leaves: jnp.stack(leaves), *made)
        return {"layer": params}, {"layer": state} if state else {}

    def apply(params: Any, state: Any, x: Any, key: Any, train: bool, **options: Any) -> tuple[Any, Any]:
        def step(x: Any, one: Any) -> tuple[Any, Any]:
            one_params, one_state, one_key = one
            y, new_state = apply_layer(layer, "layer", one_params, one_state, x, one_key, train, options)
            if (y.shape, y.dtype) != (x.shape, x.dtype):
                raise ShapeError(
                    f"repeat: {layer.name} takes {x.aval} and gives {y.aval}; a repeated layer must keep its type"
                )
            return y, new_state

        keys = None if key is None else asgfn.random.split(key, count)
        step = asgfn.checkpoint(step) if remat else step
        y, new_state = lax.scan(step, jnp.asarray(x), (params["layer"], state.get("layer", {}), keys), length=count)
        return y, {"layer": new_state} if new_state else {}

    def cache_fn(state: Any, batch: int, max_length: int, dtype: Any) -> dict:
        inner = state.get("layer", {})
        # every repetition starts with the same empty cache, beside state of its own
        made = [
            layer.cache_fn(tree.map(lambda leaf, i=i: leaf[i], inner), batch, max_length, dtype) for i in range(count)
        ]
        stacked = tree.map(lambda *leaves: jnp.stack(leaves), *made)
        return {"layer": stacked} if stacked else {}

    return Layer(
        "repeat",
        {},
        init,
        apply,
        stateful=layer.stateful,
        options=layer.options,
        children={"layer": layer},
        cache_fn=cache_fn,
    )


def _check_layers(name: str, children: dict[str, Any]) -> None:
    for child_name, child in children.items():
        if not isinstance(child, Layer):
            hint = "; call its constructor" if callable(child) else ""
            raise TypeError(f"{name}: {child_name} must be a layer, got {type(child).__name__}{hint}")
        if "." in child_name:
            raise ValueError(f"{name}: the name {child_name!r} must not contain a dot, which separates names in paths")
