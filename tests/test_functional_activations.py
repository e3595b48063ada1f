"""Activations of `nn_fn.functional`."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import asgfn
import asgfn.numpy as jnp
import nn_fn.functional as F
from asgfn.errors import AxisError, DTypeError, ShapeError
from tests.references import Case, assert_case
from tests.references.functional_activations import CASES, ELEMENTWISE

NAMES = sorted({name for name, *_ in ELEMENTWISE} - {"threshold"})


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_equals_torch(case: Case) -> None:
    assert_case("functional_activations", case, F)


@pytest.mark.parametrize("name", NAMES)
def test_jit_grad_and_vmap_agree(name: str) -> None:
    f, x = getattr(F, name), jnp.linspace(-4.0, 4.0, 12).reshape(3, 4)
    slope = asgfn.grad(lambda x: jnp.sum(f(x)))
    np.testing.assert_allclose(asgfn.jit(f)(x), f(x), rtol=1e-6)
    np.testing.assert_allclose(asgfn.vmap(f)(x), f(x), rtol=1e-6)
    np.testing.assert_allclose(asgfn.jit(asgfn.vmap(slope))(x), slope(x), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_nan_stays_nan_and_empty_stays_empty(name: str) -> None:
    f = getattr(F, name)
    assert np.isnan(f(jnp.array([np.nan]))[0])
    assert f(jnp.zeros((0, 3))).shape == (0, 3)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
@pytest.mark.parametrize("name", NAMES)
def test_dtype_is_kept(name: str, dtype: Any) -> None:
    x = jnp.array([-2.0, 0.0, 0.5, 3.0], dtype)
    y = getattr(F, name)(x)
    assert y.dtype == x.dtype
    np.testing.assert_allclose(
        y.astype("float32"),
        getattr(F, name)(x.astype("float32")),
        rtol=2e-2,
        atol=1e-2 if dtype == "bfloat16" else 2e-3,
    )


def test_second_derivatives() -> None:
    with asgfn.enable_x64(True):
        for name in ("gelu", "silu", "mish", "softplus", "elu", "logsigmoid", "tanh", "softsign"):
            f = getattr(F, name)
            slope = asgfn.grad(lambda x: f(x))
            for x in (-1.3, 0.7):
                h = 1e-5
                expected = (slope(x + h) - slope(x - h)) / (2 * h)
                np.testing.assert_allclose(asgfn.grad(slope)(x), expected, rtol=1e-7, atol=1e-8, err_msg=name)


def test_rrelu_draws_a_slope_for_each_element() -> None:
    x = jnp.full((400,), -2.0).at[:10].set(3.0)
    key = asgfn.random.key(3)
    f = lambda x: F.rrelu(x, 0.1, 0.4, training=True, key=key)
    y = f(x)
    np.testing.assert_array_equal(y[:10], 3.0)
    slopes = np.asarray(y[10:]) / -2.0
    assert slopes.min() >= 0.1 and slopes.max() <= 0.4 and slopes.std() > 0.07
    np.testing.assert_allclose(asgfn.grad(lambda x: jnp.sum(f(x)))(x)[10:], slopes, rtol=1e-6)
    with pytest.raises(ValueError, match="rrelu: training draws random slopes; pass key"):
        F.rrelu(x, training=True)


def test_gumbel_softmax() -> None:
    logits = jnp.log(jnp.array([0.1, 0.6, 0.3]))
    key = asgfn.random.key(0)
    rows = jnp.broadcast_to(logits, (4000, 3))
    hard = F.gumbel_softmax(rows, tau=0.5, hard=True, key=key)
    np.testing.assert_array_equal(jnp.sort(hard, axis=-1), jnp.broadcast_to(jnp.array([0.0, 0.0, 1.0]), hard.shape))
    np.testing.assert_allclose(jnp.mean(hard, axis=0), [0.1, 0.6, 0.3], atol=0.03)
    soft = F.gumbel_softmax(rows, tau=0.5, key=key)
    np.testing.assert_allclose(jnp.sum(soft, axis=-1), 1.0, rtol=1e-5)
    np.testing.assert_array_equal(jnp.argmax(soft, -1), jnp.argmax(hard, -1))

    weights = jnp.array([1.0, -2.0, 0.5])
    through = [
        asgfn.grad(lambda x: jnp.sum(weights * F.gumbel_softmax(x, hard=hard, key=key)))(logits)
        for hard in (True, False)
    ]
    np.testing.assert_allclose(*through, rtol=1e-6)
    assert np.abs(through[0]).max() > 1e-3
    columns = F.gumbel_softmax(rows[:5].T, hard=True, axis=0, key=key)
    np.testing.assert_array_equal(jnp.sum(columns, axis=0), 1.0)


def test_softmax_converts_first() -> None:
    x = jnp.array([1.0, 2.0, 3.0], "float16")
    assert F.softmax(x, dtype="float32").dtype == np.float32
    assert F.log_softmax(x, dtype="float32").dtype == np.float32


def test_errors_say_what_is_wrong() -> None:
    x = jnp.ones((2, 3))
    with pytest.raises(
        ShapeError, match=r"prelu: weight must be a scalar, \[1\] or \[3\].*float32\[2\] for x float32\[2,3\]"
    ):
        F.prelu(x, jnp.ones(2))
    with pytest.raises(DTypeError, match=r"prelu: weight must be floating point, got int32\[1\]"):
        F.prelu(x, jnp.ones(1, "int32"))
    with pytest.raises(ValueError, match="gelu: approximate must be one of 'none', 'tanh'; got 'fast'"):
        F.gelu(x, approximate="fast")
    with pytest.raises(ValueError, match="hardtanh: min_val 2 must not exceed max_val 1"):
        F.hardtanh(x, 2, 1)
    with pytest.raises(AxisError, match="log_softmax: axis 2 is out of bounds"):
        F.log_softmax(x, axis=2)
    with pytest.raises(ShapeError, match=r"glu: axis 1 .* has odd length 3"):
        F.glu(x)
    for call, word in (
        (lambda: F.celu(x, 0), "celu"),
        (lambda: F.softplus(x, beta=0), "softplus"),
        (lambda: F.softshrink(x, -1), "softshrink"),
        (lambda: F.rrelu(x, 0.5, 0.1), "rrelu"),
        (lambda: F.gumbel_softmax(x, 0, key=asgfn.random.key(0)), "gumbel_softmax"),
    ):
        with pytest.raises(ValueError, match=word):
            call()
