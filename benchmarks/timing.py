"""How the benchmarks time things."""

from __future__ import annotations

import os
import resource
import statistics
import sys
import time
from collections.abc import Callable


def best_of(f: Callable[[], object], seconds: float = 1.0, repeats: int = 7) -> float:
    """Median over repeats of the time of one call, in seconds; each repeat calls often enough to last."""
    f()
    started = time.perf_counter()
    f()
    once = max(time.perf_counter() - started, 1e-7)
    n = max(1, int(seconds / repeats / once))
    times = []
    for _ in range(repeats):
        started = time.perf_counter()
        for _ in range(n):
            f()
        times.append((time.perf_counter() - started) / n)
    return statistics.median(times)


def timed(f: Callable[[], object]) -> float:
    """Seconds of one call."""
    started = time.perf_counter()
    f()
    return time.perf_counter() - started


def peak_memory() -> float:
    """Peak resident memory of this process, in MB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1024 * 1024 if sys.platform == "darwin" else 1024)


STARTED = "ASGFN_BENCH_STARTED"
FIRST_ONLY = "ASGFN_BENCH_FIRST_ONLY"


def since_start() -> dict[str, float]:
    """How long ago this process was started, with all that it has imported and made: the first time that it is asked."""
    started = os.environ.pop(STARTED, None)
    return {"first call, from the process's start (s)": time.time() - float(started)} if started else {}


def first_only() -> bool:
    """Whether this process shall only make its first calls: it is there to see what a cache on disk saves."""
    return bool(os.environ.get(FIRST_ONLY))
