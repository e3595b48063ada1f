"""Muon: momentum whose matrices are made orthogonal before they are applied."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import asgfn.numpy as jnp
from asgfn import tree
from nn_fn.optimisers.base import GradientTransformation, ScalarOrSchedule, chain, stateless
from nn_fn.optimisers.leafwise import (
    check_number,
    increment,
    leafwise,
    moment,
    one_minus_power,
    scalar,
    wide,
    zero_count,
    zeros,
)
from nn_fn.optimisers.masking import MaskOrFn, multi_transform
from nn_fn.optimisers.recipes import adamw
from nn_fn.optimisers.scaling import add_decayed_weights, scale_by_learning_rate

NS_COEFFS = (3.4445, -4.7750, 2.0315)
Coefficients = Sequence[float] | Sequence[Sequence[float]]


def _per_step(ns_coeffs: Coefficients, ns_steps: int) -> list[tuple]:
    """Three coefficients for each iteration."""
    several = len(ns_coeffs) > 0 and isinstance(ns_coeffs[0], Sequence)
    rows = [tuple(row) for row in ns_coeffs] if several else [tuple(ns_coeffs)] * ns_steps  # type: ignore[arg-type]
    if any(len(row) != 3 for row in rows) or len(rows) < ns_steps:
        raise ValueError(
            f"muon: ns_coeffs must be 3 numbers, or 3 for each of at least ns_steps={ns_steps} iterations, got {ns_coeffs!r}"
        )
    return rows[len(rows) - ns_steps :]


def orthogonalize(x: Any, ns_coeffs: Coefficients = NS_COEFFS, ns_steps: int = 5, eps: float = 1e-8) -> Any:
    """Nearly U V^T, where x = U S V^T is the singular value decomposition; singular values come to lie in about [0.7, 1.2].

    By iterations x <- a x + (b x x^T + c (x x^T)²) x after a division by the Frobenius norm. Source: K. Jordan and
    others, Muon: an optimizer for hidden layers in neural networks, 2024.

    Arguments:
        x: floating [..., m, n]; in float16 and bfloat16 it is computed in float32.
        ns_coeffs: a, b, c for all iterations, or three numbers for each; the last `ns_steps` of them are used.
        ns_steps: how many iterations.
        eps: added to the norm.

    Returns:
        An array like x.
    """
    if x.ndim < 2:
        raise ValueError(f"orthogonalize: expected a matrix or several, [..., m, n], got {x.aval}")
    rows = _per_step(ns_coeffs, ns_steps)
    dtype, tall = x.dtype, x.shape[-2] > x.shape[-1]
    x = wide(x)
    # the smaller of the two possible products
    x = jnp.swapaxes(x, -1, -2) if tall else x
    largest = jnp.max(jnp.abs(x), axis=(-2, -1), keepdims=True, initial=0)
    unit = jnp.where((largest > 0) & jnp.isfinite(largest), largest, 1)
    x = x / unit
    x = x / (jnp.sqrt(jnp.sum(x * x, axis=(-2, -1), keepdims=True)) + scalar(eps, x) / unit)
    for a, b, c in rows:
        gram = x @ jnp.swapaxes(x, -1, -2)
        x = a * x + (b * gram + c * (gram @ gram)) @ x
    return (jnp.swapaxes(x, -1, -2) if tall else x).astype(dtype)


class MuonState(NamedTuple):
    """Step count, int32[], and the momentum."""

    count: Any
    mu: Any


def scale_by_muon(
    ns_coeffs: Coefficients = NS_COEFFS,
    ns_steps: int = 5,
    beta: float = 0.95,
    eps: float = 1e-8,
    mu_dtype: Any = None,
    *,
    nesterov: bool = True,
    adaptive: bool = False,
) -> GradientTransformation:
    """g -> orthogonalize(m) with the bias-corrected mean m of g, for parameters with 2 axes, or batches of such.

    Arguments:
        ns_coeffs, ns_steps, eps: see `orthogonalize`.
        beta: decay of the mean, in [0, 1).
        mu_dtype: of the mean; by default the parameters', or float32 if that has less.
        nesterov: looks one step ahead.
        adaptive: multiplies the result by its inner product with m. Source: J. Bernstein, L. Newhouse, Modular duality
            in deep learning, 2024.
    """
    name = "scale_by_muon"
    check_number(name, "beta", beta, most=1, below=True)
    _per_step(ns_coeffs, ns_steps)

    def update(updates: Any, state: MuonState, params: Any = None, **extra: Any) -> tuple[Any, MuonState]:
        count = increment(state.count)
        mu = leafwise(name, lambda g, m: moment(beta, g.astype(m.dtype), m), updates, moment=state.mu)
        now = 1 / one_minus_power(beta, count)
        ahead = beta / one_minus_power(beta, increment(count))

        def one(g: Any, m: Any) -> Any:
            mean = m * scalar(ahead, m) + g * scalar((1 - beta) * now, m) if nesterov else m * scalar(now, m)
            out = orthogonalize(mean, ns_coeffs, ns_steps, eps)
            return jnp.sum(mean * out, axis=(-2, -1), keepdims=True) * out if adaptive else out

        return leafwise(name, one, updates, moment=mu), MuonState(count, mu)

    return GradientTransformation(lambda params: MuonState(zero_count(), zeros(params, mu_dtype)), update)


def scale_by_shape(consistent_rms: float | None = None) -> GradientTransformation:
    """Multiplies matrices [m, n] by sqrt(max(1, n / m)), or with `consistent_rms` by that times sqrt(max(m, n))."""

    def one(g: Any) -> Any:
        m, n = g.shape[-2:]
        if consistent_rms is not None:
            return g * (consistent_rms * math.sqrt(max(m, n)))
        return g * math.sqrt(max(1.0, n / max(m, 1)))

    return stateless(lambda updates, params: leafwise("scale_by_shape", one, updates))


def muon(
    learning_rate: ScalarOrSchedule,
    ns_coeffs: Coefficients = NS_COEFFS,
    ns_steps: int = 5,
    beta: float = 0.95,
    eps: float = 1e-8,
    weight_decay: ScalarOrSchedule = 0.0,
    weight_decay_mask: MaskOrFn | None = None,
    mu_dtype: Any = None,
    *,
    nesterov: bool = True,
    adaptive: bool = False,
    adam_b1: float = 0.9,
    adam_b2: float = 0.999,
    adam_eps_root: float = 0.0,
    adam_weight_decay: ScalarOrSchedule = 0.0,
    adam_learning_rate: ScalarOrSchedule | None = None,
    consistent_rms: float | None = None,
    param_labels: Any = None,
) -> GradientTransformation:
    """Muon for matrices, AdamW for all other parameters. Weights have the layout [in, out].

    Source: K. Jordan and others, Muon: an optimizer for hidden layers in neural networks, 2024. Arguments as in
    `optax.contrib.muon`; for those of the orthogonalisation see `scale_by_muon`.

    Arguments:
        consistent_rms: updates are multiplied by sqrt(max(in, out)) * consistent_rms in place of sqrt(max(1, out / in));
            0.2 gives updates as large as Adam's. Source: J. Liu and others, Muon is scalable for LLM training, 2025.
        param_labels: "muon" or "adam" for every parameter, see `multi_transform`; by default muon for those with exactly
            two axes. Embeddings and output layers are usually better off with adam. Parameters with more axes may be
            labelled muon too: they are batches of matrices over their last two axes.
    """
    if param_labels is None:

        def param_labels(params: Any) -> Any:
            return tree.map(lambda p: "muon" if jnp.ndim(p) == 2 else "adam", params)

    of_matrices = chain(
        scale_by_muon(ns_coeffs, ns_steps, beta, eps, mu_dtype, nesterov=nesterov, adaptive=adaptive),
        scale_by_shape(consistent_rms),
        add_decayed_weights(weight_decay, weight_decay_mask),
        scale_by_learning_rate(learning_rate),
    )
    of_others = adamw(
        learning_rate if adam_learning_rate is None else adam_learning_rate,
        adam_b1,
        adam_b2,
        eps,
        adam_eps_root,
        mu_dtype,
        adam_weight_decay,
        nesterov=nesterov,
    )
    return multi_transform({"muon": of_matrices, "adam": of_others}, param_labels)
