"""Exponentially scaled modified Bessel functions of the first kind, orders 0 and 1, for 32-bit floats."""

from __future__ import annotations

from backends.kernels.functions_notation import INFINITE_BITS, Number, horner, where

_SPLIT = 8.0
# exp(-x) I_0(x) on [0, 8]
_I0 = (1.0, 0.0991765484213829, 0.21468333899974823, 0.018565518781542778, 0.007425311021506786, 0.00019342510495334864)
_I0_BELOW = (
    1.0,
    1.0991785526275635,
    0.5638357400894165,
    0.1748155802488327,
    0.034712426364421844,
    0.004558204207569361,
    1.477695241192123e-05,
)
# sqrt(x) exp(-x) I_0(x) in 1 / x, on [8, infinity)
_I0_FAR = (
    0.3989422917366028,
    0.049869585782289505,
    0.02789880894124508,
    0.033784981817007065,
    -0.013849557377398014,
    0.38796374201774597,
)
# exp(-x) I_1(x) / x on [0, 8]
_I1 = (
    0.5,
    0.042161568999290466,
    0.045752473175525665,
    0.0031509946566075087,
    0.0007922719232738018,
    1.134573085437296e-05,
)
_I1_BELOW = (
    1.0, 1.0843231678009033, 0.5508276224136353, 0.171095073223114, 0.035300277173519135, 0.004814708139747381,
    0.00038756823050789535,
)  # fmt: skip
_I1_FAR = (
    0.3989422917366028,
    -0.14960545301437378,
    -0.04657578095793724,
    -0.04615606740117073,
    0.00969663541764021,
    -0.45237135887145996,
)


def _far(a: Number, coefficients: tuple[float, ...]) -> Number:
    y = horner(1.0 / a, coefficients) * a.op("rsqrt")
    return where(a.bits().equals(INFINITE_BITS), 0.0, y)


def bessel_i0e(x: Number) -> Number:
    a = x.magnitude()
    return where(a > _SPLIT, _far(a, _I0_FAR), horner(a, _I0) / horner(a, _I0_BELOW))


def bessel_i1e(x: Number) -> Number:
    a = x.magnitude()
    y = where(a > _SPLIT, _far(a, _I1_FAR), a * horner(a, _I1) / horner(a, _I1_BELOW))
    return y.with_sign_of(x)
