"""Bind groups are expensive to make, so those that were used last are remembered, by their memories."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from backends.wgpu.memory import Memory

MOST_GROUPS = 1 << 15


class Range(NamedTuple):
    """A part of a memory, in bytes."""

    memory: Memory
    offset: int
    size: int


class GroupCache:
    """The bind groups of a device that were used last.

    Arguments:
        make: makes one, of a layout and ranges.
    """

    def __init__(self, make: Callable[[Any, Sequence[Range]], Any]):
        self._make = make
        self._groups: OrderedDict[tuple, Any] = OrderedDict()

    def get(self, layout: Any, ranges: Sequence[Range]) -> Any:
        """A bind group of these ranges."""
        key = (id(layout), *[(m.serial, offset, size) for m, offset, size in ranges])
        found = self._groups.get(key)
        if found is None:
            # with the layout, which stays alive, so that nothing else gets its id
            found = self._groups[key] = self._make(layout, ranges), layout
            if len(self._groups) > MOST_GROUPS:
                self._groups.popitem(last=False)
        else:
            self._groups.move_to_end(key)
        return found[0]
