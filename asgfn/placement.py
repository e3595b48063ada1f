"""Where arrays live: devices, transfers, waiting."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from asgfn.backend import get_backend
from asgfn.config import config
from asgfn.errors import BackendError
from asgfn.graph.caching import clear_graph_caches
from asgfn.jit import clear_jit_caches
from asgfn.tracing import ConcreteArray, as_array, state
from asgfn.tracing.trace import clear_kernels
from asgfn.tree_util import tree_map


def devices(backend: str | None = None) -> list[Any]:
    """The devices of a backend (the default one without a name)."""
    return get_backend(backend).devices()


local_devices = devices


def device_count(backend: str | None = None) -> int:
    """How many devices there are."""
    return len(devices(backend))


def default_backend() -> str:
    """Name of the backend that `jit` uses."""
    return config.default_backend or "numpy"


def device_put(x: Any, device: Any = None, **_: Any) -> Any:
    """A pytree's leaves as arrays on a device; they are copied, so later changes to NumPy arrays do not show.

    Arguments:
        device: one of `devices()`, or its name; by default the default device.

    Raises:
        BackendError: there is no such device.
    """
    if device is not None and not any(device is d or str(device) in (str(d), d.platform) for d in devices("numpy")):
        raise BackendError(
            f"device_put: there is no device {device}; there are: {', '.join(map(str, devices('numpy')))}"
        )
    return tree_map(lambda leaf: as_array(leaf, "device_put"), x)


def device_get(x: Any) -> Any:
    """A pytree's arrays as NumPy arrays of their own."""
    return tree_map(lambda leaf: np.array(leaf.value) if type(leaf) is ConcreteArray else leaf, x)


def block_until_ready(x: Any) -> Any:
    """Waits until all arrays of a pytree have been computed. Returns it."""

    def one(leaf: Any) -> Any:
        return leaf.block_until_ready() if type(leaf) is ConcreteArray else leaf

    return tree_map(one, x)


def effects_barrier() -> None:
    """Returns when all effects of earlier calls have happened: at once, since calls do not return before."""


@contextmanager
def ensure_compile_time_eval() -> Iterator[None]:
    """Operations in the block on values that are known are evaluated now, even while `jit` traces."""
    before = state.staging
    state.staging = None
    try:
        yield
    finally:
        state.staging = before


def clear_caches() -> None:
    """Forgets traced graphs, compiled programs and kernels of eager operations."""
    clear_kernels()
    clear_graph_caches()
    clear_jit_caches()
