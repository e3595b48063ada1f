"""Plans of several kernels, put together one by one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from backends.kernels import index as ix
from backends.kernels.index import Index
from backends.kernels.ir import BOOL, I32, Builder, Kernel, Memory
from backends.kernels.lowering import Argument, Plan, Stage
from backends.kernels.schedules.elementwise import THREADS, thread_number
from backends.kernels.target import Target


class Stages:
    """The stages of a plan, and its temporaries.

    Attributes:
        target: what the kernels are made for.
    """

    def __init__(self, target: Target):
        self.target = target
        self._stages: list[Stage] = []
        self._temporaries: list[tuple[str, int]] = []
        self._zeros: list[Argument] = []
        self._bound: dict[Argument, Memory] = {}  # of the kernel that is being written

    def temporary(self, dtype: str, size: int, zeros: bool = False) -> Argument:
        """Memory of the plan's own."""
        argument = Argument("temporary", len(self._temporaries))
        self._temporaries.append((dtype, size))
        if zeros:
            self._zeros.append(argument)
        return argument

    def bind(self, b: Builder, argument: Argument, name: str, dtype: str = "", size: int = 0) -> Memory:
        """The memory of an argument, in a kernel; inputs and outputs must be told type and size."""
        found = self._bound.get(argument)
        if found is not None:
            return found
        if argument.kind == "temporary":
            dtype, size = self._temporaries[argument.number]
        self._bound[argument] = b.argument(name, dtype, size)
        return self._bound[argument]

    def add(self, kernel: Kernel) -> None:
        """The next stage: a kernel whose memories were all made by `bind`."""
        assert kernel.memories == list(self._bound.values())
        self._stages.append(Stage(kernel, tuple(self._bound)))
        self._bound = {}

    @contextmanager
    def each(self, b: Builder, count: int, name: str, moved: float = 0.0) -> Iterator[Index]:
        """A kernel of one thread for each number below `count`: inside, what a thread does; then it is the next stage."""
        threads = min(THREADS, self.target.workgroup_threads)
        number, grid = thread_number(b, self.target, -(-count // threads), threads)
        whole = grid[0] * grid[1] * threads == count
        inside = None if whole else b.op("lt", b.index(number), b.constant(count, I32), dtype=BOOL)
        flat = ix.axis("flat", count)
        b.set_axis(flat, b.index(number))
        with b.when(inside):
            yield flat
        written = sum(4 * m.size for m in b.memories)
        self.add(b.kernel(name, (threads,), grid, bytes=moved or float(written)))

    def plan(self, copies: tuple[tuple[int, int], ...] = ()) -> Plan:
        """The finished plan."""
        return Plan(tuple(self._stages), temporaries=tuple(self._temporaries), copies=copies, zeros=tuple(self._zeros))


def bounded(b: Builder, index: Index, n: int) -> Index:
    """An index that is not negative, and known (but not by its bounds) to be below n where it is used."""
    return index if index.high < n else ix.computed(b.index(index), 0, n - 1)
