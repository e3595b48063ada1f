"""asgfn.scipy, and the special functions it rests on: against SciPy, at special values, derivatives, errors."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.linalg
import scipy.special
import scipy.stats

import asgfn
from asgfn import lax
from asgfn.errors import DTypeError, ShapeError, TransformError
from asgfn.scipy import linalg, special, stats
from tests.derivatives import check_derivatives

rng = np.random.default_rng(0)


def close(actual, expected, tol: float = 2e-5) -> None:
    actual, expected = np.asarray(actual), np.asarray(expected)
    assert actual.shape == expected.shape
    np.testing.assert_allclose(actual, expected, rtol=tol, atol=tol)


# ------------------------------------------------------------------------------------------ accuracy of primitives
WIDE = np.concatenate([rng.normal(size=300) * 4, np.logspace(-8, 2, 50), -np.logspace(-8, 1, 50)])
POSITIVE = np.concatenate([rng.uniform(0, 20, 300), np.logspace(-6, 6, 60)])
SHAPES = 10.0 ** rng.uniform(-2, 5, 400)
NEAR_SHAPES = np.abs(SHAPES * (1 + rng.normal(size=400) * np.minimum(3 / np.sqrt(SHAPES), 1)))
UNIT = rng.uniform(0, 1, 400)

ACCURACY = {
    "erf": (lax.erf, scipy.special.erf, WIDE),
    "erfc": (lax.erfc, scipy.special.erfc, np.clip(WIDE, -10, 9)),
    "erf_inv": (lax.erf_inv, scipy.special.erfinv, 2 * UNIT - 1),
    "lgamma": (lax.lgamma, scipy.special.gammaln, np.concatenate([POSITIVE, -rng.uniform(0, 2, 50)])),
    "digamma": (lax.digamma, scipy.special.digamma, POSITIVE),
    "polygamma": (lax.polygamma, scipy.special.polygamma, rng.integers(0, 8, 360).astype(float), POSITIVE),
    "zeta": (lax.zeta, scipy.special.zeta, 1 + POSITIVE, 0.1 + rng.uniform(0, 30, 360)),
    "igamma": (lax.igamma, scipy.special.gammainc, SHAPES, NEAR_SHAPES),
    "igammac": (lax.igammac, scipy.special.gammaincc, SHAPES, NEAR_SHAPES),
    "bessel_i0e": (lax.bessel_i0e, scipy.special.i0e, WIDE * 5),
    "bessel_i1e": (lax.bessel_i1e, scipy.special.i1e, WIDE * 5),
    "betainc": (lax.betainc, scipy.special.betainc, SHAPES, SHAPES[::-1].copy(), UNIT),
}


@pytest.mark.parametrize("name", ACCURACY)
def test_accuracy(name):
    f, reference, *args = ACCURACY[name]
    with asgfn.enable_x64():
        actual, expected = np.asarray(f(*args)), reference(*args)
        normal = np.abs(expected) > 1e-290
        np.testing.assert_allclose(actual[normal], expected[normal], rtol=2e-11)
        assert np.median(np.abs(actual[normal] / expected[normal] - 1)) < 1e-15
    # A float32 result is the float64 one, rounded.
    single = [np.asarray(a, np.float32) for a in args]
    with np.errstate(over="ignore"):
        expected = reference(*(a.astype(np.float64) for a in single)).astype(np.float32)
    np.testing.assert_allclose(np.asarray(f(*single)), expected, rtol=2e-7, atol=1e-38)


def test_relative_accuracy_near_zeros():
    with asgfn.enable_x64():
        x = 1.4616321449683622 + np.array([-1e-6, -1e-12, 1e-9, 1e-3])
        expected = [-9.676726e-7, -9.68118559e-13, 9.67672241e-10, 9.67193453e-4]
        np.testing.assert_allclose(lax.digamma(x), expected, rtol=2e-3)
        x = np.array([1 + 1e-10, 2 - 1e-10])
        np.testing.assert_allclose(lax.lgamma(x), [-5.7721566e-11, -4.2278434e-11], rtol=1e-6)


def test_special_values():
    inf, nan = np.inf, np.nan
    x = np.array([0, -1, -2, inf, -inf, nan], np.float32)
    np.testing.assert_array_equal(lax.lgamma(x), [inf, inf, inf, inf, inf, nan])
    np.testing.assert_array_equal(lax.digamma(x), [nan, nan, nan, inf, nan, nan])
    np.testing.assert_array_equal(lax.erf_inv(np.array([1, -1, 2, 0], np.float32)), [inf, -inf, nan, 0])
    np.testing.assert_array_equal(lax.erf(x[3:]), [1, -1, nan])
    np.testing.assert_array_equal(lax.erfc(x[3:]), [0, 2, nan])
    a, x = np.array([[0, 0, 1, 1, -1, 1, 2], [0, 1, 0, inf, 1, -1, nan]], np.float32)
    np.testing.assert_array_equal(lax.igamma(a, x), [nan, 1, 0, 1, nan, nan, nan])
    np.testing.assert_array_equal(lax.igammac(a, x), [nan, 0, 1, 0, nan, nan, nan])
    s, q = np.array([[1, 2, 2, 0.5, 2.5], [1, 0, -1, 1, -0.5]], np.float32)
    np.testing.assert_array_equal(lax.zeta(s, q), [inf, inf, inf, nan, nan])
    np.testing.assert_array_equal(lax.bessel_i1e(np.array([0, inf, nan], np.float32)), [0, 0, nan])
    edges = [
        (0, 1, 0.3),
        (1, 0, 0.3),
        (1, 1, 0),
        (1, 1, 1),
        (1, 1, 1.5),
        (-1, 1, 0.5),
        (np.inf, 1, 0.5),
        (1, np.inf, 0.5),
    ]
    a, b, x = np.array(edges, np.float32).T
    np.testing.assert_array_equal(lax.betainc(a, b, x), scipy.special.betainc(a, b, x))


def test_derivatives_of_primitives():
    check_derivatives(lax.erf, WIDE[:9] / 4)
    check_derivatives(lax.erfc, WIDE[:9] / 4)
    check_derivatives(lax.erf_inv, UNIT[:9] - 0.5)
    check_derivatives(lax.lgamma, UNIT[:9] + 0.5, order=3)
    check_derivatives(lambda q: lax.zeta(2.5, q), UNIT[:9] + 0.5)
    check_derivatives(lambda x: lax.igamma(1.7, x), UNIT[:9] + 0.5)
    check_derivatives(lambda x: lax.igammac(1.7, x), UNIT[:9] + 0.5)
    check_derivatives(lambda x: lax.betainc(1.7, 0.6, x), UNIT[:9] * 0.8 + 0.1)
    check_derivatives(lax.bessel_i0e, UNIT[:9] + 0.5)
    check_derivatives(lax.bessel_i1e, UNIT[:9] + 0.5)
    assert asgfn.grad(lax.bessel_i1e)(0.0) == 0.5


@pytest.mark.parametrize("a", [0.01, 0.5, 3.0, 30.0, 300.0, 5000.0])
def test_derivatives_in_the_shape(a):
    with asgfn.enable_x64():
        x = a * np.array([0.5, 0.9, 1.0, 1.1, 2.0])
        step = 1e-5 * a
        difference = (scipy.special.gammainc(a + step, x) - scipy.special.gammainc(a - step, x)) / (2 * step)
        shapes = np.full(5, a)
        np.testing.assert_allclose(lax.igamma_grad_a(shapes, x), difference, rtol=2e-5, atol=1e-11)
        density = scipy.stats.gamma.pdf(x, a)
        seen = density > 1e-30
        expected = -np.asarray(lax.igamma_grad_a(shapes, x))[seen] / density[seen]
        np.testing.assert_allclose(np.asarray(lax.random_gamma_grad(shapes, x))[seen], expected, rtol=1e-9)
        check_derivatives(lambda a: lax.igamma(a, x), np.full(5, a), order=1, tol=1e-4)


@pytest.mark.parametrize(
    "f",
    [
        lambda a: lax.zeta(a + 2, 1.5),
        lambda a: lax.polygamma(a, 1.5),
        lambda a: lax.betainc(a, 1.5, 0.5),
        lambda a: asgfn.grad(lambda b: lax.igamma(b, 1.5))(a),
        lambda a: lax.random_gamma_grad(a, 1.5),
    ],
)
def test_missing_derivatives_are_refused(f):
    with pytest.raises(TransformError, match="has no derivative with respect to"):
        asgfn.grad(f)(1.0)


def test_integers_are_refused_by_lax():
    with pytest.raises(DTypeError, match="lgamma"):
        lax.lgamma(np.array([1, 2]))


# ------------------------------------------------------------------------------------------ scipy.special
A, B = rng.uniform(0.3, 6, (2, 40)).astype(np.float32)
X = (rng.normal(size=40) * 3).astype(np.float32)
P = rng.uniform(0.01, 0.99, 40).astype(np.float32)

SPECIAL = {
    "gammaln": (X,),
    "gammasgn": (X,),
    "gamma": (A,),
    "factorial": (A,),
    "digamma": (X,),
    "erf": (X,),
    "erfc": (X,),
    "erfinv": (P,),
    "ndtr": (X,),
    "ndtri": (P,),
    "log_ndtr": (X * 5,),
    "expit": (X,),
    "logit": (P,),
    "entr": (A,),
    "i0": (X,),
    "i0e": (X,),
    "i1": (X,),
    "i1e": (X,),
    "loggamma": (A,),
    "beta": (A, B),
    "betaln": (A, B),
    "gammainc": (A, B),
    "gammaincc": (A, B),
    "betainc": (A, B, P),
    "xlogy": (A, B),
    "xlog1py": (A, B),
    "rel_entr": (A, B),
    "kl_div": (A, B),
    "boxcox": (A, X),
    "boxcox1p": (A, X),
    "poch": (A, B),
    "zeta": (A + 1, B),
    "softmax": (X,),
    "log_softmax": (X,),
    "logsumexp": (X,),
}


@pytest.mark.parametrize("name", SPECIAL)
def test_special(name):
    args = SPECIAL[name]
    expected = getattr(scipy.special, name)(*(a.astype(np.float64) for a in args))
    np.testing.assert_allclose(getattr(special, name)(*args), expected, rtol=2e-4, atol=1e-6)


def test_special_edges():
    zero, y = np.array([0, 0, 1, 2], np.float32), np.array([0, 2, 3, 0], np.float32)
    for name in ("xlogy", "xlog1py", "rel_entr", "kl_div"):
        close(getattr(special, name)(zero, y), getattr(scipy.special, name)(zero, y))
    close(special.entr(np.array([0, 1, -1], np.float32)), [0, 0, -np.inf])
    p = np.array([0, 1, -1, 2, 1e-30, 1e-5, 0.99999], np.float32)
    close(special.ndtri(p), scipy.special.ndtri(p.astype(np.float64)), 1e-4)
    x = np.array([-1e3, -40, -15, -10, -9.9, 5, 6, 40, 0])
    np.testing.assert_allclose(special.log_ndtr(x.astype(np.float32)), scipy.special.log_ndtr(x), rtol=2e-5)
    n, k = np.array([[5, 5, 5, 5, 10], [0, 2, 5, 6, 3]], np.float32)
    close(special.comb(n, k), scipy.special.comb(n, k), 1e-4)
    close(special.comb(n, k, repetition=True), scipy.special.comb(n, k, repetition=True), 1e-3)
    close(special.multigammaln(A + 2, 3), [scipy.special.multigammaln(a + 2, 3) for a in A], 1e-4)
    close(special.polygamma(2, A), scipy.special.polygamma(2, A), 1e-3)
    close(special.zeta(np.float32(2)), np.pi**2 / 6)
    close(special.factorial(np.array([0, 5, -1])), [1, 120, 0], 1e-4)
    with pytest.raises(NotImplementedError, match="exact"):
        special.factorial(5, exact=True)


def test_special_derivatives():
    p, x = P[:5].astype(np.float64), X[:5].astype(np.float64)
    check_derivatives(special.ndtri, p)
    check_derivatives(special.logit, p)
    check_derivatives(special.log_ndtr, x * 6, tol=1e-4)
    check_derivatives(special.xlogy, p, p[::-1])
    check_derivatives(special.xlog1py, p, p[::-1])
    check_derivatives(special.rel_entr, p, p[::-1])
    check_derivatives(special.boxcox, p, x)
    assert asgfn.grad(special.xlogy)(0.0, 2.0) == np.float32(np.log(2))


# ------------------------------------------------------------------------------------------ scipy.stats
COUNTS = rng.integers(0, 6, 40).astype(np.float32)
DISTRIBUTIONS = {
    "norm": (X,),
    "uniform": (X,),
    "expon": (X,),
    "laplace": (X,),
    "logistic": (X,),
    "cauchy": (X,),
    "gumbel_l": (X,),
    "gumbel_r": (X,),
    "pareto": (A + 0.5, B),
    "gamma": (X, B),
    "chi2": (X, B),
    "beta": (P * 1.4 - 0.2, A, B),
    "t": (X, A),
    "truncnorm": (X, np.float32(-1.5), np.float32(2.5)),
    "gennorm": (X / 3, A),
    "vonmises": (X, A),
    "wrapcauchy": (P * 6, P[::-1].copy()),
    "bernoulli": (COUNTS, P),
    "binom": (COUNTS, np.float32(4), P),
    "betabinom": (COUNTS, np.float32(4), A, B),
    "geom": (COUNTS, P),
    "nbinom": (COUNTS, A, P),
    "poisson": (COUNTS, A),
}
CONTINUOUS = ("logpdf", "pdf", "cdf", "logcdf", "sf", "logsf")


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_distributions(name):
    ours, theirs = getattr(stats, name), getattr(scipy.stats, name)
    args = DISTRIBUTIONS[name]
    wide = tuple(np.asarray(a, np.float64) for a in args)
    places = [((), {})]
    if name not in ("gennorm", "vonmises", "wrapcauchy"):
        places.append(((np.float32(1),) if hasattr(ours, "pmf") else (np.float32(0.25), np.float32(1.5)), {}))
    for function in (*CONTINUOUS, "pmf", "logpmf"):
        f = getattr(ours, function, None)
        for place, _ in places:
            if f is None or (name == "bernoulli" and function == "cdf" and place):
                continue
            actual, expected = np.asarray(f(*args, *place)), getattr(theirs, function)(*wide, *place)
            np.testing.assert_allclose(actual, expected, rtol=2e-4, atol=3e-6, err_msg=function)
    for function in ("ppf", "isf"):
        if hasattr(ours, function):
            actual = getattr(ours, function)(P, *args[1:])
            np.testing.assert_allclose(
                actual, getattr(theirs, function)(P.astype(np.float64), *wide[1:]), rtol=1e-4, atol=1e-6
            )


def test_multivariate_distributions():
    alpha = np.array([1.0, 2, 3])
    x = rng.dirichlet(alpha, size=5).T
    expected = scipy.stats.dirichlet.logpdf(x / x.sum(0), alpha)
    close(stats.dirichlet.logpdf(x.astype(np.float32), alpha.astype(np.float32)), expected, 1e-3)
    close(stats.dirichlet.logpdf(x[:2].astype(np.float32), alpha.astype(np.float32)), expected, 1e-3)
    assert stats.dirichlet.logpdf(np.ones(3, np.float32), alpha) == -np.inf
    counts = np.array([1, 2, 3])
    close(stats.multinomial.logpmf(counts, 6, alpha / 6), scipy.stats.multinomial.logpmf(counts, 6, alpha / 6), 1e-4)
    assert stats.multinomial.pmf(counts, 7, alpha / 6) == 0
    mean, cov = np.array([0.5, -1]), np.array([[2, 0.3], [0.3, 1]])
    x = rng.normal(size=(4, 2))
    f = stats.multivariate_normal.logpdf
    close(f(x, mean, cov), scipy.stats.multivariate_normal.logpdf(x, mean, cov), 1e-4)
    close(f(1.0, 0.5, 2.0), scipy.stats.norm.logpdf(1.0, 0.5, np.sqrt(2)), 1e-4)
    check_derivatives(lambda x, m, c: f(x, m, c + c.T), x, mean, cov)
    with pytest.raises(ShapeError, match="cov must be"):
        f(x, mean, np.eye(3))


def test_densities_have_derivatives():
    for name in ("norm", "laplace", "logistic", "cauchy", "gumbel_l", "gumbel_r", "vonmises", "t", "gamma", "expon"):
        extra = (np.full(5, 2.0),) if name in ("vonmises", "t", "gamma") else ()
        check_derivatives(getattr(stats, name).logpdf, A[:5].astype(np.float64), *extra)
    check_derivatives(stats.beta.logpdf, P[:5].astype(np.float64), np.full(5, 2.0), np.full(5, 3.0))
    check_derivatives(stats.norm.logcdf, X[:5].astype(np.float64))
    # outside of the support the density is flat
    assert asgfn.grad(lambda x: stats.gamma.logpdf(x, 2.0))(-1.0) == 0


def test_samples():
    d = rng.integers(0, 4, (5, 6)).astype(np.float32)
    for axis in (0, 1, None):
        for keepdims in (False, True):
            ours, theirs = stats.mode(d, axis, keepdims=keepdims), scipy.stats.mode(d, axis, keepdims=keepdims)
            close(ours.mode, theirs.mode)
            close(ours.count, theirs.count)
        close(stats.sem(d, axis), scipy.stats.sem(d, axis), 1e-4)
        for method in ("average", "min", "max", "dense", "ordinal"):
            expected = scipy.stats.rankdata(d, method, axis=axis)
            close(stats.rankdata(d, method, axis=axis), expected)
    with pytest.raises(ValueError, match="method"):
        stats.rankdata(d, "mean")


def test_poisson_entropy():
    mu = np.array([0.5, 3, 19, 21, 100])
    close(stats.poisson.entropy(mu), scipy.stats.poisson.entropy(mu), 1e-4)


# ------------------------------------------------------------------------------------------ scipy.linalg
def matrix(*shape: int, complex_: bool = False) -> np.ndarray:
    x = rng.normal(size=shape)
    return (x + 1j * rng.normal(size=shape)).astype(np.complex64) if complex_ else x.astype(np.float32)


@pytest.mark.parametrize("complex_", [False, True])
def test_solvers(complex_):
    a = matrix(4, 4, complex_=complex_) + 3 * np.eye(4, dtype=np.float32)
    spd = a @ a.conj().T
    for b in (matrix(4, complex_=complex_), matrix(4, 2, complex_=complex_)):
        close(linalg.solve(a, b), scipy.linalg.solve(a, b), 1e-3)
        for lower in (False, True):
            close(linalg.solve(spd, b, lower=lower, assume_a="pos"), scipy.linalg.solve(spd, b), 1e-3)
            close(linalg.cho_solve(linalg.cho_factor(spd, lower), b), scipy.linalg.solve(spd, b), 1e-3)
            for trans in (0, 1, 2, "N", "T", "C"):
                expected = scipy.linalg.solve_triangular(a, b, trans, lower)
                close(linalg.solve_triangular(a, b, trans, lower), expected, 1e-3)
        for trans in (0, 1, 2):
            expected = scipy.linalg.lu_solve(scipy.linalg.lu_factor(a), b, trans)
            close(linalg.lu_solve(linalg.lu_factor(a), b, trans), expected, 1e-3)
    close(linalg.inv(a), scipy.linalg.inv(a), 1e-3)
    np.testing.assert_allclose(linalg.det(a), scipy.linalg.det(a), rtol=1e-4)


@pytest.mark.parametrize("shape", [(4, 4), (5, 3), (3, 5)])
def test_decompositions(shape):
    a = matrix(*shape)
    for actual, expected in zip(linalg.lu(a), scipy.linalg.lu(a), strict=True):
        close(actual, expected, 1e-4)
    for actual, expected in zip(linalg.lu(a, permute_l=True), scipy.linalg.lu(a, permute_l=True), strict=True):
        close(actual, expected, 1e-4)
    for mode in ("full", "economic", "r"):
        for actual, expected in zip(linalg.qr(a, mode=mode), scipy.linalg.qr(a, mode=mode), strict=True):
            close(actual, expected, 1e-4)
    close(linalg.svd(a, compute_uv=False), scipy.linalg.svd(a, compute_uv=False), 1e-4)


@pytest.mark.parametrize("kind", [1, 2, 3])
def test_eigh(kind):
    a, b = matrix(4, 4, complex_=True), matrix(4, 4, complex_=True)
    a, b = a + a.conj().T, b @ b.conj().T + 4 * np.eye(4, dtype=np.complex64)
    w, v = linalg.eigh(a, b, type=kind)
    close(w, scipy.linalg.eigh(a, b, type=kind, eigvals_only=True), 1e-3)
    w, v = np.asarray(w), np.asarray(v)
    left, right = {1: (a @ v, b @ v * w), 2: (a @ b @ v, v * w), 3: (b @ a @ v, v * w)}[kind]
    close(left, right, 5e-3)
    close(linalg.eigh(np.tril(a), eigvals_only=True), scipy.linalg.eigh(a, eigvals_only=True), 1e-4)


@pytest.mark.parametrize("size", [0.0, 0.1, 1.0, 20.0])
def test_expm(size):
    a = matrix(2, 3, 3) * size
    np.testing.assert_allclose(
        linalg.expm(a), scipy.linalg.expm(a), rtol=2e-3, atol=1e-3 * np.abs(scipy.linalg.expm(a)).max()
    )
    upper = np.triu(matrix(3, 3))
    close(linalg.expm(upper, upper_triangular=True), scipy.linalg.expm(upper), 1e-4)
    with asgfn.enable_x64():
        np.testing.assert_allclose(
            linalg.expm(a.astype(np.float64)), scipy.linalg.expm(a.astype(np.float64)), rtol=1e-9, atol=1e-9
        )
    check_derivatives(linalg.expm, matrix(3, 3), tol=1e-4)


def test_special_matrices():
    c, r = matrix(3), matrix(4)
    for name in ("toeplitz", "hankel"):
        close(getattr(linalg, name)(c), getattr(scipy.linalg, name)(c))
        close(getattr(linalg, name)(c, r), getattr(scipy.linalg, name)(c, r))
    close(linalg.circulant(c), scipy.linalg.circulant(c))
    close(linalg.hilbert(3), scipy.linalg.hilbert(3))
    close(linalg.dft(4, "sqrtn"), scipy.linalg.dft(4, "sqrtn"))
    blocks = [matrix(2, 3), matrix(2), matrix(1, 1)]
    close(linalg.block_diag(*blocks), scipy.linalg.block_diag(*blocks))
