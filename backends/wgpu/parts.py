"""Nodes with arrays that are larger than what a kernel can see: computed in parts along their first axis.

An array can be as large as a buffer, but a kernel sees no more than `binding_bytes` of it. So it is run several times, on
parts of the arrays that start where the device can bind them. A sum (product, maximum, ...) along the first axis is one of
those of the parts; so is a product of matrices that sums along it.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import gcd, lcm, prod
from typing import NamedTuple

from asgfn.graph.asg import NO_PARAMS, Node
from asgfn.graph.types import ArrayType
from asgfn.primitives import elementwise
from backends.kernels.lowering import Argument, Plan
from backends.wgpu.compiler import Compiler, Place, cached_plan, whole
from backends.wgpu.cutting import Cut, NotCut, Part, cut, shortened
from backends.wgpu.memory import padded, storage_bytes
from backends.wgpu.steps import Val
from backends.wgpu.writer import OFFSETS

_MERGED_BY = {
    "reduce_sum": elementwise.add_p,
    "reduce_prod": elementwise.mul_p,
    "reduce_max": elementwise.max_p,
    "reduce_min": elementwise.min_p,
    "reduce_and": elementwise.and_p,
    "reduce_or": elementwise.or_p,
    "reduce_xor": elementwise.xor_p,
    "dot_general": elementwise.add_p,
}


class _Piece(NamedTuple):
    """Some steps: `part` and `plan` compute them."""

    start: int
    length: int
    part: Part
    plan: Plan


def in_parts(c: Compiler, node: Node, ins: list[Val]) -> list[Val] | None:
    """Steps that compute a node in parts; None if there is no way to do that."""
    try:
        return _results_in_parts(c, node, ins)
    except NotCut:
        pass
    try:
        return _operands_in_parts(c, node, ins)
    except NotCut:
        return None


def _results_in_parts(c: Compiler, node: Node, ins: list[Val]) -> list[Val]:
    """Cuts the results."""
    axes = [_first_axis(t) for t in node.out_types]
    steps = gcd(*(t.shape[a] for t, a in zip(node.out_types, axes, strict=True)))
    in_types = [v.aval for v in ins]
    whole_part = cut(node, in_types, axes, steps, steps)
    pieces = _pieces(c, node, in_types, axes, steps, whole_part.operands)
    outs = [Val(t, c.storage_of_type(t)) for t in node.out_types]
    storages = [c.storage(v) for v in ins]
    for piece in pieces:
        places: dict[Argument, Place] = {}
        for k, (number, axis) in enumerate(piece.part.operands):
            place = whole(storages[number])
            if axis is not None:
                place = _place(c, ins[number], steps, piece)
            places[Argument("input", k)] = place
        for k, v in enumerate(outs):
            places[Argument("output", k)] = _place(c, v, steps, piece)
        c.dispatch(piece.plan, piece.part.node, places, {}, in_place=False)
    return outs


def _first_axis(t: ArrayType) -> int:
    """The axis along which an array's parts are parts of its memory."""
    found = next((k for k, length in enumerate(t.shape) if length > 1), None)
    if found is None:
        raise NotCut
    return found


def _place(c: Compiler, val: Val, steps: int, piece: _Piece) -> Place:
    each = _bytes_of_step(c, val.aval, steps)
    return Place(c.storage(val), piece.start * each, padded(piece.length * each))


def _bytes_of_step(c: Compiler, t: ArrayType, steps: int) -> int:
    return t.size * c.types.numpy_storage(t.dtype).itemsize // steps


def _length(c: Compiler, types: Sequence[ArrayType], steps: int) -> int:
    """How many steps a part of these arrays may have, so that the next part starts where the device can bind it."""
    each = [_bytes_of_step(c, t, steps) for t in types]
    unit = lcm(*(OFFSETS // gcd(OFFSETS, n) for n in each))
    most = c.target.binding_bytes // max(each) // unit * unit
    if not most:
        raise NotCut
    return min(most, steps)


def _pieces(
    c: Compiler,
    node: Node,
    in_types: Sequence[ArrayType],
    axes: Sequence[int],
    steps: int,
    operands: Sequence[tuple[int, Cut]],
) -> list[_Piece]:
    """The parts of a node, with their plans."""
    for number, axis in operands:
        t = in_types[number]
        if axis is None and storage_bytes(t, c.types) > c.target.binding_bytes:
            raise NotCut
        if axis is not None and prod(t.shape[:axis]) > 1:
            raise NotCut  # a part of it is not one of its memory
    cut_types = [*node.out_types, *(in_types[number] for number, axis in operands if axis is not None)]
    length = _length(c, cut_types, steps)
    pieces = []
    for start in range(0, steps, length):
        count = min(length, steps - start)
        part = cut(node, in_types, axes, steps, count, start)
        types = [shortened(in_types[number], axis, steps, count) for number, axis in part.operands]
        plan = cached_plan(part.node, types, c.target)
        if plan is None or plan.copies or not c.fits(plan):
            raise NotCut
        pieces.append(_Piece(start, count, part, plan))
    return pieces


# ---------------------------------------------------------------------------------------------- sums along the first axis
def _operands_in_parts(c: Compiler, node: Node, ins: list[Val]) -> list[Val]:
    """Cuts the operands of a sum along their first axis, and merges what is found in the parts."""
    merge = _MERGED_BY.get(node.primitive.name)
    if merge is None or not _sums_along_first(node, [v.aval for v in ins]):
        raise NotCut
    types = [v.aval for v in ins]
    axes = [_first_axis(t) for t in types]
    steps = types[0].shape[axes[0]]
    length = _length(c, types, steps)
    plans = {}
    for count in {length, steps % length} - {0}:
        plan = cached_plan(node, [shortened(t, a, steps, count) for t, a in zip(types, axes, strict=True)], c.target)
        if plan is None or plan.copies or not c.fits(plan):
            raise NotCut
        plans[count] = plan
    (out,) = node.out_types
    total: Val | None = None
    for start in range(0, steps, length):
        count = min(length, steps - start)
        piece = _Piece(start, count, Part(node, ()), plans[count])
        found = Val(out, c.storage_of_type(out))
        places = {Argument("input", k): _place(c, v, steps, piece) for k, v in enumerate(ins)}
        assert found.storage is not None
        places[Argument("output", 0)] = whole(found.storage)
        c.dispatch(plans[count], node, places, {}, in_place=False)
        if total is None:
            total = found
        else:
            merging = Node(merge, (0, 1), NO_PARAMS, (out,), node.scope, node.source)
            (total,) = c.node(merging, [total, found])
    assert total is not None
    return [total]


def _sums_along_first(node: Node, types: Sequence[ArrayType]) -> bool:
    """Whether a node sums along the first axis of all its operands."""
    axes = [_first_axis(t) for t in types]
    if node.primitive.name == "dot_general":
        (left, right), _ = node.params["dimension_numbers"]
        return any(pair == tuple(axes) for pair in zip(left, right, strict=True))
    return axes[0] in node.params["axes"]
