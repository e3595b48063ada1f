"""The model and the step of the GPT benchmarks, for asgfn and JAX, and for PyTorch."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks.training import adam, adam_state, cross_entropy, measure, torch_measure, torch_module

SECOND, DECAY = 0.99, 0.1  # of AdamW


@dataclass(frozen=True)
class Sizes:
    """A GPT: layers, features, heads, context, batch, vocabulary; whether it is GPT-2's kind.

    That one has biases in attention, too, gives its tokens' embedding a second use as its head, and knows `positions`
    places of which `context` are used.
    """

    layers: int
    features: int
    heads: int
    context: int
    batch: int
    vocabulary: int
    gpt2: bool = False

    @property
    def positions(self) -> int:
        return 1024 if self.gpt2 else self.context

    def data(self) -> tuple[np.ndarray, np.ndarray]:
        rng = np.random.default_rng(0)
        tokens = rng.integers(0, self.vocabulary, (self.batch, self.context + 1)).astype(np.int32)
        return tokens[:, :-1], tokens[:, 1:]

    def parameters(self, make: Callable[[float, float, tuple[int, ...]], Any] | None = None) -> dict[str, Any]:
        """All parameters, as `make(mean, deviation, shape)`; by default normal numbers in NumPy."""
        rng = np.random.default_rng(1)
        d = self.features

        def drawn(mean: float, deviation: float, shape: tuple[int, ...]) -> np.ndarray:
            if not deviation:
                return np.full(shape, mean, np.float32)
            return rng.standard_normal(shape, np.float32) * np.float32(deviation) + np.float32(mean)

        make = make or drawn
        normal = lambda *shape: make(0.0, 0.02, shape)
        zeros, ones = (lambda n: make(0.0, 0.0, (n,))), (lambda n: make(1.0, 0.0, (n,)))

        def block() -> dict[str, Any]:
            biases = {"qkv_bias": zeros(3 * d), "out_bias": zeros(d)} if self.gpt2 else {}
            return {
                "norm1": ones(d), "shift1": zeros(d), "qkv": normal(d, 3 * d), "out": normal(d, d),
                "norm2": ones(d), "shift2": zeros(d), "up": normal(d, 4 * d), "up_bias": zeros(4 * d),
                "down": normal(4 * d, d), "down_bias": zeros(d), **biases,
            }  # fmt: skip

        return {
            "tokens": normal(self.vocabulary, d),
            "positions": normal(self.positions, d),
            "blocks": [block() for _ in range(self.layers)],
            "norm": ones(d),
            "shift": zeros(d),
            **({} if self.gpt2 else {"head": normal(d, self.vocabulary)}),
        }


SMALL = Sizes(layers=4, features=128, heads=4, context=64, batch=16, vocabulary=65)
GPT2 = Sizes(layers=12, features=768, heads=12, context=64, batch=1, vocabulary=50257, gpt2=True)


def forward(lib: Any, jnp: Any, lax: Any, sizes: Sizes) -> Callable:
    """`forward(params, tokens [batch, context]) -> logits [batch, context, vocabulary]`."""
    batch, context, heads = sizes.batch, sizes.context, sizes.heads
    width = sizes.features // heads

    def norm(x: Any, scale: Any, shift: Any) -> Any:
        mean = jnp.mean(x, axis=-1, keepdims=True)
        centred = x - mean
        variance = jnp.mean(centred * centred, axis=-1, keepdims=True)
        return centred * lax.rsqrt(variance + 1e-5) * scale + shift

    def dense(x: Any, p: Any, name: str) -> Any:
        y = x @ p[name]
        return y + p[f"{name}_bias"] if f"{name}_bias" in p else y

    def attention(x: Any, p: Any) -> Any:
        parts = dense(x, p, "qkv").reshape(batch, context, 3, heads, width)
        q, k, v = (parts[:, :, i].transpose(0, 2, 1, 3) for i in range(3))
        scores = (q @ k.transpose(0, 1, 3, 2)) * (1 / math.sqrt(width))
        visible = jnp.tril(jnp.ones((context, context), bool))
        weights = lib.nn.softmax(jnp.where(visible, scores, -1e30), axis=-1)
        y = (weights @ v).transpose(0, 2, 1, 3).reshape(batch, context, sizes.features)
        return dense(y, p, "out")

    def model(params: Any, x: Any) -> Any:
        h = params["tokens"][x] + params["positions"][:context]
        for p in params["blocks"]:
            h = h + attention(norm(h, p["norm1"], p["shift1"]), p)
            inner = lib.nn.gelu(dense(norm(h, p["norm2"], p["shift2"]), p, "up"))
            h = h + dense(inner, p, "down")
        head = params["tokens"].T if sizes.gpt2 else params["head"]
        return norm(h, params["norm"], params["shift"]) @ head

    return model


def loss_function(lib: Any, jnp: Any, lax: Any, sizes: Sizes) -> Callable:
    """`loss_fn(params, tokens, next_tokens) -> scalar`."""
    model = forward(lib, jnp, lax, sizes)
    return lambda params, x, y: cross_entropy(lib, jnp, model(params, x), y)


def training_step(lib: Any, jnp: Any, lax: Any, sizes: Sizes) -> Any:
    """`step(params, m, v, t, x, y) -> (params, m, v, t, loss)`: AdamW, not jitted."""
    return adam(lib, jnp, loss_function(lib, jnp, lax, sizes), second=SECOND, decay=DECAY)


def step_figures(lib: Any, jnp: Any, lax: Any, sizes: Sizes, **options: Any) -> dict[str, float]:
    """Figures of the step in asgfn or JAX."""
    step = training_step(lib, jnp, lax, sizes)
    return measure(lib, jnp, step, 4, lambda: (adam_state(lib, sizes.parameters()), sizes.data()), **options)


# ---------------------------------------------------------------------------------------------- PyTorch
def torch_forward(sizes: Sizes) -> Callable:
    """`forward(params, tokens)` in PyTorch, with its fused attention."""
    from torch.nn import functional as F

    d = sizes.features

    def dense(x: Any, p: Any, name: str) -> Any:
        bias = p.get(f"{name}_bias")
        return x @ p[name] if bias is None else x @ p[name] + bias

    def norm(x: Any, scale: Any, shift: Any) -> Any:
        return F.layer_norm(x, (d,), scale, shift)

    def attention(x: Any, p: Any) -> Any:
        b, t, _ = x.shape
        q, k, v = (part.view(b, t, sizes.heads, -1).transpose(1, 2) for part in dense(x, p, "qkv").split(d, dim=2))
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return dense(y.transpose(1, 2).reshape(b, t, d), p, "out")

    def model(params: Any, x: Any) -> Any:
        h = F.embedding(x, params["tokens"]) + params["positions"][: sizes.context]
        for p in params["blocks"]:
            h = h + attention(norm(h, p["norm1"], p["shift1"]), p)
            inner = F.gelu(dense(norm(h, p["norm2"], p["shift2"]), p, "up"), approximate="tanh")
            h = h + dense(inner, p, "down")
        h = norm(h, params["norm"], params["shift"])
        return F.linear(h, params["tokens"]) if sizes.gpt2 else h @ params["head"]

    return model


def torch_loss(sizes: Sizes) -> Callable:
    """`loss_fn(params, tokens, next_tokens)` in PyTorch."""
    from torch.nn import functional as F

    model = torch_forward(sizes)
    return lambda params, x, y: F.cross_entropy(model(params, x).view(-1, sizes.vocabulary), y.view(-1))


def torch_figures(torch: Any, sizes: Sizes, compiled: bool, device: str = "cpu") -> dict[str, float]:
    """Figures of the step in PyTorch."""
    model = torch_module(torch, sizes.parameters(), torch_loss(sizes), device)
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-3, betas=(0.9, SECOND), weight_decay=DECAY, fused=True)
    x, y = (torch.tensor(a, device=device).long() for a in sizes.data())
    return torch_measure(torch, torch.compile(model) if compiled else model, optimiser, (x, y))
