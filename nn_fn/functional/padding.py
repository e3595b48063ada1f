"""Padding of arrays."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import asgfn.numpy as jnp
from asgfn import lax
from asgfn.errors import ShapeError
from asgfn.numpy.arguments import to_array
from asgfn.tracing import Array
from nn_fn.functional.arguments import one_of, static_int

_MODES = {"constant": "constant", "reflect": "reflect", "replicate": "edge", "circular": "wrap"}


def pad(x: Any, pad: Sequence[int], mode: str = "constant", value: Any = None) -> Array:
    """`x` with elements added at the ends of its last axes.

    Arguments:
        x: array of any shape and dtype.
        pad: (before, after) of the last axis, then (before, after) of the one before it, and so on: the last axis comes
            first. Negative numbers remove elements.
        mode: "constant"; "reflect", which mirrors at the first and last element without repeating it; "replicate",
            which repeats them; or "circular", which goes on at the other end.
        value: what "constant" adds, by default 0.

    Returns:
        Array of x's dtype, each padded axis longer by before + after.

    Raises:
        ShapeError: more pairs than axes; or an axis is too short: for "reflect" a number must be less than its length,
            for "circular" not more, and "replicate" needs an element.
        ValueError: another mode, an odd number of entries, or a value with another mode than "constant".
    """
    x = to_array("pad", x)
    one_of("pad", "mode", mode, tuple(_MODES))
    if len(pad) % 2 or len(pad) > 2 * x.ndim:
        kind = ValueError if len(pad) % 2 else ShapeError
        raise kind(
            f"pad: pad must have a (before, after) pair for each of at most {x.ndim} axes of {x.aval}, got {pad!r}"
        )
    ints = [static_int("pad", "pad", p) for p in pad]
    widths = [(0, 0)] * (x.ndim - len(ints) // 2) + list(zip(ints[::2], ints[1::2], strict=True))[::-1]
    if any(n + min(low, 0) + min(high, 0) < 0 for n, (low, high) in zip(x.shape, widths, strict=True)):
        raise ShapeError(f"pad: pad={pad!r} removes more than there is in {x.aval}")
    if mode == "constant":
        fill = jnp.asarray(0 if value is None else value, x.dtype)
        return lax.pad(x, fill, [(low, high, 0) for low, high in widths])
    if value is not None:
        raise ValueError(f"pad: a value goes with mode='constant' only, got value={value!r} for mode={mode!r}")
    added = [(max(low, 0), max(high, 0)) for low, high in widths]
    if mode == "circular":  # goes around what is left, whereas a mirror still sees what is removed at the other end
        x = _cropped(x, widths)
    _check_room(x, added, mode)
    y = jnp.pad(x, added, _MODES[mode]) if any(map(any, added)) else x
    return y if mode == "circular" else _cropped(y, widths)


def _cropped(x: Array, widths: list[tuple[int, int]]) -> Array:
    removed = [(min(low, 0), min(high, 0), 0) for low, high in widths]
    return lax.pad(x, jnp.zeros((), x.dtype), removed) if any(map(any, removed)) else x


def _check_room(x: Array, widths: list[tuple[int, int]], mode: str) -> None:
    for axis, (size, pair) in enumerate(zip(x.shape, widths, strict=True)):
        most = {"reflect": size - 1, "circular": size}.get(mode, max(pair) if size else 0)
        if max(pair) > max(most, 0):
            raise ShapeError(
                f"pad: mode={mode!r} can add at most {max(most, 0)} elements to an end of axis {axis} of {x.aval}, got {pair}"
            )
