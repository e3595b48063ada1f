"""Compiling a program for the host's processor."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

from asgfn.graph.asg import Asg
from backends.cpu.target import host_target
from backends.kernels.ir import SIZES, Kernel
from backends.llvm.host import vector_bits
from backends.llvm.library import product_shape
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
    strips = {f"declare void @{name}()" for name in strips_of(kernel, lambda dtype: product_shape(dtype).mr)}
    text = "".join(sorted(line + "\n" for line in printed.declared | strips)) + printed.text
    name = "k" + hashlib.blake2b(text.encode(), digest_size=10).hexdigest()
    return Code(name, text.replace("@kernel(", f"@{name}("), printed.scratch)


def _write(dispatch: Dispatch) -> None:
    if dispatch.kernel is not None:
        code = code_of(dispatch.kernel, vector_bits())
        dispatch.text, dispatch.scratch = code.text, code.scratch
        memories = dispatch.kernel.memories
        dispatch.row_bytes = {k: n * SIZES[memories[k].dtype] for k, n in dispatch.rows.items()}


def machine() -> Machine:
    """The host's processor, as programs are compiled for it."""
    return Machine("the compiled CPU", host_target(), _write)


def compile_graph(asg: Asg, donated: Sequence[bool], debug: bool) -> Finished:
    """Compiles a program.

    Arguments:
        donated: which arguments it may overwrite; () if none.
        debug: whether results are checked.
    """
    donated = [*donated] or [False] * len(asg.inputs)
    here = machine()
    return finish(partitioned(asg, here, donated), here, donated, debug)
