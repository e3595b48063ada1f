"""Programs of attention that the tests of several backends run."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import asgfn
from nn_fn import functional as F


def qkv(
    normal: Callable,
    batch: int,
    heads: int,
    queries: int,
    keys: int,
    size: int,
    value_size: int | None = None,
    **options: Any,
) -> tuple[Any, Any, Any]:
    """Queries, keys and values: arrays that `normal` makes, given a shape and options."""
    return (
        normal(batch, heads, queries, size, **options),
        normal(batch, heads, keys, size, **options),
        normal(batch, heads, keys, value_size or size, **options),
    )


def causal(q: Any, k: Any, v: Any) -> Any:
    return F.scaled_dot_product_attention(q, k, v, is_causal=True)


def pulled(f: Callable, count: int = 3) -> Callable:
    """A function's result and its gradients, for a gradient of the result that is the last argument."""

    def both(*args: Any) -> Any:
        result, back = asgfn.vjp(lambda *xs: f(*xs, *args[count:-1]), *args[:count])
        return result, back(args[-1])

    return both
