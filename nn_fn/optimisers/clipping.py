"""Norms of gradients, and clipping: transformations with Optax's names, plain functions with PyTorch's."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

import asgfn.numpy as jnp
from asgfn import lax, tree
from nn_fn.optimisers.base import GradientTransformation, require_params, stateless
from nn_fn.optimisers.leafwise import check_number, leafwise, scalar, squared, wide


def _leaves(updates: Any) -> list:
    """The leaves as arrays of at least float32."""
    leaves = [wide(jnp.asarray(g)) for g in tree.leaves(updates)]
    return [x if jnp.issubdtype(x.dtype, jnp.inexact) else x.astype(float) for x in leaves]


def _largest(magnitudes: list) -> Any:
    largest = [jnp.max(x) for x in magnitudes if x.size]
    return jnp.max(jnp.stack(largest)) if largest else jnp.zeros(())


def _power_norm(magnitudes: list, p: float) -> Any:
    """(Σ x**p)**(1/p) of numbers that are scaled to [0, 1] first, so that no power overflows or vanishes."""
    unit = lax.stop_gradient(_largest(magnitudes))
    unit = jnp.where((unit > 0) & jnp.isfinite(unit), unit, 1)
    total = sum(jnp.sum((x / unit.astype(x.dtype)) ** p) for x in magnitudes)
    positive = total != 0
    return jnp.where(positive, unit * jnp.where(positive, total, 1) ** (1 / p), 0)


def global_norm(updates: Any) -> Any:
    """The Euclidean norm of all leaves together: a scalar, at least float32; 0 for a tree without leaves.

    Right wherever the result is representable, though squares of it may not be: for gradients of 1e30 in float32 too.
    Its gradient where all leaves are 0 is 0.
    """
    leaves = _leaves(updates)
    if not leaves:
        return jnp.zeros(())
    total = jnp.asarray(sum(jnp.sum(squared(g)) for g in leaves))
    limits = np.finfo(total.dtype)
    # outside of this range squares were lost; then, and only then, the leaves are looked at again
    usual = (total > float(limits.tiny) / float(limits.eps)) & (total < float(limits.max))

    def direct(total: Any, leaves: Any) -> Any:
        return jnp.sqrt(jnp.where(usual, total, 1))

    def scaled(total: Any, leaves: Any) -> Any:
        return _power_norm([jnp.abs(g) for g in leaves], 2.0).astype(total.dtype)

    return lax.cond(usual, direct, scaled, total, leaves)


def clip(max_delta: float) -> GradientTransformation:
    """Clips every element to [-max_delta, max_delta]."""
    check_number("clip", "max_delta", max_delta)

    def one(g: Any) -> Any:
        return jnp.clip(g, -scalar(max_delta, g), scalar(max_delta, g))

    return stateless(lambda updates, params: leafwise("clip", one, updates))


def _shrink(name: str, updates: Any, factor: Any) -> Any:
    return leafwise(name, lambda g: g * scalar(factor, g), updates)


def _factor(norm: Any, max_norm: Any) -> Any:
    """What brings a norm down to the largest that is allowed; a NaN stays NaN."""
    return jnp.where(norm <= max_norm, 1, max_norm / norm)


def clip_by_global_norm(max_norm: float) -> GradientTransformation:
    """Where the norm of all leaves together exceeds `max_norm`, multiplies all by max_norm / norm.

    Source: R. Pascanu, T. Mikolov, Y. Bengio, On the difficulty of training recurrent neural networks, 2013.
    """
    name = "clip_by_global_norm"
    check_number(name, "max_norm", max_norm)
    return stateless(lambda updates, params: _shrink(name, updates, _factor(global_norm(updates), max_norm)))


def clip_by_leaf_norm(max_norm: float) -> GradientTransformation:
    """Clips the Euclidean norm of each leaf by itself."""
    name = "clip_by_leaf_norm"
    check_number(name, "max_norm", max_norm)

    def one(g: Any) -> Any:
        return g * scalar(_factor(global_norm(g), max_norm), g)

    return stateless(lambda updates, params: leafwise(name, one, updates))


def clip_by_block_rms(threshold: float) -> GradientTransformation:
    """Clips the root mean square of each leaf by itself. Source: N. Shazeer, M. Stern, Adafactor, 2018."""
    name = "clip_by_block_rms"
    check_number(name, "threshold", threshold)

    def one(g: Any) -> Any:
        return g * scalar(_factor(global_norm(g) / math.sqrt(max(g.size, 1)), threshold), g)

    return stateless(lambda updates, params: leafwise(name, one, updates))


def _unit_axes(shape: tuple[int, ...], axis: int | tuple[int, ...] | None) -> Any:
    """The axes over which a unit's norm goes: all but the last, which counts outputs; all of vectors and scalars."""
    if axis is not None:
        return axis
    if sum(n != 1 for n in shape) <= 1:
        return None
    if len(shape) in (2, 3):
        return 0
    if len(shape) in (4, 5):
        return tuple(range(len(shape) - 1))
    raise ValueError(
        f"adaptive_grad_clip: no rule for a parameter of shape {list(shape)}; say with `axis` which axes a unit's norm "
        "goes over"
    )


def adaptive_grad_clip(
    clipping: float, eps: float = 1e-3, axis: int | tuple[int, ...] | None = None
) -> GradientTransformation:
    """Clips each unit's gradient norm to clipping * max(its parameter norm, eps).

    Source: A. Brock and others, High-performance large-scale image recognition without normalization, 2021.

    Arguments:
        clipping: the largest allowed ratio of norms.
        eps: what smaller parameter norms count as.
        axis: the axes over which a unit's norm goes. By default all of vectors and scalars, axis 0 of arrays with 2 or 3
            axes, all but the last of those with 4 or 5: weights with the layout [..., in, out].
    """
    name = "adaptive_grad_clip"
    check_number(name, "clipping", clipping)
    check_number(name, "eps", eps)

    def one(g: Any, p: Any) -> Any:
        axes = _unit_axes(g.shape, axis)
        norms = [jnp.sqrt(jnp.sum(squared(wide(x)), axis=axes, keepdims=True)) for x in (g, p)]
        largest = clipping * jnp.maximum(norms[1], eps)
        return g * scalar(jnp.where(norms[0] < largest, 1, largest / jnp.maximum(norms[0], 1e-6)), g)

    return stateless(lambda updates, params: leafwise(name, one, updates, parameter=require_params(name, params)))


def clip_grad_norm(
    grads: Any, max_norm: float, norm_type: float = 2.0, error_if_nonfinite: bool = False
) -> tuple[Any, Any]:
    """As PyTorch's `clip_grad_norm_`: multiplies all leaves by min(1, max_norm / (norm + 1e-6)).

    Arguments:
        grads: a pytree of arrays.
        max_norm: the largest norm that is left alone.
        norm_type: the p of the p-norm over all elements of all leaves: a positive number or infinity.
        error_if_nonfinite: raises where the norm is NaN or infinite. Only outside of `jit`, where values are known.

    Returns:
        ``(grads, norm)``: the clipped gradients, and the norm before clipping, a scalar.

    Raises:
        ValueError: max_norm is negative, or norm_type not positive.
        FloatingPointError: with error_if_nonfinite, the norm is not finite.
    """
    check_number("clip_grad_norm", "max_norm", max_norm)
    if not norm_type > 0:
        raise ValueError(f"clip_grad_norm: norm_type must be a positive number or math.inf, got {norm_type!r}")
    if norm_type == 2:
        norm = global_norm(grads)
    else:
        magnitudes = [jnp.abs(g) for g in _leaves(grads)]
        norm = _largest(magnitudes) if norm_type == math.inf else _power_norm(magnitudes, norm_type)
    if error_if_nonfinite and not bool(jnp.isfinite(norm)):
        raise FloatingPointError(f"clip_grad_norm: the norm of the gradients is {float(norm)}, it cannot be clipped")
    factor = jnp.minimum(max_norm / (norm + 1e-6), 1)
    return _shrink("clip_grad_norm", grads, factor), norm


def clip_grad_value(grads: Any, clip_value: float) -> Any:
    """As PyTorch's `clip_grad_value_`: every element clipped to [-clip_value, clip_value]."""
    check_number("clip_grad_value", "clip_value", clip_value)
    return clip(clip_value).update(grads, ())[0]
