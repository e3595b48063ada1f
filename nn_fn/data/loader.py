"""`DataLoader`: batches of a data set, epoch after epoch, from worker processes if wanted, and resumable anywhere."""

from __future__ import annotations

import contextlib
import operator
import time
import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from nn_fn.data.assemble import BatchMaker, BatchOrder, count_repeats
from nn_fn.data.collate import default_collate
from nn_fn.data.datasets import Dataset, positions
from nn_fn.data.describe import describe
from nn_fn.data.randomness import checked_seed
from nn_fn.data.samplers import BatchSampler, RandomSampler, SequentialSampler
from nn_fn.data.workers import WorkerPool

STATE_VERSION = 1


@dataclass(frozen=True)
class LoaderStats:
    """Where the time of a loop over a loader went, in seconds, since the loader was made or `reset_stats` was called.

    Attributes:
        batches: how many were handed over.
        wait_time: how long the loop waited for batches, without `startup_time`.
        startup_time: how long it waited for first batches of freshly started worker processes.
        busy_time: how long the loop was busy between one batch and its asking for the next.
    """

    batches: int = 0
    wait_time: float = 0.0
    startup_time: float = 0.0
    busy_time: float = 0.0

    @property
    def wait_fraction(self) -> float:
        """The share of the loop's time that it waited: wait_time / (wait_time + busy_time); 0 before the first batch."""
        total = self.wait_time + self.busy_time
        return self.wait_time / total if total else 0.0


class DataLoader:
    """Batches of a data set.

    `for batch in loader` runs one epoch. The order and all random transforms are pure functions of the seed, the epoch and
    the index, so they differ from epoch to epoch, and are the same in every run, with any number of workers, and after a
    resume.

    Arguments:
        dataset: a `Dataset`: `len(dataset)`, `dataset[i]`.
        batch_size: items in a batch; the last one of an epoch may have fewer.
        shuffle: a new random order in each epoch.
        sampler: the order instead: a record of `nn_fn.data.samplers`, or anything with a length that gives indices each
            time it is iterated over.
        batch_sampler: batches of indices instead: a `BatchSampler`, or anything with a length that gives lists of indices.
        drop_last: leave out a last batch that is not full.
        seed: of order and transforms, 0 to 2**64 - 1.
        collate: makes a batch of a list of items. With `default_collate` and no `transform`, data sets that have
            `get_batch(indices)` make whole batches without a Python step for each item.
        transform: `item -> item`; with a parameter `rng` (or an attribute `random` that is true) it is called as
            `transform(item, rng=generator)` with a `numpy.random.Generator` of (seed, epoch, index, how often the index came
            before in the epoch).
        batch_transform: `batch -> batch`, likewise; its generator depends on (seed, epoch, number of the batch, and the
            rank of a `DistributedSampler`).
        num_workers: processes that make batches ahead; 0 makes them in this process when they are asked for. Data set,
            collate and transforms must then be picklable, and the main module needs `if __name__ == "__main__":`.
        prefetch: how many batches each worker makes ahead, at least 1.
        persistent_workers: keep workers from epoch to epoch, until `close()` or until the loader is collected.
        start_method: how `multiprocessing` starts workers: "spawn" (safe everywhere), "forkserver" or "fork".
        timeout: seconds after which waiting for a worker's batch is an error; None waits as long as the worker lives.

    Attributes:
        epoch: the epoch that is running, or the next one to run.
        batch: how many batches of it were handed over.
        stats: a `LoaderStats`: how long the loop waited for data.

    Leaving a loop early gives up the epoch: the next loop runs the next one. Only one loop runs at a time.

    Raises:
        ValueError: for arguments that exclude each other or are out of range.
        TypeError: at the first iteration with workers, when something cannot be sent to them.
        WorkerDiedError: from an iteration, when a worker was killed.
        Any error of the data set or transforms, in the loop; notes say at which index, and show a worker's traceback.
    """

    def __init__(
        self,
        dataset: Dataset,
        batch_size: int = 1,
        *,
        shuffle: bool = False,
        sampler: Any = None,
        batch_sampler: Any = None,
        drop_last: bool = False,
        seed: int = 0,
        collate: Callable[[list[Any]], Any] = default_collate,
        transform: Callable[..., Any] | None = None,
        batch_transform: Callable[..., Any] | None = None,
        num_workers: int = 0,
        prefetch: int = 2,
        persistent_workers: bool = True,
        start_method: str = "spawn",
        timeout: float | None = None,
    ):
        self.dataset = dataset
        self.seed = checked_seed("DataLoader", seed)
        self.num_workers = _at_least("num_workers", num_workers, 0)
        self.prefetch = _at_least("prefetch", prefetch, 1)
        self.persistent_workers = persistent_workers
        self.start_method = start_method
        self.timeout = timeout
        if batch_sampler is not None:
            if sampler is not None or shuffle or drop_last or batch_size != 1:
                raise ValueError("DataLoader: batch_sampler excludes batch_size, shuffle, sampler and drop_last")
        else:
            batch_size = _at_least("batch_size", batch_size, 1)
            if sampler is not None and shuffle:
                raise ValueError("DataLoader: sampler excludes shuffle; RandomSampler shuffles")
            if sampler is None:
                count = len(dataset)
                sampler = RandomSampler(count, seed=self.seed) if shuffle else SequentialSampler(count)
            batch_sampler = BatchSampler(sampler, batch_size, drop_last)
        if not (hasattr(batch_sampler, "__len__") and (hasattr(batch_sampler, "batches") or _repeats(batch_sampler))):
            raise TypeError(
                "DataLoader: a batch_sampler must have a length, and give its batches each time it is asked"
            )
        order = getattr(batch_sampler, "sampler", None)
        if order is not None and not (hasattr(order, "__len__") and _repeats(order)):
            raise TypeError("DataLoader: a sampler must have a length, and give its indices each time it is asked")
        self.batch_sampler = batch_sampler
        rank = getattr(order, "rank", 0)
        self._maker = BatchMaker(dataset, collate, transform, batch_transform, self.seed, rank)
        self.epoch = 0
        self.batch = 0
        self.stats = LoaderStats()
        self._resumed = False
        self._run = 0  # which loop is the current one
        self._pool: WorkerPool | None = None
        self._close_pool: weakref.finalize | None = None

    def __len__(self) -> int:
        """Batches in an epoch."""
        return len(self.batch_sampler)

    def __iter__(self) -> Iterator[Any]:
        """The rest of the epoch after `load_state_dict`, otherwise a whole epoch."""
        self._run += 1
        run = self._run
        if self.batch and not self._resumed:
            self.epoch, self.batch = self.epoch + 1, 0
        self._resumed = False
        orders = self._orders(self.epoch, self.batch)
        batches = self._worker_batches(orders, run) if self.num_workers else map(self._maker.make, orders)
        while True:
            asked = time.perf_counter()
            starting = self.num_workers > 0 and (self._pool is None or self._pool.closed)
            try:
                batch = next(batches)
            except StopIteration:
                break
            given = time.perf_counter()
            self._count(given - asked, starting)
            self.batch += 1
            yield batch
            del batch  # the loop may be the only owner while it works
            if run != self._run:
                raise RuntimeError(
                    "DataLoader: another loop, load_state_dict or set_epoch has moved this loader since; only one loop can "
                    "run at a time. Make a second loader for nested loops."
                )
            busy = time.perf_counter() - given
            self.stats = LoaderStats(
                self.stats.batches, self.stats.wait_time, self.stats.startup_time, self.stats.busy_time + busy
            )
        self.epoch, self.batch = self.epoch + 1, 0

    def _count(self, waited: float, starting: bool) -> None:
        stats = self.stats
        self.stats = LoaderStats(
            stats.batches + 1,
            stats.wait_time + (0.0 if starting else waited),
            stats.startup_time + (waited if starting else 0.0),
            stats.busy_time,
        )

    def reset_stats(self) -> None:
        """Starts `stats` from zero."""
        self.stats = LoaderStats()

    def _orders(self, epoch: int, start: int) -> Iterator[BatchOrder]:
        """What to make in an epoch, from batch `start` on."""
        sampler = self.batch_sampler
        if hasattr(sampler, "batches"):
            batches = sampler.batches(epoch)
        else:
            if hasattr(sampler, "set_epoch"):
                sampler.set_epoch(epoch)
            batches = iter(sampler)
        seen = np.zeros(len(self.dataset), np.int32) if self._maker.draws_for_items() else None
        for number, batch in enumerate(batches):
            indices = positions("DataLoader", batch, len(self.dataset))
            repeats = None if seen is None else count_repeats(seen, indices)
            if number >= start:
                yield BatchOrder(epoch, number, indices, repeats)

    def _worker_batches(self, orders: Iterator[BatchOrder], run: int) -> Iterator[Any]:
        pool = self._started_pool()
        try:
            yield from pool.run(orders)
        finally:
            if not self.persistent_workers and run == self._run:
                self.close()

    def _started_pool(self) -> WorkerPool:
        if self._pool is None or self._pool.closed:
            self.close()
            self._pool = WorkerPool(self._maker, self.num_workers, self.prefetch, self.start_method, self.timeout)
            # also at the exit of the interpreter
            self._close_pool = weakref.finalize(self, self._pool.close)
        return self._pool

    def close(self) -> None:
        """Ends the worker processes; a later loop starts new ones."""
        if self._close_pool is not None:
            self._close_pool()
        self._pool = None

    def __enter__(self) -> DataLoader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def set_epoch(self, epoch: int) -> None:
        """Moves to the start of an epoch."""
        self.epoch, self.batch = _at_least("epoch", epoch, 0), 0
        self._resumed = False
        self._run += 1

    def state_dict(self) -> dict[str, Any]:
        """Where the loop is, as plain numbers and strings.

        Batches that the loop has received count, the one that it works on included; those that were only made ahead do
        not.
        """
        return {
            "version": STATE_VERSION,
            "epoch": self.epoch,
            "batch": self.batch,
            "seed": self.seed,
            "configuration": self._configuration(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes to where a loop was. The next loop runs the rest of that epoch, perhaps nothing, with the same batches.

        Raises:
            ValueError: for a state of another version, or of a loader with another configuration (data set length, order,
                seed, transforms); the message says what differs. The numbers of workers may differ.
            TypeError: for something that is not a state.
        """
        try:
            version, seed, configuration = state["version"], state["seed"], dict(state["configuration"])
            epoch, batch = operator.index(state["epoch"]), operator.index(state["batch"])
        except (TypeError, KeyError, ValueError) as error:
            raise TypeError(f"DataLoader.load_state_dict: this is no state of a DataLoader: {error!r}") from None
        if version != STATE_VERSION:
            raise ValueError(f"DataLoader.load_state_dict: the state has version {version}, expected {STATE_VERSION}")
        saved, mine = {"seed": str(seed), **configuration}, {"seed": str(self.seed), **self._configuration()}
        different = [k for k in mine | saved if mine.get(k) != saved.get(k)]
        if different:
            lines = [f"  {k}: saved {saved.get(k)}, here {mine.get(k)}" for k in different]
            raise ValueError(
                "DataLoader.load_state_dict: the state is that of a different loader, so batches would not be the same.\n"
                + "\n".join(lines)
            )
        if epoch < 0 or not 0 <= batch <= len(self):
            raise ValueError(
                f"DataLoader.load_state_dict: epoch {epoch}, batch {batch} is no position; an epoch has {len(self)} batches"
            )
        self.epoch, self.batch = epoch, batch
        self._resumed = True
        self._run += 1

    def _configuration(self) -> dict[str, str]:
        """What decides which batches come, in words."""
        return {
            "dataset length": str(len(self.dataset)),
            "batches": describe(self.batch_sampler),
            "collate": describe(self._maker.collate),
            "transform": describe(self._maker.transform),
            "batch_transform": describe(self._maker.batch_transform),
        }


def _at_least(name: str, value: Any, least: int) -> int:
    try:
        value = operator.index(value)
    except TypeError:
        raise TypeError(f"DataLoader: {name} must be an integer, got {type(value).__name__}") from None
    if value < least:
        raise ValueError(f"DataLoader: {name} must be at least {least}, got {value}")
    return value


def _repeats(order: Any) -> bool:
    """Whether something can be iterated over more than once."""
    with contextlib.suppress(TypeError):
        return hasattr(order, "indices") or iter(order) is not order
    return False
