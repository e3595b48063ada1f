"""Metrics, against scikit-learn. Each case is a metric, its inputs, and what scikit-learn makes of them."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from tests.references import numbers


@dataclass(frozen=True)
class MetricCase:
    """One metric of one set of data.

    Attributes:
        ours: ``(nn_fn.metrics) -> Metric``.
        inputs: prediction and target, examples first; floats are exact in float32.
        theirs: ``(sklearn.metrics, prediction, target, weights) -> number or array``.
        mask: booleans or weights of the examples, or None.
        tol: relative and absolute tolerance in float32; 0 for equality. In float64 it is 1e-12 (or 0).
        float32: whether float32 can hold the numbers on the way.
    """

    name: str
    ours: Callable[[Any], Any]
    inputs: tuple[np.ndarray, np.ndarray]
    theirs: Callable[..., Any]
    mask: np.ndarray | None = None
    tol: float = 3e-6
    float32: bool = True


def _exact(x: np.ndarray) -> np.ndarray:
    return x.astype(np.float32).astype(np.float64)


def _softmax(x: np.ndarray) -> np.ndarray:
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def _masks(name: str, n: int) -> dict[str, np.ndarray | None]:
    r = numbers(f"mask of {name}")
    keep = r.rand(n) < 0.7
    keep[:2] = True  # something is left
    return {"": None, ", masked": keep, ", weighted": np.where(keep, _exact(r.rand(n) * 3), 0)}


# ------------------------------------------------------------------------------------------------------ class numbers
def _class_data() -> dict[str, tuple[int, np.ndarray, np.ndarray]]:
    """(classes, predicted numbers, actual numbers) by name."""
    r = numbers("classes")
    actual = r.randint(0, 4, 60)
    predicted = np.where(r.rand(60) < 0.6, actual, r.randint(0, 4, 60))
    return {
        "4 classes": (4, predicted, actual),
        "classes that do not occur": (6, np.where(predicted == 2, 5, predicted), np.where(actual == 2, 3, actual)),
        "all right": (4, actual, actual),
        "all wrong": (4, (actual + 1) % 4, actual),
        "one class": (3, np.ones(9, int), np.ones(9, int)),
        "one class predicted": (4, np.zeros(60, int), actual),
        "one example": (3, np.array([2]), np.array([2])),
        "rare": (2, (np.arange(2000) % 997 == 3).astype(int), (np.arange(2000) % 997 < 5).astype(int)),
        "two axes": (4, predicted.reshape(12, 5), actual.reshape(12, 5)),
    }


def _class_cases() -> list[MetricCase]:
    return [
        case
        for data, (n, predicted, actual) in _class_data().items()
        for masked, mask in _masks(data, actual.size).items()
        if masked != ", masked" or data in ("4 classes", "classes that do not occur", "one class", "two axes")
        for case in _classes(f"{data}{masked}", n, predicted, actual, mask)
    ]


def _classes(
    where: str, n: int, predicted: np.ndarray, actual: np.ndarray, mask: np.ndarray | None
) -> list[MetricCase]:
    cases = []
    labels = list(range(n))
    weighted = mask is not None and mask.dtype != bool

    def case(name: str, ours: Any, theirs: Any, tol: float = 3e-6) -> None:
        def flat(sk: Any, p: np.ndarray, t: np.ndarray, w: np.ndarray) -> Any:
            return theirs(sk, p.ravel(), t.ravel(), w.ravel())

        shaped = None if mask is None else mask.reshape(actual.shape)
        cases.append(MetricCase(f"{name}: {where}", ours, (predicted, actual), flat, shaped, tol))

    case("accuracy", lambda M: M.accuracy(), lambda sk, p, t, w: sk.accuracy_score(t, p, sample_weight=w))
    case(
        "confusion_matrix",
        lambda M: M.confusion_matrix(n, weighted=weighted),
        lambda sk, p, t, w: sk.confusion_matrix(t, p, labels=labels, sample_weight=w),
        3e-6 if weighted else 0,
    )
    for how in ("true", "pred", "all"):
        case(
            f"confusion_matrix by {how}",
            lambda M, how=how: M.confusion_matrix(n, normalize=how, weighted=True),
            lambda sk, p, t, w, how=how: sk.confusion_matrix(t, p, labels=labels, sample_weight=w, normalize=how),
        )
    for adjusted in (False, True) if len(np.unique(actual)) > 1 else (False,):
        case(
            f"balanced_accuracy {adjusted}",
            lambda M, adjusted=adjusted: M.balanced_accuracy(n, adjusted),
            lambda sk, p, t, w, adjusted=adjusted: sk.balanced_accuracy_score(
                t[w != 0], p[w != 0], sample_weight=w[w != 0], adjusted=adjusted
            ),
        )
    case(
        "matthews_corrcoef",
        lambda M: M.matthews_corrcoef(n),
        lambda sk, p, t, w: sk.matthews_corrcoef(t, p, sample_weight=w),
    )
    case(
        "cohen_kappa",
        lambda M: M.cohen_kappa(n),
        lambda sk, p, t, w: sk.cohen_kappa_score(t, p, sample_weight=w, labels=labels),
    )
    for average in ("macro", "micro", "weighted", None):
        for zero in (0.0,) if weighted else (1.0, np.nan) if mask is not None else (0.0,):
            for name in ("precision", "recall", "f1"):
                case(
                    f"{name} {average} {zero}",
                    lambda M, name=name, average=average, zero=zero: getattr(M, name)(n, average, zero_division=zero),
                    lambda sk, p, t, w, name=name, average=average, zero=zero: getattr(sk, f"{name}_score")(
                        t, p, labels=labels, average=average, sample_weight=w, zero_division=zero
                    ),
                )
        case(
            f"specificity {average}",
            lambda M, average=average: M.specificity(n, average),
            lambda sk, p, t, w, average=average: _specificity(sk, p, t, w, labels, average),
        )
    return cases


def _specificity(sk: Any, p: np.ndarray, t: np.ndarray, w: np.ndarray, labels: list[int], average: str | None) -> Any:
    """From scikit-learn's counts of each class against the others."""
    counts = sk.multilabel_confusion_matrix(t, p, labels=labels, sample_weight=w)
    tn, fp, support = counts[:, 0, 0], counts[:, 0, 1], counts[:, 1].sum(axis=1)
    if average == "micro":
        return tn.sum() / (tn + fp).sum()
    values = np.where(tn + fp == 0, 0, tn / np.where(tn + fp == 0, 1, tn + fp))
    if average is None:
        return values
    return np.average(values, weights=support if average == "weighted" else None)


def _binary_cases() -> list[MetricCase]:
    r = numbers("binary")
    actual = r.randint(0, 2, 50)
    scores = _exact(np.clip(actual * 0.3 + r.rand(50) * 0.7, 0, 1))
    data = {
        "random": (scores, actual),
        "at the threshold": (np.round(scores * 4) / 4, actual),
        "booleans": (scores, actual == 1),
        "no positives": (scores, np.zeros(50, int)),
        "no negatives": (scores, np.ones(50, int)),
        "none predicted": (scores * 0.4, actual),
        "predicted numbers": ((scores > 0.6).astype(int), actual),
        "one example": (np.array([0.75]), np.array([1])),
    }
    cases = []
    for name, (p, t) in data.items():
        for masked, mask in _masks(name, t.size).items():
            for metric in ("precision", "recall", "f1"):
                for zero in (0.0, 1.0) if mask is None else (0.0,):
                    cases.append(
                        MetricCase(
                            f"binary {metric} {zero}: {name}{masked}",
                            lambda M, metric=metric, zero=zero: getattr(M, metric)(zero_division=zero),
                            (p, t),
                            lambda sk, p, t, w, metric=metric, zero=zero: getattr(sk, f"{metric}_score")(
                                t.astype(int), (p >= 0.5).astype(int), sample_weight=w, zero_division=zero
                            ),
                            mask,
                        )
                    )
            cases.append(
                MetricCase(
                    f"binary specificity: {name}{masked}",
                    lambda M: M.specificity(),
                    (p, t),
                    lambda sk, p, t, w: sk.recall_score(
                        t.astype(int), (p >= 0.5).astype(int), pos_label=0, sample_weight=w, zero_division=0
                    ),
                    mask,
                )
            )
            if p.dtype == float:
                cases.append(
                    MetricCase(
                        f"accuracy with a threshold: {name}{masked}",
                        lambda M: M.accuracy(threshold=0.5),
                        (p, t),
                        lambda sk, p, t, w: sk.accuracy_score(t == 1, p >= 0.5, sample_weight=w),
                        mask,
                    )
                )
    return cases


# ------------------------------------------------------------------------------------------------------------- scores
def _score_cases() -> list[MetricCase]:
    r = numbers("scores")
    cases = []
    for n, c in ((40, 5), (7, 3), (90, 2), (1, 4)):
        target = r.randint(0, c, n)
        logits = _exact(r.randn(n, c) * 2 + 2 * np.eye(c)[target])
        tied = np.round(logits)
        for masked, mask in _masks(f"scores {n} {c}", n).items():
            where = f"{n} × {c}{masked}"
            for k in {1, 2, c - 1}:
                if c < 3:  # scikit-learn takes two classes for scores of one
                    continue
                for kind, scores, ties in (("", logits, "first"), (", ties", tied, "last")):
                    cases.append(
                        MetricCase(
                            f"top_{k}_accuracy: {where}{kind}",
                            lambda M, k=k, ties=ties: M.top_k_accuracy(k, ties),
                            (scores, target),
                            lambda sk, p, t, w, k=k: sk.top_k_accuracy_score(
                                t, p, k=k, sample_weight=w, labels=list(range(p.shape[1]))
                            ),
                            mask,
                        )
                    )
            for kind, scores in (("logits", logits), ("huge logits", logits * 300), ("probabilities", None)):
                probabilities = scores is None
                cases.append(
                    MetricCase(
                        f"log_loss: {where}, {kind}",
                        lambda M, probabilities=probabilities: M.log_loss(from_logits=not probabilities),
                        (_exact(_softmax(logits)) if probabilities else scores, target),
                        functools.partial(_log_loss, probabilities=probabilities),
                        mask,
                    )
                )
            cases.append(
                MetricCase(
                    f"perplexity: {where}",
                    lambda M: M.perplexity(),
                    (logits, target),
                    lambda sk, p, t, w: np.exp(_log_loss(sk, p, t, w, probabilities=False)),
                    mask,
                )
            )
            cases.append(
                MetricCase(
                    f"mrr: {where}",
                    lambda M: M.mrr(),
                    (tied, target),
                    lambda sk, p, t, w: sk.label_ranking_average_precision_score(
                        np.eye(p.shape[1])[t], p, sample_weight=w
                    ),
                    mask,
                )
            )
    for name, p, t in (
        ("certain", np.array([0.0, 1.0, 0.5, 0.25]), np.array([0, 1, 1, 0])),
        ("certainly wrong", np.array([0.0, 1.0, 0.5]), np.array([1, 0, 1])),
    ):
        cases.append(
            MetricCase(
                f"binary log_loss: {name}",
                lambda M: M.log_loss(binary=True),
                (p, t),
                # eps is that of the dtype, so certain mistakes are compared in float64
                lambda sk, p, t, w: sk.log_loss(t, p, labels=[0, 1]),
                float32="wrong" not in name,
            )
        )
    return cases


def _log_loss(sk: Any, p: np.ndarray, t: np.ndarray, w: np.ndarray, *, probabilities: bool) -> float:
    labels = list(range(p.shape[1]))
    if probabilities:
        # rows that float32 rounded do not sum to one exactly; both sides get the same rows
        return sk.log_loss(t, p, sample_weight=w, labels=labels)
    # scikit-learn takes probabilities only, and clips them: of logits, the formula itself
    nll = np.log(np.exp(p - p.max(1, keepdims=True)).sum(1)) + p.max(1) - p[np.arange(len(t)), t]
    return float(np.average(nll, weights=w))


# ------------------------------------------------------------------------------------------------------------ rankings
def _ranking_cases() -> list[MetricCase]:
    r = numbers("rankings")
    cases = []
    for n, items in ((6, 8), (1, 30), (20, 2)):
        scores = _exact(r.randn(n, items))
        relevance = r.randint(0, 4, (n, items)).astype(float)
        data = {
            "random": (scores, relevance),
            "ties": (np.round(scores), relevance),
            "all equal": (np.zeros((n, items)), relevance),
            "perfect": (relevance, relevance),
            "one query without relevance": (scores, relevance * (np.arange(n) != 0)[:, None]),
            "huge relevance": (scores, relevance * 2.0**126),
        }
        for name, (p, t) in data.items():
            for masked, mask in _masks(f"{name} {n} {items}", n).items():
                for k in (None, 1, 3, items + 5) if mask is None else (2,):
                    cases.append(
                        MetricCase(
                            f"ndcg: {n} × {items}, {name}, k={k}{masked}",
                            lambda M, k=k: M.ndcg(k),
                            (p, t),
                            lambda sk, p, t, w, k=k: sk.ndcg_score(t, p, k=k, sample_weight=w),
                            mask,
                        )
                    )
    return cases


# ------------------------------------------------------------------------------------------------------ all thresholds
def _roc_cases() -> list[MetricCase]:
    r = numbers("roc")
    cases = []
    for n in (60, 3):
        target = r.randint(0, 2, n)
        target[:2] = 0, 1
        scores = _exact(r.randn(n) + target)
        data = {
            "random": (scores, target),
            "ties": (np.round(scores), target),
            "all equal": (np.zeros(n), target),
            "all right": (target.astype(float), target),
            "all wrong": (-target.astype(float), target),
            "huge": (scores * 2.0**120, target == 1),
            "booleans": (scores, target == 1),
        }
        for name, (p, t) in data.items():
            for masked, mask in _masks(f"{name} {n}", n).items():
                for capacity in (None, 64):
                    kept = "" if capacity is None else ", capacity"
                    cases.append(
                        MetricCase(
                            f"roc_auc: {n}, {name}{masked}{kept}",
                            lambda M, capacity=capacity: M.roc_auc(capacity=capacity),
                            (p, t),
                            lambda sk, p, t, w: sk.roc_auc_score(t, p, sample_weight=w),
                            mask,
                        )
                    )
                cases.append(
                    MetricCase(
                        f"average_precision: {n}, {name}{masked}",
                        lambda M: M.average_precision(capacity=64),
                        (p, t),
                        lambda sk, p, t, w: sk.average_precision_score(t, p, sample_weight=w),
                        mask,
                    )
                )
    for n, c in ((50, 4), (24, 3)):
        target = r.randint(0, c, n)
        target[:c] = np.arange(c)
        p = _softmax(r.randn(n, c) + np.eye(c)[target])
        for name, scores in (("random", _exact(p)), ("ties", np.round(p * 4) / 4)):
            for masked, mask in _masks(f"{name} {n} {c}", n).items():
                if mask is not None:
                    mask[:c] = mask[:c] + (mask[:c] == 0)  # every class occurs
                for average in ("macro", "weighted", None):
                    cases.append(
                        MetricCase(
                            f"roc_auc ovr {average}: {n} × {c}, {name}{masked}",
                            lambda M, c=c, average=average: M.roc_auc(c, average, capacity=64),
                            (scores, target),
                            functools.partial(_ovr, average=average),
                            mask,
                        )
                    )
                if masked == ", weighted":  # scikit-learn has no weights for pairs
                    continue
                for average in ("macro", "weighted"):
                    cases.append(
                        MetricCase(
                            f"roc_auc ovo {average}: {n} × {c}, {name}{masked}",
                            lambda M, c=c, average=average: M.roc_auc(c, average, "ovo"),
                            (scores, target),
                            functools.partial(_ovo, average=average),
                            mask,
                        )
                    )
    return cases


def _ovr(sk: Any, p: np.ndarray, t: np.ndarray, w: np.ndarray, *, average: str | None) -> Any:
    """One against the rest: scikit-learn's own average, which wants rows that sum to one, is that of indicators."""
    return sk.roc_auc_score(np.eye(p.shape[1])[t], p, average=average, sample_weight=w)


def _ovo(sk: Any, p: np.ndarray, t: np.ndarray, w: np.ndarray, *, average: str) -> Any:
    from sklearn.metrics._base import _average_multiclass_ovo_score

    kept = w != 0
    return _average_multiclass_ovo_score(sk.roc_auc_score, t[kept], p[kept], average=average)


# --------------------------------------------------------------------------------------------------------- regression
def _regression_cases() -> list[MetricCase]:
    r = numbers("regression")
    cases = []
    for shape in ((40,), (25, 3), (1,), (4, 1)):
        target = _exact(r.randn(*shape) * 2 + 1)
        prediction = _exact(target + r.randn(*shape) * 0.5)
        data = {
            "random": (prediction, target),
            "perfect": (target, target),
            "far from zero": (_exact(prediction + 4096), _exact(target + 4096)),
            "large": (prediction * 2.0**50, target * 2.0**50),
            "huge": (prediction * 2.0**400, target * 2.0**400),
            "tiny": (prediction * 2.0**-40, target * 2.0**-40),
            "constant target": (prediction, np.full(shape, 0.1, np.float32).astype(float)),
            "constant error": (target + 2, target),
            "target zero": (prediction, np.zeros(shape)),
            "positive": (np.abs(prediction), np.abs(target)),
        }
        for name, (p, t) in data.items():
            for masked, mask in _masks(f"{name} {shape}", shape[0]).items():
                if masked == ", masked" and name not in ("random", "far from zero"):
                    continue
                if masked and (name not in ("random", "far from zero", "constant target", "large") or shape == (4, 1)):
                    continue
                cases += _regression(f"{list(shape)}, {name}{masked}", p, t, mask)
    return cases


def _regression(where: str, p: np.ndarray, t: np.ndarray, mask: np.ndarray | None) -> list[MetricCase]:
    outputs = p.shape[1] if p.ndim == 2 else None
    theirs = {
        "mse": "mean_squared_error",
        "rmse": "root_mean_squared_error",
        "mae": "mean_absolute_error",
        "mape": "mean_absolute_percentage_error",
        "r2": "r2_score",
        "explained_variance": "explained_variance_score",
    }
    if (p >= 0).all() and (t >= 0).all():
        theirs["mean_squared_log_error"] = "mean_squared_log_error"
    cases = []
    finite_matters = len(np.unique(t, axis=0)) == 1
    for ours, reference in theirs.items():
        ratio = ours in ("r2", "explained_variance")
        multi = ["uniform_average"]
        if outputs:
            multi += ["raw_values"] + (["variance_weighted"] if ratio else [])
        if ours == "r2" and (len(p) < 2 or (mask is not None and (mask != 0).sum() < 2)):
            continue
        if ours == "mape" and "huge" in where:
            continue
        for how in multi:
            for finite in (None,) if not ratio else (True, False) if finite_matters and mask is None else (True,):
                options = {} if finite is None else {"force_finite": finite}
                cases.append(
                    MetricCase(
                        f"{ours} {how} {finite}: {where}",
                        lambda M, ours=ours, how=how, options=options: getattr(M, ours)(outputs, how, **options),
                        (p, t),
                        lambda sk, p, t, w, reference=reference, how=how, options=options: getattr(sk, reference)(
                            *(x[w != 0] for x in (t, p)), sample_weight=w[w != 0], multioutput=how, **options
                        ),
                        mask,
                        float32="huge" not in where,
                    )
                )
    if outputs is None:
        cases.append(
            MetricCase(
                f"max_error: {where}",
                lambda M: M.max_error(),
                (p, t),
                lambda sk, p, t, w: sk.max_error(t[w != 0], p[w != 0]),
                mask,
                float32="huge" not in where,
            )
        )
    return cases


CASES: list[MetricCase] = [
    *_class_cases(),
    *_binary_cases(),
    *_score_cases(),
    *_ranking_cases(),
    *_roc_cases(),
    *_regression_cases(),
]


def record() -> dict[str, np.ndarray]:
    import sklearn.metrics

    packed: dict[str, np.ndarray] = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for case in CASES:
            if case.name in packed:
                raise ValueError(f"two cases have the name {case.name!r}")
            prediction, target = case.inputs
            whole = target.shape if prediction.dtype.kind == "i" else target.shape[:1]
            weights = np.ones(whole) if case.mask is None else case.mask.astype(float)
            packed[case.name] = np.asarray(case.theirs(sklearn.metrics, prediction, target, weights), float)
    # thousands of scalars: one array, with the place of each case
    names = list(packed)
    return {
        "values": np.concatenate([packed[name].ravel() for name in names]),
        "lengths": np.array([packed[name].size for name in names]),
        "names": np.array(names),
    }


@functools.cache
def expected() -> dict[str, np.ndarray]:
    """What was recorded, flat, by case."""
    from tests.references import load

    recorded = load("metrics")
    parts = np.split(recorded["values"], np.cumsum(recorded["lengths"])[:-1])
    return dict(zip(recorded["names"].tolist(), parts, strict=True))
