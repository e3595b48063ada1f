"""Random changes of images that leave their meaning: an independent one for each image of a batch.

`layout` says which trailing axes make one image: "CHW", "HWC" or "HW" (without channels); all axes before count images.
When it is not given, an array of four axes is [N, C, H, W] and one of two is [H, W]; three could be a batch [N, H, W] or
one image [C, H, W], so they need it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from asgfn.dtypes import is_bool, is_floating
from asgfn.errors import ShapeError
from nn_fn.data.transforms.values import array_of, working_dtype

LAYOUTS = ("CHW", "HWC", "HW")
PAD_MODES = ("constant", "edge", "reflect", "symmetric", "wrap")
CACHED_PIXELS = 2**14


def _check_layout(owner: str, layout: str | None) -> None:
    if layout is not None and layout not in LAYOUTS:
        raise ValueError(f"{owner}: layout must be one of {', '.join(LAYOUTS)} or None, got {layout!r}")


def _check_probability(owner: str, p: float) -> None:
    if not 0 <= p <= 1:
        raise ValueError(f"{owner}: p must lie between 0 and 1, got {p}")


def _as_images(owner: str, x: Any, layout: str | None) -> tuple[np.ndarray, Callable[[np.ndarray], np.ndarray]]:
    """x as [images, channels, height, width], and a function that brings such an array back to the form of x."""
    x = array_of(owner, x)
    if layout is None:
        layout = {2: "HW", 4: "CHW"}.get(x.ndim)
        if layout is None:
            raise ShapeError(
                f"{owner}: {x.dtype}{list(x.shape)} may be a batch of images [H, W] or one image [C, H, W]; say layout='HW', "
                "'CHW' or 'HWC'"
            )
    if x.ndim < len(layout):
        raise ShapeError(f"{owner}: layout={layout!r} needs at least {len(layout)} axes, got shape {x.shape}")
    leading = x.shape[: x.ndim - len(layout)]
    if layout == "HWC":
        x = np.moveaxis(x, -1, -3)
    channels = () if layout == "HW" else (x.shape[-3],)
    images = x.reshape(math.prod(leading), *(channels or (1,)), *x.shape[-2:])

    def back(result: np.ndarray) -> np.ndarray:
        result = result.reshape(*leading, *channels, *result.shape[-2:])
        return np.ascontiguousarray(np.moveaxis(result, -3, -1)) if layout == "HWC" else result

    return images, back


def _pair(owner: str, name: str, value: int | Sequence[int], least: int) -> tuple[int, int]:
    """(vertical, horizontal) of one number or two."""
    pair = (value, value) if isinstance(value, int | np.integer) else tuple(value)
    if len(pair) != 2 or any(int(v) != v or v < least for v in pair):
        raise ValueError(f"{owner}: {name} must be one or two integers of at least {least}, got {value}")
    return int(pair[0]), int(pair[1])


def _fill_value(owner: str, fill: float, dtype: np.dtype) -> Any:
    """`fill` in the dtype of an image, which must hold it."""
    if is_floating(dtype):
        return dtype.type(fill)
    limits = (0, 1) if is_bool(dtype) else (np.iinfo(dtype).min, np.iinfo(dtype).max)
    if int(fill) != fill or not limits[0] <= fill <= limits[1]:
        raise ValueError(f"{owner}: an image of dtype {dtype} cannot be filled with {fill}")
    return dtype.type(fill)


def _check_fill(owner: str, fill: float) -> None:
    if not math.isfinite(fill):
        raise ValueError(f"{owner}: the value to fill with must be finite, got {fill}")


@dataclass(frozen=True)
class RandomCrop:
    """A window at a random place, of the image with a margin around it.

    Arguments:
        size: of the window: a number, or (height, width).
        padding: the margin on each side: a number, or (vertical, horizontal).
        padding_mode: how the margin is filled, as in `numpy.pad`: "constant", "edge", "reflect", "symmetric", "wrap".
        fill: the constant.
        layout: which axes make an image; see the module.

    Raises:
        ShapeError: for a window larger than image and margin.
    """

    size: int | Sequence[int]
    padding: int | Sequence[int] = 0
    padding_mode: str = "constant"
    fill: float = 0.0
    layout: str | None = None
    random: ClassVar[bool] = True

    def __post_init__(self) -> None:
        object.__setattr__(self, "size", _pair("RandomCrop", "size", self.size, 1))
        object.__setattr__(self, "padding", _pair("RandomCrop", "padding", self.padding, 0))
        if self.padding_mode not in PAD_MODES:
            raise ValueError(
                f"RandomCrop: padding_mode must be one of {', '.join(PAD_MODES)}, got {self.padding_mode!r}"
            )
        _check_fill("RandomCrop", self.fill)
        _check_layout("RandomCrop", self.layout)

    def __call__(self, x: Any, rng: np.random.Generator) -> np.ndarray:
        images, back = _as_images("RandomCrop", x, self.layout)
        (height, width), (down, right) = self.size, self.padding  # type: ignore[misc]
        if down or right:
            constant = {"constant_values": _fill_value("RandomCrop", self.fill, images.dtype)}
            images = np.pad(
                images,
                ((0, 0), (0, 0), (down, down), (right, right)),
                mode=self.padding_mode,  # type: ignore[call-overload]
                **(constant if self.padding_mode == "constant" else {}),
            )
        rows, columns = images.shape[2] - height + 1, images.shape[3] - width + 1
        if rows < 1 or columns < 1:
            raise ShapeError(
                f"RandomCrop: a window of {height} x {width} does not fit into {images.shape[2]} x {images.shape[3]}, margins "
                "included; use more padding or a smaller size"
            )
        top = rng.integers(rows, size=len(images))
        left = rng.integers(columns, size=len(images))
        windows = np.lib.stride_tricks.sliding_window_view(images, (height, width), axis=(2, 3))
        return back(windows[np.arange(len(images)), :, top, left])


def _flipped(owner: str, x: Any, layout: str | None, p: float, axis: int, rng: np.random.Generator) -> np.ndarray:
    images, back = _as_images(owner, x, layout)
    chosen = rng.random(len(images)) < p
    return back(np.where(chosen[:, None, None, None], np.flip(images, axis), images))


@dataclass(frozen=True)
class RandomHorizontalFlip:
    """Left and right exchanged, with probability p. `layout`: see the module."""

    p: float = 0.5
    layout: str | None = None
    random: ClassVar[bool] = True

    def __post_init__(self) -> None:
        _check_probability("RandomHorizontalFlip", self.p)
        _check_layout("RandomHorizontalFlip", self.layout)

    def __call__(self, x: Any, rng: np.random.Generator) -> np.ndarray:
        return _flipped("RandomHorizontalFlip", x, self.layout, self.p, -1, rng)


@dataclass(frozen=True)
class RandomVerticalFlip:
    """Top and bottom exchanged, with probability p. `layout`: see the module."""

    p: float = 0.5
    layout: str | None = None
    random: ClassVar[bool] = True

    def __post_init__(self) -> None:
        _check_probability("RandomVerticalFlip", self.p)
        _check_layout("RandomVerticalFlip", self.layout)

    def __call__(self, x: Any, rng: np.random.Generator) -> np.ndarray:
        return _flipped("RandomVerticalFlip", x, self.layout, self.p, -2, rng)


@dataclass(frozen=True)
class RandomRotation:
    """A rotation about the centre by a random angle, with bilinear interpolation. Size and dtype stay.

    Arguments:
        degrees: the largest angle either way, or (smallest, largest); positive is counter-clockwise.
        fill: the colour outside of the image.
        layout: which axes make an image; see the module.
    """

    degrees: float | Sequence[float]
    fill: float = 0.0
    layout: str | None = None
    random: ClassVar[bool] = True

    def __post_init__(self) -> None:
        given = self.degrees
        limits = (-given, given) if isinstance(given, int | float | np.number) else tuple(map(float, given))
        if len(limits) != 2 or not all(map(math.isfinite, limits)) or limits[0] > limits[1]:
            raise ValueError(
                f"RandomRotation: degrees must be a number of at least 0 or (smallest, largest), got {given}"
            )
        object.__setattr__(self, "degrees", (float(limits[0]), float(limits[1])))
        _check_fill("RandomRotation", self.fill)
        _check_layout("RandomRotation", self.layout)

    def __call__(self, x: Any, rng: np.random.Generator) -> np.ndarray:
        images, back = _as_images("RandomRotation", x, self.layout)
        smallest, largest = self.degrees  # type: ignore[misc]
        angles = np.radians(rng.uniform(smallest, largest, size=len(images)))
        return back(_rotate(images, angles, _fill_value("RandomRotation", self.fill, images.dtype)))


def _rotate(images: np.ndarray, angles: np.ndarray, fill: Any) -> np.ndarray:
    """Each of [n, c, h, w] rotated counter-clockwise by its angle, in radians."""
    result = np.empty(images.shape, images.dtype)
    if not images.size:
        return result
    # a few images at a time, so that what is computed in between stays in the cache
    group = max(1, CACHED_PIXELS // (images.shape[2] * images.shape[3]))
    for start in range(0, len(images), group):
        chosen = slice(start, start + group)
        rotated = _rotate_group(images[chosen], angles[chosen], fill)
        result[chosen] = rotated if is_floating(images.dtype) else np.rint(rotated)
    return result


def _rotate_group(images: np.ndarray, angles: np.ndarray, fill: Any) -> np.ndarray:
    """The same in the working dtype, for images that are not too many to be treated at once."""
    count, channels, height, width = images.shape
    dtype = working_dtype(images.dtype)
    # a rim of `fill` stands for everything outside: coordinates are limited to it. Channels last: one gather gets all.
    rim = np.full((count, height + 2, width + 2, channels), fill, dtype)
    rim[:, 1:-1, 1:-1] = images.transpose(0, 2, 3, 1)
    y = np.arange(height, dtype=dtype)[:, None] - dtype.type((height - 1) / 2)
    x = np.arange(width, dtype=dtype) - dtype.type((width - 1) / 2)
    cos, sin = (f(angles).astype(dtype)[:, None, None] for f in (np.cos, np.sin))
    row = np.clip(sin * x + cos * y + dtype.type((height - 1) / 2 + 1), 0, height + 1)
    column = np.clip(cos * x - sin * y + dtype.type((width - 1) / 2 + 1), 0, width + 1)
    top = np.minimum(np.floor(row), height)
    left = np.minimum(np.floor(column), width)
    down = (row - top)[..., None]
    right = (column - left)[..., None]
    of_image = np.arange(count)[:, None, None] * (height + 2)
    corner = (of_image + top.astype(np.intp)) * (width + 2) + left.astype(np.intp)
    rim = rim.reshape(-1, channels)
    result = np.zeros((*corner.shape, channels), dtype)
    for offset, weight in (
        (0, (1 - down) * (1 - right)),
        (1, (1 - down) * right),
        (width + 2, down * (1 - right)),
        (width + 3, down * right),
    ):
        result += np.take(rim, corner + offset, axis=0) * weight
    return result.transpose(0, 3, 1, 2)


@dataclass(frozen=True)
class RandomErasing:
    """A random rectangle filled with one value, with probability p.

    Arguments:
        p: the probability.
        scale: smallest and largest share of the image's area.
        ratio: smallest and largest height / width of the rectangle; its logarithm is uniform.
        value: what to fill with.
        layout: which axes make an image; see the module.

    Source: Z. Zhong et al., Random Erasing Data Augmentation, AAAI 2020. A rectangle that does not fit is drawn again, up
    to ten times; then the image stays as it is.
    """

    p: float = 0.5
    scale: tuple[float, float] = (0.02, 0.33)
    ratio: tuple[float, float] = (0.3, 3.3)
    value: float = 0.0
    layout: str | None = None
    random: ClassVar[bool] = True

    def __post_init__(self) -> None:
        _check_probability("RandomErasing", self.p)
        if not 0 <= self.scale[0] <= self.scale[1] <= 1:
            raise ValueError(f"RandomErasing: scale must be two shares in order, from 0 to 1, got {self.scale}")
        if not 0 < self.ratio[0] <= self.ratio[1] < math.inf:
            raise ValueError(f"RandomErasing: ratio must be two positive numbers in order, got {self.ratio}")
        _check_fill("RandomErasing", self.value)
        _check_layout("RandomErasing", self.layout)

    def __call__(self, x: Any, rng: np.random.Generator) -> np.ndarray:
        images, back = _as_images("RandomErasing", x, self.layout)
        count, _, height, width = images.shape
        attempts = (count, 10)
        area = rng.uniform(*self.scale, size=attempts) * height * width
        ratio = np.exp(rng.uniform(math.log(self.ratio[0]), math.log(self.ratio[1]), size=attempts))
        tall = np.maximum(np.rint(np.sqrt(area * ratio)), 1)
        wide = np.maximum(np.rint(np.sqrt(area / ratio)), 1)
        fits = (tall <= height) & (wide <= width)
        first = np.argmax(fits, axis=1)
        chosen = (rng.random(count) < self.p) & fits.any(axis=1)
        tall, wide = tall[np.arange(count), first], wide[np.arange(count), first]
        top = np.floor(rng.random(count) * (height - tall + 1))
        left = np.floor(rng.random(count) * (width - wide + 1))
        rows = _between(np.arange(height), top, tall) & chosen[:, None]
        erased = rows[:, None, :, None] & _between(np.arange(width), left, wide)[:, None, None, :]
        return back(np.where(erased, _fill_value("RandomErasing", self.value, images.dtype), images))


def _between(places: np.ndarray, start: np.ndarray, length: np.ndarray) -> np.ndarray:
    """Which places lie in each stretch: bool[n, places]."""
    return (places >= start[:, None]) & (places < (start + length)[:, None])
