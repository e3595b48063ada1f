"""A program and the memories of one call: lists of handles, ready to be recorded.

Bind groups are expensive to make, so a program remembers the lists for the memories that it was called with last, and the
device remembers bind groups by their memories.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from backends.programs.steps import Commands, Dispatch, Loop, Storage
from backends.wgpu.device import Device
from backends.wgpu.groups import Range
from backends.wgpu.memory import Memory
from backends.wgpu.recorder import DISPATCH, INDIRECT, LOOP, LoopItems

# the loops around a step, the innermost first, that are in a step with an odd number
Odd = tuple[Any, ...]


class Binding:
    """The memories of a call by storage, and the lists that were made of them."""

    def __init__(self, device: Device, memories: dict[Storage, Memory]):
        self._device = device
        self._memories = memories
        self._items: dict[tuple[Commands, Odd], list[tuple]] = {}
        self._kept: list[Any] = []  # lists hold handles only: this keeps what they stand for

    def memory(self, storage: Storage, odd: Odd = ()) -> Memory:
        """The memory of a storage, in these turns of the loops around."""
        root = storage.root
        for loop in odd:
            for a, b in loop.swaps:
                if root is a.root:
                    root = b.root
                    break
                if root is b.root:
                    root = a.root
                    break
        return self._memories[root]

    def items(self, commands: Commands, odd: Odd = ()) -> list[tuple]:
        """What is recorded for a step."""
        found = self._items.get((commands, odd))
        if found is None:
            found = self._items[commands, odd] = self._list(commands.steps, odd)
        return found

    def _list(self, steps: Sequence[Any], odd: Odd) -> list[tuple]:
        items: list[tuple] = []
        for step in steps:
            if isinstance(step, Loop):
                even = self._list(step.body, odd)
                other = self._list(step.body, (step, *odd)) if step.swaps else even
                items.append((LOOP, LoopItems(step.rows, step.numbered, even, other)))
                continue
            kind, entry = self._entry(step, odd)
            if items and items[-1][0] == kind:
                items[-1][1].append(entry)
            else:
                items.append((kind, [entry]))
        return items

    def group(self, dispatch: Dispatch, odd: Odd = ()) -> Any:
        """The bind group of a dispatch."""
        ranges = [
            Range(self.memory(dispatch.storages[k], odd), dispatch.offsets.get(k, 0), dispatch.sizes[k])
            for k in dispatch.bound()
        ]
        return self._device.groups.get(dispatch.pipeline.layout, ranges)

    def grids(self, dispatch: Dispatch, odd: Odd = ()) -> Any:
        """The buffer with the grid of a guarded dispatch."""
        assert dispatch.guard is not None
        return self.memory(dispatch.guard.grids, odd).buffer

    def _entry(self, dispatch: Dispatch, odd: Odd) -> tuple[int, tuple]:
        handle = self._device.recorder.handle
        group = self.group(dispatch, odd)
        self._kept.append(group)
        pipeline = handle(dispatch.pipeline.native)
        if dispatch.guard is None:
            return DISPATCH, (pipeline, handle(group), *dispatch.grid)
        return INDIRECT, (pipeline, handle(group), handle(self.grids(dispatch, odd)), 12 * dispatch.guard_entry)
