"""Sliding windows of images as columns, and their sum back into images."""

from __future__ import annotations

from typing import Any

import numpy as np

import asgfn
import asgfn.numpy as jnp
from asgfn import lax
from asgfn.errors import ShapeError
from asgfn.tracing import Array
from nn_fn.functional.arguments import Ints, float_array, per_axis, with_batch

IntOrInts = Any  # int | Sequence[int]


def unfold(
    x: Any, kernel_size: IntOrInts, dilation: IntOrInts = 1, padding: IntOrInts = 0, stride: IntOrInts = 1
) -> Array:
    """The windows that a convolution would see, as columns (im2col).

    Arguments:
        x: float [N, C, H, W] or [C, H, W].
        kernel_size, dilation, padding, stride: ints, or pairs (vertical, horizontal), as of `conv2d`.

    Returns:
        [N, C kh kw, windows]; the channel varies slowest.

    Raises:
        ShapeError: x has another rank, or is smaller than the window.
        DTypeError: x is not floating point.
        ValueError: a number out of its range.
    """
    x, unbatched = with_batch("unfold", float_array("unfold", "x", x), 2)
    places, pads = _windows("unfold", x.shape[2:], kernel_size, dilation, padding, stride)
    y = _columns(x, places, pads)
    return y[0] if unbatched else y


def fold(
    x: Any,
    output_size: IntOrInts,
    kernel_size: IntOrInts,
    dilation: IntOrInts = 1,
    padding: IntOrInts = 0,
    stride: IntOrInts = 1,
) -> Array:
    """The sum of windows, given as columns, at their places in an image (col2im): the transpose of `unfold`.

    Arguments:
        x: float [N, C kh kw, windows] or [C kh kw, windows].
        output_size: (H, W) of the image.
        kernel_size, dilation, padding, stride: as they were given to `unfold`.

    Returns:
        [N, C, H, W]; what fell into the padding is left out.

    Raises:
        ShapeError: x does not have such columns, or so many of them.
        DTypeError: x is not floating point.
        ValueError: a number out of its range.
    """
    x, unbatched = with_batch("fold", float_array("fold", "x", x), 1)
    sizes = per_axis("fold", "output_size", output_size, 2, least=1)
    places, pads = _windows("fold", sizes, kernel_size, dilation, padding, stride)
    (rows, columns), elements = places, places[0].shape[0] * places[1].shape[0]
    windows = rows.shape[1] * columns.shape[1]
    if x.shape[1] % elements or x.shape[2] != windows:
        raise ShapeError(
            f"fold: an image of {sizes} has {windows} such windows of {elements} elements, so x must be [N, C * {elements}, "
            f"{windows}]; got {x.aval}"
        )
    image = asgfn.ShapeDtypeStruct((x.shape[0], x.shape[1] // elements, *sizes), x.dtype)
    (y,) = asgfn.linear_transpose(lambda image: _columns(image, places, pads), image)(x)
    return y[0] if unbatched else y


def _windows(
    name: str, sizes: Ints, kernel_size: Any, dilation: Any, padding: Any, stride: Any
) -> tuple[list[np.ndarray], Ints]:
    """For each axis the places [kernel, windows] in the padded image, and the padding."""
    kernel = per_axis(name, "kernel_size", kernel_size, 2, least=1)
    gaps = per_axis(name, "dilation", dilation, 2, least=1)
    pads = per_axis(name, "padding", padding, 2, least=0)
    strides = per_axis(name, "stride", stride, 2, least=1)
    places = []
    for size, k, d, p, s in zip(sizes, kernel, gaps, pads, strides, strict=True):
        count = (size + 2 * p - d * (k - 1) - 1) // s + 1
        if count < 1:
            raise ShapeError(
                f"{name}: a window of {kernel} with dilation {gaps} does not fit into an image of {sizes} with padding {pads}"
            )
        places.append(np.add.outer(np.arange(k) * d, np.arange(count) * s))
    return places, pads


def _columns(x: Array, places: list[np.ndarray], pads: Ints) -> Array:
    batch, channels = x.shape[:2]
    rows, columns = places
    x = lax.pad(x, jnp.zeros((), x.dtype), [(0, 0, 0), (0, 0, 0), *((p, p, 0) for p in pads)])
    taken = jnp.take(jnp.take(x, columns, axis=3), rows, axis=2)  # [N, C, kh, windows, kw, windows]
    ordered = taken.transpose(0, 1, 2, 4, 3, 5)
    elements, windows = len(rows) * len(columns), rows.shape[1] * columns.shape[1]
    return ordered.reshape(batch, channels * elements, windows)
