"""Lengths of vectors and distances between them, with a defined gradient where the length is zero."""

from __future__ import annotations

import math
from typing import Any

import asgfn.numpy as jnp
from asgfn import lax
from asgfn.errors import ShapeError
from asgfn.numpy.arguments import normalize_axis, promote_args_inexact
from asgfn.tracing import Array


def magnitude(x: Array) -> Array:
    """|x|, with derivative 0 at 0, as in PyTorch; that of `jnp.abs` is 1 there."""
    return x * jnp.sign(x)


def vector_norm(x: Array, p: float = 2.0, axis: int = -1, keepdims: bool = False) -> Array:
    """(sum(|x|^p))^(1/p) along an axis; p = inf gives the largest magnitude, -inf the smallest, 0 counts non-zeros.

    The gradient of a vector of zeros is zero. Neither huge nor tiny vectors overflow or vanish on the way: they are
    measured relative to their largest element.

    Arguments:
        x: float array.
    """
    size = magnitude(x)
    if math.isinf(p):
        if x.shape[axis] == 0:
            raise ShapeError(f"vector_norm: the norm with p = {p} of vectors without elements is not defined: {x.aval}")
        return (jnp.max if p > 0 else jnp.min)(size, axis=axis, keepdims=keepdims)
    if p == 0:
        return jnp.sum(lax.stop_gradient(x != 0).astype(x.dtype), axis=axis, keepdims=keepdims)
    if p == 1:
        return jnp.sum(size, axis=axis, keepdims=keepdims)
    largest = lax.stop_gradient(jnp.max(size, axis=axis, keepdims=True, initial=0))
    unit = jnp.where((largest > 0) & (largest < math.inf), largest, 1)
    if p == 2:
        # of x itself, whose square has a second derivative at 0 too
        powers = jnp.square(x / unit)
    else:
        scaled = size / unit
        # The unused branch sees 1: the derivative of 0^p is infinite for p < 1, and so is 0^p itself for p < 0.
        at_zero = 0.0 if p > 0 else math.inf
        powers = jnp.where(scaled == 0, at_zero, jnp.where(scaled == 0, 1, scaled) ** p)
    total = jnp.sum(powers, axis=axis, keepdims=keepdims)
    unit = unit if keepdims else jnp.squeeze(unit, axis)
    defined = total != (0 if p > 0 else math.inf)
    safe = jnp.where(defined, total, 1)
    root = jnp.sqrt(safe) if p == 2 else safe ** (1 / p)
    return unit * jnp.where(defined, root, 0)


def normalize(x: Any, p: float = 2.0, axis: int = 1, eps: float = 1e-12) -> Array:
    """x / max(norm of x along an axis, eps): vectors of length 1. Vectors of zeros stay zeros.

    Arguments:
        x: float array; integers are converted to float.
        p: which norm, see `vector_norm`.
        axis: where the vectors lie.
        eps: the least divisor.

    Raises:
        AxisError: x has no such axis.
    """
    (x,) = promote_args_inexact("normalize", x)
    axis = normalize_axis("normalize", axis, x.shape)
    return x / jnp.maximum(vector_norm(x, p, axis, keepdims=True), eps)


def cosine_similarity(x1: Any, x2: Any, axis: int = 1, eps: float = 1e-8) -> Array:
    """x1 . x2 / (max(|x1|, eps) max(|x2|, eps)) along an axis: the cosine of the angle between vectors.

    Arguments:
        x1, x2: float arrays that broadcast with each other (so that ``x1[:, None]`` and ``x2[None]`` give all pairs).
        axis: where the vectors lie, an axis of the broadcast shape; removed from the result.
        eps: the least length that is divided by; a vector of zeros has the cosine 0 with all others.

    Raises:
        ShapeError: the shapes do not broadcast, or vectors differ in length.
    """
    x1, x2 = jnp.asarray(x1), jnp.asarray(x2)
    axis = normalize_axis("cosine_similarity", axis, max(x1.shape, x2.shape, key=len))
    from_end = axis - max(x1.ndim, x2.ndim)
    if any(x.ndim < -from_end for x in (x1, x2)) or x1.shape[from_end] != x2.shape[from_end]:
        raise ShapeError(f"cosine_similarity: vectors along axis {axis} differ in length: {x1.aval} and {x2.aval}")
    x1, x2 = promote_args_inexact("cosine_similarity", x1, x2)
    return jnp.sum(normalize(x1, axis=axis, eps=eps) * normalize(x2, axis=axis, eps=eps), axis=axis)


def pairwise_distance(x1: Any, x2: Any, p: float = 2.0, eps: float = 1e-6, keepdims: bool = False) -> Array:
    """The norm of x1 - x2 + eps along the last axis: distances between the vectors of two arrays, one by one.

    Arguments:
        x1, x2: float, [..., D], of one shape; or one of them a single vector [D].
        p: which norm, see `vector_norm`.
        eps: added to each difference.
        keepdims: keep the last axis, with size 1.

    Raises:
        ShapeError: shapes are neither equal nor those of vectors [..., D] and one vector [D].
    """
    x1, x2 = jnp.asarray(x1), jnp.asarray(x2)
    fits = x1.shape == x2.shape or (min(x1.ndim, x2.ndim) == 1 and x1.shape[-1:] == x2.shape[-1:])
    if not fits or x1.ndim == 0:
        raise ShapeError(
            f"pairwise_distance: x1 and x2 must have one shape [..., D] (or one of them be a vector [D]), got {x1.aval} "
            f"and {x2.aval}. For all pairs of rows write pairwise_distance of x1[:, None] and x2[None], broadcast by "
            "jnp.broadcast_arrays"
        )
    x1, x2 = promote_args_inexact("pairwise_distance", x1, x2)
    return vector_norm(x1 - x2 + eps, p, -1, keepdims)
