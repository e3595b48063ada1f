"""The host's processor, as programs are compiled for it, and those that were."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Protocol

from asgfn.graph.asg import Asg
from backends.cpu.native import thread_count
from backends.kernels.target import Target
from backends.kernels.types import Types
from backends.llvm.building import Building
from backends.llvm.host import host, vector_bits
from backends.llvm.library import expected, product_shape
from backends.programs import cache
from backends.programs.finished import Finished

# of a workgroup, in the memory of a thread
_SHARED = 1 << 20
_DEFINED = re.compile(r"^define void @(\w+)\(", re.MULTILINE)


class Begin(Protocol):
    """Is told of functions, by name, and whether code will do that was compiled quickly."""

    def __call__(self, functions: Mapping[str, str], quick: bool = False) -> None: ...


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


def function_name(text: str) -> str:
    """The name of a kernel's function."""
    found = _DEFINED.search(text)
    assert found is not None
    return found[1]


def compiled(asg: Asg, donated: Sequence[bool], debug: bool, building: Building) -> Finished:
    """The program of a graph, from the disk if it is there.

    Arguments:
        building: what will compile its functions, begins to do so.
        others: see `compiling.compile_graph`.
    """
    building.begin(expected(asg))

    def compile_it() -> Finished:
        from backends.cpu.compiling import compile_graph  # here: what is on disk is run without the compiler

        return compile_graph(asg, donated, debug, building.begin)

    special = f"cpu {host().triple} {host().processor} {host().features}"
    return (
        compile_it()
        if debug
        else cache.compiled(asg, host_target(), donated, compile_it, special, later=building.later)
    )
