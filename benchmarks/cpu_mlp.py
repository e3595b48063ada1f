"""MLP 784-512-512-10, batch 128, one Adam step, compiled for the CPU."""

from __future__ import annotations

from benchmarks import libraries
from benchmarks.mlp import numpy_figures, step_figures, torch_figures
from benchmarks.training import LOSS

WARM = True
AGREE = {LOSS: 1e-3}
VARIANTS = {
    "asgfn": lambda: step_figures(*libraries.ours()[:2], backend=libraries.cpu_backend()),
    "jax": lambda: step_figures(*libraries.jax()[:2]),
    "torch": torch_figures,
    "torch compiled": lambda: torch_figures(compiled=True),
    "numpy": numpy_figures,
}
