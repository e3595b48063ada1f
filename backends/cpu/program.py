"""An executable: what `jit` calls, and what people ask about."""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from typing import Any

import numpy as np

from asgfn.graph.asg import Asg
from asgfn.tracing import ConcreteArray
from backends.cpu import native
from backends.cpu.compiling import compiled, function_name, host_target
from backends.cpu.lists import Lists
from backends.cpu.memory import ALIGNMENT, Block, Pool, address_of
from backends.cpu.native import Runner
from backends.cpu.running import Run, contiguous
from backends.llvm.engine import Engine
from backends.llvm.library import called_by
from backends.programs.inspection import KernelRecord, Profile, host_nodes, kernel_records, memory_of
from backends.programs.steps import (
    INPUT,
    OUTPUT,
    TEMPORARY,
    Branch,
    Commands,
    Download,
    Host,
    Loop,
    Storage,
    Upload,
    While,
    walk,
)  # fmt: skip

_log = logging.getLogger("asgfn")
_warned: set[tuple[str, str]] = set()


class Program:
    """An executable; see `asgfn.backend.Executable`.

    Attributes:
        finished: what it does.
        addresses: of its functions, by name.
        numbers: of its storages, among the addresses that native code is run with.
        rows: numbers of arrays that are a row of a storage, in loops that the host runs.
    """

    def __init__(self, engine: Engine, runner: Runner, pool: Pool, asg: Asg, donated: Sequence[bool], debug: bool):
        self.asg, self.runner, self.pool = asg, runner, pool
        self.finished = finished = compiled(asg, donated, debug)
        texts = {function_name(d.text): d.text for d in finished.kernels if d.kernel is not None}
        self.addresses = engine.compile(texts | called_by(texts.values()))
        lists = Lists({s: k for k, s in enumerate(self._storages())}, self.addresses, runner.threads)
        self.numbers, self.rows = lists.numbers, lists.rows
        encoded = [(s, lists.of(s.steps)) for s in walk(finished.steps) if isinstance(s, Commands)]
        count = len(self.numbers) + len(self.rows)
        self._native = {id(s): runner.program(c, count, lists.scratch) for s, c in encoded}
        self._bases = [0] * count
        self._constants = {k: np.ascontiguousarray(c) for k, c in finished.constants.items()}
        for storage, number in self.numbers.items():
            if storage.kind == "constant":
                self._bases[number] = address_of(self._constants[storage.number])
        self._inputs = [
            (k, self.numbers[s.root], t)
            for k, (s, t) in enumerate(zip(finished.inputs, finished.in_types, strict=True))
            if isinstance(s, Storage) and s.root in self.numbers
        ]
        self._new = self._new_arrays()
        self._workspaces: list[tuple[Block | None, list[int]]] = []
        self._lock = threading.Lock()
        self._is_simple = len(finished.steps) == 1 and len(encoded) == 1 and not finished.slots
        self._warn()

    def _storages(self) -> list[Storage]:
        """All memories, each once."""
        found = [s.root for d in self.finished.kernels for s in d.storages]
        for step in walk(self.finished.steps):
            if isinstance(step, (Upload, Download)):
                found.append(step.storage.root)
            elif isinstance(step, (Loop, While)):
                found += [s.root for pair in step.swaps for s in pair]
            if isinstance(step, (Branch, While)) and step.where is not None:
                found.append(step.where.root)
        found += [s.root for s in self.finished.outputs if isinstance(s, Storage)]
        return list(dict.fromkeys(found))

    def _new_arrays(self) -> list[tuple[int, Any, int]]:
        """What is new in each call: the number of the storage, the type of the array, its bytes."""
        types = {
            s.root: t
            for s, t in zip(self.finished.outputs, self.finished.out_types, strict=True)
            if isinstance(s, Storage) and s.root.kind == OUTPUT
        }
        return [(self.numbers[s], types[s], s.nbytes) for s in self.finished.new]

    def _warn(self) -> None:
        """Says once for each primitive (and reason) that NumPy computes it."""
        for step in walk(self.finished.steps):
            if isinstance(step, Host) and step.name and not step.is_wanted and (step.name, step.why) not in _warned:
                _warned.add((step.name, step.why))
                place = f" at {step.place}" if step.place is not None else ""
                _log.info("cpu: %s%s is computed by NumPy, because %s", step.name, place, step.why)

    def native(self, step: Commands) -> native.Program:
        """Commands as the native runner has them."""
        return self._native[id(step)]

    # ------------------------------------------------------------------ running
    def _take_workspace(self) -> tuple[Block | None, list[int]]:
        """Memory for temporaries, and the addresses that are known with it."""
        with self._lock:
            if self._workspaces:
                return self._workspaces.pop()
        bases = list(self._bases)
        starts, total = [], 0
        for nbytes in self.finished.temporaries:
            starts.append(total)
            total += -(-nbytes // ALIGNMENT) * ALIGNMENT
        block = Block(total) if total else None
        for storage, number in self.numbers.items():
            if storage.kind == TEMPORARY:
                assert block is not None
                bases[number] = block.address + starts[storage.number]
        return block, bases

    def __call__(self, buffers: Sequence[Any]) -> list[np.ndarray]:
        """Results for arguments. Donated ones may be overwritten."""
        return self.call(buffers, None if self._is_simple else Run)

    def call(self, buffers: Sequence[Any], runs: type[Run] | None) -> list[np.ndarray]:
        """Results for arguments, by a class of runs, or by native code alone."""
        inputs = list(buffers)
        block, known = self._take_workspace()
        bases = list(known)
        for k, number, t in self._inputs:
            inputs[k], bases[number] = contiguous(inputs[k], t)
            if k in self.finished.overwritten and not self._is_ours(inputs[k]):
                inputs[k] = inputs[k].copy()
                bases[number] = address_of(inputs[k])
        arrays: dict[int, np.ndarray] = {}
        pool = self.pool
        for number, t, nbytes in self._new:
            arrays[number], bases[number] = pool.array(t.shape, t.dtype, nbytes)
        try:
            if runs is None:
                (native_program,) = self._native.values()
                native_program.run(bases)
                env: list[Any] = []
            else:
                run = runs(self, bases, inputs)
                run.execute(self.finished.steps)
                env = run.env
        finally:
            with self._lock:
                self._workspaces.append((block, known))
        return [
            self._result(where, t, arrays, inputs, env)
            for where, t in zip(self.finished.outputs, self.finished.out_types, strict=True)
        ]

    def _is_ours(self, array: np.ndarray) -> bool:
        """Whether the memory of an argument that was given away may be written to: the array has memory of its own, or a
        block that no other array sees. A view's belongs to somebody else, and may be a file's that is only read."""
        return array.base is None or self.pool.is_only_view(array)

    def _result(
        self, where: Storage | int, t: Any, arrays: dict[int, np.ndarray], inputs: Sequence[np.ndarray], env: list[Any]
    ) -> np.ndarray:
        if isinstance(where, int):
            return np.asarray(env[where], t.dtype).reshape(t.shape)
        root = where.root
        if root.kind == INPUT:
            found = inputs[root.number]
        elif root.kind == OUTPUT:
            found = arrays[self.numbers[root]]
        else:
            found = self._constants[root.number]
        return (
            found
            if found.shape == t.shape and found.dtype == t.dtype
            else found.reshape(-1).view(t.dtype).reshape(t.shape)
        )

    # ------------------------------------------------------------------ what people can ask
    def as_text(self) -> str:
        """The kernels in order, as LLVM IR."""
        kernels = [d for d in self.finished.kernels if d.kernel is not None]
        lines = [f"{self.asg.name}: {len(kernels)} kernels"]
        for d in kernels:
            lines += [f"; {d.kind}: {d.name}, {d.grid[0] * d.grid[1] * d.grid[2]} groups", d.text]
        return "\n".join(lines)

    @property
    def memory(self) -> dict[str, int]:
        """Bytes by use."""
        return memory_of(self.finished, host_target())

    @property
    def kernels(self) -> list[KernelRecord]:
        """The kernels in order."""
        return kernel_records(self.finished)

    @property
    def host_nodes(self) -> list[str]:
        """Operations that NumPy computes, with the reason."""
        return host_nodes(self.finished)

    def profile(self, arrays: Sequence[ConcreteArray], repeats: int = 10) -> Profile:
        """How long each kernel takes. See `asgfn.jit.Compiled.profile`."""
        from backends.cpu.profiling import profile  # here: nearly nobody needs it

        return profile(self, lambda: [x.value for x in arrays], repeats)
