"""How the threads of a reduction kernel share its loops: chosen by the loops' lengths, and by where neighbours are in memory."""

from __future__ import annotations

from asgfn.records import record, replace
from backends.kernels.loops import Loops, Reduction, RegionLoops
from backends.kernels.schedules.assembly import WIDE
from backends.kernels.schedules.rows_order import Order
from backends.kernels.target import Target

THREADS = 256
MOST_THREADS = 1024
# elements of a row that a thread goes through: wanted, and held in registers at most
ELEMENTS = 16
HELD = 32
# operations that are written out when loops are unrolled
CODE = 4096
# as many threads keep a large device busy
BUSY = 1 << 16
# as many workgroups do, each with a long way to go
GROUPS = 128
# as many keep the cores of a processor busy
SIMD_GROUPS = 16


@record
class Pass:
    """Reductions that go through the same elements at the same time.

    Attributes:
        depth: of the reductions; they depend only on those of smaller depth.
        kept: loops that stay.
        inner: loops that are reduced, the outermost first.
    """

    depth: int
    kept: frozenset[int]
    inner: Loops
    reductions: tuple[Reduction, ...]


@record
class Shape:
    """The arrangement of a kernel.

    Attributes:
        rows: loops of the rows, the outermost first.
        threads, lanes, slots, adjacent: see `Team`.
        row_lanes: how many neighbouring rows each thread computes at the same time: 1 or 4.
        parts: into how many pieces the reduced loops are cut, for workgroups of their own.
        unrolled: sets of inner loops whose elements are computed once for all passes, and held in registers.
    """

    rows: Loops
    threads: int
    lanes: int
    slots: int
    adjacent: bool
    row_lanes: int = 1
    parts: int = 1
    unrolled: frozenset[frozenset[int]] = frozenset()


def find_passes(loops: RegionLoops, order: Order) -> tuple[Pass, ...]:
    """The passes of a region, in an order in which they can run."""
    together: dict[tuple, list[Reduction]] = {}
    for r in loops.reductions:
        kept = frozenset(r.result.loops)
        together.setdefault((r.depth, kept, frozenset(r.operand.loops) - kept), []).append(r)
    passes = [
        Pass(depth, kept, order.sorted(inner), tuple(reductions))
        for (depth, kept, inner), reductions in together.items()
    ]
    return tuple(sorted(passes, key=lambda p: p.depth))


def inner_sets(loops: RegionLoops) -> list[frozenset[int]]:
    """The sets of loops, besides the rows', of all passes and of all results."""
    nests = [r.operand.loops for r in loops.reductions] + [o.loops for o in loops.outputs]
    return list(dict.fromkeys(frozenset(nest) - loops.rows for nest in nests))


def width(loops: RegionLoops, order: Order, inner: Loops, adjacent: bool) -> int:
    """How many neighbouring elements of a row a thread takes at once."""
    if not adjacent or not inner or inner[-1] not in order.contiguous or loops.lengths[inner[-1]] % order.wide:
        return 1
    return order.wide


def choose_shape(loops: RegionLoops, order: Order, target: Target, threads: int | None = None) -> Shape:
    """An arrangement for a region with reductions; `threads` if the workgroups have to have so many."""
    most = power_of_two(min(target.workgroup_threads, MOST_THREADS))
    base = target.simd or threads or min(THREADS, most)
    rows = order.sorted(loops.rows)
    count = loops.steps(rows)
    sets = inner_sets(loops)
    nested = any(frozenset(r.result.loops) != loops.rows for r in loops.reductions)
    if nested:
        return Shape(rows, base, base, 1, True)
    inner = order.sorted(max(sets, key=loops.steps))
    everything = order.sorted([*rows, *inner])
    if count > 1 and inner and everything[-1] in rows and everything[-1] in order.contiguous:
        if target.simd:
            return _simd_across(count, rows, target.simd)
        shape = _across(loops, rows, count, loops.steps(inner), base)
    elif target.simd:
        return Shape(rows, target.simd, target.simd, 1, True)
    else:
        shape = _along(loops, order, rows, count, inner, base, most if threads is None else base)
    return replace(shape, unrolled=_unrolled(loops, order, shape, sets))


def _simd_across(count: int, rows: Loops, lanes: int) -> Shape:
    """A lane for each of neighbouring rows; several vectors of them at a time, to use what a line of the cache brings."""
    row_lanes = next((n for n in (8, 4, 2) if count % (n * lanes) == 0 and count >= 4 * n * lanes), 1)
    return Shape(rows, lanes, 1, lanes, False, row_lanes)


def _along(loops: RegionLoops, order: Order, rows: Loops, count: int, inner: Loops, base: int, most: int) -> Shape:
    """Neighbouring threads in the same row."""
    v = width(loops, order, inner, True)
    steps = loops.steps(inner) // v
    lanes = min(power_above(-(-steps * v // ELEMENTS)), base)
    while lanes < base and lanes < steps and count * lanes < BUSY:
        lanes *= 2
    threads = base
    while lanes == threads < most and steps * v > threads * HELD:
        threads = lanes = 2 * threads
    return Shape(rows, threads, lanes, threads // lanes, True)


def _across(loops: RegionLoops, rows: Loops, count: int, steps: int, threads: int) -> Shape:
    """Neighbouring threads in neighbouring rows."""
    row_lanes = WIDE if loops.lengths[rows[-1]] % WIDE == 0 and count >= 64 * WIDE else 1
    count //= row_lanes
    least = min(threads, 32 // row_lanes)  # neighbours that read 128 bytes
    slots = max(least, threads // power_above(-(-steps // ELEMENTS)))
    while slots > least and -(-count // slots) < GROUPS and threads // slots < steps:
        slots //= 2
    slots = min(slots, count)
    return Shape(rows, threads, min(threads // slots, steps), slots, False, row_lanes)


def _unrolled(loops: RegionLoops, order: Order, shape: Shape, sets: list[frozenset[int]]) -> frozenset[frozenset[int]]:
    """What is computed once and kept in registers, as long as there are enough of these."""
    chosen = []
    for inner in sets:
        if not inner:
            continue
        v = width(loops, order, order.sorted(inner), shape.adjacent)
        held = -(-loops.steps(inner) // (v * shape.lanes)) * v * shape.row_lanes
        users = len({r.depth for r in loops.reductions if frozenset(r.operand.loops) - loops.rows == inner})
        users += any(frozenset(o.loops) - loops.rows == inner for o in loops.outputs)
        if held * order.operations <= CODE and held <= (HELD if users > 1 else ELEMENTS):
            chosen.append(inner)
    return frozenset(chosen)


def elements_a_thread(loops: RegionLoops, shape: Shape) -> int:
    """How many elements of a row a thread goes through in the longest pass."""
    return max(-(-loops.steps(inner) // shape.lanes) for inner in inner_sets(loops))


def groups_of(loops: RegionLoops, shape: Shape) -> int:
    """Workgroups that go through the rows."""
    return -(-(loops.steps(shape.rows) // shape.row_lanes) // shape.slots)


def power_of_two(n: int) -> int:
    """The largest power of two that is not above n."""
    return 1 << (n.bit_length() - 1)


def power_above(n: int) -> int:
    """The smallest power of two that is not below n."""
    return 1 << (max(n, 1) - 1).bit_length()
