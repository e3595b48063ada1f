"""wgpu-native, the implementation of WebGPU in the `wgpu` package, and what another one does differently."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from backends.kernels.target import MatrixShape
from backends.wgpu.library import load_library
from backends.wgpu.native import recorder_of, shorten_type_parsing
from backends.wgpu.package import package
from backends.wgpu.recorder import Owner, Recorder
from backends.wgsl import NAGA, Dialect

if TYPE_CHECKING:
    from concurrent.futures import Executor


class Implementation:
    """wgpu-native, and what another implementation does differently.

    Attributes:
        name: of the implementation.
        dialect: the WGSL that it reads.
        features: of WebGPU that kernels use, where an adapter has them.
    """

    name = "wgpu"
    dialect: Dialect = NAGA
    features: tuple[str, ...] = ("shader-f16", "subgroup", "timestamp-query")

    def prepare(self) -> None:
        """Sets up what has to be before an adapter is asked for."""
        load_library()
        shorten_type_parsing()
        try:
            from wgpu.backends.wgpu_native import _helpers
            from wgpu.backends.wgpu_native.extras import set_instance_extras

            # only the system's own GPU interface, and no checks of our grids; if nobody has used the library before us
            if _helpers._the_instance is None:
                set_instance_extras(backends=("Primary",), flags=("Empty",))
        except (ImportError, AttributeError, TypeError):
            return  # another version of the package: its defaults work too

    def adapter(self, software: bool) -> Any:
        """The best adapter, or one that is software."""
        return package().gpu.request_adapter_sync(power_preference="high-performance", force_fallback_adapter=software)

    def open(self, adapter: Any, features: Sequence[str], limits: Mapping[str, int]) -> Any:
        """A device with these features and limits."""
        return adapter.request_device_sync(required_features=list(features), required_limits=dict(limits))

    def matrices(self, adapter: Any, features: Sequence[str]) -> tuple[MatrixShape, ...]:
        """Products of matrices that subgroups compute."""
        return ()

    def has_subgroups(self, features: Sequence[str]) -> bool:
        """Whether kernels may use operations of subgroups."""
        return "subgroup" in features

    def recorder(self, device: Owner) -> Recorder:
        """What records commands for a device."""
        return recorder_of(device)

    def shader(self, gpu: Any, source: str) -> Any:
        """A shader module. Our kernels check their own ranges, so the library need not do so, too: that costs up to a
        third of a matrix product's time."""
        try:
            from wgpu.backends.wgpu_native import _api, ffi, lib

            create = _api.libf.wgpuDeviceCreateShaderModuleTrusted
            kind, native = lib.WGPUSType_ShaderSourceWGSL, gpu._internal
        except (ImportError, AttributeError):  # a version that cannot be told so
            return gpu.create_shader_module(code=source)
        data = source.encode()
        text = ffi.new("char[]", data)
        wgsl = ffi.new("WGPUShaderSourceWGSL *")
        wgsl.chain.sType = kind
        wgsl.code.data, wgsl.code.length = text, len(data)
        description = ffi.new("WGPUShaderModuleDescriptor *")
        description.nextInChain = ffi.cast("WGPUChainedStruct *", wgsl)
        return _api.GPUShaderModule("", create(native, description, 0), gpu)

    def pipeline(self, gpu: Any, source: str, layout: Any, workers: Executor) -> Any:
        """A future of a compiled kernel."""

        def compile_() -> Any:
            module = self.shader(gpu, source)
            return gpu.create_compute_pipeline(layout=layout, compute={"module": module, "entry_point": "main"})

        return workers.submit(compile_)

    def timestamp_period(self, gpu: Any) -> float:
        """Nanoseconds of a tick of the GPU's clock."""
        try:
            from wgpu.backends.wgpu_native import lib

            return float(lib.wgpuQueueGetTimestampPeriod(gpu.queue._internal)) or 1.0
        except (ImportError, AttributeError):
            return 1.0  # the standard's unit
