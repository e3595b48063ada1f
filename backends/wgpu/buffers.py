"""Memory of the GPU: a pool of buffers, arrays in them, and the way between them and NumPy.

An array on the GPU is a `DeviceBuffer`. It has no shape and no dtype (the array's type says these), so a reshape shares
it. When nobody refers to it any more, its memory goes back to the pool, also while the GPU still works on it: what is
queued later runs later.
"""

from __future__ import annotations

import itertools
import os
import weakref
from collections import OrderedDict, deque
from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from asgfn.graph.types import ArrayType
from backends.wgpu.errors import OutOfDeviceMemory, check_alive, gpu_errors

if TYPE_CHECKING:
    from backends.kernels.types import Types
    from backends.wgpu.device import Device

VARIABLE = "ASGFN_WGPU_POOL_BYTES"
DEFAULT_BUDGET = 4 << 30
ALIGNMENT = 16  # kernels move four elements at a time
_STEPS = 8  # size classes between a power of two and the next
_LARGEST_KEPT_STAGING = 1 << 24


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


class Memory:
    """A buffer of the GPU. Its serial number is never used again, so that what was bound to it is known by it."""

    __slots__ = ("buffer", "serial", "size")

    def __init__(self, buffer: Any, size: int, serial: int):
        self.buffer, self.size, self.serial = buffer, size, serial


class DeviceBuffer:
    """The memory of an array. It returns to the pool with the last reference."""

    __slots__ = ("__weakref__", "device", "memory")

    def __init__(self, device: Device, memory: Memory):
        self.device, self.memory = device, memory

    def __del__(self) -> None:
        self.device.pool.returned.append(self.memory)

    def __repr__(self) -> str:
        return f"<{self.memory.size} bytes on {self.device.info}>"


class Pool:
    """Buffers that are not in use, by size; all of them together stay below a budget.

    Attributes:
        budget: how many bytes may lie idle.
        used: bytes of buffers that somebody has.
        idle: bytes of buffers that nobody has.
        returned: memories that came back and were not sorted in yet. Appending is safe in any thread, at any time.
        holders: who keeps memory between calls and can do without (programs, their temporaries).
    """

    def __init__(self, device: Device):
        self._device = weakref.ref(device)
        self.budget = _budget()
        self.used = self.idle = 0
        self.returned: deque[Memory] = deque()
        self.holders: weakref.WeakSet[Any] = weakref.WeakSet()
        self.staging: dict[int, list[Any]] = {}  # buffers that the CPU can read, by size
        self._serials = itertools.count(1)
        self._by_size: dict[int, OrderedDict[int, Memory]] = {}
        self._oldest: OrderedDict[int, Memory] = OrderedDict()

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
        stock = self._by_size.get(size)
        if stock:
            serial, memory = stock.popitem()
            del self._oldest[serial]
            self.idle -= size
            self.used += size
            return memory
        memory = self._create(size)
        self.used += size
        return memory

    def _create(self, size: int) -> Memory:
        import wgpu

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
        return Memory(buffer, size, next(self._serials))

    def _sort_in(self) -> None:
        while self.returned:
            memory = self.returned.popleft()
            self.used -= memory.size
            self.idle += memory.size
            self._by_size.setdefault(memory.size, OrderedDict())[memory.serial] = memory
            self._oldest[memory.serial] = memory
        if self.idle > self.budget:
            self.trim(self.budget)

    def trim(self, nbytes: int) -> None:
        """Destroys idle buffers, the oldest first, until no more than so many bytes lie idle."""
        while self.idle > nbytes and self._oldest:
            serial, memory = self._oldest.popitem(last=False)
            del self._by_size[memory.size][serial]
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


# ---------------------------------------------------------------------------------------------- to and from NumPy
def storage_bytes(aval: ArrayType, types: Types) -> int:
    """Bytes of an array in the device's representation, padded."""
    return padded(aval.size * types.numpy_storage(aval.dtype).itemsize)


def to_storage(value: np.ndarray, types: Types) -> np.ndarray:
    """An array as the bytes of the device's memory, a multiple of four of them."""
    stored = np.ascontiguousarray(value, types.numpy_storage(value.dtype)).reshape(-1)
    if stored.nbytes % 4:
        stored = np.concatenate([stored, np.zeros(1, stored.dtype)])
    return stored


def upload(device: Device, value: np.ndarray) -> DeviceBuffer:
    """A copy of a NumPy array on the device. The array must not be empty, and its dtype one that the device has."""
    stored = to_storage(value, device.target.types)
    with device.lock:
        buffer = DeviceBuffer(device, device.pool.take(padded(stored.nbytes)))
        device.recorder.write(buffer.memory.buffer, stored)
    return buffer


def duplicate(buffer: DeviceBuffer) -> DeviceBuffer:
    """A copy of an array on its device."""
    device = buffer.device
    with device.lock, gpu_errors(device, "copying an array"):
        copy = DeviceBuffer(device, device.pool.take(buffer.memory.size))
        device.recorder.flush()
        encoder = device.gpu.create_command_encoder()
        encoder.copy_buffer_to_buffer(buffer.memory.buffer, 0, copy.memory.buffer, 0, buffer.memory.size)
        device.gpu.queue.submit([encoder.finish()])
    return copy


def from_storage(device: Device, memory: Memory, aval: ArrayType) -> np.ndarray:
    """The array in a memory, as a NumPy array."""
    dtype = device.target.types.numpy_storage(aval.dtype)
    data = read(device, memory, -(-aval.size * dtype.itemsize // 4) * 4)
    stored = data.view(dtype)[: aval.size].reshape(aval.shape)
    return stored if dtype == aval.dtype else stored.astype(aval.dtype)


def download(buffer: DeviceBuffer, aval: ArrayType) -> np.ndarray:
    """A device's array as a NumPy array."""
    return from_storage(buffer.device, buffer.memory, aval)


def read(device: Device, memory: Memory, nbytes: int) -> np.ndarray:
    """The first bytes (a multiple of four) of a memory; waits for what is queued before."""
    check_alive(device)
    import wgpu

    size = size_class(nbytes)
    with device.lock, gpu_errors(device, "reading an array back"):
        device.recorder.flush()
        staging = _take_staging(device, size)
        encoder = device.gpu.create_command_encoder()
        encoder.copy_buffer_to_buffer(memory.buffer, 0, staging, 0, nbytes)
        device.gpu.queue.submit([encoder.finish()])
    # without the lock: others may go on recording while this waits
    with gpu_errors(device, "reading an array back"):
        staging.map_async(wgpu.MapMode.READ, 0, nbytes).sync_wait()
        result = np.empty(nbytes, np.uint8)
        result[:] = np.frombuffer(staging.read_mapped(0, nbytes, copy=False), np.uint8)
        staging.unmap()
    if size <= _LARGEST_KEPT_STAGING:
        device.pool.staging.setdefault(size, []).append(staging)
    else:
        staging.destroy()
    return result


def _take_staging(device: Device, size: int) -> Any:
    import wgpu

    stock = device.pool.staging.get(size)
    if stock:
        return stock.pop()
    return device.gpu.create_buffer(size=size, usage=wgpu.BufferUsage.COPY_DST | wgpu.BufferUsage.MAP_READ)
