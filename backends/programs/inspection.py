"""What people can ask about a compiled program."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from backends.kernels.target import Target
from backends.programs.finished import Finished
from backends.programs.sizes import padded
from backends.programs.steps import Commands, Dispatch, Host, Loop, Storage, inner_lists, walk


@dataclass(frozen=True)
class KernelRecord:
    """One kernel of a program.

    Attributes:
        name: the operations that it computes.
        kind: "elementwise", "reduction", "contraction", "group", the name of an operation, or "copy" and "zeros".
        code: its source, in WGSL or LLVM IR; "" if it needs none.
        grid, workgroup: numbers of workgroups, and of threads of one (a processor's lanes), along x, y and z.
        bytes, flops: what it moves and computes at least, by an estimate; 0 where that is not known.
        scope: the name scope that it comes from.
        source: the user's line, or None.
        times: how often it runs in a call; None where a condition decides.
    """

    name: str
    kind: str
    code: str
    grid: tuple[int, int, int]
    workgroup: tuple[int, int, int]
    bytes: float
    flops: float
    scope: str
    source: Any
    times: int | None

    def __str__(self) -> str:
        threads = "x".join(str(n) for n in self.workgroup if n > 1) or "1"
        groups = "x".join(str(n) for n in self.grid if n > 1) or "1"
        often = "" if self.times == 1 else " (?)" if self.times is None else f" ({self.times} times)"
        return f"{self.kind}: {self.name}  grid {groups}, {threads} threads{often}"


def record_of(dispatch: Dispatch, times: int | None) -> KernelRecord:
    """What there is to say about a dispatch."""
    kernel = dispatch.kernel
    return KernelRecord(
        dispatch.name,
        dispatch.kind,
        dispatch.text,
        dispatch.grid,
        kernel.workgroup if kernel is not None else (1, 1, 1),
        kernel.bytes if kernel is not None else 0.0,
        kernel.flops if kernel is not None else 0.0,
        dispatch.scope,
        dispatch.place,
        times,
    )


def _often(steps: Sequence[Any], times: int | None) -> Iterator[tuple[Dispatch, int | None]]:
    """The kernels in order, each with how often it runs if these steps run so often."""
    for step in steps:
        if isinstance(step, Dispatch):
            yield step, times if step.guard is None else None
        elif isinstance(step, Loop):
            yield from _often(step.body, None if times is None else times * len(step.rows))
        else:
            for held in inner_lists(step):
                yield from _often(held, times if isinstance(step, Commands) else None)


def kernel_records(finished: Finished) -> list[KernelRecord]:
    """The kernels in the order in which they run."""
    return [record_of(dispatch, times) for dispatch, times in _often(finished.steps, 1)]


def host_nodes(finished: Finished) -> list[str]:
    """Operations that run on the host, each with the reason."""
    return [f"{s.name}: {s.why}" for s in walk(finished.steps) if isinstance(s, Host) and s.name]


def memory_of(finished: Finished, target: Target) -> dict[str, int]:
    """Bytes by use; of arrays in the device's representation, and of host arrays where the device has none."""

    def size(where: Storage | int, t: Any) -> int:
        return where.nbytes if isinstance(where, Storage) else t.nbytes

    parts = {
        "arguments": sum(map(size, finished.inputs, finished.in_types)),
        "outputs": sum(map(size, finished.outputs, finished.out_types)),
        "constants": sum(padded(c.nbytes, target) for c in finished.constants.values()),
        "temporaries": sum(finished.temporaries),
    }
    # results that take the place of arguments, or are the same memory, need none of their own
    reused = parts["outputs"] - sum(s.nbytes for s in finished.new)
    reused -= sum(t.nbytes for s, t in zip(finished.outputs, finished.out_types, strict=True) if isinstance(s, int))
    return {**parts, "total": sum(parts.values()) - reused}


@dataclass(frozen=True)
class KernelTime:
    """How long a kernel takes.

    Attributes:
        kernel: the kernel.
        seconds: the mean of a run.
        runs: how often it runs in a call.
        spans: start, from the first kernel's, and length of each run in the last call.
    """

    kernel: KernelRecord
    seconds: float
    runs: float
    spans: tuple[tuple[float, float], ...]

    @property
    def total(self) -> float:
        """Seconds in a call."""
        return self.seconds * self.runs


@dataclass(frozen=True)
class Profile:
    """Times of the kernels of a program. Printing it gives a table; `plot` draws a timeline.

    Attributes:
        times: in the order of the program.
        repeats: over how many calls they are means.
    """

    times: tuple[KernelTime, ...]
    repeats: int

    @property
    def total(self) -> float:
        """Seconds that all kernels of a call take."""
        return sum(t.total for t in self.times)

    def __str__(self) -> str:
        rows = sorted(self.times, key=lambda t: t.total, reverse=True)
        whole = self.total or 1.0
        lines = [f"{'total':>10} {'share':>6} {'runs':>6} {'each':>10} {'GB/s':>8} {'GFLOP/s':>9}  kernel"]
        for t in rows:
            k = t.kernel
            rate = [f"{x / t.seconds / 1e9:,.1f}" if x and t.seconds else "" for x in (k.bytes, k.flops)]
            where = f" [{k.scope}]" if k.scope else ""
            lines.append(
                f"{t.total * 1e6:>7,.1f} us {t.total / whole:>6.1%} {t.runs:>6g} {t.seconds * 1e6:>7,.1f} us "
                f"{rate[0]:>8} {rate[1]:>9}  {k.kind}: {k.name}{where}"
            )
        lines.append(f"{self.total * 1e6:>7,.1f} us in all kernels; means of {self.repeats} calls")
        return "\n".join(lines)

    __repr__ = __str__

    def plot(self, path: Any = None, ax: Any = None) -> Any:
        """Draws a timeline of the last call: a bar for each run of a kernel, a row for each kind of them.

        Arguments:
            path: also save the figure there, as PNG, SVG or PDF by the ending of the name.
            ax: matplotlib axes to draw on; without them a new figure is made.

        Returns:
            The matplotlib figure.
        """
        from backends.programs.timeline import timeline

        title = f"{self.total * 1e6:,.1f} µs in {len(self.times)} kernels"
        return timeline([(t.kernel.kind, t.spans) for t in self.times], title, path, ax)


# the start and the length of a kernel's run, in seconds, and the kernel
Span = tuple[float, float, Dispatch]


def profile_of(finished: Finished, calls: Sequence[Sequence[Span]]) -> Profile:
    """The times of a program's kernels.

    Arguments:
        calls: when they ran, for each of some calls.
    """
    lengths: dict[Dispatch, list[float]] = defaultdict(list)
    last: dict[Dispatch, list[tuple[float, float]]] = defaultdict(list)
    for spans in calls:
        for _, length, dispatch in spans:
            lengths[dispatch].append(length)
    origin = min((start for start, _, _ in calls[-1]), default=0.0)
    for start, length, dispatch in calls[-1]:
        last[dispatch].append((start - origin, length))
    always = {id(d): times for d, times in _often(finished.steps, 1)}
    times = []
    for dispatch in finished.kernels:
        if dispatch in lengths:
            record = record_of(dispatch, always[id(dispatch)])
            mean, runs = float(np.mean(lengths[dispatch])), len(lengths[dispatch]) / len(calls)
            times.append(KernelTime(record, mean, runs, tuple(last[dispatch])))
    return Profile(tuple(times), len(calls))
