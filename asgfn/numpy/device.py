"""Where arrays live: the `device=` argument of functions that make arrays."""

from __future__ import annotations

from typing import Any

from asgfn.placement import device_put
from asgfn.tracing import Array


def to_device(x: Array, device: Any) -> Array:
    """`x` on a device (a device object, or its name); None leaves it where it is."""
    return x if device is None or device is getattr(x, "device", None) else device_put(x, device)
