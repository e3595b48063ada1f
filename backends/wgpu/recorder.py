"""Recording commands, and when they are submitted.

Calls of programs are recorded into one list of commands, which goes to the GPU's queue when somebody waits for a value,
or when a call is not likely to be followed by another one soon (`Recorder.ended`). A submission costs the processor tens of
microseconds, and the GPU pauses between two of them, so programs that take less than that are several times faster when
they share one.

A program is a list of items of three kinds:
    (DISPATCH, [(pipeline, bind group, x, y, z), ...])
    (INDIRECT, [(pipeline, bind group, buffer, offset), ...])     the grid is in a buffer
    (LOOP, LoopItems)
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from time import perf_counter
from typing import Any, NamedTuple, Protocol

import numpy as np

from backends.wgpu import errors
from backends.wgpu.memory import Memory, size_class
from backends.wgpu.rows import Rows

DISPATCH, INDIRECT, LOOP = 0, 1, 2
# a longer program is handed over in parts, so that the GPU starts while the rest is recorded
MOST_DISPATCHES = 4096
# so much work keeps the GPU busy for much longer than a submission takes: dispatches, and seconds by an estimate
ENOUGH_DISPATCHES = 128
ENOUGH_SECONDS = 1e-3
# so many calls are enough to hide what a submission takes
MOST_CALLS = 16
# what comes sooner than this after a call is worth waiting for, in seconds: it takes about as long to submit a few times
SOON = 2e-4
_LARGEST_KEPT_STAGING = 1 << 24


class LoopItems(NamedTuple):
    """A loop whose length is known.

    Attributes:
        rows: the numbers of its steps, in order.
        numbered: whether its kernels read the number of the step.
        even, odd: the lists of every other step; they differ in which of two memories is read and which is written.
    """

    rows: range
    numbered: bool
    even: list
    odd: list


class Owner(errors.Owner, Protocol):
    """The device that is recorded for: `gpu` is that of the `wgpu` package."""

    gpu: Any
    rows: Rows
    lock: Any


NOTHING, CALL, READ = range(3)


class Habit:
    """What is known of a program that is called again and again.

    Attributes:
        seconds: that a fast GPU takes for a call, roughly.
        follower: what came soon after the last call: another call, somebody who reads a value at once, or nothing.
            Programs are called in loops, so it is what is expected after the next call.
    """

    __slots__ = ("follower", "seconds")

    def __init__(self, seconds: float = 0.0) -> None:
        self.seconds = seconds
        self.follower = NOTHING


class Recorder:
    """Records lists into command buffers and submits them. One thread at a time: hold the device's lock, except for
    `wait` and `read`.

    Attributes:
        open: whether there are commands that were not submitted.
        submissions: how many there were.
    """

    def __init__(self, device: Owner):
        self.device = device
        self.open = False
        self.submissions = 0
        self._in_pass = False
        self._row: int | None = None  # of the innermost loop that is being recorded
        self._dispatches = self._calls = 0  # since the last submission
        self._seconds = 0.0
        self._limit = 1  # so many calls are submitted together
        self._in_row = 0  # calls since somebody waited
        self._habit = Habit()  # of the program that was called last
        self._ended = 0.0  # when that was; 0 when it is known what came next
        self._staging: dict[int, list[Any]] = {}  # buffers that the CPU can read, by size

    # ------------------------------------------------------------------ what kinds of recorders do differently
    def handle(self, thing: Any) -> Any:
        """What lists hold for an object of the `wgpu` package."""
        raise NotImplementedError

    def _errors(self, doing: str) -> AbstractContextManager[None]:
        """Errors of the library in the block are raised."""
        raise NotImplementedError

    def _begin(self) -> None:
        """Starts a list of commands."""
        raise NotImplementedError

    def _begin_pass(self) -> None:
        raise NotImplementedError

    def _end_pass(self) -> None:
        raise NotImplementedError

    def _submit(self) -> None:
        raise NotImplementedError

    def _drop(self) -> None:
        """Forgets the list of commands."""
        raise NotImplementedError

    def _dispatch(self, entries: Sequence[tuple]) -> None:
        raise NotImplementedError

    def _indirect(self, entries: Sequence[tuple]) -> None:
        raise NotImplementedError

    def _set_row(self, low: int, high: int) -> None:
        raise NotImplementedError

    def _copy(self, source: Any, target: Any, nbytes: int) -> None:
        """Records a copy of the first bytes of a buffer to another one, outside of a pass."""
        raise NotImplementedError

    def _write(self, buffer: Any, data: np.ndarray) -> None:
        raise NotImplementedError

    def _finish(self) -> None:
        """Returns when what was submitted has run."""
        raise NotImplementedError

    def _new_staging(self, size: int) -> Any:
        """A buffer that the CPU can read."""
        raise NotImplementedError

    def _contents(self, staging: Any, nbytes: int) -> np.ndarray:
        """The first bytes of such a buffer, when what was submitted has run."""
        raise NotImplementedError

    # ------------------------------------------------------------------ calls
    def starts(self) -> None:
        """A program is being called."""
        self._follows(CALL)

    def ended(self, habit: Habit) -> None:
        """A call has been recorded, of the program with this habit.

        It is submitted at once if nothing is likely to follow soon, so that the GPU does not wait for a processor that
        does something else. A row of calls is submitted in groups, of one call first, then of twice as many each time,
        so that the GPU always has something to do.
        """
        self._calls += 1
        self._in_row += 1
        self._habit, self._ended = habit, perf_counter()
        self._seconds += habit.seconds
        limit = MOST_CALLS if habit.follower == READ else self._limit
        is_enough = self._dispatches >= ENOUGH_DISPATCHES or self._seconds >= ENOUGH_SECONDS
        if habit.follower == NOTHING or self._calls >= limit or is_enough:
            self.flush()
            self._limit = min(2 * self._limit, MOST_CALLS)

    def _follows(self, what: int) -> None:
        """This is what comes after a call."""
        if self._ended:
            is_soon = perf_counter() - self._ended < SOON
            if what == READ and self._in_row > 1:
                what = CALL  # the end of a row of calls
            self._habit.follower = what if is_soon else NOTHING
            self._ended = 0.0
            if not is_soon:
                self._limit = 1  # the GPU may well have nothing to do

    # ------------------------------------------------------------------ recording
    def play(self, items: Sequence[tuple]) -> None:
        """Records a list."""
        try:
            with self._errors("recording a program"):
                self._play(items)
        except Exception:
            self._abandon()
            raise

    def _play(self, items: Sequence[tuple]) -> None:
        self._ready()
        for kind, content in items:
            if kind == DISPATCH:
                self._dispatch(content)
                self._dispatches += len(content)
            elif kind == INDIRECT:
                self._indirect(content)
                self._dispatches += len(content)
            else:
                self._loop(content)
                continue
            if self._dispatches > MOST_DISPATCHES:
                self.flush()
                self._ready()

    def _loop(self, loop: LoopItems) -> None:
        outer = self._row
        odd = False
        for number in loop.rows:
            if loop.numbered:
                self._row = number
                self.row(number)
            self._play(loop.odd if odd else loop.even)
            odd = not odd
        self._row = outer
        if outer is not None and loop.numbered:
            self.row(outer)

    def row(self, number: int) -> None:
        """What follows reads this as the number of its step."""
        self._set_row(*self.device.rows.offsets(number))

    def in_row(self, number: int | None) -> int | None:
        """Commands recorded from now on belong to this step of a loop that Python runs; returns what held before."""
        before, self._row = self._row, number
        if number is not None and self._in_pass:
            self.row(number)
        return before

    def _ready(self) -> None:
        """Makes the list ready for dispatches."""
        if not self.open:
            self._begin()
            self.open = True
        if not self._in_pass:
            self._begin_pass()
            self._in_pass = True
            if self._row is not None:
                self.row(self._row)

    def copy(self, source: Any, target: Any, nbytes: int) -> None:
        """Records a copy of the first bytes of a buffer (of the `wgpu` package) to another one."""
        try:
            with self._errors("copying memory"):
                if not self.open:
                    self._begin()
                    self.open = True
                if self._in_pass:
                    self._in_pass = False
                    self._end_pass()
                self._copy(source, target, nbytes)
        except Exception:
            self._abandon()
            raise

    def write(self, memory: Memory, data: np.ndarray, is_fresh: bool = False) -> None:
        """Writes data to a memory, after what was recorded and before what will be.

        Arguments:
            is_fresh: whether it was taken from the pool just now.
        """
        # a write overtakes commands that were not submitted; those that use a fresh memory are older than its return
        if not is_fresh or memory.returned >= self.submissions:
            self.flush()
        with self._errors("copying an array to the GPU"):
            self._write(memory.buffer, data)

    def flush(self) -> None:
        """Submits what was recorded, if anything."""
        if not self.open:
            return
        self.submissions += 1
        self._calls, self._dispatches, self._seconds = 0, 0, 0.0
        in_pass, self.open, self._in_pass = self._in_pass, False, False
        try:
            with self._errors("running a program"):
                if in_pass:
                    self._end_pass()
                self._submit()
        except Exception:
            self._drop()
            raise

    def _abandon(self) -> None:
        """After an error: a list of commands that has one cannot be submitted."""
        if self.open:
            self.open = self._in_pass = False
            self.submissions += 1
            self._calls, self._dispatches, self._seconds = 0, 0, 0.0
            self._drop()

    # ------------------------------------------------------------------ waiting, without the lock
    def wait(self) -> None:
        """Returns when all that was recorded has run."""
        with self.device.lock:
            self._about_to_wait()
        self._finish()

    def _about_to_wait(self) -> None:
        self._follows(READ)
        self.flush()
        self._limit, self._in_row = 1, 0  # the next call finds a GPU that has nothing to do

    def read(self, memory: Memory, nbytes: int) -> np.ndarray:
        """The first bytes (a multiple of four) of a memory, when all that was recorded has run."""
        size = size_class(nbytes)
        with self.device.lock:
            stock = self._staging.setdefault(size, [])
            staging = stock.pop() if stock else self._new_staging(size)
            self.copy(memory.buffer, staging.buffer, nbytes)
            self._about_to_wait()
        # others may go on recording while this waits
        result = self._contents(staging, nbytes)
        if size <= _LARGEST_KEPT_STAGING:
            stock.append(staging)
        else:
            staging.buffer.destroy()
        return result
