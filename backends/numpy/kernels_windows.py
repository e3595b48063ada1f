"""Reductions over sliding windows, and the moves along their arg-maxima that differentiate them.

A window reduction is separable: it is done an axis at a time, so that a window of 3 x 3 costs 3 + 3 and not 9 steps.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from asgfn.graph import ArrayType
from backends.numpy.kernels_reductions import highest, lowest, wide_dtype
from backends.numpy.padding import place
from backends.numpy.registry import kernel

Types = tuple[ArrayType, ...]
Shape = tuple[int, ...]

LONG_WINDOW = 16  # from here on, log2(length) steps of doubling beat one step an element


class Windows:
    """The geometry of the windows over an array of shape `shape`, decided once."""

    def __init__(
        self,
        shape: Shape,
        out_shape: Shape,
        *,
        window_dimensions: Shape,
        window_strides: Shape,
        padding: Sequence[tuple[int, int]],
        base_dilation: Shape,
        window_dilation: Shape,
    ):
        self.shape, self.out_shape = shape, out_shape
        self.lengths, self.strides, self.dilation = window_dimensions, window_strides, window_dilation
        placed = [place(n, low, high, d) for n, (low, high), d in zip(shape, padding, base_dilation, strict=True)]
        self.padded, self.source, self.target = (
            tuple(column) for column in (zip(*placed, strict=True) if placed else ((), (), ()))
        )
        self.is_padded = any(pair != (0, 0) for pair in padding) or any(d > 1 for d in base_dilation)

    def pad(self, x: np.ndarray, fill: Any) -> np.ndarray:
        if not self.is_padded:
            return x
        out = np.full(self.padded, fill, x.dtype)
        out[self.target] = x[self.source]
        return out

    def unpad(self, padded: np.ndarray) -> np.ndarray:
        """The transpose of `pad`."""
        if not self.is_padded:
            return padded
        out = np.zeros(self.shape, padded.dtype)
        out[self.source] = padded[self.target]
        return out

    def tap(self, axis: int, k: int) -> slice:
        """The elements of a padded axis that are k-th in their window."""
        start = k * self.dilation[axis]
        stride = self.strides[axis]
        return slice(start, start + (self.out_shape[axis] - 1) * stride + 1, stride)

    def flat_positions(self) -> tuple[np.ndarray, np.ndarray]:
        """Index into the flattened padded array of each window's first element, and what each tap adds to it."""
        steps = [math.prod(self.padded[axis + 1 :]) for axis in range(len(self.padded))]
        starts, offsets = np.zeros((), np.intp), np.zeros((), np.intp)
        for axis, step in enumerate(steps):
            starts = np.add.outer(starts, np.arange(self.out_shape[axis]) * (self.strides[axis] * step))
            offsets = np.add.outer(offsets, np.arange(self.lengths[axis]) * (self.dilation[axis] * step))
        return starts, offsets.reshape(-1)

    @property
    def disjoint(self) -> bool:
        """Whether no element lies in two windows."""
        spans = ((k - 1) * d + 1 for k, d in zip(self.lengths, self.dilation, strict=True))
        return all(s >= span for s, span in zip(self.strides, spans, strict=True))


def _along(axis: int) -> Callable[[slice], tuple]:
    return lambda cut: (slice(None),) * axis + (cut,)


# ---------------------------------------------------------------------------------------------- reduce
def _slide(x: np.ndarray, windows: Windows, axis: int, ufunc: np.ufunc) -> np.ndarray:
    """Reduces the windows along one axis."""
    at = _along(axis)
    length, dilation = windows.lengths[axis], windows.dilation[axis]
    count, stride = windows.out_shape[axis], windows.strides[axis]
    if length == 1:
        return x[at(windows.tap(axis, 0))]
    if count == 1:
        span = slice(0, (length - 1) * dilation + 1, dilation)
        return ufunc.reduce(x[at(span)], axis=axis, keepdims=True, dtype=x.dtype)
    if length < LONG_WINDOW or stride * LONG_WINDOW > length * 4:
        out = ufunc(x[at(windows.tap(axis, 0))], x[at(windows.tap(axis, 1))])
        for k in range(2, length):
            ufunc(out, x[at(windows.tap(axis, k))], out=out)
        return out
    # level j holds the windows of length 2**j at stride 1; the wanted length is a sum of such powers
    reach = (count - 1) * stride + 1
    parts, done, level, power = [], 0, x, 1
    while power <= length:
        if length & power:
            parts.append(level[at(slice(done * dilation, done * dilation + reach, stride))])
            done += power
        power *= 2
        if power <= length:
            shift = power // 2 * dilation
            level = ufunc(level[at(slice(0, -shift))], level[at(slice(shift, None))])
    return functools.reduce(ufunc, parts)


def _window_reduction(name: str, ufunc: np.ufunc, identity: Callable[[np.dtype], Any]) -> None:
    @kernel(name)
    def _(in_types: Types, out_types: Types, **params: Any):
        (t,), (out,) = in_types, out_types
        wide = wide_dtype(t.dtype)
        fill = wide.type(identity(wide))
        windows = Windows(t.shape, out.shape, **params)
        if out.size == 0 or 0 in windows.lengths:
            return lambda x: np.full(out.shape, fill, wide).astype(t.dtype)

        def run(x: np.ndarray) -> np.ndarray:
            y = windows.pad(x.astype(wide, copy=False), fill)
            for axis in range(y.ndim):
                y = _slide(y, windows, axis, ufunc)
            return y.astype(t.dtype, copy=False)

        return run


_window_reduction("reduce_window_sum", np.add, lambda _: 0)
_window_reduction("reduce_window_max", np.maximum, lowest)
_window_reduction("reduce_window_min", np.minimum, highest)


# ---------------------------------------------------------------------------------------------- arg
def _window_arg_reduction(name: str, beats: np.ufunc, extremum: np.ufunc, identity: Callable[[np.dtype], Any]) -> None:
    @kernel(name)
    def _(in_types: Types, out_types: Types, **params: Any):
        (t,), (out,) = in_types, out_types
        wide = wide_dtype(t.dtype)
        fill = wide.type(identity(wide))
        windows = Windows(t.shape, out.shape, **params)
        if out.size == 0:
            return lambda x: np.zeros(out.shape, np.int32)

        def run(x: np.ndarray) -> np.ndarray:
            # The last axis first: each stage prefers earlier taps, so that the first in row-major order wins.
            x = x.astype(wide, copy=False)
            has_nan = wide.kind == "f" and bool(np.isnan(x).any())
            best = windows.pad(x, fill)
            index = np.zeros((1,) * best.ndim, np.int32)
            for axis in reversed(range(best.ndim)):
                at, step = _along(axis), math.prod(windows.lengths[axis + 1 :])
                value, position = best, np.broadcast_to(index, best.shape)
                first = at(windows.tap(axis, 0))
                if windows.lengths[axis] == 1:
                    best, index = value[first], position[first]
                    continue
                best, index = value[first].copy(), position[first].copy()
                for k in range(1, windows.lengths[axis]):
                    here = at(windows.tap(axis, k))
                    wins = beats(value[here], best)
                    if has_nan:
                        wins |= np.isnan(value[here]) & ~np.isnan(best)
                    # later taps have larger numbers, so that a maximum replaces the number where this one wins
                    np.maximum(index, wins * (position[here] + np.int32(k * step)), out=index)
                    extremum(best, value[here], out=best)
            index = np.ascontiguousarray(index)
            return _prefer_elements(index, x, best == fill, windows) if windows.is_padded else index

        return run


def _prefer_elements(index: np.ndarray, x: np.ndarray, tied: np.ndarray, windows: Windows) -> np.ndarray:
    """`index`, but where padding may have tied with the elements, their first one wins.

    A gradient that went into the padding would be lost.
    """
    where = np.flatnonzero(tied)
    if not where.size:
        return index
    starts, offsets = windows.flat_positions()
    is_element = windows.pad(np.ones(x.shape, bool), False).reshape(-1)[starts.reshape(-1)[where, None] + offsets]
    has_elements = is_element.any(axis=1)
    index = index.copy()
    index.reshape(-1)[where[has_elements]] = is_element[has_elements].argmax(axis=1)
    return index


_window_arg_reduction("reduce_window_argmax", np.greater, np.maximum, lowest)
_window_arg_reduction("reduce_window_argmin", np.less, np.minimum, highest)


# ---------------------------------------------------------------------------------------------- moves
@kernel("window_gather")
def _(in_types: Types, out_types: Types, **params: Any):
    operand, out = in_types[0], out_types[0]
    windows = Windows(operand.shape, out.shape, **params)
    if out.size == 0:
        return lambda x, index: np.zeros(out.shape, out.dtype)
    starts, offsets = windows.flat_positions()

    def run(x: np.ndarray, index: np.ndarray) -> np.ndarray:
        return windows.pad(x, 0).reshape(-1)[starts + offsets[index]]

    return run


@kernel("window_scatter_add")
def _(in_types: Types, out_types: Types, *, operand_shape: Shape, **params: Any):
    updates, out = in_types[0], out_types[0]
    windows = Windows(operand_shape, updates.shape, **params)
    wide = wide_dtype(out.dtype)
    if updates.size == 0:
        return lambda x, index: np.zeros(out.shape, out.dtype)
    starts, offsets = windows.flat_positions()

    def run(x: np.ndarray, index: np.ndarray) -> np.ndarray:
        total = np.zeros(windows.padded, wide)
        places = starts + offsets[index]
        if windows.disjoint:
            total.reshape(-1)[places] = x
        else:
            np.add.at(total.reshape(-1), places.reshape(-1), np.ascontiguousarray(x, wide).reshape(-1))
        return windows.unpad(total).astype(out.dtype, copy=False)

    return run
