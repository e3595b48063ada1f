"""NumPy execution of solvers that bring their own derivative: the solver is planned and run."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from backends.numpy.program import plan
from backends.numpy.registry import kernel


@kernel("custom_linear_solve")
def _(in_types: Any, out_types: Any, *, solve: Any, **params: Any) -> Callable:
    program = plan(solve)
    return lambda *args: tuple(program(args))
