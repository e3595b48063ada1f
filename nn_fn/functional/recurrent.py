"""Single steps of recurrent networks, with PyTorch's equations and order of gates.

Weights are [in, gates * hidden], the transposes of PyTorch's. Arrays have any leading axes.
"""

from __future__ import annotations

from typing import Any

import asgfn.numpy as jnp
from asgfn.errors import ShapeError
from asgfn.nn import sigmoid
from asgfn.tracing import Array
from nn_fn.functional.activations import relu
from nn_fn.functional.arguments import float_array, one_of
from nn_fn.functional.linear import linear


def rnn_cell(
    x: Any,
    hidden: Any,
    weight_ih: Any,
    weight_hh: Any,
    bias_ih: Any = None,
    bias_hh: Any = None,
    nonlinearity: str = "tanh",
) -> Array:
    """tanh(x weight_ih + bias_ih + hidden weight_hh + bias_hh) (J. Elman, 1990), or relu of it.

    Arguments:
        x: float [..., in].
        hidden: float [..., hidden].
        weight_ih, weight_hh: float [in, hidden] and [hidden, hidden].
        bias_ih, bias_hh: float [hidden], or None.
        nonlinearity: "tanh" or "relu".

    Returns:
        The next hidden state, [..., hidden].

    Raises:
        ShapeError, DTypeError: operands do not fit; ValueError: an unknown nonlinearity.
    """
    one_of("rnn_cell", "nonlinearity", nonlinearity, ("tanh", "relu"))
    hidden = _checked_state("rnn_cell", "hidden", hidden, x, weight_hh, 1)
    return rnn_step(linear(x, weight_ih, bias_ih), hidden, weight_hh, bias_hh, nonlinearity)


def gru_cell(x: Any, hidden: Any, weight_ih: Any, weight_hh: Any, bias_ih: Any = None, bias_hh: Any = None) -> Array:
    """A gated recurrent unit (K. Cho et al., 2014), with the reset gate behind the product, as PyTorch's and cuDNN's.

    With r, z, n made from thirds of the weights' columns, in this order, i from x and h from the hidden state:
    r = sigmoid(i_r + h_r), z = sigmoid(i_z + h_z), n = tanh(i_n + r h_n); the result is (1 - z) n + z hidden.

    Arguments:
        x: float [..., in].
        hidden: float [..., hidden].
        weight_ih, weight_hh: float [in, 3 * hidden] and [hidden, 3 * hidden].
        bias_ih, bias_hh: float [3 * hidden], or None.

    Returns:
        The next hidden state, [..., hidden].

    Raises:
        ShapeError, DTypeError: operands do not fit.
    """
    hidden = _checked_state("gru_cell", "hidden", hidden, x, weight_hh, 3)
    return gru_step(linear(x, weight_ih, bias_ih), hidden, weight_hh, bias_hh)


def lstm_cell(
    x: Any, state: tuple[Any, Any], weight_ih: Any, weight_hh: Any, bias_ih: Any = None, bias_hh: Any = None
) -> tuple[Array, Array]:
    """A long short-term memory (S. Hochreiter, J. Schmidhuber, 1997; forget gate by F. Gers et al., 2000).

    With i, f, g, o made from quarters of the weights' columns, in this order: c' = sigmoid(f) c + sigmoid(i) tanh(g),
    h' = sigmoid(o) tanh(c').

    Arguments:
        x: float [..., in].
        state: h and c, both float [..., hidden].
        weight_ih, weight_hh: float [in, 4 * hidden] and [hidden, 4 * hidden].
        bias_ih, bias_hh: float [4 * hidden], or None.

    Returns:
        The next h and c, both [..., hidden].

    Raises:
        ShapeError, DTypeError: operands do not fit.
    """
    h = _checked_state("lstm_cell", "h", state[0], x, weight_hh, 4)
    c = _checked_state("lstm_cell", "c", state[1], x, weight_hh, 4)
    return lstm_step(linear(x, weight_ih, bias_ih), (h, c), weight_hh, bias_hh)


# ---------------------------------------------------------------------------------------------- steps
# What comes from x is a product for all times together; the rest goes step by step.
def rnn_step(from_x: Array, hidden: Array, weight_hh: Any, bias_hh: Any, nonlinearity: str) -> Array:
    """`rnn_cell`, given x weight_ih + bias_ih."""
    total = from_x + linear(hidden, weight_hh, bias_hh)
    return jnp.tanh(total) if nonlinearity == "tanh" else relu(total)


def gru_step(from_x: Array, hidden: Array, weight_hh: Any, bias_hh: Any) -> Array:
    """`gru_cell`, given x weight_ih + bias_ih."""
    x_r, x_z, x_n = jnp.split(from_x, 3, axis=-1)
    h_r, h_z, h_n = jnp.split(linear(hidden, weight_hh, bias_hh), 3, axis=-1)
    reset, update = sigmoid(x_r + h_r), sigmoid(x_z + h_z)
    new = jnp.tanh(x_n + reset * h_n)
    return (1 - update) * new + update * hidden


def lstm_step(from_x: Array, state: tuple[Array, Array], weight_hh: Any, bias_hh: Any) -> tuple[Array, Array]:
    """`lstm_cell`, given x weight_ih + bias_ih."""
    h, c = state
    gates = from_x + linear(h, weight_hh, bias_hh)
    admit, forget, new, output = jnp.split(gates, 4, axis=-1)
    c = sigmoid(forget) * c + sigmoid(admit) * jnp.tanh(new)
    return sigmoid(output) * jnp.tanh(c), c


def _checked_state(name: str, what: str, hidden: Any, x: Any, weight_hh: Any, gates: int) -> Array:
    hidden, x = float_array(name, what, hidden), float_array(name, "x", x)
    weight_hh = float_array(name, "weight_hh", weight_hh)
    if weight_hh.ndim != 2 or weight_hh.shape[1] != gates * weight_hh.shape[0]:
        columns = "hidden" if gates == 1 else f"{gates} * hidden"
        raise ShapeError(f"{name}: weight_hh must be [hidden, {columns}], got {weight_hh.aval}")
    if hidden.shape != (*x.shape[:-1], weight_hh.shape[0]):
        raise ShapeError(
            f"{name}: {what} must be [..., {weight_hh.shape[0]}] with the leading axes of x {x.aval}, got {hidden.aval}"
        )
    return hidden
