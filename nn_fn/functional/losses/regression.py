"""Losses of numbers: how far a prediction is from its target.

All compare element by element. Input and target must have one shape.
"""

from __future__ import annotations

import math
from typing import Any

import asgfn.numpy as jnp
from asgfn import lax
from asgfn.errors import ShapeError
from asgfn.numpy.arguments import to_array
from asgfn.tracing import Array
from nn_fn.functional.distances import magnitude
from nn_fn.functional.losses.reduction import reduced, same_shape


def mse_loss(input: Any, target: Any, reduction: str = "mean", weight: Any = None) -> Array:
    """(input - target)^2.

    Arguments:
        input, target: numbers of one shape, any.
        reduction: "none", "mean" (over all elements) or "sum".
        weight: None, or factors of the elements, of the same shape; the mean is then divided by their sum.

    Raises:
        ShapeError: shapes differ. ValueError: an unknown reduction.
    """
    return _weighted("mse_loss", input, target, weight, reduction, jnp.square, by_weight=True)


def l1_loss(input: Any, target: Any, reduction: str = "mean", weight: Any = None) -> Array:
    """|input - target|, with derivative 0 where they are equal.

    Arguments and errors: as `mse_loss`.
    """
    return _weighted("l1_loss", input, target, weight, reduction, magnitude, by_weight=True)


def smooth_l1_loss(input: Any, target: Any, reduction: str = "mean", beta: float = 1.0) -> Array:
    """d^2 / (2 beta) where d = |input - target| is below beta, else d - beta/2 (Girshick, Fast R-CNN, 2015).

    Arguments:
        input, target, reduction: see `mse_loss`.
        beta: where the square ends, at least 0; 0 gives `l1_loss`.

    Raises:
        ShapeError: shapes differ. ValueError: a negative beta, an unknown reduction.
    """
    if not beta >= 0:
        raise ValueError(f"smooth_l1_loss: beta must not be negative, got {beta!r}")
    if beta == 0:
        return _weighted("smooth_l1_loss", input, target, None, reduction, magnitude)
    return _weighted("smooth_l1_loss", input, target, None, reduction, lambda e: _huber(e, beta) / beta)


def huber_loss(input: Any, target: Any, reduction: str = "mean", delta: float = 1.0, weight: Any = None) -> Array:
    """d^2 / 2 where d = |input - target| is below delta, else delta (d - delta/2) (Huber, 1964).

    Arguments:
        input, target, reduction: see `mse_loss`.
        delta: where the square ends, above 0.
        weight: None, or factors of the elements, of the same shape. The mean is over their number, as in PyTorch.

    Raises:
        ShapeError: shapes differ. ValueError: delta is not positive, an unknown reduction.
    """
    if not delta > 0:
        raise ValueError(f"huber_loss: delta must be positive, got {delta!r}")
    return _weighted("huber_loss", input, target, weight, reduction, lambda e: _huber(e, delta))


def _huber(error: Array, delta: float) -> Array:
    # The square never sees a large error: its overflow would put inf * 0 = NaN into the gradient.
    near = jnp.clip(error, -delta, delta)
    return 0.5 * jnp.square(near) + delta * (magnitude(error) - magnitude(near))


def _weighted(
    name: str, input: Any, target: Any, weight: Any, reduction: str, of_error: Any, by_weight: bool = False
) -> Array:
    if weight is None:
        input, target = same_shape(name, input=input, target=target)
        return reduced(name, of_error(input - target), reduction)
    input, target, weight = same_shape(name, input=input, target=target, weight=weight)
    values = of_error(input - target) * weight
    return reduced(name, values, reduction, weight_sum=jnp.sum(weight) if by_weight else None)


def gaussian_nll_loss(
    input: Any, target: Any, var: Any, full: bool = False, eps: float = 1e-6, reduction: str = "mean"
) -> Array:
    """(log(var) + (input - target)^2 / var) / 2: the negative log-likelihood of a normal (Nix and Weigend, 1994).

    Arguments:
        input, target: numbers of one shape: the mean, and what was seen.
        var: the variance, not negative: a number, of the shape of `input`, of that shape with one axis of size 1, or
            without its last axis.
        full: add the constant log(2 pi) / 2.
        eps: the least variance. The gradient does not see this limit: it is that at the limited value.
        reduction: "none", "mean" or "sum".

    Raises:
        ShapeError: shapes do not fit. ValueError: an unknown reduction, eps not positive.
    """
    name = "gaussian_nll_loss"
    if not eps > 0:
        raise ValueError(f"{name}: eps must be positive, got {eps!r}")
    input, target = same_shape(name, input=input, target=target)
    var = to_array(name, var)
    if var.ndim and var.ndim == input.ndim - 1 and var.shape == input.shape[:-1]:
        var = var[..., None]
    differing = [n for n, m in zip(var.shape, input.shape, strict=False) if n != m]
    if var.ndim and (var.ndim != input.ndim or differing not in ([], [1])):
        raise ShapeError(
            f"{name}: var must be a number, have the shape of input, that shape with one axis of size 1, or without "
            f"its last axis; got var {var.aval}, input {input.aval}"
        )
    var = var.astype(input.dtype)
    var = var + lax.stop_gradient(jnp.where(var < eps, eps - var, 0))
    loss = 0.5 * (jnp.log(var) + jnp.square(input - target) / var)
    return reduced(name, loss + 0.5 * math.log(2 * math.pi) if full else loss, reduction)


def poisson_nll_loss(
    input: Any,
    target: Any,
    log_input: bool = True,
    full: bool = False,
    eps: float = 1e-8,
    reduction: str = "mean",
) -> Array:
    """rate - target * log(rate): the negative log-likelihood of counts, without log(target!).

    Arguments:
        input: the logarithm of the rate, or with ``log_input=False`` the rate.
        target: counts, of the same shape.
        full: add Stirling's approximation of log(target!), for targets above 1.
        eps: added to a rate before its logarithm is taken.
        reduction: "none", "mean" or "sum".

    Raises:
        ShapeError: shapes differ. ValueError: an unknown reduction.
    """
    input, target = same_shape("poisson_nll_loss", input=input, target=target)
    loss = jnp.exp(input) - target * input if log_input else input - target * jnp.log(input + eps)
    if full:
        above = target > 1
        count = jnp.where(above, target, 1)
        stirling = count * jnp.log(count) - count + 0.5 * jnp.log(2 * math.pi * count)
        loss = loss + jnp.where(above, stirling, 0)
    return reduced("poisson_nll_loss", loss, reduction)
