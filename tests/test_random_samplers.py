"""The samplers: the numbers of JAX 0.10.2 for key(42), moments, ranges, gradients."""

from __future__ import annotations

import numpy as np
import pytest

import asgfn
import asgfn.numpy as jnp
from asgfn import random

f32 = np.float32
KEY = random.key(42)
FIFTHS = np.array([0.1, 0.2, 0.3, 0.2, 0.2], f32)
GRID = np.arange(6, dtype=f32).reshape(2, 3)


def call(name, *args, **kwargs):
    return name, args, kwargs


INTEGERS = [
    (call("randint", (6,), 0, 10), [4, 4, 1, 9, 9, 9]),
    (call("randint", (6,), np.array(0), np.array([10])), [4, 4, 1, 9, 9, 9]),
    (call("randint", (6,), 0, 256, "uint8"), [196, 18, 183, 193, 141, 107]),
    (call("randint", (6,), -100, 100, "int8"), [-56, 14, -29, 69, 9, -81]),
    (call("randint", (6,), 0, 1024), [196, 18, 183, 193, 653, 363]),
    (call("randint", (4,), -(2**31), 2**31 - 1), [977810628, 1236381714, -1367112521, -1019495231]),
    (call("randint", (3,), 5, 5), [5, 5, 5]),
    (call("rademacher", (6,)), [1, -1, -1, -1, 1, -1]),
    (call("bernoulli", f32(0.3), (8,)), [0, 0, 0, 0, 0, 0, 1, 0]),
    (call("bernoulli", f32(0.3), (8,), "high"), [0, 0, 0, 0, 0, 0, 1, 0]),
    (call("geometric", f32(0.3), (5,)), [3, 2, 2, 2, 3]),
    (call("categorical", np.log(f32([0.1, 0.2, 0.7])), shape=(8,)), [2, 2, 2, 2, 1, 2, 1, 2]),
    (call("categorical", np.zeros((2, 5), f32), 0, (3, 5)), [1, 0, 1, 1, 1, 1, 0, 0, 0, 1, 1, 0, 1, 0, 1]),
    (call("categorical", np.zeros((2, 5), f32), 1, (3, 2), replace=False), [1, 4, 2, 2, 3, 3]),
    (call("permutation", 8), [7, 4, 2, 5, 3, 6, 0, 1]),
    (call("permutation", GRID, 1), [2, 0, 1, 5, 3, 4]),
    (call("permutation", GRID, 1, True), [2, 0, 1, 4, 5, 3]),
    (call("choice", 10, (5,)), [4, 4, 1, 9, 9]),
    (call("choice", 10, (5,), False), [7, 4, 2, 5, 3]),
    (call("choice", 5, (6,), True, FIFTHS), [2, 2, 2, 2, 2, 2]),
    (call("choice", 5, (3,), False, FIFTHS), [2, 1, 3]),
    (call("choice", GRID, (2,), axis=1), [0, 0, 3, 3]),
    (call("poisson", f32([0, 0.5, 5, 9.9, 10, 50, 1e4, -1])), [0, 1, 3, 7, 5, 43, 9946, -1]),
    (
        call("binomial", f32([10, 10, 100, 1000, 5000, 0]), f32([0.3, 0.7, 0.5, 0.01, 0.9, 0.5])),
        [2, 5, 55, 7, 4530, 0],
    ),
    (call("multinomial", f32(20), f32([0.2, 0.3, 0.5])), [4, 4, 12]),
]

FLOATS = [
    (call("uniform", (3,)), [0.48870956897735596, 0.6797971725463867, 0.6162714958190918]),
    (call("uniform", (3,), "float16"), [0.076171875, 0.1904296875, 0.9755859375]),
    (call("uniform", (3,), "bfloat16"), [0.6328125, 0.84375, 0.96875]),
    (call("uniform", (3,), None, -2.0, 5.0), [1.4209669828414917, 2.758580207824707, 2.3139004707336426]),
    (call("normal", (3,)), [-0.02830461598932743, 0.4671318531036377, 0.2957029640674591]),
    (call("normal", (3,), "float16"), [-1.4296875, -0.87548828125, 1.974609375]),
    (call("normal", (3,), "bfloat16"), [0.34375, 1.015625, 1.890625]),
    (
        call("normal", (2,), "complex64"),
        [0.05368746072053909 + 0.4283398389816284j, -0.34389618039131165 + 0.5650094747543335j],
    ),
    (call("truncated_normal", -1.0, 2.0, (3,)), [0.14770005643367767, 0.5684449076652527, 0.42102551460266113]),
    (call("exponential", (3,)), [0.670817494392395, 1.1388006210327148, 0.9578199982643127]),
    (call("gumbel", (3,)), [0.3340933918952942, 0.952019453048706, 0.7255305647850037]),
    (call("gumbel", (3,), mode="high"), [0.39925798773765564, -0.12997561693191528, 0.043095413595438004]),
    (call("gumbel", (3,), mode="highest"), [0.3992578089237213, -0.129975825548172, 0.04309510067105293]),
    (call("laplace", (3,)), [0.022839652374386787, -0.4456535577774048, -0.2646729052066803]),
    (call("logistic", (3,)), [-0.0451694130897522, 0.7528398036956787, 0.47375231981277466]),
    (call("cauchy", (3,)), [-0.03548463061451912, 0.6337261199951172, 0.38244056701660156]),
    (call("maxwell", (3,)), [0.553582489490509, 0.293285071849823, 1.708603024482727]),
    (call("pareto", 2.5, (3,)), [1.3077747821807861, 1.5769935846328735, 1.4668657779693604]),
    (call("rayleigh", 1.5, (3,)), [1.7949767112731934, 1.3178861141204834, 1.4759080410003662]),
    (call("weibull_min", 1.5, 2.5, (3,)), [1.278594970703125, 1.5800482034683228, 1.4743642807006836]),
    (call("triangular", -1.0, 0.5, 2.0, (3,)), [0.4829676151275635, 0.7996197938919067, 0.685930609703064]),
    (call("lognormal", 0.5, (3,)), [0.9859473705291748, 1.2630960941314697, 1.159340739250183]),
    (call("wald", 1.5, (3,)), [1.6461201906204224, 2.6983466148376465, 0.3518810272216797]),
    (call("double_sided_maxwell", 1.0, 2.0, (3,)), [-1.7620434761047363, -0.3513779640197754, 5.444042682647705]),
    (
        call("gamma", f32([0.01, 0.5, 1.0, 3.0, 50.0])),
        [8.708395671498509e-24, 0.5063273906707764, 2.0072460174560547, 1.991378664970398, 44.96709060668945],
    ),
    (
        call("loggamma", f32([0.01, 0.5, 1.0, 3.0])),
        [-53.09775161743164, -0.6805716753005981, 0.6967637538909912, 0.6888271570205688],
    ),
    (call("beta", 0.5, 2.0, (3,)), [0.27497145533561707, 0.15737295150756836, 0.5494621992111206]),
    (call("dirichlet", f32([0.5, 1.0, 3.0])), [0.16127800941467285, 0.05350642278790474, 0.7852154970169067]),
    (call("chisquare", 3.0, (3,)), [5.87071418762207, 1.3978509902954102, 5.559423446655273]),
    (call("t", 3.0, (3,)), [0.08987478166818619, -1.7357467412948608, 2.3520190715789795]),
    (call("f", 3.0, 4.0, (3,)), [0.7448718547821045, 0.4786113500595093, 0.23294630646705627]),
    (call("generalized_normal", 1.5, (3,)), [-0.8782375454902649, -0.2061624526977539, 1.160470962524414]),
    (call("ball", 3), [0.3234022855758667, 0.061338748782873154, 0.01824338734149933]),
    (
        call("multivariate_normal", f32([1, 2]), f32([[2, 0.5], [0.5, 1]]), (2,)),
        [0.9599712491035461, 2.426954746246338, 1.418187141418457, 2.248175859451294],
    ),
    (call("orthogonal", 2), [-0.09528422355651855, 0.9954500794410706, 0.9954500794410706, 0.09528429061174393]),
]


def label(case):
    (name, args, kwargs), _ = case
    return f"{name}-{len(args)}-{'-'.join(map(str, kwargs))}"


@pytest.mark.parametrize("case", INTEGERS, ids=label)
def test_integers_equal_those_of_jax(case):
    (name, args, kwargs), expected = case
    samples = getattr(random, name)(KEY, *args, **kwargs)
    assert np.asarray(samples).ravel().tolist() == expected


@pytest.mark.parametrize("case", FLOATS, ids=label)
def test_floats_equal_those_of_jax(case):
    (name, args, kwargs), expected = case
    samples = np.asarray(getattr(random, name)(KEY, *args, **kwargs))
    rtol = 2e-5 if samples.dtype.itemsize > 2 else 1e-2
    wide = samples.astype(np.complex128 if samples.dtype.kind == "c" else np.float64)
    np.testing.assert_allclose(wide.ravel(), expected, rtol=rtol, atol=1e-6)


def test_float64():
    with asgfn.enable_x64():
        np.testing.assert_array_equal(random.uniform(KEY, (2,)), [0.4267275666499091, 0.015010069515314584])
        np.testing.assert_allclose(random.normal(KEY, (2,)), [-0.18471174528191162, -2.169824560397754], rtol=1e-13)
        np.testing.assert_allclose(random.gamma(KEY, np.array([0.5, 3.0])), [0.19865354933259452, 2.3528925062846477])
        drawn = random.randint(KEY, (3,), -(2**40), 2**50)
        assert drawn.dtype == np.int64
        assert np.asarray(drawn).tolist() == [16428379125301, 961713065416382, 267319332261015]


# ---------------------------------------------------------------------------------------------- distributions
MOMENTS = [
    (call("uniform", minval=-1.0, maxval=3.0), 1.0, 16 / 12),
    (call("normal"), 0.0, 1.0),
    (call("exponential"), 1.0, 1.0),
    (call("gumbel"), 0.5772156649, np.pi**2 / 6),
    (call("gumbel", mode="highest"), 0.5772156649, np.pi**2 / 6),
    (call("laplace"), 0.0, 2.0),
    (call("logistic"), 0.0, np.pi**2 / 3),
    (call("maxwell"), np.sqrt(8 / np.pi), 3 - 8 / np.pi),
    (call("rademacher"), 0.0, 1.0),
    (call("rayleigh", 2.0), 2 * np.sqrt(np.pi / 2), 4 * (2 - np.pi / 2)),
    (call("triangular", 0.0, 1.0, 3.0), 4 / 3, 7 / 18),
    (call("wald", 1.0), 1.0, 1.0),
    (call("gamma", 0.3), 0.3, 0.3),
    (call("gamma", 4.0), 4.0, 4.0),
    (call("beta", 2.0, 3.0), 0.4, 0.04),
    (call("chisquare", 5.0), 5.0, 10.0),
    (call("t", 10.0), 0.0, 1.25),
    (call("poisson", 4.0), 4.0, 4.0),
    (call("poisson", 40.0), 40.0, 40.0),
    (call("binomial", 20.0, 0.2), 4.0, 3.2),
    (call("binomial", 200.0, 0.7), 140.0, 42.0),
    (call("geometric", f32(0.25)), 4.0, 12.0),
    (call("bernoulli", f32(0.2)), 0.2, 0.16),
]


@pytest.mark.parametrize(("sampler", "mean", "variance"), MOMENTS)
def test_moments(sampler, mean, variance):
    name, args, kwargs = sampler
    count = 40_000
    samples = np.asarray(getattr(random, name)(random.key(1), *args, shape=(count,), **kwargs), np.float64)
    assert abs(samples.mean() - mean) < 5 * np.sqrt(variance / count)
    assert abs(samples.var() / variance - 1) < 0.15


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
def test_ranges(dtype):
    unit, exponential, gumbel = (
        np.asarray(getattr(random, name)(KEY, (5000,), dtype)) for name in ("uniform", "exponential", "gumbel")
    )
    assert unit.dtype == exponential.dtype == gumbel.dtype == jnp.dtype(dtype)
    assert 0 <= unit.min() and unit.max() < 1
    assert (
        0 <= exponential.min() and np.isfinite(exponential.astype(f32)).all() and np.isfinite(gumbel.astype(f32)).all()
    )


def test_truncated_normal_stays_inside():
    lower, upper = f32([-1, 0.5, 3]), f32([1, 0.6, 5])
    samples = np.asarray(random.truncated_normal(KEY, lower, upper, (2000, 3)))
    assert ((samples > lower) & (samples < upper)).all()


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16", "uint16", "int32", "uint32"])
def test_randint_covers_the_whole_dtype(dtype):
    limits = np.iinfo(dtype)
    samples = np.asarray(random.randint(KEY, (20_000,), int(limits.min), int(limits.max) + 1, dtype), np.float64)
    middle = (float(limits.min) + float(limits.max)) / 2
    width = float(limits.max) - float(limits.min)
    assert abs(samples.mean() - middle) < 0.02 * width
    assert samples.min() < limits.min + 0.01 * width and samples.max() > limits.max - 0.01 * width


def test_permutation_and_choice_draw_what_they_should():
    order = np.asarray(random.permutation(KEY, 3000))
    assert sorted(order.tolist()) == list(range(3000)) and order.tolist() != list(range(3000))
    columns = np.asarray(random.permutation(KEY, GRID, axis=1))
    assert sorted(columns.T.tolist()) == sorted(GRID.T.tolist())
    rows = np.asarray(random.permutation(KEY, np.tile(np.arange(50), (20, 1)), axis=1, independent=True))
    assert (np.sort(rows) == np.arange(50)).all() and len({tuple(row) for row in rows.tolist()}) == 20
    assert random.choice(KEY, GRID, (2, 2), axis=1).shape == (2, 2, 2)
    assert random.choice(KEY, GRID, (0,), axis=1).shape == (2, 0)
    assert len(set(np.asarray(random.choice(KEY, 50, (50,), replace=False)).tolist())) == 50
    drawn = np.asarray(random.choice(KEY, 3, (20_000,), p=jnp.array([0.2, 0.0, 0.8])))
    np.testing.assert_allclose(np.bincount(drawn, minlength=3) / 20_000, [0.2, 0, 0.8], atol=0.02)


def test_shapes_of_vector_samplers():
    points = np.asarray(random.ball(KEY, 3, 2, (500,)))
    assert points.shape == (500, 3) and (np.linalg.norm(points, axis=-1) <= 1).all()
    simplex = np.asarray(random.dirichlet(KEY, jnp.ones((2, 4)), (5, 2)))
    assert simplex.shape == (5, 2, 4)
    np.testing.assert_allclose(simplex.sum(-1), 1, rtol=1e-6)
    counts = np.asarray(random.multinomial(KEY, 30, jnp.array([[0.2, 0.3, 0.5], [0.1, 0.0, 0.9]])))
    np.testing.assert_array_equal(counts.sum(-1), [30, 30])
    for n, m in [(3, 3), (2, 4), (4, 2)]:
        matrix = np.asarray(random.orthogonal(KEY, n, (5,), m=m))
        gram = matrix @ matrix.swapaxes(-1, -2) if n <= m else matrix.swapaxes(-1, -2) @ matrix
        assert matrix.shape == (5, n, m)
        np.testing.assert_allclose(gram, np.broadcast_to(np.eye(min(n, m)), gram.shape), atol=1e-5)


@pytest.mark.parametrize("method", ["cholesky", "eigh", "svd"])
def test_multivariate_normal_has_its_covariance(method):
    mean, cov = f32([1, -2]), f32([[2, 0.8], [0.8, 1]])
    samples = np.asarray(random.multivariate_normal(KEY, mean, cov, (20_000,), method=method))
    np.testing.assert_allclose(samples.mean(0), mean, atol=0.05)
    np.testing.assert_allclose(np.cov(samples.T), cov, atol=0.08)


def test_edge_parameters_of_counts():
    nan = np.nan
    assert np.asarray(random.poisson(KEY, f32([0, -1, nan]))).tolist() == [0, -1, -1]
    found = np.asarray(random.binomial(KEY, f32([5, 5, np.inf, -1, nan, 7]), f32([0, 1, 0.5, 0.5, 0.5, nan])))
    np.testing.assert_array_equal(found, [0, 5, np.inf, nan, nan, nan])


# ---------------------------------------------------------------------------------------------- gradients
def test_gradient_of_gamma():
    a = f32([0.05, 0.5, 1.0, 3.0, 50.0])
    of_samples = asgfn.grad(lambda a: random.gamma(KEY, a).sum())(a)
    of_logs = asgfn.grad(lambda a: random.loggamma(KEY, a).sum())(a)
    expected = [0.00884159654378891, 1.3462015390396118, 1.6343059539794922, 0.8545892238616943, 0.9510564208030701]
    expected_logs = [
        189.50660705566406,
        2.6587564945220947,
        0.814202606678009,
        0.4291445016860962,
        0.021150045096874237,
    ]
    np.testing.assert_allclose(of_samples, expected, rtol=2e-4)
    np.testing.assert_allclose(of_logs, expected_logs, rtol=2e-4)
    keys = random.split(KEY, 5)
    for_each = asgfn.vmap(asgfn.grad(lambda a, k: random.gamma(k, a)))(a, keys)
    one_by_one = [asgfn.grad(lambda x, k=k: random.gamma(k, x))(x) for x, k in zip(a, keys, strict=True)]
    np.testing.assert_allclose(for_each, np.asarray(one_by_one), rtol=1e-5)
    tangent = asgfn.jvp(lambda a: random.gamma(KEY, a), (jnp.asarray(a),), (jnp.ones(5),))[1]
    np.testing.assert_allclose(tangent, expected, rtol=2e-4)


def test_gradient_of_the_mean_is_the_mean_gradient():
    """E[x**2] of gamma is a + a**2."""
    gradient = asgfn.grad(lambda a: (random.gamma(KEY, a, (40_000,)) ** 2).mean())(2.0)
    assert abs(float(gradient) - 5) < 0.15


def test_gradients_with_respect_to_locations_and_scales():
    def spread(low, high):
        return random.uniform(KEY, (4,), minval=low, maxval=high).sum()

    unit = np.asarray(random.uniform(KEY, (4,)))
    low, high = asgfn.grad(spread, argnums=(0, 1))(-1.0, 2.0)
    np.testing.assert_allclose([low, high], [(1 - unit).sum(), unit.sum()], rtol=1e-6)
    slope = asgfn.grad(lambda s: random.lognormal(KEY, s))(0.5)
    np.testing.assert_allclose(slope, random.normal(KEY) * random.lognormal(KEY, 0.5), rtol=1e-6)
