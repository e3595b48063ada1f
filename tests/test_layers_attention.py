"""Multi-head attention: against PyTorch, decoding with the cache, masks, dropout, errors."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import asgfn
import asgfn.numpy as jnp
from asgfn import random, tree
from asgfn.errors import DTypeError, ShapeError
from nn_fn import functional as F
from nn_fn.layers import (
    causal_mask,
    combine_masks,
    from_config,
    from_json,
    multi_head_attention,
    padding_mask,
    summary,
    to_config,
    to_json,
)
from tests.references import Case, assert_case, normal
from tests.references.layers_attention import CASES


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_equals_torch(case: Case) -> None:
    assert_case("layers_attention", case, F)


def arrays(name: str, *shape: int) -> Any:
    return jnp.asarray(normal(name, *shape).astype(np.float32))


def made(*args: Any, **options: Any) -> tuple[Any, Any]:
    layer = multi_head_attention(*args, **options)
    params, state = layer.init(random.key(3))
    assert state == {}
    return layer, tree.map(lambda p: p + 0.1, params)  # biases start as zeros


CACHED = [
    {},
    {"rope": True},
    {"rope": 100.0, "kv_heads": 2},
    {"alibi": True},
    {"alibi": True, "kv_heads": 1, "head_features": 6},
    {"bias": False},
]


# ---------------------------------------------------------------------------------------------- the cache
@pytest.mark.parametrize("options", CACHED, ids=str)
def test_token_by_token_equals_the_whole_and_compiles_once(options: dict[str, Any]) -> None:
    layer, params = made(8, 4, causal=True, **options)
    x = arrays("tokens", 3, 6, 8)
    whole = layer(params, x)
    traced = []

    @asgfn.jit
    def step(params: Any, state: Any, x: Any) -> Any:
        traced.append(x.shape)
        return layer(params, state, x)

    state = layer.init_cache(3, 9)
    pieces = []
    for t in range(6):
        y, state = step(params, state, x[:, t : t + 1])
        pieces.append(y)
    assert traced == [(3, 1, 8)]
    assert int(state["cache"]["index"]) == 6
    np.testing.assert_allclose(jnp.concatenate(pieces, axis=1), whole, atol=1e-5)


@pytest.mark.parametrize("cuts", [(6,), (2, 6), (0, 1, 4, 6), (5, 6)])
def test_any_pieces_equal_the_whole(cuts: tuple[int, ...]) -> None:
    layer, params = made(8, 2, causal=True, rope=True)
    x = arrays("pieces", 2, 6, 8)
    state = layer.init_cache(2, 6)
    pieces, start = [], 0
    for end in cuts:
        y, state = layer(params, state, x[:, start:end])
        pieces.append(y)
        start = end
    np.testing.assert_allclose(jnp.concatenate(pieces, axis=1), layer(params, x), atol=1e-5)


def test_what_the_cache_holds() -> None:
    layer, params = made(8, 4, causal=True, kv_heads=2, head_features=3)
    state = layer.init_cache(2, 5)
    assert tree.map(lambda a: (a.shape, str(a.dtype)), state) == {
        "cache": {"key": ((2, 5, 2, 3), "float32"), "value": ((2, 5, 2, 3), "float32"), "index": ((), "int32")}
    }
    x = arrays("kept", 2, 2, 8)
    after = layer(params, state, x)[1]["cache"]
    np.testing.assert_allclose(after["key"][:, :2].reshape(2, 2, 6), F.linear(x, **params["k"]), atol=1e-6)
    np.testing.assert_allclose(after["value"][:, :2].reshape(2, 2, 6), F.linear(x, **params["v"]), atol=1e-6)
    assert not np.asarray(after["key"][:, 2:]).any()
    assert str(layer.init_cache(2, 5, dtype="float16")["cache"]["key"].dtype) == "float16"


def test_a_cache_of_16_bits_decodes() -> None:
    layer, params = made(8, 2, causal=True)
    x = arrays("half", 2, 3, 8)
    y, state = layer(params, layer.init_cache(2, 4, dtype="bfloat16"), x)
    assert y.dtype == jnp.float32
    assert str(state["cache"]["key"].dtype) == "bfloat16"
    np.testing.assert_allclose(y, layer(params, x), atol=0.05)


def test_masks_of_a_cache_speak_about_all_its_keys() -> None:
    layer, params = made(8, 2, causal=True)
    x = arrays("padded", 2, 4, 8)
    present = jnp.asarray([[False, False, True, True], [True, True, True, True]])  # the first is padded at its start
    whole = layer(params, x, mask=padding_mask(present))
    state = layer.init_cache(2, 6)
    mask = padding_mask(jnp.concatenate([present, jnp.ones((2, 2), bool)], axis=1))
    first, state = layer(params, state, x[:, :2], mask=mask)
    second, _ = layer(params, state, x[:, 2:], mask=mask)
    np.testing.assert_allclose(jnp.concatenate([first, second], axis=1), whole, atol=1e-5)
    alone = layer(params, x[:1, 2:])
    np.testing.assert_allclose(second[:1], alone, atol=1e-5)


def test_no_room_raises_or_is_nan() -> None:
    layer, params = made(8, 2, causal=True)
    x = arrays("full", 2, 3, 8)
    _, state = layer(params, layer.init_cache(2, 4), x)
    with pytest.raises(ValueError, match=r"3 new positions after 3 seen do not fit in the cache of 4.*max_length"):
        layer(params, state, x)
    step = asgfn.jit(lambda params, state, x: layer(params, state, x))
    y, state = step(params, state, x[:, :1])
    assert np.isfinite(np.asarray(y)).all()
    for _ in range(2):
        y, state = step(params, state, x[:, :1])
        assert np.isnan(np.asarray(y)).all()
    with pytest.raises(ValueError, match="5 new positions after those seen do not fit"):
        asgfn.jit(lambda s, x: layer(params, s, x))(layer.init_cache(2, 4), arrays("long", 2, 5, 8))
    with pytest.raises(ShapeError, match="init_cache has to be called with the batch size"):
        layer(params, layer.init_cache(3, 4), x)


def test_layers_that_look_ahead_have_no_cache() -> None:
    layer, _ = made(8, 2)
    assert layer.init_cache(2, 5) == {}


def test_decoding_maps_over_sequences_of_their_own_length() -> None:
    layer, params = made(8, 2, causal=True, rope=True)
    x = arrays("ragged", 2, 4, 8)
    empty = layer.init_cache(1, 5)
    first = layer(params, empty, x[:1, :1])[1]
    second = layer(params, empty, x[1:, :3])[1]
    states = tree.map(lambda *leaves: jnp.stack(leaves), first, second)
    following = jnp.stack([x[:1, 1:2], x[1:, 3:4]])
    y, states = asgfn.vmap(lambda s, x: layer(params, s, x))(states, following)
    np.testing.assert_allclose(y[0], layer(params, x[:1])[:, 1:2], atol=1e-5)
    np.testing.assert_allclose(y[1], layer(params, x[1:])[:, 3:4], atol=1e-5)
    assert states["cache"]["index"].tolist() == [2, 4]


# ---------------------------------------------------------------------------------------------- shapes and masks
@pytest.mark.parametrize("leading", [(), (1,), (2, 3), (2, 1, 2)])
@pytest.mark.parametrize("length", [1, 4])
@pytest.mark.parametrize("options", [{}, {"causal": True, "rope": True, "kv_heads": 1}, {"alibi": True}], ids=str)
def test_any_leading_axes(leading: tuple[int, ...], length: int, options: dict[str, Any]) -> None:
    layer, params = made(8, 2, **options)
    x = arrays("leading", *leading, length, 8)
    y = layer(params, x)
    assert y.shape == x.shape
    one_by_one = [layer(params, row) for row in x.reshape(-1, length, 8)]
    np.testing.assert_allclose(y.reshape(-1, length, 8), jnp.stack(one_by_one), atol=1e-6)
    mapped = asgfn.vmap(lambda row: layer(params, row))(x.reshape(-1, length, 8))
    np.testing.assert_allclose(y.reshape(-1, length, 8), mapped, atol=1e-6)


def test_empty_inputs() -> None:
    layer, params = made(8, 2, causal=True, rope=True)
    assert layer(params, jnp.zeros((2, 0, 8))).shape == (2, 0, 8)
    assert layer(params, jnp.zeros((0, 3, 8))).shape == (0, 3, 8)
    cross, params = made(8, 2, kv_features=3)
    y = cross(params, jnp.ones((2, 4, 8)), context=jnp.zeros((2, 0, 3)))
    np.testing.assert_allclose(y, jnp.broadcast_to(params["out"]["bias"], (2, 4, 8)), atol=1e-6)  # nothing to see


@pytest.mark.parametrize("scale", [1.0, 1e4])
@pytest.mark.parametrize("kind", ["boolean", "float"])
def test_rows_that_see_nothing_give_no_nan(kind: str, scale: float) -> None:
    layer, params = made(8, 2)
    x = arrays("dark", 2, 4, 8) * scale
    seen = np.ones((2, 1, 4, 4), bool)
    seen[0, :, 1] = False
    seen[1] = False
    mask = jnp.asarray(seen) if kind == "boolean" else jnp.where(seen, 0.0, -np.inf)
    y = layer(params, x, mask=mask)
    for row in (y[0, 1], y[1, 2]):
        np.testing.assert_allclose(row, params["out"]["bias"], atol=1e-6)
    grads = asgfn.grad(lambda p, x: jnp.sum(layer(p, x, mask=mask) ** 2), argnums=(0, 1))(params, x)
    assert all(np.isfinite(np.asarray(g)).all() for g in tree.leaves(grads))
    assert all(np.asarray(g).any() for g in tree.leaves(grads[0]["v"]))


def test_hidden_keys_do_not_matter() -> None:
    layer, params = made(8, 2)
    x = arrays("hidden", 2, 5, 8)
    mask = padding_mask(jnp.asarray([3, 4]), 5)
    other = x.at[0, 3:].set(7.0).at[1, 4:].set(-7.0)
    y, z = layer(params, x, mask=mask), layer(params, other, mask=mask)
    np.testing.assert_allclose(y[0, :3], z[0, :3], atol=1e-6)
    np.testing.assert_allclose(y[1, :4], z[1, :4], atol=1e-6)
    np.testing.assert_allclose(y[0, :3], layer(params, x[0, :3]), atol=1e-6)


def test_positions_turn_queries_and_keys() -> None:
    layer, params = made(8, 2, rope=True)
    x = arrays("turned", 2, 4, 8)
    moved = layer(params, x, positions=jnp.arange(4) + 17)
    np.testing.assert_allclose(moved, layer(params, x), atol=1e-5)  # only differences count
    apart = jnp.asarray([[0, 1, 2, 3], [0, 5, 6, 20]])
    y = layer(params, x, positions=apart)
    np.testing.assert_allclose(y[0], layer(params, x)[0], atol=1e-6)
    np.testing.assert_allclose(y[1], layer(params, x[1], positions=apart[1]), atol=1e-6)
    assert np.abs(np.asarray(y[1] - layer(params, x)[1])).max() > 1e-3


def test_16_bit_floats_stay_so() -> None:
    layer, params = made(8, 2, causal=True, rope=True, alibi=True, kv_heads=1)
    x = arrays("small", 2, 5, 8)
    for dtype in ("bfloat16", "float16"):
        y = layer(tree.map(lambda p, d=dtype: p.astype(d), params), x.astype(dtype))
        assert str(y.dtype) == dtype
        np.testing.assert_allclose(y.astype("float32"), layer(params, x), atol=0.1)


# ---------------------------------------------------------------------------------------------- dropout
def test_dropout_acts_on_weights_while_training_only() -> None:
    layer, params = made(4, 1, dropout=0.5, bias=False)
    params["out"]["weight"] = jnp.eye(4)
    x = arrays("dropped", 1, 64, 4)
    np.testing.assert_allclose(layer(params, x, key=random.key(0)), layer(params, x), atol=0)
    with pytest.raises(ValueError, match="needs a random key; pass key="):
        layer(params, x, train=True)
    a, b = (layer(params, x, key=random.key(n), train=True) for n in (1, 2))
    again = asgfn.jit(lambda k: layer(params, x, key=k, train=True))(random.key(1))
    np.testing.assert_allclose(a, again, atol=1e-6)
    assert np.abs(np.asarray(a - b)).max() > 1e-3
    many = asgfn.vmap(lambda k: layer(params, x, key=k, train=True))(random.split(random.key(4), 400))
    np.testing.assert_allclose(jnp.mean(many, axis=0), layer(params, x), atol=0.12)
    # with one key to see, a whole row is dropped or doubled
    row = layer(params, x[:, :1], key=random.key(0), train=True) / layer(params, x[:, :1])
    assert np.unique(np.asarray(row).round(4)).tolist() in ([0.0], [2.0])


# ---------------------------------------------------------------------------------------------- masks
def test_causal_mask() -> None:
    np.testing.assert_array_equal(causal_mask(4), np.tril(np.ones((4, 4), bool)))
    np.testing.assert_array_equal(causal_mask(2, 5, offset=2), np.tril(np.ones((2, 5), bool), 2))
    np.testing.assert_array_equal(asgfn.jit(lambda o: causal_mask(2, 5, o))(2), np.tril(np.ones((2, 5), bool), 2))
    assert causal_mask(0).shape == (0, 0)


def test_padding_mask() -> None:
    wanted = np.asarray([[1, 1, 0], [0, 0, 0], [1, 1, 1]], bool)[:, None, None]
    np.testing.assert_array_equal(padding_mask(np.asarray([2, 0, 3]), 3), wanted)
    np.testing.assert_array_equal(padding_mask(wanted[:, 0, 0]), wanted)
    assert padding_mask(2, 3).shape == (1, 1, 3)
    assert asgfn.jit(lambda n: padding_mask(n, 5))(jnp.asarray([[2], [3]])).shape == (2, 1, 1, 1, 5)
    with pytest.raises(ValueError, match="length="):
        padding_mask(jnp.asarray([2, 3]))
    with pytest.raises(DTypeError, match="lengths"):
        padding_mask(jnp.ones((2, 3)))
    with pytest.raises(ShapeError, match=r"\[\.\.\., 4\]"):
        padding_mask(jnp.ones((2, 3), bool), 4)


def test_combine_masks() -> None:
    seen = jnp.asarray([[True, False]])
    added = jnp.asarray([[1.0, 2.0], [3.0, -np.inf]])
    assert combine_masks() is None and combine_masks(None, None) is None
    np.testing.assert_array_equal(combine_masks(seen, None, jnp.asarray([[True], [False]])), [[1, 0], [0, 0]])
    np.testing.assert_array_equal(combine_masks(added, None, seen), [[1.0, -np.inf], [3.0, -np.inf]])
    np.testing.assert_array_equal(combine_masks(added, added), [[2.0, 4.0], [6.0, -np.inf]])
    with pytest.raises(DTypeError, match="mask != 0"):
        combine_masks(seen, jnp.ones((1, 2), "int32"))
    with pytest.raises(ShapeError):
        combine_masks(seen, jnp.ones((1, 3), bool))


# ---------------------------------------------------------------------------------------------- errors and records
@pytest.mark.parametrize(
    ("args", "options", "text"),
    [
        ((8, 3), {}, "heads=3 must divide features=8"),
        ((8, 4), {"kv_heads": 3}, "kv_heads=3 must divide heads=4"),
        ((6, 2), {"rope": True}, "head_features=3 must be even"),
        ((8, 2), {"rope": -1.0}, "base of rope must be positive"),
        ((8, 2), {"causal": True, "kv_features": 8}, "kv_features has another"),
        ((8, 0), {}, "heads must be a positive integer"),
        ((8, 2), {"dropout": 1.5}, r"dropout must be in \[0, 1\)"),
    ],
)
def test_arguments_that_do_not_fit(args: Any, options: Any, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        multi_head_attention(*args, **options)


def test_inputs_that_do_not_fit() -> None:
    layer, params = made(8, 2)
    x = jnp.ones((2, 3, 8))
    with pytest.raises(ShapeError, match=r"\[\.\.\., length, 8\], got float32\[2,3,4\]"):
        layer(params, jnp.ones((2, 3, 4)))
    with pytest.raises(ShapeError, match=r"context must be .*got float32\[1,3,8\]"):
        layer(params, x, context=jnp.ones((1, 3, 8)))
    with pytest.raises(ShapeError, match="attn_mask must broadcast"):
        layer(params, x, mask=jnp.ones((2, 4), bool))
    with pytest.raises(DTypeError, match="boolean"):
        layer(params, x, mask=jnp.ones((3, 3), "int32"))
    cross, cross_params = made(8, 2, kv_features=4)
    with pytest.raises(ValueError, match="pass context="):
        cross(cross_params, x)
    causal, causal_params = made(8, 2, causal=True)
    with pytest.raises(TypeError, match="unknown option context"):
        causal(causal_params, x, context=x)
    rope, rope_params = made(8, 2, rope=True)
    with pytest.raises(DTypeError, match="positions must be integers"):
        rope(rope_params, x, positions=jnp.ones(3))
    with pytest.raises(ShapeError, match="positions must be"):
        rope(rope_params, x, positions=jnp.arange(4))


@pytest.mark.parametrize("options", [{}, {"kv_features": 3}, *({"causal": True, **o} for o in CACHED)], ids=str)
def test_configuration_and_summary(options: dict[str, Any]) -> None:
    layer, params = made(8, 4, **options)
    assert from_config(to_config(layer)) == layer
    assert from_json(to_json(layer)) == layer
    context = {"context": (2, 3, 3)} if "kv_features" in options else {}
    table = summary(layer, (2, 5, 8), **context)
    assert table.parameters == sum(p.size for p in tree.leaves(params))
    assert [row.path for row in table.rows] == ["", "q", "k", "v", "out"]
