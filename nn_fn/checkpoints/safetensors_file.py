"""Safetensors files: named arrays, with text about them.

A file is the length of its header (8 bytes, little-endian), the header in JSON, and the arrays' elements, one array
after another. The header says of each array its dtype, its shape and which bytes are its own. Source: the format's
description in the safetensors project's README.

Files are read by this module and not by the safetensors package, because reading must be strict and must not touch
what was not asked for: a file is refused unless its header describes each of its bytes exactly once. Arrays can be
views of the mapped file, so that elements are read from the disk when they are used. Whatever a header says, no memory
is taken beyond the file's own length.
"""

from __future__ import annotations

import json
import math
import mmap as mmap_module
import os
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Self

import ml_dtypes
import numpy as np

from nn_fn.checkpoints.errors import DamagedCheckpointError
from nn_fn.checkpoints.files import open_regular, write_atomically

LARGEST_HEADER = 100_000_000  # bytes; the format's own limit

# the format's names of dtypes; F4 and F6 are missing, since NumPy has no array of less than a byte an element
DTYPES: dict[str, np.dtype] = {
    "BOOL": np.dtype(np.bool_), "U8": np.dtype(np.uint8), "I8": np.dtype(np.int8),
    "U16": np.dtype(np.uint16), "I16": np.dtype(np.int16), "F16": np.dtype(np.float16),
    "BF16": np.dtype(ml_dtypes.bfloat16), "U32": np.dtype(np.uint32), "I32": np.dtype(np.int32),
    "F32": np.dtype(np.float32), "C64": np.dtype(np.complex64), "F64": np.dtype(np.float64),
    "I64": np.dtype(np.int64), "U64": np.dtype(np.uint64),
}  # fmt: skip
_FLOAT8 = {
    "F8_E4M3": "float8_e4m3fn", "F8_E5M2": "float8_e5m2", "F8_E8M0": "float8_e8m0fnu",
    "F8_E4M3FNUZ": "float8_e4m3fnuz", "F8_E5M2FNUZ": "float8_e5m2fnuz",
}  # fmt: skip
DTYPES |= {code: np.dtype(getattr(ml_dtypes, name)) for code, name in _FLOAT8.items() if hasattr(ml_dtypes, name)}
_CODES = {dtype: code for code, dtype in DTYPES.items()}


@dataclass(frozen=True)
class TensorInfo:
    """What a header says of one array.

    Attributes:
        nbytes: bytes that the elements take.
        offset: where in the file the first of them is.
    """

    name: str
    dtype: np.dtype
    shape: tuple[int, ...]
    nbytes: int
    offset: int


@dataclass(frozen=True)
class Header:
    """A checked header: the arrays, in their order in the file, the text about them, and the JSON itself."""

    tensors: dict[str, TensorInfo]
    metadata: dict[str, str]
    raw: bytes


# ---------------------------------------------------------------------------------------------------------- writing
def storable(name: str, value: Any) -> np.ndarray:
    """The value as an array that can be written: C-contiguous, in this machine's byte order.

    Raises:
        TypeError: the format has no such dtype.
    """
    array = np.asarray(value, order="C")
    if not array.dtype.isnative:
        array = array.astype(array.dtype.newbyteorder("="))
    if array.dtype not in _CODES:
        raise TypeError(
            f"{name} has dtype {array.dtype}, which safetensors files cannot hold; they can hold "
            f"{', '.join(dtype.name for dtype in _CODES)}"
        )
    return array


def _in_file_order(arrays: Mapping[str, np.ndarray]) -> list[tuple[str, np.ndarray]]:
    # large elements first: so every array begins at a multiple of its element's size
    return sorted(arrays.items(), key=lambda item: -item[1].dtype.itemsize)


def header_bytes(arrays: Mapping[str, np.ndarray], metadata: Mapping[str, str] | None = None) -> bytes:
    """The header of a file of these arrays (see `storable`), padded to a multiple of 8 bytes.

    Raises:
        TypeError: names or metadata are not text.
        ValueError: a name is reserved, or the header would be larger than the format allows.
    """
    metadata = metadata or {}
    if not all(isinstance(text, str) for item in metadata.items() for text in item):
        raise TypeError(f"metadata of a safetensors file maps text to text, got {dict(metadata)!r}")
    header: dict[str, Any] = {"__metadata__": dict(metadata)} if metadata else {}
    end = 0
    for name, array in _in_file_order(arrays):
        if not isinstance(name, str):
            raise TypeError(f"arrays of a safetensors file are named by text, got {name!r}")
        if name == "__metadata__":
            raise ValueError("an array of a safetensors file cannot be named '__metadata__': the format uses that name")
        begin, end = end, end + array.nbytes
        header[name] = {"dtype": _CODES[array.dtype], "shape": list(array.shape), "data_offsets": [begin, end]}
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    if len(text) > LARGEST_HEADER:
        raise ValueError(f"the header would take {len(text)} bytes, but the format allows {LARGEST_HEADER}")
    return text


def file_chunks(header: bytes, arrays: Mapping[str, np.ndarray]) -> Iterator[Any]:
    """The file as buffers to be written one after another."""
    yield len(header).to_bytes(8, "little") + header
    for _, array in _in_file_order(arrays):
        yield elements(array if sys.byteorder == "little" else array.byteswap())


def elements(array: np.ndarray) -> Any:
    """The bytes of a C-contiguous array, without a copy."""
    return array.reshape(-1).view(np.uint8).data


def save_file(tensors: Mapping[str, Any], path: str | os.PathLike, metadata: Mapping[str, str] | None = None) -> Path:
    """Writes named arrays to a safetensors file, atomically.

    Arguments:
        tensors: arrays (asgfn, NumPy, ...) of any shape.
        metadata: text by name, to be kept in the header.

    Raises:
        TypeError: a dtype that the format does not have, or names or metadata that are not text.
    """
    path = Path(path)
    arrays = {name: storable(str(name), value) for name, value in tensors.items()}
    write_atomically(path, file_chunks(header_bytes(arrays, metadata), arrays)).close()
    return path


# ---------------------------------------------------------------------------------------------------------- reading
class SafetensorsReader:
    """An open file whose header was checked. Arrays are read from it one by one.

    Arguments:
        mmap: arrays are read-only views of the mapped file. They stay valid after `close`, and after the file was
            deleted or replaced by another; but a file that somebody shortens in place while it is mapped kills the
            process that reads there, so only map files that are replaced by renaming, as this package does.

    Raises:
        FileNotFoundError: there is no such file.
        DamagedCheckpointError: the file is no safetensors file, or not a sound one.
    """

    def __init__(self, path: str | os.PathLike, *, mmap: bool = False):
        self.path = Path(path)
        self._file = open_regular(self.path)
        try:
            self.header = _read_header(self._file, self.path)
            # a mapping cannot be empty, but every sound file has 8 bytes at least
            self._map = mmap_module.mmap(self._file.fileno(), 0, access=mmap_module.ACCESS_READ) if mmap else None
        except BaseException:
            self._file.close()
            raise

    def info(self, name: str) -> TensorInfo:
        """What the header says of the array of this name. Raises KeyError if there is none."""
        if name not in self.header.tensors:
            names = list(self.header.tensors)
            there = ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")
            raise KeyError(f"{self.path} has no array {name!r}; it has {there or 'none'}")
        return self.header.tensors[name]

    def array(self, name: str) -> np.ndarray:
        """The array of this name. Only its bytes are read; none, if the file is mapped.

        Raises:
            KeyError: there is none.
            DamagedCheckpointError: the file ends too early, or holds booleans other than 0 and 1.
        """
        info = self.info(name)
        if self._map is None:
            array = np.empty(info.shape, info.dtype)
            self._file.seek(info.offset)
            if info.nbytes and self._file.readinto(elements(array)) != info.nbytes:  # type: ignore[attr-defined]
                raise _damaged(self.path, f"it ends within {name!r}")
            if info.dtype == np.bool_ and array.size and array.view(np.uint8).max() > 1:
                raise _damaged(self.path, f"{name!r} holds booleans that are neither 0 nor 1")
        elif info.nbytes:
            count = info.nbytes // info.dtype.itemsize
            array = np.frombuffer(self._map, info.dtype, count, info.offset).reshape(info.shape)
        else:
            array = np.empty(info.shape, info.dtype)
            array.flags.writeable = False
        return array if sys.byteorder == "little" else array.byteswap()

    def close(self) -> None:
        """Closes the file. Mapped arrays stay."""
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def read_header(path: str | os.PathLike) -> Header:
    """The header of a file: all arrays' `TensorInfo` and the metadata. No array is read."""
    with SafetensorsReader(path) as reader:
        return reader.header


def load_file(path: str | os.PathLike, *, mmap: bool = False) -> dict[str, np.ndarray]:
    """The arrays of a safetensors file by name, as NumPy arrays (of `ml_dtypes` where NumPy lacks the dtype).

    Arguments:
        mmap: give read-only views of the mapped file, which are read when they are used; see `SafetensorsReader`.

    Raises:
        FileNotFoundError: there is no such file.
        DamagedCheckpointError: it is no safetensors file, or its header and its length do not agree. The format has
            no checksum: changed elements are only found in checkpoints.
    """
    with SafetensorsReader(path, mmap=mmap) as reader:
        return {name: reader.array(name) for name in reader.header.tensors}


def load_tensor(path: str | os.PathLike, name: str) -> np.ndarray:
    """One array of a file, of which only the header and this array are read. Raises KeyError if there is none."""
    with SafetensorsReader(path) as reader:
        return reader.array(name)


def list_tensors(path: str | os.PathLike) -> list[str]:
    """The names of a file's arrays, in their order in the file."""
    return list(read_header(path).tensors)


def tensor_info(path: str | os.PathLike, name: str) -> TensorInfo:
    """Name, dtype, shape and size of one array, from the header. Raises KeyError if there is none."""
    with SafetensorsReader(path) as reader:
        return reader.info(name)


def contains_tensors(path: str | os.PathLike, names: Iterable[str]) -> bool:
    """Whether a file holds all of these arrays. A single name may be given as it is."""
    return {names} <= set(list_tensors(path)) if isinstance(names, str) else set(names) <= set(list_tensors(path))


# --------------------------------------------------------------------------------------------------- header checks
def _damaged(path: Path, reason: str) -> DamagedCheckpointError:
    return DamagedCheckpointError(f"{path} is damaged or not a safetensors file: {reason}")


def _read_header(file: BinaryIO, path: Path) -> Header:
    size = os.fstat(file.fileno()).st_size
    if size < 8:
        raise _damaged(path, f"it has {size} bytes, fewer than any such file")
    length = int.from_bytes(file.read(8), "little")
    if length > min(size - 8, LARGEST_HEADER):
        raise _damaged(path, f"its header is said to take {length} bytes, but the file has {size}")
    raw = file.read(length)
    if len(raw) != length:
        raise _damaged(path, "it ends within its header")
    try:
        if not raw.startswith(b"{"):
            raise ValueError("the header does not begin with '{'")
        content = json.loads(raw.rstrip(b" ").decode(), object_pairs_hook=_without_duplicates)
        metadata = content.pop("__metadata__", {})
        if type(metadata) is not dict or not all(type(text) is str for text in metadata.values()):
            raise ValueError("its metadata are not text")
        tensors = [_tensor_info(name, entry, 8 + length) for name, entry in content.items()]
        return Header(_covering(tensors, 8 + length, size), metadata, raw)
    except (ValueError, RecursionError) as error:
        raise _damaged(path, str(error)) from None


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        seen: set[str] = set()
        twice = next(name for name, _ in pairs if name in seen or seen.add(name))  # type: ignore[func-returns-value]
        raise ValueError(f"the header has {twice!r} more than once")
    return found


def _tensor_info(name: str, entry: Any, start: int) -> TensorInfo:
    if type(entry) is not dict or set(entry) != {"dtype", "shape", "data_offsets"}:
        raise ValueError(f"the entry of {name!r} does not consist of dtype, shape and data_offsets")
    code, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if type(code) is not str or code not in DTYPES:
        raise ValueError(f"{name!r} has the dtype {code!r}, which NumPy cannot hold")
    if not _natural(shape) or not _natural(offsets) or len(offsets) != 2:
        raise ValueError(f"shape and offsets of {name!r} are {shape!r} and {offsets!r}")
    if len(shape) > 64:
        raise ValueError(f"{name!r} has {len(shape)} axes; NumPy's arrays have 64 at most")
    dtype, (begin, end) = DTYPES[code], offsets
    # NumPy refuses empty arrays whose other axes multiply to more than the address space
    if math.prod(filter(None, shape)) * dtype.itemsize >= 2**63:
        raise ValueError(f"{name!r} has a shape larger than any array: {shape}")
    nbytes = math.prod(shape) * dtype.itemsize
    if end - begin != nbytes:
        raise ValueError(f"{name!r} is {dtype.name}{shape}, {nbytes} bytes, but has the bytes {begin} to {end}")
    return TensorInfo(name, dtype, tuple(shape), nbytes, start + begin)


def _natural(numbers: Any) -> bool:
    return type(numbers) is list and all(type(n) is int and 0 <= n < 2**63 for n in numbers)


def _covering(tensors: list[TensorInfo], start: int, size: int) -> dict[str, TensorInfo]:
    """The arrays in their order in the file, of which each byte must belong to exactly one."""
    tensors = sorted(tensors, key=lambda info: (info.offset, info.nbytes))
    end = start
    for info in tensors:
        if info.offset != end:
            what = "overlaps the array before it" if info.offset < end else "leaves a hole before it"
            raise ValueError(f"{info.name!r} {what}")
        end += info.nbytes
    if end != size:
        raise ValueError(f"its arrays end at byte {end}, but the file has {size} bytes")
    return {info.name: info for info in tensors}
