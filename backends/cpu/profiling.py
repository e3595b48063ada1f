"""Times of a program's kernels: its commands are run one at a time, by the same threads as always.

Loops and branches around them are Python's meanwhile, so that each run of a kernel is seen.
"""

from __future__ import annotations

import ctypes
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from backends.cpu import native
from backends.cpu.lists import Lists
from backends.cpu.running import Run
from backends.programs.inspection import Profile, Span, profile_of
from backends.programs.steps import Commands, Dispatch

if TYPE_CHECKING:
    from backends.cpu.program import Program

_TRIES = 200  # of a call that does nothing, to find out what it takes


def profile(program: Program, arguments: Callable[[], Sequence[np.ndarray]], repeats: int) -> Profile:
    """Runs a program kernel by kernel.

    Arguments:
        arguments: gives what to call it with.
    """
    if repeats < 1:
        raise ValueError(f"profile: repeats must be at least 1, got {repeats}")
    cut = _Cut(program)
    calls: list[list[Span]] = []

    class Timed(Run):
        def __init__(self, *given: Any):
            super().__init__(*given)
            self.rows = cut.rows
            self.bases = cut.addresses(*self.bases)

        def execute(self, steps: Sequence[Any]) -> None:
            for step in steps:
                if isinstance(step, Commands):
                    self.execute(step.steps)
                elif isinstance(step, Dispatch):
                    calls[-1].append((*cut.timed(step, self.bases), step))
                else:
                    super().execute([step])

    for _ in range(repeats + 1):  # the first one warms up
        calls.append([])
        values = list(arguments())
        for k in program.finished.overwritten:
            values[k] = values[k].copy()
        program.call(values, runs=Timed)
    return profile_of(program.finished, calls[1:])


class _Cut:
    """The commands of a program as programs of their own.

    Attributes:
        rows: numbers of arrays that are a row of a storage; in any loop, since Python runs them all.
        addresses: the type of the addresses that the programs are run with.
    """

    def __init__(self, program: Program):
        lists = Lists(program.numbers, program.addresses, program.runner.threads)
        commands = {step: lists.of([step]) for step in program.finished.kernels}
        storages = len(lists.numbers) + len(lists.rows)
        self.rows, self.addresses = lists.rows, ctypes.c_int64 * storages
        self._programs = {
            step: program.runner.program(command, storages, step.scratch) for step, command in commands.items()
        }
        nothing = program.runner.program([], storages)
        bases = self.addresses()
        self._overhead = 0.0
        self._overhead = min(self._span(nothing, bases)[1] for _ in range(_TRIES))

    def timed(self, step: Dispatch, bases: ctypes.Array) -> tuple[float, float]:
        """Runs a kernel: when it started and how long it took, in seconds."""
        return self._span(self._programs[step], bases)

    def _span(self, program: native.Program, bases: ctypes.Array) -> tuple[float, float]:
        start = time.perf_counter()
        program.run(bases)
        return start, max(0.0, time.perf_counter() - start - self._overhead)
