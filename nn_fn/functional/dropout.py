"""Dropout: parts of an array set to a constant at random, the rest rescaled.

What is drawn depends on the key alone: the same key gives the same mask, another call needs another key
(`asgfn.random.split`).
"""

from __future__ import annotations

from typing import Any

import asgfn.numpy as jnp
from asgfn import random
from asgfn.errors import ShapeError
from asgfn.tracing import Array
from nn_fn.functional.arguments import float_array, with_batch

# The value that selu approaches at -inf, -scale * alpha (Klambauer et al., 2017).
_SELU_FLOOR = -1.7580993408473766


def dropout(x: Any, p: float = 0.5, training: bool = True, *, key: Any = None) -> Array:
    """Sets each element to zero with probability p and scales the others by 1 / (1 - p) (Srivastava et al., 2014).

    Arguments:
        x: float array of any shape.
        p: a probability, known while tracing; 1 gives zeros only.
        training: if False, x is returned as it is.
        key: a random key; needed when training with p > 0.

    Raises:
        ValueError: p is not in [0, 1], or the key is missing.
        DTypeError: x is not floating point.
    """
    x = float_array("dropout", "x", x)
    return _dropped("dropout", x, p, training, key, x.shape)


def dropout1d(x: Any, p: float = 0.5, training: bool = True, *, key: Any = None) -> Array:
    """`dropout` of whole channels of [N, C, L] or [C, L] (Tompson et al., 2015).

    Raises:
        ShapeError: x has another rank; the rest as `dropout`.
    """
    return _channels_dropped("dropout1d", x, p, training, key, 1)


def dropout2d(x: Any, p: float = 0.5, training: bool = True, *, key: Any = None) -> Array:
    """`dropout` of whole channels of [N, C, H, W] (Tompson et al., 2015).

    An image alone, [C, H, W], drops its channels. (PyTorch takes three axes for [N, C, L] and warns; that is
    `dropout1d`.)

    Raises:
        ShapeError: x has another rank; the rest as `dropout`.
    """
    return _channels_dropped("dropout2d", x, p, training, key, 2)


def dropout3d(x: Any, p: float = 0.5, training: bool = True, *, key: Any = None) -> Array:
    """`dropout` of whole channels of [N, C, D, H, W] or [C, D, H, W] (Tompson et al., 2015).

    Raises:
        ShapeError: x has another rank; the rest as `dropout`.
    """
    return _channels_dropped("dropout3d", x, p, training, key, 3)


def alpha_dropout(x: Any, p: float = 0.5, training: bool = True, *, key: Any = None) -> Array:
    """Dropout that keeps mean 0 and variance 1, for networks of `selu` (Klambauer et al., 2017).

    Elements are set to selu's lower limit with probability p; then all are scaled and shifted so that standard normal
    input keeps its mean and variance.

    Arguments:
        x, p, training, key: see `dropout`. p = 1 gives zeros.

    Raises:
        ValueError, DTypeError: as `dropout`.
    """
    x = float_array("alpha_dropout", "x", x)
    return _alpha_dropped("alpha_dropout", x, p, training, key, x.shape)


def feature_alpha_dropout(x: Any, p: float = 0.5, training: bool = True, *, key: Any = None) -> Array:
    """`alpha_dropout` of whole channels of [N, C, ...].

    Raises:
        ShapeError: x has fewer than 2 axes; the rest as `dropout`.
    """
    x = float_array("feature_alpha_dropout", "x", x)
    if x.ndim < 2:
        raise ShapeError(f"feature_alpha_dropout: x must be [N, C] or [N, C, ...], got {x.aval}")
    return _alpha_dropped("feature_alpha_dropout", x, p, training, key, _channel_mask(x))


def _channels_dropped(name: str, x: Any, p: float, training: bool, key: Any, spatial: int) -> Array:
    x, added = with_batch(name, float_array(name, "x", x), spatial)
    y = _dropped(name, x, p, training, key, _channel_mask(x))
    return y[0] if added else y


def _channel_mask(x: Array) -> tuple[int, ...]:
    """The shape of a mask with one element a channel."""
    return x.shape[:2] + (1,) * (x.ndim - 2)


def _dropped(name: str, x: Array, p: float, training: bool, key: Any, mask_shape: tuple[int, ...]) -> Array:
    keep = _kept(name, p, training, key, mask_shape)
    if keep is None:
        return x
    return jnp.zeros_like(x) if p == 1 else jnp.where(keep, x / (1 - p), 0)


def _alpha_dropped(name: str, x: Array, p: float, training: bool, key: Any, mask_shape: tuple[int, ...]) -> Array:
    keep = _kept(name, p, training, key, mask_shape)
    if keep is None:
        return x
    if p == 1:
        return jnp.zeros_like(x)
    scale = ((1 - p) * (1 + p * _SELU_FLOOR**2)) ** -0.5
    return scale * (jnp.where(keep, x, _SELU_FLOOR) - _SELU_FLOOR * p)


def _kept(name: str, p: float, training: bool, key: Any, shape: tuple[int, ...]) -> Array | None:
    """True where an element is kept, or None when nothing is dropped."""
    if not 0 <= p <= 1:
        raise ValueError(f"{name}: p is a probability, in [0, 1]; got {p!r}")
    if not training or p == 0:
        return None
    if key is None:
        raise ValueError(
            f"{name}: training needs a random key: pass key=asgfn.random.key(...), a new one for each call, "
            "or training=False to drop nothing"
        )
    return random.bernoulli(key, 1 - p, shape)
