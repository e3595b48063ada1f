"""Window functions of signal processing: weights that fade out towards both ends of a vector."""

from __future__ import annotations

import numpy as np

from asgfn import dtypes, lax
from asgfn.graph import ArrayType
from asgfn.numpy.arguments import ArrayLike, as_int, convert, filled
from asgfn.numpy.elementwise import i0
from asgfn.tracing import Array, Tracer
from asgfn.tracing import concrete as concrete_array


def _window(values: np.ndarray) -> Array:
    dtype = dtypes.default_float()
    return concrete_array(values.astype(dtype), ArrayType(values.shape, dtype))


def bartlett(M: int) -> Array:
    """The triangular window of M points, 0 at both ends."""
    return _window(np.bartlett(as_int("bartlett", "M", M)))


def blackman(M: int) -> Array:
    """The Blackman window: 0.42 - 0.5 cos(2 pi n / (M - 1)) + 0.08 cos(4 pi n / (M - 1))."""
    return _window(np.blackman(as_int("blackman", "M", M)))


def hamming(M: int) -> Array:
    """The Hamming window: 0.54 - 0.46 cos(2 pi n / (M - 1))."""
    return _window(np.hamming(as_int("hamming", "M", M)))


def hanning(M: int) -> Array:
    """The Hann window: 0.5 - 0.5 cos(2 pi n / (M - 1))."""
    return _window(np.hanning(as_int("hanning", "M", M)))


def kaiser(M: int, beta: ArrayLike) -> Array:
    """The Kaiser window: i0(beta sqrt(1 - (2 n / (M - 1) - 1)**2)) / i0(beta)."""
    size = as_int("kaiser", "M", M)
    if not isinstance(beta, Tracer):
        return _window(np.kaiser(size, float(np.asarray(beta))))
    dtype = dtypes.default_float()
    if size <= 1:
        return filled((size,), 1, dtype)
    position = np.linspace(-1, 1, size)
    shape = _window(np.sqrt(np.maximum(0, 1 - position**2)))
    beta = convert(beta, dtype)
    return lax.div(i0(lax.mul(beta, shape)), i0(beta))
