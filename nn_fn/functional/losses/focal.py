"""Focal loss: cross-entropy that cares less about what is right already (Lin et al., 2017)."""

from __future__ import annotations

from typing import Any

import asgfn.numpy as jnp
from asgfn import nn
from asgfn.numpy.arguments import to_array
from asgfn.tracing import Array
from nn_fn.functional.losses.binary import elementwise_cross_entropy
from nn_fn.functional.losses.reduction import reduced, same_shape
from nn_fn.functional.losses.targets import class_numbers, class_weights, picked, scores_of_classes


def sigmoid_focal_loss(
    input: Any, target: Any, alpha: float = 0.25, gamma: float = 2.0, reduction: str = "none"
) -> Array:
    """alpha_t (1 - p_t)^gamma * binary cross-entropy of scores, p_t being the probability given to the truth.

    Name, arguments and defaults are torchvision's.

    Arguments:
        input: unnormalised scores, any shape.
        target: of the same shape, 0 or 1 (between them p_t and alpha_t are averages).
        alpha: weight of the positives, in [0, 1]; negatives have 1 - alpha. A negative number: no weights.
        gamma: at least 0; 0 gives the cross-entropy.
        reduction: "none", "mean" (over all elements) or "sum".

    Raises:
        ShapeError: shapes differ. ValueError: gamma is negative, alpha above 1, an unknown reduction.
    """
    name = "sigmoid_focal_loss"
    if alpha > 1:
        raise ValueError(f"{name}: alpha must be in [0, 1], or negative for no weights; got {alpha!r}")
    input, target = same_shape(name, input=input, target=target)
    missed = nn.sigmoid(input) * (1 - target) + nn.sigmoid(-input) * target
    loss = elementwise_cross_entropy(input, target) * _focus(name, missed, gamma)
    if alpha >= 0:
        loss = (alpha * target + (1 - alpha) * (1 - target)) * loss
    return reduced(name, loss, reduction)


def focal_loss(
    input: Any,
    target: Any,
    alpha: Any = None,
    gamma: float = 2.0,
    reduction: str = "mean",
    ignore_index: int = -100,
) -> Array:
    """-alpha_y (1 - p_y)^gamma log p_y with p = softmax(input): the focal loss of one class out of many.

    Arguments:
        input: float, [N, C], [N, C, ...] or [C]: scores, classes on axis 1 as in `cross_entropy`.
        target: integers [N], [N, ...] or one number: the class y of each position.
        alpha: None, or a weight for each class, [C].
        gamma: at least 0; 0 gives the cross-entropy.
        reduction: "none", "sum" or "mean": over positions that are not ignored, NaN if all are. The weights are part of
            the loss, the mean does not divide by them.
        ignore_index: positions with this class number cost nothing and do not count in the mean.

    Raises:
        ShapeError, DTypeError, IndexOutOfRangeError: as `cross_entropy`.
        ValueError: gamma is negative, an unknown reduction.
    """
    name = "focal_loss"
    scores, axis = scores_of_classes(name, input)
    alpha = class_weights(name, alpha, scores, axis)
    target = class_numbers(name, target, scores, axis, ignore_index)
    ignored = target == ignore_index
    target = jnp.where(ignored, 0, target)
    log_p = picked(nn.log_softmax(scores, axis=axis), target, axis)
    # -expm1(log p) keeps the digits of 1 - p near p = 1.
    loss = -log_p * _focus(name, -jnp.expm1(log_p), gamma)
    if alpha is not None:
        loss = loss * alpha[target]
    loss = jnp.where(ignored, 0, loss)
    counted = jnp.sum(jnp.logical_not(ignored).astype(loss.dtype))
    return reduced(name, loss, reduction, weight_sum=counted).astype(to_array(name, input).dtype)


def _focus(name: str, missed: Array, gamma: float) -> Array:
    """missed^gamma for numbers in [0, 1], with a finite derivative at 0 for any gamma."""
    if not gamma >= 0:
        raise ValueError(f"{name}: gamma must not be negative, got {gamma!r}")
    return jnp.maximum(missed, float(jnp.finfo(missed.dtype).tiny)) ** gamma
