"""MNIST and Fashion-MNIST: 70,000 grey images of 28 × 28 pixels in ten classes, from their official files."""

from __future__ import annotations

import os
from dataclasses import dataclass

import numpy as np

from nn_fn.data.arrange import arrange_images
from nn_fn.data.errors import DataError
from nn_fn.data.idx import read_idx
from nn_fn.data.locate import OfficialFile, Places, locate

SIDE = 28
CLASSES = 10
LARGEST_FILE = 2**28

FASHION_MNIST_CLASSES = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)

# file of the images and file of the labels
FILES = {
    "train": ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
    "test": ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),
}


@dataclass(frozen=True)
class _Source:
    """What tells MNIST and its relatives apart.

    Attributes:
        places: where the files may be.
        addresses: folders on the network that hold the compressed files.
        compressed_md5: the published checksums of the compressed files, by name without ".gz".
        md5: checksums of their uncompressed content. These are what a loaded file is checked against, since
            Debian's package compresses the same content anew.
    """

    places: Places
    addresses: tuple[str, ...]
    compressed_md5: dict[str, str]
    md5: dict[str, str]


MNIST = _Source(
    Places("MNIST", ("mnist", "MNIST/raw")),
    (
        "https://ossci-datasets.s3.amazonaws.com/mnist/",
        "https://storage.googleapis.com/cvdf-datasets/mnist/",
    ),
    {
        "train-images-idx3-ubyte": "f68b3c2dcbeaaa9fbdd348bbdeb94873",
        "train-labels-idx1-ubyte": "d53e105ee54ea40749a09fcbcd1e9432",
        "t10k-images-idx3-ubyte": "9fb629c4189551a2d022fa330f9573f3",
        "t10k-labels-idx1-ubyte": "ec29112dd5afa0611ce80d1b7f02629c",
    },
    {
        "train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
        "train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
        "t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
        "t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
    },
)
FASHION_MNIST = _Source(
    Places(
        "Fashion-MNIST",
        ("fashion-mnist", "FashionMNIST/raw"),
        ("/usr/share/datasets/fashion-mnist",),
        "On Debian and Ubuntu, `apt-get install dataset-fashion-mnist` installs them where they are found.",
    ),
    (
        "https://github.com/zalandoresearch/fashion-mnist/raw/master/data/fashion/",
        "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
    ),
    {
        "train-images-idx3-ubyte": "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
        "train-labels-idx1-ubyte": "25c81989df183df01b3e8a0aad5dffbe",
        "t10k-images-idx3-ubyte": "bef4ecab320f06d8554ea6380940ec79",
        "t10k-labels-idx1-ubyte": "bb300cfdad3c16e7a12a480ee83cd310",
    },
    {
        "train-images-idx3-ubyte": "f4a8712d7a061bf5bd6d2ca38dc4d50a",
        "train-labels-idx1-ubyte": "9018921c3c673c538a1fc5bad174d6f9",
        "t10k-images-idx3-ubyte": "8181f5470baa50b63fa0f6fddb340f0a",
        "t10k-labels-idx1-ubyte": "15d484375f8d13e6eb1aabb0c3f46965",
    },
)


def load_mnist(
    split: str = "train",
    *,
    root: str | os.PathLike[str] | None = None,
    flatten: bool = False,
    scale: bool = True,
    channel_axis: int | None = None,
    download: bool = True,
    verify: bool = True,
) -> tuple[np.ndarray, np.ndarray]:
    """MNIST: handwritten digits, 60,000 images to train on and 10,000 to test with, 28 × 28 pixels.

    The four official files (`train-images-idx3-ubyte.gz` and so on, compressed or plain) are taken from the first of
    these places that has both files of the split: `root` (in its subfolder `mnist` or `MNIST/raw`, then in itself);
    the same subfolders of the folder that the environment variable `ASGFN_DATA` names; those of the cache folder
    (`nn_fn.data.cache_folder()`). If none has them, they are downloaded into subfolder `mnist` of `root`, else of
    `ASGFN_DATA`, else of the cache folder.

    Arguments:
        split: `"train"` or `"test"`.
        root: a folder that exists; `None` for the other places only.
        flatten: images of shape `[n, 784]`.
        scale: images as float32 between 0 (background) and 1, instead of uint8 between 0 and 255.
        channel_axis: `None` for images of shape `[n, 28, 28]`; 1 for `[n, 1, 28, 28]`; -1 for `[n, 28, 28, 1]`.
        download: whether the network may be used.
        verify: requires the official content, by its MD5. With `verify=False`, files of the same form and of any number
            of images are accepted; then damage inside a plain (uncompressed) file goes unnoticed, as it has no checksum.

    Returns:
        `(images, labels)`: float32 (or uint8) images and int32 labels of shape `[n]` between 0 and 9, as NumPy arrays
        that the caller owns.

    Raises:
        ValueError: for an unknown `split` or `channel_axis`.
        DataNotFoundError, DownloadError: when the files are nowhere; the message says what to do.
        DataError: when a file is damaged, is not the official one, or does not fit the other.

    Source: Y. LeCun, C. Cortes, C. J. C. Burges, The MNIST database of handwritten digits,
    http://yann.lecun.com/exdb/mnist/.
    """
    return _load("load_mnist", MNIST, split, root, flatten, scale, channel_axis, download, verify)


def load_fashion_mnist(
    split: str = "train",
    *,
    root: str | os.PathLike[str] | None = None,
    flatten: bool = False,
    scale: bool = True,
    channel_axis: int | None = None,
    download: bool = True,
    verify: bool = True,
) -> tuple[np.ndarray, np.ndarray]:
    """Fashion-MNIST: clothes, 60,000 images to train on and 10,000 to test with, 28 × 28 pixels.

    The four official files (`train-images-idx3-ubyte.gz` and so on, compressed or plain) are taken from the first of
    these places that has both files of the split: `root` (in its subfolder `fashion-mnist` or `FashionMNIST/raw`, then
    in itself); the same subfolders of the folder that the environment variable `ASGFN_DATA` names; those of the cache
    folder (`nn_fn.data.cache_folder()`); `/usr/share/datasets/fashion-mnist`, where Debian's package
    `dataset-fashion-mnist` installs them. If none has them, they are downloaded into subfolder `fashion-mnist` of
    `root`, else of `ASGFN_DATA`, else of the cache folder.

    Arguments:
        split: `"train"` or `"test"`.
        root: a folder that exists; `None` for the other places only.
        flatten: images of shape `[n, 784]`.
        scale: images as float32 between 0 (background) and 1, instead of uint8 between 0 and 255.
        channel_axis: `None` for images of shape `[n, 28, 28]`; 1 for `[n, 1, 28, 28]`; -1 for `[n, 28, 28, 1]`.
        download: whether the network may be used.
        verify: requires the official content, by its MD5. With `verify=False`, files of the same form and of any number
            of images are accepted; then damage inside a plain (uncompressed) file goes unnoticed, as it has no checksum.

    Returns:
        `(images, labels)`: float32 (or uint8) images and int32 labels of shape `[n]` between 0 and 9 (their names are
        in `FASHION_MNIST_CLASSES`), as NumPy arrays that the caller owns.

    Raises:
        ValueError: for an unknown `split` or `channel_axis`.
        DataNotFoundError, DownloadError: when the files are nowhere; the message says what to do.
        DataError: when a file is damaged, is not the official one, or does not fit the other.

    Source: H. Xiao, K. Rasul, R. Vollgraf, Fashion-MNIST: a novel image dataset for benchmarking machine learning
    algorithms, 2017, https://arxiv.org/abs/1708.07747. MIT licence.
    """
    return _load("load_fashion_mnist", FASHION_MNIST, split, root, flatten, scale, channel_axis, download, verify)


def _load(
    caller: str,
    source: _Source,
    split: str,
    root: str | os.PathLike[str] | None,
    flatten: bool,
    scale: bool,
    channel_axis: int | None,
    download: bool,
    verify: bool,
) -> tuple[np.ndarray, np.ndarray]:
    if split not in FILES:
        raise ValueError(f"{caller}: split must be 'train' or 'test', got {split!r}")
    names = FILES[split]
    files = [
        OfficialFile(
            (f"{name}.gz", name),
            tuple(f"{address}{name}.gz" for address in source.addresses),
            source.compressed_md5[name],
        )
        for name in names
    ]
    paths = locate(caller, source.places, files, root, download)
    images, labels = (
        read_idx(path, md5=source.md5[name] if verify else None, max_bytes=LARGEST_FILE)
        for path, name in zip(paths, names, strict=True)
    )
    if images.dtype != np.uint8 or images.shape[1:] != (SIDE, SIDE):
        raise DataError(f"{paths[0]}: expected uint8[n,{SIDE},{SIDE}], got {images.dtype}{list(images.shape)}")
    if labels.dtype != np.uint8 or labels.ndim != 1:
        raise DataError(f"{paths[1]}: expected uint8[n], got {labels.dtype}{list(labels.shape)}")
    if len(images) != len(labels):
        raise DataError(f"{paths[0]} has {len(images)} images, but {paths[1]} has {len(labels)} labels")
    if labels.size and labels.max() >= CLASSES:
        raise DataError(f"{paths[1]}: expected labels from 0 to {CLASSES - 1}, got {labels.max()}")
    images = arrange_images(caller, images[:, None], flatten=flatten, scale=scale, channel_axis=channel_axis)
    return images, labels.astype(np.int32)
