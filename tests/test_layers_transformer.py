"""Transformer blocks, the feed-forward part and patches: against PyTorch, decoding, dropout, errors."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import asgfn
import asgfn.numpy as jnp
from asgfn import lax, random, tree
from asgfn.errors import ShapeError
from nn_fn import functional as F
from nn_fn.layers import (
    activation,
    embedding,
    feed_forward,
    from_json,
    learned_position,
    linear,
    named_parameters,
    padding_mask,
    patch_embedding,
    repeat,
    rms_norm,
    sequential,
    sinusoidal_position,
    summary,
    to_json,
    transformer_decoder_block,
    transformer_encoder_block,
)
from tests.references import Case, assert_case, normal
from tests.references.layers_transformer import CASES


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_equals_torch(case: Case) -> None:
    assert_case("layers_transformer", case, F)


def arrays(name: str, *shape: int) -> Any:
    return jnp.asarray(normal(name, *shape).astype(np.float32))


LLAMA = {"norm": "rms_norm", "gated": True, "activation": "silu", "rope": True, "kv_heads": 2, "bias": False}


# ---------------------------------------------------------------------------------------------- decoding
@pytest.mark.parametrize(
    "model",
    [
        sequential(
            inputs=linear(5, 8),
            positions=learned_position(9, 8),
            blocks=repeat(transformer_encoder_block(8, 2, 16, causal=True), 3),
            head=linear(8, 5),
        ),
        sequential(linear(5, 8), repeat(transformer_encoder_block(8, 4, 12, causal=True, **LLAMA), 2, remat=True)),
        sequential(
            linear(5, 8),
            sinusoidal_position(8),
            transformer_encoder_block(8, 2, causal=True, alibi=True, norm_first=False, activation="gelu"),
            transformer_encoder_block(8, 1, causal=True, norm_first=False),
        ),
    ],
    ids=["learned", "llama", "alibi"],
)
def test_models_decode_token_by_token(model: Any) -> None:
    params, state = model.init(random.key(2))
    assert state == {}
    x = arrays("decode", 3, 7, 5)
    whole = model(params, x)
    traced = []

    @asgfn.jit
    def step(params: Any, state: Any, x: Any) -> Any:
        traced.append(x.shape)
        return model(params, state, x)

    # a first piece of three, then one by one
    y, state = step(params, model.init_cache(3, 9), x[:, :3])
    pieces = [y]
    for t in range(3, 7):
        y, state = step(params, state, x[:, t : t + 1])
        pieces.append(y)
    np.testing.assert_allclose(jnp.concatenate(pieces, axis=1), whole, atol=1e-5)
    assert traced == [(3, 3, 5), (3, 1, 5)]


@pytest.mark.parametrize("norm_first", [True, False])
def test_decoders_decode_with_their_context(norm_first: bool) -> None:
    model = repeat(transformer_decoder_block(8, 2, 12, context_features=6, norm_first=norm_first, rope=True), 2)
    params, _ = model.init(random.key(2))
    x, context = arrays("x", 2, 5, 8), arrays("context", 2, 4, 6)
    seen = padding_mask(jnp.asarray([4, 2]), 4)
    whole = model(params, x, context=context, context_mask=seen)
    state, pieces = model.init_cache(2, 5), []
    assert set(state["layer"]) == {"attn"}
    for t in range(5):
        y, state = model(params, state, x[:, t : t + 1], context=context, context_mask=seen)
        pieces.append(y)
    np.testing.assert_allclose(jnp.concatenate(pieces, axis=1), whole, atol=1e-5)
    changed = model(params, x, context=context.at[1, 2:].set(9.0), context_mask=seen)
    np.testing.assert_allclose(changed, whole, atol=1e-6)


def test_a_language_model_writes_in_one_loop() -> None:
    model = sequential(
        tokens=embedding(7, 8),
        positions=learned_position(6, 8),
        blocks=repeat(transformer_encoder_block(8, 2, 16, causal=True), 2),
        head=linear(8, 7),
    )
    params, _ = model.init(random.key(4))

    def write(carry: Any, _: Any) -> Any:
        state, token = carry
        logits, state = model(params, state, token)
        following = jnp.argmax(logits, axis=-1).astype(token.dtype)
        return (state, following), following[:, 0]

    start = jnp.asarray([[1], [5]], "int32")
    _, written = asgfn.jit(lambda: lax.scan(write, (model.init_cache(2, 6), start), length=5))()
    text = start
    for _ in range(5):  # the same without a cache
        following = jnp.argmax(model(params, text)[:, -1:], axis=-1).astype(text.dtype)
        text = jnp.concatenate([text, following], axis=1)
    np.testing.assert_array_equal(written.T, text[:, 1:])


def test_no_room_is_nan_in_a_loop() -> None:
    model = repeat(transformer_encoder_block(8, 2, 8, causal=True), 2)
    params, _ = model.init(random.key(0))
    x = arrays("room", 1, 4, 8)
    _, state = model(params, model.init_cache(1, 5), x)
    y, state = model(params, state, x[:, :1])
    assert np.isfinite(np.asarray(y)).all()
    assert np.isnan(np.asarray(model(params, state, x[:, :1])[0])).all()


# ---------------------------------------------------------------------------------------------- what sees what
def test_causal_blocks_do_not_look_ahead() -> None:
    block = transformer_encoder_block(8, 2, causal=True)
    params, _ = block.init(random.key(0))
    x = arrays("ahead", 5, 8)
    jacobian = asgfn.jacrev(lambda x: jnp.sum(block(params, x), axis=-1))(x)
    influence = np.abs(np.asarray(jacobian)).sum(-1) > 1e-9
    np.testing.assert_array_equal(influence, np.tril(np.ones((5, 5), bool)))


def test_an_encoder_leaves_the_context_to_the_decoder() -> None:
    encoder, decoder = transformer_encoder_block(8, 2), transformer_decoder_block(8, 2)
    assert encoder.options == {"mask"}
    assert transformer_encoder_block(8, 2, rope=True).options == {"mask", "positions"}
    assert decoder.options == {"mask", "context", "context_mask"}
    both = sequential(encoder, decoder)
    params, _ = both.init(random.key(0))
    x, context = arrays("x", 2, 3, 8), arrays("c", 2, 4, 8)
    wanted = decoder(params["1"], encoder(params["0"], x), context=context)
    np.testing.assert_allclose(both(params, x, context=context), wanted, atol=1e-6)
    with pytest.raises(ValueError, match=r"pass context=.*encoder_block\(\.\.\., causal=True\)"):
        both(params, x)


@pytest.mark.parametrize("leading", [(), (4,), (2, 3)])
def test_any_leading_axes_and_transforms(leading: tuple[int, ...]) -> None:
    block = transformer_encoder_block(8, 2, 12, **{**LLAMA, "kv_heads": 1})
    params, _ = block.init(random.key(0))
    x = arrays("leading", *leading, 3, 8)
    y = block(params, x)
    each = asgfn.vmap(lambda row: block(params, row))(x.reshape(-1, 3, 8))
    np.testing.assert_allclose(y.reshape(-1, 3, 8), each, atol=1e-5)
    loss = lambda p: jnp.sum(block(p, x) ** 2)
    for a, b in zip(*(tree.leaves(f(params)) for f in (asgfn.grad(loss), asgfn.jit(asgfn.grad(loss)))), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("norm_first", [True, False])
@pytest.mark.parametrize("scale", [0.0, 1e-20, 1e15])
def test_extreme_inputs_stay_finite(norm_first: bool, scale: float) -> None:
    block = transformer_encoder_block(8, 2, norm_first=norm_first, activation="gelu")
    params, _ = block.init(random.key(0))
    x = arrays("extreme", 2, 3, 8) * scale
    grads = asgfn.grad(lambda p, x: jnp.sum(block(p, x)), argnums=(0, 1))(params, x)
    assert all(np.isfinite(np.asarray(a)).all() for a in (block(params, x), *tree.leaves(grads)))


# ---------------------------------------------------------------------------------------------- dropout
@pytest.mark.parametrize("norm_first", [True, False])
def test_each_parts_result_is_dropped(norm_first: bool) -> None:
    block = transformer_encoder_block(400, 2, 4, dropout=0.25, attention_dropout=0.0, norm_first=norm_first)
    params, _ = block.init(random.key(0))
    # parts whose result does not depend on their input: one and ten
    for place, value in ((params["attn"]["out"], 1.0), (params["ff"]["linear2"], 10.0)):
        place["weight"], place["bias"] = jnp.zeros_like(place["weight"]), jnp.full(400, value)
    if not norm_first:  # these would hide what was dropped
        block = transformer_encoder_block(
            400, 2, 4, dropout=0.25, attention_dropout=0.0, norm_first=False, norm="rms_norm", norm_eps=1e30
        )
        params["norm1"] = params["norm2"] = {"weight": jnp.full(400, 1e15)}
    x = jnp.zeros((3, 400))
    y = np.asarray(block(params, x, key=random.key(5), train=True)).round(3)
    values, counts = np.unique(y, return_counts=True)
    np.testing.assert_allclose(values, [0, 4 / 3, 40 / 3, 44 / 3], atol=1e-3)
    np.testing.assert_allclose(counts / 1200, [1 / 16, 3 / 16, 3 / 16, 9 / 16], atol=0.04)
    np.testing.assert_allclose(block(params, x), 11.0, rtol=1e-5)
    with pytest.raises(ValueError, match="random key"):
        block(params, x, train=True)


def test_a_key_drops_differently_in_each_repetition() -> None:
    model = repeat(transformer_encoder_block(8, 2, 8, dropout=0.5), 2)
    params, _ = model.init(random.key(0))
    x = arrays("drop", 2, 4, 8)
    a = model(params, x, key=random.key(1), train=True)
    np.testing.assert_allclose(a, model(params, x, key=random.key(1), train=True), atol=1e-6)
    assert np.abs(np.asarray(a - model(params, x, key=random.key(2), train=True))).max() > 1e-2


# ---------------------------------------------------------------------------------------------- feed-forward
def test_feed_forward_gates_and_drops() -> None:
    layer = feed_forward(4, 6, "silu", gated=True, bias=False)
    params, _ = layer.init(random.key(0))
    x = arrays("gate", 2, 3, 4)
    w = {name: np.asarray(p["weight"], np.float64) for name, p in params.items()}
    gate = np.asarray(x) @ w["gate"]
    wanted = (gate / (1 + np.exp(-gate)) * (np.asarray(x) @ w["linear1"])) @ w["linear2"]
    np.testing.assert_allclose(layer(params, x), wanted, atol=1e-5)

    layer = feed_forward(3, 501, dropout=0.5, bias=False)
    params, _ = layer.init(random.key(0))
    params["linear1"]["weight"], params["linear2"]["weight"] = jnp.ones((3, 501)), jnp.ones((501, 3))
    y = np.asarray(layer(params, jnp.ones((1, 3)), key=random.key(0), train=True))
    assert (y % 6 == 0).all() and 1200 < y[0, 0] < 1800  # hidden features, 3 each, dropped or doubled
    assert layer(params, jnp.ones((1, 3)))[0, 0] == 1503


def test_feed_forward_activations() -> None:
    x = arrays("act", 2, 4)
    for name in ("relu", "gelu", "tanh", "mish"):
        layer = feed_forward(4, activation=name)
        params, _ = layer.init(random.key(0))
        assert params["linear1"]["weight"].shape == (4, 16)
        inner = getattr(F, name)(F.linear(x, **params["linear1"]))
        np.testing.assert_allclose(layer(params, x), F.linear(inner, **params["linear2"]), atol=1e-6)
    approximate = feed_forward(4, activation=activation("gelu", approximate="tanh"))
    params, _ = approximate.init(random.key(0))
    inner = F.gelu(F.linear(x, **params["linear1"]), approximate="tanh")
    np.testing.assert_allclose(approximate(params, x), F.linear(inner, **params["linear2"]), atol=1e-6)
    with pytest.raises(ValueError, match="activation 'rellu' is not one of"):
        feed_forward(4, activation="rellu")


# ---------------------------------------------------------------------------------------------- patches
def test_patches_that_do_not_fit() -> None:
    layer = patch_embedding(3, 8, 4)
    params, _ = layer.init(random.key(0))
    assert layer(params, jnp.ones((2, 3, 8, 12))).shape == (2, 6, 8)
    assert layer(params, jnp.ones((0, 3, 4, 4))).shape == (0, 1, 8)
    with pytest.raises(ShapeError, match="multiples of the patches' "):
        layer(params, jnp.ones((2, 3, 8, 9)))
    with pytest.raises(ShapeError, match=r"images must be \[N, 3, H, W\], got float32\[2,1,8,8\]"):
        layer(params, jnp.ones((2, 1, 8, 8)))
    with pytest.raises(ValueError, match="need image_size"):
        patch_embedding(3, 8, 4, learned_positions=True)
    with pytest.raises(ValueError, match=r"\(8, 6\) must be a multiple of patch_size \(4, 4\)"):
        patch_embedding(3, 8, 4, (8, 6))
    fixed = patch_embedding(3, 8, 4, 8)
    with pytest.raises(ShapeError, match=r"\[N, 3, 8, 8\]"):
        fixed(params, jnp.ones((2, 3, 8, 12)))


def test_a_vision_transformer_trains() -> None:
    model = sequential(
        patches=patch_embedding(1, 8, 2, 4, class_token=True, learned_positions=True, dropout=0.1),
        blocks=repeat(transformer_encoder_block(8, 2, 16, dropout=0.1), 2),
        norm=rms_norm(8),
    )
    params, _ = model.init(random.key(0))
    images = arrays("images", 4, 1, 4, 4)

    @asgfn.jit
    def step(params: Any, key: Any) -> Any:
        loss = lambda p: jnp.mean((model(p, images, key=key, train=True)[:, 0, 0] - jnp.arange(4) / 4) ** 2)
        value, grads = asgfn.value_and_grad(loss)(params)
        return value, tree.map(lambda p, g: p - 0.1 * g, params, grads)

    before = {name: np.asarray(p) for name, p in named_parameters(params).items()}
    losses = []
    for key in random.split(random.key(1), 30):
        value, params = step(params, key)
        losses.append(float(value))
    assert np.mean(losses[-5:]) < 0.5 * np.mean(losses[:5])
    moved = {name for name, p in named_parameters(params).items() if np.abs(np.asarray(p) - before[name]).max() > 0}
    assert {"patches.class_token", "patches.positions", "patches.projection.weight"} <= moved


# ---------------------------------------------------------------------------------------------- records
def test_names_of_parameters() -> None:
    inner = {f"{p}.{w}" for p in ("q", "k", "v", "out") for w in ("weight", "bias")}
    ff = {f"ff.linear{i}.{w}" for i in (1, 2) for w in ("weight", "bias")}
    norms = lambda n: {f"norm{i}.{w}" for i in range(1, n + 1) for w in ("weight", "bias")}
    encoder, _ = transformer_encoder_block(8, 2).init(random.key(0))
    assert set(named_parameters(encoder)) == {f"attn.{n}" for n in inner} | ff | norms(2)
    decoder, _ = transformer_decoder_block(8, 2).init(random.key(0))
    assert set(named_parameters(decoder)) == {f"{a}.{n}" for a in ("attn", "cross") for n in inner} | ff | norms(3)
    bare, _ = transformer_encoder_block(8, 2, bias=False, norm="rms_norm").init(random.key(0))
    assert all(name.endswith("weight") for name in named_parameters(bare))


@pytest.mark.parametrize(
    ("layer", "inputs"),
    [
        (transformer_encoder_block(8, 4, 12, dropout=0.1, causal=True, **LLAMA), {}),
        (
            transformer_encoder_block(8, 2, activation=activation("leaky_relu", negative_slope=0.2)),
            {"mask": (2, 1, 1, 3)},
        ),
        (transformer_decoder_block(8, 2, context_features=5, norm_first=False, alibi=True), {"context": (2, 4, 5)}),
        (repeat(transformer_encoder_block(8, 2), 3), {}),
        (feed_forward(8, 4, "gelu", gated=True, dropout=0.2, weight_init="lecun_normal"), {}),
    ],
    ids=lambda v: getattr(v, "kind", None),
)
def test_configuration_and_summary(layer: Any, inputs: dict[str, Any]) -> None:
    assert from_json(to_json(layer)) == layer
    assert eval(repr(layer), vars(__import__("nn_fn.layers", fromlist=["x"]))) == layer
    params, _ = layer.init(random.key(0))
    table = summary(layer, (2, 3, 8), **inputs)
    assert table.parameters == sum(p.size for p in tree.leaves(params))
    assert table.rows[0].output == "float32[2,3,8]"
    assert "linear2" in str(table)


def test_patch_configuration() -> None:
    layer = patch_embedding(3, 8, (2, 4), (4, 8), class_token=True, learned_positions=True, position_init="zeros")
    assert from_json(to_json(layer)) == layer
    table = summary(layer, (2, 3, 4, 8))
    assert table.rows[0].output == "float32[2,5,8]"
    assert table.rows[0].parameter_shapes == {"class_token": (8,), "positions": (5, 8)}


def test_blocks_with_arguments_that_do_not_fit() -> None:
    with pytest.raises(ValueError, match="norm must be one of layer_norm, rms_norm, got 'batch_norm'"):
        transformer_encoder_block(8, 2, norm="batch_norm")
    with pytest.raises(ValueError, match="must divide"):
        transformer_decoder_block(8, 3)
    with pytest.raises(ValueError, match="attention_dropout must be in"):
        transformer_encoder_block(8, 2, attention_dropout=1.0)
    with pytest.raises(ValueError, match="hidden must be a positive integer"):
        transformer_encoder_block(8, 2, 0)
