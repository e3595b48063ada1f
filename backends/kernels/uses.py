"""How often the values of a kernel are used, and which variables change where."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from backends.kernels.ir import Assign, Let, Value, Variable


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
    used = [*uses]
    for value in used:
        for operand in value.args:
            if operand in uses:
                uses[operand] += 1
            else:
                uses[operand] = 1
                used.append(operand)
    return uses


def assigned(body: Sequence[Any]) -> set[Variable]:
    """The variables that statements change."""
    found: set[Variable] = set()
    for s in body:
        if s.__class__ is Assign:
            found.add(s.variable)
        elif s.__class__ is not Let:
            for block in s.blocks():
                found |= assigned(block)
    return found
