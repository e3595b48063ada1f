"""Statistics of samples."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

import asgfn.numpy as jnp
from asgfn import dtypes
from asgfn.numpy.arguments import ArrayLike, normalize_axis, promote_args_inexact, to_array
from asgfn.tracing import Array

_RANK_METHODS = ("average", "min", "max", "dense", "ordinal")


class ModeResult(NamedTuple):
    mode: Array
    count: Array  # type: ignore[assignment]  # SciPy's name, which hides tuple.count


def _check_policy(name: str, nan_policy: str, *also: str) -> None:
    if nan_policy not in ("propagate", *also):
        listed = " or ".join(map(repr, ("propagate", *also)))
        raise NotImplementedError(f"{name}: nan_policy must be {listed}, got {nan_policy!r}")


def sem(
    a: ArrayLike, axis: int | None = 0, ddof: int = 1, nan_policy: str = "propagate", *, keepdims: bool = False
) -> Array:
    """The standard error of the mean: the standard deviation over the square root of the count.

    Arguments:
        axis: the axis of the samples; None for all elements.
        ddof: the deviation divides by the count minus this.
        nan_policy: "propagate", or "omit" to leave NaN out.
    """
    _check_policy("sem", nan_policy, "omit")
    (a,) = promote_args_inexact("sem", a)
    if nan_policy == "omit":
        count = jnp.sum(~jnp.isnan(a), axis=axis, keepdims=keepdims).astype(a.dtype)
        return jnp.nanstd(a, axis=axis, ddof=ddof, keepdims=keepdims) / jnp.sqrt(count)
    count = a.size if axis is None else a.shape[axis]
    return jnp.std(a, axis=axis, ddof=ddof, keepdims=keepdims) / np.sqrt(count).astype(a.dtype)


def mode(a: ArrayLike, axis: int | None = 0, nan_policy: str = "propagate", keepdims: bool = False) -> ModeResult:
    """The most frequent value along an axis (the least of several) and how often it occurs.

    Arguments:
        axis: the axis of the samples; None for all elements.
    """
    _check_policy("mode", nan_policy)
    a = to_array("mode", a)
    rank = a.ndim
    if axis is None:
        a, axis = jnp.ravel(a), 0
        kept = (1,) * rank
    else:
        axis = normalize_axis("mode", axis, a.shape)
        kept = (*a.shape[:axis], 1, *a.shape[axis + 1 :])
    ordered = jnp.sort(jnp.moveaxis(a, axis, -1), axis=-1)
    size = ordered.shape[-1]
    position = jnp.arange(size)
    # A run of equal values that starts at i and ends before the next start has that many elements.
    new = jnp.concatenate([jnp.ones_like(ordered[..., :1], dtype=bool), ordered[..., 1:] != ordered[..., :-1]], axis=-1)
    start = jnp.maximum.accumulate(jnp.where(new, position, 0), axis=-1)
    length = position - start + 1
    longest = jnp.argmax(length, axis=-1, keepdims=True)
    values = jnp.take_along_axis(ordered, longest, axis=-1)[..., 0]
    counts = jnp.take_along_axis(length, longest, axis=-1)[..., 0]
    if keepdims:
        values, counts = values.reshape(kept), counts.reshape(kept)
    return ModeResult(values, counts)


def rankdata(a: ArrayLike, method: str = "average", *, axis: int | None = None, nan_policy: str = "propagate") -> Array:
    """The rank of each element, from 1 for the least, along an axis (default: of the flattened array).

    Arguments:
        method: the rank of equal elements: the "average", "min" or "max" of the ranks that they share; "dense", like
            "min" but without gaps after them; "ordinal", distinct ranks in the order of occurrence.
    """
    _check_policy("rankdata", nan_policy)
    if method not in _RANK_METHODS:
        raise ValueError(f"rankdata: method must be one of {', '.join(_RANK_METHODS)}, got {method!r}")
    a = to_array("rankdata", a)
    if axis is None:
        a, axis = jnp.ravel(a), 0
    axis = normalize_axis("rankdata", axis, a.shape)
    x = jnp.moveaxis(a, axis, -1)
    order = jnp.argsort(x, axis=-1, stable=True)
    inverse = jnp.argsort(order, axis=-1, stable=True)
    ordinal = inverse + 1
    if method != "ordinal":
        ordered = jnp.take_along_axis(x, order, axis=-1)
        new = jnp.concatenate([jnp.ones_like(ordered[..., :1], dtype=bool), ordered[..., 1:] != ordered[..., :-1]], -1)
        dense = jnp.take_along_axis(jnp.cumsum(new, axis=-1), inverse, axis=-1)
        ranks = _shared_ranks(new, inverse, method) if method != "dense" else dense
    else:
        ranks = ordinal
    result = ranks.astype(dtypes.default_float()) if method == "average" else ranks
    if dtypes.is_floating(x.dtype):
        faulty = jnp.any(jnp.isnan(x), axis=-1, keepdims=True)
        result = jnp.where(faulty, np.nan, result.astype(dtypes.default_float()))
    return jnp.moveaxis(result, -1, axis)


def _shared_ranks(new: Array, inverse: Array, method: str) -> Array:
    """The least, greatest or mean rank within each run of equal sorted elements, in the original order."""
    size = new.shape[-1]
    position = jnp.arange(size)
    first = jnp.maximum.accumulate(jnp.where(new, position, 0), axis=-1) + 1
    ends = jnp.concatenate([new[..., 1:], jnp.ones_like(new[..., :1])], axis=-1)
    last = jnp.flip(jnp.minimum.accumulate(jnp.flip(jnp.where(ends, position, size), -1), axis=-1), -1) + 1
    shared = {"min": first, "max": last, "average": (first + last) / 2}[method]
    return jnp.take_along_axis(shared, inverse, axis=-1)
