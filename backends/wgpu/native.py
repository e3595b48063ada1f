"""Recording commands: the shortest way from Python to the GPU's queue.

Recording a dispatch through the classes of the `wgpu` package costs several microseconds, calling its library directly
costs one or two. So programs are lists of handles of the library, and `NativeRecorder` goes through such a list. Where the
library does not look as expected, `ClassRecorder` does the same through the classes.

A list has items of three kinds:
    (DISPATCH, [(pipeline, bind group, x, y, z), ...])
    (INDIRECT, [(pipeline, bind group, buffer, offset), ...])     the grid is in a buffer
    (LOOP, LoopItems)
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from backends.wgpu.errors import gpu_errors, translated

if TYPE_CHECKING:
    from backends.wgpu.device import Device

DISPATCH, INDIRECT, LOOP = 0, 1, 2
# a loop's row number is low + high, so that a table of ROWS entries is enough for ROWS * ROWS rows
ROWS = 4096
# a longer program is handed over in parts, so that the GPU starts while the rest is recorded
MOST_DISPATCHES = 4096


class LoopItems(NamedTuple):
    """A loop whose length is known.

    Attributes:
        rows: the numbers of its steps, in order.
        numbered: whether its kernels read the number of the step.
        even, odd: the lists of every other step; they differ in which of two memories is read and which is written.
    """

    rows: range
    numbered: bool
    even: list
    odd: list


class Recorder:
    """Records lists into command buffers and submits them. One thread at a time: hold `device.lock`."""

    def __init__(self, device: Device):
        self.device = device
        self.open = False
        self._row: int | None = None  # of the innermost loop that is being recorded
        self._count = 0

    # ------------------------------------------------------------------ what the two kinds do differently
    def handle(self, thing: Any) -> Any:
        """What lists hold for an object of the `wgpu` package."""
        raise NotImplementedError

    def _begin(self) -> None:
        raise NotImplementedError

    def _submit(self) -> None:
        raise NotImplementedError

    def _dispatch(self, entries: Sequence[tuple]) -> None:
        raise NotImplementedError

    def _indirect(self, entries: Sequence[tuple]) -> None:
        raise NotImplementedError

    def _set_row(self, low: int, high: int) -> None:
        raise NotImplementedError

    def write(self, buffer: Any, data: np.ndarray) -> None:
        """Queues a copy of the data into a buffer (of the `wgpu` package), before what is submitted later."""
        self.flush()
        with gpu_errors(self.device, "copying an array to the GPU"):
            self.device.gpu.queue.write_buffer(buffer, 0, data)

    # ------------------------------------------------------------------ recording
    def play(self, items: Sequence[tuple]) -> None:
        """Records a list."""
        if not self.open:
            self._begin()
            self.open = True
            self._count = 0
            if self._row is not None:
                self.row(self._row)
        for kind, content in items:
            if kind == DISPATCH:
                self._dispatch(content)
                self._count += len(content)
            elif kind == INDIRECT:
                self._indirect(content)
                self._count += len(content)
            else:
                self._loop(content)
                continue
            if self._count > MOST_DISPATCHES:
                self.flush()
                self._begin()
                self.open = True
                self._count = 0
                if self._row is not None:
                    self.row(self._row)

    def _loop(self, loop: LoopItems) -> None:
        outer = self._row
        odd = False
        for number in loop.rows:
            if loop.numbered:
                self._row = number
                self.row(number)
            self.play(loop.odd if odd else loop.even)
            odd = not odd
        self._row = outer
        if outer is not None and loop.numbered and self.open:
            self.row(outer)

    def row(self, number: int) -> None:
        """What follows reads this as the number of its step."""
        high, low = divmod(number, ROWS)
        self._set_row(low * self.device.row_stride, high * self.device.row_stride)

    def in_row(self, number: int | None) -> int | None:
        """Commands recorded from now on belong to this step of a loop that Python runs; returns what held before."""
        before, self._row = self._row, number
        if number is not None and self.open:
            self.row(number)
        return before

    def flush(self) -> None:
        """Submits what was recorded, if anything."""
        if self.open:
            self.open = False
            self._submit()


class NativeRecorder(Recorder):
    """Calls the library of `wgpu-native` directly."""

    def __init__(self, device: Device):
        super().__init__(device)
        from wgpu.backends.wgpu_native import _api, ffi, lib

        self._ffi, self._lib = ffi, lib
        self._errors = _api.error_handler
        self._errors.capture, self._errors.release  # noqa: B018  # AttributeError if it is another library
        self._null = ffi.NULL
        self._set_pipeline = lib.wgpuComputePassEncoderSetPipeline
        self._set_group = lib.wgpuComputePassEncoderSetBindGroup
        self._dispatch_one = lib.wgpuComputePassEncoderDispatchWorkgroups
        self._dispatch_indirect = lib.wgpuComputePassEncoderDispatchWorkgroupsIndirect
        self._native = device.gpu._internal
        self._queue = device.gpu.queue._internal
        self._offsets = ffi.new("uint32_t[2]")
        self._commands = ffi.new("WGPUCommandBuffer[1]")
        self._encoder = self._pass = None

    def handle(self, thing: Any) -> Any:
        return thing._internal

    def _begin(self) -> None:
        self._errors.capture("asgfn")
        self._encoder = self._lib.wgpuDeviceCreateCommandEncoder(self._native, self._null)
        self._pass = self._lib.wgpuCommandEncoderBeginComputePass(self._encoder, self._null)

    def _submit(self) -> None:
        lib = self._lib
        lib.wgpuComputePassEncoderEnd(self._pass)
        self._commands[0] = lib.wgpuCommandEncoderFinish(self._encoder, self._null)
        lib.wgpuQueueSubmit(self._queue, 1, self._commands)
        lib.wgpuCommandBufferRelease(self._commands[0])
        lib.wgpuComputePassEncoderRelease(self._pass)
        lib.wgpuCommandEncoderRelease(self._encoder)
        self._encoder = self._pass = None
        failed = self._errors.release("asgfn")
        if failed is not None:
            raise translated(failed[1], self.device, "running a program")

    def _dispatch(self, entries: Sequence[tuple]) -> None:
        encoder, null = self._pass, self._null
        set_pipeline, set_group, dispatch = self._set_pipeline, self._set_group, self._dispatch_one
        for pipeline, group, x, y, z in entries:
            set_pipeline(encoder, pipeline)
            set_group(encoder, 0, group, 0, null)
            dispatch(encoder, x, y, z)

    def _indirect(self, entries: Sequence[tuple]) -> None:
        encoder, null = self._pass, self._null
        for pipeline, group, buffer, offset in entries:
            self._set_pipeline(encoder, pipeline)
            self._set_group(encoder, 0, group, 0, null)
            self._dispatch_indirect(encoder, buffer, offset)

    def _set_row(self, low: int, high: int) -> None:
        self._offsets[0], self._offsets[1] = low, high
        self._set_group(self._pass, 1, self.device.row_group._internal, 2, self._offsets)


class ClassRecorder(Recorder):
    """Goes through the classes of the `wgpu` package: slower, but the package's public interface."""

    def __init__(self, device: Device):
        super().__init__(device)
        self._encoder: Any = None
        self._pass: Any = None

    def handle(self, thing: Any) -> Any:
        return thing

    def _begin(self) -> None:
        with gpu_errors(self.device, "recording a program"):
            self._encoder = self.device.gpu.create_command_encoder()
            self._pass = self._encoder.begin_compute_pass()

    def _submit(self) -> None:
        with gpu_errors(self.device, "running a program"):
            self._pass.end()
            self.device.gpu.queue.submit([self._encoder.finish()])
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
        self._pass.set_bind_group(1, self.device.row_group, [low, high])


def recorder_of(device: Device) -> Recorder:
    """The fastest recorder that works with the installed library."""
    try:
        return NativeRecorder(device)
    except (ImportError, AttributeError):
        return ClassRecorder(device)


def shorten_type_parsing() -> None:
    """Has cffi look up C types faster, the first time that each is named.

    It parses a C program with all typedefs of the library's header for each of about fifty types, which takes a second in
    all. Only those typedefs matter that the type names; so it is shown these alone.
    """
    try:
        from wgpu.backends.wgpu_native import ffi

        parser = ffi._parser
        parse, _ = parser.parse_type, parser._declarations
    except (ImportError, AttributeError):
        return  # another version of cffi, or of the package: it takes that second
    if getattr(parse, "shows_needed_types_only", False):
        return

    def parse_type(text: str) -> Any:
        words = set(re.findall(r"\w+", text))
        everything = parser._declarations
        parser._declarations = {k: v for k, v in everything.items() if k.partition(" ")[2] in words}
        try:
            return parse(text)
        finally:
            everything.update(parser._declarations)
            parser._declarations = everything

    parse_type.shows_needed_types_only = True  # type: ignore[attr-defined]
    parser.parse_type = parse_type
