"""Targets that are class numbers: checked, and used to pick elements along the class axis."""

from __future__ import annotations

from typing import Any

import numpy as np

import asgfn.numpy as jnp
from asgfn.errors import DTypeError, IndexOutOfRangeError, ShapeError
from asgfn.numpy.arguments import computation_dtype, normalize_axis
from asgfn.tracing import Array, ConcreteArray
from nn_fn.functional.arguments import float_array, integer_array


def scores_of_classes(name: str, input: Any, axis: int | None = None) -> tuple[Array, int]:
    """Scores [N, C, ...] or [C], 16-bit ones in float32, and their class axis: axis 1 of several, unless it is given."""
    input = float_array(name, "input", input)
    if input.ndim == 0:
        raise ShapeError(f"{name}: input must be [N, C], [N, C, ...] or [C], got {input.aval}")
    axis = min(input.ndim - 1, 1) if axis is None else normalize_axis(name, axis, input.shape)
    return input.astype(computation_dtype(input.dtype)), axis


def class_numbers(name: str, target: Any, input: Array, axis: int, ignore_index: int | None = None) -> Array:
    """`target` as int32 or int64, one number for each position of `input` without its class axis.

    Numbers outside of the classes are refused where they are known; in a traced target they pick NaN.

    Raises:
        DTypeError: no integers. ShapeError: another shape. IndexOutOfRangeError: numbers that are no class.
    """
    target = integer_array(name, "target", target)
    wanted = input.shape[:axis] + input.shape[axis + 1 :]
    if target.shape != wanted:
        raise ShapeError(
            f"{name}: target must be the shape of input without its class axis {axis}, {wanted}: "
            f"got input {input.aval}, target {target.aval}"
        )
    if target.dtype != np.int64:
        # Not in unsigned or narrow integers, where -100 is another number.
        target = target.astype(np.int32)
    check_class_numbers(name, target, input.shape[axis], ignore_index)
    return target


def check_class_numbers(name: str, target: Array, classes: int, ignore_index: int | None = None) -> None:
    """Raises `IndexOutOfRangeError` if the values are known and one is no class."""
    if not isinstance(target, ConcreteArray):
        return
    values = np.asarray(target)
    wrong = values[((values < 0) | (values >= classes)) & (values != ignore_index)]
    if wrong.size:
        also = "" if ignore_index is None else f" (or ignore_index = {ignore_index})"
        raise IndexOutOfRangeError(f"{name}: target {wrong[0]} is not a class: there are {classes}, from 0{also}")


def picked(x: Array, classes: Array, axis: int) -> Array:
    """The elements of x at one class for each position along the other axes; NaN where there is no such class."""
    index = jnp.expand_dims(classes, axis)
    return jnp.squeeze(jnp.take_along_axis(x, index, axis=axis, wrap_negative_indices=False), axis)


def class_weights(name: str, weight: Any, input: Array, axis: int) -> Array | None:
    """A weight for each class, in the dtype of `input`; None stays None.

    Raises:
        DTypeError, ShapeError: not floats, or another number of them.
    """
    if weight is None:
        return None
    weight = float_array(name, "weight", weight)
    if weight.shape != (input.shape[axis],):
        raise ShapeError(
            f"{name}: weight must hold one number a class, [{input.shape[axis]}]; got {weight.aval}, input {input.aval}"
        )
    return weight.astype(input.dtype)


def require_integers_or_floats(name: str, target: Array) -> None:
    if not (jnp.issubdtype(target.dtype, jnp.integer) or jnp.issubdtype(target.dtype, jnp.floating)):
        raise DTypeError(
            f"{name}: target must hold class numbers (integers) or probabilities (floats), got {target.aval}"
        )
