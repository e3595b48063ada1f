"""Images on disk, sorted into one folder for each class."""

from __future__ import annotations

import operator
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from nn_fn.data.datasets import position
from nn_fn.data.errors import DataError, DataNotFoundError

EXTENSIONS = (".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")
CHANNELS = {"L": 1, "RGB": 3, "RGBA": 4}
# modes whose samples have more than eight bits: converting them would cut the values off
DEEP_MODES = ("I", "F", "I;16", "I;16L", "I;16B", "I;16N", "I;10")


@dataclass(frozen=True)
class ImageFolder:
    """A data set of image files: `root/CLASS/.../FILE`, where every subfolder of `root` is a class.

    Classes are numbered by their sorted names, and images are sorted by class, then by path, so that the order is the
    same on every machine. Files with other extensions, and hidden files and folders, are passed over. Only the list of
    paths is in memory; an image is read when it is asked for. The data set can be sent to worker processes.
    `MapDataset` applies transforms to it.

    Arguments:
        root: the folder.
        size: `(height, width)` to which each image is resized (antialiased, without keeping the ratio of its sides), or
            one number for both; `None` to keep the size of each file.
        mode: `"RGB"`, `"L"` (grey) or `"RGBA"`. What is on transparent pixels shows when transparency is dropped.
        scale: images as float32 between 0 and 1, instead of uint8 between 0 and 255.
        channel_axis: 0 for images of shape `[channels, height, width]`; -1 for `[height, width, channels]`.
        extensions: the extensions that count, in lower case, with their dots.

    Attributes:
        classes: the names of the classes; label i is `classes[i]`.
        class_to_index: the inverse.
        samples: `(path, label)` of each image.

    Raises:
        DataNotFoundError: when `root` is not a folder.
        DataError: when `root` has no subfolder, or a class has no image.
        ValueError: for an option out of range.
    """

    root: str | os.PathLike[str]
    size: int | tuple[int, int] | None = None
    mode: str = "RGB"
    scale: bool = True
    channel_axis: int = 0
    extensions: Sequence[str] = EXTENSIONS
    classes: tuple[str, ...] = field(init=False, repr=False)
    samples: tuple[tuple[Path, int], ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.mode not in CHANNELS:
            raise ValueError(f"ImageFolder: mode must be one of {', '.join(CHANNELS)}, got {self.mode!r}")
        if self.channel_axis not in (0, -1, 2, -3):
            raise ValueError(f"ImageFolder: channel_axis must be 0 or -1, got {self.channel_axis!r}")
        object.__setattr__(self, "size", _height_and_width(self.size))
        object.__setattr__(self, "extensions", tuple(self.extensions))
        root = Path(self.root)
        if not root.is_dir():
            raise DataNotFoundError(f"ImageFolder: {root} is not a folder")
        classes = sorted(entry.name for entry in root.iterdir() if entry.is_dir() and not entry.name.startswith("."))
        if not classes:
            raise DataError(f"ImageFolder: {root} has no subfolders; expected one for each class")
        samples = []
        for label, name in enumerate(classes):
            paths = _images_below(root / name, self.extensions)
            if not paths:
                raise DataError(
                    f"ImageFolder: {root / name} has no image; expected files that end in {', '.join(self.extensions)}"
                )
            samples += [(path, label) for path in paths]
        object.__setattr__(self, "classes", tuple(classes))
        object.__setattr__(self, "samples", tuple(samples))

    @property
    def class_to_index(self) -> dict[str, int]:
        return {name: label for label, name in enumerate(self.classes)}

    @property
    def labels(self) -> np.ndarray:
        """The labels of all images, int32 of shape `[n]`, without reading an image."""
        return np.array([label for _, label in self.samples], np.int32)

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> tuple[np.ndarray, int]:
        """`(image, label)`.

        Raises:
            IndexError: outside of `-len(self)` to `len(self) - 1`.
            DataError: when the file cannot be read as an image; the message names it.
        """
        path, label = self.samples[position("ImageFolder", index, len(self))]
        image = _read_image(path, self.mode, self.size)  # type: ignore[arg-type]
        if self.channel_axis in (0, -3):
            image = np.ascontiguousarray(np.moveaxis(image, -1, 0))
        if self.scale:
            image = image.astype(np.float32) / np.float32(255)
        return image, label


def _height_and_width(size: Any) -> tuple[int, int] | None:
    if size is None:
        return None
    try:
        height, width = map(operator.index, size if isinstance(size, (tuple, list)) else (size, size))
    except (TypeError, ValueError):
        height = width = 0
    if height < 1 or width < 1:
        raise ValueError(f"ImageFolder: size must be a positive integer, (height, width) or None, got {size!r}")
    return height, width


def _images_below(folder: Path, extensions: Sequence[str]) -> list[Path]:
    found = []
    for parent, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [Path(parent, name) for name in names if name.lower().endswith(tuple(extensions)) and name[0] != "."]
    # by components, so that the separator of the operating system has no say
    return sorted(found, key=lambda path: path.parts)


def _read_image(path: Path, mode: str, size: tuple[int, int] | None) -> np.ndarray:
    """The image as uint8 of shape `[height, width, channels]`."""
    from PIL import Image

    try:
        with Image.open(path) as image:
            if image.mode in DEEP_MODES:
                raise DataError(
                    f"ImageFolder: {path} has more than 8 bits a sample (mode {image.mode}), which is not supported"
                )
            converted = image.convert(mode)
            if size is not None:
                converted = converted.resize((size[1], size[0]), Image.Resampling.BILINEAR)
            pixels = np.array(converted, np.uint8)
    except (DataError, MemoryError):
        raise
    # the decoders of damaged files raise errors of many kinds
    except Exception as error:
        raise DataError(f"ImageFolder: {path} cannot be read as an image: {error or type(error).__name__}") from error
    return pixels.reshape(*pixels.shape[:2], CHANNELS[mode])
