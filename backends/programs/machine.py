"""What programs are compiled for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from asgfn.graph.asg import Asg
from asgfn.records import record
from backends.kernels.ir import Kernel
from backends.kernels.target import Target


def _not_in_parts(compiler: Any, node: Any, ins: Any) -> None:
    """No node is computed in parts."""


def _nothing(kernel: Kernel, sizes: Sequence[int], repeated: bool) -> None:
    """Nothing is begun before it is written."""


def _as_it_is(asg: Asg, target: Target) -> Asg:
    return asg


@record
class Machine:
    """A kind of device, and what of compiling is special to it.

    Attributes:
        what: what users call it, in messages.
        target: its limits.
        write: writes the code of a finished dispatch, if it is not compiled later.
        in_parts: what compiles nodes with larger arrays than a kernel can see.
        recognise: replaces what it has special kernels for, before a graph is partitioned.
        guards: the sources of kernels that decide which others run (see `backends.wgpu.guards`), for a device that is
            told beforehand what to do. None: whoever runs the program reads conditions itself.
        begin: is told of each kernel as soon as it is known, before its place in the program is; of the bytes of its
            memories, and whether it is in a loop.
    """

    what: str
    target: Target
    write: Callable[[Any], None]
    in_parts: Callable[[Any, Any, Any], Any] = _not_in_parts
    recognise: Callable[[Asg, Target], Asg] = _as_it_is
    guards: Any = None
    begin: Callable[[Kernel, Sequence[int], bool], None] = _nothing
