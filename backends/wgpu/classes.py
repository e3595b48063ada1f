"""Recording through the classes of the `wgpu` package: slower than its library, but the package's public interface."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any, NamedTuple

import numpy as np

from backends.wgpu.errors import gpu_errors
from backends.wgpu.memory import size_class
from backends.wgpu.package import package
from backends.wgpu.recorder import Owner, Recorder


class Staging(NamedTuple):
    """A buffer that the CPU can read."""

    buffer: Any


class ClassRecorder(Recorder):
    """Goes through the classes of the `wgpu` package: slower, but the package's public interface."""

    def __init__(self, device: Owner):
        super().__init__(device)
        self._encoder: Any = None
        self._pass: Any = None

    def handle(self, thing: Any) -> Any:
        return thing

    def _errors(self, doing: str) -> AbstractContextManager[None]:
        return gpu_errors(self.device, doing)

    def _begin(self) -> None:
        self._encoder = self.device.gpu.create_command_encoder()

    def _begin_pass(self) -> None:
        self._pass = self._encoder.begin_compute_pass()

    def _end_pass(self) -> None:
        self._pass.end()

    def _submit(self) -> None:
        self.device.gpu.queue.submit([self._encoder.finish()])
        self._drop()

    def _drop(self) -> None:
        self._encoder = self._pass = None

    def _dispatch(self, entries: Sequence[tuple]) -> None:
        for pipeline, group, x, y, z in entries:
            self._pass.set_pipeline(pipeline)
            self._pass.set_bind_group(0, group)
            self._pass.dispatch_workgroups(x, y, z)

    def _indirect(self, entries: Sequence[tuple]) -> None:
        for pipeline, group, buffer, offset in entries:
            self._pass.set_pipeline(pipeline)
            self._pass.set_bind_group(0, group)
            self._pass.dispatch_workgroups_indirect(buffer, offset)

    def _set_row(self, low: int, high: int) -> None:
        self._pass.set_bind_group(1, self.device.rows.group, [low, high])

    def _copy(self, source: Any, target: Any, nbytes: int) -> None:
        self._encoder.copy_buffer_to_buffer(source, 0, target, 0, nbytes)

    def _write(self, buffer: Any, data: np.ndarray) -> None:
        self.device.gpu.queue.write_buffer(buffer, 0, data)

    def _finish(self) -> None:
        # the package has no way to wait that works everywhere; but what is submitted last has run last
        size = size_class(4)
        with self.device.lock:
            stock = self._staging.setdefault(size, [])
            staging = stock.pop() if stock else self._new_staging(size)
            with self._errors("waiting for the GPU"):
                encoder = self.device.gpu.create_command_encoder()
                encoder.clear_buffer(staging.buffer, 0, 4)
                self.device.gpu.queue.submit([encoder.finish()])
        self._contents(staging, 4)
        stock.append(staging)

    def _new_staging(self, size: int) -> Staging:
        wgpu = package()

        usage = wgpu.BufferUsage.COPY_DST | wgpu.BufferUsage.MAP_READ
        with self._errors(f"asking for {size:,} bytes that the CPU can read"):
            return Staging(self.device.gpu.create_buffer(size=size, usage=usage))

    def _contents(self, staging: Staging, nbytes: int) -> np.ndarray:
        wgpu = package()

        with self._errors("reading an array back"):
            staging.buffer.map_async(wgpu.MapMode.READ, 0, nbytes).sync_wait()
            result = np.empty(nbytes, np.uint8)
            result[:] = np.frombuffer(staging.buffer.read_mapped(0, nbytes, copy=False), np.uint8)
            staging.buffer.unmap()
        return result
