"""CIFAR-10 and CIFAR-100: 60,000 colour images of 32 × 32 pixels, from their official archives."""

from __future__ import annotations

import os
from dataclasses import dataclass

import numpy as np

from nn_fn.data.arrange import arrange_images
from nn_fn.data.errors import DataError
from nn_fn.data.files import gunzip, md5_of, read_bytes
from nn_fn.data.locate import OfficialFile, Places, locate
from nn_fn.data.pickled import load_plain_pickle
from nn_fn.data.tar import tar_members

IMAGE_SHAPE = (3, 32, 32)
PIXELS = 3 * 32 * 32
# the official archives have 170 MB, and 190 MB when unpacked
LARGEST_ARCHIVE = 2**28
LARGEST_CONTENT = 2**28

CIFAR10_CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


@dataclass(frozen=True)
class _Archive:
    """One of the official archives: its checksum, and the members that hold each split."""

    name: str
    md5: str
    members: dict[str, tuple[str, ...]]
    binary: bool


@dataclass(frozen=True)
class _Source:
    """What tells CIFAR-10 and CIFAR-100 apart.

    Attributes:
        labels: names and numbers of the classes of each kind of label, in the order of the binary records; the names
            are the keys of the Python version.
        archives: the accepted archives; the first one is downloaded.
    """

    places: Places
    labels: tuple[tuple[str, int], ...]
    archives: tuple[_Archive, ...]


CIFAR10 = _Source(
    Places("CIFAR-10", ("cifar-10", ".")),
    (("labels", 10),),
    (
        _Archive(
            "cifar-10-binary.tar.gz",
            "c32a1d4ab5d03f1284b67883e8d87530",
            {
                "train": tuple(f"cifar-10-batches-bin/data_batch_{i}.bin" for i in range(1, 6)),
                "test": ("cifar-10-batches-bin/test_batch.bin",),
            },
            binary=True,
        ),
        _Archive(
            "cifar-10-python.tar.gz",
            "c58f30108f718f92721af3b95e74349a",
            {
                "train": tuple(f"cifar-10-batches-py/data_batch_{i}" for i in range(1, 6)),
                "test": ("cifar-10-batches-py/test_batch",),
            },
            binary=False,
        ),
    ),
)
CIFAR100 = _Source(
    Places("CIFAR-100", ("cifar-100", ".")),
    (("coarse_labels", 20), ("fine_labels", 100)),
    (
        _Archive(
            "cifar-100-binary.tar.gz",
            "03b5dce01913d631647c71ecec9e9cb8",
            {"train": ("cifar-100-binary/train.bin",), "test": ("cifar-100-binary/test.bin",)},
            binary=True,
        ),
        _Archive(
            "cifar-100-python.tar.gz",
            "eb9058c3a382ffc7106e4002c42a8d85",
            {"train": ("cifar-100-python/train",), "test": ("cifar-100-python/test",)},
            binary=False,
        ),
    ),
)
ADDRESSES = ("https://www.cs.toronto.edu/~kriz/", "https://cave.cs.toronto.edu/kriz/")


def load_cifar10(
    split: str = "train",
    *,
    root: str | os.PathLike[str] | None = None,
    flatten: bool = False,
    scale: bool = True,
    channel_axis: int = 1,
    download: bool = True,
    verify: bool = True,
) -> tuple[np.ndarray, np.ndarray]:
    """CIFAR-10: photographs of ten kinds of things, 50,000 to train on and 10,000 to test with, 32 × 32 pixels.

    Reads `cifar-10-binary.tar.gz` or `cifar-10-python.tar.gz` as they are: they need not be unpacked, and nothing in
    them is run. The archive is taken from the first of these places that has one: `root` (in its subfolder `cifar-10`,
    then in itself); the folder that the environment variable `ASGFN_DATA` names, in the same way; the cache folder
    (`nn_fn.data.cache_folder()`). If none has one, the binary version (162 MB) is downloaded into subfolder `cifar-10`
    of `root`, else of `ASGFN_DATA`, else of the cache folder.

    Arguments:
        split: `"train"` or `"test"`.
        root: a folder that exists; `None` for the other places only.
        flatten: images of shape `[n, 3072]`, in the order that `channel_axis` gives.
        scale: images as float32 between 0 and 1, instead of uint8 between 0 and 255.
        channel_axis: 1 for images of shape `[n, 3, 32, 32]`; -1 for `[n, 32, 32, 3]`. Channels are red, green, blue.
        download: whether the network may be used.
        verify: requires the official archive, by its MD5. With `verify=False`, archives of the same form and of any
            number of images are accepted.

    Returns:
        `(images, labels)`: float32 (or uint8) images and int32 labels of shape `[n]` between 0 and 9 (their names are
        in `CIFAR10_CLASSES`), as NumPy arrays that the caller owns.

    Raises:
        ValueError: for an unknown `split` or `channel_axis`.
        DataNotFoundError, DownloadError: when the archive is nowhere; the message says what to do.
        DataError: when the archive is damaged or not the official one.

    Source: A. Krizhevsky, Learning Multiple Layers of Features from Tiny Images, 2009,
    https://www.cs.toronto.edu/~kriz/cifar.html.
    """
    images, labels = _load("load_cifar10", CIFAR10, split, root, download, verify)
    images = arrange_images("load_cifar10", images, flatten=flatten, scale=scale, channel_axis=channel_axis)
    return images, labels["labels"]


def load_cifar100(
    split: str = "train",
    *,
    labels: str = "fine",
    root: str | os.PathLike[str] | None = None,
    flatten: bool = False,
    scale: bool = True,
    channel_axis: int = 1,
    download: bool = True,
    verify: bool = True,
) -> tuple[np.ndarray, np.ndarray]:
    """CIFAR-100: photographs of a hundred kinds of things, 50,000 to train on and 10,000 to test with, 32 × 32 pixels.

    Reads `cifar-100-binary.tar.gz` or `cifar-100-python.tar.gz`; all else is as for `load_cifar10`, with subfolder
    `cifar-100`.

    Arguments:
        split: `"train"` or `"test"`.
        labels: `"fine"` for the 100 classes, `"coarse"` for their 20 groups.
        root: a folder that exists; `None` for the other places only.
        flatten: images of shape `[n, 3072]`, in the order that `channel_axis` gives.
        scale: images as float32 between 0 and 1, instead of uint8 between 0 and 255.
        channel_axis: 1 for images of shape `[n, 3, 32, 32]`; -1 for `[n, 32, 32, 3]`. Channels are red, green, blue.
        download: whether the network may be used.
        verify: requires the official archive, by its MD5.

    Returns:
        `(images, labels)`: float32 (or uint8) images and int32 labels of shape `[n]`, between 0 and 99 (or 19), as
        NumPy arrays that the caller owns.

    Raises:
        ValueError: for an unknown `split`, `labels` or `channel_axis`.
        DataNotFoundError, DownloadError: when the archive is nowhere; the message says what to do.
        DataError: when the archive is damaged or not the official one.

    Source: A. Krizhevsky, Learning Multiple Layers of Features from Tiny Images, 2009,
    https://www.cs.toronto.edu/~kriz/cifar.html.
    """
    if labels not in ("fine", "coarse"):
        raise ValueError(f"load_cifar100: labels must be 'fine' or 'coarse', got {labels!r}")
    images, found = _load("load_cifar100", CIFAR100, split, root, download, verify)
    images = arrange_images("load_cifar100", images, flatten=flatten, scale=scale, channel_axis=channel_axis)
    return images, found[f"{labels}_labels"]


def _load(
    caller: str, source: _Source, split: str, root: str | os.PathLike[str] | None, download: bool, verify: bool
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Images of shape `[n, 3, 32, 32]`, and labels of every kind."""
    if split not in ("train", "test"):
        raise ValueError(f"{caller}: split must be 'train' or 'test', got {split!r}")
    first = source.archives[0]
    file = OfficialFile(
        tuple(archive.name for archive in source.archives),
        tuple(f"{address}{first.name}" for address in ADDRESSES),
        first.md5,
    )
    (path,) = locate(caller, source.places, [file], root, download)
    archive = next(archive for archive in source.archives if archive.name == path.name)
    packed = read_bytes(path, LARGEST_ARCHIVE)
    if verify and md5_of(packed) != archive.md5:
        raise DataError(
            f"{path}: the MD5 is {md5_of(packed)}, expected {archive.md5}. The file is damaged or is another one. "
            "Delete it and fetch it again, or pass verify=False to accept it"
        )
    members = tar_members(gunzip(packed, LARGEST_CONTENT, path), path)
    parts = []
    for name in archive.members[split]:
        if name not in members:
            raise DataError(f"{path}: the archive has no member {name!r}")
        read = _binary_batch if archive.binary else _pickled_batch
        parts.append(read(members[name], source.labels, f"{path}, member {name}"))
    images = np.concatenate([images for images, _ in parts])
    labels = {kind: np.concatenate([labels[kind] for _, labels in parts]) for kind, _ in source.labels}
    for kind, classes in source.labels:
        if labels[kind].max() >= classes:
            raise DataError(f"{path}: expected {kind} from 0 to {classes - 1}, got {labels[kind].max()}")
    return images.reshape(len(images), *IMAGE_SHAPE), labels


def _binary_batch(
    content: memoryview, kinds: tuple[tuple[str, int], ...], source: str
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Pixels and labels of a file of the binary version: records of one byte for each label, then the pixels."""
    record = len(kinds) + PIXELS
    if len(content) % record or not content:
        raise DataError(f"{source}: expected records of {record} bytes, got {len(content)} bytes")
    records = np.frombuffer(content, np.uint8).reshape(-1, record)
    labels = {kind: records[:, i].astype(np.int32) for i, (kind, _) in enumerate(kinds)}
    return records[:, len(kinds) :], labels


def _pickled_batch(
    content: memoryview, kinds: tuple[tuple[str, int], ...], source: str
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Pixels and labels of a file of the Python version: a pickled dictionary."""
    batch = load_plain_pickle(bytes(content), source)
    if not isinstance(batch, dict):
        raise DataError(f"{source}: expected a dictionary, got a {type(batch).__name__}")
    pixels = _entry(batch, "data", source)
    if not isinstance(pixels, np.ndarray) or pixels.ndim != 2 or pixels.shape[1] != PIXELS or not len(pixels):
        got = f"shape {pixels.shape}" if isinstance(pixels, np.ndarray) else type(pixels).__name__
        raise DataError(f"{source}: expected pixels of shape (n, {PIXELS}), got {got}")
    labels = {}
    for kind, _ in kinds:
        values = _entry(batch, kind, source)
        if not isinstance(values, list) or not all(type(value) is int and 0 <= value < 256 for value in values):
            raise DataError(f"{source}: expected {kind} to be a list of small integers")
        if len(values) != len(pixels):
            raise DataError(f"{source}: there are {len(pixels)} images, but {len(values)} {kind}")
        labels[kind] = np.array(values, np.int32)
    return pixels, labels


def _entry(batch: dict, name: str, source: str) -> object:
    """An entry whose key is a string of Python 2 or of Python 3."""
    for key in (name.encode(), name):
        if key in batch:
            return batch[key]
    raise DataError(f"{source}: the dictionary has no entry {name!r}")
