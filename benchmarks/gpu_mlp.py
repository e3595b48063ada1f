"""MLP 784-512-512-10, batch 128, one Adam step, on a GPU."""

from __future__ import annotations

from benchmarks import libraries
from benchmarks.mlp import step_figures
from benchmarks.training import LOSS

ENVIRONMENT = {"JAX_PLATFORMS": "cuda"}
AGREE = {LOSS: 1e-2}
VARIANTS = {
    "asgfn": lambda: step_figures(*libraries.ours()[:2], backend="wgpu"),
    "jax IEEE": lambda: step_figures(*libraries.jax("highest")[:2]),
    "jax TF32": lambda: step_figures(*libraries.jax()[:2]),
}
