"""The wgpu backend: programs as WGSL kernels on any GPU that Vulkan, Metal or Direct3D 12 reaches."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from asgfn.backend import get_backend
from asgfn.config import config
from asgfn.graph.asg import Asg
from asgfn.graph.caching import cached_by_graph
from asgfn.graph.types import ArrayType
from backends.wgpu.buffers import DeviceBuffer, download, upload
from backends.wgpu.device import Device, GpuDevice
from backends.wgpu.errors import check_alive
from backends.wgpu.limits import parse
from backends.wgpu.program import Program


class WgpuBackend:
    """See `asgfn.backend.Backend`. Its arrays stay on the GPU until somebody asks for their values."""

    name = "wgpu"
    keeps_arrays = True

    def __init__(self, limits: str | None = None) -> None:
        """
        Arguments:
            limits: what to keep to though the GPU could do more, as `backends.wgpu.limits.parse` reads it; what the
                environment variable ASGFN_WGPU_LIMITS says, by default.
        """
        self._lock = threading.RLock()
        self._limits = None if limits is None else parse(limits)
        self._device = Device(most=self._limits)
        self._program = cached_by_graph(256)(lambda asg, donated, debug: Program(self, asg, donated, debug))

    @property
    def device(self) -> Device:
        """The device; a new one if the last one was lost."""
        if self._device.lost:
            with self._lock:
                if self._device.lost:
                    self._device = Device(most=self._limits)
        return self._device

    def devices(self) -> list[GpuDevice]:
        return [self.device.info]

    def compile(self, asg: Asg, donated: Sequence[bool] = ()) -> Program:
        debug = bool(config.debug_nans or config.debug_infs)
        return self._program(asg, tuple(donated) if any(donated) else (), debug)

    def kernel(
        self, primitive: Any, in_types: Sequence[ArrayType], out_types: Sequence[ArrayType], params: Any
    ) -> Callable:
        """Operations outside of `jit` are NumPy's: a kernel each would cost more than it does."""
        return get_backend("numpy").kernel(primitive, in_types, out_types, params)

    # ------------------------------------------------------------------ arrays
    def holds(self, aval: ArrayType) -> bool:
        """Whether an array of this type can be on the device."""
        return aval.size > 0 and self.device.target.types.holds(aval.dtype)

    def to_device(self, value: np.ndarray) -> Any:
        """A copy on the device; the value itself if the device has no such arrays."""
        if not self.holds(ArrayType(value.shape, value.dtype)):
            return value
        return upload(self.device, value)

    def wait(self, buffers: Sequence[DeviceBuffer]) -> None:
        """Returns when all that was called so far has run, on the devices of these buffers."""
        for device in {id(b.device): b.device for b in buffers}.values():
            check_alive(device)
            device.recorder.wait()

    def to_host(self, buffer: DeviceBuffer, aval: ArrayType) -> np.ndarray:
        value = download(buffer, aval)
        value.setflags(write=False)
        return value


def create() -> WgpuBackend:
    """The entry point of the backend."""
    return WgpuBackend()
