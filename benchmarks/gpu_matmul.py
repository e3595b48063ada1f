"""Matrix products on a GPU, float32, in TFLOP/s."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.timing import best_of

SIZES = (512, 1024, 2048, 4096)
ENVIRONMENT = {"JAX_PLATFORMS": "cuda"}


def _measure(run: Callable[[np.ndarray, np.ndarray, int], Callable[[], None]]) -> dict[str, float]:
    figures = {}
    rng = np.random.default_rng(0)
    for n in SIZES:
        a, b = (rng.normal(size=(n, n)).astype(np.float32) for _ in range(2))
        repeats = max(4, int(2e11 / n**3))
        seconds = best_of(run(a, b, repeats), 1.0) / repeats
        figures[f"{n}³ (TFLOP/s)"] = 2 * n**3 / seconds / 1e12
    return figures


def _jitted(lib: Any, jnp: Any, **options: Any) -> dict[str, float]:
    multiply = lib.jit(lambda a, b: a @ b, **options)
    copy = lib.jit(lambda x: x * 1.0, **options)

    def run(a: np.ndarray, b: np.ndarray, repeats: int) -> Callable[[], None]:
        x, y = copy(jnp.asarray(a)), copy(jnp.asarray(b))

        def once() -> None:
            out = None
            for _ in range(repeats):
                out = multiply(x, y)
            lib.block_until_ready(out)

        return once

    return _measure(run)


def ours() -> dict[str, float]:
    import asgfn
    import asgfn.numpy as jnp

    return _jitted(asgfn, jnp, backend="wgpu")


def jax_ieee() -> dict[str, float]:
    import jax
    import jax.numpy as jnp

    jax.config.update("jax_default_matmul_precision", "highest")
    return _jitted(jax, jnp)


def jax_tf32() -> dict[str, float]:
    import jax
    import jax.numpy as jnp

    return _jitted(jax, jnp)


def torch_ieee(precision: str = "highest") -> dict[str, float]:
    import torch

    torch.set_float32_matmul_precision(precision)

    def run(a: np.ndarray, b: np.ndarray, repeats: int) -> Callable[[], None]:
        x, y = torch.tensor(a, device="cuda"), torch.tensor(b, device="cuda")

        def once() -> None:
            for _ in range(repeats):
                x @ y
            torch.cuda.synchronize()

        return once

    return _measure(run)


def torch_tf32() -> dict[str, float]:
    return torch_ieee("high")


VARIANTS = {
    "asgfn": ours, "jax IEEE": jax_ieee, "jax TF32": jax_tf32, "torch IEEE": torch_ieee, "torch TF32": torch_tf32,
}  # fmt: skip
