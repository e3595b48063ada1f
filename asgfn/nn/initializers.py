"""Initial values of weights. Each function here, but `zeros` and `ones`, returns an initializer,

    init(key, shape, dtype=float32) -> array

whose values are a function of the key alone. Shapes are read as (..., fan-in axis, fan-out axis).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np

import asgfn
import asgfn.numpy as jnp
from asgfn import dtypes
from asgfn.errors import DTypeError, ShapeError
from asgfn.tracing import Array

Axes = int | Sequence[int]

# Standard deviations of the standard normal truncated to (-2, 2), and of the complex one truncated to modulus 2.
_TRUNCATED_DEVIATION = 0.87962566103423978
_COMPLEX_TRUNCATED_DEVIATION = 0.95311164380491208


class Initializer(Protocol):
    """The type of initializers."""

    def __call__(self, key: Array, shape: Sequence[int], dtype: Any = None) -> Array: ...


def _inexact(name: str, dtype: Any) -> np.dtype:
    dtype = dtypes.default_float() if dtype is None else dtypes.canonicalize(dtype)
    if not dtypes.is_inexact(dtype):
        raise DTypeError(f"{name}: random weights are floating point or complex, got dtype {dtype.name}")
    return dtype


# ---------------------------------------------------------------------------------------------- fixed values
def zeros(key: Array, shape: Sequence[int], dtype: Any = None) -> Array:
    """All zeros; the key is not used."""
    return jnp.zeros(shape, dtype)


def ones(key: Array, shape: Sequence[int], dtype: Any = None) -> Array:
    """All ones; the key is not used."""
    return jnp.ones(shape, dtype)


def constant(value: Any, dtype: Any = None) -> Initializer:
    """All equal to `value` (a scalar, or an array that broadcasts to the shape)."""

    def init(key: Array, shape: Sequence[int], dtype: Any = dtype) -> Array:
        return jnp.full(shape, value, dtype=dtypes.default_float() if dtype is None else dtype)

    return init


# ---------------------------------------------------------------------------------------------- simple distributions
def uniform(scale: Any = 1e-2, dtype: Any = None) -> Initializer:
    """Uniform on [0, scale)."""

    def init(key: Array, shape: Sequence[int], dtype: Any = dtype) -> Array:
        dtype = _inexact("uniform", dtype)
        return asgfn.random.uniform(key, shape, dtype) * jnp.array(scale, dtype)

    return init


def normal(stddev: Any = 1e-2, dtype: Any = None) -> Initializer:
    """Normal with mean 0 and this standard deviation."""

    def init(key: Array, shape: Sequence[int], dtype: Any = dtype) -> Array:
        dtype = _inexact("normal", dtype)
        return asgfn.random.normal(key, shape, dtype) * jnp.array(stddev, dtype)

    return init


def truncated_normal(stddev: Any = 1e-2, dtype: Any = None, lower: Any = -2.0, upper: Any = 2.0) -> Initializer:
    """A standard normal truncated to (lower, upper), times `stddev` (which is the deviation before truncation)."""

    def init(key: Array, shape: Sequence[int], dtype: Any = dtype) -> Array:
        dtype = _inexact("truncated_normal", dtype)
        return asgfn.random.truncated_normal(key, lower, upper, shape, dtype) * jnp.array(stddev, dtype)

    return init


# ---------------------------------------------------------------------------------------------- scaled by fans
def variance_scaling(
    scale: Any,
    mode: str,
    distribution: str,
    in_axis: Axes = -2,
    out_axis: Axes = -1,
    batch_axis: Axes = (),
    dtype: Any = None,
) -> Initializer:
    """Random weights with mean 0 and variance scale / n, so that signals keep their size from layer to layer.

    Arguments:
        scale: positive factor of the variance.
        mode: n is the number of inputs ("fan_in"), outputs ("fan_out"), or their arithmetic or geometric mean
            ("fan_avg", "fan_geo_avg").
        distribution: "truncated_normal" (at two deviations), "normal" or "uniform".
        in_axis, out_axis: the axes of inputs and outputs; all axes in neither, nor in `batch_axis`, are the receptive
            field, whose size multiplies both numbers.
        batch_axis: axes that count independent weights.

    Raises:
        ValueError: an unknown mode or distribution; ShapeError: a shape without the axes named.
    """
    if mode not in _FAN_MODES:
        raise ValueError(f"variance_scaling: mode must be one of {sorted(_FAN_MODES)}, got {mode!r}")
    if distribution not in _DISTRIBUTIONS:
        raise ValueError(
            f"variance_scaling: distribution must be one of {sorted(_DISTRIBUTIONS)}, got {distribution!r}"
        )

    def init(key: Array, shape: Sequence[int], dtype: Any = dtype) -> Array:
        dtype = _inexact("variance_scaling", dtype)
        shape = tuple(shape)
        size = _FAN_MODES[mode](*_fans(shape, in_axis, out_axis, batch_axis))
        variance = jnp.array(scale / max(size, 1.0) if math.prod(shape) == 0 else scale / size, dtype)
        return _DISTRIBUTIONS[distribution](key, shape, dtype, variance)

    return init


_FAN_MODES: dict[str, Callable[[float, float], float]] = {
    "fan_in": lambda fan_in, fan_out: fan_in,
    "fan_out": lambda fan_in, fan_out: fan_out,
    "fan_avg": lambda fan_in, fan_out: (fan_in + fan_out) / 2,
    "fan_geo_avg": lambda fan_in, fan_out: (fan_in * fan_out) ** 0.5,
}


def _fans(shape: tuple[int, ...], in_axis: Axes, out_axis: Axes, batch_axis: Axes) -> tuple[float, float]:
    """The numbers of inputs and outputs that one weight array connects."""
    if in_axis == -2 and len(shape) <= 1:
        raise ShapeError(
            f"initializer: shape {shape} has no fan-in axis; such initializers take at least two axes, "
            "or name the axes with in_axis= and out_axis="
        )

    def size(axes: Axes) -> int:
        try:
            return math.prod(shape[axis] for axis in ((axes,) if isinstance(axes, int) else axes))
        except IndexError:
            raise ShapeError(f"initializer: shape {shape} has no axis {axes}") from None

    inputs, outputs, batch = size(in_axis), size(out_axis), size(batch_axis)
    if not inputs * outputs * batch:
        return float(inputs), float(outputs)
    receptive_field = math.prod(shape) / inputs / outputs / batch
    return inputs * receptive_field, outputs * receptive_field


def _scaled_truncated_normal(key: Array, shape: tuple[int, ...], dtype: np.dtype, variance: Array) -> Array:
    if dtypes.is_complex(dtype):
        stddev = jnp.sqrt(variance) / jnp.array(_COMPLEX_TRUNCATED_DEVIATION, dtype)
        return _complex_truncated_normal(key, 2, shape, dtype) * stddev
    stddev = jnp.sqrt(variance) / jnp.array(_TRUNCATED_DEVIATION, dtype)
    return asgfn.random.truncated_normal(key, -2, 2, shape, dtype) * stddev


def _scaled_normal(key: Array, shape: tuple[int, ...], dtype: np.dtype, variance: Array) -> Array:
    return asgfn.random.normal(key, shape, dtype) * jnp.sqrt(variance)


def _scaled_uniform(key: Array, shape: tuple[int, ...], dtype: np.dtype, variance: Array) -> Array:
    if dtypes.is_complex(dtype):
        return _complex_uniform(key, shape, dtype) * jnp.sqrt(variance)
    return asgfn.random.uniform(key, shape, dtype, -1) * jnp.sqrt(3 * variance)


_DISTRIBUTIONS = {"truncated_normal": _scaled_truncated_normal, "normal": _scaled_normal, "uniform": _scaled_uniform}


def _complex_uniform(key: Array, shape: tuple[int, ...], dtype: np.dtype) -> Array:
    """Uniform on a disk, with unit variance."""
    radius_key, angle_key = asgfn.random.split(key)
    real = dtypes.real_dtype(dtype)
    radius = jnp.sqrt(2 * asgfn.random.uniform(radius_key, shape, real)).astype(dtype)
    return radius * _phase(angle_key, shape, dtype)


def _complex_truncated_normal(key: Array, upper: float, shape: tuple[int, ...], dtype: np.dtype) -> Array:
    """Complex normal, its modulus truncated to `upper`, by inverting the modulus's cumulative probability."""
    radius_key, angle_key = asgfn.random.split(key)
    real = dtypes.real_dtype(dtype)
    below = (1 - jnp.exp(jnp.array(-(upper**2), dtype))) * asgfn.random.uniform(radius_key, shape, real).astype(dtype)
    return jnp.sqrt(-jnp.log(1 - below)) * _phase(angle_key, shape, dtype)


def _phase(key: Array, shape: tuple[int, ...], dtype: np.dtype) -> Array:
    angle = 2 * np.pi * asgfn.random.uniform(key, shape, dtypes.real_dtype(dtype)).astype(dtype)
    return jnp.exp(1j * angle)


def glorot_uniform(in_axis: Axes = -2, out_axis: Axes = -1, batch_axis: Axes = (), dtype: Any = None) -> Initializer:
    """Uniform with variance 2 / (fan_in + fan_out) (Glorot and Bengio, 2010)."""
    return variance_scaling(1.0, "fan_avg", "uniform", in_axis, out_axis, batch_axis, dtype)


def glorot_normal(in_axis: Axes = -2, out_axis: Axes = -1, batch_axis: Axes = (), dtype: Any = None) -> Initializer:
    """Truncated normal with variance 2 / (fan_in + fan_out) (Glorot and Bengio, 2010)."""
    return variance_scaling(1.0, "fan_avg", "truncated_normal", in_axis, out_axis, batch_axis, dtype)


def lecun_uniform(in_axis: Axes = -2, out_axis: Axes = -1, batch_axis: Axes = (), dtype: Any = None) -> Initializer:
    """Uniform with variance 1 / fan_in (LeCun et al., 1998)."""
    return variance_scaling(1.0, "fan_in", "uniform", in_axis, out_axis, batch_axis, dtype)


def lecun_normal(in_axis: Axes = -2, out_axis: Axes = -1, batch_axis: Axes = (), dtype: Any = None) -> Initializer:
    """Truncated normal with variance 1 / fan_in (LeCun et al., 1998)."""
    return variance_scaling(1.0, "fan_in", "truncated_normal", in_axis, out_axis, batch_axis, dtype)


def he_uniform(in_axis: Axes = -2, out_axis: Axes = -1, batch_axis: Axes = (), dtype: Any = None) -> Initializer:
    """Uniform with variance 2 / fan_in, for relu layers (He et al., 2015)."""
    return variance_scaling(2.0, "fan_in", "uniform", in_axis, out_axis, batch_axis, dtype)


def he_normal(in_axis: Axes = -2, out_axis: Axes = -1, batch_axis: Axes = (), dtype: Any = None) -> Initializer:
    """Truncated normal with variance 2 / fan_in, for relu layers (He et al., 2015)."""
    return variance_scaling(2.0, "fan_in", "truncated_normal", in_axis, out_axis, batch_axis, dtype)


xavier_uniform, xavier_normal = glorot_uniform, glorot_normal
kaiming_uniform, kaiming_normal = he_uniform, he_normal


# ---------------------------------------------------------------------------------------------- orthogonal
def orthogonal(scale: Any = 1.0, column_axis: int = -1, dtype: Any = None) -> Initializer:
    """A random matrix with orthonormal columns (or rows, if it is wide), times `scale` (Saxe et al., 2013).

    `column_axis` counts the columns; all other axes together count the rows. Shapes have at least two axes.
    """

    def init(key: Array, shape: Sequence[int], dtype: Any = dtype) -> Array:
        dtype = _inexact("orthogonal", dtype)
        shape = tuple(shape)
        if len(shape) < 2:
            raise ShapeError(f"orthogonal initializer: the shape must have at least two axes, got {shape}")
        if 0 in shape:
            return jnp.zeros(shape, dtype)
        columns = shape[column_axis]
        rows = math.prod(shape) // columns
        matrix = asgfn.random.orthogonal(key, rows, (), dtype, columns)
        axis = column_axis % len(shape)
        matrix = matrix.reshape(*shape[:axis], *shape[axis + 1 :], columns)
        return jnp.array(scale, dtype) * jnp.moveaxis(matrix, -1, axis)

    return init


def delta_orthogonal(scale: Any = 1.0, column_axis: int = -1, dtype: Any = None) -> Initializer:
    """Convolution kernels that are orthogonal at the centre and zero elsewhere (Xiao et al., 2018).

    Shapes are (*window, inputs, outputs) with one to three window axes and no more inputs than outputs.
    """

    def init(key: Array, shape: Sequence[int], dtype: Any = dtype) -> Array:
        dtype = _inexact("delta_orthogonal", dtype)
        shape = tuple(shape)
        if len(shape) not in (3, 4, 5):
            raise ShapeError(f"delta_orthogonal initializer: the shape must have 3, 4 or 5 axes, got {shape}")
        if shape[-1] < shape[-2]:
            raise ShapeError(f"delta_orthogonal initializer: more inputs than outputs in shape {shape}")
        matrix = orthogonal(scale, column_axis, dtype)(key, shape[-2:])
        centre = tuple((size - 1) // 2 for size in shape[:-2])
        return jnp.zeros(shape, dtype).at[centre].set(matrix)

    return init
