"""EarlyStopping: patience, directions, nan, the best parameters, jit and checkpoints."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import asgfn
import asgfn.numpy as jnp
from asgfn import random
from asgfn.errors import DTypeError, ShapeError, StructureError
from nn_fn import load_checkpoint, save_checkpoint
from nn_fn import metrics as M
from nn_fn.training import EarlyStopping, MetricLogger


def stops_at(stopper: EarlyStopping, values: list[float]) -> tuple[int | None, float, int]:
    """When it stops, the best value, and its step."""
    state = stopper.init()
    for step, value in enumerate(values):
        state = stopper.update(state, value)
        if stopper.should_stop(state):
            return step, float(state.best_value), int(state.best_step)
    return None, float(state.best_value), int(state.best_step)


def test_stops_when_patience_is_over():
    values = [3.0, 2.0, 2.5, 2.0, 1.5, 1.75, 1.75, 1.75]
    assert stops_at(EarlyStopping("loss", patience=3), values) == (7, 1.5, 4)
    assert stops_at(EarlyStopping("loss", patience=2), values) == (3, 2.0, 1)
    assert stops_at(EarlyStopping("loss", patience=1), values) == (2, 2.0, 1)
    assert stops_at(EarlyStopping("loss", patience=0), values) == (2, 2.0, 1)
    assert stops_at(EarlyStopping("loss", patience=4), values) == (None, 1.5, 4)
    assert stops_at(EarlyStopping("accuracy", patience=2), [0.1, 0.3, 0.2, 0.3]) == (3, np.float32(0.3), 1)


def test_nothing_stops_before_a_value_came():
    stopper = EarlyStopping("loss", patience=0)
    assert not stopper.should_stop(stopper.init())


def test_min_delta_is_what_a_value_must_gain():
    values = [1.0, 0.75, 0.5, 0.25]
    assert stops_at(EarlyStopping("loss", patience=1, min_delta=0.25), values) == (1, 1.0, 0)
    assert stops_at(EarlyStopping("accuracy", patience=2, min_delta=1.0), values[::-1]) == (2, 0.25, 0)
    assert stops_at(EarlyStopping("loss", patience=2, min_delta=0.2), values) == (None, 0.25, 3)
    # slow progress counts from the best value, not from the last one
    assert stops_at(EarlyStopping("loss", patience=3, min_delta=0.4), values) == (None, 0.5, 2)


def test_the_direction_comes_from_mode_name_metric_or_logger():
    assert EarlyStopping("val_loss").mode == "min" and EarlyStopping("val/acc").mode == "max"
    assert EarlyStopping("loss", mode="max").mode == "max"
    assert EarlyStopping(M.f1()).mode == "max" and EarlyStopping(M.f1()).name == "f1"
    logger = MetricLogger(better={"score": "max"})
    assert EarlyStopping.from_logger(logger, "score", patience=3) == EarlyStopping("score", "max", patience=3)
    for unknown in ("score", "lr", M.running_mean()):
        with pytest.raises(ValueError, match="mode='min' or 'max'"):
            EarlyStopping(unknown)


def test_nan_is_not_better_and_can_stop_at_once():
    values = [1.0, math.nan, math.nan, 0.5]
    assert stops_at(EarlyStopping("loss", patience=3), values) == (None, 0.5, 3)
    assert stops_at(EarlyStopping("loss", patience=2), values) == (2, 1.0, 0)
    assert stops_at(EarlyStopping("loss", patience=9, stop_on_nan=True), values) == (1, 1.0, 0)
    assert stops_at(EarlyStopping("loss", patience=2), [math.nan, math.nan]) == (1, math.inf, -1)
    assert stops_at(EarlyStopping("accuracy", patience=2), [-math.inf, math.inf]) == (None, math.inf, 1)


def test_the_best_parameters_come_back():
    stopper = EarlyStopping("loss", patience=2)
    params = {"w": jnp.arange(3.0), "key": random.key(0)}
    state = stopper.init(params)
    for step, loss in enumerate([3.0, 1.0, 2.0, 5.0]):
        params = {"w": params["w"] + 1, "key": random.split(params["key"])[0]}
        if step == 1:
            expected = params
        state = stopper.update(state, loss, params, step=100 + step)
    assert stopper.should_stop(state) and int(state.best_step) == 101
    np.testing.assert_array_equal(state.best_params["w"], expected["w"])
    np.testing.assert_array_equal(random.key_data(state.best_params["key"]), random.key_data(expected["key"]))


def test_the_best_parameters_survive_donation():
    stopper = EarlyStopping("loss")
    step = asgfn.jit(lambda p: asgfn.tree.map(lambda x: x + 1, p), donate_argnums=0)
    params = {"w": jnp.arange(1000.0)}
    state = stopper.init(params)
    state = stopper.update(state, 1.0, params)
    late = stopper.update(stopper.init(), 1.0, params)
    params = step(params)
    state = stopper.update(state, 2.0, params)
    for kept in (state, late):
        np.testing.assert_array_equal(kept.best_params["w"], np.arange(1000.0))


def test_without_parameters_at_first_those_of_the_first_update_are_kept():
    stopper = EarlyStopping("loss")
    state = stopper.update(stopper.init(), math.nan, {"w": jnp.ones(2)})
    np.testing.assert_array_equal(state.best_params["w"], [1, 1])
    state = stopper.update(state, 1.0, {"w": jnp.zeros(2)})
    np.testing.assert_array_equal(state.best_params["w"], [0, 0])
    assert stopper.update(stopper.init(), 1.0).best_params is None


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.sampled_from([0.0, 0.25, 0.5, 1.0, math.nan, math.inf, -math.inf]), min_size=1, max_size=12),
    st.sampled_from(["min", "max"]),
    st.integers(0, 4),
    st.sampled_from([0.0, 0.25]),
)
def test_jit_and_scan_do_the_same_as_a_plain_loop(values, mode, patience, min_delta):
    stopper = EarlyStopping("x", mode, patience, min_delta)
    best, best_step, bad, stopped = (math.inf if mode == "min" else -math.inf), -1, 0, []
    for step, value in enumerate(values):
        better = value < best - min_delta if mode == "min" else value > best + min_delta
        best, best_step, bad = (value, step, 0) if better else (best, best_step, bad + 1)
        stopped.append(bad >= max(patience, 1))

    def body(state, value):
        state = stopper.update(state, value, {"w": jnp.stack([value, value])})
        return state, stopper.should_stop(state)

    start = stopper.init({"w": jnp.full((2,), -7.0)})
    state, found = asgfn.jit(lambda s, v: asgfn.lax.scan(body, s, v))(start, jnp.asarray(values, jnp.float32))
    assert np.asarray(found).tolist() == stopped
    assert (float(state.best_value), int(state.best_step), int(state.bad_updates)) == (best, best_step, bad)
    np.testing.assert_array_equal(state.best_params["w"], [best if best_step >= 0 else -7.0] * 2)


def test_a_state_survives_a_checkpoint(tmp_path):
    stopper = EarlyStopping("loss", patience=3)
    params = {"w": jnp.ones(2)}
    state = stopper.update(stopper.update(stopper.init(params), 1.0, params), 2.0, params)
    save_checkpoint(tmp_path / "state", state)
    again, _ = load_checkpoint(tmp_path / "state", stopper.init(params))
    for a, b in zip(asgfn.tree.leaves(again), asgfn.tree.leaves(state)):
        np.testing.assert_array_equal(a, b)
        assert a.dtype == b.dtype
    assert stopper.should_stop(stopper.update(stopper.update(again, 2.0, params), 2.0, params))


def test_wrong_arguments_raise():
    with pytest.raises(ValueError, match="patience"):
        EarlyStopping("loss", patience=-1)
    with pytest.raises(ValueError, match="patience"):
        EarlyStopping("loss", patience=2.5)
    for delta in (-0.1, math.nan):
        with pytest.raises(ValueError, match="min_delta"):
            EarlyStopping("loss", min_delta=delta)
    with pytest.raises(ValueError, match="'min' or 'max', got 'up'"):
        EarlyStopping("loss", mode="up")
    stopper = EarlyStopping("loss")
    with pytest.raises(ShapeError, match=r"one number, got float32\[2\]"):
        stopper.update(stopper.init(), jnp.ones(2))
    with pytest.raises(DTypeError, match="real"):
        stopper.update(stopper.init(), 1j)
    with pytest.raises(StructureError, match="structure"):
        stopper.update(stopper.init({"w": jnp.ones(2)}), 1.0, {"v": jnp.ones(2)})
    with pytest.raises(StructureError, match="structure"):
        stopper.update(stopper.init({"w": jnp.ones(2)}), 1.0)
    with pytest.raises(AttributeError):
        stopper.patience = 3
