"""Where arrays live: the `device=` argument of functions that make arrays."""

from __future__ import annotations

from typing import Any

from asgfn.tracing import Array


def to_device(x: Array, device: Any) -> Array:
    """`x` on a device (a device object, or its name); None leaves it where it is."""
    if device is None or device == getattr(x, "device", None):
        return x
    from asgfn.device import device_put

    return device_put(x, device)
