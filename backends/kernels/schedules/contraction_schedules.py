"""Contractions on GPUs: by which of the schedules a region is computed, and its plan with one."""

from __future__ import annotations

from asgfn.records import replace
from backends.kernels.autotune import Problem, choose
from backends.kernels.ir import U32
from backends.kernels.lowering import Plan, constants_of
from backends.kernels.schedules.contraction_direct import direct, skinny, sum_parts
from backends.kernels.schedules.contraction_region import Region, partial_sums
from backends.kernels.schedules.matmul import matmul
from backends.kernels.schedules.matmul_tensor import matmul_tensor
from backends.kernels.schedules.tensor_maxima import groups_of, maxima
from backends.kernels.schedules.tensor_pieces import pieces_of
from backends.kernels.schedules.tiles import Direct, Schedule, Skinny, TensorTile, Tile
from backends.kernels.target import Target


def best(region: Region, target: Target) -> Plan:
    """The plan of an aligned region with the schedule that suits it."""
    problem = problem_of(region, target)
    schedule = choose(problem, target, target.measured.get(problem.key()))
    found = scheduled(region, schedule, target)
    if isinstance(schedule, TensorTile) and _has_too_many(found, target):
        schedule = choose(replace(problem, pieces=None), target)
        found = scheduled(region, schedule, target)
    if not isinstance(schedule, Direct) and schedule.split > 1 and _has_too_many(found, target):
        found = scheduled(region, replace(schedule, split=1), target)
    return found


def _has_too_many(found: Plan, target: Target) -> bool:
    """Whether a kernel is called with more memories than it may be."""
    return any(len(s.arguments) > target.buffers for s in found.stages)


def problem_of(region: Region, target: Target | None = None) -> Problem:
    """What a schedule is chosen by; on a target with tensor cores, whether they may be used, too."""
    p = region.product
    rows, columns = (region.neighbours(side)[0] for side in (p.rows, p.columns))
    pieces = None if target is None else pieces_of(region, target)
    return Problem(p.b, p.m, p.n, p.k, p.dtype.name, rows, columns, region.node.primitive.name, pieces)


def scheduled(region: Region, schedule: Schedule, target: Target) -> Plan:
    """The plan of an aligned region with this schedule."""
    name = region.asg.name or region.node.primitive.name
    constants = constants_of(region.asg, target)
    if isinstance(schedule, Tile):
        stage = matmul(region, schedule, target, name)
    elif isinstance(schedule, TensorTile):
        return _on_tensor_cores(region, schedule, target, name)
    elif isinstance(schedule, Skinny):
        stage = skinny(region, schedule, target, name)
    else:
        return Plan((direct(region, schedule, target, name),), constants)
    if schedule.split == 1:
        return Plan((stage,), constants)
    rest = sum_parts(region, schedule.split, target, f"{name} sum of parts")
    return Plan((stage, rest), constants, temporaries=(partial_sums(region, schedule.split),))


def _on_tensor_cores(region: Region, tile: TensorTile, target: Target, name: str) -> Plan:
    """The plan with a schedule for tensor cores: if need be, after a kernel that finds the operands' scales."""
    pieces = pieces_of(region, target)
    assert pieces is not None
    stages = [matmul_tensor(region, tile, pieces, target, name)]
    temporaries = [partial_sums(region, tile.split)] if tile.split > 1 else []
    if pieces.scaled:
        stages.insert(0, maxima(region, target, len(temporaries), f"{name} maxima"))
        temporaries.append((U32, sum(groups_of(region, target))))
    if tile.split > 1:
        stages.append(sum_parts(region, tile.split, target, f"{name} sum of parts"))
    return Plan(tuple(stages), constants_of(region.asg, target), temporaries=tuple(temporaries))
