"""Reduction regions: softmax, layer norm, cross-entropy, their gradients, sums and means, large and small.

Which way a region is computed, from the lengths of its loops:

- many rows: one kernel, a workgroup for a row or for several (`rows_part`);
- reductions of row-wise results, if few: the same, with the row-wise results in the workgroup's memory;
- few long rows: parts of rows in one kernel, merged in another (`rows_parts`);
- few long rows, with reductions that depend on others: one after another, and what follows element by element.

What only the last two need is loaded for them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from asgfn.graph.asg import Asg
from backends.kernels.elements import REDUCTIONS
from backends.kernels.loops import RegionLoops, find_loops
from backends.kernels.lowering import Plan, constants_of, plan_for_kind, plan_for_primitive
from backends.kernels.schedules.assembly import assemble, bound
from backends.kernels.schedules.rows_order import NotComputed, Order, find_order
from backends.kernels.schedules.rows_part import RowsPart
from backends.kernels.schedules.rows_shape import (
    GROUPS,
    SIMD_GROUPS,
    THREADS,
    choose_shape,
    elements_a_thread,
    groups_of,
)
from backends.kernels.schedules.rows_team import READS
from backends.kernels.target import Target

if TYPE_CHECKING:
    from backends.kernels.schedules.rows_parts import Halves

# more elements of a row for each thread are too many, when there are few rows
LONG = 64
# the same for a lane of a processor, of which there are few
SIMD_LONG = 1024
# elements that one workgroup goes through on behalf of nested reductions
NESTED = 1 << 15


@plan_for_primitive(*REDUCTIONS)
@plan_for_kind("reduction")
def plan(asg: Asg, target: Target) -> Plan | None:
    """The kernels of a reduction region; None if its elements have to be computed one by one."""
    loops = find_loops(asg)
    if loops is None:
        from backends.kernels.schedules.rows_cut import by_fusion, chain

        found = by_fusion(asg)
        return _one_by_one(asg, target) if found is None else chain(*found, target)
    if not loops.reductions:
        return None
    try:
        return _plan(loops, target)
    except NotComputed:
        return _one_by_one(asg, target)


def _one_by_one(asg: Asg, target: Target) -> Plan | None:
    """The plan of a region that none of the others is for: a kernel for each reduction and each result. Element by element,
    reductions would be computed again for each element of those that depend on them."""
    from backends.kernels.schedules.rows_cut import by_result, chain

    pieces = by_result(asg)
    return chain(asg, pieces, target) if len(pieces) > 1 else None


def rows_part(asg: Asg, target: Target, threads: int) -> RowsPart | Halves | None:
    """A reduction region as a part of a kernel, of workgroups of so many threads, or as parts of two kernels; None if it
    takes more."""
    loops = find_loops(asg)
    if loops is None or not loops.reductions or (_is_nested(loops) and not _is_small(loops, target)):
        return None
    order = find_order(loops, target)
    part = RowsPart(loops, order, choose_shape(loops, order, target, threads), target)
    if not _is_long(part):
        return part
    from backends.kernels.schedules.rows_parts import halves

    return halves(loops, order, part.shape, target) if _is_one_pass(loops) else None


def _plan(loops: RegionLoops, target: Target) -> Plan | None:
    if _is_nested(loops) and not _is_small(loops, target):
        return _in_pieces(loops, target, nested=True)
    order = find_order(loops, target)
    shape = choose_shape(loops, order, target)
    part = RowsPart(loops, order, shape, target)
    if _is_long(part):
        found = _in_parts(loops, order, part, target)
        if found is not None:
            return found
    stage = assemble([bound(part, target)], target, loops.asg.name)
    return Plan((stage,), constants_of(loops.asg, target))


def _in_parts(loops: RegionLoops, order: Order, part: RowsPart, target: Target) -> Plan | None:
    """The plan of few long rows."""
    if _is_one_pass(loops):
        from backends.kernels.schedules.rows_parts import in_two_stages

        return in_two_stages(loops, order, part.shape, target)
    return _in_pieces(loops, target, nested=False)


def _in_pieces(loops: RegionLoops, target: Target, nested: bool) -> Plan | None:
    from backends.kernels.schedules.rows_cut import by_stage, chain

    kept = [frozenset(r.result.loops) for r in loops.reductions]

    def stage(before: int, number: int, mine: int) -> int:
        return before if nested and kept[number] == kept[mine] else before + 1

    pieces = by_stage(loops, stage, apart=not nested)
    return None if pieces is None else chain(loops.asg, pieces, target)


def _is_one_pass(loops: RegionLoops) -> bool:
    """Whether reductions depend on no others, and results are all row by row."""
    return all(set(o.loops) <= loops.rows for o in loops.outputs) and all(r.depth == 1 for r in loops.reductions)


def _is_nested(loops: RegionLoops) -> bool:
    """Whether there are reductions of row-wise results."""
    return any(frozenset(r.result.loops) != loops.rows for r in loops.reductions)


def _is_small(loops: RegionLoops, target: Target) -> bool:
    """Whether one workgroup does all that belongs to a step of the outermost rows, with its memory."""
    rows = loops.steps(loops.rows)
    if max(loops.steps(r.operand.loops) for r in loops.reductions) // rows > NESTED:
        return False
    kept = sum(loops.steps(r.result.loops) // rows for r in loops.reductions if set(r.result.loops) != loops.rows)
    threads = min(THREADS, target.workgroup_threads)
    # besides what is kept, threads exchange pairs of numbers
    return 4 * (kept + 2 * (threads + READS)) <= target.workgroup_bytes


def _is_long(part: RowsPart) -> bool:
    """Whether there are so few rows, and so long ones, that most of a device would have nothing to do."""
    long, enough = (SIMD_LONG, SIMD_GROUPS) if part.target.simd else (LONG, GROUPS)
    return elements_a_thread(part.loops, part.shape) > long and groups_of(part.loops, part.shape) < enough
