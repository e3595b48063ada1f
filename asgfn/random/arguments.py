"""What the samplers' arguments must be, and what to say when they are not."""

from __future__ import annotations

import operator
from typing import Any

import numpy as np

from asgfn import dtypes
from asgfn import numpy as jnp
from asgfn.errors import DTypeError, ShapeError
from asgfn.tracing import Array


def canonical_shape(name: str, shape: Any) -> tuple[int, ...]:
    """A shape as a tuple of ints; an int `n` means `(n,)`."""
    if isinstance(shape, Array):
        shape = np.asarray(shape)
    lengths: tuple[int, ...]
    try:
        lengths = (operator.index(shape),)
    except TypeError:
        try:
            lengths = tuple(operator.index(length) for length in shape)
        except TypeError:
            raise ShapeError(
                f"random.{name}: a shape is a tuple of integers, got {shape!r} of type {type(shape).__name__}"
            ) from None
    if any(length < 0 for length in lengths):
        raise ShapeError(f"random.{name}: lengths of axes must not be negative, got shape {lengths}")
    return lengths


def float_dtype(name: str, dtype: Any, *, allow_complex: bool = False) -> np.dtype:
    """The dtype of a sampler's result: floating point, `float32` (`float64` under `enable_x64`) by default."""
    if dtype is None:
        return dtypes.default_float()
    dtype = dtypes.canonicalize(dtype)
    if dtypes.is_floating(dtype) or (allow_complex and dtypes.is_complex(dtype)):
        return dtype
    wanted = "a floating-point or complex dtype" if allow_complex else "a floating-point dtype"
    raise DTypeError(
        f"random.{name} makes {wanted}, not {dtype.name}; convert the samples with .astype({dtype.name!r})"
    )


def int_dtype(name: str, dtype: Any) -> np.dtype:
    """The dtype of a sampler's result: an integer dtype, `int32` (`int64` under `enable_x64`) by default."""
    dtype = dtypes.default_int() if dtype is None else dtypes.canonicalize(dtype)
    if not dtypes.is_integer(dtype):
        raise DTypeError(f"random.{name} makes integers, not {dtype.name}; convert the samples with .astype(...)")
    return dtype


def parameter(name: str, label: str, value: Any, dtype: np.dtype | None = None) -> Array:
    """A parameter of a distribution as a real array of this dtype (by default its own, at least floating point)."""
    array = jnp.asarray(value)
    if dtypes.is_complex(array.dtype):
        raise DTypeError(f"random.{name}: {label} must be real, got {array.dtype.name}")
    if dtype is None:
        dtype = dtypes.to_inexact(array.dtype)
    return array.astype(dtype)


def batch_shape(name: str, shape: Any, **shapes: tuple[int, ...]) -> tuple[int, ...]:
    """The shape of the result: the one asked for, or that to which the parameters' shapes broadcast.

    Raises:
        ShapeError: the parameters do not broadcast to it.
    """
    listed = ", ".join(f"{label} {got}" for label, got in shapes.items())
    try:
        joint = np.broadcast_shapes(*shapes.values())
    except ValueError:
        raise ShapeError(f"random.{name}: the parameters' shapes do not broadcast together: {listed}") from None
    if shape is None:
        return joint
    shape = canonical_shape(name, shape)
    try:
        fits = np.broadcast_shapes(shape, joint) == shape
    except ValueError:
        fits = False
    if not fits:
        raise ShapeError(
            f"random.{name}: the parameters' shapes must broadcast to shape={shape}, got {listed}. The shape is that "
            "of the whole result, batch axes of the parameters included"
        )
    return shape


def check_probability(name: str, p: Any) -> None:
    """Raises ValueError for a probability that is known now, as a Python or NumPy number, and lies outside [0, 1]."""
    if isinstance(p, int | float | np.ndarray | np.generic):
        outside = np.asarray(p)[~((np.asarray(p) >= 0) & (np.asarray(p) <= 1) | np.isnan(p))]
        if outside.size:
            raise ValueError(f"random.{name}: probabilities lie between 0 and 1, got p={outside.flat[0]}")


def check_bounds(name: str, minval: Any, maxval: Any) -> None:
    """Raises ValueError for Python numbers minval > maxval."""
    if isinstance(minval, int | float) and isinstance(maxval, int | float) and minval > maxval:
        raise ValueError(f"random.{name}: minval={minval} is greater than maxval={maxval}")
