"""Which schedule a contraction of a processor with vectors gets."""

from __future__ import annotations

from collections.abc import Callable

from backends.kernels.lowering import Plan
from backends.kernels.schedules.contraction_region import Region
from backends.kernels.schedules.simd_product import simd_product
from backends.kernels.target import Target


def best(region: Region, target: Target) -> Plan | None:
    """The plan by whoever can make one first."""
    return next(filter(None, (make(region, target) for make in _schedules(region))), None)


def _schedules(region: Region) -> tuple[Callable[[Region, Target], Plan | None], ...]:
    p = region.product
    if not (p.rows.is_image or p.columns.is_image) or not all((p.b, p.m, p.n, p.k)):
        return (simd_product,)
    from backends.kernels.schedules.simd_groups import simd_groups  # here: products need none of them
    from backends.kernels.schedules.simd_taps import simd_taps
    from backends.kernels.schedules.simd_windows import simd_windows

    return simd_groups, simd_taps, simd_windows, simd_product
