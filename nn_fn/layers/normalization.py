"""Normalisation layers; their formulas stand at the functions of the same name in `nn_fn.functional`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import asgfn.numpy as jnp
from asgfn.errors import ShapeError
from nn_fn import functional as F
from nn_fn.layers.checks import positive
from nn_fn.layers.configuration import constructor
from nn_fn.layers.layer import Layer, simple


@constructor
def batch_norm(
    features: int,
    eps: float = 1e-5,
    momentum: float = 0.1,
    affine: bool = True,
    track_running_stats: bool = True,
) -> Layer:
    """Normalises each channel of [N, C] or [N, C, ...] over everything else (S. Ioffe, C. Szegedy, 2015).

    While training it uses the batch's own statistics, and moves the running ones in its state towards them; otherwise
    it uses the running ones. Parameters: ``weight`` [C], ones, and ``bias`` [C], zeros. State: ``mean`` [C], zeros, and
    ``var`` [C], ones.

    Arguments:
        features: C.
        momentum: the share of a new batch in the running statistics.
        affine: whether there are weight and bias.
        track_running_stats: without them, the batch's own statistics are used always, and there is no state.

    Raises (when called):
        ShapeError: x does not have C channels, or training sees one value a channel.
    """
    function = F.batch_norm
    return _with_running_statistics("batch_norm", function, features, eps, momentum, affine, track_running_stats)


@constructor
def instance_norm(
    features: int,
    eps: float = 1e-5,
    momentum: float = 0.1,
    affine: bool = False,
    track_running_stats: bool = False,
) -> Layer:
    """Normalises each channel of each example of [N, C, ...] (D. Ulyanov et al., 2016).

    Parameters, state and arguments are those of `batch_norm`, with other defaults, as PyTorch's.
    """
    function = F.instance_norm
    return _with_running_statistics("instance_norm", function, features, eps, momentum, affine, track_running_stats)


def _with_running_statistics(
    name: str, function: Callable, features: int, eps: float, momentum: float, affine: bool, track: bool
) -> Layer:
    positive(name, features=features)

    def init(key: Any) -> tuple[dict, dict]:
        params = {"weight": jnp.ones(features), "bias": jnp.zeros(features)} if affine else {}
        return params, {"mean": jnp.zeros(features), "var": jnp.ones(features)} if track else {}

    def apply(params: Any, state: Any, x: Any, key: Any, train: bool) -> tuple[Any, Any]:
        x = jnp.asarray(x)
        if x.ndim < 2 or x.shape[1] != features:
            raise ShapeError(f"{name}({features}): the input must be [N, {features}, ...], got {x.aval}")
        scale = params.get("weight"), params.get("bias")
        if not track:
            return function(x, None, None, *scale, True, momentum, eps), state
        y, mean, var = function(x, state["mean"], state["var"], *scale, train, momentum, eps)
        return y, {"mean": mean, "var": var}

    return Layer(name, {}, init, apply, stateful=track)


@constructor
def layer_norm(
    features: int | Sequence[int], eps: float = 1e-5, elementwise_affine: bool = True, bias: bool = True
) -> Layer:
    """Normalises over the last axes, whose sizes are `features` (J. Ba et al., 2016).

    Parameters: ``weight``, ones, and ``bias``, zeros, both of shape `features`.
    """
    shape = _shape("layer_norm", features)

    def init(key: Any) -> dict[str, Any]:
        if not elementwise_affine:
            return {}
        return {"weight": jnp.ones(shape), **({"bias": jnp.zeros(shape)} if bias else {})}

    return simple(
        "layer_norm", lambda params, x: F.layer_norm(x, shape, params.get("weight"), params.get("bias"), eps), init
    )


@constructor
def rms_norm(features: int | Sequence[int], eps: float | None = None, elementwise_affine: bool = True) -> Layer:
    """Divides by the root of the mean square over the last axes, whose sizes are `features` (B. Zhang, R. Sennrich, 2019).

    Parameter: ``weight``, ones, of shape `features`. eps None is the machine epsilon of the input's dtype.
    """
    shape = _shape("rms_norm", features)
    return simple(
        "rms_norm",
        lambda params, x: F.rms_norm(x, shape, params.get("weight"), eps),
        lambda key: {"weight": jnp.ones(shape)} if elementwise_affine else {},
    )


@constructor
def group_norm(groups: int, features: int, eps: float = 1e-5, affine: bool = True) -> Layer:
    """Normalises `groups` groups of channels of each example of [N, features, ...] (Y. Wu, K. He, 2018).

    Parameters: ``weight`` [features], ones, and ``bias`` [features], zeros.

    Raises:
        ValueError: the groups do not divide the features.
    """
    positive("group_norm", groups=groups, features=features)
    if features % groups:
        raise ValueError(f"group_norm: groups={groups} must divide features={features}")

    def apply(params: Any, x: Any) -> Any:
        x = jnp.asarray(x)
        if x.ndim < 2 or x.shape[1] != features:
            raise ShapeError(f"group_norm({groups}, {features}): the input must be [N, {features}, ...], got {x.aval}")
        return F.group_norm(x, groups, params.get("weight"), params.get("bias"), eps)

    def init(key: Any) -> dict[str, Any]:
        return {"weight": jnp.ones(features), "bias": jnp.zeros(features)} if affine else {}

    return simple("group_norm", apply, init)


@constructor
def local_response_norm(size: int, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0) -> Layer:
    """Divides by a power of the mean square over neighbouring channels (A. Krizhevsky et al., 2012)."""
    return simple("local_response_norm", lambda params, x: F.local_response_norm(x, size, alpha, beta, k))


def _shape(name: str, features: int | Sequence[int]) -> tuple[int, ...]:
    shape = (features,) if isinstance(features, int) else tuple(features)
    for size in shape:
        positive(name, features=size)
    return shape
