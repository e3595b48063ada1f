"""Dawn, Google's implementation of WebGPU, through the `wgpudawn` package.

What it does differently: options are "toggles"; pipelines are compiled by threads of its own; and an adapter may compute
products of matrices on tensor cores.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from backends.kernels.target import MatrixShape
from backends.wgpu.classes import ClassRecorder
from backends.wgpu.implementation import Implementation
from backends.wgpu.native import NativeRecorder
from backends.wgpu.package import package
from backends.wgsl import DAWN

if TYPE_CHECKING:
    from concurrent.futures import Executor

    import numpy as np

    from backends.wgpu.recorder import Owner, Recorder

MATRICES = "chromium-experimental-subgroup-matrix"
# what is experimental, and 16-bit floats on NVIDIA's cards, have to be asked for before there is an adapter
INSTANCE_TOGGLES = ("allow_unsafe_apis", "vulkan_enable_f16_on_nvidia")
# all shaders are ours and check their own ranges, and nobody else uses the device
DEVICE_TOGGLES = ("skip_validation", "disable_robustness")


class Dawn(Implementation):
    """See `Implementation`."""

    name = "dawn"
    dialect = DAWN
    # without the last one, a device may be used by one thread only
    features = ("shader-f16", "subgroups", "timestamp-query", MATRICES, "implicit-device-synchronization")

    def prepare(self) -> None:
        from wgpudawn.backends.dawn import extras

        with suppress(RuntimeError):  # somebody has used the library before us: then there is what they asked for
            extras.set_instance_extras(backends=("Primary",), enable_toggles=INSTANCE_TOGGLES)

    def adapter(self, software: bool) -> Any:
        if not software:
            return super().adapter(software)
        found = [a for a in package().gpu.enumerate_adapters_sync() if a.info["adapter_type"] == "CPU"]
        if not found:
            raise RuntimeError(
                "Dawn finds no adapter that is software; it takes SwiftShader, and llvmpipe of Mesa 23 or later"
            )
        return found[0]

    def open(self, adapter: Any, features: Sequence[str], limits: Mapping[str, int]) -> Any:
        from wgpudawn.backends.dawn import extras

        return extras.request_device_sync(
            adapter, required_features=list(features), required_limits=dict(limits), enable_toggles=DEVICE_TOGGLES
        )

    def matrices(self, adapter: Any, features: Sequence[str]) -> tuple[MatrixShape, ...]:
        if MATRICES not in features:
            return ()
        from wgpudawn.backends.dawn import extras

        found = extras.get_adapter_properties(adapter).get("subgroup_matrix_configs", ())
        return tuple(
            MatrixShape(c["component_type"], c["result_component_type"], c["m"], c["n"], c["k"]) for c in found
        )

    def has_subgroups(self, features: Sequence[str]) -> bool:
        return "subgroups" in features

    def recorder(self, device: Owner) -> Recorder:
        try:
            return DawnRecorder(device)
        except (ImportError, AttributeError):  # another version of the package
            return ClassRecorder(device)

    def shader(self, gpu: Any, source: str) -> Any:
        return gpu.create_shader_module(code=source)

    def pipeline(self, gpu: Any, source: str, layout: Any, workers: Executor) -> Any:
        module = self.shader(gpu, source)
        promise = gpu.create_compute_pipeline_async(layout=layout, compute={"module": module, "entry_point": "main"})
        return _Promised(promise)

    def timestamp_period(self, gpu: Any) -> float:
        return 1.0  # it converts to nanoseconds


class _Promised:
    """A promise of the library as something to wait for."""

    def __init__(self, promise: Any):
        self._promise = promise
        self._found: Any = None
        self._error: BaseException | None = None
        self._is_done = False

    def result(self) -> Any:
        """What was promised, when it is there."""
        if not self._is_done:
            try:
                self._found = self._promise.sync_wait()
            except Exception as error:  # the package raises whatever the library told it
                self._error = error
            self._is_done = True
        if self._error is not None:
            raise self._error
        return self._found


class _Errors:
    """The library's errors, as those of wgpu-native are: what came since somebody began to look."""

    def __init__(self, pending: list[tuple[str, str]]):
        self._pending = pending

    def capture(self, who: str) -> None:
        """Begins to look."""

    def release(self, who: str) -> tuple[str, str] | None:
        """The first error, if there was one."""
        found = self._pending[0] if self._pending else None
        self._pending.clear()
        return found


class DawnRecorder(NativeRecorder):
    """Calls the library directly; it has the same functions for commands as wgpu-native."""

    def _library(self) -> tuple[Any, Any, Any]:
        from wgpudawn.backends.dawn import _api, ffi, lib

        return ffi, lib, _Errors(_api.error_handler.pending)

    def _path(self) -> str:
        from wgpudawn.backends.dawn import lib_path

        return str(lib_path)

    def _finish(self) -> None:
        with self._errors("waiting for the GPU"):
            self.device.gpu.queue.on_submitted_work_done_async().sync_wait()

    def _new_staging(self, size: int) -> Any:
        return ClassRecorder._new_staging(self, size)  # type: ignore[arg-type]

    def _contents(self, staging: Any, nbytes: int) -> np.ndarray:
        return ClassRecorder._contents(self, staging, nbytes)  # type: ignore[arg-type]
