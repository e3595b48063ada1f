"""Mixed precision: policies, loss scales, and training in float16."""

from __future__ import annotations

import numpy as np
import pytest

import asgfn
import asgfn.numpy as jnp
from asgfn import lax, random, tree
from asgfn.errors import StructureError
from nn_fn import optimisers as o
from nn_fn.precision import (
    DynamicLossScale,
    NoLossScale,
    Policy,
    StaticLossScale,
    all_finite,
    policy,
    scaled_value_and_grad,
    select_tree,
)

HALF = "params=float32,compute=float16,output=float32"

# ------------------------------------------------------------------------------------------------------------- policy


def test_casts_change_floating_arrays_only():
    half = policy("params=float32,compute=bfloat16,output=float16")
    values = {
        "x": jnp.ones(2),
        "numpy": np.ones(2, np.float64),
        "scalar": np.float32(1),
        "labels": jnp.arange(3),
        "mask": jnp.asarray([True]),
        "key": random.key(0),
        "number": 0.5,
        "text": "relu",
        "nothing": None,
    }
    for cast, dtype in (
        (half.cast_to_compute, jnp.bfloat16),
        (half.cast_to_output, jnp.float16),
        (half.cast_to_param, jnp.float32),
    ):
        found = cast(values)
        assert all(found[k].dtype == dtype for k in ("x", "numpy", "scalar"))
        assert found["labels"].dtype == np.int32 and found["mask"].dtype == np.bool_
        assert found["number"] == 0.5 and found["text"] == "relu" and found["nothing"] is None
        np.testing.assert_array_equal(random.key_data(found["key"]), random.key_data(values["key"]))


def test_policies_as_text():
    assert policy(HALF) == Policy(jnp.float32, jnp.float16, jnp.float32)
    assert policy(" compute = f16 , params = f32, output=full") == policy(HALF)
    assert policy("bfloat16") == Policy(jnp.bfloat16, jnp.bfloat16, jnp.bfloat16) == policy("bf16")
    assert policy("compute=half") == Policy(jnp.float32, jnp.float16, jnp.float16)
    assert policy("params=f16") == policy("float16")
    for text in (HALF, "bfloat16"):
        assert policy(str(policy(text))) == policy(text)
    assert hash(policy(HALF)) == hash(policy(HALF))


@pytest.mark.parametrize(
    "text, message",
    [
        ("compute=float17", "'float17' in .* is no dtype"),
        ("int", "param_dtype must be a floating dtype, got int"),
        ("weights=float32", "'weights' .* is unknown; expected params=, compute= and output="),
        ("compute=f16,compute=f32", "stands twice"),
        ("", "is no dtype"),
    ],
)
def test_policies_that_are_none(text, message):
    with pytest.raises(ValueError, match=message):
        policy(text)


def test_a_wrapped_function_computes_in_its_dtype_and_its_gradients_have_the_parameters():
    seen = []

    def loss(params, x, *, scale):
        seen.append((params["w"].dtype, x.dtype, scale.dtype))
        return jnp.mean((x @ params["w"]) * scale), {"count": jnp.asarray(3)}

    wrapped = policy(HALF).wrap(loss)
    params = {"w": jnp.ones((3, 2))}
    (value, aux), grads = asgfn.value_and_grad(wrapped, has_aux=True)(params, jnp.ones((4, 3)), scale=jnp.ones(()))
    assert seen[0] == (np.float16,) * 3
    assert value.dtype == np.float32 and aux["count"].dtype == np.int32 and grads["w"].dtype == np.float32
    np.testing.assert_allclose(grads["w"], 0.5)


# -------------------------------------------------------------------------------------------------------------- scales


def test_all_finite_and_select_tree():
    good = {"a": jnp.ones(3), "b": [jnp.zeros((0, 2)), jnp.asarray(3)]}
    for bad_value in (np.nan, np.inf, -np.inf):
        assert not all_finite({**good, "c": jnp.asarray([1.0, bad_value], jnp.float16)})
    assert all_finite(good) and all_finite({}) and all_finite(jnp.asarray(65504.0, jnp.float16))
    other = tree.map(lambda x: x + 1, good)
    for choose in (select_tree, asgfn.jit(select_tree)):
        for condition, expected in ((True, good), (False, other)):
            found = choose(jnp.asarray(condition), good, other)
            for a, b in zip(tree.leaves(found), tree.leaves(expected), strict=True):
                np.testing.assert_array_equal(a, b)
                assert a.dtype == b.dtype
    with pytest.raises(StructureError):
        select_tree(True, good, {})


@pytest.mark.parametrize("scale", [NoLossScale(), StaticLossScale(1024.0), DynamicLossScale()])
def test_scaling_and_unscaling_are_inverse(scale):
    loss, grads = jnp.asarray(3.7), {"w": jnp.asarray([1e-6, -5.0, 3e4])}
    np.testing.assert_array_equal(scale.unscale(scale.scale({"l": loss}))["l"], loss)
    np.testing.assert_array_equal(scale.scale(scale.unscale(grads))["w"], grads["w"])
    assert scale.unscale({"w": jnp.ones(2, jnp.float64)})["w"].dtype == np.float32


def test_half_precision_losses_are_scaled_in_float32():
    scale = DynamicLossScale(2.0**15)
    scaled = scale.scale(jnp.asarray(100.0, jnp.float16))
    assert scaled.dtype == np.float32 and float(scaled) == 100 * 2**15
    found = scale.unscale(jnp.asarray([6e-8], jnp.float16))
    assert found.dtype == np.float32 and 0 < float(found[0]) < 1e-11


def test_the_dynamic_scale_grows_shrinks_and_stays_in_its_bounds():
    scale = DynamicLossScale(4.0, growth_interval=2, min_scale=1.0, max_scale=16.0)
    adjust = asgfn.jit(lambda s, finite: s.adjust(finite))
    found = []
    for finite in [1, 1, 0, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0, 0]:
        scale = adjust(scale, jnp.asarray(bool(finite)))
        found.append(float(scale.loss_scale))
    assert found == [4, 8, 4, 4, 8, 8, 16, 16, 16, 16, 16, 8, 4, 2, 1, 1, 1]
    assert scale.loss_scale.dtype == np.float32 and scale.good_steps.dtype == np.int32
    assert [x.aval for x in tree.leaves(scale)] == [x.aval for x in tree.leaves(DynamicLossScale())]
    scale = DynamicLossScale(3.0, growth_interval=1, growth_factor=1.5, backoff_factor=0.25)
    np.testing.assert_allclose(float(scale.adjust(True).loss_scale), 4.5)
    np.testing.assert_allclose(float(scale.adjust(True).adjust(False).loss_scale), 1.125)


def test_scales_are_pytrees_that_go_through_scan():
    def step(scale, finite):
        scale = scale.adjust(finite)
        return scale, scale.loss_scale

    finite = jnp.asarray([True, False, True])
    scale, found = lax.scan(step, DynamicLossScale(8.0), finite)
    np.testing.assert_array_equal(found, [8, 4, 4])
    assert int(scale.good_steps) == 1 and scale.growth_interval == 2000
    for s in (NoLossScale(), StaticLossScale(2.0)):
        assert lax.scan(lambda s, f: (s.adjust(f), 0), s, finite)[0] == s


@pytest.mark.parametrize(
    "options",
    [
        {"growth_interval": 0},
        {"growth_factor": 0.5},
        {"backoff_factor": 1.0},
        {"backoff_factor": 0.0},
        {"min_scale": 0.0},
        {"min_scale": 4.0, "max_scale": 2.0},
    ],
)
def test_bad_options(options):
    with pytest.raises(ValueError, match="DynamicLossScale: "):
        DynamicLossScale(**options)


# ------------------------------------------------------------------------------------------------------------ training


def circles() -> tuple[np.ndarray, np.ndarray]:
    """Two classes that no line separates: inside and outside of a circle."""
    x = np.random.RandomState(0).standard_normal((256, 2)).astype(np.float32)
    return x, (np.square(x).sum(1) > 1.4).astype(np.int32)


def mlp(params, x, y):
    h = jnp.tanh(x @ params["w1"] + params["b1"])
    logits = (h @ params["w2"] + params["b2"]).astype(jnp.float32)
    logp = asgfn.nn.log_softmax(logits)
    return -jnp.mean(jnp.take_along_axis(logp, y[:, None], axis=1)), logits


def start() -> dict:
    k1, k2 = random.split(random.key(1))
    return {
        "w1": random.normal(k1, (2, 16)),
        "b1": jnp.zeros(16),
        "w2": random.normal(k2, (16, 2)) * 0.25,
        "b2": jnp.zeros(2),
    }


def train(text: str, scale, steps: int = 120, factor: float = 1.0):
    """The loss and accuracy at the end, the scale at each step, and how many steps were skipped."""
    optimiser = o.adamw(0.05)
    # `factor` makes gradients small: the optimiser does not mind, float16 does
    f = policy(text).wrap(lambda p, x, y: (mlp(p, x, y)[0] * factor, mlp(p, x, y)[1]))
    x, y = map(jnp.asarray, circles())

    @asgfn.jit
    def step(params, state, scale):
        (loss, logits), grads, finite = scaled_value_and_grad(f, has_aux=True)(scale, params, x, y)
        updates, new_state = optimiser.update(grads, state, params)
        params, state = select_tree(finite, (o.apply_updates(params, updates), new_state), (params, state))
        return params, state, scale.adjust(finite), loss / factor, jnp.mean(jnp.argmax(logits, 1) == y), finite

    params = start()
    state = optimiser.init(params)
    scales, skipped = [], 0
    for _ in range(steps):
        before = params
        params, state, scale, loss, accuracy, finite = step(params, state, scale)
        if not bool(finite):
            skipped += 1
            assert tree.all(tree.map(lambda a, b: bool(jnp.all(a == b)), before, params))
        if isinstance(scale, DynamicLossScale):
            scales.append(float(scale.loss_scale))
    assert all(p.dtype == np.float32 for p in params.values())
    assert int(state[0].count) == steps - skipped
    return float(loss), float(accuracy), scales, skipped


@pytest.mark.parametrize("text", [HALF, "params=float32,compute=bfloat16,output=float32"])
def test_half_precision_trains_as_well_as_float32(text):
    loss, accuracy, _, _ = train("float32", NoLossScale())
    assert accuracy > 0.95
    half_loss, half_accuracy, _, skipped = train(text, DynamicLossScale())
    assert half_accuracy >= accuracy - 0.01 and half_loss < 1.3 * loss and skipped == 0


def test_overflow_skips_the_step_and_halves_the_scale():
    _, accuracy, scales, skipped = train(HALF, DynamicLossScale(2.0**24, growth_interval=50))
    assert skipped >= 2 and accuracy > 0.95
    # the first steps are skipped, each of them halves
    first = scales.index(min(scales[:20]))
    assert scales[: first + 1] == [2.0 ** (23 - n) for n in range(first + 1)]
    assert max(scales[first + 1 :]) > scales[first]  # and later it grew again


def test_without_a_scale_small_gradients_vanish_in_float16():
    *_, start_accuracy = 0, train(HALF, NoLossScale(), steps=1)[1]
    without = train(HALF, NoLossScale(), factor=2.0**-20)
    with_scale = train(HALF, StaticLossScale(2.0**20), factor=2.0**-20)
    assert with_scale[1] > 0.95 and without[1] < 0.9
    assert start_accuracy < 0.9
