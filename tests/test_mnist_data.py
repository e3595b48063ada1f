"""MNIST and Fashion-MNIST: where files are found, what is returned, and what damage does."""

from __future__ import annotations

import dataclasses
import hashlib
import pickle
from pathlib import Path

import numpy as np
import pytest

from nn_fn.data import DataError, DataNotFoundError, DownloadError, load_fashion_mnist, load_mnist, locate, mnist
from tests.corrupted_files import flipped, gz, idx_bytes, some_bits, truncated

SYSTEM_FOLDER = Path("/usr/share/datasets/fashion-mnist")
TRAIN = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte")
TEST = ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")


def some_data(count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.RandomState(seed)
    images = random.randint(0, 256, (count, 28, 28)).astype(np.uint8) * (random.uniform(size=(count, 28, 28)) < 0.1)
    return images, random.randint(0, 10, count).astype(np.uint8)


def write(folder: Path, images: np.ndarray, labels: np.ndarray, names=TRAIN, compress=gz) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, array in zip(names, (images, labels), strict=True):
        suffix = ".gz" if compress is gz else ""
        (folder / f"{name}{suffix}").write_bytes(compress(idx_bytes(array)))


@pytest.fixture(autouse=True)
def nowhere(tmp_path, monkeypatch):
    """No files are found but those of the test, and no network is asked."""
    monkeypatch.delenv("ASGFN_DATA", raising=False)
    monkeypatch.setattr(locate, "cache_folder", lambda: tmp_path / "cache")
    for name in ("MNIST", "FASHION_MNIST"):
        source = getattr(mnist, name)
        places = dataclasses.replace(source.places, system_folders=(str(tmp_path / "system"),))
        monkeypatch.setattr(mnist, name, dataclasses.replace(source, places=places))

    def refuse(urls, path, **options):
        raise DownloadError("download_file: no network in tests")

    monkeypatch.setattr(locate, "download_file", refuse)


@pytest.mark.parametrize("load", [load_mnist, load_fashion_mnist])
@pytest.mark.parametrize("compress", [bytes, gz], ids=["plain", "gzip"])
def test_values_and_layouts(tmp_path, load, compress):
    train, test = some_data(7), some_data(3, seed=1)
    write(tmp_path, *train, compress=compress)
    write(tmp_path, *test, names=TEST, compress=compress)
    for split, (pixels, classes) in (("train", train), ("test", test)):
        images, labels = load(split, root=tmp_path, verify=False, scale=False)
        assert images.dtype == np.uint8 and labels.dtype == np.int32
        np.testing.assert_array_equal(images, pixels)
        np.testing.assert_array_equal(labels, classes)
        images[...], labels[...] = 0, 0
    pixels = train[0]
    scaled, _ = load(root=tmp_path, verify=False)
    assert scaled.dtype == np.float32
    np.testing.assert_array_equal(scaled, pixels.astype(np.float32) / np.float32(255))
    assert load(root=tmp_path, verify=False, flatten=True)[0].shape == (7, 784)
    for axis, shape in ((1, (7, 1, 28, 28)), (-1, (7, 28, 28, 1)), (3, (7, 28, 28, 1)), (-3, (7, 1, 28, 28))):
        images, _ = load(root=tmp_path, verify=False, scale=False, channel_axis=axis)
        assert images.shape == shape and images.flags.c_contiguous
        np.testing.assert_array_equal(images.reshape(pixels.shape), pixels)


def test_no_images_at_all(tmp_path):
    write(tmp_path, *some_data(0))
    images, labels = load_mnist(root=tmp_path, verify=False, flatten=True)
    assert images.shape == (0, 784) and labels.shape == (0,)


def test_options_out_of_range(tmp_path):
    write(tmp_path, *some_data(2))
    with pytest.raises(ValueError, match="split must be 'train' or 'test', got 'valid'"):
        load_mnist("valid")
    with pytest.raises(ValueError, match="load_fashion_mnist: channel_axis must be None, 1 or -1, got 0"):
        load_fashion_mnist(root=tmp_path, verify=False, channel_axis=0)


def test_the_order_of_places(tmp_path, monkeypatch):
    """The number of images tells from which folder they came."""
    folders = [
        tmp_path / "system",
        tmp_path / "cache" / "fashion-mnist",
        tmp_path / "named" / "FashionMNIST" / "raw",
        tmp_path / "named" / "fashion-mnist",
        tmp_path / "root",
        tmp_path / "root" / "fashion-mnist",
    ]
    monkeypatch.setenv("ASGFN_DATA", str(tmp_path / "named"))
    (tmp_path / "root").mkdir()
    for count, folder in enumerate(folders, 1):
        write(folder, *some_data(count))
        images, _ = load_fashion_mnist(root=tmp_path / "root", verify=False)
        assert len(images) == count
    # files of the other data set have the same names
    write(tmp_path / "root" / "mnist", *some_data(20))
    assert len(load_mnist(root=tmp_path / "root", verify=False)[1]) == 20
    assert len(load_fashion_mnist(verify=False)[1]) == 4


def test_images_and_labels_come_from_one_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("ASGFN_DATA", str(tmp_path / "named"))
    write(tmp_path / "named" / "mnist", *some_data(3))
    (tmp_path / "named" / "mnist" / f"{TRAIN[1]}.gz").unlink()
    with pytest.raises(DataNotFoundError, match=f"only lacks {TRAIN[1]}.gz"):
        load_mnist(verify=False, download=False)
    write(tmp_path / "cache" / "mnist", *some_data(4))
    assert len(load_mnist(verify=False)[0]) == 4


def test_what_to_do_when_nothing_is_found(tmp_path, monkeypatch):
    monkeypatch.setenv("ASGFN_DATA", str(tmp_path / "named"))
    with pytest.raises(DataNotFoundError) as info:
        load_fashion_mnist("test", download=False)
    message = str(info.value)
    for part in (
        "load_fashion_mnist: the files of Fashion-MNIST are not on this machine, and download=False",
        "t10k-images-idx3-ubyte.gz or t10k-images-idx3-ubyte",
        "t10k-labels-idx1-ubyte.gz",
        "https://github.com/zalandoresearch/fashion-mnist",
        str(tmp_path / "named" / "fashion-mnist"),
        str(tmp_path / "cache" / "fashion-mnist"),
        str(tmp_path / "system"),
        "root=",
        "ASGFN_DATA",
        "apt-get install dataset-fashion-mnist",
    ):
        assert part in message
    with pytest.raises(DataNotFoundError) as other:
        load_mnist(download=False)
    assert "MNIST" in str(other.value) and "apt-get" not in str(other.value)
    with pytest.raises(DownloadError, match=r"downloading failed:\s+download_file: no network in tests\s+Needed"):
        load_mnist()
    with pytest.raises(DataNotFoundError, match="is not a folder"):
        load_mnist(root=tmp_path / "mistyped")
    copy = pickle.loads(pickle.dumps(info.value))
    assert type(copy) is DataNotFoundError and copy.args == info.value.args


@pytest.mark.parametrize("place", ["root", "environment", "cache"])
def test_downloads_go_where_they_are_found_again(tmp_path, monkeypatch, place):
    data = some_data(5)
    asked = []

    def fetch(urls, path, *, md5):
        asked.append((path, urls, md5))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(gz(idx_bytes(data["labels" in path.name])))
        return path

    monkeypatch.setattr(locate, "download_file", fetch)
    (tmp_path / "root").mkdir()
    root = tmp_path / "root" if place == "root" else None
    if place == "environment":
        monkeypatch.setenv("ASGFN_DATA", str(tmp_path / "environment"))
    for _ in range(2):
        images, labels = load_mnist(root=root, verify=False, scale=False)
        np.testing.assert_array_equal(images, data[0])
        np.testing.assert_array_equal(labels, data[1])
    assert [path for path, _, _ in asked] == [tmp_path / place / "mnist" / f"{name}.gz" for name in TRAIN]
    assert asked[0][2] == "f68b3c2dcbeaaa9fbdd348bbdeb94873"
    assert asked[1][1][0] == "https://ossci-datasets.s3.amazonaws.com/mnist/train-labels-idx1-ubyte.gz"


def test_another_file_than_the_official_one_is_refused(tmp_path):
    images, labels = some_data(4)
    write(tmp_path, images, labels)
    got = hashlib.md5(idx_bytes(images)).hexdigest()
    with pytest.raises(
        DataError, match=f"{TRAIN[0]}.gz: the MD5 .* is {got}, expected 6bbc9ace898e44ae57da46a324031adb"
    ):
        load_mnist(root=tmp_path)


@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        (np.zeros((3, 28, 28), np.uint8), np.zeros(4, np.uint8), "3 images, but .* 4 labels"),
        (np.zeros((3, 28, 27), np.uint8), np.zeros(3, np.uint8), r"expected uint8\[n,28,28\], got uint8\[3, 28, 27\]"),
        (np.zeros((3, 784), np.uint8), np.zeros(3, np.uint8), r"got uint8\[3, 784\]"),
        (np.zeros((3, 28, 28), np.uint8), np.zeros((3, 1), np.uint8), r"expected uint8\[n\], got uint8\[3, 1\]"),
        (np.zeros((3, 28, 28), np.uint8), np.array([0, 10, 9], np.uint8), "labels from 0 to 9, got 10"),
    ],
)
def test_files_that_do_not_fit(tmp_path, images, labels, message):
    write(tmp_path, images, labels)
    with pytest.raises(DataError, match=message):
        load_mnist(root=tmp_path, verify=False)


def test_labels_in_the_place_of_images(tmp_path):
    images, labels = some_data(4)
    write(tmp_path, labels, images)
    with pytest.raises(DataError, match="expected uint8"):
        load_mnist(root=tmp_path, verify=False)


@pytest.mark.parametrize("which", [0, 1], ids=["images", "labels"])
def test_damaged_compressed_files(tmp_path, which):
    data = some_data(3)
    write(tmp_path, *data)
    path = tmp_path / f"{TRAIN[which]}.gz"
    whole = path.read_bytes()
    damages = [damaged for _, damaged in flipped(whole, {*range(80), *some_bits(whole, 300, seed=which)})]
    equal = errors = 0
    for damaged in [*damages, *truncated(whole, 100), whole + b"\0", whole + whole]:
        path.write_bytes(damaged)
        try:
            images, labels = load_mnist(root=tmp_path, verify=False, scale=False)
        except DataError as error:
            assert path.name in str(error)
            errors += 1
        else:  # a bit of the container that says nothing about the data
            equal += 1
            np.testing.assert_array_equal(images, data[0])
            np.testing.assert_array_equal(labels, data[1])
    # 49 bits of the header say nothing of the data, seven may fill the last byte, and a repetition may be told in two ways
    assert errors > 2 * equal


def test_damaged_plain_files_are_noticed_by_the_official_checksum(tmp_path, monkeypatch):
    data = some_data(3)
    write(tmp_path, *data, compress=bytes)
    sums = {name: hashlib.md5(idx_bytes(array)).hexdigest() for name, array in zip(TRAIN, data, strict=True)}
    monkeypatch.setattr(mnist, "MNIST", dataclasses.replace(mnist.MNIST, md5=sums))
    np.testing.assert_array_equal(load_mnist(root=tmp_path, scale=False)[0], data[0])
    for name in TRAIN:
        path = tmp_path / name
        whole = path.read_bytes()
        bits = [*range(8 * min(16, len(whole))), *some_bits(whole, 200, seed=3)]
        for damaged in [*(content for _, content in flipped(whole, bits)), *truncated(whole, 50), whole + b"\0"]:
            if damaged == whole:
                continue
            path.write_bytes(damaged)
            with pytest.raises(DataError, match=name):
                load_mnist(root=tmp_path)
        path.write_bytes(whole)


def test_damaged_headers_of_plain_files_are_noticed_without_a_checksum(tmp_path):
    write(tmp_path, *some_data(3), compress=bytes)
    for name, header in zip(TRAIN, (16, 8), strict=True):
        path = tmp_path / name
        whole = path.read_bytes()
        for _, damaged in flipped(whole, range(8 * header)):
            path.write_bytes(damaged)
            with pytest.raises(DataError):
                load_mnist(root=tmp_path, verify=False)
        path.write_bytes(whole)


@pytest.mark.skipif(not SYSTEM_FOLDER.is_dir(), reason="dataset-fashion-mnist is not installed")
@pytest.mark.parametrize(("split", "count"), [("train", 60_000), ("test", 10_000)])
def test_the_official_files_of_the_system(split, count):
    images, labels = load_fashion_mnist(split, root=SYSTEM_FOLDER, scale=False, download=False)
    assert images.shape == (count, 28, 28) and labels.shape == (count,)
    assert np.bincount(labels).tolist() == [count // 10] * 10
    # the first ankle boot, T-shirt and T-shirt of the training images; the first test images
    assert labels[:3].tolist() == ([9, 0, 0] if split == "train" else [9, 2, 1])
    assert len(mnist.FASHION_MNIST_CLASSES) == 10
