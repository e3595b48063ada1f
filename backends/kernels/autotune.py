"""Which schedule a contraction gets: by a model of the time that it takes, or as it was measured.

A backend that measures asks for `candidates`, times each, and remembers the seconds by adapter and `Problem.key()`;
`choose` then takes the fastest. Without measurements it takes the one with the least modelled time.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping

from asgfn.records import record, replace
from backends.kernels.schedules.matmul_tensor import fits as fits_on_tensor_cores
from backends.kernels.schedules.tensor_pieces import Pieces
from backends.kernels.schedules.tiles import WIDE, Direct, Schedule, Skinny, TensorTile, Tile
from backends.kernels.target import Target

# figures of the model, of a GPU of the size of NVIDIA's H100; what matters are their ratios
PROCESSORS = 132  # that run a workgroup each
FLOPS = 4e11  # of one processor, a second
TENSOR_FLOPS = 2.5e12  # of its tensor cores
BYTES = 2e12  # of memory, a second
CACHE = 4e7  # bytes of it that stay in a cache, which is faster
LAUNCH = 2e-6  # seconds between kernels
LATENCY = 6e-7  # seconds of a step that waits for memory and two barriers
WARPS = 6  # of 32 threads, that keep a processor busy

FEW = 8  # rows or columns that have no tiles
SHALLOW = 8  # length of a contracted axis that is not worth tiles
MOST = 10  # candidates that are worth the time of measuring them
TINY = 1 << 16  # operations that one kernel does before it has started well


@record
class Problem:
    """What is known of a contraction when its schedule is chosen.

    Attributes:
        batch, m, n, k: lengths of its axes.
        dtype: of the sum: "float32", "int32", ...
        rows_along, columns_along: along which axis elements of the operands are neighbours in memory: "free", "depth", "".
        kind: "dot_general" or "conv_general_dilated".
        pieces: how tensor cores may compute it; None: not at all.
    """

    batch: int
    m: int
    n: int
    k: int
    dtype: str = "float32"
    rows_along: str = "depth"
    columns_along: str = "free"
    kind: str = "dot_general"
    pieces: Pieces | None = None

    @property
    def flops(self) -> int:
        return 2 * self.batch * self.m * self.n * self.k

    def key(self) -> str:
        """The name of its class: problems of one class are as fast with the same schedules."""
        sizes = "x".join(str(_class(n)) for n in (self.batch, self.m, self.n, self.k))
        found = f"{self.kind} {sizes} {self.dtype} {self.rows_along or '-'} {self.columns_along or '-'}"
        if self.pieces is not None:
            found += f" {self.pieces.rows}x{self.pieces.columns}{' scaled' if self.pieces.scaled else ''}"
        return found


def _class(n: int) -> int:
    """n, with its three leading bits."""
    shift = max(n.bit_length() - 3, 0)
    return -(-n >> shift) << shift if n else 0


_TILES = (
    Tile(128, 128, 16, 8, 16),
    Tile(128, 128, 32, 8, 8),
    Tile(64, 64, 16, 8, 8),
    Tile(128, 64, 16, 8, 8),
    Tile(64, 128, 16, 8, 8),
    Tile(128, 128, 16, 8, 8),
    Tile(64, 32, 16, 8, 8),
    Tile(32, 64, 16, 8, 8),
    Tile(128, 64, 16, 8, 4),
    Tile(64, 128, 16, 4, 8),
    Tile(64, 64, 16, 4, 8),
    Tile(64, 64, 16, 4, 4),
    Tile(64, 32, 16, 4, 4, buffers=2),
    Tile(32, 64, 16, 4, 4, buffers=2),
    Tile(32, 32, 16, 4, 4, buffers=2),
    Tile(64, 64, 16, 8, 8, blocks=False),
    Tile(64, 64, 16, 4, 4, blocks=False),
    Tile(128, 16, 16, 4, 4),
    Tile(16, 128, 16, 4, 4),
    Tile(64, 16, 16, 4, 4),
    Tile(16, 64, 16, 4, 4),
    Tile(32, 16, 32, 4, 4),
    Tile(16, 32, 32, 4, 4),
)
# What share of its operations a processor that is full of such tiles reaches, measured on an H100 with products of 4096^3
# and of the shapes of a GPT: by rows, columns, depth and the part of a thread; for others by the part of a thread.
_EFFICIENCY = {
    (128, 128, 16, 8, 16): 0.84, (128, 128, 32, 8, 8): 0.81, (64, 64, 16, 8, 8): 0.76, (128, 64, 16, 8, 8): 0.80,
    (64, 128, 16, 8, 8): 0.79, (256, 128, 16, 8, 8): 0.70, (128, 128, 16, 8, 8): 0.66,
}  # fmt: skip
_EFFICIENCY_OF_PART = {(8, 16): 0.6, (8, 8): 0.65, (8, 4): 0.6, (4, 8): 0.64, (4, 4): 0.48}
TENSOR_TILES = (
    TensorTile(128, 256, 32),
    TensorTile(128, 128, 32),
    TensorTile(128, 128, 16, buffers=2),
    TensorTile(128, 128, 32, 64, 32),
    TensorTile(256, 128, 16),
    TensorTile(128, 256, 16),
    TensorTile(128, 64, 32, 64, 32),
    TensorTile(64, 128, 32, 32, 64),
    TensorTile(64, 64, 32, 32, 32),
    TensorTile(64, 64, 64, 32, 32),
    TensorTile(64, 32, 32, 32, 16),
    TensorTile(32, 64, 32, 16, 32),
    TensorTile(32, 32, 32, 16, 16),
)
# the same for tensor cores, as shares of TENSOR_FLOPS, by rows, columns, depth and the part of a subgroup
_TENSOR_EFFICIENCY = {
    (128, 256, 32, 64, 64): 0.6, (128, 256, 16, 64, 64): 0.46, (128, 128, 32, 64, 32): 0.38, (256, 128, 16, 64, 64): 0.36,
    (128, 64, 32, 64, 32): 0.34, (64, 64, 32, 32, 32): 0.32, (64, 128, 32, 32, 64): 0.28, (64, 64, 64, 32, 32): 0.26,
    (128, 128, 16, 64, 64): 0.2, (64, 32, 32, 32, 16): 0.2, (32, 64, 32, 16, 32): 0.2, (32, 32, 32, 16, 16): 0.14,
}  # fmt: skip
_SPLITS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 128)


def candidates(problem: Problem, target: Target) -> list[Schedule]:
    """Schedules that may be the fastest, the most promising first."""
    found: list[Schedule] = []
    splits: Counter[Schedule] = Counter()
    for schedule in sorted(_all(problem, target), key=lambda s: seconds(problem, s)):
        kind = schedule if isinstance(schedule, Direct) else replace(schedule, split=1)
        splits[kind] += 1
        if splits[kind] <= 2:  # the same tile in many parts teaches little
            found.append(schedule)
    return found[:MOST]


class Asked(dict[str, Mapping[Schedule, float]]):
    """Measurements of nothing. As those of a target, they note the problems that schedules are chosen for.

    Attributes:
        problems: in the order in which they came up.
    """

    def __init__(self) -> None:
        super().__init__()
        self.problems: list[Problem] = []


def choose(problem: Problem, target: Target, measured: Mapping[Schedule, float] | None = None) -> Schedule:
    """The schedule to use: the fastest of those that were measured (seconds), or of those that were not."""
    if isinstance(target.measured, Asked):
        target.measured.problems.append(problem)
    if measured:
        fits = {s: t for s, t in measured.items() if _fits(s, target, problem.pieces)}
        if fits:
            return min(fits, key=fits.__getitem__)
    return candidates(problem, target)[0]


def _fits(schedule: Schedule, target: Target, pieces: Pieces | None = None) -> bool:
    if isinstance(schedule, TensorTile):
        return pieces is not None and fits_on_tensor_cores(schedule, pieces, target)
    if isinstance(schedule, Tile):
        return schedule.shared_bytes <= target.workgroup_bytes and schedule.threads <= target.workgroup_threads
    return not isinstance(schedule, Skinny) or schedule.threads <= target.workgroup_threads


def _all(problem: Problem, target: Target) -> list[Schedule]:
    p = problem
    few = min(p.m, p.n)
    if p.k <= SHALLOW or (few <= FEW and p.k <= 64):
        return [Direct(WIDE if p.batch * p.m * p.n >= PROCESSORS * 256 * WIDE else 1)]
    if p.flops <= TINY and p.k <= 128:
        return [Direct()]
    if few <= FEW:
        return list(_skinny(p, 1 << min(target.workgroup_threads, 256).bit_length() - 1))
    found: list[Schedule] = []
    tiles: list[Tile | TensorTile] = [replace(t, subgroup=target.subgroup[0]) for t in TENSOR_TILES] if p.pieces else []
    for tile in (*tiles, *_TILES):
        if not _fits(tile, target, p.pieces) or tile.rows > 2 * max(p.m, 16) or tile.columns > 2 * max(p.n, 16):
            continue
        for split in _SPLITS:
            deep = p.k // split >= 4 * tile.depth
            if split == 1 or (deep and _groups(p, tile) * split <= 18 * PROCESSORS):
                found.append(replace(tile, split=split))
    return found


def _groups(p: Problem, tile: Tile | TensorTile) -> int:
    return p.batch * -(-p.m // tile.rows) * -(-p.n // tile.columns)


def _skinny(p: Problem, threads: int) -> list[Skinny]:
    """Schedules for few rows or columns, with so many threads a workgroup, a power of 2."""
    short, long = min(p.m, p.n), max(p.m, p.n)
    along_depth = (p.columns_along if p.n >= p.m else p.rows_along) == "depth"
    steps = WIDE if along_depth and p.k % WIDE == 0 else 1
    if long <= 2 * FEW:  # both are few: a workgroup has as many as registers hold, and reads its operands seldom
        shapes = [(min(short, 4), min(long, 8), 1), (min(short, 2), min(long, 4), 1)]
    elif along_depth:
        shapes = [(short, 1, max(threads // along, 1)) for along in (32, 128)] + [(short, 2, max(threads // 64, 1))]
    else:
        shapes = [(short, WIDE if short <= 4 else 2, min(across, threads)) for across in (64, 32, 16)]
    found = []
    for a, b, across in dict.fromkeys(shapes):
        along = threads // across
        groups = p.batch * -(-short // a) * -(-long // (b * across))
        for split in _SPLITS:
            if split == 1 or (p.k // split >= 4 * along * steps and groups * split <= 8 * PROCESSORS):
                found.append(Skinny(a, b, across, along, steps, split))
    return found


# ---------------------------------------------------------------------------------------------- the model
def seconds(problem: Problem, schedule: Schedule) -> float:
    """Roughly how long a schedule takes."""
    p = problem
    if isinstance(schedule, Tile):
        return _tile_seconds(p, schedule)
    if isinstance(schedule, TensorTile):
        return _tensor_seconds(p, schedule)
    if isinstance(schedule, Skinny):
        short, long = min(p.m, p.n), max(p.m, p.n)
        groups = p.batch * -(-short // schedule.short) * -(-long // (schedule.long * schedule.across)) * schedule.split
        waves = math.ceil(groups / (4 * PROCESSORS))
        depth = p.k / (schedule.along * schedule.step * schedule.split)
        # each step reads memory; threads of four workgroups a processor wait for it together
        return LAUNCH + waves * depth * LATENCY / 4 + _splitting(p, schedule.split)
    return LAUNCH + p.flops / (PROCESSORS * FLOPS / 8)


def _tile_seconds(p: Problem, tile: Tile) -> float:
    groups = _groups(p, tile) * tile.split
    steps = math.ceil(p.k / tile.split / tile.depth)
    part = tile.thread_rows, tile.thread_columns
    efficiency = _EFFICIENCY.get((tile.rows, tile.columns, tile.depth, *part), _EFFICIENCY_OF_PART[part])
    each = groups / PROCESSORS  # workgroups that a processor gets; the last ones to finish decide
    warps = min(max(each, 1), 2048 / tile.threads) * tile.threads / 32
    # processors that got one workgroup more decide, and the last workgroups of many leave processors idle
    balance = each / math.ceil(each) if each < 3 else (each / math.ceil(each) + each / (each + 1)) / 2
    efficiency *= min(1.0, (warps / WARPS) ** 0.5) * balance
    # small tiles load more for what they compute
    efficiency *= min(1.0, 2 * tile.rows * tile.columns / (tile.rows + tile.columns) / 64) ** 0.5
    if tile.buffers == 2:
        efficiency *= 0.95
    if not tile.blocks and "depth" in (p.rows_along, p.columns_along):
        efficiency *= 0.75
    done = 2.0 * groups * tile.rows * tile.columns * steps * tile.depth
    return LAUNCH + max(done / (PROCESSORS * FLOPS * efficiency), steps * LATENCY) + _splitting(p, tile.split)


def _tensor_seconds(p: Problem, tile: TensorTile) -> float:
    assert p.pieces is not None
    groups = _groups(p, tile) * tile.split
    steps = math.ceil(p.k / tile.split / tile.depth)
    each = groups / PROCESSORS
    shape = tile.rows, tile.columns, tile.depth, tile.part_rows, tile.part_columns
    efficiency = _TENSOR_EFFICIENCY.get(shape, 0.1) * each / math.ceil(each)
    done = 2.0 * groups * tile.rows * tile.columns * steps * tile.depth * p.pieces.products
    maxima = LAUNCH + 4 * p.batch * (p.m + p.n) * p.k / BYTES if p.pieces.scaled else 0.0
    working = max(done / (PROCESSORS * TENSOR_FLOPS * efficiency), steps * LATENCY)
    return LAUNCH + working + maxima + _splitting(p, tile.split)


def _splitting(p: Problem, split: int) -> float:
    """What it costs to write partial sums and add them up; few of them stay in a cache."""
    if split == 1:
        return 0.0
    moved = 4 * p.batch * p.m * p.n * (2 * split + 1)
    return LAUNCH + moved / (BYTES if moved > 2 * CACHE else 2.5 * BYTES)
