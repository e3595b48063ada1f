"""Which results of a kernel may take the place of its operands."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any

from backends.kernels.ir import Atomic, Call, Kernel, Let, Memory, Store, Value


@lru_cache(maxsize=4096)
def in_place_pairs(kernel: Kernel) -> tuple[tuple[int, int], ...]:
    """Pairs (read, written) of positions among the kernel's memories that may be one memory.

    All loads from the one are of the element that the same list of statements stores to the other afterwards. As each
    element is stored once, by one thread, no other thread reads it.
    """
    loads: dict[Memory, list[tuple[int, int, Value]]] = {}  # (list of statements, order, place)
    stores: dict[Memory, list[tuple[int, int, Value]]] = {}
    others: set[Memory] = set()  # which are read or written in no order that is known
    for block, order, statement in _statements(kernel.body):
        if isinstance(statement, Let) and statement.value.op == "load":
            loads.setdefault(statement.value.attr[0], []).append((block, order, statement.value.args[0]))
        elif isinstance(statement, Store):
            stores.setdefault(statement.memory, []).append((block, order, statement.place))
        elif isinstance(statement, Atomic):
            others.add(statement.memory)
        elif isinstance(statement, Call):
            others.update(a[0] for a in statement.arguments if isinstance(a, tuple))
    found = []
    for k, memory in enumerate(kernel.memories):
        if memory.written or memory not in loads or memory in others:
            continue
        for j, other in enumerate(kernel.memories):
            if not other.written or other in others or other in loads or not stores.get(other):
                continue
            if (memory.size, memory.dtype, memory.width) != (other.size, other.dtype, other.width):
                continue
            stored: dict[tuple[int, Value], int] = {}  # the order of the first store
            for block, order, place in stores[other]:
                stored.setdefault((block, place), order)
            if all(o < stored.get((b, p), 0) for b, o, p in loads[memory]):
                found.append((k, j))
    return tuple(found)


def _statements(body: Sequence[Any]) -> Iterator[tuple[int, int, Any]]:
    """All statements, each with its list and its order."""
    order = 0
    stack = [(0, iter(body))]
    lists = 1
    while stack:
        block, rest = stack[-1]
        statement = next(rest, None)
        if statement is None:
            stack.pop()
            continue
        order += 1
        yield block, order, statement
        for held in reversed(statement.blocks()):
            stack.append((lists, iter(held)))
            lists += 1
