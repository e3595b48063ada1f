"""Calls of programs that the host takes part in: it computes what the device cannot, and decides what runs next."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from asgfn.errors import AsgError
from asgfn.graph.types import ArrayType
from asgfn.tracing.trace import check_finite
from backends.numpy.program import plan as host_plan
from backends.programs.finished import Finished
from backends.programs.steps import Branch, Check, Commands, Download, Host, Loop, Storage, Upload, While
from backends.wgpu.binding import Binding, Odd
from backends.wgpu.buffers import from_storage, read, to_storage
from backends.wgpu.device import Device

# a loop with a condition runs so many steps, at most, before the host looks whether it has ended
MOST_STEPS = 64
# and no more than it did in this time the last time
SHORT = 1e-3


class Run:
    """One call of a program that the host takes part in.

    Attributes:
        env: host arrays by slot.
    """

    def __init__(self, device: Device, finished: Finished, binding: Binding, inputs: Sequence[Any]):
        self.device, self.binding = device, binding
        self.env: list[Any] = [None] * finished.slots
        for slot, value in finished.fixed.items():
            self.env[slot] = value
        for where, value in zip(finished.inputs, inputs, strict=True):
            if isinstance(where, int):
                self.env[where] = value

    def record(self, parts: Sequence[tuple[Commands, Odd]], row: int | None) -> None:
        """Records commands, in these turns of the loops around and this row of a loop that the host runs."""
        recorder = self.device.recorder
        with self.device.lock:
            lists = [self.binding.items(commands, odd) for commands, odd in parts]
            recorder.in_row(row)
            try:
                for items in lists:
                    recorder.play(items)
            finally:
                recorder.in_row(None)

    def execute(self, steps: Sequence[Any], odd: Odd = (), row: int | None = None) -> None:
        """Runs steps, in a row of a loop that the host runs."""
        for step in steps:
            if isinstance(step, Commands):
                self.record([(step, odd)], row)
            elif isinstance(step, Host):
                with self.device.lock:
                    self.device.recorder.flush()  # the GPU can work on it in the meantime
                outs = step.function([self.env[k] for k in step.inputs])
                for slot, value in zip(step.outputs, outs, strict=True):
                    self.env[slot] = value
            elif isinstance(step, Download):
                self.env[step.slot] = self.fetch(step.storage, step.aval, odd)
            elif isinstance(step, Upload):
                memory = self.binding.memory(step.storage, odd)
                stored = to_storage(np.asarray(self.env[step.slot], step.aval.dtype), self.device.target.types)
                with self.device.lock:
                    self.device.recorder.write(memory, stored)
            elif isinstance(step, Branch):
                number = min(max(int(self.env[step.slot]), 0), len(step.lists) - 1)
                self.execute(step.lists[number], odd, row)
            elif isinstance(step, Loop):
                for k, number in enumerate(step.rows):
                    self.execute(step.body, (step, *odd) if k % 2 else odd, number if step.numbered else row)
            elif isinstance(step, While):
                self._while(step, odd, row)
            elif isinstance(step, Check):
                self._check(step)

    def fetch(self, storage: Storage, t: ArrayType, odd: Odd = ()) -> np.ndarray:
        """The value of a memory."""
        memory = self.binding.memory(storage, odd)
        return from_storage(self.device, memory, t)

    def _while(self, step: While, odd: Odd, row: int | None) -> None:
        turns: tuple[Odd, Odd] = odd, (step, *odd)
        count = 0
        if step.guard is None:
            while True:
                self.execute(step.test, turns[count % 2], row)
                if not self.env[step.condition]:
                    break
                self.execute(step.body, turns[count % 2], row)
                count += 1
        else:
            self.execute(step.first, odd, row)
            state = self.binding.memory(step.guard.state, odd)
            body = [*step.test, *step.body]
            chunk = 1
            while True:
                started = time.perf_counter()
                self.record([(s, turns[k % 2]) for k in range(count, count + chunk) for s in body], row)
                goes_on, ran = read(self.device, state, 8).view(np.uint32)
                count = int(ran)
                if not goes_on:
                    break
                if time.perf_counter() - started < SHORT:
                    chunk = min(2 * chunk, MOST_STEPS)
        if count % 2:
            self.execute(step.settle, odd, row)

    def _check(self, step: Check) -> None:
        for slot in step.slots:
            try:
                check_finite(step.primitive, [np.asarray(self.env[slot])], step.place, step.scope)
            except AsgError:
                if step.hunt is not None:
                    graph, slots = step.hunt
                    host_plan(graph)([np.asarray(self.env[k]) for k in slots])  # names the operation inside
                raise
