"""Special functions of float64 arrays, written for NumPy alone.

Every function takes one-dimensional float64 arrays of equal length and returns one. `kernels_special` widens
narrower floats to float64, calls these and rounds once, so that float32 results are correctly rounded up to
the rare tie.
"""

from __future__ import annotations

from backends.numpy.special.bessel import bessel_i0e, bessel_i1e
from backends.numpy.special.beta import regularized_incomplete_beta
from backends.numpy.special.error import erf, erf_inv, erfc
from backends.numpy.special.gamma import digamma, lgamma, polygamma, zeta
from backends.numpy.special.incomplete_gamma import igamma, igamma_grad_a, igammac, random_gamma_grad

__all__ = [
    "bessel_i0e",
    "bessel_i1e",
    "digamma",
    "erf",
    "erf_inv",
    "erfc",
    "igamma",
    "igamma_grad_a",
    "igammac",
    "lgamma",
    "polygamma",
    "random_gamma_grad",
    "regularized_incomplete_beta",
    "zeta",
]
