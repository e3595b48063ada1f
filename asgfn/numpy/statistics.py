"""Averages, medians, quantiles, covariances."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from asgfn import dtypes, lax
from asgfn.errors import DTypeError, ShapeError
from asgfn.numpy import reductions
from asgfn.numpy.arguments import (
    ArrayLike,
    DTypeLike,
    broadcast_operand,
    check_arraylike,
    computation_dtype,
    constant,
    convert,
    filled,
    normalize_axes,
    promote_args,
    promote_dtypes_inexact,
    refuse_out,
    strong,
    to_array,
    to_inexact,
)
from asgfn.numpy.products import matmul
from asgfn.numpy.reductions import Axis, kept_shape
from asgfn.numpy.sorting import sort
from asgfn.numpy.ufuncs import conjugate, isnan
from asgfn.tracing import Array


def average(
    a: ArrayLike, axis: Axis = None, weights: ArrayLike | None = None, returned: bool = False, keepdims: bool = False
) -> Any:
    """Weighted mean over `axis`: sum(a * weights) / sum(weights).

    Arguments:
        weights: of a's shape, or a vector for a single axis. None weighs all elements alike.
        returned: also return the sums of weights.
    """
    a = to_array("average", a)
    axes = normalize_axes("average", axis, a.shape)
    if weights is None:
        result = reductions.mean(a, axis, keepdims=keepdims)
        total = filled(result.shape, float(math.prod(a.shape[i] for i in axes)), result.dtype)
        return (result, total) if returned else result
    a, weights = promote_dtypes_inexact(a, to_array("average", weights))
    if weights.shape != a.shape:
        if axis is None:
            raise ShapeError(f"average: with weights of shape {weights.shape} and a of shape {a.shape}, axis is needed")
        if weights.shape != tuple(a.shape[i] for i in axes):
            raise ShapeError(f"average: weights of shape {weights.shape} do not fit axis {axis} of shape {a.shape}")
        order = sorted(range(len(axes)), key=lambda i: axes[i])
        weights = lax.transpose(weights, order) if order != sorted(order) else weights
        weights = broadcast_operand(
            lax.reshape(weights, tuple(size if i in axes else 1 for i, size in enumerate(a.shape))), a.shape
        )
    total = reductions.sum(weights, axis, keepdims=keepdims)
    result = lax.div(reductions.sum(lax.mul(a, weights), axis, keepdims=keepdims), total)
    return (result, total) if returned else result


# ---------------------------------------------------------------------------------------------------------- quantiles

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


def _percent(name: str, q: ArrayLike) -> Array:
    check_arraylike(name, q)
    (q,) = promote_dtypes_inexact(q)
    return lax.div(q, constant(100.0, q.dtype))


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
    a, q = promote_dtypes_inexact(a, q)
    a, q = to_array(name, a), to_array(name, q)
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


def _ranked_quantile(values: Array, q: Array, method: str, ignore_nan: bool) -> Array:
    """Quantiles along the first axis; the axis of q is in front of the result."""
    count, rest = values.shape[0], values.shape[1:]
    undefined = isnan(values)
    ordered = sort(values, 0)  # NaN last
    dtype = computation_dtype(values.dtype)
    if ignore_nan:
        present = reductions.sum(lax.bitwise_not(undefined), 0, dtype)
        bad = lax.eq(present, constant(0, dtype))
        present = lax.max(present, constant(1, dtype))
    else:
        present = constant(float(count), dtype)
        bad = reductions.any(undefined, 0)
    shape = (*q.shape, *rest)
    q = convert(q, dtype)
    q = lax.broadcast_in_dim(q, shape, (0,)) if q.ndim and rest else q
    present = (
        lax.broadcast_in_dim(present, shape, tuple(range(q.ndim and 1, len(shape))))
        if present.ndim and q.ndim
        else present
    )
    last = lax.sub(present, constant(1, dtype))
    lower, upper, weight = _neighbours(q, present, method)
    lower, upper = (
        lax.clamp(constant(0, dtype), x, last) if not last.ndim else _clamped(x, last) for x in (lower, upper)
    )
    below, above = _element(ordered, lower, shape, bool(q.ndim)), _element(ordered, upper, shape, bool(q.ndim))
    if weight is None:
        result = below
    else:
        gap = lax.sub(convert(above, dtype), convert(below, dtype))
        # equal neighbours (infinities among them) need no interpolation, and inf - inf would be NaN
        same = lax.eq(above, below)
        gap = lax.select(same, constant(0, dtype), gap)
        result = convert(lax.add(convert(below, dtype), lax.mul(gap, weight)), values.dtype)
    bad = broadcast_operand(bad, shape) if bad.ndim else bad
    return lax.select(bad, constant(math.nan, values.dtype), result)


def _clamped(x: Array, last: Array) -> Array:
    return lax.min(lax.max(x, constant(0, x.dtype)), last)


def _neighbours(q: Array, n: Array, method: str) -> tuple[Array, Array, Array | None]:
    """Ranks (as whole floats) of the elements on both sides, and the weight of the upper one (None: 0)."""
    dtype = q.dtype
    one, half = constant(1.0, dtype), constant(0.5, dtype)
    if method in _CONTINUOUS or method in ("lower", "higher", "midpoint", "nearest"):
        alpha, beta = _CONTINUOUS.get(method, (1.0, 1.0))
        shift = lax.mul(q, constant(1.0 - alpha - beta, dtype))
        rank = lax.add(lax.add(lax.mul(n, q), shift), constant(alpha - 1.0, dtype))
        rank = lax.min(lax.max(rank, constant(0.0, dtype)), lax.sub(n, one))
        lower, upper = lax.floor(rank), lax.ceil(rank)
        if method == "lower":
            return lower, lower, None
        if method == "higher":
            return upper, upper, None
        if method == "nearest":
            rank = lax.select(lax.le(lax.sub(rank, lower), half), lower, upper)  # half way, the lower one
            return rank, rank, None
        return lower, upper, half if method == "midpoint" else lax.sub(rank, lower)
    rank = lax.mul(n, q)
    if method == "closest_observation":
        # between two observations the upper one; exactly at one, counted from 1, it if even, else the next
        at = lax.sub(rank, half)
        halved = lax.mul(at, half)
        rank = lax.select(lax.eq(lax.floor(halved), halved), lax.sub(at, one), lax.floor(at))
        return rank, rank, None
    upper = lax.sub(lax.ceil(rank), one)
    if method == "inverted_cdf":
        return upper, upper, None
    exact = lax.eq(lax.floor(rank), rank)
    return upper, lax.select(exact, lax.add(upper, one), upper), half


def _element(ordered: Array, rank: Array, shape: tuple[int, ...], several: bool) -> Array:
    """The elements at `rank` along the first axis."""
    index = convert(rank, np.dtype(np.int32))
    if not index.ndim or (index.ndim == 1 and several and not ordered.shape[1:]):
        return ordered.at[index].get(mode="promise_in_bounds")
    from asgfn.numpy.indexing import take_along_axis

    rest = ordered.shape[1:]
    if not several:
        found = take_along_axis(ordered, lax.reshape(broadcast_operand(index, rest), (1, *rest)), 0)
        return lax.squeeze(found, (0,))
    return take_along_axis(ordered, broadcast_operand(index, shape), 0)


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

    def at(fraction: Array) -> Array:
        short = lax.lt(fractions, fraction)
        # q = 0 asks for the first element that has a weight
        weightless = lax.le(fractions, constant(0, fractions.dtype))
        index = reductions.sum(lax.bitwise_or(short, weightless), 0, np.dtype(np.int32))
        index = lax.min(index, constant(values.shape[0] - 1, np.dtype(np.int32)))
        found = _element(ordered, index, values.shape[1:], False)
        return lax.select(bad, constant(math.nan, values.dtype), found)

    q = convert(q, fractions.dtype)
    if not q.ndim:
        return at(q)
    rows = [lax.expand_dims(at(lax.squeeze(lax.slice_in_dim(q, i, i + 1), (0,))), (0,)) for i in range(q.shape[0])]
    return lax.concatenate(rows, 0)


# --------------------------------------------------------------------------------------------------------- covariance


def cov(
    m: ArrayLike,
    y: ArrayLike | None = None,
    rowvar: bool = True,
    bias: bool = False,
    ddof: int | None = None,
    fweights: ArrayLike | None = None,
    aweights: ArrayLike | None = None,
    dtype: DTypeLike = None,
) -> Array:
    """The covariance matrix of variables, which are the rows of `m` (columns if not `rowvar`).

    Arguments:
        y: more variables, of the same number of observations.
        bias, ddof: divide by N instead of N - 1; or by N - ddof.
        fweights: how often each observation was made; aweights: how important it is.
    """
    arrays = [to_array("cov", m)] + ([] if y is None else [to_array("cov", y)])
    if any(x.ndim > 2 for x in arrays):
        raise ShapeError(f"cov takes vectors or matrices, got shapes {', '.join(str(x.shape) for x in arrays)}")
    arrays = promote_dtypes_inexact(*arrays)
    if dtype is not None:
        arrays = [convert(x, dtypes.canonicalize(dtype)) for x in arrays]

    def as_rows(x: Array) -> Array:
        if x.ndim < 2:
            return lax.reshape(x, (1, x.size))
        return x if rowvar or x.shape[0] == 1 else lax.transpose(x, (1, 0))

    rows = [as_rows(x) for x in arrays]
    x = lax.concatenate(rows, 0) if len(rows) > 1 else rows[0]
    ddof = (0 if bias else 1) if ddof is None else ddof
    observations = x.shape[1]
    weights = _observation_weights(observations, fweights, aweights, x.dtype)
    if weights is None:
        mean = reductions.mean(x, 1, keepdims=True)
        norm: Any = constant(float(observations - ddof), dtypes.real_dtype(x.dtype))
    else:
        total = reductions.sum(weights)
        scaled = lax.mul(*promote_args("cov", x, convert(weights, x.dtype)))
        mean = lax.div(reductions.sum(scaled, 1, keepdims=True), convert(total, x.dtype))
        if aweights is None or ddof == 0:
            norm = lax.sub(total, constant(float(ddof), total.dtype))
        else:
            squares = reductions.sum(lax.mul(weights, convert(to_array("cov", aweights), weights.dtype)))
            norm = lax.sub(total, lax.div(lax.mul(squares, constant(float(ddof), total.dtype)), total))
    x = lax.sub(x, broadcast_operand(mean, x.shape))
    right = x if weights is None else lax.mul(*promote_args("cov", x, convert(weights, x.dtype)))
    product = matmul(x, lax.transpose(conjugate(right), (1, 0)))
    result = lax.div(product, convert(norm, product.dtype))
    return lax.reshape(result, ()) if result.size == 1 else result


def _observation_weights(count: int, fweights: Any, aweights: Any, dtype: np.dtype) -> Array | None:
    result = None
    for name, weights in (("fweights", fweights), ("aweights", aweights)):
        if weights is None:
            continue
        weights = to_array("cov", weights)
        if weights.shape != (count,):
            raise ShapeError(f"cov: {name} of shape {weights.shape} do not fit {count} observations")
        if name == "fweights" and not dtypes.is_integer(weights.dtype):
            raise DTypeError(f"cov: fweights count observations and must be integers, got {weights.dtype}")
        weights = convert(weights, dtypes.real_dtype(dtype))
        result = weights if result is None else lax.mul(result, weights)
    return result


def corrcoef(x: ArrayLike, y: ArrayLike | None = None, rowvar: bool = True, dtype: DTypeLike = None) -> Array:
    """The matrix of Pearson's correlation coefficients; arguments as `cov`."""
    c = cov(x, y, rowvar, dtype=dtype)
    if c.ndim == 0:
        return lax.div(c, c)
    from asgfn.numpy.diagonals import diagonal

    variances = diagonal(c)
    deviations = lax.sqrt(lax.real(variances) if dtypes.is_complex(c.dtype) else variances)
    deviations = convert(deviations, c.dtype)
    c = lax.div(c, lax.broadcast_in_dim(deviations, c.shape, (0,)))
    c = lax.div(c, lax.broadcast_in_dim(deviations, c.shape, (1,)))
    # rounding may leave the interval that coefficients live in
    if dtypes.is_complex(c.dtype):
        one = constant(1.0, dtypes.real_dtype(c.dtype))
        return lax.complex(lax.clamp(lax.neg(one), lax.real(c), one), lax.clamp(lax.neg(one), lax.imag(c), one))
    return lax.clamp(constant(-1.0, c.dtype), c, constant(1.0, c.dtype))
