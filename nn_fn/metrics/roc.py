"""Metrics over all thresholds: area under the ROC curve, average precision.

The exact ones keep every score. By default the state's arrays grow with each update: memory is 4 bytes an example and class
and, under `jit`, each length compiles anew; so call `update` without `jit`, or give a `capacity`: then the state has a fixed
shape, `jit` compiles once, and the result is nan if more examples came than fit. Or take `binned_roc_auc`, whose
memory does not depend on the number of examples.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import numpy as np

import asgfn
import asgfn.numpy as jnp
from asgfn.errors import DTypeError, ShapeError
from asgfn.tracing import Array
from nn_fn.metrics import examples, sums
from nn_fn.metrics.examples import Examples
from nn_fn.metrics.inputs import check_range, check_threshold, positive_int, scores_and_classes, weights_of
from nn_fn.metrics.metric import Metric
from nn_fn.metrics.sums import Sum


def roc_auc(
    num_classes: int | None = None,
    average: Literal["macro", "weighted"] | None = "macro",
    multi_class: Literal["ovr", "ovo"] = "ovr",
    *,
    capacity: int | None = None,
) -> Metric:
    """Area under the ROC curve, exactly: how often a positive example has a higher score than a negative one, ties half.

    `update(state, scores, targets, mask=None)` takes scores [...] of the positive class (of any scale) and targets [...] that
    are 0 and 1; or, with `num_classes`, scores [..., num_classes] and class numbers [...] or one-hot targets.

    Arguments:
        num_classes: None for two classes with one score.
        average: over classes (or pairs): "macro", the mean; "weighted", weighted by how many examples are of the class (or of
            the pair); None, an array [num_classes], only for "ovr".
        multi_class: "ovr": each class against all others. "ovo": each pair of classes, by examples of the two only, mean of
            both directions (D. Hand, R. Till, A simple generalisation of the area under the ROC curve, 2001).
        capacity: how many examples (masked ones aside) a state of fixed shape holds; None for a state that grows. See the
            module's text.

    The result is nan without a positive or without a negative example (of a class or pair), with a score that is nan, with a
    class number out of range (under `jit`; otherwise it raises), and if more than `capacity` examples came.
    Merged examples are counted together, so merging is exact.

    Raises:
        ValueError: an argument is wrong, or (update) a class number, known at this point, is out of range.
        ShapeError, DTypeError (update): inputs do not fit each other.
    """
    name = "roc_auc"
    if average not in ("macro", "weighted", None):
        raise ValueError(f"{name}: average must be 'macro', 'weighted' or None, got {average!r}")
    if multi_class not in ("ovr", "ovo"):
        raise ValueError(f"{name}: multi_class must be 'ovr' or 'ovo', got {multi_class!r}")
    if average is None and multi_class == "ovo":
        raise ValueError(f"{name}: 'ovo' needs an average: 'macro' or 'weighted'")
    if num_classes is None:
        return _of_scores(name, None, capacity, lambda s, t, w: _auc(s, t == 1, w))
    if positive_int(name, "num_classes", num_classes) < 2:
        raise ValueError(f"{name}: num_classes must be at least 2, got {num_classes}")

    def one_versus_rest(scores: Array, targets: Array, weight: Array) -> Array:
        member = targets[:, None] == jnp.arange(num_classes)
        areas = asgfn.vmap(_auc, in_axes=(1, 1, None))(scores, member, weight)
        shares = jnp.sum(jnp.where(member, weight[:, None], 0), axis=0)
        return areas if average is None else _average(areas, shares)

    def one_versus_one(scores: Array, targets: Array, weight: Array) -> Array:
        pairs = np.array([(i, j) for i in range(num_classes) for j in range(num_classes) if i != j])

        def area(pair: Array) -> tuple[Array, Array]:
            own = targets == pair[0]
            within = jnp.where(own | (targets == pair[1]), weight, 0)
            return _auc(jnp.take(scores, pair[0], axis=1), own, within), jnp.sum(within)

        return _average(*asgfn.vmap(area)(jnp.asarray(pairs)))

    def _average(areas: Array, shares: Array) -> Array:
        if average == "macro":
            return jnp.mean(areas)
        whole = jnp.sum(shares)
        return jnp.sum(areas * shares) / jnp.where(whole == 0, jnp.nan, whole)

    return _of_scores(name, num_classes, capacity, one_versus_rest if multi_class == "ovr" else one_versus_one)


def average_precision(*, capacity: int | None = None) -> Metric:
    """Average precision of two classes: Σ (R_i - R_(i-1)) P_i over the thresholds i, R recall and P precision, exactly.

    Inputs, `capacity` and errors as for `roc_auc` of two classes. Equal scores are one threshold. The result is nan without a
    positive example (scikit-learn gives 0), with a score that is nan, and if more than `capacity` examples came.
    """

    def compute(scores: Array, targets: Array, weight: Array) -> Array:
        order, _, last = _descending(scores)
        positive = jnp.where(targets == 1, weight, 0)[order]
        hits, taken = sums.cumulative(positive)[last], sums.cumulative(weight[order])[last]
        precision = hits / jnp.where(taken == 0, 1, taken)
        whole = jnp.sum(positive)
        return jnp.sum(positive * precision) / jnp.where(whole == 0, jnp.nan, whole)

    return _of_scores("average_precision", None, capacity, compute)


class BinnedState(NamedTuple):
    """Weights of negative and of positive examples by bins of scores, and of examples with a score that is nan."""

    negative: Sum
    positive: Sum
    invalid: Sum


def binned_roc_auc(num_bins: int = 1000, low: float = 0.0, high: float = 1.0) -> Metric:
    """Area under the ROC curve of two classes from a histogram of scores, in a fixed amount of memory.

    Scores in one bin count as equal: the result differs from `roc_auc` by at most half the share of pairs of a positive and a
    negative example that fall into one bin. Counts are exact up to 2**47. Inputs, nan and errors as for `roc_auc` of two
    classes.

    Arguments:
        num_bins: bins of equal width.
        low, high: the range of scores (as they are, 0 to 1, for probabilities); scores outside go to the bins at the ends.

    Raises:
        ValueError: num_bins is not a positive integer, or low is not below high.
    """
    name = "binned_roc_auc"
    num_bins = positive_int(name, "num_bins", num_bins)
    if not low < high:
        raise ValueError(f"{name}: low must be less than high, got {low} and {high}")

    def update(state: BinnedState, scores: Any, targets: Any, mask: Any = None) -> BinnedState:
        scores, targets, weight = _two_classes(name, scores, targets, mask)
        bad = jnp.isnan(scores) | (targets < 0) | (targets > 1)
        place = jnp.clip((scores - low) / (high - low), 0, 1) * num_bins
        place = jnp.minimum(jnp.where(bad, 0, place).astype(jnp.int32), num_bins - 1)

        def histogram(member: Array) -> Sum:
            return sums.batch_counts(jnp.where(member & ~bad, place, num_bins), weight, num_bins)

        return BinnedState(
            sums.add(state.negative, histogram(targets == 0)),
            sums.add(state.positive, histogram(targets == 1)),
            sums.add(state.invalid, sums.batch_sum(bad, weight)),
        )

    def compute(state: BinnedState) -> Array:
        negative, positive = sums.value(state.negative), sums.value(state.positive)
        below = sums.cumulative(negative) - negative / 2
        area = jnp.sum(_share(positive) * (below / _or_nan(jnp.sum(negative))))
        return jnp.where(sums.value(state.invalid) != 0, jnp.nan, area)

    return Metric(
        name=name,
        init=lambda: BinnedState(sums.zero((num_bins,)), sums.zero((num_bins,)), sums.zero()),
        update=update,
        merge=lambda a, b: BinnedState(*(sums.add(x, y) for x, y in zip(a, b, strict=True))),
        compute=compute,
        better="max",
    )


# ----------------------------------------------------------------------------------------------------------- parts


def _of_scores(
    name: str, num_classes: int | None, capacity: int | None, compute: Callable[[Array, Array, Array], Array]
) -> Metric:
    """A metric computed from all scores, class numbers and weights."""
    if capacity is not None:
        capacity = positive_int(name, "capacity", capacity)
    shape = () if num_classes is None else (num_classes,)

    def update(state: Examples, scores: Any, targets: Any, mask: Any = None) -> Examples:
        if num_classes is None:
            scores, targets, weight = _two_classes(name, scores, targets, mask)
        else:
            if jnp.asarray(scores).dtype == bool or jnp.issubdtype(jnp.asarray(scores).dtype, jnp.integer):
                raise DTypeError(f"{name}: scores must be floats [..., {num_classes}], got {jnp.asarray(scores).aval}")
            scores, targets = scores_and_classes(name, scores, targets, num_classes)
            weight = weights_of(name, mask, targets.shape)
            check_range(name, "targets", targets, num_classes, weight)
        columns = {"scores": scores.reshape(-1, *shape), "targets": targets.reshape(-1).astype(jnp.int32)}
        return examples.append(state, columns, weight.reshape(-1), capacity)

    def finish(state: Examples) -> Array:
        if not state.weight.shape[0]:  # one empty entry instead of none
            state = examples.empty({k: (x.shape[1:], x.dtype) for k, x in state.columns.items()}, 1)
        scores, targets, weight = state.columns["scores"], state.columns["targets"], state.weight
        wrong = jnp.any(jnp.isnan(scores)) | jnp.any((targets < 0) | (targets >= (num_classes or 2)))
        if capacity is not None:
            wrong = wrong | (state.taken > capacity)
        return jnp.where(wrong, jnp.nan, compute(scores, targets, weight))

    return Metric(
        name=name,
        init=lambda: examples.empty({"scores": (shape, sums.default_float()), "targets": ((), jnp.int32)}, capacity),
        update=update,
        merge=lambda a, b: examples.merge(a, b, capacity),
        compute=finish,
        better="max",
    )


def _two_classes(name: str, scores: Any, targets: Any, mask: Any) -> tuple[Array, Array, Array]:
    """Scores, targets and weights as vectors."""
    if jnp.asarray(scores).ndim > jnp.asarray(targets).ndim:
        raise ShapeError(
            f"{name}: scores of the positive class and targets must have one shape, got {jnp.asarray(scores).aval} and "
            f"{jnp.asarray(targets).aval}; for more than two classes say how many: {name}(num_classes)"
        )
    scores, targets = check_threshold(name, scores, targets)
    weight = weights_of(name, mask, targets.shape)
    check_range(name, "targets", targets, 2, weight)
    return scores.reshape(-1), targets.reshape(-1), weight.reshape(-1)


def _descending(scores: Array) -> tuple[Array, Array, Array]:
    """The order of scores from high to low; for each place in it, the first and the last place of equal score."""
    order = jnp.argsort(-scores)
    ordered = -scores[order]
    first, last = (jnp.searchsorted(ordered, ordered, side=side) for side in ("left", "right"))
    return order, first, last - 1


def _auc(scores: Array, positive: Array, weight: Array) -> Array:
    """Area under the ROC curve; nan where one of the classes has no weight."""
    order, first, last = _descending(scores)
    above = sums.cumulative(jnp.where(positive, 0, weight)[order])  # negatives of a higher or the same score
    before = jnp.where(first == 0, 0, above[jnp.maximum(first - 1, 0)])
    # of negatives with the same score, half count
    higher = (before + above[last]) / 2
    return jnp.sum(_share(jnp.where(positive, weight, 0)[order]) * (1 - higher / _or_nan(above[-1])))


def _share(weights: Array) -> Array:
    return weights / _or_nan(jnp.sum(weights))


def _or_nan(total: Array) -> Array:
    return jnp.where(total == 0, jnp.nan, total)
