"""How attention is cut up, as data: tiles of queries and keys that fit into the memory of a workgroup."""

from __future__ import annotations

from dataclasses import dataclass

from backends.kernels.target import Target

WIDE = 4
FEWEST_THREADS = 16  # with fewer the plain products are faster


@dataclass(frozen=True)
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


def _best(fits: list[Tiling], queries: int, keys: int, target: Target) -> Tiling | None:
    fits = [t for t in fits if FEWEST_THREADS <= t.threads <= target.workgroup_threads]
    # the first that is not much larger than what there is
    small = [t for t in fits if t.rows < 2 * queries and t.columns < 2 * keys]
    return small[0] if small else fits[-1] if fits else None
