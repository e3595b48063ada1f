"""Positions: sinusoidal, learned, rotary, ALiBi, against formulas in NumPy."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

import asgfn
import asgfn.numpy as jnp
from asgfn import random, tree
from asgfn.errors import DTypeError, ShapeError
from nn_fn.layers import (
    alibi_bias,
    alibi_slopes,
    from_json,
    learned_position,
    position_ids,
    rotary,
    sequential,
    sinusoidal,
    sinusoidal_position,
    summary,
    to_json,
)
from tests.references import normal


def arrays(name: str, *shape: int) -> Any:
    return jnp.asarray(normal(name, *shape).astype(np.float32))


# ---------------------------------------------------------------------------------------------- sinusoidal
@pytest.mark.parametrize("features", [1, 2, 5, 8])
@pytest.mark.parametrize("base", [10000.0, 50.0])
def test_sinusoidal_is_the_papers_formula(features: int, base: float) -> None:
    with asgfn.enable_x64(True):
        found = np.asarray(sinusoidal(np.arange(300), features, base))
    for position in (0, 1, 17, 299):
        for i in range(features):
            angle = position / base ** ((i - i % 2) / features)
            wanted = math.cos(angle) if i % 2 else math.sin(angle)
            assert abs(found[position, i] - wanted) < 1e-12


@pytest.mark.parametrize("make", [lambda: sinusoidal_position(5), lambda: learned_position(7, 5)])
def test_layers_count_on_and_compile_once(make: Any) -> None:
    layer = make()
    params, state = layer.init(random.key(0))
    assert state == {}
    x = arrays("count", 2, 7, 5)
    whole = layer(params, x)
    traced = []

    @asgfn.jit
    def step(params: Any, state: Any, x: Any) -> Any:
        traced.append(1)
        return layer(params, state, x)

    state = layer.init_cache(2, 7)
    pieces = []
    for t in range(7):
        y, state = step(params, state, x[:, t : t + 1])
        pieces.append(y)
    np.testing.assert_allclose(jnp.concatenate(pieces, axis=1), whole, atol=1e-6)
    assert len(traced) == 1
    assert int(state["index"]) == 7 and state["index"].dtype == jnp.int32
    # any length, any leading axes, given positions
    np.testing.assert_allclose(layer(params, x[0, :3]), whole[0, :3], atol=1e-6)
    backwards = layer(params, x[:, ::-1], positions=jnp.arange(7)[::-1])
    np.testing.assert_allclose(backwards[:, ::-1], whole, atol=1e-6)
    each = jnp.asarray([[0, 1], [3, 4]])
    found = layer(params, x[:, :2], positions=each) - x[:, :2]
    encoded = layer(params, jnp.zeros((7, 5)))
    np.testing.assert_allclose(found, encoded[each], atol=1e-6)
    assert layer(params, x[:, :0]).shape == (2, 0, 5)
    assert layer(params, x.astype("bfloat16")).dtype == jnp.bfloat16


def test_learned_positions_end() -> None:
    layer = learned_position(4, 3)
    params, _ = layer.init(random.key(0))
    with pytest.raises(ValueError, match=r"\[0, 4\), got a sequence of 5"):
        layer(params, jnp.zeros((1, 5, 3)))
    with pytest.raises(ValueError, match="got a sequence of 5"):
        asgfn.jit(lambda p, x: layer(p, x))(params, jnp.zeros((1, 5, 3)))
    with pytest.raises(ValueError, match="got init_cache with max_length=5"):
        sequential(layer).init_cache(1, 5)
    for outside in ([4], [-1]):
        with pytest.raises(ValueError, match="got positions from"):
            layer(params, jnp.zeros((1, 1, 3)), positions=jnp.asarray(outside))
    _, state = layer(params, layer.init_cache(1, 4), jnp.zeros((1, 3, 3)))
    with pytest.raises(ValueError, match="got positions from 3 to 4"):
        layer(params, state, jnp.zeros((1, 2, 3)))
    found = asgfn.jit(lambda s: layer(params, s, jnp.zeros((1, 2, 3)))[0])(state)
    np.testing.assert_array_equal(np.isnan(np.asarray(found)[0, :, 0]), [False, True])
    below = asgfn.jit(lambda p: layer(params, jnp.zeros((1, 1, 3)), positions=p))(jnp.asarray([-1]))
    assert np.isnan(np.asarray(below)).all()


def test_learned_positions_get_gradients() -> None:
    layer = learned_position(4, 3)
    params, _ = layer.init(random.key(0))
    weights = normal("upstream", 2, 3, 3)
    for call in (lambda p, x: layer(p, x), asgfn.jit(lambda p, x: layer(p, layer.init_cache(2, 4), x)[0])):
        grad = asgfn.grad(lambda p, call=call: jnp.sum(call(p, jnp.ones((2, 3, 3))) * weights))(params)["weight"]
        np.testing.assert_allclose(grad[:3], weights.sum(0), rtol=1e-5)
        assert not np.asarray(grad[3]).any()


def test_learned_positions_start_small() -> None:
    weight = np.asarray(learned_position(500, 40).init(random.key(1))[0]["weight"])
    assert abs(weight.std() - 0.02) < 0.001 and abs(weight.mean()) < 0.001
    assert not np.asarray(learned_position(3, 2, "zeros").init(random.key(1))[0]["weight"]).any()


def test_errors_of_layers() -> None:
    layer = sinusoidal_position(4)
    with pytest.raises(ShapeError, match=r"\[\.\.\., length, 4\], got float32\[2,3\]"):
        layer({}, jnp.ones((2, 3)))
    with pytest.raises(DTypeError, match="integers"):
        layer({}, jnp.ones((2, 4)), positions=jnp.ones(2))
    with pytest.raises(ShapeError, match="positions must be"):
        layer({}, jnp.ones((2, 4)), positions=jnp.arange(3))
    with pytest.raises(ValueError, match="positive integer"):
        learned_position(0, 4)


def test_position_ids() -> None:
    assert position_ids(3).tolist() == [0, 1, 2]
    assert position_ids(3, 2, offset=5).tolist() == [[5, 6, 7]] * 2
    assert position_ids(2, (1, 2)).shape == (1, 2, 2)
    assert asgfn.jit(lambda o: position_ids(2, offset=o))(4).tolist() == [4, 5]
    assert position_ids(0).dtype == jnp.int32


# ---------------------------------------------------------------------------------------------- rotary
def turned(x: np.ndarray, positions: np.ndarray, base: float) -> np.ndarray:
    """Rotary positions by multiplication of complex numbers."""
    half = x.shape[-1] // 2
    angles = positions[..., None] * base ** (-2.0 * np.arange(half) / x.shape[-1])
    z = (x[..., :half] + 1j * x[..., half:]) * np.exp(1j * angles)
    return np.concatenate([z.real, z.imag], axis=-1)


@pytest.mark.parametrize("shape", [(3, 2), (2, 5, 6), (2, 3, 7, 8), (1, 4)])
@pytest.mark.parametrize(("base", "offset"), [(10000.0, 0), (100.0, 11), (500000.0, 4000)])
def test_rotary_turns_pairs(shape: tuple[int, ...], base: float, offset: int) -> None:
    x = normal(f"rotary {shape}", *shape)
    wanted = turned(x, np.arange(shape[-2]) + offset, base)
    with asgfn.enable_x64(True):
        np.testing.assert_allclose(rotary(x, offset=offset, base=base), wanted, atol=1e-12)
        jitted = asgfn.jit(lambda x, o: rotary(x, offset=o, base=base))
        np.testing.assert_allclose(jitted(x, offset), wanted, atol=1e-12)
        mapped = asgfn.vmap(lambda o: rotary(x, offset=o, base=base))(jnp.asarray([0, offset]))
        np.testing.assert_allclose(mapped[1], wanted, atol=1e-12)
        # a rotation: the gradient of a product with w is w, turned back
        w = normal("w", *shape)
        grad = asgfn.grad(lambda x: jnp.sum(rotary(x, offset=offset, base=base) * w))(jnp.asarray(x))
        np.testing.assert_allclose(grad, turned(w, -np.arange(shape[-2]) - offset, base), atol=1e-12)


def test_rotary_products_depend_on_distance() -> None:
    q, k = normal("q", 1, 8), normal("k", 1, 8)
    with asgfn.enable_x64(True):
        product = lambda i, j: float(jnp.sum(rotary(q, offset=i) * rotary(k, offset=j)))
        for distance in (0, 1, 5, 100):
            assert abs(product(distance, 0) - product(distance + 977, 977)) < 1e-10
        assert abs(product(0, 0) - float((q * k).sum())) < 1e-12
        assert abs(product(1, 0) - product(2, 0)) > 1e-3
        np.testing.assert_allclose(jnp.linalg.norm(rotary(q, offset=12345)), np.linalg.norm(q), rtol=1e-12)


def test_rotary_of_given_positions() -> None:
    x = normal("given", 2, 3, 4)
    positions = np.asarray([[0, 1, 2], [7, 7, 50]])
    with asgfn.enable_x64(True):
        np.testing.assert_allclose(rotary(x, positions, base=20.0), turned(x, positions, 20.0), atol=1e-12)
        np.testing.assert_allclose(
            rotary(x, positions[:, :1], base=20.0), turned(x, positions[:, :1], 20.0), atol=1e-12
        )
    half = rotary(jnp.asarray(x, "bfloat16"), offset=1000)
    assert half.dtype == jnp.bfloat16
    np.testing.assert_allclose(half.astype("float32"), turned(x, np.arange(3) + 1000, 10000.0), atol=0.05)
    assert rotary(jnp.zeros((3, 0))).shape == (3, 0)
    with pytest.raises(ShapeError, match="even number"):
        rotary(jnp.ones((2, 3)))
    with pytest.raises(ShapeError, match="positions must broadcast"):
        rotary(jnp.ones((2, 4)), jnp.arange(3))
    with pytest.raises(DTypeError, match="integers"):
        rotary(jnp.ones((2, 4)), jnp.ones(2))


# ---------------------------------------------------------------------------------------------- ALiBi
@pytest.mark.parametrize(
    ("heads", "exponents"),
    [
        (1, [8]),
        (2, [4, 8]),
        (8, [1, 2, 3, 4, 5, 6, 7, 8]),
        (16, np.arange(1, 17) / 2),
        (3, [4, 8, 2]),
        (6, [2, 4, 6, 8, 1, 3]),
        (12, [1, 2, 3, 4, 5, 6, 7, 8, 0.5, 1.5, 2.5, 3.5]),
    ],
)
def test_alibi_slopes(heads: int, exponents: Any) -> None:
    np.testing.assert_allclose(alibi_slopes(heads), 2.0 ** -np.asarray(exponents, float), rtol=1e-15)


def test_alibi_bias() -> None:
    slopes = np.asarray([2.0**-4, 2.0**-8])[:, None, None]
    distance = np.abs(np.arange(4)[:, None] - np.arange(4))
    np.testing.assert_allclose(alibi_bias(2, 4), -slopes * distance)
    causal = np.where(np.triu(np.ones((4, 4), bool), 1), -np.inf, -slopes * distance)
    np.testing.assert_allclose(alibi_bias(2, 4, causal=True), causal)
    np.testing.assert_allclose(alibi_bias(2, 1, 4, offset=2, causal=True), causal[:, 2:3])
    traced = asgfn.jit(lambda o: alibi_bias(2, 2, 4, offset=o))(1)
    np.testing.assert_allclose(traced, (-slopes * distance)[:, 1:3])
    assert alibi_bias(3, 0, 5).shape == (3, 0, 5)
    assert alibi_bias(3, 1, dtype="bfloat16").dtype == jnp.bfloat16


# ---------------------------------------------------------------------------------------------- records
@pytest.mark.parametrize(
    "layer",
    [sinusoidal_position(6), sinusoidal_position(6, 20.0), learned_position(9, 6), learned_position(9, 6, "ones")],
)
def test_configuration_and_summary(layer: Any) -> None:
    assert from_json(to_json(layer)) == layer
    model = sequential(position=layer)
    params, _ = model.init(random.key(0))
    table = summary(model, (2, 5, 6))
    assert table.parameters == sum(p.size for p in tree.leaves(params))
    assert table.rows[1].output == "float32[2,5,6]"
    assert model.init_cache(2, 9)["position"]["index"].shape == ()
