"""A character GPT (4 layers, 128 features, 4 heads, 64 characters, batch 16) on the CPU, one AdamW step."""

from __future__ import annotations

from benchmarks import libraries
from benchmarks.gpt import SMALL, step_figures, torch_figures
from benchmarks.training import LOSS

WARM = True
AGREE = {LOSS: 1e-3}
VARIANTS = {
    "asgfn": lambda: step_figures(*libraries.ours(), SMALL, backend=libraries.cpu_backend()),
    "jax": lambda: step_figures(*libraries.jax(), SMALL),
    "torch": lambda: torch_figures(libraries.torch(), SMALL, compiled=False),
    "torch compiled": lambda: torch_figures(libraries.torch(), SMALL, compiled=True),
}
