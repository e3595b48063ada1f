"""Discrete Fourier transforms: `numpy.fft` on asgfn arrays.

Real operands are float32 or float64 (integers and half floats become float32), complex ones keep their dtype.
`norm` says where the factor 1/n goes: "backward" (the default) to the inverse transforms, "forward" to the forward
ones, "ortho" half (1/sqrt(n)) to both.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from asgfn import dtypes, lax
from asgfn.errors import DTypeError, ShapeError
from asgfn.numpy import manipulation, ufuncs
from asgfn.numpy.arguments import ArrayLike, normalize_axes, normalize_axis, promote_args_inexact, to_array
from asgfn.primitives.fft import fft as transform
from asgfn.tracing import Array

_NORMS = (None, "backward", "ortho", "forward")


def _fft(
    name: str, kind: str, a: ArrayLike, s: Sequence[int] | None, axes: Sequence[int] | None, norm: str | None
) -> Array:
    """All of the functions below: choose axes and lengths, crop or pad, move the axes last, transform, scale."""
    name = f"fft.{name}"
    if norm not in _NORMS:
        raise ValueError(f"{name}: norm must be 'backward', 'ortho' or 'forward', got {norm!r}")
    a = _operand(name, kind, a)
    if axes is None:
        axes = range(a.ndim) if s is None else range(a.ndim - len(s), a.ndim)
    # An axis may be named twice: it is then transformed twice.
    axes = [normalize_axis(name, axis, a.shape) for axis in axes]
    if s is not None and len(s) != len(axes):
        raise ShapeError(f"{name}: s has {len(s)} lengths for {len(axes)} axes")
    if not axes:
        return a
    if s is None:
        lengths = [a.shape[axis] for axis in axes]
        if kind == "IRFFT":
            lengths[-1] = 2 * (lengths[-1] - 1)
    else:
        lengths = [int(n) for n in s]
    if any(n < 1 for n in lengths):
        raise ShapeError(
            f"{name}: every transform must have at least one point, got lengths {tuple(lengths)} for {a.aval}"
        )
    result = _transform(kind, a, axes, lengths)
    factor = _factor(kind, norm, math.prod(lengths))
    return result if factor == 1 else result * factor


def _operand(name: str, kind: str, a: ArrayLike) -> Array:
    (a,) = promote_args_inexact(name, a)
    if kind == "RFFT":
        if dtypes.is_complex(a.dtype):
            raise DTypeError(f"{name}: the operand must be real, got {a.aval}; use the complex transform")
        return a if a.dtype in (np.float32, np.float64) else a.astype(np.float32)
    return a if dtypes.is_complex(a.dtype) else a.astype(dtypes.complex_dtype(a.dtype))


def _factor(kind: str, norm: str | None, points: int) -> float:
    """What a transform is multiplied with; the inverse ones divide by the number of points already."""
    inverse = kind in ("IFFT", "IRFFT")
    if norm == "ortho":
        return math.sqrt(points) if inverse else 1 / math.sqrt(points)
    if norm == "forward":
        return points if inverse else 1 / points
    return 1


def _resize(a: Array, axis: int, length: int) -> Array:
    """Crops or zero-pads the end of an axis."""
    if a.shape[axis] > length:
        return lax.slice_in_dim(a, 0, length, axis=axis)
    if a.shape[axis] < length:
        config = [(0, 0, 0)] * a.ndim
        config[axis] = (0, length - a.shape[axis], 0)
        return lax.pad(a, lax.full_like(a, 0, shape=()), config)
    return a


def _transform(kind: str, a: Array, axes: Sequence[int], lengths: Sequence[int]) -> Array:
    """Transforms in groups of up to three distinct axes: the real transform is the first of the forward ones and the
    last of the inverse ones, and always runs over the last axis named."""
    groups = _groups(axes, lengths)
    if kind == "RFFT":
        a = _transform_group("RFFT", a, *groups[-1])
        for group in reversed(groups[:-1]):
            a = _transform_group("FFT", a, *group)
        return a
    first = "IFFT" if kind == "IRFFT" else kind
    for group in groups[:-1]:
        a = _transform_group(first, a, *group)
    return _transform_group(kind, a, *groups[-1])


def _groups(axes: Sequence[int], lengths: Sequence[int]) -> list[tuple[list[int], list[int]]]:
    """Consecutive runs, from the end, of at most three axes without repetition."""
    groups: list[tuple[list[int], list[int]]] = []
    for axis, length in zip(reversed(axes), reversed(lengths), strict=True):
        if not groups or len(groups[0][0]) == 3 or axis in groups[0][0]:
            groups.insert(0, ([], []))
        groups[0][0].insert(0, axis)
        groups[0][1].insert(0, length)
    return groups


def _transform_group(kind: str, a: Array, axes: Sequence[int], lengths: Sequence[int]) -> Array:
    for k, (axis, length) in enumerate(zip(axes, lengths, strict=True)):
        halved = kind == "IRFFT" and k == len(axes) - 1
        a = _resize(a, axis, length // 2 + 1 if halved else length)
    last = range(a.ndim - len(axes), a.ndim)
    moved = manipulation.moveaxis(a, tuple(axes), tuple(last))
    return manipulation.moveaxis(transform(moved, kind, lengths), tuple(last), tuple(axes))


def _one(n: int | None) -> tuple[int, ...] | None:
    return None if n is None else (n,)


# ---------------------------------------------------------------------------------------------- one axis
def fft(a: ArrayLike, n: int | None = None, axis: int = -1, norm: str | None = None) -> Array:
    """The transform over one axis, cropped or zero-padded to length n."""
    return _fft("fft", "FFT", a, _one(n), (axis,), norm)


def ifft(a: ArrayLike, n: int | None = None, axis: int = -1, norm: str | None = None) -> Array:
    """The inverse of `fft`."""
    return _fft("ifft", "IFFT", a, _one(n), (axis,), norm)


def rfft(a: ArrayLike, n: int | None = None, axis: int = -1, norm: str | None = None) -> Array:
    """The transform of a real signal: its first n // 2 + 1 entries; the others are their conjugates, mirrored."""
    return _fft("rfft", "RFFT", a, _one(n), (axis,), norm)


def irfft(a: ArrayLike, n: int | None = None, axis: int = -1, norm: str | None = None) -> Array:
    """The inverse of `rfft`: real, of length n (default 2 (m - 1) for m entries)."""
    return _fft("irfft", "IRFFT", a, _one(n), (axis,), norm)


def hfft(a: ArrayLike, n: int | None = None, axis: int = -1, norm: str | None = None) -> Array:
    """The (real) transform of a signal that is its own mirrored conjugate, given by its first half."""
    (a,) = promote_args_inexact("fft.hfft", a)
    return _fft("hfft", "IRFFT", ufuncs.conjugate(a), _one(n), (axis,), _swapped(norm))


def ihfft(a: ArrayLike, n: int | None = None, axis: int = -1, norm: str | None = None) -> Array:
    """The inverse of `hfft`: the first half of a signal whose transform is real."""
    return ufuncs.conjugate(_fft("ihfft", "RFFT", a, _one(n), (axis,), _swapped(norm)))


def _swapped(norm: str | None) -> str | None:
    """hfft is a forward transform made of an inverse one, so the factor changes sides."""
    return {None: "forward", "backward": "forward", "forward": "backward"}.get(norm, norm)


# ---------------------------------------------------------------------------------------------- several axes
def fftn(
    a: ArrayLike, s: Sequence[int] | None = None, axes: Sequence[int] | None = None, norm: str | None = None
) -> Array:
    """The transform over several axes (default all, or the last len(s)), cropped or zero-padded to lengths s."""
    return _fft("fftn", "FFT", a, s, axes, norm)


def ifftn(
    a: ArrayLike, s: Sequence[int] | None = None, axes: Sequence[int] | None = None, norm: str | None = None
) -> Array:
    """The inverse of `fftn`."""
    return _fft("ifftn", "IFFT", a, s, axes, norm)


def rfftn(
    a: ArrayLike, s: Sequence[int] | None = None, axes: Sequence[int] | None = None, norm: str | None = None
) -> Array:
    """`fftn` of real numbers; the last axis holds n // 2 + 1 entries."""
    return _fft("rfftn", "RFFT", a, s, axes, norm)


def irfftn(
    a: ArrayLike, s: Sequence[int] | None = None, axes: Sequence[int] | None = None, norm: str | None = None
) -> Array:
    """The inverse of `rfftn`: real."""
    return _fft("irfftn", "IRFFT", a, s, axes, norm)


def fft2(
    a: ArrayLike, s: Sequence[int] | None = None, axes: Sequence[int] = (-2, -1), norm: str | None = None
) -> Array:
    """`fftn` over two axes."""
    return _fft("fft2", "FFT", a, s, _two("fft2", axes), norm)


def ifft2(
    a: ArrayLike, s: Sequence[int] | None = None, axes: Sequence[int] = (-2, -1), norm: str | None = None
) -> Array:
    """`ifftn` over two axes."""
    return _fft("ifft2", "IFFT", a, s, _two("ifft2", axes), norm)


def rfft2(
    a: ArrayLike, s: Sequence[int] | None = None, axes: Sequence[int] = (-2, -1), norm: str | None = None
) -> Array:
    """`rfftn` over two axes."""
    return _fft("rfft2", "RFFT", a, s, _two("rfft2", axes), norm)


def irfft2(
    a: ArrayLike, s: Sequence[int] | None = None, axes: Sequence[int] = (-2, -1), norm: str | None = None
) -> Array:
    """`irfftn` over two axes."""
    return _fft("irfft2", "IRFFT", a, s, _two("irfft2", axes), norm)


def _two(name: str, axes: Sequence[int]) -> Sequence[int]:
    if len(axes) != 2:
        raise ShapeError(f"fft.{name}: axes must name two axes, got {tuple(axes)}")
    return axes


# ---------------------------------------------------------------------------------------------- frequencies
def fftfreq(n: int, d: ArrayLike = 1.0, *, dtype: Any = None, device: Any = None) -> Array:
    """The frequencies of `fft`'s entries, for n samples d apart: 0, 1, ..., -1 over n d."""
    n = int(n)
    steps = np.concatenate([np.arange(0, (n - 1) // 2 + 1), np.arange(-(n // 2), 0)])
    return _frequencies(steps, n, d, dtype)


def rfftfreq(n: int, d: ArrayLike = 1.0, *, dtype: Any = None, device: Any = None) -> Array:
    """The frequencies of `rfft`'s entries: 0, 1, ..., n // 2 over n d."""
    n = int(n)
    return _frequencies(np.arange(0, n // 2 + 1), n, d, dtype)


def _frequencies(steps: np.ndarray, n: int, d: ArrayLike, dtype: Any) -> Array:
    if n < 1:
        raise ValueError(f"fft.fftfreq: n must be positive, got {n}")
    dtype = dtypes.default_float() if dtype is None else dtypes.canonicalize(dtype)
    return to_array("fft.fftfreq", steps).astype(dtype) / (d * n)


def fftshift(x: ArrayLike, axes: int | Sequence[int] | None = None) -> Array:
    """Moves the zero frequency to the middle of the given axes (default all)."""
    x = to_array("fft.fftshift", x)
    axes = normalize_axes("fft.fftshift", axes, x.shape)
    return manipulation.roll(x, tuple(x.shape[axis] // 2 for axis in axes), axes) if axes else x


def ifftshift(x: ArrayLike, axes: int | Sequence[int] | None = None) -> Array:
    """The inverse of `fftshift`; they differ for odd lengths."""
    x = to_array("fft.ifftshift", x)
    axes = normalize_axes("fft.ifftshift", axes, x.shape)
    return manipulation.roll(x, tuple(-(x.shape[axis] // 2) for axis in axes), axes) if axes else x
