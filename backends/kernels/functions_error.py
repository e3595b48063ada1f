"""The error function, its complement and its inverse, for 32-bit floats."""

from __future__ import annotations

from backends.kernels.functions import bounded_by_one, exp, log
from backends.kernels.functions_notation import INFINITY, Number, horner, polynomial, where

# erf(x) / x in x^2, on [0, 3.93]; searched for small rounding errors in the neighbourhood of a minimax fit
_ERF = (
    1.1283791065216064, 0.19078461825847626, 0.05279034748673439, 0.0037796366959810257, 0.0002848079602699727,
    2.041950665443437e-06,
)  # fmt: skip
_ERF_BELOW = (
    1.0, 0.5024111866950989, 0.1142578125, 0.014997491613030434, 0.0011652163229882717, 3.800384365604259e-05,
)  # fmt: skip
_ERF_ONE = 3.93  # from here on it is 1 in 32 bits
# (1 + 2 x) e^(x^2) erfc(x) in (x - 2) / (x + 2), on [0, 10.1]
_ERFC = (
    1.2769783735275269, -0.0927639827132225, -0.16603142023086548, 0.16405534744262695, -0.0542043000459671,
    -0.008059876039624214, 0.008631684817373753, 0.0013135253684595227, -0.001229930785484612, -0.0004005795926786959,
)  # fmt: skip
_ERFC_ZERO = 10.06  # from here on its complement has no 32-bit number
# erf_inv(x) / x in w = -log(1 - x^2) on [0, 5], and in sqrt(w) - 3 beyond
_INVERSE_CENTRE = (
    0.8862268328666687, 0.2320166528224945, 0.011532142758369446, -0.0022978750057518482, -0.00016721557767596096,
    6.868064519949257e-05, -4.550090125121642e-06, -2.270187593467199e-07, 2.85373022990143e-08,
)  # fmt: skip
_INVERSE_TAIL = (
    2.832977056503296, 1.0016741752624512, 0.009435620158910751, -0.007625299971550703, 0.005761804990470409,
    -0.0036601510364562273, 0.0013002239866182208, 8.611953671788797e-05, -0.00016543317178729922,
)  # fmt: skip


def erf(x: Number) -> Number:
    square = x * x
    y = x * polynomial(square, _ERF) / polynomial(square, _ERF_BELOW)
    return bounded_by_one(x, y, _ERF_ONE)


def erfc(x: Number) -> Number:
    a = x.magnitude()
    scaled = horner((a - 2.0) / (a + 2.0), _ERFC) / a.fma(2.0, 1.0)
    # the rounding error of the square, from halves whose products are exact
    square = a * a
    head = a.head()
    rest = a - head
    lost = ((head * head - square) + (head + head) * rest) + rest * rest
    bell = exp(-square)
    y = bell.fma(-lost, bell) * scaled
    y = where(a > _ERFC_ZERO, 0.0, y)
    return where(x < 0.0, 2.0 - y, y)


def erf_inv(x: Number) -> Number:
    """M. Giles, "Approximating the erfinv function", GPU Computing Gems (2012), in form."""
    a = x.magnitude()
    w = -log((1.0 - a) * (1.0 + a))
    tail = w > 5.0
    t = where(tail, w.maximum(0.0).op("sqrt") - 3.0, w)
    factor = horner(
        t, [where(tail, t.like(far), near) for near, far in zip(_INVERSE_CENTRE, _INVERSE_TAIL, strict=True)]
    )
    return where(a.equals(1.0), x.like(INFINITY).with_sign_of(x), x * factor)
