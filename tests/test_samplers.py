"""Samplers: order, reproducibility and distribution."""

from __future__ import annotations

import itertools
import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nn_fn.data import (
    BatchSampler,
    DistributedSampler,
    RandomSampler,
    SequentialSampler,
    StratifiedSampler,
    WeightedRandomSampler,
    balanced_weights,
)
from nn_fn.data.samplers import epoch_indices

ALL = {
    "sequential": SequentialSampler(7),
    "random": RandomSampler(7, seed=1),
    "random, fewer": RandomSampler(7, num_samples=3, seed=1),
    "random, replacement": RandomSampler(7, replacement=True, num_samples=20, seed=1),
    "weighted": WeightedRandomSampler([1, 2, 3], 10, seed=1),
    "weighted, no replacement": WeightedRandomSampler([1, 0, 2, 3], 3, replacement=False, seed=1),
    "stratified": StratifiedSampler([0, 1, 0, 1, 1, 0], seed=1),
    "distributed": DistributedSampler(RandomSampler(7, seed=1), 1, 3),
}


@pytest.mark.parametrize("name", ALL)
def test_order_is_a_pure_function_of_seed_and_epoch(name):
    sampler = ALL[name]
    first = sampler.indices(0)
    assert len(first) == len(sampler) and first.dtype == np.int64
    later = [sampler.indices(e).tolist() for e in range(8)]
    np.testing.assert_array_equal(sampler.indices(0), first)
    assert list(sampler) == first.tolist() == list(sampler)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(sampler)).indices(3), later[3])
    if name != "sequential":
        assert len({tuple(order) for order in later}) > 1


def test_orders_are_those_recorded():
    """An order must not change with the version of NumPy or of this package: resumed runs depend on it."""
    assert RandomSampler(8, seed=5).indices(2).tolist() == RECORDED["random"]
    assert RandomSampler(8, replacement=True, seed=5).indices(2).tolist() == RECORDED["replacement"]
    assert WeightedRandomSampler([1, 5, 2], 8, seed=5).indices(2).tolist() == RECORDED["weighted"]
    assert WeightedRandomSampler(np.arange(8), 5, replacement=False, seed=5).indices(2).tolist() == RECORDED["without"]


RECORDED = {
    "random": [2, 5, 7, 3, 6, 1, 0, 4],
    "replacement": [6, 7, 1, 5, 5, 1, 4, 3],
    "weighted": [2, 2, 1, 1, 1, 1, 1, 1],
    "without": [6, 3, 7, 5, 4],
}


@given(n=st.integers(0, 200), seed=st.integers(0, 2**64 - 1), epoch=st.integers(0, 2**40))
def test_random_is_a_permutation(n, seed, epoch):
    assert sorted(RandomSampler(n, seed=seed).indices(epoch)) == list(range(n))


def test_all_permutations_are_equally_likely():
    draws = [tuple(RandomSampler(4, seed=s).indices(e)) for s in range(60) for e in range(80)]
    counts = np.array([draws.count(p) for p in itertools.permutations(range(4))])
    expected = len(draws) / 24
    # chi squared with 23 degrees of freedom: 58 is beyond the 0.9999 quantile, and the seeds are fixed
    assert np.sum((counts - expected) ** 2 / expected) < 58


def test_neighbouring_seeds_and_epochs_are_independent():
    orders = [RandomSampler(500, seed=s).indices(e) for s in range(3) for e in range(3)]
    for a, b in itertools.combinations(orders, 2):
        assert abs(np.corrcoef(a, b)[0, 1]) < 0.2


def test_weighted_draws_have_the_given_frequencies():
    weights = np.array([0.0, 1, 0, 2, 7, 0])
    drawn = WeightedRandomSampler(weights, 100_000, seed=2).indices(0)
    frequency = np.bincount(drawn, minlength=6) / len(drawn)
    np.testing.assert_allclose(frequency, weights / 10, atol=0.006)
    assert np.all(weights[drawn] > 0)


def test_weighted_without_replacement_draws_in_proportion_to_what_is_left():
    weights = np.array([1.0, 2, 3, 0])
    draws = [tuple(WeightedRandomSampler(weights, 2, replacement=False, seed=3).indices(e)) for e in range(20_000)]
    for i, j in itertools.permutations(range(3), 2):
        probability = weights[i] / 6 * weights[j] / (6 - weights[i])
        assert abs(draws.count((i, j)) / len(draws) - probability) < 0.012
    assert all(3 not in d for d in draws)


@given(
    st.lists(st.floats(0, 1.7e308) | st.just(0.0) | st.floats(0, 1e-300), min_size=1, max_size=20).filter(any),
    st.integers(0, 5),
)
def test_weights_of_any_size_work(weights, seed):
    positive = [i for i, w in enumerate(weights) if w > 0]
    assert set(WeightedRandomSampler(weights, 50, seed=seed).indices(0)) <= set(positive)
    everything = WeightedRandomSampler(weights, len(positive), replacement=False, seed=seed).indices(0)
    assert sorted(everything) == positive


def test_extreme_weights_keep_their_proportions():
    drawn = WeightedRandomSampler([1e308, 1e308, 1e-320], 4000).indices(0)
    assert abs(np.mean(drawn == 0) - 0.5) < 0.04 and 2 not in drawn
    firsts = [WeightedRandomSampler([1e-310, 3e-310], 1, replacement=False).indices(e)[0] for e in range(2000)]
    assert abs(np.mean(firsts) - 0.75) < 0.05


def test_balanced_weights_make_classes_equally_likely():
    labels = np.array([0] * 90 + [1] * 9 + [2])
    drawn = labels[WeightedRandomSampler(balanced_weights(labels), 30_000).indices(0)]
    np.testing.assert_allclose(np.bincount(drawn) / 30_000, 1 / 3, atol=0.015)


@given(counts=st.lists(st.integers(0, 30), min_size=1, max_size=5), seed=st.integers(0, 100), batch=st.integers(1, 16))
def test_stratified_batches_have_the_classes_in_proportion(counts, seed, batch):
    labels = np.repeat(np.arange(len(counts)), counts)
    order = StratifiedSampler(labels, seed=seed).indices(seed)
    assert sorted(order) == list(range(len(labels)))
    for label, count in enumerate(counts):
        seen = np.cumsum(labels[order] == label)
        share = np.arange(1, len(order) + 1) * count / max(len(order), 1)
        assert np.all(np.abs(seen - share) <= 1 + len(counts))


@given(
    n=st.integers(0, 60),
    world=st.integers(1, 9),
    drop_last=st.booleans(),
    seed=st.integers(0, 9),
    epoch=st.integers(0, 9),
)
def test_shards_have_equal_lengths_and_cover_everything(n, world, drop_last, seed, epoch):
    base = RandomSampler(n, seed=seed)
    shards = [DistributedSampler(base, rank, world, drop_last) for rank in range(world)]
    parts = [s.indices(epoch).tolist() for s in shards]
    assert {len(p) for p in parts} == {len(shards[0])}
    together = [i for part in parts for i in part]
    if drop_last:
        assert len(together) == n - n % world == len(set(together))
    else:
        assert set(together) == set(range(n)) and len(together) < n + world
        if n % world == 0:
            assert sorted(together) == list(range(n))


@given(n=st.integers(0, 50), size=st.integers(1, 60), drop_last=st.booleans())
def test_batches_are_the_order_in_pieces(n, size, drop_last):
    sampler = BatchSampler(RandomSampler(n, seed=1), size, drop_last)
    batches = [b.tolist() for b in sampler.batches(4)]
    assert len(batches) == len(sampler)
    order = RandomSampler(n, seed=1).indices(4).tolist()
    assert [i for b in batches for i in b] == (order[: n - n % size] if drop_last else order)
    assert all(len(b) == size for b in batches[:-1])
    assert [b.tolist() for b in sampler] == [b.tolist() for b in sampler.batches(0)]


def test_other_samplers_are_told_the_epoch():
    class Rotating:
        epoch = 0

        def set_epoch(self, epoch):
            self.epoch = epoch

        def __len__(self):
            return 3

        def __iter__(self):
            return iter([(i + self.epoch) % 3 for i in range(3)])

    assert epoch_indices(Rotating(), 1).tolist() == [1, 2, 0]
    assert epoch_indices([4, 2], 9).tolist() == [4, 2]
    assert epoch_indices([], 0).dtype == np.int64
    with pytest.raises(TypeError, match=r"must give integers of shape \[n\]"):
        epoch_indices([0.5, 1], 0)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: SequentialSampler(-1), "length must be at least 0, got -1"),
        (lambda: RandomSampler(3, num_samples=4), "needs replacement=True"),
        (lambda: RandomSampler(0, replacement=True, num_samples=1), "from no items"),
        (lambda: RandomSampler(3, seed=-1), "seed must lie between"),
        (lambda: WeightedRandomSampler([1, -1], 1), "at least 0"),
        (lambda: WeightedRandomSampler([0, 0], 1), "not all 0"),
        (lambda: WeightedRandomSampler([1, np.nan], 1), "finite"),
        (lambda: WeightedRandomSampler([], 1), r"shape \[0\]"),
        (lambda: WeightedRandomSampler([1, 0, 1], 3, replacement=False), "only 2 weights are positive"),
        (lambda: DistributedSampler(SequentialSampler(3), 2, 2), "rank must lie between 0 and 1, got 2"),
        (lambda: DistributedSampler(SequentialSampler(3), 0, 0), "world_size must be at least 1"),
        (lambda: BatchSampler(SequentialSampler(3), 0), "batch_size must be at least 1"),
        (lambda: StratifiedSampler([[1]]), r"labels must have shape \[n\]"),
    ],
)
def test_wrong_arguments_are_explained(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_wrong_types_are_explained():
    with pytest.raises(TypeError, match="length must be an integer, got float"):
        RandomSampler(3.0)
    with pytest.raises(TypeError, match="seed must be an integer, got str"):
        RandomSampler(3, seed="a")
