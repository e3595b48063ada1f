"""Booleans packed into bytes and back."""

from __future__ import annotations

import numpy as np

from asgfn import dtypes, lax
from asgfn.errors import DTypeError
from asgfn.numpy.arguments import ArrayLike, constant, convert, normalize_axis, to_array
from asgfn.numpy.ufuncs import to_bool
from asgfn.tracing import Array

_BYTE = np.dtype(np.uint8)


def _last(name: str, a: ArrayLike, axis: int | None) -> tuple[Array, list[int]]:
    """The array with `axis` last (flattened for None), and the order that brings it back."""
    a = to_array(name, a)
    if axis is None:
        return lax.reshape(a, (a.size,)), [0]
    axis = normalize_axis(name, axis, a.shape)
    order = [i for i in range(a.ndim) if i != axis] + [axis]
    return (a if order == sorted(order) else lax.transpose(a, order)), [order.index(i) for i in range(a.ndim)]


def _shifts(name: str, shape: tuple[int, ...], bitorder: str) -> Array:
    if bitorder not in ("big", "little"):
        raise DTypeError(f"{name}: bitorder must be 'big' or 'little', got {bitorder!r}")
    places = lax.broadcasted_iota(_BYTE, shape, len(shape) - 1)
    return places if bitorder == "little" else lax.sub(constant(7, _BYTE), places)


def packbits(a: ArrayLike, axis: int | None = None, bitorder: str = "big") -> Array:
    """Eight elements along `axis` (None: of the flattened array) as the bits of one uint8; missing ones are 0."""
    values, back = _last("packbits", a, axis)
    if dtypes.is_inexact(values.dtype):
        raise DTypeError(f"packbits takes integers or booleans, got {values.dtype}")
    *batch, size = values.shape
    bits = convert(to_bool(values), _BYTE)
    count = -(-size // 8)
    if size % 8:
        bits = lax.pad(bits, constant(0, _BYTE), [(0, 0, 0)] * len(batch) + [(0, 8 * count - size, 0)])
    bits = lax.reshape(bits, (*batch, count, 8))
    packed = lax.reduce_sum(lax.shift_left(bits, _shifts("packbits", bits.shape, bitorder)), (bits.ndim - 1,))
    return packed if back == sorted(back) else lax.transpose(packed, back)


def unpackbits(a: ArrayLike, axis: int | None = None, count: int | None = None, bitorder: str = "big") -> Array:
    """The bits of each uint8 along `axis` (None: of the flattened array) as uint8 zeros and ones.

    Arguments:
        count: length of the result along the axis: cut off or filled up with zeros; negative: how much to cut off.
    """
    values, back = _last("unpackbits", a, axis)
    if values.dtype != _BYTE:
        raise DTypeError(f"unpackbits takes uint8, got {values.dtype}")
    *batch, size = values.shape
    spread = lax.broadcast_in_dim(values, (*batch, size, 8), tuple(range(values.ndim)))
    shifted = lax.shift_right_logical(spread, _shifts("unpackbits", spread.shape, bitorder))
    bits = lax.reshape(lax.bitwise_and(shifted, constant(1, _BYTE)), (*batch, 8 * size))
    if count is not None:
        length = count if count >= 0 else 8 * size + count
        bits = lax.slice_in_dim(bits, 0, min(max(length, 0), 8 * size), axis=len(batch))
        if length > 8 * size:
            bits = lax.pad(bits, constant(0, _BYTE), [(0, 0, 0)] * len(batch) + [(0, length - 8 * size, 0)])
    return bits if back == sorted(back) else lax.transpose(bits, back)
