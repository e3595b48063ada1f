"""A convolutional network on 64 images of 28 x 28 (two convolutions, two poolings, a linear layer), one Adam step."""

from __future__ import annotations

from typing import Any

import numpy as np

from benchmarks import libraries
from benchmarks.training import (
    LOSS,
    adam,
    adam_state,
    cross_entropy,
    measure,
    torch_measure,
    torch_module,
)

BATCH, SIDE, CLASSES, CHANNELS = 64, 28, 10, (1, 32, 64)


def parameters() -> list[np.ndarray]:
    """Weights and biases, layer after layer, in PyTorch's layouts."""
    rng = np.random.default_rng(0)
    normal = lambda fan_in, *shape: rng.normal(0, np.sqrt(2 / fan_in), shape).astype(np.float32)
    one, two, three = CHANNELS
    flat = three * (SIDE // 4) ** 2
    weights = [normal(9 * one, two, one, 3, 3), normal(9 * two, three, two, 3, 3), normal(flat, CLASSES, flat)]
    return [a for w in weights for a in (w, np.zeros(len(w), np.float32))]


def data() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(1)
    images = rng.normal(size=(BATCH, CHANNELS[0], SIDE, SIDE)).astype(np.float32)
    return images, rng.integers(0, CLASSES, BATCH).astype(np.int32)


def step_figures(lib: Any, jnp: Any, lax: Any, **options: Any) -> dict[str, float]:
    """Figures of the step in asgfn or JAX."""

    def block(x: Any, w: Any, b: Any) -> Any:
        h = lib.nn.relu(lax.conv_general_dilated(x, w, (1, 1), "SAME") + b[:, None, None])
        return lax.reduce_window(h, -np.inf, lax.max, (1, 1, 2, 2), (1, 1, 2, 2), "VALID")

    def loss_fn(params: Any, x: Any, y: Any) -> Any:
        w1, b1, w2, b2, w3, b3 = params
        h = block(block(x, w1, b1), w2, b2)
        return cross_entropy(lib, jnp, h.reshape(BATCH, -1) @ w3.T + b3, y)

    return measure(lib, jnp, adam(lib, jnp, loss_fn), 4, lambda: (adam_state(lib, parameters()), data()), **options)


def torch_figures(compiled: bool = False) -> dict[str, float]:
    """The same in PyTorch."""
    torch = libraries.torch()
    from torch.nn import functional as F

    def loss_fn(params: Any, x: Any, y: Any) -> Any:
        w1, b1, w2, b2, w3, b3 = params
        h = F.max_pool2d(F.relu(F.conv2d(x, w1, b1, padding=1)), 2)
        h = F.max_pool2d(F.relu(F.conv2d(h, w2, b2, padding=1)), 2)
        return F.cross_entropy(F.linear(h.flatten(1), w3, b3), y)

    model = torch_module(torch, parameters(), loss_fn)
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-3, fused=True)
    x, y = map(torch.tensor, data())
    return torch_measure(torch, torch.compile(model) if compiled else model, optimiser, (x, y.long()))


WARM = True
AGREE = {LOSS: 2e-3}
VARIANTS = {
    "asgfn": lambda: step_figures(*libraries.ours(), backend=libraries.cpu_backend()),
    "jax": lambda: step_figures(*libraries.jax()),
    "torch": torch_figures,
    "torch compiled": lambda: torch_figures(compiled=True),
}
