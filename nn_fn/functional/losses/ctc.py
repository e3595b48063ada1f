"""Connectionist temporal classification: the likelihood of a sequence without knowing when its symbols happen."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

import asgfn.numpy as jnp
from asgfn import lax
from asgfn.errors import IndexOutOfRangeError, ShapeError
from asgfn.numpy.arguments import computation_dtype, to_array
from asgfn.tracing import Array, ConcreteArray
from nn_fn.functional.arguments import float_array, integer_array, static_int
from nn_fn.functional.losses.reduction import reduced
from nn_fn.functional.losses.targets import check_class_numbers

_NAME = "ctc_loss"


def ctc_loss(
    log_probs: Any,
    targets: Any,
    input_lengths: Any,
    target_lengths: Any,
    blank: int = 0,
    reduction: str = "mean",
    zero_infinity: bool = False,
) -> Array:
    """-log of the summed probability of all alignments of a target with the input (Graves et al., 2006).

    An alignment gives each time step a symbol or a blank; repeated symbols without a blank between them are one. Where
    no alignment fits (an input shorter than its target needs) the loss is infinite, with gradient zero.

    Arguments:
        log_probs: float, [T, N, C] or [T, C]: logarithms of probabilities (of `log_softmax`) of C symbols.
        targets: integers, [N, S] padded with anything, or the sequences one after another, [sum of target_lengths].
            For log_probs [T, C]: [S]. They do not contain the blank.
        input_lengths: integers, [N] (or one number): how many of the T steps are real.
        target_lengths: integers, [N] (or one number): how many symbols each target has. Where they are traced,
            concatenated targets cost as much memory as N targets of their total length.
        blank: the class number of the blank.
        reduction: "none" (one loss a sequence), "sum", or "mean": each loss is divided by the length of its target (at
            least 1), then averaged.
        zero_infinity: make infinite losses zero.

    Returns:
        Losses. Their gradient is that of the formula; PyTorch's differs in log_probs, and is the same in what
        `log_softmax` made them of.

    Raises:
        ShapeError, DTypeError: arguments do not fit, a known length is larger than its array.
        IndexOutOfRangeError: a target or the blank is no class. ValueError: an unknown reduction.
    """
    given = float_array(_NAME, "log_probs", log_probs)
    batched = given.ndim == 3
    if given.ndim not in (2, 3):
        raise ShapeError(f"{_NAME}: log_probs must be [T, N, C] or [T, C], got {given.aval}")
    log_p = given.astype(computation_dtype(given.dtype))
    log_p = log_p if batched else log_p[:, None]
    steps, batch, classes = log_p.shape
    blank = static_int(_NAME, "blank", blank)
    if not 0 <= blank < classes:
        raise IndexOutOfRangeError(f"{_NAME}: blank {blank} is not a class: there are {classes}, from 0")
    input_lengths = _lengths("input_lengths", input_lengths, batch)
    target_lengths = _lengths("target_lengths", target_lengths, batch)
    targets = _padded(targets, target_lengths, batch, batched)
    _check_range("input_lengths", input_lengths, steps, f"the steps of log_probs {given.aval}")
    _check_range("target_lengths", target_lengths, targets.shape[1], f"the length of targets {targets.aval}")
    real = jnp.arange(targets.shape[1]) < target_lengths[:, None]
    targets = jnp.where(real, targets, blank)
    check_class_numbers(_NAME, targets, classes)

    losses = -_log_likelihood(log_p, targets, input_lengths, target_lengths, blank)
    if zero_infinity:
        losses = jnp.where(losses == math.inf, 0, losses)
    if reduction == "mean":
        losses = losses / jnp.maximum(target_lengths, 1).astype(losses.dtype)
    elif reduction == "none" and not batched:
        losses = losses[0]
    return reduced(_NAME, losses, reduction).astype(given.dtype)


def _log_likelihood(log_p: Array, targets: Array, input_lengths: Array, target_lengths: Array, blank: int) -> Array:
    """[N], by the forward recursion over states: blank, symbol 0, blank, symbol 1, ..., blank."""
    steps, batch, _ = log_p.shape
    states = 2 * targets.shape[1] + 1
    symbols = jnp.full((batch, states), blank, targets.dtype).at[:, 1::2].set(targets)
    # A blank may be passed over between different symbols only.
    may_skip = (symbols[:, 2:] != blank) & (symbols[:, 2:] != symbols[:, :-2])
    may_skip = jnp.pad(may_skip, ((0, 0), (states - may_skip.shape[1], 0)))
    index = jnp.broadcast_to(symbols, (steps, batch, states))
    emitted = jnp.take_along_axis(log_p, index, axis=2, wrap_negative_indices=False)

    def step(alpha: Array, now: tuple[Array, Array]) -> tuple[Array, None]:
        emission, t = now
        advanced = _shifted(alpha, 1)
        skipped = jnp.where(may_skip, _shifted(alpha, 2), -math.inf)
        new = _log_sum(jnp.stack([alpha, advanced, skipped])) + emission
        return jnp.where((t < input_lengths)[:, None], new, alpha), None

    # Before the first step all is in the first blank, from which the first step stays or advances.
    start = jnp.full((batch, states), -math.inf, log_p.dtype).at[:, 0].set(0)
    alpha, _ = lax.scan(step, start, (emitted, jnp.arange(steps)))
    last = 2 * target_lengths[:, None]
    ends = jnp.take_along_axis(alpha, jnp.concatenate([last, jnp.maximum(last - 1, 0)], axis=1), axis=1)
    has_symbols = jnp.stack([jnp.ones_like(target_lengths), target_lengths], axis=1) > 0
    return _log_sum(jnp.where(has_symbols, ends, -math.inf).T)


def _shifted(alpha: Array, by: int) -> Array:
    """The states `by` places earlier; those before the first have probability 0."""
    states = alpha.shape[1]
    return jnp.pad(alpha, ((0, 0), (by, 0)), constant_values=-math.inf)[:, :states]


def _log_sum(x: Array) -> Array:
    """log(sum(exp(x))) over axis 0, where a sum of zeros is -inf with derivative 0, not NaN."""
    largest = lax.stop_gradient(jnp.max(x, axis=0))
    largest = jnp.where(largest == -math.inf, 0, largest)
    total = jnp.sum(jnp.exp(x - largest), axis=0)
    nothing = total == 0
    return jnp.where(nothing, -math.inf, jnp.log(jnp.where(nothing, 1, total)) + largest)


def _lengths(what: str, lengths: Any, batch: int) -> Array:
    lengths = integer_array(_NAME, what, jnp.asarray(lengths))
    if lengths.ndim == 0 and batch == 1:
        lengths = lengths[None]
    if lengths.shape != (batch,):
        raise ShapeError(f"{_NAME}: {what} must hold one number a sequence, [{batch}]; got {lengths.aval}")
    return lengths


def _check_range(what: str, lengths: Array, largest: int, meaning: str) -> None:
    """Raises `ShapeError` if the lengths are known and one does not fit."""
    if isinstance(lengths, ConcreteArray):
        values = np.asarray(lengths)
        if ((values < 0) | (values > largest)).any():
            raise ShapeError(f"{_NAME}: {what} must be between 0 and {largest}, {meaning}; got {values}")


def _padded(targets: Any, target_lengths: Array, batch: int, batched: bool) -> Array:
    """Targets as [N, S]."""
    targets = integer_array(_NAME, "targets", to_array(_NAME, targets))
    if targets.ndim == 2 and batched:
        if targets.shape[0] != batch:
            raise ShapeError(f"{_NAME}: targets must be [N, S] with N = {batch}, as in log_probs; got {targets.aval}")
        return targets
    if targets.ndim != 1:
        wanted = "[N, S] or concatenated, [sum of target_lengths]" if batched else "[S]"
        raise ShapeError(f"{_NAME}: targets must be {wanted}; got {targets.aval}")
    if not batched:
        return targets[None]
    length = targets.shape[0]
    if isinstance(target_lengths, ConcreteArray):
        known = np.asarray(target_lengths)
        if known.sum() != length:
            raise ShapeError(
                f"{_NAME}: concatenated targets must be as long as the sum of target_lengths, {known.sum()}; got "
                f"{targets.aval}"
            )
        length = int(known.max(initial=0))
    if targets.shape[0] == 0:
        return jnp.zeros((batch, 0), targets.dtype)
    start = jnp.cumsum(target_lengths) - target_lengths
    index = start[:, None] + jnp.arange(length)
    return targets[jnp.minimum(index, targets.shape[0] - 1)]
