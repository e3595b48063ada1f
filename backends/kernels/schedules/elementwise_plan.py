"""Element-wise regions, and everything that has no better plan."""

from __future__ import annotations

from asgfn.graph.asg import Asg
from backends.kernels.lowering import Plan, constants_of, plan_for_kind
from backends.kernels.schedules.elementwise import elementwise
from backends.kernels.target import Target


@plan_for_kind("elementwise")
def plan(asg: Asg, target: Target) -> Plan | None:
    """One kernel that computes all results element by element."""
    return Plan((elementwise(asg, target),), constants_of(asg, target))
