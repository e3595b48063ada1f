"""Random bits: hashing counters with a key.

The bits of an element depend on the key and on the element's flat index in the result alone (JAX's "partitionable"
scheme), so that any part of a result can be computed by itself. Keys are raw here: uint32 words of shape `(..., 2)`.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from asgfn import lax
from asgfn import numpy as jnp
from asgfn.primitives.threefry import threefry2x32
from asgfn.random.compiled import compiled
from asgfn.tracing import Array

UNSIGNED: dict[int, np.dtype[Any]] = {
    8: np.dtype("uint8"),
    16: np.dtype("uint16"),
    32: np.dtype("uint32"),
    64: np.dtype("uint64"),
}
_WORD = 1 << 32


def hash_indices(words: Array, shape: tuple[int, ...]) -> tuple[Array, Array]:
    """Two random words for each element of an array of this shape, from one key."""
    high, low = _flat_indices(shape)
    return threefry2x32(words[0], words[1], high, low)


def _flat_indices(shape: tuple[int, ...]) -> tuple[Any, Array]:
    """The high and low words of the row-major index of each element."""
    size = math.prod(shape)
    low = lax.reshape(lax.iota(np.uint32, size), shape)
    if size <= _WORD:
        return np.uint32(0), low
    blocks = [lax.full((min(_WORD, size - start),), start >> 32, np.uint32) for start in range(0, size, _WORD)]
    return lax.reshape(lax.concatenate(blocks, 0), shape), low


@compiled("bits", "width", "shape")
def random_bits(words: Array, width: int, shape: tuple[int, ...]) -> Array:
    """Unsigned integers of 8, 16, 32 or 64 random bits, from one key."""
    return _join_words(*hash_indices(words, shape), width)


def lane_bits(words: Array, width: int) -> Array:
    """What `random_bits(key, width, ())` gives for each of many keys: `(n, 2)` words to `(n,)` integers."""
    return _join_words(*threefry2x32(words[..., 0], words[..., 1], np.uint32(0), np.uint32(0)), width)


def _join_words(first: Array, second: Array, width: int) -> Array:
    if width == 64:
        return first.astype(np.uint64) << np.uint64(32) | second.astype(np.uint64)
    bits = first ^ second
    return bits if width == 32 else bits.astype(UNSIGNED[width])


@compiled("split", "shape")
def split_words(words: Array, shape: tuple[int, ...]) -> Array:
    """New keys from one key: words of shape `(*shape, 2)`."""
    return jnp.stack(hash_indices(words, shape), axis=-1)


def subkeys(words: Array, num: int = 2) -> tuple[Array, ...]:
    """`split_words` as a tuple of keys."""
    keys = split_words(words, (num,))
    return tuple(keys[i] for i in range(num))


def lane_subkeys(words: Array, num: int = 2) -> tuple[Array, ...]:
    """What `subkeys` gives for each of many keys: `(n, 2)` words to `num` arrays of that shape."""
    counters = lax.iota(np.uint32, num)
    keys = jnp.stack(threefry2x32(words[:, :1], words[:, 1:], np.uint32(0), counters[None, :]), axis=-1)
    return tuple(keys[:, i] for i in range(num))


@compiled("fold_in")
def fold_word(words: Array, data: Array) -> Array:
    """A new key from a key and a uint32 scalar."""
    return jnp.stack(threefry2x32(words[0], words[1], np.uint32(0), data))
