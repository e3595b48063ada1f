"""The GPU: one adapter, one logical device, its limits, its compiled pipelines."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

from asgfn.errors import BackendError
from backends.kernels.target import Target
from backends.kernels.types import Types
from backends.wgpu.choice import chosen
from backends.wgpu.errors import gpu_errors
from backends.wgpu.groups import GroupCache, Range
from backends.wgpu.implementation import Implementation
from backends.wgpu.limits import capped, wanted
from backends.wgpu.measurements import remembered
from backends.wgpu.memory import Pool
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


class _Coming:
    """A pipeline that is being compiled."""

    def __init__(self, future: Any, layout: Any):
        self._future, self._layout = future, layout
        self._pipeline: Pipeline | None = None

    @property
    def is_there(self) -> bool:
        return self._pipeline is not None

    def result(self) -> Pipeline:
        """The pipeline, when it is there."""
        if self._pipeline is None:
            self._pipeline = Pipeline(self._future.result(), self._layout)
        return self._pipeline


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


def request_adapter() -> Any:
    """The best adapter; a software one only if the environment asks for it.

    Raises:
        BackendError: there is none.
    """
    wanted = os.environ.get(VARIABLE, "").strip().lower()
    if wanted not in ("", "software", "gpu"):
        raise BackendError(f"{VARIABLE}={wanted!r}: expected 'gpu' (the default) or 'software'")
    implementation = chosen()
    try:
        implementation.prepare()
        adapter = implementation.adapter(wanted == "software")
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
        adapter: its name and driver.
        measured: seconds of schedules by problem, as the target has them too; see `backends.wgpu.tuning`.
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
        self.implementation = chosen()
        features = [name for name in self.implementation.features if name in adapter.features]
        limits, features = capped(limits, features, wanted() if most is None else most)
        with gpu_errors(None, f"opening {self.info.device_kind}"):
            self.gpu = self.implementation.open(adapter, features, limits)
        self.lost = False
        self.lock = threading.RLock()
        self.has_timestamps = "timestamp-query" in features
        self.adapter = f"{self.info.device_kind} {self.info.description}"
        if self.implementation.name != "wgpu":
            self.adapter += f" through {self.implementation.name}"
        self.measured = remembered(self.adapter)
        self.target = _target(self.implementation, adapter, self.gpu.limits, features, self.measured)
        self.most_bytes = min(self.gpu.limits["max-buffer-size"], MOST_BYTES)
        self.created = {"pipelines": 0, "bind groups": 0}
        self.pool = Pool(self)
        self.rows = Rows(self.gpu)
        self.recorder = self.implementation.recorder(self)
        self.groups = GroupCache(self.bind_group)
        self._compiling = threading.Lock()
        self._workers = ThreadPoolExecutor(min(os.cpu_count() or 1, 16), "asgfn-kernels")
        self._pipelines: dict[Kernel, _Coming] = {}
        self._layouts: dict[tuple, Any] = {}

    # ------------------------------------------------------------------ pipelines
    def expect(self, kernel: Kernel) -> None:
        """Begins to compile a kernel that will be asked for, in a thread of its own: the library needs no Python."""
        with self._compiling:
            if kernel not in self._pipelines:
                group, layout = self._layout(kernel)
                with gpu_errors(self, "compiling a kernel"):
                    future = self.implementation.pipeline(self.gpu, kernel.source, layout, self._workers)
                self._pipelines[kernel] = _Coming(future, group)
                self.created["pipelines"] += 1

    def begin(self, kernels: Iterable[Kernel]) -> None:
        """Begins to compile those of these kernels that are new, several at a time."""
        # long ones first, so that none is left when the others are done
        for kernel in sorted(dict.fromkeys(kernels), key=lambda k: len(k.source), reverse=True):
            self.expect(kernel)

    def pipelines(self, kernels: Sequence[Kernel]) -> list[Pipeline]:
        """Pipelines of these kernels, when all are there.

        Raises:
            BackendError: the driver refuses one.
        """
        self.begin(kernels)
        coming = [self._pipelines[k] for k in kernels]
        try:
            with gpu_errors(self, "compiling a kernel"):
                return [c.result() for c in coming]
        except BaseException:
            with self._compiling:  # whoever asks again gets another try
                for k in kernels:
                    if k in self._pipelines and not self._pipelines[k].is_there:
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


# threads of a subgroup: the bounds that WGSL sets, and what they are on all devices of a vendor (by its PCI number)
WGSL_SUBGROUPS = (4, 128)
VENDORS_SUBGROUPS = {0x10DE: (32, 32)}


def _target(
    implementation: Implementation,
    adapter: Any,
    limits: Any,
    features: Sequence[str],
    measured: Mapping[str, Mapping[Any, float]],
) -> Target:
    """What kernels may use on a device with these limits."""
    info = adapter.info
    sizes = (int(info.get("stackgroup_min_size") or 0), int(info.get("stackgroup_max_size") or 0))
    if sizes == WGSL_SUBGROUPS:  # the library may know no more than that; the vendor does
        sizes = VENDORS_SUBGROUPS.get(int(info.get("vendor_id") or 0), sizes)
    known = implementation.has_subgroups(features) and 0 < sizes[0] <= sizes[1]
    return Target(
        types=Types(half="shader-f16" in features),
        workgroup_threads=min(limits["max-compute-invocations-per-workgroup"], limits["max-compute-workgroup-size-x"]),
        workgroup_bytes=limits["max-compute-workgroup-storage-size"],
        grid=limits["max-compute-workgroups-per-dimension"],
        buffers=limits["max-storage-buffers-per-shader-stage"],
        binding_bytes=min(limits["max-storage-buffer-binding-size"], limits["max-buffer-size"]) // 16 * 16,
        subgroup=sizes if known else (0, 0),
        subgroup_matrix=implementation.matrices(adapter, features) if known else (),
        measured=measured,
    )
