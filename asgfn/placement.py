"""Where arrays live: devices, transfers, waiting."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from asgfn.backend import backend_of, get_backend, keeps_arrays
from asgfn.graph.caching import clear_graph_caches
from asgfn.jit import clear_jit_caches
from asgfn.tracing import ConcreteArray, as_array, concrete, resident, state
from asgfn.tracing.trace import clear_kernels
from asgfn.tree_util import tree_leaves, tree_map


def devices(backend: str | None = None) -> list[Any]:
    """The devices of a backend (the default one without a name)."""
    return get_backend(backend).devices()


local_devices = devices


def device_count(backend: str | None = None) -> int:
    """How many devices there are."""
    return len(devices(backend))


def default_backend() -> str:
    """Name of the backend that `jit` uses."""
    return get_backend().name


def device_put(x: Any, device: Any = None, **_: Any) -> Any:
    """A pytree's leaves as arrays on a device; they are copied, so later changes to NumPy arrays do not show.

    Arguments:
        device: one of `devices(backend)`, or its name (``cpu``, ``gpu``, ``gpu:0``); by default that of the configured
            backend. Arrays of types that a GPU does not have (64-bit numbers), and empty ones, stay on the CPU.

    Raises:
        BackendError: there is no such device.
    """
    backend = get_backend() if device is None else backend_of(device, "device_put")

    def one(leaf: Any) -> Any:
        array = as_array(leaf, "device_put")
        if type(array) is not ConcreteArray or (array.home or get_backend("numpy")) is backend:
            return array
        if not keeps_arrays(backend):
            return concrete(array.value, array.aval)
        return resident(backend.to_device(array.value), array.aval, backend)

    return tree_map(one, x)


def device_get(x: Any) -> Any:
    """A pytree's arrays as NumPy arrays of their own."""
    return tree_map(lambda leaf: np.array(leaf.value) if type(leaf) is ConcreteArray else leaf, x)


def block_until_ready(x: Any) -> Any:
    """Waits until all arrays of a pytree have been computed: once a device, however many there are. Returns it.

    Raises:
        DeletedArrayError: one of them was donated or deleted.
    """
    waiting: dict[int, tuple[Any, list[Any]]] = {}
    for leaf in tree_leaves(x):
        if type(leaf) is not ConcreteArray:
            continue
        if leaf.home is None or leaf.buffer is None:
            leaf.block_until_ready()  # there is nothing to wait for, or it is deleted
        else:
            waiting.setdefault(id(leaf.home), (leaf.home, []))[1].append(leaf.buffer)
    for home, buffers in waiting.values():
        home.wait(buffers)
    return x


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
