"""How attention is cut up, as data: tiles of queries and keys that fit into the memory of a workgroup."""

from __future__ import annotations

from collections.abc import Callable

from asgfn.records import record
from backends.kernels.target import Target

WIDE = 4
FEWEST_THREADS = 16  # with fewer the plain products are faster


@record
class Tiling:
    """A workgroup works on tiles of `rows` queries by `columns` keys.

    Attributes:
        rows, columns: of a tile.
        across, down: threads along keys and along queries. Each has every `down`-th row, and every `across`-th group of
            four columns.
    """

    rows: int
    columns: int
    across: int
    down: int

    @property
    def threads(self) -> int:
        return self.across * self.down

    @property
    def thread_rows(self) -> int:
        return self.rows // self.down

    @property
    def thread_groups(self) -> int:
        return self.columns // WIDE // self.across


# best first, as measured on an H100 with heads of 64: 128 threads hide what more registers a thread would save
_FORWARD = (
    Tiling(32, 32, 8, 16),
    Tiling(32, 32, 8, 8),
    Tiling(32, 16, 4, 16),
    Tiling(16, 16, 4, 8),
    Tiling(16, 8, 2, 8),
    Tiling(8, 16, 4, 8),
)
_BACKWARD = (
    Tiling(32, 32, 8, 16),
    Tiling(32, 32, 8, 8),
    Tiling(16, 32, 8, 8),
    Tiling(16, 16, 4, 8),
    Tiling(8, 16, 4, 8),
    Tiling(8, 8, 2, 8),
)


def groups(n: int) -> int:
    """Groups of four that hold n numbers."""
    return -(-n // WIDE)


def stride(n: int) -> int:
    """Groups from one row of a tile to the next: an odd number, so that neighbouring rows start in different banks."""
    return groups(n) | 1


def forward_bytes(t: Tiling, size: int, value_size: int) -> int:
    """Workgroup memory of attention itself: a tile of queries, one of keys or values, weights, and an exchange."""
    exchange = t.threads * groups(t.thread_rows)
    return 16 * (
        t.rows * stride(size) + t.columns * stride(max(size, value_size)) + t.rows * t.columns // WIDE + exchange
    )


def backward_bytes(t: Tiling, size: int, value_size: int) -> int:
    """Workgroup memory of its gradients: tiles of queries, gradients, keys and values, weights and their gradients."""
    return 16 * ((t.rows + t.columns) * (stride(size) + stride(value_size)) + 2 * t.rows * t.columns // WIDE)


def forward_tiling(queries: int, keys: int, size: int, value_size: int, target: Target) -> Tiling | None:
    """The tiles for attention with so many queries and keys and heads of these sizes; None if nothing fits."""
    fits = [t for t in _FORWARD if forward_bytes(t, size, value_size) <= target.workgroup_bytes]
    return _best(fits, queries, keys, target)


def backward_tiling(queries: int, keys: int, size: int, value_size: int, target: Target) -> Tiling | None:
    """The tiles for its gradients."""
    fits = [t for t in _BACKWARD if backward_bytes(t, size, value_size) <= target.workgroup_bytes]
    return _best(fits, queries, keys, target)


# ---------------------------------------------------------------------------------------------- tensor cores
# threads of a row are neighbours, and have every so many-th group of its columns
# 256 threads hide what 128 wait for: on an H100, memory is what limits how many workgroups a processor has
_TENSOR_FORWARD = (
    Tiling(64, 64, 4, 64),
    Tiling(32, 64, 8, 32),
    Tiling(32, 32, 4, 32),
    Tiling(16, 32, 8, 16),
)
_TENSOR_BACKWARD = (
    Tiling(32, 64, 8, 32),
    Tiling(32, 32, 4, 32),
    Tiling(16, 32, 8, 16),
    Tiling(16, 16, 4, 16),
)
_FACTORS = 1024  # bytes for scales of rows


def tensor_line(size: int) -> int:
    """Groups from one row of a tile to the next, so that rows that are read together start in different banks."""
    return groups(size) + 2


def tensor_forward_bytes(t: Tiling, size: int, value_size: int) -> int:
    """Workgroup memory of attention on tensor cores: queries, keys or weights, values; and scores or results."""
    keys = max(t.columns * tensor_line(size), t.rows * tensor_line(t.columns))
    half = t.rows * tensor_line(size) + keys + t.columns * tensor_line(value_size)
    return 8 * half + 16 * t.rows * max(map(tensor_line, (t.columns, value_size))) + _FACTORS


def tensor_queries_bytes(t: Tiling, size: int, value_size: int) -> int:
    """Workgroup memory of the gradient of queries: four tiles, the last one also for changes of scores; scores; their
    gradients."""
    values = max(t.columns * tensor_line(value_size), t.rows * tensor_line(t.columns))
    half = t.rows * (tensor_line(size) + tensor_line(value_size)) + t.columns * tensor_line(size) + values
    pairs = max(map(tensor_line, (t.columns, size))) + tensor_line(t.columns)
    return 8 * half + 16 * t.rows * pairs + _FACTORS


def tensor_keys_bytes(t: Tiling, size: int, value_size: int) -> int:
    """Workgroup memory of the gradients of keys and values: four tiles, weights, changes of scores; scores."""
    half = (t.rows + t.columns) * (tensor_line(size) + tensor_line(value_size)) + 2 * t.rows * tensor_line(t.columns)
    return 8 * half + 16 * tensor_results(t) + _FACTORS


def tensor_results(t: Tiling) -> int:
    """Groups of four that the kernel of keys and values has for scores, and for a part of its results at the end."""
    return max(t.rows * tensor_line(t.columns), t.columns * tensor_line(32))


Needed = Callable[[Tiling, int, int], int]


def tensor_tiling(
    candidates: tuple[Tiling, ...], needed: Needed, sizes: tuple[int, int, int, int], target: Target
) -> Tiling | None:
    """The first of these tilings that fits, and is not much larger than what there is. Sizes: queries, keys, features."""
    queries, keys, *features = sizes
    fits = [
        t
        for t in candidates
        if needed(t, *features) <= target.workgroup_bytes
        and t.threads <= target.workgroup_threads
        and t.threads % target.subgroup[0] == 0
    ]
    return next((t for t in fits if t.rows < 2 * queries and t.columns < 2 * keys), fits[-1] if fits else None)


def tensor_forward_tiling(queries: int, keys: int, size: int, value_size: int, target: Target) -> Tiling | None:
    """The tiles of attention on tensor cores."""
    return tensor_tiling(_TENSOR_FORWARD, tensor_forward_bytes, (queries, keys, size, value_size), target)


def tensor_backward_tilings(
    queries: int, keys: int, size: int, value_size: int, target: Target
) -> tuple[Tiling, Tiling] | None:
    """The tiles of the gradient of queries, and of those of keys and values."""
    sizes = queries, keys, size, value_size
    first = tensor_tiling(_TENSOR_BACKWARD, tensor_queries_bytes, sizes, target)
    second = tensor_tiling(_TENSOR_BACKWARD, tensor_keys_bytes, sizes, target)
    return None if first is None or second is None else (first, second)


def _best(fits: list[Tiling], queries: int, keys: int, target: Target) -> Tiling | None:
    fits = [t for t in fits if FEWEST_THREADS <= t.threads <= target.workgroup_threads]
    # the first that is not much larger than what there is
    small = [t for t in fits if t.rows < 2 * queries and t.columns < 2 * keys]
    return small[0] if small else fits[-1] if fits else None
