"""Checks of the arguments that make layers."""

from __future__ import annotations


def positive(layer: str, **sizes: int) -> None:
    """Raises ValueError for a size that is not a positive integer."""
    for name, size in sizes.items():
        if isinstance(size, bool) or not isinstance(size, int) or size < 1:
            raise ValueError(f"{layer}: {name} must be a positive integer, got {size!r}")


def probability(layer: str, **rates: float) -> None:
    """Raises ValueError for a rate that is not in [0, 1)."""
    for name, rate in rates.items():
        if not 0.0 <= rate < 1.0:
            raise ValueError(f"{layer}: {name} must be in [0, 1), got {rate!r}")
