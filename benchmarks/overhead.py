"""Cost of calling a jitted function on tiny arrays, of one eager operation, and of importing the library."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

from benchmarks import libraries
from benchmarks.timing import best_of, timed

ONE, WAIT, IN, THROUGH = (
    "call, 1 leaf (us)",
    "call and wait, 1 leaf (us)",
    "call, 100 leaves in (us)",
    "call, 100 leaves in, 100 products out (us)",
)
EAGER, IMPORT = "eager add (us)", "import (s)"


def import_seconds(module: str) -> float:
    return timed(lambda: subprocess.run([sys.executable, "-c", f"import {module}"], check=True))


def call_figures(lib: Any, jnp: Any, **options: Any) -> dict[str, float]:
    """Figures of calls of asgfn and JAX."""
    x = jnp.ones(4)
    one = lib.jit(lambda x: x * 2 + 1, **options)
    leaves = {f"p{i}": jnp.ones(4) for i in range(100)}
    hundred = lib.jit(lambda p: p["p0"] * 2, **options)
    through = lib.jit(lambda p: lib.tree.map(lambda v: v * 2, p), **options)
    assert [float(v) for v in one(x)] == [3.0] * 4
    return {
        ONE: best_of(lambda: one(x)) * 1e6,
        WAIT: best_of(lambda: lib.block_until_ready(one(x))) * 1e6,
        IN: best_of(lambda: hundred(leaves)) * 1e6,
        THROUGH: best_of(lambda: through(leaves)) * 1e6,
        EAGER: best_of(lambda: x + x) * 1e6,
    }


def torch_figures(compiled: bool = False) -> dict[str, float]:
    """Figures of calls of PyTorch: eager, or compiled."""
    torch = libraries.torch()
    prepare = torch.compile if compiled else lambda f: f
    x = torch.ones(4)
    leaves = [torch.ones(4) for _ in range(100)]
    one = prepare(lambda x: x * 2 + 1)
    hundred = prepare(lambda p: p[0] * 2)
    through = prepare(lambda p: [v * 2 for v in p])
    return {
        ONE: best_of(lambda: one(x)) * 1e6,
        IN: best_of(lambda: hundred(leaves)) * 1e6,
        THROUGH: best_of(lambda: through(leaves)) * 1e6,
        EAGER: best_of(lambda: x + x) * 1e6,
    }


def numpy() -> dict[str, float]:
    import numpy as np

    x = np.ones(4, np.float32)
    return {
        ONE: best_of(lambda: x * 2 + 1) * 1e6,
        EAGER: best_of(lambda: x + x) * 1e6,
        IMPORT: import_seconds("numpy"),
    }


VARIANTS = {
    "asgfn": lambda: {**call_figures(*libraries.ours()[:2]), IMPORT: import_seconds("asgfn")},
    "jax": lambda: {**call_figures(*libraries.jax()[:2]), IMPORT: import_seconds("jax")},
    "numpy": numpy,
}
