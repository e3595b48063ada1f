"""Dividing a data set: disjoint parts that together are everything."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any

import numpy as np

from asgfn.errors import ShapeError
from nn_fn.data.datasets import Dataset, SubsetDataset
from nn_fn.data.digits import _apportion
from nn_fn.data.randomness import SPLIT, checked_seed, permutation


def random_split(
    dataset: Dataset, lengths: Sequence[float], *, seed: int = 0, stratify: Any = None
) -> tuple[SubsetDataset, ...]:
    """Divides a data set at random into parts.

    Arguments:
        dataset: n items.
        lengths: sizes of the parts: integers that sum to n, or fractions that sum to 1 (then sizes are rounded so that they
            sum to n).
        seed: 0 to 2**64 - 1; the same seed gives the same parts on every machine.
        stratify: labels of shape [n]: every part then has each class in the proportion that the whole has it, as nearly
            as whole numbers allow.

    Returns:
        As many `SubsetDataset`s, disjoint and complete, each in a shuffled order.

    Raises:
        ValueError: for lengths that are negative or have the wrong sum, or a seed out of range.
        ShapeError: for labels that are not of shape [n].
    """
    seed = checked_seed("random_split", seed)
    total = len(dataset)
    sizes = _sizes(lengths, total)
    order = permutation(total, seed, SPLIT, 0)
    if stratify is None:
        parts = np.split(order, np.cumsum(sizes)[:-1])
    else:
        parts = _stratified(order, _labels("random_split", stratify, total), sizes)
        parts = [part[permutation(len(part), seed, SPLIT, 1, number)] for number, part in enumerate(parts)]
    return tuple(SubsetDataset(dataset, part) for part in parts)


def train_test_split(
    dataset: Dataset, test_size: float = 0.2, *, shuffle: bool = True, seed: int = 0, stratify: Any = None
) -> tuple[SubsetDataset, SubsetDataset]:
    """Divides a data set into a part to train on and a part to test on.

    Arguments:
        dataset: n items.
        test_size: the share of the test part, strictly between 0 and 1 (rounded), or its number of items, an integer.
        shuffle: whether to choose at random; otherwise the test part is the end of the data.
        seed, stratify: as in `random_split`.

    Returns:
        `(train, test)`.

    Raises:
        ValueError: when a part would be empty, for a seed out of range, or for `stratify` without `shuffle`.
        ShapeError: for labels that are not of shape [n].
    """
    total = len(dataset)
    tests = test_size if isinstance(test_size, int | np.integer) else round(float(test_size) * total)
    if not 0 < tests < total:
        raise ValueError(
            f"train_test_split: test_size={test_size!r} gives {tests} of {total} items to the test part; neither part may "
            "be empty"
        )
    if shuffle:
        train, test = random_split(dataset, (total - tests, tests), seed=seed, stratify=stratify)
        return train, test
    if stratify is not None:
        raise ValueError("train_test_split: stratify needs shuffle=True")
    order = np.arange(total)
    return SubsetDataset(dataset, order[: total - tests]), SubsetDataset(dataset, order[total - tests :])


def _sizes(lengths: Sequence[float], total: int) -> np.ndarray:
    """Whole sizes of all parts."""
    if not len(lengths):
        raise ValueError("random_split: lengths must name at least one part")
    try:
        sizes = np.array([operator.index(n) for n in lengths])  # type: ignore[arg-type]
    except TypeError:
        fractions = np.array(lengths, np.float64)
        if not (np.all(fractions >= 0) and abs(fractions.sum() - 1) < 1e-6):
            raise ValueError(
                f"random_split: lengths must be integers that sum to {total}, or fractions of at least 0 that sum to 1, "
                f"got {list(lengths)}"
            ) from None
        return _apportion(fractions / fractions.sum(), total)
    if np.any(sizes < 0) or sizes.sum() != total:
        raise ValueError(
            f"random_split: lengths must be at least 0 and sum to {total}, the number of items, got {list(lengths)}, which "
            f"sum to {sizes.sum()}"
        )
    return sizes


def _labels(owner: str, labels: Any, total: int) -> np.ndarray:
    labels = np.asarray(labels)
    if labels.shape != (total,):
        raise ShapeError(f"{owner}: stratify must be labels of shape ({total},), one an item, got shape {labels.shape}")
    return labels


def _stratified(order: np.ndarray, labels: np.ndarray, sizes: np.ndarray) -> list[np.ndarray]:
    """Parts of the given sizes with the classes in proportion; items are taken in `order`."""
    classes = [order[labels[order] == label] for label in np.unique(labels)]
    parts = []
    for number, size in enumerate(sizes):
        left = np.array([len(members) for members in classes], dtype=np.int64)
        last = number == len(sizes) - 1 or size == left.sum()
        counts = left if last else _apportion(left, size / max(left.sum(), 1))
        parts.append(np.concatenate([order[:0], *(m[:count] for m, count in zip(classes, counts, strict=True))]))
        classes = [members[count:] for members, count in zip(classes, counts, strict=True)]
    return parts
