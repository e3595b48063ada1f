"""The shortest way from Python to the GPU's queue: the functions of `wgpu-native`.

Recording a dispatch through the classes of the `wgpu` package costs several microseconds, calling its library directly
costs one or two. So programs are lists of handles of the library, and `NativeRecorder` goes through such a list. Where the
library does not look as expected, `ClassRecorder` does the same through the classes.
"""

from __future__ import annotations

import ctypes
import re
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from backends.wgpu.classes import ClassRecorder
from backends.wgpu.errors import gpu_errors, translated
from backends.wgpu.recorder import Owner, Recorder

_FUNCTIONS = """
    DeviceCreateCommandEncoder CommandEncoderBeginComputePass ComputePassEncoderEnd ComputePassEncoderRelease
    CommandEncoderFinish CommandEncoderRelease QueueSubmit CommandBufferRelease CommandEncoderCopyBufferToBuffer
    ComputePassEncoderSetBindGroup QueueWriteBuffer DevicePoll BufferMapAsync BufferGetConstMappedRange
    BufferUnmap
""".split()


class _Quick(NamedTuple):
    """What is called for each dispatch. Arguments are ctypes' own objects, or integers of 32 bits."""

    set_pipeline: Any
    set_group: Any
    dispatch: Any
    dispatch_indirect: Any


_NONE = ctypes.c_size_t(0)


def _quick(path: str) -> _Quick:
    """These functions by ctypes, which calls them a quarter faster than cffi does: they only append to a list, so nobody
    needs Python's lock in the meantime.

    Raises:
        AttributeError: the library cannot be loaded this way.
    """
    try:
        library = ctypes.PyDLL(path)  # it is loaded already: this gives the same one
    except OSError as error:
        raise AttributeError(f"{path}: {error}") from error
    found = [
        getattr(library, "wgpuComputePassEncoder" + name)
        for name in ("SetPipeline", "SetBindGroup", "DispatchWorkgroups", "DispatchWorkgroupsIndirect")
    ]
    for function in found:
        function.restype = None
    return _Quick(*found)


class _Errors:
    """Raises what the library says in a block."""

    __slots__ = ("_device", "_doing", "_handler")

    def __init__(self, handler: Any, device: Owner, doing: str):
        self._handler, self._device, self._doing = handler, device, doing

    def __enter__(self) -> None:
        self._handler.capture("asgfn")

    def __exit__(self, kind: Any, error: Any, traceback: Any) -> None:
        failed = self._handler.release("asgfn")
        if failed is not None and error is None:
            raise translated(failed[1], self._device, self._doing)


class Staging:
    """A buffer that the CPU can read.

    Attributes:
        buffer: as an object of the `wgpu` package; `native` is its handle.
        status: what became of the request to read it; 0 while that is not known.
        request: what is told to the library.
    """

    def __init__(self, buffer: Any, status: Any, request: Any):
        self.buffer, self.native = buffer, buffer._internal
        self.status, self.request = status, request


class NativeRecorder(Recorder):
    """Calls the library of `wgpu-native` directly."""

    def __init__(self, device: Owner):
        super().__init__(device)
        self._ffi, self._lib, self._handler = self._library()
        ffi = self._ffi
        self._null = ffi.NULL
        self._quick = _quick(self._path())
        self._native = device.gpu._internal
        self._queue = device.gpu.queue._internal
        self._row_group = device.rows.group._internal
        self._offsets = ffi.new("uint32_t[2]")
        self._commands = ffi.new("WGPUCommandBuffer[1]")
        self._encoder = self._pass = None
        self._quick_pass: Any = None

    def _path(self) -> str:
        """The library's file, which is loaded."""
        from wgpu.backends.wgpu_native._ffi import lib_path

        return lib_path

    def _library(self) -> tuple[Any, Any, Any]:
        """cffi's two objects for the library, and what is told of errors.

        Raises:
            AttributeError: it does not look as expected.
        """
        from wgpu.backends.wgpu_native import _api, ffi, lib

        for name in _FUNCTIONS:
            getattr(lib, "wgpu" + name)
        _api.error_handler.capture, _api.error_handler.release  # noqa: B018

        @ffi.callback("void(WGPUMapAsyncStatus, WGPUStringView, void *, void *)")
        def mapped(status: int, message: Any, place: Any, unused: Any) -> None:
            ffi.cast("int32_t *", place)[0] = status

        self._mapped = mapped
        return ffi, lib, _api.error_handler

    def handle(self, thing: Any) -> ctypes.c_void_p:
        return self._quick_handle(thing._internal)

    def _quick_handle(self, native: Any) -> ctypes.c_void_p:
        """cffi's handle as one of ctypes."""
        return ctypes.c_void_p(int(self._ffi.cast("uintptr_t", native)))

    def _errors(self, doing: str) -> _Errors:
        return _Errors(self._handler, self.device, doing)

    # ------------------------------------------------------------------ commands
    def _begin(self) -> None:
        self._encoder = self._lib.wgpuDeviceCreateCommandEncoder(self._native, self._null)

    def _begin_pass(self) -> None:
        self._pass = self._lib.wgpuCommandEncoderBeginComputePass(self._encoder, self._null)
        self._quick_pass = self._quick_handle(self._pass)

    def _end_pass(self) -> None:
        self._lib.wgpuComputePassEncoderEnd(self._pass)
        self._lib.wgpuComputePassEncoderRelease(self._pass)
        self._pass = None

    def _submit(self) -> None:
        lib = self._lib
        commands = lib.wgpuCommandEncoderFinish(self._encoder, self._null)
        self._drop()
        try:
            # the library ends the process if it is given commands that have an error, those for a lost device among them
            self._errors_so_far("running a program")
            self._commands[0] = commands
            lib.wgpuQueueSubmit(self._queue, 1, self._commands)
        finally:
            lib.wgpuCommandBufferRelease(commands)

    def _errors_so_far(self, doing: str) -> None:
        """Raises what went wrong since the block of `_errors` began."""
        failed = self._handler.release("asgfn")
        self._handler.capture("asgfn")
        if failed is not None:
            raise translated(failed[1], self.device, doing)

    def _drop(self) -> None:
        if self._pass is not None:
            self._lib.wgpuComputePassEncoderRelease(self._pass)
        if self._encoder is not None:
            self._lib.wgpuCommandEncoderRelease(self._encoder)
        self._encoder = self._pass = None

    def _dispatch(self, entries: Sequence[tuple]) -> None:
        encoder = self._quick_pass
        set_pipeline, set_group, dispatch, _ = self._quick
        for pipeline, group, x, y, z in entries:
            set_pipeline(encoder, pipeline)
            set_group(encoder, 0, group, _NONE, None)
            dispatch(encoder, x, y, z)

    def _indirect(self, entries: Sequence[tuple]) -> None:
        encoder = self._quick_pass
        set_pipeline, set_group, _, dispatch = self._quick
        for pipeline, group, buffer, offset in entries:
            set_pipeline(encoder, pipeline)
            set_group(encoder, 0, group, _NONE, None)
            dispatch(encoder, buffer, ctypes.c_uint64(offset))

    def _set_row(self, low: int, high: int) -> None:
        self._offsets[0], self._offsets[1] = low, high
        self._lib.wgpuComputePassEncoderSetBindGroup(self._pass, 1, self._row_group, 2, self._offsets)

    def _copy(self, source: Any, target: Any, nbytes: int) -> None:
        self._lib.wgpuCommandEncoderCopyBufferToBuffer(self._encoder, source._internal, 0, target._internal, 0, nbytes)

    def _write(self, buffer: Any, data: np.ndarray) -> None:
        self._lib.wgpuQueueWriteBuffer(self._queue, buffer._internal, 0, self._ffi.from_buffer(data), data.nbytes)

    # ------------------------------------------------------------------ waiting
    def _finish(self) -> None:
        with self._errors("waiting for the GPU"):
            self._lib.wgpuDevicePoll(self._native, True, self._null)

    def _new_staging(self, size: int) -> Staging:
        import wgpu

        usage = wgpu.BufferUsage.COPY_DST | wgpu.BufferUsage.MAP_READ
        with gpu_errors(self.device, f"asking for {size:,} bytes that the CPU can read"):
            buffer = self.device.gpu.create_buffer(size=size, usage=usage)
        status = self._ffi.new("int32_t[1]")
        request = self._ffi.new("WGPUBufferMapCallbackInfo *")
        request.mode = self._lib.WGPUCallbackMode_AllowProcessEvents
        request.callback = self._mapped
        request.userdata1 = status
        return Staging(buffer, status, request)

    def _contents(self, staging: Staging, nbytes: int) -> np.ndarray:
        lib, status = self._lib, staging.status
        status[0] = 0
        with self._errors("reading an array back"):
            lib.wgpuBufferMapAsync(staging.native, lib.WGPUMapMode_Read, 0, nbytes, staging.request[0])
        with self._errors("reading an array back"):
            while not status[0]:
                lib.wgpuDevicePoll(self._native, True, self._null)
            if status[0] != lib.WGPUMapAsyncStatus_Success:
                raise translated(f"mapping memory ended with status {status[0]}", self.device, "reading an array back")
            result = np.empty(nbytes, np.uint8)
            self._ffi.memmove(result, lib.wgpuBufferGetConstMappedRange(staging.native, 0, nbytes), nbytes)
            lib.wgpuBufferUnmap(staging.native)
        return result


def recorder_of(device: Owner) -> Recorder:
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
