"""The last steps of compiling: which memories are one, how large they are, and the WGSL of each kernel."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from asgfn.backend import get_backend
from asgfn.graph.asg import Asg
from asgfn.graph.types import ArrayType
from asgfn.transforms.fuse import fuse_graph
from asgfn.transforms.region_rules import FusionLimits
from asgfn.transforms.simplify import simplify
from backends.kernels.attention_match import recognise
from backends.kernels.target import Target
from backends.numpy.program import fold
from backends.wgpu.compiler import Compiler, Planner, cached_plan
from backends.wgpu.control import CONTROL
from backends.wgpu.device import Kernel
from backends.wgpu.early import source_of, write_early
from backends.wgpu.memory import ALIGNMENT
from backends.wgpu.parts import in_parts
from backends.wgpu.prepare import with_late_updates, without_small_branches
from backends.wgpu.sharing import join_copies, join_donated, share_temporaries
from backends.wgpu.steps import (
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


class Finished(NamedTuple):
    """A program, ready to be bound to memory.

    Attributes:
        steps: what it does.
        inputs: for each argument its memory, or the slot of its host array.
        outputs: for each result its memory, or the slot of its host array.
        in_types, out_types: types of the arguments and of the results.
        new: storages of results that need memory of their own in each call.
        overwritten: numbers of the donated inputs that are written to.
        temporaries: sizes of the memories that only live inside.
        constants: arrays in the device's representation.
        slots: how many host arrays there are; fixed: those that never change.
        kernels: all dispatches, in order.
    """

    steps: list[Any]
    inputs: list[Storage | int]
    outputs: list[Storage | int]
    in_types: tuple[ArrayType, ...]
    out_types: tuple[ArrayType, ...]
    new: list[Storage]
    overwritten: frozenset[int]
    temporaries: list[int]
    constants: dict[int, np.ndarray]
    slots: int
    fixed: dict[int, np.ndarray]
    kernels: list[Dispatch]


def compile_graph(
    asg: Asg,
    target: Target,
    donated: Sequence[bool],
    debug: bool,
    expect: Callable[[Kernel], None] | None = None,
    tune: Callable[[Asg], None] | None = None,
) -> Finished:
    """Compiles a program for a kind of device.

    Arguments:
        donated: which arguments it may overwrite; () if none.
        debug: whether results are checked.
        expect: is told of kernels that the program will probably have, as early as possible.
        tune: is given the partitioned graph, and may measure how its kernels are best written.
    """
    donated = [*donated] or [False] * len(asg.inputs)
    graph = partitioned(asg, target, donated)
    if tune is not None:
        tune(graph)
    if expect is not None and not debug:
        write_early(graph, target, donated, frozenset(CONTROL), expect)
    return finish(graph, target, donated, debug)


def partitioned(asg: Asg, target: Target, donated: Sequence[bool]) -> Asg:
    """The graph whose nodes become kernels."""
    get_backend("numpy")  # computes what is constant
    graph = without_small_branches(simplify(asg, fold))
    # one is left for what a kernel may need besides (partial results)
    limits = FusionLimits(max_operands=target.buffers - 1)
    return with_late_updates(fuse_graph(recognise(simplify(graph, fold), target), limits), donated)


def finish(
    graph: Asg, target: Target, donated: Sequence[bool], debug: bool = False, plan_of: Planner = cached_plan
) -> Finished:
    """The program of a partitioned graph, given how to get the plans of its nodes."""
    c = Compiler(target, CONTROL, in_parts, debug, plan_of)
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
    used = {s.root for d in kernels for s in d.storages}
    used |= {s.storage.root for s in walk(steps) if isinstance(s, (Upload, Download))}
    used |= {x.root for s in walk(steps) if isinstance(s, (Loop, While)) for pair in s.swaps for x in pair}
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
    """What can be said of a dispatch only now: which of its memories are one, and its WGSL."""
    roots = [s.root for s in dispatch.storages]
    dispatch.merged = {read: written for read, written in dispatch.in_place if roots[read] is roots[written]}
    written = {id(r) for r, w in zip(roots, dispatch.written, strict=True) if w}
    assert all(w or k in dispatch.merged or id(roots[k]) not in written for k, w in enumerate(dispatch.written))
    if dispatch.make_source is not None:
        dispatch.sizes = [s.nbytes for s in dispatch.storages]
        dispatch.text = dispatch.make_source()
    else:
        assert dispatch.kernel is not None
        dispatch.text = source_of(dispatch.kernel, tuple(dispatch.rows.items()), tuple(dispatch.merged.items()))
    assert all(size % ALIGNMENT == 0 for size in dispatch.sizes)


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
