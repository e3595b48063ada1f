"""Momentum and Adam's family: transformations that keep running means of gradients and of their squares.

The moments of parameters in float16 or bfloat16 are kept, and the updates given, in float32: b2 = 0.999 is 1 in
bfloat16, and eps = 1e-8 is 0 in float16. (Optax keeps them in the parameters' dtype.)
"""

from __future__ import annotations

from typing import Any, NamedTuple

import asgfn.numpy as jnp
from asgfn import tree
from nn_fn.optimisers.base import GradientTransformation
from nn_fn.optimisers.leafwise import (
    check_number,
    increment,
    leafwise,
    moment,
    one_minus_power,
    scalar,
    squared,
    wide,
    zero_count,
    zeros,
)


class TraceState(NamedTuple):
    """Momentum: the running sum of updates."""

    trace: Any


class DampedTraceState(NamedTuple):
    """Momentum with dampening: step count, int32[], and the running sum."""

    count: Any
    trace: Any


def trace(
    decay: float, nesterov: bool = False, accumulator_dtype: Any = None, *, dampening: float = 0.0
) -> GradientTransformation:
    """Momentum: v = decay * v + (1 - dampening) * g; the update is v, or with `nesterov` g + decay * v.

    As in PyTorch the first gradient is not dampened. Source: I. Sutskever and others, On the importance of
    initialization and momentum in deep learning, 2013.

    Arguments:
        decay: in [0, 1].
        nesterov: looks one step ahead.
        accumulator_dtype: of v; by default the parameters', or float32 if that has less.
        dampening: in [0, 1].
    """
    check_number("trace", "decay", decay, most=1)
    check_number("trace", "dampening", dampening, most=1)
    damped = not isinstance(dampening, (int, float)) or dampening != 0
    if damped and nesterov:
        raise ValueError(f"trace: nesterov needs dampening=0, got {dampening!r}")

    def step(updates: Any, velocity: Any, factor: Any) -> tuple[Any, Any]:
        def push(g: Any, v: Any) -> Any:
            g = g if factor is None else scalar(factor, g) * g
            return (g + scalar(decay, v) * v).astype(v.dtype)

        def ahead(g: Any, v: Any) -> Any:
            return g + scalar(decay, v) * v

        velocity = leafwise("trace", push, updates, momentum=velocity)
        return (leafwise("trace", ahead, updates, momentum=velocity) if nesterov else velocity), velocity

    def update(updates: Any, state: TraceState, params: Any = None, **extra: Any) -> tuple[Any, TraceState]:
        out, velocity = step(updates, state.trace, None)
        return out, TraceState(velocity)

    def update_damped(updates: Any, state: Any, params: Any = None, **extra: Any) -> tuple[Any, DampedTraceState]:
        out, velocity = step(updates, state.trace, jnp.where(state.count == 0, 1.0, 1 - dampening))
        return out, DampedTraceState(increment(state.count), velocity)

    if damped:

        def init(params: Any) -> Any:
            return DampedTraceState(zero_count(), zeros(params, accumulator_dtype))

        return GradientTransformation(init, update_damped)
    return GradientTransformation(lambda params: TraceState(zeros(params, accumulator_dtype)), update)


class EmaState(NamedTuple):
    """Step count, int32[], and the running mean."""

    count: Any
    ema: Any


def ema(decay: float, debias: bool = True, accumulator_dtype: Any = None) -> GradientTransformation:
    """The updates' exponential moving average: m = decay * m + (1 - decay) * g, with `debias` over 1 - decay**count.

    To average parameters, see `params_ema`.
    """
    check_number("ema", "decay", decay, most=1, below=debias)

    def update(updates: Any, state: EmaState, params: Any = None, **extra: Any) -> tuple[Any, EmaState]:
        count = increment(state.count)
        mean = leafwise("ema", lambda g, m: moment(decay, g, m), updates, average=state.ema)
        out = mean
        if debias:
            factor = 1 / one_minus_power(decay, count)
            out = tree.map(lambda m: m * scalar(factor, m), mean)
        return out, EmaState(count, mean)

    return GradientTransformation(lambda params: EmaState(zero_count(), zeros(params, accumulator_dtype)), update)


class AdamState(NamedTuple):
    """Step count, int32[], and the two moments."""

    count: Any
    mu: Any
    nu: Any


def _check_adam(name: str, b1: Any, b2: Any, eps: Any, eps_root: Any = 0.0) -> None:
    check_number(name, "b1", b1, most=1, below=True)
    check_number(name, "b2", b2, most=1, below=True)
    check_number(name, "eps", eps)
    check_number(name, "eps_root", eps_root)


def _second_moment(name: str, b2: Any, updates: Any, nu: Any) -> Any:
    return leafwise(name, lambda g, v: moment(b2, squared(wide(g)), v), updates, moment=nu)


def _first_moment(name: str, b1: Any, updates: Any, mu: Any) -> Any:
    return leafwise(name, lambda g, m: moment(b1, g.astype(m.dtype), m), updates, moment=mu)


def _over_root(numerator: Any, nu: Any, correction: Any, eps: Any, eps_root: Any) -> Any:
    """numerator / (sqrt(nu / correction + eps_root) + eps), for a numerator that was multiplied by sqrt(correction).

    Both sides of the fraction are multiplied by sqrt(correction): then it meets scalars, not another large array.
    """
    inside = nu
    if not isinstance(eps_root, (int, float)) or eps_root != 0:
        inside = nu + scalar(eps_root * correction, nu)
    return numerator / (jnp.sqrt(inside) + scalar(eps * jnp.sqrt(correction), nu))


def scale_by_adam(
    b1: float = 0.9,
    b2: float = 0.999,
    eps: float = 1e-8,
    eps_root: float = 0.0,
    mu_dtype: Any = None,
    *,
    nesterov: bool = False,
) -> GradientTransformation:
    """g -> m / (sqrt(v + eps_root) + eps) with bias-corrected moments.

    Source: D. Kingma, J. Ba, Adam, 2015. With `nesterov`: T. Dozat, Incorporating Nesterov momentum into Adam, 2016.

    Arguments:
        b1, b2: decays of the means of g and g², in [0, 1).
        eps: added outside of the root, as in the paper and in PyTorch.
        eps_root: added inside of it, for derivatives through the update where v = 0.
        mu_dtype: of the first moment; by default the parameters', or float32 if that has less.
        nesterov: looks one step ahead.
    """
    name = "scale_by_adam"
    _check_adam(name, b1, b2, eps, eps_root)

    def init(params: Any) -> AdamState:
        return AdamState(zero_count(), zeros(params, mu_dtype), zeros(params, real=True))

    def update(updates: Any, state: AdamState, params: Any = None, **extra: Any) -> tuple[Any, AdamState]:
        count = increment(state.count)
        mu = _first_moment(name, b1, updates, state.mu)
        nu = _second_moment(name, b2, updates, state.nu)
        correction = one_minus_power(b2, count)
        first = jnp.sqrt(correction) / one_minus_power(b1, count)
        if nesterov:
            ahead = jnp.sqrt(correction) / one_minus_power(b1, increment(count)) * b1
            now = first * (1 - b1)

            def one(g: Any, m: Any, v: Any) -> Any:
                return _over_root(m * scalar(ahead, m) + g * scalar(now, m), v, correction, eps, eps_root)

            out = leafwise(name, one, updates, moment=mu, second=nu)
        else:
            out = tree.map(lambda m, v: _over_root(m * scalar(first, m), v, correction, eps, eps_root), mu, nu)
        return out, AdamState(count, mu, nu)

    return GradientTransformation(init, update)


class AmsgradState(NamedTuple):
    """Step count, int32[], the two moments, and the largest second moment so far."""

    count: Any
    mu: Any
    nu: Any
    nu_max: Any


def scale_by_amsgrad(
    b1: float = 0.9,
    b2: float = 0.999,
    eps: float = 1e-8,
    eps_root: float = 0.0,
    mu_dtype: Any = None,
    bias_correction_mu: bool = True,
    bias_correction_nu: bool = True,
) -> GradientTransformation:
    """As `scale_by_adam`, with the largest v so far in place of v.

    The maximum is taken of bias-corrected moments, as in Optax; PyTorch takes it before the correction. Source:
    S. Reddi, S. Kale, S. Kumar, On the convergence of Adam and beyond, 2018.
    """
    name = "scale_by_amsgrad"
    _check_adam(name, b1, b2, eps, eps_root)

    def init(params: Any) -> AmsgradState:
        real = zeros(params, real=True)
        return AmsgradState(zero_count(), zeros(params, mu_dtype), real, real)

    def update(updates: Any, state: AmsgradState, params: Any = None, **extra: Any) -> tuple[Any, AmsgradState]:
        count = increment(state.count)
        mu = _first_moment(name, b1, updates, state.mu)
        nu = _second_moment(name, b2, updates, state.nu)
        first = 1 / one_minus_power(b1, count) if bias_correction_mu else 1
        second = 1 / one_minus_power(b2, count) if bias_correction_nu else 1
        nu_max = tree.map(lambda largest, v: jnp.maximum(largest, v * scalar(second, v)), state.nu_max, nu)
        out = tree.map(
            lambda m, v: m * scalar(first, m) / (jnp.sqrt(v + scalar(eps_root, v)) + scalar(eps, v)), mu, nu_max
        )
        return out, AmsgradState(count, mu, nu, nu_max)

    return GradientTransformation(init, update)


def scale_by_adamax(b1: float = 0.9, b2: float = 0.999, eps: float = 1e-8) -> GradientTransformation:
    """g -> m / u with the bias-corrected mean m of g, and u = max(b2 * u, |g| + eps).

    Source: D. Kingma, J. Ba, Adam, 2015, section 7.1.
    """
    name = "scale_by_adamax"
    _check_adam(name, b1, b2, eps)

    def largest(g: Any, u: Any) -> Any:
        return jnp.maximum(jnp.abs(wide(g)) + scalar(eps, u), scalar(b2, u) * u).astype(u.dtype)

    def init(params: Any) -> AdamState:
        return AdamState(zero_count(), zeros(params), zeros(params, real=True))

    def update(updates: Any, state: AdamState, params: Any = None, **extra: Any) -> tuple[Any, AdamState]:
        count = increment(state.count)
        mu = _first_moment(name, b1, updates, state.mu)
        nu = leafwise(name, largest, updates, norm=state.nu)
        first = 1 / one_minus_power(b1, count)
        # |g| + eps is 0 only where eps is 0 and every gradient was: then nothing is to be done
        out = tree.map(lambda m, u: m * scalar(first, m) / jnp.where(u == 0, 1, u), mu, nu)
        return out, AdamState(count, mu, nu)

    return GradientTransformation(init, update)


class LionState(NamedTuple):
    """Step count, int32[], and the mean of gradients."""

    count: Any
    mu: Any


def scale_by_lion(b1: float = 0.9, b2: float = 0.99, mu_dtype: Any = None) -> GradientTransformation:
    """g -> sign((1 - b1) * g + b1 * m), then m = b2 * m + (1 - b2) * g.

    Source: X. Chen and others, Symbolic discovery of optimization algorithms, 2023.
    """
    name = "scale_by_lion"
    check_number(name, "b1", b1, most=1)
    check_number(name, "b2", b2, most=1)

    def update(updates: Any, state: LionState, params: Any = None, **extra: Any) -> tuple[Any, LionState]:
        def direction(g: Any, m: Any) -> Any:
            return jnp.sign((1 - scalar(b1, m)) * g + scalar(b1, m) * m)

        out = leafwise(name, direction, updates, moment=state.mu)
        return out, LionState(increment(state.count), _first_moment(name, b2, updates, state.mu))

    return GradientTransformation(lambda params: LionState(zero_count(), zeros(params, mu_dtype)), update)
