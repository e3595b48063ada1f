"""Regions around a matrix product or a convolution, and these alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from asgfn.graph.asg import Asg
from asgfn.graph.edit import GraphBuilder, extract, prune
from backends.kernels.autotune import Problem, choose
from backends.kernels.lowering import (
    Argument,
    Plan,
    Stage,
    constants_of,
    lower_region,
    plan_for_kind,
    plan_for_primitive,
)
from backends.kernels.schedules.contraction_direct import direct, skinny, sum_parts
from backends.kernels.schedules.contraction_region import CONTRACTIONS, Region, partial_sums
from backends.kernels.schedules.matmul import matmul
from backends.kernels.schedules.tiles import Direct, Schedule, Skinny, Tile
from backends.kernels.target import Target


@plan_for_kind("contraction")
@plan_for_primitive(*CONTRACTIONS)
def plan(asg: Asg, target: Target) -> Plan | None:
    """The contraction with its prologues and epilogue; the epilogue apart if it needs elements at other places."""
    if sum(node.primitive.name in CONTRACTIONS for node in asg.nodes) != 1:
        return None
    if not all(target.types.holds(t.dtype) for t in asg.value_types) or not all(t.size for t in asg.value_types):
        return None
    region = Region(asg, target.types)
    if not region.is_aligned:
        return _in_two(asg, region, target)
    problem = problem_of(region)
    schedule = choose(problem, target, target.measured.get(problem.key()))
    found = scheduled(region, schedule, target)
    if (
        not isinstance(schedule, Direct)
        and schedule.split > 1
        and any(len(s.arguments) > target.buffers for s in found.stages)
    ):
        found = scheduled(region, replace(schedule, split=1), target)
    return found


def problem_of(region: Region) -> Problem:
    """What a schedule is chosen by."""
    p = region.product
    rows, columns = (region.neighbours(side)[0] for side in (p.rows, p.columns))
    return Problem(p.b, p.m, p.n, p.k, p.dtype.name, rows, columns, region.node.primitive.name)


def scheduled(region: Region, schedule: Schedule, target: Target) -> Plan:
    """The plan of an aligned region with this schedule."""
    name = region.asg.name or region.node.primitive.name
    constants = constants_of(region.asg, target)
    if isinstance(schedule, Tile):
        stage = matmul(region, schedule, target, name)
    elif isinstance(schedule, Skinny):
        stage = skinny(region, schedule, target, name)
    else:
        return Plan((direct(region, schedule, target, name),), constants)
    if schedule.split == 1:
        return Plan((stage,), constants)
    rest = sum_parts(region, schedule.split, target, f"{name} sum of parts")
    return Plan((stage, rest), constants, temporaries=(partial_sums(region, schedule.split),))


def _in_two(asg: Asg, region: Region, target: Target) -> Plan | None:
    """The contraction alone, and a kernel of what follows."""
    value, t = region.value, region.value_types[region.value]
    first = plan(extract(asg, [value]), target)
    rest = lower_region(_rest(asg, value), "elementwise", target)
    if first is None or rest is None:
        return None
    product = Argument("temporary", len(first.temporaries) + len(rest.temporaries))
    moved = {
        **{Argument("constant", k): Argument("constant", k + len(first.constants)) for k in range(len(rest.constants))},
        **{
            Argument("temporary", k): Argument("temporary", k + len(first.temporaries))
            for k in range(len(rest.temporaries))
        },
        Argument("input", len(asg.inputs)): product,
    }
    return Plan(
        (*_renamed(first.stages, {Argument("output", 0): product}), *_renamed(rest.stages, moved)),
        (*first.constants, *rest.constants),
        (*first.temporaries, *rest.temporaries, (target.types.storage(t.dtype), t.size)),
    )


def _rest(asg: Asg, value: int) -> Asg:
    """What follows the contraction, whose result is one more input."""
    n = len(asg.inputs)
    builder = GraphBuilder([*asg.inputs, asg.value_types[value]], asg.constants, asg.constant_types)
    new = {i: i for i in range(n)} | {n + k: n + 1 + k for k in range(len(asg.constants))}
    for node, first in zip(asg.nodes, asg.first_outputs, strict=True):
        if first == value:
            new[value] = n
            continue
        for k, made in enumerate(builder.add(node, [new[i] for i in node.inputs])):
            new[first + k] = made
    return prune(builder.build([new[i] for i in asg.outputs], name=asg.name), effects=False)


def _renamed(stages: tuple[Stage, ...], moved: Mapping[Argument, Argument]) -> list[Stage]:
    return [Stage(s.kernel, tuple(moved.get(a, a) for a in s.arguments)) for s in stages]
