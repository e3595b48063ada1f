"""Compiling a program for the host's processor."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

from asgfn.graph.asg import Asg
from backends.cpu.target import Begin, host_target
from backends.cpu.tiers import is_quick_at_first
from backends.kernels.ir import SIZES, Kernel
from backends.kernels.recognition import recognise
from backends.llvm.host import vector_bits
from backends.llvm.library import called_by, product_shape
from backends.llvm.printer import print_kernel
from backends.llvm.strips import strips_of
from backends.programs.finish import finish, partitioned
from backends.programs.finished import Finished
from backends.programs.machine import Machine
from backends.programs.steps import Dispatch


class Code(NamedTuple):
    """A kernel's function.

    Attributes:
        name: depends on what it does, and on nothing else.
        text: LLVM IR, with what it calls declared.
        scratch: bytes that it needs besides.
    """

    name: str
    text: str
    scratch: int


@lru_cache(maxsize=4096)
def code_of(kernel: Kernel, bits: int) -> Code:
    """The code of a kernel; layers of a network share it."""
    printed = print_kernel(kernel, "kernel", bits)
    declared = set(printed.declared)
    if any("@gemm" in line for line in declared):
        declared |= {f"declare void @{name}()" for name in strips_of(kernel, product_shape)}
    text = "".join(sorted([line + "\n" for line in declared])) + printed.text
    name = "k" + hashlib.blake2b(text.encode(), digest_size=10).hexdigest()
    return Code(name, text.replace("@kernel(", f"@{name}("), printed.scratch)


def _write(dispatch: Dispatch) -> None:
    if dispatch.kernel is not None:
        code = code_of(dispatch.kernel, vector_bits())
        dispatch.text, dispatch.scratch = code.text, code.scratch
        memories = dispatch.kernel.memories
        dispatch.row_bytes = {k: n * SIZES[memories[k].dtype] for k, n in dispatch.rows.items()}


def machine(begin: Begin) -> Machine:
    """The host's processor, as programs are compiled for it."""

    begun: dict[str, bool] = {}  # whether quickly; layers of a network have the same kernels

    def begin_kernel(kernel: Kernel, sizes: Sequence[int], repeated: bool) -> None:
        code = code_of(kernel, vector_bits())
        quick = is_quick_at_first(kernel, sizes, repeated)
        if code.name not in begun or (begun[code.name] and not quick):
            begun[code.name] = quick
            begin({code.name: code.text}, quick)
            begin(called_by([code.text], complete=False))

    return Machine("the compiled CPU", host_target(), _write, recognise=recognise, begin=begin_kernel)


def compile_graph(asg: Asg, donated: Sequence[bool], debug: bool, begin: Begin) -> Finished:
    """Compiles a program.

    Arguments:
        donated: which arguments it may overwrite; () if none.
        debug: whether results are checked.
        begin: is told of functions that the program will need, by name, as soon as they are known.
    """
    donated = [*donated] or [False] * len(asg.inputs)
    here = machine(begin)
    return finish(partitioned(asg, here, donated), here, donated, debug)
