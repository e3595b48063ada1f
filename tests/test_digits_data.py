"""The packaged digits: content, split, options and errors."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nn_fn.data import digits, load_digits


@pytest.fixture
def uncached():
    digits._stored_arrays.cache_clear()
    yield
    digits._stored_arrays.cache_clear()


def as_set(images: np.ndarray, labels: np.ndarray) -> list[bytes]:
    return sorted(image.tobytes() + label.tobytes() for image, label in zip(images, labels, strict=True))


def test_all_images_have_the_documented_shapes_types_and_ranges():
    images, labels = load_digits()
    assert images.shape == (1797, 8, 8) and images.dtype == np.float32
    assert labels.shape == (1797,) and labels.dtype == np.int32
    assert images.min() == 0.0 and images.max() == 1.0
    assert np.bincount(labels).tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]


def test_the_first_image_is_the_zero_of_the_original_file():
    images, labels = load_digits(scale=False)
    assert images.dtype == np.uint8
    assert labels[:10].tolist() == list(range(10))
    assert images[0, :3].tolist() == [
        [0, 0, 5, 13, 9, 1, 0, 0],
        [0, 0, 13, 15, 10, 15, 5, 0],
        [0, 3, 15, 2, 0, 11, 8, 0],
    ]


def test_same_numbers_as_scikit_learn():
    sklearn_datasets = pytest.importorskip("sklearn.datasets")
    reference = sklearn_datasets.load_digits()
    images, labels = load_digits(scale=False)
    np.testing.assert_array_equal(images, reference.images)
    np.testing.assert_array_equal(labels, reference.target)


def test_flatten_keeps_the_row_order():
    images, _ = load_digits()
    flat, _ = load_digits(flatten=True)
    assert flat.shape == (1797, 64)
    np.testing.assert_array_equal(flat[7], images[7].ravel())


@settings(deadline=None, max_examples=40)
@given(fraction=st.floats(0.001, 0.999), seed=st.integers(0, 2**32 - 1))
def test_a_split_is_disjoint_complete_and_stratified(fraction, seed):
    whole = load_digits(scale=False)
    train = load_digits("train", test_fraction=fraction, seed=seed, scale=False)
    test = load_digits("test", test_fraction=fraction, seed=seed, scale=False)
    assert len(test[1]) == round(1797 * fraction)
    assert as_set(*whole) == sorted(as_set(*train) + as_set(*test))
    expected = np.bincount(whole[1]) * fraction
    assert np.all(np.abs(np.bincount(test[1], minlength=10) - expected) < 1)


def test_a_split_never_changes():
    _, labels = load_digits("test")
    assert labels[:12].tolist() == [6, 3, 2, 4, 0, 1, 8, 5, 7, 6, 6, 8]
    _, again = load_digits("test")
    np.testing.assert_array_equal(labels, again)
    _, other = load_digits("test", seed=1)
    assert labels.tolist() != other.tolist()


def test_the_caller_owns_what_it_gets():
    images, labels = load_digits(scale=False)
    images[:], labels[:] = 0, 0
    fresh_images, fresh_labels = load_digits(scale=False)
    assert fresh_images.any() and fresh_labels.any()


def test_unknown_split():
    with pytest.raises(ValueError, match="split must be 'train', 'test' or None, got 'validation'"):
        load_digits("validation")


@pytest.mark.parametrize("fraction", [0.0, 1.0, -0.1, float("nan")])
def test_fraction_out_of_range(fraction):
    with pytest.raises(ValueError, match="strictly between 0 and 1"):
        load_digits("train", test_fraction=fraction)


@pytest.mark.parametrize("seed", [-1, 2**32])
def test_seed_out_of_range(seed):
    with pytest.raises(ValueError, match="seed must lie between"):
        load_digits("train", seed=seed)


def test_a_damaged_file_is_named(monkeypatch, uncached):
    monkeypatch.setattr(digits, "SHA256", hashlib.sha256(b"other").hexdigest())
    with pytest.raises(OSError, match=r"digits\.npz is damaged.*Reinstalling"):
        load_digits()


def test_a_missing_file_is_named(monkeypatch, uncached):
    monkeypatch.setattr(digits, "FILE_NAME", "gone.npz")
    with pytest.raises(FileNotFoundError, match=r"gone\.npz is missing"):
        load_digits()


def test_the_packaged_file_is_small():
    from importlib import resources

    assert len((resources.files("nn_fn.data") / "digits.npz").read_bytes()) < 200_000
