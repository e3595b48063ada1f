"""Sampling of images at positions that are data: grids of affine maps, and interpolation at a grid (Jaderberg et al.,
Spatial Transformer Networks, 2015).

Positions are in [-1, 1] from one end of an axis to the other: between the centres of the corner elements with
`align_corners`, between the outer edges without. The last axis of a grid holds (x, y) or (x, y, z), x along the last
axis of the image.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

import asgfn
import asgfn.numpy as jnp
from asgfn import lax
from asgfn.errors import ShapeError
from asgfn.tracing import Array
from nn_fn.functional.arguments import float_array, one_of, same_dtype, static_int
from nn_fn.functional.resizing import keys_cubic


def affine_grid(theta: Any, size: Sequence[int], align_corners: bool = False) -> Array:
    """Where an affine map takes each element of an image.

    Arguments:
        theta: float [N, 2, 3] for images, or [N, 3, 4] for volumes: matrix and offset.
        size: shape of the image that the grid is for, (N, C, H, W) or (N, C, D, H, W).
        align_corners: see above.

    Returns:
        [N, H, W, 2] or [N, D, H, W, 3], for `grid_sample`.

    Raises:
        ShapeError: theta and size do not fit.
        DTypeError: theta is not floating point.
    """
    theta = float_array("affine_grid", "theta", theta)
    shape = tuple(static_int("affine_grid", "size", n, least=1) for n in size)
    spatial = len(shape) - 2
    if spatial not in (2, 3) or theta.shape != (shape[0], spatial, spatial + 1):
        raise ShapeError(
            f"affine_grid: size must be (N, C, H, W) with theta [N, 2, 3], or (N, C, D, H, W) with [N, 3, 4]; got size "
            f"{shape} and theta {theta.aval}"
        )
    ends = [1.0 if align_corners else (n - 1) / n for n in shape[2:]]
    axes = [np.linspace(-end, end, n) if n > 1 else np.zeros(1) for n, end in zip(shape[2:], ends, strict=True)]
    coordinates = np.meshgrid(*axes, indexing="ij")[::-1]
    base = np.stack([*coordinates, np.ones(shape[2:])], axis=-1).astype(theta.dtype)
    return jnp.einsum("...j,nij->n...i", jnp.asarray(base), theta)


def grid_sample(
    x: Any, grid: Any, mode: str = "bilinear", padding_mode: str = "zeros", align_corners: bool = False
) -> Array:
    """The values of images at given positions.

    Arguments:
        x: float [N, C, H, W] or [N, C, D, H, W].
        grid: float [N, h, w, 2] or [N, d, h, w, 3], positions.
        mode: "bilinear" (trilinear for volumes), "nearest" (a tie goes to the even place), or "bicubic" (images only).
        padding_mode: what is outside: "zeros", "border" (the nearest element) or "reflection".
        align_corners: see above.

    Returns:
        [N, C, h, w] or [N, C, d, h, w].

    Raises:
        ShapeError: x and grid do not fit, or x has an empty spatial axis.
        DTypeError: an operand is not floating point, or their dtypes differ.
        ValueError: an unknown mode.
    """
    name = "grid_sample"
    one_of(name, "mode", mode, ("bilinear", "nearest", "bicubic"))
    one_of(name, "padding_mode", padding_mode, ("zeros", "border", "reflection"))
    x, grid = float_array(name, "x", x), float_array(name, "grid", grid)
    same_dtype(name, x=x, grid=grid)
    spatial = x.ndim - 2
    if spatial not in (2, 3) or grid.ndim != x.ndim or grid.shape[0] != x.shape[0] or grid.shape[-1] != spatial:
        raise ShapeError(
            f"{name}: x must be [N, C, H, W] with grid [N, h, w, 2], or [N, C, D, H, W] with grid [N, d, h, w, 3]; got "
            f"x {x.aval} and grid {grid.aval}"
        )
    if 0 in x.shape[2:]:
        raise ShapeError(f"{name}: the spatial axes of x must not be empty, got x {x.aval}")
    if mode == "bicubic" and spatial == 3:
        raise ValueError(f"{name}: mode 'bicubic' is for images, got x {x.aval}")
    batch, points = x.shape[0], math.prod(grid.shape[1:-1])
    flat = grid.reshape(batch, points, spatial)
    sizes = x.shape[2:]
    # for each axis of x: taps of (place, weight)
    taps = [
        _taps(_scaled(flat[:, :, spatial - 1 - axis], n, align_corners), n, mode, padding_mode, align_corners)
        for axis, n in enumerate(sizes)
    ]
    elements = x.reshape(batch, x.shape[1], math.prod(sizes))
    total: Any = 0
    for chosen in itertools.product(*taps):
        weight: Any = None
        inside: Any = True
        where: Any = 0
        for (place, share), n in zip(chosen, sizes, strict=True):
            inside = (place >= 0) & (place < n) & inside
            where = where * n + jnp.clip(place, 0, n - 1).astype(np.int32)
            weight = share if weight is None or share is None else weight * share
        found = asgfn.vmap(lambda image, at: jnp.take(image, at, axis=1))(elements, where)
        found = jnp.where(inside[:, None], found, 0)
        total = total + (found if weight is None else found * weight[:, None])
    return total.reshape(*x.shape[:2], *grid.shape[1:-1])


def _scaled(position: Array, n: int, align_corners: bool) -> Array:
    """From [-1, 1] to the numbers of elements."""
    return (position + 1) / 2 * (n - 1) if align_corners else ((position + 1) * n - 1) / 2


def _taps(place: Array, n: int, mode: str, padding_mode: str, align_corners: bool) -> list[tuple[Array, Array | None]]:
    """Whole places along an axis, as floats that may lie outside, with their weights (None: 1)."""

    def inner(place: Array) -> Array:
        return _inside(place, n, padding_mode, align_corners)

    if mode == "nearest":
        return [(jnp.round(lax.stop_gradient(inner(place))), None)]
    if mode == "bilinear":
        place = inner(place)
        first = jnp.floor(lax.stop_gradient(place))
        share = place - first
        return [(first, 1 - share), (first + 1, share)]
    first = jnp.floor(lax.stop_gradient(place))
    share = place - first
    return [(jnp.round(inner(first + k)), keys_cubic(jnp, share - k, -0.75)) for k in range(-1, 3)]


def _inside(place: Array, n: int, padding_mode: str, align_corners: bool) -> Array:
    if padding_mode == "zeros":
        return place
    if padding_mode == "reflection":
        low, span = (0.0, n - 1.0) if align_corners else (-0.5, float(n))
        if span == 0:
            return jnp.zeros_like(place)
        distance = jnp.where(place >= low, place - low, low - place)
        flips = jnp.floor(lax.stop_gradient(distance) / span)
        extra = distance - flips * span
        place = jnp.where(flips % 2 == 0, extra, span - extra) + low
    # clipped as PyTorch does it: no slope at the ends
    return jnp.where(place <= 0, 0, jnp.where(place >= n - 1, n - 1, place))
