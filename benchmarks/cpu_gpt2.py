"""GPT-2 small (12 layers of 768, 12 heads, vocabulary 50257; random weights) on 64 tokens: logits; a loss and its gradient."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from benchmarks import libraries
from benchmarks.gpt import GPT2, forward, loss_function, torch_forward, torch_loss
from benchmarks.timing import first_only, peak_memory
from benchmarks.training import call_figures, torch_module

FORWARD, GRADIENT = "forward", "value and gradient"
LOGITS, LOSS, NORM = "norm of the logits", "loss", "norm of the gradient"


def measure(logits: Callable[[], Any], gradient: Callable[[], tuple[Any, Iterable[Any]]]) -> dict[str, float]:
    """Figures of two functions that wait; the second gives the loss and the gradient's leaves."""
    figures = call_figures(FORWARD, logits) | call_figures(GRADIENT, gradient)
    if first_only():
        return figures
    figures["peak memory (MB)"] = peak_memory()
    loss, leaves = gradient()
    norms = [np.linalg.norm(np.asarray(leaf)) for leaf in leaves]
    checks = {LOGITS: np.linalg.norm(np.asarray(logits())), LOSS: loss, NORM: np.linalg.norm(norms)}
    return figures | {name: float(x) for name, x in checks.items()}


def figures(lib: Any, jnp: Any, lax: Any, **options: Any) -> dict[str, float]:
    """Figures of asgfn or JAX."""
    model = lib.jit(forward(lib, jnp, lax, GPT2), **options)
    value_and_grad = lib.jit(lib.value_and_grad(loss_function(lib, jnp, lax, GPT2)), **options)
    params, (x, y) = lib.tree.map(jnp.asarray, (GPT2.parameters(), GPT2.data()))

    def gradient() -> tuple[Any, list[Any]]:
        loss, found = lib.block_until_ready(value_and_grad(params, x, y))
        return loss, lib.tree.leaves(found)

    return measure(lambda: lib.block_until_ready(model(params, x)), gradient)


def torch_figures() -> dict[str, float]:
    """Figures of PyTorch."""
    torch = libraries.torch()
    model, loss_fn = torch_forward(GPT2), torch_loss(GPT2)
    module = torch_module(torch, GPT2.parameters(), loss_fn)
    x, y = (torch.tensor(a).long() for a in GPT2.data())

    @torch.no_grad()
    def logits() -> Any:
        return model(module.tree, x)

    def gradient() -> tuple[float, list[Any]]:
        module.zero_grad(set_to_none=True)
        loss = module(x, y)
        loss.backward()
        return loss.item(), [p.grad for p in module.parameters()]

    return measure(logits, gradient)


WARM = True
AGREE = {LOGITS: 1e-4, LOSS: 1e-4, NORM: 1e-3}
VARIANTS = {
    "asgfn": lambda: figures(*libraries.ours(), backend=libraries.cpu_backend()),
    "jax": lambda: figures(*libraries.jax()),
    "torch": torch_figures,
}
