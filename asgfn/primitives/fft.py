"""The discrete Fourier transform over trailing axes."""

from __future__ import annotations

import enum
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from asgfn import dtypes
from asgfn.errors import DTypeError, ShapeError
from asgfn.graph.serial import parameter_type
from asgfn.graph.types import ArrayType
from asgfn.primitives.base import Primitive, linear_jvp, move_batch_axis
from asgfn.primitives.elementwise import conj, mul, real
from asgfn.primitives.padding import pad
from asgfn.primitives.shaping import broadcast_in_dim, convert_element_type, full_like
from asgfn.tracing import Array, as_array, concrete


@parameter_type
class FftType(str, enum.Enum):  # noqa: UP042 (a StrEnum's members print without the class)
    """Which transform: complex, its inverse, or the ones between real signals and half spectra."""

    FFT = "FFT"
    IFFT = "IFFT"
    RFFT = "RFFT"
    IRFFT = "IRFFT"


def _half(length: int) -> int:
    """Entries of a real signal's spectrum that the others follow from by symmetry."""
    return length // 2 + 1


def _type_rule(x: ArrayType, *, fft_type: str, fft_lengths: tuple[int, ...]) -> ArrayType:
    rank = len(fft_lengths)
    if not 1 <= rank <= 3:
        raise ShapeError(f"fft: transforms run over one to three axes, got fft_lengths {fft_lengths}")
    if x.ndim < rank:
        raise ShapeError(f"fft: fft_lengths {fft_lengths} name {rank} axes, but the operand is {x}")
    if any(n < 1 for n in fft_lengths):
        raise ShapeError(f"fft: lengths must be positive, got {fft_lengths}")
    takes_real = fft_type == FftType.RFFT
    if takes_real and x.dtype not in (np.float32, np.float64):
        raise DTypeError(f"fft: {fft_type} takes float32 or float64, got {x}")
    if not takes_real and not dtypes.is_complex(x.dtype):
        raise DTypeError(f"fft: {fft_type} takes complex numbers, got {x}; convert with .astype(complex)")
    spectrum = (*fft_lengths[:-1], _half(fft_lengths[-1]))
    expected = spectrum if fft_type == FftType.IRFFT else fft_lengths
    if x.shape[x.ndim - rank :] != expected:
        raise ShapeError(f"fft: {fft_type} with fft_lengths {fft_lengths} takes arrays [..., {expected}], got {x}")
    result = spectrum if takes_real else fft_lengths
    dtype = dtypes.real_dtype(x.dtype) if fft_type == FftType.IRFFT else dtypes.complex_dtype(x.dtype)
    return ArrayType((*x.shape[: x.ndim - rank], *result), dtype)


def _mirrored_weights(length: int, dtype: np.dtype) -> np.ndarray:
    """How often each entry of a half spectrum occurs in the whole: once for the ends, twice for those mirrored."""
    weights = np.full(_half(length), 2, dtype)
    weights[0] = 1
    if length % 2 == 0:
        weights[-1] = 1
    return weights


def _by_weights(x: Any, length: int) -> Array:
    weights = _mirrored_weights(length, x.dtype)
    spread = broadcast_in_dim(concrete(weights, ArrayType(weights.shape, weights.dtype)), x.shape, (x.ndim - 1,))
    return mul(x, spread)


def _transpose(ct: Any, x: Any, *, fft_type: str, fft_lengths: tuple[int, ...]) -> list:
    """The complex transforms are symmetric matrices. The real ones drop or mirror half a spectrum besides."""
    if fft_type in (FftType.FFT, FftType.IFFT):
        return [fft_p.bind(ct, fft_type=fft_type, fft_lengths=fft_lengths)]
    length = fft_lengths[-1]
    if fft_type == FftType.RFFT:
        # Zeros in place of the dropped half, a complex transform, and the real part, since the input was real.
        config = [(0, 0, 0)] * (ct.ndim - 1) + [(0, length - _half(length), 0)]
        whole = pad(ct, full_like(ct, 0, shape=()), config)
        return [real(fft_p.bind(whole, fft_type=FftType.FFT, fft_lengths=fft_lengths))]
    # The imaginary parts that the inverse ignores get a zero cotangent from the conjugate-symmetric spectrum.
    spectrum = _by_weights(fft_p.bind(ct, fft_type=FftType.RFFT, fft_lengths=fft_lengths), length)
    return [mul(conj(spectrum), full_like(spectrum, 1 / math.prod(fft_lengths), shape=()))]


def _batch(args: Sequence[Any], dims: Sequence[int], **params: Any) -> tuple:
    return fft_p.bind(move_batch_axis(args[0], dims[0], 0), **params), 0


fft_p = Primitive(
    "fft",
    category="fft",
    type_rule=_type_rule,
    jvp=linear_jvp("fft"),
    transpose=_transpose,
    batch=_batch,
    what="The discrete Fourier transform over the last axes.",
    formula="y_k = sum over n of x_n exp(-2 pi i n k / N)",
    why="Spectra, fast convolution, spectral layers and differential equations.",
)


def fft(x: Any, fft_type: FftType | str, fft_lengths: int | Sequence[int]) -> Array:
    """The discrete Fourier transform over the last `len(fft_lengths)` axes (one to three).

    Arguments:
        x: complex for FFT, IFFT and IRFFT; real for RFFT. The last axes have sizes `fft_lengths`, but for IRFFT the
            very last has n // 2 + 1.
        fft_type: a `FftType` or its name in any case. The inverse ones divide by the number of points.
        fft_lengths: the transform's lengths.

    Returns:
        Complex, or real for IRFFT. The last axis of an RFFT has n // 2 + 1 entries.
    """
    name = fft_type.value if isinstance(fft_type, FftType) else str(getattr(fft_type, "name", fft_type)).upper()
    if name not in FftType.__members__:
        raise ValueError(f"fft: fft_type must be one of {', '.join(FftType.__members__)}, got {fft_type!r}")
    lengths = (fft_lengths,) if isinstance(fft_lengths, int) else fft_lengths
    lengths = tuple(int(n) for n in lengths)
    x = as_array(x)
    kind = FftType(name)
    if kind == FftType.RFFT and dtypes.is_complex(x.dtype):
        raise DTypeError(f"fft: RFFT takes real numbers, got {x.aval}; use FFT")
    if kind != FftType.RFFT and not dtypes.is_complex(x.dtype) and dtypes.is_floating(x.dtype):
        x = convert_element_type(x, dtypes.complex_dtype(x.dtype))
    return fft_p.bind(x, fft_type=kind.value, fft_lengths=lengths)
