"""A chain of 1,000, 10,000 and 100,000 operations: traced, differentiated, run. Times should grow in proportion."""

from __future__ import annotations

from benchmarks.timing import timed


def ours() -> dict[str, float]:
    import asgfn
    import asgfn.numpy as jnp

    figures: dict[str, float] = {}
    asgfn.jit(asgfn.grad(jnp.sin))(1.0)
    for n in (1_000, 10_000, 100_000):

        def chain(x, n=n):
            for _ in range(n):
                x = jnp.sin(x)
            return x

        figures[f"trace {n} (s)"] = timed(lambda f=chain: asgfn.trace(f)(1.0))
        figures[f"trace gradient {n} (s)"] = timed(lambda f=chain: asgfn.trace(asgfn.grad(f))(1.0))
        gradient = asgfn.jit(asgfn.grad(chain))
        figures[f"first run {n} (s)"] = timed(lambda g=gradient: g(1.0))
        figures[f"run {n} (s)"] = timed(lambda g=gradient: g(1.0))
    return figures


VARIANTS = {"asgfn": ours}
