"""What the current thread is tracing."""

from __future__ import annotations

import threading
from typing import Any

from asgfn.graph.types import SourceInfo


class State(threading.local):
    """The dynamic context of tracing.

    Attributes:
        depth: how many traces are open; the level of the innermost one.
        staging: the innermost open trace that records even operations on constants (`jit`, control flow bodies).
        scope: the current name scope, such as ``"block/attn"``.
        source: while a transform rewrites a node, the user's line that made the node; new nodes inherit it.
        axes: the mapped axes that collectives may name, innermost last: pairs of name and size.
        mapping: the trace of the innermost function mapped over a named axis; it records collectives even of constants.
    """

    depth: int = 0
    staging: Any = None  # a Trace; that module stands above this one
    scope: str = ""
    source: SourceInfo | None = None
    axes: tuple[tuple[Any, int], ...] = ()
    mapping: Any = None


state = State()
