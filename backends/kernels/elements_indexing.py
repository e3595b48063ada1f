"""One element of a gather or of a dynamic slice, of reinterpreted bits, of random bits whose keys broadcast."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from asgfn.graph.asg import Node
from asgfn.primitives.gather import GatherScatterMode, default_fill_value, window_axes
from backends.kernels import index as ix
from backends.kernels import scalar
from backends.kernels.elements import Coordinates, Elements, element_rule
from backends.kernels.functions_bits import stored, unstored
from backends.kernels.functions_notation import Number
from backends.kernels.index import Index
from backends.kernels.ir import BOOL, I32, I64, U32, U64, Value


# ---------------------------------------------------------------------------------------------- windows
def window_start(
    e: Elements, indices: int, at: Coordinates, room: int, mask: Value | None, checked: bool
) -> tuple[Index, Value | None]:
    """Where a window starts, moved to lie in the operand; and, if `checked`, whether it lay there."""
    b = e.builder
    start = e.integer(indices, at, 0, room, mask)
    if not checked:
        return start, None
    found = e.at(indices, at, mask)
    inside = b.op("le", found, b.constant(room, found.dtype), dtype=BOOL)
    if found.dtype in (I32, I64):
        inside = b.op("and", b.op("ge", found, b.constant(0, found.dtype), dtype=BOOL), inside)
    return start, inside


@element_rule("gather")
def _gather(e: Elements, node: Node, at: Coordinates, mask: Value | None) -> Value:
    b = e.builder
    operand, indices = node.inputs
    dtype = e.type(operand).dtype
    numbers, sizes = node.params["dimension_numbers"], node.params["slice_sizes"]
    shape = e.type(operand).shape
    fills = node.params["mode"] == GatherScatterMode.FILL_OR_DROP
    position = tuple(i for axis, i in enumerate(at) if axis not in numbers.offset_dims)
    kept = window_axes(len(shape), numbers.collapsed_slice_dims, numbers.operand_batching_dims)
    place: list[Index] = [ix.constant(0)] * len(shape)
    for axis, window_axis in zip(kept, numbers.offset_dims, strict=True):
        place[axis] = at[window_axis]
    for axis, index_axis in zip(numbers.operand_batching_dims, numbers.start_indices_batching_dims, strict=True):
        place[axis] = position[index_axis]
    checks: list[Value | None] = []
    for k, axis in enumerate(numbers.start_index_map):
        start, inside = window_start(e, indices, (*position, ix.constant(k)), shape[axis] - sizes[axis], mask, fills)
        place[axis] = place[axis] + start
        checks.append(inside)
    element = e.at(operand, tuple(place), mask)
    inside = b.both(*checks)
    if inside is None:
        return element
    fill = node.params["fill_value"]
    fill = np.asarray(default_fill_value(dtype) if fill is None else fill).astype(dtype).item()
    return b.select(inside, element, e.types.constant(b, fill, dtype))


@element_rule("dynamic_slice")
def _dynamic_slice(e: Elements, node: Node, at: Coordinates, mask: Value | None) -> Value:
    x, *starts = node.inputs
    return e.at(x, _moved(e, at, starts, e.type(x).shape, node.params["slice_sizes"], mask), mask)


def _moved(
    e: Elements, at: Coordinates, starts: Sequence[int], shape: Sequence[int], sizes: Sequence[int], mask: Value | None
) -> Coordinates:
    """Coordinates in an array of those in a window that starts as near to `starts` as it fits."""
    rooms = [n - size for n, size in zip(shape, sizes, strict=True)]
    return tuple(i + e.integer(start, (), 0, room, mask) for i, start, room in zip(at, starts, rooms, strict=True))


def update_coordinates(e: Elements, node: Node, at: Coordinates, mask: Value | None = None) -> Coordinates:
    """Where an element of a dynamic_update_slice's update goes."""
    x, update, *starts = node.inputs
    return _moved(e, at, starts, e.type(x).shape, e.type(update).shape, mask)


@element_rule("dynamic_update_slice")
def _dynamic_update_slice(e: Elements, node: Node, at: Coordinates, mask: Value | None) -> Value:
    b = e.builder
    x, update, *_ = node.inputs
    sizes = e.type(update).shape
    if 0 in sizes:
        return e.at(x, at, mask)
    begin = update_coordinates(e, node, (ix.constant(0),) * len(sizes), mask)
    place = tuple(i - start for i, start in zip(at, begin, strict=True))
    inside = b.both(*[b.within(i, 0, n) for i, n in zip(place, sizes, strict=True)])
    if inside is None:
        return e.at(update, place, mask)
    return b.select(inside, e.at(update, place, b.both(mask, inside)), e.at(x, at, mask))


# ---------------------------------------------------------------------------------------------- bits
@element_rule("bitcast_convert_type")
def _bitcast(e: Elements, node: Node, at: Coordinates, mask: Value | None) -> Any:
    b = e.builder
    (x,) = node.inputs
    t, out = e.type(x), node.out_types[0]
    old, new = t.dtype.itemsize, out.dtype.itemsize
    if old == new:
        return scalar.apply(b, e.types, node.primitive.name, [e.at(x, at, mask)], [t], [out], node.params)

    def bits(at: Coordinates) -> Number:
        return stored(Number(b, e.at(x, at, mask)), t.dtype)

    if old > new:
        whole = bits(at[:-1]) >> Number(b, b.index(at[-1] * (8 * new)))
        found = whole & ((1 << 8 * new) - 1)
        if old == 8:
            found = found.op("convert", dtype=U32)
    else:
        parts = [bits((*at, ix.constant(k))) for k in range(new // old)]
        if new == 8:
            parts = [part.op("convert", dtype=U64) for part in parts]
        found = parts[0]
        for k, part in enumerate(parts[1:], 1):
            found = found | (part << (8 * old * k))
    return unstored(found, out.dtype, e.types.register(out.dtype)).value


@element_rule("threefry2x32")
def _threefry(e: Elements, node: Node, at: Coordinates, mask: Value | None) -> Any:
    """Keys and counters broadcast as in NumPy."""
    in_types = [e.type(i) for i in node.inputs]
    operands = []
    for i, t in zip(node.inputs, in_types, strict=True):
        last = at[len(at) - t.ndim :]
        operands.append(
            e.at(i, tuple(ix.constant(0) if n == 1 else c for c, n in zip(last, t.shape, strict=True)), mask)
        )
    return scalar.apply(e.builder, e.types, node.primitive.name, operands, in_types, node.out_types, node.params)
