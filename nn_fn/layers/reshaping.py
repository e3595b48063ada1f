"""Layers that only rearrange their input."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import asgfn.numpy as jnp
from asgfn.errors import ShapeError
from nn_fn import functional as F
from nn_fn.layers.configuration import constructor
from nn_fn.layers.layer import Layer, simple


@constructor
def flatten(start_axis: int = 1, end_axis: int = -1) -> Layer:
    """The axes from `start_axis` to `end_axis` (included) as one, in row-major order.

    Raises (when called):
        ShapeError: x does not have these axes, or the first lies behind the last.
    """

    def apply(params: Any, x: Any) -> Any:
        x = jnp.asarray(x)
        first, last = (axis + x.ndim if axis < 0 else axis for axis in (start_axis, end_axis))
        if not 0 <= first <= last < x.ndim:
            raise ShapeError(f"flatten({start_axis}, {end_axis}): {x.aval} has no such range of axes")
        return x.reshape(*x.shape[:first], math.prod(x.shape[first : last + 1]), *x.shape[last + 1 :])

    return simple("flatten", apply)


@constructor
def unflatten(axis: int, sizes: Sequence[int]) -> Layer:
    """One axis as several of these sizes, one of which may be -1; the inverse of `flatten`.

    Raises (when called):
        ShapeError: the axis does not exist, or its length is not the product of the sizes.
    """
    sizes = tuple(sizes)
    if sizes.count(-1) > 1 or any(size < -1 for size in sizes):
        raise ValueError(f"unflatten: sizes are not negative, but for one -1 at most; got {sizes}")

    def apply(params: Any, x: Any) -> Any:
        x = jnp.asarray(x)
        if not -x.ndim <= axis < x.ndim:
            raise ShapeError(f"unflatten({axis}, {sizes}): {x.aval} has no axis {axis}")
        place = axis % x.ndim
        length, known = x.shape[place], math.prod(s for s in sizes if s >= 0)
        if (known == 0 or length % known) if -1 in sizes else length != known:
            raise ShapeError(f"unflatten({axis}, {sizes}): axis {axis} of {x.aval} cannot be divided into these sizes")
        made = tuple(length // known if s == -1 else s for s in sizes)
        return x.reshape(*x.shape[:place], *made, *x.shape[place + 1 :])

    return simple("unflatten", apply)


@constructor
def upsample(
    size: int | Sequence[int] | None = None,
    scale_factor: float | Sequence[float] | None = None,
    mode: str = "nearest",
    align_corners: bool | None = None,
) -> Layer:
    """Images (or sequences, or volumes) at another size, by `functional.interpolate`."""
    return simple(
        "upsample",
        lambda params, x: F.interpolate(
            x, size=size, scale_factor=scale_factor, mode=mode, align_corners=align_corners
        ),
    )


@constructor
def pixel_shuffle(upscale_factor: int) -> Layer:
    """[N, C r², H, W] as [N, C, H r, W r] (W. Shi et al., 2016)."""
    return simple("pixel_shuffle", lambda params, x: F.pixel_shuffle(x, upscale_factor))


@constructor
def identity() -> Layer:
    """The input itself."""
    return simple("identity", lambda params, x: jnp.asarray(x))
