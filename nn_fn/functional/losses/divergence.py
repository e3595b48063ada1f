"""Divergences between distributions."""

from __future__ import annotations

import math
from typing import Any

import asgfn.numpy as jnp
from asgfn.tracing import Array
from nn_fn.functional.arguments import one_of
from nn_fn.functional.losses.reduction import REDUCTIONS, reduced, same_shape


def kl_div(input: Any, target: Any, reduction: str = "mean", log_target: bool = False) -> Array:
    """target * (log(target) - input), element by element (Kullback and Leibler, 1951).

    Summed over a distribution this is the divergence of the target from the input. 0 log 0 is 0, so an outcome that
    the target excludes adds nothing, whatever its input is.

    Arguments:
        input: logarithms of probabilities.
        target: probabilities of the same shape, or with `log_target` their logarithms.
        reduction: "none", "sum", "batchmean" (the sum divided by the length of axis 0: the mean divergence of
            distributions in rows), or "mean" (over all elements, which is no divergence, but PyTorch's default).

    Raises:
        ShapeError: shapes differ. ValueError: an unknown reduction.
    """
    one_of("kl_div", "reduction", reduction, (*REDUCTIONS, "batchmean"))
    input, target = same_shape("kl_div", input=input, target=target)
    possible = target != (-math.inf if log_target else 0)
    # Where the target is 0, the unused branch sees numbers whose products and derivatives are finite.
    log_p, p = jnp.where(possible, input, 0), jnp.where(possible, target, 1)
    values = jnp.exp(p) * (p - log_p) if log_target else p * (jnp.log(p) - log_p)
    values = jnp.where(possible, values, 0)
    if reduction == "batchmean":
        return jnp.sum(values) / (input.shape[0] if input.ndim else 1)
    return reduced("kl_div", values, reduction)
