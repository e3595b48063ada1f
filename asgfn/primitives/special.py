"""Special functions of real floating-point arrays, element by element: error, gamma, beta, zeta and Bessel functions.

Derivatives that have no closed form in functions of this file are refused with a message, never taken as zero.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from asgfn.errors import TransformError
from asgfn.primitives.base import FLOAT, Primitive, elementwise
from asgfn.primitives.elementwise import add, div, eq, mul, neg, select_n, sign, sub
from asgfn.primitives.shaping import full_like
from asgfn.primitives.transcendental import exp, log, log1p
from asgfn.tracing import Array, bind


def _number(value: float, like: Any) -> Array:
    """A rank-0 constant in the dtype of `like`."""
    return full_like(like, value, shape=())


def _refuse(name: str, argument: str) -> Callable:
    def derivative(*_: Any, **__: Any) -> Any:
        raise TransformError(
            f"{name} has no derivative with respect to {argument} (none is known in closed form); "
            f"if {argument} is meant as a constant, wrap it in lax.stop_gradient"
        )

    return derivative


def _special(name: str, arity: int, jvp: list[Callable | None], what: str, formula: str, why: str) -> Primitive:
    return elementwise(
        name, arity, kinds=FLOAT, jvp=jvp, category="transcendental", what=what, formula=formula, why=why
    )


# ---------------------------------------------------------------------------------------------- error functions
def _bell(g: Any, x: Any, scale: float) -> Any:
    """g times scale * exp(-x^2)."""
    return mul(_number(scale, x), mul(g, exp(neg(mul(x, x)))))


erf_p = _special(
    "erf",
    1,
    [lambda g, y, x: _bell(g, x, 2 / math.sqrt(math.pi))],
    what="The error function.",
    formula="y = 2/sqrt(pi) * integral of exp(-t^2) from 0 to x",
    why="The normal distribution's cumulative probability; exact GELU.",
)
erfc_p = _special(
    "erfc",
    1,
    [lambda g, y, x: _bell(g, x, -2 / math.sqrt(math.pi))],
    what="One minus the error function, accurate where that is tiny.",
    formula="y = 1 - erf(x)",
    why="Tail probabilities.",
)
erf_inv_p = _special(
    "erf_inv",
    1,
    [lambda g, y, x: mul(_number(math.sqrt(math.pi) / 2, x), mul(g, exp(mul(y, y))))],
    what="The inverse of the error function.",
    formula="erf(y) = x",
    why="Turns uniform random numbers into normal ones; quantiles.",
)


def erf(x: Any) -> Array:
    """The error function of a real floating-point array."""
    return bind(erf_p, x)


def erfc(x: Any) -> Array:
    """The complementary error function, 1 - erf(x)."""
    return bind(erfc_p, x)


def erf_inv(x: Any) -> Array:
    """The inverse error function; infinite at -1 and 1, NaN outside [-1, 1]."""
    return bind(erf_inv_p, x)


# ---------------------------------------------------------------------------------------------- gamma functions
lgamma_p = _special(
    "lgamma",
    1,
    [lambda g, y, x: mul(g, digamma(x))],
    what="Logarithm of the magnitude of the gamma function.",
    formula="y = log |Gamma(x)|",
    why="Factorials and binomials without overflow; gamma, beta and Poisson likelihoods.",
)
digamma_p = _special(
    "digamma",
    1,
    [lambda g, y, x: mul(g, polygamma(_number(1, x), x))],
    what="Derivative of the logarithm of the gamma function.",
    formula="y = Gamma'(x) / Gamma(x)",
    why="Gradients of gamma, beta and Dirichlet likelihoods.",
)
polygamma_p = _special(
    "polygamma",
    2,
    [
        _refuse("polygamma", "its order m"),
        lambda g, y, m, x: mul(g, polygamma(add(m, _number(1, m)), x)),
    ],
    what="The m-th derivative of digamma.",
    formula="y = (-1)^(m+1) m! zeta(m+1, x)",
    why="Second derivatives of gamma-family likelihoods.",
)
zeta_p = _special(
    "zeta",
    2,
    [
        _refuse("zeta", "its exponent x"),
        lambda g, y, x, q: mul(g, mul(neg(x), zeta(add(x, _number(1, x)), q))),
    ],
    what="The Hurwitz zeta function.",
    formula="y = sum over k >= 0 of (q + k)^-x",
    why="Power-law (Zipf) normalisation; polygamma functions.",
)


def lgamma(x: Any) -> Array:
    """log |Gamma(x)|; infinite at 0, -1, -2, ...."""
    return bind(lgamma_p, x)


def digamma(x: Any) -> Array:
    """The derivative of `lgamma`; NaN at 0, -1, -2, ...."""
    return bind(digamma_p, x)


def polygamma(m: Any, x: Any) -> Array:
    """The m-th derivative of `digamma`, for non-negative integers m given as floats (NaN for others)."""
    return bind(polygamma_p, m, x)


def zeta(x: Any, q: Any) -> Array:
    """The Hurwitz zeta function, the sum of (q + k)^-x over k >= 0, for x > 1."""
    return bind(zeta_p, x, q)


# ---------------------------------------------------------------------------------------------- incomplete functions
def _gamma_density(a: Any, x: Any) -> Any:
    """x^(a-1) exp(-x) / Gamma(a): the derivative of igamma in x."""
    return exp(sub(sub(mul(sub(a, _number(1, a)), log(x)), x), lgamma(a)))


igamma_p = _special(
    "igamma",
    2,
    [
        lambda g, y, a, x: mul(g, igamma_grad_a(a, x)),
        lambda g, y, a, x: mul(g, _gamma_density(a, x)),
    ],
    what="The regularised lower incomplete gamma function.",
    formula="y = integral of t^(a-1) exp(-t) / Gamma(a) from 0 to x",
    why="Cumulative probabilities of gamma, chi-squared and Poisson distributions.",
)
igammac_p = _special(
    "igammac",
    2,
    [
        lambda g, y, a, x: mul(g, neg(igamma_grad_a(a, x))),
        lambda g, y, a, x: mul(g, neg(_gamma_density(a, x))),
    ],
    what="The regularised upper incomplete gamma function.",
    formula="y = 1 - igamma(a, x)",
    why="Survival functions of gamma, chi-squared and Poisson distributions.",
)
igamma_grad_a_p = _special(
    "igamma_grad_a",
    2,
    [
        _refuse("igamma_grad_a", "a"),
        lambda g, y, a, x: mul(g, mul(_gamma_density(a, x), sub(log(x), digamma(a)))),
    ],
    what="Derivative of the lower incomplete gamma function in its shape.",
    formula="y = d igamma(a, x) / da",
    why="Fits the shape of gamma distributions by cumulative probabilities.",
)
random_gamma_grad_p = _special(
    "random_gamma_grad",
    2,
    [_refuse("random_gamma_grad", "a"), _refuse("random_gamma_grad", "sample")],
    what="Derivative of a gamma sample in the shape, at a fixed quantile.",
    formula="y = -(d igamma(a, x) / da) / (d igamma(a, x) / dx)",
    why="Differentiates through gamma, beta and Dirichlet samples (implicit reparameterisation).",
)


def _beta_density(a: Any, b: Any, x: Any) -> Any:
    """x^(a-1) (1-x)^(b-1) / B(a, b): the derivative of betainc in x."""
    one = _number(1, x)
    log_beta = sub(add(lgamma(a), lgamma(b)), lgamma(add(a, b)))
    return exp(sub(add(mul(sub(b, one), log1p(neg(x))), mul(sub(a, one), log(x))), log_beta))


regularized_incomplete_beta_p = _special(
    "regularized_incomplete_beta",
    3,
    [
        _refuse("betainc", "a"),
        _refuse("betainc", "b"),
        lambda g, y, a, b, x: mul(g, _beta_density(a, b, x)),
    ],
    what="The regularised incomplete beta function.",
    formula="y = integral of t^(a-1) (1-t)^(b-1) / B(a, b) from 0 to x",
    why="Cumulative probabilities of beta, Student t, F and binomial distributions.",
)


def igamma(a: Any, x: Any) -> Array:
    """The regularised lower incomplete gamma function P(a, x); NaN for negative a or x."""
    return bind(igamma_p, a, x)


def igammac(a: Any, x: Any) -> Array:
    """The regularised upper incomplete gamma function Q(a, x) = 1 - P(a, x)."""
    return bind(igammac_p, a, x)


def igamma_grad_a(a: Any, x: Any) -> Array:
    """The derivative of `igamma` with respect to a."""
    return bind(igamma_grad_a_p, a, x)


def random_gamma_grad(a: Any, x: Any) -> Array:
    """The derivative of a sample x of the Gamma(a) distribution with respect to a (Figurnov et al., 2018)."""
    return bind(random_gamma_grad_p, a, x)


def betainc(a: Any, b: Any, x: Any) -> Array:
    """The regularised incomplete beta function I_x(a, b); NaN outside 0 <= x <= 1. Differentiable in x."""
    return bind(regularized_incomplete_beta_p, a, b, x)


regularized_incomplete_beta = betainc

# ---------------------------------------------------------------------------------------------- Bessel functions
bessel_i0e_p = _special(
    "bessel_i0e",
    1,
    [lambda g, y, x: mul(g, sub(bessel_i1e(x), mul(sign(x), y)))],
    what="Modified Bessel function of order 0, exponentially scaled.",
    formula="y = exp(-|x|) I_0(x)",
    why="The von Mises distribution's normaliser; Kaiser windows.",
)


def _i1e_derivative(g: Any, y: Any, x: Any) -> Any:
    """exp(-|x|) (I_0(x) - I_1(x) / x) - sign(x) i1e(x), where I_1(x) / x tends to 1/2 at zero."""
    at_zero = eq(x, _number(0, x))
    safe = select_n(at_zero, x, _number(1, x))
    slope = sub(bessel_i0e(safe), mul(y, add(sign(safe), div(_number(1, x), safe))))
    return mul(g, select_n(at_zero, slope, _number(0.5, x)))


bessel_i1e_p = _special(
    "bessel_i1e",
    1,
    [_i1e_derivative],
    what="Modified Bessel function of order 1, exponentially scaled.",
    formula="y = exp(-|x|) I_1(x)",
    why="The von Mises distribution's mean; derivative of bessel_i0e.",
)


def bessel_i0e(x: Any) -> Array:
    """exp(-|x|) I_0(x), the exponentially scaled modified Bessel function of order 0."""
    return bind(bessel_i0e_p, x)


def bessel_i1e(x: Any) -> Array:
    """exp(-|x|) I_1(x), the exponentially scaled modified Bessel function of order 1."""
    return bind(bessel_i1e_p, x)
