"""Mixed precision: which dtypes a model's parameters, computation and outputs have; loss scaling for float16.

    half = policy("params=float32,compute=float16,output=float32")
    step = scaled_value_and_grad(half.wrap(loss_fn))
    loss, grads, finite = step(loss_scale, params, batch)
    loss_scale = loss_scale.adjust(finite)
    params = select_tree(finite, new_params, params)

Source: P. Micikevicius and others, Mixed precision training, 2018. Everything is a pure function over pytrees.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

import asgfn
import asgfn.numpy as jnp
from asgfn import tree
from asgfn.tree_util import register_dataclass
from nn_fn.optimisers import all_finite as all_finite

_SHORT = {
    "f16": "float16",
    "half": "float16",
    "bf16": "bfloat16",
    "f32": "float32",
    "full": "float32",
    "f64": "float64",
}
_FIELDS = {"params": "param_dtype", "compute": "compute_dtype", "output": "output_dtype"}


def _cast(values: Any, dtype: Any) -> Any:
    def one(x: Any) -> Any:
        floating = isinstance(x, (asgfn.Array, np.ndarray, np.generic)) and jnp.issubdtype(x.dtype, jnp.floating)
        return jnp.asarray(x).astype(dtype) if floating else x

    return tree.map(one, values)


@dataclass(frozen=True)
class Policy:
    """The dtypes of mixed precision. Casts change floating arrays only; Python's numbers, integers and keys stay.

    Attributes:
        param_dtype: in which parameters, gradients and optimiser states are kept.
        compute_dtype: in which layers compute.
        output_dtype: of what the wrapped function returns: float32 for a loss.
    """

    param_dtype: Any = jnp.float32
    compute_dtype: Any = jnp.float32
    output_dtype: Any = jnp.float32

    def __post_init__(self) -> None:
        for name in _FIELDS.values():
            dtype = jnp.dtype(getattr(self, name))
            if not jnp.issubdtype(dtype, jnp.floating):
                raise ValueError(f"Policy: {name} must be a floating dtype, got {dtype}")
            object.__setattr__(self, name, dtype)

    def cast_to_param(self, values: Any) -> Any:
        """The pytree with its floating arrays in `param_dtype`."""
        return _cast(values, self.param_dtype)

    def cast_to_compute(self, values: Any) -> Any:
        """The pytree with its floating arrays in `compute_dtype`."""
        return _cast(values, self.compute_dtype)

    def cast_to_output(self, values: Any) -> Any:
        """The pytree with its floating arrays in `output_dtype`."""
        return _cast(values, self.output_dtype)

    def wrap(self, f: Callable[..., Any]) -> Callable[..., Any]:
        """A function that casts all its arguments to `compute_dtype`, calls `f`, and casts results to `output_dtype`.

        Gradients by its arguments have the dtypes that the arguments had before the cast. What must not be rounded, such
        as a mean over many elements, `f` may compute in float32 itself.
        """

        @functools.wraps(f)
        def wrapped(*args: Any, **kwargs: Any) -> Any:
            args, kwargs = self.cast_to_compute((args, kwargs))
            return self.cast_to_output(f(*args, **kwargs))

        return wrapped

    def __str__(self) -> str:
        return ",".join(f"{short}={getattr(self, name)}" for short, name in _FIELDS.items())


def policy(text: str) -> Policy:
    """A policy from text: ``"params=float32,compute=float16,output=float32"``, or one dtype for all three.

    The order is free. What is not said: params are float32, compute is as params, output as compute. Dtypes may be short:
    f16 or half, bf16, f32 or full, f64. ``str(policy)`` gives such a text.

    Raises:
        ValueError: a name or a dtype is unknown, or a name stands twice.
    """

    def dtype_of(name: str) -> Any:
        try:
            return jnp.dtype(_SHORT.get(name, name))
        except TypeError:
            raise ValueError(
                f"policy: {name!r} in {text!r} is no dtype; expected float16, bfloat16, float32, ..."
            ) from None

    if "=" not in text:
        return Policy(*[dtype_of(text.strip())] * 3)
    given: dict[str, Any] = {}
    for part in text.split(","):
        name, _, dtype = (piece.strip() for piece in part.partition("="))
        if name not in _FIELDS or name in given:
            problem = "stands twice" if name in given else "is unknown"
            raise ValueError(f"policy: {name!r} in {text!r} {problem}; expected params=, compute= and output=")
        given[name] = dtype_of(dtype)
    params = given.get("params", jnp.dtype(jnp.float32))
    compute = given.get("compute", params)
    return Policy(params, compute, given.get("output", compute))


def select_tree(condition: Any, if_true: Any, if_false: Any) -> Any:
    """One of two pytrees with the same structure, chosen by a scalar: bool[]. For steps that may be skipped.

    Raises:
        StructureError: the structures differ.
    """
    return tree.map(lambda a, b: jnp.where(condition, a, b), if_true, if_false)


def _at_least_float32(x: Any) -> Any:
    return x.astype(jnp.promote_types(x.dtype, jnp.float32))


@register_dataclass
@dataclass(frozen=True)
class NoLossScale:
    """Does nothing: for float32 and bfloat16, whose exponents reach as far as gradients do."""

    def scale(self, loss: Any) -> Any:
        return loss

    def unscale(self, grads: Any) -> Any:
        return grads

    def adjust(self, finite: Any) -> NoLossScale:
        return self


class _Scaling:
    """What fixed and dynamic scales do alike."""

    loss_scale: Any

    def scale(self, loss: Any) -> Any:
        """The loss, or a pytree of losses, times the scale, in at least float32: in float16 the product would overflow."""
        return tree.map(lambda x: _at_least_float32(jnp.asarray(x)) * self.loss_scale, loss)

    def unscale(self, grads: Any) -> Any:
        """The gradients over the scale, in at least float32: in float16 they would vanish."""
        return tree.map(lambda g: _at_least_float32(jnp.asarray(g)) * (1 / self.loss_scale), grads)


@register_dataclass
@dataclass(frozen=True)
class StaticLossScale(_Scaling):
    """A scale that stays.

    Attributes:
        loss_scale: a scalar; a power of two loses no digits.
    """

    loss_scale: Any = 2.0**15

    def adjust(self, finite: Any) -> StaticLossScale:
        return self


@register_dataclass
@dataclass(frozen=True)
class DynamicLossScale(_Scaling):
    """A scale as large as goes: it shrinks when gradients overflow, and grows after a while without that.

    A pytree: `loss_scale` and `good_steps` are its leaves, and belong into a checkpoint.

    Attributes:
        loss_scale: float32[].
        good_steps: int32[], how many steps in sequence had finite gradients since the scale changed.
        growth_interval: after so many the scale grows.
        growth_factor, backoff_factor: what it is multiplied with to grow, above 1, and to shrink, in (0, 1); powers of
            two lose no digits.
        min_scale, max_scale: it stays between them.

    Raises:
        ValueError: an option is out of range.
    """

    loss_scale: Any = 2.0**15
    good_steps: Any = 0
    growth_interval: int = tree.static(default=2000)
    growth_factor: float = tree.static(default=2.0)
    backoff_factor: float = tree.static(default=0.5)
    min_scale: float = tree.static(default=1.0)
    max_scale: float = tree.static(default=2.0**24)

    def __post_init__(self) -> None:
        if not (self.growth_interval >= 1 and self.growth_factor >= 1 and 0 < self.backoff_factor < 1):
            raise ValueError(
                "DynamicLossScale: growth_interval must be at least 1, growth_factor at least 1 and backoff_factor in "
                f"(0, 1), got {self.growth_interval!r}, {self.growth_factor!r} and {self.backoff_factor!r}"
            )
        if not 0 < self.min_scale <= self.max_scale:
            raise ValueError(
                f"DynamicLossScale: 0 < min_scale <= max_scale must hold, got {self.min_scale!r} and {self.max_scale!r}"
            )
        # numbers become arrays, so that a jitted step compiles once
        if isinstance(self.loss_scale, (int, float)):
            object.__setattr__(self, "loss_scale", jnp.asarray(self.loss_scale, jnp.float32))
        if isinstance(self.good_steps, int):
            object.__setattr__(self, "good_steps", jnp.asarray(self.good_steps, jnp.int32))

    def adjust(self, finite: Any) -> DynamicLossScale:
        """The scale after a step whose gradients were finite, or not: bool[]."""
        good = self.good_steps + 1
        grow = finite & (good >= self.growth_interval)
        larger = jnp.minimum(self.loss_scale * self.growth_factor, self.max_scale)
        smaller = jnp.maximum(self.loss_scale * self.backoff_factor, self.min_scale)
        scale = jnp.where(finite, jnp.where(grow, larger, self.loss_scale), smaller)
        return replace(
            self,
            loss_scale=scale.astype(jnp.float32),
            good_steps=jnp.where(finite & ~grow, good, 0).astype(jnp.int32),
        )


def scaled_value_and_grad(
    f: Callable[..., Any], argnums: int | tuple[int, ...] = 0, has_aux: bool = False
) -> Callable[..., tuple[Any, Any, Any]]:
    """``g(loss_scale, *args) -> (value, grads, finite)``: as `asgfn.value_and_grad`, by way of the scaled loss.

    Arguments:
        f: gives a scalar, or with `has_aux` ``(scalar, anything)``.
        argnums: by which arguments of `f` to differentiate.
        has_aux: see `f`; then `value` is ``(scalar, anything)`` too.

    Returns:
        A function of a loss scale and the arguments of `f`. `value` and `grads` are those of the loss as it is; `finite`,
        bool[], says whether no gradient has a NaN or an infinity: only then may they be used.
    """
    shifted = tuple(n + 1 for n in argnums) if isinstance(argnums, tuple) else argnums + 1

    def scaled(loss_scale: Any, *args: Any) -> tuple[Any, Any]:
        out = f(*args)
        loss = out[0] if has_aux else out
        return loss_scale.scale(loss), out

    def run(loss_scale: Any, *args: Any) -> tuple[Any, Any, Any]:
        (_, out), grads = asgfn.value_and_grad(scaled, argnums=shifted, has_aux=True)(loss_scale, *args)
        finite = all_finite(grads)
        return out, loss_scale.unscale(grads), finite

    return run
