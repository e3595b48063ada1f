"""Losses of one class out of many: cross-entropy and the negative log-likelihood.

The class axis is axis 1, as in PyTorch (axis 0 of an input [C] without a batch), unless `axis` says otherwise: that of a
language model's scores, [batch, length, vocabulary], is -1.
"""

from __future__ import annotations

import math
from typing import Any

import asgfn.numpy as jnp
from asgfn import dtypes, nn
from asgfn.errors import ShapeError
from asgfn.numpy.arguments import to_array
from asgfn.tracing import Array
from nn_fn.functional.losses.reduction import reduced
from nn_fn.functional.losses.targets import (
    class_numbers,
    class_weights,
    picked,
    require_integers_or_floats,
    scores_of_classes,
)


def cross_entropy(
    input: Any,
    target: Any,
    weight: Any = None,
    ignore_index: int = -100,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
    *,
    axis: int | None = None,
) -> Array:
    """-log softmax(input)[target]: the negative log-likelihood of classes under unnormalised scores.

    Arguments:
        input: float, [N, C], [N, C, ...] or [C]: scores.
        target: integers [N], [N, ...] or one number: the class of each position. Or floats of the shape of `input`:
            probabilities of the classes; the loss is then -sum(weight * target * log softmax(input)).
        weight: float, [C], or None: a factor for each class.
        ignore_index: positions with this class number cost nothing and do not count in the mean.
        reduction: "none" (one loss a position), "sum", or "mean": over positions that are not ignored, weighted by the
            weights of their classes; for probabilities over all positions. The mean is NaN if all are ignored.
        label_smoothing: in [0, 1]: this share of the target is spread evenly over all classes (Szegedy et al., 2016).
        axis: the class axis; None is axis 1, or 0 of [C].

    Raises:
        ShapeError, DTypeError: shapes or dtypes do not fit.
        IndexOutOfRangeError: a target is no class. Inside of `jit`, where targets are not known, it makes the loss NaN.
        ValueError: label_smoothing is not in [0, 1], an unknown reduction.
    """
    name = "cross_entropy"
    if not 0 <= label_smoothing <= 1:
        raise ValueError(f"{name}: label_smoothing must be in [0, 1], got {label_smoothing!r}")
    scores, axis = scores_of_classes(name, input, axis)
    target = to_array(name, target)
    require_integers_or_floats(name, target)
    weight = class_weights(name, weight, scores, axis)
    log_p = nn.log_softmax(scores, axis=axis)
    if dtypes.is_floating(target.dtype):
        loss = _of_probabilities(name, log_p, target, axis, weight, reduction, label_smoothing)
    else:
        target = class_numbers(name, target, scores, axis, ignore_index)
        loss = _of_classes(name, log_p, target, axis, weight, ignore_index, reduction, label_smoothing)
    return loss.astype(to_array(name, input).dtype)


def nll_loss(
    input: Any,
    target: Any,
    weight: Any = None,
    ignore_index: int = -100,
    reduction: str = "mean",
    *,
    axis: int | None = None,
) -> Array:
    """-input[target] for logarithms of probabilities: `cross_entropy` after its `log_softmax`.

    Arguments:
        input: float, [N, C], [N, C, ...] or [C]: logarithms of probabilities.
        target: integers [N], [N, ...] or one number: the class of each position.
        weight, ignore_index, reduction, axis: see `cross_entropy`.

    Raises:
        ShapeError, DTypeError, IndexOutOfRangeError, ValueError: as `cross_entropy`.
    """
    log_p, axis = scores_of_classes("nll_loss", input, axis)
    weight = class_weights("nll_loss", weight, log_p, axis)
    target = class_numbers("nll_loss", target, log_p, axis, ignore_index)
    loss = _of_classes("nll_loss", log_p, target, axis, weight, ignore_index, reduction, 0.0)
    return loss.astype(to_array("nll_loss", input).dtype)


def _of_classes(
    name: str,
    log_p: Array,
    target: Array,
    axis: int,
    weight: Array | None,
    ignore_index: int,
    reduction: str,
    label_smoothing: float,
) -> Array:
    ignored = target == ignore_index
    target = jnp.where(ignored, 0, target)
    loss = -picked(log_p, target, axis)
    counted = jnp.where(ignored, 0, 1 if weight is None else weight[target]).astype(log_p.dtype)
    if weight is not None:
        loss = loss * counted
    if label_smoothing:
        evenly = -jnp.mean(log_p if weight is None else log_p * _along(weight, axis, log_p), axis=axis)
        loss = (1 - label_smoothing) * loss + label_smoothing * evenly
    return reduced(name, jnp.where(ignored, 0, loss), reduction, weight_sum=jnp.sum(counted))


def _of_probabilities(
    name: str, log_p: Array, target: Array, axis: int, weight: Array | None, reduction: str, label_smoothing: float
) -> Array:
    if target.shape != log_p.shape:
        raise ShapeError(
            f"{name}: a floating-point target holds probabilities and must have the shape of input, {log_p.shape}; got "
            f"{target.aval}. For class numbers use target.astype(int)"
        )
    target = target.astype(log_p.dtype)
    if label_smoothing:
        target = (1 - label_smoothing) * target + label_smoothing / log_p.shape[axis]
    # 0 log 0 is 0: a class that is masked by a score of -inf costs nothing where its probability is 0.
    log_p = jnp.where((target == 0) & (log_p == -math.inf), 0, log_p)
    terms = target * log_p
    if weight is not None:
        terms = terms * _along(weight, axis, log_p)
    return reduced(name, -jnp.sum(terms, axis=axis), reduction)


def _along(weight: Array, axis: int, x: Array) -> Array:
    """[C] in a shape that broadcasts with x, its classes on `axis`."""
    return weight.reshape((-1,) + (1,) * (x.ndim - 1 - axis))
