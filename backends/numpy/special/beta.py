"""The regularised incomplete beta function."""

from __future__ import annotations

import math

import numpy as np

from backends.numpy.special.gamma import lgamma
from backends.numpy.special.series import EPSILON, log1p_minus, piecewise, stirling_tail

_MAX_TERMS = 10_000


def regularized_incomplete_beta(a: np.ndarray, b: np.ndarray, x: np.ndarray) -> np.ndarray:
    """I_x(a, b): the integral of t^(a-1) (1-t)^(b-1) / B(a, b) from 0 to x; NaN outside 0 <= x <= 1, a, b >= 0."""
    regular = (a > 0) & (b > 0) & (a < np.inf) & (b < np.inf) & (x > 0) & (x < 1)
    result = piecewise((a, b, x), [(regular, _regular)])
    valid = (a >= 0) & (b >= 0) & (x >= 0) & (x <= 1)
    return np.where(valid & ~regular, _limit(a, b, x), result)


def _limit(a: np.ndarray, b: np.ndarray, x: np.ndarray) -> np.ndarray:
    """The beta distribution's limits: all mass at 0 (a = 0 or b infinite), at 1, or nothing to decide between them."""
    mass_at_zero = (a == 0) | (b == np.inf)
    mass_at_one = (b == 0) | (a == np.inf)
    inner = np.where(mass_at_zero & mass_at_one, np.nan, np.where(mass_at_zero, 1.0, 0.0))
    ends = np.where(x == 0, 0.0, 1.0)
    return np.where(mass_at_zero & mass_at_one, np.nan, np.where((x == 0) | (x == 1), ends, inner))


def _regular(a: np.ndarray, b: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Uses I_x(a, b) = 1 - I_{1-x}(b, a) to stay below the mean, where every term of the fraction is positive."""
    complement = 1 - x
    swap = a * complement < b * x
    first, second = np.where(swap, b, a), np.where(swap, a, b)
    point, rest = np.where(swap, complement, x), np.where(swap, x, complement)
    value = _prefactor(first, second, point, rest) / _continued_fraction(first, second, point, rest)
    return np.where(swap, 1 - value, value)


def _continued_fraction(a: np.ndarray, b: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """A. DiDonato and A. Morris, "Algorithm 708", ACM TOMS 18 (1992), by the modified Lentz algorithm."""
    below_mean = a * y - b * x
    fraction = a * (below_mean + 1) / (a + 1)
    c, d = fraction.copy(), np.zeros_like(x)
    for n in range(1, _MAX_TERMS):
        width = a + (2 * n - 1)
        product = n * (b - n) * x / width
        numerator = product * ((a + (n - 1)) * (a + b + (n - 1)) * x / width)
        denominator = n + product + (a + n) * (below_mean + 1 + n * (1 + y)) / (width + 2)
        d = 1 / (denominator + numerator * d)
        c = denominator + numerator / c
        step = c * d
        fraction *= step
        if np.all(np.abs(step - 1) <= 2 * EPSILON):
            break
    return fraction


def _prefactor(a: np.ndarray, b: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """x^a y^b / B(a, b) for x + y = 1."""
    large = (a >= 10) & (b >= 10)
    return piecewise((a, b, x, y), [(large, _prefactor_large), (~large, _prefactor_small)])


def _prefactor_large(a: np.ndarray, b: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """The saddle-point form: with u = x (a+b)/a - 1 and v = y (a+b)/b - 1, a u + b v = 0 drops out."""
    total = a + b
    excess = x * b - y * a
    exponent = a * log1p_minus(excess / a) + b * log1p_minus(-excess / b)
    corrections = stirling_tail(1 / total) - stirling_tail(1 / a) - stirling_tail(1 / b)
    return np.exp(exponent + corrections) * np.sqrt(a / (2 * math.pi)) * np.sqrt(b / total)


def _prefactor_small(a: np.ndarray, b: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    log_y = np.where(x < 0.5, np.log1p(-x), np.log(y))
    log_x = np.where(y < 0.5, np.log1p(-y), np.log(x))
    return np.exp(a * log_x + b * log_y - log_beta(a, b))


def log_beta(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """log B(a, b) for positive a and b, the smaller of which is below 10."""
    small, large = np.minimum(a, b), np.maximum(a, b)
    return lgamma(small) + piecewise(
        (small, large),
        [
            (large < 10, lambda s, t: lgamma(t) - lgamma(s + t)),
            (large >= 10, _lgamma_difference),
        ],
    )


def _lgamma_difference(small: np.ndarray, large: np.ndarray) -> np.ndarray:
    """lgamma(large) - lgamma(small + large) by Stirling's series, whose big terms cancel on paper."""
    total = small + large
    leading = small * (1 - np.log(total)) - (large - 0.5) * np.log1p(small / large)
    return leading + stirling_tail(1 / large) - stirling_tail(1 / total)
