"""Compiling a program for the host's processor."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

from asgfn.graph.asg import Asg
from backends.cpu.native import thread_count
from backends.kernels.attention_match import recognise
from backends.kernels.ir import SIZES, Kernel
from backends.kernels.target import Target
from backends.kernels.types import Types
from backends.llvm.host import host, vector_bits
from backends.llvm.library import product_shape
from backends.llvm.printer import print_kernel
from backends.programs import cache
from backends.programs.finish import Finished, finish, partitioned
from backends.programs.machine import Machine
from backends.programs.steps import Dispatch

# of a workgroup, in the memory of a thread
_SHARED = 1 << 20


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
    text = "".join(sorted(line + "\n" for line in printed.declared)) + printed.text
    name = "k" + hashlib.blake2b(text.encode(), digest_size=10).hexdigest()
    return Code(name, text.replace("@kernel(", f"@{name}("), printed.scratch)


@lru_cache(maxsize=1)
def host_target() -> Target:
    """The host's processor."""
    lanes, product = vector_bits() // 32, product_shape("f32")
    return Target(
        types=Types(narrow=True, wide=True, exact=True),
        workgroup_threads=lanes,
        workgroup_bytes=_SHARED,
        grid=(1 << 31) - 1,
        buffers=256,
        binding_bytes=(1 << 31) - 1,
        subgroup=(lanes, lanes),
        unit=1,
        simd=lanes,
        cores=thread_count(),
        product=(product.mr, product.nr),
    )


_DEFINED = re.compile(r"^define void @(\w+)\(", re.MULTILINE)


def _write(dispatch: Dispatch) -> None:
    if dispatch.kernel is not None:
        code = code_of(dispatch.kernel, vector_bits())
        dispatch.text, dispatch.scratch = code.text, code.scratch
        memories = dispatch.kernel.memories
        dispatch.row_bytes = {k: n * SIZES[memories[k].dtype] for k, n in dispatch.rows.items()}


def function_name(text: str) -> str:
    """The name of a kernel's function."""
    found = _DEFINED.search(text)
    assert found is not None
    return found[1]


def machine() -> Machine:
    """The host's processor, as programs are compiled for it."""
    return Machine("the compiled CPU", host_target(), _write, recognise=recognise)


def compile_graph(asg: Asg, donated: Sequence[bool], debug: bool) -> Finished:
    """Compiles a program.

    Arguments:
        donated: which arguments it may overwrite; () if none.
        debug: whether results are checked.
    """
    donated = [*donated] or [False] * len(asg.inputs)
    here = machine()
    return finish(partitioned(asg, here, donated), here, donated, debug)


def compiled(asg: Asg, donated: Sequence[bool], debug: bool) -> Finished:
    """The program of a graph, from the disk if it is there. The arguments are those of `compile_graph`."""

    def compile_it() -> Finished:
        return compile_graph(asg, donated, debug)

    special = f"cpu {host().triple} {host().processor} {host().features}"
    return compile_it() if debug else cache.compiled(asg, host_target(), donated, compile_it, special)
