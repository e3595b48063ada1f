"""Kernels that decide which others run."""

from __future__ import annotations

from collections.abc import Sequence

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
