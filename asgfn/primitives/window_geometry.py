"""Sizes and padding of sliding windows, as convolutions and window reductions share them."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any

from asgfn.errors import ShapeError

Pads = tuple[tuple[int, int], ...]


def dilated(size: int, dilation: int) -> int:
    """The length of an axis after `dilation - 1` holes were put between its elements."""
    return (size - 1) * dilation + 1 if size else 0


def positions(padded: int, window: int, stride: int) -> int:
    """How many windows of (dilated) length `window` fit into an axis of length `padded`."""
    return max((padded - window) // stride + 1, 0)


def per_axis(name: str, what: str, values: Any, rank: int, least: int = 1) -> tuple[int, ...]:
    """One integer for each of `rank` axes; None stands for ones.

    Raises:
        ShapeError: another number of them, or one below `least`.
    """
    if values is None:
        return (1,) * rank
    try:
        found = tuple(operator.index(v) for v in values)
    except TypeError:
        raise ShapeError(f"{name}: {what} must be a sequence of {rank} static integers, got {values!r}") from None
    if len(found) != rank or any(v < least for v in found):
        raise ShapeError(f"{name}: {what}={found} must have {rank} entries, each at least {least}")
    return found


def padding_pairs(
    name: str, padding: Any, sizes: Sequence[int], windows: Sequence[int], strides: Sequence[int]
) -> Pads:
    """Padding as (low, high) pairs.

    Arguments:
        padding: such pairs, which may be negative; or "VALID" (none), "SAME" (the result has ceil(size / stride)
            positions; what is odd goes to the end) or "SAME_LOWER" (to the beginning).
        sizes, windows: the lengths of the axes and windows, dilation included.

    Raises:
        ShapeError: another string, or pairs that do not match the axes.
    """
    if isinstance(padding, str):
        mode = padding.upper()
        if mode == "VALID":
            return ((0, 0),) * len(sizes)
        if mode not in ("SAME", "SAME_LOWER"):
            raise ShapeError(
                f"{name}: padding {padding!r} is not known: use 'SAME', 'SAME_LOWER', 'VALID' or (low, high) pairs"
            )
        pads = []
        for size, window, stride in zip(sizes, windows, strides, strict=True):
            total = max((-(-size // stride) - 1) * stride + window - size, 0)
            low = total // 2 if mode == "SAME" else total - total // 2
            pads.append((low, total - low))
        return tuple(pads)
    try:
        pairs = tuple((operator.index(low), operator.index(high)) for low, high in padding)
    except TypeError:
        pairs = None
    if pairs is None or len(pairs) != len(sizes):
        raise ShapeError(
            f"{name}: padding must be a string or one (low, high) pair for each of {len(sizes)} axes, got {padding!r}"
        )
    return pairs


def padtype_to_pads(
    in_shape: Sequence[int], window_shape: Sequence[int], window_strides: Sequence[int], padding: Any
) -> list:
    """The (low, high) pairs that "SAME", "SAME_LOWER" or "VALID" stand for."""
    return list(padding_pairs("padtype_to_pads", padding, in_shape, window_shape, window_strides))
