"""Room for recursion: code is written from results back to operands, as deep as a region's longest chain of operations."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

# calls of Python functions that one operation takes, at most: rules, loops, branches around it
_CALLS = 40
_lock = threading.Lock()
_limits: list[int] = []  # those that somebody needs now; the first is the one before


@contextmanager
def room_for(operations: int) -> Iterator[None]:
    """In the block, calls may be nested as deep as so many operations need."""
    needed = _depth() + _CALLS * operations + 1000
    with _lock:
        if not _limits:
            _limits.append(sys.getrecursionlimit())
        _limits.append(needed)
        sys.setrecursionlimit(max(_limits))
    try:
        yield
    finally:
        with _lock:
            _limits.remove(needed)
            sys.setrecursionlimit(max(_limits))
            if len(_limits) == 1:
                _limits.clear()


def _depth() -> int:
    frame, count = sys._getframe(), 0
    while frame is not None:
        frame, count = frame.f_back, count + 1  # type: ignore[assignment]
    return count
