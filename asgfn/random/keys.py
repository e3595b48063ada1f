"""Keys: making them from a seed, deriving new ones, and their raw words.

A key is either typed (`key(0)`, a `PRNGKeyArray`) or raw (`PRNGKey(0)`, a uint32 array with a last axis of length 2).
Every function of this package takes both, and returns keys of the kind that it was given.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from asgfn import dtypes
from asgfn import numpy as jnp
from asgfn.config import config
from asgfn.errors import DTypeError, NotAnArrayError, ShapeError
from asgfn.random.arguments import canonical_shape
from asgfn.random.bits import fold_word, split_words
from asgfn.random.key_array import KeyDType, PRNGKeyArray
from asgfn.tracing import Array, as_array

_IMPLEMENTATION = "threefry2x32"


def key(seed: Any, *, impl: Any = None, dtype: Any = None) -> PRNGKeyArray:
    """A typed random key from an integer seed.

    Arguments:
        seed: an integer of up to 64 bits, of which 32 count unless `enable_x64` is on; or an integer scalar array.
        impl, dtype: the generator; only Threefry exists: `"threefry2x32"` or `key_dtype()`.

    Returns:
        A `PRNGKeyArray` of shape `()`.
    """
    if impl is not None and dtype is not None:
        raise ValueError("random.key takes impl or dtype, not both")
    _check_implementation(impl if dtype is None else dtype)
    return PRNGKeyArray(_seed_words("key", seed))


def PRNGKey(seed: Any, *, impl: Any = None) -> Array:
    """A raw random key: a uint32 array of shape `(2,)`. See `key` for the arguments."""
    _check_implementation(impl)
    return _seed_words("PRNGKey", seed)


def _check_implementation(spec: Any) -> None:
    if spec is None or isinstance(spec, KeyDType) or (isinstance(spec, str) and spec in (_IMPLEMENTATION, "fry")):
        return
    raise ValueError(f"unknown random generator {spec!r}: asgfn has {_IMPLEMENTATION!r}")


def _seed_words(name: str, seed: Any) -> Array:
    if isinstance(seed, PRNGKeyArray):
        raise DTypeError(f"random.{name} takes an integer seed, but got a key; use the key as it is")
    if isinstance(seed, int):
        if not -(2**63) <= seed < 2**63:
            raise OverflowError(f"random.{name}: the seed {seed} does not fit into 64 bits")
        upper = seed >> 32 if config.enable_x64 else 0
        return jnp.asarray(np.array([upper & 0xFFFFFFFF, seed & 0xFFFFFFFF], np.uint32))
    word = as_array(seed, f"random.{name}")
    if word.shape:
        raise ShapeError(
            f"random.{name} takes a scalar seed, but got an array of shape {word.shape}; for one key for each seed "
            f"use asgfn.vmap(asgfn.random.{name})(seeds)"
        )
    if not dtypes.is_integer(word.dtype):
        raise DTypeError(f"random.{name} takes an integer seed, but got {seed!r} of dtype {word.dtype.name}")
    low = word.astype(np.uint32)
    high = (word >> 32).astype(np.uint32) if word.dtype.itemsize == 8 else jnp.zeros_like(low)
    return jnp.stack([high, low])


def split(key: Any, num: int | tuple[int, ...] = 2) -> Any:
    """New, independent keys from one key, which must not be used again.

    Arguments:
        key: one key.
        num: how many keys, or the shape of an array of them.

    Returns:
        Keys of shape `(num,)` or `num`; raw keys have a last axis of length 2 more.
    """
    words = single_key("split", key)
    return _like(key, split_words(words, canonical_shape("split", num)))


def fold_in(key: Any, data: Any) -> Any:
    """A new key from a key and a number, such as a step or layer index.

    Arguments:
        key: one key.
        data: an integer scalar, 0 <= data < 2**32; traced values may wrap.
    """
    words = single_key("fold_in", key)
    if isinstance(data, int):
        if not 0 <= data < 2**32:
            raise OverflowError(f"random.fold_in: data must fit into uint32 (0 <= data < 2**32), got {data}")
        data = np.uint32(data)
    word = as_array(data, "random.fold_in")
    if word.shape:
        raise ShapeError(
            f"random.fold_in takes a scalar, but got an array of shape {word.shape}; for one key for each element use "
            "asgfn.vmap(asgfn.random.fold_in, in_axes=(None, 0))(key, data)"
        )
    if not dtypes.is_integer(word.dtype):
        raise DTypeError(f"random.fold_in takes an integer, but got dtype {word.dtype.name}; round it to one first")
    return _like(key, fold_word(words, word.astype(np.uint32)))


def key_data(keys: Any) -> Array:
    """The words of keys: a uint32 array of shape `(*keys.shape, 2)`."""
    return key_words("key_data", keys)


def wrap_key_data(key_bits_array: Any, *, impl: Any = None, dtype: Any = None) -> PRNGKeyArray:
    """Typed keys from words, the inverse of `key_data`.

    Arguments:
        key_bits_array: a uint32 array of shape `(..., 2)`.
        impl, dtype: see `key`.
    """
    if impl is not None and dtype is not None:
        raise ValueError("random.wrap_key_data takes impl or dtype, not both")
    _check_implementation(impl if dtype is None else dtype)
    return PRNGKeyArray(key_words("wrap_key_data", key_bits_array))


def key_impl(keys: Any) -> str:
    """The name of the generator that keys belong to: `"threefry2x32"`."""
    key_words("key_impl", keys)
    return _IMPLEMENTATION


def key_dtype(impl_spec: Any = None) -> KeyDType:
    """The dtype of keys of a generator: `key<fry>`."""
    _check_implementation(impl_spec)
    return KeyDType()


def clone(key: Any) -> Any:
    """The key itself: says in words that it is used a second time on purpose."""
    key_words("clone", key)
    return key


def key_words(name: str, keys: Any) -> Array:
    """The uint32 words of typed or raw keys, of shape `(..., 2)`; raises when they are no keys."""
    if isinstance(keys, PRNGKeyArray):
        return keys._base_array
    if not isinstance(keys, Array | np.ndarray):
        hint = f"; write asgfn.random.key({keys})" if isinstance(keys, int) else ""
        raise NotAnArrayError(f"random.{name} needs a random key, got {keys!r} of type {type(keys).__name__}{hint}")
    words = as_array(keys)
    if words.dtype != np.uint32 or words.shape[-1:] != (2,):
        raise DTypeError(
            f"random.{name} needs a random key: one from asgfn.random.key(seed), or a raw key of dtype uint32 whose "
            f"last axis has length 2; got {words.dtype.name}{list(words.shape)}"
        )
    return words


def single_key(name: str, key: Any) -> Array:
    """The words of one key, of shape `(2,)`; raises on a batch of keys."""
    words = key_words(name, key)
    if words.ndim != 1:
        raise ShapeError(
            f"random.{name} takes one key, but got keys of shape {words.shape[:-1]}; for one result for each key use "
            f"asgfn.vmap(lambda key: asgfn.random.{name}(key, ...))(keys)"
        )
    return words


def _like(key: Any, words: Array) -> Any:
    return PRNGKeyArray(words) if isinstance(key, PRNGKeyArray) else words
