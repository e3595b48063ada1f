"""The GPU: one adapter, one logical device, its limits, its compiled pipelines."""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, NamedTuple

from asgfn.errors import BackendError
from backends.kernels.target import Target
from backends.kernels.types import Types
from backends.wgpu.errors import gpu_errors
from backends.wgpu.groups import GroupCache, Range
from backends.wgpu.library import load_library
from backends.wgpu.limits import capped, wanted
from backends.wgpu.memory import Pool
from backends.wgpu.native import recorder_of, shorten_type_parsing
from backends.wgpu.rows import Rows

VARIABLE = "ASGFN_WGPU_ADAPTER"
COMPUTE = 4  # the shader stage, as a flag
LIMITS = (
    "max-buffer-size",
    "max-storage-buffer-binding-size",
    "max-storage-buffers-per-shader-stage",
    "max-compute-workgroup-storage-size",
    "max-compute-invocations-per-workgroup",
    "max-compute-workgroup-size-x",
    "max-compute-workgroups-per-dimension",
)
FEATURES = ("shader-f16", "subgroup", "timestamp-query")
# kernels count elements with 32-bit integers
MOST_BYTES = 1 << 32


class Pipeline(NamedTuple):
    """A compiled kernel, and the layout of its bind group."""

    native: Any
    layout: Any


class Kernel(NamedTuple):
    """What a pipeline is made of.

    Attributes:
        source: its WGSL.
        written: for each of its memories, in order, whether it is written to.
        numbered: whether it reads the number of a loop's step.
    """

    source: str
    written: tuple[bool, ...]
    numbered: bool = False


class GpuDevice:
    """A GPU, as `asgfn.devices("wgpu")` lists it.

    Attributes:
        device_kind: the adapter's name.
        description: its driver.
        is_software: whether it is the CPU that does the work.
        outruns_cpu: whether it is certainly faster than that: it has memory of its own, or is Apple's.
    """

    platform = "gpu"
    backend = "wgpu"
    id = 0

    def __init__(self, info: Any):
        self.device_kind = info["device"]
        self.description = f"{info['backend_type']}: {info['description']}".strip(": ")
        self.is_software = info["adapter_type"] == "CPU"
        is_apple = info["adapter_type"] == "IntegratedGPU" and info["backend_type"] == "Metal"
        self.outruns_cpu = is_apple or info["adapter_type"] == "DiscreteGPU"

    def __repr__(self) -> str:
        return f"GpuDevice(id={self.id}, {self.device_kind!r})"

    def __str__(self) -> str:
        return f"gpu:{self.id}"


def _limit_instance() -> None:
    """Has the library look only at the system's own GPU interface, and trust our grids; if nobody has used it before us."""
    try:
        from wgpu.backends.wgpu_native import _helpers
        from wgpu.backends.wgpu_native.extras import set_instance_extras

        if _helpers._the_instance is None:
            set_instance_extras(backends=("Primary",), flags=("Empty",))
    except (ImportError, AttributeError, TypeError):
        return  # another version or implementation of the package: its defaults work too


def request_adapter() -> Any:
    """The best adapter; a software one only if the environment asks for it.

    Raises:
        BackendError: there is none.
    """
    import wgpu

    wanted = os.environ.get(VARIABLE, "").strip().lower()
    if wanted not in ("", "software", "gpu"):
        raise BackendError(f"{VARIABLE}={wanted!r}: expected 'gpu' (the default) or 'software'")
    load_library()
    shorten_type_parsing()
    _limit_instance()
    try:
        adapter = wgpu.gpu.request_adapter_sync(
            power_preference="high-performance", force_fallback_adapter=wanted == "software"
        )
    except Exception as error:  # the package raises whatever the library told it
        raise BackendError(
            f"wgpu: no adapter found ({error}). Is a GPU driver for Vulkan, Metal or Direct3D 12 installed? "
            "On Debian, mesa-vulkan-drivers has one for most GPUs and, for tests, one that runs on the CPU"
        ) from error
    if adapter.info["adapter_type"] == "CPU" and wanted != "software":
        raise BackendError(
            f"wgpu: there is only a software adapter ({adapter.info['device']}), which is slower than backend='numpy'. "
            f"Set the environment variable {VARIABLE}=software to use it anyway"
        )
    return adapter


class Device:
    """One logical device and everything that lives on it.

    Attributes:
        gpu: the device, as an object of the `wgpu` package.
        target: its limits, as kernels are made for them.
        info: what users see.
        lost: whether it went away; then all that lives on it is gone.
        lock: held while commands are recorded and submitted.
        pool: its memory.
        recorder: its queue.
        rows: numbers for the steps of loops.
        groups: its bind groups.
        created: how many pipelines and bind groups were made so far, by kind.
    """

    def __init__(self, adapter: Any = None, most: Mapping[str, int] | None = None):
        """
        Arguments:
            most: what it keeps to, as `backends.wgpu.limits` names it; what the environment says, by default.
        """
        adapter = request_adapter() if adapter is None else adapter
        self.info = GpuDevice(adapter.info)
        limits = {name: min(adapter.limits[name], MOST_BYTES) for name in LIMITS if name in adapter.limits}
        features = [name for name in FEATURES if name in adapter.features]
        limits, features = capped(limits, features, wanted() if most is None else most)
        with gpu_errors(None, f"opening {self.info.device_kind}"):
            self.gpu = adapter.request_device_sync(required_features=features, required_limits=limits)
        self.lost = False
        self.lock = threading.RLock()
        self.has_timestamps = "timestamp-query" in features
        self.target = _target(self.gpu.limits, features, adapter.info)
        self.most_bytes = min(self.gpu.limits["max-buffer-size"], MOST_BYTES)
        self.created = {"pipelines": 0, "bind groups": 0}
        self.pool = Pool(self)
        self.rows = Rows(self.gpu)
        self.recorder = recorder_of(self)
        self.groups = GroupCache(self.bind_group)
        self._compiling = threading.Lock()
        self._workers = ThreadPoolExecutor(min(os.cpu_count() or 1, 16), "asgfn-kernels")
        self._pipelines: dict[Kernel, Future[Pipeline]] = {}
        self._layouts: dict[tuple, Any] = {}
        self._trusted = _trusted_maker(self.gpu)

    # ------------------------------------------------------------------ pipelines
    def expect(self, kernel: Kernel) -> None:
        """Begins to compile a kernel that will be asked for, in a thread of its own: the library needs no Python."""
        with self._compiling:
            if kernel not in self._pipelines:
                self._layout(kernel)
                self._pipelines[kernel] = self._workers.submit(self._compile, kernel)

    def pipelines(self, kernels: Sequence[Kernel]) -> list[Pipeline]:
        """Pipelines of these kernels. Those that are new are compiled, several at a time.

        Raises:
            BackendError: the driver refuses one.
        """
        for kernel in dict.fromkeys(kernels):
            self.expect(kernel)
        try:
            return [self._pipelines[k].result() for k in kernels]
        except BaseException:
            with self._compiling:  # whoever asks again gets another try
                failed = [k for k, p in self._pipelines.items() if p.done() and (p.cancelled() or p.exception())]
                for k in failed:
                    del self._pipelines[k]
            raise

    def _layout(self, kernel: Kernel) -> tuple[Any, Any]:
        """Layouts of the bind group and of the pipeline."""
        key = (kernel.written, kernel.numbered)
        found = self._layouts.get(key)
        if found is None:
            entries = [
                {"binding": k, "visibility": COMPUTE, "buffer": {"type": "storage" if w else "read-only-storage"}}
                for k, w in enumerate(kernel.written)
            ]
            group = self.gpu.create_bind_group_layout(entries=entries)
            groups = [group, self.rows.layout] if kernel.numbered else [group]
            found = self._layouts[key] = group, self.gpu.create_pipeline_layout(bind_group_layouts=groups)
        return found

    def _compile(self, kernel: Kernel) -> Pipeline:
        with gpu_errors(self, "compiling a kernel"):
            group, layout = self._layout(kernel)
            module = self._trusted(kernel.source)
            native = self.gpu.create_compute_pipeline(layout=layout, compute={"module": module, "entry_point": "main"})
        self.created["pipelines"] += 1
        return Pipeline(native, group)

    def bind_group(self, layout: Any, ranges: Sequence[Range]) -> Any:
        """A bind group of these ranges."""
        entries = [
            {"binding": k, "resource": {"buffer": memory.buffer, "offset": offset, "size": size}}
            for k, (memory, offset, size) in enumerate(ranges)
        ]
        with gpu_errors(self, "binding memory"):
            group = self.gpu.create_bind_group(layout=layout, entries=entries)
        self.created["bind groups"] += 1
        return group


def _target(limits: Any, features: Sequence[str], info: Any) -> Target:
    """What kernels may use on a device with these limits."""
    sizes = (int(info.get("stackgroup_min_size") or 0), int(info.get("stackgroup_max_size") or 0))
    known = "subgroup" in features and 0 < sizes[0] <= sizes[1]
    return Target(
        types=Types(half="shader-f16" in features),
        workgroup_threads=min(limits["max-compute-invocations-per-workgroup"], limits["max-compute-workgroup-size-x"]),
        workgroup_bytes=limits["max-compute-workgroup-storage-size"],
        grid=limits["max-compute-workgroups-per-dimension"],
        buffers=limits["max-storage-buffers-per-shader-stage"],
        binding_bytes=min(limits["max-storage-buffer-binding-size"], limits["max-buffer-size"]) // 16 * 16,
        subgroup=sizes if known else (0, 0),
    )


def _trusted_maker(gpu: Any) -> Any:
    """What makes a shader module of WGSL. Our kernels check their own ranges, so where the library lets us say so, it
    adds no checks of its own; they cost up to a third of a matrix product's time."""
    try:
        from wgpu.backends.wgpu_native import _api, ffi, lib

        create = _api.libf.wgpuDeviceCreateShaderModuleTrusted
        kind = lib.WGPUSType_ShaderSourceWGSL
        gpu._internal  # noqa: B018
    except (ImportError, AttributeError):
        return lambda source: gpu.create_shader_module(code=source)

    def trusted(source: str) -> Any:
        data = source.encode()
        text = ffi.new("char[]", data)
        wgsl = ffi.new("WGPUShaderSourceWGSL *")
        wgsl.chain.sType = kind
        wgsl.code.data, wgsl.code.length = text, len(data)
        description = ffi.new("WGPUShaderModuleDescriptor *")
        description.nextInChain = ffi.cast("WGPUChainedStruct *", wgsl)
        return _api.GPUShaderModule("", create(gpu._internal, description, 0), gpu)

    return trusted
