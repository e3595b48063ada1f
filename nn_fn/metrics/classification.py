"""Metrics of classifiers that are means over examples: accuracy, top-k accuracy, log loss, perplexity."""

from __future__ import annotations

from typing import Any, Literal

import asgfn
import asgfn.numpy as jnp
from asgfn.errors import DTypeError
from asgfn.tracing import Array
from nn_fn.metrics.inputs import (
    best_class,
    check_binary,
    check_targets,
    check_threshold,
    is_whole,
    positive_int,
    score_of,
    scores_and_classes,
)
from nn_fn.metrics.means import mean_metric
from nn_fn.metrics.metric import Metric


def accuracy(threshold: float | None = None) -> Metric:
    """Share of examples that are classified correctly.

    `update(state, scores, targets, mask=None)` takes

    * scores [..., classes], floats, with targets that are class numbers [...] or one-hot [..., classes]. The highest score
      is the prediction, the first of equal ones; an example with a nan is wrong. Or
    * predicted class numbers [...] (integers), with targets of the same kind and shape. Or
    * with a `threshold` (0.5 for probabilities, 0 for logits): scores [...] of the positive class, with targets [...] that
      are 0 and 1. A score ≥ threshold is a positive prediction.

    Raises (update):
        ShapeError, DTypeError: inputs do not fit each other.
        ValueError: a class number, known at this point, is out of range.
    """

    def values(scores: Any, targets: Any) -> Array:
        if threshold is not None:
            scores, targets = check_threshold("accuracy", scores, targets)
            return (scores >= threshold) == (targets == 1)
        scores, targets = jnp.asarray(scores), jnp.asarray(targets)
        if is_whole(scores) and scores.shape == targets.shape:
            if not is_whole(targets):
                raise DTypeError(f"accuracy: targets must be class numbers, as predictions are, got {targets.aval}")
            return scores == targets
        scores, targets = scores_and_classes("accuracy", scores, targets)
        return best_class(scores) == targets

    check = check_targets("accuracy") if threshold is None else check_binary("accuracy")
    return mean_metric("accuracy", values, "max", check=check)


def top_k_accuracy(k: int = 5, ties: Literal["first", "last"] = "first") -> Metric:
    """Share of examples whose class is among the k highest scores.

    `update(state, scores, targets, mask=None)` takes scores [..., classes] and class numbers [...] or one-hot targets
    [..., classes]. An example with a nan is wrong. With k ≥ classes every other example is correct.

    Arguments:
        ties: which of equal scores come before the others: the first classes, as in `argmax` and `lax.top_k` (so that k = 1
            is `accuracy`), or the last ones, as in scikit-learn.

    Raises:
        ValueError: k is not a positive integer, ties is something else, or (update) a class number, known at this point, is
            out of range.
        ShapeError, DTypeError (update): inputs do not fit each other.
    """
    k = positive_int("top_k_accuracy", "k", k)
    if ties not in ("first", "last"):
        raise ValueError(f"top_k_accuracy: ties must be 'first' or 'last', got {ties!r}")

    def values(scores: Any, targets: Any) -> Array:
        scores, targets = scores_and_classes("top_k_accuracy", scores, targets)
        own = score_of(scores, targets)[..., None]
        classes = jnp.arange(scores.shape[-1])
        before = classes < targets[..., None] if ties == "first" else classes > targets[..., None]
        rank = jnp.sum((scores > own) | ((scores == own) & before), axis=-1)
        return (rank < k) & ~jnp.isnan(own[..., 0]) & ~jnp.any(jnp.isnan(scores), axis=-1)

    return mean_metric(f"top_{k}_accuracy", values, "max", check=check_targets("top_k_accuracy"))


def log_loss(from_logits: bool = False, binary: bool = False) -> Metric:
    """Mean negative logarithm of the probability that was given to the right class, in nats.

    `update(state, scores, targets, mask=None)` takes scores [..., classes] and class numbers [...] or one-hot targets
    [..., classes].

    Arguments:
        from_logits: scores are logits (softmax or sigmoid makes them probabilities). Otherwise they are probabilities, which
            are clipped to [eps, 1 - eps], eps that of the dtype, as scikit-learn does; they are not normalised.
        binary: scores [...] are those of the positive class, and targets [...] are 0 and 1.

    A class number out of range, under `jit`, gives nan.

    Raises (update):
        ShapeError, DTypeError: inputs do not fit each other.
        ValueError: a class number, known at this point, is out of range.
    """

    def values(scores: Any, targets: Any) -> Array:
        if binary:
            scores, targets = check_threshold("log_loss", scores, targets)
            if from_logits:
                return asgfn.nn.softplus(jnp.where(targets == 1, -scores, scores))
            p = _clipped(scores)
            return -jnp.log(jnp.where(targets == 1, p, 1 - p))
        scores, targets = scores_and_classes("log_loss", scores, targets)
        if from_logits:
            return -score_of(asgfn.nn.log_softmax(scores), targets)
        return -jnp.log(_clipped(score_of(scores, targets)))

    return mean_metric(
        "log_loss", values, "min", check=check_binary("log_loss") if binary else check_targets("log_loss")
    )


def perplexity() -> Metric:
    """exp of the mean negative log-likelihood of tokens: how many equally likely tokens would be as surprising.

    `update(state, logits, targets, mask=None)` takes logits [..., vocabulary], unnormalised, and token numbers [...]; the
    mask says which tokens count, so padding may have any number.

    A token number out of range, under `jit`, gives nan.

    Raises (update):
        ShapeError, DTypeError: inputs do not fit each other.
        ValueError: a token number, known at this point, is out of range.
    """

    def values(logits: Any, targets: Any) -> Array:
        logits, targets = scores_and_classes("perplexity", logits, targets)
        return -score_of(asgfn.nn.log_softmax(logits), targets)

    return mean_metric("perplexity", values, "min", finish=jnp.exp, check=check_targets("perplexity"))


def _clipped(p: Array) -> Array:
    eps = float(jnp.finfo(p.dtype).eps)
    return jnp.clip(p, eps, 1 - eps)
