"""The error function, its complement and its inverse."""

from __future__ import annotations

import numpy as np

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

# M. J. Wichura, "Algorithm AS 241: the percentage points of the normal distribution", Applied Statistics 37 (1988).
_QUANTILE_CENTRE = (
    (
        2.5090809287301226727e3,
        3.3430575583588128105e4,
        6.7265770927008700853e4,
        4.5921953931549871457e4,
        1.3731693765509461125e4,
        1.9715909503065514427e3,
        1.3314166789178437745e2,
        3.3871328727963666080e0,
    ),
    (
        5.2264952788528545610e3,
        2.8729085735721942674e4,
        3.9307895800092710610e4,
        2.1213794301586595867e4,
        5.3941960214247511077e3,
        6.8718700749205790830e2,
        4.2313330701600911252e1,
        1.0,
    ),
)
_QUANTILE_SHOULDER = (
    (
        7.74545014278341407640e-4,
        2.27238449892691845833e-2,
        2.41780725177450611770e-1,
        1.27045825245236838258e0,
        3.64784832476320460504e0,
        5.76949722146069140550e0,
        4.63033784615654529590e0,
        1.42343711074968357734e0,
    ),
    (
        1.05075007164441684324e-9,
        5.47593808499534494600e-4,
        1.51986665636164571966e-2,
        1.48103976427480074590e-1,
        6.89767334985100004550e-1,
        1.67638483018380384940e0,
        2.05319162663775882187e0,
        1.0,
    ),
)
_QUANTILE_TAIL = (
    (
        2.01033439929228813265e-7,
        2.71155556874348757815e-5,
        1.24266094738807843860e-3,
        2.65321895265761230930e-2,
        2.96560571828504891230e-1,
        1.78482653991729133580e0,
        5.46378491116411436990e0,
        6.65790464350110377720e0,
    ),
    (
        2.04426310338993978564e-15,
        1.42151175831644588870e-7,
        1.84631831751005468180e-5,
        7.86869131145613259100e-4,
        1.48753612908506148525e-2,
        1.36929880922735805310e-1,
        5.99832206555887937690e-1,
        1.0,
    ),
)


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
    return half * _ratio(0.180625 - half * half, _QUANTILE_CENTRE) * np.sqrt(0.5)


def _erf_inv_tail(x: np.ndarray) -> np.ndarray:
    depth = np.sqrt(-np.log(0.5 * (1 - np.abs(x))))
    quantile = piecewise(
        (depth,),
        [
            (depth <= 5, lambda r: _ratio(r - 1.6, _QUANTILE_SHOULDER)),
            (depth > 5, lambda r: _ratio(r - 5, _QUANTILE_TAIL)),
        ],
    )
    return np.copysign(quantile * np.sqrt(0.5), x)
