"""Layers that drop values while training."""

from __future__ import annotations

from typing import Any

from nn_fn import functional as F
from nn_fn.layers.checks import probability
from nn_fn.layers.configuration import constructor
from nn_fn.layers.layer import Layer, simple


@constructor
def dropout(rate: float) -> Layer:
    """While training, sets each element to zero with probability `rate` and scales the others by 1 / (1 - rate).

    Source: N. Srivastava et al., Dropout, 2014 (inverted form).

    Raises:
        ValueError: rate is not in [0, 1), or (when called for training) there is no key.
    """
    probability("dropout", rate=rate)
    return _dropping("dropout", F.dropout, rate)


@constructor
def spatial_dropout(rate: float, spatial_dims: int = 2) -> Layer:
    """While training, sets whole channels to zero with probability `rate`, and scales the others by 1 / (1 - rate).

    Neighbouring pixels are alike, so that dropping single ones takes little away (J. Tompson et al., 2015).

    Arguments:
        spatial_dims: 1, 2 or 3 for inputs [N, C, L], [N, C, H, W] or [N, C, D, H, W].
    """
    probability("spatial_dropout", rate=rate)
    if spatial_dims not in (1, 2, 3):
        raise ValueError(f"spatial_dropout: spatial_dims must be 1, 2 or 3, got {spatial_dims!r}")
    function = {1: F.dropout1d, 2: F.dropout2d, 3: F.dropout3d}[spatial_dims]
    return _dropping("spatial_dropout", function, rate)


@constructor
def alpha_dropout(rate: float) -> Layer:
    """Dropout that keeps mean and variance behind `selu` (G. Klambauer et al., 2017)."""
    probability("alpha_dropout", rate=rate)
    return _dropping("alpha_dropout", F.alpha_dropout, rate)


def _dropping(name: str, function: Any, rate: float) -> Layer:
    def apply(params: Any, x: Any, key: Any = None, train: bool = False) -> Any:
        if train and rate > 0 and key is None:
            raise ValueError(f"{name}: training needs a random key; pass key=... to the model")
        return function(x, rate, train, key=key)

    return simple(name, apply, options=("key", "train"))
