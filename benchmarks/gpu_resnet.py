"""ResNet-18 (64 images of 224 x 224, 1000 classes) on a GPU: a training step with SGD and momentum, and inference.

ASGFN_RESNET=small takes a small network and small images instead, for machines without a GPU.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks.timing import best_of, timed


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


LARGE = Sizes(64, 224, 1000)
SMALL = Sizes(4, 64, 10, (1, 1, 1, 1), (8, 16, 32, 64))
SIZES = SMALL if os.environ.get("ASGFN_RESNET") == "small" else LARGE
ENVIRONMENT = {"JAX_PLATFORMS": "cuda"}
RATE, MOMENTUM = 0.01, 0.9


def resnet(sizes: Sizes) -> Any:
    """The network as a layer: ResNet-18 of K. He et al. (2016) for `LARGE`."""
    import nn_fn

    def conv(fan_in: int, fan_out: int, window: int, stride: int) -> Any:
        return nn_fn.conv2d(fan_in, fan_out, window, stride, window // 2, bias=False, weight_init="kaiming_normal")

    def block(fan_in: int, fan_out: int, stride: int) -> Any:
        body = nn_fn.sequential(
            conv(fan_in, fan_out, 3, stride), nn_fn.batch_norm(fan_out), nn_fn.activation("relu"),
            conv(fan_out, fan_out, 3, 1), nn_fn.batch_norm(fan_out),
        )  # fmt: skip
        shortcut = None
        if stride != 1 or fan_in != fan_out:
            shortcut = nn_fn.sequential(conv(fan_in, fan_out, 1, stride), nn_fn.batch_norm(fan_out))
        return nn_fn.sequential(nn_fn.residual(body, shortcut), nn_fn.activation("relu"))

    first = sizes.channels[0]
    layers = [conv(3, first, 7, 2), nn_fn.batch_norm(first), nn_fn.activation("relu"), nn_fn.max_pool2d(3, 2, 1)]
    fan_in = first
    for stage, (count, fan_out) in enumerate(zip(sizes.blocks, sizes.channels, strict=True)):
        for k in range(count):
            layers.append(block(fan_in, fan_out, 2 if stage and k == 0 else 1))
            fan_in = fan_out
    return nn_fn.sequential(*layers, nn_fn.adaptive_avg_pool2d(1), nn_fn.flatten(), nn_fn.linear(fan_in, sizes.classes))


def training_step(sizes: Sizes, **options: Any) -> tuple[Any, Any]:
    """`nn_fn.train_step` of the network, with cross-entropy and SGD; and the state before the first step."""
    import asgfn
    import nn_fn

    model, optimiser = resnet(sizes), nn_fn.sgd(RATE, momentum=MOMENTUM)
    loss = nn_fn.supervised(model, nn_fn.functional.cross_entropy)
    state = nn_fn.init_train_state(model, optimiser, asgfn.random.key(0))
    return nn_fn.train_step(loss, optimiser, **options), state


def ours(backend: str = "wgpu") -> dict[str, float]:
    import asgfn
    import asgfn.numpy as jnp

    step, state = training_step(SIZES, backend=backend)
    images, labels = (jnp.asarray(x) for x in SIZES.data())
    states = [state]

    def once() -> None:
        states[0], values = step(states[0], (images, labels))
        float(values["loss"])

    first = timed(once)
    figures = {"step (ms)": best_of(once, 3.0) * 1e3, "first call (s)": first}
    model = resnet(SIZES)
    predict = asgfn.jit(lambda params, state, x: model(params, state, x)[0], backend=backend)

    def infer() -> None:
        np.asarray(predict(states[0].params, states[0].model_state, images)[0, 0])

    infer()
    return {**figures, "inference (ms)": best_of(infer, 2.0) * 1e3}


# ---------------------------------------------------------------------------------------------- PyTorch
def torch_resnet(sizes: Sizes) -> Any:
    """The same network in PyTorch: torchvision's if it is installed and the sizes are its own."""
    from torch import nn
    from torch.nn import functional as F

    if sizes.blocks == LARGE.blocks and sizes.channels == LARGE.channels:
        try:
            from torchvision.models import resnet18
        except ImportError:
            pass
        else:
            return resnet18(num_classes=sizes.classes)

    def conv(fan_in: int, fan_out: int, window: int, stride: int) -> nn.Sequential:
        made = nn.Conv2d(fan_in, fan_out, window, stride, window // 2, bias=False)
        nn.init.kaiming_normal_(made.weight)
        return nn.Sequential(made, nn.BatchNorm2d(fan_out))

    class Block(nn.Module):
        def __init__(self, fan_in: int, fan_out: int, stride: int) -> None:
            super().__init__()
            self.first, self.second = conv(fan_in, fan_out, 3, stride), conv(fan_out, fan_out, 3, 1)
            changes = stride != 1 or fan_in != fan_out
            self.shortcut = conv(fan_in, fan_out, 1, stride) if changes else nn.Identity()

        def forward(self, x: Any) -> Any:
            return F.relu(self.second(F.relu(self.first(x))) + self.shortcut(x))

    layers: list[nn.Module] = [conv(3, sizes.channels[0], 7, 2), nn.ReLU(), nn.MaxPool2d(3, 2, 1)]
    fan_in = sizes.channels[0]
    for stage, (count, fan_out) in enumerate(zip(sizes.blocks, sizes.channels, strict=True)):
        for k in range(count):
            layers.append(Block(fan_in, fan_out, 2 if stage and k == 0 else 1))
            fan_in = fan_out
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(fan_in, sizes.classes))


def torch_eager(tf32: bool = False) -> dict[str, float]:
    import torch
    from torch.nn import functional as F

    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = tf32
    torch.backends.cudnn.benchmark = True
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = torch_resnet(SIZES).to(device)
    optimiser = torch.optim.SGD(model.parameters(), RATE, MOMENTUM)
    images, labels = (torch.tensor(x, device=device) for x in SIZES.data())
    labels = labels.long()

    def once() -> None:
        optimiser.zero_grad(set_to_none=True)
        loss = F.cross_entropy(model(images), labels)
        loss.backward()
        optimiser.step()
        loss.item()

    first = timed(once)
    figures = {"step (ms)": best_of(once, 3.0) * 1e3, "first call (s)": first}
    if device == "cuda":
        figures["peak memory (MB)"] = torch.cuda.max_memory_allocated() / 1e6
    model.eval()

    def infer() -> None:
        with torch.no_grad():
            model(images)[0, 0].item()

    infer()
    return {**figures, "inference (ms)": best_of(infer, 2.0) * 1e3}


def torch_tf32() -> dict[str, float]:
    return torch_eager(tf32=True)


VARIANTS = {"asgfn": ours, "torch IEEE": torch_eager, "torch TF32": torch_tf32}
