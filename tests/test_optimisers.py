"""Optimisers: trajectories against Optax and PyTorch, wrappers, clipping, extreme inputs, transforms, errors."""

from __future__ import annotations

import math
import types

import numpy as np
import pytest

import asgfn
import asgfn.numpy as jnp
import nn_fn
from asgfn import lax, random, tree
from asgfn.errors import ShapeError, StructureError
from nn_fn import optimisers as o
from nn_fn import schedules
from tests.references import load, normal
from tests.references.optimisers import CASES, KEPT, START, STEPS, Trajectory, flat, gradients, matrices, value

INT32_MAX = np.iinfo(np.int32).max


def numbers(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


# ------------------------------------------------------------------------------------------------------ trajectories


def trajectory(case: Trajectory, dtype) -> np.ndarray:
    optimiser = case.make(types.SimpleNamespace(**{k: getattr(o, k) for k in dir(o)}))
    params = {k: jnp.asarray(v, dtype) for k, v in START.items()}
    state = optimiser.init(params)

    @asgfn.jit
    def step(grads, state, params, extra):
        updates, state = optimiser.update(grads, state, params, **extra)
        return o.apply_updates(params, updates), state

    kept = []
    for t in range(STEPS):
        grads = {k: jnp.asarray(v, dtype) for k, v in gradients(params, t, case).items()}
        params, new_state = step(grads, state, params, {"value": jnp.asarray(value(t), dtype)} if case.value else {})
        assert all(p.dtype == dtype for p in params.values())
        assert [x.aval for x in tree.leaves(new_state)] == [x.aval for x in tree.leaves(state)]
        state = new_state
        if t + 1 in KEPT:
            kept.append(flat(params))
    return np.stack(kept)


@pytest.mark.parametrize("name", CASES)
def test_trajectory_against_its_references(name):
    case = CASES[name]
    with asgfn.enable_x64():
        found = trajectory(case, np.float64)
    references = [v for k, v in load("optimisers").items() if k.startswith(f"{name}: ")]
    assert len(references) == 1 + (case.torch is not None and case.both)
    for expected in references:
        np.testing.assert_allclose(found, expected, rtol=case.tol, atol=case.tol)
    assert np.isfinite(found).all() and not np.array_equal(found[-1], found[0])


@pytest.mark.parametrize("name", [k for k, c in CASES.items() if c.float32_tol is not None][::4])
def test_trajectory_in_float32(name):
    case = CASES[name]
    expected = next(v for k, v in load("optimisers").items() if k.startswith(f"{name}: "))
    found = trajectory(case, np.float32)
    np.testing.assert_allclose(found, expected, rtol=case.float32_tol, atol=case.float32_tol)


def test_adam_makes_steps_of_the_learning_rate_at_first():
    optimiser = o.adam(0.01)
    params = jnp.asarray([0.0, 0.0, 0.0])
    updates, _ = optimiser.update(jnp.asarray([1e-4, -3.0, 1e6]), optimiser.init(params), params)
    np.testing.assert_allclose(updates, [-0.01, 0.01, -0.01], rtol=1.5e-4)
    np.testing.assert_allclose(updates[1:], [0.01, -0.01], rtol=1e-6)


def test_complex_parameters():
    """Adam of z is Adam of its parts, but for a common second moment."""
    optimiser = o.adam(0.1, b2=0.9)
    z = jnp.asarray([1 + 2j, 3j], jnp.complex64)
    updates, state = optimiser.update(z, optimiser.init(z), z)
    np.testing.assert_allclose(updates, -0.1 * np.asarray(z) / np.abs(z), rtol=1e-5)
    assert state[0].nu.dtype == np.float32
    _, norm = o.clip_grad_norm(z, 1.0)
    np.testing.assert_allclose(norm, np.sqrt(14), rtol=1e-6)


# ------------------------------------------------------------------------------------------------- dtypes, extremes

ALL = {
    "sgd": o.sgd(0.1, momentum=0.9, nesterov=True, weight_decay=0.1),
    "dampened": o.sgd(0.1, momentum=0.9, dampening=0.5),
    "adam": o.adam(0.1),
    "nadam": o.nadam(0.1),
    "amsgrad": o.amsgrad(0.1),
    "adamw": o.adamw(0.1),
    "adamax": o.adamax(0.1),
    "lion": o.lion(0.1),
    "rmsprop": o.rmsprop(0.1, centered=True, momentum=0.9),
    "adagrad": o.adagrad(0.1),
    "adadelta": o.adadelta(0.1),
    "adafactor": o.adafactor(0.1, min_dim_size_to_factor=2),
    "lamb": o.lamb(0.1),
    "lars": o.lars(0.1),
    "muon": o.muon(0.1),
    "clipped": o.chain(o.clip_by_global_norm(1.0), o.clip_by_leaf_norm(0.5), o.clip_by_block_rms(0.1), o.sgd(0.1)),
    "agc": o.chain(o.adaptive_grad_clip(0.1), o.sgd(0.1)),
    "ema": o.chain(o.ema(0.9), o.scale(-0.1), o.params_ema(0.9)),
}


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_half_precision_parameters_keep_their_dtype_and_move(name, dtype):
    optimiser = ALL[name]
    params = {"w": jnp.ones((3, 2), dtype), "b": jnp.ones(3, dtype)}
    state = optimiser.init(params)
    for _ in range(3):
        grads = {"w": jnp.full((3, 2), 0.01, dtype), "b": jnp.asarray([0.01, 0.0, 1.0], dtype)}
        updates, new = optimiser.update(grads, state, params)
        params = o.apply_updates(params, updates)
        assert [x.aval for x in tree.leaves(new)] == [x.aval for x in tree.leaves(state)]
        state = new
    for p in params.values():
        assert p.dtype == dtype and np.isfinite(np.asarray(p, np.float32)).all()
    if name in ("adam", "adamw"):
        np.testing.assert_allclose(np.asarray(params["w"], np.float32), 0.7, atol=0.02)


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("size", [0.0, 1e-30, 1e-18, 1e15, 1e18])
def test_gradients_that_are_zero_or_tiny_or_huge_give_finite_updates(name, size):
    optimiser = ALL[name]
    params = {"w": jnp.asarray(numbers(3, 2)), "b": jnp.zeros(2), "empty": jnp.zeros((0, 3)), "one": jnp.ones((1, 1))}
    state = optimiser.init(params)
    for seed in range(3):
        grads = {k: jnp.asarray(numbers(*p.shape, seed=seed) * np.float32(size)) for k, p in params.items()}
        updates, state = optimiser.update(grads, state, params)
        assert all(bool(jnp.isfinite(u).all()) for u in updates.values())
        params = o.apply_updates(params, updates)
    # gradients of 1e18 and no scaling: the parameters are then as large, but finite
    assert all(bool(jnp.isfinite(p).all()) for p in params.values())


@pytest.mark.parametrize("name", ALL)
def test_under_jit_vmap_and_scan(name):
    optimiser = ALL[name]
    params, grads = jnp.asarray(numbers(4, 3, 3)), jnp.asarray(numbers(4, 5, 3, 3, seed=1))

    def train(p, gs):
        def step(carry, g):
            p, state = carry
            updates, state = optimiser.update(g, state, p)
            return (o.apply_updates(p, updates), state), None

        return lax.scan(step, (p, optimiser.init(p)), gs)[0][0]

    mapped = asgfn.jit(asgfn.vmap(train))(params, grads)
    for i in range(4):
        state, p = optimiser.init(params[i]), params[i]
        for g in grads[i]:
            updates, state = optimiser.update(g, state, p)
            p = o.apply_updates(p, updates)
        np.testing.assert_allclose(mapped[i], p, rtol=2e-4, atol=2e-5)


def test_the_learning_rate_is_differentiable():
    def after_two_steps(rate):
        optimiser, p = o.adam(rate), jnp.asarray([1.0, -2.0])
        state = optimiser.init(p)
        for _ in range(2):
            updates, state = optimiser.update(2 * p, state, p)
            p = o.apply_updates(p, updates)
        return jnp.sum(p * p)

    with asgfn.enable_x64():
        difference = (after_two_steps(0.1 + 1e-6) - after_two_steps(0.1 - 1e-6)) / 2e-6
        np.testing.assert_allclose(asgfn.grad(after_two_steps)(0.1), difference, rtol=1e-6)


def test_step_counters_stay_at_the_largest_int32():
    for optimiser in (o.adam(1e-3), o.sgd(schedules.linear_schedule(1.0, 0.5, 10)), o.lion(0.1), o.amsgrad(0.1)):
        params = jnp.ones(2)
        state = tree.map(lambda x: jnp.full_like(x, INT32_MAX) if x.dtype == np.int32 else x, optimiser.init(params))
        for _ in range(2):
            updates, state = optimiser.update(params, state, params)
            counts = [x for x in tree.leaves(state) if x.dtype == np.int32]
            assert counts and all(int(c) == INT32_MAX for c in counts)
            assert bool(jnp.isfinite(updates).all())


def test_bias_correction_is_exact_in_float32():
    for decay in (0.0, 0.5, 0.999, 0.99999):
        for count in (1, 2, 1000):
            exact = -np.expm1(count * np.log(np.float64(decay))) if decay else 1.0
            np.testing.assert_allclose(o.leafwise.one_minus_power(decay, jnp.int32(count)), exact, rtol=3e-7)


def test_centred_rmsprop_of_constant_large_gradients():
    """The variance is 0, and less by rounding: its root must not be NaN."""
    optimiser = o.scale_by_stddev(0.9, eps=1e-8)
    g = jnp.full(100, 12345.678)
    state = optimiser.init(g)
    for _ in range(60):
        updates, state = optimiser.update(g, state)
        assert bool(jnp.isfinite(updates).all())


# -------------------------------------------------------------------------------------------------------- composition


def test_chain_applies_in_order_and_keeps_each_state():
    halve = o.GradientTransformation(lambda p: (), lambda g, s, p=None: (tree.map(lambda x: x / 2, g), s))
    plus_one = o.GradientTransformation(lambda p: 0, lambda g, s, p=None: (tree.map(lambda x: x + 1, g), s + 1))
    both = o.chain(plus_one, halve)
    state = both.init({})
    assert state == (0, ())
    updates, state = both.update({"w": jnp.asarray(3.0)}, state)
    assert float(updates["w"]) == 2.0 and state == (1, ())
    with pytest.raises(
        ValueError, match="must be a tuple of length 2, one state a transformation, got a tuple of length 1"
    ):
        both.update({"w": jnp.asarray(3.0)}, state[:1])
    with pytest.raises(ValueError, match="got a dict"):
        both.update({"w": jnp.asarray(3.0)}, {})


def test_keyword_arguments_reach_those_who_know_them():
    seen = {}

    def named(g, s, p=None, *, value):
        seen["named"] = value
        return g, s

    def every(g, s, p=None, **extra):
        seen["every"] = extra
        return g, s

    parts = [o.GradientTransformation(lambda p: (), f) for f in (named, every, lambda g, s, p=None: (g, s))]
    wrapped = o.apply_if_finite(o.chain(o.masked(o.chain(*parts), True), o.adam(0.1)), 1)
    params = {"w": jnp.ones(2)}
    wrapped.update(params, wrapped.init(params), params, value=3.0, other=1)
    assert seen == {"named": 3.0, "every": {"value": 3.0, "other": 1}}


def test_a_learning_rate_of_none_and_the_sign():
    g = {"w": jnp.ones(2)}
    for rate, flip, expected in (
        (None, True, 1.0),
        (0.5, True, -0.5),
        (0.5, False, 0.5),
        (lambda c: 0.25, True, -0.25),
    ):
        t = o.scale_by_learning_rate(rate, flip_sign=flip)
        np.testing.assert_allclose(t.update(g, t.init(g))[0]["w"], expected)


def test_masked_state_holds_the_chosen_parameters_only():
    params = {"a": {"w": jnp.ones((2, 3)), "b": jnp.ones(3)}, "c": [jnp.ones(5), None]}
    for mask in (
        {"a": True, "c": False},
        {"a": {"w": True, "b": True}, "c": [False, None]},
        lambda p: {"a": True, "c": False},
    ):
        t = o.masked(o.trace(0.9), mask)
        state = t.init(params)
        assert [x.shape for x in tree.leaves(state)] == [(3,), (2, 3)]
        updates, state = t.update(params, state, params)
        updates, state = t.update(params, state, params)
        assert tree.structure(updates) == tree.structure(params)
        np.testing.assert_allclose(updates["a"]["w"], 1.9)
        np.testing.assert_allclose(updates["c"][0], 1.0)


def test_groups_hold_state_for_their_own_parameters_only_and_nest():
    params = {"a": jnp.ones(3), "b": jnp.ones((2, 2)), "c": jnp.ones(4)}
    inner = o.multi_transform({1: o.adam(0.1), 2: o.set_to_zero()}, lambda p: tree.map(lambda x: x.ndim, p))
    outer = o.multi_transform({"x": inner, "y": o.sgd(0.5, momentum=0.5)}, {"a": "x", "b": "x", "c": "y"})
    state = outer.init(params)
    shapes = sorted(x.shape for x in tree.leaves(state))
    assert shapes == [(), (3,), (3,), (4,)]
    updates, state = asgfn.jit(outer.update)(params, state, params)
    np.testing.assert_allclose(updates["a"], -0.1, rtol=1e-5)
    np.testing.assert_allclose(updates["b"], 0.0)
    np.testing.assert_allclose(updates["c"], -0.5)


def test_accumulation_equals_one_step_of_the_mean_and_runs_the_optimiser_once():
    grads = [{"w": jnp.asarray(numbers(3, seed=s))} for s in range(4)]
    params = {"w": jnp.zeros(3)}
    many = o.MultiSteps(o.adam(0.1), 4)
    state = many.init(params)
    for number, g in enumerate(grads):
        updates, state = asgfn.jit(many.update)(g, state, params)
        assert bool(many.has_updated(state)) == (number == 3)
        if number < 3:
            assert not np.any(updates["w"])
    one = o.adam(0.1)
    mean = {"w": sum(g["w"] for g in grads) / 4}
    expected, inner = one.update(mean, one.init(params), params)
    np.testing.assert_allclose(updates["w"], expected["w"], rtol=1e-6)
    assert int(state.gradient_step) == 1 and int(state.inner_opt_state[0].count) == int(inner[0].count) == 1
    assert not np.any(state.acc_grads["w"])


def test_accumulation_in_half_precision_does_not_lose_small_gradients():
    params = jnp.zeros(2, jnp.bfloat16)
    many = o.MultiSteps(o.sgd(1.0), 100, use_grad_mean=False)
    state = many.init(params)
    step = asgfn.jit(many.update)
    for _ in range(100):
        updates, state = step(jnp.full(2, 1.0, jnp.bfloat16), state, params)
    np.testing.assert_allclose(np.asarray(updates, np.float32), -100)


def test_not_finite_gradients_are_skipped_and_counted():
    optimiser = o.apply_if_finite(o.adam(0.1), 2)
    params = {"w": jnp.ones(2), "v": jnp.ones(3)}
    state = optimiser.init(params)
    good = {"w": jnp.ones(2), "v": jnp.ones(3)}
    update = asgfn.jit(optimiser.update)
    for bad_value, consecutive, total in ((np.nan, 1, 1), (np.inf, 2, 2)):
        bad = {"w": jnp.asarray([1.0, bad_value]), "v": jnp.ones(3)}
        updates, state = update(bad, state, params)
        assert not np.any(updates["w"]) and not np.any(updates["v"]) and int(state.inner_state[0].count) == 0
        counts = int(state.notfinite_count), bool(state.last_finite), int(state.total_notfinite)
        assert counts == (consecutive, False, total)
    updates, state = update(bad, state, params)
    assert not np.isfinite(updates["w"]).all()  # more than two in sequence: applied
    state = optimiser.init(params)
    _, state = update(bad, state, params)
    updates, state = update(good, state, params)
    np.testing.assert_allclose(updates["w"], -0.1, rtol=1e-5)
    assert (int(state.notfinite_count), bool(state.last_finite), int(state.total_notfinite)) == (0, True, 1)


def test_average_of_parameters():
    for debias in (True, False):
        optimiser = o.chain(o.sgd(0.1), o.params_ema(0.8, debias=debias))
        params = {"w": jnp.asarray([1.0, -2.0])}
        state = optimiser.init(params)
        np.testing.assert_allclose(o.ema_params(state, params)["w"], params["w"])
        average, weight = (np.zeros(2), 0.0) if debias else (np.asarray(params["w"]), 1.0)
        for t in range(30):
            updates, state = asgfn.jit(optimiser.update)({"w": params["w"] + t}, state, params)
            params = o.apply_updates(params, updates)
            average = 0.8 * average + 0.2 * np.asarray(params["w"], np.float64)
            weight = 0.8 * weight + 0.2
            np.testing.assert_allclose(o.ema_params(state)["w"], average / weight, rtol=1e-5)
        assert o.ema_params(state, {"w": jnp.ones(2, jnp.bfloat16)})["w"].dtype == jnp.bfloat16
    with pytest.raises(ValueError, match="must have one params_ema in it, found 0"):
        o.ema_params(o.adam(0.1).init(params))


def test_the_average_after_one_step_is_exact_for_slow_decays():
    optimiser = o.params_ema(0.99999)
    params = jnp.asarray([3.0, -7.0])
    _, state = optimiser.update(jnp.zeros(2), optimiser.init(params), params)
    np.testing.assert_allclose(o.ema_params(state), params, rtol=1e-6)


def test_hyperparameters_in_the_state():
    optimiser = o.chain(o.clip(1.0), o.inject_hyperparams(o.adamw)(learning_rate=0.1, weight_decay=lambda c: 0.5 * c))
    params = {"w": jnp.zeros(2)}
    state = optimiser.init(params)
    update = asgfn.jit(optimiser.update)
    assert float(o.get_hyperparams(state)["b1"]) == np.float32(0.9)
    for rate in (0.1, 0.01):
        state = o.set_hyperparams(state, learning_rate=rate)
        updates, state = update({"w": jnp.ones(2)}, state, params)
        np.testing.assert_allclose(updates["w"], -rate, rtol=1e-5)
    found = o.get_hyperparams(state)
    np.testing.assert_allclose([found["learning_rate"], found["weight_decay"]], [0.01, 0.5], rtol=1e-6)
    with pytest.raises(ValueError, match="no rate in the state; it has learning_rate, b1"):
        o.set_hyperparams(state, rate=1.0)
    with pytest.raises(ValueError, match=r"\['nothing'\] in static_args are no arguments of adam"):
        o.inject_hyperparams(o.adam, static_args="nothing")
    with pytest.raises(ValueError, match="b1 must be in"):
        o.inject_hyperparams(o.adam)(0.1, b1=1.5)


def test_injected_numbers_that_must_stay_static():
    make = o.inject_hyperparams(o.adafactor, static_args=("min_dim_size_to_factor", "dtype_momentum"))
    optimiser = make(learning_rate=0.1, min_dim_size_to_factor=2)
    params = jnp.ones((3, 4))
    state = optimiser.init(params)
    assert state.inner_state[0].v_row.shape == (3,)
    expected = o.adafactor(0.1, min_dim_size_to_factor=2)
    found, _ = asgfn.jit(optimiser.update)(params, state, params)
    np.testing.assert_allclose(found, expected.update(params, expected.init(params), params)[0], rtol=1e-6)


def test_plateau_with_large_values_good():
    t = o.reduce_on_plateau(0.5, 2, rtol=0.0, atol=0.1, mode="max")
    state = t.init(None)
    scales = []
    for v in (1.0, 1.05, 1.2, 1.2, 1.2, 1.2, np.nan, 5.0):
        _, state = t.update({}, state, value=v)
        scales.append(float(state.scale))
    assert scales == [1.0, 1.0, 1.0, 1.0, 0.5, 0.5, 0.25, 0.25]
    with pytest.raises(TypeError, match="value=loss"):
        t.update({}, state)


def test_noise_differs_by_step_and_by_leaf_and_not_by_run():
    t = o.add_noise(1.0, 0.0, random.key(3))
    zeros = {"a": jnp.zeros(1000), "b": jnp.zeros(1000)}
    first, state = t.update(zeros, t.init(zeros))
    second, _ = t.update(zeros, state)
    assert np.abs(np.corrcoef([first["a"], first["b"], second["a"], second["b"]]) - np.eye(4)).max() < 0.15
    np.testing.assert_allclose(np.std(first["a"]), 1.0, rtol=0.1)
    np.testing.assert_array_equal(first["a"], t.update(zeros, t.init(zeros))[0]["a"])


# ----------------------------------------------------------------------------------------------------------- clipping

GRADS = {"a": normal("clip a", 4, 3), "b": [normal("clip b", 5), normal("clip c")]}
ALL_NUMBERS = np.concatenate([GRADS["a"].ravel(), GRADS["b"][0], [GRADS["b"][1]]])


@pytest.mark.parametrize("p", [1, 2, 3.5, 0.5, math.inf])
@pytest.mark.parametrize("size", [1.0, 1e-20, 1e30])
def test_clip_grad_norm(p, size):
    grads = tree.map(lambda x: jnp.asarray(x * size, jnp.float32), GRADS)
    norm = np.linalg.norm(ALL_NUMBERS, p) * size
    for max_norm in (norm / 2, norm * 2):
        clipped, found = asgfn.jit(lambda g, m: o.clip_grad_norm(g, m, p))(grads, np.float32(max_norm))
        np.testing.assert_allclose(found, norm, rtol=1e-5)
        factor = min(max_norm / (norm + 1e-6), 1)
        for a, b in zip(tree.leaves(clipped), tree.leaves(grads), strict=True):
            np.testing.assert_allclose(a, np.asarray(b) * factor, rtol=1e-5)


def test_clip_grad_norm_of_what_is_not_finite():
    bad = {"a": jnp.asarray([1.0, np.inf]), "b": jnp.ones(2)}
    _, norm = o.clip_grad_norm(bad, 1.0)
    assert np.isinf(norm)
    for p in (1, 2, 3, math.inf):
        with pytest.raises(FloatingPointError, match="is inf, it cannot be clipped"):
            o.clip_grad_norm(bad, 1.0, p, error_if_nonfinite=True)
    assert np.isnan(o.global_norm({"a": jnp.asarray([np.nan, np.inf])}))
    with pytest.raises(ValueError, match="norm_type"):
        o.clip_grad_norm(bad, 1.0, 0)
    with pytest.raises(ValueError, match="max_norm must be at least 0"):
        o.clip_grad_norm(bad, -1.0)


def test_clip_grad_value():
    clipped = o.clip_grad_value(
        tree.map(jnp.asarray, {"a": np.array([-3.0, 0.5, 7.0, np.inf, np.nan], np.float32)}), 1.5
    )
    np.testing.assert_array_equal(clipped["a"], [-1.5, 0.5, 1.5, 1.5, np.nan])


@pytest.mark.parametrize("size", [0.0, 1e-42, 1e-25, 1.0, 1e30])
def test_global_norm_of_extreme_gradients(size):
    grads = tree.map(lambda x: jnp.asarray(x * size, jnp.float32), GRADS)
    exact = np.linalg.norm(np.concatenate([np.ravel(np.asarray(x, np.float64)) for x in tree.leaves(grads)]))
    for norm in (o.global_norm, asgfn.jit(o.global_norm)):
        np.testing.assert_allclose(norm(grads), exact, rtol=1e-5, atol=1e-44)
    slopes = asgfn.grad(o.global_norm)(grads)
    expected = tree.map(lambda g: np.asarray(g, np.float64) / exact if exact else np.zeros(g.shape), grads)
    for a, b in zip(tree.leaves(slopes), tree.leaves(expected), strict=True):
        # the smallest numbers have few digits
        np.testing.assert_allclose(a, b, rtol=5e-2 if size == 1e-42 else 1e-4, atol=1e-6)


def test_global_norm_of_small_dtypes_and_of_nothing():
    np.testing.assert_allclose(o.global_norm(jnp.full(1000, 300.0, jnp.float16)), 300 * np.sqrt(1000), rtol=1e-5)
    assert float(o.global_norm({})) == 0.0 and float(o.global_norm([jnp.zeros((0, 3))])) == 0.0
    assert float(o.global_norm({"n": jnp.asarray([3, 4])})) == 5.0


def test_clipping_transformations_against_their_formulas():
    grads = tree.map(lambda x: jnp.asarray(x, jnp.float32), GRADS)
    apply = lambda t: t.update(grads, t.init(grads))[0]
    for found, g in zip(tree.leaves(apply(o.clip_by_leaf_norm(0.7))), tree.leaves(GRADS), strict=True):
        np.testing.assert_allclose(found, g * min(1, 0.7 / np.linalg.norm(g)), rtol=1e-5)
    total = np.linalg.norm(ALL_NUMBERS)
    for found, g in zip(tree.leaves(apply(o.clip_by_global_norm(2.0))), tree.leaves(GRADS), strict=True):
        np.testing.assert_allclose(found, g * (2.0 / total), rtol=1e-5)
    for found, g in zip(tree.leaves(apply(o.clip_by_global_norm(0.0))), tree.leaves(GRADS), strict=True):
        np.testing.assert_array_equal(found, g * 0)


def test_adaptive_clipping_needs_to_know_the_axes_of_unusual_shapes():
    t = o.adaptive_grad_clip(0.1)
    x = jnp.ones((2,) * 6)
    with pytest.raises(ValueError, match="no rule for a parameter of shape"):
        t.update(x, t.init(x), x)
    assert o.adaptive_grad_clip(0.1, axis=(0, 1)).update(x, (), x)[0].shape == x.shape


# --------------------------------------------------------------------------------------------------------------- muon


@pytest.mark.parametrize("shape", [(5, 3), (3, 5), (1, 4), (2, 4, 3), (4, 4)])
@pytest.mark.parametrize("size", [1e-30, 1.0, 1e30])
def test_orthogonalised_matrices_have_singular_values_near_one(shape, size):
    x = jnp.asarray(numbers(*shape) * np.float32(size))
    found = asgfn.jit(o.orthogonalize)(x) if size >= 1 else o.orthogonalize(x, eps=0.0)
    u, s, vt = np.linalg.svd(np.asarray(found, np.float64))
    assert s.min() > 0.6 and s.max() < 1.3
    x64 = np.asarray(x, np.float64)
    u, _, vt = np.linalg.svd(x64, full_matrices=False)
    # the same singular vectors: U^T found V is diagonal
    inside = np.swapaxes(u, -1, -2) @ np.asarray(found, np.float64) @ np.swapaxes(vt, -1, -2)
    n = inside.shape[-1]
    np.testing.assert_allclose(inside * (1 - np.eye(n)), 0, atol=1e-4)


def test_muon_can_be_told_what_is_a_matrix():
    params = {"embedding": jnp.ones((4, 3)), "stack": jnp.asarray(numbers(2, 4, 3)), "bias": jnp.ones(3)}
    optimiser = o.muon(0.1, param_labels={"embedding": "adam", "stack": "muon", "bias": "adam"})
    updates, _ = optimiser.update(params, optimiser.init(params), params)
    np.testing.assert_allclose(
        updates["embedding"], o.nadam(0.1).update(params, o.nadam(0.1).init(params))[0]["embedding"]
    )
    one = o.muon(0.1)
    for i in range(2):
        alone, _ = one.update(params["stack"][i], one.init(params["stack"][i]), params["stack"][i])
        np.testing.assert_allclose(updates["stack"][i], alone, rtol=1e-4, atol=1e-6)
    with pytest.raises(ValueError, match=r"\['bias'\] is 'sgd', but there are transformations for 'muon', 'adam' only"):
        o.muon(0.1, param_labels={"embedding": "adam", "stack": "muon", "bias": "sgd"}).init(params)
    with pytest.raises(ValueError, match="expected a matrix"):
        o.orthogonalize(jnp.ones(3))
    with pytest.raises(ValueError, match="ns_coeffs must be 3 numbers"):
        o.muon(0.1, ns_coeffs=(1.0, 2.0))


# ------------------------------------------------------------------------------------------------------------- errors

PARAMS = {"layer": {"w": np.ones((2, 3), np.float32), "b": np.ones(3, np.float32)}}
LACKING = {"layer": {"w": np.ones((2, 3), np.float32)}}
WRONG = {"layer": {"w": np.ones((2, 3), np.float32), "b": np.ones(1, np.float32)}}


@pytest.mark.parametrize("name", [n for n in ALL if n not in ("muon", "clipped")])
def test_a_gradient_that_is_missing_or_has_another_shape_is_named(name):
    optimiser = ALL[name]
    state = optimiser.init(PARAMS)
    for run in (optimiser.update, asgfn.jit(optimiser.update)):
        with pytest.raises(StructureError, match=r"there is no gradient at \['layer'\]\['b'\]"):
            run(LACKING, state, PARAMS)
        with pytest.raises(
            ShapeError, match=r"the gradient at \['layer'\]\['b'\] is float32\[1\], .* there is float32\[3\]"
        ):
            run(WRONG, state, PARAMS)


@pytest.mark.parametrize(
    "make", [lambda: o.muon(0.1), lambda: o.masked(o.adam(0.1), matrices), lambda: o.MultiSteps(o.sgd(1.0), 2)]
)
def test_wrappers_name_missing_gradients_too(make):
    optimiser = make()
    params, lacking = PARAMS["layer"], LACKING["layer"]
    with pytest.raises(StructureError, match=r"there is no gradient at \['b'\]"):
        optimiser.update(lacking, optimiser.init(params), params)


def test_apply_updates_names_what_does_not_fit():
    with pytest.raises(StructureError, match=r"apply_updates: .* no update at \['layer'\]\['b'\]"):
        o.apply_updates(PARAMS, LACKING)
    with pytest.raises(
        ShapeError, match=r"apply_updates: the parameter at \['layer'\]\['b'\] is float32\[3\], the update"
    ):
        o.apply_updates(PARAMS, WRONG)
    with pytest.raises(StructureError, match="there is no parameter at"):
        o.apply_updates(LACKING, PARAMS)


def test_masks_and_labels_that_do_not_fit():
    with pytest.raises(StructureError, match="masked: mask"):
        o.masked(o.adam(0.1), {"other": True}).init(PARAMS)
    with pytest.raises(TypeError, match=r"the mask at \['layer'\] must be True or False, got 'yes'"):
        o.masked(o.adam(0.1), {"layer": "yes"}).init(PARAMS)
    with pytest.raises(
        ValueError, match=r"the label at \['layer'\] is 'c', but there are transformations for 'a', 'b' only"
    ):
        o.multi_transform({"a": o.sgd(0.1), "b": o.sgd(0.2)}, {"layer": "c"}).init(PARAMS)


NEED_PARAMS = {
    "weight decay": o.adamw(0.1),
    "scale_by_trust_ratio": o.scale_by_trust_ratio(),
    "scale_by_factored_rms": o.adafactor(0.1),
    "adaptive_grad_clip": o.adaptive_grad_clip(0.1),
    "params_ema": o.params_ema(0.9),
    "scale_by_param_block_norm": o.scale_by_param_block_norm(),
}


@pytest.mark.parametrize("name", NEED_PARAMS)
def test_what_needs_the_parameters_says_so(name):
    optimiser = NEED_PARAMS[name]
    params = {"w": jnp.ones(2)}
    with pytest.raises(ValueError, match=rf"{name} needs the parameters: call update\(grads, state, params\)"):
        optimiser.update(params, optimiser.init(params))


BAD = [
    (lambda: o.sgd(-1.0), "sgd: learning_rate must be at least 0, got -1.0"),
    (lambda: o.sgd(0.1, nesterov=True), "need momentum"),
    (lambda: o.sgd(0.1, dampening=0.5), "need momentum"),
    (lambda: o.sgd(0.1, 0.9, True, dampening=0.5), "nesterov needs dampening=0"),
    (lambda: o.sgd(0.1, momentum=1.5), r"decay must be in \[0, 1\], got 1.5"),
    (lambda: o.adam(float("nan")), "learning_rate must be at least 0, got nan"),
    (lambda: o.adam(0.1, b1=1.0), r"b1 must be in \[0, 1\), got 1.0"),
    (lambda: o.adam(0.1, b2=-0.1), "b2"),
    (lambda: o.adam(0.1, eps=-1e-8), "eps must be at least 0"),
    (lambda: o.adamw(0.1, weight_decay=-0.1), "weight_decay must be at least 0"),
    (lambda: o.ema(1.0), r"decay must be in \[0, 1\)"),
    (lambda: o.clip(-1.0), "max_delta"),
    (lambda: o.clip_by_global_norm(-1.0), "max_norm must be at least 0"),
    (lambda: o.MultiSteps(o.adam(0.1), 0), "every_k_schedule must be at least 1, got 0"),
    (lambda: o.apply_if_finite(o.adam(0.1), -1), "max_consecutive_errors"),
    (lambda: o.reduce_on_plateau(1.0), r"factor must be in \(0, 1\)"),
    (lambda: o.reduce_on_plateau(patience=0), "patience must be at least 1"),
    (lambda: o.reduce_on_plateau(rtol=0.0), "rtol or atol must be positive"),
    (lambda: o.reduce_on_plateau(mode="best"), 'mode must be "min" or "max"'),
    (lambda: o.params_ema(1.0), "decay"),
]


@pytest.mark.parametrize("number", range(len(BAD)))
def test_bad_arguments(number):
    make, message = BAD[number]
    with pytest.raises(ValueError, match=message):
        make()


def test_public_names_of_the_package():
    for name in ("GradientTransformation", "adam", "adamw", "apply_updates", "chain", "sgd"):
        assert getattr(nn_fn, name) is getattr(o, name)
    for name in ("trace", "scale_by_adam", "add_decayed_weights", "scale_by_learning_rate", "TraceState", "AdamState"):
        assert hasattr(o, name)
