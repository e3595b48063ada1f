"""asgfn.nn: activations, softmax and relatives, attention, initializers."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.special

import asgfn
import asgfn.numpy as jnp
from asgfn import nn, random
from asgfn.errors import DTypeError, ShapeError
from tests.derivatives import check_derivatives

rng = np.random.default_rng(0)
X = np.linspace(-6.31, 6.27, 61)  # none of them at a kink


def close(actual, expected, tol: float = 1e-5) -> None:
    actual, expected = np.asarray(actual), np.asarray(expected)
    assert actual.shape == expected.shape
    np.testing.assert_allclose(actual, expected, rtol=tol, atol=tol)


def _softplus(x):
    return np.logaddexp(x, 0)


ACTIVATIONS = {
    "relu": lambda x: np.maximum(x, 0),
    "relu6": lambda x: np.clip(x, 0, 6),
    "leaky_relu": lambda x: np.where(x >= 0, x, 0.01 * x),
    "hard_tanh": lambda x: np.clip(x, -1, 1),
    "hard_sigmoid": lambda x: np.clip(x / 6 + 0.5, 0, 1),
    "hard_silu": lambda x: x * np.clip(x / 6 + 0.5, 0, 1),
    "identity": lambda x: x,
    "sigmoid": scipy.special.expit,
    "log_sigmoid": lambda x: -_softplus(-x),
    "softplus": _softplus,
    "tanh": np.tanh,
    "soft_sign": lambda x: x / (1 + np.abs(x)),
    "silu": lambda x: x * scipy.special.expit(x),
    "mish": lambda x: x * np.tanh(_softplus(x)),
    "gelu": lambda x: x / 2 * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3))),
    "squareplus": lambda x: (x + np.sqrt(x * x + 4)) / 2,
    "elu": lambda x: np.where(x > 0, x, np.expm1(np.minimum(x, 0))),
    "celu": lambda x: np.where(x > 0, x, np.expm1(np.minimum(x, 0))),
    "selu": lambda x: 1.0507009873554805 * np.where(x > 0, x, 1.6732632423543772 * np.expm1(np.minimum(x, 0))),
    "sparse_plus": lambda x: np.where(x <= -1, 0, np.where(x >= 1, x, (x + 1) ** 2 / 4)),
    "sparse_sigmoid": lambda x: np.clip((x + 1) / 2, 0, 1),
}


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations(name):
    f = getattr(nn, name)
    close(f(X.astype(np.float32)), ACTIVATIONS[name](X))
    assert f(X.astype(np.float16)).dtype == np.float16
    check_derivatives(f, X, tol=1e-4)
    huge = np.array([1e30, -1e30, np.inf], np.float32)
    assert not np.isnan(np.asarray(f(huge))[:2]).any()
    if name not in ("gelu", "squareplus"):  # their formulas square or cube
        gradient = asgfn.grad(lambda x: f(x).sum())(huge)
        assert not np.isnan(np.asarray(gradient)[:2]).any()


def test_approximate_gelu_of_small_and_large_numbers():
    x = np.array([-9.5, -8, -6, -4, -2, -1e-3, 1e-3, 2, 6, 30], np.float32)
    wide = x.astype(np.float64)
    inner = np.sqrt(8 / np.pi) * (wide + 0.044715 * wide**3)
    share = scipy.special.expit(inner)
    np.testing.assert_allclose(nn.gelu(x), wide * share, rtol=5e-5)  # exp makes more of errors of a large argument
    slope = share + wide * share * (1 - share) * np.sqrt(8 / np.pi) * (1 + 3 * 0.044715 * wide**2)
    np.testing.assert_allclose(asgfn.vmap(asgfn.grad(nn.gelu))(x), slope, rtol=1e-4)
    far = np.array([-1e4, -100, -30, 100, 1e4], np.float32)
    for f, wanted in ((nn.gelu, [0, 0, 0, 100, 1e4]), (asgfn.grad(nn.gelu), [0, 0, 0, 1, 1])):
        np.testing.assert_array_equal(asgfn.vmap(f)(far), wanted)
    np.testing.assert_array_equal(asgfn.vmap(asgfn.grad(asgfn.grad(nn.gelu)))(far), np.zeros(5))


def test_exact_gelu():
    close(nn.gelu(X.astype(np.float32), approximate=False), X * scipy.special.ndtr(X))
    small = np.array([-12.0], np.float32)
    np.testing.assert_allclose(nn.gelu(small, approximate=False), -12 * scipy.special.ndtr(-12.0), rtol=1e-4)
    check_derivatives(lambda x: nn.gelu(x, approximate=False), X)


@pytest.mark.parametrize(
    ("f", "at", "slope"),
    [
        (nn.relu, 0.0, 0.0),
        (nn.relu6, 0.0, 0.0),
        (nn.relu6, 6.0, 0.0),
        (nn.elu, 0.0, 1.0),
        (nn.celu, 0.0, 1.0),
        (nn.leaky_relu, 0.0, 1.0),
        (nn.hard_tanh, 1.0, 1.0),
    ],
)
def test_slopes_at_kinks(f, at, slope):
    assert asgfn.grad(f)(at) == slope


def test_nan_stays_nan():
    for name in ("relu", "sigmoid", "gelu", "silu", "softplus", "elu"):
        assert np.isnan(getattr(nn, name)(np.float32(np.nan)))


def test_relu_keeps_integers():
    assert nn.relu(np.array([-1, 2], np.int32)).tolist() == [0, 2]


def test_parameters():
    x = X.astype(np.float32)
    close(nn.elu(x, 2.0), np.where(x > 0, x, 2 * np.expm1(np.minimum(x, 0))))
    close(nn.celu(x, 2.0), np.where(x > 0, x, 2 * np.expm1(np.minimum(x, 0) / 2)))
    close(nn.leaky_relu(x, 0.3), np.where(x > 0, x, 0.3 * x))
    close(nn.squareplus(x, 1.0), (x + np.sqrt(x * x + 1)) / 2)


def test_log1mexp():
    x = np.array([1e-8, 0.1, 0.6931, 0.6932, 5.0, 80.0])
    with asgfn.enable_x64():
        close(nn.log1mexp(x), np.log(-np.expm1(-x)), 1e-12)
    check_derivatives(nn.log1mexp, x[1:5])
    assert np.isfinite(asgfn.grad(nn.log1mexp)(80.0))


def test_glu():
    x = rng.normal(size=(3, 4)).astype(np.float32)
    close(nn.glu(x), x[:, :2] * scipy.special.expit(x[:, 2:]))
    with pytest.raises(ShapeError, match="odd length 3"):
        nn.glu(x, axis=0)


# ------------------------------------------------------------------------------------------ softmax
@pytest.mark.parametrize("axis", [-1, 0, (0, 1), None])
def test_softmax_family(axis):
    x = rng.normal(size=(3, 4)).astype(np.float32) * 5
    close(nn.softmax(x, axis), scipy.special.softmax(x, axis))
    close(nn.log_softmax(x, axis), scipy.special.log_softmax(x, axis), 1e-4)
    close(nn.logsumexp(x, axis), scipy.special.logsumexp(x, axis))
    close(nn.logmeanexp(x, axis), np.log(np.mean(np.exp(x), axis)))
    check_derivatives(lambda x: nn.softmax(x, axis), x / 5)
    check_derivatives(lambda x: nn.log_softmax(x, axis), x / 5)
    check_derivatives(lambda x: nn.logsumexp(x, axis), x / 5)


def test_softmax_of_extremes():
    x = np.array([1e30, -1e30, 0], np.float32)
    close(nn.softmax(x), [1, 0, 0])
    close(nn.logsumexp(np.full(3, -np.inf, np.float32)), -np.inf)
    close(nn.logsumexp(np.array([np.inf, 0], np.float32)), np.inf)
    close(nn.logsumexp(np.zeros((0, 2), np.float32), axis=0), [-np.inf, -np.inf])
    close(asgfn.grad(nn.logsumexp)(np.array([-np.inf, 0], np.float32)), [0, 1])


def test_where():
    x = np.array([[1.0, 200, 3], [4, 5, 6], [7, 8, 9]], np.float32)
    mask = np.array([[True, False, True], [False, False, False], [True, True, True]])
    out = np.asarray(nn.softmax(x, where=mask))
    close(out[0], [np.exp(-2) / (1 + np.exp(-2)), 0, 1 / (1 + np.exp(-2))])
    close(out[1], [0, 0, 0])
    close(out[2], scipy.special.softmax(x[2]))
    assert np.asarray(nn.log_softmax(x, where=mask))[0, 1] == -np.inf
    close(nn.logsumexp(x, axis=1, where=mask)[0], np.logaddexp(1, 3))
    close(nn.logmeanexp(x, axis=1, where=mask)[0], np.logaddexp(1, 3) - np.log(2))
    for f in (nn.softmax, lambda v, where: nn.log_softmax(v, where=where)[2]):
        assert np.isfinite(np.asarray(asgfn.grad(lambda v, f=f: (f(v, where=mask) * x).sum())(x))).all()


def test_logsumexp_with_factors():
    a, b = rng.normal(size=(2, 5)).astype(np.float32)
    value, sign = nn.logsumexp(a, b=b, return_sign=True)
    expected, expected_sign = scipy.special.logsumexp(a, b=b, return_sign=True)
    close(value, expected, 1e-4)
    assert sign == expected_sign
    assert np.isnan(nn.logsumexp(a, b=-np.abs(b)))
    close(nn.logsumexp(np.array([1000.0, 1], np.float32), b=np.array([0, 1], np.float32)), 1.0)


@pytest.mark.parametrize("algorithm", ["fast", "stable"])
def test_standardize(algorithm):
    x = rng.normal(size=(4, 6)).astype(np.float32)
    expected = (x - x.mean(1, keepdims=True)) / np.sqrt(x.var(1, keepdims=True) + 1e-5)
    close(nn.standardize(x, algorithm=algorithm), expected, 1e-4)
    mask = rng.random((4, 6)) > 0.3
    mean, variance = x.mean(1, keepdims=True, where=mask), x.var(1, keepdims=True, where=mask)
    close(nn.standardize(x, where=mask, algorithm=algorithm), (x - mean) / np.sqrt(variance + 1e-5), 1e-3)
    close(nn.standardize(x, mean=0.0, variance=1.0, epsilon=0.0), x)
    with pytest.raises(ValueError, match="algorithm"):
        nn.standardize(x, algorithm="slow")


def test_one_hot():
    x = np.array([[0, 2], [5, -1]])
    close(nn.one_hot(x, 3), [[[1, 0, 0], [0, 0, 1]], [[0, 0, 0], [0, 0, 0]]])
    assert nn.one_hot(x, 3, axis=0).shape == (3, 2, 2)
    assert nn.one_hot(x, 3, axis=1).shape == (2, 3, 2)
    assert nn.one_hot(x, 3, dtype=jnp.int8).dtype == np.int8
    with pytest.raises(ShapeError, match="axis 3 is out of range"):
        nn.one_hot(x, 3, axis=3)


# ------------------------------------------------------------------------------------------ attention
def reference_attention(q, k, v, bias=0.0, keep=True, scale=None):
    k, v = (np.repeat(x, q.shape[2] // k.shape[2], axis=2) for x in (k, v))
    scores = np.einsum("btnh,bsnh->bnts", q, k) * (q.shape[-1] ** -0.5 if scale is None else scale) + bias
    return np.einsum("bnts,bsnh->btnh", scipy.special.softmax(np.where(keep, scores, -1e30), axis=-1), v)


@pytest.mark.parametrize(("heads", "groups"), [(4, 4), (4, 2), (3, 1)])
def test_attention(heads, groups):
    q = rng.normal(size=(2, 5, heads, 8)).astype(np.float32)
    k, v = rng.normal(size=(2, 2, 6, groups, 8)).astype(np.float32)
    row, column = np.arange(5)[:, None], np.arange(6)
    bias = rng.normal(size=(1, heads, 5, 6)).astype(np.float32)
    mask = rng.random((2, 1, 5, 6)) > 0.3
    mask[..., 0] = True
    f = nn.dot_product_attention
    close(f(q, k, v), reference_attention(q, k, v))
    close(f(q, k, v, scale=0.5), reference_attention(q, k, v, scale=0.5))
    close(f(q, k, v, bias, mask), reference_attention(q, k, v, bias, mask))
    close(f(q, k, v, is_causal=True), reference_attention(q, k, v, keep=column <= row))
    close(f(q, k, v, local_window_size=(2, 1)), reference_attention(q, k, v, keep=abs(2 * (column - row) + 1) <= 3))
    close(f(q[0], k[0], v[0]), reference_attention(q, k, v)[0])
    lengths = np.array([3, 4], np.int32)
    out = np.asarray(f(q, k, v, query_seq_lengths=lengths, key_value_seq_lengths=lengths))
    expected = reference_attention(q, k, v, keep=column < lengths[:, None, None, None])
    for b, n in enumerate(lengths):
        close(out[b, :n], expected[b, :n])
        assert (out[b, n:] == 0).all()


def test_attention_residual_and_half_precision():
    q, k, v = rng.normal(size=(3, 1, 4, 2, 8)).astype(np.float32)
    out, residual = nn.dot_product_attention(q, k, v, return_residual=True)
    scores = np.einsum("btnh,bsnh->btns", q, k) / np.sqrt(8)
    close(residual, scipy.special.logsumexp(scores, axis=-1))
    half = [jnp.asarray(x, jnp.bfloat16) for x in (q, k, v)]
    assert nn.dot_product_attention(*half).dtype == jnp.bfloat16
    close(np.asarray(nn.dot_product_attention(*half), np.float32), out, 0.05)


def test_attention_derivatives():
    q, k, v = rng.normal(size=(3, 1, 3, 2, 4))
    check_derivatives(lambda *qkv: nn.dot_product_attention(*qkv, is_causal=True), q, k, v)


@pytest.mark.parametrize(
    ("change", "error", "text"),
    [
        ({"value": (1, 3, 2, 4)}, ShapeError, "shape of key"),
        ({"query": (1, 3, 2, 5)}, ShapeError, "batch and head size"),
        ({"query": (1, 3, 3, 4)}, ShapeError, "multiple of the key heads"),
        ({"mask": np.ones((1, 1, 3, 4), np.float32)}, DTypeError, "boolean"),
        ({"mask": np.ones((1, 1, 3, 3), bool)}, ShapeError, "broadcast"),
        ({"implementation": "cudnn"}, ValueError, "implementation"),
    ],
)
def test_attention_errors(change, error, text):
    operands = {"query": (1, 3, 2, 4), "key": (1, 4, 2, 4), "value": (1, 4, 2, 4)} | change
    operands = {k: np.zeros(v, np.float32) if isinstance(v, tuple) else v for k, v in operands.items()}
    with pytest.raises(error, match=text):
        nn.dot_product_attention(**operands)


# ------------------------------------------------------------------------------------------ initializers
KEY_SHAPE = (64, 128)
I = nn.initializers

VARIANCES = {
    "glorot_uniform": 2 / 192,
    "glorot_normal": 2 / 192,
    "xavier_uniform": 2 / 192,
    "xavier_normal": 2 / 192,
    "lecun_uniform": 1 / 64,
    "lecun_normal": 1 / 64,
    "he_uniform": 2 / 64,
    "he_normal": 2 / 64,
    "kaiming_uniform": 2 / 64,
    "kaiming_normal": 2 / 64,
}


@pytest.mark.parametrize("name", VARIANCES)
def test_scaled_initializers(name):
    w = np.asarray(getattr(I, name)()(random.key(0), KEY_SHAPE))
    assert w.dtype == np.float32
    assert abs(w.mean()) < 4 * np.sqrt(VARIANCES[name] / w.size)
    np.testing.assert_allclose(w.var(), VARIANCES[name], rtol=0.05)
    half = getattr(I, name)(dtype=jnp.bfloat16)(random.key(0), (4, 4))
    assert half.dtype == jnp.bfloat16
    w = np.asarray(getattr(I, name)()(random.key(0), (64, 64), jnp.complex64))
    expected = 2 / 64 if name.startswith(("he", "kaiming")) else 1 / 64
    np.testing.assert_allclose((np.abs(w) ** 2).mean(), expected, rtol=0.1)


def test_convolution_kernels_count_their_window():
    w = np.asarray(I.he_normal()(random.key(1), (3, 3, 16, 64)))
    np.testing.assert_allclose(w.var(), 2 / (9 * 16), rtol=0.05)
    w = np.asarray(I.variance_scaling(1.0, "fan_out", "normal", batch_axis=0)(random.key(1), (10, 16, 64)))
    np.testing.assert_allclose(w.var(), 1 / 64, rtol=0.1)
    w = np.asarray(I.variance_scaling(1.0, "fan_geo_avg", "uniform")(random.key(1), (16, 256)))
    np.testing.assert_allclose(w.var(), 1 / 64, rtol=0.1)


def test_simple_initializers():
    key = random.key(2)
    close(I.zeros(key, (2, 3)), np.zeros((2, 3)))
    close(I.ones(key, (2, 3), jnp.int32), np.ones((2, 3)))
    close(I.constant(7)(key, (2,)), [7, 7])
    w = np.asarray(I.uniform(0.5)(key, (1000,)))
    assert 0 <= w.min() and 0.45 < w.max() < 0.5
    np.testing.assert_allclose(np.asarray(I.normal(0.1)(key, (10000,))).std(), 0.1, rtol=0.05)
    w = np.asarray(I.truncated_normal(0.1, lower=-1, upper=1)(key, (1000,)))
    assert np.abs(w).max() <= 0.1


# jax.nn.initializers (0.10.2) with key(0) and shape (2, 2).
JAX_VALUES = {
    "uniform": [0.00947667, 0.0097858, 0.00332291, 0.00468668],
    "normal": [0.01622642, 0.02025265, -0.00433594, -0.00078617],
    "truncated_normal": [0.01455959, 0.01714749, -0.00412675, -0.00075033],
    "glorot_uniform": [1.09655583, 1.1722765, -0.41080031, -0.07674628],
    "glorot_normal": [1.17040539, 1.37843907, -0.33173829, -0.0603173],
    "lecun_normal": [1.17040539, 1.37843907, -0.33173829, -0.0603173],
    "he_uniform": [1.55076396, 1.65784931, -0.58095932, -0.10853563],
    "he_normal": [1.65520322, 1.94940746, -0.46914884, -0.08530156],
    "orthogonal": [0.96610296, 0.25815725, -0.25815725, 0.9661029],
}


def test_same_key_gives_the_values_of_jax():
    key = random.key(0)
    for name, expected in JAX_VALUES.items():
        close(np.ravel(getattr(I, name)()(key, (2, 2))), expected)


def test_orthogonal():
    for shape, axis in [((4, 4), -1), ((6, 3), -1), ((3, 6), -1), ((2, 3, 4), 0)]:
        w = np.asarray(I.orthogonal(2.0, axis)(random.key(3), shape))
        columns = np.moveaxis(w, axis, -1).reshape(-1, shape[axis]) / 2
        product = columns.T @ columns if columns.shape[0] >= columns.shape[1] else columns @ columns.T
        close(product, np.eye(len(product)))
    w = np.asarray(I.delta_orthogonal()(random.key(3), (3, 3, 2, 4)))
    close(w[1, 1] @ w[1, 1].T, np.eye(2))
    assert np.count_nonzero(w) == 8


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda k: I.he_normal()(k, (3,)), ShapeError, "no fan-in axis"),
        (lambda k: I.he_normal()(k, (3, 4), jnp.int32), DTypeError, "floating point or complex"),
        (lambda k: I.variance_scaling(1.0, "fan", "normal"), ValueError, "mode must be"),
        (lambda k: I.variance_scaling(1.0, "fan_in", "cauchy"), ValueError, "distribution must be"),
        (lambda k: I.orthogonal()(k, (3,)), ShapeError, "at least two axes"),
        (lambda k: I.delta_orthogonal()(k, (3, 4, 2)), ShapeError, "more inputs than outputs"),
    ],
)
def test_initializer_errors(call, error, text):
    with pytest.raises(error, match=text):
        call(random.key(0))
