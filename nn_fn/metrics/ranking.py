"""Metrics of rankings: mean reciprocal rank, normalised discounted cumulative gain."""

from __future__ import annotations

from typing import Any

import numpy as np

import asgfn
import asgfn.numpy as jnp
from asgfn.errors import DTypeError, ShapeError
from asgfn.tracing import Array
from nn_fn.metrics.inputs import check_range, is_whole, positive_int, real, score_of
from nn_fn.metrics.means import mean_metric
from nn_fn.metrics.metric import Metric


def mrr() -> Metric:
    """Mean over queries of 1 / rank of the best-ranked relevant item; 0 for a query without relevant items.

    `update(state, scores, relevant, mask=None)` takes scores [..., items], higher first, and either relevant [..., items],
    booleans or integers (not 0 is relevant), or the number of the one relevant item [...]. An item that is not relevant comes
    first among equal scores, as in scikit-learn's label_ranking_average_precision_score (the same for one relevant item).
    A nan among a query's scores makes the result nan.

    Raises (update):
        ShapeError: inputs do not fit each other.
        DTypeError: the numbers of items are not integers.
        ValueError: an item's number, known at this point, is out of range.
    """

    def values(scores: Any, relevant: Any) -> Array:
        scores, relevant = _rankings("mrr", scores, relevant)
        if relevant.ndim < scores.ndim:
            best = score_of(scores, relevant)[..., None]
            is_relevant = jnp.arange(scores.shape[-1]) == relevant[..., None]
        else:
            is_relevant = relevant != 0
            best = jnp.max(jnp.where(is_relevant, scores, -jnp.inf), axis=-1, keepdims=True, initial=-jnp.inf)
        rank = 1 + jnp.sum(~is_relevant & (scores >= best), axis=-1)
        found = jnp.where(jnp.any(is_relevant, axis=-1), 1 / rank.astype(scores.dtype), 0)
        bad = jnp.any(jnp.isnan(scores), axis=-1) | jnp.isnan(best[..., 0])
        return jnp.where(bad, jnp.nan, found)

    def check(weights: Array, scores: Any, relevant: Any) -> None:
        relevant = jnp.asarray(relevant)
        if relevant.ndim < jnp.asarray(scores).ndim:
            check_range("mrr", "relevant items", relevant, jnp.asarray(scores).shape[-1], weights)

    return mean_metric("mrr", values, "max", check=check)


def ndcg(k: int | None = None) -> Metric:
    """Mean over queries of the discounted cumulative gain of a ranking, divided by that of the best ranking.

    `update(state, scores, relevance, mask=None)` takes scores [..., items], higher first, and relevance [..., items] ≥ 0.
    The gain of an item is its relevance, discounted by log2(1 + rank). Items of equal score share the mean of their
    discounts. A query without any relevance gives 0. A nan among a query's scores, or a negative relevance, makes the result
    nan. All as scikit-learn's ndcg_score.

    Arguments:
        k: only the first k ranks count; None for all.

    Raises:
        ValueError: k is not a positive integer.
        ShapeError (update): the shapes differ, or have no axis of items.

    Source: K. Järvelin, J. Kekäläinen, Cumulated gain-based evaluation of IR techniques, 2002; ties as in F. McSherry,
    M. Najork, Computing information retrieval performance measures efficiently in the presence of tied scores, 2008.
    """
    if k is not None:
        k = positive_int("ndcg", "k", k)

    def of_query(scores: Array, relevance: Array) -> Array:
        items = scores.shape[0]
        discount = np.where(np.arange(items) < (items if k is None else k), 1 / np.log2(np.arange(items) + 2.0), 0)
        descending = jnp.sort(-scores)
        first = jnp.searchsorted(descending, -scores, side="left")
        last = jnp.searchsorted(descending, -scores, side="right")
        gained = jnp.sum(relevance * (_between(discount, first, last, scores.dtype) / jnp.maximum(last - first, 1)))
        ideal = jnp.sum(-jnp.sort(-relevance) * discount.astype(scores.dtype))
        result = jnp.where(ideal == 0, 0, gained / jnp.where(ideal == 0, 1, ideal))
        return jnp.where(jnp.any(jnp.isnan(scores)) | jnp.any(relevance < 0), jnp.nan, result)

    def values(scores: Any, relevance: Any) -> Array:
        scores = jnp.asarray(scores)
        if scores.ndim == 0 or scores.shape != jnp.asarray(relevance).shape:
            raise ShapeError(
                "ndcg: scores and relevance must have one shape [..., items], got "
                f"{scores.aval} and {jnp.asarray(relevance).aval}"
            )
        scores, relevance = real("ndcg", "scores", scores), real("ndcg", "relevance", relevance)
        items = scores.shape[-1]
        # the scale of a query's relevance cancels, but sums of huge ones would not be finite
        largest = jnp.max(jnp.abs(relevance), axis=-1, keepdims=True, initial=0)
        relevance = relevance / jnp.where(largest == 0, 1, largest)
        flat = asgfn.vmap(of_query)(scores.reshape(-1, items), relevance.reshape(-1, items))
        return flat.reshape(scores.shape[:-1])

    return mean_metric("ndcg" if k is None else f"ndcg_at_{k}", values, "max")


def _between(values: np.ndarray, first: Array, last: Array, dtype: Any) -> Array:
    """The sums of values[first:last], from cumulative sums in two parts, so that long lists lose no precision."""
    cumulative = np.concatenate([[0.0], np.cumsum(values)])
    rounded = cumulative.astype(dtype)
    high, low = jnp.asarray(rounded), jnp.asarray((cumulative - rounded).astype(dtype))
    return (high[last] - high[first]) + (low[last] - low[first])


def _rankings(where: str, scores: Any, relevant: Any) -> tuple[Array, Array]:
    scores, relevant = real(where, "scores", scores), jnp.asarray(relevant)
    if scores.ndim == 0 or relevant.shape not in (scores.shape, scores.shape[:-1]):
        raise ShapeError(
            f"{where}: with scores [..., items], relevant must be [..., items] or item numbers [...], got {scores.aval} and "
            f"{relevant.aval}"
        )
    if relevant.ndim < scores.ndim and not is_whole(relevant):
        raise DTypeError(f"{where}: item numbers must be integers, got {relevant.aval}")
    return scores, relevant
