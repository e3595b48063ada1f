"""The regularised incomplete gamma functions P and Q and their derivative in the shape parameter.

Four expansions cover the quarter plane a > 0, x >= 0:
* the power series of P where x <= a + 1,
* the power series of Q where x <= 1.1 and a < 1, where 1 - P would cancel,
* Legendre's continued fraction of Q for the rest,
* Temme's uniform expansion around the transition x ~ a for large a, where the others converge slowly.
"""

from __future__ import annotations

import functools
from fractions import Fraction

import numpy as np

from backends.numpy.special.error import erfc
from backends.numpy.special.gamma import DIGAMMA_TAIL, digamma, lgamma, lgamma_of_one_plus
from backends.numpy.special.series import EPSILON, log1p_minus, piecewise, polynomial, stirling_error, stirling_tail

_UNIFORM_FROM = 100.0
_UNIFORM_WIDTH = 0.4
_MAX_TERMS = 2000


def igamma(a: np.ndarray, x: np.ndarray) -> np.ndarray:
    """P(a, x): the integral of t^(a-1) exp(-t) / Gamma(a) from 0 to x."""
    return _in_domain(a, x, _lower, at_zero=0.0, at_infinity=1.0)


def igammac(a: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Q(a, x) = 1 - P(a, x), accurate where it is tiny."""
    return _in_domain(a, x, _upper, at_zero=1.0, at_infinity=0.0)


def igamma_grad_a(a: np.ndarray, x: np.ndarray) -> np.ndarray:
    """The derivative of P(a, x) in a."""
    inside = (a > 0) & (x > 0) & (x < np.inf) & (a < np.inf)
    result = piecewise((a, x), [(inside, _derivative)])
    flat = (a > 0) & ((x == 0) | (x == np.inf))
    return np.where(flat, 0.0, result)


def random_gamma_grad(a: np.ndarray, x: np.ndarray) -> np.ndarray:
    """The derivative in a of a Gamma(a) sample x at a fixed quantile: -(dP/da) / (dP/dx)."""
    inside = (a > 0) & (x > 0) & (x < np.inf) & (a < np.inf)
    result = piecewise((a, x), [(inside, _sample_derivative)])
    return np.where((a > 0) & (x == 0), 0.0, result)


def _in_domain(a, x, function, at_zero: float, at_infinity: float) -> np.ndarray:
    inside = (a > 0) & (x > 0) & (x < np.inf) & (a < np.inf)
    result = piecewise((a, x), [(inside, function)])
    result = np.where((a > 0) & (x == 0), at_zero, result)
    result = np.where((a > 0) & (a < np.inf) & (x == np.inf), at_infinity, result)
    result = np.where((a == np.inf) & (x >= 0) & (x < np.inf), at_zero, result)
    return np.where((a == 0) & (x > 0), at_infinity, result)


def _regions(a: np.ndarray, x: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    uniform = (a >= _UNIFORM_FROM) & (np.abs(x - a) <= _UNIFORM_WIDTH * a)
    small = ~uniform & (x <= 1.1) & (a < 1)
    series = ~uniform & ~small & (x <= a + 1)
    return uniform, small, series, ~(uniform | small | series)


def _lower(a: np.ndarray, x: np.ndarray) -> np.ndarray:
    uniform, small, series, fraction = _regions(a, x)
    return piecewise(
        (a, x),
        [
            (uniform, lambda a, x: _uniform(a, x, upper=False)),
            (small | series, lambda a, x: _prefactor(a, x) * _power_series(a, x)[0]),
            (fraction, lambda a, x: 1 - a * _prefactor(a, x) * _continued_fraction(a, x)[0]),
        ],
    )


def _upper(a: np.ndarray, x: np.ndarray) -> np.ndarray:
    uniform, small, series, fraction = _regions(a, x)
    return piecewise(
        (a, x),
        [
            (uniform, lambda a, x: _uniform(a, x, upper=True)),
            (small, _upper_small),
            (series, lambda a, x: 1 - _prefactor(a, x) * _power_series(a, x)[0]),
            (fraction, lambda a, x: a * _prefactor(a, x) * _continued_fraction(a, x)[0]),
        ],
    )


def _derivative(a: np.ndarray, x: np.ndarray) -> np.ndarray:
    return _prefactor(a, x) * _scaled_derivative(a, x)


def _sample_derivative(a: np.ndarray, x: np.ndarray) -> np.ndarray:
    """dP/dx is x^(a-1) exp(-x) / Gamma(a), a / x times the prefactor, which therefore cancels."""
    return -_scaled_derivative(a, x) * x / a


def _scaled_derivative(a: np.ndarray, x: np.ndarray) -> np.ndarray:
    """dP/da divided by the prefactor x^a exp(-x) / Gamma(a + 1)."""
    uniform, small, series, fraction = _regions(a, x)
    return piecewise(
        (a, x),
        [
            (uniform, _uniform_derivative),
            (small | series, _series_derivative),
            (fraction, _fraction_derivative),
        ],
    )


def _prefactor(a: np.ndarray, x: np.ndarray) -> np.ndarray:
    """x^a exp(-x) / Gamma(a + 1) without the cancellation of its large factors."""
    return piecewise((a, x), [(a < 10, _prefactor_small), (a >= 10, _prefactor_large)])


def _prefactor_small(a: np.ndarray, x: np.ndarray) -> np.ndarray:
    bounded = np.minimum(x, 1000.0)  # exp(-1000) is zero already, and the power must not overflow
    return bounded**a * np.exp(-bounded) / np.exp(lgamma(a + 1))


def _prefactor_large(a: np.ndarray, x: np.ndarray) -> np.ndarray:
    """C. Loader's saddle-point form, "Fast and accurate computation of binomial probabilities" (2000)."""
    return np.exp(a * log1p_minus((x - a) / a) - stirling_error(a)) / np.sqrt(2 * np.pi * a)


def _power_series(a: np.ndarray, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The sum of x^n / ((a+1) ... (a+n)) and its derivative in a."""
    term, total = np.ones_like(x), np.ones_like(x)
    slope, total_slope = np.zeros_like(x), np.zeros_like(x)
    for n in range(1, _MAX_TERMS):
        ratio = x / (a + n)
        slope = (slope - term / (a + n)) * ratio
        term = term * ratio
        total += term
        total_slope += slope
        if np.all((term <= EPSILON * total) & (np.abs(slope) <= EPSILON * np.abs(total_slope))):
            break
    return total, total_slope


def _continued_fraction(a: np.ndarray, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The h of Q = x^a exp(-x) / Gamma(a) h, and d log(h) / da, by the modified Lentz algorithm (DLMF 8.9.2)."""
    b = x + 1 - a
    c, c_slope = np.full_like(x, np.inf), np.zeros_like(x)
    d = 1 / b
    d_slope = d * d
    h, log_slope = d.copy(), d_slope / d
    for n in range(1, _MAX_TERMS):
        numerator = n * (a - n)
        b = b + 2
        # Slopes first: they need the previous c and d. The numerator's slope is n, that of b is -1.
        c_next = b + numerator / c
        c_slope = -1 + n / c - numerator * c_slope / (c * c)
        d_next = 1 / (numerator * d + b)
        d_slope = -(n * d + numerator * d_slope - 1) * d_next * d_next
        c, d = c_next, d_next
        step = c * d
        step_slope = c_slope / c + d_slope / d
        h *= step
        log_slope += step_slope
        if np.all((np.abs(step - 1) <= EPSILON) & (np.abs(step_slope) <= EPSILON * (1 + np.abs(log_slope)))):
            break
    return h, log_slope


def _upper_small(a: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Q for small a and x, from x^a / Gamma(a+1) = 1 + expm1(...) and the alternating series of P."""
    log_gamma = piecewise((a,), [(a <= 0.5, lgamma_of_one_plus), (a > 0.5, lambda v: lgamma(v + 1))])
    exponent = a * np.log(x) - log_gamma
    power, total = np.ones_like(x), np.zeros_like(x)
    for n in range(1, 30):
        power = power * (-x / n)
        total += power * (a / (a + n))
    return -np.expm1(exponent) - np.exp(exponent) * total


def _series_derivative(a: np.ndarray, x: np.ndarray) -> np.ndarray:
    total, slope = _power_series(a, x)
    return total * (np.log(x / a) - _digamma_minus_log(a) - 1 / a) + slope


def _fraction_derivative(a: np.ndarray, x: np.ndarray) -> np.ndarray:
    h, log_slope = _continued_fraction(a, x)
    return -a * h * (np.log(x / a) - _digamma_minus_log(a) + log_slope)


def _digamma_minus_log(a: np.ndarray) -> np.ndarray:
    return piecewise((a,), [(a < 10, lambda v: digamma(v) - np.log(v)), (a >= 10, _digamma_minus_log_large)])


def _digamma_minus_log_large(a: np.ndarray) -> np.ndarray:
    return -0.5 / a - polynomial(1 / (a * a), DIGAMMA_TAIL)


# Temme's expansion: N. M. Temme, "The asymptotic expansion of the incomplete gamma functions", SIAM J. Math. Anal.
# 10 (1979); DLMF 8.12. Orders in 1/a and in eta that reach 1e-17 for a >= 100 and |x/a - 1| <= 0.4.
_ORDERS = 9
_POWERS = 22


@functools.cache
def _temme_table() -> tuple[tuple[float, ...], ...]:
    """Taylor coefficients in eta of each c_k, highest power first.

    mu = x/a - 1 as a series in eta solves mu mu' = eta (1 + mu). Then c_0 = 1/mu - 1/eta, and
    c_k = c'_{k-1} / eta + g_k / mu with the constant g_k that cancels the pole at eta = 0.
    """
    size = _POWERS + 2 * _ORDERS + 2
    mu = [Fraction(0), Fraction(1)]
    for n in range(2, size + 2):
        # The coefficient of eta^n in mu mu' = eta + eta mu, solved for mu_n, which enters (n + 1) times.
        known = sum((mu[j] * mu[n + 1 - j] * (n + 1 - j) for j in range(2, n)), Fraction(0))
        mu.append((mu[n - 1] - known) / (n + 1))
    quotient = mu[1:]
    inverse = [Fraction(1)]
    for n in range(1, size + 1):
        inverse.append(-sum((quotient[j] * inverse[n - j] for j in range(1, n + 1)), Fraction(0)))
    first = inverse[1:]
    rows, current = [], first
    for _ in range(_ORDERS):
        rows.append(tuple(float(value) for value in current[:_POWERS][::-1]))
        current = [(n + 2) * current[n + 2] - current[1] * first[n] for n in range(len(current) - 2)]
    return tuple(rows)


def _eta(a: np.ndarray, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """mu = x/a - 1 and eta with eta^2 / 2 = mu - log(1 + mu) and the sign of mu."""
    mu = (x - a) / a
    return mu, np.copysign(np.sqrt(-2 * log1p_minus(mu)), mu)


def _uniform(a: np.ndarray, x: np.ndarray, upper: bool) -> np.ndarray:
    _, eta = _eta(a, x)
    side = 1.0 if upper else -1.0
    remainder = np.zeros_like(a)
    for row in reversed(_temme_table()):
        remainder = remainder / a + polynomial(eta, row)
    remainder *= np.exp(-0.5 * a * eta * eta) / np.sqrt(2 * np.pi * a)
    return 0.5 * erfc(side * eta * np.sqrt(0.5 * a)) + side * remainder


def _uniform_derivative(a: np.ndarray, x: np.ndarray) -> np.ndarray:
    """The derivative of the uniform expansion of P in a, over the prefactor exp(-a eta^2/2 - ...) / sqrt(2 pi a)."""
    mu, eta = _eta(a, x)
    table = _temme_table()
    mu_over_eta = 1 / (1 + eta * polynomial(eta, table[0]))
    eta_slope = -mu_over_eta / a
    total, total_slope = np.zeros_like(a), np.zeros_like(a)
    for order, row in enumerate(table):
        value = polynomial(eta, row)
        powers = len(row) - 1
        slope = polynomial(eta, [c * (powers - j) for j, c in enumerate(row[:-1])])
        scale = a**-order
        total += value * scale
        total_slope += scale * (slope * eta_slope - order * value / a)
    # P = erfc(-eta sqrt(a/2)) / 2 - R. The first part's slope over exp(-a eta^2/2) / sqrt(2 pi a):
    bell = a * eta_slope + 0.5 * eta
    remainder = total_slope + total * (-0.5 / a - (0.5 * eta * eta - mu))
    return (bell - remainder) * np.exp(stirling_tail(1 / a))
