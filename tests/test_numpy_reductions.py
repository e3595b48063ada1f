"""Reductions, statistics, running sums and differences of `asgfn.numpy`, against NumPy."""

from __future__ import annotations

import math

import numpy as np
import pytest

import asgfn
import asgfn.numpy as jnp

RNG = np.random.default_rng(7)
X = RNG.normal(size=(3, 4, 5)).astype(np.float32)
MASK = RNG.random((4, 5)) < 0.6
WITH_NAN = np.where(RNG.random(X.shape) < 0.3, np.nan, X).astype(np.float32)
AXES = [None, 0, -1, (0, 2)]


def same(got, expected, tolerance=2e-5):
    assert np.shape(got) == np.shape(expected)
    np.testing.assert_allclose(np.asarray(got), np.asarray(expected), rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("axis", AXES)
@pytest.mark.parametrize("keepdims", [False, True])
@pytest.mark.parametrize("name", ["sum", "prod", "max", "min", "mean", "var", "std", "all", "any", "ptp", "median"])
def test_reduction(name, axis, keepdims):
    same(getattr(jnp, name)(X, axis=axis, keepdims=keepdims), getattr(np, name)(X, axis=axis, keepdims=keepdims))


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("axis", AXES)
@pytest.mark.parametrize("name", ["sum", "prod", "mean", "var", "std", "all", "any"])
def test_where(name, axis):
    expected = getattr(np, name)(X, axis=axis, where=MASK)
    same(getattr(jnp, name)(X, axis=axis, where=MASK), expected)


def test_initial():
    assert jnp.sum(X, initial=3.0).item() == pytest.approx(X.sum() + 3, rel=1e-5)
    same(
        jnp.max(X, axis=0, initial=0.0, where=MASK),
        np.max(X, axis=0, initial=0.0, where=np.broadcast_to(MASK, X.shape)),
    )
    same(jnp.min(jnp.zeros((0, 2)), axis=0, initial=5), [5, 5])
    with pytest.raises(ValueError, match="initial"):
        jnp.max(X, where=MASK)
    with pytest.raises(ValueError, match="no elements"):
        jnp.max(jnp.zeros((0, 2)), axis=0)
    assert jnp.max(jnp.zeros((0, 2)), axis=1).shape == (0,)


def test_dtypes_of_sums():
    assert jnp.sum(jnp.ones(300, jnp.int8)).dtype == "int32"
    assert jnp.sum(jnp.ones(300, jnp.uint8)).item() == 300
    assert jnp.sum(jnp.ones(3, jnp.int8), promote_integers=False).dtype == "int8"
    assert jnp.cumsum(jnp.ones(3, jnp.int8)).dtype == "int8"
    assert jnp.cumulative_sum(jnp.ones(3, jnp.int8)).dtype == "int32"
    assert jnp.sum(jnp.ones(3, bool)).dtype == "int32"
    assert jnp.mean(jnp.full(4, 60000.0, jnp.float16)).item() == pytest.approx(60000, rel=1e-3)
    assert jnp.var(jnp.array([1 + 1j, 2 - 1j])).dtype == "float32"
    assert jnp.sum(X, dtype=jnp.bfloat16).dtype == "bfloat16"


def test_variance_with_corrections():
    for correction in (1, 2.5):
        same(jnp.var(X, axis=1, correction=correction), np.var(X, axis=1, ddof=correction))
        same(jnp.std(X, axis=1, ddof=correction), np.std(X, axis=1, ddof=correction))
    mean = X.mean(1, keepdims=True)
    same(jnp.var(X, axis=1, mean=mean), X.var(1))
    assert math.isnan(jnp.var(jnp.array([1.0]), ddof=1).item())


def test_means_of_nothing_are_nan():
    assert math.isnan(jnp.mean(jnp.array([])).item())


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("axis", AXES)
@pytest.mark.parametrize("name", ["sum", "prod", "max", "min", "mean", "var", "std", "median"])
def test_nan_reduction(name, axis):
    x = WITH_NAN.copy()
    x[:, 1, :] = np.nan
    expected = getattr(np, "nan" + name)(x, axis=axis)
    same(getattr(jnp, "nan" + name)(x, axis=axis), expected)


def test_positions():
    for name in ("argmax", "argmin"):
        same(getattr(jnp, name)(X), getattr(np, name)(X))
        same(getattr(jnp, name)(X, axis=1, keepdims=True), getattr(np, name)(X, axis=1, keepdims=True))
    assert jnp.argmax(jnp.array([1.0, np.nan, 2.0])).item() == 1
    assert jnp.nanargmax(jnp.array([[1.0, np.nan, 2.0], [np.nan] * 3]), axis=1).tolist() == [2, -1]
    with pytest.raises(ValueError, match="no elements"):
        jnp.argmax(jnp.array([]))


@pytest.mark.parametrize("axis", [None, 0, 2])
def test_running(axis):
    for name in ("cumsum", "cumprod"):
        same(getattr(jnp, name)(X, axis), getattr(np, name)(X, axis))
        same(getattr(jnp, "nan" + name)(WITH_NAN, axis), getattr(np, "nan" + name)(WITH_NAN, axis))


def test_differences():
    same(jnp.diff(X, n=2, axis=1), np.diff(X, n=2, axis=1))
    same(jnp.diff(X, axis=1, prepend=0, append=X[:, :2]), np.diff(X, axis=1, prepend=0, append=X[:, :2]))
    assert jnp.diff(jnp.array([True, False, False])).tolist() == [True, False]
    same(jnp.ediff1d(X[0, 0], to_end=np.array([7.0, 8.0]), to_begin=1.0), np.ediff1d(X[0, 0], [7, 8], 1))


@pytest.mark.parametrize("order", [1, 2])
def test_gradient(order):
    along = np.array([0.0, 0.5, 2.0, 2.5, 4.0])
    for got, expected in zip(jnp.gradient(X, edge_order=order), np.gradient(X, edge_order=order), strict=True):
        same(got, expected)
    same(jnp.gradient(X, 0.5, axis=2, edge_order=order), np.gradient(X, 0.5, axis=2, edge_order=order))
    same(jnp.gradient(X, along, axis=2, edge_order=order), np.gradient(X, along, axis=2, edge_order=order))
    with pytest.raises(ValueError, match="at least"):
        jnp.gradient(jnp.ones((1, 3)))


def test_trapezoid():
    x = np.sort(RNG.normal(size=5))
    same(jnp.trapezoid(X), np.trapezoid(X))
    same(jnp.trapezoid(X, dx=0.1, axis=1), np.trapezoid(X, dx=0.1, axis=1))
    same(jnp.trapezoid(X, x), np.trapezoid(X, x))


def test_average():
    weights = RNG.random(4).astype(np.float32)
    same(jnp.average(X, axis=1, weights=weights), np.average(X, axis=1, weights=weights))
    got, expected = (
        jnp.average(X, axis=1, weights=weights, returned=True),
        np.average(X, axis=1, weights=weights, returned=True),
    )
    same(got[1], expected[1])
    weights = RNG.random((5, 3)).astype(np.float32)
    same(jnp.average(X, axis=(2, 0), weights=weights), np.average(X, axis=(2, 0), weights=weights))
    with pytest.raises(ValueError, match="weights"):
        jnp.average(X, axis=1, weights=jnp.ones(3))


METHODS = [
    "linear", "lower", "higher", "midpoint", "inverted_cdf", "averaged_inverted_cdf", "closest_observation",
    "interpolated_inverted_cdf", "hazen", "weibull", "median_unbiased", "normal_unbiased",
]  # fmt: skip


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("count", [1, 2, 5, 8])
def test_quantile_methods(method, count):
    a = RNG.normal(size=(count, 3))
    holes = a.copy()
    holes[0, 1] = np.nan
    with asgfn.enable_x64():
        for q in (0.0, 0.25, 0.5, np.array([0.1, 0.3, 0.75, 1.0])):
            expected = np.quantile(a, q, axis=0, method=method)
            same(jnp.quantile(a, q, axis=0, method=method), expected)
            same(asgfn.jit(lambda a, q: jnp.quantile(a, q, axis=0, method=method))(a, q), expected)
            same(jnp.nanquantile(holes, q, axis=0, method=method), np.nanquantile(holes, q, axis=0, method=method))


def test_quantile_of_several_axes():
    q = np.array([0.2, 0.9])
    same(jnp.percentile(X, 100 * q, axis=(0, 2), keepdims=True), np.percentile(X, 100 * q, axis=(0, 2), keepdims=True))
    assert math.isnan(jnp.quantile(jnp.array([1.0, np.nan, 2.0]), 0.5).item())
    assert jnp.quantile(jnp.array([np.inf, np.inf, 1.0]), 0.75).item() == np.inf
    weights = np.array([1.0, 3.0, 0.5, 2.0])
    for p in (0.0, 0.3, 0.8):
        expected = np.quantile(X[0].T, p, axis=1, weights=weights, method="inverted_cdf")
        same(jnp.quantile(X[0].T, p, axis=1, weights=jnp.asarray(weights), method="inverted_cdf"), expected)
    with pytest.raises(ValueError, match="method must be one of"):
        jnp.quantile(X, 0.5, method="nope")


def test_covariance():
    m = X[0]
    same(jnp.cov(m), np.cov(m))
    same(jnp.cov(m, rowvar=False, bias=True), np.cov(m, rowvar=False, bias=True))
    same(jnp.cov(m[0], m[1]), np.cov(m[0], m[1]))
    frequencies, importance = np.array([1, 2, 1, 3, 1]), np.array([0.5, 1, 2, 1, 0.1], np.float32)
    same(jnp.cov(m, fweights=frequencies, aweights=importance), np.cov(m, fweights=frequencies, aweights=importance))
    same(jnp.corrcoef(m), np.corrcoef(m))
    same(jnp.cov(m[0]), np.cov(m[0]))
    complex_m = (m[:2] + 1j * m[2:]).astype(np.complex64)
    same(jnp.cov(complex_m), np.cov(complex_m))


def test_median_gradient_goes_to_the_middle():
    gradient = asgfn.grad(lambda x: jnp.median(x))(jnp.array([5.0, 1.0, 3.0, 2.0]))
    assert gradient.tolist() == [0, 0, 0.5, 0.5]
