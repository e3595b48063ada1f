"""From the steps of a program to the commands of the native runner."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from backends.cpu import commands
from backends.cpu.commands import Command, Place
from backends.cpu.target import function_name
from backends.cpu.tiers import seconds
from backends.programs.steps import Branch, Dispatch, Loop, Storage, While

# a kernel that takes no longer than this, in seconds, is not worth sharing
ALONE = 1e-5
# pieces of a kernel for each thread, so that one that is late does not keep the others waiting
PIECES = 4


class Lists:
    """Writes commands.

    Arguments:
        numbers: of the storages, among the addresses that a program is run with.
        addresses: of the kernels' functions, by name.
        threads: how many share the work.
    """

    def __init__(self, numbers: Mapping[Storage, int], addresses: Mapping[str, int], threads: int):
        self.numbers, self.addresses, self.threads = numbers, addresses, threads
        # arrays that are a row of a larger one in a loop that the host runs: (storage, bytes of a row) -> number
        self.rows: dict[tuple[Storage, int], int] = {}
        self.scratch = 0

    def of(self, steps: Sequence[Any]) -> list[Command]:
        """The commands of steps that need no host."""
        return self._steps(steps, 0, None)

    def _steps(self, steps: Sequence[Any], depth: int, numbered: int | None) -> list[Command]:
        """
        Arguments:
            depth: how many native loops there are around.
            numbered: the one whose number is that of rows; None if the host knows it.
        """
        found: list[Command] = []
        for step in steps:
            if isinstance(step, Dispatch):
                found.append(self._dispatch(step, numbered))
            elif isinstance(step, Loop):
                body = tuple(self._steps(step.body, depth + 1, depth if step.numbered else numbered))
                swaps = self._swaps(step)
                found.append(commands.Loop(len(step.rows), body, step.rows.start, step.rows.step, swaps))
                if swaps and len(step.rows) % 2:  # who uses the results knows which memories they are in
                    found.append(commands.Loop(1, (), swaps=swaps))
            elif isinstance(step, While):
                assert step.where is not None and not step.swaps
                test, body = (tuple(self._steps(s, depth, numbered)) for s in (step.test, step.body))
                found.append(commands.While(self._whole(step.where), test, body))
            else:
                assert isinstance(step, Branch) and step.where is not None
                cases = tuple(tuple(self._steps(s, depth, numbered)) for s in step.lists)
                found.append(commands.Branch(self._whole(step.where), cases))
        return found

    def _swaps(self, step: Loop) -> tuple[tuple[int, int], ...]:
        return tuple((self.numbers[a.root], self.numbers[b.root]) for a, b in step.swaps)

    def _whole(self, storage: Storage) -> Place:
        return Place(self.numbers[storage.root])

    def _place(self, step: Dispatch, k: int, row_bytes: int, numbered: int | None) -> Place:
        root, offset = step.storages[k].root, step.offsets.get(k, 0)
        if not row_bytes:
            return Place(self.numbers[root], offset)
        if numbered is not None:
            return Place(self.numbers[root], offset, ((numbered, row_bytes),))
        number = self.rows.setdefault((root, row_bytes), len(self.numbers) + len(self.rows))
        return Place(number, offset)

    def _dispatch(self, step: Dispatch, numbered: int | None) -> Command:
        if step.kernel is None:
            return self._move(step, numbered)
        places = [self._place(step, k, step.row_bytes.get(k, 0), numbered) for k in range(len(step.storages))]
        self.scratch = max(self.scratch, step.scratch)
        columns, rows, layers = step.grid
        groups = columns * rows * layers
        return commands.Run(self.addresses[function_name(step.text)], tuple(places), groups, self._chunk(step, groups))

    def _chunk(self, step: Dispatch, groups: int) -> int:
        """How many groups a thread does at a time."""
        assert step.kernel is not None
        if self.threads == 1 or seconds(step.kernel, step.sizes) < ALONE:
            return max(groups, 1)
        return max(1, -(-groups // (self.threads * PIECES)))

    def _move(self, step: Dispatch, numbered: int | None) -> Command:
        """A copy, of rows perhaps, or zeros."""
        sizes = {k: n * self._row_item(step, k, n) for k, n in step.rows.items()}
        places = [self._place(step, k, sizes.get(k, 0), numbered) for k in range(len(step.storages))]
        if step.kind == "zeros":
            return commands.Fill(places[0], step.sizes[0])
        source, target = places
        return commands.Copy(target, source, min([*sizes.values(), *step.sizes]))

    @staticmethod
    def _row_item(step: Dispatch, k: int, count: int) -> int:
        """Bytes of an element: the other memory of a copy is one row."""
        return step.sizes[1 - k] // count
