"""How often the values of a kernel are used, and where."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from backends.kernels.ir import Assign, Atomic, Call, If, Let, Loop, Store, StoreMatrix, Value, Variable


def count_uses(body: Sequence[Any]) -> Counter[Value]:
    """How often each value is used by what is really done; what nothing uses need not be written."""
    needed: list[Value] = []

    def walk(statements: Sequence[Any]) -> None:
        for s in statements:
            needed.extend(_operands(s))
            for block in _blocks(s):
                walk(block)

    walk(body)
    uses: Counter[Value] = Counter()
    stack = needed
    while stack:
        value = stack.pop()
        uses[value] += 1
        if uses[value] == 1:
            stack.extend(value.args)
    return uses


def used_inside(body: Sequence[Any]) -> set[Value]:
    """The values that are used in loops inside of those in which they are computed."""
    depth: dict[Any, int] = {}  # of values, and of the numbers of loops by their loop
    found: set[Value] = set()

    def walk(statements: Sequence[Any], loops: int) -> None:
        for s in statements:
            for value in s.value.args if isinstance(s, Let) else _operands(s):
                if depth.get(id(value.attr) if value.op == "loop" else value, loops) < loops:
                    found.add(value)
            if isinstance(s, Let):
                depth[s.value] = loops
            elif isinstance(s, Loop):
                depth[id(s)] = loops + 1
            for block in _blocks(s):
                walk(block, loops + isinstance(s, Loop))

    walk(body, 0)
    return found


def _operands(s: Any) -> Sequence[Value]:
    """The values that a statement does something with."""
    if isinstance(s, Store):
        return (
            s.place,
            *(s.value if isinstance(s.value, tuple) else (s.value,)),
            *(() if s.lane is None else (s.lane,)),
        )
    if isinstance(s, (Atomic, StoreMatrix)):
        return s.place, s.value
    if isinstance(s, Call):
        return s.values()
    if isinstance(s, Variable):
        return (s.start,)
    if isinstance(s, Assign):
        return (s.value,)
    if isinstance(s, Loop):
        return s.start, s.stop, s.step
    return (s.condition,) if isinstance(s, If) else ()


def _blocks(s: Any) -> Sequence[Sequence[Any]]:
    """The statements in a statement."""
    if isinstance(s, Loop):
        return (s.body,)
    return (s.body, s.otherwise) if isinstance(s, If) else ()
