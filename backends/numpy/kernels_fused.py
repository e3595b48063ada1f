"""NumPy execution of a region: its graph is planned like any other."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from backends.numpy.program import plan
from backends.numpy.registry import kernel


@kernel("fused")
def _(in_types: Any, out_types: Any, *, asg: Any, kind: str, name: str) -> Callable:
    program = plan(asg)
    return lambda *operands: tuple(program(operands))
