"""Calls of programs that Python takes part in: it computes what there is no kernel for."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from asgfn.errors import AsgError
from asgfn.graph.types import ArrayType
from asgfn.tracing.trace import check_finite
from backends.numpy.program import plan as host_plan
from backends.programs.steps import Branch, Check, Commands, Download, Host, Loop, Upload, While

if TYPE_CHECKING:
    from backends.cpu.program import Program


class Run:
    """One call of a program.

    Attributes:
        env: host arrays by slot.
        bases: addresses of the storages.
        rows: numbers of arrays that are a row of a storage, in loops that Python runs.
    """

    def __init__(self, program: Program, bases: ctypes.Array, inputs: Sequence[np.ndarray]):
        self.program, self.bases, self.rows = program, bases, program.rows
        self.env: list[Any] = [None] * program.finished.slots
        for slot, value in program.finished.fixed.items():
            self.env[slot] = value
        for where, value in zip(program.finished.inputs, inputs, strict=True):
            if isinstance(where, int):
                self.env[where] = value

    def execute(self, steps: Sequence[Any]) -> None:
        """Runs steps."""
        for step in steps:
            if isinstance(step, Commands):
                self.program.native(step).run(self.bases)
            elif isinstance(step, Host):
                outs = step.function([self.env[k] for k in step.inputs])
                for slot, value in zip(step.outputs, outs, strict=True):
                    self.env[slot] = value
            elif isinstance(step, Download):
                self.env[step.slot] = self._memory(step.storage, step.aval).copy()
            elif isinstance(step, Upload):
                value = np.asarray(self.env[step.slot], step.aval.dtype)
                self._memory(step.storage, step.aval)[...] = value.reshape(step.aval.shape)
            elif isinstance(step, Branch):
                number = int(self.env[step.slot]) if step.where is None else self._number(step.where, np.int32)
                self.execute(step.lists[min(max(number, 0), len(step.lists) - 1)])
            elif isinstance(step, Loop):
                self._loop(step)
            elif isinstance(step, While):
                self._while(step)
            elif isinstance(step, Check):
                self._check(step)

    def _memory(self, storage: Any, aval: ArrayType) -> np.ndarray:
        """The array in a storage."""
        address = self.bases[self.program.numbers[storage.root]]
        raw: Any = (ctypes.c_char * aval.nbytes).from_address(address)
        return np.frombuffer(raw, aval.dtype).reshape(aval.shape)

    def _number(self, storage: Any, dtype: type) -> int:
        return int(self._memory(storage, ArrayType((), np.dtype(dtype))))

    def _loop(self, step: Loop) -> None:
        numbers = self.program.numbers
        pairs = [(numbers[a.root], numbers[b.root]) for a, b in step.swaps]
        rows = self.rows if step.numbered else {}
        outer = {number: self.bases[number] for number in rows.values()}
        for k in step.rows:
            for (storage, nbytes), number in rows.items():
                self.bases[number] = self.bases[numbers[storage]] + k * nbytes
            self.execute(step.body)
            self._swap(pairs)
        if len(step.rows) % 2:
            self._swap(pairs)
        for number, base in outer.items():
            self.bases[number] = base

    def _swap(self, pairs: Sequence[tuple[int, int]]) -> None:
        bases = self.bases
        for a, b in pairs:
            bases[a], bases[b] = bases[b], bases[a]

    def _while(self, step: While) -> None:
        while True:
            self.execute(step.test)
            assert step.where is not None
            if not self._number(step.where, np.bool_):
                return
            self.execute(step.body)

    def _check(self, step: Check) -> None:
        for slot in step.slots:
            try:
                check_finite(step.primitive, [np.asarray(self.env[slot])], step.place, step.scope)
            except AsgError:
                if step.hunt is not None:
                    graph, slots = step.hunt
                    host_plan(graph)([np.asarray(self.env[k]) for k in slots])  # names the operation inside
                raise
