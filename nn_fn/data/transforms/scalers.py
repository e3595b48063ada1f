"""Transforms that shift and scale by statistics, which they find on training data and keep."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from asgfn.errors import ShapeError
from nn_fn.data.describe import describe
from nn_fn.data.transforms.values import array_of, float_dtype, working_dtype

CHUNK = 2**22  # numbers that are converted to float64 at a time


@dataclass(frozen=True)
class Normalize:
    """(x - mean) / std, with a mean and a standard deviation for each channel, or one for all.

    Arguments:
        mean, std: numbers, or sequences of one number a channel; std must be positive.
        channel_axis: which axis has the channels, counted from the end so that batch axes may come before: -3 for
            [..., channels, height, width], -1 for channels last. Without effect when mean and std are single numbers.

    Returns:
        An array of x's shape and floating-point dtype; float32 for integers, which are not scaled to 0 to 1 first.

    Raises:
        ShapeError: when x has another number of channels.
    """

    mean: float | Sequence[float]
    std: float | Sequence[float]
    channel_axis: int = -3

    def __post_init__(self) -> None:
        for name in ("mean", "std"):
            value = np.asarray(getattr(self, name), np.float64)
            if value.ndim > 1 or not np.all(np.isfinite(value)):
                raise ValueError(
                    f"Normalize: {name} must be a finite number or one a channel, got {getattr(self, name)}"
                )
            object.__setattr__(self, name, tuple(value.tolist()) if value.ndim else float(value))
        if np.any(np.asarray(self.std) <= 0):
            raise ValueError(f"Normalize: std must be positive, got {self.std}")
        if self.channel_axis >= 0:
            raise ValueError(f"Normalize: channel_axis counts from the end and is negative, got {self.channel_axis}")
        lengths = {len(v) for v in (self.mean, self.std) if isinstance(v, tuple)}
        if len(lengths) > 1:
            raise ShapeError(f"Normalize: mean and std must have one length, got {self.mean} and {self.std}")

    @classmethod
    def imagenet(cls, channel_axis: int = -3) -> Normalize:
        """For RGB images from 0 to 1 and networks trained on ImageNet: the statistics that torchvision documents."""
        return cls((0.485, 0.456, 0.406), (0.229, 0.224, 0.225), channel_axis)

    @classmethod
    def fit(cls, data: Any, channel_axis: int | None = -3) -> Normalize:
        """Statistics of training data.

        Arguments:
            data: a batch [n, ...].
            channel_axis: negative; None for one mean and one standard deviation of everything.

        A channel that is constant gets std 1.
        """
        data = array_of("Normalize.fit", data)
        if channel_axis is None:
            mean, std = _mean_and_std("Normalize.fit", data, tuple(range(data.ndim)))
            return cls(float(mean.item()), float(std.item()))
        if not -data.ndim < channel_axis < 0:
            raise ShapeError(
                f"Normalize.fit: channel_axis={channel_axis} must be negative, and lie after the first axis, which counts "
                f"items; the data have shape {data.shape}. For images without channels pass channel_axis=None."
            )
        axes = tuple(a for a in range(data.ndim) if a != data.ndim + channel_axis)
        mean, std = _mean_and_std("Normalize.fit", data, axes)
        return cls(tuple(mean.ravel().tolist()), tuple(std.ravel().tolist()), channel_axis)

    def _statistics(self, owner: str, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        dtype = working_dtype(x.dtype)
        mean, std = np.asarray(self.mean, dtype), np.asarray(self.std, dtype)
        channels = max(mean.size, std.size) if mean.ndim or std.ndim else None
        if channels is None:
            return mean, std
        if x.ndim < -self.channel_axis or x.shape[self.channel_axis] != channels:
            raise ShapeError(
                f"{owner}: mean and std have {channels} channels, so axis {self.channel_axis} must have that length; got "
                f"shape {x.shape}. channel_axis says where channels are."
            )
        trailing = (1,) * (-self.channel_axis - 1)
        return (v.reshape(-1, *trailing) if v.ndim else v for v in (mean, std))  # type: ignore[return-value]

    def __call__(self, x: Any) -> np.ndarray:
        x = array_of("Normalize", x)
        mean, std = self._statistics("Normalize", x)
        return ((x.astype(mean.dtype, copy=False) - mean) / std).astype(float_dtype(x.dtype), copy=False)

    def inverse(self, y: Any) -> np.ndarray:
        """y * std + mean, the opposite."""
        y = array_of("Normalize.inverse", y)
        mean, std = self._statistics("Normalize.inverse", y)
        return (y.astype(mean.dtype, copy=False) * std + mean).astype(float_dtype(y.dtype), copy=False)


class _Scaler:
    """What the scalers share: comparison by content, and applying statistics to trailing axes."""

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and describe(self) == describe(other)

    def __hash__(self) -> int:
        return hash(describe(self))

    def _apply(self, x: Any, formula: Callable[[np.ndarray], np.ndarray], statistics: np.ndarray) -> np.ndarray:
        owner = type(self).__name__
        x = array_of(owner, x)
        trailing = x.shape[x.ndim - statistics.ndim :]
        if statistics.ndim > x.ndim or any(s not in (1, n) for s, n in zip(statistics.shape, trailing, strict=True)):
            raise ShapeError(
                f"{owner}: was fitted to items of shape {statistics.shape}, which the last axes must have; got {x.shape}"
            )
        # in float64: means of float32 data may be large beside their spread
        return formula(x.astype(np.float64)).astype(float_dtype(x.dtype), copy=False)


@dataclass(frozen=True, eq=False)
class StandardScaler(_Scaler):
    """(x - mean) / std for each feature; make one with `StandardScaler.fit(training_data)`.

    Attributes:
        mean, std: float64 arrays of the shape of an item (1 along axes that share their statistics).
    """

    mean: np.ndarray
    std: np.ndarray

    def __post_init__(self) -> None:
        _freeze(self, "mean", "std")
        if np.any(self.std <= 0):
            raise ValueError("StandardScaler: std must be positive")

    @classmethod
    def fit(cls, data: Any, axis: int | Sequence[int] | None = 0) -> StandardScaler:
        """Statistics of training data.

        Arguments:
            data: [n, ...].
            axis: axes over which statistics are taken, among them 0; None for all.

        The standard deviation is that of the population (divided by n). A constant feature gets std 1, so that it becomes
        0.

        Raises:
            ValueError: for data that are empty, or hold NaN or infinities.
        """
        data = array_of("StandardScaler.fit", data)
        return cls(*(_without_first(v) for v in _mean_and_std("StandardScaler.fit", data, _axes(data, axis))))

    def __call__(self, x: Any) -> np.ndarray:
        return self._apply(x, lambda v: (v - self.mean) / self.std, self.mean)

    def inverse(self, y: Any) -> np.ndarray:
        """y * std + mean, the opposite."""
        return self._apply(y, lambda v: v * self.std + self.mean, self.mean)


@dataclass(frozen=True, eq=False)
class MinMaxScaler(_Scaler):
    """Maps the range of each feature in the training data to the range from `low` to `high`; see `MinMaxScaler.fit`.

    Values outside of the range of the training data come out outside of [low, high].

    Attributes:
        minimum, maximum: float64 arrays of the shape of an item (1 along axes that share their statistics).
    """

    minimum: np.ndarray
    maximum: np.ndarray
    low: float = 0.0
    high: float = 1.0

    def __post_init__(self) -> None:
        _freeze(self, "minimum", "maximum")
        if not (self.low < self.high and math.isfinite(self.high - self.low)):
            raise ValueError(f"MinMaxScaler: low must be below high, got {self.low} and {self.high}")
        with np.errstate(over="ignore"):
            span = self.maximum - self.minimum
        if np.any(span < 0) or not np.all(np.isfinite(span)):
            raise ValueError("MinMaxScaler: maximum - minimum must be finite and at least 0")

    @classmethod
    def fit(
        cls, data: Any, axis: int | Sequence[int] | None = 0, *, low: float = 0.0, high: float = 1.0
    ) -> MinMaxScaler:
        """Smallest and largest values of training data.

        Arguments:
            data: [n, ...].
            axis: axes over which they are taken, among them 0; None for all.
            low, high: what they become. A constant feature becomes `low`.

        Raises:
            ValueError: for data that are empty, or hold NaN or infinities.
        """
        owner = "MinMaxScaler.fit"
        data = array_of(owner, data)
        axes = _axes(data, axis)
        _check_not_empty(owner, data, axes)
        limits = [np.asarray(f(data, axis=axes, keepdims=True), np.float64) for f in (np.min, np.max)]
        _check_finite(owner, *limits)
        return cls(_without_first(limits[0]), _without_first(limits[1]), low, high)

    def _span(self) -> np.ndarray:
        span = self.maximum - self.minimum
        return np.where(span > 0, span, 1.0)

    def __call__(self, x: Any) -> np.ndarray:
        return self._apply(
            x, lambda v: (v - self.minimum) / self._span() * (self.high - self.low) + self.low, self.minimum
        )

    def inverse(self, y: Any) -> np.ndarray:
        """The opposite."""
        return self._apply(
            y, lambda v: (v - self.low) / (self.high - self.low) * self._span() + self.minimum, self.minimum
        )


def _freeze(record: Any, *names: str) -> None:
    """Fields as read-only float64 arrays of one shape."""
    for name in names:
        value = np.array(getattr(record, name), np.float64)
        _check_finite(type(record).__name__, value)
        value.flags.writeable = False
        object.__setattr__(record, name, value)
    shapes = [getattr(record, name).shape for name in names]
    if len(set(shapes)) > 1:
        raise ShapeError(f"{type(record).__name__}: {' and '.join(names)} must have one shape, got {shapes}")


def _axes(data: np.ndarray, axis: int | Sequence[int] | None) -> tuple[int, ...]:
    axes = range(data.ndim) if axis is None else (axis,) if isinstance(axis, int) else axis
    found = np.lib.array_utils.normalize_axis_tuple(tuple(axes), data.ndim)
    if 0 not in found:
        raise ShapeError(
            f"fit: axis must contain 0, the axis that counts items; got axis={axis} for shape {data.shape}"
        )
    return found


def _without_first(statistics: np.ndarray) -> np.ndarray:
    """Statistics without the axis that counted items, and without leading axes that all features share."""
    statistics = statistics[0]
    return statistics.reshape(()) if statistics.size == 1 and all(n == 1 for n in statistics.shape) else statistics


def _check_not_empty(owner: str, data: np.ndarray, axes: tuple[int, ...]) -> None:
    if math.prod(data.shape[a] for a in axes) == 0:
        raise ValueError(f"{owner}: needs data, got shape {data.shape}")


def _check_finite(owner: str, *arrays: np.ndarray) -> None:
    if not all(np.all(np.isfinite(a)) for a in arrays):
        raise ValueError(f"{owner}: data and statistics must be finite; they hold NaN or infinities, or overflow")


def _mean_and_std(owner: str, data: np.ndarray, axes: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """float64 statistics with reduced axes kept as 1; 0 is among the axes. Two passes, in chunks."""
    _check_not_empty(owner, data, axes)
    count = math.prod(data.shape[a] for a in axes)
    with np.errstate(over="ignore", invalid="ignore"):
        mean = sum(chunk.sum(axes, keepdims=True) / count for chunk in _chunks(data))
        variance = sum(((chunk - mean) ** 2).sum(axes, keepdims=True) / count for chunk in _chunks(data))
    mean, variance = np.asarray(mean), np.asarray(variance)
    _check_finite(owner, mean, variance)
    std = np.sqrt(variance)
    # what rounding alone makes of a constant feature
    constant = std <= 8 * np.finfo(np.float64).eps * np.abs(mean)
    return mean, np.where(constant, 1.0, std)


def _chunks(data: np.ndarray) -> Iterator[np.ndarray]:
    rows = max(1, CHUNK // max(1, data[:1].size))
    for start in range(0, len(data), rows):
        yield data[start : start + rows].astype(np.float64)
