"""Threefry-2x32 in NumPy: in place, in blocks that stay in the cache."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from asgfn.primitives.threefry import PARITY, ROTATIONS
from backends.numpy.registry import kernel

BLOCK = 1 << 14  # words; three buffers of 64 KiB
FEW = 12  # so many blocks are hashed faster with Python integers, without NumPy's overhead per call
_MASK = 0xFFFFFFFF


@kernel("threefry2x32")
def _(in_types: tuple, out_types: tuple) -> Callable:
    shape = out_types[0].shape
    size = math.prod(shape)
    hash_words: Callable[..., tuple] = _hash_few if size <= FEW else _hash_blocks

    def run(*operands: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        flat = [x.reshape(1) if x.size == 1 else np.broadcast_to(x, shape).reshape(size) for x in operands]
        first, second = hash_words(*flat, size)
        return first.reshape(shape), second.reshape(shape)

    return run


def _hash_few(key0: np.ndarray, key1: np.ndarray, word0: np.ndarray, word1: np.ndarray, size: int) -> tuple:
    lanes = [x.tolist() * (size if x.size == 1 else 1) for x in (key0, key1, word0, word1)]
    hashed = [_hash_one(*lane) for lane in zip(*lanes, strict=True)] if size else []
    return tuple(np.array(hashed, np.uint32).reshape(size, 2).T)


def _hash_one(key0: int, key1: int, x0: int, x1: int) -> tuple[int, int]:
    schedule = (key0, key1, key0 ^ key1 ^ PARITY)
    x0 = (x0 + key0) & _MASK
    x1 = (x1 + key1) & _MASK
    for step in range(5):
        for distance in ROTATIONS[step % 2]:
            x0 = (x0 + x1) & _MASK
            x1 = ((x1 << distance | x1 >> (32 - distance)) & _MASK) ^ x0
        x0 = (x0 + schedule[(step + 1) % 3]) & _MASK
        x1 = (x1 + schedule[(step + 2) % 3] + step + 1) & _MASK
    return x0, x1


def _hash_blocks(key0: np.ndarray, key1: np.ndarray, word0: np.ndarray, word1: np.ndarray, size: int) -> tuple:
    first, second = np.empty(size, np.uint32), np.empty(size, np.uint32)
    scratch = np.empty(min(size, BLOCK), np.uint32)
    schedule = (key0, key1, key0 ^ key1 ^ np.uint32(PARITY))
    for start in range(0, size, BLOCK):
        block = slice(start, start + BLOCK)
        x0, x1 = first[block], second[block]
        keys = [k if k.size == 1 else k[block] for k in schedule]
        np.add(word0 if word0.size == 1 else word0[block], keys[0], out=x0)
        np.add(word1 if word1.size == 1 else word1[block], keys[1], out=x1)
        _rounds(x0, x1, keys, scratch[: x0.size])
    return first, second


def _rounds(x0: np.ndarray, x1: np.ndarray, keys: list[np.ndarray], rotated: np.ndarray) -> None:
    for step in range(5):
        for distance in ROTATIONS[step % 2]:
            np.add(x0, x1, out=x0)
            np.left_shift(x1, np.uint32(distance), out=rotated)
            np.right_shift(x1, np.uint32(32 - distance), out=x1)
            np.bitwise_or(x1, rotated, out=x1)
            np.bitwise_xor(x1, x0, out=x1)
        np.add(x0, keys[(step + 1) % 3], out=x0)
        np.add(x1, keys[(step + 2) % 3] + np.uint32(step + 1), out=x1)
