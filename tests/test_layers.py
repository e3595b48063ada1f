"""Layers: against PyTorch's with copied weights, containers, configurations, names, caches, summaries, errors."""

from __future__ import annotations

import json

import numpy as np
import pytest

import asgfn
import asgfn.numpy as jnp
import nn_fn
from asgfn import random, tree
from asgfn.errors import DTypeError, ShapeError, StructureError
from nn_fn import initializers, layers
from nn_fn.layers import ACTIVATIONS
from tests.references import assert_case
from tests.references.layers import CASES

KEY = random.key(3)


def numbers(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_against_pytorch(case):
    assert_case("layers", case, None)


# ------------------------------------------------------------------------------------------------------------ linear


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
    with pytest.raises(ValueError, match="out_features must be a positive integer, got 0"):
        nn_fn.linear(3, 0)


# -------------------------------------------------------------------------------------------------------- activations


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations_are_those_of_functional(name):
    options = {"threshold": {"threshold": 0.1, "value": -2.0}}.get(name, {})
    x = numbers(3, 6)
    layer = nn_fn.activation(name, **options)
    assert layer.name == name and layer.init(KEY) == ({}, {})
    np.testing.assert_array_equal(layer({}, x), getattr(nn_fn.functional, name)(x, **options))


def test_activation_options():
    x = numbers(3, 4)
    y = nn_fn.activation("leaky_relu", negative_slope=0.5)({}, x)
    np.testing.assert_allclose(y, np.where(x > 0, x, x / 2))
    np.testing.assert_allclose(np.sum(nn_fn.activation("softmax", axis=0)({}, x), axis=0), 1, rtol=1e-6)
    with pytest.raises(ValueError, match="'rellu' is not one of relu, "):
        nn_fn.activation("rellu")
    with pytest.raises(TypeError, match="relu has no option 'slope'"):
        nn_fn.activation("relu", slope=1)


# --------------------------------------------------------------------------------------------------------- containers


def test_init_is_a_pure_function_of_the_key():
    layer = nn_fn.sequential(nn_fn.linear(3, 3), nn_fn.linear(3, 3))
    first, again, other = layer.init(KEY)[0], layer.init(KEY)[0], layer.init(random.key(4))[0]
    assert tree.all(tree.map(lambda a, b: bool(jnp.all(a == b)), first, again))
    assert not jnp.any(first["0"]["weight"] == other["0"]["weight"])
    assert not jnp.any(first["0"]["weight"] == first["1"]["weight"])
    jitted = asgfn.jit(layer.init)(KEY)[0]
    tree.map(np.testing.assert_array_equal, jitted, first)


def test_sequential_names_its_layers_and_applies_them_in_order():
    model = nn_fn.sequential(nn_fn.linear(4, 8), nn_fn.activation("tanh"), head=nn_fn.linear(8, 2))
    params, state = model.init(KEY)
    assert set(params) == {"0", "1", "head"} and params["1"] == {} and state == {}
    x = numbers(6, 4)
    hidden = np.tanh(x @ np.asarray(params["0"]["weight"]) + np.asarray(params["0"]["bias"]))
    expected = hidden @ np.asarray(params["head"]["weight"]) + np.asarray(params["head"]["bias"])
    np.testing.assert_allclose(model(params, x), expected, rtol=1e-5, atol=1e-6)
    scopes = {node.scope for node in asgfn.trace(lambda p, x: model(p, x))(params, x).nodes}
    assert "sequential/0.linear" in scopes and "sequential/head.linear" in scopes


def test_calling_conventions():
    model = nn_fn.sequential(nn_fn.linear(4, 2))
    params, state = model.init(KEY)
    x = numbers(3, 4)
    y, new_state = model(params, state, x, train=True)
    np.testing.assert_array_equal(y, model(params, x))
    assert new_state == state
    with pytest.raises(TypeError, match=r"sequential: call it as .* or layer\(params, x\); got 4 positional"):
        model(params, state, x, x)
    with pytest.raises(TypeError, match="sequential: unknown option mask; it takes no options"):
        model(params, x, mask=x)
    with pytest.raises(ShapeError, match=r"the parameters have no entry '0'; they have \['1'\]"):
        model({"1": params["0"]}, x)


def counter() -> nn_fn.Layer:
    """A layer with state: it counts its calls."""

    def apply(params, state, x, key, train):
        return x, {"calls": state["calls"] + 1}

    return nn_fn.Layer("counter", {}, lambda key: ({}, {"calls": jnp.zeros((), jnp.int32)}), apply, stateful=True)


def test_state_passes_through_containers():
    model = nn_fn.sequential(
        nn_fn.linear(2, 2), counter(), nn_fn.residual(counter()), nn_fn.repeat(counter(), 3), nn_fn.parallel(counter())
    )
    assert model.stateful
    params, state = model.init(KEY)
    for calls in (1, 2):
        _, state = asgfn.jit(lambda p, s, x: model(p, s, x))(params, state, numbers(1, 2))
        assert int(state["1"]["calls"]) == int(state["2"]["layer"]["calls"]) == int(state["4"]["0"]["calls"]) == calls
        np.testing.assert_array_equal(state["3"]["layer"]["calls"], [calls] * 3)
    with pytest.raises(TypeError, match=r"call it as layer\(params, state, x\); got 2 positional"):
        model(params, numbers(1, 2))


def test_residual():
    inner = nn_fn.linear(3, 3)
    layer = nn_fn.residual(inner)
    params, _ = layer.init(KEY)
    x = numbers(2, 3)
    np.testing.assert_allclose(layer(params, x), x + inner(params["layer"], x), rtol=1e-6)
    wide = nn_fn.residual(nn_fn.linear(3, 5), nn_fn.linear(3, 5, bias=False))
    params, _ = wide.init(KEY)
    expected = nn_fn.linear(3, 5)(params["layer"], x) + x @ np.asarray(params["shortcut"]["weight"])
    np.testing.assert_allclose(wide(params, x), expected, rtol=1e-5, atol=1e-6)
    wrong = nn_fn.residual(nn_fn.linear(3, 1))  # would broadcast
    with pytest.raises(
        ShapeError, match=r"gives float32\[2,1\], which cannot be added to the shortcut's float32\[2,3\]"
    ):
        wrong(wrong.init(KEY)[0], x)


@pytest.mark.parametrize("combine", ["concatenate", "stack", "sum", "mean", "tuple"])
def test_parallel(combine):
    layer = nn_fn.parallel(nn_fn.linear(3, 4), b=nn_fn.linear(3, 4), combine=combine, axis=0)
    params, _ = layer.init(KEY)
    x = numbers(2, 3)
    parts = [np.asarray(nn_fn.linear(3, 4)(params[name], x)) for name in ("0", "b")]
    joined = {
        "concatenate": np.concatenate(parts), "stack": np.stack(parts), "sum": sum(parts), "mean": sum(parts) / 2,
    }  # fmt: skip
    if combine == "tuple":
        found = layer(params, x)
        assert isinstance(found, tuple)
        for a, b in zip(found, parts, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-6)
    else:
        np.testing.assert_allclose(layer(params, x), joined[combine], rtol=1e-6)


def test_parallel_errors():
    layer = nn_fn.parallel(nn_fn.linear(3, 4), nn_fn.linear(3, 1), combine="sum")
    with pytest.raises(ShapeError, match=r"one shape .* got float32\[2,4\], float32\[2,1\]"):
        layer(layer.init(KEY)[0], numbers(2, 3))
    with pytest.raises(ValueError, match="combine must be one of"):
        nn_fn.parallel(nn_fn.linear(3, 4), combine="max")
    with pytest.raises(ValueError, match="at least one layer"):
        nn_fn.parallel()


@pytest.mark.parametrize("remat", [False, True])
def test_repeat_is_a_chain_of_layers(remat):
    inner = nn_fn.sequential(nn_fn.linear(3, 3), nn_fn.activation("tanh"))
    layer = nn_fn.repeat(inner, 4, remat=remat)
    params, _ = layer.init(KEY)
    assert params["layer"]["0"]["weight"].shape == (4, 3, 3)
    x = numbers(2, 3)

    def chain(params, x):
        for i in range(4):
            x = inner(tree.map(lambda leaf, i=i: leaf[i], params["layer"]), x)
        return x

    np.testing.assert_allclose(layer(params, x), chain(params, x), rtol=1e-5)
    found = asgfn.grad(lambda p: jnp.sum(layer(p, x) ** 2))(params)
    expected = asgfn.grad(lambda p: jnp.sum(chain(p, x) ** 2))(params)
    tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), found, expected)
    # the graph does not grow with the number of layers
    sizes = [
        len(asgfn.trace(lambda p, x, m=m: m(p, x))(m.init(KEY)[0], x).nodes)
        for m in (layer, nn_fn.repeat(inner, 40, remat=remat))
    ]
    assert sizes[0] == sizes[1]


def test_repeat_errors():
    layer = nn_fn.repeat(nn_fn.linear(3, 5), 2)
    with pytest.raises(ShapeError, match=r"linear takes float32\[2,3\] and gives float32\[2,5\]"):
        layer(layer.init(KEY)[0], numbers(2, 3))
    with pytest.raises(ValueError, match="count must be a positive integer, got 0"):
        nn_fn.repeat(nn_fn.linear(3, 3), 0)


def test_random_keys_differ_between_layers_and_repetitions():
    for model in (
        nn_fn.sequential(nn_fn.dropout(0.5), nn_fn.dropout(0.5)),
        nn_fn.repeat(nn_fn.dropout(0.5), 2),
    ):
        params, state = model.init(KEY)
        y, _ = model(params, state, jnp.ones(4000), key=KEY, train=True)
        kept = float(jnp.mean(y > 0))
        assert abs(kept - 0.25) < 0.03  # equal masks would keep one half


def test_containers_want_layers():
    with pytest.raises(TypeError, match="sequential: 1 must be a layer, got function; call its constructor"):
        nn_fn.sequential(nn_fn.linear(2, 2), nn_fn.linear)
    with pytest.raises(ValueError, match="must not contain a dot"):
        nn_fn.sequential(**{"a.b": nn_fn.linear(2, 2)})


# ------------------------------------------------------------------------------------------------ options, composites


def test_options_reach_the_layers_that_take_them():
    @nn_fn.constructor
    def scaled_for_test():
        def apply(params, x, scale=1.0):
            return x * scale

        return layers.simple("scaled", apply, options=("scale",))

    model = nn_fn.sequential(
        nn_fn.activation("tanh"), nn_fn.repeat(scaled_for_test(), 2), nn_fn.residual(scaled_for_test())
    )
    assert model.options == {"scale"}
    params, _ = model.init(KEY)
    x = numbers(3)
    np.testing.assert_allclose(model(params, x, scale=2.0), np.tanh(x) * 4 * 3, rtol=1e-6)
    np.testing.assert_allclose(model(params, x, scale=None), np.tanh(x) * 2, rtol=1e-6)
    with pytest.raises(TypeError, match="unknown option mask; it takes scale, besides key and train"):
        model(params, x, mask=None)


def test_a_composite_shares_what_it_calls_twice():
    @nn_fn.constructor
    def twice_for_test(size: int):
        return layers.composite(
            "twice",
            {"inner": nn_fn.linear(size, size)},
            lambda call, x: call("inner", call("inner", x)) * call.params["scale"],
            init=lambda key: {"scale": jnp.full((), 3.0)},
        )

    model = twice_for_test(3)
    params, _ = model.init(KEY)
    assert list(nn_fn.named_parameters(params)) == ["inner.bias", "inner.weight", "scale"]
    inner, x = nn_fn.linear(3, 3), numbers(2, 3)
    expected = 3 * inner(params["inner"], inner(params["inner"], x))
    np.testing.assert_allclose(model(params, x), expected, rtol=1e-5)
    with pytest.raises(ValueError, match="already a layer constructor named 'linear'"):

        @nn_fn.constructor
        def linear():
            pass


# ------------------------------------------------------------------------------------------------------ configurations


def every_layer() -> list[nn_fn.Layer]:
    return [
        nn_fn.linear(3, 4, weight_init=initializers.normal(stddev=0.1)),
        nn_fn.activation("leaky_relu", negative_slope=0.3),
        nn_fn.sequential(nn_fn.linear(2, 3), a=nn_fn.dropout(0.1)),
        nn_fn.residual(nn_fn.linear(2, 3), nn_fn.linear(2, 3)),
        nn_fn.parallel(nn_fn.identity(), b=nn_fn.identity(), combine="sum"),
        nn_fn.repeat(nn_fn.linear(2, 2), 3, remat=True),
        nn_fn.conv1d(2, 4, 3, padding="same"), nn_fn.conv2d(2, 4, (3, 2), groups=2), nn_fn.conv3d(2, 4, 3, bias=False),
        nn_fn.conv_transpose1d(2, 4, 3), nn_fn.conv_transpose2d(2, 4, 3, dilation=2), nn_fn.conv_transpose3d(2, 4, 3),
        nn_fn.max_pool1d(2), nn_fn.max_pool2d((2, 3), padding=1), nn_fn.max_pool3d(2),
        nn_fn.avg_pool1d(2), nn_fn.avg_pool2d(2), nn_fn.avg_pool3d(2),
        nn_fn.adaptive_avg_pool1d(2), nn_fn.adaptive_avg_pool2d((None, 2)), nn_fn.adaptive_avg_pool3d(2),
        nn_fn.adaptive_max_pool1d(2), nn_fn.adaptive_max_pool2d(2), nn_fn.adaptive_max_pool3d(2),
        nn_fn.batch_norm(3), nn_fn.instance_norm(3), nn_fn.layer_norm((3, 4)), nn_fn.rms_norm(3),
        nn_fn.group_norm(2, 4), nn_fn.local_response_norm(3),
        nn_fn.dropout(0.2), nn_fn.spatial_dropout(0.2), nn_fn.alpha_dropout(0.2),
        nn_fn.embedding(5, 3, padding_idx=0), nn_fn.embedding_bag(5, 3),
        nn_fn.flatten(), nn_fn.unflatten(1, (2, -1)), nn_fn.upsample(scale_factor=2), nn_fn.pixel_shuffle(2),
        nn_fn.identity(),
    ]  # fmt: skip


@pytest.mark.parametrize("layer", every_layer(), ids=lambda layer: layer.name)
def test_a_configuration_gives_the_layer_back(layer):
    config = nn_fn.to_config(layer)
    assert json.loads(json.dumps(config)) == config
    again = nn_fn.from_config(config)
    assert again == layer and hash(again) == hash(layer) and nn_fn.to_config(again) == config
    assert nn_fn.from_json(nn_fn.to_json(layer)) == layer
    assert eval(repr(layer), {**vars(layers), "initializers": initializers}) == layer
    params, state = layer.init(KEY)
    tree.map(np.testing.assert_array_equal, (params, state), again.init(KEY))


def test_a_configuration_can_be_edited():
    model = nn_fn.sequential(nn_fn.linear(4, 8), nn_fn.activation("relu"), nn_fn.linear(8, 2))
    config = nn_fn.to_config(model)
    config["layers"][0]["out_features"] = config["layers"][2]["in_features"] = 16
    config["layers"][1]["name"] = "gelu"
    edited = nn_fn.from_config(config)
    assert edited.init(KEY)[0]["0"]["weight"].shape == (4, 16)
    assert edited != model and model.init(KEY)[0]["0"]["weight"].shape == (4, 8)
    assert "gelu" in repr(edited)


def test_configuration_errors():
    with pytest.raises(ValueError, match=r"there is no layer 'linaer'; there are .*linear"):
        nn_fn.from_config({"kind": "linaer"})
    with pytest.raises(ValueError, match='a mapping with an entry "kind"'):
        nn_fn.from_config({"in_features": 3})
    with pytest.raises(TypeError, match="unexpected keyword argument 'width'"):
        nn_fn.from_config({"kind": "linear", "width": 3})
    with pytest.raises(TypeError, match="counter: this layer has no configuration"):
        nn_fn.to_config(nn_fn.sequential(nn_fn.linear(2, 2), counter()))
    with pytest.raises(ValueError, match="there is no initializer 'orthogonl'"):
        nn_fn.linear(2, 3, weight_init="orthogonl")


def test_layers_are_immutable_and_can_be_static_arguments():
    layer = nn_fn.linear(2, 3)
    params, _ = layer.init(KEY)
    with pytest.raises(AttributeError):
        layer.name = "other"
    with pytest.raises(TypeError):
        layer.config["in_features"] = 3
    traces = []

    def apply(layer, params, x):
        traces.append(layer)
        return layer(params, x)

    jitted = asgfn.jit(apply, static_argnums=0)
    y = jitted(layer, params, numbers(4, 2))
    np.testing.assert_allclose(y, layer(params, numbers(4, 2)), rtol=1e-6)
    jitted(nn_fn.linear(2, 3), params, numbers(4, 2))  # an equal layer: nothing is traced again
    assert len(traces) == 1


def test_a_layer_prints_as_what_makes_it():
    model = nn_fn.sequential(nn_fn.linear(4, 8, bias=False), nn_fn.activation("relu"), head=nn_fn.linear(8, 2))
    assert repr(model) == (
        "sequential(\n    linear(4, 8, bias=False),\n    activation('relu'),\n    head=linear(8, 2),\n)"
    )


# -------------------------------------------------------------------------------------------------------------- names


def test_parameters_have_path_names():
    block = nn_fn.sequential(attn=nn_fn.sequential(q=nn_fn.linear(2, 2)), norm=nn_fn.layer_norm(2))
    params, _ = nn_fn.sequential(block=nn_fn.sequential(block, block)).init(KEY)
    named = nn_fn.named_parameters(params)
    assert "block.0.attn.q.weight" in named and "block.1.norm.bias" in named and len(named) == 8
    tree.map(np.testing.assert_array_equal, nn_fn.nested_parameters(named), params)
    tree.map(np.testing.assert_array_equal, nn_fn.nested_parameters(named, params), params)


def test_names_that_do_not_fit():
    params, _ = nn_fn.sequential(nn_fn.linear(2, 2), nn_fn.identity()).init(KEY)
    with pytest.raises(StructureError, match=r"0\.bias: missing\n.*0\.scale: not in the model"):
        nn_fn.nested_parameters({"0.weight": 1, "0.scale": 2}, params)
    for named in ({"a": 1, "a.b": 2}, {"a.b": 1, "a": 2}):
        with pytest.raises(StructureError, match="an array as well as a group"):
            nn_fn.nested_parameters(named)


# ------------------------------------------------------------------------------------------------------------ summary


def test_summary_counts_parameters_and_operations():
    model = nn_fn.sequential(
        nn_fn.conv2d(1, 4, 3, padding=1), nn_fn.batch_norm(4), nn_fn.activation("relu"), nn_fn.flatten(),
        nn_fn.repeat(nn_fn.linear(64, 64), 3), head=nn_fn.linear(64, 10),
    )  # fmt: skip
    table = nn_fn.summary(model, (2, 1, 4, 4))
    rows = {row.path: row for row in table.rows}
    assert list(rows) == ["", "0", "1", "2", "3", "4", "4.layer", "head"]
    assert rows["0"].output == "float32[2,4,4,4]" and rows["0"].parameter_shapes == {
        "weight": (4, 1, 3, 3),
        "bias": (4,),
    }
    assert rows["4.layer"].repeats == 3 and rows["4.layer"].parameters == 3 * (64 * 64 + 64)
    assert rows["head"].flops == 2 * 2 * 64 * 10 + 2 * 10  # two a multiply-add, one an addition of the bias
    assert rows["4"].flops == 3 * (2 * 2 * 64 * 64 + 2 * 64)
    assert rows["0"].flops == 2 * (2 * 4 * 16) * 9 + 2 * 4 * 16
    assert rows[""].flops == table.flops == sum(row.flops for row in table.rows if row.depth == 1)
    params, _ = model.init(KEY)
    assert table.parameters == sum(leaf.size for leaf in tree.leaves(params)) == rows[""].parameters
    assert table.parameter_bytes == 4 * table.parameters and table.state_elements == 8
    text = str(table)
    assert "13,178 parameters" in text and "linear × 3" in text and "weight [4, 1, 3, 3]" in text


def test_summary_takes_types_and_arrays():
    model = nn_fn.embedding(10, 4)
    for x in (np.zeros((2, 3), np.int32), asgfn.ShapeDtypeStruct((2, 3), jnp.int32)):
        assert nn_fn.summary(model, x).rows[0].output == "float32[2,3,4]"


# ------------------------------------------------------------------------------------------------------------ dropout


def test_dropout_drops_its_share_and_keeps_the_mean():
    layer, x = nn_fn.dropout(0.3), jnp.full((200, 200), 2.0)
    y, _ = layer({}, {}, x, key=KEY, train=True)
    values = np.asarray(y)
    np.testing.assert_allclose(np.unique(values), [0, 2 / 0.7], rtol=1e-6)
    assert abs((values == 0).mean() - 0.3) < 4 * np.sqrt(0.3 * 0.7 / values.size)
    assert abs(values.mean() - 2) < 0.03


def test_spatial_dropout_drops_whole_channels():
    y = np.asarray(nn_fn.spatial_dropout(0.4)({}, jnp.ones((20, 30, 4, 5)), key=KEY, train=True))
    assert (y == y[:, :, :1, :1]).all()
    assert abs((y[:, :, 0, 0] == 0).mean() - 0.4) < 0.1
    with pytest.raises(ValueError, match="spatial_dims must be 1, 2 or 3, got 4"):
        nn_fn.spatial_dropout(0.4, 4)


def test_dropout_is_determined_by_the_key():
    layer, x = nn_fn.dropout(0.5), jnp.ones(500)

    def run(key):
        return layer({}, x, key=key, train=True)

    np.testing.assert_array_equal(run(KEY), run(KEY))
    assert (np.asarray(run(KEY)) != run(random.key(4))).any()
    np.testing.assert_array_equal(asgfn.jit(run)(KEY), run(KEY))


@pytest.mark.parametrize("make", [nn_fn.dropout, nn_fn.spatial_dropout, nn_fn.alpha_dropout])
def test_dropout_does_nothing_outside_training_or_at_rate_zero(make):
    x = numbers(2, 3, 4, 5)
    np.testing.assert_array_equal(make(0.9)({}, x), x)
    np.testing.assert_array_equal(make(0.0)({}, {}, x, train=True)[0], x)
    with pytest.raises(ValueError, match="needs a random key"):
        make(0.5)({}, {}, x, train=True)
    for rate in (-0.1, 1.0, 1.5, float("nan")):
        with pytest.raises(ValueError, match=r"rate must be in \[0, 1\)"):
            make(rate)


# ---------------------------------------------------------------------------------------- convolutions, norms, tables


def test_convolution_errors():
    with pytest.raises(ValueError, match="groups=3 must divide in_channels=4"):
        nn_fn.conv2d(4, 6, 3, groups=3)
    with pytest.raises(ValueError, match="kernel_size must be one int or 2"):
        nn_fn.conv2d(4, 6, (3, 3, 3))
    layer = nn_fn.conv2d(4, 6, 3)
    with pytest.raises(ShapeError, match=r"must be \[N, 4, H, W\], got float32\[2,3,8,8\]"):
        layer(layer.init(KEY)[0], numbers(2, 3, 8, 8))


@pytest.mark.parametrize("layer", [nn_fn.conv2d(8, 16, 5, groups=2), nn_fn.conv_transpose2d(16, 8, 5, groups=2)])
def test_convolutions_start_like_pytorchs(layer):
    params, _ = layer.init(KEY)
    bound = 1 / np.sqrt(4 * 25)
    for leaf in params.values():
        values = np.abs(np.asarray(leaf))
        assert values.max() <= bound and (leaf.size < 100 or values.max() > 0.99 * bound)


def test_batch_norm_moves_its_statistics_only_while_training():
    layer = nn_fn.batch_norm(3, momentum=0.2)
    params, state = layer.init(KEY)
    x = numbers(50, 3) * 2 + 5
    y, trained = layer(params, state, x, train=True)
    np.testing.assert_allclose(np.mean(y, axis=0), 0, atol=1e-5)
    np.testing.assert_allclose(trained["mean"], 0.2 * x.mean(axis=0), rtol=1e-5)
    np.testing.assert_allclose(trained["var"], 0.8 + 0.2 * x.var(axis=0, ddof=1), rtol=1e-5)
    y, same = layer(params, trained, x)
    tree.map(np.testing.assert_array_equal, same, trained)
    expected = (x - np.asarray(trained["mean"])) / np.sqrt(np.asarray(trained["var"]) + 1e-5)
    np.testing.assert_allclose(y, expected, rtol=1e-4, atol=1e-5)
    with pytest.raises(ShapeError, match=r"batch_norm\(3\): the input must be \[N, 3, \.\.\.\], got float32\[5,4\]"):
        layer(params, state, numbers(5, 4))


def test_embedding():
    layer = nn_fn.embedding(7, 4, padding_idx=-1)
    params, _ = layer.init(KEY)
    assert not np.asarray(params["weight"])[6].any() and np.asarray(params["weight"])[:6].any(axis=1).all()
    x = np.array([[0, 6], [3, 0]])
    np.testing.assert_array_equal(layer(params, x), np.asarray(params["weight"])[x])
    g = np.asarray(asgfn.grad(lambda p: jnp.sum(layer(p, x)))(params)["weight"])
    np.testing.assert_array_equal(g[:, 0], [2, 0, 0, 1, 0, 0, 0])
    with pytest.raises(ValueError, match="padding_idx=7 is not one of 7 rows"):
        nn_fn.embedding(7, 4, padding_idx=7)
    with pytest.raises(DTypeError):
        layer(params, numbers(3))


def test_reshaping_errors():
    with pytest.raises(ShapeError, match=r"flatten\(1, -1\): float32\[3\] has no such range"):
        nn_fn.flatten()({}, numbers(3))
    with pytest.raises(ShapeError, match=r"axis 1 of float32\[2,7\] cannot be divided"):
        nn_fn.unflatten(1, (2, -1))({}, numbers(2, 7))
