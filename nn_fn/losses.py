"""Losses and metrics of classifiers and regressors, as functions of arrays."""

from __future__ import annotations

from typing import Any

import asgfn
import asgfn.numpy as jnp
from asgfn.errors import DTypeError, ShapeError
from asgfn.tracing import Array


def cross_entropy(logits: Any, labels: Any) -> Array:
    """Mean negative log-likelihood of integer labels under a softmax of logits.

    Arguments:
        logits: float, [..., classes], unnormalised.
        labels: integer, [...].

    Raises:
        ShapeError, DTypeError: labels do not fit the logits.
    """
    logits, labels = _classes("cross_entropy", logits, labels)
    log_p = asgfn.nn.log_softmax(logits)
    picked = jnp.take_along_axis(log_p, labels[..., None], axis=-1)
    return -jnp.mean(picked)


def mse(prediction: Any, target: Any) -> Array:
    """Mean squared error over all elements. Shapes must be equal: a silent broadcast here is usually a mistake."""
    prediction, target = jnp.asarray(prediction), jnp.asarray(target)
    if prediction.shape != target.shape:
        raise ShapeError(f"mse: prediction and target must have one shape, got {prediction.aval} and {target.aval}")
    return jnp.mean((prediction - target) ** 2)


def accuracy(logits: Any, labels: Any) -> Array:
    """Share of examples whose largest logit is at the label.

    Arguments:
        logits: float, [..., classes].
        labels: integer, [...].

    Raises:
        ShapeError, DTypeError: labels do not fit the logits.
    """
    logits, labels = _classes("accuracy", logits, labels)
    return jnp.mean(jnp.argmax(logits, axis=-1) == labels)


def _classes(name: str, logits: Any, labels: Any) -> tuple[Array, Array]:
    """Both as arrays, checked against each other: shapes that merely broadcast are a mistake."""
    logits, labels = jnp.asarray(logits), jnp.asarray(labels)
    if logits.ndim == 0 or labels.shape != logits.shape[:-1]:
        raise ShapeError(
            f"{name}: labels must have the shape of logits without its last axis: "
            f"logits are {logits.aval}, labels {labels.aval}"
        )
    if not jnp.issubdtype(labels.dtype, jnp.integer):
        raise DTypeError(f"{name}: labels must be class numbers (integers), got {labels.aval}")
    return logits, labels
