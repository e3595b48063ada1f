"""Memory-bound work on a GPU, float32 8192 x 4096: gelu(x) * 2 + 1, softmax, layer norm; in GB/s (read once, written once)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from benchmarks.timing import best_of, timed

SHAPE = (8192, 4096)
ENVIRONMENT = {"JAX_PLATFORMS": "cuda"}
REPEATS = 20


def _functions(lib: Any, jnp: Any, lax: Any) -> dict[str, Callable]:
    def layer_norm(x: Any) -> Any:
        mean = jnp.mean(x, axis=-1, keepdims=True)
        centred = x - mean
        return centred * lax.rsqrt(jnp.mean(centred * centred, axis=-1, keepdims=True) + 1e-5)

    return {
        "gelu": lambda x: lib.nn.gelu(x) * 2 + 1,
        "softmax": lambda x: lib.nn.softmax(x, axis=-1),
        "layer norm": layer_norm,
    }


def _measure(run: Callable[[str], Callable[[], None]], names: list[str]) -> dict[str, float]:
    """`run(name)` gives a function that does the work REPEATS times and waits."""
    moved = 2 * 4 * SHAPE[0] * SHAPE[1]
    figures = {}
    for name in names:
        once = run(name)
        figures[f"{name}: first call (s)"] = timed(once)
        figures[f"{name} (GB/s)"] = moved * REPEATS / best_of(once, 1.0) / 1e9
    return figures


def _jitted(lib: Any, jnp: Any, lax: Any, **options: Any) -> dict[str, float]:
    functions = _functions(lib, jnp, lax)
    x = lib.jit(lambda x: x * 1.0, **options)(
        jnp.asarray(__import__("numpy").random.default_rng(0).normal(size=SHAPE).astype("float32"))
    )

    def run(name: str) -> Callable[[], None]:
        f = lib.jit(functions[name], **options)

        def once() -> None:
            out = None
            for _ in range(REPEATS):
                out = f(x)
            lib.block_until_ready(out)

        return once

    return _measure(run, list(functions))


def ours() -> dict[str, float]:
    import asgfn
    import asgfn.numpy as jnp
    from asgfn import lax

    return _jitted(asgfn, jnp, lax, backend="wgpu")


def jax() -> dict[str, float]:
    import jax
    import jax.numpy as jnp
    from jax import lax

    return _jitted(jax, jnp, lax)


def torch() -> dict[str, float]:
    import torch
    from torch.nn import functional as F

    x = torch.randn(SHAPE, device="cuda")
    functions = {
        "gelu": torch.compile(lambda x: F.gelu(x, approximate="tanh") * 2 + 1),
        "softmax": lambda x: F.softmax(x, dim=-1),
        "layer norm": lambda x: F.layer_norm(x, SHAPE[1:]),
    }

    def run(name: str) -> Callable[[], None]:
        def once() -> None:
            for _ in range(REPEATS):
                functions[name](x)
            torch.cuda.synchronize()

        return once

    return _measure(run, list(functions))


VARIANTS = {"asgfn": ours, "jax": jax, "torch": torch}
