"""Which schedule a contraction of a processor with vectors gets."""

from __future__ import annotations

from backends.kernels.lowering import Plan
from backends.kernels.schedules.contraction_region import Region
from backends.kernels.schedules.simd_groups import simd_groups
from backends.kernels.schedules.simd_product import simd_product
from backends.kernels.schedules.simd_taps import simd_taps
from backends.kernels.schedules.simd_windows import simd_windows
from backends.kernels.target import Target

SIMD = (simd_groups, simd_taps, simd_windows, simd_product)


def best(region: Region, target: Target) -> Plan | None:
    """The plan by whoever can make one first."""
    return next(filter(None, (make(region, target) for make in SIMD)), None)
