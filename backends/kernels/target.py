"""What a kernel is made for: the limits of a device, and what it can do besides."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from asgfn.records import field, record
from backends.kernels.ir import SIZES
from backends.kernels.types import Types


class MatrixShape(NamedTuple):
    """A product of small matrices that the threads of a subgroup compute together, on tensor cores.

    Attributes:
        component: the type of the factors' elements.
        result: the type of the sum's elements.
        m, n, k: it is one of (m, k) and (k, n).
    """

    component: str
    result: str
    m: int
    n: int
    k: int


@record
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
        subgroup_matrix: products of matrices that a subgroup computes; () if it has none.
        unit: memories have multiples of so many bytes.
        simd: if it is a processor whose vectors have so many lanes: they are the threads of a workgroup, in step, and a core
            goes through many workgroups one by one. 0: it is not.
        cores: how many the processor has.
        product: rows and columns of a product of 32-bit matrices that its library keeps in registers.
        measured: seconds of schedules by problem, as `backends.kernels.autotune` names them.
    """

    types: Types = field(default_factory=Types)
    workgroup_threads: int = 256
    workgroup_bytes: int = 16384
    grid: int = 65535
    buffers: int = 8
    binding_bytes: int = 1 << 27
    subgroup: tuple[int, int] = (0, 0)
    subgroup_matrix: tuple[MatrixShape, ...] = ()
    unit: int = 16
    simd: int = 0
    cores: int = 1
    product: tuple[int, int] = (6, 16)
    measured: Mapping[str, Mapping[Any, float]] = field(default_factory=dict, compare=False, repr=False)

    def threads(self, wanted: int) -> int:
        """How many threads a workgroup gets that should have so many."""
        return self.simd or min(wanted, self.workgroup_threads)

    def tile(self, register: str) -> tuple[int, int]:
        """Rows and columns of a product of matrices of a type that the library keeps in registers."""
        rows, columns = self.product
        return rows, columns * 4 // SIZES[register]

    def matrix(self, component: str, result: str) -> MatrixShape | None:
        """The product of matrices of these types, the largest if there are several; None if there is none.

        There is none either if subgroups have different sizes: then nobody knows which threads hold which matrix.
        """
        if self.subgroup[0] == 0 or self.subgroup[0] != self.subgroup[1]:
            return None
        found = [s for s in self.subgroup_matrix if (s.component, s.result) == (component, result)]
        return max(found, key=lambda s: (s.m * s.n * s.k, s.m), default=None)

    def grid_of(self, groups: int) -> tuple[int, int, int]:
        """A grid of at least so many workgroups: along x as far as it goes, then along y."""
        if groups <= self.grid:
            return (groups, 1, 1)
        rows = -(-groups // self.grid)
        return (-(-groups // rows), rows, 1)
