"""Rows of tables by index: embeddings, bags of them, one-hot vectors."""

from __future__ import annotations

from typing import Any

import numpy as np

import asgfn
import asgfn.nn
import asgfn.numpy as jnp
from asgfn import dtypes, lax
from asgfn.errors import ConcretizationError, IndexOutOfRangeError, ShapeError
from asgfn.numpy.arguments import concrete
from asgfn.tracing import Array
from asgfn.tracing.concretize import is_concrete
from nn_fn.functional.arguments import float_array, integer_array, one_of, same_dtype, static_int


# ---------------------------------------------------------------------------------------------- embedding
def embedding(x: Any, weight: Any, padding_idx: int | None = None) -> Array:
    """The rows of `weight` that the indices name.

    Arguments:
        x: integers of any shape, each in [0, rows).
        weight: float [rows, features].
        padding_idx: a row (negative: from the end) that is looked up like any other, but gets no gradient.

    Returns:
        [*x.shape, features].

    Raises:
        ShapeError: weight is no matrix.
        DTypeError: x does not hold integers, or weight no floating-point numbers.
        IndexOutOfRangeError: an index that is out of range, if its value is known; where it is traced, its row is NaN.
        ValueError: padding_idx names no row.
    """
    x, weight = integer_array("embedding", "x", x), float_array("embedding", "weight", weight)
    padding_idx = _table("embedding", weight, padding_idx)
    return _rows("embedding", x, weight, padding_idx)


def _table(name: str, weight: Array, padding_idx: Any) -> int | None:
    """Checks the table; the padding row, counted from the start."""
    if weight.ndim != 2:
        raise ShapeError(f"{name}: weight must be [rows, features], got {weight.aval}")
    if padding_idx is None:
        return None
    index, rows = static_int(name, "padding_idx", padding_idx), weight.shape[0]
    if not -rows <= index < rows:
        raise ValueError(f"{name}: padding_idx {index} names no row of weight {weight.aval}")
    return index % rows


def _rows(name: str, x: Array, weight: Array, padding_idx: int | None) -> Array:
    _check_range(name, x, weight.shape[0], f"weight {weight.aval}")
    found = weight.at[x].get(mode="fill", fill_value=np.nan, wrap_negative_indices=False)
    if padding_idx is None:
        return found
    return jnp.where((x == padding_idx)[..., None], lax.stop_gradient(found), found)


def _check_range(name: str, x: Array, length: int, what: str) -> None:
    """Raises unless all indices are in range, as far as their values are known."""
    if not x.size or not is_concrete(x):
        return
    values = np.asarray(x)  # not jnp's reductions, which jit would record
    least, greatest = int(values.min()), int(values.max())
    if least < 0 or greatest >= length:
        raise IndexOutOfRangeError(f"{name}: indices must be in [0, {length}) for {what}, got {least} to {greatest}")


# ---------------------------------------------------------------------------------------------- bags
def embedding_bag(
    x: Any,
    weight: Any,
    offsets: Any = None,
    mode: str = "mean",
    per_sample_weights: Any = None,
    include_last_offset: bool = False,
    padding_idx: int | None = None,
) -> Array:
    """Sums, means or maxima of the rows of `weight` that the indices of a bag name.

    Arguments:
        x: integers, [bags, length], or [n] with bags of different lengths one after the other.
        weight: float [rows, features].
        offsets: for x [n]: integers [bags], where each bag begins; the first is 0.
        mode: "sum", "mean" or "max".
        per_sample_weights: float, like x: factors of the rows; for "sum" only.
        include_last_offset: offsets has one more entry, n, as in the CSR format.
        padding_idx: a row that is left out of every bag (and of the count of a mean), so that it gets no gradient.

    Returns:
        [bags, features]; 0 for an empty bag.

    Raises:
        ShapeError: shapes do not fit.
        DTypeError: integers or floating-point numbers are missing where they are expected.
        IndexOutOfRangeError, ValueError: indices, offsets or options that are out of range, if their values are known.
    """
    name = "embedding_bag"
    one_of(name, "mode", mode, ("sum", "mean", "max"))
    x, weight = integer_array(name, "x", x), float_array(name, "weight", weight)
    padding_idx = _table(name, weight, padding_idx)
    if per_sample_weights is not None:
        per_sample_weights = float_array(name, "per_sample_weights", per_sample_weights)
        same_dtype(name, weight=weight, per_sample_weights=per_sample_weights)
        if mode != "sum":
            raise ValueError(f"{name}: per_sample_weights go with mode='sum', not with {mode!r}")
        if per_sample_weights.shape != x.shape:
            raise ShapeError(
                f"{name}: per_sample_weights must have the shape of x, got {per_sample_weights.aval} for x {x.aval}"
            )
    bag, bags = _bags(name, x, offsets, include_last_offset)
    flat = x.reshape(x.size)
    rows = _rows(name, flat, weight, None)
    if padding_idx is not None:
        bag = jnp.where(flat == padding_idx, bags, bag)  # beyond the last bag, which drops the row
    if per_sample_weights is not None:
        rows = rows * per_sample_weights.reshape(x.size, 1)
    if mode == "max":
        return _max_of_bags(rows, bag, bags)
    total = asgfn.ops.segment_sum(rows, bag, bags)
    if mode == "sum":
        return total
    counts = asgfn.ops.segment_sum(jnp.ones(bag.shape, rows.dtype), bag, bags)
    return total / jnp.maximum(counts, 1)[:, None]


def _bags(name: str, x: Array, offsets: Any, include_last: bool) -> tuple[Array, int]:
    """The bag of each index, int32 [n], and how many bags there are."""
    if x.ndim == 2:
        if offsets is not None:
            raise ValueError(f"{name}: x {x.aval} has bags of one length, and needs no offsets")
        return jnp.repeat(jnp.arange(x.shape[0], dtype=np.int32), x.shape[1], total_repeat_length=x.size), x.shape[0]
    if x.ndim != 1 or offsets is None:
        raise ShapeError(f"{name}: x must be [bags, length], or [n] with offsets; got {x.aval} and offsets {offsets}")
    offsets = integer_array(name, "offsets", offsets)
    if offsets.ndim != 1 or (include_last and offsets.shape[0] == 0):
        raise ShapeError(f"{name}: offsets must be a vector with an entry a bag, got {offsets.aval}")
    if offsets.size and is_concrete(offsets):
        values = np.asarray(offsets)
        if values[0] != 0 or (np.diff(values) < 0).any() or values[-1] > x.size:
            raise ValueError(
                f"{name}: offsets must begin with 0, never fall, and end at {x.size} or before; got {values}"
            )
        if include_last and values[-1] != x.size:
            raise ValueError(
                f"{name}: with include_last_offset the last offset must be {x.size}, x's length; got {values}"
            )
    starts = offsets[:-1] if include_last else offsets
    # a later bag wins where several begin at one place: those before it are empty
    place = jnp.arange(x.size, dtype=offsets.dtype)
    return jnp.searchsorted(starts, place, side="right").astype(np.int32) - 1, starts.shape[0]


def _max_of_bags(rows: Array, bag: Array, bags: int) -> Array:
    """The largest of each feature; of equal ones the first gets the gradient."""
    n, features = rows.shape
    if n == 0:
        return jnp.zeros((bags, features), rows.dtype)
    values = lax.stop_gradient(rows)
    largest = asgfn.ops.segment_max(values, bag, bags)
    of_own_bag = jnp.take(largest, jnp.minimum(bag, bags - 1), axis=0)
    place = jnp.arange(n, dtype=np.int32)[:, None]
    is_largest = (values == of_own_bag) | jnp.isnan(values)
    first = asgfn.ops.segment_min(jnp.where(is_largest, place, n), bag, bags)
    found = jnp.take_along_axis(rows, jnp.minimum(first, n - 1), axis=0)
    return jnp.where(first < n, found, 0)


# ---------------------------------------------------------------------------------------------- one-hot
def one_hot(x: Any, num_classes: int = -1) -> Array:
    """1 at the position that each index names along a new last axis, 0 elsewhere.

    Arguments:
        x: integers of any shape, each in [0, num_classes).
        num_classes: length of the new axis; -1 for the greatest index plus one, whose value must then be known.

    Returns:
        [*x.shape, num_classes], of the default integer type.

    Raises:
        DTypeError: x does not hold integers.
        IndexOutOfRangeError: an index that is out of range, if its value is known; a traced one gives zeros only.
        ValueError: num_classes is neither -1 nor positive, or -1 for an array without elements.
        ConcretizationError: num_classes is -1, and x is traced.
    """
    x = integer_array("one_hot", "x", x)
    num_classes = static_int("one_hot", "num_classes", num_classes)
    if num_classes == -1:
        if not x.size:
            raise ValueError(f"one_hot: num_classes cannot be told from an array without elements, {x.aval}; pass it")
        try:
            num_classes = int(concrete("one_hot", x, "").max()) + 1
        except ConcretizationError:
            raise ConcretizationError(
                f"one_hot: x is traced, {x.aval}, so the number of classes cannot be told from it: pass num_classes"
            ) from None
        num_classes = max(num_classes, 1)
    if num_classes < 1:
        raise ValueError(f"one_hot: num_classes must be positive, or -1 to infer it; got {num_classes}")
    _check_range("one_hot", x, num_classes, f"{num_classes} classes")
    return asgfn.nn.one_hot(x, num_classes, dtype=dtypes.default_int())
