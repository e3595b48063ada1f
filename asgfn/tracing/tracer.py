"""`Tracer`: what stands for an array while a function is traced."""

from __future__ import annotations

from typing import Any

from asgfn.graph.types import ArrayType
from asgfn.tracing.array import Array


class Tracer(Array):
    """A value of a program that is being traced: it has a type, and a value only when its trace knows its inputs'."""

    __slots__ = ("id", "trace")

    id: int
    trace: Any  # a Trace; that module stands above this one

    def __repr__(self) -> str:
        return f"Tracer<{self.aval}>"


_new = object.__new__


def new_tracer(trace: Any, id: int, aval: ArrayType) -> Tracer:
    t = _new(Tracer)
    t.trace = trace
    t.id = id
    t.aval = aval
    return t
