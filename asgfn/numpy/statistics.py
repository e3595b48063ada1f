"""Weighted averages, covariances and correlations."""

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
    constant,
    convert,
    filled,
    normalize_axes,
    promote_args,
    promote_dtypes_inexact,
    to_array,
)
from asgfn.numpy.diagonals import diagonal
from asgfn.numpy.products import matmul
from asgfn.numpy.reductions import Axis
from asgfn.numpy.ufuncs import conjugate
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
