"""A character GPT (6 layers, 384 features, 6 heads, 256 characters, batch 32) on a GPU, one AdamW step."""

from __future__ import annotations

from benchmarks import libraries
from benchmarks.gpt import Sizes, step_figures, torch_figures
from benchmarks.training import LOSS

SIZES = Sizes(layers=6, features=384, heads=6, context=256, batch=32, vocabulary=65)
ENVIRONMENT = {"JAX_PLATFORMS": "cuda"}


def torch_compiled(precision: str = "highest") -> dict[str, float]:
    torch = libraries.torch()
    torch.set_float32_matmul_precision(precision)
    return torch_figures(torch, SIZES, compiled=True, device="cuda")


AGREE = {LOSS: 1e-2}
VARIANTS = {
    "asgfn": lambda: step_figures(*libraries.ours(), SIZES, backend="wgpu"),
    "jax IEEE": lambda: step_figures(*libraries.jax("highest"), SIZES),
    "jax TF32": lambda: step_figures(*libraries.jax(), SIZES),
    "torch IEEE": torch_compiled,
    "torch TF32": lambda: torch_compiled("high"),
}
