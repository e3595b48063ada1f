"""How cost grows on the CPU: an MLP's step with twice the batch or width, rows beyond the cache that are twice as many or
twice as long; ratios.

Twice the batch, rows or their length should take at most twice as long; twice the width of the MLP has 2.8 times the
multiplications.
"""

from __future__ import annotations

from collections.abc import Callable

from benchmarks import libraries, mlp, rows

ROWS, LENGTH = 32768, 1024  # 256 MB read and written, more than any cache holds


def growth(step: Callable[[mlp.Sizes], dict], of_rows: Callable[[tuple[int, int]], dict]) -> dict[str, float]:
    """Ratios of times, from functions that measure an MLP's step and functions of rows."""
    base, twice, wide = (
        step(sizes)["step (ms)"] for sizes in (mlp.Sizes(), mlp.Sizes(batch=256), mlp.Sizes(width=1024))
    )
    few, many, long = (of_rows(shape) for shape in ((ROWS, LENGTH), (2 * ROWS, LENGTH), (ROWS, 2 * LENGTH)))
    of_more = {f"{name}, {2 * ROWS} / {ROWS} rows": (many, name) for name in rows.NAMES}
    of_longer = {f"{name}, rows of {2 * LENGTH} / {LENGTH}": (long, name) for name in rows.NAMES}
    return {
        "MLP, batch 256 / 128": twice / base,
        "MLP, width 1024 / 512": wide / base,
        **{k: there[f"{name} (ms)"] / few[f"{name} (ms)"] for k, (there, name) in (of_more | of_longer).items()},
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
