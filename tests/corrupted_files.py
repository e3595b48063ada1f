"""Ways in which a file can be damaged."""

from __future__ import annotations

import gzip
from collections.abc import Iterable, Iterator

import numpy as np


def flipped(content: bytes, bits: Iterable[int]) -> Iterator[tuple[int, bytes]]:
    """`content` with one bit inverted, for each bit; and the byte in which it lies."""
    for bit in bits:
        damaged = bytearray(content)
        damaged[bit // 8] ^= 1 << bit % 8
        yield bit // 8, bytes(damaged)


def some_bits(content: bytes, count: int, seed: int) -> list[int]:
    """`count` different bits of `content`."""
    return np.random.RandomState(seed).permutation(8 * len(content))[:count].tolist()


def truncated(content: bytes, count: int) -> Iterator[bytes]:
    """About `count` different beginnings of `content`, the empty one and the longest one among them."""
    yield from (content[:n] for n in sorted({*range(0, len(content), max(1, len(content) // count)), len(content) - 1}))


def gz(content: bytes) -> bytes:
    return gzip.compress(content, mtime=1_500_000_000)


def idx_bytes(array: np.ndarray, code: int = 0x08) -> bytes:
    """An IDX file, as the format's description says."""
    head = bytes([0, 0, code, array.ndim]) + b"".join(n.to_bytes(4, "big") for n in array.shape)
    return head + array.astype(array.dtype.newbyteorder(">")).tobytes()
