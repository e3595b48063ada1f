"""Which memories of a program are the same.

First, copies that nobody needs: where the source is not used after the copy, both are one memory. Then carries of loops:
what a step leaves for the next one is written over what it came with, or into a second memory with which it changes
places. Last, temporaries that do not live at the same time, and outputs that take the place of donated inputs.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from backends.programs.steps import (
    INPUT,
    NEVER,
    OUTPUT,
    TEMPORARY,
    Dispatch,
    Download,
    Loop,
    Storage,
    Upload,
    While,
    inner_lists,
    walk,
)


# ---------------------------------------------------------------------------------------------- copies
def join_copies(steps: Iterable[Any], donated: Sequence[bool] = ()) -> None:
    """Joins source and target of copies whose source is not used afterwards."""
    for step in walk(steps):
        if isinstance(step, Dispatch) and step.is_copy and not step.rows:
            source, target = (s.root for s in step.storages)
            if source is target or source.nbytes != target.nbytes or source.last != step.position:
                continue
            if source.kind == TEMPORARY and target.kind == TEMPORARY and source.first >= step.since:
                source.join(target)
            elif source.kind == INPUT and donated and donated[source.number]:
                if target.kind == TEMPORARY and step.since == 0:
                    target.join(source)


# ---------------------------------------------------------------------------------------------- carries
def _uses(steps: Iterable[Any], storage: Storage) -> tuple[int, int]:
    """Positions of the last step that reads a memory and of the first that writes to it. What is in a loop may happen
    at any time in it."""
    storage = storage.root
    last_read, first_write = NEVER, 1 << 62
    for step in steps:
        if isinstance(step, Dispatch):
            for s, written in zip(step.storages, step.written, strict=True):
                if s.root is storage:
                    if written:
                        first_write = min(first_write, step.position)
                    else:
                        last_read = max(last_read, step.position)
        elif isinstance(step, Download) and step.storage.root is storage:
            last_read = max(last_read, step.position)
        elif isinstance(step, Upload) and step.storage.root is storage:
            first_write = min(first_write, step.position)
        for held in inner_lists(step):
            read, write = _uses(held, storage)
            if isinstance(step, (Loop, While)):
                read = step.end if read != NEVER else read
                write = step.start if write < 1 << 62 else write
            last_read, first_write = max(last_read, read), min(first_write, write)
    return last_read, first_write


def join_carries(steps: Sequence[Any], pairs: Sequence[tuple[Storage, Storage]]) -> list[tuple[Storage, Storage]]:
    """Joins what a loop's step starts with and what it leaves, where nothing reads the former after the latter is
    written.

    Arguments:
        steps: the body.
        pairs: for each carry, the memory that a step reads and the one that it writes.

    Returns:
        the other pairs: these memories have to change places after each step.
    """
    swaps = []
    for before, after in pairs:
        if before.root is after.root:
            continue
        last_read, _ = _uses(steps, before)
        _, first_write = _uses(steps, after)
        if last_read < first_write or (last_read == first_write and _may_be_one(steps, last_read, before, after)):
            after.join(before)
        else:
            swaps.append((before.root, after.root))
    return swaps


def _may_be_one(steps: Iterable[Any], position: int, before: Storage, after: Storage) -> bool:
    """Whether the step at a position copies one to the other, or may write where it reads."""
    for step in steps:
        if isinstance(step, Dispatch) and step.position == position:
            return is_in_place(step, before, after)
    return False


def is_in_place(step: Dispatch, before: Storage, after: Storage) -> bool:
    """Whether a dispatch works as well if these two of its memories are one."""
    reads = [k for k, s in enumerate(step.storages) if s.root is before.root]
    writes = [k for k, s in enumerate(step.storages) if s.root is after.root]
    if before.root.nbytes != after.root.nbytes or len(reads) != 1 or len(writes) != 1:
        return False
    if step.is_copy:
        return not step.rows
    return (reads[0], writes[0]) in step.in_place and not {reads[0], writes[0]} & set(step.rows)


# ---------------------------------------------------------------------------------------------- donated inputs
def join_donated(steps: Sequence[Any], inputs: Sequence[Storage | None], donated: Sequence[bool]) -> None:
    """Writes outputs into donated inputs that are not needed any more."""
    free = [s.root for s, given in zip(inputs, donated, strict=True) if given and s is not None]
    free = [s for s in dict.fromkeys(free) if s.kind == INPUT]
    if not free:
        return
    # an element-wise step may write over what it reads
    for step in steps:
        if isinstance(step, Dispatch) and step.in_place:
            for read, written in step.in_place:
                before, after = step.storages[read].root, step.storages[written].root
                if before in free and after.kind == OUTPUT and before.last == after.first == step.position:
                    if is_in_place(step, before, after):
                        _become(after, before)
                        free.remove(before)
    by_size: dict[int, list[Storage]] = {}
    for s in sorted(free, key=lambda s: s.last, reverse=True):
        by_size.setdefault(s.nbytes, []).append(s)
    outputs = {s.root for d in walk(steps) if isinstance(d, Dispatch) for s in d.storages if s.root.kind == OUTPUT}
    outputs |= {d.storage.root for d in walk(steps) if isinstance(d, Upload) and d.storage.root.kind == OUTPUT}
    for output in sorted(outputs, key=lambda s: s.first):
        stock = by_size.get(output.nbytes, [])
        # the input that was free last, so that earlier ones stay for outputs that come earlier
        found = next((s for s in stock if s.last < output.first), None)
        if found is not None:
            stock.remove(found)
            _become(output, found)


def _become(output: Storage, donated: Storage) -> None:
    output.kind = TEMPORARY
    output.join(donated)


# ---------------------------------------------------------------------------------------------- temporaries
def share_temporaries(storages: Iterable[Storage]) -> list[int]:
    """Gives temporaries their memories: `number` of each becomes the number of one.

    Returns:
        the sizes of these memories.
    """
    sizes: list[int] = []
    free: list[int] = []
    busy: list[tuple[int, int]] = []  # (last use, memory)
    import heapq

    for s in sorted(storages, key=lambda s: (s.first, -s.nbytes)):
        while busy and busy[0][0] < s.first:
            free.append(heapq.heappop(busy)[1])
        # the smallest that is large enough, else the largest, which grows
        enough = [k for k in free if sizes[k] >= s.nbytes]
        if enough:
            chosen = min(enough, key=lambda k: sizes[k])
        elif free:
            chosen = max(free, key=lambda k: sizes[k])
            sizes[chosen] = s.nbytes
        else:
            chosen = len(sizes)
            sizes.append(s.nbytes)
        if chosen in free:
            free.remove(chosen)
        s.number = chosen
        heapq.heappush(busy, (s.last, chosen))
    return sizes
