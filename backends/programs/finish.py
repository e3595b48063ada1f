"""The last steps of compiling: which memories are one, and how large they are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from asgfn.backend import get_backend
from asgfn.graph.asg import Asg
from asgfn.records import replace
from asgfn.transforms.fuse import fuse_graph
from asgfn.transforms.region_roles import LOAD_COST
from asgfn.transforms.region_rules import FusionLimits
from asgfn.transforms.simplify import simplify
from backends.numpy.program import fold
from backends.programs.compiler import Compiler, Planner, cached_plan
from backends.programs.control import CONTROL
from backends.programs.finished import Finished
from backends.programs.machine import Machine
from backends.programs.prepare import with_late_updates, without_small_branches
from backends.programs.sharing import join_copies, join_donated, share_temporaries
from backends.programs.steps import (
    INPUT,
    OUTPUT,
    TEMPORARY,
    Branch,
    Commands,
    Dispatch,
    Download,
    Loop,
    Storage,
    Upload,
    While,
    dispatches,
    is_on_device,
    walk,
)  # fmt: skip

# of a storage that is a result of the program
FOREVER = 1 << 60


def partitioned(asg: Asg, machine: Machine, donated: Sequence[bool]) -> Asg:
    """The graph whose nodes become kernels."""
    get_backend("numpy")  # computes what is constant
    graph = without_small_branches(simplify(asg, fold))
    # one is left for what a kernel may need besides (partial results)
    limits = FusionLimits(max_operands=machine.target.buffers - 1)
    if machine.target.simd:  # a kernel is a call of a function
        limits = replace(limits, max_scalar=LOAD_COST)
    return with_late_updates(fuse_graph(machine.recognise(simplify(graph, fold), machine.target), limits), donated)


def finish(
    graph: Asg, machine: Machine, donated: Sequence[bool], debug: bool = False, plan_of: Planner = cached_plan
) -> Finished:
    """The program of a partitioned graph, given how to get the plans of its nodes."""
    c = Compiler(machine, CONTROL, debug, plan_of)
    inputs = [c.input(k, t) for k, t in enumerate(graph.inputs)]
    where: list[Storage | int] = [v.storage if v.storage is not None else v.slot for v in inputs]  # type: ignore[misc]
    outs = c.graph(graph, inputs)
    outputs: list[Storage | int] = [c.slot(v) if v.is_empty or not c.holds(v.aval) else c.storage(v) for v in outs]
    for storage in outputs:
        if isinstance(storage, Storage):
            c.touch(storage)
            storage.root.last = FOREVER
    join_copies(c.steps, donated)
    for storage in outputs:
        if isinstance(storage, Storage) and storage.root.kind == TEMPORARY:
            storage.root.kind = OUTPUT
    join_donated(c.steps, [s if isinstance(s, Storage) else None for s in where], donated)
    steps = _without_copies(c.steps)
    constants = _constants(c)
    kernels = list(dispatches(steps))
    for dispatch in kernels:
        _finish(dispatch)
        machine.write(dispatch)
    used = {s.root for d in kernels for s in d.storages}
    used |= {s.storage.root for s in walk(steps) if isinstance(s, (Upload, Download))}
    used |= {x.root for s in walk(steps) if isinstance(s, (Loop, While)) for pair in s.swaps for x in pair}
    used |= {s.where.root for s in walk(steps) if isinstance(s, (Branch, While)) and s.where is not None}
    overwritten = {
        s.root.number for d in kernels for s, w in zip(d.storages, d.written, strict=True) if w and s.root.kind == INPUT
    }
    return Finished(
        steps=_grouped(steps),
        inputs=where,
        outputs=outputs,
        in_types=graph.inputs,
        out_types=graph.out_types,
        new=list(dict.fromkeys(s.root for s in outputs if isinstance(s, Storage) and s.root.kind == OUTPUT)),
        overwritten=frozenset(overwritten),
        temporaries=share_temporaries([s for s in used if s.kind == TEMPORARY]),
        constants=constants,
        slots=c.slots,
        fixed=c.fixed,
        kernels=kernels,
    )


def _constants(c: Compiler) -> dict[int, np.ndarray]:
    """The constants that are used, by number; the tables of guards are among them."""
    for guard in c.guards:
        guard.table.number = len(c.constants)
        c.constants.append(np.array(guard.entries or [(0, 0, 0, 0)], np.uint32))
    used = {d.root.number for s in dispatches(c.steps) for d in s.storages if d.root.kind == "constant"}
    used |= {s.root.number for s in c.storages if s.root.kind == "constant" and s.root.last >= FOREVER}
    asked = [s.where.root for s in walk(c.steps) if isinstance(s, (Branch, While)) and s.where is not None]
    used |= {s.number for s in asked if s.kind == "constant"}
    return {k: c.constants[k] for k in sorted(used)}


def _without_copies(steps: Sequence[Any]) -> list[Any]:
    """Without copies of memories to themselves."""
    kept = []
    for step in steps:
        if isinstance(step, Dispatch) and step.is_copy and step.storages[0].root is step.storages[1].root:
            if not step.rows:
                continue
        elif isinstance(step, Loop):
            step.body = _without_copies(step.body)
        elif isinstance(step, Branch):
            step.lists = [_without_copies(steps) for steps in step.lists]
        elif isinstance(step, While):
            step.test, step.body = _without_copies(step.test), _without_copies(step.body)
        kept.append(step)
    return kept


def _finish(dispatch: Dispatch) -> None:
    """What can be said of a dispatch only now: which of its memories are one."""
    roots = [s.root for s in dispatch.storages]
    dispatch.merged = {read: written for read, written in dispatch.in_place if roots[read] is roots[written]}
    written = {id(r) for r, w in zip(roots, dispatch.written, strict=True) if w}
    assert all(w or k in dispatch.merged or id(roots[k]) not in written for k, w in enumerate(dispatch.written))


def _grouped(steps: Sequence[Any]) -> list[Any]:
    """Steps on the device that follow each other as one, in the lists that the host runs."""
    grouped: list[Any] = []
    for step in steps:
        if is_on_device([step]):
            if grouped and isinstance(grouped[-1], Commands):
                grouped[-1].steps.append(step)
            else:
                grouped.append(Commands([step]))
            continue
        if isinstance(step, Loop):
            step.body = _grouped(step.body)
        elif isinstance(step, Branch):
            step.lists = [_grouped(steps) for steps in step.lists]
        elif isinstance(step, While):
            step.first, step.test, step.body, step.settle = (
                _grouped(x) for x in (step.first, step.test, step.body, step.settle)
            )
        grouped.append(step)
    return grouped
