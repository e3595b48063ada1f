"""What a kernel is made for: the limits of a device, and what it can do besides."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from backends.kernels.types import Types


@dataclass(frozen=True)
class Target:
    """A kind of device.

    Attributes:
        types: how dtypes are represented on it.
        workgroup_threads: the most threads of a workgroup.
        workgroup_bytes: the most memory that they share.
        grid: the most workgroups along an axis of the grid.
        buffers: the most memories that a kernel may be called with.
        binding_bytes: the most bytes of such a memory.
        subgroup: threads that run in step: the smallest and the largest number. (0, 0): subgroup operations are not available.
        measured: seconds of schedules by problem, as `backends.kernels.autotune` names them.
    """

    types: Types = field(default_factory=Types)
    workgroup_threads: int = 256
    workgroup_bytes: int = 16384
    grid: int = 65535
    buffers: int = 8
    binding_bytes: int = 1 << 27
    subgroup: tuple[int, int] = (0, 0)
    measured: Mapping[str, Mapping[Any, float]] = field(default_factory=dict, compare=False, repr=False)

    def grid_of(self, groups: int) -> tuple[int, int, int]:
        """A grid of at least so many workgroups: along x as far as it goes, then along y."""
        if groups <= self.grid:
            return (groups, 1, 1)
        rows = -(-groups // self.grid)
        return (-(-groups // rows), rows, 1)
