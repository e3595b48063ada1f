"""Objects in shared memory: how one process hands arrays to another without sending them through a pipe.

An object is pickled with the numbers of its arrays left out (pickle protocol 5, out-of-band buffers); pickle and numbers
are copied into a block of shared memory, one after another.
"""

from __future__ import annotations

import contextlib
import io
import pickle
import shutil
from collections.abc import Sequence
from multiprocessing import shared_memory
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

ALIGNMENT = 64  # bytes, a cache line


class _Pickler(pickle.Pickler):
    """Pickles all arrays so that their numbers stay out of the pickle, whatever their strides and dtypes."""

    def reducer_override(self, value: Any) -> Any:
        if type(value) not in (np.ndarray, np.memmap) or value.dtype.hasobject or value.nbytes == 0:
            return NotImplemented
        value = np.asarray(value)
        if value.dtype.isbuiltin != 1:  # bfloat16 and its kin, and records, offer no buffer
            return _from_bytes, (np.ascontiguousarray(value).reshape(-1).view(np.uint8), value.dtype, value.shape)
        if not (value.flags.c_contiguous or value.flags.f_contiguous):
            value = np.ascontiguousarray(value)
        return value.__reduce_ex__(5)


def _from_bytes(data: np.ndarray, dtype: np.dtype, shape: tuple[int, ...]) -> np.ndarray:
    return data.view(dtype).reshape(shape)


class Packed(NamedTuple):
    """An object as a pickle and the buffers that belong to it."""

    pickle: bytes
    buffers: list[memoryview]

    @property
    def sizes(self) -> list[int]:
        return [len(self.pickle), *(b.nbytes for b in self.buffers)]


def pack(value: Any) -> Packed:
    """The opposite of `pickle.loads(packed.pickle, buffers=packed.buffers)`."""
    file = io.BytesIO()
    buffers: list[pickle.PickleBuffer] = []
    _Pickler(file, protocol=5, buffer_callback=buffers.append).dump(value)
    return Packed(file.getvalue(), [b.raw() for b in buffers])


def places(sizes: Sequence[int]) -> tuple[list[int], int]:
    """Where parts of given sizes start in a block, and how large it must be."""
    starts, end = [], 0
    for size in sizes:
        starts.append(end)
        end += -(-size // ALIGNMENT) * ALIGNMENT
    return starts, max(end, 1)


def create_block(name: str, size: int) -> shared_memory.SharedMemory:
    """A new block. Linux lets one be made that is larger than its memory file system, and kills who writes to it."""
    if Path("/dev/shm").is_dir():
        free = shutil.disk_usage("/dev/shm").free
        if size > free:
            raise OSError(
                f"DataLoader: a batch needs {size} bytes of shared memory and /dev/shm has {free} left. Make batches or "
                "prefetch smaller, use fewer workers, or give the machine more (docker run --shm-size)."
            )
    return shared_memory.SharedMemory(name, create=True, size=size)


def buffer(block: shared_memory.SharedMemory) -> memoryview:
    """The bytes of an open block."""
    assert block.buf is not None
    return block.buf


def write_block(block: shared_memory.SharedMemory, packed: Packed) -> None:
    """Copies an object into a block that has room for it."""
    starts, _ = places(packed.sizes)
    for start, part in zip(starts, [memoryview(packed.pickle), *packed.buffers], strict=True):
        buffer(block)[start : start + part.nbytes] = part


def read_block(block: shared_memory.SharedMemory, sizes: Sequence[int]) -> Any:
    """What `write_block` wrote, as objects that own their memory."""
    starts, _ = places(sizes)
    everything = np.frombuffer(buffer(block), np.uint8)
    copies = [everything[start : start + size].copy() for start, size in zip(starts, sizes, strict=True)]
    del everything  # a block that is still looked at, if only by a traceback, cannot be closed
    return pickle.loads(copies[0].data, buffers=copies[1:])


def remove_block(block: shared_memory.SharedMemory) -> None:
    """Closes a block and gives its memory back."""
    block.close()
    with contextlib.suppress(FileNotFoundError):
        block.unlink()


class Slot:
    """One block of a worker, as the worker sees it. It grows by becoming a new block of the next generation."""

    def __init__(self, name: str):
        self.name = name
        self.generation = 0
        self.block: shared_memory.SharedMemory | None = None

    def write(self, packed: Packed) -> None:
        _, size = places(packed.sizes)
        if self.block is None or self.block.size < size:
            if self.block is not None:
                self.block.close()
                self.block = None
            # room to spare, so that batches that vary a little do not need a new block each time
            block = create_block(f"{self.name}_{self.generation + 1}", size + size // 4 if self.generation else size)
            self.block, self.generation = block, self.generation + 1
        write_block(self.block, packed)


class SlotView:
    """The same block, as the parent sees it."""

    def __init__(self, name: str):
        self.name = name
        self.generation = 0
        self.block: shared_memory.SharedMemory | None = None

    def follow(self, generation: int) -> shared_memory.SharedMemory:
        if self.block is None or generation != self.generation:
            if self.block is not None:
                remove_block(self.block)
            self.block = shared_memory.SharedMemory(f"{self.name}_{generation}")
            self.generation = generation
        return self.block

    def remove(self) -> None:
        """Removes the block, and the next one, which a worker that is no more may have made without telling."""
        if self.block is not None:
            remove_block(self.block)
            self.block = None
        with contextlib.suppress(FileNotFoundError):
            remove_block(shared_memory.SharedMemory(f"{self.name}_{self.generation + 1}"))
