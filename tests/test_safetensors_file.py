"""Safetensors files: round trips, the safetensors package as reference, mapping, and refusal of unsound headers."""

from __future__ import annotations

import json
import os
import struct
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
import safetensors
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from safetensors import safe_open
from safetensors.numpy import load_file as library_load
from safetensors.numpy import save_file as library_save

import asgfn.numpy as jnp
from nn_fn.checkpoints import (
    CheckpointError,
    SafetensorsReader,
    contains_tensors,
    list_tensors,
    load_file,
    load_tensor,
    read_header,
    save_file,
    tensor_info,
)
from nn_fn.checkpoints.safetensors_file import DTYPES

NATIVE = [dtype for dtype in DTYPES.values() if dtype.isbuiltin == 1]
SHAPES = [(), (0,), (1,), (3,), (2, 3), (2, 0, 4), (1, 1, 1, 2)]


def filled(dtype: np.dtype, shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    """Any bits, so NaNs of all kinds too; but booleans are 0 or 1."""
    count = int(np.prod(shape, dtype=int))
    bits = np.random.default_rng(seed).integers(0, 2 if dtype == np.bool_ else 256, count * dtype.itemsize, np.uint8)
    return bits.view(dtype).reshape(shape)


def assert_identical(a: np.ndarray, b: np.ndarray) -> None:
    assert a.shape == b.shape and a.dtype == b.dtype
    assert a.tobytes() == b.tobytes()


def write(path: Path, header: object, data: bytes = b"", length: int | None = None) -> Path:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text) if length is None else length) + text + data)
    return path


def entry(dtype: object = "U8", shape: object = (4,), offsets: object = (0, 4)) -> dict:
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets}


# -------------------------------------------------------------------------------------------------------- round trips
@pytest.mark.parametrize("mmap", [False, True])
@pytest.mark.parametrize("code", DTYPES)
def test_round_trip_of_every_dtype(tmp_path, code, mmap):
    arrays = {f"a{i}": filled(DTYPES[code], shape, i) for i, shape in enumerate(SHAPES)}
    path = save_file(arrays, tmp_path / "f.safetensors", {"note": "é ☃"})
    loaded = load_file(path, mmap=mmap)
    assert loaded.keys() == arrays.keys()
    for name, array in arrays.items():
        assert_identical(loaded[name], array)
        assert_identical(load_tensor(path, name), array)
        info = tensor_info(path, name)
        assert (info.name, info.dtype, info.shape, info.nbytes) == (name, array.dtype, array.shape, array.nbytes)
    assert read_header(path).metadata == {"note": "é ☃"}


def test_all_dtypes_of_the_format_that_have_whole_bytes_are_here():
    float8 = {"F8_E4M3", "F8_E5M2", "F8_E8M0", "F8_E4M3FNUZ", "F8_E5M2FNUZ"}
    assert set(DTYPES) == float8 | {
        *("BOOL", "U8", "I8", "U16", "I16", "F16", "BF16", "U32", "I32", "F32", "C64", "F64", "I64", "U64")
    }


def test_arrays_of_asgfn_other_byte_orders_and_strides(tmp_path):
    arrays = {
        "asgfn": jnp.arange(6.0).reshape(2, 3),
        "big": np.arange(5, dtype=">i4"),
        "transposed": np.arange(6.0).reshape(2, 3).T,
        "reversed": np.arange(4)[::-1],
        "scalar": np.float16(0.5),
    }
    loaded = load_file(save_file(arrays, tmp_path / "f"))
    for name, array in arrays.items():
        np.testing.assert_array_equal(loaded[name], np.asarray(array))
    assert loaded["big"].dtype == np.int32 and loaded["scalar"].shape == ()


@settings(max_examples=40, deadline=None)
@given(
    st.dictionaries(
        st.text(st.characters(exclude_categories=["Cs"]), max_size=8).filter(lambda name: name != "__metadata__"),
        st.sampled_from(NATIVE).flatmap(
            lambda d: hnp.arrays(d, hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4))
        ),
        max_size=6,
    ),
    st.dictionaries(st.text(max_size=4), st.text(st.characters(exclude_categories=["Cs"]), max_size=4), max_size=3),
)
def test_any_arrays_and_names(tmp_path_factory, arrays, metadata):
    metadata = {k: v for k, v in metadata.items() if k.isprintable()}
    path = save_file(arrays, tmp_path_factory.mktemp("any") / "f", metadata)
    for mmap in (False, True):
        loaded = load_file(path, mmap=mmap)
        assert loaded.keys() == arrays.keys()
        for name, array in arrays.items():
            assert_identical(loaded[name], array)
    theirs = library_load(path)
    assert theirs.keys() == arrays.keys()
    for name, array in arrays.items():
        assert_identical(theirs[name], array)
    assert read_header(path).metadata == metadata


# ------------------------------------------------------------------------------------------- the safetensors package
def test_the_library_reads_our_files(tmp_path):
    arrays = {f"{code}{i}": filled(d, s, i) for code, d in DTYPES.items() for i, s in enumerate(SHAPES)}
    path = save_file(arrays, tmp_path / "f", {"a": "1", "b": '"\\\n'})
    entries = dict(safetensors.deserialize(path.read_bytes()))
    assert entries.keys() == arrays.keys()
    for name, array in arrays.items():
        found = entries[name]
        assert DTYPES[found["dtype"]] == array.dtype and tuple(found["shape"]) == array.shape
        assert bytes(found["data"]) == array.tobytes()
    with safe_open(str(path), framework="numpy") as file:
        assert file.metadata() == {"a": "1", "b": '"\\\n'}


@pytest.mark.parametrize("metadata", [None, {"format": "pt", "ü": "☃"}])
def test_we_read_the_librarys_files(tmp_path, metadata):
    arrays = {f"{d.name}{i}": filled(d, s, i) for d in NATIVE for i, s in enumerate(SHAPES)}
    arrays |= {f"bf16{i}": filled(np.dtype(ml_dtypes.bfloat16), s, i) for i, s in enumerate(SHAPES)}
    library_save(arrays, tmp_path / "f", metadata)
    for mmap in (False, True):
        loaded = load_file(tmp_path / "f", mmap=mmap)
        assert loaded.keys() == arrays.keys()
        for name, array in arrays.items():
            assert_identical(loaded[name], array)
    assert read_header(tmp_path / "f").metadata == (metadata or {})


# --------------------------------------------------------------------------------------------------- parts of a file
def test_listing_and_looking_up(tmp_path):
    path = save_file({"b.w": np.ones((2, 3), np.float16), "a": np.zeros(0), "c": np.ones(2)}, tmp_path / "f")
    assert sorted(list_tensors(path)) == ["a", "b.w", "c"]
    assert contains_tensors(path, "a") and contains_tensors(path, ["a", "b.w"]) and contains_tensors(path, [])
    assert not contains_tensors(path, "b") and not contains_tensors(path, ["a", "d"])
    info = tensor_info(path, "b.w")
    assert (info.dtype, info.shape, info.nbytes) == (np.float16, (2, 3), 12)
    assert path.read_bytes()[info.offset :][:12] == np.ones(6, np.float16).tobytes()
    for get in (tensor_info, load_tensor):
        with pytest.raises(KeyError, match=r"has no array 'd'; it has a, c, b\.w"):
            get(path, "d")
    for get in (list_tensors, load_file, lambda p: tensor_info(p, "a")):
        with pytest.raises(FileNotFoundError, match="there is no checkpoint at"):
            get(tmp_path / "nothing")


def test_a_tensor_is_read_without_the_others(tmp_path):
    path = tmp_path / "f"
    huge = 2**37  # bytes, of which the file system stores none
    header = {"huge": entry("U8", [huge], [0, huge]), "small": entry("U8", [4], [huge, huge + 4])}
    write(path, header)
    start = path.stat().st_size
    with open(path, "r+b") as file:
        file.seek(start + huge)
        file.write(b"\1\2\3\4")
    assert load_tensor(path, "small").tolist() == [1, 2, 3, 4]
    mapped = load_file(path, mmap=True)
    assert mapped["huge"].shape == (huge,) and mapped["huge"][huge // 2] == 0
    assert mapped["small"].tolist() == [1, 2, 3, 4]


def test_mapped_arrays_are_read_only_views_that_outlive_the_file(tmp_path):
    path = save_file({"x": np.arange(1000.0), "none": np.zeros((0, 2))}, tmp_path / "f")
    with SafetensorsReader(path, mmap=True) as reader:
        x, none = reader.array("x"), reader.array("none")
        assert np.shares_memory(x, reader.array("x"))
    assert not x.flags.writeable and not none.flags.writeable and not x.flags.owndata
    with pytest.raises(ValueError, match="read-only"):
        x[0] = 1
    save_file({"x": np.zeros(3)}, path)  # another file of this name
    path.unlink()
    np.testing.assert_array_equal(x, np.arange(1000.0))


def test_mapped_arrays_see_what_is_in_the_file(tmp_path):
    path = save_file({"x": np.zeros(4, np.uint8)}, tmp_path / "f")
    x = load_file(path, mmap=True)["x"]
    with open(path, "r+b") as file:
        file.seek(tensor_info(path, "x").offset)
        file.write(b"\7")
    assert x[0] == 7


def test_the_elements_of_arrays_are_aligned(tmp_path):
    arrays = {code: filled(d, (3,)) for code, d in DTYPES.items()}
    path = save_file(arrays, tmp_path / "f", {"x": "odd"})
    assert all(info.offset % info.dtype.itemsize == 0 for info in read_header(path).tensors.values())
    assert all(array.flags.aligned for array in load_file(path, mmap=True).values())


def test_arrays_of_other_writers_may_be_unaligned(tmp_path):
    data = b"\1" + np.arange(3.0, dtype="<f4").tobytes()
    path = write(tmp_path / "f", {"a": entry("U8", [1], [0, 1]), "b": entry("F32", [3], [1, 13])}, data)
    for mmap in (False, True):
        assert load_file(path, mmap=mmap)["b"].tolist() == [0, 1, 2]


# ------------------------------------------------------------------------------------------------------------ writing
def test_what_cannot_be_written(tmp_path):
    for bad in (np.ones(2, np.complex128), np.array(["a"]), np.array([None]), np.zeros(1, "M8[s]"), np.longdouble(1)):
        with pytest.raises(TypeError, match=r"^x has dtype .* which safetensors files cannot hold"):
            save_file({"x": bad}, tmp_path / "f")
    with pytest.raises(TypeError, match="maps text to text"):
        save_file({}, tmp_path / "f", {"a": 1})
    with pytest.raises(TypeError, match="named by text, got 3"):
        save_file({3: np.ones(1)}, tmp_path / "f")
    with pytest.raises(ValueError, match="the format uses that name"):
        save_file({"__metadata__": np.ones(1)}, tmp_path / "f")
    assert not list(tmp_path.iterdir())


# ------------------------------------------------------------------------------------------------- unsound headers
UNSOUND = {
    "no object": (b"[]", b"", "does not begin with"),
    "leading space": (b' {"a":1}', b"", "does not begin with"),
    "no JSON": (b"{nonsense}", b"", "not a safetensors file"),
    "not UTF-8": (b'{"\xff":1}', b"", "not a safetensors file"),
    "text after": (b"{} x", b"", "Extra data"),
    "padded with zeros": (b"{}\0\0", b"", "Extra data"),
    "deep": (b'{"a":' + b"[" * 100_000, b"", "not a safetensors file"),
    "long number": (b'{"a":' + b"9" * 5000 + b"}", b"", "not a safetensors file"),
    "duplicate name": (b'{"a":1,"b":2,"a":3}', b"", "'a' more than once"),
    "duplicate field": (
        b'{"a":{"dtype":"U8","shape":[1],"shape":[4],"data_offsets":[0,4]}}',
        b"1234",
        "'shape' more than once",
    ),
    "metadata of numbers": ({"__metadata__": {"a": 1}}, b"", "metadata are not text"),
    "metadata no object": ({"__metadata__": ["a"]}, b"", "metadata are not text"),
    "metadata null": ({"__metadata__": None}, b"", "metadata are not text"),
    "entry no object": ({"a": 3}, b"", "does not consist of"),
    "missing field": ({"a": {"dtype": "U8", "shape": [4]}}, b"1234", "does not consist of"),
    "extra field": ({"a": entry() | {"more": 1}}, b"1234", "does not consist of"),
    "unknown dtype": ({"a": entry("U4")}, b"1234", "NumPy cannot hold"),
    "dtype no text": ({"a": entry(["U8"])}, b"1234", "NumPy cannot hold"),
    "four-bit": ({"a": entry("F4", [8], [0, 4])}, b"1234", "NumPy cannot hold"),
    "shape no list": ({"a": entry("U8", 4)}, b"1234", "shape and offsets"),
    "negative shape": ({"a": entry("U8", [-4])}, b"1234", "shape and offsets"),
    "two negatives": ({"a": entry("U8", [-2, -2])}, b"1234", "shape and offsets"),
    "fraction": ({"a": entry("U8", [4.0])}, b"1234", "shape and offsets"),
    "true": ({"a": entry("U8", [4, True])}, b"1234", "shape and offsets"),
    "infinite": (b'{"a":{"dtype":"U8","shape":[Infinity],"data_offsets":[0,4]}}', b"1234", "shape and offsets"),
    "offsets no pair": ({"a": entry(offsets=[0, 4, 4])}, b"1234", "shape and offsets"),
    "negative offset": ({"a": entry(offsets=[-4, 0])}, b"1234", "shape and offsets"),
    "reversed": ({"a": entry(offsets=[4, 0])}, b"1234", "4 bytes, but has the bytes 4 to 0"),
    "too few bytes": ({"a": entry("F32", [2], [0, 4])}, b"1234", "8 bytes, but has the bytes 0 to 4"),
    "too many bytes": ({"a": entry("U8", [3], [0, 4])}, b"1234", "3 bytes, but has the bytes 0 to 4"),
    "overflow to fit": ({"a": entry("U8", [2**62, 4], [0, 0])}, b"", "larger than any array"),
    "overflow of 64 bits": ({"a": entry("U8", [2**64 + 4])}, b"1234", "shape and offsets"),
    "empty and huge": ({"a": entry("U8", [0, 2**62, 2**62], [0, 0])}, b"", "larger than any array"),
    "many axes": ({"a": entry("U8", [1] * 65 + [4])}, b"1234", "64 at most"),
    "beyond the file": ({"a": entry("U8", [2**50], [0, 2**50])}, b"1234", "arrays end at byte"),
    "hole": ({"a": entry(), "b": entry(offsets=[5, 9])}, b"123456789", "'b' leaves a hole"),
    "hole at the start": ({"a": entry(offsets=[1, 5])}, b"12345", "'a' leaves a hole"),
    "bytes after": ({"a": entry()}, b"12345", "but the file has"),
    "no arrays but bytes": ({}, b"1", "but the file has"),
    "overlap": ({"a": entry(), "b": entry(offsets=[3, 7])}, b"1234567", "'b' overlaps"),
    "the same bytes": ({"a": entry(), "b": entry()}, b"1234", "'b' overlaps"),
    "empty within another": ({"a": entry(), "b": entry("U8", [0], [2, 2])}, b"1234", "'b' overlaps"),
}


@pytest.mark.parametrize("case", UNSOUND)
def test_unsound_headers_are_refused(tmp_path, case):
    header, data, message = UNSOUND[case]
    path = write(tmp_path / "f", header, data)
    for read in (load_file, read_header, lambda p: load_file(p, mmap=True)):
        with pytest.raises(CheckpointError, match=message):
            read(path)


def test_what_the_library_refuses_we_refuse(tmp_path):
    for header, data, _ in UNSOUND.values():
        path = write(tmp_path / "f", header, data)
        try:
            safetensors.deserialize(path.read_bytes())
        except safetensors.SafetensorError:
            with pytest.raises(CheckpointError):
                load_file(path)


@pytest.mark.parametrize("length", [3, 2**20, 100_000_001, 2**63 - 1, 2**63, 2**64 - 1])
def test_forged_header_lengths(tmp_path, length):
    path = write(tmp_path / "f", {"a": entry()}, b"1234", length)
    with pytest.raises(CheckpointError):
        load_file(path)


def test_short_files_folders_and_pipes(tmp_path):
    for content in (b"", b"1234567", b"\0" * 8, b"\xff" * 64, b"hello, world!"):
        (tmp_path / "f").write_bytes(content)
        for mmap in (False, True):
            with pytest.raises(CheckpointError, match="damaged or not a safetensors file"):
                load_file(tmp_path / "f", mmap=mmap)
    with pytest.raises(CheckpointError, match="it is a folder"):
        load_file(tmp_path)
    os.mkfifo(tmp_path / "pipe")  # reading it would wait for ever
    with pytest.raises(CheckpointError, match="not a regular file"):
        load_file(tmp_path / "pipe")


def test_booleans_are_zeros_and_ones(tmp_path):
    path = write(tmp_path / "f", {"a": entry("BOOL")}, b"\0\1\2\1")
    with pytest.raises(CheckpointError, match="'a' holds booleans that are neither 0 nor 1"):
        load_file(path)
