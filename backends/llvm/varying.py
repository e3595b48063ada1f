"""Which variables of a kernel may differ between the threads of a workgroup."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from backends.kernels.ir import Assign, If, Kernel, Let, Loop, Value, Variable

_THREADS = ("thread", "subgroup_thread")


def varying(kernel: Kernel) -> frozenset[Variable]:
    """The variables that may; all others certainly have one number in all threads."""
    if not _has_variables(kernel.body):
        return frozenset()
    found = _Walk()
    found.block(kernel.body, 0)
    while not found.alike.isdisjoint(found.different):  # what was read, in a loop, before it was known to differ
        found.alike.clear()
        found.block(kernel.body, 0)
    return frozenset(x for x in found.different if x.__class__ is Variable)


def _has_variables(block: Sequence[Any]) -> bool:
    return any(s.__class__ is Variable or any(map(_has_variables, s.blocks())) for s in block)


class _Walk:
    """Goes through the statements of a kernel, in order.

    Attributes:
        different: variables, values, and the numbers of loops' objects, that were found to differ.
        alike: variables that were read when they were not known to differ.
        declared: for each variable in how many parting branches and loops it was declared.
    """

    def __init__(self) -> None:
        self.different: set[Any] = set()
        self.alike: set[Variable] = set()
        self.declared: dict[Variable, int] = {}

    def block(self, block: Sequence[Any], parted: int) -> None:
        """Adds what differs; `parted`: how many parting branches and loops there are around the block."""
        different = self.different
        for s in block:
            kind = s.__class__
            if kind is Let:
                if self._is_different(s.value):
                    different.add(s.value)
            elif kind is Variable:
                self.declared[s] = parted
                if self._differs(s.start):
                    different.add(s)
            elif kind is Assign:
                if parted > self.declared[s.variable] or self._differs(s.value):
                    different.add(s.variable)
            elif kind is If:
                inside = parted + self._differs(s.condition)
                self.block(s.body, inside)
                self.block(s.otherwise, inside)
            elif kind is Loop:
                parts = any(map(self._differs, s.operands()))
                if parts:
                    different.add(id(s))
                self.block(s.body, parted + parts)

    def _is_different(self, value: Value) -> bool:
        op = value.op
        if op == "read":
            if value.attr in self.different:
                return True
            self.alike.add(value.attr)
            return False
        if op == "builtin":
            return value.attr in _THREADS
        if op == "load" and value.attr[0].space == "private":
            return True
        return any(map(self._differs, value.args)) if value.args else False

    def _differs(self, value: Value) -> bool:
        return value in self.different or (value.op == "loop" and id(value.attr) in self.different)
