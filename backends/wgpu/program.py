"""An executable: what `jit` calls, and what people ask about."""

from __future__ import annotations

import logging
import threading
import weakref
from collections.abc import Sequence
from typing import Any, Protocol

from asgfn.config import config
from asgfn.graph.asg import Asg
from asgfn.graph.types import ArrayType
from asgfn.pause import no_collection
from asgfn.tracing import ConcreteArray, resident, residents
from backends.programs.donation import NOBODY_ELSE, delete, most_references
from backends.programs.inspection import KernelRecord, Profile, host_nodes, kernel_records, memory_of
from backends.programs.steps import untold
from backends.wgpu.buffers import DeviceBuffer, duplicate, upload
from backends.wgpu.built import Built
from backends.wgpu.compiling import compiled
from backends.wgpu.description import describe
from backends.wgpu.device import Device

_log = logging.getLogger("asgfn")
_warned: set[tuple[str, str]] = set()


def _tune(device: Device, graph: Asg) -> None:
    from backends.wgpu.tuning import tune  # here: nearly nobody needs it

    tune(device, graph)


class Home(Protocol):
    """The backend that a program's arrays belong to; its device is a new one if the last one was lost."""

    @property
    def device(self) -> Device: ...


class Program:
    """An executable; see `asgfn.backend.Executable`. It is compiled for the device when it is needed, and anew if the
    device was lost."""

    def __init__(self, backend: Home, asg: Asg, donated: Sequence[bool], debug: bool):
        self._backend = weakref.ref(backend)
        self.asg, self.donated, self.debug = asg, tuple(donated), debug
        self._built: Built | None = None
        self._lock = threading.Lock()

    @property
    def backend(self) -> Home:
        backend = self._backend()
        assert backend is not None
        return backend

    @property
    def built(self) -> Built:
        """The program on the device that there is now."""
        built = self._built
        if built is not None and not built.device.lost:
            return built
        device = self.backend.device
        with self._lock:
            if self._built is None or self._built.device is not device:
                with no_collection():
                    tune = (lambda graph: _tune(device, graph)) if config.autotune else None
                    finished = compiled(self.asg, device.target, self.donated, self.debug, device.expect, tune)
                    self._built = Built(device, finished)
                for step, place in untold(finished.steps, _warned):
                    _log.warning(
                        "wgpu: %s%s runs on the host, which takes a round trip, because %s", step.name, place, step.why
                    )
            return self._built

    def __call__(self, buffers: Sequence[Any]) -> list[Any]:
        """Results for arguments, both device buffers or NumPy arrays. Donated buffers may be overwritten."""
        return self.built(buffers)

    def run(self, arrays: Sequence[ConcreteArray], out_types: Sequence[ArrayType]) -> list[ConcreteArray]:
        """Results for arrays, which stay where they are. Donated ones are deleted."""
        built = self.built
        outs = built.call(self.place(built, arrays))
        delete(arrays, self.donated)
        if built.keeps_results:
            return residents(outs, out_types, self.backend)
        return [resident(out, t, self.backend) for out, t in zip(outs, out_types, strict=True)]

    def place(self, built: Built, arrays: Sequence[ConcreteArray]) -> list[Any]:
        """What a program is called with. Donated memory that somebody else sees too is copied if the program writes
        there."""
        device = built.device
        placed = [x.buffer for x in arrays]
        elsewhere = [k for k, b in enumerate(placed) if b.__class__ is not DeviceBuffer or b.device is not device]
        for k in elsewhere:
            placed[k] = self._from_host(device, built.needed[k], k, arrays[k])
        # all at once first, since it is rare that somebody else sees one
        if most_references(placed, built.finished.overwritten) > NOBODY_ELSE:
            for k in built.finished.overwritten:
                if most_references(placed, (k,)) > NOBODY_ELSE:
                    placed[k] = duplicate(placed[k])
        return placed

    def _from_host(self, device: Device, needed: bool, k: int, x: ConcreteArray) -> Any:
        if not needed:
            return x.value
        if self.donated and self.donated[k]:
            return upload(device, x.value)
        return mirrored(device, x)

    # ------------------------------------------------------------------ what people can ask
    def as_text(self) -> str:
        """The kernels in order, with their memories."""
        return describe(self.asg.name, self.built)

    @property
    def memory(self) -> dict[str, int]:
        """Bytes by use."""
        return memory_of(self.built.finished, self.built.device.target)

    @property
    def kernels(self) -> list[KernelRecord]:
        """The kernels in order."""
        return kernel_records(self.built.finished)

    @property
    def host_nodes(self) -> list[str]:
        """Operations that run on the host, with the reason."""
        return host_nodes(self.built.finished)

    def profile(self, arrays: Sequence[ConcreteArray], repeats: int = 10) -> Profile:
        """How long the GPU takes for each kernel. See `asgfn.jit.Compiled.profile`."""
        from backends.wgpu.profiling import profile

        built = self.built
        return profile(built, lambda: self.place(built, arrays), repeats)


def mirrored(device: Device, x: ConcreteArray) -> DeviceBuffer:
    """A host array's copy on the device, which it keeps for the next call: arrays do not change."""
    mirror = getattr(x, "mirror", None)
    if mirror is None or mirror.device is not device:
        mirror = upload(device, x.value)
        x.mirror = mirror
    return mirror
