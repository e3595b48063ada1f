"""Resizing of images and signals: interpolation, and the exchange of channels for space.

Interpolation works on one spatial axis after the other. Along an axis, every element of the result is a weighted sum of
a few elements of the input, whose places and weights are known beforehand; the functions that find them return arrays
[size of the result, taps].
"""

from __future__ import annotations

import functools
import math
import operator
from collections.abc import Sequence
from typing import Any

import numpy as np

import asgfn
import asgfn.numpy as jnp
from asgfn import lax
from asgfn.errors import ShapeError
from asgfn.numpy.arguments import to_array
from asgfn.tracing import Array
from nn_fn.functional.adaptive_pooling import adaptive_avg_pool1d, adaptive_avg_pool2d, adaptive_avg_pool3d
from nn_fn.functional.arguments import float_array, one_of, per_axis, static_int

Taps = tuple[np.ndarray, np.ndarray]  # places and weights, [size of the result, taps]

_FEW_TAPS = 8  # up to here, a term for each is faster than an array of all terms and its sum

_RANKS = {
    "nearest": (3, 4, 5),
    "nearest-exact": (3, 4, 5),
    "area": (3, 4, 5),
    "linear": (3,),
    "bilinear": (4,),
    "bicubic": (4,),
    "trilinear": (5,),
}


# ---------------------------------------------------------------------------------------------- interpolate
def interpolate(
    x: Any,
    size: int | Sequence[int] | None = None,
    scale_factor: float | Sequence[float] | None = None,
    mode: str = "nearest",
    align_corners: bool | None = None,
    recompute_scale_factor: bool | None = None,
    antialias: bool = False,
) -> Array:
    """Resizes the spatial axes of `x`.

    Arguments:
        x: float [N, C, L], [N, C, H, W] or [N, C, D, H, W].
        size: the new spatial sizes, an int or one an axis.
        scale_factor: or the factors by which they grow, of which the sizes are the floor; a number or one an axis.
        mode: "nearest" (which rounds down, as PyTorch always did), "nearest-exact", "linear" (for one spatial axis),
            "bilinear", "bicubic" (for two), "trilinear" (for three), or "area" (`adaptive_avg_pool`).
        align_corners: for linear and cubic modes: the centres of the corner elements stay where they are, rather than
            the corners of the image.
        recompute_scale_factor: use the ratio of the sizes, rather than `scale_factor` itself, to find places.
        antialias: for "bilinear" and "bicubic": where the image shrinks, widen the filter with it.

    Returns:
        Array with the new spatial sizes, of x's dtype.

    Raises:
        ShapeError: a rank that the mode does not take, an empty spatial axis, or a result without elements.
        DTypeError: x is not floating point.
        ValueError: not exactly one of size and scale_factor, an unknown mode, or an option that it does not have.

    Source of the cubic kernels: R. Keys, Cubic convolution interpolation for digital image processing, 1981, with
    a = -0.75, and -0.5 with antialias.
    """
    x = float_array("interpolate", "x", x)
    one_of("interpolate", "mode", mode, tuple(_RANKS))
    if x.ndim not in _RANKS[mode]:
        ranks = " or ".join(str(r) for r in _RANKS[mode])
        raise ShapeError(f"interpolate: mode {mode!r} takes x of rank {ranks}, [N, C, *space]; got {x.aval}")
    smooth = mode in ("linear", "bilinear", "bicubic", "trilinear")
    if align_corners is not None and not smooth:
        raise ValueError(f"interpolate: align_corners goes with linear and cubic modes, not with {mode!r}")
    if antialias and mode not in ("bilinear", "bicubic"):
        raise ValueError(f"interpolate: antialias goes with 'bilinear' and 'bicubic', not with {mode!r}")
    sizes, factors = _sizes(x, size, scale_factor, recompute_scale_factor)
    if mode == "area":
        return (adaptive_avg_pool1d, adaptive_avg_pool2d, adaptive_avg_pool3d)[x.ndim - 3](x, sizes)
    y = x
    for axis, (out, factor) in enumerate(zip(sizes, factors, strict=True), start=2):
        n = x.shape[axis]
        if _goes_by_sizes(mode, x.ndim, n, out):
            factor = None
        if not smooth:
            y = _select(y, axis, _nearest(n, out, factor, 0.5 if mode == "nearest-exact" else 0.0))
        elif antialias:
            y = _combine(y, axis, _filtered(n, out, _step(n, out, factor, align_corners), mode == "bicubic"))
        else:
            find = _cubic if mode == "bicubic" else _linear
            y = _combine(y, axis, find(n, _places(n, out, factor, align_corners)))
    return y


def _goes_by_sizes(mode: str, rank: int, n: int, out: int) -> bool:
    """Whether PyTorch ignores the scale factor, of which the sizes are the floor, in finding the places on an axis."""
    if mode == "nearest":
        return rank == 4 and out in (n, 2 * n)
    return mode.endswith("linear") and out == n


def _sizes(x: Array, size: Any, scale_factor: Any, recompute: Any) -> tuple[tuple[int, ...], list[float | None]]:
    """The new sizes, and for each axis the factor that decides where its elements lie (None: the ratio of the sizes)."""
    spatial = x.ndim - 2
    if (size is None) == (scale_factor is None):
        raise ValueError(f"interpolate: give either size or scale_factor, got {size=} and {scale_factor=}")
    if scale_factor is None:
        if recompute:
            raise ValueError("interpolate: recompute_scale_factor goes with scale_factor, not with size")
        sizes = per_axis("interpolate", "size", size, spatial)
        factors: list[float | None] = [None] * spatial
    else:
        given = list(scale_factor) if isinstance(scale_factor, Sequence) else [scale_factor] * spatial
        if len(given) != spatial:
            raise ValueError(
                f"interpolate: scale_factor must be a number or {spatial} of them, one a spatial axis; got {scale_factor!r}"
            )
        sizes = tuple(math.floor(float(n) * f) for n, f in zip(x.shape[2:], given, strict=True))
        factors = [None] * spatial if recompute else [float(f) for f in given]
    if 0 in x.shape[2:] or any(s < 1 for s in sizes):
        raise ShapeError(
            f"interpolate: sizes must be positive, but would go from {x.shape[2:]} to {sizes}; got x {x.aval}"
        )
    return sizes, factors


# ---------------------------------------------------------------------------------------------- places and weights
def _step(n: int, out: int, factor: float | None, align_corners: bool | None) -> float:
    """The distance of neighbouring elements of the result, in elements of the input."""
    if align_corners:
        return (n - 1) / (out - 1) if out > 1 else 0.0
    return 1.0 / factor if factor else n / out


def _places(n: int, out: int, factor: float | None, align_corners: bool | None) -> np.ndarray:
    """Where the elements of the result lie in the input."""
    step = _step(n, out, factor, align_corners)
    i = np.arange(out)
    return step * i if align_corners else step * (i + 0.5) - 0.5


def _nearest(n: int, out: int, factor: float | None, offset: float) -> np.ndarray:
    # In single precision, as PyTorch computes them: products that are nearly whole must round alike.
    step = np.float32(1.0 / factor) if factor else np.float32(n) / np.float32(out)
    places = np.floor((np.arange(out, dtype=np.float32) + np.float32(offset)) * step)
    return np.minimum(places.astype(np.int64), n - 1)


def _linear(n: int, places: np.ndarray) -> Taps:
    places = np.maximum(places, 0.0)
    first = np.minimum(places.astype(np.int64), n - 1)
    share = np.minimum(places - first, 1.0)
    return np.stack([first, np.minimum(first + 1, n - 1)], axis=1), np.stack([1 - share, share], axis=1)


def _cubic(n: int, places: np.ndarray) -> Taps:
    first = np.floor(places).astype(np.int64)
    around = first[:, None] + np.arange(-1, 3)
    return np.clip(around, 0, n - 1), keys_cubic(np, places[:, None] - around, -0.75)


def keys_cubic(xp: Any, distance: Any, a: float) -> Any:
    """Keys's kernel at distances of at most 2, with the array functions of `xp`."""
    d = xp.abs(distance)
    near = ((a + 2) * d - (a + 3)) * d * d + 1
    far = ((a * d - 5 * a) * d + 8 * a) * d - 4 * a
    return xp.where(d <= 1, near, far)


def _filtered(n: int, out: int, step: float, cubic: bool) -> Taps:
    """A triangle, or Keys's kernel, that is at least as wide as the distance between elements of the result."""
    widening = max(step, 1.0)
    support = (2.0 if cubic else 1.0) * widening
    centre = step * (np.arange(out) + 0.5)
    start = np.maximum((centre - support + 0.5).astype(np.int64), 0)
    stop = np.minimum((centre + support + 0.5).astype(np.int64), n)
    places = start[:, None] + np.arange(max((stop - start).max(), 1))
    distance = (places - centre[:, None] + 0.5) / widening
    if cubic:
        weights = np.where(np.abs(distance) < 2, keys_cubic(np, distance, -0.5), 0.0)
    else:
        weights = np.maximum(1.0 - np.abs(distance), 0.0)
    weights = np.where(places < stop[:, None], weights, 0.0)
    return np.clip(places, 0, n - 1), weights / weights.sum(axis=1, keepdims=True)


# ---------------------------------------------------------------------------------------------- along an axis
def _select(x: Array, axis: int, places: np.ndarray) -> Array:
    """The elements at these places; as a repetition or a slice where they are one, since those have fast gradients."""
    n, out = x.shape[axis], len(places)
    i = np.arange(out)
    if out == n and (places == i).all():
        return x
    if out % n == 0 and (places == i // (out // n)).all():
        shape = (*x.shape[: axis + 1], out // n, *x.shape[axis + 1 :])
        kept = tuple(a for a in range(len(shape)) if a != axis + 1)
        return lax.broadcast_in_dim(x, shape, kept).reshape(*x.shape[:axis], out, *x.shape[axis + 1 :])
    step = int(places[1] - places[0]) if out > 1 else 1
    if step > 0 and (places == places[0] + i * step).all():
        return lax.slice_in_dim(x, int(places[0]), int(places[-1]) + 1, step, axis)
    return jnp.take(x, places, axis=axis)


def _combine(x: Array, axis: int, taps: Taps) -> Array:
    """For each element of the result, the sum over its taps of weight times element."""
    places, weights = taps
    if len(places) == x.shape[axis] and (places[weights != 0] == np.nonzero(weights)[0]).all():
        return x  # every element has its own place, alone

    @asgfn.custom_jvp
    def combined(x: Array) -> Array:
        # Only the taps are looked at: what is infinite elsewhere has no influence.
        factors = weights.astype(x.dtype).reshape(*weights.shape, *(1,) * (x.ndim - axis - 1))
        if places.shape[1] > _FEW_TAPS:
            return jnp.sum(jnp.take(x, places, axis=axis) * factors, axis=axis + 1)
        terms = [jnp.take(x, places[:, k], axis=axis) * factors[:, k] for k in range(places.shape[1])]
        return functools.reduce(operator.add, terms)

    @combined.defjvp
    def rule(primals: tuple, tangents: tuple) -> tuple[Array, Array]:
        # A product with a matrix, because its transpose is one again, and faster than scattering.
        matrix = np.zeros((x.shape[axis], len(places)))
        np.add.at(matrix, (places, np.arange(len(places))[:, None]), weights)
        (t,) = tangents
        moved = jnp.tensordot(t, matrix.astype(t.dtype), axes=((axis,), (0,)))
        return combined(*primals), jnp.moveaxis(moved, -1, axis)

    return combined(x)


# ---------------------------------------------------------------------------------------------- channels and space
def pixel_shuffle(x: Any, upscale_factor: int) -> Array:
    """[..., C r^2, H, W] as [..., C, H r, W r]: r^2 channels become the r x r elements of a block.

    Source: W. Shi et al., Real-Time Single Image and Video Super-Resolution Using an Efficient Sub-Pixel CNN, 2016.

    Raises:
        ShapeError: fewer than three axes, or channels that r^2 does not divide.
        ValueError: r is below 1.
    """
    x = to_array("pixel_shuffle", x)
    r = static_int("pixel_shuffle", "upscale_factor", upscale_factor, least=1)
    if x.ndim < 3 or x.shape[-3] % (r * r):
        raise ShapeError(
            f"pixel_shuffle: x must be [..., channels, H, W] with a multiple of {r * r} channels (upscale_factor {r} "
            f"squared); got {x.aval}"
        )
    *lead, channels, height, width = x.shape
    split = x.reshape(*lead, channels // (r * r), r, r, height, width)
    k = len(lead)
    order = (*range(k), k, k + 3, k + 1, k + 4, k + 2)
    return split.transpose(order).reshape(*lead, channels // (r * r), height * r, width * r)


def pixel_unshuffle(x: Any, downscale_factor: int) -> Array:
    """[..., C, H r, W r] as [..., C r^2, H, W]: undoes `pixel_shuffle`.

    Raises:
        ShapeError: fewer than three axes, or a height or width that r does not divide.
        ValueError: r is below 1.
    """
    x = to_array("pixel_unshuffle", x)
    r = static_int("pixel_unshuffle", "downscale_factor", downscale_factor, least=1)
    if x.ndim < 3 or x.shape[-2] % r or x.shape[-1] % r:
        raise ShapeError(
            f"pixel_unshuffle: x must be [..., channels, H, W] with H and W multiples of downscale_factor {r}; got {x.aval}"
        )
    *lead, channels, height, width = x.shape
    split = x.reshape(*lead, channels, height // r, r, width // r, r)
    k = len(lead)
    order = (*range(k), k, k + 2, k + 4, k + 1, k + 3)
    return split.transpose(order).reshape(*lead, channels * r * r, height // r, width // r)


def channel_shuffle(x: Any, groups: int) -> Array:
    """[N, groups c, *space] with the channels of different groups taking turns.

    Source: X. Zhang et al., ShuffleNet, 2017.

    Raises:
        ShapeError: fewer than three axes, or channels that `groups` does not divide.
        ValueError: groups is below 1.
    """
    x = to_array("channel_shuffle", x)
    groups = static_int("channel_shuffle", "groups", groups, least=1)
    if x.ndim < 3 or x.shape[1] % groups:
        raise ShapeError(
            f"channel_shuffle: x must be [N, C, *space] with C a multiple of groups={groups}; got {x.aval}"
        )
    split = x.reshape(x.shape[0], groups, x.shape[1] // groups, *x.shape[2:])
    return split.swapaxes(1, 2).reshape(x.shape)
