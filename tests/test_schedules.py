"""Schedules: against Optax and PyTorch at many counts, past their ends, under transforms, and their errors."""

from __future__ import annotations

import numpy as np
import pytest

import asgfn
import asgfn.numpy as jnp
from nn_fn import schedules
from tests.references import load
from tests.references.schedules import CASES, COUNTS


@pytest.mark.parametrize("name", CASES)
def test_schedule_against_its_reference(name):
    case, expected = CASES[name], load("schedules")[name]
    counts = COUNTS if case.torch is None else range(case.counts)
    with asgfn.enable_x64():
        schedule = case.ours(schedules)
        jitted = asgfn.jit(schedule)
        found = [jitted(jnp.int32(c)) for c in counts]
        assert all(f.shape == () and f.dtype == np.float64 for f in found)
        np.testing.assert_allclose(found, expected, rtol=1e-11, atol=1e-15)
    # in float32, with Python's numbers, floats, and all at once
    found = [case.ours(schedules)(c) for c in counts]
    assert all(f.shape == () and f.dtype == np.float32 for f in found)
    near = {"rtol": 2e-5, "atol": 2e-6 * np.abs(expected).max()}
    np.testing.assert_allclose(found, expected, **near)
    np.testing.assert_allclose(case.ours(schedules)(jnp.asarray(counts, jnp.int32)), found, rtol=1e-6)
    np.testing.assert_allclose(asgfn.vmap(case.ours(schedules))(jnp.asarray(counts, float)), expected, **near)


ENDING = {
    "linear": (lambda s: s.linear_schedule(0.1, 1.0, 40), 40, 1.0),
    "polynomial": (lambda s: s.polynomial_schedule(1.0, 0.25, 3, 10, 5), 15, 0.25),
    "cosine": (lambda s: s.cosine_decay_schedule(2.0, 30, 0.25), 30, 0.5),
    "warmup cosine": (lambda s: s.warmup_cosine(1.0, 10, 100, 0.125), 100, 0.125),
    "warmup": (lambda s: s.linear_warmup(0.5, 4), 4, 0.5),
    "one cycle": (lambda s: s.one_cycle_lr(1.0, 50, div_factor=2.0, final_div_factor=4.0), 49, 0.125),
    "one cycle, three phases": (
        lambda s: s.one_cycle_lr(1.0, 50, div_factor=2.0, final_div_factor=4.0, three_phase=True),
        49,
        0.125,
    ),
    "cosine annealing": (lambda s: s.cosine_annealing_lr(1.0, 20, 0.25), 20, 0.25),
    "polynomial_lr": (lambda s: s.polynomial_lr(1.0, 9, 2.0), 9, 0.0),
    "linear_lr": (lambda s: s.linear_lr(1.0, 0.5, 0.25, 9), 9, 0.25),
    "sgdr": (
        lambda s: s.sgdr_schedule([{"init_value": 0.0, "peak_value": 1.0, "warmup_steps": 1, "decay_steps": 5}] * 3),
        15,
        0.0,
    ),
}


@pytest.mark.parametrize("name", ENDING)
def test_the_last_value_stays_for_ever(name):
    make, end, last = ENDING[name]
    schedule = make(schedules)
    for count in (end, end + 1, 2 * end, 3 * end + 1, 10**6, np.iinfo(np.int32).max):
        np.testing.assert_allclose(schedule(jnp.int32(count)), last, atol=1e-7)


@pytest.mark.parametrize("name", ENDING)
def test_before_the_beginning_it_has_its_first_value(name):
    schedule = ENDING[name][0](schedules)
    assert float(schedule(-5)) == float(schedule(0))


def test_warm_up_and_cosine():
    schedule = schedules.warmup_cosine(1.0, 4, 12, end_value=0.2)
    expected = [0.0, 0.25, 0.5, 0.75, *(0.2 + 0.4 * (1 + np.cos(np.pi * np.arange(10).clip(0, 8) / 8)))]
    np.testing.assert_allclose([schedule(c) for c in range(14)], expected, rtol=1e-6)
    np.testing.assert_allclose(schedules.warmup_cosine(1.0, 0, 8)(0), 1.0)
    np.testing.assert_allclose(schedules.warmup_constant_schedule(0.0, 0.3, 0)(0), 0.3, rtol=1e-6)
    # Optax's alpha = end / peak does not exist here
    np.testing.assert_allclose(schedules.warmup_cosine_decay_schedule(1.0, 0.0, 2, 6, 0.5)(6), 0.5)


def test_short_cycles_have_no_gaps():
    """Where boundaries fall together, Optax's dict of them loses one."""
    for steps in range(1, 8):
        for schedule in (
            schedules.linear_onecycle_schedule(steps, 1.0),
            schedules.cosine_onecycle_schedule(steps, 1.0),
        ):
            values = np.array([schedule(c) for c in range(steps + 3)])
            assert np.isfinite(values).all() and values.max() <= 1.0
            np.testing.assert_allclose(values[steps:], 1 / 25e4, rtol=1e-5)
    for steps in range(1, 6):
        for three in (False, True):
            for part in (0.0, 0.3, 1.0):
                values = np.array([schedules.one_cycle_lr(1.0, steps, part, three_phase=three)(c) for c in range(8)])
                assert np.isfinite(values).all() and (values >= 0).all() and values.max() <= 1.0


def test_restarts_are_exact_at_every_cycle():
    for multiple in (2, 3, 5):
        schedule = schedules.cosine_annealing_warm_restarts(1.0, 3, multiple)
        start, length = 0, 3
        while start < 2**30:
            assert float(schedule(jnp.int32(start))) == 1.0
            if start:
                assert float(schedule(jnp.int32(start - 1))) < 0.99
            start, length = start + length, length * multiple


def test_per_epoch():
    schedule = schedules.per_epoch(schedules.step_lr(1.0, 2, 0.5), 10)
    np.testing.assert_allclose([schedule(c) for c in (0, 19, 20, 39, 40)], [1, 1, 0.5, 0.5, 0.25])


def test_a_schedule_is_differentiable_by_its_values():
    slope = asgfn.grad(lambda peak: schedules.warmup_cosine_decay_schedule(0.0, peak, 10, 100)(5))(0.3)
    np.testing.assert_allclose(slope, 0.5, rtol=1e-6)


ERRORS = [
    (lambda s: s.step_lr(0.1, 0), "step_lr: step_size must be at least 1, got 0"),
    (lambda s: s.step_lr(0.1, 3, -1.0), "gamma must be at least 0"),
    (lambda s: s.multi_step_lr(0.1, [3, -1]), "milestone must be at least 0"),
    (lambda s: s.linear_schedule(1.0, 0.0, 0), "transition_steps must be at least 1, got 0"),
    (lambda s: s.polynomial_schedule(1.0, 0.0, 1, 5, -1), "transition_begin must be at least 0"),
    (lambda s: s.exponential_decay(1.0, 0, 0.5), "transition_steps must be at least 1"),
    (lambda s: s.exponential_decay(1.0, 5, 0), "decay_rate must be positive"),
    (lambda s: s.cosine_decay_schedule(1.0, 0), "decay_steps must be at least 1"),
    (lambda s: s.cosine_annealing_lr(1.0, 0), "T_max must be at least 1"),
    (lambda s: s.warmup_cosine_decay_schedule(0.0, 1.0, 10, 10), "greater than warmup_steps; got decay_steps=10"),
    (lambda s: s.warmup_cosine(1.0, 10, 5), "warmup_cosine: total_steps .* got total_steps=5, warmup_steps=10"),
    (lambda s: s.linear_warmup(1.0, -1), "warmup_steps must be at least 0"),
    (lambda s: s.cosine_annealing_warm_restarts(1.0, 3, 1.5), "T_mult must be a whole number"),
    (lambda s: s.one_cycle_lr(1.0, 0), "total_steps must be at least 1"),
    (lambda s: s.one_cycle_lr(1.0, 5, 1.5), r"pct_start must be in \[0, 1\]"),
    (lambda s: s.one_cycle_lr(1.0, 5, anneal_strategy="sin"), "anneal_strategy"),
    (lambda s: s.linear_onecycle_schedule(10, 1.0, 0.9, 0.1), "pct_final must not be less"),
    (lambda s: s.piecewise_interpolate_schedule("sin", 1.0, {}), '"linear" or "cosine", got \'sin\''),
    (lambda s: s.piecewise_constant_schedule(1.0, {5: -1.0}), "scale at 5 must be at least 0"),
    (lambda s: s.join_schedules([], []), "0 schedules need 0 boundaries"),
    (lambda s: s.join_schedules([s.constant_schedule(1.0)] * 3, [1]), "3 schedules need 2 boundaries"),
    (lambda s: s.join_schedules([s.constant_schedule(1.0)] * 3, [5, 1]), "must ascend"),
    (lambda s: s.per_epoch(s.constant_schedule(1.0), 0), "steps_per_epoch must be at least 1"),
    (lambda s: s.linear_lr(1.0, total_iters=0), "total_iters must be at least 1"),
    (lambda s: s.step_lr(0.1, float("nan")), "step_size must be at least 1, got nan"),
]


@pytest.mark.parametrize("number", range(len(ERRORS)))
def test_bad_arguments(number):
    make, message = ERRORS[number]
    with pytest.raises(ValueError, match=message):
        make(schedules)
