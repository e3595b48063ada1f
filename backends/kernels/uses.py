"""How often the values of a kernel are used."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from backends.kernels.ir import Assign, Atomic, Call, If, Loop, Store, StoreMatrix, Value, Variable


def count_uses(body: Sequence[Any]) -> Counter[Value]:
    """How often each value is used by what is really done; what nothing uses need not be written."""
    needed: list[Value] = []

    def walk(statements: Sequence[Any]) -> None:
        for s in statements:
            if isinstance(s, Store):
                needed.append(s.place)
                needed.extend(s.value if isinstance(s.value, tuple) else (s.value,))
                needed.extend(() if s.lane is None else (s.lane,))
            elif isinstance(s, (Atomic, StoreMatrix)):
                needed.extend((s.place, s.value))
            elif isinstance(s, Call):
                needed.extend(s.values())
            elif isinstance(s, Variable):
                needed.append(s.start)
            elif isinstance(s, Assign):
                needed.append(s.value)
            elif isinstance(s, Loop):
                needed.extend((s.start, s.stop, s.step))
                walk(s.body)
            elif isinstance(s, If):
                needed.append(s.condition)
                walk(s.body)
                walk(s.otherwise)

    walk(body)
    uses: Counter[Value] = Counter()
    stack = needed
    while stack:
        value = stack.pop()
        uses[value] += 1
        if uses[value] == 1:
            stack.extend(value.args)
    return uses
