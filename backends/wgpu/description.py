"""A program of the GPU as text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from backends.programs.inspection import memory_of, record_of
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
)  # fmt: skip
from backends.wgpu.built import Built


def describe(name: str, built: Built) -> str:
    """A program as text: a line a step."""
    finished = built.finished
    count = sum(1 for _ in dispatches(finished.steps))
    memory = memory_of(finished, built.device.target)
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
