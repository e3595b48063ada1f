"""Regions that do not depend on each other, in one kernel: a range of workgroups for each."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from asgfn.graph.asg import Asg
from asgfn.transforms.fuse import unfuse
from backends.kernels.elements import supports
from backends.kernels.ir import Kernel
from backends.kernels.loops import find_loops
from backends.kernels.lowering import Argument, Plan, Stage, constants_of, lower_region, plan_for_kind
from backends.kernels.schedules.assembly import Bound, Part, assemble, bound
from backends.kernels.schedules.elementwise import THREADS, ElementwisePart
from backends.kernels.schedules.rows import rows_part
from backends.kernels.schedules.rows_cut import Collected, Piece, cut
from backends.kernels.schedules.rows_order import NotComputed
from backends.kernels.schedules.rows_parts import Halves
from backends.kernels.target import Target

# parts of which this is equal compute the same
_Same = tuple[Asg, str]


@plan_for_kind("group")
def plan(asg: Asg, target: Target) -> Plan | None:
    """As few kernels as the device's limits allow, and those of regions that take several; None if the host has to
    compute one of them."""
    if not all(supports(node.params["asg"], target.types) for node in asg.nodes):
        return None
    try:
        return _plan(asg, target, tries=False)
    except NotComputed:
        return _plan(asg, target, tries=True)


def _plan(asg: Asg, target: Target, tries: bool) -> Plan | None:
    """See `plan`.

    Arguments:
        tries: whether each part is written alone first, to find those that can't be.

    Raises:
        NotComputed: there is one, and it was not tried.
    """
    whole = Collected()
    results = {v: Argument("output", k) for k, v in enumerate(asg.outputs)}
    known: dict[_Same, Part | Halves | None] = {}
    first: list[tuple[_Same, Bound]] = []
    second: list[tuple[_Same, Bound]] = []  # what merges the partial results of long reductions
    for member in _members(asg):
        memories: dict[str, Sequence[Argument]] = {
            "input": [Argument("input", i) for i in member.reads],
            "output": [results[v] for v in member.makes],
        }
        same = member.asg, member.kind
        if same not in known:
            known[same] = part_of(member.asg, member.kind, target, tries)
        part = known[same]
        if part is None:
            alone = lower_region(member.asg, member.kind, target)
            if alone is None or not whole.add(alone, memories["input"], memories["output"]):
                return None
            continue
        constants = constants_of(member.asg, target)
        memories["constant"] = [Argument("constant", len(whole.constants) + k) for k in range(len(constants))]
        whole.constants += constants
        if isinstance(part, Halves):
            memories["temporary"] = [whole.temporary(*t) for t in part.temporaries]
            first.append((same, _moved(part.first, memories)))
            second.append((same, _moved(part.second, memories)))
        else:
            first.append((same, _moved(bound(part, target), memories)))
    for parts in (first, second):
        whole.stages += _stages(parts, target, asg.name)
    return whole.plan()


def _stages(parts: Sequence[tuple[_Same, Bound]], target: Target, name: str) -> list[Stage]:
    """The kernels of parts.

    On a processor no kernel does the same to several memories: it is as well called several times, for to start it costs next
    to nothing. So there is less to compile, where a network has many layers.
    """
    if not target.simd:
        return [stage for some in _packed([p for _, p in parts], target) for stage in _assembled(some, target, name)]
    rounds: list[dict[_Same, Bound]] = []
    for same, part in parts:
        free = next((r for r in rounds if same not in r), None)
        if free is None:
            rounds.append(free := {})
        free[same] = part
    stages: list[Stage] = []
    made: dict[object, list[tuple[Kernel, tuple[int, ...]]]] = {}  # with the numbers of the arguments
    for some in (some for r in rounds for some in _packed(list(r.values()), target)):
        numbers: dict[Argument, int] = {}
        key = tuple((id(p.part), tuple(numbers.setdefault(a, len(numbers)) for a in _arguments(p))) for p in some)
        if key not in made:
            made[key] = [(s.kernel, tuple(numbers[a] for a in s.arguments)) for s in _assembled(some, target, name)]
        arguments = list(numbers)
        stages += [Stage(kernel, tuple(arguments[k] for k in places)) for kernel, places in made[key]]
    return stages


def _arguments(part: Bound) -> list[Argument]:
    """The memories of a part."""
    between = [a for a, _, _ in part.extra]
    return [a for a in (*part.inputs, *part.constants, *part.outputs, *between) if a is not None]


def _moved(part: Bound, memories: Mapping[str, Sequence[Argument]]) -> Bound:
    """A part that is called with these memories instead of those of a plan of its own."""

    def move(a: Argument) -> Argument:
        return memories[a.kind][a.number]

    return part._replace(
        inputs=tuple(map(move, part.inputs)),
        constants=tuple(None if a is None else move(a) for a in part.constants),
        outputs=tuple(map(move, part.outputs)),
        extra=tuple((move(a), dtype, size) for a, dtype, size in part.extra),
    )


def _members(asg: Asg) -> Iterator[Piece]:
    """The regions of a group; those that reduce the same array along the same axes as one, so that it is read once."""
    pieces = []
    for node, first in zip(asg.nodes, asg.first_outputs, strict=True):
        makes = tuple(range(first, first + len(node.out_types)))
        pieces.append(Piece(node.params["asg"], node.params["kind"], node.inputs, makes))
    same: dict[object, list[Piece]] = {}
    for k, piece in enumerate(pieces):
        largest = max(piece.reads, key=lambda i: asg.inputs[i].size, default=None)
        key = (largest, piece.kind) if piece.kind == "reduction" and largest is not None else k
        same.setdefault(key, []).append(piece)
    for together in same.values():
        joined = _joined(asg, together) if len(together) > 1 else None
        yield from together if joined is None else (joined,)


def _joined(asg: Asg, pieces: Sequence[Piece]) -> Piece | None:
    """Reduction regions as one, if they keep the same rows."""
    makes = tuple(v for piece in pieces for v in piece.makes)
    whole = cut(asg, makes, ())
    body = unfuse(whole.asg)
    if find_loops(body) is None:
        return None
    return Piece(body, "reduction", whole.reads, makes)


def part_of(asg: Asg, kind: str, target: Target, tries: bool) -> Part | Halves | None:
    """A region as some workgroups of a kernel, or of two; None if it takes more kernels, which is certain if it `tries`."""
    threads = target.threads(THREADS)
    if kind == "elementwise":
        return ElementwisePart(asg, target)
    if kind != "reduction" or threads not in (THREADS, target.simd):
        return None
    try:
        part = rows_part(asg, target, threads)
        if part is not None:
            alone = (part.first, part.second) if isinstance(part, Halves) else (bound(part, target),)
            if tries or any(len(set(_arguments(some))) > target.buffers for some in alone):
                # whether it can be written is known once it was
                stages = [assemble([some], target, asg.name) for some in alone]
                if any(len(stage.arguments) > target.buffers for stage in stages):
                    return None
    except NotComputed:
        return None
    return part


def _packed(parts: Sequence[Bound], target: Target) -> Iterator[list[Bound]]:
    """Parts that one kernel may be called with the memories of."""
    some: list[Bound] = []
    memories: set[Argument] = set()
    for part in parts:
        mine = set(_arguments(part))
        if some and len(memories | mine) > target.buffers:
            yield some
            some, memories = [], set()
        some.append(part)
        memories |= mine
    if some:
        yield some


def _assembled(parts: list[Bound], target: Target, name: str) -> list[Stage]:
    """The kernel of some parts, or several if their memories of a workgroup are too large for one."""
    stage = assemble(parts, target, name)
    if len(parts) > 1 and sum(m.size * 4 for m in stage.kernel.shared) > target.workgroup_bytes:
        half = len(parts) // 2
        return _assembled(parts[:half], target, name) + _assembled(parts[half:], target, name)
    return [stage]
