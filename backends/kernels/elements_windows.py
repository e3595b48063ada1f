"""One element of a reduction over sliding windows, and of the moves along their arg-maxima.

Each is a loop over the taps of one window, or over the windows that one element lies in. Padding is never read.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from asgfn.graph.asg import Node
from backends.kernels import index as ix
from backends.kernels import scalar
from backends.kernels.elements import Coordinates, Elements, accumulate, element_rule, padded, start_value
from backends.kernels.index import Index
from backends.kernels.ir import BOOL, I32, Value
from backends.kernels.monoids import Monoid

_COMBINERS = {"reduce_window_sum": "add", "reduce_window_max": "max", "reduce_window_min": "min"}


def _tap(
    e: Elements, node: Node, shape: Sequence[int], at: Coordinates, tap: Coordinates
) -> tuple[Coordinates, Value | None]:
    """Coordinates in the operand of an element of a window, and whether it is one (None: it certainly is)."""
    p = node.params
    place = tuple(
        i * stride + k * gap
        for i, k, stride, gap in zip(at, tap, p["window_strides"], p["window_dilation"], strict=True)
    )
    config = [(low, high, spread - 1) for (low, high), spread in zip(p["padding"], p["base_dilation"], strict=True)]
    return padded(e.builder, place, shape, config)


@element_rule(*_COMBINERS)
def _reduce_window(e: Elements, node: Node, at: Coordinates, mask: Value | None) -> Value:
    b = e.builder
    (x,) = node.inputs
    t = e.type(x)
    monoid = Monoid(e.types, _COMBINERS[node.primitive.name], t.dtype)
    padding = e.types.constant(b, start_value(node.primitive.name.replace("_window", ""), monoid.wide), monoid.wide)

    axes = [_Taps(e, *of_axis) for of_axis in _along_axes(node, t.shape, at)]

    def step(numbers: Coordinates, total: Value) -> Value:
        places, checks = zip(*(axis.place(k) for axis, k in zip(axes, numbers, strict=True)), strict=True)
        inside = b.both(*checks)
        element = monoid.widen(b, e.at(x, places, b.both(mask, inside)))
        if inside is not None:
            element = b.select(inside, element, padding)
        return monoid.combine(b, total, element)

    return monoid.narrow(b, accumulate(b, [axis.count for axis in axes], monoid.identity(b), step))


def _along_axes(node: Node, shape: Sequence[int], at: Coordinates) -> Any:
    p = node.params
    return zip(
        at, shape, p["window_dimensions"], p["window_strides"], p["padding"], p["base_dilation"], p["window_dilation"],
        strict=True,
    )  # fmt: skip


class _Taps:
    """Along one axis, the elements of a window. Where the operand's are moved apart, the gaps between them are left out:
    they change nothing.

    Attributes:
        count: how many there are at most.
    """

    def __init__(
        self, e: Elements, at: Index, size: int, length: int, stride: int, pads: tuple[int, int], spread: int, gap: int
    ):
        self.b, self.size, self.length, self.spread, self.gap = e.builder, size, length, spread, gap
        self.start, self.pads = at * stride, pads
        self.skips = spread > 1 and gap == 1
        self.count = -(-length // spread) if self.skips else length

    def place(self, k: Index) -> tuple[Index, Value | None]:
        """The coordinate of the k-th one, and whether it exists (None: it certainly does)."""
        b, spread = self.b, self.spread
        if not self.skips:
            config = (*self.pads, spread - 1)
            (place,), inside = padded(b, (self.start + k * self.gap,), (self.size,), (config,))
            return place, inside
        start = self.start - self.pads[0]
        # from a multiple of the step on, so that what is divided is not negative
        lift = max(0, -(start.low // spread))
        place = (start + (spread - 1 + lift * spread)).digit(spread) - lift + k
        inside = b.within(place, 0, self.size)
        if self.length % spread:
            offset = b.index(place * spread - start)
            inside = b.both(inside, b.op("lt", offset, b.constant(self.length, I32), dtype=BOOL))
        return place, inside


@element_rule("reduce_window_argmax", "reduce_window_argmin")
def _arg_reduce_window(e: Elements, node: Node, at: Coordinates, mask: Value | None) -> Value:
    """The first best element. Padding is none: it never wins, even where all elements are the identity."""
    b = e.builder
    (x,) = node.inputs
    t = e.type(x)
    name = node.primitive.name.removeprefix("reduce_window_")
    lengths = node.params["window_dimensions"]
    identity = start_value("reduce_max" if name == "argmax" else "reduce_min", t.dtype)
    best = b.variable(e.types.constant(b, identity, t.dtype))
    place = b.variable(b.constant(-1, I32))  # until there is an element

    def step(tap: Coordinates) -> None:
        at_x, inside = _tap(e, node, t.shape, at, tap)
        element = e.at(x, at_x, b.both(mask, inside))
        before, now = b.read(best), b.read(place)
        first = b.op("lt", now, b.constant(0, I32), dtype=BOOL)
        better = scalar.goes_before(b, e.types, name, element, before)
        wins = b.both(inside, b.op("or", first, better))
        assert wins is not None
        b.assign(best, b.select(wins, element, before))
        b.assign(place, b.select(wins, b.index(ix.linear(tap, lengths)), now))

    _nest(e, lengths, step)
    return b.op("max", b.read(place), b.constant(0, I32))


def _nest(e: Elements, sizes: Sequence[int], step: Callable[[Coordinates], None]) -> None:
    """Nested loops of these sizes."""
    axes = tuple(ix.axis("k", n) for n in sizes)

    def nest(k: int) -> None:
        if k == len(axes):
            step(axes)
            return
        with e.builder.loop(axes[k]):
            nest(k + 1)

    nest(0)


@element_rule("window_gather")
def _window_gather(e: Elements, node: Node, at: Coordinates, mask: Value | None) -> Value:
    b = e.builder
    x, index = node.inputs
    t = e.type(x)
    lengths = node.params["window_dimensions"]
    chosen = e.integer(index, at, 0, math.prod(lengths) - 1, mask)
    place, inside = _tap(e, node, t.shape, at, ix.coordinates(chosen, lengths))
    element = e.at(x, place, b.both(mask, inside))
    return element if inside is None else b.select(inside, element, e.types.constant(b, 0, t.dtype))


@element_rule("window_scatter_add")
def _window_scatter_add(e: Elements, node: Node, at: Coordinates, mask: Value | None) -> Value:
    """The sum of the windows that chose this element, in row-major order of the windows."""
    b = e.builder
    updates, index = node.inputs
    t = e.type(updates)
    monoid = Monoid(e.types, "add", t.dtype)
    lengths = node.params["window_dimensions"]
    axes = [_Cover(e, *of_axis) for of_axis in _along_axes(node, t.shape, at)]

    total = b.variable(e.types.constant(b, 0, monoid.wide))

    def nest(windows: Coordinates, taps: Coordinates, inside: Value | None) -> None:
        if len(windows) < len(axes):
            # along all axes but the last neighbours are mostly in the same windows: others need not be looked at
            with b.when(inside):
                axis = axes[len(windows)]
                k = ix.axis("window", axis.count)
                with b.loop(k):
                    window, tap, inside = axis.window(k)
                    nest((*windows, window), (*taps, tap), inside)
            return
        reached = b.both(mask, inside)
        chosen = b.op("eq", e.at(index, windows, reached), b.index(ix.linear(taps, lengths)), dtype=BOOL)
        element = monoid.widen(b, e.at(updates, windows, reached))
        before = b.read(total)
        wins = b.both(chosen, inside)
        assert wins is not None
        b.assign(total, b.select(wins, monoid.combine(b, before, element), before))

    nest((), (), None)
    return monoid.narrow(b, b.read(total))


class _Cover:
    """Along one axis, the windows that may hold an element.

    Attributes:
        count: how many there are at most.
    """

    def __init__(
        self,
        e: Elements,
        at: Index,
        windows: int,
        length: int,
        stride: int,
        pads: tuple[int, int],
        spread: int,
        gap: int,
    ):
        self.e, self.windows, self.length, self.stride, self.gap = e, windows, length, stride, gap
        self.place = at * spread + pads[0]  # in the padded array
        reach = (length - 1) * gap
        self.count = min(reach // stride + 1, max(windows, 1))
        # from a multiple of the stride on, so that what is divided is not negative
        lift = -(self.place.low // stride) if self.place.low < 0 else 0
        last = (self.place + lift * stride).digit(stride) - lift
        # the windows that hold it are the last one that starts before it and some of those before; no more than there are
        self.first = last - (reach // stride) if self.count == reach // stride + 1 else ix.constant(0)

    def window(self, k: Index) -> tuple[Index, Index, Value | None]:
        """The k-th window, the place of the element in it, and whether both exist (None: they certainly do)."""
        b = self.e.builder
        window = self.first + k
        offset = self.place - window * self.stride
        checks = [b.within(window, 0, self.windows), b.within(offset, 0, (self.length - 1) * self.gap + 1)]
        if self.gap > 1:
            lift = -(offset.low // self.gap) if offset.low < 0 else 0
            lifted = offset + lift * self.gap
            rest = lifted.digit(1, self.gap)
            if not (rest.is_constant and rest.constant == 0):
                checks.append(b.op("eq", b.index(rest), b.constant(0, I32), dtype=BOOL))
            offset = lifted.digit(self.gap) - lift
        return window, offset, b.both(*checks)
