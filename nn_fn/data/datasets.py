"""Data sets: anything with a length whose items are found by number; and ways to make one from others.

An item is a pytree of arrays and numbers, often `(image, label)`.
"""

from __future__ import annotations

import inspect
import operator
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np

from asgfn import tree
from asgfn.errors import IndexOutOfRangeError, ShapeError
from nn_fn.data.collate import default_collate
from nn_fn.data.randomness import ITEM, checked_seed, generator


@runtime_checkable
class Dataset(Protocol):
    """What a `DataLoader` needs.

    Two more methods are used where a data set has them:

    * `get_batch(indices)`: the batch that `default_collate` would make of the items at `indices` (integers of shape [n]),
      without a Python step for each item.
    * `get_item(index, rng)`, together with an attribute `random` that is true: the item, with random numbers from `rng`, a
      `numpy.random.Generator`. It is called instead of `dataset[index]`, with another stream in each epoch.
    """

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Any: ...


def fetch_item(dataset: Any, index: int, rng: np.random.Generator | None = None) -> Any:
    """The item at `index`; `rng` reaches a data set that draws random numbers."""
    if rng is not None and is_random(dataset):
        return dataset.get_item(index, rng)
    return dataset[index]


def fetch_batch(dataset: Any, indices: Any) -> Any:
    """The items at `indices` as one batch, the fast way where the data set has one."""
    if hasattr(dataset, "get_batch"):
        return dataset.get_batch(indices)
    return default_collate([dataset[i] for i in np.asarray(indices).tolist()])


def is_random(dataset: Any) -> bool:
    """Whether items are random: the data set has `get_item(index, rng)` and wants it to be called."""
    return bool(getattr(dataset, "random", False))


def takes_rng(function: Any) -> bool:
    """Whether a function of an item or of a batch wants a generator: it says so by an attribute `random`, or has a
    parameter `rng`."""
    stated = getattr(function, "random", None)
    if stated is not None:
        return bool(stated)
    try:
        return "rng" in inspect.signature(function).parameters
    except (TypeError, ValueError):  # some functions written in C have no signature
        return False


def position(owner: str, index: Any, length: int) -> int:
    """`index`, counted from the end when negative, as a number from 0 to length - 1.

    Raises:
        TypeError: when it is not an integer.
        IndexOutOfRangeError: (an IndexError) when there is no such item.
    """
    try:
        found = operator.index(index)
    except TypeError:
        raise TypeError(
            f"{owner}: an index must be an integer, got {type(index).__name__}. "
            "SubsetDataset(dataset, indices) takes several items."
        ) from None
    if not -length <= found < length:
        raise IndexOutOfRangeError(f"{owner}: index {found} is out of range for {length} items")
    return found + length if found < 0 else found


def positions(owner: str, indices: Any, length: int) -> np.ndarray:
    """Many indices at once, int64[n]; raises what `position` raises."""
    found = np.asarray(indices)
    if found.size == 0:
        found = found.astype(np.int64)
    if found.ndim != 1 or found.dtype.kind not in "iu":
        hint = " np.flatnonzero makes indices of a mask." if found.dtype.kind == "b" else ""
        raise TypeError(f"{owner}: indices must be integers of shape [n], got {found.dtype}{list(found.shape)}.{hint}")
    wrong = (found < -length) | (found >= length)
    if wrong.any():
        raise IndexOutOfRangeError(f"{owner}: index {found[wrong][0]} is out of range for {length} items")
    found = found.astype(np.int64, copy=False)
    return np.where(found < 0, found + length, found)


class _Iterable:
    """Iteration by length: without it Python would take an IndexError of a user's function for the end of the data."""

    def __iter__(self) -> Iterator[Any]:
        return (self[i] for i in range(len(self)))  # type: ignore[index, arg-type]


class ArrayDataset(_Iterable):
    """Arrays in memory; item i is `(a[i], b[i], ...)`.

    Arguments:
        arrays: either one or more arrays of shape `[n, ...]` with one n, or a single pytree (dict, tuple, ...) of such
            arrays. A single array gives bare items, several give tuples, a pytree gives items of its structure. Arrays
            are not copied (`numpy.memmap` stays on disk), except those that live on a device.

    Items are read-only views, so that a transform that writes into its argument fails instead of changing the data.
    Batches are copies.

    Raises:
        ShapeError: for arrays of different lengths, or without a first axis.
        TypeError: for an array of Python objects.
        ValueError: without arrays.
    """

    def __init__(self, *arrays: Any):
        tree_of_arrays = arrays[0] if len(arrays) == 1 else arrays
        paths, structure = tree.flatten_with_path(tree_of_arrays)
        if not paths:
            raise ValueError("ArrayDataset: needs at least one array")
        leaves: list[np.ndarray] = []
        for path, leaf in paths:
            at = "".join(map(str, path)) or "the array"
            array = np.asarray(leaf)
            if array.dtype.hasobject:
                raise TypeError(f"ArrayDataset: {at} holds Python objects, not numbers; got {type(leaf).__name__}")
            if array.ndim == 0:
                raise ShapeError(f"ArrayDataset: {at} must have a first axis that counts items, got shape ()")
            if leaves and len(array) != len(leaves[0]):
                raise ShapeError(
                    f"ArrayDataset: all arrays must have one length; {at} has shape {array.shape}, the first has "
                    f"{leaves[0].shape}"
                )
            view = array.view()
            view.flags.writeable = False
            leaves.append(view)
        self._structure = structure
        self._leaves = leaves

    def __len__(self) -> int:
        return len(self._leaves[0])

    def __getitem__(self, index: int) -> Any:
        i = position("ArrayDataset", index, len(self))
        return tree.unflatten(self._structure, [leaf[i] for leaf in self._leaves])

    def get_batch(self, indices: Any) -> Any:
        """Items at `indices` (integers, shape [n]) as one pytree of new arrays `[n, ...]`."""
        found = positions("ArrayDataset", indices, len(self))
        return tree.unflatten(self._structure, [np.take(leaf, found, axis=0) for leaf in self._leaves])

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        for leaf in self._leaves:
            leaf.flags.writeable = False  # pickling forgets it

    @property
    def arrays(self) -> Any:
        """All items as one pytree of read-only arrays."""
        return tree.unflatten(self._structure, self._leaves)

    def __repr__(self) -> str:
        shapes = ", ".join(f"{leaf.dtype}{list(leaf.shape)}" for leaf in self._leaves)
        return f"ArrayDataset({shapes})"


InMemoryDataset = ArrayDataset


class MapDataset(_Iterable):
    """A function of every item of another data set, computed when an item is asked for.

    Arguments:
        dataset: where items come from.
        function: `item -> item`. If it has a parameter `rng`, it is called as `function(item, rng=generator)` with a
            `numpy.random.Generator`: in a `DataLoader` one that depends on the loader's seed, the epoch and the index;
            elsewhere, as in `dataset[i]`, one that depends on `seed` and the index.
        seed: of the generators outside of loaders, 0 to 2**64 - 1.
    """

    def __init__(self, dataset: Dataset, function: Callable[..., Any], *, seed: int = 0):
        if not callable(function):
            raise TypeError(f"MapDataset: function must be callable, got {type(function).__name__}")
        self.dataset = dataset
        self.function = function
        self.seed = checked_seed("MapDataset", seed)
        self._function_takes_rng = takes_rng(function)
        self.random = self._function_takes_rng or is_random(dataset)

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Any:
        i = position("MapDataset", index, len(self))
        if not self._function_takes_rng:
            return self.function(self.dataset[i])
        return self.function(self.dataset[i], rng=generator(self.seed, ITEM, 0, i))

    def get_item(self, index: int, rng: np.random.Generator) -> Any:
        """The item, with random numbers from `rng`."""
        item = fetch_item(self.dataset, position("MapDataset", index, len(self)), rng)
        return self.function(item, rng=rng) if self._function_takes_rng else self.function(item)


class ConcatDataset(_Iterable):
    """Data sets one after another. Items must be of one kind if they are to meet in a batch.

    Arguments:
        datasets: one or more.
    """

    def __init__(self, datasets: Sequence[Dataset]):
        self.datasets = tuple(datasets)
        if not self.datasets:
            raise ValueError("ConcatDataset: needs at least one data set")
        self._ends = np.cumsum([len(d) for d in self.datasets], dtype=np.int64)
        self.random = any(map(is_random, self.datasets))

    def __len__(self) -> int:
        return int(self._ends[-1])

    def _locate(self, index: Any) -> tuple[Dataset, int]:
        i = position("ConcatDataset", index, len(self))
        part = int(np.searchsorted(self._ends, i, side="right"))
        return self.datasets[part], i - (int(self._ends[part - 1]) if part else 0)

    def __getitem__(self, index: int) -> Any:
        dataset, i = self._locate(index)
        return dataset[i]

    def get_item(self, index: int, rng: np.random.Generator) -> Any:
        """The item, with random numbers from `rng`."""
        return fetch_item(*self._locate(index), rng)

    def get_batch(self, indices: Any) -> Any:
        """Items at `indices` (integers, shape [n]) as one pytree of new arrays `[n, ...]`."""
        found = positions("ConcatDataset", indices, len(self))
        part_of = np.searchsorted(self._ends, found, side="right")
        parts = np.unique(part_of)
        if len(parts) == 0:
            return fetch_batch(self.datasets[0], found)
        starts = np.concatenate([[0], self._ends[:-1]])
        batches = [fetch_batch(self.datasets[p], found[part_of == p] - starts[p]) for p in parts]
        if len(batches) == 1:
            return batches[0]
        return _interleave(batches, np.argsort(np.argsort(part_of, kind="stable"), kind="stable"))


def _interleave(batches: list[Any], order: np.ndarray) -> Any:
    """Joins batches, then takes items in `order`."""
    # one item of each says whether the batches can be joined, in the words of default_collate
    default_collate([tree.map(lambda x: x[0], batch) for batch in batches])
    return tree.map(lambda *leaves: np.concatenate(leaves)[order], *batches)


class SubsetDataset(_Iterable):
    """Some items of a data set, in a given order.

    Arguments:
        dataset: where items come from.
        indices: integers of shape [n]; negative ones count from the end, repeated ones repeat the item.
    """

    def __init__(self, dataset: Dataset, indices: Any):
        self.dataset = dataset
        self.indices = positions("SubsetDataset", indices, len(dataset))
        self.indices.flags.writeable = False
        self.random = is_random(dataset)

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int) -> Any:
        return self.dataset[int(self.indices[position("SubsetDataset", index, len(self))])]

    def get_item(self, index: int, rng: np.random.Generator) -> Any:
        """The item, with random numbers from `rng`."""
        return fetch_item(self.dataset, int(self.indices[position("SubsetDataset", index, len(self))]), rng)

    def get_batch(self, indices: Any) -> Any:
        """Items at `indices` (integers, shape [n]) as one pytree of new arrays `[n, ...]`."""
        return fetch_batch(self.dataset, self.indices[positions("SubsetDataset", indices, len(self))])
