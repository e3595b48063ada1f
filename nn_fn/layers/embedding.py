"""Look-up tables of vectors."""

from __future__ import annotations

from typing import Any

from nn_fn import functional as F
from nn_fn import initializers
from nn_fn.initializers import Initializer
from nn_fn.layers.checks import positive
from nn_fn.layers.configuration import constructor
from nn_fn.layers.layer import Layer, simple


@constructor
def embedding(
    num_embeddings: int,
    embedding_dim: int,
    padding_idx: int | None = None,
    weight_init: str | Initializer = "normal",
) -> Layer:
    """The rows of a table that integers of any shape [...] name, [..., embedding_dim].

    Parameters: ``weight`` [num_embeddings, embedding_dim], by default standard normal, as PyTorch's.

    Arguments:
        padding_idx: a row that starts as zeros and gets no gradient; negative ones count from the end.

    Raises:
        ValueError: padding_idx is out of range; DTypeError (when called): indices that are not integers.
    """
    row = _table("embedding", num_embeddings, embedding_dim, padding_idx)
    return simple(
        "embedding",
        lambda params, x: F.embedding(x, params["weight"], padding_idx=row),
        _initial(num_embeddings, embedding_dim, row, weight_init),
    )


@constructor
def embedding_bag(
    num_embeddings: int,
    embedding_dim: int,
    mode: str = "mean",
    padding_idx: int | None = None,
    weight_init: str | Initializer = "normal",
) -> Layer:
    """Sum, mean or maximum of the rows that each bag of integers [bags, size] names, [bags, embedding_dim].

    Parameters and arguments are those of `embedding`; entries equal to `padding_idx` do not count. Option
    ``per_sample_weights`` [bags, size]: factors of the rows, for mode "sum".
    """
    row = _table("embedding_bag", num_embeddings, embedding_dim, padding_idx)

    def apply(params: Any, x: Any, per_sample_weights: Any = None) -> Any:
        return F.embedding_bag(x, params["weight"], mode=mode, per_sample_weights=per_sample_weights, padding_idx=row)

    init = _initial(num_embeddings, embedding_dim, row, weight_init)
    return simple("embedding_bag", apply, init, options=("per_sample_weights",))


def _table(name: str, rows: int, columns: int, padding_idx: int | None) -> int | None:
    """The padding row counted from the start."""
    positive(name, num_embeddings=rows, embedding_dim=columns)
    if padding_idx is None:
        return None
    if not -rows <= padding_idx < rows:
        raise ValueError(f"{name}: padding_idx={padding_idx} is not one of {rows} rows")
    return padding_idx % rows


def _initial(rows: int, columns: int, padding_idx: int | None, weight_init: str | Initializer) -> Any:
    make = initializers.get(weight_init)

    def init(key: Any) -> dict[str, Any]:
        weight = make(key, (rows, columns))
        return {"weight": weight if padding_idx is None else weight.at[padding_idx].set(0.0)}

    return init
