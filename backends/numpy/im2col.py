"""Convolution as matrix products of gathered windows (im2col), after Chellapilla et al., "High Performance
Convolutional Neural Networks for Document Processing" (2006).

Axis names, in the order of the canonical operands:

    lhs  (g, n, c, *s)    group, batch, input feature, space
    rhs  (g, o, c, *k)    group, output feature, input feature, taps
    out  (g, n, o, *p)    group, batch, output feature, positions of the window

Windows are a strided view (g, n, c, *p, *k) of the padded lhs. They are copied, a cache-sized block at a time, into
one buffer that a matrix product then reads. The copy costs as much as the product unless it runs along memory, so the
buffer keeps the axis that is outermost in lhs outermost:

    rows first   (g, n, *p, *k, c)   blocks are rows of the result       a layer: lhs is (n, s, c)
    depth first  (g, c, *k, *p, n)   blocks are summed into the result   a layer's kernel gradient: lhs is (c, s, n)
    taps last    (g, c, n, *p, *k)   as above, for lhs that is (c, n, s) and kernels with many taps

Where one group has one input feature, the products are too thin for BLAS: those are sums over taps (`_plan_depthwise`).
A dilated lhs with unit strides (a transposed convolution) is not filled with zeros: each input element is multiplied
by all taps, and the products are added into the result at strided slices (`_plan_scatter`). Where the result is smaller
than the input, most of those products would be thrown away; then the operands change places (`_plan_exchanged`).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.lib.stride_tricks import as_strided

from backends.numpy.padding import place

BLOCK_BYTES = 1 << 22  # of windows, copied and then multiplied while they are in cache
MANY_TAPS = 64  # enough for a matrix product that contracts over taps alone

Shape = tuple[int, ...]
Contract = Callable[[np.ndarray, np.ndarray], np.ndarray]


class Geometry(NamedTuple):
    """Sizes of one convolution in the axis names of this module."""

    g: int
    n: int
    c: int
    o: int
    s: Shape
    k: Shape
    p: Shape
    strides: Shape
    padding: tuple[tuple[int, int], ...]
    lhs_dilation: Shape
    rhs_dilation: Shape


def plan_convolution(
    lhs_shape: Shape,
    rhs_shape: Shape,
    out_shape: Shape,
    work: np.dtype,
    *,
    window_strides: Shape,
    padding: tuple[tuple[int, int], ...],
    lhs_dilation: Shape,
    rhs_dilation: Shape,
    dimension_numbers: Any,
    feature_group_count: int,
    batch_group_count: int,
    **_: Any,
) -> Contract:
    """conv_general_dilated of operands of dtype `work`, as a function."""
    lhs_spec, rhs_spec, out_spec = dimension_numbers
    batch, features, *s = (lhs_shape[d] for d in lhs_spec)
    out_features, _, *k = (rhs_shape[d] for d in rhs_spec)
    p = tuple(out_shape[d] for d in out_spec[2:])
    g = feature_group_count * batch_group_count  # one of them is 1
    n, c, o = batch // batch_group_count, features // feature_group_count, out_features // g
    geometry = Geometry(g, n, c, o, tuple(s), tuple(k), p, window_strides, padding, lhs_dilation, rhs_dilation)

    space = range(len(s))
    if feature_group_count > 1:
        lhs_split, lhs_order = (n, g, c, *s), (1, 0, 2, *(3 + i for i in space))
    else:
        lhs_split, lhs_order = (g, n, c, *s), (0, 1, 2, *(3 + i for i in space))
    out_order = (1, 0, 2, *(3 + i for i in space))
    out_inverse = tuple(int(i) for i in np.argsort(out_spec))

    if 0 in out_shape or 0 in lhs_shape or 0 in rhs_shape:
        return lambda lhs, rhs: np.zeros(out_shape, work)
    if all(d == 1 for d in lhs_dilation) or any(d > 1 for d in window_strides):
        convolve = _plan_product(geometry, lhs_spec, work)
    elif math.prod(p) < math.prod(s):  # the kernel's gradient in a transposed convolution
        convolve = _plan_exchanged(geometry, rhs_spec, work)
    else:
        convolve = _plan_scatter(geometry, work)

    def run(lhs: np.ndarray, rhs: np.ndarray) -> np.ndarray:
        lhs = lhs.transpose(lhs_spec).reshape(lhs_split).transpose(lhs_order)
        rhs = rhs.transpose(rhs_spec).reshape((g, o, c, *k))
        out = convolve(lhs, rhs).transpose(out_order)
        return out.reshape((n, g * o, *p)).transpose(out_inverse)

    return run


def _plan_product(geometry: Geometry, lhs_spec: Shape, work: np.dtype) -> Contract:
    """The plan for these sizes, of those that fill dilated operands with zeros."""
    g, n, c, o, _, k, p = geometry[:7]
    if g > 1 and c == 1 and o <= 4 and math.prod(k) <= 256:
        return _plan_depthwise(geometry, work)
    if g > 1 and n == 1 and o <= 4 and math.prod(p) <= 256:
        return _plan_depthwise_kernel_gradient(geometry, work)
    if lhs_spec[0] < lhs_spec[1]:
        return _plan_rows_first(geometry, work)
    if lhs_spec[-1] == len(lhs_spec) - 1 and math.prod(k) >= MANY_TAPS:
        return _plan_taps_last(geometry, work)
    return _plan_depth_first(geometry, work)


def _plan_exchanged(geometry: Geometry, rhs_spec: Shape, work: np.dtype) -> Contract:
    """With unit strides, lhs and rhs may change places; then the result comes out backwards."""
    g, n, c, o, s, k, p = geometry[:7]
    pads = []
    for i, (low, _) in enumerate(geometry.padding):
        spans = (k[i] - 1) * geometry.rhs_dilation[i] + 1, (s[i] - 1) * geometry.lhs_dilation[i] + 1
        before = p[i] - 1 - low
        pads.append((before, p[i] - 1 + spans[1] - spans[0] - before))
    exchanged = Geometry(
        g, o, c, n, k, s, p, geometry.strides, tuple(pads), geometry.rhs_dilation, geometry.lhs_dilation
    )
    convolve = _plan_product(exchanged, rhs_spec, work)
    backwards = (slice(None),) * 3 + (slice(None, None, -1),) * len(s)
    return lambda lhs, rhs: convolve(rhs, lhs).swapaxes(1, 2)[backwards]


# ---------------------------------------------------------------------------------------------- windows
def _plan_padding(geometry: Geometry, work: np.dtype, axes: Shape) -> Callable[[np.ndarray], np.ndarray]:
    """Dilates and pads the canonical lhs. The result's memory follows `axes`, a permutation of the canonical axes."""
    s, dilation, padding = geometry.s, geometry.lhs_dilation, geometry.padding
    placed = [place(size, low, high, d) for size, (low, high), d in zip(s, padding, dilation, strict=True)]
    padded, source, target = zip(*placed, strict=True) if placed else ((), (), ())
    everything = (slice(None),) * 3
    inside, crop = (*everything, *target), (*everything, *source)
    full = (geometry.g, geometry.n, geometry.c, *padded)
    memory_shape = tuple(full[a] for a in axes)
    inverse = tuple(int(i) for i in np.argsort(axes))

    if all(d == 1 for d in dilation) and all(low <= 0 and high <= 0 for low, high in padding):
        return lambda lhs: np.ascontiguousarray(lhs[crop].transpose(axes)).transpose(inverse)

    def pad(lhs: np.ndarray) -> np.ndarray:
        buffer = np.zeros(memory_shape, work).transpose(inverse)
        buffer[inside] = lhs[crop]
        return buffer

    return pad


def _plan_windows(geometry: Geometry) -> Callable[[np.ndarray], np.ndarray]:
    """The view (g, n, c, *p, *k) of a padded lhs."""
    shape = (geometry.g, geometry.n, geometry.c, *geometry.p, *geometry.k)

    def windows(padded: np.ndarray) -> np.ndarray:
        space = padded.strides[3:]
        over_p = (step * stride for step, stride in zip(space, geometry.strides, strict=True))
        over_k = (step * dilation for step, dilation in zip(space, geometry.rhs_dilation, strict=True))
        return as_strided(padded, shape, (*padded.strides[:3], *over_p, *over_k), writeable=False)

    return windows


def _blocks(outer: Shape, block_bytes: int) -> Iterator[tuple[slice, slice]]:
    """Cuts an array whose two leading axes have lengths `outer` into blocks of about BLOCK_BYTES.

    `block_bytes` is the size of what lies at one index of the leading axis.
    """
    first, second = outer
    per_block = BLOCK_BYTES // max(block_bytes, 1)
    if per_block >= 1:
        for start in range(0, first, per_block):
            yield slice(start, min(start + per_block, first)), slice(0, second)
        return
    per_block = max(1, BLOCK_BYTES // max(block_bytes // second, 1))
    for i in range(first):
        for start in range(0, second, per_block):
            yield slice(i, i + 1), slice(start, min(start + per_block, second))


def _lengths(cut: tuple[slice, slice]) -> tuple[int, int]:
    return cut[0].stop - cut[0].start, cut[1].stop - cut[1].start


# ---------------------------------------------------------------------------------------------- matrix products
def _plan_rows_first(geometry: Geometry, work: np.dtype) -> Contract:
    g, n, c, o, s, k, p = geometry[:7]
    rank = len(s)
    space = range(3, 3 + rank)
    taps = range(3 + rank, 3 + 2 * rank)
    windows_order = (0, 1, *space, *taps, 2)
    depth = math.prod(k) * c
    pad = _plan_padding(geometry, work, (1, *space, 0, 2))
    windows_of = _plan_windows(geometry)
    kernel_order = (0, *space, 2, 1)
    if rank == 0 or (depth == c and all(stride == 1 for stride in geometry.strides)):
        cuts = None  # the windows are the padded lhs itself
    else:
        row_bytes = g * math.prod(p) * depth * work.itemsize
        cuts = list(_blocks((n, p[0]), row_bytes))
        largest = max(a * b for a, b in map(_lengths, cuts)) * g * math.prod(p[1:]) * depth

    def convolve(lhs: np.ndarray, rhs: np.ndarray) -> np.ndarray:
        matrix = rhs.transpose(kernel_order).reshape(g, depth, o)
        windows = windows_of(pad(lhs)).transpose(windows_order)
        if cuts is None:
            product = np.matmul(windows.reshape(g, n * math.prod(p), c), matrix)
            return product.reshape(g, n, *p, o).transpose(0, 1, 2 + rank, *range(2, 2 + rank))
        out = np.empty((n, *p, g, o), work)
        buffer = np.empty(largest, work)
        for cut in cuts:
            rows = math.prod(_lengths(cut)) * math.prod(p[1:])
            block = buffer[: g * rows * depth]
            np.copyto(block.reshape((g, *_lengths(cut), *p[1:], *k, c)), windows[:, *cut])
            # leading axes of a block of `out` merge into rows: it spans whole images, or rows of one image
            target = out[cut].reshape(rows, g, o).transpose(1, 0, 2)
            np.matmul(block.reshape(g, rows, depth), matrix, out=target)
        return out.transpose(1 + rank, 0, 2 + rank, *range(1, 1 + rank))

    return convolve


def _plan_depth_first(geometry: Geometry, work: np.dtype) -> Contract:
    g, n, c, o, s, k, p = geometry[:7]
    rank = len(s)
    space = range(3, 3 + rank)
    taps = range(3 + rank, 3 + 2 * rank)
    windows_order = (0, 2, *taps, *space, 1)
    rows = math.prod(p) * n
    pad = _plan_padding(geometry, work, (2, *space, 0, 1))
    windows_of = _plan_windows(geometry)
    kernel_order = (0, 2, *space, 1)
    tail = k[1:]
    outer = (c, k[0] if rank else 1)
    cuts = list(_blocks(outer, g * rows * math.prod(k) * work.itemsize))
    depths = [math.prod(_lengths(cut)) * math.prod(tail) for cut in cuts]
    largest = max(depths) * g * rows

    def convolve(lhs: np.ndarray, rhs: np.ndarray) -> np.ndarray:
        matrix = rhs.transpose(kernel_order)
        windows = windows_of(pad(lhs)).transpose(windows_order)
        if not rank:
            matrix, windows = matrix[:, :, None], windows[:, :, None]
        buffer = np.empty(largest, work)
        out = np.zeros((g, rows, o), work)
        for cut, depth in zip(cuts, depths, strict=True):
            block = buffer[: g * depth * rows]
            np.copyto(block.reshape((g, *_lengths(cut), *tail, *p, n)), windows[:, *cut])
            out += np.matmul(block.reshape(g, depth, rows).transpose(0, 2, 1), matrix[:, *cut].reshape(g, depth, o))
        return out.reshape(g, *p, n, o).transpose(0, 1 + rank, 2 + rank, *range(1, 1 + rank))

    return convolve


def _plan_taps_last(geometry: Geometry, work: np.dtype) -> Contract:
    g, n, c, o, s, k, p = geometry[:7]
    rank = len(s)
    space = range(3, 3 + rank)
    taps, places = math.prod(k), math.prod(p)
    pad = _plan_padding(geometry, work, (0, 2, 1, *space))
    windows_of = _plan_windows(geometry)
    cuts = list(_blocks((c, n), g * n * places * taps * work.itemsize))
    largest = max(math.prod(_lengths(cut)) for cut in cuts) * g * places * taps

    def convolve(lhs: np.ndarray, rhs: np.ndarray) -> np.ndarray:
        matrices = rhs.transpose(0, 2, 1, *space).reshape(g, c, o, taps).transpose(0, 1, 3, 2)
        windows = windows_of(pad(lhs)).swapaxes(1, 2)
        buffer = np.empty(largest, work)
        out = np.zeros((g, n, places, o), work)
        for cut in cuts:
            features, rows = _lengths(cut)
            block = buffer[: g * features * rows * places * taps]
            np.copyto(block.reshape((g, features, rows, *p, *k)), windows[:, *cut])
            product = np.matmul(block.reshape(g, features, rows * places, taps), matrices[:, cut[0]])
            out[:, cut[1]] += product.sum(axis=1).reshape(g, rows, places, o)
        return out.reshape(g, n, *p, o).transpose(0, 1, 2 + rank, *range(2, 2 + rank))

    return convolve


# ---------------------------------------------------------------------------------------------- one feature a group
def _plan_depthwise(geometry: Geometry, work: np.dtype) -> Contract:
    """out[n, p, g, o] = sum over k of lhs[n, p @ k, g] rhs[k, g, o], a tap at a time."""
    g, n, _, o, s, k, p = geometry[:7]
    rank = len(s)
    space = range(3, 3 + rank)
    pad = _plan_padding(geometry, work, (1, *space, 0, 2))
    windows_of = _plan_windows(geometry)
    taps = list(itertools.product(*map(range, k)))
    cuts = list(_blocks((n, p[0] if rank else 1), g * o * math.prod(p) * work.itemsize))

    def convolve(lhs: np.ndarray, rhs: np.ndarray) -> np.ndarray:
        # (*k, n, *p, g, 1) and (*k, g, o)
        windows = windows_of(pad(lhs)).transpose(*range(3 + rank, 3 + 2 * rank), 1, *space, 0, 2)
        matrix = np.ascontiguousarray(rhs[:, :, 0].transpose(*range(2, 2 + rank), 0, 1))
        out = np.empty((n, *p, g, o), work)
        for a, b in cuts:
            cut = (a, b) if rank else (a,)
            total = out[cut]
            scratch = np.empty_like(total)
            np.multiply(windows[taps[0]][cut], matrix[taps[0]], out=total)
            for tap in taps[1:]:
                total += np.multiply(windows[tap][cut], matrix[tap], out=scratch)
        return out.transpose(1 + rank, 0, 2 + rank, *range(1, 1 + rank))

    return convolve


def _plan_depthwise_kernel_gradient(geometry: Geometry, work: np.dtype) -> Contract:
    """out[p, g, o] = sum over c and k of lhs[c, p @ k, g] rhs[c, k, g, o], a position at a time."""
    g, _, c, o, s, k, p = geometry[:7]
    rank = len(s)
    space = range(3, 3 + rank)
    pad = _plan_padding(geometry, work, (2, *space, 0, 1))
    windows_of = _plan_windows(geometry)
    positions = list(itertools.product(*map(range, p)))
    cuts = list(_blocks((c, k[0] if rank else 1), g * o * math.prod(k) * work.itemsize))

    def convolve(lhs: np.ndarray, rhs: np.ndarray) -> np.ndarray:
        # (*p, c, *k, g, 1) and (c, *k, g, o)
        windows = windows_of(pad(lhs)).transpose(*space, 2, *range(3 + rank, 3 + 2 * rank), 0, 1)
        matrix = np.ascontiguousarray(rhs.transpose(2, *space, 0, 1))
        out = np.zeros((*p, g, o), work)
        for a, b in cuts:
            cut = (a, b) if rank else (a,)
            factor = matrix[cut]
            scratch = np.empty(factor.shape, work)
            for position in positions:
                np.multiply(windows[position][cut], factor, out=scratch)
                out[position] += scratch.reshape(-1, g, o).sum(axis=0)
        return out.transpose(rank, 1 + rank, *range(rank))[:, None]

    return convolve


# ---------------------------------------------------------------------------------------------- dilated lhs
def _plan_scatter(geometry: Geometry, work: np.dtype) -> Contract:
    """Input element i of an axis meets tap k at position  i * lhs_dilation + low - k * rhs_dilation."""
    g, n, c, o, s, k, p = geometry[:7]
    rank = len(s)
    space = range(3, 3 + rank)

    def reach(axis: int, tap: int) -> tuple[slice, slice] | None:
        """Which inputs this tap brings into the result, and where."""
        step = geometry.lhs_dilation[axis]
        shift = geometry.padding[axis][0] - tap * geometry.rhs_dilation[axis]
        first = max(0, -(shift // step))
        last = min(s[axis] - 1, (p[axis] - 1 - shift) // step)
        if last < first:
            return None
        return slice(first, last + 1), slice(first * step + shift, last * step + shift + 1, step)

    moves = []
    for tap in itertools.product(*map(range, k)):
        reached = [r for axis, t in enumerate(tap) if (r := reach(axis, t)) is not None]
        if len(reached) == rank:
            moves.append((tap, tuple(r[0] for r in reached), tuple(r[1] for r in reached)))
    taps = math.prod(k)
    cuts = [a for a, _ in _blocks((n, 1), g * math.prod(s) * taps * o * work.itemsize)]

    def convolve(lhs: np.ndarray, rhs: np.ndarray) -> np.ndarray:
        matrix = rhs.transpose(0, 2, *space, 1).reshape(g, c, taps * o)
        pixels = lhs.transpose(0, 1, *space, 2)
        out = np.zeros((g, n, *p, o), work)
        for cut in cuts:
            block = pixels[:, cut]
            products = np.matmul(block.reshape(g, -1, c), matrix).reshape(g, block.shape[1], *s, *k, o)
            target = out[:, cut]
            everything = (slice(None),) * 2
            for tap, source, spot in moves:
                target[*everything, *spot] += products[*everything, *source, *tap]
        return out.transpose(0, 1, 2 + rank, *range(2, 2 + rank))

    return convolve
