"""The logarithm of the gamma function and its derivative, for 32-bit floats."""

from __future__ import annotations

import math

from backends.kernels.functions import log
from backends.kernels.functions_angles import SIN_TAIL, TAN, TAN_BELOW
from backends.kernels.functions_notation import INFINITE_BITS, INFINITY, NAN, SIGN, Number, horner, where

# log Gamma(1 + t) / t on [-1/4, 1/2], and log Gamma(2 + t) / t on [-1/2, 1]
_NEAR_ONE = (
    -0.5772156715393066, 0.8224678039550781, -0.40068569779396057, 0.27050331234931946, -0.20723147690296173,
    0.17147375643253326, -0.15056128799915314, 0.11782343685626984, -0.05088169872760773,
)  # fmt: skip
_NEAR_TWO = (
    0.42278435826301575, 0.3224671483039856, -0.06735312193632126, 0.020577823743224144, -0.007373666390776634,
    0.002905583707615733, -0.001255630748346448, 0.0005161856533959508, -0.00012150829570600763,
)  # fmt: skip
# what Stirling's formula leaves of log Gamma(x), times x, in 1 / x^2, for x >= 3
_STIRLING = (0.0833333358168602, -0.002777595305815339, 0.0007849326939322054, -0.00045570582733489573)
_STIRLING_START = 0.4189385332046727  # (log(2 pi) - 1) / 2

_ROOT, _ROOT_REST = 1.4616321325302124, 1.2438149938918909e-08  # the positive zero of digamma
# digamma(2 + t) / (2 + t - root) on [-1, 1]
_DIGAMMA = (
    0.7853074669837952, -0.26073870062828064, 0.10900693386793137, -0.04955838993191719, 0.023367851972579956,
    -0.01127714104950428, 0.005875923205167055, -0.0029506650753319263, 0.000780959555413574, -0.00033754034666344523,
    0.0007740153232589364, -0.00040440363227389753,
)  # fmt: skip
# (log x - 1 / (2 x) - digamma(x)) x^2 in 1 / x^2, for x >= 3
_DIGAMMA_TAIL = (0.0833333283662796, -0.00833182968199253, 0.0038955865893512964, -0.0029787004459649324)


def lgamma(x: Number) -> Number:
    a = x.magnitude()
    log_a = log(a)
    # near 1 and 2, what is below 3/4 being moved there by 1, and far
    below = a < 0.75
    near_one = where(below, a, a - 1.0) < 0.5
    t = a - (where(below, 0.0, a.like(1.0)) + where(near_one, 0.0, a.like(1.0)))
    near = t * horner(t, [where(near_one, t.like(one), two) for one, two in zip(_NEAR_ONE, _NEAR_TWO, strict=True)])
    near = near - where(below, log_a, 0.0)
    reciprocal = 1.0 / a
    correction = reciprocal * horner(reciprocal * reciprocal, _STIRLING)
    far = (a - 0.5) * (log_a - 1.0) + (_STIRLING_START + correction)
    y = where(a < 3.0, near, far)
    # Gamma(-a) Gamma(a) = -pi / (a sin(pi a))
    rest = a - a.round()
    angle = rest * math.pi
    square = angle * angle
    sine = (angle * square).fma(horner(square, SIN_TAIL), angle).magnitude()
    y = where(x < 0.0, (log(math.pi / sine) - log_a) - y, y)
    pole = (x <= 0.0) & rest.equals(0.0)
    return where(pole | a.bits().equals(INFINITE_BITS), x.like(INFINITY), y)


def digamma(x: Number) -> Number:
    negative = x < 0.0
    a = where(negative, 1.0 - x, x)
    below = a < 1.0
    z = where(below, a + 1.0, a)
    distance = where(a < 3.0, z - _ROOT, 0.0) - _ROOT_REST
    near = distance * horner(where(below, a - 1.0, a - 2.0), _DIGAMMA)
    reciprocal = 1.0 / a
    near = near - where(below, reciprocal, 0.0)
    square = reciprocal * reciprocal
    far = (log(a) - 0.5 * reciprocal) - square * horner(square, _DIGAMMA_TAIL)
    y = where(a < 3.0, near, far)
    # digamma(x) = digamma(1 - x) - pi / tan(pi x)
    rest = x - x.round()
    size = rest.magnitude()
    steep = size > 0.25
    angle = where(steep, 0.5 - size, size) * math.pi
    square = angle * angle
    above, under = angle * horner(square, TAN), horner(square, TAN_BELOW)
    cotangent = (where(steep, above, under) / where(steep, under, above)).with_sign_of(rest)
    y = where(negative, y - math.pi * cotangent, y)
    pole = rest.equals(0.0) & (x <= 0.0)
    return where(pole | x.bits().equals(SIGN | INFINITE_BITS), x.like(NAN), y)
