"""Metrics of classifiers from counts of predicted and actual classes: confusion matrix, precision, recall, F1, ..."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import asgfn.numpy as jnp
from asgfn import lax
from asgfn.errors import DTypeError, ShapeError
from asgfn.tracing import Array
from nn_fn.metrics import sums
from nn_fn.metrics.inputs import (
    best_class,
    check_range,
    check_threshold,
    is_whole,
    positive_int,
    scores_and_classes,
    weights_of,
)
from nn_fn.metrics.metric import Metric
from nn_fn.metrics.sums import Sum

Average = Literal["binary", "macro", "micro", "weighted"] | None


class ClassCounts(NamedTuple):
    """For each class: true positives, false positives, false negatives; and how many examples had no valid classes."""

    hits: Sum
    false: Sum
    missed: Sum
    invalid: Sum

    @property
    def predicted(self) -> Sum:
        return sums.add(self.hits, self.false)

    @property
    def actual(self) -> Sum:
        return sums.add(self.hits, self.missed)

    @property
    def others(self) -> Sum:
        """For each class, the examples that are of another one."""
        return _of_others(self.actual)


class MatrixState(NamedTuple):
    """counts[actual, predicted], and how many examples had no place in it."""

    counts: Sum
    invalid: Sum


def confusion_matrix(
    num_classes: int, normalize: Literal["true", "pred", "all"] | None = None, weighted: bool = False
) -> Metric:
    """Counts of examples by actual class (rows) and predicted class (columns).

    `update(state, scores, targets, mask=None)` takes scores [..., num_classes] (the first highest one is the prediction) or
    predicted class numbers [...], with targets that are class numbers [...] or, for scores, one-hot.

    Arguments:
        normalize: divide by the sums of rows ("true"), of columns ("pred") or of all; an empty row, column or matrix is 0,
            as in scikit-learn.
        weighted: the mask may be weights, and the result is a float matrix; otherwise it must be boolean.

    Returns (compute):
        [num_classes, num_classes]: int32 without `normalize` and `weighted`, exact below 2**31 an entry, else the default
        float dtype. If a class number was out of range or a score was nan, all entries are -1, or nan.

    Raises:
        ValueError: an argument is wrong, or (update) a class number, known at this point, is out of range.
        ShapeError, DTypeError (update): inputs do not fit each other.
    """
    name = "confusion_matrix"
    num_classes = positive_int(name, "num_classes", num_classes)
    if normalize not in (None, "true", "pred", "all"):
        raise ValueError(f"{name}: normalize must be None, 'true', 'pred' or 'all', got {normalize!r}")

    def update(state: MatrixState, scores: Any, targets: Any, mask: Any = None) -> MatrixState:
        if not weighted and mask is not None and jnp.asarray(mask).dtype != bool:
            raise DTypeError(
                f"{name}: mask must be boolean, got {jnp.asarray(mask).aval}; for weights use {name}(..., weighted=True)"
            )
        predicted, targets, weights = _classes(name, scores, targets, mask, num_classes)
        valid = _valid(predicted, targets, num_classes)
        cell = jnp.where(valid, targets * num_classes + predicted, num_classes**2)
        counts = sums.batch_counts(cell, weights, num_classes**2)
        return MatrixState(
            sums.add(state.counts, Sum(*(half.reshape(num_classes, num_classes) for half in counts))),
            sums.add(state.invalid, sums.batch_sum(~valid, weights)),
        )

    def compute(state: MatrixState) -> Array:
        wrong = sums.value(state.invalid) != 0
        if normalize is None and not weighted:
            return jnp.where(wrong, -1, sums.integer(state.counts))
        counts = sums.value(state.counts)
        if normalize is not None:
            axis = {"true": 1, "pred": 0, "all": None}[normalize]
            whole = jnp.sum(counts, axis=axis, keepdims=True)
            counts = jnp.where(whole == 0, 0, counts / jnp.where(whole == 0, 1, whole))
        return jnp.where(wrong, jnp.nan, counts)

    return Metric(
        name=name,
        init=lambda: MatrixState(sums.zero((num_classes, num_classes)), sums.zero()),
        update=update,
        merge=_merge,
        compute=compute,
    )


def precision(
    num_classes: int | None = None,
    average: Average = "binary",
    *,
    threshold: float = 0.5,
    zero_division: float = 0.0,
) -> Metric:
    """Share of positive predictions that are right: TP / (TP + FP).

    `update(state, scores, targets, mask=None)` takes

    * with average "binary": scores [...] of the positive class, positive if ≥ `threshold`, or predictions [...] that are 0 and
      1 (integers or booleans); and targets [...] that are 0 and 1. `num_classes` is not used.
    * otherwise: scores [..., num_classes] or predicted class numbers [...]; and class numbers [...] (or one-hot, for scores).

    Arguments:
        average: "binary"; "macro", the mean over classes; "weighted", the mean weighted by how many examples are of a class;
            "micro", from counts over all classes; None, an array [num_classes].
        zero_division: the value of a class where the denominator is 0: 0.0, 1.0 or nan. With nan, averages leave such classes
            out. As scikit-learn with ``labels=range(num_classes)``: classes that never occur take part.

    Without data the result is nan. If a class number was out of range (under `jit`; otherwise it raises), or a score was nan,
    the result is nan, too. Counts are exact up to 2**47.

    Raises:
        ValueError: an argument is wrong, or (update) a class number, known at this point, is out of range.
        ShapeError, DTypeError (update): inputs do not fit each other.
    """
    return _averaged("precision", lambda c: (c.hits, c.predicted), num_classes, average, threshold, zero_division)


def recall(
    num_classes: int | None = None,
    average: Average = "binary",
    *,
    threshold: float = 0.5,
    zero_division: float = 0.0,
) -> Metric:
    """Share of positive examples that are found: TP / (TP + FN). Arguments, inputs and errors as for `precision`."""
    return _averaged("recall", lambda c: (c.hits, c.actual), num_classes, average, threshold, zero_division)


def f1(
    num_classes: int | None = None,
    average: Average = "binary",
    *,
    threshold: float = 0.5,
    zero_division: float = 0.0,
) -> Metric:
    """Harmonic mean of precision and recall: 2 TP / (2 TP + FP + FN). Arguments, inputs and errors as for `precision`."""

    def parts(c: ClassCounts) -> tuple[Sum, Sum]:
        return sums.add(c.hits, c.hits), sums.add(c.predicted, c.actual)

    return _averaged("f1", parts, num_classes, average, threshold, zero_division)


def specificity(
    num_classes: int | None = None,
    average: Average = "binary",
    *,
    threshold: float = 0.5,
    zero_division: float = 0.0,
) -> Metric:
    """Share of negative examples that are not taken for positive ones: TN / (TN + FP).

    For more than two classes: of each class against all others. Arguments, inputs and errors as for `precision`.
    """

    def parts(c: ClassCounts) -> tuple[Sum, Sum]:
        return sums.subtract(c.others, c.false), c.others

    return _averaged("specificity", parts, num_classes, average, threshold, zero_division)


def balanced_accuracy(num_classes: int, adjusted: bool = False) -> Metric:
    """Mean over the classes that occur of the share of their examples that is classified correctly.

    Inputs and errors as for `precision` with an average over classes.

    Arguments:
        adjusted: scale so that guessing gives 0: (score - 1/n) / (1 - 1/n), n the number of classes that occur.
    """

    def compute(c: ClassCounts) -> Array:
        actual = sums.value(c.actual)
        occurs = actual != 0
        count = jnp.sum(occurs)
        mean = _ratio(jnp.sum(jnp.where(occurs, _ratio(sums.value(c.hits), actual), 0)), count)
        if adjusted:
            chance = 1 / jnp.maximum(count, 1)
            mean = (mean - chance) / (1 - chance)
        return mean

    return _of_counts("balanced_accuracy", num_classes, compute)


def matthews_corrcoef(num_classes: int = 2) -> Metric:
    """Matthews' correlation coefficient, -1 to 1: the correlation of predicted and actual classes.

    0 if all predictions, or all examples, are of one class. Inputs and errors as for `precision` with an average over
    classes. Source: J. Gorodkin, Comparing two K-category assignments by a K-category correlation coefficient, 2004.
    """

    def compute(c: ClassCounts) -> Array:
        # roots first: a product of the two may fall below the smallest float
        scale = jnp.sqrt(_disagreement(c.predicted, c.predicted)) * jnp.sqrt(_disagreement(c.actual, c.actual))
        return jnp.where(scale == 0, 0, _covariance(c) / jnp.where(scale == 0, 1, scale))

    return _of_counts("matthews_corrcoef", num_classes, compute)


def cohen_kappa(num_classes: int = 2) -> Metric:
    """Cohen's kappa: agreement beyond chance, (p_o - p_e) / (1 - p_e).

    nan if chance alone would agree always (all predictions and all examples are of one class). Inputs and errors as for
    `precision` with an average over classes. Source: J. Cohen, A coefficient of agreement for nominal scales, 1960.
    """

    def compute(c: ClassCounts) -> Array:
        return _ratio(_covariance(c), _disagreement(c.actual, c.predicted))

    return _of_counts("cohen_kappa", num_classes, compute)


# ----------------------------------------------------------------------------------------------------------- parts


def _averaged(
    name: str,
    parts: Callable[[ClassCounts], tuple[Sum, Sum]],
    num_classes: int | None,
    average: Average,
    threshold: float,
    zero_division: float,
) -> Metric:
    """A metric that is a ratio of counts of each class, averaged."""
    if average not in ("binary", "macro", "micro", "weighted", None):
        raise ValueError(f"{name}: average must be 'binary', 'macro', 'micro', 'weighted' or None, got {average!r}")
    if average != "binary" and num_classes is None:
        raise ValueError(f"{name}: average {average!r} needs the number of classes: {name}(num_classes, {average!r})")
    if not (zero_division in (0, 1) or zero_division != zero_division):
        raise ValueError(f"{name}: zero_division must be 0.0, 1.0 or nan, got {zero_division!r}")

    def divide(numerator: Array, denominator: Array) -> Array:
        return jnp.where(denominator == 0, zero_division, numerator / jnp.where(denominator == 0, 1, denominator))

    def compute(c: ClassCounts) -> Array:
        numerator, denominator = parts(c)
        if average == "micro":
            top, bottom = (_total(x) for x in (numerator, denominator))
            return divide(top, bottom)
        ratios = divide(sums.value(numerator), sums.value(denominator))
        if average is None:
            return ratios
        if average == "binary":
            return ratios[1]
        weights = sums.value(c.actual) if average == "weighted" else jnp.ones_like(ratios)
        counted = ~jnp.isnan(ratios)
        weights = jnp.where(counted, weights, 0)
        # of classes without examples, or without a value, there is no average
        return divide(jnp.sum(jnp.where(counted, ratios * weights, 0)), jnp.sum(weights))

    metric = _of_counts(name, 2 if average == "binary" else num_classes, compute)
    if average != "binary":
        return metric

    def update(state: ClassCounts, scores: Any, targets: Any, mask: Any = None) -> ClassCounts:
        scores, targets = jnp.asarray(scores), jnp.asarray(targets)
        labels = is_whole(scores)
        numbers, targets = check_threshold(name, scores, targets)
        weights = weights_of(name, mask, targets.shape)
        check_range(name, "targets", targets, 2, weights)
        if labels:
            check_range(name, "predictions", scores.astype(jnp.int32), 2, weights)
        predicted = scores.astype(jnp.int32) if labels else (numbers >= threshold).astype(jnp.int32)
        return _add(state, jnp.where(jnp.isnan(numbers), -1, predicted), targets, weights, 2)

    return Metric(name, metric.init, update, _merge, metric.compute, "max")


def _of_counts(name: str, num_classes: Any, compute: Callable[[ClassCounts], Array]) -> Metric:
    """A metric computed from `ClassCounts`; nan without data, and where an example was not valid."""
    num_classes = positive_int(name, "num_classes", num_classes)

    def update(state: ClassCounts, scores: Any, targets: Any, mask: Any = None) -> ClassCounts:
        predicted, targets, weights = _classes(name, scores, targets, mask, num_classes)
        return _add(state, predicted, targets, weights, num_classes)

    def finish(state: ClassCounts) -> Array:
        none = jnp.sum(sums.value(state.actual)) == 0
        return jnp.where(none | (sums.value(state.invalid) != 0), jnp.nan, compute(state))

    def init() -> ClassCounts:
        of_classes = sums.zero((num_classes,))
        return ClassCounts(of_classes, of_classes, of_classes, sums.zero())

    return Metric(name, init, update, _merge, finish, "max")


def _add(state: ClassCounts, predicted: Array, actual: Array, weights: Array, num_classes: int) -> ClassCounts:
    """Adds examples, given by their class numbers."""
    valid = _valid(predicted, actual, num_classes)
    right, wrong = valid & (predicted == actual), valid & (predicted != actual)

    def count(taken: Array, classes: Array) -> Sum:
        return sums.batch_counts(jnp.where(taken, classes, num_classes), weights, num_classes)

    return ClassCounts(
        sums.add(state.hits, count(right, actual)),
        sums.add(state.false, count(wrong, predicted)),
        sums.add(state.missed, count(wrong, actual)),
        sums.add(state.invalid, sums.batch_sum(~valid, weights)),
    )


def _valid(predicted: Array, actual: Array, num_classes: int) -> Array:
    """Which examples have both class numbers in range."""
    return (actual >= 0) & (actual < num_classes) & (predicted >= 0) & (predicted < num_classes)


def _classes(name: str, scores: Any, targets: Any, mask: Any, num_classes: int) -> tuple[Array, Array, Array]:
    """Predicted and actual class numbers, and weights, of one shape."""
    scores, targets = jnp.asarray(scores), jnp.asarray(targets)
    if is_whole(scores):
        if scores.shape != targets.shape:
            raise ShapeError(
                f"{name}: predicted class numbers and targets must have one shape, got {scores.aval} and {targets.aval}"
            )
        if not is_whole(targets):
            raise DTypeError(f"{name}: targets must be class numbers (integers), got {targets.aval}")
        predicted, targets = scores.astype(jnp.int32), targets.astype(jnp.int32)
        weights = weights_of(name, mask, targets.shape)
        check_range(name, "predictions", predicted, num_classes, weights)
    else:
        scores, targets = scores_and_classes(name, scores, targets, num_classes)
        predicted, targets = best_class(scores).astype(jnp.int32), targets.astype(jnp.int32)
        weights = weights_of(name, mask, targets.shape)
    check_range(name, "targets", targets, num_classes, weights)
    return predicted, targets, weights


def _merge(a: Any, b: Any) -> Any:
    return type(a)(*(sums.add(x, y) for x, y in zip(a, b, strict=True)))


def _of_others(x: Sum) -> Sum:
    """For each class, the sum over all others; not as a difference, so that nothing is left of nothing."""
    none = sums.zero((1,))

    def before(x: Sum) -> Sum:
        return Sum(
            *(jnp.concatenate([z, y[:-1]]) for z, y in zip(none, lax.associative_scan(sums.add, x), strict=True))
        )

    def flipped(x: Sum) -> Sum:
        return Sum(*(y[::-1] for y in x))

    return sums.add(before(x), flipped(before(flipped(x))))


def _total(x: Sum) -> Array:
    return jnp.sum(x.high) + jnp.sum(x.low)


def _covariance(c: ClassCounts) -> Array:
    """Σ over classes of hits/n - predicted actual/n², as TP TN - FP FN, which cancels only where the result does."""
    n = _total(c.actual)
    hits, false, missed = (sums.value(x) / n for x in (c.hits, c.false, c.missed))
    return jnp.sum(hits * (sums.value(sums.subtract(c.others, c.false)) / n) - false * missed)


def _disagreement(a: Sum, b: Sum) -> Array:
    """How often two independent draws, with class counts a and b, would differ: Σ over classes of a/n (1 - b/n)."""
    n = _total(a)
    return jnp.sum(sums.value(a) / n * (sums.value(_of_others(b)) / n))


def _ratio(a: Array, b: Array) -> Array:
    """a / b, nan where b is 0."""
    return jnp.where(b == 0, jnp.nan, a / jnp.where(b == 0, 1, b))
