"""Memory of the GPU: a pool of buffers."""

from __future__ import annotations

import heapq
import itertools
import os
import weakref
from collections import OrderedDict, deque
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Protocol

from asgfn.graph.types import ArrayType
from backends.kernels.types import Types
from backends.wgpu import errors
from backends.wgpu.errors import OutOfDeviceMemory, gpu_errors
from backends.wgpu.package import package

VARIABLE = "ASGFN_WGPU_POOL_BYTES"
DEFAULT_BUDGET = 4 << 30
ALIGNMENT = 16  # kernels move four elements at a time
_STEPS = 8  # size classes between a power of two and the next


def padded(nbytes: int) -> int:
    """Bytes of memory that so many bytes take."""
    return -(-nbytes // ALIGNMENT) * ALIGNMENT


@lru_cache(maxsize=1 << 16)
def size_class(nbytes: int) -> int:
    """The size of a buffer for so many bytes: at most an eighth larger."""
    if nbytes <= 256:
        return 256
    step = max(256, (1 << (nbytes - 1).bit_length() - 1) // _STEPS)
    return -(-nbytes // step) * step


def storage_bytes(aval: ArrayType, types: Types) -> int:
    """Bytes of an array in the device's representation, padded."""
    return padded(aval.size * types.numpy_storage(aval.dtype).itemsize)


class Memory:
    """A buffer of the GPU.

    Attributes:
        buffer: as an object of the `wgpu` package.
        size: bytes.
        serial: a number that is never used again, so that what was bound to it is known by it.
        returned: the number of submissions when it came back to the pool the last time; -1 before.
    """

    __slots__ = ("buffer", "returned", "serial", "size")

    def __init__(self, buffer: Any, size: int, serial: int):
        self.buffer, self.size, self.serial = buffer, size, serial
        self.returned = -1


class Owner(errors.Owner, Protocol):
    """The device that has a pool.

    Attributes:
        gpu: that of the `wgpu` package.
        recorder: records its commands.
        most_bytes: that a buffer can have.
        info: what users see of it.
    """

    gpu: Any
    recorder: Any
    most_bytes: int
    info: Any


class Pool:
    """Buffers that are not in use, by size; all of them together stay below a budget.

    Attributes:
        budget: how many bytes may lie idle.
        used: bytes of buffers that somebody has.
        idle: bytes of buffers that nobody has.
        returned: memories that came back and were not sorted in yet. Appending is safe in any thread, at any time.
        holders: who keeps memory between calls and can do without (programs, their temporaries).
    """

    def __init__(self, device: Owner):
        self._device = weakref.ref(device)
        self.budget = _budget()
        self.used = self.idle = 0
        self.returned: deque[Memory] = deque()
        self.holders: weakref.WeakSet[Any] = weakref.WeakSet()
        self._serials = itertools.count(1)
        # all that are not destroyed. Without it, one that is part of garbage in a circle (of somebody's objects) would come
        # back from there with its buffer released, since Python ends everything in a circle at once
        self._all: dict[int, Memory] = {}
        self._by_size: dict[int, list[int]] = {}  # heaps of the serial numbers of idle memories, and of destroyed ones
        self._oldest: OrderedDict[int, Memory] = OrderedDict()  # idle memories, the one that was idle longest first

    def take(self, nbytes: int) -> Memory:
        """A memory of at least so many bytes, with anything in it. Hold the device's lock.

        Raises:
            OutOfDeviceMemory: there is none left.
        """
        return self.take_all([nbytes])[0]

    def take_all(self, sizes: Sequence[int]) -> list[Memory]:
        """Memories of at least so many bytes each. Hold the device's lock."""
        self._sort_in()
        taken: list[Memory] = []
        try:
            for nbytes in sizes:
                taken.append(self._take(size_class(nbytes)))
        except OutOfDeviceMemory:
            self.returned.extend(taken)
            raise
        return taken

    def _take(self, size: int) -> Memory:
        serials = self._by_size.get(size, [])
        while serials:
            # always the lowest number: then steps that replace their arguments take turns with two sets of
            # memories, and what was bound to these is used again
            memory = self._oldest.pop(heapq.heappop(serials), None)
            if memory is None:  # it was destroyed
                continue
            self.idle -= size
            self.used += size
            return memory
        memory = self._create(size)
        self.used += size
        return memory

    def _create(self, size: int) -> Memory:
        wgpu = package()

        device = self._device()
        assert device is not None
        if size > device.most_bytes:
            raise OutOfDeviceMemory(
                f"wgpu: an array of {size:,} bytes is larger than a buffer of {device.info.device_kind} can be "
                f"({device.most_bytes:,} bytes): split it, or use backend='numpy'"
            )
        usage = wgpu.BufferUsage.STORAGE | wgpu.BufferUsage.COPY_SRC | wgpu.BufferUsage.COPY_DST
        usage |= wgpu.BufferUsage.INDIRECT

        def create() -> Any:
            with gpu_errors(device, f"asking for {size:,} bytes"):
                return device.gpu.create_buffer(size=size, usage=usage)

        try:
            buffer = create()
        except OutOfDeviceMemory:
            device.recorder.flush()
            for holder in list(self.holders):
                holder.release_memory()
            self._sort_in()
            self.trim(0)
            buffer = create()
        memory = Memory(buffer, size, next(self._serials))
        self._all[memory.serial] = memory
        return memory

    def _sort_in(self) -> None:
        if not self.returned:
            return
        device = self._device()
        submissions = device.recorder.submissions if device is not None else 0
        while self.returned:
            memory = self.returned.popleft()
            memory.returned = submissions
            self.used -= memory.size
            self.idle += memory.size
            heapq.heappush(self._by_size.setdefault(memory.size, []), memory.serial)
            self._oldest[memory.serial] = memory
        if self.idle > self.budget:
            self.trim(self.budget)

    def trim(self, nbytes: int) -> None:
        """Destroys idle buffers, the oldest first, until no more than so many bytes lie idle."""
        device = self._device()
        if self.idle > nbytes and device is not None:
            device.recorder.flush()  # what was recorded may use them
        while self.idle > nbytes and self._oldest:
            serial, memory = self._oldest.popitem(last=False)
            del self._all[serial]
            self.idle -= memory.size
            memory.buffer.destroy()

    def describe(self) -> str:
        return f"{self.used:,} bytes in use, {self.idle:,} idle"


def _budget() -> int:
    text = os.environ.get(VARIABLE, "").strip()
    if not text:
        return DEFAULT_BUDGET
    try:
        budget = int(text)
    except ValueError:
        budget = -1
    if budget < 0:
        raise ValueError(f"environment variable {VARIABLE}={text!r} is not a number of bytes")
    return budget
