"""Makes one batch of a data set: what a `DataLoader` does for each list of indices, in whichever process."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from nn_fn.data.collate import default_collate
from nn_fn.data.datasets import fetch_batch, fetch_item, is_random, takes_rng
from nn_fn.data.randomness import BATCH, ITEM, generator


class BatchOrder(NamedTuple):
    """Everything that decides what a batch will be.

    Attributes:
        epoch, number: which epoch, and which batch of it.
        indices: int64[n], the items.
        repeats: int64[n], how often each of them came before in this epoch, so that an item that is drawn again is
            augmented differently; None when nothing draws random numbers for items.
    """

    epoch: int
    number: int
    indices: np.ndarray
    repeats: np.ndarray | None


@dataclass(frozen=True)
class BatchMaker:
    """The part of a loader's configuration that makes batches. It is sent to the worker processes.

    Attributes:
        dataset, collate, transform, batch_transform, seed: as given to `DataLoader`.
        rank: which of several processes that train together; their batch transforms must not draw the same numbers.
    """

    dataset: Any
    collate: Callable[[list[Any]], Any]
    transform: Callable[..., Any] | None
    batch_transform: Callable[..., Any] | None
    seed: int
    rank: int = 0

    def draws_for_items(self) -> bool:
        """Whether items need random numbers."""
        return is_random(self.dataset) or (self.transform is not None and takes_rng(self.transform))

    def make(self, order: BatchOrder) -> Any:
        """The batch. An error from the user's code gets a note that says where in the data it happened."""
        try:
            batch = self._collected(order)
            if self.batch_transform is None:
                return batch
            if not takes_rng(self.batch_transform):
                return self.batch_transform(batch)
            return self.batch_transform(batch, rng=generator(self.seed, BATCH, order.epoch, order.number, self.rank))
        except StopIteration as error:  # would pass for the end of the epoch
            raise RuntimeError(
                f"DataLoader: StopIteration while making batch {order.number} of epoch {order.epoch}"
            ) from error
        except Exception as error:
            error.add_note(f"DataLoader: while making batch {order.number} of epoch {order.epoch}")
            raise

    def _collected(self, order: BatchOrder) -> Any:
        if self.transform is None and self.collate is default_collate and not is_random(self.dataset):
            try:
                if hasattr(self.dataset, "get_batch"):
                    return fetch_batch(self.dataset, order.indices)
            except Exception as error:
                error.add_note(f"DataLoader: in get_batch for indices {_few(order.indices)}")
                raise
        items = []
        transform = self.transform
        if transform is not None and not takes_rng(transform):
            transform = _without_rng(transform)
        repeats = [None] * len(order.indices) if order.repeats is None else order.repeats.tolist()
        for index, repeat in zip(order.indices.tolist(), repeats, strict=True):
            try:
                rng = None if repeat is None else generator(self.seed, ITEM, order.epoch, index, repeat)
                item = fetch_item(self.dataset, index, rng)
                items.append(item if transform is None else transform(item, rng=rng))
            except Exception as error:
                error.add_note(f"DataLoader: in the item at index {index}")
                raise
        return self.collate(items)


def _without_rng(transform: Callable[[Any], Any]) -> Callable[..., Any]:
    return lambda item, rng: transform(item)


def _few(indices: np.ndarray) -> str:
    return np.array2string(indices, threshold=16)


def count_repeats(seen: np.ndarray, indices: np.ndarray) -> np.ndarray:
    """How often each index came before: counted in `seen`, which is updated, and earlier in `indices`."""
    order = np.argsort(indices, kind="stable")
    in_order = indices[order]
    new_value = np.concatenate([[True], in_order[1:] != in_order[:-1]])[: len(indices)]
    starts = np.flatnonzero(new_value)
    within = np.arange(len(indices)) - np.repeat(starts, np.diff(np.append(starts, len(indices))))
    repeats = np.empty(len(indices), np.int64)
    repeats[order] = within
    repeats += seen[indices]
    np.add.at(seen, indices, 1)
    return repeats
