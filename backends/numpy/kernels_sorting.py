"""sort and top_k. NaN is larger than every number; -0.0 and 0.0 are equal for sort, in order for top_k."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from asgfn.graph import ArrayType
from backends.numpy.kernels_reductions import wide_dtype
from backends.numpy.registry import kernel

Types = tuple[ArrayType, ...]


@kernel("sort")
def _(in_types: Types, out_types: Types, *, dimension: int, is_stable: bool, num_keys: int):
    if len(in_types) == 1:
        return lambda x: (_sort_alone(x, dimension),)

    def run(*operands: np.ndarray) -> tuple[np.ndarray, ...]:
        keys = [_sortable(key) for key in operands[:num_keys]]
        if len(keys) == 1 and keys[0].dtype.kind != "c":
            order = np.argsort(keys[0], axis=dimension, kind="stable" if is_stable else None)
        else:  # lexsort is stable; its last key is the first to compare
            order = np.lexsort([part for key in reversed(keys) for part in _parts(key)], axis=dimension)
        return tuple([np.take_along_axis(x, order, axis=dimension) for x in operands])

    return run


def _sort_alone(x: np.ndarray, axis: int) -> np.ndarray:
    """Equal elements of one array cannot be told apart, except 0.0 from -0.0 and complex NaNs: those need stability."""
    dtype = x.dtype
    if dtype.kind == "c":
        order = np.lexsort(_parts(x), axis=axis)
        return np.take_along_axis(x, order, axis=axis)
    key = _sortable(x)
    if key.dtype.kind != "f":
        return np.sort(key, axis=axis)
    has_negative_zero = bool(((key == 0) & np.signbit(key)).any())
    return np.sort(key, axis=axis, kind="stable" if has_negative_zero else None).astype(dtype, copy=False)


def _sortable(x: np.ndarray) -> np.ndarray:
    return x.astype(wide_dtype(x.dtype), copy=False)


def _parts(key: np.ndarray) -> list[np.ndarray]:
    """Complex numbers compare by real part, then by imaginary part; the keys in np.lexsort's order."""
    return [key.imag, key.real] if key.dtype.kind == "c" else [key]


# ---------------------------------------------------------------------------------------------- top_k
@kernel("top_k")
def _(in_types: Types, out_types: Types, *, k: int, axis: int):
    length = in_types[0].shape[axis]
    to_key = _total_order(in_types[0].dtype)
    select = _select_few if k * 8 < length else _select_many

    def run(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        key = np.moveaxis(to_key(x), axis, -1)
        order = np.moveaxis(select(key, k), -1, axis)
        return np.take_along_axis(x, order, axis=axis), order.astype(np.int32)

    return run


def _total_order(dtype: np.dtype) -> Callable[[np.ndarray], np.ndarray]:
    """Numbers as integers in descending order: the smallest key is the largest number.

    A float's bits, read as an integer, already order the positive numbers; those of negative ones are flipped. So
    -nan < -inf < ... < -0.0 < 0.0 < ... < inf < nan.
    """
    if dtype.kind in "iub":
        return lambda x: ~x  # for every width: ~x is -1 - x, which never overflows
    bits = np.dtype(f"i{dtype.itemsize}")
    magnitude = bits.type(np.iinfo(bits).max)

    def run(x: np.ndarray) -> np.ndarray:
        raw = np.ascontiguousarray(x).view(bits).reshape(x.shape)
        return ~np.where(raw < 0, raw ^ magnitude, raw)

    return run


def _select_many(key: np.ndarray, k: int) -> np.ndarray:
    return np.argsort(key, axis=-1, kind="stable")[..., :k]


def _select_few(key: np.ndarray, k: int) -> np.ndarray:
    """Where few are wanted of many: find the k-th key, collect what lies before it, and sort only that."""
    if k == 0 or key.size == 0:
        return np.zeros((*key.shape[:-1], k), np.intp)
    threshold = np.partition(key, k - 1, axis=-1)[..., k - 1 : k]
    before = key < threshold
    equal = key == threshold
    room = k - before.sum(axis=-1, keepdims=True)
    chosen = before | (equal & (np.cumsum(equal, axis=-1) <= room))  # of equal elements the first ones
    candidates = np.nonzero(chosen)[-1].reshape(*key.shape[:-1], k)
    ranks = np.argsort(np.take_along_axis(key, candidates, axis=-1), axis=-1, kind="stable")
    return np.take_along_axis(candidates, ranks, axis=-1)
