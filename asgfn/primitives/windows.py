"""Reductions over sliding windows: the primitives of pooling.

A maximum moves one element of each window into the result. Its derivative moves the tangents alike: the position of
the maximum in its window (an array of integers) is computed once, `window_gather` reads there, and its transpose,
`window_scatter_add`, adds there. Both are linear, and each is the other's transpose, to any order.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from asgfn.errors import ShapeError
from asgfn.graph.types import ArrayType
from asgfn.primitives import monoids
from asgfn.primitives.base import (
    INEXACT,
    NUMBER,
    REAL,
    Primitive,
    batch_size,
    bdim_at_front,
    check_dtype,
    instantiate_zeros,
    linear_jvp,
    no_derivative,
    primitive,
)
from asgfn.primitives.padding import concatenate, pad
from asgfn.primitives.shaping import expand_dims
from asgfn.primitives.slicing import slice
from asgfn.primitives.window_geometry import Pads, dilated, padding_pairs, per_axis, positions
from asgfn.tracing import Array, bind

Ints = tuple[int, ...]


# ---------------------------------------------------------------------------------------------- shapes
def _window_counts(
    name: str,
    shape: Ints,
    *,
    window_dimensions: Ints,
    window_strides: Ints,
    padding: Pads,
    base_dilation: Ints,
    window_dilation: Ints,
) -> Ints:
    """How many windows there are along each axis."""
    parts = (window_dimensions, window_strides, padding, base_dilation, window_dilation)
    if any(len(part) != len(shape) for part in parts):
        raise ShapeError(
            f"{name}: an operand of shape {shape} needs one entry for each of its {len(shape)} axes, got "
            f"{window_dimensions=}, {window_strides=}, {padding=}, {base_dilation=}, {window_dilation=}"
        )
    padded = [dilated(n, d) + low + high for n, d, (low, high) in zip(shape, base_dilation, padding, strict=True)]
    if any(n < 0 for n in padded):
        raise ShapeError(f"{name}: {padding=} removes more than an operand of shape {shape} has")
    windows = [dilated(n, d) for n, d in zip(window_dimensions, window_dilation, strict=True)]
    return tuple(map(positions, padded, windows, window_strides))


def _type_rule(name: str, kinds: Sequence[str], dtype: Any = None) -> Callable[..., ArrayType]:
    def rule(x: ArrayType, **window: Any) -> ArrayType:
        check_dtype(name, x.dtype, kinds)
        shape = _window_counts(name, x.shape, **window)
        return ArrayType(shape, x.dtype, x.weak_type) if dtype is None else ArrayType(shape, dtype)

    return rule


def _with_unit_axis(window: dict[str, Any], dim: int) -> dict[str, Any]:
    """The parameters for an operand with one more axis, over which the window does not slide."""
    added = {name: (0, 0) if name == "padding" else 1 for name in window}
    return {name: (*value[:dim], added[name], *value[dim:]) for name, value in window.items()}


def _batch_rule(name: str) -> Callable[..., tuple]:
    def rule(args: Sequence[Any], dims: Sequence[int], **window: Any) -> tuple:
        (x,), (d,) = args, dims
        return bind(primitive(name), x, **_with_unit_axis(window, d)), d

    return rule


# ---------------------------------------------------------------------------------------------- sum
def _sum_transpose(
    ct: Any,
    x: Any,
    *,
    window_dimensions: Ints,
    window_strides: Ints,
    padding: Pads,
    base_dilation: Ints,
    window_dilation: Ints,
) -> list:
    """The windows that an element lies in are a window, too: strides and base_dilation change places."""
    pads = []
    for size, out, length, stride, (low, _), spread, gap in zip(
        x.shape, ct.shape, window_dimensions, window_strides, padding, base_dilation, window_dilation, strict=True
    ):
        before = dilated(length, gap) - 1 - low
        after = dilated(size, spread) + dilated(length, gap) - 1 - dilated(out, stride) - before
        pads.append((before, after))
    result = bind(
        reduce_window_sum_p,
        ct,
        window_dimensions=window_dimensions,
        window_strides=base_dilation,
        padding=tuple(pads),
        base_dilation=window_strides,
        window_dilation=window_dilation,
    )
    return [result]


reduce_window_sum_p = Primitive(
    "reduce_window_sum",
    category="window",
    type_rule=_type_rule("reduce_window_sum", NUMBER),
    jvp=linear_jvp("reduce_window_sum"),
    transpose=_sum_transpose,
    batch=_batch_rule("reduce_window_sum"),
    what="Sums the elements of each position of a sliding window; padding counts as 0.",
    formula="y[p] = sum over k of x[stride p + dilation k - padding]",
    why="Average pooling; moving averages.",
)


# ---------------------------------------------------------------------------------------------- max, min
def _extremum_jvp(name: str, arg_name: str) -> Callable[..., tuple]:
    def rule(primals: Sequence[Any], tangents: Sequence[Any], **window: Any) -> tuple:
        (x,), (t,) = primals, tangents
        index = bind(primitive(arg_name), x, **window)
        return bind(primitive(name), x, **window), bind(window_gather_p, t, index, **window)

    return rule


def _extremum(which: str, word: str, fill: str) -> tuple[Primitive, Primitive]:
    name, arg_name = f"reduce_window_{which}", f"reduce_window_arg{which}"
    value = Primitive(
        name,
        category="window",
        type_rule=_type_rule(name, ("bool", *REAL)),
        jvp=_extremum_jvp(name, arg_name),
        batch=_batch_rule(name),
        what=f"The {word} element in each position of a sliding window; padding counts as {fill}. NaN wins.",
        formula=f"y[p] = {which} over k of x[stride p + dilation k - padding]",
        why="Max pooling; dilation and erosion of images.",
    )
    position = Primitive(
        arg_name,
        category="window",
        type_rule=_type_rule(arg_name, ("bool", *REAL), np.int32),
        jvp=no_derivative(arg_name),
        batch=_batch_rule(arg_name),
        what=f"Where in each position of a sliding window its first {word} element (or first NaN) is, row-major.",
        formula=f"y[p] = arg{which} over k of x[stride p + dilation k - padding]",
        why="What the gradient of max pooling goes to.",
    )
    return value, position


reduce_window_max_p, reduce_window_argmax_p = _extremum("max", "largest", "-infinity")
reduce_window_min_p, reduce_window_argmin_p = _extremum("min", "smallest", "infinity")


# ---------------------------------------------------------------------------------------------- moves
def _gather_type(x: ArrayType, index: ArrayType, **window: Any) -> ArrayType:
    check_dtype("window_gather", x.dtype, INEXACT)
    shape = _window_counts("window_gather", x.shape, **window)
    if index != ArrayType(shape, np.int32):
        raise ShapeError(
            f"window_gather: the positions must be {ArrayType(shape, np.int32)} for operand {x}, got {index}"
        )
    return ArrayType(shape, x.dtype)


def _scatter_type(updates: ArrayType, index: ArrayType, *, operand_shape: Ints, **window: Any) -> ArrayType:
    check_dtype("window_scatter_add", updates.dtype, INEXACT)
    shape = _window_counts("window_scatter_add", operand_shape, **window)
    if updates.shape != shape or index != ArrayType(shape, np.int32):
        raise ShapeError(
            f"window_scatter_add: updates and positions (int32) must have shape {shape} for an operand of shape "
            f"{operand_shape}, got {updates} and {index}"
        )
    return ArrayType(operand_shape, updates.dtype)


def _move_jvp(name: str) -> Callable[..., tuple]:
    def rule(primals: Sequence[Any], tangents: Sequence[Any], **params: Any) -> tuple:
        (x, index), t = primals, instantiate_zeros(tangents[0])
        return bind(primitive(name), x, index, **params), bind(primitive(name), t, index, **params)

    return rule


def _gather_transpose(ct: Any, x: Any, index: Any, **window: Any) -> list:
    return [bind(window_scatter_add_p, ct, index, operand_shape=tuple(x.shape), **window), None]


def _scatter_transpose(ct: Any, updates: Any, index: Any, *, operand_shape: Ints, **window: Any) -> list:
    return [bind(window_gather_p, ct, index, **window), None]


def _gather_batch(args: Sequence[Any], dims: Sequence[int | None], **window: Any) -> tuple:
    size = batch_size(args, dims)
    x, index = (bdim_at_front(v, d, size) for v, d in zip(args, dims, strict=True))
    return bind(window_gather_p, x, index, **_with_unit_axis(window, 0)), 0


def _scatter_batch(args: Sequence[Any], dims: Sequence[int | None], *, operand_shape: Ints, **window: Any) -> tuple:
    size = batch_size(args, dims)
    updates, index = (bdim_at_front(v, d, size) for v, d in zip(args, dims, strict=True))
    window = _with_unit_axis(window, 0)
    return bind(window_scatter_add_p, updates, index, operand_shape=(size, *operand_shape), **window), 0


window_gather_p = Primitive(
    "window_gather",
    category="window",
    type_rule=_gather_type,
    jvp=_move_jvp("window_gather"),
    transpose=_gather_transpose,
    batch=_gather_batch,
    what="From each position of a sliding window, the element at a given place in the window; 0 in the padding.",
    formula="y[p] = x[stride p + dilation index[p] - padding]",
    why="The tangent of max pooling.",
)

window_scatter_add_p = Primitive(
    "window_scatter_add",
    category="window",
    type_rule=_scatter_type,
    jvp=_move_jvp("window_scatter_add"),
    transpose=_scatter_transpose,
    batch=_scatter_batch,
    what="Adds one element for each position of a sliding window to a given place in the window, in an array of zeros.",
    formula="y[stride p + dilation index[p] - padding] += x[p]",
    why="The gradient of max pooling.",
)


# ---------------------------------------------------------------------------------------------- user function
_RECOGNIZED = {"add": reduce_window_sum_p, "max": reduce_window_max_p, "min": reduce_window_min_p}


def reduce_window(
    operand: Any,
    init_value: Any,
    computation: Callable,
    window_dimensions: Sequence[int],
    window_strides: Sequence[int] | None = None,
    padding: Any = "VALID",
    base_dilation: Sequence[int] | None = None,
    window_dilation: Sequence[int] | None = None,
) -> Any:
    """Combines the elements in each position of a sliding window (StableHLO reduce_window).

    Max pooling of 2 x 2 with NHWC images: ``reduce_window(x, -jnp.inf, lax.max, (1, 2, 2, 1), (1, 2, 2, 1))``.

    Arguments:
        operand: an array, or a pytree of arrays of one shape that are reduced together.
        init_value: a scalar of the operand's dtype (same structure): what every window starts from, and the padding.
        computation: ``computation(x, y)`` on scalars gives their combination. It must be associative. `add`, `max` and
            `min` become primitives; any other function combines shifted slices in log2 of the window's size steps.
        window_dimensions: the window's length along each axis.
        window_strides: its steps, 1 by default.
        padding: "VALID", "SAME", "SAME_LOWER", or a (low, high) pair for each axis.
        base_dilation, window_dilation: factors that move elements of the operand, or of the window, apart.

    Returns:
        Array(s) with one element for each position of the window.

    Raises:
        ShapeError: parameters that do not fit the operand's rank, or operands of different shapes.
        DTypeError: the init value or the computation has another dtype.
    """
    name = "reduce_window"
    arrays, inits, combine, restore = monoids.operands_of(name, operand, init_value, computation)
    shape, rank = arrays[0].shape, arrays[0].ndim
    lengths = per_axis(name, "window_dimensions", window_dimensions, rank)
    strides = per_axis(name, "window_strides", window_strides, rank)
    spread = per_axis(name, "base_dilation", base_dilation, rank)
    gaps = per_axis(name, "window_dilation", window_dilation, rank)
    pads = padding_pairs(name, padding, list(map(dilated, shape, spread)), list(map(dilated, lengths, gaps)), strides)
    window: dict[str, Any] = {
        "window_dimensions": lengths,
        "window_strides": strides,
        "padding": pads,
        "base_dilation": spread,
        "window_dilation": gaps,
    }
    if len(arrays) == 1:
        found = combine.recognized(arrays[0].dtype)
        is_padded = any(pair != (0, 0) for pair in pads) or any(d > 1 for d in spread)
        # a sum would have to count the init value once for every element of padding
        simple = found in ("max", "min") or not is_padded or monoids.is_identity(found or "", inits[0])
        if found in _RECOGNIZED and simple:
            return restore([monoids.with_init(found, bind(_RECOGNIZED[found], arrays[0], **window), inits[0])])
    counts = _window_counts(name, shape, **window)
    stacks = [_stack_of_taps(x, init, counts, **window) for x, init in zip(arrays, inits, strict=True)]
    return restore(combine.tree(stacks, inits))


def _stack_of_taps(
    x: Array,
    init: Array,
    counts: Ints,
    *,
    window_dimensions: Ints,
    window_strides: Ints,
    padding: Pads,
    base_dilation: Ints,
    window_dilation: Ints,
) -> Array:
    """For every place in the window, in row-major order, the elements that lie there: shape (places, *counts)."""
    config = [(low, high, d - 1) for (low, high), d in zip(padding, base_dilation, strict=True)]
    x = pad(x, init, config)
    if math.prod(counts) == 0:
        return expand_dims(slice(x, (0,) * x.ndim, counts), (0,))
    taps = []
    for place in itertools.product(*map(range, window_dimensions)):
        start = [k * d for k, d in zip(place, window_dilation, strict=True)]
        stop = [s + (n - 1) * step + 1 for s, n, step in zip(start, counts, window_strides, strict=True)]
        taps.append(expand_dims(slice(x, start, stop, window_strides), (0,)))
    return concatenate(taps, 0)


def reduce_window_shape_tuple(
    operand_shape: Sequence[int],
    window_dimensions: Sequence[int],
    window_strides: Sequence[int],
    padding: Sequence[tuple[int, int]],
    base_dilation: Sequence[int] | None = None,
    window_dilation: Sequence[int] | None = None,
) -> Ints:
    """How many positions a sliding window has along each axis."""
    rank = len(operand_shape)
    return _window_counts(
        "reduce_window",
        tuple(operand_shape),
        window_dimensions=tuple(window_dimensions),
        window_strides=tuple(window_strides),
        padding=tuple((low, high) for low, high in padding),
        base_dilation=per_axis("reduce_window", "base_dilation", base_dilation, rank),
        window_dilation=per_axis("reduce_window", "window_dilation", window_dilation, rank),
    )


__all__ = ["reduce_window", "reduce_window_shape_tuple"]
