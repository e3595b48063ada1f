"""MLP 784-512-512-10, batch 128, one Adam step; NumPy's is written by hand."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks import libraries
from benchmarks.training import (
    LOSS,
    adam,
    adam_state,
    cross_entropy,
    figures_of,
    leaves,
    measure,
    torch_measure,
    torch_module,
)


@dataclass(frozen=True)
class Sizes:
    """A perceptron with two hidden layers, and how many images it gets."""

    batch: int = 128
    width: int = 512
    pixels: int = 784
    classes: int = 10

    def parameters(self) -> list[tuple[np.ndarray, np.ndarray]]:
        rng = np.random.default_rng(0)
        return [
            (rng.normal(0, 1 / np.sqrt(a), (a, b)).astype(np.float32), np.zeros(b, np.float32))
            for a, b in itertools.pairwise((self.pixels, self.width, self.width, self.classes))
        ]

    def data(self) -> tuple[np.ndarray, np.ndarray]:
        """Images [batch, pixels] and their classes [batch]."""
        rng = np.random.default_rng(1)
        images = rng.normal(size=(self.batch, self.pixels)).astype(np.float32)
        return images, rng.integers(0, self.classes, self.batch).astype(np.int32)


SIZES = Sizes()


def step_figures(lib: Any, jnp: Any, sizes: Sizes = SIZES, **options: Any) -> dict[str, float]:
    """Figures of the step in asgfn or JAX."""

    def loss_fn(params: Any, x: Any, y: Any) -> Any:
        h = x
        for w, b in params[:-1]:
            h = lib.nn.relu(h @ w + b)
        w, b = params[-1]
        return cross_entropy(lib, jnp, h @ w + b, y)

    make = lambda: (adam_state(lib, sizes.parameters()), sizes.data())
    return measure(lib, jnp, adam(lib, jnp, loss_fn), 4, make, **options)


def torch_figures(sizes: Sizes = SIZES, compiled: bool = False) -> dict[str, float]:
    """The same in PyTorch."""
    torch = libraries.torch()
    from torch.nn import functional as F

    def loss_fn(params: Any, x: Any, y: Any) -> Any:
        h = x
        for w, b in params[:-1]:
            h = F.relu(torch.addmm(b, h, w))
        w, b = params[-1]
        return F.cross_entropy(torch.addmm(b, h, w), y)

    model = torch_module(torch, sizes.parameters(), loss_fn)
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-3, fused=True)
    x, y = map(torch.tensor, sizes.data())
    return torch_measure(torch, torch.compile(model) if compiled else model, optimiser, (x, y.long()))


def numpy_figures(sizes: Sizes = SIZES) -> dict[str, float]:
    """The same by hand, with the gradient and its passes over memory as one would write them."""
    x, y = sizes.data()
    weights = list(leaves(sizes.parameters()))
    m = [np.zeros_like(p) for p in weights]
    v = [np.zeros_like(p) for p in weights]
    t = 0
    rows = np.arange(sizes.batch)

    def once() -> float:
        nonlocal t
        (w1, b1, w2, b2, w3, b3) = weights
        a1 = x @ w1 + b1
        h1 = np.maximum(a1, 0)
        a2 = h1 @ w2 + b2
        h2 = np.maximum(a2, 0)
        z = h2 @ w3 + b3
        z -= z.max(1, keepdims=True)
        e = np.exp(z)
        p = e / e.sum(1, keepdims=True)
        loss = -np.mean(np.log(p[rows, y]))
        dz = p
        dz[rows, y] -= 1
        dz /= sizes.batch
        d2 = (dz @ w3.T) * (a2 > 0)
        d1 = (d2 @ w2.T) * (a1 > 0)
        g = [x.T @ d1, d1.sum(0), h1.T @ d2, d2.sum(0), h2.T @ dz, dz.sum(0)]
        t += 1
        c1, c2 = np.float32(1 / (1 - 0.9**t)), np.float32(1 / np.sqrt(1 - 0.999**t))
        for i in range(6):
            m[i] = 0.9 * m[i] + 0.1 * g[i]
            v[i] = 0.999 * v[i] + 0.001 * (g[i] * g[i])
            weights[i] = weights[i] - 1e-3 * (m[i] * c1) / (np.sqrt(v[i]) * c2 + 1e-8)
        return loss

    return figures_of(once)


AGREE = {LOSS: 1e-3}
VARIANTS = {
    "asgfn": lambda: step_figures(*libraries.ours()[:2]),
    "numpy": numpy_figures,
    "jax": lambda: step_figures(*libraries.jax()[:2]),
}
