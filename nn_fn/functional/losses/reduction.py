"""What all losses share: the `reduction` argument, and the check that input and target belong together."""

from __future__ import annotations

from typing import Any

import asgfn.numpy as jnp
from asgfn.errors import ShapeError
from asgfn.numpy.arguments import promote_args_inexact, to_array
from asgfn.tracing import Array
from nn_fn.functional.arguments import one_of

REDUCTIONS = ("none", "mean", "sum")


def reduced(name: str, values: Array, reduction: str, weight_sum: Any = None) -> Array:
    """Losses of elements or examples as the caller wants them.

    Arguments:
        values: the losses.
        reduction: "none" returns them, "sum" their sum, "mean" their mean. The mean of no losses is NaN, as in PyTorch.
        weight_sum: what "mean" divides the sum by, instead of the number of losses.

    Raises:
        ValueError: another reduction.
    """
    one_of(name, "reduction", reduction, REDUCTIONS)
    if reduction == "none":
        return values
    total = jnp.sum(values)
    if reduction == "sum":
        return total
    return total / (values.size if weight_sum is None else weight_sum)


def same_shape(name: str, **arrays: Any) -> list[Array]:
    """The arguments as arrays of one float dtype.

    Raises:
        ShapeError: their shapes differ. Shapes that merely broadcast ([N] with [N, 1] gives [N, N]) are a mistake.
    """
    found = {what: to_array(name, x) for what, x in arrays.items()}
    if len({x.shape for x in found.values()}) > 1:
        listed = ", ".join(f"{what} {x.aval}" for what, x in found.items())
        raise ShapeError(f"{name}: {' and '.join(found)} must have one shape, got {listed}; reshape one of them")
    return promote_args_inexact(name, *found.values())


def weight_for(name: str, what: str, weight: Any, values: Array) -> Array | None:
    """A weight that broadcasts to the shape of `values`, in their dtype; None stays None.

    Raises:
        ShapeError: it does not.
    """
    if weight is None:
        return None
    weight = to_array(name, weight)
    ours, theirs = reversed(weight.shape), reversed(values.shape)
    if weight.ndim > values.ndim or any(n not in (1, m) for n, m in zip(ours, theirs, strict=False)):
        raise ShapeError(f"{name}: {what} must broadcast to the shape {values.shape} of the input, got {weight.aval}")
    return weight.astype(values.dtype)


def positive_part(x: Array) -> Array:
    """max(x, 0), with the derivative 1 at 0, as PyTorch's `clamp(min=0)` has."""
    return jnp.where(x < 0, 0, x)
