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
    different: set[Any] = set()
    while True:
        before = len(different)
        _walk(kernel.body, different, {}, 0)
        if len(different) == before:
            return frozenset(x for x in different if isinstance(x, Variable))


def _has_variables(block: Sequence[Any]) -> bool:
    return any(isinstance(s, Variable) or any(map(_has_variables, s.blocks())) for s in block)


def _walk(block: Sequence[Any], different: set[Any], declared: dict[Variable, int], parted: int) -> None:
    """Adds what differs to `different`.

    Arguments:
        declared: for each variable in how many parting branches and loops it was declared.
        parted: how many of them there are around the block.
    """
    for s in block:
        if isinstance(s, Let):
            _value(s.value, different)
        elif isinstance(s, Variable):
            declared[s] = parted
            if _differs(s.start, different):
                different.add(s)
        elif isinstance(s, Assign):
            if _differs(s.value, different) or parted > declared[s.variable]:
                different.add(s.variable)
        elif isinstance(s, If):
            inside = parted + _differs(s.condition, different)
            _walk(s.body, different, declared, inside)
            _walk(s.otherwise, different, declared, inside)
        elif isinstance(s, Loop):
            parts = any(_differs(x, different) for x in (s.start, s.stop, s.step))
            if parts:
                different.add(id(s))
            _walk(s.body, different, declared, parted + parts)


def _value(value: Value, different: set[Any]) -> None:
    op = value.op
    if (
        (op == "builtin" and value.attr in _THREADS)
        or (op == "read" and value.attr in different)
        or (op == "load" and value.attr[0].space == "private")
        or any(_differs(a, different) for a in value.args)
    ):
        different.add(value)


def _differs(value: Value, different: set[Any]) -> bool:
    return value in different or (value.op == "loop" and id(value.attr) in different)
