"""Samplers: in which order, and how often, the items of a data set come in an epoch.

A sampler is an immutable record with `len(sampler)` and `sampler.indices(epoch)`, a pure function: int64 of shape
[len(sampler)]. Asking again gives the same answer, another epoch another order. Iterating over a sampler gives the
indices of epoch 0.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from nn_fn.data.randomness import DRAW, SHUFFLE, checked_seed, permutation, uniforms


class Sampler:
    """Base of all samplers: what follows from `__len__` and `indices`."""

    def __len__(self) -> int:
        raise NotImplementedError

    def indices(self, epoch: int = 0) -> np.ndarray:
        """The order of an epoch, int64[len(self)]."""
        raise NotImplementedError

    def __iter__(self) -> Iterator[int]:
        return iter(self.indices(0).tolist())


def epoch_indices(sampler: Any, epoch: int) -> np.ndarray:
    """The order of an epoch according to a sampler of ours, or to anything else that can be iterated over again.

    An object with `set_epoch` is told the epoch first, so PyTorch's samplers work.
    """
    if hasattr(sampler, "indices"):
        found = np.asarray(sampler.indices(epoch))
    else:
        if hasattr(sampler, "set_epoch"):
            sampler.set_epoch(epoch)
        found = np.asarray(list(sampler))
    if found.size == 0:
        return np.zeros(0, np.int64)
    if found.ndim != 1 or found.dtype.kind not in "iu":
        raise TypeError(
            f"{type(sampler).__name__}: a sampler must give integers of shape [n], got {found.dtype}{list(found.shape)}"
        )
    return found.astype(np.int64, copy=False)


def _count(owner: str, what: str, value: Any, least: int = 0) -> int:
    """A whole number that is at least `least`."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer):
        raise TypeError(f"{owner}: {what} must be an integer, got {type(value).__name__}")
    if value < least:
        raise ValueError(f"{owner}: {what} must be at least {least}, got {value}")
    return int(value)


@dataclass(frozen=True)
class SequentialSampler(Sampler):
    """0, 1, ..., length - 1 in every epoch."""

    length: int

    def __post_init__(self) -> None:
        object.__setattr__(self, "length", _count("SequentialSampler", "length", self.length))

    def __len__(self) -> int:
        return self.length

    def indices(self, epoch: int = 0) -> np.ndarray:
        """The order of an epoch, int64[length]."""
        return np.arange(self.length)


@dataclass(frozen=True)
class RandomSampler(Sampler):
    """A uniformly random order.

    Arguments:
        length: the number of items.
        replacement: draw each item anew from all of them.
        num_samples: indices in an epoch, `length` by default; without replacement at most `length`.
        seed: 0 to 2**64 - 1.

    Raises:
        ValueError: for numbers out of range.
    """

    length: int
    replacement: bool = False
    num_samples: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        length = _count("RandomSampler", "length", self.length)
        samples = length if self.num_samples is None else _count("RandomSampler", "num_samples", self.num_samples)
        if not self.replacement and samples > length:
            raise ValueError(
                f"RandomSampler: num_samples={samples} of {length} items needs replacement=True, or fewer samples"
            )
        if samples and not length:
            raise ValueError(f"RandomSampler: cannot draw {samples} samples from no items")
        object.__setattr__(self, "length", length)
        object.__setattr__(self, "num_samples", samples)
        object.__setattr__(self, "seed", checked_seed("RandomSampler", self.seed))

    def __len__(self) -> int:
        return self.num_samples or 0

    def indices(self, epoch: int = 0) -> np.ndarray:
        """The order of an epoch, int64[num_samples]."""
        if self.replacement:
            return (uniforms(len(self), self.seed, DRAW, epoch) * self.length).astype(np.int64)
        return permutation(self.length, self.seed, SHUFFLE, epoch)[: len(self)]


@dataclass(frozen=True, eq=False)
class WeightedRandomSampler(Sampler):
    """Items drawn with given weights, O(log n) each.

    Arguments:
        weights: non-negative numbers of shape [n]; they need not sum to 1. An item of weight 0 is never drawn.
        num_samples: indices in an epoch; without replacement at most the number of positive weights.
        replacement: True draws each index independently with probability `weights[i] / sum(weights)`. False draws one
            after another, each time from the items that are left, in proportion to their weights.
        seed: 0 to 2**64 - 1.

    Raises:
        ValueError: for weights that are negative, not finite, all zero or not of shape [n], or numbers out of range.

    Source: without replacement, P. Efraimidis and P. Spirakis, Weighted random sampling with a reservoir, Information
    Processing Letters 97 (2006): the k smallest of `-log(uniform) / weight` are such a sample.
    """

    weights: np.ndarray
    num_samples: int
    replacement: bool = True
    seed: int = 0

    def __post_init__(self) -> None:
        weights = np.array(self.weights, np.float64)
        if weights.ndim != 1 or not np.all(np.isfinite(weights)) or np.any(weights < 0) or not np.any(weights > 0):
            raise ValueError(
                "WeightedRandomSampler: weights must be finite, at least 0, not all 0, and of shape [n]; got "
                f"shape {list(weights.shape)}"
                + (f", smallest {weights.min()}, largest {weights.max()}" if weights.size else "")
            )
        weights.flags.writeable = False
        samples = _count("WeightedRandomSampler", "num_samples", self.num_samples)
        if not self.replacement and samples > np.count_nonzero(weights):
            raise ValueError(
                f"WeightedRandomSampler: num_samples={samples} without replacement, but only "
                f"{np.count_nonzero(weights)} weights are positive"
            )
        object.__setattr__(self, "weights", weights)
        object.__setattr__(self, "num_samples", samples)
        object.__setattr__(self, "seed", checked_seed("WeightedRandomSampler", self.seed))

    def __len__(self) -> int:
        return self.num_samples

    def indices(self, epoch: int = 0) -> np.ndarray:
        """The draws of an epoch, int64[num_samples]."""
        if self.replacement:
            # scaled so that neither the sum of huge weights overflows nor tiny ones are lost
            cumulative = np.cumsum(self.weights / self.weights.max())
            drawn = np.searchsorted(cumulative, uniforms(len(self), self.seed, DRAW, epoch) * cumulative[-1], "right")
            return np.minimum(drawn, np.flatnonzero(self.weights)[-1])  # rounding may reach the very end
        positive = np.flatnonzero(self.weights)
        exponential = -np.log1p(-uniforms(len(positive), self.seed, DRAW, epoch))
        with np.errstate(divide="ignore"):  # a uniform number that is 0 comes first
            keys = np.log(exponential) - np.log(self.weights[positive])  # as logarithms: a tiny weight cannot overflow
        return positive[np.argsort(keys, kind="stable")[: len(self)]]


def balanced_weights(labels: Any) -> np.ndarray:
    """Weights for `WeightedRandomSampler` with which every class is equally likely.

    Arguments:
        labels: of shape [n], anything that can be compared.

    Returns:
        float64[n]: 1 / (the number of items with the same label).
    """
    labels = np.asarray(labels)
    if labels.ndim != 1:
        raise ValueError(f"balanced_weights: labels must have shape [n], got {list(labels.shape)}")
    _, class_of, counts = np.unique(labels, return_inverse=True, return_counts=True)
    return 1.0 / counts[class_of]


@dataclass(frozen=True, eq=False)
class StratifiedSampler(Sampler):
    """A random order in which every stretch, and so every batch, has the classes in nearly their overall proportions.

    Arguments:
        labels: of shape [n].
        seed: 0 to 2**64 - 1.
    """

    labels: np.ndarray
    seed: int = 0

    def __post_init__(self) -> None:
        labels = np.array(self.labels)
        if labels.ndim != 1:
            raise ValueError(f"StratifiedSampler: labels must have shape [n], got {list(labels.shape)}")
        labels.flags.writeable = False
        object.__setattr__(self, "labels", labels)
        object.__setattr__(self, "seed", checked_seed("StratifiedSampler", self.seed))

    def __len__(self) -> int:
        return len(self.labels)

    def indices(self, epoch: int = 0) -> np.ndarray:
        """The order of an epoch, int64[n]."""
        order = permutation(len(self), self.seed, SHUFFLE, epoch, 0)
        jitter = uniforms(len(self), self.seed, SHUFFLE, epoch, 1)
        # the members of a class, in random order, are spread evenly over the epoch
        place = np.empty(len(self))
        for label in np.unique(self.labels):
            members = order[self.labels[order] == label]
            place[members] = (np.arange(len(members)) + jitter[members]) / len(members)
        return np.argsort(place, kind="stable")


@dataclass(frozen=True)
class DistributedSampler(Sampler):
    """The share of one of several processes that train together.

    All ranks get equally many indices. With `drop_last=False` the shares are padded by repeating indices from the start
    of the epoch, and together contain every index; with `drop_last=True` they are disjoint, and up to `world_size - 1`
    indices of the epoch are left out. Where `world_size` divides the number of indices they are both.

    Arguments:
        sampler: the order that is shared out; the same, seed included, in all processes.
        rank: this process, 0 to world_size - 1.
        world_size: the number of processes.
        drop_last: drop indices instead of repeating some.

    Raises:
        ValueError: for numbers out of range.
    """

    sampler: Any
    rank: int
    world_size: int
    drop_last: bool = False

    def __post_init__(self) -> None:
        world_size = _count("DistributedSampler", "world_size", self.world_size, 1)
        rank = _count("DistributedSampler", "rank", self.rank)
        if rank >= world_size:
            raise ValueError(f"DistributedSampler: rank must lie between 0 and {world_size - 1}, got {rank}")
        object.__setattr__(self, "rank", rank)
        object.__setattr__(self, "world_size", world_size)

    def __len__(self) -> int:
        total = len(self.sampler)
        return total // self.world_size if self.drop_last else math.ceil(total / self.world_size)

    def indices(self, epoch: int = 0) -> np.ndarray:
        """The share of this rank in an epoch, int64[len(self)]."""
        everything = epoch_indices(self.sampler, epoch)
        # np.resize repeats from the start, and drops from the end
        return np.resize(everything, len(self) * self.world_size)[self.rank :: self.world_size]


@dataclass(frozen=True)
class BatchSampler:
    """The indices of a sampler in groups.

    Iterating gives the batches of epoch 0; `batches(epoch)` those of any epoch, each int64[batch_size] (the last one may
    be shorter).

    Arguments:
        sampler: gives the order.
        batch_size: at least 1.
        drop_last: leave out a last batch that is not full.
    """

    sampler: Any
    batch_size: int
    drop_last: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "batch_size", _count("BatchSampler", "batch_size", self.batch_size, 1))

    def __len__(self) -> int:
        total = len(self.sampler)
        return total // self.batch_size if self.drop_last else math.ceil(total / self.batch_size)

    def batches(self, epoch: int = 0) -> Iterator[np.ndarray]:
        """The batches of an epoch."""
        order = epoch_indices(self.sampler, epoch)
        for number in range(len(self)):
            yield order[number * self.batch_size : (number + 1) * self.batch_size]

    def __iter__(self) -> Iterator[np.ndarray]:
        return self.batches(0)
