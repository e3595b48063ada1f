"""A function's derivative as two functions that run apart: forward now, backward later."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from asgfn.jit import jit
from asgfn.transforms.differentiate import VjpFunction, check_argnums, vjp
from asgfn.transforms.traced import at_positions


def fwd_and_bwd(
    fun: Callable, argnums: int | Sequence[int] = 0, has_aux: bool = False, jitted: bool = True
) -> tuple[Callable, Callable]:
    """A function's forward pass and its backward pass as two functions.

    Returns:
        (fwd, bwd): ``fwd(*args) -> (output, residuals)`` (with `has_aux` also aux), ``bwd(residuals, ct) -> cotangents`` of the arguments
        `argnums`.
    """
    nums = (argnums,) if isinstance(argnums, (int, np.integer)) else tuple(argnums)

    def fwd(*args: Any) -> tuple:
        resolved = check_argnums("fwd_and_bwd", fun, nums, len(args))

        partial = at_positions(fun, args, resolved, {})

        return vjp(partial, *(args[n] for n in resolved), has_aux=has_aux)

    def bwd(residuals: VjpFunction, ct: Any) -> Any:
        found = residuals(ct)
        return found[0] if isinstance(argnums, (int, np.integer)) else found

    return (jit(fwd), jit(bwd)) if jitted else (fwd, bwd)
