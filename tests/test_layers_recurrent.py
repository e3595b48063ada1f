"""Recurrent layers and cells: against PyTorch, pieces of sequences, padding, initial weights, errors."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import asgfn
import asgfn.numpy as jnp
from asgfn import random, tree
from asgfn.errors import DTypeError, ShapeError
from nn_fn import functional as F
from nn_fn import initializers
from nn_fn import layers as L
from tests.references import Case, assert_case, normal
from tests.references.layers_recurrent import CASES

KINDS = ("rnn", "gru", "lstm")


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_equals_torch(case: Case) -> None:
    assert_case("layers_recurrent", case, F)


def arrays(name: str, *shape: int) -> Any:
    return jnp.asarray(normal(name, *shape).astype(np.float32))


def made(kind: str, *args: Any, **options: Any) -> tuple[Any, Any]:
    layer = getattr(L, kind)(*args, **options)
    params, state = layer.init(random.key(1))
    assert state == {}
    return layer, params


# ---------------------------------------------------------------------------------------------- state
@pytest.mark.parametrize("kind", KINDS)
def test_step_by_step_equals_the_whole_and_compiles_once(kind: str) -> None:
    layer, params = made(kind, 3, 4, 2)
    x = arrays("steps", 2, 6, 3)
    whole = layer(params, x)
    traced = []

    @asgfn.jit
    def step(state: Any, x: Any) -> Any:
        traced.append(1)
        return layer(params, state, x)

    state, pieces = layer.init_cache(2, 99), []
    for t in range(6):
        y, state = step(state, x[:, t : t + 1])
        pieces.append(y)
    assert len(traced) == 1
    np.testing.assert_allclose(jnp.concatenate(pieces, axis=1), whole, atol=1e-5)
    h = state["hidden"][0] if kind == "lstm" else state["hidden"]
    assert h.shape == (2, 2, 4)
    np.testing.assert_allclose(h[-1], whole[:, -1], atol=1e-5)
    # the option wins over what was kept
    fresh = tree.map(jnp.zeros_like, state["hidden"])
    np.testing.assert_allclose(layer(params, state, x, hidden=fresh)[0], whole, atol=1e-5)
    # a call without a cache keeps nothing
    assert layer(params, {}, x)[1] == {}


def test_models_of_several_kinds_decode() -> None:
    model = L.sequential(
        L.repeat(L.residual(L.gru(4, 4)), 2), L.lstm(4, 5), L.transformer_encoder_block(5, 1, causal=True), L.rnn(5, 2)
    )
    params, _ = model.init(random.key(0))
    x = arrays("mixed", 3, 5, 4)
    first, state = model(params, model.init_cache(3, 5), x[:, :2])
    second, _ = model(params, state, x[:, 2:])
    np.testing.assert_allclose(jnp.concatenate([first, second], axis=1), model(params, x), atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_the_other_direction_starts_anew(kind: str) -> None:
    layer, params = made(kind, 3, 4, 2, bidirectional=True)
    x = arrays("both", 2, 5, 3)
    y, state = layer(params, layer.init_cache(2, 5), x)
    np.testing.assert_allclose(y, layer(params, x), atol=1e-6)
    h = state["hidden"][0] if kind == "lstm" else state["hidden"]
    np.testing.assert_allclose(h[2], y[:, -1, :4], atol=1e-6)
    np.testing.assert_allclose(h[3], y[:, 0, 4:], atol=1e-6)
    # zeros for it, what was kept for the forward direction
    start = tree.map(lambda h: h.at[1::2].set(0.0), state["hidden"])
    np.testing.assert_allclose(layer(params, state, x)[0], layer(params, x, hidden=start), atol=1e-6)


# ---------------------------------------------------------------------------------------------- padding
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("bidirectional", [False, True])
def test_padding_does_not_count(kind: str, bidirectional: bool) -> None:
    layer, params = made(kind, 3, 4, 2, bidirectional=bidirectional)
    lengths = jnp.asarray([2, 5, 0])
    x = arrays("padding", 3, 5, 3).at[0, 2:].set(jnp.nan).at[2].set(jnp.inf)
    y, state = layer(params, layer.init_cache(3, 5), x, lengths=lengths)
    np.testing.assert_allclose(y[0, :2], layer(params, x[0, :2]), atol=1e-6)
    np.testing.assert_allclose(y[1], layer(params, x[1]), atol=1e-6)
    assert not np.asarray(y[0, 2:]).any() and not np.asarray(y[2]).any()
    alone = layer(params, layer.init_cache(1, 5), x[:1, :2])[1]["hidden"]
    for h, one in zip(tree.leaves(state["hidden"]), tree.leaves(alone), strict=True):
        np.testing.assert_allclose(h[:, :1], one, atol=1e-6)
        assert not np.asarray(h[:, 2]).any()
    grads = asgfn.grad(lambda p, x: jnp.sum(layer(p, x, lengths=lengths) ** 2), argnums=(0, 1))(params, x)
    assert all(np.isfinite(np.asarray(g)).all() for g in tree.leaves(grads))
    assert not np.asarray(grads[1][0, 2:]).any() and np.asarray(grads[1][0, :2]).any()


# ---------------------------------------------------------------------------------------------- shapes and transforms
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("leading", [(), (1,), (2, 3)])
def test_any_leading_axes(kind: str, leading: tuple[int, ...]) -> None:
    layer, params = made(kind, 2, 3, 2, bidirectional=True)
    x = arrays("leading", *leading, 4, 2)
    y = layer(params, x)
    assert y.shape == (*leading, 4, 6)
    mapped = asgfn.jit(asgfn.vmap(lambda row: layer(params, row)))(x.reshape(-1, 4, 2))
    np.testing.assert_allclose(y.reshape(-1, 4, 6), mapped, atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_empty_and_long_sequences(kind: str) -> None:
    layer, params = made(kind, 2, 3)
    assert layer(params, jnp.zeros((2, 0, 2))).shape == (2, 0, 3)
    assert layer(params, jnp.zeros((0, 4, 2))).shape == (0, 4, 3)
    state = layer.init_cache(2, 4)
    kept = layer(params, state, jnp.zeros((2, 0, 2)))[1]
    assert all(not np.asarray(h).any() for h in tree.leaves(kept))
    x = arrays("long", 300, 2)
    grads = asgfn.jit(asgfn.grad(lambda p: jnp.mean(layer(p, x) ** 2)))(params)
    assert all(np.isfinite(np.asarray(g)).all() and np.asarray(g).any() for g in tree.leaves(grads))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("scale", [1e-30, 1e30])
def test_extreme_inputs_stay_finite(kind: str, scale: float) -> None:
    layer, params = made(kind, 2, 3)
    x = arrays("extreme", 2, 4, 2) * scale
    grads = asgfn.grad(lambda p, x: jnp.sum(layer(p, x)), argnums=(0, 1))(params, x)
    assert all(np.isfinite(np.asarray(a)).all() for a in (layer(params, x), *tree.leaves(grads)))


@pytest.mark.parametrize("kind", KINDS)
def test_16_bit_floats_stay_so(kind: str) -> None:
    layer, params = made(kind, 2, 3, 2)
    small = tree.map(lambda p: p.astype("bfloat16"), params)
    x = arrays("small", 2, 4, 2)
    y, state = layer(small, layer.init_cache(2, 4), x.astype("bfloat16"))
    assert y.dtype == jnp.bfloat16
    assert all(h.dtype == jnp.float32 for h in tree.leaves(state))  # what is kept has the dtype it started with
    np.testing.assert_allclose(y.astype("float32"), layer(params, x), atol=0.05)


def test_dropout_is_between_layers() -> None:
    x = arrays("drop", 2, 4, 3)
    one, params = made("gru", 3, 4, 1, dropout=0.5)
    np.testing.assert_allclose(one(params, x, key=random.key(0), train=True), one(params, x), atol=1e-6)
    two, params = made("gru", 3, 4, 2, dropout=0.5)
    np.testing.assert_allclose(two(params, x, key=random.key(0)), two(params, x), atol=1e-6)
    a, b = (two(params, x, key=random.key(n), train=True) for n in (0, 1))
    assert np.abs(np.asarray(a - b)).max() > 1e-3
    with pytest.raises(ValueError, match="random key"):
        two(params, x, train=True)


# ---------------------------------------------------------------------------------------------- records
@pytest.mark.parametrize("kind", KINDS)
def test_initial_weights(kind: str) -> None:
    gates = {"rnn": 1, "gru": 3, "lstm": 4}[kind]
    _, params = made(kind, 30, 64, 2, bidirectional=True)
    assert params["weight_ih_l0"].shape == (30, 64 * gates)
    assert params["weight_ih_l1_reverse"].shape == (128, 64 * gates)
    assert params["weight_hh_l1"].shape == (64, 64 * gates)
    assert params["bias_hh_l1_reverse"].shape == (64 * gates,)
    assert len(params) == 16
    for name, p in params.items():
        assert np.abs(np.asarray(p)).max() <= 1 / 8, name
        assert 0.9 < np.asarray(p).std() * 8 * np.sqrt(3) < 1.1 or p.size < 500, name
    drawn = np.concatenate([np.asarray(p).ravel() for p in params.values()])
    assert len(np.unique(drawn)) > 0.99 * len(drawn)  # nothing is drawn twice
    own = {"weight_init": "xavier_normal", "recurrent_init": initializers.orthogonal(), "bias_init": "zeros"}
    layer, params = made(kind, 3, 8, **own)
    for gate in np.split(np.asarray(params["weight_hh_l0"]), gates, axis=1):
        np.testing.assert_allclose(gate.T @ gate, np.eye(8), atol=1e-5)
    assert not np.asarray(params["bias_ih_l0"]).any()
    assert L.from_json(L.to_json(layer)) == layer


@pytest.mark.parametrize("kind", KINDS)
def test_configuration_and_summary(kind: str) -> None:
    options = {"nonlinearity": "relu"} if kind == "rnn" else {}
    layer, params = made(kind, 3, 4, 2, bidirectional=True, bias=False, dropout=0.1, **options)
    assert L.from_config(L.to_config(layer)) == layer
    assert eval(repr(layer), vars(L)) == layer
    assert all(name.startswith("weight") for name in params)
    table = L.summary(layer, (2, 5, 3))
    assert table.parameters == sum(p.size for p in tree.leaves(params))
    assert table.rows[0].output == "float32[2,5,8]"
    assert table.flops > 2 * 2 * 5 * table.parameters * 0.9  # two for each weight, time and sequence


@pytest.mark.parametrize("kind", KINDS)
def test_inputs_that_do_not_fit(kind: str) -> None:
    layer, params = made(kind, 3, 4)
    x = jnp.ones((2, 5, 3))
    with pytest.raises(ShapeError, match=rf"{kind}: the input must be \[\.\.\., time, 3\], got float32\[2,5,4\]"):
        layer(params, jnp.ones((2, 5, 4)))
    with pytest.raises(ShapeError, match=r"\[1, 2, 4\]"):
        wrong = jnp.ones((1, 3, 4))
        layer(params, x, hidden=(wrong, wrong) if kind == "lstm" else wrong)
    with pytest.raises(ShapeError, match=r"lengths must be \[2\]"):
        layer(params, x, lengths=jnp.asarray([1, 2, 3]))
    with pytest.raises(DTypeError, match="integers"):
        layer(params, x, lengths=jnp.ones(2))
    if kind == "lstm":
        with pytest.raises(ShapeError, match="a pair of arrays, h and c"):
            layer(params, x, hidden=jnp.ones((1, 2, 4)))
    with pytest.raises(ValueError, match="layers must be a positive integer"):
        made(kind, 3, 4, 0)
    with pytest.raises(ValueError, match="nonlinearity"):
        L.rnn(3, 4, nonlinearity="gelu")


def test_cells_that_do_not_fit() -> None:
    x, h = jnp.ones((2, 3)), jnp.ones((2, 4))
    with pytest.raises(ShapeError, match=r"gru_cell: weight_hh must be \[hidden, 3 \* hidden\], got float32\[4,16\]"):
        F.gru_cell(x, h, jnp.ones((3, 16)), jnp.ones((4, 16)))
    with pytest.raises(ShapeError, match="rnn_cell: hidden must be"):
        F.rnn_cell(x, jnp.ones((1, 4)), jnp.ones((3, 4)), jnp.ones((4, 4)))
    with pytest.raises(ShapeError, match=r"lstm_cell: c must be \[\.\.\., 4\]"):
        F.lstm_cell(x, (h, jnp.ones((2, 3))), jnp.ones((3, 16)), jnp.ones((4, 16)))
    with pytest.raises(ShapeError):
        F.lstm_cell(x, (h, h), jnp.ones((3, 12)), jnp.ones((4, 16)))
    with pytest.raises(ValueError, match="nonlinearity"):
        F.rnn_cell(x, h, jnp.ones((3, 4)), jnp.ones((4, 4)), nonlinearity="sin")
