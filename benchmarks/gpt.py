"""The model and the step of the GPT benchmarks, in a form that runs with asgfn and with JAX."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Sizes:
    """A character GPT: layers, features, heads, context, batch, vocabulary."""

    layers: int
    features: int
    heads: int
    context: int
    batch: int
    vocabulary: int

    def data(self) -> tuple[np.ndarray, np.ndarray]:
        rng = np.random.default_rng(0)
        tokens = rng.integers(0, self.vocabulary, (self.batch, self.context + 1)).astype(np.int32)
        return tokens[:, :-1], tokens[:, 1:]

    def parameters(self) -> dict[str, Any]:
        rng = np.random.default_rng(1)
        d = self.features

        def normal(*shape: int) -> np.ndarray:
            return rng.normal(0, 0.02, shape).astype(np.float32)

        def block() -> dict[str, np.ndarray]:
            return {
                "norm1": np.ones(d, np.float32), "shift1": np.zeros(d, np.float32),
                "qkv": normal(d, 3 * d), "out": normal(d, d),
                "norm2": np.ones(d, np.float32), "shift2": np.zeros(d, np.float32),
                "up": normal(d, 4 * d), "up_bias": np.zeros(4 * d, np.float32),
                "down": normal(4 * d, d), "down_bias": np.zeros(d, np.float32),
            }  # fmt: skip

        return {
            "tokens": normal(self.vocabulary, d),
            "positions": normal(self.context, d),
            "blocks": [block() for _ in range(self.layers)],
            "norm": np.ones(d, np.float32),
            "shift": np.zeros(d, np.float32),
            "head": normal(d, self.vocabulary),
        }


def training_step(lib: Any, jnp: Any, lax: Any, sizes: Sizes) -> Any:
    """``step(params, m, v, t, x, y) -> (params, m, v, t, loss)``: AdamW, not jitted."""
    batch, context, heads = sizes.batch, sizes.context, sizes.heads
    width = sizes.features // heads

    def norm(x: Any, scale: Any, shift: Any) -> Any:
        mean = jnp.mean(x, axis=-1, keepdims=True)
        centred = x - mean
        variance = jnp.mean(centred * centred, axis=-1, keepdims=True)
        return centred * lax.rsqrt(variance + 1e-5) * scale + shift

    def attention(x: Any, p: Any) -> Any:
        parts = (x @ p["qkv"]).reshape(batch, context, 3, heads, width)
        q, k, v = (parts[:, :, i].transpose(0, 2, 1, 3) for i in range(3))
        scores = (q @ k.transpose(0, 1, 3, 2)) * (1 / math.sqrt(width))
        visible = jnp.tril(jnp.ones((context, context), bool))
        weights = lib.nn.softmax(jnp.where(visible, scores, -1e30), axis=-1)
        y = (weights @ v).transpose(0, 2, 1, 3).reshape(batch, context, sizes.features)
        return y @ p["out"]

    def forward(params: Any, x: Any) -> Any:
        h = params["tokens"][x] + params["positions"]
        for p in params["blocks"]:
            h = h + attention(norm(h, p["norm1"], p["shift1"]), p)
            inner = lib.nn.gelu(norm(h, p["norm2"], p["shift2"]) @ p["up"] + p["up_bias"])
            h = h + inner @ p["down"] + p["down_bias"]
        return norm(h, params["norm"], params["shift"]) @ params["head"]

    def loss_fn(params: Any, x: Any, y: Any) -> Any:
        log_p = lib.nn.log_softmax(forward(params, x), axis=-1)
        return -jnp.mean(jnp.take_along_axis(log_p, y[..., None], axis=-1))

    def step(params: Any, m: Any, v: Any, t: Any, x: Any, y: Any) -> Any:
        loss, g = lib.value_and_grad(loss_fn)(params, x, y)
        t = t + 1
        m = lib.tree.map(lambda m, g: 0.9 * m + 0.1 * g, m, g)
        v = lib.tree.map(lambda v, g: 0.99 * v + 0.01 * (g * g), v, g)
        first, second = 1 / (1 - 0.9**t), 1 / (1 - 0.99**t)
        params = lib.tree.map(
            lambda p, m, v: p - 1e-3 * (m * first / (jnp.sqrt(v * second) + 1e-8) + 0.1 * p), params, m, v
        )
        return params, m, v, t, loss

    return step


def torch_step(sizes: Sizes, device: str) -> Any:
    """The same in PyTorch: a module, and a function that makes one AdamW step and returns the loss."""
    import torch
    from torch import nn
    from torch.nn import functional as F

    d = sizes.features

    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm1, self.norm2 = nn.LayerNorm(d), nn.LayerNorm(d)
            self.qkv, self.out = nn.Linear(d, 3 * d, bias=False), nn.Linear(d, d, bias=False)
            self.up, self.down = nn.Linear(d, 4 * d), nn.Linear(4 * d, d)

        def forward(self, x: Any) -> Any:
            b, t, _ = x.shape
            q, k, v = (
                part.view(b, t, sizes.heads, -1).transpose(1, 2) for part in self.qkv(self.norm1(x)).split(d, dim=2)
            )
            y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
            x = x + self.out(y.transpose(1, 2).reshape(b, t, d))
            return x + self.down(F.gelu(self.up(self.norm2(x)), approximate="tanh"))

    class Gpt(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.tokens = nn.Embedding(sizes.vocabulary, d)
            self.positions = nn.Parameter(torch.randn(sizes.context, d) * 0.02)
            self.blocks = nn.Sequential(*[Block() for _ in range(sizes.layers)])
            self.norm, self.head = nn.LayerNorm(d), nn.Linear(d, sizes.vocabulary, bias=False)

        def forward(self, x: Any, y: Any) -> Any:
            h = self.norm(self.blocks(self.tokens(x) + self.positions))
            return F.cross_entropy(self.head(h).view(-1, sizes.vocabulary), y.view(-1))

    model = Gpt().to(device)
    optimiser = torch.optim.AdamW(
        model.parameters(), lr=1e-3, betas=(0.9, 0.99), weight_decay=0.1, fused=device == "cuda"
    )
    x, y = (torch.tensor(a, device=device).long() for a in sizes.data())
    return model, optimiser, x, y
