"""Which results of a kernel may take the place of its operands."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from backends.kernels.ir import Atomic, Call, Kernel, Let, Memory, Store, Value


@lru_cache(maxsize=4096)
def in_place_pairs(kernel: Kernel) -> tuple[tuple[int, int], ...]:
    """Pairs (read, written) of positions among the kernel's memories that may be one memory.

    All loads from the one are of the element that the same list of statements stores to the other afterwards. As each
    element is stored once, by one thread, no other thread reads it.
    """
    loads: dict[Memory, list[tuple[int, int, Value]]] = {}  # (list of statements, order in it, place)
    stores: dict[Memory, dict[tuple[int, Value], int]] = {}  # the order of the first one, by list and place
    others: set[Memory] = set()  # which are read or written in no order that is known

    def walk(body: Sequence[Any]) -> None:
        block = id(body)
        for order, s in enumerate(body):
            if s.__class__ is Let:
                value = s.value
                if value.op == "load":
                    loads.setdefault(value.attr[0], []).append((block, order, value.args[0]))
                continue
            if isinstance(s, Store):
                stores.setdefault(s.memory, {}).setdefault((block, s.place), order)
            elif isinstance(s, Atomic):
                others.add(s.memory)
            elif isinstance(s, Call):
                others.update(a[0] for a in s.arguments if isinstance(a, tuple))
            for held in s.blocks():
                walk(held)

    walk(kernel.body)
    found = []
    for k, memory in enumerate(kernel.memories):
        if memory.written or memory not in loads or memory in others:
            continue
        for j, other in enumerate(kernel.memories):
            if not other.written or other in others or other in loads or other not in stores:
                continue
            if (memory.size, memory.dtype, memory.width) != (other.size, other.dtype, other.width):
                continue
            stored = stores[other]
            if all(o < stored.get((b, p), 0) for b, o, p in loads[memory]):
                found.append((k, j))
    return tuple(found)
