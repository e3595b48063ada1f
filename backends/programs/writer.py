"""Writing the steps of a program: where its values are, which memories there are and how long they are used."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np

from asgfn.graph.types import ArrayType
from backends.kernels.ir import Kernel
from backends.kernels.target import Target
from backends.programs import copies
from backends.programs.sizes import padded, storage_bytes
from backends.programs.steps import CONSTANT, INPUT, Dispatch, Download, Guard, Scope, Storage, Upload, Val

OFFSETS = 256  # a part of a memory starts at a multiple of so many bytes (WebGPU's largest minimum)
_COMPARED = 4096  # constants of at most so many bytes are looked for among those that a program has


def _stored(value: np.ndarray, t: ArrayType, types: Any) -> np.ndarray:
    return np.ascontiguousarray(value, types.numpy_storage(t.dtype))


class Writer:
    """Writes steps.

    Attributes:
        target: the device's limits.
        steps: the list that is being written.
        position: of the last step, counted over all lists.
        constants: arrays in the device's representation, by number.
        slots: how many host arrays there are.
        fixed: host arrays that never change, by slot.
    """

    def __init__(self, target: Target):
        self.target = target
        self.types = target.types
        self.steps: list[Any] = []
        self.position = 0
        self.scopes: list[Scope] = []
        self.since = 0
        self.constants: list[np.ndarray] = []
        self.constant_storages: dict[tuple, Storage] = {}
        self.slots = 0
        self.fixed: dict[int, np.ndarray] = {}
        self.storages: list[Storage] = []
        self.guards: list[Guard] = []
        self._found: list[tuple[Val, str]] = []  # places of values that hold inside a list only

    # ------------------------------------------------------------------ memory
    def holds(self, t: ArrayType) -> bool:
        """Whether arrays of a type can be on the device."""
        return self.types.holds(t.dtype)

    def new_storage(self, nbytes: int) -> Storage:
        storage = Storage(nbytes)
        self.storages.append(storage)
        return storage

    def storage_of_type(self, t: ArrayType) -> Storage:
        return self.new_storage(storage_bytes(t, self.target))

    def new_slot(self) -> int:
        self.slots += 1
        return self.slots - 1

    def constant(self, stored: np.ndarray) -> Storage:
        """Memory that has these bytes."""
        stored = np.ascontiguousarray(stored)
        key = (stored.dtype.str, stored.tobytes() if stored.nbytes <= _COMPARED else id(stored))
        found = self.constant_storages.get(key)
        if found is None:
            found = Storage(padded(stored.nbytes, self.target), CONSTANT, len(self.constants))
            self.constants.append(stored)
            self.constant_storages[key] = found
            self.storages.append(found)
        return found

    def touch(self, storage: Storage) -> None:
        """The current step uses a memory."""
        s = storage.root
        if s.first == -1:
            s.first, s.scopes = self.position, tuple(self.scopes)
        s.last = max(s.last, self.position)
        for scope in self.scopes:
            if scope not in s.scopes:
                scope.outer.add(s)  # it is needed in every turn
                break

    # ------------------------------------------------------------------ places of values
    def storage(self, val: Val) -> Storage:
        """The memory of a value on the device; steps bring it there if need be."""
        if val.storage is not None:
            return val.storage
        if val.is_empty:
            return self.constant(np.zeros(4, np.uint32))  # something to bind; nothing in it is read
        storage = self.storage_of_type(val.aval)
        if val.row is not None:
            self.copy_row(val, storage)
        else:
            assert val.slot is not None
            self.position += 1
            self.steps.append(Upload(val.slot, storage, val.aval, self.position))
            self.touch(storage)
        self._place(val, "storage", storage)
        return storage

    def slot(self, val: Val) -> int:
        """The number of the host array of a value; steps bring it there if need be."""
        if val.slot is not None:
            return val.slot
        slot = self.new_slot()
        if val.is_empty:
            self.fixed[slot] = np.empty(val.aval.shape, val.aval.dtype)
        else:
            storage = self.storage(val)
            self.position += 1
            self.steps.append(Download(storage, slot, val.aval, self.position))
            self.touch(storage)
        self._place(val, "slot", slot)
        return slot

    def _place(self, val: Val, where: str, what: Any) -> None:
        setattr(val, where, what)
        self._found.append((val, where))

    def fixed_val(self, value: np.ndarray, t: ArrayType) -> Val:
        """A value that is known now."""
        slot = self.new_slot()
        self.fixed[slot] = np.asarray(value)
        on_device = self.holds(t) and t.size
        return Val(t, self.constant(_stored(value, t, self.types)) if on_device else None, slot)

    # ------------------------------------------------------------------ lists
    @contextmanager
    def new_list(self, scope: Scope | None = None, branch: bool = False) -> Iterator[list[Any]]:
        """Steps of the block go to a list of their own. What they bring to a place is only there for the block."""
        outer, self.steps = self.steps, []
        before, self._found = self._found, []
        since = self.since
        if scope is not None:
            self.scopes.append(scope)
        if branch or scope is not None:
            self.since = self.position + 1
        try:
            yield self.steps
        finally:
            self.steps = outer
            for val, where in self._found:
                setattr(val, where, None)
            self._found = before
            self.since = since
            if scope is not None:
                self.scopes.pop()

    def close(self, scope: Scope) -> int:
        """Ends a loop: what it needs in each turn lasts until here. Returns the position."""
        self.position += 1
        for s in scope.outer:
            root = s.root
            root.last = max(root.last, self.position)
            for outer in self.scopes:
                if outer not in root.scopes:
                    outer.outer.add(root)
                    break
        return self.position

    def last_through(self, storage: Storage, scope: Scope) -> None:
        """A memory lasts as long as a loop that it was made in."""
        root = storage.root
        root.first, root.last = min(root.first, scope.start), max(root.last, self.position)
        root.scopes = tuple(self.scopes)

    # ------------------------------------------------------------------ dispatches
    def emit(self, dispatch: Dispatch) -> Dispatch:
        self.position += 1
        dispatch.position = self.position
        dispatch.since = self.since
        for storage in dispatch.storages:
            self.touch(storage)
        self.steps.append(dispatch)
        return dispatch

    def copy(self, source: Storage, target: Storage) -> None:
        """The target becomes a copy of the source, or the same memory if nothing can tell them apart."""
        most = self.target.binding_bytes // OFFSETS * OFFSETS
        starts = range(0, target.nbytes, most) if target.nbytes > self.target.binding_bytes else [0]
        for start in starts:
            nbytes = min(target.nbytes - start, most) if len(starts) > 1 else target.nbytes
            move = self._move(source, target, "copy", partial(copies.copy_memory, nbytes, self.target))
            move.sizes = [nbytes, nbytes]
            move.offsets = {0: start, 1: start} if start else {}
            move.is_copy = len(starts) == 1
            self.emit(move)

    def _move(self, source: Storage, target: Storage, name: str, kernel: Callable[[], Kernel]) -> Dispatch:
        """A step that copies; processors need no kernel for that."""
        sizes, found = [source.nbytes, target.nbytes], None if self.target.simd else kernel()
        grid = (1, 1, 1) if found is None else found.grid
        return Dispatch([source, target], sizes, [False, True], grid, found, name=name, kind="copy")

    def zeros(self, storage: Storage, start: int, nbytes: int) -> None:
        """Fills a part of a memory with zeros."""
        kernel = None if self.target.simd else copies.zero_memory(nbytes, self.target)
        grid = (1, 1, 1) if kernel is None else kernel.grid
        offsets = {0: start} if start else {}
        self.emit(Dispatch([storage], [nbytes], [True], grid, kernel, offsets=offsets, name="zeros", kind="zeros"))

    def copy_row(self, val: Val, target: Storage) -> None:
        """The target becomes a copy of a row."""
        assert val.row is not None
        whole, count = val.row
        dtype = self.types.storage(val.aval.dtype)
        move = self._move(whole, target, "read row", lambda: copies.copy_kernel(dtype, count, self.target))
        move.rows = {0: count}
        self.emit(move)

    def store_row(self, source: Storage, whole: Storage, t: ArrayType) -> None:
        """A row of a larger array becomes a copy of the source."""
        dtype = self.types.storage(t.dtype)
        move = self._move(source, whole, "write row", lambda: copies.copy_kernel(dtype, t.size, self.target))
        move.rows = {1: t.size}
        self.emit(move)

    # ------------------------------------------------------------------ inputs
    def input(self, number: int, t: ArrayType) -> Val:
        """An argument of the program."""
        if not self.holds(t) or t.size == 0:
            return Val(t, slot=self.new_slot())
        storage = Storage(storage_bytes(t, self.target), INPUT, number)
        self.storages.append(storage)
        return Val(t, storage)
