"""The table from primitives to NumPy code.

An entry is a factory that is run once when a program is planned:
``factory(in_types, out_types, **params) -> function from arrays to an array (or a tuple of them)``.
Element-wise operations that a real `np.ufunc` computes exactly are registered as such; the planner then calls them with
`out=` to reuse memory.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from asgfn.graph.types import ArrayType

Factory = Callable[..., Callable[..., Any]]

_factories: dict[str, Factory] = {}
# what registers them, in the order in which it is loaded until a kernel is found: what most programs need first
MODULES = (
    "elementwise", "shaping", "reductions", "indexing", "contractions", "calls", "fused", "control", "random", "sorting",
    "windows", "linalg", "special", "implicit", "fft",
)  # fmt: skip


def kernel(name: str) -> Callable[[Factory], Factory]:
    """Registers the decorated factory for the primitive of this name."""

    def register(factory: Factory) -> Factory:
        if name in _factories:
            raise ValueError(f"numpy backend: primitive {name!r} has a kernel already")
        _factories[name] = factory
        return factory

    return register


def register_ufunc(name: str, ufunc: np.ufunc, kinds: str = "biufcV") -> None:
    """Registers a ufunc whose results, NaN, infinities and overflow included, are the primitive's."""
    if not isinstance(ufunc, np.ufunc):
        raise TypeError(f"numpy backend: {name}: {ufunc!r} is not a ufunc")
    kernel(name)(lambda in_types, out_types, **params: ufunc)


def find_kernel(
    name: str, in_types: Sequence[ArrayType], out_types: Sequence[ArrayType], params: Any
) -> Callable[..., Any]:
    """The function that computes one node.

    Raises:
        BackendError: there is none.
    """
    factory = _factories.get(name) or _loaded(name)
    if factory is None:
        from asgfn.errors import BackendError

        raise BackendError(f"the numpy backend cannot compute primitive {name!r}")
    return factory(in_types, out_types, **params)


def _loaded(name: str) -> Factory | None:
    for module in MODULES:
        importlib.import_module(f"backends.numpy.kernels_{module}")
        if name in _factories:
            return _factories[name]
    return None
