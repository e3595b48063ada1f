"""Normalisation: batch, layer, group, instance, root-mean-square and local response.

All subtract a mean before they square (two passes), so that data far from zero keep their digits, and all compute in
float32 when given 16-bit floats. The result has the dtype of x.

Running statistics are state, and state is handled as everywhere in this library: who passes it in gets it back. With
running statistics `batch_norm` and `instance_norm` return ``(y, running_mean, running_var)``, whether they are
training or not; without they return y.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

import asgfn
import asgfn.numpy as jnp
from asgfn import lax
from asgfn.errors import ShapeError
from asgfn.numpy.arguments import canonical_shape, computation_dtype, to_array
from asgfn.tracing import Array
from nn_fn.functional.arguments import float_array, static_int


def batch_norm(
    x: Any,
    running_mean: Any = None,
    running_var: Any = None,
    weight: Any = None,
    bias: Any = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Any:
    """(x - mean) / sqrt(var + eps) * weight + bias, with one mean and variance a channel (Ioffe and Szegedy, 2015).

    Training uses the statistics of this batch, over all axes but the channels'; otherwise the running ones are used.

    Arguments:
        x: float, [N, C] or [N, C, ...].
        running_mean, running_var: float, [C], or both None (only in training).
        weight, bias: float, [C], or None.
        training: whether the batch's own statistics are used, and the running ones moved.
        momentum: share of the new statistics in the running ones: new = (1 - momentum) old + momentum batch. The
            running variance takes the unbiased one, with n - 1.
        eps: added to the variance.

    Returns:
        ``(y, running_mean, running_var)`` when running statistics are given, unchanged ones if not training; y alone
        when they are not. The running statistics are constants of differentiation.

    Raises:
        ShapeError: x has fewer than 2 axes or, in training, one value a channel; a vector is not [C].
        DTypeError: x is not floating point.
        ValueError: there are no running statistics to use, or only one of them.
    """
    name = "batch_norm"
    x = float_array(name, "x", x)
    if x.ndim < 2:
        raise ShapeError(f"{name}: x must be [N, C] or [N, C, ...], got {x.aval}")
    axes = (0, *range(2, x.ndim))
    affine, running = (weight, bias), (running_mean, running_var)
    return _with_running(name, x, axes, affine, running, training, momentum, eps, "training=True")


def instance_norm(
    x: Any,
    running_mean: Any = None,
    running_var: Any = None,
    weight: Any = None,
    bias: Any = None,
    use_input_stats: bool = True,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Any:
    """`batch_norm` with statistics of each channel of each example (Ulyanov et al., 2016).

    Arguments:
        x: float, [N, C, ...] with at least one axis after the channels.
        running_mean, running_var: float, [C], or both None (only with `use_input_stats`).
        weight, bias: float, [C], or None.
        use_input_stats: whether the input's own statistics are used, and the running ones moved (towards the mean over
            the batch).
        momentum, eps: see `batch_norm`.

    Returns:
        ``(y, running_mean, running_var)`` when running statistics are given, y alone when they are not.

    Raises:
        ShapeError, DTypeError, ValueError: as `batch_norm`.
    """
    name = "instance_norm"
    x = float_array(name, "x", x)
    if x.ndim < 3:
        raise ShapeError(f"{name}: x must be [N, C, ...] with axes after the channels, got {x.aval}")
    axes = tuple(range(2, x.ndim))
    affine, running = (weight, bias), (running_mean, running_var)
    return _with_running(name, x, axes, affine, running, use_input_stats, momentum, eps, "use_input_stats=True")


def _with_running(
    name: str,
    x: Array,
    axes: tuple[int, ...],
    affine: tuple[Any, Any],
    running: tuple[Any, Any],
    own: bool,
    momentum: float,
    eps: float,
    remedy: str,
) -> Any:
    """Normalises over `axes`, by x's own statistics or by running ones, and moves those."""
    mean, variance = running
    if (mean is None) != (variance is None):
        raise ValueError(f"{name}: running_mean and running_var come together; only one of them was given")
    if not own and mean is None:
        raise ValueError(f"{name}: there are no statistics to use: pass running_mean and running_var, or {remedy}")
    count = math.prod(x.shape[axis] for axis in axes)
    if own and count == 1:
        raise ShapeError(f"{name}: a variance needs more than one value a channel, got {x.aval}")
    channels = (x.shape[1],)
    old = None
    if mean is not None:
        old = (
            _fitting(name, "running_mean", mean, channels, "[C]"),
            _fitting(name, "running_var", variance, channels, "[C]"),
        )
    weight, bias = _scale_and_shift(name, *affine, channels, "[C]")
    per_channel = (1, -1) + (1,) * (x.ndim - 2)
    y = x.astype(computation_dtype(x.dtype))
    new = old
    if own:
        mean, variance, centred = _moments(y, axes)
        if old is not None and x.size:
            unbiased = variance * (count / (count - 1))
            new = (_moved(old[0], mean, momentum), _moved(old[1], unbiased, momentum))
    else:
        assert old is not None, "refused above"
        mean, variance = (statistic.astype(y.dtype).reshape(per_channel) for statistic in old)
        centred = y - mean
    y = _scaled(centred * lax.rsqrt(variance + eps), weight, bias, per_channel).astype(x.dtype)
    return y if new is None else (y, *new)


def _moments(x: Array, axes: tuple[int, ...]) -> tuple[Array, Array, Array]:
    """Mean, biased variance (axes kept) and x - mean."""
    mean = jnp.mean(x, axis=axes, keepdims=True)
    return mean, _variance(x, mean, axes), x - mean


@functools.partial(asgfn.custom_jvp, nondiff_argnums=(2,))
def _variance(x: Array, mean: Array, axes: tuple[int, ...]) -> Array:
    """The biased variance of x, whose mean is known (axes kept).

    Its derivative is mean(2 (x - mean) dx), without a part for the mean: the deviations add up to 0. So a gradient goes
    through x once less.
    """
    return jnp.mean(jnp.square(x - mean), axis=axes, keepdims=True)


@_variance.defjvp
def _variance_jvp(
    axes: tuple[int, ...], primals: tuple[Array, Array], tangents: tuple[Any, Any]
) -> tuple[Array, Array]:
    x, mean = primals
    dx, _ = tangents
    return _variance(x, mean, axes), jnp.mean(2 * (x - mean) * dx, axis=axes, keepdims=True)


def _moved(old: Array, new: Array, momentum: float) -> Array:
    """A running statistic [C] after `new`, [N or 1, C, 1, ...]."""
    new = lax.stop_gradient(new)
    new = jnp.mean(new.reshape(new.shape[:2]), axis=0)
    return ((1 - momentum) * old + momentum * new).astype(old.dtype)


def layer_norm(
    x: Any, normalized_shape: int | Sequence[int], weight: Any = None, bias: Any = None, eps: float = 1e-5
) -> Array:
    """(x - mean) / sqrt(var + eps) * weight + bias over the last axes (Ba et al., 2016).

    Arguments:
        x: float, [..., *normalized_shape].
        normalized_shape: the sizes of the axes that are normalised together; an int stands for one axis.
        weight, bias: float, of shape `normalized_shape`, or None.
        eps: added to the variance, which is the biased one.

    Raises:
        ShapeError: x does not end in `normalized_shape`, or weight or bias have another shape.
        DTypeError: x is not floating point.
    """
    x, shape, axes = _last_axes("layer_norm", x, normalized_shape)
    weight, bias = _scale_and_shift("layer_norm", weight, bias, shape, "normalized_shape")
    _, variance, centred = _moments(x.astype(computation_dtype(x.dtype)), axes)
    return _scaled(centred * lax.rsqrt(variance + eps), weight, bias, shape).astype(x.dtype)


def rms_norm(x: Any, normalized_shape: int | Sequence[int], weight: Any = None, eps: float | None = None) -> Array:
    """x / sqrt(mean(x^2) + eps) * weight over the last axes (Zhang and Sennrich, 2019).

    Arguments:
        x: float, [..., *normalized_shape].
        normalized_shape: the sizes of the axes that are normalised together; an int stands for one axis.
        weight: float, of shape `normalized_shape`, or None.
        eps: added to the mean square; None is the machine epsilon of x's dtype.

    Raises:
        ShapeError: x does not end in `normalized_shape`, or weight has another shape.
        DTypeError: x is not floating point.
    """
    x, shape, axes = _last_axes("rms_norm", x, normalized_shape)
    weight, _ = _scale_and_shift("rms_norm", weight, None, shape, "normalized_shape")
    eps = float(jnp.finfo(x.dtype).eps) if eps is None else eps
    y = x.astype(computation_dtype(x.dtype))
    mean_square = jnp.mean(jnp.square(y), axis=axes, keepdims=True)
    return _scaled(y * lax.rsqrt(mean_square + eps), weight, None, shape).astype(x.dtype)


def group_norm(x: Any, num_groups: int, weight: Any = None, bias: Any = None, eps: float = 1e-5) -> Array:
    """(x - mean) / sqrt(var + eps) * weight + bias over groups of channels of each example (Wu and He, 2018).

    Arguments:
        x: float, [N, C, ...].
        num_groups: how many groups the channels are divided into; must divide C.
        weight, bias: float, [C], or None.
        eps: added to the variance, which is the biased one.

    Raises:
        ShapeError: x has fewer than 2 axes, the groups do not divide the channels, a vector is not [C].
        DTypeError: x is not floating point.
        ValueError: num_groups is below 1.
    """
    x = float_array("group_norm", "x", x)
    if x.ndim < 2:
        raise ShapeError(f"group_norm: x must be [N, C] or [N, C, ...], got {x.aval}")
    num_groups = static_int("group_norm", "num_groups", num_groups, least=1)
    batch, channels = x.shape[:2]
    if channels % num_groups:
        raise ShapeError(f"group_norm: {num_groups} groups do not divide {channels} channels: x is {x.aval}")
    weight, bias = _scale_and_shift("group_norm", weight, bias, (channels,), "[C]")
    grouped = x.reshape(batch, num_groups, channels // num_groups, *x.shape[2:])
    _, variance, centred = _moments(grouped.astype(computation_dtype(x.dtype)), tuple(range(2, grouped.ndim)))
    y = (centred * lax.rsqrt(variance + eps)).reshape(x.shape)
    return _scaled(y, weight, bias, (1, -1) + (1,) * (x.ndim - 2)).astype(x.dtype)


def local_response_norm(x: Any, size: int, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0) -> Array:
    """x / (k + alpha * mean of x^2 over `size` neighbouring channels)^beta (Krizhevsky et al., 2012).

    As in PyTorch the sum over neighbours is divided by `size` at the borders too, where there are fewer.

    Arguments:
        x: float, [N, C, ...] with at least one axis after the channels.
        size: how many channels count as neighbours: size // 2 before, and (size - 1) // 2 after.

    Raises:
        ShapeError: x has fewer than 3 axes.
        DTypeError: x is not floating point.
        ValueError: size is below 1.
    """
    x = float_array("local_response_norm", "x", x)
    if x.ndim < 3:
        raise ShapeError(f"local_response_norm: x must be [N, C, ...] with axes after the channels, got {x.aval}")
    size = static_int("local_response_norm", "size", size, least=1)
    y = x.astype(computation_dtype(x.dtype))
    window = (1, size, *(1,) * (x.ndim - 2))
    padding = [(0, 0), (size // 2, (size - 1) // 2), *[(0, 0)] * (x.ndim - 2)]
    total = lax.reduce_window(jnp.square(y), np.zeros((), y.dtype), lax.add, window, padding=padding)
    return (y / (k + alpha / size * total) ** beta).astype(x.dtype)


def _last_axes(name: str, x: Any, normalized_shape: Any) -> tuple[Array, tuple[int, ...], tuple[int, ...]]:
    """x as an array, `normalized_shape` as a tuple, and the axes of x that it names."""
    x = float_array(name, "x", x)
    shape = canonical_shape(name, normalized_shape)
    if not shape or x.shape[-len(shape) :] != shape:
        raise ShapeError(f"{name}: x must end in the axes normalized_shape = {shape}, got {x.aval}")
    return x, shape, tuple(range(x.ndim - len(shape), x.ndim))


def _fitting(name: str, what: str, value: Any, shape: tuple[int, ...], letters: str) -> Array:
    value = to_array(name, value)
    if value.shape != shape:
        raise ShapeError(f"{name}: {what} must have the shape {letters} = {shape}, got {value.aval}")
    return value


def _scale_and_shift(name: str, weight: Any, bias: Any, shape: tuple[int, ...], letters: str) -> tuple[Any, Any]:
    return (
        None if weight is None else _fitting(name, "weight", weight, shape, letters),
        None if bias is None else _fitting(name, "bias", bias, shape, letters),
    )


def _scaled(y: Array, weight: Array | None, bias: Array | None, shape: tuple[int, ...]) -> Array:
    """y * weight + bias, both seen in a shape that broadcasts with y."""
    if weight is not None:
        y = y * weight.reshape(shape).astype(y.dtype)
    if bias is not None:
        y = y + bias.reshape(shape).astype(y.dtype)
    return y
