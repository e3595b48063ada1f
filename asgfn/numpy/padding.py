"""`pad`: arrays with something added around them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from asgfn import dtypes, lax
from asgfn.errors import DTypeError, ShapeError
from asgfn.numpy import reductions
from asgfn.numpy.apply import apply_along_axis
from asgfn.numpy.arguments import ArrayLike, concrete, constant, convert, normalize_axis, to_array
from asgfn.numpy.arithmetic import round as round_
from asgfn.numpy.quantiles import median
from asgfn.numpy.ranges import linspace
from asgfn.tracing import Array

Widths = tuple[tuple[int, int], ...]


def _per_side(what: str, value: Any, rank: int) -> tuple[tuple[Any, Any], ...]:
    """One value, a pair, or a pair for each axis, as pairs for each axis."""
    if isinstance(value, (Array, np.ndarray)) and value.ndim:
        value = list(value)
    if not isinstance(value, (tuple, list)):
        return ((value, value),) * rank
    rows = [tuple(row) if isinstance(row, (tuple, list)) or np.ndim(row) else (row,) for row in value]
    if all(len(row) == 1 for row in rows) and not any(isinstance(row, (tuple, list)) or np.ndim(row) for row in value):
        flat = [row[0] for row in rows]  # (before, after) for all axes, or one value
        return ((flat[0], flat[-1]),) * rank if len(flat) <= 2 else _misfit(what, value, rank)
    if len(rows) == 1:
        rows = rows * rank
    if len(rows) != rank or any(len(row) not in (1, 2) for row in rows):
        _misfit(what, value, rank)
    return tuple((row[0], row[-1]) for row in rows)


def _misfit(what: str, value: Any, rank: int) -> Any:
    raise ShapeError(f"pad: {what} must be one value, a pair, or a pair for each of {rank} axes; got {value!r}")


def _pad_widths(pad_width: Any, shape: tuple[int, ...]) -> Widths:
    if isinstance(pad_width, dict):
        chosen = {normalize_axis("pad", axis, shape): width for axis, width in pad_width.items()}
        pad_width = [_per_side("pad_width", chosen.get(i, 0), 1)[0] for i in range(len(shape))]
    hint = "pad_width is traced, but the shape of the result depends on it: it must be known while tracing"
    pairs = _per_side("pad_width", pad_width, len(shape))
    widths = tuple(tuple(concrete("pad", side, hint).item() for side in pair) for pair in pairs)
    if any(not isinstance(side, int) for pair in widths for side in pair):
        raise DTypeError(f"pad: pad_width must hold integers, got {pad_width!r}")
    if any(side < 0 for pair in widths for side in pair):
        raise ShapeError(f"pad: widths must not be negative, got {pad_width!r}")
    return widths


def pad(array: ArrayLike, pad_width: Any, mode: str | Callable[..., Any] = "constant", **kwargs: Any) -> Array:
    """`array` with `pad_width` elements added at both ends of its axes.

    Arguments:
        pad_width: one int, (before, after), ((before, after), ...) for each axis, or {axis: width}.
        mode: "constant" (constant_values=0), "empty", "edge", "linear_ramp" (end_values=0), "reflect" and "symmetric"
            (reflect_type="even" or "odd"), "wrap", "maximum", "minimum", "mean" and "median" (stat_length=None), or a
            function `(padded vector, (before, after), axis, kwargs) -> vector`.
    """
    array = to_array("pad", array)
    widths = _pad_widths(pad_width, array.shape)
    if callable(mode):
        return _pad_by_function(array, widths, mode, kwargs)
    if mode not in _OPTIONS:
        raise DTypeError(f"pad: mode must be a function or one of {', '.join(map(repr, _OPTIONS))}, got {mode!r}")
    unknown = set(kwargs) - _OPTIONS[mode]
    if unknown:
        raise TypeError(f"pad: mode {mode!r} does not take {', '.join(sorted(unknown))}")
    if all(pair == (0, 0) for pair in widths):
        return array
    if mode in ("constant", "empty"):
        return _pad_constant(array, widths, kwargs.get("constant_values", 0))
    for axis, (before, after) in enumerate(widths):
        if (before or after) and array.shape[axis] == 0:
            raise ShapeError(f"pad: mode {mode!r} cannot extend the empty axis {axis} of shape {array.shape}")
    if mode == "edge":
        return _pad_edge(array, widths)
    if mode == "linear_ramp":
        return _pad_ramp(array, widths, kwargs.get("end_values", 0))
    if mode in _STATISTICS:
        return _pad_statistic(array, widths, _STATISTICS[mode], kwargs.get("stat_length"))
    reflect_type = kwargs.get("reflect_type", "even")
    if reflect_type not in ("even", "odd"):
        raise DTypeError(f"pad: reflect_type must be 'even' or 'odd', got {reflect_type!r}")
    for axis, pair in enumerate(widths):
        array = _pad_periodic(array, axis, pair, mode, reflect_type == "odd")
    return array


_OPTIONS: dict[str, set[str]] = {
    "constant": {"constant_values"},
    "empty": set(),
    "edge": set(),
    "linear_ramp": {"end_values"},
    "maximum": {"stat_length"},
    "mean": {"stat_length"},
    "median": {"stat_length"},
    "minimum": {"stat_length"},
    "reflect": {"reflect_type"},
    "symmetric": {"reflect_type"},
    "wrap": set(),
}


def _pad_constant(array: Array, widths: Widths, values: Any) -> Array:
    if np.ndim(values) == 0 and not isinstance(values, (tuple, list)):
        return lax.pad(array, convert(values, array.dtype), [(before, after, 0) for before, after in widths])
    # corners belong to the later axis, as in NumPy
    for axis, (pair, width) in enumerate(zip(_per_side("constant_values", values, array.ndim), widths, strict=True)):
        for value, place in zip(pair, ((width[0], 0, 0), (0, width[1], 0)), strict=True):
            if place != (0, 0, 0):
                config = [place if i == axis else (0, 0, 0) for i in range(array.ndim)]
                array = lax.pad(array, convert(value, array.dtype), config)
    return array


def _piece(array: Array, axis: int, start: int, stop: int) -> Array:
    return lax.slice_in_dim(array, start, stop, axis=axis)


def _spread(piece: Array, axis: int, length: int) -> Array:
    """A slice of length 1 repeated along its axis."""
    shape = (*piece.shape[:axis], length, *piece.shape[axis + 1 :])
    return lax.broadcast_in_dim(piece, shape, tuple(range(piece.ndim)))


def _joined(parts: Sequence[Array], axis: int) -> Array:
    parts = [part for part in parts if part.shape[axis]]
    return lax.concatenate(parts, axis) if len(parts) > 1 else parts[0]


def _pad_edge(array: Array, widths: Widths) -> Array:
    for axis, (before, after) in enumerate(widths):
        size = array.shape[axis]
        if before or after:
            first, last = _piece(array, axis, 0, 1), _piece(array, axis, size - 1, size)
            array = _joined([_spread(first, axis, before), array, _spread(last, axis, after)], axis)
    return array


def _pad_ramp(array: Array, widths: Widths, end_values: Any) -> Array:
    ends = _per_side("end_values", end_values, array.ndim)
    for axis, ((before, after), pair) in enumerate(zip(widths, ends, strict=True)):
        size = array.shape[axis]
        if not (before or after):
            continue
        start, stop = (convert(to_array("pad", value), array.dtype) for value in pair)

        def ramp(end: Any, at: int, length: int, axis: int = axis, array: Array = array) -> Array:
            edge = lax.squeeze(_piece(array, axis, at, at + 1), (axis,))
            return linspace(end, edge, length, endpoint=False, dtype=array.dtype, axis=axis)

        parts = [array]
        if before:
            parts.insert(0, ramp(start, 0, before))
        if after:
            parts.append(lax.rev(ramp(stop, size - 1, after), (axis,)))
        array = _joined(parts, axis)
    return array


_STATISTICS: dict[str, Callable[..., Array]] = {
    "maximum": reductions.max,
    "minimum": reductions.min,
    "mean": reductions.mean,
    "median": median,
}


def _pad_statistic(array: Array, widths: Widths, statistic: Callable[..., Array], stat_length: Any) -> Array:
    lengths = _per_side("stat_length", stat_length, array.ndim)
    for axis, ((before, after), pair) in enumerate(zip(widths, lengths, strict=True)):
        if not (before or after):
            continue
        size = array.shape[axis]
        first, last = (size if length is None else min(int(length), size) for length in pair)
        if first < 1 or last < 1:
            raise ShapeError(f"pad: stat_length must be positive, got {stat_length!r}")

        def summary(piece: Array, axis: int = axis, dtype: np.dtype = array.dtype) -> Array:
            value = statistic(piece, axis, keepdims=True)
            return convert(round_(value) if dtypes.is_integer(dtype) else value, dtype)

        left = summary(_piece(array, axis, 0, first))
        right = left if first == last == size else summary(_piece(array, axis, size - last, size))
        array = _joined([_spread(left, axis, before), array, _spread(right, axis, after)], axis)
    return array


def _pad_periodic(array: Array, axis: int, widths: tuple[int, int], mode: str, odd: bool) -> Array:
    """Reflections and wraps, a period at a time, so that what was added last is the start of the next."""
    size = array.shape[axis]
    before, after = widths
    if size == 1 and mode == "reflect":
        return _pad_edge(array, tuple(widths if i == axis else (0, 0) for i in range(array.ndim)))
    skip = 1 if mode == "reflect" else 0  # the edge itself is not repeated
    period = size - skip
    while before:
        chunk = min(before, period)
        if mode == "wrap":
            piece = _piece(array, axis, size - chunk, size)
        else:
            piece = lax.rev(_piece(array, axis, skip, skip + chunk), (axis,))
            piece = _odd(piece, _piece(array, axis, 0, 1), axis) if odd else piece
        array = _joined([piece, array], axis)
        before -= chunk
    while after:
        chunk, end = min(after, period), array.shape[axis]
        if mode == "wrap":
            piece = _piece(array, axis, end - size, end - size + chunk)
        else:
            piece = lax.rev(_piece(array, axis, end - skip - chunk, end - skip), (axis,))
            piece = _odd(piece, _piece(array, axis, end - 1, end), axis) if odd else piece
        array = _joined([array, piece], axis)
        after -= chunk
    return array


def _odd(piece: Array, edge: Array, axis: int) -> Array:
    """The reflection turned over at the edge value."""
    twice = lax.mul(edge, constant(2, edge.dtype))
    return lax.sub(_spread(twice, axis, piece.shape[axis]), piece)


def _pad_by_function(array: Array, widths: Widths, function: Callable[..., Any], kwargs: dict[str, Any]) -> Array:
    array = _pad_constant(array, widths, 0)
    for axis, pair in enumerate(widths):
        array = apply_along_axis(function, axis, array, pair, axis, kwargs)
    return array
