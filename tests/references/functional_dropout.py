"""What PyTorch's dropouts make of an element that is kept and of one that is dropped. Which are is up to chance."""

from __future__ import annotations

import numpy as np

PROBABILITIES = (0.1, 0.5, 0.8)
VALUES = (2.0, -0.5)
# name -> shape of an input in which each mask element covers equal values
SHAPES = {
    "dropout": (400,),
    "alpha_dropout": (400,),
    "dropout1d": (20, 20, 3),
    "dropout2d": (20, 20, 3, 2),
    "dropout3d": (20, 20, 2, 3, 2),
    "feature_alpha_dropout": (20, 20, 3),
}


def record() -> dict[str, np.ndarray]:
    import torch

    torch.manual_seed(0)
    recorded = {}
    for name, shape in SHAPES.items():
        for p in (*PROBABILITIES, 1.0):
            for value in VALUES:
                x = torch.full(shape, value, dtype=torch.float64)
                y = getattr(torch.nn.functional, name)(x, p, training=True)
                recorded[f"{name} p={p} of {value}"] = np.unique(y.numpy().round(12))
    return recorded
