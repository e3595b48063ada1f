"""Regions cut into several that run one after another, and the plan of them all."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import NamedTuple

import numpy as np

from asgfn.graph.asg import Asg
from asgfn.graph.edit import GraphBuilder
from asgfn.transforms.fuse import fuse_graph
from backends.kernels.elements import REDUCTIONS
from backends.kernels.loops import RegionLoops
from backends.kernels.lowering import Argument, Plan, Stage, constants_of, lower, lower_region, single
from backends.kernels.target import Target

PRIMITIVE = "primitive"  # the kind of a piece that is one node


class Piece(NamedTuple):
    """A part of a graph: a graph of its own, what it reads of the whole one (for each input), and what it makes."""

    asg: Asg
    kind: str
    reads: tuple[int, ...]
    makes: tuple[int, ...]


def cut(asg: Asg, makes: Sequence[int], given: Collection[int], kind: str | None = None) -> Piece:
    """The part of a graph that computes some of its values, with others given. Scalar constants become its own."""
    given = set(given) - set(makes)
    body: set[int] = set()
    outside: dict[int, None] = {}
    stack = list(makes)
    while stack:
        value = stack.pop()
        maker = asg.producers[value]
        if value in given or maker < 0:
            outside[value] = None
        elif maker not in body:
            body.add(maker)
            stack += asg.nodes[maker].inputs
    n_in = len(asg.inputs)

    def is_literal(value: int) -> bool:
        return n_in <= value < n_in + len(asg.constants) and not asg.value_types[value].shape

    reads = sorted(v for v in outside if not is_literal(v))
    literals = sorted(v for v in outside if is_literal(v))
    types = asg.value_types
    builder = GraphBuilder(
        [types[v] for v in reads], [asg.constants[v - n_in] for v in literals], [types[v] for v in literals]
    )
    local = {v: k for k, v in enumerate((*reads, *literals))}
    for index in sorted(body):
        node, first = asg.nodes[index], asg.first_outputs[index]
        made = builder.add(node, [local[i] for i in node.inputs])
        for k, i in enumerate(made):
            local.setdefault(first + k, i)  # what is given stays given
    part = builder.build([local[v] for v in makes], name=asg.name)
    if kind is None:
        reduces = any(node.primitive.name in REDUCTIONS for node in part.nodes)
        kind = "reduction" if reduces else "elementwise"
    return Piece(part, kind, tuple(reads), tuple(makes))


def by_stage(loops: RegionLoops, stage: Callable[[int, int, int], int], apart: bool) -> list[Piece] | None:
    """A region cut between its reductions.

    Arguments:
        stage: the stage of a reduction, from that of one it depends on, and the numbers of both.
        apart: whether results that are not row by row are computed after all stages; else in that of what they need.

    Returns:
        the pieces, in an order in which they can run; None if there would be one only.
    """
    asg = loops.asg
    number = {r.result.value: k for k, r in enumerate(loops.reductions)}
    needs = _needs(asg, number)
    stages: list[int] = []
    for k, r in enumerate(loops.reductions):
        stages.append(max([stage(stages[d], d, k) for d in needs[r.operand.value]], default=0))
    last = max(stages) + 1
    where: list[int] = []
    for o in loops.outputs:
        of_rows = frozenset(o.loops) <= loops.rows
        where.append(last if apart and not of_rows else max([stages[d] for d in needs[o.value]], default=0))
    pieces = []
    given: set[int] = set()
    for s in range(last + 1):
        results = [o.value for o, at in zip(loops.outputs, where, strict=True) if at == s]
        mine = [r.result.value for r, at in zip(loops.reductions, stages, strict=True) if at == s]
        wanted = _wanted_later(loops, number, stages, where, s, needs)
        makes = list(dict.fromkeys([v for v in mine if v in wanted] + results))
        if not makes:
            continue
        pieces.append(cut(asg, makes, given))
        given |= set(mine) & wanted
    return pieces if len(pieces) > 1 else None


def _needs(asg: Asg, number: dict[int, int]) -> list[frozenset[int]]:
    """For each value the reductions that it depends on without another in between."""
    needs: list[frozenset[int]] = [frozenset()] * (len(asg.inputs) + len(asg.constants))
    for node, first in zip(asg.nodes, asg.first_outputs, strict=True):
        for k in range(len(node.out_types)):
            mine = number.get(first + k)
            needs.append(
                frozenset((mine,)) if mine is not None else frozenset().union(*[needs[i] for i in node.inputs])
            )
    return needs


def _wanted_later(
    loops: RegionLoops,
    number: dict[int, int],
    stages: Sequence[int],
    where: Sequence[int],
    s: int,
    needs: Sequence[frozenset[int]],
) -> set[int]:
    """Results of reductions up to a stage that later ones read."""
    found: set[int] = set()
    for r, at in zip(loops.reductions, stages, strict=True):
        if at > s:
            found |= needs[r.operand.value]
    for o, at in zip(loops.outputs, where, strict=True):
        if at > s and o.value not in number:
            found |= needs[o.value]
    return {r.result.value for k, r in enumerate(loops.reductions) if k in found and stages[k] <= s}


def by_fusion(asg: Asg) -> tuple[Asg, list[Piece]] | None:
    """A graph that is not one region, as the regions that it is; None if it is one operation."""
    fused = fuse_graph(asg)
    if len(fused.nodes) < 2:
        return None
    pieces = []
    types = fused.value_types
    for node, first in zip(fused.nodes, fused.first_outputs, strict=True):
        makes = tuple(range(first, first + len(node.out_types)))
        if node.primitive.name == "fused":
            pieces.append(Piece(node.params["asg"], node.params["kind"], node.inputs, makes))
        else:
            alone = single(node, [types[i] for i in node.inputs])
            pieces.append(Piece(alone, PRIMITIVE, node.inputs, makes))
    return fused, pieces


def by_result(asg: Asg) -> list[Piece]:
    """A region as one piece for each of its reductions, and one for each of its other results."""
    makes = [
        first for node, first in zip(asg.nodes, asg.first_outputs, strict=True) if node.primitive.name in REDUCTIONS
    ]
    reduced = frozenset(makes)
    makes += [v for v in dict.fromkeys(asg.outputs) if v not in reduced]
    return [cut(asg, [v], reduced) for v in makes]


def chain(asg: Asg, pieces: Sequence[Piece], target: Target) -> Plan | None:
    """The plan of the pieces of a graph; None if there is none of one of them."""
    place: dict[int, Argument] = {k: Argument("input", k) for k in range(len(asg.inputs))}
    whole = Collected(constants_of(asg, target))
    numbers = iter(range(len(asg.constants)))
    for k, t in enumerate(asg.constant_types):
        if t.shape:
            place[len(asg.inputs) + k] = Argument("constant", next(numbers))
    if len(set(asg.outputs)) < len(asg.outputs):
        return None
    results = {v: Argument("output", k) for k, v in enumerate(asg.outputs)}
    for piece in pieces:
        if any(v not in place for v in piece.reads):
            return None
        for v in piece.makes:
            t = asg.value_types[v]
            place[v] = results.get(v) or whole.temporary(target.types.storage(t.dtype), t.size)
        if piece.kind == PRIMITIVE:
            plan = lower(piece.asg.nodes[0], piece.asg.inputs, target)
        else:
            plan = lower_region(piece.asg, piece.kind, target)
        if plan is None or not whole.add(plan, [place[v] for v in piece.reads], [place[v] for v in piece.makes]):
            return None
    return whole.plan()


class Collected:
    """Plans one after another, as one."""

    def __init__(self, constants: Sequence[np.ndarray] = ()):
        self.stages: list[Stage] = []
        self.constants = list(constants)
        self.temporaries: list[tuple[str, int]] = []
        self.zeros: list[Argument] = []

    def temporary(self, dtype: str, size: int) -> Argument:
        """A new memory that lives during the plan."""
        self.temporaries.append((dtype, size))
        return Argument("temporary", len(self.temporaries) - 1)

    def add(self, plan: Plan, inputs: Sequence[Argument], outputs: Sequence[Argument]) -> bool:
        """Appends a plan whose inputs and outputs are these. Whether that can be done."""
        if plan.copies:
            return False
        first = len(self.constants)
        moved: dict[str, Sequence[Argument]] = {
            "input": inputs,
            "output": outputs,
            "constant": [Argument("constant", first + k) for k in range(len(plan.constants))],
            "temporary": [self.temporary(*t) for t in plan.temporaries],
        }
        self.constants += plan.constants
        self.zeros += [moved[a.kind][a.number] for a in plan.zeros]
        for stage in plan.stages:
            self.stages.append(Stage(stage.kernel, tuple(moved[a.kind][a.number] for a in stage.arguments)))
        return True

    def plan(self) -> Plan:
        """All of them."""
        return Plan(tuple(self.stages), tuple(self.constants), tuple(self.temporaries), zeros=tuple(self.zeros))
