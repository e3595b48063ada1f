"""When two regions, one reading the other, can be one kernel.

A kernel goes through loops. In an element-wise region all values run along the same ones. A reduction has loops that stay,
its rows: one workgroup does everything that belongs to a step of theirs, in stages, each a loop over the row. A
contraction has the loops of its result, which its epilogue shares, and those of its operands, which its prologues share.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from asgfn.records import record
from asgfn.transforms.region_graph import Cluster, Edge, Loops, Renaming
from asgfn.transforms.region_roles import CONTRACTION, ELEMENTWISE, LOAD_COST, REDUCTION, SCALAR_COST

# reductions with as many independent rows keep every workgroup busy
MANY_ROWS = 64


@record
class FusionLimits:
    """What a backend can put into one kernel.

    Attributes:
        max_operands: arrays that a region reads and writes (scalar constants are part of the code and do not count).
        max_nodes: operations in a region, which bounds the time to compile it.
        max_row: how many elements one workgroup may go through while others have nothing to do. Up to this size the
            mean of row-wise losses is in one region with them, and so is what follows the sum of a whole array.
        max_grouped: elements of a reduction that may be grouped with independent ones.
        max_recomputed: arithmetic operations that readers may do again, all together, instead of loading a value that
            would have to be kept for them.
        max_scalar: what a scalar may cost to be computed wherever it is used: it does not vary along a loop, so each thread
            does it once. Where kernels are cheap to start, one for it makes those that use it smaller.
    """

    max_operands: int = 64
    max_nodes: int = 512
    max_row: int = 1 << 14
    max_grouped: int = 1 << 20
    max_recomputed: int = 4 * LOAD_COST
    max_scalar: int = SCALAR_COST


class Context(Protocol):
    """What the rules know of the program besides the two regions."""

    limits: FusionLimits
    loops: Loops
    frames: list[range]  # the loops of each operation
    is_contraction: list[bool]  # for each operation
    is_output: list[bool]  # for each value
    nesting: bool  # whether reductions of row-wise results join the rows' region already


class Junction:
    """Two regions at the point of becoming one, their loops named alike."""

    def __init__(self, first: Cluster, second: Cluster, edges: Sequence[Edge], named: Renaming, context: Context):
        self.first, self.second, self.edges, self.context = first, second, edges, context
        self.named = named
        self.mine = named(first.domain)
        self.theirs = named(second.domain)
        self.rows = named((first if first.kind == REDUCTION else second).rows)

    def reads_once(self) -> bool:
        """Whether the readers need each element of a value once, or once a row."""
        for edge in self.edges:
            value = self.named([x for _, x in edge.loops or ()])
            if not value <= self.rows and value != self.named(self.context.frames[edge.reader]):
                return False
        return True

    def reads_rows(self) -> bool:
        """Whether the readers work on rows as a whole, not on their elements."""
        return all(self.named(self.context.frames[edge.reader]) <= self.rows for edge in self.edges)

    def is_covered(self) -> bool:
        """Whether the second region goes through all loops of the first."""
        return self.mine <= self.named([x for frame in self.second.frames for x in frame])

    def is_cheap(self) -> bool:
        """Whether the first may be computed again for every step of the reader's other loops."""
        if len(self.first.succs) > 1 or any(self.context.is_output[i] for i in self.first.outputs):
            return False
        return self.first.cost <= (LOAD_COST if self.mine else SCALAR_COST)

    def is_short(self, rows: Sequence[int], size: int) -> bool:
        """Whether working row by row is quick: there are many rows, or each has few of so many elements."""
        count = self.context.loops.steps(rows)
        return count >= MANY_ROWS or size <= self.context.limits.max_row * count


def _same_loops(j: Junction) -> bool:
    """Element-wise operations run along the same loops; a cheap producer may run along fewer."""
    return j.is_covered() and (j.mine == j.theirs or j.is_cheap())


def _reduced(j: Junction) -> bool:
    """A reduction's operand is computed where it is reduced, and stored on the way if others want it."""
    return j.is_covered() and ((j.rows <= j.mine and j.reads_once()) or j.is_cheap())


def _row_wise(j: Junction) -> bool:
    """What follows a reduction runs through the rows again; where these are few and long, another kernel does that."""
    if not (j.rows <= j.theirs and j.reads_once()):
        return False
    return j.theirs <= j.rows or j.is_short(j.first.rows, max(j.first.size, j.second.size))


def _same_rows(j: Junction) -> bool:
    """Reductions that keep the same rows, or one of the results of the other."""
    if not j.reads_once():
        return False
    kept = j.named(j.second.rows)
    if kept == j.rows:
        return j.reads_rows() or j.is_short(j.first.rows, max(j.first.size, j.second.size))
    return j.context.nesting and kept < j.rows and j.is_short(j.second.rows, j.first.size)


def _epilogue(j: Junction) -> bool:
    """What is done to each element of a contraction's result is done before it is stored."""
    return j.mine == j.theirs


def _prologue(j: Junction) -> bool:
    """An operand that takes no more than a load is computed when it is read; what only an epilogue reads, there."""
    if not j.is_covered():
        return False
    for_operands = [j.context.is_contraction[edge.reader] for edge in j.edges]
    if any(for_operands):
        return all(for_operands) and j.first.cost <= LOAD_COST
    return j.mine == j.theirs or j.is_cheap()


# by the kinds of the two regions, the second reading the first; what is not here stays apart
_RULES: dict[tuple[str, str], Callable[[Junction], bool]] = {
    (ELEMENTWISE, ELEMENTWISE): _same_loops,
    (ELEMENTWISE, REDUCTION): _reduced,
    (ELEMENTWISE, CONTRACTION): _prologue,
    (REDUCTION, ELEMENTWISE): _row_wise,
    (REDUCTION, REDUCTION): _same_rows,
    (CONTRACTION, ELEMENTWISE): _epilogue,
}


def fits(first: Cluster, second: Cluster, edges: Sequence[Edge], context: Context) -> bool:
    """Whether a region and one that reads it along these edges can be one kernel, its operands and cycles aside."""
    named = context.loops.match(edges, first.frames | second.frames)
    if named is None:
        return False
    return _RULES[first.kind, second.kind](Junction(first, second, edges, named, context))
