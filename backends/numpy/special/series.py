"""Small tools shared by the special functions: Horner's rule, piecewise evaluation, careful differences."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

EPSILON = float(np.finfo(np.float64).eps)

Branch = tuple[np.ndarray, Callable[..., np.ndarray]]


def polynomial(x: np.ndarray, coefficients: Sequence[float]) -> np.ndarray:
    """Evaluates a polynomial by Horner's rule; `coefficients` run from the highest power to the constant."""
    result = np.full_like(x, coefficients[0])
    for coefficient in coefficients[1:]:
        result *= x
        result += coefficient
    return result


def piecewise(operands: tuple[np.ndarray, ...], branches: Sequence[Branch], default: float = np.nan) -> np.ndarray:
    """Evaluates each function on the elements its mask selects; elements that no mask selects become `default`."""
    result = np.full(operands[0].shape, default)
    for mask, function in branches:
        if mask.all():
            return function(*operands)
        if mask.any():
            result[mask] = function(*(operand[mask] for operand in operands))
    return result


def log1p_minus(u: np.ndarray) -> np.ndarray:
    """log(1 + u) - u without the cancellation near zero.

    With s = u / (2 + u), log(1 + u) = 2 artanh(s) and u = 2s / (1 - s), hence
    log(1 + u) - u = -s u + 2 (s^3/3 + s^5/5 + ...).
    """
    return piecewise((u,), [(np.abs(u) < 0.4, _log1p_minus_small), (np.abs(u) >= 0.4, lambda v: np.log1p(v) - v)])


def _log1p_minus_small(u: np.ndarray) -> np.ndarray:
    s = u / (2 + u)
    square = s * s
    # |s| <= 1/4, so thirteen terms reach 1e-17 of the leading one.
    tail = polynomial(square, [1 / k for k in range(27, 1, -2)])
    return s * (2 * square * tail - u)


def stirling_error(x: np.ndarray) -> np.ndarray:
    """log Gamma(x + 1) - (x + 1/2) log x + x - log(2 pi) / 2 for x >= 10 (the tail of Stirling's series)."""
    return stirling_tail(1 / x)


def stirling_tail(reciprocal: np.ndarray) -> np.ndarray:
    """The sum of B_2k / (2k (2k-1) x^(2k-1)), given 1/x for x >= 10."""
    return reciprocal * polynomial(reciprocal * reciprocal, _STIRLING)


_STIRLING = (
    -3617 / 122400,
    1 / 156,
    -691 / 360360,
    1 / 1188,
    -1 / 1680,
    1 / 1260,
    -1 / 360,
    1 / 12,
)


def exponential_of_minus_square(x: np.ndarray) -> np.ndarray:
    """exp(-x^2) to full relative accuracy: the square is split so that its rounding error is not amplified."""
    head = np.trunc(x * 16) / 16
    rest = (x - head) * (x + head)
    return np.exp(-head * head) * np.exp(-rest)
