"""The implementation of WebGPU that this process uses, as an object."""

from __future__ import annotations

from functools import lru_cache

from backends.wgpu.dawn import Dawn
from backends.wgpu.implementation import Implementation
from backends.wgpu.package import implementation_name


@lru_cache(maxsize=1)
def chosen() -> Implementation:
    """See `package.implementation_name`."""
    return Dawn() if implementation_name() == "dawn" else Implementation()
