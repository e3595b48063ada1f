"""log Gamma and its derivatives, and the Hurwitz zeta function they rest on."""

from __future__ import annotations

import functools
import math

import numpy as np

from backends.numpy.special.series import piecewise, polynomial, stirling_tail

# W. J. Cody and K. E. Hillstrom, "Chebyshev approximations for the natural logarithm of the gamma function",
# Math. Comp. 21 (1967). Each row: offset from the interval's anchor, value and slope there, numerator, denominator.
_EULER_GAMMA = 0.57721566490153286061
_SLOPE_AT_TWO = 0.42278433509846713939
_VALUE_AT_FOUR = 1.791759469228055000094
_NEAR_ONE = (
    (
        4.945235359296727046734888e0,
        2.018112620856775083915565e2,
        2.290838373831346393026739e3,
        1.131967205903380828685045e4,
        2.855724635671635335736389e4,
        3.848496228443793359990269e4,
        2.637748787624195437963534e4,
        7.225813979700288197698961e3,
    ),
    (
        1.0,
        6.748212550303777196073036e1,
        1.113332393857199323513008e3,
        7.738757056935398733233834e3,
        2.763987074403340708898585e4,
        5.499310206226157329794414e4,
        6.161122180066002127833352e4,
        3.635127591501940507276287e4,
        8.785536302431013170870835e3,
    ),
)
_NEAR_TWO = (
    (
        4.974607845568932035012064e0,
        5.424138599891070494101986e2,
        1.550693864978364947665077e4,
        1.847932904445632425417223e5,
        1.088204769468828767498470e6,
        3.338152967987029735917223e6,
        5.106661678927352456275255e6,
        3.074109054850539556250927e6,
    ),
    (
        1.0,
        1.830328399370592604055942e2,
        7.765049321445005871323047e3,
        1.331903827966074194402448e5,
        1.136705821321969608938755e6,
        5.267964117437946917577538e6,
        1.346701454311101692290052e7,
        1.782736530353274213975932e7,
        9.533095591844353613395747e6,
    ),
)
_NEAR_FOUR = (
    (
        1.474502166059939948905062e4,
        2.426813369486704502836312e6,
        1.214755574045093227939592e8,
        2.663432449630976949898078e9,
        2.940378956634553899906876e10,
        1.702665737765398868392998e11,
        4.926125793377430887588120e11,
        5.606251856223951465078242e11,
    ),
    (
        -1.0,
        2.690530175870899333379843e3,
        6.393885654300092398984238e5,
        4.135599930241388052042842e7,
        1.120872109616147941376570e9,
        1.488613728678813811542398e10,
        1.016803586272438228077304e11,
        3.417476345507377132798597e11,
        4.463158187419713286462081e11,
    ),
)

# The positive zero of digamma, as a double and the remainder, so that differences from it are exact.
_DIGAMMA_ROOT = 1.4616321449683622
_DIGAMMA_ROOT_REST = 9.549995429965697e-17

# Above this distance below zero the zeta function's shift to positive arguments is not attempted.
_LARGEST_SHIFT = 100_000


def lgamma(x: np.ndarray) -> np.ndarray:
    """log |Gamma(x)|; infinite at the poles 0, -1, -2, ... and at both infinities."""
    result = piecewise((x,), [(x > 0, _lgamma_positive), ((x <= 0) & (x > -np.inf), _lgamma_reflected)])
    return np.where(x == -np.inf, np.inf, result)


def _lgamma_positive(x: np.ndarray) -> np.ndarray:
    return piecewise(
        (x,),
        [
            (x < 0.5, lambda v: lgamma_of_one_plus(v) - np.log(v)),
            ((x >= 0.5) & (x <= 1.5), lambda v: lgamma_of_one_plus(v - 1)),
            ((x > 1.5) & (x <= 4), _lgamma_near_two),
            ((x > 4) & (x <= 12), _lgamma_near_four),
            (x > 12, _lgamma_large),
        ],
    )


def lgamma_of_one_plus(z: np.ndarray) -> np.ndarray:
    """log Gamma(1 + z) for |z| <= 1/2, accurate for tiny z."""
    numerator, denominator = _NEAR_ONE
    return z * (-_EULER_GAMMA + z * (polynomial(z, numerator) / polynomial(z, denominator)))


def _lgamma_near_two(x: np.ndarray) -> np.ndarray:
    z = x - 2
    numerator, denominator = _NEAR_TWO
    return z * (_SLOPE_AT_TWO + z * (polynomial(z, numerator) / polynomial(z, denominator)))


def _lgamma_near_four(x: np.ndarray) -> np.ndarray:
    z = x - 4
    numerator, denominator = _NEAR_FOUR
    return _VALUE_AT_FOUR + z * (polynomial(z, numerator) / polynomial(z, denominator))


def _lgamma_large(x: np.ndarray) -> np.ndarray:
    # Of the same value as (x - 1/2) log x - x + ..., but never inf - inf.
    return (x - 0.5) * (np.log(x) - 1) + (0.5 * math.log(2 * math.pi) - 0.5 + stirling_tail(1 / x))


def _lgamma_reflected(x: np.ndarray) -> np.ndarray:
    """From Gamma(x) Gamma(1 - x) = pi / sin(pi x); the sine takes the exact distance to the nearest integer."""
    distance = np.abs(x - np.rint(x))
    sine = np.sin(np.pi * distance)
    magnitude = -x
    tail = _lgamma_positive(np.where(magnitude == 0, 1.0, magnitude))
    return np.where(distance == 0, np.inf, np.log(np.pi / (magnitude * sine)) - tail)


def digamma(x: np.ndarray) -> np.ndarray:
    """The derivative of log Gamma; NaN at the poles 0, -1, -2, ..., as in XLA."""
    return piecewise(
        (x,),
        [
            (np.abs(x - _DIGAMMA_ROOT) < 0.4, _digamma_near_root),
            ((x > 0) & (np.abs(x - _DIGAMMA_ROOT) >= 0.4), _digamma_positive),
            ((x < 0) & (x != np.rint(x)), _digamma_reflected),
        ],
    )


def _digamma_positive(x: np.ndarray) -> np.ndarray:
    shifted = x.copy()
    correction = np.zeros_like(x)
    for _ in range(10):
        low = shifted < 10
        if not low.any():
            break
        correction = np.where(low, correction - 1 / shifted, correction)
        shifted = np.where(low, shifted + 1, shifted)
    inverse = 1 / shifted
    return np.log(shifted) - 0.5 * inverse - polynomial(inverse * inverse, DIGAMMA_TAIL) + correction


_BERNOULLI = (1 / 6, -1 / 30, 1 / 42, -1 / 30, 5 / 66, -691 / 2730, 7 / 6, -3617 / 510, 43867 / 798, -174611 / 330)
# log x - 1/(2x) - digamma(x) is the sum of B_2k / (2k x^2k): coefficients in powers of 1/x^2, highest first.
DIGAMMA_TAIL = (*(b / (2 * k) for k, b in reversed([*enumerate(_BERNOULLI[:8], start=1)])), 0.0)


def _digamma_reflected(x: np.ndarray) -> np.ndarray:
    """digamma(x) = digamma(1 - x) - pi / tan(pi x)."""
    return digamma(1 - x) - np.pi / np.tan(np.pi * (x - np.rint(x)))


def _digamma_near_root(x: np.ndarray) -> np.ndarray:
    """Taylor's series about the zero, which keeps the relative accuracy there."""
    distance = (x - _DIGAMMA_ROOT) - _DIGAMMA_ROOT_REST
    return polynomial(distance, _digamma_taylor())


@functools.cache
def _digamma_taylor() -> tuple[float, ...]:
    """Coefficients (-1)^(k+1) zeta(k + 1, root), highest power first; 0.4 / 1.46 to the 28th is below 2^-52."""
    orders = np.arange(28, 0, -1)
    values = zeta(orders + 1.0, np.full(orders.shape, _DIGAMMA_ROOT))
    signs = np.where(orders % 2 == 1, 1.0, -1.0)
    return (*(signs * values).tolist(), 0.0)


def zeta(s: np.ndarray, q: np.ndarray) -> np.ndarray:
    """The Hurwitz zeta function, the sum over k >= 0 of (q + k)^-s, for s > 1.

    Infinite at s = 1 and at the poles q = 0, -1, -2, ...; NaN for s < 1 and for negative q with s not an integer.
    """
    integer_q = q == np.rint(q)
    pole = (q <= 0) & integer_q & (s > 1)
    undefined = (s < 1) | ((q < 0) & ((s != np.rint(s)) | (q < -_LARGEST_SHIFT))) | np.isnan(s) | np.isnan(q)
    regular = ~(pole | undefined | (s == 1))
    result = piecewise((s, q), [(regular, _zeta_regular)])
    return np.where((pole | (s == 1)) & ~np.isnan(q), np.inf, result)


def _zeta_regular(s: np.ndarray, q: np.ndarray) -> np.ndarray:
    """Euler and Maclaurin's summation formula (DLMF 25.11.28): the sum's head, then the tail's expansion."""
    total = np.zeros_like(q)
    shifted = q.copy()
    while (negative := shifted < 0).any():
        total[negative] += shifted[negative] ** -s[negative]
        shifted[negative] += 1
    for _ in range(12):
        total += shifted**-s
        shifted += 1
    tail_scale = shifted**-s
    total += tail_scale * (shifted / (s - 1) + 0.5)
    factor = s / shifted
    inverse_square = 1 / (shifted * shifted)
    term_scale = tail_scale * factor
    for k, bernoulli in enumerate(_BERNOULLI, start=1):
        total += term_scale * (bernoulli / math.factorial(2 * k))
        term_scale = term_scale * (s + 2 * k - 1) * (s + 2 * k) * inverse_square
    return np.where(np.isposinf(s) | np.isposinf(q), _zeta_limit(s, q), total)


def _zeta_limit(s: np.ndarray, q: np.ndarray) -> np.ndarray:
    """The limits for infinite s or q, where only the first term can survive."""
    return np.where(q < 1, np.inf, np.where((q == 1) & np.isposinf(s), 1.0, 0.0))


def polygamma(n: np.ndarray, x: np.ndarray) -> np.ndarray:
    """The n-th derivative of digamma; NaN unless n is a non-negative integer."""
    valid = (n >= 0) & (n == np.rint(n)) & (n < np.inf)
    return piecewise((n, x), [((n == 0), lambda n, v: digamma(v)), (valid & (n > 0), _polygamma_positive)])


def _polygamma_positive(n: np.ndarray, x: np.ndarray) -> np.ndarray:
    sums = zeta(n + 1, x)
    small = n <= 170
    factorial = _FACTORIALS[np.where(small, n, 0).astype(np.int64)]
    # Beyond 170! the factorial overflows although the product may not.
    large = np.exp(lgamma(n + 1) + np.log(np.abs(sums))) * np.sign(sums)
    magnitude = np.where(small, factorial * sums, large)
    return np.where(n % 2 == 1, magnitude, -magnitude)


_FACTORIALS = np.array([float(math.factorial(k)) for k in range(171)])
