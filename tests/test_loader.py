"""DataLoader in one process: batches, order, random numbers, state, statistics, errors."""

from __future__ import annotations

import time

import msgpack
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from asgfn.errors import ShapeError
from nn_fn.data import (
    ArrayDataset,
    BatchSampler,
    DataLoader,
    DistributedSampler,
    MapDataset,
    RandomSampler,
    SubsetDataset,
    WeightedRandomSampler,
    transforms,
)
from nn_fn.data.assemble import count_repeats
from nn_fn.data.describe import describe

N = 10
DATA = ArrayDataset(np.arange(N))


def jitter(x, rng):
    return x + rng.random()


def jitter_batch(batch, rng):
    return batch + rng.random(batch.shape)


def flat(batches) -> list:
    return [x for batch in batches for x in batch.tolist()]


def test_an_epoch_is_every_item_in_order():
    assert [b.tolist() for b in DataLoader(DATA, 4)] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
    assert [b.tolist() for b in DataLoader(DATA, 4, drop_last=True)] == [[0, 1, 2, 3], [4, 5, 6, 7]]
    assert len(DataLoader(DATA, 4)) == 3 and len(DataLoader(DATA, 4, drop_last=True)) == 2
    assert [b.shape for b in DataLoader(DATA)] == [(1,)] * N
    assert list(DataLoader(ArrayDataset(np.zeros((0, 3))), 4)) == []


@given(
    n=st.integers(1, 40),
    size=st.integers(1, 45),
    drop_last=st.booleans(),
    seed=st.integers(0, 2**64 - 1),
    stop=st.integers(0, 40),
)
def test_epochs_are_permutations_and_resume_exactly(n, size, drop_last, seed, stop):
    def loader():
        return DataLoader(
            ArrayDataset(np.arange(n)), size, shuffle=True, drop_last=drop_last, seed=seed, batch_transform=jitter_batch
        )

    whole = loader()
    epochs = [[b.tolist() for b in whole] for _ in range(2)]
    for epoch in epochs:
        assert len(epoch) == len(whole)
        items = [int(x) for b in epoch for x in b]
        assert len(set(items)) == len(items) == (n - n % size if drop_last else n)

    stop = min(stop, len(whole))
    begun = loader()
    list(begun)
    iterator = iter(begun)
    got = [next(iterator).tolist() for _ in range(stop)]
    state = msgpack.unpackb(msgpack.packb(begun.state_dict()))
    resumed = loader()
    resumed.load_state_dict(state)
    rest = [b.tolist() for b in resumed]
    assert got + rest == epochs[1]
    assert [b.tolist() for b in resumed] == [b.tolist() for b in whole]


def test_shuffling_differs_by_epoch_and_seed_and_is_reproducible():
    first, second = DataLoader(DATA, 3, shuffle=True, seed=1), DataLoader(DATA, 3, shuffle=True, seed=1)
    epochs = [flat(first) for _ in range(3)]
    assert epochs == [flat(second) for _ in range(3)]
    assert epochs[0] != epochs[1] != epochs[2] != epochs[0]
    assert flat(DataLoader(DATA, 3, shuffle=True, seed=2)) != epochs[0]
    second.set_epoch(1)
    assert flat(second) == epochs[1] and second.epoch == 2


def test_random_transforms_depend_on_seed_epoch_and_index_alone():
    def run(size, shuffle, seed=0, dataset=DATA, **options):
        loader = DataLoader(dataset, size, shuffle=shuffle, seed=seed, **(options or {"transform": jitter}))
        return [{int(x): x for x in flat(loader)} for _ in range(2)]

    epochs = run(4, False)
    assert epochs == run(3, True) == run(10, False)
    assert epochs[0] != epochs[1]
    assert run(4, False, seed=1) != epochs
    assert len({x % 1 for e in epochs for x in e.values()}) == 2 * N
    mapped = MapDataset(DATA, jitter)
    assert run(4, False, dataset=mapped, transform=None) == epochs
    assert run(4, False, dataset=SubsetDataset(mapped, range(N)), transform=None) == epochs


def test_an_item_that_is_drawn_again_gets_other_random_numbers():
    loader = DataLoader(DATA, 4, sampler=[3] * 10, transform=jitter)
    values = flat(loader)
    assert len(set(values)) == 10
    resumed = DataLoader(DATA, 4, sampler=[3] * 10, transform=jitter)
    resumed.load_state_dict({**loader.state_dict(), "epoch": 0, "batch": 1})
    assert flat(resumed) == values[4:]


@given(st.lists(st.lists(st.integers(0, 5), max_size=8), max_size=6))
def test_repeats_count_what_came_before(batches):
    seen, so_far = np.zeros(6, np.int32), []
    for batch in batches:
        repeats = count_repeats(seen, np.array(batch, np.int64)).tolist()
        assert repeats == [(so_far + batch[:k]).count(i) for k, i in enumerate(batch)]
        so_far += batch


def test_batch_transforms_of_two_ranks_draw_different_numbers():
    zeros = ArrayDataset(np.zeros(8))
    rank = lambda r: flat(
        DataLoader(zeros, 2, sampler=DistributedSampler(RandomSampler(8), r, 2), batch_transform=jitter_batch)
    )
    assert rank(0) == rank(0) and not set(rank(0)) & set(rank(1))


def test_item_transform_then_collate_then_batch_transform():
    loader = DataLoader(
        DATA, 5, transform=lambda x: x * 2, collate=lambda items: np.array(items)[::-1], batch_transform=lambda b: b + 1
    )
    assert flat(loader) == [9, 7, 5, 3, 1, 19, 17, 15, 13, 11]


def test_samplers_and_batch_samplers():
    assert flat(DataLoader(DATA, 2, sampler=[5, -1, 5])) == [5, 9, 5]
    weighted = DataLoader(DATA, 50, sampler=WeightedRandomSampler([0] * 8 + [1, 1], 50))
    assert set(flat(weighted)) == {8, 9}
    assert [b.tolist() for b in DataLoader(DATA, batch_sampler=[[1], [2, 3]])] == [[1], [2, 3]]
    own = DataLoader(DATA, batch_sampler=BatchSampler(RandomSampler(N, seed=3), 3))
    epochs = [flat(own) for _ in range(2)]
    assert epochs[0] != epochs[1] and epochs[0] == RandomSampler(N, seed=3).indices(0).tolist()


def test_the_fast_path_and_the_path_by_items_agree():
    rng = np.random.default_rng(0)
    data = ArrayDataset({"x": rng.random((N, 2, 3), np.float32), "y": np.arange(N)})
    fast = list(DataLoader(data, 4, shuffle=True))
    slow = list(DataLoader(data, 4, shuffle=True, transform=lambda item: item))
    for a, b in zip(fast, slow, strict=True):
        np.testing.assert_array_equal(a["x"], b["x"])
        np.testing.assert_array_equal(a["y"], b["y"])
        assert a["x"].dtype == b["x"].dtype and a["x"].flags.writeable


# ---- position


def test_position_through_loops_breaks_and_resumes():
    loader = DataLoader(DATA, 4, shuffle=True, seed=9)
    reference = DataLoader(DATA, 4, shuffle=True, seed=9)
    epochs = [[b.tolist() for b in reference] for _ in range(4)]
    assert (loader.epoch, loader.batch) == (0, 0)
    assert [b.tolist() for b in loader] == epochs[0]
    assert (loader.epoch, loader.batch) == (1, 0)
    for batch in loader:
        assert batch.tolist() == epochs[1][0]
        break
    assert (loader.epoch, loader.batch) == (1, 1)
    saved = loader.state_dict()
    # leaving early gave that epoch up
    assert [b.tolist() for b in loader] == epochs[2]
    # the state finishes it
    loader.load_state_dict(saved)
    assert [b.tolist() for b in loader] == epochs[1][1:]
    assert [b.tolist() for b in loader] == epochs[2]


def test_a_state_after_the_last_batch_finishes_an_epoch_with_nothing_left():
    loader = DataLoader(DATA, 5)
    for _ in loader:
        state = loader.state_dict()
    assert (state["epoch"], state["batch"]) == (0, 2)
    loader.load_state_dict(state)
    assert list(loader) == [] and loader.epoch == 1
    assert len(list(loader)) == 2


def test_states_of_other_configurations_are_refused():
    def loader(**changes):
        options = {"batch_size": 4, "shuffle": True, "transform": jitter, **changes}
        return DataLoader(options.pop("dataset", DATA), **options)

    state = loader().state_dict()
    loader(num_workers=2).load_state_dict(state)
    for changes, message in (
        ({"batch_size": 5}, "batches: saved .*batch_size=4.* here .*batch_size=5"),
        ({"shuffle": False}, "batches: "),
        ({"seed": 1}, "seed: saved 0, here 1"),
        ({"drop_last": True}, "batches: "),
        ({"dataset": ArrayDataset(np.arange(9))}, "dataset length: saved 10, here 9"),
        ({"transform": None}, "transform: saved .*jitter, here None"),
        ({"batch_transform": transforms.GaussianNoise(0.1)}, "batch_transform: saved None"),
    ):
        with pytest.raises(ValueError, match=message):
            loader(**changes).load_state_dict(state)
    with pytest.raises(ValueError, match="version 99"):
        loader().load_state_dict({**state, "version": 99})
    with pytest.raises(ValueError, match="batch 4 is no position; an epoch has 3 batches"):
        loader().load_state_dict({**state, "batch": 4})
    for wrong in (None, {}, {"version": 1}, {**state, "epoch": "x"}):
        with pytest.raises(TypeError, match="no state of a DataLoader"):
            loader().load_state_dict(wrong)


def test_two_loops_over_one_loader_are_an_error():
    loader = DataLoader(DATA, 2)
    outer = iter(loader)
    next(outer)
    list(loader)
    with pytest.raises(RuntimeError, match="only one loop can run at a time"):
        next(outer)


def test_descriptions_are_stable_and_tell_configurations_apart():
    fitted = transforms.StandardScaler.fit(np.arange(12.0).reshape(4, 3))
    again = transforms.StandardScaler.fit(np.arange(12.0).reshape(4, 3))
    assert describe(transforms.Compose([fitted, jitter])) == describe(transforms.Compose([again, jitter]))
    assert describe(fitted) != describe(transforms.StandardScaler.fit(np.arange(15.0).reshape(5, 3)))
    assert " at 0x" not in describe([lambda x: x, object(), jitter, transforms.ApplyTo("x", jitter), int])
    assert describe(list(range(2000))) != describe(list(range(1, 2001)))
    assert len(describe([[i] for i in range(10_000)])) < 200


# ---- statistics


def test_time_is_counted_as_waiting_or_being_busy():
    def slow(x):
        time.sleep(0.01)
        return x

    loader = DataLoader(DATA, 5, transform=slow)
    for _ in loader:
        time.sleep(0.02)
    stats = loader.stats
    assert stats.batches == 2 and stats.startup_time == 0
    assert stats.wait_time >= 0.1 and stats.busy_time >= 0.04
    assert 0 < stats.wait_fraction < 1
    assert stats.wait_fraction == stats.wait_time / (stats.wait_time + stats.busy_time)
    loader.reset_stats()
    assert loader.stats.batches == 0 and loader.stats.wait_fraction == 0


# ---- errors


def test_errors_keep_their_type_and_say_where():
    def broken(x):
        if x == 6:
            raise KeyError("no such thing")
        return x

    with pytest.raises(KeyError) as caught:
        list(DataLoader(DATA, 4, transform=broken))
    assert caught.value.__notes__ == [
        "DataLoader: in the item at index 6",
        "DataLoader: while making batch 1 of epoch 0",
    ]
    with pytest.raises(ShapeError):
        list(DataLoader(MapDataset(DATA, lambda x: np.zeros(x)), 4))
    with pytest.raises(IndexError, match="index 10 is out of range for 10 items"):
        list(DataLoader(DATA, 4, sampler=[1, 10]))


def test_stop_iteration_of_a_data_set_does_not_end_the_epoch_silently():
    def stops(x):
        raise StopIteration

    with pytest.raises(RuntimeError, match="StopIteration while making batch 0"):
        list(DataLoader(DATA, 4, transform=stops))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 0}, "batch_size must be at least 1, got 0"),
        ({"num_workers": -1}, "num_workers must be at least 0"),
        ({"prefetch": 0}, "prefetch must be at least 1"),
        ({"seed": -1}, "seed must lie between"),
        ({"sampler": [0], "shuffle": True}, "sampler excludes shuffle"),
        ({"batch_sampler": [[0]], "batch_size": 2}, "batch_sampler excludes"),
        ({"batch_sampler": [[0]], "drop_last": True}, "batch_sampler excludes"),
    ],
)
def test_arguments_that_exclude_each_other_or_are_out_of_range(options, message):
    with pytest.raises(ValueError, match=message):
        DataLoader(DATA, **options)


def test_samplers_that_can_be_used_once_only_are_refused():
    with pytest.raises(TypeError, match="sampler must have a length"):
        DataLoader(DATA, sampler=iter([1, 2]))
    with pytest.raises(TypeError, match="batch_sampler must have a length"):
        DataLoader(DATA, batch_sampler=iter([[1], [2]]))
    with pytest.raises(TypeError, match="batch_size must be an integer, got float"):
        DataLoader(DATA, 2.5)
