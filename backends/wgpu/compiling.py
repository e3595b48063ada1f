"""Compiling a program for a GPU."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from asgfn.graph.asg import Asg
from backends.kernels.recognition import recognise
from backends.kernels.target import Target
from backends.programs import cache
from backends.programs.control import CONTROL
from backends.programs.finish import finish, partitioned
from backends.programs.finished import Finished
from backends.programs.machine import Machine
from backends.programs.steps import Dispatch
from backends.wgpu import guards
from backends.wgpu.choice import chosen
from backends.wgpu.device import Kernel
from backends.wgpu.early import source_of, write_early
from backends.wgpu.memory import ALIGNMENT
from backends.wgpu.parts import in_parts


def _write(dispatch: Dispatch) -> None:
    """Writes the WGSL of a dispatch."""
    if dispatch.make_source is not None:
        dispatch.sizes = [s.nbytes for s in dispatch.storages]
        dispatch.text = dispatch.make_source()
    else:
        assert dispatch.kernel is not None
        dispatch.text = source_of(dispatch.kernel, tuple(dispatch.rows.items()), tuple(dispatch.merged.items()))
    assert all(size % ALIGNMENT == 0 for size in dispatch.sizes)


def machine_of(target: Target) -> Machine:
    """A GPU with these limits, as programs are compiled for it."""
    return Machine("the GPU", target, _write, in_parts, recognise, guards)


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
    machine = machine_of(target)
    graph = partitioned(asg, machine, donated)
    if tune is not None:
        tune(graph)
    if expect is not None and not debug:
        write_early(graph, target, donated, frozenset(CONTROL), expect)
    return finish(graph, machine, donated, debug)


def compiled(
    asg: Asg,
    target: Target,
    donated: Sequence[bool],
    debug: bool,
    expect: Callable[[Kernel], None] | None = None,
    tune: Callable[[Asg], None] | None = None,
) -> Finished:
    """The program of a graph, from the disk if it is there. The arguments are those of `compile_graph`."""

    def compile_it() -> Finished:
        return compile_graph(asg, target, donated, debug, expect, tune)

    return compile_it() if debug else cache.compiled(asg, target, donated, compile_it, chosen().name, tune is not None)
