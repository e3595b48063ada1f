"""Transformations that divide by a root of gradients' squares: RMSProp, Adagrad, Adadelta, and Adafactor's factors."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

import asgfn.numpy as jnp
from asgfn import tree
from nn_fn.optimisers.base import GradientTransformation, require_params
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


class RmsState(NamedTuple):
    """Step count, int32[], and the mean of squares."""

    count: Any
    nu: Any


class StddevState(NamedTuple):
    """Step count, int32[], the mean, and the mean of squares."""

    count: Any
    mu: Any
    nu: Any


def _over_root(g: Any, square: Any, eps: Any, eps_in_sqrt: bool) -> Any:
    eps = scalar(eps, square)
    return g / (jnp.sqrt(square + eps) if eps_in_sqrt else jnp.sqrt(square) + eps)


def scale_by_rms(
    decay: float = 0.9,
    eps: float = 1e-8,
    initial_scale: float = 0.0,
    eps_in_sqrt: bool = True,
    bias_correction: bool = False,
) -> GradientTransformation:
    """g -> g / sqrt(v + eps), where v is the running mean of g².

    Source: T. Hinton, Neural networks for machine learning, lecture 6e, 2012.

    Arguments:
        decay: of the mean, in [0, 1].
        eps: added inside of the root, as in Optax.
        initial_scale: v at first.
        eps_in_sqrt: False for g / (sqrt(v) + eps), as in PyTorch.
        bias_correction: divides v by 1 - decay**count.
    """
    name = "scale_by_rms"
    check_number(name, "decay", decay, most=1, below=bias_correction)
    check_number(name, "eps", eps)

    def update(updates: Any, state: RmsState, params: Any = None, **extra: Any) -> tuple[Any, RmsState]:
        count = increment(state.count)
        nu = leafwise(name, lambda g, v: moment(decay, squared(wide(g)), v), updates, moment=state.nu)
        correction = 1 / one_minus_power(decay, count) if bias_correction else None

        def one(g: Any, v: Any) -> Any:
            v = v if correction is None else v * scalar(correction, v)
            return _over_root(g, v, eps, eps_in_sqrt)

        return leafwise(name, one, updates, moment=nu), RmsState(count, nu)

    return GradientTransformation(
        lambda params: RmsState(zero_count(), zeros(params, real=True, fill=initial_scale)), update
    )


def scale_by_stddev(
    decay: float = 0.9,
    eps: float = 1e-8,
    initial_scale: float = 0.0,
    eps_in_sqrt: bool = True,
    bias_correction: bool = False,
) -> GradientTransformation:
    """g -> g / sqrt(v - m² + eps), with running means m of g and v of g²: centred RMSProp.

    Source: A. Graves, Generating sequences with recurrent neural networks, 2013. Arguments as for `scale_by_rms`. A
    variance that rounding made negative counts as 0.
    """
    name = "scale_by_stddev"
    check_number(name, "decay", decay, most=1, below=bias_correction)
    check_number(name, "eps", eps)

    def init(params: Any) -> StddevState:
        return StddevState(zero_count(), zeros(params), zeros(params, real=True, fill=initial_scale))

    def update(updates: Any, state: StddevState, params: Any = None, **extra: Any) -> tuple[Any, StddevState]:
        count = increment(state.count)
        mu = leafwise(name, lambda g, m: moment(decay, g.astype(m.dtype), m), updates, moment=state.mu)
        nu = leafwise(name, lambda g, v: moment(decay, squared(wide(g)), v), updates, moment=state.nu)
        correction = 1 / one_minus_power(decay, count) if bias_correction else None

        def one(g: Any, m: Any, v: Any) -> Any:
            if correction is not None:
                m, v = m * scalar(correction, m), v * scalar(correction, v)
            return _over_root(g, jnp.maximum(v - squared(m), 0), eps, eps_in_sqrt)

        return leafwise(name, one, updates, moment=mu, second=nu), StddevState(count, mu, nu)

    return GradientTransformation(init, update)


class RssState(NamedTuple):
    """The sum of squares."""

    sum_of_squares: Any


def scale_by_rss(
    initial_accumulator_value: float = 0.1, eps: float = 1e-7, *, eps_in_sqrt: bool = True
) -> GradientTransformation:
    """g -> g / sqrt(s + eps), where s is the sum of all g² so far; 0 where s is 0.

    Source: J. Duchi, E. Hazan, Y. Singer, Adaptive subgradient methods, 2011.

    Arguments:
        initial_accumulator_value: s at first.
        eps: added inside of the root, as in Optax.
        eps_in_sqrt: False for g / (sqrt(s) + eps), as in PyTorch.
    """
    name = "scale_by_rss"
    check_number(name, "initial_accumulator_value", initial_accumulator_value)
    check_number(name, "eps", eps)

    def update(updates: Any, state: RssState, params: Any = None, **extra: Any) -> tuple[Any, RssState]:
        total = leafwise(name, lambda g, s: (squared(wide(g)) + s).astype(s.dtype), updates, sum=state.sum_of_squares)

        def one(g: Any, s: Any) -> Any:
            return _over_root(g, jnp.where(s > 0, s, 1), eps, eps_in_sqrt)

        return leafwise(name, one, updates, sum=total), RssState(total)

    return GradientTransformation(
        lambda params: RssState(zeros(params, real=True, fill=initial_accumulator_value)), update
    )


class AdadeltaState(NamedTuple):
    """Running means of squares: of gradients and of updates."""

    e_g: Any
    e_x: Any


def scale_by_adadelta(rho: float = 0.9, eps: float = 1e-6) -> GradientTransformation:
    """g -> g * sqrt(x + eps) / sqrt(e + eps), where e and x are running means of the squares of g and of the updates.

    Source: M. Zeiler, Adadelta, 2012.
    """
    name = "scale_by_adadelta"
    check_number(name, "rho", rho, most=1)
    check_number(name, "eps", eps)

    def update(updates: Any, state: AdadeltaState, params: Any = None, **extra: Any) -> tuple[Any, AdadeltaState]:
        e_g = leafwise(name, lambda g, e: moment(rho, squared(wide(g)), e), updates, moment=state.e_g)

        def one(g: Any, e: Any, x: Any) -> Any:
            return g * jnp.sqrt((x + scalar(eps, x)) / (e + scalar(eps, e)))

        out = leafwise(name, one, updates, moment=e_g, update=state.e_x)
        e_x = leafwise(name, lambda u, x: moment(rho, squared(u), x), out, update=state.e_x)
        return out, AdadeltaState(e_g, e_x)

    def init(params: Any) -> AdadeltaState:
        real = zeros(params, real=True)
        return AdadeltaState(real, real)

    return GradientTransformation(init, update)


class FactoredState(NamedTuple):
    """Step count, int32[], and means of squares: by row and by column, or of every element where not factored.

    What a parameter does not need is an array of shape [1], as in Optax.
    """

    count: Any
    v_row: Any
    v_col: Any
    v: Any


def _factored_axes(shape: tuple[int, ...], factored: bool, least: int) -> tuple[int, int] | None:
    """The second largest and the largest axis, if both are long enough to gain from factoring."""
    if not factored or len(shape) < 2:
        return None
    order = np.argsort(shape)
    return (int(order[-2]), int(order[-1])) if shape[order[-2]] >= least else None


def scale_by_factored_rms(
    factored: bool = True,
    decay_rate: float = 0.8,
    step_offset: int = 0,
    min_dim_size_to_factor: int = 128,
    epsilon: float = 1e-30,
) -> GradientTransformation:
    """g -> g / sqrt(v), where v is the running mean of g², kept for matrices as one number a row and one a column.

    v[i, j] is estimated as row[i] * column[j] / mean(row). The mean's decay at step t = 1, 2, ... is
    1 - t**-decay_rate. Source: N. Shazeer, M. Stern, Adafactor, 2018.

    Arguments:
        factored: False keeps v whole.
        decay_rate: the exponent.
        step_offset: where counting starts, when training goes on from another run.
        min_dim_size_to_factor: v is factored over a parameter's two largest axes if both have at least this length.
        epsilon: added to every g².
    """
    name = "scale_by_factored_rms"
    check_number(name, "decay_rate", decay_rate)
    check_number(name, "epsilon", epsilon)

    def axes_of(p: Any) -> Any:
        return _factored_axes(p.shape, factored, min_dim_size_to_factor)

    def init(params: Any) -> FactoredState:
        def without(p: Any, position: int) -> Any:
            axes = axes_of(p)
            return jnp.zeros(1 if axes is None else np.delete(p.shape, axes[position]).tolist(), wide(p).dtype)

        params = tree.map(jnp.asarray, params)
        return FactoredState(
            zero_count(),
            tree.map(lambda p: without(p, 1), params),
            tree.map(lambda p: without(p, 0), params),
            tree.map(lambda p: jnp.zeros(p.shape if axes_of(p) is None else 1, wide(p).dtype), params),
        )

    def update(updates: Any, state: FactoredState, params: Any = None, **extra: Any) -> tuple[Any, FactoredState]:
        # 1 - t**-rate, which is 0 at the first step
        decay = -jnp.expm1(-decay_rate * jnp.log(jnp.maximum(state.count - step_offset + 1, 1).astype(float)))
        leaves, treedef = tree.flatten(leafwise(name, lambda g, p: g, updates, parameter=require_params(name, params)))
        columns = [treedef.flatten_up_to(t) for t in (state.v_row, state.v_col, state.v)]
        results = [one(decay, *values) for values in zip(leaves, *columns, strict=True)]
        out, *new = [treedef.unflatten([r[i] for r in results]) for i in range(4)]
        return out, FactoredState(increment(state.count), *new)

    def one(decay: Any, g: Any, row: Any, column: Any, whole: Any) -> tuple[Any, Any, Any, Any]:
        g = wide(g)
        square = squared(g) + scalar(epsilon, g)
        axes = axes_of(g)
        if axes is None:
            whole = moment(decay, square, whole)
            return g / jnp.sqrt(whole), row, column, whole
        shorter, longer = axes
        row = moment(decay, jnp.mean(square, axis=longer), row)
        column = moment(decay, jnp.mean(square, axis=shorter), column)
        mean = jnp.mean(row, axis=shorter - 1 if shorter > longer else shorter, keepdims=True)
        by_row = jnp.expand_dims(1 / jnp.sqrt(row / mean), longer)
        by_column = jnp.expand_dims(1 / jnp.sqrt(column), shorter)
        return g * by_row * by_column, row, column, whole

    return GradientTransformation(init, update)
