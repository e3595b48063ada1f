"""How a contraction is cut up, as data: what a tuner chooses from and a cache on disk remembers."""

from __future__ import annotations

from asgfn.records import record

WIDE = 4
RESULT_PADDING = 4  # elements between lines of results


@record
class Tile:
    """A workgroup computes a tile of the result, in steps along the contracted axis that it keeps in workgroup memory.

    Attributes:
        rows, columns: of the result, a workgroup.
        depth: length of a step.
        thread_rows, thread_columns: of the result, a thread: multiples of 4, kept in registers.
        buffers: 2: the next step is written while this one is used; 1: it waits in registers.
        split: into how many parts the contracted axis is cut, each the work of other workgroups.
        unroll: steps of the contracted axis that are written out.
        blocks: whether an operand that is stored along the contracted axis is copied in blocks of 4 x 4 by some of the
            threads, or number by number by all of them.
    """

    rows: int
    columns: int
    depth: int = 16
    thread_rows: int = 4
    thread_columns: int = 4
    buffers: int = 1
    split: int = 1
    unroll: int = 16
    blocks: bool = True

    @property
    def threads(self) -> int:
        return self.rows // self.thread_rows * (self.columns // self.thread_columns)

    @property
    def shared_bytes(self) -> int:
        """Workgroup memory, of 4-byte elements."""
        return 4 * self.buffers * self.depth * (self.rows + self.columns)


@record
class Skinny:
    """Threads that share the contracted axis, for a result with few rows or columns.

    Attributes:
        short: how many elements of the short side a thread sums for: all of it, or as much as registers hold.
        long: how many neighbours of the long side a thread sums for.
        across: threads along the long side, a workgroup.
        along: threads along the contracted axis, a workgroup.
        step: neighbours along the contracted axis that a thread takes at a time.
        split: into how many parts the contracted axis is cut, each the work of other workgroups.
    """

    short: int
    long: int
    across: int
    along: int
    step: int = 1
    split: int = 1

    @property
    def threads(self) -> int:
        return self.across * self.along


@record
class Direct:
    """A thread computes some neighbours of the result, each a loop of its own over the contracted axis.

    Attributes:
        columns: neighbours, a thread.
    """

    columns: int = 1


@record
class TensorTile:
    """A workgroup computes a tile of the result on tensor cores, each of its subgroups a part of the tile.

    Attributes:
        rows, columns: of the result, a workgroup.
        depth: length of a step along the contracted axis, kept in workgroup memory.
        part_rows, part_columns: of the result, a subgroup.
        buffers: 2: the next step is written while this one is used; 1: it waits in registers.
        split: into how many parts the contracted axis is cut, each the work of other workgroups.
        subgroup: threads of a subgroup.
        padding: elements between lines in workgroup memory, so that they start in different banks.
    """

    rows: int
    columns: int
    depth: int = 32
    part_rows: int = 64
    part_columns: int = 64
    buffers: int = 1
    split: int = 1
    subgroup: int = 32
    padding: int = 8

    @property
    def threads(self) -> int:
        return self.rows // self.part_rows * (self.columns // self.part_columns) * self.subgroup

    def staged_bytes(self, pieces: tuple[int, int]) -> int:
        """Workgroup memory for a step, if the operands are sums of so many 16-bit floats."""
        # an operand lies along either axis; short lines need the most padding
        free = [pieces[k] * self.depth * (n + self.padding) for k, n in enumerate((self.rows, self.columns))]
        depth = [pieces[k] * n * (self.depth + self.padding) for k, n in enumerate((self.rows, self.columns))]
        return 2 * self.buffers * sum(map(max, free, depth))

    def result_bytes(self, rows: int, columns: int) -> int:
        """Workgroup memory through which each subgroup hands over so much of its result at a time."""
        return 4 * (self.threads // self.subgroup) * rows * (columns + RESULT_PADDING)


Schedule = Tile | Skinny | Direct | TensorTile
