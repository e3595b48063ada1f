"""Norms and distances: against PyTorch, far from zero, in 16 bits, at the edges, and under transforms."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

import asgfn
import asgfn.numpy as jnp
import nn_fn.functional as F
from asgfn.errors import AxisError, DTypeError, ShapeError
from tests.references import assert_case, normal
from tests.references.functional_normalization import CASES


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_equals_pytorch(case):
    assert_case("functional_normalization", case, F)


NORMS = {
    "batch_norm": (lambda x: F.batch_norm(x, training=True), (0, 2, 3)),
    "instance_norm": (F.instance_norm, (2, 3)),
    "layer_norm": (lambda x: F.layer_norm(x, x.shape[1:]), (1, 2, 3)),
    "group_norm": (lambda x: F.group_norm(x, 1), (1, 2, 3)),
}


@pytest.mark.parametrize("name", NORMS)
def test_keeps_its_digits_far_from_zero(name):
    # E[x^2] - E[x]^2 would leave a variance of 1 below the resolution of 1e8
    norm, axes = NORMS[name]
    x = (1e4 + normal(name, 8, 4, 12, 12)).astype(np.float32)
    exact = x.astype(np.float64)
    exact = (exact - exact.mean(axes, keepdims=True)) / np.sqrt(exact.var(axes, keepdims=True) + 1e-5)
    np.testing.assert_allclose(norm(x), exact, atol=3e-3)
    assert abs(float(jnp.std(norm(x))) - 1) < 1e-3


@pytest.mark.parametrize("name", NORMS)
@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16])
def test_statistics_of_16_bits_are_those_of_32(name, dtype):
    norm, _ = NORMS[name]
    # squares of 300 overflow float16
    x = (300 + 100 * normal(name, 4, 2, 6, 6)).astype(dtype)
    y = norm(x)
    assert y.dtype == dtype
    np.testing.assert_array_equal(y, norm(x.astype(np.float32)).astype(dtype))


def test_rms_norm_of_16_bits():
    x = (300 + normal("rms 16", 3, 50)).astype(np.float16)
    y = F.rms_norm(x, 50, np.full(50, 2, np.float32))
    assert y.dtype == np.float16
    np.testing.assert_allclose(y.astype(np.float32), 2.0, rtol=0.02)


def test_running_statistics_are_returned_to_who_passes_them():
    x = normal("running", 5, 3, 4).astype(np.float32)
    mean, var = np.zeros(3, np.float32), np.ones(3, np.float32)
    y, new_mean, new_var = F.batch_norm(x, mean, var, training=True)
    np.testing.assert_allclose(new_mean, 0.1 * x.mean((0, 2)), rtol=1e-5)
    np.testing.assert_allclose(new_var, 0.9 + 0.1 * x.var((0, 2), ddof=1), rtol=1e-5)
    np.testing.assert_allclose(y, F.batch_norm(x, training=True))
    y, same_mean, same_var = F.batch_norm(x, new_mean, new_var)
    np.testing.assert_array_equal(same_mean, new_mean)
    np.testing.assert_array_equal(same_var, new_var)
    assert F.instance_norm(x).shape == x.shape
    assert len(F.instance_norm(x, mean, var)) == 3


def test_running_statistics_keep_their_dtype_and_have_no_gradient():
    x = normal("running 16", 5, 3, 4).astype(np.float16)
    statistics = np.zeros(3, np.float32), np.ones(3, np.float32)
    y, mean, var = F.batch_norm(x, *statistics, training=True)
    assert (y.dtype, mean.dtype, var.dtype) == (np.float16, np.float32, np.float32)

    def moved(x):
        _, mean, var = F.batch_norm(x, *statistics, training=True)
        return jnp.sum(mean) + jnp.sum(var)

    assert not asgfn.grad(moved)(jnp.asarray(x)).any()


def test_running_statistics_follow_the_data():
    mean, var = jnp.zeros(2), jnp.ones(2)
    step = asgfn.jit(lambda x, mean, var: F.batch_norm(x, mean, var, training=True))
    for i in range(100):
        x = (normal(f"follow {i}", 64, 2) * [2.0, 0.5] + [3.0, -1.0]).astype(np.float32)
        y, mean, var = step(x, mean, var)
    np.testing.assert_allclose(mean, [3, -1], atol=0.3)
    np.testing.assert_allclose(var, [4, 0.25], rtol=0.2)
    evaluated, *_ = F.batch_norm(x, mean, var)
    np.testing.assert_allclose(evaluated, y, atol=0.6)


def test_lengths_neither_overflow_nor_vanish():
    for scale in (1e-30, 1e30):
        x = (np.array([[3.0, 4.0]]) * scale).astype(np.float32)
        for p, expected in ((2.0, 5.0), (3.0, 91 ** (1 / 3))):
            np.testing.assert_allclose(F.pairwise_distance(x, np.zeros_like(x), p=p, eps=0.0), expected * scale, 1e-6)
        np.testing.assert_allclose(F.normalize(x, eps=0.0), [[0.6, 0.8]], rtol=1e-6)
        np.testing.assert_allclose(F.cosine_similarity(x, x, eps=0.0), 1.0, rtol=1e-6)


def test_lengths_of_infinity_and_nan():
    x = np.array([[np.inf, 1.0], [np.nan, 1.0]], np.float32)
    np.testing.assert_array_equal(F.pairwise_distance(x, np.zeros(2, np.float32)), [np.inf, np.nan])


@pytest.mark.parametrize("p", [0.5, 1.0, 1.5, 2.0, 3.0, float("inf")])
def test_gradient_of_zero_distances_is_finite(p):
    zeros = jnp.zeros((2, 3))
    for function in (lambda x: F.normalize(x, p), lambda x: F.pairwise_distance(x, zeros, p, eps=0.0)):
        assert np.isfinite(asgfn.grad(lambda x: jnp.sum(function(x)))(zeros)).all()


def test_sparse_vectors_have_finite_gradients_for_every_p():
    x = jnp.array([[0.0, 2.0, 0.0]])
    for p in (0.5, 1.5, 3.0):
        gradient = asgfn.grad(lambda x: jnp.sum(F.pairwise_distance(x, jnp.zeros((1, 3)), p, eps=0.0)))(x)
        np.testing.assert_allclose(gradient, [[0, 1, 0]], atol=1e-6)


def test_second_derivative_of_lengths_at_sparse_vectors():
    hessian = asgfn.hessian(lambda x: F.pairwise_distance(x, jnp.zeros(2), eps=0.0))(jnp.array([0.0, 4.0]))
    np.testing.assert_allclose(hessian, [[0.25, 0], [0, 0]], atol=1e-6)


@pytest.mark.parametrize("name", [*NORMS, "rms_norm", "local_response_norm", "normalize"])
def test_under_transforms(name):
    if name in NORMS:
        function = NORMS[name][0]
    else:
        function = {
            "rms_norm": lambda x: F.rms_norm(x, x.shape[-1]),
            "local_response_norm": lambda x: F.local_response_norm(x, 2),
            "normalize": F.normalize,
        }[name]
    xs = jnp.asarray(normal(name + " transforms", 3, 2, 4, 3, 2).astype(np.float32))
    loss = lambda x: jnp.sum(jnp.sin(function(x)))
    expected = np.stack([asgfn.grad(loss)(x) for x in xs])
    np.testing.assert_allclose(asgfn.jit(asgfn.vmap(asgfn.grad(loss)))(xs), expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(asgfn.vmap(function)(xs)[1], function(xs[1]), rtol=1e-5, atol=1e-6)


def test_mistakes_are_named():
    x = np.zeros((4, 3, 5), np.float32)
    vector = np.zeros(3, np.float32)
    with pytest.raises(ValueError, match=r"batch_norm: there are no statistics.*training=True"):
        F.batch_norm(x)
    with pytest.raises(ValueError, match="come together"):
        F.batch_norm(x, vector, None)
    with pytest.raises(ShapeError, match=r"running_mean must have the shape \[C\] = \(3,\), got float32\[5\]"):
        F.batch_norm(x, np.zeros(5, np.float32), np.ones(5, np.float32))
    with pytest.raises(ShapeError, match="weight must have"):
        F.batch_norm(x, weight=np.ones((3, 1), np.float32), training=True)
    with pytest.raises(ShapeError, match="more than one value a channel"):
        F.batch_norm(x[:1, :, :1], training=True)
    with pytest.raises(ShapeError, match="batch_norm: x must be"):
        F.batch_norm(vector, training=True)
    with pytest.raises(DTypeError, match="floating point"):
        F.layer_norm(np.zeros((2, 3), np.int32), 3)
    with pytest.raises(ShapeError, match=r"normalized_shape = \(3,\), got float32\[4,3,5\]"):
        F.layer_norm(x, 3)
    with pytest.raises(ShapeError, match="weight must have"):
        F.rms_norm(x, 5, np.ones((3, 5), np.float32))
    with pytest.raises(ShapeError, match="2 groups do not divide 3 channels"):
        F.group_norm(x, 2)
    with pytest.raises(ValueError, match="num_groups"):
        F.group_norm(x, 0)
    with pytest.raises(ShapeError, match="instance_norm: x must be"):
        F.instance_norm(x[0])
    with pytest.raises(ShapeError, match="local_response_norm: x must be"):
        F.local_response_norm(x[0], 3)
    with pytest.raises(AxisError):
        F.normalize(x, axis=3)
    with pytest.raises(ShapeError, match="differ in length"):
        F.cosine_similarity(x, x[:, :, :1], axis=-1)
    with pytest.raises(ShapeError, match="pairwise_distance: x1 and x2"):
        F.pairwise_distance(x, x[:, :1])


def test_training_without_examples_leaves_running_statistics_alone():
    mean, var = np.ones(3, np.float32), np.full(3, 2, np.float32)
    for function in (lambda *a: F.batch_norm(*a, training=True), F.instance_norm):
        y, new_mean, new_var = function(np.zeros((0, 3, 4), np.float32), mean, var)
        assert y.shape == (0, 3, 4)
        np.testing.assert_array_equal(new_mean, mean)
        np.testing.assert_array_equal(new_var, var)
