"""Dropouts: values against PyTorch, statistics, whole channels, keys, and transforms."""

from __future__ import annotations

import numpy as np
import pytest

import asgfn
import asgfn.numpy as jnp
import nn_fn.functional as F
from asgfn.errors import DTypeError, ShapeError
from tests.references import load, normal
from tests.references.functional_dropout import PROBABILITIES, SHAPES, VALUES

KEY = asgfn.random.key(0)
FLOOR = -1.7580993408473766


@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize("p", [*PROBABILITIES, 1.0])
@pytest.mark.parametrize("value", VALUES)
def test_values_equal_pytorch(name, p, value):
    y = getattr(F, name)(np.full(SHAPES[name], value, np.float32), p, key=KEY)
    expected = load("functional_dropout")[f"{name} p={p} of {value}"]
    found = np.unique(np.asarray(y))
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize("p", PROBABILITIES)
def test_share_that_is_dropped(name, p):
    y = np.asarray(getattr(F, name)(np.full(SHAPES[name], 2.0, np.float32), p, key=KEY))
    lowest = load("functional_dropout")[f"{name} p={p} of 2.0"][0]
    share = np.isclose(y, lowest, atol=1e-5).mean()
    # 400 draws: five standard deviations
    assert abs(share - p) < 5 * (p * (1 - p) / 400) ** 0.5


@pytest.mark.parametrize("name", ["dropout1d", "dropout2d", "dropout3d", "feature_alpha_dropout"])
def test_whole_channels_are_dropped(name):
    x = np.ones(SHAPES[name], np.float32)
    y = np.asarray(getattr(F, name)(x, 0.5, key=KEY))
    channels = y.reshape(*y.shape[:2], -1)
    np.testing.assert_array_equal(channels, channels[:, :, :1] * np.ones_like(channels))
    first = channels[:, :, 0]
    assert len(np.unique(first)) == 2
    # examples and channels are independent
    assert not (first == first[:1]).all() and not (first == first[:, :1]).all()


@pytest.mark.parametrize("name", ["dropout1d", "dropout2d", "dropout3d"])
def test_one_example_without_a_batch(name):
    x = np.ones(SHAPES[name], np.float32)[0]
    y = np.asarray(getattr(F, name)(x, 0.5, key=KEY))
    assert y.shape == x.shape
    channels = y.reshape(y.shape[0], -1)
    np.testing.assert_array_equal(channels, channels[:, :1] * np.ones_like(channels))
    assert len(np.unique(channels)) == 2


def test_elements_are_dropped_one_by_one():
    y = np.asarray(F.dropout(np.ones((20, 20, 3), np.float32), 0.5, key=KEY))
    assert not (y == y[:, :, :1]).all()


@pytest.mark.parametrize("name", ["alpha_dropout", "feature_alpha_dropout"])
@pytest.mark.parametrize("p", PROBABILITIES)
def test_mean_and_variance_survive(name, p):
    x = normal("alpha", 200, 500).astype(np.float32)
    y = getattr(F, name)(x, p, key=KEY)
    assert abs(float(jnp.mean(y))) < 0.02 and abs(float(jnp.var(y)) - 1) < 0.03


def test_the_key_decides():
    x = np.ones(100, np.float32)
    first, second = asgfn.random.split(KEY)
    np.testing.assert_array_equal(F.dropout(x, key=first), F.dropout(x, key=first))
    assert not np.array_equal(F.dropout(x, key=first), F.dropout(x, key=second))
    np.testing.assert_array_equal(asgfn.jit(lambda k: F.dropout(x, key=k))(first), F.dropout(x, key=first))


@pytest.mark.parametrize("name", SHAPES)
def test_nothing_happens_without_training_or_probability(name):
    x = normal(name, *SHAPES[name]).astype(np.float32)
    np.testing.assert_array_equal(getattr(F, name)(x, training=False), x)
    np.testing.assert_array_equal(getattr(F, name)(x, 0.0), x)


@pytest.mark.parametrize("name", SHAPES)
def test_the_gradient_has_the_same_mask(name):
    x = jnp.ones(SHAPES[name])
    function = lambda x: getattr(F, name)(x, 0.4, key=KEY)
    y, gradient = function(x), asgfn.grad(lambda x: jnp.sum(function(x)))(x)
    kept = np.asarray(y) > 0
    assert kept.any() and not kept.all()
    alpha = "alpha" in name
    factor = (0.6 * (1 + 0.4 * FLOOR**2)) ** -0.5 if alpha else 1 / 0.6
    np.testing.assert_allclose(gradient, np.where(kept, factor, 0), rtol=1e-5)
    everything = asgfn.grad(lambda x: jnp.sum(getattr(F, name)(x, 1.0, key=KEY)))(x)
    assert not everything.any()


def test_dropped_infinities_are_gone():
    y = F.dropout(np.full(100, np.inf, np.float32), 0.5, key=KEY)
    assert set(np.unique(np.asarray(y))) == {0.0, np.inf}


def test_dtype_and_empty_arrays():
    assert F.dropout(np.ones(3, np.float16), key=KEY).dtype == np.float16
    assert F.alpha_dropout(np.ones(3, np.float16), key=KEY).dtype == np.float16
    assert F.dropout(np.ones((0, 3), np.float32), key=KEY).shape == (0, 3)


def test_vmap_over_keys():
    keys = asgfn.random.split(KEY, 3)
    x = jnp.ones((3, 50))
    y = asgfn.vmap(lambda k, x: F.dropout(x, key=k))(keys, x)
    np.testing.assert_array_equal(y[1], F.dropout(x[1], key=keys[1]))


def test_mistakes_are_named():
    x = np.ones((2, 3), np.float32)
    for name in ("dropout", "dropout1d", "alpha_dropout", "feature_alpha_dropout"):
        with pytest.raises(ValueError, match=rf"{name}: training needs a random key: pass key=.*training=False"):
            getattr(F, name)(x)
        with pytest.raises(ValueError, match=rf"{name}: p is a probability"):
            getattr(F, name)(x, 1.5, key=KEY)
        with pytest.raises(DTypeError, match=name):
            getattr(F, name)(x.astype(np.int32), key=KEY)
    with pytest.raises(ShapeError, match=r"dropout2d: x must be \[N, C, H, W\]"):
        F.dropout2d(x, key=KEY)
    with pytest.raises(ShapeError, match="feature_alpha_dropout"):
        F.feature_alpha_dropout(x[0], key=KEY)
