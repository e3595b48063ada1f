"""Layers, losses, optimisers and checkpoints: against NumPy, and their errors."""

from __future__ import annotations

import os
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

import asgfn
import asgfn.numpy as jnp
import nn_fn
from asgfn import random
from asgfn.errors import DTypeError, ShapeError
from nn_fn.checkpoint import CheckpointError
from nn_fn.layers import ACTIVATIONS

KEY = random.key(3)


def numbers(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


# ------------------------------------------------------------------------------------------------------------ layers


def test_linear_parameters_have_the_documented_shapes_and_range():
    layer = nn_fn.linear(25, 400)
    params, state = layer.init(KEY)
    assert state == {} and set(params) == {"weight", "bias"}
    assert params["weight"].shape == (25, 400) and params["bias"].shape == (400,)
    for leaf in params.values():
        values = np.asarray(leaf)
        assert values.dtype == np.float32 and np.abs(values).max() <= 0.2
        assert values.min() < -0.19 and values.max() > 0.19  # ±1/sqrt(25), all of it used
        np.testing.assert_allclose(values.std(), 0.2 / np.sqrt(3), rtol=0.06)


def test_linear_is_x_w_plus_b_over_the_last_axis():
    layer = nn_fn.linear(4, 3)
    params, _ = layer.init(KEY)
    weight, bias = np.asarray(params["weight"]), np.asarray(params["bias"])
    for shape in ((4,), (5, 4), (2, 5, 4), (0, 4)):
        x = numbers(*shape)
        np.testing.assert_allclose(layer(params, x), x @ weight + bias, rtol=1e-5, atol=1e-6)
    assert set(nn_fn.linear(4, 3, bias=False).init(KEY)[0]) == {"weight"}


def test_linear_accepts_lists_and_names_wrong_shapes():
    layer = nn_fn.linear(2, 3)
    params, _ = layer.init(KEY)
    assert layer(params, [1.0, 2.0]).shape == (3,)
    for x in (numbers(5, 4), jnp.ones((5, 4))):
        with pytest.raises(ShapeError, match=r"linear\(2, 3\).*length 2, got float32\[5,4\]"):
            layer(params, x)
    with pytest.raises(ShapeError, match="length 2"):
        layer(params, np.float32(1))


def test_init_is_a_pure_function_of_the_key():
    layer = nn_fn.sequential(nn_fn.linear(3, 3), nn_fn.linear(3, 3))
    first, again, other = layer.init(KEY)[0], layer.init(KEY)[0], layer.init(random.key(4))[0]
    assert asgfn.tree.all(asgfn.tree.map(lambda a, b: bool(jnp.all(a == b)), first, again))
    assert not jnp.any(first["0"]["weight"] == other["0"]["weight"])
    assert not jnp.any(first["0"]["weight"] == first["1"]["weight"])


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations_are_those_of_asgfn_nn(name):
    x = numbers(3, 5)
    layer = nn_fn.activation(name)
    assert layer.name == name and layer.init(KEY) == ({}, {})
    np.testing.assert_array_equal(layer({}, x), getattr(asgfn.nn, name)(x))


def test_unknown_activation():
    with pytest.raises(ValueError, match="'rellu' is not one of relu, "):
        nn_fn.activation("rellu")


def test_sequential_names_its_layers_and_applies_them_in_order():
    model = nn_fn.sequential(nn_fn.linear(4, 8), nn_fn.activation("tanh"), nn_fn.linear(8, 2))
    params, state = model.init(KEY)
    assert set(params) == {"0", "1", "2"} and params["1"] == {} and state == {"0": {}, "1": {}, "2": {}}
    x = numbers(6, 4)
    hidden = np.tanh(x @ np.asarray(params["0"]["weight"]) + np.asarray(params["0"]["bias"]))
    expected = hidden @ np.asarray(params["2"]["weight"]) + np.asarray(params["2"]["bias"])
    np.testing.assert_allclose(model(params, x), expected, rtol=1e-5, atol=1e-6)
    assert [entry["name"] for entry in model.config["layers"]] == ["linear", "tanh", "linear"]
    scopes = {node.scope for node in asgfn.trace(lambda p, x: model(p, x))(params, x).nodes}
    assert "sequential/0.linear" in scopes and "sequential/2.linear" in scopes


def test_calling_conventions():
    model = nn_fn.sequential(nn_fn.linear(4, 2))
    params, state = model.init(KEY)
    x = numbers(3, 4)
    y, new_state = model(params, state, x, train=True)
    np.testing.assert_array_equal(y, model(params, x))
    assert new_state == state
    with pytest.raises(TypeError, match=r"sequential: call it as .* or layer\(params, x\); got 4 positional"):
        model(params, state, x, x)


def counter() -> nn_fn.Layer:
    """A layer with state: it counts its calls."""

    def apply(params, state, x, key, train):
        return x, {"calls": state["calls"] + 1}

    return nn_fn.Layer("counter", {}, lambda key: ({}, {"calls": jnp.zeros((), jnp.int32)}), apply, stateful=True)


def test_state_passes_through_sequential():
    model = nn_fn.sequential(nn_fn.linear(2, 2), counter())
    assert model.stateful
    params, state = model.init(KEY)
    for calls in (1, 2):
        _, state = asgfn.jit(lambda p, s, x: model(p, s, x))(params, state, numbers(1, 2))
        assert int(state["1"]["calls"]) == calls
    with pytest.raises(TypeError, match=r"call it as layer\(params, state, x\); got 2 positional"):
        model(params, numbers(1, 2))


def test_layers_are_immutable_and_can_be_static_arguments():
    layer = nn_fn.linear(2, 3)
    params, _ = layer.init(KEY)
    with pytest.raises(AttributeError):
        layer.name = "other"
    with pytest.raises(TypeError):
        layer.config["in_features"] = 3
    y = asgfn.jit(lambda layer, params, x: layer(params, x), static_argnums=0)(layer, params, numbers(4, 2))
    np.testing.assert_allclose(y, layer(params, numbers(4, 2)), rtol=1e-6)


# ----------------------------------------------------------------------------------------------------------- dropout


def test_dropout_drops_its_share_and_keeps_the_mean():
    layer, x = nn_fn.dropout(0.3), jnp.full((200, 200), 2.0)
    y, _ = layer({}, {}, x, key=KEY, train=True)
    values = np.asarray(y)
    np.testing.assert_allclose(np.unique(values), [0, 2 / 0.7], rtol=1e-6)
    assert abs((values == 0).mean() - 0.3) < 4 * np.sqrt(0.3 * 0.7 / values.size)
    assert abs(values.mean() - 2) < 0.03


def test_dropout_is_determined_by_the_key():
    layer, x = nn_fn.dropout(0.5), jnp.ones(500)

    def run(key):
        return np.asarray(layer({}, {}, x, key=key, train=True)[0])

    np.testing.assert_array_equal(run(KEY), run(KEY))
    assert (run(KEY) != run(random.key(4))).any()
    np.testing.assert_array_equal(asgfn.jit(run_traced(layer))(KEY, x), run(KEY))


def run_traced(layer):
    return lambda key, x: layer({}, {}, x, key=key, train=True)[0]


def test_dropouts_of_one_model_differ():
    model = nn_fn.sequential(nn_fn.dropout(0.5), nn_fn.dropout(0.5))
    params, state = model.init(KEY)
    y, _ = model(params, state, jnp.ones(4000), key=KEY, train=True)
    kept = float(jnp.mean(y > 0))
    assert abs(kept - 0.25) < 0.03  # equal masks would keep one half


def test_dropout_does_nothing_outside_training_or_at_rate_zero():
    x = numbers(7)
    np.testing.assert_array_equal(nn_fn.dropout(0.9)({}, x), x)
    np.testing.assert_array_equal(nn_fn.dropout(0.0)({}, {}, x, train=True)[0], x)


def test_dropout_gradients_flow_through_what_was_kept():
    layer = nn_fn.dropout(0.4)
    x = jnp.ones(50)
    y = layer({}, {}, x, key=KEY, train=True)[0]
    g = asgfn.grad(lambda x: jnp.sum(layer({}, {}, x, key=KEY, train=True)[0]))(x)
    np.testing.assert_allclose(g, y, rtol=1e-6)


def test_dropout_errors():
    for rate in (-0.1, 1.0, 1.5, float("nan")):
        with pytest.raises(ValueError, match=r"rate must be in \[0, 1\)"):
            nn_fn.dropout(rate)
    with pytest.raises(ValueError, match="needs a random key"):
        nn_fn.dropout(0.5)({}, {}, jnp.ones(3), train=True)


# ------------------------------------------------------------------------------------------------------------ losses


def reference_cross_entropy(logits: np.ndarray, labels: np.ndarray) -> float:
    z = logits.astype(np.float64).reshape(-1, logits.shape[-1])
    z = z - z.max(axis=-1, keepdims=True)
    log_p = z - np.log(np.exp(z).sum(axis=-1, keepdims=True))
    return -log_p[np.arange(len(z)), labels.ravel()].mean()


@pytest.mark.parametrize("shape", [(5,), (7, 5), (2, 3, 4)])
@pytest.mark.parametrize("scale", [1.0, 100.0, 1e4])
def test_cross_entropy_against_numpy(shape, scale):
    logits = numbers(*shape) * np.float32(scale)
    labels = np.random.default_rng(1).integers(0, shape[-1], shape[:-1]).astype(np.int32)
    value = nn_fn.losses.cross_entropy(logits, labels)
    assert value.shape == () and value.dtype == np.float32
    np.testing.assert_allclose(value, reference_cross_entropy(logits, labels), rtol=2e-6, atol=1e-7)


def test_cross_entropy_of_extreme_logits_and_its_gradient():
    logits = np.array([[3e38, -3e38, 0], [-1e30, 1e30, 0], [0, 0, 0], [-np.inf, 0, 0]], np.float32)
    labels = np.array([0, 1, 2, 1], np.int32)
    each = asgfn.vmap(nn_fn.losses.cross_entropy)(logits, labels)
    np.testing.assert_allclose(each, [0, 0, np.log(3), np.log(2)], rtol=1e-6)
    g = asgfn.vmap(asgfn.grad(nn_fn.losses.cross_entropy))(logits, labels)
    expected = [[0, 0, 0], [0, 0, 0], [1 / 3, 1 / 3, -2 / 3], [0, -0.5, 0.5]]
    np.testing.assert_allclose(g, expected, atol=1e-6)
    wrong = np.array([1, 0], np.int32)  # sure and wrong: a large finite loss, and a gradient that says where to go
    np.testing.assert_allclose(nn_fn.losses.cross_entropy(np.array([[0, -1e6]], np.float32), wrong[:1]), 1e6)
    g = asgfn.grad(nn_fn.losses.cross_entropy)(np.array([[0, -1e6]], np.float32), wrong[:1])
    np.testing.assert_allclose(g, [[1, -1]])


def test_cross_entropy_gradient_is_softmax_minus_one_hot():
    logits, labels = numbers(6, 4), np.array([0, 1, 2, 3, 0, 1], np.int32)
    z = np.exp(logits - logits.max(axis=1, keepdims=True))
    expected = (z / z.sum(axis=1, keepdims=True) - np.eye(4)[labels]) / 6
    np.testing.assert_allclose(asgfn.grad(nn_fn.losses.cross_entropy)(logits, labels), expected, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("loss", [nn_fn.losses.cross_entropy, nn_fn.losses.accuracy])
def test_labels_that_do_not_fit(loss):
    logits = jnp.zeros((4, 3))
    for labels in (jnp.zeros((3,), jnp.int32), jnp.zeros((4, 1), jnp.int32), jnp.zeros((), jnp.int32)):
        with pytest.raises(ShapeError, match=r"logits are float32\[4,3\], labels int32"):
            loss(logits, labels)
    with pytest.raises(ShapeError):
        loss(jnp.zeros(()), jnp.zeros((), jnp.int32))
    with pytest.raises(DTypeError, match=r"class numbers \(integers\), got float32\[4\]"):
        loss(logits, jnp.zeros(4))


def test_accuracy():
    logits = np.array([[1, 2, 3], [3, 2, 1], [0, 5, 0], [1, 1, 0]], np.float32)
    assert float(nn_fn.losses.accuracy(logits, np.array([2, 0, 0, 0]))) == 0.75  # a tie goes to the first


def test_mse():
    a, b = numbers(3, 4), numbers(3, 4, seed=1)
    np.testing.assert_allclose(nn_fn.losses.mse(a, b), ((a - b) ** 2).mean(), rtol=1e-6)
    np.testing.assert_allclose(asgfn.grad(nn_fn.losses.mse)(a, b), 2 * (a - b) / 12, rtol=1e-5)
    with pytest.raises(ShapeError, match=r"float32\[3,4\] and float32\[3\]"):
        nn_fn.losses.mse(a, b[:, 0])


# -------------------------------------------------------------------------------------------------------- optimisers

START = {"w": np.array([[1.0, -2.0], [0.5, 3.0]]), "b": np.array([0.1, -0.3])}
TARGET = {"w": np.array([[0.0, 1.0], [2.0, -1.0]]), "b": np.array([4.0, 0.0])}
STEPS = 25


def gradients(params: dict[str, np.ndarray], t: int) -> dict[str, np.ndarray]:
    """Of a quadratic function, different in every coordinate and changing with time."""
    return {
        k: (1 + 0.3 * np.sin(t)) * (params[k] - TARGET[k]) * (1 + np.arange(params[k].size).reshape(params[k].shape))
        for k in params
    }


def trajectory(optimiser: nn_fn.GradientTransformation) -> list[dict[str, np.ndarray]]:
    """The parameters after every step, by the optimiser under jit."""
    params = {k: jnp.asarray(v, jnp.float32) for k, v in START.items()}
    state = optimiser.init(params)

    @asgfn.jit
    def step(grads, state, params):
        updates, state = optimiser.update(grads, state, params)
        return nn_fn.apply_updates(params, updates), state

    found = []
    for t in range(STEPS):
        grads = gradients({k: np.asarray(v, np.float64) for k, v in params.items()}, t)
        params, state = step({k: jnp.asarray(v, jnp.float32) for k, v in grads.items()}, state, params)
        found.append({k: np.asarray(v) for k, v in params.items()})
    return found


def reference(update) -> list[dict[str, np.ndarray]]:
    """The same in float64 NumPy: ``update(memory, gradient, parameter, t) -> change`` for one array."""
    params = dict(START)
    memories: dict[str, dict] = {k: {} for k in params}
    found = []
    for t in range(STEPS):
        grads = gradients(params, t)
        params = {k: p + update(memories[k], grads[k], p, t) for k, p in params.items()}
        found.append(params)
    return found


def sgd_reference(memory, g, p, t):
    return -0.02 * g


def momentum_reference(memory, g, p, t):
    memory["v"] = 0.9 * memory.get("v", 0) + g
    return -0.02 * memory["v"]


def nesterov_reference(memory, g, p, t):
    memory["v"] = 0.9 * memory.get("v", 0) + g
    return -0.02 * (g + 0.9 * memory["v"])


def adam_reference(memory, g, p, t, b1=0.9, b2=0.999, eps=1e-8, rate=0.05):
    memory["m"] = b1 * memory.get("m", 0) + (1 - b1) * g
    memory["v"] = b2 * memory.get("v", 0) + (1 - b2) * g**2
    m, v = memory["m"] / (1 - b1 ** (t + 1)), memory["v"] / (1 - b2 ** (t + 1))
    return -rate * m / (np.sqrt(v) + eps)


CASES = {
    "sgd": (nn_fn.sgd(0.02), sgd_reference),
    "momentum": (nn_fn.sgd(0.02, momentum=0.9), momentum_reference),
    "nesterov": (nn_fn.sgd(0.02, momentum=0.9, nesterov=True), nesterov_reference),
    "adam": (nn_fn.adam(0.05), adam_reference),
    "adam, other settings": (
        nn_fn.adam(0.05, b1=0.5, b2=0.9, eps=1e-2),
        lambda *a: adam_reference(*a, b1=0.5, b2=0.9, eps=1e-2),
    ),
    "adam without momentum": (nn_fn.adam(0.05, b1=0.0), lambda *a: adam_reference(*a, b1=0.0)),
    "adamw": (nn_fn.adamw(0.05, weight_decay=0.3), lambda m, g, p, t: adam_reference(m, g, p, t) - 0.05 * 0.3 * p),
    "schedule": (nn_fn.sgd(lambda count: 0.05 / (1 + count)), lambda m, g, p, t: -0.05 / (1 + t) * g),
    "adam, schedule": (
        nn_fn.adam(lambda count: jnp.where(count < 10, 0.1, 0.01)),
        lambda m, g, p, t: adam_reference(m, g, p, t, rate=0.1 if t < 10 else 0.01),
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_optimiser_against_its_formula(case):
    optimiser, update = CASES[case]
    for found, expected in zip(trajectory(optimiser), reference(update), strict=True):
        for name in expected:
            np.testing.assert_allclose(found[name], expected[name], rtol=2e-5, atol=2e-5)


def test_adam_makes_steps_of_the_learning_rate_at_first():
    optimiser = nn_fn.adam(0.01)
    params = jnp.asarray([0.0, 0.0, 0.0])
    updates, _ = optimiser.update(jnp.asarray([1e-4, -3.0, 1e6]), optimiser.init(params), params)
    np.testing.assert_allclose(updates, [-0.01, 0.01, -0.01], rtol=1.5e-4)
    np.testing.assert_allclose(updates[1:], [0.01, -0.01], rtol=1e-6)


def test_the_same_without_jit_and_with_vmap():
    optimiser = nn_fn.adamw(0.1)
    params, grads = jnp.asarray(numbers(4, 3)), jnp.asarray(numbers(4, 3, seed=1))

    def one(p, g):
        updates, _ = optimiser.update(g, optimiser.init(p), p)
        return nn_fn.apply_updates(p, updates)

    np.testing.assert_allclose(asgfn.vmap(one)(params, grads), one(params, grads), rtol=1e-6)
    np.testing.assert_allclose(asgfn.jit(one)(params, grads), one(params, grads), rtol=1e-6)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_parameters_keep_their_dtype(dtype):
    params = {"w": jnp.ones(3, dtype)}
    optimiser = nn_fn.adamw(0.1)
    state = optimiser.init(params)
    for _ in range(3):
        updates, state = optimiser.update({"w": jnp.ones(3, dtype)}, state, params)
        params = nn_fn.apply_updates(params, updates)
    assert params["w"].dtype == dtype
    np.testing.assert_allclose(np.asarray(params["w"], np.float32), 0.7, atol=0.02)


def test_chain_applies_in_order_and_keeps_each_state():
    halve = nn_fn.GradientTransformation(lambda p: (), lambda g, s, p=None: (asgfn.tree.map(lambda x: x / 2, g), s))
    plus_one = nn_fn.GradientTransformation(
        lambda p: 0, lambda g, s, p=None: (asgfn.tree.map(lambda x: x + 1, g), s + 1)
    )
    both = nn_fn.chain(plus_one, halve)
    state = both.init({})
    assert state == (0, ())
    updates, state = both.update({"w": jnp.asarray(3.0)}, state)
    assert float(updates["w"]) == 2.0 and state == (1, ())
    with pytest.raises(ValueError):
        both.update({"w": jnp.asarray(3.0)}, state[:1])


def test_weight_decay_needs_the_parameters():
    optimiser = nn_fn.adamw(0.1)
    params = {"w": jnp.ones(2)}
    with pytest.raises(ValueError, match=r"weight decay needs the parameters: call update\(grads, state, params\)"):
        optimiser.update(params, optimiser.init(params))


# ------------------------------------------------------------------------------------------------------- checkpoints


def sample_tree() -> dict:
    optimiser = nn_fn.adam(1e-3)
    params, _ = nn_fn.sequential(nn_fn.linear(3, 4), nn_fn.activation("relu"), nn_fn.linear(4, 2)).init(KEY)
    return {"params": params, "optimiser": optimiser.init(params), "step": jnp.asarray(7)}


def assert_same(a, b):
    assert asgfn.tree.structure(a) == asgfn.tree.structure(b)
    for x, y in zip(asgfn.tree.leaves(a), asgfn.tree.leaves(b), strict=True):
        assert x.shape == y.shape and x.dtype == y.dtype
        np.testing.assert_array_equal(np.asarray(x), np.asarray(y))


def test_checkpoint_round_trip(tmp_path):
    tree, notes = sample_tree(), {"epoch": 3, "name": "Zoë", "rates": [0.1, 0.2], "nested": {"a": None}}
    path = nn_fn.save_checkpoint(tmp_path / "new" / "folder" / "c.safetensors", tree, notes)
    assert isinstance(path, Path) and [p.name for p in path.parent.iterdir()] == ["c.safetensors"]
    like = asgfn.tree.map(jnp.zeros_like, tree)
    loaded, metadata = nn_fn.load_checkpoint(path, like)
    assert_same(loaded, tree)
    assert metadata == notes
    shapes, _ = nn_fn.load_checkpoint(str(path), asgfn.eval_shape(lambda: tree))
    assert_same(shapes, tree)


STORED = [
    np.bool_,
    np.int8,
    np.uint8,
    np.int16,
    np.uint32,
    np.int32,
    np.float16,
    np.float32,
    np.complex64,
    ml_dtypes.bfloat16,
]


@pytest.mark.parametrize("dtype", STORED)
def test_checkpoint_dtypes(tmp_path, dtype):
    tree = [
        np.arange(6).reshape(2, 3).astype(dtype),
        np.ones((), dtype),
        np.zeros((0, 2), dtype),
        np.ones((3, 2), dtype).T,
    ]
    loaded, _ = nn_fn.load_checkpoint(nn_fn.save_checkpoint(tmp_path / "c", tree), tree)
    assert_same(loaded, tree)


def test_checkpoint_of_special_values_scalars_and_single_arrays(tmp_path):
    tree = jnp.asarray([np.nan, np.inf, -np.inf, -0.0, 1e-45], jnp.float32)
    loaded, metadata = nn_fn.load_checkpoint(nn_fn.save_checkpoint(tmp_path / "c", tree), tree)
    assert np.asarray(loaded).tobytes() == np.asarray(tree).tobytes() and metadata == {}
    loaded, _ = nn_fn.load_checkpoint(nn_fn.save_checkpoint(tmp_path / "d", {}), {})
    assert loaded == {}
    loaded, _ = nn_fn.load_checkpoint(
        nn_fn.save_checkpoint(tmp_path / "e", {"rate": 0.5, "none": None}), {"rate": 0.0, "none": None}
    )
    assert float(loaded["rate"]) == 0.5 and loaded["none"] is None


def test_checkpoint_of_float64(tmp_path):
    with asgfn.enable_x64():
        tree = {"x": jnp.asarray(np.pi)}
        loaded, _ = nn_fn.load_checkpoint(nn_fn.save_checkpoint(tmp_path / "c", tree), tree)
        assert loaded["x"].dtype == np.float64 and float(loaded["x"]) == np.pi


def test_checkpoint_of_random_keys(tmp_path):
    tree = {"one": random.key(5), "many": random.split(KEY, 3)}
    like = {"one": random.key(0), "many": random.split(random.key(0), 3)}
    loaded, _ = nn_fn.load_checkpoint(nn_fn.save_checkpoint(tmp_path / "c", tree), like)
    np.testing.assert_array_equal(random.normal(loaded["one"], (3,)), random.normal(tree["one"], (3,)))
    np.testing.assert_array_equal(random.key_data(loaded["many"]), random.key_data(tree["many"]))


def test_training_goes_on_from_a_checkpoint_as_if_nothing_had_happened(tmp_path):
    optimiser = nn_fn.adam(0.1)

    def steps(params, state, count):
        for _ in range(count):
            updates, state = optimiser.update(asgfn.grad(lambda p: jnp.sum((p - 2) ** 2))(params), state, params)
            params = nn_fn.apply_updates(params, updates)
        return params, state

    start = jnp.zeros(3)
    straight = steps(start, optimiser.init(start), 6)
    half = steps(start, optimiser.init(start), 3)
    resumed, _ = nn_fn.load_checkpoint(nn_fn.save_checkpoint(tmp_path / "c", half), half)
    assert_same(steps(*resumed, 3), straight)


def test_a_checkpoint_that_does_not_fit_names_every_difference(tmp_path):
    path = nn_fn.save_checkpoint(
        tmp_path / "c", {"a": np.ones((2, 3), np.float32), "b": np.ones(2, np.int32), "c": np.ones(1)}
    )
    like = {"a": np.ones((3, 2), np.float32), "b": np.ones(2, np.float32), "d": np.ones(1)}
    with pytest.raises(CheckpointError) as caught:
        nn_fn.load_checkpoint(path, like)
    assert str(caught.value).split("\n")[1:5] == [
        "  ['a']: float32[2, 3] in the file, float32[3, 2] expected",
        "  ['b']: int32[2] in the file, float32[2] expected",
        "  ['d']: missing",
        "  ['c']: in the file only",
    ]


def test_a_missing_file_a_folder_and_another_kind_of_file(tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no checkpoint at"):
        nn_fn.load_checkpoint(tmp_path / "nothing", {})
    with pytest.raises(CheckpointError, match="damaged or not a checkpoint"):
        nn_fn.load_checkpoint(tmp_path, {})
    for content in (b"", b"hello", b"\0" * 64, b"\xff" * 64):
        (tmp_path / "other").write_bytes(content)
        with pytest.raises(CheckpointError, match="damaged or not a checkpoint"):
            nn_fn.load_checkpoint(tmp_path / "other", {})
    from safetensors.numpy import save_file

    for metadata in (None, {"format": "pt"}):
        save_file({"x": np.ones(2)}, tmp_path / "foreign", metadata=metadata)
        with pytest.raises(CheckpointError, match="not a checkpoint of this kind"):
            nn_fn.load_checkpoint(tmp_path / "foreign", {"x": np.ones(2)})


def test_any_flipped_bit_is_noticed(tmp_path):
    tree = {"w": jnp.asarray(numbers(2, 3)), "n": jnp.asarray(1)}
    path = nn_fn.save_checkpoint(tmp_path / "c", tree, {"step": 12})
    content = path.read_bytes()
    for position in range(len(content)):
        for bit in range(8):
            changed = bytearray(content)
            changed[position] ^= 1 << bit
            path.write_bytes(changed)
            try:
                loaded, metadata = nn_fn.load_checkpoint(path, tree)
            except CheckpointError:
                continue
            # a change between the tokens of the header's JSON means nothing
            assert_same(loaded, tree)
            assert metadata == {"step": 12}
            assert chr(content[position]).isspace()


def test_truncation_at_every_length_and_trailing_bytes_are_noticed(tmp_path):
    tree = {"w": jnp.asarray(numbers(5))}
    path = nn_fn.save_checkpoint(tmp_path / "c", tree)
    content = path.read_bytes()
    for changed in [content[:n] for n in range(len(content))] + [content + b"\0"]:
        path.write_bytes(changed)
        with pytest.raises(CheckpointError):
            nn_fn.load_checkpoint(path, tree)


def test_swapped_arrays_are_noticed(tmp_path):
    from safetensors.numpy import load_file, save_file

    tree = {"a": jnp.ones(3), "b": jnp.zeros(3)}
    path = nn_fn.save_checkpoint(tmp_path / "c", tree)
    from safetensors import safe_open

    with safe_open(str(path), framework="numpy") as file:
        metadata = file.metadata()
    arrays = load_file(path)
    save_file({"['a']": arrays["['b']"], "['b']": arrays["['a']"]}, path, metadata=metadata)
    with pytest.raises(CheckpointError, match=r"the checksums of \['a'\], \['b'\] do not match"):
        nn_fn.load_checkpoint(path, tree)


@pytest.mark.parametrize("failing", ["replace", "fsync"])
def test_a_failed_save_leaves_the_old_checkpoint_and_no_litter(tmp_path, monkeypatch, failing):
    tree = {"w": jnp.ones(3)}
    path = nn_fn.save_checkpoint(tmp_path / "c", tree, {"step": 1})

    def fail(*args):
        raise OSError("the disk is full")

    monkeypatch.setattr(os, failing, fail)
    with pytest.raises(OSError, match="the disk is full"):
        nn_fn.save_checkpoint(path, {"w": jnp.zeros(3)}, {"step": 2})
    monkeypatch.undo()
    loaded, metadata = nn_fn.load_checkpoint(path, tree)
    assert_same(loaded, tree)
    assert metadata == {"step": 1} and [p.name for p in tmp_path.iterdir()] == ["c"]


def test_what_cannot_be_saved(tmp_path):
    with pytest.raises(TypeError, match=r"\['z'\] has dtype complex128, which safetensors files cannot hold"):
        nn_fn.save_checkpoint(tmp_path / "c", {"z": np.ones(2, np.complex128)})
    with pytest.raises(TypeError, match="JSON"):
        nn_fn.save_checkpoint(tmp_path / "c", {}, {"x": object()})
    assert not list(tmp_path.iterdir())
