"""Exponentially scaled modified Bessel functions of the first kind, orders 0 and 1."""

from __future__ import annotations

import math

import numpy as np

from backends.numpy.special.series import piecewise, polynomial

_SPLIT = 20.0


def _power_series(order: int) -> list[float]:
    """Coefficients of I_n(x) / (x/2)^n in powers of (x/2)^2, highest first: 1 / (k! (k + n)!)."""
    return [1 / (math.factorial(k) * math.factorial(k + order)) for k in range(50, -1, -1)]


def _asymptotic_series(order: int) -> list[float]:
    """Coefficients of sqrt(2 pi x) exp(-x) I_n(x) in powers of 1/x, highest first (DLMF 10.40.1).

    For x > 20 the terms shrink until the twentieth and are below 1e-17 there.
    """
    terms = [1.0]
    for k in range(1, 26):
        terms.append(-terms[-1] * (4 * order**2 - (2 * k - 1) ** 2) / (8 * k))
    return terms[::-1]


_POWER = {order: _power_series(order) for order in (0, 1)}
_ASYMPTOTIC = {order: _asymptotic_series(order) for order in (0, 1)}


def bessel_i0e(x: np.ndarray) -> np.ndarray:
    """exp(-|x|) I_0(x)."""
    return _scaled(np.abs(x), 0)


def bessel_i1e(x: np.ndarray) -> np.ndarray:
    """exp(-|x|) I_1(x); an odd function."""
    return np.copysign(_scaled(np.abs(x), 1), x)


def _scaled(x: np.ndarray, order: int) -> np.ndarray:
    def near(v: np.ndarray) -> np.ndarray:
        half = 0.5 * v
        return np.exp(-v) * half**order * polynomial(half * half, _POWER[order])

    def far(v: np.ndarray) -> np.ndarray:
        return polynomial(1 / v, _ASYMPTOTIC[order]) / (np.sqrt(2 * np.pi) * np.sqrt(v))

    return piecewise((x,), [(x <= _SPLIT, near), (x > _SPLIT, far)])
