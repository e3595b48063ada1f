"""Nodes with arrays that are larger than what a kernel can see: computed in parts along their first axis.

An array can be as large as a buffer, but a kernel sees no more than `binding_bytes` of it. So it is run several times, on
parts of the arrays that start where the device can bind them. A sum (product, maximum, ...) along the first axis is one of
those of the parts; so is a product of matrices that sums along it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from math import gcd, lcm, prod
from typing import NamedTuple

from asgfn.graph.asg import NO_PARAMS, Asg, Node
from asgfn.graph.types import ArrayType
from asgfn.primitives import elementwise
from asgfn.transforms.fuse import fuse_graph
from asgfn.transforms.region_rules import FusionLimits
from backends.kernels.lowering import Argument, Plan
from backends.programs.compiler import Compiler, Place, whole
from backends.programs.steps import Storage, Val
from backends.programs.writer import OFFSETS
from backends.wgpu.cutting import NotCut, Part, after_sum, cut, cut_sum, shortened, summed_axes, sums_of
from backends.wgpu.memory import padded, storage_bytes

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


# gives a part: so many steps, from one on
PartOf = Callable[[int, int], Part]


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
    if node.primitive.name == "fused":
        return _region_of_sum(c, node, ins)
    for axes in summed_axes(node, [v.aval for v in ins]):
        part = Part(node, tuple(enumerate(axes)))  # its operands are shorter, nothing else
        try:
            return [_sum_in_parts(c, node, ins, node, ins[0].aval.shape[axes[0]], partial(_always, part))]
        except NotCut:
            continue
    return None


def _always(part: Part, some: int, start: int) -> Part:
    return part


def _region_of_sum(c: Compiler, node: Node, ins: list[Val]) -> list[Val] | None:
    """Cuts the operands of a region whose results are not as long: of its sum, then computes the rest."""
    asg: Asg = node.params["asg"]
    for found in sums_of(asg):
        part_of = partial(cut_sum, node, found)
        try:
            total = _sum_in_parts(c, node, ins, asg.nodes[found.number], found.steps, part_of)
        except NotCut:
            continue
        rest = fuse_graph(after_sum(asg, found), FusionLimits(max_operands=c.target.buffers - 1))
        return c.graph(rest, [*ins, total])
    return None


def _results_in_parts(c: Compiler, node: Node, ins: list[Val]) -> list[Val]:
    """Cuts the results."""
    axes = [_first_axis(t) for t in node.out_types]
    steps = gcd(*(t.shape[a] for t, a in zip(node.out_types, axes, strict=True)))
    types = [v.aval for v in ins]
    pieces = _pieces(c, types, steps, partial(cut, node, types, axes, steps), node.out_types)
    outs = [Val(t, c.storage_of_type(t)) for t in node.out_types]
    storages = [c.storage(v) for v in ins]
    for piece in pieces:
        places = _operands(c, ins, storages, steps, piece)
        for k, v in enumerate(outs):
            places[Argument("output", k)] = _place(c, v, steps, piece)
        c.dispatch(piece.plan, piece.part.node, places, {}, in_place=False)
    return outs


def _sum_in_parts(c: Compiler, node: Node, ins: list[Val], total: Node, steps: int, part_of: PartOf) -> Val:
    """Cuts the operands of a sum, and merges what is found in the parts."""
    (out,) = total.out_types
    if storage_bytes(out, c.types) > c.target.binding_bytes:
        raise NotCut  # the sum is too large itself
    pieces = _pieces(c, [v.aval for v in ins], steps, part_of)
    storages = [c.storage(v) for v in ins]
    merge = Node(_MERGED_BY[total.primitive.name], (0, 1), NO_PARAMS, (out,), node.scope, node.source)
    so_far: Val | None = None
    for piece in pieces:
        found = Val(out, c.storage_of_type(out))
        places = _operands(c, ins, storages, steps, piece)
        places[Argument("output", 0)] = whole(c.storage(found))
        c.dispatch(piece.plan, piece.part.node, places, {}, in_place=False)
        so_far = found if so_far is None else c.node(merge, [so_far, found])[0]
    assert so_far is not None
    return so_far


# ---------------------------------------------------------------------------------------------- pieces
def _pieces(
    c: Compiler, types: Sequence[ArrayType], steps: int, part_of: PartOf, results: Sequence[ArrayType] = ()
) -> list[_Piece]:
    """The parts of a node with operands of these types, with their plans.

    Arguments:
        part_of: gives so many steps from one on.
        results: types of those results that are cut.
    """
    operands = part_of(steps, 0).operands
    for number, axis in operands:
        t = types[number]
        if axis is None and storage_bytes(t, c.types) > c.target.binding_bytes:
            raise NotCut
        if axis is not None and prod(t.shape[:axis]) > 1:
            raise NotCut  # a part of it is not one of its memory
    length = _length(c, [*results, *(types[number] for number, axis in operands if axis is not None)], steps)
    pieces = []
    for start in range(0, steps, length):
        count = min(length, steps - start)
        part = part_of(count, start)
        plan = c.plan_of(
            part.node, [shortened(types[number], a, steps, count) for number, a in part.operands], c.target
        )
        if plan is None or plan.copies or not c.fits(plan):
            raise NotCut
        pieces.append(_Piece(start, count, part, plan))
    return pieces


def _length(c: Compiler, types: Sequence[ArrayType], steps: int) -> int:
    """How many steps a part of these arrays may have, so that the next part starts where the device can bind it."""
    each = [_bytes_of_step(c, t, steps) for t in types]
    if not each:
        raise NotCut
    unit = lcm(*(OFFSETS // gcd(OFFSETS, n) for n in each))
    most = c.target.binding_bytes // max(each) // unit * unit
    if not most:
        raise NotCut
    return min(most, steps)


def _operands(
    c: Compiler, ins: Sequence[Val], storages: Sequence[Storage], steps: int, piece: _Piece
) -> dict[Argument, Place]:
    """Where the operands of a part are."""
    return {
        Argument("input", k): whole(storages[number]) if axis is None else _place(c, ins[number], steps, piece)
        for k, (number, axis) in enumerate(piece.part.operands)
    }


def _place(c: Compiler, val: Val, steps: int, piece: _Piece) -> Place:
    each = _bytes_of_step(c, val.aval, steps)
    return Place(c.storage(val), piece.start * each, padded(piece.length * each))


def _bytes_of_step(c: Compiler, t: ArrayType, steps: int) -> int:
    return t.size * c.types.numpy_storage(t.dtype).itemsize // steps


def _first_axis(t: ArrayType) -> int:
    """The axis along which parts of an array are parts of its memory."""
    found = next((k for k, length in enumerate(t.shape) if length > 1), None)
    if found is None:
        raise NotCut
    return found
