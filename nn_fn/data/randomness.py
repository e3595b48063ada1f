"""Random numbers of the data pipeline: streams that are pure functions of a seed and of what they are used for.

Two streams that differ in seed, purpose, epoch or index are independent, and none depends on what was drawn before, so
the same data come out in one process, in several, and after a resume.
"""

from __future__ import annotations

import operator
from typing import Any

import numpy as np

# what a stream is used for; a purpose's number is part of every stored run, so numbers never change
SHUFFLE, DRAW, SPLIT, ITEM, BATCH = range(5)


def checked_seed(owner: str, seed: Any) -> int:
    """`seed` as a Python int.

    Raises:
        TypeError: when it is not an integer.
        ValueError: unless 0 <= seed < 2**64.
    """
    try:
        seed = operator.index(seed)
    except TypeError:
        raise TypeError(f"{owner}: seed must be an integer, got {type(seed).__name__}") from None
    if not 0 <= seed < 2**64:
        raise ValueError(f"{owner}: seed must lie between 0 and 2**64 - 1, got {seed}")
    return seed


def _bits(seed: int, purpose: int, path: tuple[int, ...]) -> np.random.PCG64:
    return np.random.PCG64(np.random.SeedSequence(seed, spawn_key=(purpose, *path)))


def generator(seed: int, purpose: int, *path: int) -> np.random.Generator:
    """A NumPy generator that belongs to (seed, purpose, path)."""
    return np.random.Generator(_bits(seed, purpose, path))


# NumPy promises the streams of its bit generators for ever, but not those of Generator's methods. What decides the order
# of an epoch is therefore made of raw bits here: a run resumed with a newer NumPy goes on as it would have.


def uniforms(count: int, seed: int, purpose: int, *path: int) -> np.ndarray:
    """float64 numbers of shape [count], uniform on the multiples of 2**-53 in [0, 1)."""
    return (_bits(seed, purpose, path).random_raw(count) >> np.uint64(11)) * 2.0**-53


def permutation(count: int, seed: int, purpose: int, *path: int) -> np.ndarray:
    """A uniformly random order of `range(count)`, int64[count]."""
    return np.argsort(_bits(seed, purpose, path).random_raw(count), kind="stable")
