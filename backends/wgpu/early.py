"""Starting on a program's kernels before the program is known.

Most of the time that compiling takes goes into writing kernels, in Python, and into the GPU's driver, which needs no Python.
So the driver gets each kernel as soon as it is written. One thing is only known when all are: which memories are one, and
so have one binding. What is usual is assumed; where that is wrong, the kernel is compiled once more.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache

from asgfn.graph.asg import Asg, Node
from backends.kernels import ir
from backends.kernels.in_place import in_place_pairs
from backends.kernels.lowering import Plan
from backends.kernels.target import Target
from backends.programs.compiler import UNPLANNED, cached_plan
from backends.wgpu.choice import chosen
from backends.wgpu.device import Kernel
from backends.wgpu.memory import storage_bytes
from backends.wgsl import source


@lru_cache(maxsize=4096)
def source_of(kernel: ir.Kernel, rows: tuple[tuple[int, int], ...], merged: tuple[tuple[int, int], ...]) -> str:
    """WGSL of a kernel; layers of a network share it."""
    return source(kernel, chosen().dialect, rows=dict(rows), merged=dict(merged))


def write_early(
    asg: Asg, target: Target, donated: Sequence[bool], skipped: frozenset[str], expect: Callable[[Kernel], None]
) -> None:
    """Plans the nodes of a fused graph, and hands over their kernels.

    Arguments:
        donated: which of its inputs may be overwritten.
        skipped: primitives that have no plan.
        expect: what is done with a kernel.
    """
    types, results = asg.value_types, set(asg.outputs)
    begun: set[tuple] = set()
    for index, node in enumerate(asg.nodes):
        in_types = [types[i] for i in node.inputs]
        every = (*in_types, *node.out_types)
        if node.primitive.name in skipped or node.primitive.name in UNPLANNED or node.primitive.effect:
            continue
        if not all(t.size and target.types.holds(t.dtype) for t in every):
            continue
        plan = cached_plan(node, in_types, target)
        if plan is None:
            continue
        for stage, merged in enumerate(_merged(asg, index, node, plan, target, donated, results)):
            key = (id(plan), stage, merged)
            if key not in begun:
                begun.add(key)
                kernel = plan.stages[stage].kernel
                gone = {read for read, _ in merged}
                written = tuple(m.written for k, m in enumerate(kernel.memories) if k not in gone)
                if len(kernel.memories) <= target.buffers:
                    expect(Kernel(source_of(kernel, (), merged), written))


def _merged(
    asg: Asg, index: int, node: Node, plan: Plan, target: Target, donated: Sequence[bool], results: set[int]
) -> list[tuple[tuple[int, int], ...]]:
    """For each stage of a plan, the memories that are probably one: a donated argument, and the result that takes its place."""

    def gives_way(number: int) -> bool:
        value = node.inputs[number]
        return value < len(asg.inputs) and donated[value] and asg.users[value][-1] == index

    first, found = asg.first_outputs[index], []
    for stage in plan.stages:
        pairs = []
        taken: set[int] = set()
        for read, written in in_place_pairs(stage.kernel):
            a, b = stage.arguments[read], stage.arguments[written]
            if (a.kind, b.kind) != ("input", "output") or first + b.number not in results or not gives_way(a.number):
                continue
            sizes = {
                storage_bytes(t, target.types)
                for t in (asg.value_types[node.inputs[a.number]], node.out_types[b.number])
            }
            if len(sizes) == 1 and not {node.inputs[a.number], ~b.number} & taken:
                taken |= {node.inputs[a.number], ~b.number}
                pairs.append((read, written))
        found.append(tuple(pairs))
    return found
