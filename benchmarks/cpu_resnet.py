"""ResNet-18 on the CPU: inference of one image of 224 x 224, and a step of SGD with momentum on four."""

from __future__ import annotations

from typing import Any

import numpy as np

from benchmarks import libraries
from benchmarks.resnet import MOMENTUM, RATE, Sizes, forward, torch_resnet, training_step
from benchmarks.timing import first_only
from benchmarks.training import LOSS, call_figures, measure, torch_measure

INFERENCE, TRAINING = Sizes(1, 224, 1000), Sizes(4, 224, 1000)
NORM = "inference: norm of the logits"


def figures(lib: Any, jnp: Any, lax: Any, **options: Any) -> dict[str, float]:
    """Figures of asgfn or JAX."""
    model = forward(lib, jnp, lax, INFERENCE, train=False)
    predict = lib.jit(lambda *arguments: model(*arguments)[0], **options)
    images, _ = INFERENCE.data()
    arguments = lib.tree.map(jnp.asarray, (INFERENCE.parameters(), INFERENCE.averages(), images))
    made = call_figures("inference", lambda: lib.block_until_ready(predict(*arguments)))
    if not first_only():
        made[NORM] = float(np.linalg.norm(np.asarray(predict(*arguments))))

    def make() -> tuple[tuple, tuple]:
        params = TRAINING.parameters()
        return (params, [np.zeros_like(p) for p in params], TRAINING.averages()), TRAINING.data()

    return made | measure(lib, jnp, training_step(lib, jnp, lax, TRAINING), 3, make, **options)


def torch_figures() -> dict[str, float]:
    """Figures of PyTorch."""
    torch = libraries.torch()
    from torch.nn import functional as F

    model = torch_resnet(INFERENCE).eval()
    image = torch.tensor(INFERENCE.data()[0])

    @torch.no_grad()
    def predict() -> Any:
        return model(image)

    made = call_figures("inference", predict)
    made[NORM] = float(predict().norm())
    model.train()
    optimiser = torch.optim.SGD(model.parameters(), RATE, MOMENTUM, fused=True)
    images, labels = map(torch.tensor, TRAINING.data())
    loss_fn = lambda x, y: F.cross_entropy(model(x), y)
    return made | torch_measure(torch, loss_fn, optimiser, (images, labels.long()))


WARM = True
AGREE = {NORM: 1e-3, LOSS: 1e-2}  # normalisation by four images' statistics makes much of small differences
VARIANTS = {
    "asgfn": lambda: figures(*libraries.ours(), backend=libraries.cpu_backend()),
    "jax": lambda: figures(*libraries.jax()),
    "torch": torch_figures,
}
