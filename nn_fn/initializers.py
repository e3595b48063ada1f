"""Initial values of weights: pure functions ``(key, shape) -> array``, as records that can be saved with an architecture.

    linear(64, 10, weight_init=initializers.xavier_uniform(gain=2.0))
    linear(64, 10, weight_init="orthogonal")         # by name, with the defaults

How many inputs and outputs a weight connects depends on its layout, which layers say with `in_axis` and `out_axis`; all
other axes are the window of a convolution.
"""

from __future__ import annotations

import functools
import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from asgfn import nn
from asgfn.tracing import Array

_makers: dict[str, Callable[..., Initializer]] = {}


@dataclass(frozen=True, eq=False)
class Initializer:
    """An initializer: call it as ``initializer(key, shape, dtype)``.

    Attributes:
        name: of the function in this module that made it.
        config: its arguments.
        fn: ``(key, shape, dtype, in_axis, out_axis) -> array``.
    """

    name: str
    config: Mapping[str, Any]
    fn: Callable[[Any, tuple[int, ...], Any, int, int], Array]

    def __call__(
        self, key: Any, shape: Sequence[int], dtype: Any = None, *, in_axis: int = -2, out_axis: int = -1
    ) -> Array:
        """An array of this shape; default dtype float32.

        Arguments:
            in_axis, out_axis: the axes of the shape that count inputs and outputs.
        """
        return self.fn(key, tuple(shape), dtype, in_axis, out_axis)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Initializer) and (self.name, self.config) == (other.name, other.config)

    def __hash__(self) -> int:
        return hash((self.name, tuple(self.config.items())))

    def __repr__(self) -> str:
        return f"initializers.{self.name}({', '.join(f'{k}={v!r}' for k, v in self.config.items())})"

    def to_config(self) -> dict[str, Any]:
        """Plain data: the name under "initializer", and the arguments."""
        return {"initializer": self.name, **self.config}

    @staticmethod
    def from_config(config: Mapping[str, Any]) -> Initializer:
        """The initializer that plain data describes. Raises ValueError if there is none of that name."""
        return _maker(config["initializer"])(**{k: v for k, v in config.items() if k != "initializer"})


def get(spec: str | Initializer) -> Initializer:
    """An initializer by name (with its defaults), or itself.

    Raises:
        ValueError: there is none of that name; TypeError: neither a name nor an initializer.
    """
    if isinstance(spec, Initializer):
        return spec
    if not isinstance(spec, str):
        raise TypeError(f"an initializer is a name or one of nn_fn.initializers, got {type(spec).__name__}")
    return _maker(spec)()


def _maker(name: str) -> Callable[..., Initializer]:
    if name not in _makers:
        raise ValueError(f"there is no initializer {name!r}; there are {', '.join(sorted(_makers))}")
    return _makers[name]


def _initializer(make: Callable[..., Callable]) -> Callable[..., Initializer]:
    """Turns a function of arguments that gives ``fn`` into one that gives the record."""
    signature = inspect.signature(make)

    @functools.wraps(make)
    def maker(*args: Any, **kwargs: Any) -> Initializer:
        bound = signature.bind(*args, **kwargs)
        bound.apply_defaults()
        return Initializer(make.__name__, MappingProxyType(dict(bound.arguments)), make(*args, **kwargs))

    maker.__annotations__["return"] = Initializer
    _makers[make.__name__] = maker
    return maker


@_initializer
def zeros() -> Any:
    """All zeros."""
    return lambda key, shape, dtype, i, o: nn.initializers.zeros(key, shape, dtype)


@_initializer
def ones() -> Any:
    """All ones."""
    return lambda key, shape, dtype, i, o: nn.initializers.ones(key, shape, dtype)


@_initializer
def constant(value: float) -> Any:
    """All equal to `value`."""
    return lambda key, shape, dtype, i, o: nn.initializers.constant(value)(key, shape, dtype)


@_initializer
def uniform(low: float = 0.0, high: float = 1.0) -> Any:
    """Uniform on [low, high)."""
    if not low < high:
        raise ValueError(f"uniform: low must be below high, got {low} and {high}")

    def fn(key: Any, shape: tuple[int, ...], dtype: Any, i: int, o: int) -> Array:
        return nn.initializers.uniform(high - low)(key, shape, dtype) + low

    return fn


@_initializer
def normal(mean: float = 0.0, stddev: float = 1.0) -> Any:
    """Normal with this mean and standard deviation."""
    return lambda key, shape, dtype, i, o: nn.initializers.normal(stddev)(key, shape, dtype) + mean


@_initializer
def truncated_normal(mean: float = 0.0, stddev: float = 1.0, lower: float = -2.0, upper: float = 2.0) -> Any:
    """Normal with this mean and standard deviation, cut off at mean + lower * stddev and mean + upper * stddev.

    The result's deviation is smaller than `stddev`, which is that before the cut.
    """

    def fn(key: Any, shape: tuple[int, ...], dtype: Any, i: int, o: int) -> Array:
        return nn.initializers.truncated_normal(stddev, lower=lower, upper=upper)(key, shape, dtype) + mean

    return fn


def _scaled(variance: float, mode: str, distribution: str) -> Any:
    """Weights of mean 0 and variance `variance` / n, where n is what the mode says."""

    def fn(key: Any, shape: tuple[int, ...], dtype: Any, i: int, o: int) -> Array:
        return nn.initializers.variance_scaling(variance, mode, distribution, i, o)(key, shape, dtype)

    return fn


def _fan(mode: str) -> str:
    if mode not in ("fan_in", "fan_out", "fan_avg"):
        raise ValueError(f"initializer: mode must be 'fan_in', 'fan_out' or 'fan_avg', got {mode!r}")
    return mode


@_initializer
def xavier_uniform(gain: float = 1.0) -> Any:
    """Uniform with variance gain² · 2 / (fan_in + fan_out) (X. Glorot, Y. Bengio, 2010)."""
    return _scaled(gain * gain, "fan_avg", "uniform")


@_initializer
def xavier_normal(gain: float = 1.0) -> Any:
    """Normal with variance gain² · 2 / (fan_in + fan_out) (X. Glorot, Y. Bengio, 2010)."""
    return _scaled(gain * gain, "fan_avg", "normal")


@_initializer
def kaiming_uniform(gain: float = math.sqrt(2.0), mode: str = "fan_in") -> Any:
    """Uniform with variance gain² / fan (K. He et al., 2015); the default gain is that of relu."""
    return _scaled(gain * gain, _fan(mode), "uniform")


@_initializer
def kaiming_normal(gain: float = math.sqrt(2.0), mode: str = "fan_in") -> Any:
    """Normal with variance gain² / fan (K. He et al., 2015); the default gain is that of relu."""
    return _scaled(gain * gain, _fan(mode), "normal")


@_initializer
def lecun_uniform(gain: float = 1.0, mode: str = "fan_in") -> Any:
    """Uniform with variance gain² / fan (Y. LeCun et al., Efficient BackProp, 1998)."""
    return _scaled(gain * gain, _fan(mode), "uniform")


@_initializer
def lecun_normal(gain: float = 1.0, mode: str = "fan_in") -> Any:
    """Normal, truncated at two deviations, with variance gain² / fan (Y. LeCun et al., Efficient BackProp, 1998)."""
    return _scaled(gain * gain, _fan(mode), "truncated_normal")


@_initializer
def fan_in_uniform() -> Any:
    """Uniform in ±1 / sqrt(fan_in): PyTorch's default for linear layers and convolutions."""
    return _scaled(1 / 3, "fan_in", "uniform")


@_initializer
def orthogonal(gain: float = 1.0) -> Any:
    """Orthonormal rows or columns, whichever are fewer, times `gain` (A. Saxe et al., 2013).

    Axes other than the output's are taken together.
    """

    def fn(key: Any, shape: tuple[int, ...], dtype: Any, i: int, o: int) -> Array:
        return nn.initializers.orthogonal(gain, column_axis=o)(key, shape, dtype)

    return fn


def gain(nonlinearity: str, param: float | None = None) -> float:
    """The factor that keeps the size of signals through a nonlinearity, as PyTorch's `calculate_gain`.

    Arguments:
        nonlinearity: "linear", "sigmoid", "tanh" (5/3), "relu" (√2), "leaky_relu" (√(2 / (1 + slope²))), "selu" (3/4).
        param: the slope of leaky_relu, by default 0.01.

    Raises:
        ValueError: an unknown nonlinearity.
    """
    known = {"linear": 1.0, "sigmoid": 1.0, "tanh": 5 / 3, "relu": math.sqrt(2.0), "selu": 0.75}
    if nonlinearity == "leaky_relu":
        return math.sqrt(2.0 / (1 + (0.01 if param is None else param) ** 2))
    if nonlinearity not in known:
        raise ValueError(f"gain: {nonlinearity!r} is not one of leaky_relu, {', '.join(sorted(known))}")
    return known[nonlinearity]
