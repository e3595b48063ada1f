"""The NumPy backend: op by op on the CPU, always there, the reference for every other backend."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from asgfn.graph.asg import Asg
from asgfn.graph.types import ArrayType
from backends.numpy.program import Program, plan
from backends.numpy.registry import find_kernel


class CpuDevice:
    """The host's processor and memory."""

    platform = "cpu"
    backend = "numpy"
    device_kind = "cpu"
    id = 0

    def __repr__(self) -> str:
        return "CpuDevice(id=0)"

    def __str__(self) -> str:
        return "cpu:0"


class NumpyBackend:
    """See `asgfn.backend.Backend`."""

    name = "numpy"

    def __init__(self) -> None:
        self._device = CpuDevice()

    def devices(self) -> list[CpuDevice]:
        return [self._device]

    def compile(self, asg: Asg, donated: Sequence[bool] = ()) -> Program:
        return plan(asg, tuple(donated) if any(donated) else ())

    def kernel(
        self, primitive: Any, in_types: Sequence[ArrayType], out_types: Sequence[ArrayType], params: Any
    ) -> Callable[[Sequence[np.ndarray]], Sequence[np.ndarray]]:
        function = find_kernel(primitive.name, in_types, out_types, params)
        several = primitive.multiple_results

        def evaluate(buffers: Sequence[np.ndarray]) -> Sequence[np.ndarray]:
            with np.errstate(all="ignore"):
                out = function(*buffers)
            return out if several else (out,)

        return evaluate

    def to_device(self, value: np.ndarray) -> np.ndarray:
        return value

    def wait(self, buffers: Sequence[np.ndarray]) -> None:
        """Nothing to wait for: programs have run when they return."""

    def to_host(self, buffer: np.ndarray, aval: ArrayType) -> np.ndarray:
        return buffer


def create() -> NumpyBackend:
    """The entry point of the backend."""
    return NumpyBackend()
