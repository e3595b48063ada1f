"""Kernels of the Fourier transforms: pocketfft through NumPy, in the precision of the operand."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from backends.numpy.registry import kernel

_TRANSFORMS: dict[str, Callable[..., np.ndarray]] = {
    "FFT": np.fft.fftn,
    "IFFT": np.fft.ifftn,
    "RFFT": np.fft.rfftn,
    "IRFFT": np.fft.irfftn,
}


@kernel("fft")
def _(
    in_types: Any, out_types: Any, *, fft_type: str, fft_lengths: tuple[int, ...]
) -> Callable[[np.ndarray], np.ndarray]:
    transform = _TRANSFORMS[fft_type]
    axes = tuple(range(-len(fft_lengths), 0))
    (out_type,) = out_types

    def run(x: np.ndarray) -> np.ndarray:
        if not x.size:
            return np.zeros(out_type.shape, out_type.dtype)
        return transform(x, s=fft_lengths, axes=axes).astype(out_type.dtype, copy=False)

    return run
