"""How well kernels are compiled at first.

LLVM takes about 0.6 of the time for code that takes up to 1.6 times as long to run. So kernels that do little begin with such
code, and a program that is called again has them compiled well, in the background, while it runs. A kernel in a loop, or one
that takes long, is worth good code at once: the first call may be the only one.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Any

from asgfn.errors import BackendError
from backends.cpu.target import function_name
from backends.kernels.ir import Kernel
from backends.llvm.host import is_x86
from backends.programs.steps import Dispatch, Loop, While, inner_lists

VARIABLE = "ASGFN_CPU_TIERED"
# bytes and operations that a core does in a second, roughly
_BYTES, _FLOPS = 8e9, 3e10
# Seconds, as they are estimated here, for which good code is not waited for. Several cores that find what they read in their
# caches need a quarter of them, and half of that is what LLVM takes longer for a small kernel.
_SHORT = 2e-2


@lru_cache(maxsize=1)
def is_tiered() -> bool:
    """Whether kernels may begin with code that was compiled quickly: on x86, where that was measured, unless
    `ASGFN_CPU_TIERED` is 0.

    Raises:
        BackendError: the variable is neither 0 nor 1.
    """
    text = os.environ.get(VARIABLE, "").strip() or "1"
    if text not in ("0", "1"):
        raise BackendError(f"{VARIABLE}={text!r}: expected 0 (kernels are compiled well at once) or 1")
    return text == "1" and is_x86()


def seconds(kernel: Kernel, sizes: Sequence[int]) -> float:
    """About how long a core takes for a kernel.

    Arguments:
        sizes: the bytes of its memories.
    """
    return (kernel.bytes or sum(sizes)) / _BYTES + kernel.flops / _FLOPS


def is_quick_at_first(kernel: Kernel, sizes: Sequence[int], repeated: bool) -> bool:
    """Whether a kernel begins with code that was compiled quickly.

    Arguments:
        sizes: the bytes of its memories.
        repeated: whether it is in a loop.
    """
    return not repeated and is_tiered() and seconds(kernel, sizes) < _SHORT


def quick_at_first(steps: Iterable[Any]) -> set[str]:
    """The names of the functions of a program that may begin with code that was compiled quickly."""
    found: dict[str, bool] = {}

    def look(steps: Iterable[Any], repeated: bool) -> None:
        for step in steps:
            if isinstance(step, Dispatch):
                if step.kernel is not None:
                    name = function_name(step.text)
                    found[name] = found.get(name, True) and is_quick_at_first(step.kernel, step.sizes, repeated)
                continue
            for held in inner_lists(step):
                look(held, repeated or isinstance(step, (Loop, While)))

    look(steps, False)
    return {name for name, quick in found.items() if quick}
