"""ResNet-18 (64 images of 224 x 224, 1000 classes) on a GPU: a training step with SGD and momentum, and inference.

ASGFN_RESNET=small takes a small network and small images instead, for machines without a GPU.
"""

from __future__ import annotations

import os
from typing import Any

import numpy as np

from benchmarks import libraries
from benchmarks.resnet import LARGE, MOMENTUM, RATE, Sizes, changes_shape, torch_resnet
from benchmarks.timing import best_of, timed
from benchmarks.training import torch_measure

SMALL = Sizes(4, 64, 10, (1, 1, 1, 1), (8, 16, 32, 64))
SIZES = SMALL if os.environ.get("ASGFN_RESNET") == "small" else LARGE
ENVIRONMENT = {"JAX_PLATFORMS": "cuda"}


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
        if changes_shape(fan_in, fan_out, stride):
            shortcut = nn_fn.sequential(conv(fan_in, fan_out, 1, stride), nn_fn.batch_norm(fan_out))
        return nn_fn.sequential(nn_fn.residual(body, shortcut), nn_fn.activation("relu"))

    first = sizes.channels[0]
    layers = [conv(3, first, 7, 2), nn_fn.batch_norm(first), nn_fn.activation("relu"), nn_fn.max_pool2d(3, 2, 1)]
    layers += [block(*shape) for shape in sizes.stages()]
    head = nn_fn.linear(sizes.channels[-1], sizes.classes)
    return nn_fn.sequential(*layers, nn_fn.adaptive_avg_pool2d(1), nn_fn.flatten(), head)


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


def torch_eager(tf32: bool = False) -> dict[str, float]:
    torch = libraries.torch()
    from torch.nn import functional as F

    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = tf32
    torch.backends.cudnn.benchmark = True
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = torch_resnet(SIZES).to(device)
    optimiser = torch.optim.SGD(model.parameters(), RATE, MOMENTUM)
    images, labels = (torch.tensor(x, device=device) for x in SIZES.data())
    loss_fn = lambda x, y: F.cross_entropy(model(x), y)
    figures = torch_measure(torch, loss_fn, optimiser, (images, labels.long()))
    model.eval()

    def infer() -> None:
        with torch.no_grad():
            model(images)[0, 0].item()

    infer()
    return {**figures, "inference (ms)": best_of(infer, 2.0) * 1e3}


def torch_tf32() -> dict[str, float]:
    return torch_eager(tf32=True)


VARIANTS = {"asgfn": ours, "torch IEEE": torch_eager, "torch TF32": torch_tf32}
