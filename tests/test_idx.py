"""The IDX reader: values, and damaged or forged files."""

from __future__ import annotations

import hashlib
import os

import numpy as np
import pytest

from asgfn.errors import AsgError
from nn_fn.data import DataError, DataNotFoundError, read_idx
from tests.corrupted_files import flipped, gz, idx_bytes, truncated


@pytest.fixture
def read(tmp_path):
    path = tmp_path / "file"

    def read_content(content: bytes, **options):
        path.write_bytes(content)
        return read_idx(path, **options)

    return read_content


@pytest.mark.parametrize("compress", [bytes, gz], ids=["plain", "gzip"])
@pytest.mark.parametrize("shape", [(5,), (3, 4), (2, 3, 4), (1, 1, 1, 1), (0,), (0, 28, 28), (3, 0)])
@pytest.mark.parametrize(
    ("code", "dtype"), [(8, "u1"), (9, "i1"), (11, "i2"), (12, "i4"), (13, "f4"), (14, "f8")], ids=lambda x: str(x)
)
def test_values_of_every_dtype_and_shape(read, code, dtype, shape, compress):
    array = np.random.RandomState(0).uniform(-100, 100, shape).astype(np.int8).astype(dtype)
    result = read(compress(idx_bytes(array, code)))
    assert result.dtype == np.dtype(dtype) and result.dtype.isnative and result.shape == shape
    np.testing.assert_array_equal(result, array)
    result[...] = 0  # the caller owns it


def test_byte_order_is_big_endian(read):
    assert read(bytes([0, 0, 0x0B, 1, 0, 0, 0, 2, 1, 0, 0xFF, 0xFE])).tolist() == [256, -2]


def array_and_content():
    array = np.random.RandomState(1).randint(0, 4, (6, 7, 5)).astype(np.uint8)
    return array, idx_bytes(array)


def test_every_flipped_bit_of_a_compressed_file_is_noticed(read):
    array, content = array_and_content()
    packed = gz(content)
    survivors = []
    for position, damaged in flipped(packed, range(8 * len(packed))):
        try:
            result = read(damaged)
        except DataError as error:
            assert "file" in str(error)
        else:
            assert result.dtype == np.uint8
            np.testing.assert_array_equal(result, array)
            survivors.append(position)
    # 49 bits of the header say nothing of the data (time, effort, system, the text flag), up to seven fill the last byte,
    # and a compressor may have had two ways to tell a repetition
    assert len(survivors) < 49 + 7 + len(packed) // 20


def test_every_flipped_bit_of_a_plain_file_is_noticed_by_a_checksum(read):
    _, content = array_and_content()
    md5 = hashlib.md5(content).hexdigest()
    read(content, md5=md5)
    for _, damaged in flipped(content, range(8 * len(content))):
        with pytest.raises(DataError):
            read(damaged, md5=md5)


def test_both_checksums_are_named(read):
    _, content = array_and_content()
    other = content[:-1] + b"\xff"
    expected, got = hashlib.md5(content).hexdigest(), hashlib.md5(other).hexdigest()
    with pytest.raises(DataError, match=f"content is {got}, expected {expected}.*verify=False"):
        read(other, md5=expected)
    with pytest.raises(DataError, match=f"content is {got}, expected {expected}"):
        read(gz(other), md5=expected)


def test_flipped_bits_of_the_shape_are_noticed_without_a_checksum(read):
    _, content = array_and_content()
    for _, damaged in flipped(content, [*range(16), *range(24, 8 * 16)]):
        with pytest.raises(DataError):
            read(damaged)


def test_truncated_and_extended_files(read):
    _, content = array_and_content()
    for whole in (content, gz(content)):
        for part in truncated(whole, 300):
            with pytest.raises(DataError):
                read(part)
        for tail in (b"\0", b"x", b"\0" * 1000, whole):
            with pytest.raises(DataError):
                read(whole + tail)
    # data of the wrong length in a valid container
    for part in truncated(content, 50):
        with pytest.raises(DataError):
            read(gz(part))
    with pytest.raises(DataError):
        read(gz(content + b"\0"))


@pytest.mark.parametrize("compress", [bytes, gz], ids=["plain", "gzip"])
@pytest.mark.parametrize(
    "shape", [(2**32 - 1,) * 3, (2**32 - 1,), (2**31, 2**31), (2**29, 2, 2), (211,), (209,), (0,), (2**32 - 1, 0)]
)
def test_forged_shapes_take_no_memory(read, shape, compress):
    import tracemalloc

    head = bytes([0, 0, 8, len(shape)]) + b"".join(n.to_bytes(4, "big") for n in shape)
    content = compress(head + bytes(210))
    tracemalloc.start()
    try:
        with pytest.raises(DataError):
            read(content)
        assert tracemalloc.get_traced_memory()[1] < 2_000_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("dimensions", [0, 33, 255])
def test_forged_numbers_of_dimensions(read, dimensions):
    with pytest.raises(DataError, match=f"announces {dimensions} dimensions"):
        read(bytes([0, 0, 8, dimensions]) + bytes(4 * 255))


def test_a_decompression_bomb_stops_at_the_announced_size(read):
    import tracemalloc

    bomb = gz(idx_bytes(np.zeros(100, np.uint8)) + bytes(50_000_000))
    tracemalloc.start()
    try:
        with pytest.raises(DataError, match="unpack to more than"):
            read(bomb)
        assert tracemalloc.get_traced_memory()[1] < 3_000_000
    finally:
        tracemalloc.stop()


def test_a_size_limit_holds_for_honest_files_too(read):
    content = idx_bytes(np.zeros((10, 100), np.uint8))
    assert read(content, max_bytes=1000).shape == (10, 100)
    noise = np.random.RandomState(0).randint(0, 256, 1_000_000).astype(np.uint8)
    np.testing.assert_array_equal(read(gz(idx_bytes(noise)), max_bytes=noise.nbytes), noise)
    for whole in (content, gz(content)):
        with pytest.raises(DataError, match="max_bytes"):
            read(whole, max_bytes=999)
    with pytest.raises(DataError, match="expected at most"):
        read(content + bytes(100_000), max_bytes=1000)


@pytest.mark.parametrize("content", [b"", b"\0", b"PK\x03\x04abcdefgh", b"<html>", b"\x1f\x8b", b"\x1f\x8b\x08garbage"])
def test_other_files(read, content):
    with pytest.raises(DataError, match="file: "):
        read(content)


def test_missing_files_and_things_that_are_no_files(tmp_path):
    with pytest.raises(DataNotFoundError, match="there is no such file"):
        read_idx(tmp_path / "gone")
    with pytest.raises(FileNotFoundError):
        read_idx(str(tmp_path / "gone"))
    with pytest.raises(DataError, match="got a folder"):
        read_idx(tmp_path)
    pipe = tmp_path / "pipe"
    if not hasattr(os, "mkfifo"):
        pytest.skip("no pipes on this system")
    os.mkfifo(pipe)
    with pytest.raises(DataError, match="expected a file"):
        read_idx(pipe)


def test_errors_are_of_the_hierarchy():
    assert issubclass(DataError, AsgError) and issubclass(DataError, ValueError)
    assert issubclass(DataNotFoundError, DataError) and issubclass(DataNotFoundError, FileNotFoundError)
