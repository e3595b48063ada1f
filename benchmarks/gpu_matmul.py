"""Matrix products on a GPU, float32 (and float16 where that is said), in TFLOP/s."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks import libraries
from benchmarks.timing import best_of

SIZES = (512, 1024, 2048, 4096)
ENVIRONMENT = {"JAX_PLATFORMS": "cuda"}


def _measure(run: Callable[[np.ndarray, np.ndarray, int], Callable[[], None]], dtype: str) -> dict[str, float]:
    figures = {}
    rng = np.random.default_rng(0)
    for n in SIZES:
        a, b = (rng.normal(size=(n, n)).astype(dtype) for _ in range(2))
        repeats = max(4, int(2e11 / n**3))
        seconds = best_of(run(a, b, repeats), 1.0) / repeats
        figures[f"{n}³ (TFLOP/s)"] = 2 * n**3 / seconds / 1e12
    return figures


def jitted(lib: Any, jnp: Any, _: Any, precision: str | None = None, dtype: str = "float32", **options: Any) -> dict:
    """Products of a library that has `jit`; how precise, if it is not as its default says."""
    multiply = lib.jit(lambda a, b: jnp.matmul(a, b, precision=precision), **options)
    copy = lib.jit(lambda x: x * 1, **options)

    def run(a: np.ndarray, b: np.ndarray, repeats: int) -> Callable[[], None]:
        x, y = copy(jnp.asarray(a)), copy(jnp.asarray(b))

        def once() -> None:
            out = None
            for _ in range(repeats):
                out = multiply(x, y)
            lib.block_until_ready(out)

        return once

    return _measure(run, dtype)


def ours(precision: str | None = None, dtype: str = "float32") -> dict[str, float]:
    """Without tensor cores (`ASGFN_WGPU_IMPLEMENTATION=dawn` has them) all precisions are IEEE's."""
    return jitted(*libraries.ours(), precision, dtype, backend="wgpu")


def torch_eager(precision: str = "highest", dtype: str = "float32") -> dict[str, float]:
    torch = libraries.torch()
    torch.set_float32_matmul_precision(precision)

    def run(a: np.ndarray, b: np.ndarray, repeats: int) -> Callable[[], None]:
        x, y = torch.tensor(a, device="cuda"), torch.tensor(b, device="cuda")

        def once() -> None:
            for _ in range(repeats):
                x @ y
            torch.cuda.synchronize()

        return once

    return _measure(run, dtype)


VARIANTS = {
    "asgfn": ours,
    "asgfn high": lambda: ours("high"),
    "asgfn highest": lambda: ours("highest"),
    "asgfn f16": lambda: ours(dtype="float16"),
    "jax IEEE": lambda: jitted(*libraries.jax(), "highest"),
    "jax TF32": lambda: jitted(*libraries.jax()),
    "torch IEEE": torch_eager,
    "torch TF32": lambda: torch_eager("high"),
    "torch f16": lambda: torch_eager(dtype="float16"),
}
