"""Which direction of a metric is better: by its name, or by what a user said."""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping
from typing import Any, Literal

from nn_fn.metrics import Metric

Direction = Literal["max", "min"]

HIGHER_IS_BETTER = frozenset(
    "acc accuracy ap auc auprc auroc bleu correct dice f1 fscore iou kappa map matthews mcc mrr ndcg precision psnr r2 recall "
    "rouge sensitivity specificity ssim".split()
)
LOWER_IS_BETTER = frozenset(
    "bce bpb bpc bpd cer cost ece err error fid kl kld loss mae mape mse msle nll perplexity ppl regret rmse wer".split()
)
_WORD = re.compile(r"[A-Z]?[a-z]+\d*|[A-Z]+\d*(?![a-z])|\d+")


def direction_of(name: str) -> Direction | None:
    """The better direction of a metric, by the words of its name.

    A name is split into words at what is neither letter nor digit, and where small letters meet capitals
    ("val_loss", "valLoss", "test/top5-acc"). It is "max" if a word is one of `HIGHER_IS_BETTER` (or "explained" next to
    "variance"), "min" if one is of `LOWER_IS_BETTER`; digits after a word are ignored if the word has no entry with them
    ("acc1"). None if there is none, or some of both, or "neg" or "negative": then it must be told.
    """
    words = [word.lower() for word in _WORD.findall(name)]
    known = HIGHER_IS_BETTER | LOWER_IS_BETTER
    found = {word if word in known else word.rstrip("0123456789") for word in words}
    higher = bool(found & HIGHER_IS_BETTER) or ("explained", "variance") in itertools.pairwise(words)
    lower = bool(found & LOWER_IS_BETTER)
    if higher == lower or found & {"neg", "negative"}:
        return None
    return "max" if higher else "min"


def as_directions(better: Mapping[str, Any] | Metric | None, where: str) -> dict[str, Direction | None]:
    """Directions by name from a mapping of names to "max", "min", None or Metrics, or from a Metric or a collection.

    Raises:
        ValueError, TypeError: a direction is something else.
    """
    if better is None:
        return {}
    if isinstance(better, Metric):
        better = better.better if isinstance(better.better, Mapping) else {better.name: better.better}
    if not isinstance(better, Mapping):
        raise TypeError(f"{where}: better must be a dict of names and 'max' or 'min', or a Metric, got {better!r}")
    directions: dict[str, Direction | None] = {}
    for name, direction in better.items():
        if isinstance(direction, Metric):
            direction = direction.better
        if isinstance(direction, Mapping):
            inner = as_directions(direction, where)
            directions |= {f"{name}/{k}": v for k, v in inner.items()}
        elif direction in ("max", "min", None):
            directions[name] = direction
        else:
            raise ValueError(
                f"{where}: the better direction of {name!r} must be 'max', 'min' or None, got {direction!r}"
            )
    return directions
