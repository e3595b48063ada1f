"""Transforms of NumPy arrays, one item or a whole batch at a time.

All are immutable, picklable records. Deterministic ones are called as `transform(x)`, random ones as `transform(x, rng)`
with a `numpy.random.Generator`; in a `DataLoader` that generator is a function of the seed, the epoch and the index. None
changes its argument.
"""

from __future__ import annotations

from nn_fn.data.transforms.combine import ApplyTo as ApplyTo
from nn_fn.data.transforms.combine import Compose as Compose
from nn_fn.data.transforms.images import RandomCrop as RandomCrop
from nn_fn.data.transforms.images import RandomErasing as RandomErasing
from nn_fn.data.transforms.images import RandomHorizontalFlip as RandomHorizontalFlip
from nn_fn.data.transforms.images import RandomRotation as RandomRotation
from nn_fn.data.transforms.images import RandomVerticalFlip as RandomVerticalFlip
from nn_fn.data.transforms.scalers import MinMaxScaler as MinMaxScaler
from nn_fn.data.transforms.scalers import Normalize as Normalize
from nn_fn.data.transforms.scalers import StandardScaler as StandardScaler
from nn_fn.data.transforms.values import Clip as Clip
from nn_fn.data.transforms.values import Flatten as Flatten
from nn_fn.data.transforms.values import GaussianNoise as GaussianNoise
from nn_fn.data.transforms.values import Log as Log
from nn_fn.data.transforms.values import OneHot as OneHot
from nn_fn.data.transforms.values import ToFloat as ToFloat

__all__ = [
    "ApplyTo",
    "Clip",
    "Compose",
    "Flatten",
    "GaussianNoise",
    "Log",
    "MinMaxScaler",
    "Normalize",
    "OneHot",
    "RandomCrop",
    "RandomErasing",
    "RandomHorizontalFlip",
    "RandomRotation",
    "RandomVerticalFlip",
    "StandardScaler",
    "ToFloat",
]
