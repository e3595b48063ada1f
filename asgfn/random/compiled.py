"""How a sampler's core becomes one node of a graph."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from asgfn.jit import jit


def compiled(name: str, *static: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Decorator: jits a function of raw keys and checked arguments under the public sampler's name.

    A graph then shows one node `normal` instead of its arithmetic (`simplify` inlines it), and sampling outside of
    `jit` runs one compiled program.

    Arguments:
        name: what the node is called.
        static: names of the arguments that are no arrays.
    """

    def decorate(core: Callable[..., Any]) -> Callable[..., Any]:
        core.__name__ = name
        return jit(core, static_argnames=static)

    return decorate
