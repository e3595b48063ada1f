"""Losses of margins: a score is good enough once it is right by a margin."""

from __future__ import annotations

from typing import Any

import asgfn.numpy as jnp
from asgfn import nn
from asgfn.errors import ShapeError
from asgfn.numpy.arguments import to_array
from asgfn.tracing import Array
from nn_fn.functional.arguments import integer_array
from nn_fn.functional.losses.reduction import reduced, same_shape
from nn_fn.functional.losses.targets import (
    check_class_numbers,
    class_numbers,
    class_weights,
    picked,
    scores_of_classes,
)


def hinge_loss(input: Any, target: Any, margin: float = 1.0, reduction: str = "mean") -> Array:
    """max(0, margin - target * input), with derivative 0 where the margin is just reached (Cortes and Vapnik, 1995).

    Arguments:
        input: scores, any shape.
        target: of the same shape, 1 or -1.
        margin: the product of score and target that is good enough.
        reduction: "none", "mean" (over all elements) or "sum".

    Raises:
        ShapeError: shapes differ. ValueError: an unknown reduction.
    """
    input, target = same_shape("hinge_loss", input=input, target=target)
    return reduced("hinge_loss", nn.relu(margin - target * input), reduction)


def squared_hinge_loss(input: Any, target: Any, margin: float = 1.0, reduction: str = "mean") -> Array:
    """max(0, margin - target * input)^2.

    Arguments and errors: as `hinge_loss`.
    """
    input, target = same_shape("squared_hinge_loss", input=input, target=target)
    return reduced("squared_hinge_loss", jnp.square(nn.relu(margin - target * input)), reduction)


def multi_margin_loss(
    input: Any, target: Any, p: int = 1, margin: float = 1.0, weight: Any = None, reduction: str = "mean"
) -> Array:
    """The mean over classes i of max(0, margin - input[y] + input[i])^p, without i = y (Crammer and Singer, 2001).

    Arguments:
        input: scores, [N, C] or [C].
        target: integers, [N] or one number: the class y.
        p: 1 or 2.
        margin: by how much the score of y should be the largest.
        weight: float, [C], or None: a factor for each class y.
        reduction: "none" (one loss an example), "mean" or "sum".

    Raises:
        ShapeError, DTypeError, IndexOutOfRangeError: input, target or weight do not fit.
        ValueError: another p, an unknown reduction.
    """
    name = "multi_margin_loss"
    if p not in (1, 2):
        raise ValueError(f"{name}: p must be 1 or 2, got {p!r}")
    scores, axis = scores_of_classes(name, input)
    _check_rank(name, scores)
    target = class_numbers(name, target, scores, axis)
    weight = class_weights(name, weight, scores, axis)
    short = nn.relu(margin - jnp.expand_dims(picked(scores, target, axis), axis) + scores)
    if p == 2:
        short = jnp.square(short)
    others = jnp.arange(scores.shape[axis]) != jnp.expand_dims(target, axis)
    loss = jnp.mean(jnp.where(others, short, 0), axis=axis)
    if weight is not None:
        loss = loss * weight[target]
    return reduced(name, loss, reduction).astype(to_array(name, input).dtype)


def multilabel_margin_loss(input: Any, target: Any, reduction: str = "mean") -> Array:
    """The sum of max(0, 1 - input[y] + input[i]) over labels y and classes i that are no labels, divided by C.

    Arguments:
        input: scores, [N, C] or [C].
        target: integers of the same shape: the labels of each example, ended by -1 (what follows it is not looked at).
        reduction: "none" (one loss an example), "mean" or "sum".

    Raises:
        ShapeError, DTypeError, IndexOutOfRangeError: input and target do not fit.
        ValueError: an unknown reduction.
    """
    name = "multilabel_margin_loss"
    scores, axis = scores_of_classes(name, input)
    _check_rank(name, scores)
    target = integer_array(name, "target", target)
    if target.shape != scores.shape:
        raise ShapeError(f"{name}: target must have the shape of input, got input {scores.aval}, target {target.aval}")
    classes = scores.shape[axis]
    listed = jnp.cumsum(target < 0, axis=axis) == 0
    target = jnp.where(listed, target, 0)
    check_class_numbers(name, target, classes)
    is_label = jnp.any((target[..., None] == jnp.arange(classes)) & listed[..., None], axis=-2)
    of_label = jnp.take_along_axis(scores, target, axis=axis, wrap_negative_indices=False)
    short = nn.relu(1 - of_label[..., :, None] + scores[..., None, :])
    pairs = listed[..., :, None] & jnp.logical_not(is_label)[..., None, :]
    loss = jnp.sum(jnp.where(pairs, short, 0), axis=(-2, -1)) / classes
    return reduced(name, loss, reduction).astype(to_array(name, input).dtype)


def _check_rank(name: str, scores: Array) -> None:
    if scores.ndim > 2:
        raise ShapeError(f"{name}: input must be [N, C] or [C], got {scores.aval}")
