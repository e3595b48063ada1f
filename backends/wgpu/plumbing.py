"""Kernels that move memory around, and those that decide which others run: what programs need besides computing."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

from backends.kernels.ir import BOOL, I32, U32, Builder, Kernel
from backends.kernels.schedules.elementwise import THREADS, WIDE, thread_number
from backends.kernels.target import Target


@lru_cache(maxsize=512)
def copy_kernel(dtype: str, count: int, target: Target) -> Kernel:
    """out[i] = in[i]."""
    return _each(dtype, count, target, reads=True)


@lru_cache(maxsize=512)
def zeros_kernel(dtype: str, count: int, target: Target) -> Kernel:
    """out[i] = 0."""
    return _each(dtype, count, target, reads=False)


def _each(dtype: str, count: int, target: Target, reads: bool) -> Kernel:
    b = Builder()
    width = WIDE if count % WIDE == 0 else 1
    source = b.argument("in0", dtype, count // width) if reads else None
    result = b.argument("out0", dtype, count // width)
    result.width = width
    if source is not None:
        source.width = width
    number, grid = thread_number(b, target, -(-count // (width * THREADS)))
    at = b.index(number)
    with b.when(b.op("lt", at, b.constant(count // width, I32), dtype=BOOL)):
        if width == 1:
            found = b.load(source, at) if source is not None else b.constant(0, dtype)
            b.store(result, at, found)
        else:
            lanes = [b.load(source, at, k) if source is not None else b.constant(0, dtype) for k in range(width)]
            b.store(result, at, tuple(lanes))
    name = "copy" if reads else "zeros"
    size = 2 if dtype == "f16" else 4
    return b.kernel(name, (THREADS,), grid, bytes=float(size * count * (1 + reads)))


# whole memories are moved as integers, four at a time, with what pads them
def copy_memory(nbytes: int, target: Target) -> Kernel:
    """Copies a memory of so many bytes (a multiple of 16)."""
    return copy_kernel(U32, nbytes // 4, target)


def zero_memory(nbytes: int, target: Target) -> Kernel:
    """Fills a memory of so many bytes (a multiple of 16) with zeros."""
    return zeros_kernel(U32, nbytes // 4, target)


# ---------------------------------------------------------------------------------------------- guards
# A guard says which of several lists of kernels run. It has a state, one number for each list (1: it runs), and for each
# kernel the grid that it is dispatched with: its own, or none. Both are written by a kernel of one workgroup.
_GUARD_THREADS = 64


def choice_source(grids: Sequence[tuple[int, int, int, int]], lists: int, parent: int | None) -> str:
    """WGSL that chooses a list by a number (kept in range), if its own list runs.

    Arguments:
        grids: for each kernel its list and its grid.
        lists: how many lists there are.
        parent: the number of the list, of another guard, that all this is part of.
    """
    return _guard_source(
        grids,
        [("read", "chosen", "i32")],
        parent,
        f"  let number = u32(clamp(chosen[0], 0, {lists - 1}));\n"
        f"  let runs = {_parent(parent)};\n"
        f"  for (var k: u32 = thread; k < {lists}u; k += {_GUARD_THREADS}u) {{\n"
        "    state[k] = select(0u, 1u, runs && k == number);\n  }\n",
        "runs && kernel_list == number",
    )


def loop_start_source(grids: Sequence[tuple[int, int, int, int]]) -> str:
    """WGSL that starts a loop that goes on as long as a condition holds: state 0 says whether it goes on, 1 counts steps."""
    return _guard_source(grids, [], None, "  if (thread == 0u) { state[0] = 1u; state[1] = 0u; }\n", "true")


def loop_step_source(grids: Sequence[tuple[int, int, int, int]]) -> str:
    """WGSL that ends a loop when its condition does not hold; once ended it stays so."""
    return _guard_source(
        grids,
        [("read", "condition", "u32")],
        None,
        # all threads read the state before one of them changes it
        "  let went_on = state[0] != 0u;\n"
        "  let runs = went_on && condition[0] != 0u;\n"
        "  storageBarrier();\n"
        "  if (thread == 0u && went_on) { state[0] = u32(runs); state[1] += u32(runs); }\n",
        "runs",
    )


def _parent(parent: int | None) -> str:
    return "true" if parent is None else f"parent[{parent}] != 0u"


def _guard_source(
    grids: Sequence[tuple[int, int, int, int]],
    memories: Sequence[tuple[str, str, str]],
    parent: int | None,
    decide: str,
    condition: str,
) -> str:
    """Bindings in order: those of `memories`, the parent's state if there is one, the table of grids, the state, the
    grids to dispatch."""
    memories = [*memories]
    if parent is not None:
        memories.append(("read", "parent", "u32"))
    memories += [("read", "table", "vec4<u32>"), ("read_write", "state", "u32"), ("read_write", "grids", "u32")]
    lines = [
        f"@group(0) @binding({k}) var<storage, {access}> {name}: array<{dtype}>;"
        for k, (access, name, dtype) in enumerate(memories)
    ]
    return (
        "\n".join(lines) + f"\n@compute @workgroup_size({_GUARD_THREADS})\n"
        "fn main(@builtin(local_invocation_index) thread: u32) {\n"
        + decide
        + f"  for (var k: u32 = thread; k < {len(grids)}u; k += {_GUARD_THREADS}u) {{\n"
        "    let kernel_list = table[k].x;\n"
        f"    let grid = select(vec3<u32>(0u), table[k].yzw, {condition});\n"
        "    grids[3u * k] = grid.x;\n    grids[3u * k + 1u] = grid.y;\n    grids[3u * k + 2u] = grid.z;\n"
        "  }\n}\n"
    )
