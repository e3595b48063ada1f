"""Cost of calling a jitted function on tiny arrays, of one eager operation, and of importing the library."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

from benchmarks.timing import best_of, timed


def _import_seconds(module: str) -> float:
    return timed(lambda: subprocess.run([sys.executable, "-c", f"import {module}"], check=True))


def _measure(lib: Any, jnp: Any) -> dict[str, float]:
    x = jnp.ones(4)
    one = lib.jit(lambda x: x * 2 + 1)
    leaves = {f"p{i}": jnp.ones(4) for i in range(100)}
    hundred = lib.jit(lambda p: p["p0"] * 2)
    through = lib.jit(lambda p: lib.tree.map(lambda v: v * 2, p))
    return {
        "call, 1 leaf (us)": best_of(lambda: one(x)) * 1e6,
        "call, 100 leaves in (us)": best_of(lambda: hundred(leaves)) * 1e6,
        "call, 100 leaves in, 100 products out (us)": best_of(lambda: through(leaves)) * 1e6,
        "eager add (us)": best_of(lambda: x + x) * 1e6,
    }


def ours() -> dict[str, float]:
    import asgfn
    import asgfn.numpy as jnp

    return {**_measure(asgfn, jnp), "import (s)": _import_seconds("asgfn")}


def jax() -> dict[str, float]:
    import jax
    import jax.numpy as jnp

    return {**_measure(jax, jnp), "import (s)": _import_seconds("jax")}


def numpy() -> dict[str, float]:
    import numpy as np

    x = np.ones(4, np.float32)
    return {
        "call, 1 leaf (us)": best_of(lambda: x * 2 + 1) * 1e6,
        "eager add (us)": best_of(lambda: x + x) * 1e6,
        "import (s)": _import_seconds("numpy"),
    }


VARIANTS = {"asgfn": ours, "jax": jax, "numpy": numpy}
