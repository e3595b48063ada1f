"""The layout and the scale in which a loader returns images."""

from __future__ import annotations

import math

import numpy as np

LARGEST_PIXEL = 255


def arrange_images(
    caller: str, images: np.ndarray, *, flatten: bool, scale: bool, channel_axis: int | None
) -> np.ndarray:
    """Images of shape `[n, channels, height, width]` and dtype uint8, as the options of a loader ask for.

    Raises:
        ValueError: when `channel_axis` is none of 1, 3, -3, -1, or is `None` and there are several channels.
    """
    n, channels = images.shape[:2]
    if channel_axis is None and channels == 1:
        images = images[:, 0]
    elif channel_axis in (3, -1):
        images = np.moveaxis(images, 1, 3)
    elif channel_axis not in (1, -3):
        allowed = "1 or -1" if channels > 1 else "None, 1 or -1"
        raise ValueError(f"{caller}: channel_axis must be {allowed}, got {channel_axis!r}")
    if flatten:
        images = images.reshape(n, math.prod(images.shape[1:]))
    if scale:
        return np.ascontiguousarray(images, np.float32) / np.float32(LARGEST_PIXEL)
    return np.array(images, order="C")
