"""Memory-bound work on a GPU, float32 8192 x 4096: gelu(x) * 2 + 1, softmax, layer norm; in GB/s (read once, written once)."""

from __future__ import annotations

from benchmarks import libraries, rows

SHAPE = (8192, 4096)
REPEATS = 20
ENVIRONMENT = {"JAX_PLATFORMS": "cuda"}
AGREE = rows.AGREE
VARIANTS = {
    "asgfn": lambda: rows.jitted(*libraries.ours(), SHAPE, REPEATS, backend="wgpu"),
    "jax": lambda: rows.jitted(*libraries.jax(), SHAPE, REPEATS),
    "torch": lambda: rows.torch_figures(
        libraries.torch(), SHAPE, REPEATS, compiled=(rows.SCALE, rows.GELU), device="cuda"
    ),
}
