"""Times of kernels, from the GPU's own clock."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from asgfn.errors import BackendError
from backends.programs.inspection import Profile, profile_of
from backends.programs.steps import Dispatch, Loop
from backends.wgpu.binding import Odd
from backends.wgpu.buffers import duplicate
from backends.wgpu.built import Built
from backends.wgpu.choice import chosen
from backends.wgpu.errors import gpu_errors
from backends.wgpu.package import package
from backends.wgpu.running import Run

_QUERIES = 2048  # of a query set; each kernel takes two


def profile(built: Built, arguments: Callable[[], list[Any]], repeats: int) -> Profile:
    """Runs a program with a pass of its own, and two time stamps, for each kernel.

    Arguments:
        arguments: gives what to call it with.

    Raises:
        BackendError: the adapter has no time stamps.
    """
    if repeats < 1:
        raise ValueError(f"profile: repeats must be at least 1, got {repeats}")
    device = built.device
    if not device.has_timestamps:
        raise BackendError(
            f"profile: {device.info.device_kind} has no time stamps (the feature 'timestamp-query'), so kernels cannot be timed"
        )

    class Timed(Run):
        def record(self, parts: Any, row: int | None) -> None:
            with device.lock:
                for commands, odd in parts:
                    clock.record(self.binding, commands.steps, odd, row)
                clock.read()

    calls = []
    for _ in range(repeats + 1):  # the first one warms up
        clock = _Clock(device)
        values = arguments()
        for k in built.finished.overwritten:
            values[k] = duplicate(values[k])
        built(values, Timed)
        calls.append(
            [(start * clock.period, (end - start) * clock.period, kernel) for start, end, kernel in clock.spans]
        )
    return profile_of(built.finished, calls[1:])


class _Clock:
    """Records kernels with a time stamp before and after each.

    Attributes:
        spans: (start, end, dispatch), in ticks of the GPU's clock.
        period: seconds of a tick.
    """

    def __init__(self, device: Any):
        wgpu = package()

        self.device = device
        self.period = chosen().timestamp_period(device.gpu) * 1e-9
        self.spans: list[tuple[int, int, Dispatch]] = []
        self._waiting: list[Dispatch] = []
        self._queries = device.gpu.create_query_set(type="timestamp", count=2 * _QUERIES)
        usage = wgpu.BufferUsage.QUERY_RESOLVE | wgpu.BufferUsage.COPY_SRC
        self._results = device.gpu.create_buffer(size=16 * _QUERIES, usage=usage)
        self._encoder: Any = None

    def record(self, binding: Any, steps: Sequence[Any], odd: Odd, row: int | None) -> None:
        """Records steps on the device, loops step by step."""
        for step in steps:
            if isinstance(step, Loop):
                for k, number in enumerate(step.rows):
                    turn = (step, *odd) if k % 2 else odd
                    self.record(binding, step.body, turn, number if step.numbered else row)
            else:
                self._dispatch(binding, step, odd, row)

    def _dispatch(self, binding: Any, dispatch: Dispatch, odd: Odd, row: int | None) -> None:
        device = self.device
        with gpu_errors(device, "timing a kernel"):
            if self._encoder is None:
                self._encoder = device.gpu.create_command_encoder()
            k = 2 * len(self._waiting)
            stamps = {"query_set": self._queries, "beginning_of_pass_write_index": k, "end_of_pass_write_index": k + 1}
            work = self._encoder.begin_compute_pass(timestamp_writes=stamps)
            work.set_pipeline(dispatch.pipeline.native)
            work.set_bind_group(0, binding.group(dispatch, odd))
            if dispatch.rows:
                work.set_bind_group(1, device.rows.group, device.rows.offsets(row or 0))
            if dispatch.guard is None:
                work.dispatch_workgroups(*dispatch.grid)
            else:
                work.dispatch_workgroups_indirect(binding.grids(dispatch, odd), 12 * dispatch.guard_entry)
            work.end()
        self._waiting.append(dispatch)
        if len(self._waiting) == _QUERIES:
            self.read()

    def read(self) -> None:
        """Runs what was recorded and reads the stamps."""
        if not self._waiting:
            return
        count = 2 * len(self._waiting)
        self.device.recorder.flush()  # of what came before
        with gpu_errors(self.device, "timing kernels"):
            self._encoder.resolve_query_set(self._queries, 0, count, self._results, 0)
            queue = self.device.gpu.queue
            queue.submit([self._encoder.finish()])
            stamps = np.frombuffer(queue.read_buffer(self._results, 0, 8 * count), np.uint64).reshape(-1, 2)
        self._encoder = None
        for (start, end), dispatch in zip(stamps.tolist(), self._waiting, strict=True):
            # clocks of a multiprocessor may disagree by a tick
            self.spans.append((start, max(end, start), dispatch))
        self._waiting.clear()
