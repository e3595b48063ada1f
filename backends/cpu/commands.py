"""What a program of the CPU backend is for the native runner: commands, and how they are encoded.

Encoded commands are words of 64 bits. The first word of a command is its kind, and from the 8th bit on how many words it has;
the commands in it are among these. A place in memory is a word with the storage (and from the 32nd bit on the number of
rows), one with the offset, and two for each row: the loop, and the row's bytes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from asgfn.records import field, record

# kinds of commands, known to `runtime.py`
RUN, COPY, FILL, LOOP, WHILE, BRANCH = range(6)
# tasks of a kernel are counted with so many bits
MOST_TASKS = (1 << 32) - 1


class Place(NamedTuple):
    """Where an array is.

    Attributes:
        storage: the number of the storage, among the addresses that a program is run with.
        offset: bytes from there.
        rows: for each loop of which the array is a row of a larger one, the loop's depth (0 is the outermost one) and the
            bytes from row to row.
    """

    storage: int
    offset: int = 0
    rows: tuple[tuple[int, int], ...] = ()


class Run(NamedTuple):
    """Computes the groups of a kernel.

    Attributes:
        function: the address of `void kernel(ptr memories, i64 first, i64 last, ptr scratch)`.
        memories: its arrays.
        groups: how many there are.
        chunk: how many of them a thread does at a time; those of a kernel with no more than that stay on one thread.
    """

    function: int
    memories: tuple[Place, ...]
    groups: int
    chunk: int

    @property
    def tasks(self) -> int:
        """How many pieces of work there are."""
        return -(-self.groups // self.chunk)


class Copy(NamedTuple):
    """Copies bytes; the two places may overlap."""

    target: Place
    source: Place
    size: int


class Fill(NamedTuple):
    """Sets bytes to zero."""

    target: Place
    size: int


class Loop(NamedTuple):
    """Does commands a number of times.

    Attributes:
        times: how many.
        first: the number of the row that the first step sees.
        step: what is added to it from step to step, 1 or -1.
        swaps: pairs of storages that change places after each step, and stay so after the loop.
    """

    times: int
    body: tuple[Command, ...]
    first: int = 0
    step: int = 1
    swaps: tuple[tuple[int, int], ...] = ()


class While(NamedTuple):
    """Does `test`, and as long as the byte at `condition` is not zero after that, `body` and `test` again.

    Attributes:
        swaps: pairs of storages that change places after each `body`, and stay so after the loop.
    """

    condition: Place
    test: tuple[Command, ...]
    body: tuple[Command, ...]
    swaps: tuple[tuple[int, int], ...] = ()


class Branch(NamedTuple):
    """Does the commands that the int32 at `choice` selects, the first ones if it is too small, the last ones if too large."""

    choice: Place
    cases: tuple[tuple[Command, ...], ...]


Command = Run | Copy | Fill | Loop | While | Branch


@record(frozen=False)
class Encoded:
    """Commands as words, and what must be known to run them.

    Attributes:
        words: the words.
        memories: of the kernel that has most.
        depth: of loops in each other.
        parallel: whether several threads can share the work of a kernel.
    """

    words: list[int] = field(default_factory=list)
    memories: int = 1
    depth: int = 1
    parallel: bool = False


def encode(commands: Sequence[Command]) -> Encoded:
    """The commands as the native runner reads them.

    Raises:
        ValueError: a number is out of range.
    """
    found = Encoded()
    _encode_all(commands, found, 0)
    return found


def _encode_all(commands: Sequence[Command], into: Encoded, depth: int) -> None:
    words = into.words
    for command in commands:
        start = len(words)
        words.append(0)
        match command:
            case Run(function, memories, groups, chunk):
                if chunk < 1 or groups < 0 or command.tasks > MOST_TASKS:
                    raise ValueError(f"a kernel of {groups} groups can't be done in pieces of {chunk}")
                words.extend((function, len(memories), groups, chunk))
                for place in memories:
                    _encode_place(place, words, depth)
                into.memories = max(into.memories, len(memories))
                into.parallel |= command.tasks > 1
                kind = RUN
            case Copy(target, source, size):
                words.append(size)
                _encode_place(target, words, depth)
                _encode_place(source, words, depth)
                kind = COPY
            case Fill(target, size):
                words.append(size)
                _encode_place(target, words, depth)
                kind = FILL
            case Loop(times, body, first, step, swaps):
                into.depth = max(into.depth, depth + 1)
                words.extend((depth, times, first, step))
                _encode_swaps(swaps, words)
                _encode_all(body, into, depth + 1)
                kind = LOOP
            case While(condition, test, body, swaps):
                _encode_place(condition, words, depth)
                _encode_swaps(swaps, words)
                _encode_block(test, into, depth)
                _encode_all(body, into, depth)
                kind = WHILE
            case Branch(choice, cases):
                if not cases:
                    raise ValueError("a branch needs a case")
                _encode_place(choice, words, depth)
                words.append(len(cases))
                for case in cases:
                    _encode_block(case, into, depth)
                kind = BRANCH
        words[start] = kind | len(words) - start << 8


def _encode_block(commands: Sequence[Command], into: Encoded, depth: int) -> None:
    """Commands after the number of their words."""
    start = len(into.words)
    into.words.append(0)
    _encode_all(commands, into, depth)
    into.words[start] = len(into.words) - start - 1


def _encode_place(place: Place, words: list[int], depth: int) -> None:
    words.extend((place.storage | len(place.rows) << 32, place.offset))
    for loop, size in place.rows:
        if not 0 <= loop < depth:
            raise ValueError(f"{place} is a row in loop {loop}, but {depth} loops are around it")
        words.extend((loop, size))


def _encode_swaps(swaps: Sequence[tuple[int, int]], words: list[int]) -> None:
    words.append(len(swaps))
    for pair in swaps:
        words.extend(pair)
