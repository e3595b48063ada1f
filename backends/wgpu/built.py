"""A program on a device: its pipelines, its constants, its memory between calls."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import numpy as np

from backends.programs.finish import Finished
from backends.programs.steps import (
    CONSTANT,
    INPUT,
    Commands,
    Dispatch,
    Download,
    Loop,
    Storage,
    Upload,
    While,
    inner_lists,
    walk,
)
from backends.wgpu.binding import Binding
from backends.wgpu.buffers import DeviceBuffer, upload
from backends.wgpu.device import Device, Kernel
from backends.wgpu.memory import Memory
from backends.wgpu.recorder import Habit
from backends.wgpu.running import Run

# lists that are remembered for the memories of the last calls
MOST_BINDINGS = 16

# of a fast GPU: bytes and operations in a second
_BYTES, _FLOPS = 2e12, 2e13


def _seconds(steps: Sequence[Any]) -> float:
    """How long a fast GPU takes for steps, roughly and at least."""
    total = 0.0
    for step in steps:
        if isinstance(step, Dispatch):
            if step.kernel is not None:
                total += step.kernel.bytes / _BYTES + step.kernel.flops / _FLOPS
        else:
            often = len(step.rows) if isinstance(step, Loop) else 1
            total += often * sum(map(_seconds, inner_lists(step)))
    return total


class Built:
    """A program on one device.

    Attributes:
        device: where it is.
        finished: what was compiled.
        needed: for each argument, whether it has to be on the device.
        keeps_results: whether all results are on the device.
        workspaces: memories of temporaries, for one call at a time each, that no call has now.
    """

    def __init__(self, device: Device, finished: Finished):
        self.device, self.finished = device, finished
        kernels = finished.kernels
        self._coming: list[Kernel] | None = [
            Kernel(d.text, tuple(d.written[k] for k in d.bound()), bool(d.rows)) for d in kernels
        ]
        device.begin(self._coming)
        self.constants = {k: upload(device, c) for k, c in finished.constants.items()}
        storages = [s.root for d in kernels for s in d.storages]
        for step in walk(finished.steps):
            if isinstance(step, (Upload, Download)):
                storages.append(step.storage.root)
            elif isinstance(step, (Loop, While)):
                storages += [s.root for pair in step.swaps for s in pair]
        storages += [s.root for s in finished.outputs if isinstance(s, Storage)]
        self.storages = list(dict.fromkeys(storages))
        self.needed = [isinstance(s, Storage) and s.root in self.storages for s in finished.inputs]
        self.only_commands = all(isinstance(s, Commands) for s in finished.steps)
        self._bound = [k for k, needed in enumerate(self.needed) if needed]
        self.keeps_results = not any(isinstance(s, int) for s in finished.outputs)
        self._sizes = [s.nbytes for s in finished.new]
        self._fixed = list(self.constants)
        self._places = [self._place(where) for where in finished.outputs]
        self._bindings: OrderedDict[tuple, Binding] = OrderedDict()
        self._habit = Habit(_seconds(finished.steps))
        self.workspaces: list[list[Memory]] = []
        device.pool.holders.add(self)

    def _place(self, where: Storage | int) -> int:
        """The place of a result's memory among arguments, new memories and constants; any, for what the host computes."""
        if isinstance(where, int):
            return 0
        root, finished = where.root, self.finished
        if root.kind == INPUT:
            return root.number
        if root.kind == CONSTANT:
            return len(finished.inputs) + len(finished.new) + self._fixed.index(root.number)
        return len(finished.inputs) + finished.new.index(root)

    def wait_for_pipelines(self) -> None:
        """Returns when all kernels are compiled. That is only asked for when they are to run, so that arguments are
        copied to the device in the meantime.

        Raises:
            BackendError: the driver refuses one.
        """
        if self._coming is not None:
            made = self.device.pipelines(self._coming)
            for dispatch, pipeline in zip(self.finished.kernels, made, strict=True):
                dispatch.pipeline = pipeline
            self._coming = None

    # ------------------------------------------------------------------ memory
    def _take_workspace(self) -> list[Memory]:
        if self.workspaces:
            return self.workspaces.pop()
        return self.device.pool.take_all(self.finished.temporaries)

    def release_memory(self) -> None:
        """Gives the memory of temporaries back; the next call takes some anew."""
        while self.workspaces:
            self.device.pool.returned.extend(self.workspaces.pop())
        self._bindings.clear()

    def __del__(self) -> None:
        for workspace in self.__dict__.get("workspaces", ()):
            self.device.pool.returned.extend(workspace)

    def _bind(self, inputs: Sequence[Any], new: Sequence[DeviceBuffer], workspace: Sequence[Memory]) -> Binding:
        """The lists for these memories."""
        key = tuple(
            [inputs[k].memory.serial for k in self._bound]
            + [b.memory.serial for b in new]
            + [m.serial for m in workspace[:1]]  # a workspace is taken and given back as a whole
        )
        found = self._bindings.get(key)
        if found is not None:
            self._bindings.move_to_end(key)
            return found
        news = dict(zip(self.finished.new, new, strict=True))
        memories: dict[Storage, Memory] = {}
        for s in self.storages:
            if s in news:
                memories[s] = news[s].memory
            elif s.kind == INPUT:
                memories[s] = inputs[s.number].memory
            elif s.kind == CONSTANT:
                memories[s] = self.constants[s.number].memory
            else:
                memories[s] = workspace[s.number]
        found = self._bindings[key] = Binding(self.device, memories)
        if len(self._bindings) > MOST_BINDINGS:
            self._bindings.popitem(last=False)
        return found

    # ------------------------------------------------------------------ running
    def __call__(self, arguments: Sequence[Any], runner: type[Run] = Run) -> list[Any]:
        """Results for arguments: device buffers, or host arrays where the device has no such arrays."""
        inputs = list(arguments)
        for k in self._bound:
            if inputs[k].__class__ is not DeviceBuffer:
                inputs[k] = upload(self.device, inputs[k])
        return self.call(inputs, runner)

    def call(self, inputs: Sequence[Any], runner: type[Run] = Run) -> list[Any]:
        """Results for arguments, of which those that are needed on the device are there."""
        device, finished = self.device, self.finished
        self.wait_for_pipelines()
        direct = self.only_commands and runner is Run
        with device.lock:
            device.recorder.starts()
            new = [DeviceBuffer(device, memory) for memory in device.pool.take_all(self._sizes)]
            workspace = self._take_workspace()
            try:
                binding = self._bind(inputs, new, workspace)
                if direct:
                    for step in finished.steps:
                        device.recorder.play(binding.items(step))
                    device.recorder.ended(self._habit)
            finally:
                if direct:
                    self.workspaces.append(workspace)
        have: list[Any] = [*inputs, *new]
        if self._fixed:
            have += self.constants.values()
        if direct and self.keeps_results:
            return [have[k] for k in self._places]
        run = runner(device, finished, binding, inputs)
        if not direct:
            try:
                run.execute(finished.steps)
                with device.lock:
                    device.recorder.ended(self._habit)
            finally:
                self.workspaces.append(workspace)
        return [
            np.asarray(run.env[where], t.dtype).reshape(t.shape) if isinstance(where, int) else have[k]
            for where, k, t in zip(finished.outputs, self._places, finished.out_types, strict=True)
        ]
