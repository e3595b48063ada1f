"""Fourier transforms: against numpy.fft, derivatives, batching, errors."""

from __future__ import annotations

import numpy as np
import pytest

import asgfn
from asgfn.errors import DTypeError, ShapeError
from asgfn.numpy import fft as jfft
from asgfn.primitives.fft import FftType
from asgfn.primitives.fft import fft as transform
from tests.derivatives import check_derivatives, check_vmap

rng = np.random.default_rng(0)


def real(*shape: int) -> np.ndarray:
    return rng.normal(size=shape).astype(np.float32)


def complex_(*shape: int) -> np.ndarray:
    return (rng.normal(size=shape) + 1j * rng.normal(size=shape)).astype(np.complex64)


def close(actual, expected) -> None:
    actual = np.asarray(actual)
    assert actual.shape == expected.shape
    assert (actual.dtype.kind == "c") == (expected.dtype.kind == "c")
    np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("norm", [None, "backward", "ortho", "forward"])
@pytest.mark.parametrize("n", [None, 3, 8])
@pytest.mark.parametrize("axis", [-1, 0])
def test_one_axis(norm, n, axis):
    for name in ("fft", "ifft", "irfft", "hfft"):
        x = complex_(4, 5)
        close(getattr(jfft, name)(x, n, axis, norm), getattr(np.fft, name)(x, n, axis, norm))
    for name in ("fft", "ifft", "rfft", "ihfft", "irfft"):
        x = real(4, 5)
        close(getattr(jfft, name)(x, n, axis, norm), getattr(np.fft, name)(x, n, axis, norm))


@pytest.mark.parametrize("norm", [None, "ortho", "forward"])
def test_several_axes(norm):
    for name in ("fftn", "ifftn", "irfftn"):
        x = complex_(3, 4, 5)
        f, g = getattr(jfft, name), getattr(np.fft, name)
        close(f(x, norm=norm), g(x, norm=norm))
        close(f(x, (4, 6), (0, 2), norm), g(x, (4, 6), (0, 2), norm))
        close(f(x, axes=(1,), norm=norm), g(x, axes=(1,), norm=norm))
    for name in ("fft2", "ifft2", "irfft2"):
        close(getattr(jfft, name)(x, norm=norm), getattr(np.fft, name)(x, norm=norm))
    x = real(3, 4, 5)
    close(jfft.rfftn(x, norm=norm), np.fft.rfftn(x, norm=norm))
    close(jfft.rfft2(x, norm=norm), np.fft.rfft2(x, norm=norm))


def test_more_than_three_axes():
    x = real(2, 3, 2, 3, 4)
    close(jfft.fftn(x), np.fft.fftn(x))
    close(jfft.rfftn(x), np.fft.rfftn(x))
    close(jfft.irfftn(jfft.rfftn(x), x.shape), x)


@pytest.mark.parametrize("n", [1, 5, 6])
def test_frequencies_and_shifts(n):
    close(jfft.fftfreq(n, 0.5), np.fft.fftfreq(n, 0.5))
    close(jfft.rfftfreq(n, 0.5), np.fft.rfftfreq(n, 0.5))
    x = real(n, 4)
    close(jfft.fftshift(x), np.fft.fftshift(x))
    close(jfft.ifftshift(x, 0), np.fft.ifftshift(x, 0))
    close(jfft.ifftshift(jfft.fftshift(x)), x)


def test_dtypes():
    assert jfft.fft(np.arange(4)).dtype == np.complex64
    assert jfft.rfft(np.ones(4, np.float16)).dtype == np.complex64
    with asgfn.enable_x64():
        assert jfft.fft(np.ones(4)).dtype == np.complex128
        assert jfft.irfft(np.ones(3)).dtype == np.float64


@pytest.mark.parametrize("length", [4, 5])
def test_derivatives(length):
    """Complex arrays are taken apart, since derivatives are checked on real ones."""

    def parts(y):
        return y.real, y.imag

    x, y = rng.normal(size=(2, length)), rng.normal(size=(2, length))
    half = length // 2 + 1
    check_derivatives(lambda a, b: parts(transform(a + 1j * b, "FFT", length)), x, y)
    check_derivatives(lambda a, b: parts(transform(a + 1j * b, "IFFT", length)), x, y)
    check_derivatives(lambda a: parts(transform(a, "RFFT", length)), x)
    check_derivatives(lambda a, b: transform(a + 1j * b, "IRFFT", length), x[:, :half], y[:, :half])
    check_derivatives(lambda a: parts(transform(a, "RFFT", (2, length))), x)
    check_derivatives(lambda a, b: transform(a + 1j * b, "IRFFT", (2, length)), x[:, :half], y[:, :half])


def test_vmap():
    check_vmap(lambda x: transform(x, FftType.RFFT, (3, 4)), real(3, 5, 4), in_axes=(1,))


def test_empty_batch():
    assert jfft.fft(np.zeros((0, 4), np.float32)).shape == (0, 4)


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda: jfft.rfft(complex_(4)), DTypeError, "must be real"),
        (lambda: jfft.fft(real(4), norm="none"), ValueError, "norm must be"),
        (lambda: jfft.fft(real(4), n=0), ShapeError, "at least one point"),
        (lambda: jfft.fft2(real(4)), ValueError, "axis"),
        (lambda: jfft.fftn(real(4, 4), s=(2,), axes=(0, 1)), ShapeError, "1 lengths for 2 axes"),
        (lambda: transform(real(4), "DCT", 4), ValueError, "fft_type must be"),
        (lambda: transform(real(4), "RFFT", 5), ShapeError, "takes arrays"),
    ],
)
def test_errors(call, error, text):
    with pytest.raises(error, match=text):
        call()
