"""Losses: against PyTorch, against formulas where it has none, at extreme inputs, and under transforms."""

from __future__ import annotations

import math

import ml_dtypes
import numpy as np
import pytest

import asgfn
import asgfn.numpy as jnp
import nn_fn.functional as F
from asgfn.errors import DTypeError, IndexOutOfRangeError, ShapeError
from tests.references import assert_case, normal, numbers
from tests.references.functional_losses import CASES


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_equals_pytorch(case):
    assert_case("functional_losses", case, F)


# ------------------------------------------------------------------------------------------------ without a reference
def reductions(values):
    return {"none": values, "mean": values.mean(), "sum": values.sum()}


def check(function, x, expected, atol=1e-10):
    """Values in all reductions against a formula, and derivatives against finite differences."""
    with asgfn.enable_x64(True):
        for reduction, value in reductions(expected).items():
            np.testing.assert_allclose(function(jnp.asarray(x), reduction=reduction), value, rtol=1e-10, atol=atol)
        asgfn.test_util.check_grads(lambda x: function(x, reduction="sum"), (jnp.asarray(x),), order=2)


@pytest.mark.parametrize("shape", [(5,), (3, 4), ()])
@pytest.mark.parametrize("margin", [1.0, 0.3])
def test_hinge(shape, margin):
    x, target = normal(f"hinge {shape}", *shape), np.sign(normal(f"hinge target {shape}", *shape))
    expected = np.maximum(0, margin - target * x)
    check(lambda x, reduction: F.hinge_loss(x, target, margin, reduction), x, expected)
    check(lambda x, reduction: F.squared_hinge_loss(x, target, margin, reduction), x, expected**2)


@pytest.mark.parametrize("shape, places", [((5, 3), (5,)), ((2, 4, 3), (2, 3)), ((4,), ())])
@pytest.mark.parametrize("gamma", [0, 0.5, 2.0, 3])
@pytest.mark.parametrize("weighted", [False, True])
def test_focal_of_classes(shape, places, gamma, weighted):
    axis = min(1, len(shape) - 1)
    x = normal(f"focal {shape}", *shape)
    target = np.random.RandomState(0).randint(0, shape[axis], places)
    alpha = np.linspace(0.2, 0.9, shape[axis]) if weighted else None
    p = np.exp(x) / np.exp(x).sum(axis, keepdims=True)
    p = np.take_along_axis(p, np.expand_dims(target, axis), axis).squeeze(axis)
    expected = -((1 - p) ** gamma) * np.log(p) * (1 if alpha is None else alpha[target])
    check(lambda x, reduction: F.focal_loss(x, target, alpha, gamma, reduction), x, expected)


def test_focal_with_gamma_zero_is_cross_entropy():
    x, target = normal("gamma zero", 6, 4).astype(np.float32), np.array([0, 1, 2, 3, -100, 1])
    np.testing.assert_allclose(F.focal_loss(x, target, gamma=0), F.cross_entropy(x, target), rtol=1e-6)
    ignored = F.focal_loss(x, target, reduction="none")
    assert ignored[4] == 0
    np.testing.assert_allclose(F.focal_loss(x, target), jnp.sum(ignored) / 5, rtol=1e-6)
    binary = (np.asarray(target) > 0).astype(np.float32)
    np.testing.assert_allclose(
        F.sigmoid_focal_loss(x[:, 0], binary, alpha=-1, gamma=0),
        F.binary_cross_entropy_with_logits(x[:, 0], binary, reduction="none"),
        rtol=1e-6,
    )


# ------------------------------------------------------------------------------------------------ extreme inputs
def assert_finite_gradient(loss, *arrays):
    for gradient in asgfn.grad(loss, tuple(range(len(arrays))))(*map(jnp.asarray, arrays)):
        assert np.isfinite(gradient).all(), gradient


HUGE = np.array([1e4, -1e4, 1e30, -1e30, 0.0], np.float32)
YES_NO = np.array([1.0, 1.0, 0.0, 0.0, 1.0], np.float32)


@pytest.mark.parametrize("gamma", [0, 0.5, 1, 2.0])
def test_focal_of_huge_scores(gamma):
    loss = F.sigmoid_focal_loss(HUGE, YES_NO, alpha=-1, gamma=gamma)
    np.testing.assert_allclose(loss, [0, 1e4, 1e30, 0, 0.5**gamma * math.log(2)], rtol=1e-6)
    assert_finite_gradient(lambda x: jnp.sum(F.sigmoid_focal_loss(x, YES_NO, gamma=gamma)), HUGE)
    scores = np.array([[1e4, 0, -1e4], [0, 1e30, 0]], np.float32)
    for target, expected in (([0, 1], [0, 0]), ([2, 0], [2e4, 1e30])):
        np.testing.assert_allclose(F.focal_loss(scores, np.array(target), gamma=gamma, reduction="none"), expected)
        assert_finite_gradient(lambda x: F.focal_loss(x, np.array(target), gamma=gamma), scores)


def test_binary_losses_of_huge_scores():
    loss = F.binary_cross_entropy_with_logits(HUGE, YES_NO, reduction="none")
    np.testing.assert_allclose(loss, [0, 1e4, 1e30, 0, math.log(2)], rtol=1e-6)
    np.testing.assert_allclose(F.soft_margin_loss(HUGE, 2 * YES_NO - 1, reduction="none"), loss, rtol=1e-6)
    for function in (F.binary_cross_entropy_with_logits, F.multilabel_soft_margin_loss):
        assert_finite_gradient(lambda x, f=function: f(x, YES_NO), HUGE)
    assert_finite_gradient(lambda x: F.soft_margin_loss(x, 2 * YES_NO - 1), HUGE)


def test_binary_losses_keep_their_digits():
    x = np.array([20.0, -20.0, 80.0], np.float32)
    loss = F.binary_cross_entropy_with_logits(x, np.array([1.0, 0.0, 1.0], np.float32), reduction="none")
    np.testing.assert_allclose(loss, np.exp(-np.abs(x.astype(np.float64))), rtol=1e-5)


def test_regression_of_huge_errors():
    x = np.array([3e38, -3e38, 1e25, np.inf], np.float32)
    zeros = np.zeros(4, np.float32)
    for function in (F.huber_loss, F.smooth_l1_loss, F.l1_loss):
        np.testing.assert_allclose(function(x, zeros, reduction="none"), np.abs(x), rtol=1e-6)
        gradient = asgfn.grad(lambda x, f=function: f(x, zeros, reduction="sum"))(jnp.asarray(x))
        np.testing.assert_array_equal(gradient, np.sign(x))


def test_second_derivatives_at_zero():
    zero = jnp.zeros(())
    second = lambda f: asgfn.grad(asgfn.grad(lambda x: f(x, zero, reduction="sum")))(zero)
    for function, expected in [
        (F.mse_loss, 2),
        (F.huber_loss, 1),
        (F.smooth_l1_loss, 1),
        (F.binary_cross_entropy_with_logits, 0.25),
    ]:
        np.testing.assert_allclose(second(function), expected, rtol=1e-6)


def test_classes_that_are_masked_by_minus_infinity():
    scores = np.array([[1.0, -np.inf, 2.0], [0.0, 0.0, -np.inf]], np.float32)
    target = np.array([2, 0])
    expected = [math.log(1 + math.exp(-1)), math.log(2)]
    np.testing.assert_allclose(F.cross_entropy(scores, target, reduction="none"), expected, rtol=1e-6)
    probabilities = np.eye(3, dtype=np.float32)[target]
    np.testing.assert_allclose(F.cross_entropy(scores, probabilities, reduction="none"), expected, rtol=1e-6)
    assert_finite_gradient(lambda x: F.cross_entropy(x, target), scores)
    assert_finite_gradient(lambda x: F.cross_entropy(x, probabilities), scores)


def test_kl_div_of_impossible_outcomes():
    log_q = np.array([[-np.inf, 0.0], [math.log(0.5), math.log(0.5)]], np.float32)
    p = np.array([[0.0, 1.0], [0.0, 1.0]], np.float32)
    np.testing.assert_allclose(F.kl_div(log_q, p, "none").sum(1), [0, math.log(2)], rtol=1e-6)
    np.testing.assert_allclose(F.kl_div(log_q, np.log(p, where=p > 0, out=np.full_like(p, -np.inf)), "sum", True), math.log(2), rtol=1e-6)  # fmt: skip
    assert_finite_gradient(lambda q, p: F.kl_div(q, p, "batchmean"), log_q, p)
    assert F.kl_div(log_q, 1 - p, "sum") == np.inf


def test_poisson_of_targets_without_stirling():
    target = np.array([0.0, 1.0, 2.0], np.float32)
    assert_finite_gradient(lambda x, t: F.poisson_nll_loss(x, t, full=True), np.zeros(3, np.float32), target)


@pytest.mark.parametrize("p", [1.0, 2.0, 3.0])
def test_identical_vectors_have_finite_gradients(p):
    x = np.ones((2, 3), np.float32)
    for eps in (1e-6, 0.0):
        assert_finite_gradient(lambda *x, e=eps: F.triplet_margin_loss(*x, p=p, eps=e, swap=True), x, x, x)


def test_cosine_embedding_of_zero_huge_and_tiny_vectors():
    target = np.array([1.0, -1.0, 1.0], np.float32)
    for scale in (0.0, 1e-30, 1e30):
        x = (scale * np.ones((3, 2))).astype(np.float32)
        expected = [0.0, 1.0, 0.0] if scale == 1e30 else [1.0, 0.0, 1.0]
        np.testing.assert_allclose(F.cosine_embedding_loss(x, x, target, reduction="none"), expected, atol=1e-6)
        assert_finite_gradient(lambda *x: F.cosine_embedding_loss(*x, target), x, x)


def test_each_row_is_one_vector():
    # neither the whole batch as one vector, nor squared distances
    a, b, c = (normal(f"rows {i}", 4, 3).astype(np.float32) for i in range(3))
    distance = lambda x, y: np.sqrt(((x - y + 1e-6) ** 2).sum(1))
    expected = np.maximum(distance(a, b) - distance(a, c) + 1, 0)
    np.testing.assert_allclose(F.triplet_margin_loss(a, b, c, reduction="none"), expected, rtol=1e-5, atol=1e-6)
    cosine = (a * b).sum(1) / np.sqrt((a * a).sum(1) * (b * b).sum(1))
    found = F.cosine_embedding_loss(a, b, np.ones(4, np.float32), reduction="none")
    np.testing.assert_allclose(found, 1 - cosine, rtol=1e-5, atol=1e-6)


def test_nan_is_not_hidden():
    x, y = np.array([np.nan, 1.0], np.float32), np.ones(2, np.float32)
    for function in (F.mse_loss, F.l1_loss, F.huber_loss, F.hinge_loss, F.hinge_embedding_loss, F.soft_margin_loss):
        assert np.isnan(function(x, y)), function
    assert np.isnan(F.margin_ranking_loss(x, y, y))
    assert np.isnan(F.cross_entropy(x, 1))
    assert np.isnan(F.binary_cross_entropy(x, y)) and np.isnan(F.binary_cross_entropy(2 * y, y))


# ------------------------------------------------------------------------------------------------ class numbers
@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.int16, np.uint32, np.int64])
def test_class_numbers_of_any_integer_dtype(dtype):
    # -100 in uint8 is 156, which must not be ignored
    x = normal("integers", 3, 200).astype(np.float32)
    target = np.array([3, 120, 7] if dtype == np.int8 else [3, 156, 7], dtype)
    log_p = x - np.log(np.exp(x.astype(np.float64)).sum(1, keepdims=True))
    np.testing.assert_allclose(F.cross_entropy(x, target), -log_p[[0, 1, 2], target].mean(), rtol=1e-5)


@pytest.mark.parametrize("wrong", [-1, 4, 1000])
def test_what_is_no_class_is_refused_or_nan(wrong):
    x, target = normal("no class", 2, 4).astype(np.float32), np.array([0, wrong])
    for function in (F.cross_entropy, F.nll_loss, F.focal_loss, F.multi_margin_loss):
        with pytest.raises(IndexOutOfRangeError, match=f"target {wrong} is not a class: there are 4"):
            function(x, target)
        assert np.isnan(asgfn.jit(function)(x, target)), function
    if wrong > 0:
        with pytest.raises(IndexOutOfRangeError, match="is not a class"):
            F.multilabel_margin_loss(x, np.array([[0, wrong, -1, -1]] * 2))


def test_integer_targets_pick_with_one_gather():
    x, target = jnp.zeros((8, 4)), jnp.zeros(8, jnp.int32)
    nodes = [node.primitive.name for node in asgfn.trace(F.cross_entropy)(x, target).nodes]
    assert nodes.count("gather") == 1 and "dot_general" not in nodes


# ------------------------------------------------------------------------------------------------ dtypes, transforms
@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16])
def test_sixteen_bits(dtype):
    x, y = normal("sixteen", 6, 4).astype(dtype), normal("sixteen target", 6, 4).astype(dtype)
    target = np.arange(6) % 4
    for function in (F.mse_loss, F.l1_loss, F.huber_loss, F.binary_cross_entropy_with_logits, F.kl_div):
        found = function(x, y)
        assert found.dtype == dtype
        exact = function(x.astype(np.float32), y.astype(np.float32))
        np.testing.assert_allclose(np.float32(found), exact, rtol=0.05, atol=0.02)
    for function in (F.cross_entropy, F.focal_loss, F.multi_margin_loss):
        found = function(x, target)
        assert found.dtype == dtype
        np.testing.assert_array_equal(found, function(x.astype(np.float32), target).astype(dtype))


def test_integer_targets_of_regression_are_numbers():
    np.testing.assert_allclose(F.mse_loss(np.array([1.5, 2.0], np.float32), np.array([1, 2])), 0.125)


ROW = normal("row", 5, 4).astype(np.float32)
OTHER = normal("other row", 5, 4).astype(np.float32)
THIRD = normal("third row", 5, 4).astype(np.float32)
SIGNS = np.sign(OTHER)
CLASSES = np.arange(5) % 4
ALL = {
    "mse_loss": (ROW, OTHER),
    "l1_loss": (ROW, OTHER),
    "smooth_l1_loss": (ROW, OTHER),
    "huber_loss": (ROW, OTHER),
    "gaussian_nll_loss": (ROW, OTHER, np.abs(THIRD)),
    "poisson_nll_loss": (ROW, np.abs(OTHER)),
    "cross_entropy": (ROW, CLASSES),
    "nll_loss": (ROW, CLASSES),
    "binary_cross_entropy": (np.abs(np.sin(ROW)), np.abs(np.sin(OTHER))),
    "binary_cross_entropy_with_logits": (ROW, np.abs(np.sin(OTHER))),
    "soft_margin_loss": (ROW, SIGNS),
    "multilabel_soft_margin_loss": (ROW, (SIGNS > 0).astype(np.float32)),
    "sigmoid_focal_loss": (ROW, (SIGNS > 0).astype(np.float32)),
    "focal_loss": (ROW, CLASSES),
    "hinge_loss": (ROW, SIGNS),
    "squared_hinge_loss": (ROW, SIGNS),
    "multi_margin_loss": (ROW, CLASSES),
    "multilabel_margin_loss": (ROW, np.tile([2, 0, -1, -1], (5, 1))),
    "kl_div": (ROW, np.abs(OTHER)),
    "margin_ranking_loss": (ROW, OTHER, SIGNS),
    "hinge_embedding_loss": (np.abs(ROW), SIGNS),
    "cosine_embedding_loss": (ROW, OTHER, SIGNS[:, 0]),
    "triplet_margin_loss": (ROW, OTHER, THIRD),
    "triplet_margin_with_distance_loss": (ROW, OTHER, THIRD),
}


@pytest.mark.parametrize("name", ALL)
def test_under_transforms(name):
    function = getattr(F, name)
    loss = lambda *arguments: function(*arguments, reduction="sum")
    arguments = [jnp.asarray(x) for x in ALL[name]]
    whole = asgfn.grad(loss)(*arguments)
    np.testing.assert_allclose(asgfn.jit(asgfn.grad(loss))(*arguments), whole, rtol=1e-5, atol=1e-6)
    # a batch is its examples: the loss of the sum is that of each row without a batch axis
    rows = asgfn.vmap(asgfn.grad(loss))(*arguments)
    np.testing.assert_allclose(rows, whole, rtol=1e-4, atol=1e-6)
    with asgfn.enable_x64(True):
        wide = [jnp.asarray(np.asarray(x, np.float64) if x.dtype == np.float32 else x) for x in ALL[name]]
        asgfn.test_util.check_grads(lambda x: loss(x, *wide[1:]), (wide[0],), order=2)


@pytest.mark.parametrize("name", ALL)
def test_unknown_reductions_and_shapes_that_broadcast_are_refused(name):
    function, arguments = getattr(F, name), list(ALL[name])
    with pytest.raises(ValueError, match=rf"{name}: reduction must be one of .*; got 'average'"):
        function(*arguments, reduction="average")
    with pytest.raises(ShapeError, match=name):
        function(arguments[0], arguments[1][:1], *arguments[2:])
    with pytest.raises(ShapeError, match=name):
        function(arguments[0], np.expand_dims(arguments[1], -1), *arguments[2:])


def test_mistakes_are_named():
    x, target = np.zeros((4, 3), np.float32), np.zeros(4, np.int32)
    with pytest.raises(ShapeError, match=r"mse_loss: input and target must have one shape, got input float32\[4\]"):
        F.mse_loss(x[:, 0], x[:, :1])
    with pytest.raises(ShapeError, match=r"target must be the shape of input without its class axis 1, \(4,\)"):
        F.cross_entropy(x, target[:3])
    with pytest.raises(ShapeError, match="probabilities and must have the shape of input"):
        F.cross_entropy(x, target.astype(np.float32))
    with pytest.raises(DTypeError, match=r"class numbers \(integers\) or probabilities"):
        F.cross_entropy(x, target == 0)
    with pytest.raises(DTypeError, match="target must hold integers"):
        F.nll_loss(x, target * 1.0)
    with pytest.raises(DTypeError, match="input must be floating point"):
        F.cross_entropy(x.astype(np.int32), target)
    with pytest.raises(ShapeError, match=r"weight must hold one number a class, \[3\]"):
        F.cross_entropy(x, target, np.ones(4, np.float32))
    with pytest.raises(ValueError, match="label_smoothing must be in"):
        F.cross_entropy(x, target, label_smoothing=1.5)
    with pytest.raises(ShapeError, match="pos_weight must broadcast"):
        F.binary_cross_entropy_with_logits(x, x, pos_weight=np.ones(4, np.float32))
    with pytest.raises(ShapeError, match="weight must broadcast"):
        F.binary_cross_entropy(x, x, np.ones((2, 4, 3), np.float32))
    with pytest.raises(ShapeError, match="var must be a number"):
        F.gaussian_nll_loss(x, x, np.ones(3, np.float32))
    with pytest.raises(ValueError, match="delta must be positive"):
        F.huber_loss(x, x, delta=0.0)
    with pytest.raises(ValueError, match="beta must not be negative"):
        F.smooth_l1_loss(x, x, beta=-1.0)
    with pytest.raises(ValueError, match="p must be 1 or 2"):
        F.multi_margin_loss(x, target, p=3)
    with pytest.raises(ValueError, match="gamma must not be negative"):
        F.focal_loss(x, target, gamma=-1)
    with pytest.raises(ValueError, match="margin must be positive"):
        F.triplet_margin_loss(x, x, x, margin=0)
    with pytest.raises(ValueError, match="reduction must be one of 'none', 'mean', 'sum', 'batchmean'"):
        F.kl_div(x, x, "average")


def test_the_class_axis_can_be_any():
    scores, target = normal("class axis", 2, 5, 3), numbers("class axis").randint(0, 3, (2, 5))
    weight = np.array([1.0, 0.5, 2.0])
    for options in ({}, {"weight": weight, "label_smoothing": 0.1}, {"reduction": "none", "ignore_index": 1}):
        found = F.cross_entropy(scores, target, **options, axis=-1)
        np.testing.assert_allclose(found, F.cross_entropy(np.swapaxes(scores, 1, 2), target, **options), rtol=1e-5)
    log_p = asgfn.nn.log_softmax(scores)
    np.testing.assert_allclose(F.nll_loss(log_p, target, axis=-1), F.cross_entropy(scores, target, axis=-1), rtol=1e-5)
    probabilities = asgfn.nn.softmax(jnp.asarray(normal("probabilities", 2, 5, 3)))
    found = F.cross_entropy(scores, probabilities, axis=2)
    expected = F.cross_entropy(np.swapaxes(scores, 1, 2), np.swapaxes(probabilities, 1, 2))
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    with pytest.raises(ShapeError, match="class axis 2"):
        F.cross_entropy(scores, target[:, :3], axis=-1)
