"""What a program consists of: memories, and steps that use them.

Steps on the device are dispatches, and loops of a known length over such steps. Steps on the host run in between: Python
does them, and everything recorded before is submitted first when they need a value.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cached_property
from typing import Any

import numpy as np

from asgfn.backend import get_backend
from asgfn.graph.types import ArrayType, SourceInfo
from asgfn.records import field, record
from backends.kernels import ir

TEMPORARY, INPUT, OUTPUT, CONSTANT = "temporary", "input", "output", "constant"
NEVER = -1


class Storage:
    """Memory of the device that a program uses, from its first use to the last.

    Two storages that are found to be the same memory are joined: ask for `root`.

    Attributes:
        kind: an input's, an output's (new in each call), a constant's, or a temporary of the program.
        number: of the input or constant; of the memory that temporaries share.
        nbytes: how much, padded.
        first, last: positions of the first and the last step that uses it.
        scopes: the loops that it was made in.
    """

    __slots__ = ("first", "joined", "kind", "last", "nbytes", "number", "scopes")

    def __init__(self, nbytes: int, kind: str = TEMPORARY, number: int = -1):
        self.nbytes, self.kind, self.number = nbytes, kind, number
        self.first = self.last = NEVER
        self.scopes: tuple[Any, ...] = ()
        self.joined: Storage | None = None

    @property
    def root(self) -> Storage:
        found = self
        while found.joined is not None:
            found = found.joined
        return found

    def join(self, other: Storage) -> None:
        """From now on this is the same memory as the other, whose kind it has."""
        mine, theirs = self.root, other.root
        if mine is theirs:
            return
        if mine.kind != TEMPORARY:
            mine, theirs = theirs, mine
        assert mine.kind == TEMPORARY and mine.nbytes == theirs.nbytes
        uses = [x for x in (mine.first, theirs.first) if x != NEVER]
        if mine.first != NEVER and (theirs.first == NEVER or mine.first < theirs.first):
            theirs.scopes = mine.scopes
        theirs.first = min(uses, default=NEVER)
        theirs.last = max(mine.last, theirs.last)
        mine.joined = theirs


class Val:
    """A value of a graph while it is compiled: where it can be found.

    Attributes:
        aval: its type.
        storage: its memory on the device, if it is there.
        slot: the number of its host array, if there is one.
        row: (memory, elements of a row): it is the row, with the number of the loop's step, of a larger array.
    """

    __slots__ = ("aval", "row", "slot", "storage")

    def __init__(
        self,
        aval: ArrayType,
        storage: Storage | None = None,
        slot: int | None = None,
        row: tuple[Storage, int] | None = None,
    ):
        self.aval, self.storage, self.slot, self.row = aval, storage, slot, row

    @property
    def is_empty(self) -> bool:
        return self.aval.size == 0


@record(frozen=False, eq=False)
class Dispatch:
    """A kernel and its memories.

    Attributes:
        storages, sizes, written: its memories, how many bytes of each it sees, and whether it writes to it.
        offsets: by position, the byte of a memory where what it sees starts, if that is not its first.
        kernel: what it computes; or `make_source` gives WGSL.
        rows: positions of memories that are one row of a larger one, and a row's number of elements.
        in_place: pairs of positions (read, written) that may be the same memory.
        guard, guard_entry: it runs only if the guard says so; its number in the table of that.
        is_copy: it copies its first memory to its second, and may be left out if they become the same.
        since: the start of the loop or branch that it is in: what is older may be needed by another turn or branch.
    """

    storages: list[Storage]
    sizes: list[int]
    written: list[bool]
    grid: tuple[int, int, int]
    kernel: ir.Kernel | None = None
    make_source: Callable[[], str] | None = None
    rows: dict[int, int] = field(default_factory=dict)
    offsets: dict[int, int] = field(default_factory=dict)
    in_place: tuple[tuple[int, int], ...] = ()
    guard: Guard | None = None
    guard_entry: int = -1
    is_copy: bool = False
    since: int = 0
    name: str = ""
    kind: str = ""
    scope: str = ""
    place: SourceInfo | None = None
    position: int = NEVER
    text: str = ""  # its source, once all is known
    merged: dict[int, int] = field(default_factory=dict)
    pipeline: Any = None
    writes_for: Guard | None = None  # it is what decides for this guard
    scratch: int = 0  # bytes of memory that each thread of a processor needs for it
    row_bytes: dict[int, int] = field(default_factory=dict)  # for a processor: of each row in `rows`

    def bound(self) -> list[int]:
        """Positions of the memories that are bound."""
        return [k for k in range(len(self.storages)) if k not in self.merged]


class Scope:
    """A loop while it is compiled: what is used in it and was made before it must last until it ends."""

    def __init__(self, start: int):
        self.start = start
        self.outer: set[Storage] = set()


@record(frozen=False, eq=False)
class Loop:
    """Steps that are repeated.

    Attributes:
        rows: the numbers of the steps, in order.
        body: what is repeated.
        swaps: pairs of memories that change places after each step.
        start, end: positions.
        on_device: whether the body is only dispatches.
    """

    rows: range
    body: list[Any]
    swaps: list[tuple[Storage, Storage]]
    start: int
    end: int
    on_device: bool
    numbered: bool = True


@record(frozen=False, eq=False)
class Guard:
    """Decides on the device which lists of dispatches run. See `plumbing`.

    Attributes:
        state, grids: memories that hold the decision.
        table: a constant: for each dispatch its list and its grid.
        parent: the number of the list, of another guard, that it is part of.
        entries: what is in the table.
    """

    state: Storage
    grids: Storage
    table: Storage
    parent: int | None = None
    entries: list[tuple[int, int, int, int]] = field(default_factory=list)


# ---------------------------------------------------------------------------------------------- on the host
@record
class NodeCall:
    """Computes a node with NumPy."""

    primitive: Any
    in_types: tuple[ArrayType, ...]
    out_types: tuple[ArrayType, ...]
    params: Any

    @cached_property
    def kernel(self) -> Callable[[Sequence[np.ndarray]], Sequence[np.ndarray]]:
        return get_backend("numpy").kernel(self.primitive, self.in_types, self.out_types, self.params)

    def __call__(self, values: Sequence[np.ndarray]) -> Sequence[np.ndarray]:
        return self.kernel(values)


@record
class Reshape:
    """Gives its operand another shape."""

    shape: tuple[int, ...]

    def __call__(self, values: Sequence[np.ndarray]) -> Sequence[np.ndarray]:
        return [values[0].reshape(self.shape)]


@record(frozen=False, eq=False)
class Host:
    """A node that Python computes.

    Attributes:
        why: the reason; `is_wanted`: it is what the user asked for (a call of Python).
    """

    function: NodeCall | Reshape
    inputs: list[int]  # slots
    outputs: list[int]
    name: str = ""
    why: str = ""
    is_wanted: bool = False
    scope: str = ""
    place: SourceInfo | None = None


@record(frozen=False, eq=False)
class Download:
    storage: Storage
    slot: int
    aval: ArrayType
    position: int = NEVER


@record(frozen=False, eq=False)
class Upload:
    slot: int
    storage: Storage
    aval: ArrayType
    position: int = NEVER


@record(frozen=False, eq=False)
class Branch:
    """One of several lists, by a number that the host reads, or that whoever runs the program finds in a memory.

    Attributes:
        on_device: whether all lists are only dispatches, and loops and branches of those.
    """

    slot: int
    lists: list[list[Any]]
    where: Storage | None = None
    on_device: bool = False


@record(frozen=False, eq=False)
class While:
    """A loop until a condition fails.

    Attributes:
        guard: decides on the device whether a step still runs; None if the host has to read each step's condition.
        first: starts the guard.
        test: computes the condition (and tells the guard).
        condition: slot of the condition, for the host.
        body: the step.
        settle: copies what an odd number of steps leaves in the wrong memory.
        where: memory of the condition, for whoever runs the program and reads it.
        on_device: whether the loop is only dispatches, and loops and branches of those.
    """

    guard: Guard | None
    first: list[Any]
    test: list[Any]
    condition: int
    body: list[Any]
    settle: list[Any]
    swaps: list[tuple[Storage, Storage]]
    start: int
    end: int
    where: Storage | None = None
    on_device: bool = False


@record(frozen=False, eq=False)
class Check:
    """Raises if a value is not finite (debug_nans)."""

    slots: list[int]
    primitive: Any
    place: SourceInfo | None
    scope: str
    hunt: Any = None  # (graph, slots of its inputs): the operation in it that is to blame


@record(frozen=False, eq=False)
class Commands:
    """Dispatches and loops over dispatches that follow each other: what is recorded in one go."""

    steps: list[Any]


def is_on_device(steps: Iterable[Any]) -> bool:
    """Whether these are only dispatches, and loops and branches that need nobody else."""
    return all(isinstance(s, Dispatch) or (isinstance(s, (Loop, Branch, While)) and s.on_device) for s in steps)


def inner_lists(step: Any) -> list[list[Any]]:
    """The lists of steps that a step holds."""
    if isinstance(step, Loop):
        return [step.body]
    if isinstance(step, Branch):
        return step.lists
    if isinstance(step, While):
        return [step.first, step.test, step.body, step.settle]
    if isinstance(step, Commands):
        return [step.steps]
    return []


def walk(steps: Iterable[Any]) -> Iterator[Any]:
    """All steps, those that others hold included."""
    for step in steps:
        yield step
        for held in inner_lists(step):
            yield from walk(held)


def untold(steps: Sequence[Any], told: set[tuple[str, str]]) -> Iterator[tuple[Host, str]]:
    """The operations that the host computes and nobody has heard of, with their place for a message; then these were told.

    Arguments:
        told: names of primitives, with the reason.
    """
    for step in walk(steps):
        if isinstance(step, Host) and step.name and not step.is_wanted and (step.name, step.why) not in told:
            told.add((step.name, step.why))
            yield step, f" at {step.place}" if step.place is not None else ""


def dispatches(steps: Iterable[Any]) -> Iterator[Dispatch]:
    return (s for s in walk(steps) if isinstance(s, Dispatch))
