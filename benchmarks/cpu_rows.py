"""Memory-bound work on the CPU, float32 4096 x 1024: x * 2 + 1, gelu(x) * 2 + 1, softmax, layer norm; times and GB/s."""

from __future__ import annotations

from benchmarks import libraries, rows

SHAPE = (4096, 1024)
WARM = True
AGREE = rows.AGREE
VARIANTS = {
    "asgfn": lambda: rows.jitted(*libraries.ours(), SHAPE, backend=libraries.cpu_backend()),
    "jax": lambda: rows.jitted(*libraries.jax(), SHAPE),
    "torch": lambda: rows.torch_figures(libraries.torch(), SHAPE),
    "torch compiled": lambda: rows.torch_figures(libraries.torch(), SHAPE, compiled=rows.NAMES),
}
