"""What metrics check about their inputs: shapes and dtypes by reading, values only where they are known."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import asgfn.numpy as jnp
from asgfn.errors import DTypeError, ShapeError
from asgfn.tracing import Array
from asgfn.tracing.concretize import is_concrete
from nn_fn.metrics.sums import default_float


def is_whole(x: Array) -> bool:
    """Whether the dtype is an integer or boolean one."""
    return x.dtype == bool or bool(jnp.issubdtype(x.dtype, jnp.integer))


def real(where: str, what: str, x: Any) -> Array:
    """x in the dtype that metrics compute in.

    Raises:
        DTypeError: x is complex.
    """
    x = jnp.asarray(x)
    if jnp.issubdtype(x.dtype, jnp.complexfloating):
        raise DTypeError(f"{where}: {what} must be real numbers, got {x.aval}")
    return x.astype(default_float())


def weights_of(where: str, mask: Any, shape: tuple[int, ...]) -> Array:
    """The weights of examples of a shape: booleans or floats.

    Raises:
        ShapeError: the mask does not have the examples' shape or its leading axes.
        DTypeError: the mask is complex.
    """
    if mask is None:
        return jnp.ones(shape, bool)
    mask = jnp.asarray(mask)
    if mask.shape != shape[: mask.ndim]:
        raise ShapeError(
            f"{where}: mask must have the examples' shape {list(shape)} or its leading axes, got {mask.aval}"
        )
    if mask.dtype != bool:
        mask = real(where, "mask", mask)
    return jnp.broadcast_to(mask.reshape(mask.shape + (1,) * (len(shape) - mask.ndim)), shape)


def same_shape(where: str, prediction: Any, target: Any) -> tuple[Array, Array]:
    """Both as real numbers.

    Raises:
        ShapeError: their shapes differ, even if they would broadcast.
    """
    prediction, target = jnp.asarray(prediction), jnp.asarray(target)
    if prediction.shape != target.shape:
        raise ShapeError(
            f"{where}: prediction and target must have one shape, got {prediction.aval} and {target.aval}; "
            "reshape one of them, for example with x.reshape(-1) or x[:, None]"
        )
    return real(where, "prediction", prediction), real(where, "target", target)


def scores_and_classes(where: str, scores: Any, targets: Any, num_classes: int | None = None) -> tuple[Array, Array]:
    """Scores [..., classes] and class numbers [...], from class numbers or one-hot targets [..., classes].

    Raises:
        ShapeError: they do not fit each other, or num_classes.
        DTypeError: class numbers are not integers.
        ValueError: a class number, known at this point, is out of range.
    """
    scores, targets = real(where, "scores", scores), jnp.asarray(targets)
    if scores.ndim == 0 or scores.shape[-1] == 0 or (num_classes is not None and scores.shape[-1] != num_classes):
        expected = "classes" if num_classes is None else num_classes
        raise ShapeError(f"{where}: scores must be [..., {expected}], got {scores.aval}")
    if targets.shape == scores.shape and targets.ndim >= 2:
        return scores, jnp.argmax(targets, axis=-1)
    if targets.shape != scores.shape[:-1]:
        hint = (
            "; scores of two classes, one number an example, need a threshold" if targets.shape == scores.shape else ""
        )
        raise ShapeError(
            f"{where}: targets must be class numbers, of the scores' shape without its last axis, or one-hot, of the "
            f"scores' shape: scores are {scores.aval}, targets {targets.aval}{hint}"
        )
    if not jnp.issubdtype(targets.dtype, jnp.integer):
        raise DTypeError(f"{where}: targets must be class numbers (integers), got {targets.aval}")
    return scores, targets


def check_range(where: str, what: str, classes: Array, num_classes: int, weights: Array | None = None) -> None:
    """Refuses class numbers out of range, where Python can see them.

    Raises:
        ValueError: names the first such number.
    """
    if not is_concrete(classes) or (weights is not None and not is_concrete(weights)):
        return
    numbers = np.asarray(classes)
    if weights is not None:
        numbers = numbers[np.asarray(weights) != 0]
    wrong = numbers[(numbers < 0) | (numbers >= num_classes)]
    if wrong.size:
        raise ValueError(
            f"{where}: {what} must be class numbers from 0 to {num_classes - 1}, got {wrong.flat[0]}; leave examples "
            "out with mask="
        )


def best_class(scores: Array) -> Array:
    """The number of the highest score, the first of equal ones; -1 where a score is nan."""
    return jnp.where(jnp.any(jnp.isnan(scores), axis=-1), -1, jnp.argmax(scores, axis=-1))


def check_targets(where: str) -> Callable[[Array, Any, Any], None]:
    """A check of class numbers against scores [..., classes], for `mean_metric`."""

    def check(weights: Array, scores: Any, targets: Any) -> None:
        scores, targets = jnp.asarray(scores), jnp.asarray(targets)
        if targets.ndim < scores.ndim:
            check_range(where, "targets", targets, scores.shape[-1], weights)

    return check


def check_binary(where: str) -> Callable[[Array, Any, Any], None]:
    """A check that targets are 0 and 1, for `mean_metric`."""

    def check(weights: Array, scores: Any, targets: Any) -> None:
        check_range(where, "targets", jnp.asarray(targets).astype(jnp.int32), 2, weights)

    return check


def score_of(scores: Array, targets: Array) -> Array:
    """scores[..., targets]; nan where a target is out of range."""
    picked = jnp.take_along_axis(scores, jnp.clip(targets, 0, scores.shape[-1] - 1)[..., None], axis=-1)[..., 0]
    return jnp.where((targets >= 0) & (targets < scores.shape[-1]), picked, jnp.nan)


def check_threshold(where: str, scores: Any, targets: Any) -> tuple[Array, Array]:
    """Scores and targets of two classes, of one shape: scores as real numbers, targets as integers.

    Raises:
        ShapeError: their shapes differ.
        DTypeError: targets are neither booleans nor integers.
    """
    scores, targets = jnp.asarray(scores), jnp.asarray(targets)
    if scores.shape != targets.shape:
        raise ShapeError(
            f"{where}: scores of the positive class and targets must have one shape, got {scores.aval} and {targets.aval}"
        )
    if not is_whole(targets):
        raise DTypeError(f"{where}: targets must be booleans, or integers 0 and 1, got {targets.aval}")
    return real(where, "scores", scores), targets.astype(jnp.int32)


def positive_int(where: str, what: str, number: Any) -> int:
    """A Python integer of at least 1."""
    if isinstance(number, bool) or not isinstance(number, (int, np.integer)) or number < 1:
        raise ValueError(f"{where}: {what} must be a positive integer, got {number!r}")
    return int(number)
