"""The IDX format: the arrays of MNIST and its relatives."""

from __future__ import annotations

import math
import os
from pathlib import Path

import numpy as np

from nn_fn.data.errors import DataError
from nn_fn.data.files import GZIP_MAGIC, gunzip, gunzip_start, md5_of, read_bytes

DTYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
MAX_DIMENSIONS = 32
LONGEST_HEADER = 4 + 4 * MAX_DIMENSIONS


def read_idx(path: str | os.PathLike[str], *, md5: str | None = None, max_bytes: int = 2**30) -> np.ndarray:
    """The array in an IDX file, plain or compressed by gzip (told by its first bytes, not by its name).

    A plain file carries no checksum of its own: when it is damaged inside its numbers, only `md5` can tell. A gzip file
    carries a CRC, which is always checked.

    Arguments:
        path: the file.
        md5: the expected MD5 of the uncompressed content, as hexadecimal digits; `None` to expect nothing.
        max_bytes: the largest array that is accepted, in bytes. It bounds the memory that a forged file can take.

    Returns:
        An array that the caller owns, of the file's shape and of dtype uint8, int8, int16, int32, float32 or float64 in
        the machine's byte order.

    Raises:
        DataNotFoundError: when there is no such file.
        DataError: when the file is not IDX, is damaged, has a length that disagrees with its header, holds more than
            `max_bytes` bytes, or has another MD5.

    Source: the format is described at http://yann.lecun.com/exdb/mnist/ ("the IDX file format").
    """
    path = Path(path)
    # numbers that cannot be compressed make a gzip file slightly larger than they are
    content = read_bytes(path, max_bytes + max_bytes // 1000 + 2**16)
    compressed = content[:2] == GZIP_MAGIC
    head = gunzip_start(content, LONGEST_HEADER, path) if compressed else content[:LONGEST_HEADER]
    dtype, shape = _header(head, path)
    offset = 4 + 4 * len(shape)
    size = math.prod(shape) * dtype.itemsize
    if size > max_bytes:
        raise DataError(
            f"{path}: the header announces an array of shape {shape}, {size} bytes; at most {max_bytes} are accepted (see max_bytes)"
        )
    if compressed:
        content = gunzip(content, offset + size, path)
    if len(content) != offset + size:
        raise DataError(
            f"{path}: the header announces an array of shape {shape}, which needs {offset + size} bytes, "
            f"but there are {len(content)}"
        )
    if md5 is not None and md5_of(content) != md5:
        raise DataError(
            f"{path}: the MD5 of the uncompressed content is {md5_of(content)}, expected {md5}. "
            "The file is damaged or is another one. Delete it and fetch it again, or pass verify=False to accept it"
        )
    # frombuffer wants at least one item
    flat = np.frombuffer(content, dtype, offset=offset) if size else np.empty(0, dtype)
    return flat.reshape(shape).astype(dtype.newbyteorder("="))


def _header(head: bytes, path: Path) -> tuple[np.dtype, tuple[int, ...]]:
    """The dtype and the shape that the first bytes announce."""
    if len(head) < 4:
        raise DataError(f"{path}: not an IDX file: it has {len(head)} bytes, and the header alone has more")
    if head[0] or head[1] or head[2] not in DTYPES:
        raise DataError(
            f"{path}: not an IDX file: it starts with {head[:4].hex(' ')}, expected 00 00, a dtype code "
            f"({', '.join(f'{code:02x}' for code in DTYPES)}) and the number of dimensions"
        )
    dimensions = head[3]
    if not 1 <= dimensions <= MAX_DIMENSIONS:
        raise DataError(f"{path}: the header announces {dimensions} dimensions, expected 1 to {MAX_DIMENSIONS}")
    if len(head) < 4 + 4 * dimensions:
        raise DataError(f"{path}: the file ends inside of its header")
    shape = np.frombuffer(head, ">u4", count=dimensions, offset=4).tolist()
    return np.dtype(DTYPES[head[2]]), tuple(shape)
