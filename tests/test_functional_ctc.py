"""CTC: against PyTorch, against all alignments one by one, where nothing fits, and under transforms."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

import asgfn
import asgfn.numpy as jnp
import nn_fn.functional as F
from asgfn.errors import DTypeError, IndexOutOfRangeError, ShapeError
from tests.references import assert_case, normal
from tests.references.functional_ctc import CASES


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_equals_pytorch(case):
    assert_case("functional_ctc", case, F)


def log_probs(name: str, *shape: int):
    return F.log_softmax(jnp.asarray(normal(name, *shape).astype(np.float32)), axis=-1)


def collapsed(path, blank):
    return [symbol for symbol, _ in itertools.groupby(path) if symbol != blank]


@pytest.mark.parametrize("target", [[], [1], [1, 1], [2, 1], [1, 2, 1]])
def test_equals_the_sum_over_all_alignments(target):
    log_p = np.asarray(log_probs("alignments", 5, 3), np.float64)
    paths = itertools.product(range(3), repeat=5)
    total = sum(math.exp(sum(log_p[t, s] for t, s in enumerate(p))) for p in paths if collapsed(p, 0) == target)
    padded = np.array([*target, 0], np.int32)
    loss = F.ctc_loss(log_p.astype(np.float32), padded, 5, len(target), reduction="sum")
    np.testing.assert_allclose(loss, -math.log(total), rtol=1e-5)


def test_the_gradient_in_log_probs_is_that_of_the_formula():
    # minus the expected number of times that each symbol is emitted at each step: each step sums to -1
    x = log_probs("formula", 6, 2, 4)
    loss = lambda x: F.ctc_loss(x, np.array([[1, 2], [3, 3]]), np.array([6, 4]), np.array([2, 2]), reduction="sum")
    gradient = np.asarray(asgfn.grad(loss)(x))
    np.testing.assert_allclose(gradient.sum(-1)[:, 0], -1, rtol=1e-5)
    np.testing.assert_allclose(gradient.sum(-1)[:4, 1], -1, rtol=1e-5)
    np.testing.assert_array_equal(gradient[4:, 1], 0)
    with asgfn.enable_x64(True):
        asgfn.test_util.check_grads(loss, (jnp.asarray(np.asarray(x, np.float64)),), order=2, modes=("fwd", "rev"))


@pytest.mark.parametrize("zero_infinity", [False, True])
def test_what_cannot_be_aligned_has_gradient_zero(zero_infinity):
    x = log_probs("too short", 3, 2, 4)
    arguments = np.array([[1, 1, 2], [3, 2, 1]]), np.array([3, 3]), np.array([3, 3])
    losses = F.ctc_loss(x, *arguments, reduction="none", zero_infinity=zero_infinity)
    assert losses[0] == (0 if zero_infinity else np.inf) and np.isfinite(losses[1])
    gradient = asgfn.grad(lambda x: F.ctc_loss(x, *arguments, reduction="sum", zero_infinity=zero_infinity))(x)
    assert np.isfinite(gradient).all()
    np.testing.assert_array_equal(gradient[:, 0], 0)
    assert (np.asarray(gradient[:, 1]) != 0).any()


def test_symbols_of_probability_zero():
    x = log_probs("zero", 4, 1, 3).at[:, :, 2].set(-np.inf)
    one = lambda x, target: F.ctc_loss(x, np.array([target]), np.array([4]), np.array([2]), reduction="sum")
    assert one(x, [1, 2]) == np.inf and np.isfinite(one(x, [1, 1]))
    for target in ([1, 2], [1, 1]):
        assert np.isfinite(asgfn.grad(lambda x, t=target: one(x, t))(x)).all()


def test_empty_inputs():
    x = log_probs("empty", 4, 2, 3)
    losses = F.ctc_loss(x, np.array([[1], [1]]), np.array([0, 0]), np.array([0, 1]), reduction="none")
    np.testing.assert_array_equal(losses, [0, np.inf])
    no_columns = F.ctc_loss(x, np.zeros((2, 0), int), np.array([4, 4]), np.array([0, 0]), reduction="none")
    np.testing.assert_allclose(no_columns, -x[:, :, 0].sum(0), rtol=1e-6)
    nothing = np.array([], int)
    assert F.ctc_loss(x[:, :0], np.zeros((0, 2), int), nothing, nothing, reduction="none").shape == (0,)
    concatenated = F.ctc_loss(x, nothing, np.array([4, 4]), np.array([0, 0]), reduction="none")
    np.testing.assert_allclose(concatenated, no_columns)


def test_long_sequences_stay_finite():
    steps = 400
    x = log_probs("long", steps, 1, 5)
    targets = np.tile([1, 2, 3, 4], 25)[None]
    loss = lambda x: F.ctc_loss(x, targets, np.array([steps]), np.array([100]))
    value, gradient = asgfn.value_and_grad(loss)(x)
    assert 0 < value < 10 and np.isfinite(gradient).all()


def test_sixteen_bits_are_computed_in_thirty_two():
    x = log_probs("sixteen", 30, 2, 5).astype(np.float16)
    arguments = np.array([[1, 2], [3, 3]]), np.array([30, 30]), np.array([2, 2])
    loss = F.ctc_loss(x, *arguments)
    assert loss.dtype == np.float16
    np.testing.assert_array_equal(loss, F.ctc_loss(x.astype(np.float32), *arguments).astype(np.float16))


def test_under_transforms():
    x = log_probs("transforms", 3, 6, 2, 4)
    targets = np.array([[[1, 2], [3, 3]], [[2, 2], [1, 1]], [[3, 1], [1, 2]]])
    inputs, lengths = np.array([[6, 5], [6, 6], [4, 6]]), np.array([[2, 2], [1, 2], [2, 0]])
    gradient = asgfn.grad(F.ctc_loss)
    mapped = asgfn.jit(asgfn.vmap(gradient))(x, targets, inputs, lengths)
    for i in range(3):
        np.testing.assert_allclose(mapped[i], gradient(x[i], targets[i], inputs[i], lengths[i]), rtol=1e-4, atol=1e-6)


def test_concatenated_targets_with_traced_lengths():
    x = log_probs("traced", 6, 2, 4)
    targets, lengths = np.array([1, 3, 3]), np.array([1, 2])
    traced = asgfn.jit(F.ctc_loss)(x, targets, np.array([6, 6]), lengths)
    np.testing.assert_allclose(traced, F.ctc_loss(x, np.array([[1, 0], [3, 3]]), np.array([6, 6]), lengths), rtol=1e-5)


def test_targets_outside_of_the_classes_are_seen_when_traced_too():
    x = log_probs("outside", 6, 1, 4)
    loss = asgfn.jit(F.ctc_loss)(x, np.array([[1, 7]]), np.array([6]), np.array([2]))
    assert np.isnan(loss)


def test_mistakes_are_named():
    x = log_probs("mistakes", 6, 2, 4)
    targets, inputs, lengths = np.array([[1, 2], [3, 3]]), np.array([6, 6]), np.array([2, 2])
    with pytest.raises(IndexOutOfRangeError, match="target 4 is not a class"):
        F.ctc_loss(x, targets + 1, inputs, lengths)
    with pytest.raises(IndexOutOfRangeError, match="blank 4 is not a class"):
        F.ctc_loss(x, targets, inputs, lengths, blank=4)
    with pytest.raises(ShapeError, match="input_lengths must be between 0 and 6"):
        F.ctc_loss(x, targets, inputs + 1, lengths)
    with pytest.raises(ShapeError, match="target_lengths must be between 0 and 2"):
        F.ctc_loss(x, targets, inputs, lengths + 1)
    with pytest.raises(ShapeError, match="target_lengths must be between 0 and 2"):
        F.ctc_loss(x, targets, inputs, -lengths)
    with pytest.raises(ShapeError, match=r"input_lengths must hold one number a sequence, \[2\]"):
        F.ctc_loss(x, targets, inputs[:1], lengths)
    with pytest.raises(ShapeError, match="sum of target_lengths"):
        F.ctc_loss(x, targets.ravel()[:3], inputs, lengths)
    with pytest.raises(ShapeError, match=r"targets must be \[N, S\]"):
        F.ctc_loss(x, targets[:1], inputs, lengths)
    with pytest.raises(ShapeError, match="log_probs must be"):
        F.ctc_loss(x[None], targets, inputs, lengths)
    with pytest.raises(DTypeError, match="targets must hold integers"):
        F.ctc_loss(x, targets * 1.0, inputs, lengths)
    with pytest.raises(ValueError, match="reduction"):
        F.ctc_loss(x, targets, inputs, lengths, reduction="batchmean")
