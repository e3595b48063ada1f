"""The two kernels of attention's gradients: that of queries, and that of keys and values."""

from __future__ import annotations

from collections.abc import Callable

from backends.kernels.ir import F32
from backends.kernels.lowering import Argument, Stage
from backends.kernels.schedules.attention_tiles import WIDE, Tiling
from backends.kernels.schedules.attention_work import Layout, Work
from backends.kernels.target import Target

# whose gradients a kernel makes
QUERIES, KEYS = ("query",), ("key", "value")
_NAMES = {QUERIES: "queries", KEYS: "keys and values"}
# numbers of rows, which the first kernel leaves for the second
ROWS = Argument("temporary", 0)


def write_side(
    sides: tuple[str, ...],
    write: Callable[[Work], None],
    layout: Layout,
    tiling: Tiling,
    target: Target,
    previous: Work | None,
    row_groups: int = 1,
    where: str = "",
) -> tuple[Work, Stage]:
    """One of the kernels, for `written_twice`.

    Arguments:
        sides: `QUERIES` or `KEYS`.
        write: writes what it does.
        row_groups: groups of four numbers that there are of a row.
        where: what its name says besides.
    """
    asg, gradient = layout.form.asg, layout.form.gradient
    pairs = [getattr(gradient, side) for side in sides]
    wanted = {asg.outputs.index(pair[1]) for pair in pairs if pair is not None}
    outputs = [
        (Argument("output", k), target.types.storage(t.dtype), t.size)
        for k, t in enumerate(asg.out_types)
        if k in wanted
    ]
    rows = (ROWS, F32, layout.batches * layout.rows * row_groups * WIDE)
    extent, size = (tiling.rows, layout.rows) if sides == QUERIES else (tiling.columns, layout.columns)
    work = Work(layout, tiling, target, -(-size // extent), outputs, [rows], previous)
    memory = work.memories[ROWS]
    memory.width, memory.size = WIDE, memory.size // WIDE
    with work.b.when(work.inside):
        write(work)
    # of scores and gradients of weights, and of each gradient
    products = layout.size + layout.value_size + sum(layout.value_size if s == "value" else layout.size for s in sides)
    flops = 2.0 * layout.batches * layout.rows * layout.columns * products
    return work, work.stage(f"{asg.name}{where} of {_NAMES[sides]}", flops)
