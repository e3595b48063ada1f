"""`scipy.special` on asgfn arrays: element-wise functions, and `logsumexp` and `softmax`.

Operands broadcast; integers are converted to float.
"""

from __future__ import annotations

import math

import numpy as np

import asgfn.numpy as jnp
from asgfn import lax
from asgfn.custom_derivatives import custom_jvp
from asgfn.nn.softmax import log_softmax as log_softmax
from asgfn.nn.softmax import logsumexp as logsumexp
from asgfn.nn.softmax import softmax as softmax
from asgfn.numpy.arguments import ArrayLike, promote_args_inexact
from asgfn.primitives.normal_quantile import QUANTILE_CENTRE, QUANTILE_SHOULDER, QUANTILE_TAIL
from asgfn.tracing import Array


# ---------------------------------------------------------------------------------------------- gamma and beta
def gammaln(x: ArrayLike) -> Array:
    """log |Gamma(x)|."""
    return lax.lgamma(*promote_args_inexact("gammaln", x))


def loggamma(x: ArrayLike) -> Array:
    """log Gamma(x) of a real x; NaN where Gamma is negative."""
    (x,) = promote_args_inexact("loggamma", x)
    return jnp.where(gammasgn(x) < 0, np.nan, lax.lgamma(x))


def gammasgn(x: ArrayLike) -> Array:
    """The sign of Gamma(x): 1, -1, or NaN at the negative integers; that of x at zero."""
    (x,) = promote_args_inexact("gammasgn", x)
    floor = jnp.floor(x)
    negative = jnp.where(floor % 2 == 0, 1.0, -1.0)
    sign = jnp.where(x == 0, jnp.copysign(1.0, x), jnp.where(x > 0, 1.0, negative))
    return jnp.where(((x < 0) & (x == floor)) | jnp.isnan(x), np.nan, sign).astype(x.dtype)


def gamma(x: ArrayLike) -> Array:
    """The gamma function."""
    (x,) = promote_args_inexact("gamma", x)
    return gammasgn(x) * jnp.exp(lax.lgamma(x))


def factorial(n: ArrayLike, exact: bool = False) -> Array:
    """n! = Gamma(n + 1); 0 for negative n. `exact=True` (integers of any size) is not supported."""
    if exact:
        raise NotImplementedError("factorial: exact=True is not supported; use math.factorial for exact integers")
    (n,) = promote_args_inexact("factorial", n)
    return jnp.where(n < 0, 0, jnp.exp(lax.lgamma(n + 1)))


def digamma(x: ArrayLike) -> Array:
    """The derivative of `gammaln`."""
    return lax.digamma(*promote_args_inexact("digamma", x))


psi = digamma


def polygamma(n: ArrayLike, x: ArrayLike) -> Array:
    """The n-th derivative of `digamma`, for integers n >= 0."""
    return lax.polygamma(*_broadcast(*promote_args_inexact("polygamma", n, x)))


def multigammaln(a: ArrayLike, d: int) -> Array:
    """The logarithm of the multivariate gamma function of dimension d."""
    (a,) = promote_args_inexact("multigammaln", a)
    d = int(d)
    shifts = jnp.arange(d).astype(a.dtype) / 2
    return d * (d - 1) / 4 * math.log(math.pi) + jnp.sum(lax.lgamma(jnp.expand_dims(a, -1) - shifts), axis=-1)


def poch(z: ArrayLike, m: ArrayLike) -> Array:
    """The rising factorial Gamma(z + m) / Gamma(z)."""
    z, m = promote_args_inexact("poch", z, m)
    ratio = gammasgn(z + m) * gammasgn(z) * jnp.exp(lax.lgamma(z + m) - lax.lgamma(z))
    return jnp.where(m == 0, 1, ratio)


def comb(N: ArrayLike, k: ArrayLike, *, repetition: bool = False) -> Array:
    """The number of ways to choose k of N things (with repetition: k of N kinds); 0 outside 0 <= k <= N."""
    n, k = promote_args_inexact("comb", N, k)
    if repetition:
        return jnp.where((k == 0) & (n == 0), 1, comb(n + k - 1, k))
    inside = (k >= 0) & (k <= n)
    safe_n, safe_k = jnp.where(inside, n, 1), jnp.where(inside, k, 1)
    return jnp.where(inside, jnp.exp(-betaln(safe_n - safe_k + 1, safe_k + 1)) / (safe_n + 1), 0)


def betaln(a: ArrayLike, b: ArrayLike) -> Array:
    """log B(a, b) = log |Gamma(a) Gamma(b) / Gamma(a + b)|."""
    a, b = promote_args_inexact("betaln", a, b)
    return lax.lgamma(a) + lax.lgamma(b) - lax.lgamma(a + b)


def beta(a: ArrayLike, b: ArrayLike) -> Array:
    """The beta function Gamma(a) Gamma(b) / Gamma(a + b)."""
    a, b = promote_args_inexact("beta", a, b)
    return gammasgn(a) * gammasgn(b) * gammasgn(a + b) * jnp.exp(betaln(a, b))


def betainc(a: ArrayLike, b: ArrayLike, x: ArrayLike) -> Array:
    """The regularised incomplete beta function I_x(a, b); differentiable in x."""
    return lax.betainc(*_broadcast(*promote_args_inexact("betainc", a, b, x)))


def gammainc(a: ArrayLike, x: ArrayLike) -> Array:
    """The regularised lower incomplete gamma function P(a, x)."""
    return lax.igamma(*_broadcast(*promote_args_inexact("gammainc", a, x)))


def gammaincc(a: ArrayLike, x: ArrayLike) -> Array:
    """The regularised upper incomplete gamma function Q(a, x) = 1 - P(a, x)."""
    return lax.igammac(*_broadcast(*promote_args_inexact("gammaincc", a, x)))


def zeta(x: ArrayLike, q: ArrayLike | None = None) -> Array:
    """The Hurwitz zeta function, the sum of (q + k)^-x over k >= 0; Riemann's without q."""
    return lax.zeta(*_broadcast(*promote_args_inexact("zeta", x, 1.0 if q is None else q)))


def _broadcast(*args: Array) -> list[Array]:
    return jnp.broadcast_arrays(*args)


# ---------------------------------------------------------------------------------------------- error function, normal
def erf(x: ArrayLike) -> Array:
    """The error function."""
    return lax.erf(*promote_args_inexact("erf", x))


def erfc(x: ArrayLike) -> Array:
    """1 - erf(x)."""
    return lax.erfc(*promote_args_inexact("erfc", x))


def erfinv(x: ArrayLike) -> Array:
    """The inverse of the error function."""
    return lax.erf_inv(*promote_args_inexact("erfinv", x))


def ndtr(x: ArrayLike) -> Array:
    """The standard normal's cumulative probability at x."""
    (x,) = promote_args_inexact("ndtr", x)
    return 0.5 * lax.erfc(-x * math.sqrt(0.5))


@custom_jvp
def _ndtri(p: Array) -> Array:
    def ratio(table: tuple[tuple[float, ...], tuple[float, ...]], t: Array) -> Array:
        numerator, denominator = (jnp.polyval(jnp.array(c, t.dtype), t) for c in table)
        return numerator / denominator

    centred = p - 0.5
    tail = jnp.minimum(p, 1 - p)
    depth = jnp.sqrt(-jnp.log(jnp.where(tail > 0, tail, 1)))
    central = centred * ratio(QUANTILE_CENTRE, 0.180625 - centred * centred)
    outer = jnp.where(depth <= 5, ratio(QUANTILE_SHOULDER, depth - 1.6), ratio(QUANTILE_TAIL, depth - 5))
    x = jnp.where(jnp.abs(centred) <= 0.425, central, jnp.sign(centred) * outer)
    ends = jnp.where(p == 0, -np.inf, jnp.where(p == 1, np.inf, np.nan))
    return jnp.where((p > 0) & (p < 1), x, ends).astype(p.dtype)


@_ndtri.defjvp
def _ndtri_jvp(primals: tuple, tangents: tuple) -> tuple:
    """The quantile's slope is the reciprocal of the density."""
    (p,), (dp,) = primals, tangents
    x = _ndtri(p)
    return x, dp * (math.sqrt(2 * math.pi) * jnp.exp(0.5 * x * x))


def ndtri(p: ArrayLike) -> Array:
    """The standard normal's quantile: the inverse of `ndtr`."""
    return _ndtri(*promote_args_inexact("ndtri", p))


@custom_jvp
def _log_ndtr(x: Array) -> Array:
    lower = -20.0 if x.dtype == np.float64 else -10.0
    far = x < lower
    # Each branch sees a harmless argument where another one is taken.
    right = jnp.log1p(-ndtr(-jnp.maximum(x, 0)))
    middle = jnp.log(ndtr(jnp.clip(x, lower, 0)))
    left = jnp.where(far, x, lower)
    square = 1 / (left * left)
    # ndtr(x) = phi(x) / -x times 1 - 1/x^2 + 3/x^4 - 15/x^6 + ...
    series, term = jnp.ones_like(x), jnp.ones_like(x)
    for k in range(1, 10):
        term = term * square * -(2 * k - 1)
        series = series + term
    asymptotic = -0.5 * left * left - jnp.log(-left) - 0.5 * math.log(2 * math.pi) + jnp.log(series)
    return jnp.where(far, asymptotic, jnp.where(x > 0, right, middle))


@_log_ndtr.defjvp
def _log_ndtr_jvp(primals: tuple, tangents: tuple) -> tuple:
    """The density over the cumulative probability, both as logarithms."""
    (x,), (dx,) = primals, tangents
    value = _log_ndtr(x)
    return value, dx * jnp.exp(-0.5 * x * x - 0.5 * math.log(2 * math.pi) - value)


def log_ndtr(x: ArrayLike, series_order: int = 3) -> Array:
    """log(ndtr(x)), accurate in both tails. `series_order` is accepted for JAX's sake; the order here is fixed."""
    (x,) = promote_args_inexact("log_ndtr", x)
    return _log_ndtr(x)


# ---------------------------------------------------------------------------------------------- logistic
def expit(x: ArrayLike) -> Array:
    """1 / (1 + exp(-x))."""
    return lax.logistic(*promote_args_inexact("expit", x))


def logit(p: ArrayLike) -> Array:
    """log(p / (1 - p)), the inverse of `expit`."""
    (p,) = promote_args_inexact("logit", p)
    return jnp.log(p) - jnp.log1p(-p)


# ---------------------------------------------------------------------------------------------- x log y and entropies
@custom_jvp
def _xlogy(x: Array, y: Array) -> Array:
    at_zero = x == 0
    return jnp.where(at_zero, 0, x * jnp.log(jnp.where(at_zero, 1, y)))


@_xlogy.defjvp
def _xlogy_jvp(primals: tuple, tangents: tuple) -> tuple:
    (x, y), (dx, dy) = primals, tangents
    return _xlogy(x, y), dx * jnp.log(y) + dy * (x / y)


def xlogy(x: ArrayLike, y: ArrayLike) -> Array:
    """x log(y), and 0 where x is 0."""
    return _xlogy(*_broadcast(*promote_args_inexact("xlogy", x, y)))


@custom_jvp
def _xlog1py(x: Array, y: Array) -> Array:
    at_zero = x == 0
    return jnp.where(at_zero, 0, x * jnp.log1p(jnp.where(at_zero, 1, y)))


@_xlog1py.defjvp
def _xlog1py_jvp(primals: tuple, tangents: tuple) -> tuple:
    (x, y), (dx, dy) = primals, tangents
    return _xlog1py(x, y), dx * jnp.log1p(y) + dy * (x / (1 + y))


def xlog1py(x: ArrayLike, y: ArrayLike) -> Array:
    """x log(1 + y), and 0 where x is 0."""
    return _xlog1py(*_broadcast(*promote_args_inexact("xlog1py", x, y)))


def entr(x: ArrayLike) -> Array:
    """-x log(x), 0 at 0 and -inf for negative x."""
    (x,) = promote_args_inexact("entr", x)
    return jnp.where(x < 0, -np.inf, -xlogy(jnp.where(x < 0, 1, x), jnp.where(x < 0, 1, x)))


def rel_entr(p: ArrayLike, q: ArrayLike) -> Array:
    """p log(p / q) for positive p and q, 0 for p = 0 and q >= 0, inf otherwise."""
    p, q = _broadcast(*promote_args_inexact("rel_entr", p, q))
    positive, zero = (p > 0) & (q > 0), (p == 0) & (q >= 0)
    safe_p, safe_q = jnp.where(positive, p, 1), jnp.where(positive, q, 1)
    return jnp.where(zero, 0, jnp.where(positive, safe_p * (jnp.log(safe_p) - jnp.log(safe_q)), np.inf))


def kl_div(p: ArrayLike, q: ArrayLike) -> Array:
    """rel_entr(p, q) - p + q: convex, and zero where p = q."""
    p, q = _broadcast(*promote_args_inexact("kl_div", p, q))
    return rel_entr(p, q) - p + q


def boxcox(x: ArrayLike, lmbda: ArrayLike) -> Array:
    """(x^lmbda - 1) / lmbda, and log(x) at lmbda = 0."""
    x, lmbda = _broadcast(*promote_args_inexact("boxcox", x, lmbda))
    return _power_transform(jnp.log(x), lmbda)


def boxcox1p(x: ArrayLike, lmbda: ArrayLike) -> Array:
    """((1 + x)^lmbda - 1) / lmbda, and log(1 + x) at lmbda = 0."""
    x, lmbda = _broadcast(*promote_args_inexact("boxcox1p", x, lmbda))
    return _power_transform(jnp.log1p(x), lmbda)


def _power_transform(log_x: Array, power: Array) -> Array:
    at_zero = power == 0
    safe = jnp.where(at_zero, 1, power)
    return jnp.where(at_zero, log_x, jnp.expm1(safe * log_x) / safe)


# ---------------------------------------------------------------------------------------------- Bessel functions
def i0e(x: ArrayLike) -> Array:
    """exp(-|x|) I_0(x)."""
    return lax.bessel_i0e(*promote_args_inexact("i0e", x))


def i0(x: ArrayLike) -> Array:
    """The modified Bessel function of the first kind of order 0."""
    (x,) = promote_args_inexact("i0", x)
    return jnp.exp(jnp.abs(x)) * lax.bessel_i0e(x)


def i1e(x: ArrayLike) -> Array:
    """exp(-|x|) I_1(x)."""
    return lax.bessel_i1e(*promote_args_inexact("i1e", x))


def i1(x: ArrayLike) -> Array:
    """The modified Bessel function of the first kind of order 1."""
    (x,) = promote_args_inexact("i1", x)
    return jnp.exp(jnp.abs(x)) * lax.bessel_i1e(x)
