"""How cost grows on the CPU: an MLP's step with twice the batch or width, rows beyond the cache with twice as many; ratios.

Twice the batch or rows should take at most twice as long; twice the width, between two and four times.
"""

from __future__ import annotations

from collections.abc import Callable

from benchmarks import libraries, mlp, rows

ROWS = (32768, 65536)  # of 1024: 256 MB and 512 MB read and written, more than any cache holds


def growth(step: Callable[[mlp.Sizes], dict], of_rows: Callable[[tuple[int, int]], dict]) -> dict[str, float]:
    """Ratios of times, from functions that measure an MLP's step and functions of rows."""
    base, twice, wide = (
        step(sizes)["step (ms)"] for sizes in (mlp.Sizes(), mlp.Sizes(batch=256), mlp.Sizes(width=1024))
    )
    few, many = (of_rows((n, 1024)) for n in ROWS)
    return {
        "MLP, batch 256 / 128": twice / base,
        "MLP, width 1024 / 512": wide / base,
        **{f"{name}, {ROWS[1]} / {ROWS[0]} rows": many[f"{name} (ms)"] / few[f"{name} (ms)"] for name in rows.NAMES},
    }


def ours() -> dict[str, float]:
    lib, jnp, lax = libraries.ours()
    backend = libraries.cpu_backend()
    return growth(
        lambda sizes: mlp.step_figures(lib, jnp, sizes, backend=backend),
        lambda shape: rows.jitted(lib, jnp, lax, shape, backend=backend),
    )


def jax() -> dict[str, float]:
    lib, jnp, lax = libraries.jax()
    return growth(lambda sizes: mlp.step_figures(lib, jnp, sizes), lambda shape: rows.jitted(lib, jnp, lax, shape))


VARIANTS = {
    "asgfn": ours,
    "jax": jax,
    "torch": lambda: growth(mlp.torch_figures, lambda shape: rows.torch_figures(libraries.torch(), shape)),
}
