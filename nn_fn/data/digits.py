"""The UCI handwritten digits: a real data set small enough to travel with the code."""

from __future__ import annotations

import functools
import hashlib
import io
import operator
from importlib import resources

import numpy as np

FILE_NAME = "digits.npz"
SHA256 = "56691635b5c95f315ed55907c4fe83309809b3b822ee0b8d68e84bba3ffd4ca3"
LARGEST_PIXEL = 16


def load_digits(
    split: str | None = None,
    *,
    test_fraction: float = 0.2,
    seed: int = 0,
    flatten: bool = False,
    scale: bool = True,
) -> tuple[np.ndarray, np.ndarray]:
    """Handwritten digits, 8 × 8 pixels: 1,797 images of ten classes of nearly equal size.

    Needs neither the network nor the file system: the numbers are part of the package.

    Arguments:
        split: `"train"` or `"test"` for one side of a stratified split (every class is divided in the same
            proportion, and the order is shuffled); `None` for all images in the order of the original file.
        test_fraction: the share of images in the test part, strictly between 0 and 1. The test part has
            `round(1797 * test_fraction)` images.
        seed: chooses the split, an integer from 0 to 2**32 - 1. The same seed gives the same split on every machine.
            Load both parts with the same `test_fraction` and `seed`: then they are disjoint and complete.
        flatten: images of shape `[n, 64]` instead of `[n, 8, 8]`.
        scale: images as float32 between 0 (white) and 1 (black), instead of uint8 between 0 and 16.

    Returns:
        `(images, labels)`: float32 (or uint8) images and int32 labels of shape `[n]`, as NumPy arrays that the caller
        owns.

    Raises:
        ValueError: for an unknown `split`, or a `test_fraction` or `seed` that is out of range.
        OSError: when the file in the installation is missing or damaged.

    Source: E. Alpaydin and C. Kaynak, Optical Recognition of Handwritten Digits, UCI Machine Learning Repository, 1998,
    CC BY 4.0; see DIGITS_ATTRIBUTION.md.
    """
    images, labels = _stored_arrays()
    if split is None:
        chosen = np.arange(len(labels))
    elif split in ("train", "test"):
        train, test = _stratified_split(labels, test_fraction, seed)
        chosen = train if split == "train" else test
    else:
        raise ValueError(f"load_digits: split must be 'train', 'test' or None, got {split!r}")
    images, labels = images[chosen], labels[chosen].astype(np.int32)
    if flatten:
        images = images.reshape(len(images), -1)
    if scale:
        images = images.astype(np.float32) / np.float32(LARGEST_PIXEL)
    return images, labels


def _stratified_split(labels: np.ndarray, test_fraction: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Indices of the train part and of the test part, each in a shuffled order."""
    if not 0 < test_fraction < 1:
        raise ValueError(f"load_digits: test_fraction must lie strictly between 0 and 1, got {test_fraction!r}")
    seed = operator.index(seed)
    if not 0 <= seed < 2**32:
        raise ValueError(f"load_digits: seed must lie between 0 and 2**32 - 1, got {seed}")
    # NumPy promises that RandomState never changes its stream; its newer generators make no such promise.
    random = np.random.RandomState(seed)
    shuffled = random.permutation(len(labels))
    by_class = [shuffled[labels[shuffled] == label] for label in np.unique(labels)]
    test_counts = _apportion(np.array([len(members) for members in by_class]), test_fraction)
    train = np.concatenate([members[count:] for members, count in zip(by_class, test_counts, strict=True)])
    test = np.concatenate([members[:count] for members, count in zip(by_class, test_counts, strict=True)])
    return random.permutation(train), random.permutation(test)


def _apportion(sizes: np.ndarray, fraction: float) -> np.ndarray:
    """Whole numbers close to `sizes * fraction` that sum to `round(sum(sizes) * fraction)` (largest remainders)."""
    exact = sizes * fraction
    counts = np.floor(exact).astype(int)
    missing = round(float(sizes.sum() * fraction)) - int(counts.sum())
    largest_remainders = np.argsort(counts - exact, kind="stable")[:missing]
    counts[largest_remainders] += 1
    return counts


@functools.cache
def _stored_arrays() -> tuple[np.ndarray, np.ndarray]:
    """The arrays of the packaged file, checked against its checksum."""
    file = resources.files(__package__) / FILE_NAME
    try:
        content = file.read_bytes()
    except FileNotFoundError:
        raise FileNotFoundError(f"load_digits: {file} is missing. Reinstalling asgfn brings it back.") from None
    checksum = hashlib.sha256(content).hexdigest()
    if checksum != SHA256:
        raise OSError(
            f"load_digits: {file} is damaged: its SHA-256 is {checksum}, expected {SHA256}. "
            "Reinstalling asgfn brings back the original."
        )
    with np.load(io.BytesIO(content), allow_pickle=False) as archive:
        images, labels = archive["images"], archive["labels"]
    images.setflags(write=False)
    labels.setflags(write=False)
    return images, labels
