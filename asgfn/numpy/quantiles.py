"""Medians, quantiles and percentiles."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import numpy as np

from asgfn import dtypes, lax
from asgfn.errors import DTypeError, ShapeError
from asgfn.numpy import reductions
from asgfn.numpy.arguments import (
    ArrayLike,
    broadcast_operand,
    check_arraylike,
    computation_dtype,
    constant,
    convert,
    normalize_axes,
    promote_dtypes_inexact,
    refuse_out,
    strong,
    to_array,
    to_inexact,
)
from asgfn.numpy.indexing import take_along_axis
from asgfn.numpy.reductions import Axis, kept_shape
from asgfn.numpy.selection import where
from asgfn.numpy.sorting import sort
from asgfn.numpy.ufuncs import divide, isnan, maximum, minimum
from asgfn.tracing import Array, Tracer

# How a rank among n sorted elements is read off a probability q: the "virtual index" of Hyndman and Fan (1996), counted
# from 0. The continuous methods interpolate there: n q + alpha + q (1 - alpha - beta) - 1.
_CONTINUOUS = {
    "linear": (1.0, 1.0),
    "interpolated_inverted_cdf": (0.0, 1.0),
    "hazen": (0.5, 0.5),
    "weibull": (0.0, 0.0),
    "median_unbiased": (1 / 3, 1 / 3),
    "normal_unbiased": (3 / 8, 3 / 8),
}
_DISCONTINUOUS = (
    "lower",
    "higher",
    "midpoint",
    "nearest",
    "inverted_cdf",
    "averaged_inverted_cdf",
    "closest_observation",
)


def quantile(
    a: ArrayLike,
    q: ArrayLike,
    axis: Axis = None,
    out: None = None,
    overwrite_input: bool = False,
    method: str = "linear",
    keepdims: bool = False,
    *,
    weights: ArrayLike | None = None,
) -> Array:
    """Values below which the fractions `q` (in [0, 1]) of the elements over `axis` lie; NaN if there is a NaN.

    Arguments:
        method: how to choose between neighbours, by NumPy's names: "linear", "lower", "higher", "midpoint",
            "nearest", "inverted_cdf", "averaged_inverted_cdf", "closest_observation", "interpolated_inverted_cdf",
            "hazen", "weibull", "median_unbiased", "normal_unbiased".
        weights: of a's shape, or a vector for a single axis; with method "inverted_cdf" only.

    Returns:
        shape q.shape + (shape of `a` without `axis`).
    """
    return _quantile("quantile", a, q, axis, out, overwrite_input, method, keepdims, weights, ignore_nan=False)


def nanquantile(
    a: ArrayLike,
    q: ArrayLike,
    axis: Axis = None,
    out: None = None,
    overwrite_input: bool = False,
    method: str = "linear",
    keepdims: bool = False,
    *,
    weights: ArrayLike | None = None,
) -> Array:
    """`quantile` of the elements that are not NaN; NaN where there are none."""
    return _quantile("nanquantile", a, q, axis, out, overwrite_input, method, keepdims, weights, ignore_nan=True)


def percentile(
    a: ArrayLike,
    q: ArrayLike,
    axis: Axis = None,
    out: None = None,
    overwrite_input: bool = False,
    method: str = "linear",
    keepdims: bool = False,
    *,
    weights: ArrayLike | None = None,
) -> Array:
    """`quantile` with `q` in percent."""
    q = _percent("percentile", q)
    return _quantile("percentile", a, q, axis, out, overwrite_input, method, keepdims, weights, ignore_nan=False)


def nanpercentile(
    a: ArrayLike,
    q: ArrayLike,
    axis: Axis = None,
    out: None = None,
    overwrite_input: bool = False,
    method: str = "linear",
    keepdims: bool = False,
    *,
    weights: ArrayLike | None = None,
) -> Array:
    """`nanquantile` with `q` in percent."""
    q = _percent("nanpercentile", q)
    return _quantile("nanpercentile", a, q, axis, out, overwrite_input, method, keepdims, weights, ignore_nan=True)


def _percent(name: str, q: ArrayLike) -> Any:
    check_arraylike(name, q)
    q = _value_if_known(q)
    return divide(q, 100.0) if isinstance(q, Array) else q / 100.0


def _value_if_known(q: ArrayLike) -> Any:
    """Constant probabilities as float64, so that ranks are computed while tracing."""
    return q if isinstance(q, Tracer) else np.asarray(q, np.float64)


def median(
    a: ArrayLike, axis: Axis = None, out: None = None, overwrite_input: bool = False, keepdims: bool = False
) -> Array:
    """The middle element over `axis`, the mean of the middle two for an even number; NaN if there is a NaN."""
    return _quantile("median", a, 0.5, axis, out, overwrite_input, "midpoint", keepdims, None, ignore_nan=False)


def nanmedian(
    a: ArrayLike, axis: Axis = None, out: None = None, overwrite_input: bool = False, keepdims: bool = False
) -> Array:
    """The median of the elements that are not NaN; NaN where there are none."""
    return _quantile("nanmedian", a, 0.5, axis, out, overwrite_input, "midpoint", keepdims, None, ignore_nan=True)


def _quantile(
    name: str,
    a: ArrayLike,
    q: ArrayLike,
    axis: Axis,
    out: None,
    overwrite_input: bool,
    method: str,
    keepdims: bool,
    weights: ArrayLike | None,
    ignore_nan: bool,
) -> Array:
    refuse_out(name, out)
    if overwrite_input:
        raise DTypeError(f"{name}: overwrite_input=True is not possible, arrays are immutable")
    if method not in _CONTINUOUS and method not in _DISCONTINUOUS:
        known = ", ".join(map(repr, (*_CONTINUOUS, *_DISCONTINUOUS)))
        raise DTypeError(f"{name}: method must be one of {known}, got {method!r}")
    check_arraylike(name, a, q)
    q = _value_if_known(q)
    (a,) = promote_dtypes_inexact(to_array(name, a))
    if dtypes.is_complex(a.dtype):
        raise DTypeError(f"{name} is not defined for complex numbers, which have no order")
    if q.ndim > 1:
        raise ShapeError(f"{name}: q must be a scalar or a vector, got shape {q.shape}")
    axes = normalize_axes(name, axis, a.shape)
    rest = tuple(i for i in range(a.ndim) if i not in axes)
    kept = kept_shape(a.shape, axes)

    def in_front(x: Array) -> Array:
        """The reduced axes merged into one, in front."""
        order = (*axes, *rest)
        x = lax.transpose(x, order) if order != tuple(range(a.ndim)) else x
        return lax.reshape(x, (math.prod(a.shape[i] for i in axes), *(a.shape[i] for i in rest)))

    values = in_front(a)
    if values.shape[0] == 0:
        raise ShapeError(f"{name}: an array of shape {a.shape} has no elements along axis {axes}")
    if weights is not None:
        if method != "inverted_cdf":
            raise DTypeError(f"{name}: weights go with method='inverted_cdf' only, got {method!r}")
        result = _weighted_quantile(values, in_front(_full_weights(name, weights, a, axes)), q, ignore_nan)
    else:
        result = _ranked_quantile(values, q, method, ignore_nan)
    return strong(lax.reshape(result, (*q.shape, *kept)) if keepdims else result)


def _ranked_quantile(values: Array, q: Any, method: str, ignore_nan: bool) -> Array:
    """Quantiles along the first axis; the axis of q is in front of the result."""
    ordered = sort(values, 0)  # NaN last
    dtype = computation_dtype(values.dtype)
    if ignore_nan:
        present = reductions.sum(lax.bitwise_not(isnan(values)), 0, dtype)
        bad = lax.eq(present, constant(0, dtype))
        below, above, weight = _traced_neighbours(ordered, q, lax.max(present, constant(1, dtype)), method)
    else:
        bad = isnan(_row(ordered, -1))
        neighbours = _traced_neighbours if isinstance(q, Array) else _known_neighbours
        below, above, weight = neighbours(ordered, q, values.shape[0], method)
    if weight is None:
        result = below
    else:
        low = convert(below, dtype)
        # equal neighbours (infinities among them) need no interpolation, and inf - inf would be NaN
        gap = lax.select(lax.eq(above, below), constant(0, dtype), lax.sub(convert(above, dtype), low))
        result = convert(lax.add(low, lax.mul(gap, convert(weight, dtype))), values.dtype)
    if bad.ndim and bad.shape != result.shape:
        bad = broadcast_operand(bad, result.shape)
    return lax.select(bad, constant(math.nan, values.dtype), result)


def _row(ordered: Array, place: int) -> Array:
    place %= ordered.shape[0]
    return lax.squeeze(lax.slice_in_dim(ordered, place, place + 1), (0,))


def _known_neighbours(ordered: Array, q: np.ndarray, count: int, method: str) -> tuple[Array, Array, Any]:
    """The elements on both sides of constant probabilities: slices instead of gathers."""
    lower, upper, weight = _neighbours(q, float(count), method, np)
    lower, upper = (np.clip(rank, 0, count - 1).astype(np.int32) for rank in (lower, upper))
    if weight is None or np.all((lower == upper) | (weight == 0)):
        return _rows(ordered, lower), _rows(ordered, lower), None
    weight = np.broadcast_to(weight, q.shape).reshape(q.shape + (1,) * (ordered.ndim - 1))
    shape = (*q.shape, *ordered.shape[1:])
    weight = constant(float(weight.item()), dtypes.default_float()) if not q.ndim else np.broadcast_to(weight, shape)
    return _rows(ordered, lower), _rows(ordered, upper), weight


def _rows(ordered: Array, places: np.ndarray) -> Array:
    return _row(ordered, int(places)) if not places.ndim else ordered[places]


def _traced_neighbours(ordered: Array, q: Any, count: Any, method: str) -> tuple[Array, Array, Any]:
    """The elements on both sides of traced probabilities, or of a traced number of elements."""
    dtype = computation_dtype(ordered.dtype)
    rest = ordered.shape[1:]
    q = convert(q if isinstance(q, Array) else q.astype(dtype), dtype)
    shape = (*q.shape, *rest)
    count = convert(count, dtype) if isinstance(count, Array) else constant(float(count), dtype)
    if q.ndim:
        q = lax.broadcast_in_dim(q, shape, (0,)) if rest else q
        count = lax.broadcast_in_dim(count, shape, tuple(range(1, len(shape)))) if count.ndim else count
    lower, upper, weight = _neighbours(q, count, method, _TRACED)
    last = count - 1
    places = (lax.min(lax.max(rank, constant(0, dtype)), last) for rank in (lower, upper))
    below, above = (_elements(ordered, convert(place, np.dtype(np.int32)), shape) for place in places)
    return below, above, weight


_TRACED = SimpleNamespace(floor=lax.floor, ceil=lax.ceil, where=where, minimum=minimum, maximum=maximum)


def _neighbours(q: Any, n: Any, method: str, xp: Any) -> tuple[Any, Any, Any]:
    """Ranks (as whole floats) of the elements on both sides of `q`, and the weight of the upper one (None: 0).

    Arguments:
        n: number of elements.
        xp: NumPy for constants, `_TRACED` for arrays.
    """
    if method in _CONTINUOUS or method in ("lower", "higher", "midpoint", "nearest"):
        alpha, beta = _CONTINUOUS.get(method, (1.0, 1.0))
        rank = q * (n + (1.0 - alpha - beta)) + (alpha - 1.0)
        rank = xp.minimum(xp.maximum(rank, 0.0), n - 1.0)
        lower, upper = xp.floor(rank), xp.ceil(rank)
        if method == "lower":
            return lower, lower, None
        if method == "higher":
            return upper, upper, None
        if method == "nearest":
            rank = xp.where(rank - lower <= 0.5, lower, upper)  # half way, the lower one
            return rank, rank, None
        return lower, upper, 0.5 if method == "midpoint" else rank - lower
    rank = n * q
    if method == "closest_observation":
        # between two observations the upper one; exactly at one, counted from 1, it if even, else the next
        at = rank - 0.5
        rank = xp.where(xp.floor(at * 0.5) == at * 0.5, at - 1.0, xp.floor(at))
        return rank, rank, None
    upper = xp.ceil(rank) - 1.0
    if method == "inverted_cdf":
        return upper, upper, None
    return upper, xp.where(xp.floor(rank) == rank, upper + 1.0, upper), 0.5  # averaged_inverted_cdf


def _elements(ordered: Array, places: Array, shape: tuple[int, ...]) -> Array:
    """The elements at `places` along the first axis; the result has the given shape."""
    rest = ordered.shape[1:]
    if not rest or not places.ndim:
        return ordered.at[places].get(mode="promise_in_bounds")
    if len(shape) == len(rest):  # q is a scalar
        found = take_along_axis(ordered, lax.reshape(broadcast_operand(places, rest), (1, *rest)), 0)
        return lax.squeeze(found, (0,))
    return take_along_axis(ordered, broadcast_operand(places, shape), 0)


def _full_weights(name: str, weights: ArrayLike, a: Array, axes: tuple[int, ...]) -> Array:
    weights = convert(to_array(name, weights), to_inexact(a.dtype))
    if weights.shape == a.shape:
        return weights
    if weights.shape != tuple(a.shape[i] for i in axes):
        raise ShapeError(f"{name}: weights of shape {weights.shape} do not fit axis {axes} of shape {a.shape}")
    return broadcast_operand(lax.reshape(weights, tuple(s if i in axes else 1 for i, s in enumerate(a.shape))), a.shape)


def _weighted_quantile(values: Array, weights: Array, q: Array, ignore_nan: bool) -> Array:
    """The first element at which the running sum of weights reaches the fraction q of their total."""
    undefined = isnan(values)
    if ignore_nan:
        weights = lax.select(undefined, constant(0, weights.dtype), weights)
        bad = reductions.all(undefined, 0)
    else:
        bad = reductions.any(undefined, 0)
    ordered, carried = lax.sort((values, weights), dimension=0, num_keys=1)
    running = lax.cumsum(carried, 0)
    total = lax.slice_in_dim(running, running.shape[0] - 1, running.shape[0])
    fractions = lax.div(running, broadcast_operand(total, running.shape))

    def at(fraction: Any) -> Array:
        short = lax.lt(fractions, fraction)
        # q = 0 asks for the first element that has a weight
        weightless = lax.le(fractions, constant(0, fractions.dtype))
        index = reductions.sum(lax.bitwise_or(short, weightless), 0, np.dtype(np.int32))
        index = lax.min(index, constant(values.shape[0] - 1, np.dtype(np.int32)))
        found = _elements(ordered, index, values.shape[1:])
        return lax.select(bad, constant(math.nan, values.dtype), found)

    if not isinstance(q, Array):
        q = to_array("quantile", q.astype(fractions.dtype))
    q = convert(q, fractions.dtype)
    if not q.ndim:
        return at(q)
    rows = [lax.expand_dims(at(lax.squeeze(lax.slice_in_dim(q, i, i + 1), (0,))), (0,)) for i in range(q.shape[0])]
    return lax.concatenate(rows, 0)
