"""Counting: bincount and histograms."""

from __future__ import annotations

import builtins
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from asgfn import dtypes, lax
from asgfn.errors import DTypeError, ShapeError
from asgfn.numpy import reductions
from asgfn.numpy.arguments import (
    ArrayLike,
    as_int,
    concrete,
    constant,
    convert,
    filled,
    promote_dtypes_inexact,
    to_array,
)
from asgfn.numpy.creation import asarray
from asgfn.numpy.cumulative import diff
from asgfn.numpy.ranges import linspace
from asgfn.numpy.sorting import searchsorted
from asgfn.tracing import Array

_INDEX = np.dtype(np.int32)


def bincount(x: ArrayLike, weights: ArrayLike | None = None, minlength: int = 0, *, length: int | None = None) -> Array:
    """How often each of 0, 1, 2, ... occurs in the vector of integers `x`; or the sums of their weights.

    Arguments:
        minlength: least length of the result.
        length: static length of the result, required under `jit`; larger integers are left out, negative ones count
            as 0.
    """
    x = to_array("bincount", x)
    if x.ndim != 1:
        raise ShapeError(f"bincount takes a vector, got shape {x.shape}")
    if not dtypes.is_integer(x.dtype) and x.dtype != np.bool_:
        raise DTypeError(f"bincount takes integers, got {x.dtype}")
    if length is None:
        hint = "the length of the result depends on values that are being traced: pass length="
        largest = int(concrete("bincount", x, hint).max()) if x.size else -1
        length = max(largest + 1, 0)
    length = max(as_int("bincount", "length", length), as_int("bincount", "minlength", minlength))
    if weights is None:
        weights = constant(1, dtypes.default_int(), weak=False)
    else:
        weights = to_array("bincount", weights)
        if weights.shape != x.shape:
            raise ShapeError(f"bincount: weights of shape {weights.shape} do not fit x of shape {x.shape}")
    if x.dtype == np.bool_:
        x = convert(x, _INDEX)
    places = x if dtypes.is_unsigned_integer(x.dtype) else lax.max(x, constant(0, x.dtype))
    return filled((length,), 0, weights.dtype).at[places].add(weights, mode="drop")


# --------------------------------------------------------------------------------------------------------- histograms


def histogram_bin_edges(a: ArrayLike, bins: Any = 10, range: Any = None, weights: ArrayLike | None = None) -> Array:
    """The edges of `bins` equal bins over `range` (from the smallest to the largest element by default).

    `bins` may be the edges themselves, or the name of one of NumPy's rules for their number (concrete values only).
    """
    if isinstance(bins, str):
        hint = f"the rule {bins!r} chooses the number of bins by the values, which are traced: give a number"
        values = concrete("histogram_bin_edges", to_array("histogram_bin_edges", a), hint)
        return to_array("histogram_bin_edges", np.histogram_bin_edges(values, bins, range))
    (a,) = promote_dtypes_inexact(to_array("histogram_bin_edges", a))
    a = to_array("histogram_bin_edges", a)
    if np.ndim(bins) == 1:
        return convert(asarray(bins), a.dtype)
    count = as_int("histogram", "the number of bins", bins)
    if count < 1:
        raise ShapeError(f"histogram: the number of bins must be positive, got {bins}")
    if range is not None:
        low, high = (convert(bound, a.dtype) for bound in range)
    elif a.size == 0:
        low, high = constant(0.0, a.dtype), constant(1.0, a.dtype)
    else:
        low, high = reductions.min(a), reductions.max(a)
    half = constant(0.5, a.dtype)
    empty = lax.eq(low, high)  # an interval without width gets one around its only point
    low, high = lax.select(empty, lax.sub(low, half), low), lax.select(empty, lax.add(high, half), high)
    return linspace(low, high, count + 1, dtype=a.dtype)


def _bin_of(x: Array, edges: Array) -> Array:
    """Number of the bin of each element, counted from 1; 0 and len(edges) lie outside. The last bin is closed."""
    count = edges.shape[0]
    place = convert(searchsorted(edges, x, "right"), _INDEX)
    last = lax.squeeze(lax.slice_in_dim(edges, count - 1, count), (0,))
    return lax.select(lax.eq(x, last), constant(count - 1, _INDEX), place)


def histogram(
    a: ArrayLike,
    bins: Any = 10,
    range: Any = None,
    weights: ArrayLike | None = None,
    density: bool | None = None,
) -> tuple[Array, Array]:
    """(how many elements lie in each bin, the edges of the bins). Bins include their left edge, the last one both.

    Arguments:
        bins, range: as in `histogram_bin_edges`.
        weights: of a's shape: adds these instead of 1.
        density: divide so that the integral is 1.
    """
    counts, (edges,) = _histogram("histogram", [_raveled(a)], [bins], [range], weights, density)
    if weights is None:
        counts = convert(counts, edges.dtype)
    return counts, edges


def _raveled(a: ArrayLike) -> Array:
    a = to_array("histogram", a)
    return lax.reshape(a, (a.size,))


def histogram2d(
    x: ArrayLike,
    y: ArrayLike,
    bins: Any = 10,
    range: Any = None,
    weights: ArrayLike | None = None,
    density: bool | None = None,
) -> tuple[Array, Array, Array]:
    """(how many points (x, y) lie in each bin, the edges along x, the edges along y).

    Arguments:
        bins: a number or edges for both axes, or a pair of them.
        range: pair of pairs.
    """
    x, y = _raveled(x), _raveled(y)
    if x.shape != y.shape:
        raise ShapeError(f"histogram2d: x and y must have one length, got shapes {x.shape} and {y.shape}")
    per_axis = list(bins) if isinstance(bins, (tuple, list)) and len(bins) == 2 else [bins, bins]
    counts, (x_edges, y_edges) = _histogram(
        "histogram2d", [x, y], per_axis, [None, None] if range is None else list(range), weights, density
    )
    return counts, x_edges, y_edges


def histogramdd(
    sample: ArrayLike | Sequence[ArrayLike],
    bins: Any = 10,
    range: Any = None,
    weights: ArrayLike | None = None,
    density: bool | None = None,
) -> tuple[Array, list[Array]]:
    """(how many points lie in each bin, the edges along each axis).

    Arguments:
        sample: (points, axes), or a sequence of coordinate vectors.
        bins: a number, or a number or edges for each axis.
    """
    if isinstance(sample, (tuple, list)):
        columns = [_raveled(column) for column in sample]
    else:
        sample = to_array("histogramdd", sample)
        if sample.ndim != 2:
            raise ShapeError(f"histogramdd takes (points, axes), got shape {sample.shape}")
        columns = [
            lax.squeeze(lax.slice_in_dim(sample, i, i + 1, axis=1), (1,)) for i in builtins.range(sample.shape[1])
        ]
    rank = len(columns)
    per_axis = list(bins) if isinstance(bins, (tuple, list)) else [bins] * rank
    if len(per_axis) != rank:
        raise ShapeError(f"histogramdd: {len(per_axis)} entries of bins do not fit {rank} axes")
    ranges = [None] * rank if range is None else list(range)
    if len(ranges) != rank:
        raise ShapeError(f"histogramdd: {len(ranges)} ranges do not fit {rank} axes")
    return _histogram("histogramdd", columns, per_axis, ranges, weights, density)


def _histogram(
    name: str, columns: list[Array], bins: list[Any], ranges: list[Any], weights: Any, density: bool | None
) -> tuple[Array, list[Array]]:
    columns = promote_dtypes_inexact(*columns)
    edges = [histogram_bin_edges(x, b, r) for x, b, r in zip(columns, bins, ranges, strict=True)]
    if weights is None:
        amounts: Any = constant(1, dtypes.default_int(), weak=False)
    else:
        amounts = to_array(name, weights)
        if amounts.size != columns[0].size:
            raise ShapeError(f"{name}: weights of shape {amounts.shape} do not fit {columns[0].size} elements")
        amounts = lax.reshape(amounts, (amounts.size,))
    # one counter more at both ends of each axis, for what lies outside
    sizes = [edge.shape[0] + 1 for edge in edges]
    flat: Any = None
    for x, edge, size in zip(columns, edges, sizes, strict=True):
        place = _bin_of(x, edge)
        flat = place if flat is None else lax.add(lax.mul(flat, constant(size, _INDEX)), place)
    counts = filled((math.prod(sizes),), 0, amounts.dtype).at[flat].add(amounts)
    counts = lax.reshape(counts, tuple(sizes))
    counts = lax.slice(counts, (1,) * len(sizes), tuple(size - 1 for size in sizes))
    if density:
        counts = convert(counts, edges[0].dtype)
        total = reductions.sum(counts)
        counts = lax.div(counts, total)
        for axis, edge in enumerate(edges):
            widths = convert(diff(edge), counts.dtype)
            counts = lax.div(counts, lax.broadcast_in_dim(widths, counts.shape, (axis,)))
    return counts, edges
