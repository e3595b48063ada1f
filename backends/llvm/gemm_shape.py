"""What the product's generator chooses by the host: vectors, the tile in registers, blocks in caches, cuts for threads."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Vectors:
    """A host's vector registers. `masks` says how the first lanes only are read and written: "avx2", "avx512" or not."""

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


@dataclass(frozen=True)
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
        return {"float": 4, "double": 8}[self.scalar]

    @property
    def nr(self) -> int:
        """Columns of a tile: those of a packed panel."""
        return self.lanes * self.groups

    @staticmethod
    def of(scalar: str, vectors: Vectors, caches: tuple[int, int] | None = None) -> GemmShape:
        size = {"float": 4, "double": 8}[scalar]
        if vectors.registers == 32 and vectors.bits == 512:
            mr, groups = 8, 3
        elif vectors.registers == 32:
            mr, groups = 8, 3
        elif vectors.fma:
            mr, groups = 6, 2
        else:
            mr, groups = 4, 2  # a product needs a register before it is added
        _, second = caches or cache_sizes()
        return GemmShape(scalar, vectors.bits // 8 // size, mr, groups, DEPTH, second // 2 // size, vectors)


DEPTH = 256  # the same on every host: where a sum is cut decides its rounding


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
