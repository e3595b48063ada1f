"""The compiled CPU backend: fused kernels as machine code, made in process by LLVM, on all cores."""

from __future__ import annotations

import importlib
import platform
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from asgfn.backend import get_backend
from asgfn.config import config
from asgfn.graph.asg import Asg
from asgfn.graph.caching import cached_by_graph
from asgfn.graph.types import ArrayType
from backends.cpu import runtime
from backends.cpu.memory import Pool
from backends.cpu.native import Runner, load_early
from backends.cpu.program import Program
from backends.llvm.engine import Engine
from backends.llvm.library import prepared
from backends.programs.cache import version

# what only compiles, and what nearly all programs need of it: those that are on disk run without it
_COMPILER = (
    "llvmlite.binding",
    "backends.cpu.compiling",
    "backends.llvm.gemm_windows",
    "backends.kernels.schedules.simd_contraction",
    "backends.kernels.schedules.rows",
    "backends.kernels.schedules.elementwise_plan",
    "backends.kernels.schedules.group",
    "backends.kernels.schedules.simd_windows",
    "backends.kernels.schedules.indexing",
    "backends.kernels.schedules.attention",
    "backends.numpy.kernels_elementwise",
    "msgpack",
)


class CpuBackend:
    """See `asgfn.backend.Backend`. Its arrays are NumPy's.

    Raises:
        ImportError: the package `llvmlite` is not installed.
    """

    name = "cpu"

    def __init__(self) -> None:
        load_early()
        engine, runner, self.pool = Engine(), Runner(), Pool()
        self._program = cached_by_graph(256)(
            lambda asg, donated, debug: Program(engine, runner, self.pool, asg, donated, debug)
        )

    def devices(self) -> list[Any]:
        return get_backend("numpy").devices()

    def compile(self, asg: Asg, donated: Sequence[bool] = ()) -> Any:
        debug = bool(config.debug_nans or config.debug_infs)
        return self._program(asg, tuple(donated) if any(donated) else (), debug)

    def kernel(
        self, primitive: Any, in_types: Sequence[ArrayType], out_types: Sequence[ArrayType], params: Any
    ) -> Callable:
        """Operations outside of `jit` are NumPy's: to compile one costs more than it does."""
        return get_backend("numpy").kernel(primitive, in_types, out_types, params)

    def to_device(self, value: np.ndarray) -> np.ndarray:
        return value

    def wait(self, buffers: Sequence[np.ndarray]) -> None:
        """Nothing to wait for: programs have run when they return."""

    def to_host(self, buffer: np.ndarray, aval: ArrayType) -> np.ndarray:
        return buffer


def create() -> CpuBackend:
    """The entry point of the backend."""
    return CpuBackend()


def prepare() -> Iterator[None]:
    """See `asgfn.backend`. Imports the compiler; and, once on a machine, compiles what runs programs and what they call."""
    for name in _COMPILER:
        importlib.import_module(name)
        yield
    version()
    yield
    yield from prepared(runtime.functions(platform.machine())[0])
