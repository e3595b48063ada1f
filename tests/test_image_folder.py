"""Image folders: classes, order, options, and files that are no images."""

from __future__ import annotations

import pickle
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from nn_fn.data import DataError, DataNotFoundError, ImageFolder
from nn_fn.data.datasets import Dataset


def save(path, pixels, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **options)
    return pixels


@pytest.fixture
def pixels():
    random = np.random.RandomState(0)
    return [random.randint(0, 256, (5, 7, 3)).astype(np.uint8) for _ in range(4)]


@pytest.fixture
def root(tmp_path, pixels):
    save(tmp_path / "dog" / "b.png", pixels[1])
    save(tmp_path / "dog" / "a" / "deep.PNG", pixels[0])
    save(tmp_path / "cat" / "z.bmp", pixels[2])
    save(tmp_path / "Zebra" / "1.png", pixels[3])
    (tmp_path / "dog" / "notes.txt").write_text("no image")
    (tmp_path / "dog" / ".hidden.png").write_bytes(b"")
    (tmp_path / ".git").mkdir()
    (tmp_path / "readme.png").write_bytes(b"not in a class")
    return tmp_path


def test_classes_and_order(root, pixels):
    data = ImageFolder(root, scale=False, channel_axis=-1)
    assert isinstance(data, Dataset)
    assert data.classes == ("Zebra", "cat", "dog")
    assert data.class_to_index == {"Zebra": 0, "cat": 1, "dog": 2}
    assert [str(path.relative_to(root)) for path, _ in data.samples] == [
        "Zebra/1.png",
        "cat/z.bmp",
        "dog/a/deep.PNG",
        "dog/b.png",
    ]
    assert len(data) == 4 and data.labels.tolist() == [0, 1, 2, 2] and data.labels.dtype == np.int32
    for i, which in enumerate((3, 2, 0, 1)):
        image, label = data[i]
        assert image.dtype == np.uint8 and label == data.labels[i]
        np.testing.assert_array_equal(image, pixels[which])
    np.testing.assert_array_equal(data[-1][0], pixels[1])
    for index in (4, -5):
        with pytest.raises(IndexError, match="out of range for 4"):
            data[index]


def test_layout_and_scale(root, pixels):
    image, _ = ImageFolder(root)[0]
    assert image.shape == (3, 5, 7) and image.dtype == np.float32 and image.flags.c_contiguous
    np.testing.assert_array_equal(image, pixels[3].transpose(2, 0, 1).astype(np.float32) / np.float32(255))
    assert ImageFolder(root, mode="L")[0][0].shape == (1, 5, 7)
    assert ImageFolder(root, mode="RGBA", channel_axis=-1)[0][0].shape == (5, 7, 4)


@pytest.mark.parametrize(("size", "shape"), [(1, (1, 1)), (9, (9, 9)), ((2, 12), (2, 12)), ([4, 3], (4, 3))])
def test_resizing(root, size, shape):
    for mode, channels in (("RGB", 3), ("L", 1)):
        assert ImageFolder(root, size=size, mode=mode)[0][0].shape == (channels, *shape)


def test_resizing_keeps_a_constant_and_the_mean(tmp_path):
    save(tmp_path / "a" / "flat.png", np.full((6, 4, 3), 77, np.uint8))
    halves = np.zeros((8, 8, 3), np.uint8)
    halves[:, 4:] = 200
    save(tmp_path / "a" / "halves.png", halves)
    data = ImageFolder(tmp_path, size=(3, 2), scale=False)
    assert np.unique(data[0][0]).tolist() == [77]
    left, right = data[1][0][0, 1]
    assert left < 60 and right > 140 and abs(int(left) + int(right) - 200) <= 2


def test_kinds_of_images(tmp_path):
    colours = np.array([[[255, 0, 0], [0, 255, 0], [0, 0, 255], [10, 20, 30]]], np.uint8)
    save(tmp_path / "a" / "1grey.png", np.array([[0, 100, 255]], np.uint8))
    Image.fromarray(colours).convert("P", palette=Image.Palette.ADAPTIVE).save(tmp_path / "a" / "2palette.gif")
    save(tmp_path / "a" / "3bits.png", np.array([[True, False]]))
    data = ImageFolder(tmp_path, scale=False, channel_axis=-1)
    assert data[0][0].tolist() == [[[0] * 3, [100] * 3, [255] * 3]]
    np.testing.assert_array_equal(data[1][0], colours)
    assert data[2][0].tolist() == [[[255] * 3, [0] * 3]]


def test_deep_images_are_not_cut_off(tmp_path):
    save(tmp_path / "a" / "deep.png", np.array([[0, 1000, 65535]], np.uint16))
    with pytest.raises(DataError, match=r"deep\.png has more than 8 bits a sample"):
        ImageFolder(tmp_path)[0]


def test_jpeg_is_close(tmp_path, pixels):
    smooth = np.broadcast_to(np.arange(0, 250, 5, dtype=np.uint8)[:, None, None], (50, 40, 3))
    save(tmp_path / "a" / "x.jpg", np.ascontiguousarray(smooth), quality=95)
    image, _ = ImageFolder(tmp_path, scale=False, channel_axis=-1)[0]
    assert np.abs(image.astype(int) - smooth).max() < 8


@pytest.mark.parametrize("content", [b"", b"\x89PNG\r\n\x1a\n", b"hello", b"GIF89a"])
def test_files_that_are_no_images_are_named(root, content):
    path = root / "cat" / "z.bmp"
    path.write_bytes(content)
    data = ImageFolder(root)
    assert data[0][1] == 0
    with pytest.raises(DataError, match=r"z\.bmp cannot be read as an image"):
        data[1]
    path.unlink()
    with pytest.raises(DataError, match=r"z\.bmp cannot be read as an image.*No such file"):
        data[1]


def test_damaged_images_give_an_error_or_an_image(root, pixels):
    path = root / "Zebra" / "1.png"
    whole = path.read_bytes()
    data = ImageFolder(root, scale=False, channel_axis=-1)
    errors = 0
    for bit in np.random.RandomState(0).permutation(8 * len(whole))[:400]:
        damaged = bytearray(whole)
        damaged[bit // 8] ^= 1 << bit % 8
        path.write_bytes(damaged)
        try:
            image, _ = data[0]
            assert image.dtype == np.uint8 and image.shape[-1] == 3
        except DataError as error:
            assert "1.png" in str(error)
            errors += 1
    assert errors > 200
    for n in range(0, len(whole) - 40, 5):
        path.write_bytes(whole[:n])
        with pytest.raises(DataError, match=r"1\.png"):
            data[0]


def test_folders_without_classes_or_images(tmp_path):
    with pytest.raises(DataNotFoundError, match="is not a folder"):
        ImageFolder(tmp_path / "gone")
    with pytest.raises(DataError, match="has no subfolders"):
        ImageFolder(tmp_path)
    save(tmp_path / "a" / "x.png", np.zeros((2, 2, 3), np.uint8))
    (tmp_path / "b").mkdir()
    with pytest.raises(DataError, match=r"b has no image; expected files that end in \.bmp"):
        ImageFolder(tmp_path)
    save(tmp_path / "b" / "y.ppm", np.zeros((2, 2, 3), np.uint8))
    assert len(ImageFolder(tmp_path)) == 2
    with pytest.raises(DataError, match=r"a has no image; expected files that end in \.ppm"):
        ImageFolder(tmp_path, extensions=[".ppm"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": 0}, "size must be"),
        ({"size": (3, -1)}, "size must be"),
        ({"size": (1, 2, 3)}, "size must be"),
        ({"size": 2.5}, "size must be"),
        ({"size": "12"}, "size must be"),
        ({"mode": "CMYK"}, "mode must be one of L, RGB, RGBA, got 'CMYK'"),
        ({"channel_axis": 1}, "channel_axis must be 0 or -1, got 1"),
    ],
)
def test_options_out_of_range(root, options, message):
    with pytest.raises(ValueError, match=message):
        ImageFolder(root, **options)


def test_it_travels_to_other_processes(root):
    data = ImageFolder(root, size=4, extensions=[".png", ".bmp"])
    copy = pickle.loads(pickle.dumps(data))
    assert copy == data and hash(copy) == hash(data)
    np.testing.assert_array_equal(copy[2][0], data[2][0])


def test_pillow_is_imported_when_needed():
    code = "import sys, nn_fn.data; assert not {'PIL', 'tqdm', 'platformdirs'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
