"""ResNet-18 (K. He et al., 2016) for asgfn and JAX, and for PyTorch: what its benchmarks share."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks.training import cross_entropy, leaves

RATE, MOMENTUM = 0.01, 0.9


@dataclass(frozen=True)
class Sizes:
    """A residual network: number of images and their side, classes, blocks and channels of each stage.

    The first stage keeps the size of its images, each further one halves it.
    """

    batch: int
    side: int
    classes: int
    blocks: tuple[int, ...] = (2, 2, 2, 2)
    channels: tuple[int, ...] = (64, 128, 256, 512)

    def data(self) -> tuple[np.ndarray, np.ndarray]:
        """Images [batch, 3, side, side] and their classes [batch]."""
        rng = np.random.default_rng(0)
        images = rng.normal(size=(self.batch, 3, self.side, self.side)).astype(np.float32)
        return images, rng.integers(0, self.classes, self.batch).astype(np.int32)

    def stages(self) -> Iterator[tuple[int, int, int]]:
        """Channels that enter and leave each block, and its stride."""
        fan_in = self.channels[0]
        for stage, (count, fan_out) in enumerate(zip(self.blocks, self.channels, strict=True)):
            for k in range(count):
                yield fan_in, fan_out, 2 if stage and k == 0 else 1
                fan_in = fan_out

    def parameters(self) -> list[np.ndarray]:
        """In the order and the layouts of PyTorch's module: convolution, scale, shift, ...; at last the linear layer."""
        rng = np.random.default_rng(1)

        def conv(fan_in: int, fan_out: int, window: int) -> list[np.ndarray]:
            deviation = np.sqrt(2 / (fan_in * window * window))
            weight = rng.normal(0, deviation, (fan_out, fan_in, window, window)).astype(np.float32)
            return [weight, np.ones(fan_out, np.float32), np.zeros(fan_out, np.float32)]

        made = conv(3, self.channels[0], 7)
        for fan_in, fan_out, stride in self.stages():
            made += conv(fan_in, fan_out, 3) + conv(fan_out, fan_out, 3)
            if changes_shape(fan_in, fan_out, stride):
                made += conv(fan_in, fan_out, 1)
        last = self.channels[-1]
        head = rng.normal(0, 1 / np.sqrt(last), (self.classes, last)).astype(np.float32)
        return [*made, head, np.zeros(self.classes, np.float32)]

    def averages(self) -> list[tuple[np.ndarray, np.ndarray]]:
        """The running mean and variance of each normalisation, before the first step."""
        scales = [p for p in self.parameters()[:-2] if p.ndim == 1][::2]
        return [(np.zeros_like(p), np.ones_like(p)) for p in scales]


LARGE = Sizes(64, 224, 1000)


def changes_shape(fan_in: int, fan_out: int, stride: int) -> bool:
    """Whether a block's shortcut needs a convolution."""
    return stride != 1 or fan_in != fan_out


def forward(lib: Any, jnp: Any, lax: Any, sizes: Sizes, train: bool) -> Callable:
    """`forward(params, averages, images) -> (logits, averages)`, in inference or in training mode."""

    def model(params: Any, averages: Any, x: Any) -> Any:
        weights, before, after = iter(params), iter(averages), []

        def conv(x: Any, stride: int) -> Any:
            w, scale, shift = next(weights), next(weights), next(weights)
            pad = w.shape[2] // 2
            y = lax.conv_general_dilated(x, w, (stride, stride), [(pad, pad)] * 2)
            mean, variance = next(before)
            if train:
                count = y.size // y.shape[1]
                found = jnp.mean(y, axis=(0, 2, 3))
                spread = jnp.mean(jnp.square(y - found[:, None, None]), axis=(0, 2, 3))
                after.append((0.9 * mean + 0.1 * found, 0.9 * variance + 0.1 * (count / (count - 1)) * spread))
                mean, variance = found, spread
            factor = lax.rsqrt(variance + 1e-5) * scale
            return (y - mean[:, None, None]) * factor[:, None, None] + shift[:, None, None]

        h = lib.nn.relu(conv(x, 2))
        h = lax.reduce_window(h, -np.inf, lax.max, (1, 1, 3, 3), (1, 1, 2, 2), [(0, 0), (0, 0), (1, 1), (1, 1)])
        for fan_in, fan_out, stride in sizes.stages():
            inner = conv(lib.nn.relu(conv(h, stride)), 1)
            shortcut = conv(h, stride) if changes_shape(fan_in, fan_out, stride) else h
            h = lib.nn.relu(inner + shortcut)
        return jnp.mean(h, axis=(2, 3)) @ next(weights).T + next(weights), after

    return model


def training_step(lib: Any, jnp: Any, lax: Any, sizes: Sizes) -> Callable:
    """`step(params, velocity, averages, images, labels) -> (params, velocity, averages, loss)`: SGD, not jitted."""
    model = forward(lib, jnp, lax, sizes, train=True)

    def loss_fn(params: Any, averages: Any, x: Any, y: Any) -> Any:
        logits, averages = model(params, averages, x)
        return cross_entropy(lib, jnp, logits, y), averages

    def step(params: Any, velocity: Any, averages: Any, x: Any, y: Any) -> Any:
        (loss, averages), g = lib.value_and_grad(loss_fn, has_aux=True)(params, averages, x, y)
        velocity = lib.tree.map(lambda v, g: MOMENTUM * v + g, velocity, g)
        return lib.tree.map(lambda p, v: p - RATE * v, params, velocity), velocity, averages, loss

    return step


def torch_resnet(sizes: Sizes) -> Any:
    """The same network in PyTorch, with the same weights: torchvision's if it is installed and the sizes are its own."""
    import torch
    from torch import nn
    from torch.nn import functional as F

    def conv(fan_in: int, fan_out: int, window: int, stride: int) -> nn.Sequential:
        made = nn.Conv2d(fan_in, fan_out, window, stride, window // 2, bias=False)
        return nn.Sequential(made, nn.BatchNorm2d(fan_out))

    class Block(nn.Module):
        def __init__(self, fan_in: int, fan_out: int, stride: int) -> None:
            super().__init__()
            self.first, self.second = conv(fan_in, fan_out, 3, stride), conv(fan_out, fan_out, 3, 1)
            changes = changes_shape(fan_in, fan_out, stride)
            self.shortcut = conv(fan_in, fan_out, 1, stride) if changes else nn.Identity()

        def forward(self, x: Any) -> Any:
            return F.relu(self.second(F.relu(self.first(x))) + self.shortcut(x))

    def ours() -> Any:
        stem = [conv(3, sizes.channels[0], 7, 2), nn.ReLU(), nn.MaxPool2d(3, 2, 1)]
        head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(sizes.channels[-1], sizes.classes)]
        return nn.Sequential(*stem, *(Block(*block) for block in sizes.stages()), *head)

    model = None
    if sizes.blocks == LARGE.blocks and sizes.channels == LARGE.channels:
        try:
            from torchvision.models import resnet18
        except ImportError:
            pass
        else:
            model = resnet18(num_classes=sizes.classes)
    model = model or ours()
    with torch.no_grad():
        for parameter, value in zip(model.parameters(), leaves(sizes.parameters()), strict=True):
            parameter.copy_(torch.tensor(value))
    return model
