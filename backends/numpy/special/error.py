"""The error function, its complement and its inverse."""

from __future__ import annotations

import numpy as np

from asgfn.primitives.normal_quantile import QUANTILE_CENTRE, QUANTILE_SHOULDER, QUANTILE_TAIL
from backends.numpy.special.series import exponential_of_minus_square, piecewise, polynomial

# W. J. Cody, "Rational Chebyshev approximations for the error function", Math. Comp. 23 (1969).
_ERF_SMALL = (
    (
        1.85777706184603153e-1,
        3.16112374387056560e0,
        1.13864154151050156e2,
        3.77485237685302021e2,
        3.20937758913846947e3,
    ),
    (1.0, 2.36012909523441209e1, 2.44024637934444173e2, 1.28261652607737228e3, 2.84423683343917062e3),
)
_ERFC_MIDDLE = (
    (
        2.15311535474403846e-8,
        5.64188496988670089e-1,
        8.88314979438837594e0,
        6.61191906371416295e1,
        2.98635138197400131e2,
        8.81952221241769090e2,
        1.71204761263407058e3,
        2.05107837782607147e3,
        1.23033935479799725e3,
    ),
    (
        1.0,
        1.57449261107098347e1,
        1.17693950891312499e2,
        5.37181101862009858e2,
        1.62138957456669019e3,
        3.29079923573345963e3,
        4.36261909014324716e3,
        3.43936767414372164e3,
        1.23033935480374942e3,
    ),
)
_ERFC_LARGE = (
    (
        1.63153871373020978e-2,
        3.05326634961232344e-1,
        3.60344899949804439e-1,
        1.25781726111229246e-1,
        1.60837851487422766e-2,
        6.58749161529837803e-4,
    ),
    (
        1.0,
        2.56852019228982242e0,
        1.87295284992346725e0,
        5.27905102951428412e-1,
        6.05183413124413191e-2,
        2.33520497626869185e-3,
    ),
)
_INV_SQRT_PI = 0.56418958354775628695


def _ratio(x: np.ndarray, table: tuple[tuple[float, ...], tuple[float, ...]]) -> np.ndarray:
    numerator, denominator = table
    return polynomial(x, numerator) / polynomial(x, denominator)


def erf(x: np.ndarray) -> np.ndarray:
    """The error function, 2 / sqrt(pi) times the integral of exp(-t^2) from 0 to x."""
    magnitude = np.abs(x)
    return piecewise(
        (x,),
        [
            (magnitude <= 0.46875, _erf_small),
            ((magnitude > 0.46875) & (magnitude < 6), lambda v: np.copysign(1 - _erfc_positive(np.abs(v)), v)),
            (magnitude >= 6, np.sign),
        ],
    )


def erfc(x: np.ndarray) -> np.ndarray:
    """The complement 1 - erf(x), accurate where it is tiny."""
    return piecewise(
        (x,),
        [
            (np.abs(x) <= 0.46875, lambda v: 1 - _erf_small(v)),
            (x > 0.46875, _erfc_positive),
            (x < -0.46875, lambda v: 2 - _erfc_positive(-v)),
        ],
    )


def _erf_small(x: np.ndarray) -> np.ndarray:
    return x * _ratio(x * x, _ERF_SMALL)


def _erfc_positive(x: np.ndarray) -> np.ndarray:
    return piecewise((x,), [(x <= 4, _erfc_middle), ((x > 4) & (x < 28), _erfc_large)], default=0.0)


def _erfc_middle(x: np.ndarray) -> np.ndarray:
    return exponential_of_minus_square(x) * _ratio(x, _ERFC_MIDDLE)


def _erfc_large(x: np.ndarray) -> np.ndarray:
    inverse_square = 1 / (x * x)
    correction = inverse_square * _ratio(inverse_square, _ERFC_LARGE)
    return exponential_of_minus_square(x) * (_INV_SQRT_PI - correction) / x


def erf_inv(x: np.ndarray) -> np.ndarray:
    """The y with erf(y) = x; infinite at -1 and 1, NaN outside."""
    magnitude = np.abs(x)
    infinite = np.copysign(np.inf, x)
    inside = piecewise(
        (x,),
        [
            (magnitude <= 0.85, _erf_inv_centre),
            ((magnitude > 0.85) & (magnitude < 1), _erf_inv_tail),
        ],
    )
    return np.where(magnitude == 1, infinite, inside)


def _erf_inv_centre(x: np.ndarray) -> np.ndarray:
    # The normal quantile of (1 + x) / 2, whose distance from one half is x / 2.
    half = 0.5 * x
    return half * _ratio(0.180625 - half * half, QUANTILE_CENTRE) * np.sqrt(0.5)


def _erf_inv_tail(x: np.ndarray) -> np.ndarray:
    depth = np.sqrt(-np.log(0.5 * (1 - np.abs(x))))
    quantile = piecewise(
        (depth,),
        [
            (depth <= 5, lambda r: _ratio(r - 1.6, QUANTILE_SHOULDER)),
            (depth > 5, lambda r: _ratio(r - 5, QUANTILE_TAIL)),
        ],
    )
    return np.copysign(quantile * np.sqrt(0.5), x)
