"""The Hurwitz zeta function and the polygamma functions, for 32-bit floats, as loops over the first terms of their sum."""

from __future__ import annotations

import math

from backends.kernels import index as ix
from backends.kernels.functions import exp
from backends.kernels.functions_gamma import digamma, lgamma
from backends.kernels.functions_notation import INFINITE_BITS, INFINITY, NAN, Number, where
from backends.kernels.functions_power import power

_TERMS = 12
_LARGEST_SHIFT = 100_000  # numbers further below zero are not shifted up
_BERNOULLI = (1 / 6, -1 / 30, 1 / 42, -1 / 30, 5 / 66, -691 / 2730)


def zeta(s: Number, q: Number) -> Number:
    """The sum over k >= 0 of (q + k)^-s; infinite at its poles, NaN where it is not real.

    Sums below 1e-34 lose digits, as do those of positive and negative terms.
    """
    return _scaled_zeta(s, q, s.like(1.0))


def _scaled_zeta(s: Number, q: Number, unit: Number) -> Number:
    """The sum over k >= 0 of ((q + k) / unit)^-s, by Euler and Maclaurin's formula (DLMF 25.11.28)."""
    b = s.b
    negative = q < 0.0
    possible = q >= -_LARGEST_SHIFT
    steps = where(negative & possible, (-q).op("ceil"), 0.0).integer() + _TERMS
    total = b.variable(s.like(0.0).value)
    along = ix.axis("k", _TERMS + _LARGEST_SHIFT)
    with b.loop(along, stop=steps.value):
        k = Number(b, b.index(along))
        term = power((q + k.real()) / unit, -s)
        b.assign(total, (Number(b, b.read(total)) + term).value)
    shifted = (q + steps.real()) / unit
    # what remains: an integral, half of the next term, and corrections
    whole = power(shifted, 1.0 - s)
    scale = whole / shifted
    result = Number(b, b.read(total)) + (whole * unit / (s - 1.0) + 0.5 * scale)
    place = shifted * unit
    small = s.minimum(1e4)  # of larger powers nothing remains, whatever the corrections are
    term = scale * (small / place)
    inverse_square = 1.0 / (place * place)
    for j, bernoulli in enumerate(_BERNOULLI, start=1):
        result = result + term * (bernoulli / math.factorial(2 * j))
        term = term * ((small + (2 * j - 1)) * ((small + 2 * j) * inverse_square))
    return _with_limits(s, q, result)


def _with_limits(s: Number, q: Number, result: Number) -> Number:
    infinite = s.bits().equals(INFINITE_BITS) | q.bits().equals(INFINITE_BITS)
    one = q.equals(1.0) & s.bits().equals(INFINITE_BITS)
    result = where(infinite, where(q < 1.0, s.like(INFINITY), where(one, s.like(1.0), 0.0)), result)
    whole_q, whole_s = q.floor().equals(q), s.floor().equals(s)
    undefined = (s < 1.0) | ((q < 0.0) & (~whole_s | (q < -_LARGEST_SHIFT))) | s.is_nan()
    result = where(undefined, s.like(NAN), result)
    pole = ((q <= 0.0) & whole_q & (s > 1.0)) | s.equals(1.0)
    return where(q.is_nan(), q, where(pole, s.like(INFINITY), result))


def polygamma(n: Number, x: Number) -> Number:
    """The n-th derivative of digamma: (-1)^(n + 1) n! zeta(n + 1, x); NaN unless n is a whole number from 0 on.

    The factorial goes into the base of the sum's powers, so that neither overflows. The relative error grows with the
    order, as 3e-7 (n + 1).
    """
    order = n + 1.0
    size = _scaled_zeta(order, x, exp(lgamma(order) / order))
    half = n * 0.5
    odd = ~half.floor().equals(half)
    y = where(odd, size, -size)
    valid = (n >= 0.0) & n.floor().equals(n) & (n.bits() < INFINITE_BITS)
    return where(n.equals(0.0), digamma(x), where(valid, y, n.like(NAN)))
