"""Metrics: against scikit-learn, in batches and merges, at the limits of counting, and their errors."""

from __future__ import annotations

import itertools
import math
import os
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import asgfn
import asgfn.numpy as jnp
from asgfn.errors import DTypeError, ShapeError
from nn_fn import metrics as M
from nn_fn.metrics import moments, sums
from tests.references import metrics as reference
from tests.references import numbers

FAMILIES = sorted({case.name.split(":")[0].split(" ")[0] for case in reference.CASES})

# all cases, merged and with both dtypes, take minutes; by default up to 80 of a family are checked, each in some ways
EVERYTHING = os.environ.get("METRICS_EVERYTHING") == "1"


def cases_of(family: str) -> list[reference.MetricCase]:
    return [case for case in reference.CASES if case.name.split(":")[0].split(" ")[0] == family]


def close(found: Any, expected: Any, tol: float, what: str = "") -> None:
    """Equal to a relative tolerance; for arrays, relative to the largest element, at most 1."""
    found = np.asarray(found, np.float64).ravel()
    expected = np.asarray(expected, np.float64).ravel()
    largest = np.max(np.abs(expected[np.isfinite(expected)]), initial=0.0)
    # 1 - ratio: where it is near 0, only the error of the ratio means something
    scale = 1.0 if what.startswith(("r2", "explained_variance")) else min(max(largest, 1e-30), 1.0)
    np.testing.assert_allclose(found, expected, rtol=tol, atol=tol * scale, err_msg=what)


def masked(mask: Any, part: slice) -> dict[str, Any]:
    return {} if mask is None else {"mask": mask[part]}


# ------------------------------------------------------------------------------------------------------ scikit-learn


def check(case: reference.MetricCase, x64: bool, merged: bool, jitted: bool) -> None:
    expected = reference.expected()[case.name]
    (p, t), m = case.inputs, case.mask
    r = numbers(case.name)
    edges = [0, *sorted(r.randint(0, len(t) + 1, 3)), len(t)]
    with asgfn.enable_x64(x64):
        metric = case.ours(M)
        tol = min(case.tol, 1e-10) if x64 else case.tol
        close(metric.evaluate(p, t, **masked(m, slice(None))), expected, tol, case.name)
        if merged:
            parts = [slice(a, b) for a, b in itertools.pairwise(edges)]
            states = [metric.update(metric.init(), p[s], t[s], **masked(m, s)) for s in parts]
            whole = metric.merge_all([states[i] for i in r.permutation(len(states))])
            close(metric.compute(whole), expected, tol, f"{case.name}, merged")
        if jitted:
            state, update = metric.init(), asgfn.jit(metric.update)
            for a, b in itertools.pairwise(edges):
                state = update(state, p[a:b], t[a:b], **masked(m, slice(a, b)))
            close(asgfn.jit(metric.compute)(state), expected, tol, f"{case.name}, jitted, in batches")


@pytest.mark.parametrize("family", FAMILIES)
def test_equals_scikit_learn_at_once_in_batches_and_merged(family: str):
    cases = cases_of(family)
    if EVERYTHING:
        for number, case in enumerate(cases):
            for x64 in (True, False) if case.float32 else (True,):
                check(case, x64, True, number % 10 == 0)
        return
    chosen = numbers(family).permutation(len(cases))[:80]
    for number, case in enumerate(cases[i] for i in sorted(chosen)):
        check(case, not case.float32 or number % 2 == 1, number % 4 == 0, number % 30 == 0)


def test_the_record_has_every_case_and_no_other():
    assert set(reference.expected()) == {case.name for case in reference.CASES}


# -------------------------------------------------------------------------------------------------- every metric once


def all_metrics() -> dict[str, tuple[M.Metric, tuple[np.ndarray, ...]]]:
    """A metric of each kind with inputs of 24 examples."""
    r = numbers("all metrics")
    scores, classes = r.randn(24, 4).astype(np.float32), r.randint(0, 4, 24)
    chance, truth = r.rand(24).astype(np.float32), r.randint(0, 2, 24)
    x, y = r.rand(24, 3).astype(np.float32), r.rand(24, 3).astype(np.float32)
    many = {
        "accuracy": M.accuracy(), "top_k": M.top_k_accuracy(2), "log_loss": M.log_loss(from_logits=True),
        "perplexity": M.perplexity(), "confusion_matrix": M.confusion_matrix(4, weighted=True),
        "precision": M.precision(4, None), "recall": M.recall(4, "macro"), "f1": M.f1(4, "weighted"),
        "specificity": M.specificity(4, "micro"), "balanced_accuracy": M.balanced_accuracy(4),
        "matthews_corrcoef": M.matthews_corrcoef(4), "cohen_kappa": M.cohen_kappa(4), "roc_auc ovr": M.roc_auc(4, capacity=99),
        "roc_auc ovo": M.roc_auc(4, multi_class="ovo"), "mrr": M.mrr(),
    }  # fmt: skip
    two = {
        "binary accuracy": M.accuracy(0.5), "binary log_loss": M.log_loss(binary=True), "binary precision": M.precision(),
        "binary f1": M.f1(), "roc_auc": M.roc_auc(), "roc_auc fixed": M.roc_auc(capacity=99),
        "average_precision": M.average_precision(capacity=99), "binned_roc_auc": M.binned_roc_auc(20),
    }  # fmt: skip
    real = {
        "mse": M.mse(3, "raw_values"), "rmse": M.rmse(3), "mae": M.mae(3), "mape": M.mape(3), "max_error": M.max_error(),
        "mean_squared_log_error": M.mean_squared_log_error(3), "r2": M.r2(3, "raw_values"),
        "explained_variance": M.explained_variance(3), "ndcg": M.ndcg(2),
    }  # fmt: skip
    alone = {"mean": M.running_mean(), "std": M.running_std(1), "min_max": M.running_min_max()}
    return (
        {name: (metric, (scores, classes)) for name, metric in many.items()}
        | {name: (metric, (chance, truth)) for name, metric in two.items()}
        | {name: (metric, (x, y)) for name, metric in real.items()}
        | {name: (metric, (chance,)) for name, metric in alone.items()}
    )


ALL = all_metrics()


def equal(a: Any, b: Any, tol: float = 1e-6) -> None:
    assert asgfn.tree.structure(a) == asgfn.tree.structure(b)
    for x, y in zip(asgfn.tree.leaves(a), asgfn.tree.leaves(b)):
        np.testing.assert_allclose(np.asarray(x), np.asarray(y), rtol=tol, atol=tol)


@pytest.mark.parametrize("name", ALL)
def test_without_data_a_metric_is_nan_and_an_empty_batch_changes_nothing(name: str):
    metric, inputs = ALL[name]
    empty = [x[:0] for x in inputs]
    for result in (metric.compute(metric.init()), metric.evaluate(*empty), metric.compute(metric.merge_all([]))):
        for leaf in asgfn.tree.leaves(result):
            if name == "confusion_matrix":  # counts of nothing are 0
                assert not np.asarray(leaf).any()
            else:
                assert np.isnan(np.asarray(leaf)).all()
    state = metric.update(metric.init(), *inputs)
    equal(metric.compute(metric.update(state, *empty)), metric.compute(state), 0)
    equal(metric.compute(metric.merge(metric.init(), state)), metric.compute(state), 0)
    equal(metric.compute(metric.merge(state, metric.init())), metric.compute(state), 0)


@pytest.mark.parametrize("name", ALL)
def test_masked_examples_may_hold_anything(name: str):
    metric, inputs = ALL[name]
    garbage = [np.full_like(x, np.nan) if x.dtype.kind == "f" else np.full_like(x, -100) for x in inputs]
    padded = [np.concatenate([x, g[:7]]) for x, g in zip(inputs, garbage)]
    keep = np.arange(31) < 24
    expected = metric.evaluate(*inputs)
    equal(metric.evaluate(*padded, mask=keep), expected)
    equal(asgfn.jit(metric.evaluate)(*padded, mask=keep.astype(np.float32)), expected)
    everything_masked = metric.evaluate(*padded, mask=np.zeros(31, bool))
    equal(everything_masked, metric.compute(metric.init()))


@pytest.mark.parametrize("name", ALL)
def test_weights_count_as_repetitions(name: str):
    metric, inputs = ALL[name]
    times = numbers(f"times {name}").randint(0, 4, 24)
    repeated = [np.repeat(x, times, axis=0) for x in inputs]
    equal(metric.evaluate(*inputs, mask=times.astype(np.float32)), metric.evaluate(*repeated), 3e-6)


@pytest.mark.parametrize("name", [name for name in ALL if name not in ("roc_auc", "roc_auc ovo")])
def test_updates_run_in_a_scan_and_states_keep_their_types(name: str):
    metric, inputs = ALL[name]
    batches = tuple(jnp.asarray(x.reshape(6, 4, *x.shape[1:])) for x in inputs)
    state, _ = asgfn.lax.scan(lambda s, batch: (metric.update(s, *batch), None), metric.init(), batches)
    equal(metric.compute(state), metric.evaluate(*inputs), 3e-6)
    for a, b in zip(asgfn.tree.leaves(metric.init()), asgfn.tree.leaves(state)):
        assert (a.shape, a.dtype) == (b.shape, b.dtype)


@pytest.mark.parametrize("name", ["accuracy", "f1", "r2", "roc_auc fixed", "ndcg", "std"])
def test_vmap_gives_a_metric_for_each_model(name: str):
    metric, inputs = ALL[name]
    models = tuple(np.stack([x, x[::-1], np.roll(x, 1, 0)]) for x in inputs[:1])
    found = asgfn.vmap(lambda x: metric.evaluate(x, *inputs[1:]))(*models)
    for i in range(3):
        equal(asgfn.tree.map(lambda f: f[i], found), metric.evaluate(models[0][i], *inputs[1:]), 3e-6)


@settings(max_examples=25, deadline=None)
@given(
    name=st.sampled_from(sorted(ALL)),
    cuts=st.lists(st.integers(0, 24), max_size=4),
    order=st.randoms(use_true_random=False),
    shuffle=st.booleans(),
)
def test_any_split_merged_in_any_order_and_grouping_equals_one_pass(name, cuts, order, shuffle):
    metric, inputs = ALL[name]
    expected = metric.evaluate(*inputs)
    rows = list(range(24))
    if shuffle:
        order.shuffle(rows)
    edges = [0, *sorted(cuts), 24]
    states = [metric.update(metric.init(), *(x[rows[a:b]] for x in inputs)) for a, b in itertools.pairwise(edges)]
    while len(states) > 1:  # any tree of merges
        a = states.pop(order.randrange(len(states)))
        b = states.pop(order.randrange(len(states)))
        states.append(metric.merge(a, b))
    equal(metric.compute(states[0]), expected, 3e-6)


# --------------------------------------------------------------------------------------------------- limits of counting


def doubled(metric: M.Metric, state: Any, times: int) -> Any:
    merge = asgfn.jit(metric.merge)
    for _ in range(times):
        state = merge(state, state)
    return state


def test_counts_beyond_two_to_the_24_are_exact():
    metric = M.confusion_matrix(2)
    many = doubled(metric, metric.update(metric.init(), np.array([0, 0, 1]), np.array([0, 1, 1])), 28)
    one = metric.update(metric.init(), np.array([0, 1]), np.array([0, 0]))
    found = metric.compute(metric.merge(many, one))
    assert found.dtype == jnp.int32
    np.testing.assert_array_equal(found, [[2**28 + 1, 1], [2**28, 2**28]])


def test_single_examples_still_count_after_very_many():
    metric = M.accuracy()
    state = doubled(metric, metric.update(metric.init(), np.array([1]), np.array([1])), 40)
    update = asgfn.jit(metric.update)
    for _ in range(100):
        state = update(state, np.array([0]), np.array([1]))
    assert float(state.total.high) + float(state.total.low) == 2**40
    assert float(state.weight.high) + float(state.weight.low) == 2**40 + 100
    rare = M.recall()
    state = doubled(rare, rare.update(rare.init(), np.array([1]), np.array([1])), 30)
    state = rare.merge(state, doubled(rare, rare.update(rare.init(), np.array([0]), np.array([1])), 4))
    assert float(1 - np.float64(rare.compute(state))) < 2**-24  # 1 - 2**-26, rounded
    assert float(state.missed.high[1] + state.missed.low[1]) == 16


def test_the_correlation_of_a_class_that_is_one_in_a_hundred_million_survives():
    metric = M.matthews_corrcoef(2)
    state = doubled(metric, metric.update(metric.init(), np.array([0]), np.array([0])), 27)
    state = metric.update(state, np.array([1, 1, 0]), np.array([1, 0, 1]))
    tp, fp, fn, tn = 1.0, 1.0, 1.0, 2.0**27
    exact = (tp * tn - fp * fn) / math.sqrt((tp + fp) * (tp + fn) * (tn + fp) * (tn + fn))
    np.testing.assert_allclose(metric.compute(state), exact, rtol=1e-6)


def test_integers_become_sums_exactly():
    whole = np.array([0, 1, -1, 2**24 + 1, 2**31 - 1, -(2**31), 123456789], np.int32)
    pair = sums.exactly(jnp.asarray(whole))
    np.testing.assert_array_equal(np.asarray(pair.high, np.float64) + np.asarray(pair.low, np.float64), whole)
    np.testing.assert_array_equal(sums.integer(pair), whole)


def test_means_of_many_small_numbers_do_not_stall():
    metric = M.running_mean()

    def many(state: Any) -> Any:
        return asgfn.lax.fori_loop(0, 2_000, lambda i, s: metric.update(s, jnp.full((4,), 0.1)), state)

    found = asgfn.jit(many)(metric.update(metric.init(), jnp.full((1000,), 3000.0)))
    exact = (3000.0 * 1000 + np.float64(np.float32(0.1)) * 8_000) / 9_000
    np.testing.assert_allclose(metric.compute(found), exact, rtol=2e-7)


def test_sums_in_a_batch_are_rounded_little():
    x = numbers("sum").rand(100_000).astype(np.float32)
    pair = sums.batch_sum(jnp.asarray(x), jnp.ones(x.shape))
    exact = math.fsum(x.tolist())
    assert abs(float(pair.high) + float(pair.low) - exact) < 1e-9 * exact
    for special in ([np.inf, 1.0], [3e38, 3e38], [np.nan], [1e-45, 1e-45], [0.0, -0.0]):
        with np.errstate(over="ignore"):
            expected = np.sum(np.array(special, np.float32))
        pair = sums.batch_sum(jnp.asarray(special, jnp.float32), jnp.ones(len(special), bool))
        np.testing.assert_array_equal(sums.value(pair), expected)


# ------------------------------------------------------------------------------------------------------- running, r²


def test_variances_do_not_cancel_and_follow_a_drift():
    r = numbers("drift")
    x = (1e4 + np.linspace(0, 1, 6_000) + r.randn(6_000) * 0.1).astype(np.float32)
    metric = M.running_std(1)

    def step(state: Any, batch: Any) -> tuple[Any, None]:
        return metric.update(state, batch), None

    state, _ = asgfn.lax.scan(step, metric.init(), jnp.asarray(x.reshape(-1, 10)))
    np.testing.assert_allclose(metric.compute(state), x.astype(np.float64).std(ddof=1), rtol=1e-5)
    mean = float(state.mean.high) + float(state.mean.low)
    np.testing.assert_allclose(mean, x.astype(np.float64).mean(), rtol=1e-9)


def test_running_std_of_few_and_of_equal_values():
    assert np.isnan(M.running_std(1).evaluate(np.array([3.0])))
    assert M.running_std().evaluate(np.array([3.0])) == 0
    same = np.full(1000, 0.1, np.float32)
    metric = M.running_std()
    assert metric.compute(metric.update(metric.update(metric.init(), same), same[:7])) == 0
    assert np.isfinite(M.running_mean().evaluate(np.array([1e38], np.float32)))
    found = moments.of_batch(jnp.full((10,), 3e38), jnp.ones(10, bool), (0,))
    assert found.mean.high == np.float32(3e38) and found.squares.high == 0  # the sum would overflow, the mean does not


def test_running_min_max_of_infinities_and_nan():
    found = M.running_min_max().evaluate(np.array([np.inf, np.inf]))
    assert found["min"] == np.inf and found["max"] == np.inf
    assert np.isnan(M.running_min_max().evaluate(np.array([1.0, np.nan]))["min"])


def test_ema_by_hand_and_its_order_and_merge():
    metric = M.ema(0.25)
    assert np.isnan(metric.compute(metric.init()))
    state, expected = metric.init(), None
    for value in (4.0, 8.0, -2.0):
        state = asgfn.jit(metric.update)(state, value)
        expected = value if expected is None else expected + 0.25 * (value - expected)
    state = metric.update(state, np.nan, mask=False)
    np.testing.assert_allclose(metric.compute(state), expected)
    with pytest.raises(ValueError, match=r"cannot be merged.*order"):
        metric.merge(state, state)
    span = M.ema_from_span(7)
    np.testing.assert_allclose(span.compute(span.update(span.update(span.init(), 1.0), 2.0)), 1.25)
    for alpha in (0, -1, 1.5, math.nan):
        with pytest.raises(ValueError, match="alpha"):
            M.ema(alpha)
    with pytest.raises(ValueError, match="span"):
        M.ema_from_span(0.5)
    with pytest.raises(ShapeError, match="one number"):
        metric.update(metric.init(), np.ones(3))


def test_mape_is_a_fraction_and_percent_on_request():
    p, t = np.array([1.1, 2.0]), np.array([1.0, 4.0])
    np.testing.assert_allclose(M.mape().evaluate(p, t), 0.3, rtol=1e-6)
    np.testing.assert_allclose(M.mape(percent=True).evaluate(p, t), 30, rtol=1e-6)
    np.testing.assert_allclose(M.mape(eps=10).evaluate(p, t), (0.01 + 0.2) / 2, rtol=1e-6)


def test_log_errors_at_their_edge():
    metric = M.mean_squared_log_error()
    assert metric.evaluate(np.array([-1.0]), np.array([-1.0])) == 0
    assert metric.evaluate(np.array([-1.0]), np.array([0.0])) == np.inf
    assert np.isnan(metric.evaluate(np.array([-2.0]), np.array([-3.0])))
    np.testing.assert_allclose(metric.evaluate(np.array([1e6]), np.array([0.0])), np.log1p(1e6) ** 2, rtol=1e-6)


def test_r2_of_one_example_is_nan_and_squares_that_overflow_are_not_hidden():
    assert np.isnan(M.r2().evaluate(np.array([1.0]), np.array([1.0])))
    assert np.isnan(M.r2().evaluate(np.ones(3), np.ones(3), mask=np.array([True, False, False])))
    assert M.mse().evaluate(np.array([1e30], np.float32), np.array([0.0], np.float32)) == np.inf
    assert np.isnan(M.max_error().evaluate(np.array([np.nan, 1.0]), np.array([0.0, 0.0])))


# ------------------------------------------------------------------------------------------------- classes and scores


def test_accuracy_takes_scores_one_hot_and_numbers():
    scores = np.array([[0.1, 0.9], [0.8, 0.2], [0.5, 0.5]])
    targets = np.array([1, 1, 0])
    expected = np.float32(2 / 3)
    assert M.accuracy().evaluate(scores, targets) == expected
    assert M.accuracy().evaluate(scores, np.eye(2)[targets]) == expected
    assert M.accuracy().evaluate(scores, np.eye(2, dtype=int)[targets]) == expected
    assert M.accuracy().evaluate(scores.argmax(1), targets) == expected
    assert M.accuracy(0.0).evaluate(np.array([0.0, -1.0]), np.array([True, True])) == 0.5
    assert M.accuracy().evaluate(np.array([[np.nan, 1.0]]), np.array([0])) == 0
    for dtype in (jnp.float16, jnp.bfloat16):
        assert M.accuracy().evaluate(jnp.asarray(scores).astype(dtype), targets) == expected
    tokens = np.zeros((2, 3, 5), np.float32)
    assert M.accuracy().evaluate(tokens, np.zeros((2, 3), int), mask=np.array([True, False])) == 1


def test_top_k_follows_the_order_of_ties_that_was_asked_for():
    scores, target = np.zeros((1, 3)), np.array([0])
    assert M.top_k_accuracy(1).evaluate(scores, target) == M.accuracy().evaluate(scores, target) == 1
    assert M.top_k_accuracy(1, ties="last").evaluate(scores, target) == 0
    assert M.top_k_accuracy(7).evaluate(scores, target) == 1
    assert M.top_k_accuracy(7).evaluate(np.array([[np.nan, 1.0, 0.0]]), target) == 0


def test_losses_of_impossible_predictions():
    logits = np.array([[1e30, -1e30], [-1e30, 1e30]], np.float32)
    assert M.log_loss(from_logits=True).evaluate(logits, np.array([0, 1])) == 0
    assert M.perplexity().evaluate(logits, np.array([1, 0])) == np.inf
    certain = M.log_loss().evaluate(np.array([[0.0, 1.0]], np.float32), np.array([0]))
    np.testing.assert_allclose(certain, -np.log(np.finfo(np.float32).eps), rtol=1e-6)
    binary = M.log_loss(from_logits=True, binary=True)
    np.testing.assert_allclose(binary.evaluate(np.array([200.0, -200.0]), np.array([0, 1])), 200.0)


def test_a_class_out_of_range_raises_or_is_nan_and_never_counts():
    bad = np.array([0, 4])
    scores = np.zeros((2, 4), np.float32)
    for metric in (M.f1(4, "macro"), M.roc_auc(4), M.log_loss(), M.perplexity(), M.accuracy(), M.confusion_matrix(4)):
        with pytest.raises(ValueError, match="from 0 to 3, got 4"):
            metric.evaluate(scores, bad)
        metric.evaluate(scores, bad, mask=np.array([True, False]))
    for metric in (M.f1(4, "macro"), M.f1(4, None), M.roc_auc(4), M.log_loss(), M.perplexity()):
        assert np.isnan(asgfn.jit(metric.evaluate)(scores, bad)).all()
    assert (np.asarray(asgfn.jit(M.confusion_matrix(4).evaluate)(scores, bad)) == -1).all()
    assert np.isnan(asgfn.jit(M.precision().evaluate)(np.array([0.1, 0.9]), np.array([0, 2])))
    assert np.isnan(M.f1(2, "macro").evaluate(np.array([[np.nan, 1.0]]), np.array([1])))
    assert np.isnan(M.f1().evaluate(np.array([np.nan]), np.array([1])))
    with pytest.raises(ValueError, match="predictions must be class numbers from 0 to 1, got 7"):
        M.precision().evaluate(np.array([7]), np.array([1]))


def test_too_many_examples_for_a_capacity_are_nan_not_wrong():
    scores, targets = np.array([0.1, 0.9, 0.3, 0.7]), np.array([0, 1, 0, 1])
    metric = M.roc_auc(capacity=3)
    assert np.isnan(metric.evaluate(scores, targets))
    assert metric.evaluate(scores, targets, mask=np.array([True, True, False, True])) == 1
    half = metric.update(metric.init(), scores[:2], targets[:2])
    assert metric.compute(half) == 1
    assert np.isnan(metric.compute(metric.merge(half, half)))
    assert np.isnan(metric.compute(metric.update(half, scores[2:], targets[2:])))


def test_roc_auc_is_nan_for_nan_scores_and_missing_classes():
    assert np.isnan(M.roc_auc().evaluate(np.array([np.nan, 1.0]), np.array([0, 1])))
    assert np.isnan(M.roc_auc().evaluate(np.array([0.0, 1.0]), np.array([1, 1])))
    assert np.isnan(M.average_precision().evaluate(np.array([0.0, 1.0]), np.array([0, 0])))
    assert M.roc_auc().evaluate(np.array([-np.inf, np.inf, np.inf]), np.array([0, 1, 0])) == 0.75


def test_binned_roc_auc_is_near_the_exact_one_within_its_bound():
    r = numbers("bins")
    targets = r.randint(0, 2, 3000)
    scores = np.clip(r.rand(3000) * 0.8 + targets * 0.2, 0, 1).astype(np.float32)
    exact = float(M.roc_auc().evaluate(scores, targets))
    for bins in (5, 50, 5000):
        place = np.minimum((scores * bins).astype(int), bins - 1)
        shared = np.bincount(place[targets == 1], minlength=bins) @ np.bincount(place[targets == 0], minlength=bins)
        bound = shared / (targets.sum() * (1 - targets).sum()) / 2
        found = float(M.binned_roc_auc(bins).evaluate(scores, targets))
        assert abs(found - exact) <= bound + 1e-6
    coarse = np.round(scores * 10) / 10  # as many values as bins: nothing is lost
    found = M.binned_roc_auc(11, -0.05, 1.05).evaluate(coarse, targets)
    np.testing.assert_allclose(found, M.roc_auc().evaluate(coarse, targets), rtol=1e-6)
    assert np.isnan(M.binned_roc_auc().evaluate(np.array([np.nan, 1.0]), np.array([0, 1])))
    metric = M.binned_roc_auc(2)
    state = doubled(metric, metric.update(metric.init(), np.array([0.1, 0.9, 0.1]), np.array([0, 1, 1])), 26)
    np.testing.assert_allclose(metric.compute(state), 0.75)


def test_mrr_takes_item_numbers_and_sets_of_relevant_items():
    scores = np.array([[3.0, 2.0, 1.0], [3.0, 2.0, 1.0]])
    np.testing.assert_allclose(M.mrr().evaluate(scores, np.array([1, 2])), (1 / 2 + 1 / 3) / 2, rtol=1e-6)
    several = np.array([[False, True, True], [False, False, False]])
    assert M.mrr().evaluate(scores, several) == 0.25
    tied = np.array([[1.0, 1.0, 0.0]])
    assert M.mrr().evaluate(tied, np.array([[True, True, False]])) == 1
    assert M.mrr().evaluate(tied, np.array([0])) == 0.5
    assert np.isnan(M.mrr().evaluate(np.array([[np.nan, 1.0]]), np.array([1])))
    with pytest.raises(ValueError, match="relevant items"):
        M.mrr().evaluate(scores, np.array([3, 0]))


def test_ndcg_of_a_long_list_keeps_its_precision():
    n = 50_000
    scores = -np.arange(n, dtype=np.float32)[None]
    relevance = (np.arange(n) == n - 1).astype(np.float32)[None]
    np.testing.assert_allclose(M.ndcg().evaluate(scores, relevance), 1 / np.log2(n + 1.0), rtol=2e-6)
    assert np.isnan(M.ndcg().evaluate(np.ones((1, 2)), np.array([[-1.0, 1.0]])))


# --------------------------------------------------------------------------------------------------------- collection


def test_a_collection_is_a_metric_over_a_dict():
    both = M.collection(acc=M.accuracy(), inner=M.collection(loss=M.log_loss(from_logits=True)))
    scores, targets = ALL["accuracy"][1]
    state = both.update(both.init(), scores[:10], targets[:10])
    state = both.merge(state, both.update(both.init(), scores[10:], targets[10:], mask=np.ones(14, bool)))
    found = both.compute(state)
    equal(found["acc"], M.accuracy().evaluate(scores, targets))
    equal(found["inner"]["loss"], M.log_loss(from_logits=True).evaluate(scores, targets))
    assert both.better == {"acc": "max", "inner": {"loss": "min"}}
    equal(asgfn.jit(both.evaluate)(scores, targets), found)
    with pytest.raises(ValueError, match="at least one"):
        M.collection()
    with pytest.raises(TypeError, match=r"call it: a=accuracy\("):
        M.collection(a=M.accuracy)
    with pytest.raises(AttributeError):
        both.name = "x"


# ------------------------------------------------------------------------------------------------------------- errors


def test_shapes_and_dtypes_that_do_not_fit_are_named():
    for metric in (M.mse(), M.mae(), M.r2(), M.max_error(), M.explained_variance()):
        with pytest.raises(ShapeError, match=r"one shape, got float32\[3\] and float32\[3,1\]"):
            metric.evaluate(np.zeros(3, np.float32), np.zeros((3, 1), np.float32))
    with pytest.raises(ShapeError, match=r"outputs=2.*\[..., 2\], got float32\[4,3\]"):
        M.rmse(2).evaluate(np.zeros((4, 3), np.float32), np.zeros((4, 3), np.float32))
    with pytest.raises(ShapeError, match=r"accuracy: .*scores are float32\[3,4\], targets int32\[2\]"):
        M.accuracy().evaluate(np.zeros((3, 4), np.float32), np.zeros(2, np.int32))
    with pytest.raises(ShapeError, match="need a threshold"):
        M.accuracy().evaluate(np.zeros(3, np.float32), np.zeros(3, np.int32))
    with pytest.raises(DTypeError, match=r"class numbers \(integers\), got float32\[3\]"):
        M.accuracy().evaluate(np.zeros((3, 4), np.float32), np.zeros(3, np.float32))
    with pytest.raises(DTypeError, match="0 and 1, got float32"):
        M.precision().evaluate(np.zeros(3, np.float32), np.zeros(3, np.float32))
    with pytest.raises(ShapeError, match=r"f1: scores must be \[..., 5\]"):
        M.f1(5, "macro").evaluate(np.zeros((3, 4), np.float32), np.zeros(3, int))
    with pytest.raises(ShapeError, match=r"mask must have the examples' shape \[3\]"):
        M.mse().evaluate(np.zeros(3), np.zeros(3), mask=np.ones(2, bool))
    with pytest.raises(DTypeError, match="weighted=True"):
        M.confusion_matrix(2).evaluate(np.zeros(3, int), np.zeros(3, int), mask=np.ones(3))
    with pytest.raises(DTypeError, match="real numbers, got complex64"):
        M.mse().evaluate(np.zeros(3, np.complex64), np.zeros(3, np.complex64))
    with pytest.raises(ShapeError, match=r"roc_auc\(num_classes\)"):
        M.roc_auc().evaluate(np.zeros((3, 2), np.float32), np.zeros(3, int))
    with pytest.raises(ShapeError, match="ndcg"):
        M.ndcg().evaluate(np.zeros((3, 2)), np.zeros((3, 3)))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: M.precision(average="macro"), "number of classes"),
        (lambda: M.f1(3, "mean"), "average must be"),
        (lambda: M.recall(zero_division=0.5), "zero_division"),
        (lambda: M.confusion_matrix(0), "positive integer"),
        (lambda: M.confusion_matrix(2, normalize="rows"), "normalize"),
        (lambda: M.top_k_accuracy(0), "positive integer"),
        (lambda: M.top_k_accuracy(1, ties="mean"), "ties"),
        (lambda: M.roc_auc(1), "at least 2"),
        (lambda: M.roc_auc(3, None, "ovo"), "needs an average"),
        (lambda: M.roc_auc(3, multi_class="all"), "multi_class"),
        (lambda: M.roc_auc(capacity=0), "capacity"),
        (lambda: M.binned_roc_auc(low=1, high=1), "less than"),
        (lambda: M.mse(multioutput="raw_values"), "outputs=n"),
        (lambda: M.mse(2, "variance_weighted"), "multioutput"),
        (lambda: M.ndcg(0), "positive integer"),
    ],
)
def test_wrong_arguments_raise(make, message):
    with pytest.raises(ValueError, match=message):
        make()
