"""How often the values of a kernel are used, and where."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from backends.kernels.ir import Let, Loop, Value


def count_uses(body: Sequence[Any]) -> Counter[Value]:
    """How often each value is used by what is really done; what nothing uses need not be written."""
    needed: list[Value] = []

    def walk(statements: Sequence[Any]) -> None:
        for s in statements:
            if s.__class__ is not Let:
                needed.extend(s.operands())
                for block in s.blocks():
                    walk(block)

    walk(body)
    uses: Counter[Value] = Counter(needed)
    stack = [*uses]
    while stack:
        for value in stack.pop().args:
            before = uses.get(value)
            if before is None:
                uses[value] = 1
                stack.append(value)
            else:
                uses[value] = before + 1
    return uses


def used_inside(body: Sequence[Any]) -> set[Value]:
    """The values that are used in loops inside of those in which they are computed."""
    depth: dict[Any, int] = {}  # of values, and of the numbers of loops by their loop
    found: set[Value] = set()

    def walk(statements: Sequence[Any], loops: int) -> None:
        for s in statements:
            is_let = s.__class__ is Let
            for value in s.value.args if is_let else s.operands():
                if depth.get(id(value.attr) if value.op == "loop" else value, loops) < loops:
                    found.add(value)
            if is_let:
                depth[s.value] = loops
                continue
            is_loop = s.__class__ is Loop
            if is_loop:
                depth[id(s)] = loops + 1
            for block in s.blocks():
                walk(block, loops + is_loop)

    walk(body, 0)
    return found
