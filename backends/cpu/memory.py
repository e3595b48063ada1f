"""Memory for results and temporaries, used again as soon as nobody sees it any more.

Fresh memory is slow: the operating system clears each of its pages when it is first touched. So what large arrays had is kept.
Whether somebody still sees it, NumPy's references tell: each array on it holds on to its owner.
"""

from __future__ import annotations

import sys
import threading
from collections import OrderedDict
from collections.abc import Sequence

import numpy as np

ALIGNMENT = 64
# smaller arrays are left to NumPy, which is quick with them
SMALLEST = 1 << 15
# of memory that nobody uses
MOST_FREE = 1 << 30


def address_of(array: np.ndarray) -> int:
    """Where an array's elements are."""
    return array.__array_interface__["data"][0]


class Block:
    """Memory of the process: bytes from `address` on, of an array that is its owner."""

    __slots__ = ("address", "nbytes", "offset", "owner")

    def __init__(self, nbytes: int):
        self.nbytes = nbytes
        self.owner = np.empty(nbytes + ALIGNMENT, np.uint8)
        start = address_of(self.owner)
        self.offset = -start % ALIGNMENT
        self.address = start + self.offset

    def is_free(self) -> bool:
        """Whether no array sees it."""
        return self.references() <= _ALONE

    def references(self) -> int:
        """How often its owner is referred to."""
        return sys.getrefcount(self.owner)

    def array(self, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
        """It as an array."""
        return np.ndarray(shape, dtype, self.owner, self.offset)


_ALONE = Block(0).references()


class Pool:
    """Blocks by size."""

    def __init__(self, most_free: int = MOST_FREE) -> None:
        self.most_free = most_free
        self._blocks: OrderedDict[int, list[Block]] = OrderedDict()
        self._owners: dict[int, Block] = {}  # by the identity of their owners
        self._lock = threading.Lock()

    def arrays(self, wanted: Sequence[tuple[tuple[int, ...], np.dtype, int]]) -> list[np.ndarray]:
        """Arrays with any numbers in them, given shapes, dtypes and bytes."""
        looked: dict[int, int] = {}  # how many blocks of a size are not free: looked at once for all arrays
        return [
            np.empty(shape, dtype) if nbytes < SMALLEST else self._array(shape, dtype, nbytes, looked)
            for shape, dtype, nbytes in wanted
        ]

    def _array(self, shape: tuple[int, ...], dtype: np.dtype, nbytes: int, looked: dict[int, int]) -> np.ndarray:
        with self._lock:  # a block is free until there is an array of it
            return self._take(nbytes, looked).array(shape, dtype)

    def is_only_view(self, array: np.ndarray) -> bool:
        """Whether an array is on a block of the pool, and no other array is."""
        with self._lock:
            block = self._owners.get(id(array.base))
            return block is not None and block.owner is array.base and block.references() == _ALONE + 1

    def _take(self, nbytes: int, looked: dict[int, int]) -> Block:
        """A block that nobody sees; it belongs to the pool, whoever makes an array of it has it."""
        blocks = self._blocks.get(nbytes)
        if blocks is None:
            blocks = self._blocks[nbytes] = []
        else:
            self._blocks.move_to_end(nbytes)
        for k in range(looked.get(nbytes, 0), len(blocks)):
            if blocks[k].is_free():
                looked[nbytes] = k + 1
                return blocks[k]
        self._trim(nbytes)
        block = Block(nbytes)
        self._owners[id(block.owner)] = block
        blocks.append(block)
        looked[nbytes] = len(blocks)
        return block

    def _trim(self, wanted: int) -> None:
        """Gives the free blocks back that were not asked for longest, if there are too many bytes of them."""
        free = [(size, block) for size, blocks in self._blocks.items() for block in blocks if block.is_free()]
        total = sum(size for size, _ in free)
        for size, block in free:
            if total + wanted <= self.most_free:
                return
            self._blocks[size].remove(block)
            del self._owners[id(block.owner)]
            total -= size

    def clear(self) -> None:
        """Forgets all blocks; those that are seen live as long as that."""
        with self._lock:
            self._blocks.clear()
            self._owners.clear()
