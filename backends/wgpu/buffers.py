"""Arrays of the GPU, and the way between them and NumPy.

An array on the GPU is a `DeviceBuffer`. It has no shape and no dtype (the array's type says these), so a reshape shares
it. When nobody refers to it any more, its memory goes back to the pool, also while the GPU still works on it: what is
recorded later runs later.
"""

from __future__ import annotations

import numpy as np

from asgfn.graph.types import ArrayType
from backends.kernels.types import Types
from backends.wgpu.device import Device
from backends.wgpu.errors import check_alive
from backends.wgpu.memory import Memory, padded


class DeviceBuffer:
    """The memory of an array. It returns to the pool with the last reference."""

    __slots__ = ("__weakref__", "device", "memory")

    def __init__(self, device: Device, memory: Memory):
        self.device, self.memory = device, memory

    def __del__(self) -> None:
        self.device.pool.returned.append(self.memory)

    def __repr__(self) -> str:
        return f"<{self.memory.size} bytes on {self.device.info}>"


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
        device.recorder.write(buffer.memory, stored, is_fresh=True)
    return buffer


def duplicate(buffer: DeviceBuffer) -> DeviceBuffer:
    """A copy of an array on its device."""
    device = buffer.device
    with device.lock:
        copy = DeviceBuffer(device, device.pool.take(buffer.memory.size))
        device.recorder.copy(buffer.memory.buffer, copy.memory.buffer, buffer.memory.size)
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
    """The first bytes (a multiple of four) of a memory, when all that was recorded has run."""
    check_alive(device)
    return device.recorder.read(memory, nbytes)
