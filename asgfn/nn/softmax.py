"""Softmax and its relatives: reductions of exponentials that neither overflow nor lose their digits."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, overload

import numpy as np

import asgfn.numpy as jnp
from asgfn import dtypes, lax
from asgfn.errors import ShapeError
from asgfn.numpy.arguments import ArrayLike, check_arraylike, promote_args_inexact
from asgfn.tracing import Array

Axis = int | Sequence[int] | None


def _largest(x: Array, axis: Axis) -> Array:
    """The maximum as a constant of differentiation: what it is cancels out of every function here."""
    return lax.stop_gradient(jnp.max(x, axis=axis, keepdims=True, initial=None if x.size else -np.inf))


@overload
def logsumexp(
    a: ArrayLike,
    axis: Axis = ...,
    b: ArrayLike | None = ...,
    keepdims: bool = ...,
    return_sign: Literal[False] = ...,
    where: ArrayLike | None = ...,
) -> Array: ...
@overload
def logsumexp(
    a: ArrayLike,
    axis: Axis = ...,
    b: ArrayLike | None = ...,
    keepdims: bool = ...,
    *,
    return_sign: Literal[True],
    where: ArrayLike | None = ...,
) -> tuple[Array, Array]: ...
def logsumexp(
    a: ArrayLike,
    axis: Axis = None,
    b: ArrayLike | None = None,
    keepdims: bool = False,
    return_sign: bool = False,
    where: ArrayLike | None = None,
) -> Array | tuple[Array, Array]:
    """log(sum(b * exp(a))) over axes, computed relative to the largest element.

    Arguments:
        a: array of any shape; integers are converted to float.
        axis: an axis, several, or None for all.
        b: factors of the exponentials, broadcastable with `a`.
        keepdims: keep the reduced axes with size 1.
        return_sign: also return the sum's sign, and the logarithm of its magnitude; otherwise negative sums give NaN.
        where: boolean mask of the elements to include, broadcastable with `a`.

    An empty or fully masked sum gives -inf.
    """
    if b is None:
        (a,) = promote_args_inexact("logsumexp", a)
    else:
        a, b = jnp.broadcast_arrays(*promote_args_inexact("logsumexp", a, b))
        # A zero factor removes its term even where the exponential overflows.
        a = jnp.where(b == 0, -np.inf, a)
    if where is not None:
        # Masked elements must not reach exp: an overflow there would make the gradient NaN.
        a = jnp.where(where, a, -np.inf)
    largest = _largest(a.real, axis)
    largest = jnp.where(jnp.isfinite(largest), largest, 0)
    terms = jnp.exp(a - largest)
    if b is not None:
        terms = terms * b
    total = jnp.sum(terms, axis=axis, keepdims=keepdims)
    offset = largest if keepdims else largest.reshape(total.shape)
    if dtypes.is_complex(total.dtype) and not return_sign:
        return jnp.log(total) + offset
    sign = jnp.sign(total)
    result = jnp.log(jnp.abs(total)) + offset
    if return_sign:
        return result, sign
    # Without factors the sum cannot be negative.
    return result if b is None else jnp.where(sign < 0, np.nan, result)


def logmeanexp(x: ArrayLike, axis: Axis = None, where: ArrayLike | None = None, keepdims: bool = False) -> Array:
    """log(mean(exp(x))) over axes; `where` masks the elements to include."""
    total = logsumexp(x, axis=axis, where=where, keepdims=keepdims)
    mask = True if where is None else where
    count = jnp.sum(jnp.broadcast_to(mask, jnp.shape(x)), axis=axis, keepdims=keepdims)
    return total - jnp.log(count.astype(total.real.dtype))


def softmax(x: ArrayLike, axis: Axis = -1, where: ArrayLike | None = None) -> Array:
    """exp(x) / sum(exp(x)) over axes.

    Arguments:
        x: array; integers are converted to float.
        axis: an axis, several, or None for all.
        where: boolean mask of the elements to include; the others give 0 (and a slice with none gives all zeros).
    """
    (x,) = promote_args_inexact("softmax", x)
    if where is not None:
        x = jnp.where(where, x, -np.inf)
    largest = _largest(x, axis)
    if where is not None:
        # -inf - (-inf) in a fully masked slice would be NaN, in the gradient too.
        largest = jnp.where(largest == -np.inf, 0, largest)
    exponentials = jnp.exp(x - largest)
    total = jnp.sum(exponentials, axis=axis, keepdims=True)
    if where is not None:
        total = jnp.where(total == 0, 1, total)
    # A total is at least 1: one division of it, rather than one of each exponential.
    return exponentials * (1 / total)


def log_softmax(x: ArrayLike, axis: Axis = -1, where: ArrayLike | None = None) -> Array:
    """x - logsumexp(x) over axes: the logarithm of `softmax` without its underflow.

    `where` masks the elements to include; the others give -inf.
    """
    (x,) = promote_args_inexact("log_softmax", x)
    if where is not None:
        x = jnp.where(where, x, -np.inf)
    largest = _largest(x, axis)
    if where is not None:
        largest = jnp.where(largest == -np.inf, 0, largest)
    shifted = x - largest
    total = jnp.sum(jnp.exp(shifted), axis=axis, keepdims=True)
    if where is None:
        return shifted - jnp.log(total)
    return jnp.where(where, shifted - jnp.log(jnp.where(total == 0, 1, total)), -np.inf)


def standardize(
    x: ArrayLike,
    axis: Axis = -1,
    mean: ArrayLike | None = None,
    variance: ArrayLike | None = None,
    epsilon: ArrayLike = 1e-5,
    where: ArrayLike | None = None,
    *,
    algorithm: str = "fast",
) -> Array:
    """(x - mean) / sqrt(variance + epsilon) over axes.

    Arguments:
        x: array; integers are converted to float.
        axis: an axis, several, or None for all.
        mean, variance: statistics to use instead of those of `x` (broadcastable with it).
        epsilon: added to the variance.
        where: boolean mask of the elements that the statistics are taken of.
        algorithm: "fast", E[x^2] - E[x]^2 in one pass, or "stable", E[(x - E[x])^2] in two.
    """
    if algorithm not in ("fast", "stable"):
        raise ValueError(f"standardize: algorithm must be 'fast' or 'stable', got {algorithm!r}")
    (x,) = promote_args_inexact("standardize", x)
    check_arraylike("standardize", *(value for value in (mean, variance, where) if value is not None))
    if mean is None:
        mean = jnp.mean(x, axis, keepdims=True, where=where)
    if variance is None and algorithm == "stable":
        variance = jnp.mean(jnp.square(x - mean), axis, keepdims=True, where=where)
    elif variance is None:
        difference = jnp.mean(jnp.square(x), axis, keepdims=True, where=where) - jnp.square(mean)
        # The difference of two means can come out slightly below zero.
        variance = jnp.where(difference < 0, 0, difference)
    return (x - mean) * lax.rsqrt(jnp.asarray(variance + epsilon))


def one_hot(x: ArrayLike, num_classes: int, *, dtype: object = None, axis: int = -1) -> Array:
    """1 at the position that each index names along a new axis, 0 elsewhere.

    Arguments:
        x: array of indices; those outside [0, num_classes) give zeros only.
        num_classes: length of the new axis.
        dtype: of the result, default float.
        axis: position of the new axis in the result.
    """
    x = jnp.asarray(x)
    if not -x.ndim - 1 <= axis <= x.ndim:
        raise ShapeError(f"one_hot: axis {axis} is out of range for a result of rank {x.ndim + 1}")
    position = axis % (x.ndim + 1)
    shape = [1] * (x.ndim + 1)
    shape[position] = num_classes
    classes = lax.broadcasted_iota(x.dtype if x.dtype != bool else np.int32, tuple(shape), position)
    return (jnp.expand_dims(x, position) == classes).astype(dtypes.default_float() if dtype is None else dtype)
