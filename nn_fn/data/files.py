"""Reading files that may be damaged or forged: bounded, strict, with errors that name the file."""

from __future__ import annotations

import hashlib
import zlib
from pathlib import Path

from nn_fn.data.errors import DataError, DataNotFoundError

GZIP_MAGIC = b"\x1f\x8b"
# zlib reads the gzip container, with its checks of CRC and length, when 16 is added to the window bits
GZIP_WINDOW = 16 + zlib.MAX_WBITS


def read_bytes(path: Path, max_bytes: int) -> bytes:
    """The content of a regular file of at most `max_bytes` bytes.

    Raises:
        DataNotFoundError: when there is no such file.
        DataError: when it is not a regular file, is larger than `max_bytes`, or cannot be read.
    """
    try:
        if not path.exists():
            raise DataNotFoundError(f"{path}: there is no such file")
        # a pipe or a device would block, or never end
        if not path.is_file():
            raise DataError(f"{path}: expected a file, got {'a folder' if path.is_dir() else 'something else'}")
        size = path.stat().st_size
        if size > max_bytes:
            raise DataError(f"{path}: the file has {size} bytes, expected at most {max_bytes}")
        return path.read_bytes()
    except DataError:
        raise
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read: {error}") from error


def gunzip(content: bytes, max_bytes: int, path: Path) -> bytes:
    """The data of a gzip file of exactly one member (RFC 1952), whose CRC and length agree.

    Memory is taken as data appear, never by what a header claims.

    Raises:
        DataError: when the file is damaged, ends early, goes on after its end, or holds more than `max_bytes` bytes.
    """
    decoder = zlib.decompressobj(GZIP_WINDOW)
    try:
        data = decoder.decompress(content, max_bytes + 1)
    except zlib.error as error:
        raise DataError(f"{path}: the gzip data are damaged ({error}). Fetch the file again") from error
    if len(data) > max_bytes:
        raise DataError(f"{path}: the gzip data unpack to more than the expected {max_bytes} bytes")
    if not decoder.eof:
        raise DataError(f"{path}: the gzip data end early: the file is truncated. Fetch the file again")
    if decoder.unused_data:
        raise DataError(f"{path}: {len(decoder.unused_data)} unexpected bytes follow the gzip data")
    return data


def gunzip_start(content: bytes, count: int, path: Path) -> bytes:
    """The first `count` bytes of the data of a gzip file, or fewer when it holds fewer; without any check."""
    try:
        return zlib.decompressobj(GZIP_WINDOW).decompress(content, count)
    except zlib.error as error:
        raise DataError(f"{path}: the gzip data are damaged ({error}). Fetch the file again") from error


def md5_of(content: bytes) -> str:
    """MD5 as 32 hexadecimal digits. It tells damage, not an attacker: the official sums are published as MD5 only."""
    return hashlib.md5(content, usedforsecurity=False).hexdigest()
