"""Memory-bound work on a matrix of float32: what the benchmarks of it on a CPU and on a GPU share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.timing import best_of, first_only, peak_memory, timed

SCALE, GELU, SOFTMAX, NORM = "x * 2 + 1", "gelu", "softmax", "layer norm"
NAMES = (SCALE, GELU, SOFTMAX, NORM)
CHECK = "{name}: weighted squares"
AGREE = {CHECK.format(name=name): 1e-4 for name in NAMES}


def functions(lib: Any, jnp: Any, lax: Any) -> dict[str, Callable]:
    """What is measured, for asgfn and JAX; "gelu" is gelu(x) * 2 + 1."""

    def layer_norm(x: Any) -> Any:
        mean = jnp.mean(x, axis=-1, keepdims=True)
        centred = x - mean
        return centred * lax.rsqrt(jnp.mean(centred * centred, axis=-1, keepdims=True) + 1e-5)

    return {
        SCALE: lambda x: x * 2 + 1,
        GELU: lambda x: lib.nn.gelu(x) * 2 + 1,
        SOFTMAX: lambda x: lib.nn.softmax(x, axis=-1),
        NORM: layer_norm,
    }


def torch_functions(torch: Any, compiled: tuple[str, ...] = ()) -> dict[str, Callable]:
    """The same for PyTorch, some of them compiled."""
    from torch.nn import functional as F

    made = {
        SCALE: lambda x: x * 2 + 1,
        GELU: lambda x: F.gelu(x, approximate="tanh") * 2 + 1,
        SOFTMAX: lambda x: F.softmax(x, dim=-1),
        NORM: lambda x: F.layer_norm(x, x.shape[1:]),
    }
    return {name: torch.compile(f) if name in compiled else f for name, f in made.items()}


def data(shape: tuple[int, int]) -> np.ndarray:
    return np.random.default_rng(0).standard_normal(shape, np.float32)


def measure(fs: dict[str, Callable], x: Any, wait: Callable[[Any], object], repeats: int = 1) -> dict[str, float]:
    """Figures of each function of x; `repeats` calls before each wait, where a call is short beside a wait.

    GB/s count every element as read once and written once. Randomly weighted squares of each result say whether the
    libraries agree.
    """
    moved = 2 * 4 * x.shape[0] * x.shape[1]
    figures = {}
    for name, f in fs.items():

        def once(f: Callable = f) -> None:
            out = None
            for _ in range(repeats):
                out = f(x)
            wait(out)

        figures[f"{name}: first call (s)"] = timed(once)
        if not first_only():
            seconds = best_of(once) / repeats
            figures[f"{name} (ms)"] = seconds * 1e3
            figures[f"{name} (GB/s)"] = moved / seconds / 1e9
    if first_only():
        return figures
    figures["peak memory (MB)"] = peak_memory()
    weights = np.random.default_rng(1).random(x.shape, np.float32)
    for name, f in fs.items():
        result = f(x)
        found = np.asarray(result.cpu() if hasattr(result, "cpu") else result)
        # squared: the sum of a normalised row is zero
        figures[CHECK.format(name=name)] = float(np.sum(np.square(found, dtype=np.float64) * weights))
    return figures


def jitted(lib: Any, jnp: Any, lax: Any, shape: tuple[int, int], repeats: int = 1, **options: Any) -> dict[str, float]:
    """Figures of asgfn and JAX."""
    x = lib.jit(lambda x: x * 1.0, **options)(jnp.asarray(data(shape)))
    fs = {name: lib.jit(f, **options) for name, f in functions(lib, jnp, lax).items()}
    return measure(fs, x, lib.block_until_ready, repeats)


def torch_figures(
    torch: Any, shape: tuple[int, int], repeats: int = 1, compiled: tuple[str, ...] = (), device: str = "cpu"
) -> dict[str, float]:
    """Figures of PyTorch."""
    wait = (lambda out: torch.cuda.synchronize()) if device == "cuda" else (lambda out: None)
    with torch.no_grad():
        return measure(torch_functions(torch, compiled), torch.tensor(data(shape), device=device), wait, repeats)
