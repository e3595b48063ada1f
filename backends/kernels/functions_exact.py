"""Functions of 32-bit floats for processors that compute as IEEE 754 says: shorter than the ones for devices.

They are within 2 units in the last place. No compiler merges what is written as two operations, `fma` rounds once, and
comparisons are right for NaN; powers are computed in 64 bits on the way. Arguments below the smallest normal number
keep their digits; results below it may be 0. Polynomials are minimax fits of the function
named, made for these files.
"""

from __future__ import annotations

from collections.abc import Callable

from backends.kernels import functions
from backends.kernels.functions import LN2, LN2_HIGH, LN2_LOW, LOG2_E
from backends.kernels.functions_notation import INFINITY, NAN, Number, constant, horner, loaded_later, where
from backends.kernels.ir import F64, I32

# Adding it leaves a float's whole part, rounded, in the lowest bits
_WHOLE = 1.5 * 2.0**23
_WHOLE_DOUBLE = 1.5 * 2.0**52
_ONE_BITS = 0x3F800000
_HALF_BITS = 0x3F000000
_SMALLEST = 2.0**-126

_EXP_TOP = 88.72283  # above this e^x is infinite
_HALF_EXP_TOP = 89.415985  # above this half of it is
_EXP_BOTTOM = -87.33654  # below this e^x has no normal 32-bit number
# e^x on [-ln 2 / 2, ln 2 / 2]
_EXP = (
    1.0, 1.0, 0.4999999403953552, 0.16666516661643982, 0.041668426245450974, 0.008369123563170433,
    0.0013813753612339497,
)  # fmt: skip
# (e^x - 1 - x) / x^2 on [-ln 2 / 2, ln 2 / 2]
_EXPM1_TAIL = (
    0.5, 0.1666666567325592, 0.04166635498404503, 0.008333390578627586, 0.001394122140482068, 0.00019845923816319555,
)  # fmt: skip
# 2^x on [-1/2, 1/2]
_EXP2 = (
    1.0, 0.6931471824645996, 0.24022647738456726, 0.05550331249833107, 0.009618442505598068, 0.0013399391900748014,
    0.00015352944319602102,
)  # fmt: skip
_EXP2_DOUBLE = (
    1.0, 0.6931471807092193, 0.24022651075485732, 0.055504103538716654, 0.00961803667500183, 0.0013333941117194778,
    0.00015467261424613723, 1.5195703347682448e-05,
)  # fmt: skip
# (2 / ln 2) artanh(s) / s in s^2, for (1 + s) / (1 - s) from sqrt(1/2) to sqrt(2)
_LOG2_DOUBLE = (
    2.8853900817779183, 0.961796693962963, 0.5770780039618756, 0.41220006173900237, 0.3205239555647025,
    0.2637855044259771, 0.22093075706791798,
)  # fmt: skip
# (tanh(x) / x - 1) / x^2 in x^2, on [-0.14, 0.56]
_TANH_TAIL = (-0.33332923054695129, 0.13320045173168182, -0.052625797688961029, 0.016345238313078880)
_TANH_SHIFT = 0.21
_TANH_ONE = 9.1  # from here on it is 1 in 32 bits
# erf(x) / x - 1 in x^2, on [0, 0.93]
_ERF_NEAR = (
    0.12837916612625122, -0.37612631916999817, 0.11283687502145767, -0.026858940720558167, 0.005199906416237354,
    -0.0008130011847242713, 8.316772436955944e-05,
)  # fmt: skip
_ERF_SPLIT = 0.93
# -log(1 - erf(x)) / x - 1, on [0.93, 4]
_ERF_FAR = (
    0.12850743532180786, 0.6357420682907104, 0.10523011535406113, -0.02286936715245247, 0.0032084593549370766,
    -0.0002131888031726703,
)  # fmt: skip
_ERF_ONE = 4.0  # from here on it is 1 in 32 bits
# (1 + 2 x) e^(x^2) erfc(x) in (x - 2) / (x + 2), on [0, 10.1]
_ERFC = (
    1.2769783826827381, -0.09276382094859381, -0.16603052226601997, 0.16405105004703283, -0.05421781034637098,
    -0.00803095644221643, 0.008708940315008587, 0.0012529521448945567, -0.0014202700375910255,
    -0.00040086234411300235, 0.00016880387723702296, 7.916270300105322e-05,
)  # fmt: skip
_ERFC_ZERO = 10.1

_SQRT_HALF_BITS = 0x3F3504F3
_SQRT_HALF_BITS_DOUBLE = 0x3FE6A09E667F3BCD


def at_most(x: Number, bound: float) -> Number:
    """The smaller one; NaN stays. One instruction, which the minimum of IEEE 754 is not."""
    return where(x > bound, bound, x)


def at_least(x: Number, bound: float) -> Number:
    """The larger one; NaN stays."""
    return where(x < bound, bound, x)


# ---------------------------------------------------------------------------------------------- exponentials
def _split(x: Number) -> tuple[Number, Number]:
    """(n, rest) with x = n ln 2 + rest, the rest being as small as it can be; n is in the lowest bits (u32)."""
    shifted = x.fma(LOG2_E, _WHOLE)
    n = shifted - _WHOLE
    return shifted.bits(), n.fma(-LN2_LOW, n.fma(-LN2_HIGH, x))


def _power_of_two(n: Number) -> Number:
    """2^n for an n in the lowest bits, from -126 to 127."""
    return ((n << 23) + _ONE_BITS).real_bits()


def _times_power(y: Number, n: Number) -> Number:
    """y 2^n for an n in the lowest bits, if y and the result are normal."""
    return (y.bits() + (n << 23)).real_bits()


def exp(x: Number) -> Number:
    n, rest = _split(x)
    y = _times_power(horner(rest, _EXP), n)
    # what is too large becomes infinite by a sum, so that NaN stays NaN
    y = where(x <= _EXP_TOP, y, x + INFINITY)
    return where(x < _EXP_BOTTOM, 0.0, y)


def exp_below(x: Number) -> Number:
    """e^x where x is not above zero, or NaN: nothing is done about what is too large."""
    n, rest = _split(x)
    return where(x >= _EXP_BOTTOM, _times_power(horner(rest, _EXP), n), at_least(x, 0.0))


def exp2(x: Number) -> Number:
    shifted = x + _WHOLE
    y = _times_power(horner(x - (shifted - _WHOLE), _EXP2), shifted.bits())
    y = where(x < 128.0, y, x + INFINITY)
    return where(x < -126.0, 0.0, y)


def _expm1_of(rest: Number) -> Number:
    """e^x - 1 for |x| <= ln 2 / 2."""
    return (rest * rest).fma(horner(rest, _EXPM1_TAIL), rest)


def expm1(x: Number) -> Number:
    n, rest = _split(at_least(at_most(x, 89.0), -18.0))
    # twice the half of 2^n near + (2^n - 1), as 2^128 is too large
    half = _power_of_two(n - 1)
    y = half.fma(_expm1_of(rest), half - 0.5)
    return where(x.magnitude() < 2.0**-25, x, y + y)


def logistic(x: Number) -> Number:
    # the smaller of e^x and e^-x is never above 1, so nothing overflows and both tails keep their digits
    below = -x.magnitude()
    n, rest = _split(below)
    smaller = where(below < _EXP_BOTTOM, 0.0, _times_power(horner(rest, _EXP), n))
    smaller = where(x.equals(x), smaller, x)
    total = smaller + 1.0
    y = where(x >= 0.0, 1.0, smaller) / total
    # what the sum left out, by the derivative where y is small
    return y - y.fma(-y, y) * (smaller - (total - 1.0))


def tanh(x: Number) -> Number:
    """With |x| = n ln 2 + rest, c = tanh(n ln 2) and t = tanh(rest), tanh |x| = (c + t) / (1 + c t). For n > 0 that is
    1 - (1 - t) / (4^n (1 + t) / 2 + (1 - t) / 2), where nothing cancels, as n = 0 goes as far as half; there it is t."""
    bounded = at_most(x.magnitude(), _TANH_ONE)
    shifted = (bounded - _TANH_SHIFT).fma(LOG2_E, _WHOLE)
    n = shifted - _WHOLE
    rest = n.fma(-LN2, bounded)
    square = rest * rest
    t = (rest * square).fma(horner(square, _TANH_TAIL), rest)
    half = ((shifted.bits() << 24) + _HALF_BITS).real_bits()  # 4^n / 2
    base = at_most(n, 1.0)
    return (base + (t - base) / t.fma(half - 0.5, half + 0.5)).with_sign_of(x)


def _half_exp(a: Number) -> Number:
    """e^a / 2 for a >= 0."""
    n, rest = _split(a)
    return where(a <= _HALF_EXP_TOP, _times_power(horner(rest, _EXP), n - 1), a + INFINITY)


def sinh(x: Number) -> Number:
    a = x.magnitude()
    square = x * x
    near = (a * square).fma(horner(square, functions.SINH_TAIL), a)
    half = _half_exp(a)
    return where(a < 1.0, near, half - 0.25 / half).with_sign_of(x)


def cosh(x: Number) -> Number:
    half = _half_exp(x.magnitude())
    return half + 0.25 / half


# ---------------------------------------------------------------------------------------------- logarithms
def _log_of(f: Number, e: Number) -> Number:
    """log(1 + f) + e log(2) for sqrt(1/2) - 1 <= f < sqrt(2) - 1."""
    near = (f * f).fma(f.fma(horner(f, functions.LOG_TAIL), -0.5), f)
    return e.fma(LN2_HIGH, e.fma(LN2_LOW, near))


def log(x: Number) -> Number:
    tiny = x < _SMALLEST
    digits = where(tiny, x * 2.0**24, x)
    past = digits.signed_bits() - _SQRT_HALF_BITS
    e = (past >> 23).real() + where(tiny, x.like(-24.0), 0.0)
    f = ((past & 0x7FFFFF) + _SQRT_HALF_BITS).real_bits() - 1.0
    y = where(x < INFINITY, _log_of(f, e), x)
    return where(x <= 0.0, where(x < 0.0, x.like(NAN), -INFINITY), y)


def log1p(x: Number) -> Number:
    above = x + 1.0
    e = (above.signed_bits() - _SQRT_HALF_BITS) >> 23
    # f = (1 + x) / 2^e - 1 from x itself: the scale is a power of two, so nothing is lost
    scale = (constant(x.b, 129 << 23, I32) - (e << 23)).real_bits()  # 2^(2 - e): the other one may be too small
    f = (x * 0.25).fma(scale, scale.fma(0.25, -1.0))
    y = where(x < INFINITY, _log_of(f, e.real()), x)
    y = where(x <= -1.0, where(x < -1.0, x.like(NAN), -INFINITY), y)
    return where(x.magnitude() < 2.0**-25, x, y)


def asinh(x: Number) -> Number:
    a = x.magnitude()
    square = a * a
    near = a + square / ((square + 1.0).op("sqrt") + 1.0)
    large = a > 2.0**24
    y = log1p(where(large, a, near)) + where(large, x.like(LN2), 0.0)
    return y.with_sign_of(x)


def acosh(x: Number) -> Number:
    above = x - 1.0
    near = above + (above * (x + 1.0)).op("sqrt")
    large = x > 2.0**24
    y = log1p(where(large, x, near)) + where(large, x.like(LN2), 0.0)
    return where(x < 1.0, x.like(NAN), y)


def atanh(x: Number) -> Number:
    a = x.magnitude()
    return (log1p((a + a) / (1.0 - a)) * 0.5).with_sign_of(x)


# ---------------------------------------------------------------------------------------------- powers, roots
def _log2_double(a: Number) -> Number:
    """log2 of a positive, finite f64."""
    past = a.signed_bits() - _SQRT_HALF_BITS_DOUBLE
    e = (past >> 52).op("convert", dtype=F64)
    digits = ((past & 0xFFFFFFFFFFFFF) + _SQRT_HALF_BITS_DOUBLE).real_bits()
    s = (digits - 1.0) / (digits + 1.0)
    return s.fma(horner(s * s, _LOG2_DOUBLE), e)


def _exp2_double(t: Number) -> Number:
    """2^t, for an f64 from -1000 to 1000."""
    shifted = t + _WHOLE_DOUBLE
    y = horner(t - (shifted - _WHOLE_DOUBLE), _EXP2_DOUBLE)
    return (y.bits() + (shifted.bits() << 52)).real_bits()


def power(x: Number, y: Number) -> Number:
    """x^y = 2^(y log2 x) in 64 bits, with C99's special values."""
    a = x.magnitude()
    logarithm = _log2_double(a.double())
    known = where(a < INFINITY, logarithm, a.double())
    known = where(a.equals(0.0), -INFINITY, known)
    exponent = where(a.equals(1.0), 0.0, y.double() * known)
    result = _exp2_double(at_least(at_most(exponent, 160.0), -160.0)).real()
    # NaN has no exponent to put in place
    result = where(exponent.equals(exponent), result, exponent.real())
    whole = y.floor().equals(y)
    half = y * 0.5
    odd = whole & ~half.floor().equals(half)
    result = where((x.signed_bits() < 0) & odd, -result, result)
    lost = (x < 0.0) & ~whole & (a < INFINITY)
    result = where(lost, x.like(NAN), result)
    return where(y.equals(0.0) | x.equals(1.0), 1.0, result)


def sqrt(x: Number) -> Number:
    return x.op("sqrt")


def rsqrt(x: Number) -> Number:
    return 1.0 / x.op("sqrt")


def cbrt(x: Number) -> Number:
    a = x.magnitude()
    tiny = a < _SMALLEST
    root = functions.cbrt(where(tiny, x * 2.0**24, x))
    return where(tiny, root * 2.0**-8, root)


# ---------------------------------------------------------------------------------------------- error function
def erf(x: Number) -> Number:
    a = x.magnitude()
    near = a.fma(horner(a * a, _ERF_NEAR), a)
    bounded = at_most(a, _ERF_ONE)
    n, rest = _split(-bounded.fma(horner(bounded, _ERF_FAR), bounded))
    far = 1.0 - _times_power(horner(rest, _EXP), n)
    # NaN takes the first way
    return where(a > _ERF_SPLIT, far, near).with_sign_of(x)


def erfc(x: Number) -> Number:
    """In 64 bits, as an error of x^2 is one of the result many times over."""
    a = at_most(x.magnitude(), _ERFC_ZERO).double()
    scaled = horner((a - 2.0) / (a + 2.0), _ERFC) / a.fma(2.0, 1.0)
    y = _exp2_double((a * a) * -LOG2_E) * scaled
    y = where(x < 0.0, 2.0 - y, y)
    return where(x.equals(x), y.real(), x)


# ---------------------------------------------------------------------------------------------- others
def lgamma(x: Number) -> Number:
    # near its zeros on the negative axis nothing less is precise
    return x.double().call("lgamma").real()


def sign(x: Number) -> Number:
    """-1 or 1; zeros of either sign and NaN stay."""
    return where(x > 0.0, 1.0, where(x < 0.0, -1.0, x))


def is_finite(x: Number) -> Number:
    return x.magnitude() < INFINITY


FORMULAS: dict[str, Callable[..., Number]] = {
    f.__name__: f
    for f in (
        exp, exp_below, exp2, expm1, log, log1p, logistic, tanh, sinh, cosh, asinh, acosh, atanh, sqrt, rsqrt, cbrt, erf, erfc,
        lgamma, sign, is_finite,
    )
} | {"pow": power} | {
    name: loaded_later("backends.kernels.functions_exact_angles", name) for name in ("sin", "cos", "tan", "asin")
}  # fmt: skip
