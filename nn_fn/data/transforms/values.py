"""Transforms of single values, and of shapes. Arrays may have any leading batch axes."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from asgfn.dtypes import as_dtype, is_bool, is_floating, is_integer
from asgfn.errors import DTypeError, IndexOutOfRangeError, ShapeError


def array_of(owner: str, x: Any) -> np.ndarray:
    """x as a NumPy array of real numbers."""
    array = np.asarray(x)
    if not (is_floating(array.dtype) or is_integer(array.dtype) or is_bool(array.dtype)):
        raise DTypeError(f"{owner}: needs an array of real numbers, got dtype {array.dtype}")
    return array


def float_dtype(dtype: np.dtype) -> np.dtype:
    """The dtype of a result that has fractions: the same for floating point, float32 for integers and booleans."""
    return dtype if is_floating(dtype) else np.dtype(np.float32)


def working_dtype(dtype: np.dtype) -> np.dtype:
    """The dtype to compute in: at least float32."""
    return np.dtype(np.float64 if dtype == np.float64 else np.float32)


@dataclass(frozen=True)
class ToFloat:
    """Numbers as floating point; integers are divided by the largest number of their dtype, so uint8 becomes 0 to 1.

    Arguments:
        dtype: a floating-point dtype.
        scale: False keeps integers as they are.
    """

    dtype: Any = "float32"
    scale: bool = True

    def __post_init__(self) -> None:
        dtype = as_dtype(self.dtype)
        if not is_floating(dtype):
            raise DTypeError(f"ToFloat: dtype must be floating point, got {dtype}")
        object.__setattr__(self, "dtype", dtype.name)

    def __call__(self, x: Any) -> np.ndarray:
        x = array_of("ToFloat", x)
        dtype = as_dtype(self.dtype)
        if not (self.scale and is_integer(x.dtype)):
            return x.astype(dtype)
        wide = np.dtype(np.float64 if dtype == np.float64 or x.dtype.itemsize > 2 else np.float32)
        return (x / wide.type(np.iinfo(x.dtype).max)).astype(dtype, copy=False)


@dataclass(frozen=True)
class OneHot:
    """Class numbers `[...]` as vectors `[..., num_classes]`, 1 at the class and 0 elsewhere.

    Raises:
        IndexOutOfRangeError: (an IndexError) for a number outside of 0 to num_classes - 1.
        DTypeError: for numbers that are not integers.
    """

    num_classes: int
    dtype: Any = "float32"

    def __post_init__(self) -> None:
        if isinstance(self.num_classes, bool) or int(self.num_classes) != self.num_classes or self.num_classes < 1:
            raise ValueError(f"OneHot: num_classes must be an integer of at least 1, got {self.num_classes!r}")
        object.__setattr__(self, "num_classes", int(self.num_classes))
        object.__setattr__(self, "dtype", as_dtype(self.dtype).name)

    def __call__(self, labels: Any) -> np.ndarray:
        labels = np.asarray(labels)
        if not is_integer(labels.dtype):
            raise DTypeError(f"OneHot: class numbers must be integers, got {labels.dtype}")
        wrong = (labels < 0) | (labels >= self.num_classes)
        if wrong.any():
            raise IndexOutOfRangeError(
                f"OneHot: class {labels[wrong].flat[0]} is out of range for num_classes={self.num_classes}"
            )
        return (labels[..., None] == np.arange(self.num_classes)).astype(as_dtype(self.dtype))


@dataclass(frozen=True)
class Clip:
    """Values limited to the range from `low` to `high`; None leaves a side open. NaN stays, and so does the dtype.

    Raises:
        ValueError: for low > high or NaN; for fractional limits of integers.
    """

    low: float | None = None
    high: float | None = None

    def __post_init__(self) -> None:
        for name, limit in (("low", self.low), ("high", self.high)):
            if limit is not None and math.isnan(limit):
                raise ValueError(f"Clip: {name} must be a number, got nan")
        if self.low is not None and self.high is not None and self.low > self.high:
            raise ValueError(f"Clip: low must not be above high, got {self.low} and {self.high}")

    def __call__(self, x: Any) -> np.ndarray:
        x = array_of("Clip", x)
        if is_floating(x.dtype):
            # Python numbers of any size become the nearest of x's dtype, or an infinity
            with np.errstate(over="ignore"):
                low, high = (None if limit is None else x.dtype.type(limit) for limit in (self.low, self.high))
            return np.array(x) if low is None and high is None else np.clip(x, low, high).astype(x.dtype, copy=False)
        smallest, largest = (0, 1) if is_bool(x.dtype) else (np.iinfo(x.dtype).min, np.iinfo(x.dtype).max)
        low, high = _whole_limit(self.low, smallest, largest), _whole_limit(self.high, smallest, largest)
        return np.clip(
            x, x.dtype.type(smallest if low is None else low), x.dtype.type(largest if high is None else high)
        )


def _whole_limit(limit: float | None, smallest: int, largest: int) -> int | None:
    """A limit for integers, moved into the range of their dtype."""
    if limit is None:
        return None
    if math.isfinite(limit) and int(limit) != limit:
        raise ValueError(f"Clip: integers need whole limits, got {limit}; apply ToFloat before Clip")
    return int(min(max(limit, smallest), largest))


@dataclass(frozen=True)
class Log:
    """log(x + eps), in the dtype of x (float32 for integers).

    Arguments:
        eps: keeps zeros finite, at least 0.

    Raises:
        ValueError: for an array with a value below -eps, whose logarithm is not a number.
    """

    eps: float = 1e-8

    def __post_init__(self) -> None:
        if not 0 <= self.eps < math.inf:
            raise ValueError(f"Log: eps must be finite and at least 0, got {self.eps}")

    def __call__(self, x: Any) -> np.ndarray:
        x = array_of("Log", x)
        wide = x.astype(working_dtype(x.dtype), copy=False)
        shifted = wide + wide.dtype.type(self.eps)
        if np.any(shifted < 0):
            raise ValueError(
                f"Log: the smallest value is {np.nanmin(x)}, and logarithms need at least -eps = {-self.eps}"
            )
        with np.errstate(divide="ignore"):  # log(0) is -inf, as it should be with eps=0
            return np.log(shifted).astype(float_dtype(x.dtype), copy=False)


@dataclass(frozen=True)
class Flatten:
    """Axes from `start_axis` on as one, in the order of the indices, whatever the strides in memory.

    Arguments:
        start_axis: how many leading axes stay: 1 for batches, 0 for single items.
    """

    start_axis: int = 1

    def __post_init__(self) -> None:
        if self.start_axis < 0:
            raise ValueError(f"Flatten: start_axis must be at least 0, got {self.start_axis}")

    def __call__(self, x: Any) -> np.ndarray:
        x = np.asarray(x)
        if x.ndim < self.start_axis:
            raise ShapeError(f"Flatten: start_axis={self.start_axis} needs so many axes, got shape {x.shape}")
        kept = x.shape[: self.start_axis]
        return x.reshape(*kept, math.prod(x.shape[self.start_axis :]), order="C")


@dataclass(frozen=True)
class GaussianNoise:
    """Adds independent normal numbers, fresh in each call.

    Arguments:
        std: standard deviation, at least 0, in the unit of x.
        mean: of the noise.

    Raises:
        DTypeError: for integers; apply ToFloat first.
    """

    std: float = 1.0
    mean: float = 0.0
    random: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if not (0 <= self.std < math.inf and math.isfinite(self.mean)):
            raise ValueError(f"GaussianNoise: std must be finite and at least 0, got std={self.std}, mean={self.mean}")

    def __call__(self, x: Any, rng: np.random.Generator) -> np.ndarray:
        x = np.asarray(x)
        if not is_floating(x.dtype):
            raise DTypeError(f"GaussianNoise: needs floating point, got {x.dtype}; apply ToFloat first")
        wide = working_dtype(x.dtype)
        noise = rng.standard_normal(x.shape, dtype=wide)
        return (x + (noise * wide.type(self.std) + wide.type(self.mean))).astype(x.dtype, copy=False)
