"""What the generator of products chooses by the host: vectors, tile, blocks in caches, cuts for threads."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from pathlib import Path

from asgfn.records import record
from backends.llvm.host import host

SIZES = {"float": 4, "double": 8}
DEPTH = 256  # the same on every host: where a sum is cut decides its rounding
LONG = 24 << 10  # bytes of the sums that one row keeps in the first cache

# measured: products whose b has rows of so many bytes, or so many bytes in all, gain nothing by packing
NARROW, FIRST = 512, 32 << 10
WORK = 1 << 18  # products of numbers that are worth a task
WIDE = 768  # columns of one row's product that are worth a task
PACKING = 4  # a number of b that is packed costs as much as so many of a that are read


@record
class Vectors:
    """A host's vector registers. `masks`: how only the first lanes are read and written: "avx2", "avx512" or None."""

    bits: int
    registers: int
    fma: bool
    masks: str | None

    @staticmethod
    def of(architecture: str, features: Mapping[str, bool]) -> Vectors:
        """The widest usable ones, from LLVM's names of a host's features."""
        if architecture.lower() in ("aarch64", "arm64"):
            return Vectors(128, 32, True, None)
        if features.get("avx512f") and features.get("avx512vl") and features.get("fma"):
            return Vectors(512, 32, True, "avx512")
        if features.get("avx2") and features.get("fma"):
            return Vectors(256, 16, True, "avx2")
        return Vectors(128, 16, False, None)


@record
class GemmShape:
    """How a product is tiled: mr rows by nr columns of the result in registers, `depth` steps of k summed at a time."""

    scalar: str  # LLVM's name: float, double
    lanes: int
    mr: int
    groups: int  # vectors in the columns of a tile
    depth: int
    block: int  # elements of b that stay in the second cache while all rows pass
    vectors: Vectors

    @property
    def size(self) -> int:
        """Bytes of an element."""
        return SIZES[self.scalar]

    @property
    def nr(self) -> int:
        """Columns of a tile: those of a packed panel."""
        return self.lanes * self.groups

    @property
    def long(self) -> int:
        """Columns whose sums one row keeps in the first cache."""
        return LONG // self.size

    @property
    def joins(self) -> bool:
        """Whether a last panel and a single vector after it are computed together, as even tiles."""
        return self.groups == 3 and self.vectors.masks is not None

    @property
    def joined_rows(self) -> int:
        """How many rows a tile of a panel and a vector has."""
        return self.mr * self.groups // (self.groups + 1)

    @property
    def half_rows(self) -> int:
        """How many rows a strip of windows has where hardly any are left."""
        return -(-self.mr // 2)

    @staticmethod
    def of(scalar: str, vectors: Vectors, caches: tuple[int, int] | None = None) -> GemmShape:
        """The tile for a host's registers: as many sums as there is room for beside a row of b and an element of a."""
        size = SIZES[scalar]
        if vectors.registers == 32:
            mr, groups = 8, 3  # more rows and fewer vectors would need more instructions for as many sums
        else:
            mr, groups = (6, 2) if vectors.fma else (4, 2)  # a product that is not fused needs a register
        _, second = caches or cache_sizes()
        return GemmShape(scalar, vectors.bits // 8 // size, mr, groups, DEPTH, second * 3 // 4 // size, vectors)

    def block_columns(self, n: int, k: int) -> int:
        """The columns of a block of b that `gemm_packing` works on."""
        part = max(1, -(-k // max(1, -(-k // self.depth))))
        return n if n * part <= self.block else max(1, self.block // part // self.nr) * self.nr

    def workspace(self, n: int, k: int) -> int:
        """Elements of the workspace that `gemm_packing` needs for n columns and k steps."""
        return -(-self.block_columns(n, k) // self.nr) * self.nr * min(k, self.depth)


@record
class Cut:
    """How a product is shared out: blocks of the result so many rows by columns, the last ones smaller, each a task.

    Attributes:
        packing: a task calls `gemm_packing` with a workspace of its own; otherwise `gemm`, which reads b where it is.
    """

    rows: int
    columns: int
    packing: bool


def cut(shape: GemmShape, m: int, n: int, k: int, threads: int, rows_lie: bool) -> Cut:
    """The blocks for so many threads. `rows_lie`: the rows of b are contiguous.

    Each task packs its own part of b, so columns are rather cut than rows; what it reads of a costs less, for that
    comes along with the work. Blocks stay some tiles large in both directions, and have the work of ten microseconds at
    least.

    A product with few rows of a uses each number of b too seldom for a copy, and one with a small or narrow b finds it
    in the caches all the same: those read b where it is.
    """
    small = n * shape.size <= NARROW or n * k * shape.size <= FIRST
    packing = not rows_lie or not (m <= 2 * shape.mr or small)
    tasks = max(1, min(threads, m * n * k // WORK))
    most_across = max(1, n // (WIDE if m == 1 else 4 * shape.nr))
    most_down = max(1, m // (2 * shape.mr))

    def cost(across: int) -> tuple[int, float]:
        down = min(tasks // across, most_down)
        return -across * down, m / down + PACKING * n / across

    across = min(range(1, min(tasks, most_across) + 1), key=cost)
    down = min(tasks // across, most_down)
    return Cut(_share(m, down, shape.mr), _share(n, across, shape.nr), packing)


def _share(length: int, parts: int, unit: int) -> int:
    """The length of a part: whole units."""
    return math.ceil(max(length, 1) / parts / unit) * unit


@functools.cache
def host_shape(scalar: str) -> GemmShape:
    """The tile of this machine, for "float" or "double"."""
    machine = host()
    features = {feature[1:]: feature[0] == "+" for feature in machine.features.split(",") if feature}
    return GemmShape.of(scalar, Vectors.of(machine.triple.split("-")[0], features))


@functools.cache
def cache_sizes() -> tuple[int, int]:
    """Bytes of a core's first (data) and second cache; common ones where the system does not say."""
    sizes = {1: 32 << 10, 2: 512 << 10}
    for folder in sorted(Path("/sys/devices/system/cpu/cpu0/cache").glob("index*")):
        try:
            kind, level, text = ((folder / name).read_text().strip() for name in ("type", "level", "size"))
            if kind != "Instruction" and int(level) in sizes:
                sizes[int(level)] = int(text.rstrip("KM")) << {"K": 10, "M": 20}[text[-1]]
        except (OSError, ValueError, KeyError):
            continue
    return sizes[1], sizes[2]
