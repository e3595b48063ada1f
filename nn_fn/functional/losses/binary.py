"""Losses of yes and no: binary cross-entropy, of one question or of many labels at once."""

from __future__ import annotations

from typing import Any

import asgfn
import asgfn.numpy as jnp
from asgfn import nn
from asgfn.errors import ShapeError
from asgfn.tracing import Array
from nn_fn.functional.losses.reduction import reduced, same_shape, weight_for

# The least logarithm, and the least p (1 - p) in the derivative: PyTorch's limits, which keep both finite at 0 and 1.
_LEAST_LOG = -100.0
_LEAST_VARIANCE = 1e-12


def binary_cross_entropy(input: Any, target: Any, weight: Any = None, reduction: str = "mean") -> Array:
    """-(target log(input) + (1 - target) log(1 - input)) for probabilities.

    Logarithms end at -100, and the derivative divides by at least 1e-12, so that 0 and 1 are allowed. Where there are
    scores, `binary_cross_entropy_with_logits` is more accurate.

    Arguments:
        input: probabilities in [0, 1] (outside the loss is NaN).
        target: of the same shape, in [0, 1].
        weight: None, or factors that broadcast to that shape.
        reduction: "none", "mean" (over all elements, whatever the weights are) or "sum".

    Raises:
        ShapeError: shapes do not fit. ValueError: an unknown reduction.
    """
    name = "binary_cross_entropy"
    input, target = same_shape(name, input=input, target=target)
    loss = _of_probabilities(input, target)
    weight = weight_for(name, "weight", weight, loss)
    return reduced(name, loss if weight is None else loss * weight, reduction)


@asgfn.custom_jvp
def _of_probabilities(p: Array, target: Array) -> Array:
    log_yes, log_no = _limited_logs(p)
    return -(target * log_yes + (1 - target) * log_no)


@_of_probabilities.defjvp
def _of_probabilities_jvp(primals: tuple, tangents: tuple) -> tuple[Array, Array]:
    (p, target), (p_dot, target_dot) = primals, tangents
    log_yes, log_no = _limited_logs(p)
    by_p = (p - target) / jnp.maximum(p * (1 - p), _LEAST_VARIANCE)
    return _of_probabilities(p, target), by_p * p_dot + (log_no - log_yes) * target_dot


def _limited_logs(p: Array) -> tuple[Array, Array]:
    return jnp.maximum(jnp.log(p), _LEAST_LOG), jnp.maximum(jnp.log1p(-p), _LEAST_LOG)


def binary_cross_entropy_with_logits(
    input: Any, target: Any, weight: Any = None, reduction: str = "mean", pos_weight: Any = None
) -> Array:
    """-(pos_weight target log sigmoid(input) + (1 - target) log sigmoid(-input)) for scores.

    Arguments:
        input: unnormalised scores, any shape.
        target: of the same shape, in [0, 1].
        weight: None, or factors that broadcast to that shape.
        reduction: "none", "mean" (over all elements, whatever the weights are) or "sum".
        pos_weight: None, or a factor of the positive part that broadcasts to that shape: above 1 it favours recall.

    Raises:
        ShapeError: shapes do not fit. ValueError: an unknown reduction.
    """
    name = "binary_cross_entropy_with_logits"
    input, target = same_shape(name, input=input, target=target)
    loss = elementwise_cross_entropy(input, target, weight_for(name, "pos_weight", pos_weight, input))
    weight = weight_for(name, "weight", weight, loss)
    return reduced(name, loss if weight is None else loss * weight, reduction)


def elementwise_cross_entropy(input: Array, target: Array, pos_weight: Array | None = None) -> Array:
    """The loss of scores, of arrays that are known to fit."""
    yes = target if pos_weight is None else pos_weight * target
    # Two softplus rather than one and a product: their sum cancels nothing where the answer is right and sure.
    return yes * nn.softplus(-input) + (1 - target) * nn.softplus(input)


def soft_margin_loss(input: Any, target: Any, reduction: str = "mean") -> Array:
    """log(1 + exp(-target * input)) for targets 1 and -1, without overflow.

    Arguments:
        input, target: of one shape, any.
        reduction: "none", "mean" (over all elements) or "sum".

    Raises:
        ShapeError: shapes differ. ValueError: an unknown reduction.
    """
    input, target = same_shape("soft_margin_loss", input=input, target=target)
    return reduced("soft_margin_loss", nn.softplus(-target * input), reduction)


def multilabel_soft_margin_loss(input: Any, target: Any, weight: Any = None, reduction: str = "mean") -> Array:
    """Binary cross-entropy of scores, averaged over the labels (the last axis).

    Arguments:
        input: scores, [N, C] (or [..., C]).
        target: of the same shape, 0 or 1.
        weight: None, or factors that broadcast to that shape, such as one a label [C].
        reduction: "none" (one loss an example), "mean" or "sum".

    Raises:
        ShapeError: shapes do not fit. ValueError: an unknown reduction.
    """
    name = "multilabel_soft_margin_loss"
    input, target = same_shape(name, input=input, target=target)
    if input.ndim == 0:
        raise ShapeError(f"{name}: input must be [..., C], got {input.aval}")
    loss = elementwise_cross_entropy(input, target)
    weight = weight_for(name, "weight", weight, loss)
    return reduced(name, jnp.mean(loss if weight is None else loss * weight, axis=-1), reduction)
