"""What people can ask about a compiled program."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from backends.programs.steps import (
    OUTPUT,
    Branch,
    Commands,
    Dispatch,
    Download,
    Host,
    Loop,
    Storage,
    Upload,
    While,
    dispatches,
    inner_lists,
    walk,
)  # fmt: skip
from backends.wgpu.built import Built


@dataclass(frozen=True)
class KernelRecord:
    """One kernel of a program.

    Attributes:
        name: the operations that it computes.
        kind: "elementwise", "reduction", "contraction", "group", the name of an operation, or "copy" and "zeros".
        wgsl: its source.
        grid, workgroup: numbers of workgroups, and of threads of one, along x, y and z.
        bytes, flops: what it moves and computes at least, by an estimate; 0 where that is not known.
        scope: the name scope that it comes from.
        source: the user's line, or None.
        times: how often it runs in a call; None where a condition decides.
    """

    name: str
    kind: str
    wgsl: str
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
        kernel.workgroup if kernel is not None else (64, 1, 1),
        kernel.bytes if kernel is not None else 0.0,
        kernel.flops if kernel is not None else 0.0,
        dispatch.scope,
        dispatch.place,
        times,
    )


def kernel_records(built: Built) -> list[KernelRecord]:
    """The kernels in the order in which they run."""
    found: list[KernelRecord] = []

    def visit(steps: Sequence[Any], times: int | None) -> None:
        for step in steps:
            if isinstance(step, Dispatch):
                found.append(record_of(step, times if step.guard is None else None))
            elif isinstance(step, Loop):
                visit(step.body, None if times is None else times * len(step.rows))
            else:
                for held in inner_lists(step):
                    visit(held, times if isinstance(step, Commands) else None)

    visit(built.finished.steps, 1)
    return found


def host_nodes(built: Built) -> list[str]:
    """Operations that run on the host, each with the reason."""
    return [f"{s.name}: {s.why}" for s in walk(built.finished.steps) if isinstance(s, Host) and s.name]


def memory_of(built: Built) -> dict[str, int]:
    """Bytes by use; of arrays in the device's representation, and of host arrays where the device has none."""
    finished = built.finished

    def size(where: Storage | int, t: Any) -> int:
        return where.nbytes if isinstance(where, Storage) else t.nbytes

    parts = {
        "arguments": sum(map(size, finished.inputs, finished.in_types)),
        "outputs": sum(map(size, finished.outputs, finished.out_types)),
        "constants": sum(-(-c.nbytes // 16) * 16 for c in finished.constants.values()),
        "temporaries": sum(finished.temporaries),
    }
    # results that take the place of arguments, or are the same memory, need none of their own
    reused = parts["outputs"] - sum(s.nbytes for s in finished.new)
    reused -= sum(t.nbytes for s, t in zip(finished.outputs, finished.out_types, strict=True) if isinstance(s, int))
    return {**parts, "total": sum(parts.values()) - reused}


def describe(name: str, built: Built) -> str:
    """A program as text: a line a step."""
    finished = built.finished
    count = sum(1 for _ in dispatches(finished.steps))
    memory = memory_of(built)
    lines = [
        f"wgpu program {name} on {built.device.info.device_kind}: {count} kernels, "
        f"temporaries {memory['temporaries']:,} bytes in {len(finished.temporaries)} buffers"
    ]

    def label(storage: Storage) -> str:
        root = storage.root
        if root.kind == OUTPUT:
            return f"out{finished.new.index(root)}" if root in finished.new else "out"
        return {"input": "in", "constant": "const", "temporary": "t"}[root.kind] + str(root.number)

    def visit(steps: Sequence[Any], pad: str) -> None:
        for step in steps:
            if isinstance(step, Dispatch):
                reads = [label(s) for s, w in zip(step.storages, step.written, strict=True) if not w]
                writes = [label(s) for s, w in zip(step.storages, step.written, strict=True) if w]
                where = f"  [{step.scope}]" if step.scope else ""
                condition = " if chosen" if step.guard is not None else ""
                lines.append(
                    f"{pad}{', '.join(writes)} = {record_of(step, 1)} of {' '.join(reads) or 'nothing'}{condition}{where}"
                )
            elif isinstance(step, Loop):
                by = "" if step.on_device else " by the host"
                lines.append(f"{pad}{len(step.rows)} times{by}:")
                visit(step.body, pad + "  ")
            elif isinstance(step, Commands):
                visit(step.steps, pad)
            elif isinstance(step, Branch):
                for k, held in enumerate(step.lists):
                    lines.append(f"{pad}if host value {step.slot} is {k}:")
                    visit(held, pad + "  ")
            elif isinstance(step, While):
                visit(step.first, pad)
                lines.append(f"{pad}while{'' if step.guard is not None else ' (by the host)'}:")
                visit(step.test, pad + "  ")
                lines.append(f"{pad}do:")
                visit(step.body, pad + "  ")
                visit(step.settle, pad)
            elif isinstance(step, Host):
                lines.append(f"{pad}host: {step.name or 'reshape'}" + (f" ({step.why})" if step.why else ""))
            elif isinstance(step, Download):
                lines.append(f"{pad}to the host: {label(step.storage)} {step.aval}")
            elif isinstance(step, Upload):
                lines.append(f"{pad}to the GPU: {label(step.storage)} {step.aval}")

    visit(finished.steps, "  ")
    outs = [
        f"{label(s) if isinstance(s, Storage) else 'host'}: {t}"
        for s, t in zip(finished.outputs, finished.out_types, strict=True)
    ]
    return "\n".join([*lines, "  return " + ", ".join(outs)])


@dataclass(frozen=True)
class KernelTime:
    """How long a kernel takes on the GPU.

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
        from backends.wgpu.timeline import timeline

        title = f"{self.total * 1e6:,.1f} µs in {len(self.times)} kernels"
        return timeline([(t.kernel.kind, t.spans) for t in self.times], title, path, ax)
