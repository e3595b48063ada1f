"""Recurrent layers over sequences [..., time, features]."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import asgfn.numpy as jnp
from asgfn import lax, random, tree
from asgfn.errors import ShapeError
from asgfn.tracing import Array
from nn_fn import functional as F
from nn_fn import initializers
from nn_fn.functional.arguments import float_array, integer_array
from nn_fn.functional.recurrent import gru_step, lstm_step, rnn_step
from nn_fn.initializers import Initializer
from nn_fn.layers.checks import positive, probability
from nn_fn.layers.configuration import constructor
from nn_fn.layers.layer import Layer

Init = str | Initializer | None


@constructor
def rnn(
    in_features: int,
    hidden: int,
    layers: int = 1,
    *,
    nonlinearity: str = "tanh",
    bias: bool = True,
    dropout: float = 0.0,
    bidirectional: bool = False,
    weight_init: Init = None,
    recurrent_init: Init = None,
    bias_init: Init = None,
) -> Layer:
    """A recurrent network (J. Elman, 1990): h = tanh(x weight_ih + bias_ih + h weight_hh + bias_hh) at each time.

    From x [..., time, in_features] it makes the top layer's h at all times, [..., time, hidden], or with both directions
    [..., time, 2 * hidden].

    Parameters: ``weight_ih_l0`` [in_features, gates * hidden], ``weight_hh_l0`` [hidden, gates * hidden], ``bias_ih_l0``
    and ``bias_hh_l0`` [gates * hidden], with l1, l2, ... for further layers and the ending ``_reverse`` for the other
    direction. They are named, and gates ordered, as PyTorch's; weights are transposed. Here there is one gate.

    Options:
        hidden: the state to start from, [layers * directions, ..., hidden], layer by layer, forward first; zeros by
            default.
        lengths: integers [...], for sequences with padding at their end: what is beyond a sequence's length does not
            count, the result is zero there, and the final state is the one at its end.

    The state of `init_cache` holds ``hidden``, as the option: where a call starts, and afterwards the final state. So
    sequences can be fed piece by piece. The other direction of a bidirectional layer starts from zeros (or the option)
    in every call; it has to see its sequence at once.

    Arguments:
        in_features: length of the last axis of x.
        hidden: number of hidden units.
        layers: number of layers, each on the results of the one before.
        nonlinearity: "tanh" or "relu".
        bias: whether there are biases.
        dropout: rate, between layers while training.
        bidirectional: a second network runs from the end to the start.
        weight_init, recurrent_init, bias_init: initializers, for each gate by itself, of weight_ih, weight_hh and biases;
            by default uniform in ±1 / sqrt(hidden), as PyTorch's.

    Raises:
        ValueError: arguments out of range, or (when called) training with dropout without a key.
        ShapeError (when called): shapes do not fit.
    """
    if nonlinearity not in ("tanh", "relu"):
        raise ValueError(f"rnn: nonlinearity must be 'tanh' or 'relu', got {nonlinearity!r}")

    def step(from_x: Array, h: Array, weight_hh: Any, bias_hh: Any) -> Array:
        return rnn_step(from_x, h, weight_hh, bias_hh, nonlinearity)

    inits = (weight_init, recurrent_init, bias_init)
    return _recurrent("rnn", 1, step, in_features, hidden, layers, bias, dropout, bidirectional, inits)


@constructor
def gru(
    in_features: int,
    hidden: int,
    layers: int = 1,
    *,
    bias: bool = True,
    dropout: float = 0.0,
    bidirectional: bool = False,
    weight_init: Init = None,
    recurrent_init: Init = None,
    bias_init: Init = None,
) -> Layer:
    """Gated recurrent units (K. Cho et al., 2014), with the equations of `functional.gru_cell` at each time.

    Everything is as in `rnn`, with three gates: r, z, n.
    """
    inits = (weight_init, recurrent_init, bias_init)
    return _recurrent("gru", 3, gru_step, in_features, hidden, layers, bias, dropout, bidirectional, inits)


@constructor
def lstm(
    in_features: int,
    hidden: int,
    layers: int = 1,
    *,
    bias: bool = True,
    dropout: float = 0.0,
    bidirectional: bool = False,
    weight_init: Init = None,
    recurrent_init: Init = None,
    bias_init: Init = None,
) -> Layer:
    """Long short-term memory (S. Hochreiter, J. Schmidhuber, 1997), with the equations of `functional.lstm_cell`.

    Everything is as in `rnn`, with four gates: i, f, g, o. ``hidden`` is a pair: h and c.
    """
    inits = (weight_init, recurrent_init, bias_init)
    return _recurrent("lstm", 4, lstm_step, in_features, hidden, layers, bias, dropout, bidirectional, inits)


def _recurrent(
    name: str,
    gates: int,
    step: Callable[..., Any],
    in_features: int,
    units: int,
    layers: int,
    bias: bool,
    dropout: float,
    bidirectional: bool,
    inits: tuple[Init, Init, Init],
) -> Layer:
    positive(name, in_features=in_features, hidden=units, layers=layers)
    probability(name, dropout=dropout)
    directions = 2 if bidirectional else 1
    parts = 2 if name == "lstm" else 1  # arrays that make up a hidden state
    default = initializers.uniform(-1 / math.sqrt(units), 1 / math.sqrt(units))
    makers = [default if spec is None else initializers.get(spec) for spec in inits]

    def init(key: Any) -> tuple[dict, dict]:
        params = {}
        for number, layer_key in enumerate(random.split(key, layers * directions)):
            layer, direction = divmod(number, directions)
            width = in_features if layer == 0 else directions * units
            keys = random.split(layer_key, (4, gates))
            shapes: dict[str, tuple[int, ...]] = {"weight_ih": (width, units), "weight_hh": (units, units)}
            if bias:
                shapes |= {"bias_ih": (units,), "bias_hh": (units,)}
            for i, (what, shape) in enumerate(shapes.items()):
                make = makers[min(i, 2)]
                params[what + _ending(layer, direction)] = jnp.concatenate([make(k, shape) for k in keys[i]], axis=-1)
        return params, {}

    def apply(
        params: Any, state: Any, x: Any, key: Any, train: bool, hidden: Any = None, lengths: Any = None
    ) -> tuple[Any, Any]:
        x = float_array(name, "x", x)
        if x.ndim < 2 or x.shape[-1] != in_features:
            raise ShapeError(f"{name}: the input must be [..., time, {in_features}], got {x.aval}")
        batch = x.shape[:-2]
        start = _start(name, (layers * directions, *batch, units), parts, x.dtype, hidden, state, directions)
        inside = None
        if lengths is not None:
            lengths = integer_array(name, "lengths", lengths)
            if lengths.shape != batch:
                raise ShapeError(f"{name}: lengths must be {list(batch)} for the input {x.aval}, got {lengths.aval}")
            inside = jnp.arange(x.shape[-2]).reshape(-1, *[1] * len(batch), 1) < lengths[..., None]

        y = jnp.moveaxis(x, -2, 0)
        y = y if inside is None else jnp.where(inside, y, 0)  # whatever is there, its gradient is zero
        finals = []
        for layer in range(layers):
            if layer:
                y = F.dropout(y, dropout, train, key=None if key is None else random.fold_in(key, layer))
            results = []
            for direction in range(directions):
                ending = _ending(layer, direction)
                first = tree.map(lambda h, n=layer * directions + direction: h[n], start)
                final, out = _run(step, params, ending, first, y, inside, reverse=direction == 1)
                finals.append(final)
                results.append(out)
            y = jnp.concatenate(results, axis=-1) if bidirectional else results[0]
        if "hidden" in state:
            kept = tree.map(lambda *hs: jnp.stack(hs), *finals)
            state = {**state, "hidden": tree.map(lambda h, old: h.astype(old.dtype), kept, state["hidden"])}
        return jnp.moveaxis(y, 0, -2), state

    def cache_fn(state: Any, batch: int, max_length: int, dtype: Any) -> dict:
        zeros = jnp.zeros((layers * directions, batch, units), dtype)
        return {**state, "hidden": (zeros,) * parts if parts > 1 else zeros}

    return Layer(name, {}, init, apply, options=frozenset({"hidden", "lengths"}), cache_fn=cache_fn)


def _ending(layer: int, direction: int) -> str:
    return f"_l{layer}" + ("_reverse" if direction else "")


def _run(
    step: Callable[..., Any], params: Any, ending: str, first: Any, x: Array, inside: Array | None, reverse: bool
) -> tuple[Any, Array]:
    """One layer in one direction over x [time, ..., in]: the final state, and h at all times, [time, ..., hidden]."""
    weight_hh, bias_hh = params["weight_hh" + ending], params.get("bias_hh" + ending)
    from_x = F.linear(x, params["weight_ih" + ending], params.get("bias_ih" + ending))

    def body(state: Any, at_time: Any) -> tuple[Any, Array]:
        now, counts = at_time
        new = step(now, state, weight_hh, bias_hh)
        out = new[0] if isinstance(new, tuple) else new
        if counts is not None:
            new = tree.map(lambda n, old: jnp.where(counts, n, old), new, state)
            out = jnp.where(counts, out, 0)
        return new, out

    return lax.scan(body, first, (from_x, inside), reverse=reverse)


def _start(name: str, shape: tuple[int, ...], parts: int, dtype: Any, given: Any, state: Any, directions: int) -> Any:
    """The states to start from: those given, else those kept, else zeros."""
    zeros = jnp.zeros(shape, dtype)
    kept = given is None and "hidden" in state
    hidden = state["hidden"] if kept else given
    if hidden is None:
        return (zeros,) * parts if parts > 1 else zeros
    arrays = tuple(hidden) if parts > 1 and isinstance(hidden, (tuple, list)) else (hidden,)
    if len(arrays) != parts:
        raise ShapeError(f"{name}: hidden must be {'a pair of arrays, h and c' if parts > 1 else 'an array'}")
    arrays = tuple(float_array(name, "hidden", h).astype(dtype) for h in arrays)
    for h in arrays:
        if h.shape != shape:
            raise ShapeError(f"{name}: hidden must be [layers * directions, ..., hidden] = {list(shape)}, got {h.aval}")
    if kept and directions == 2:
        backward = jnp.arange(shape[0]).reshape(-1, *[1] * (len(shape) - 1)) % 2 == 1
        arrays = tuple(jnp.where(backward, 0, h) for h in arrays)
    return arrays if parts > 1 else arrays[0]
