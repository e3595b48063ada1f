"""A bitonic network: sorts blocks of keys in the memory of a workgroup.

No two elements are equal: of equal keys the earlier element is the smaller one, so that the order is the only one. Source:
K. Batcher, "Sorting networks and their applications", 1968, in the form in which all comparisons point one way.
"""

from __future__ import annotations

from collections.abc import Callable

from backends.kernels import index as ix
from backends.kernels.index import Index
from backends.kernels.ir import BOOL, I32, U32, Builder, Value
from backends.kernels.target import Target

BYTES = 8  # of an element in workgroup memory: key and place


class Network:
    """A bitonic network over blocks in workgroup memory.

    Attributes:
        span: elements of a block, a power of two.
        elements: of all blocks of a workgroup.
    """

    def __init__(self, b: Builder, threads: int, span: int, room: int):
        self.b, self.threads, self.span = b, threads, span
        # short blocks share a workgroup
        self.elements = max(span, min(2 * threads, room))
        self.keys = b.workgroup_memory(U32, self.elements)
        self.places = b.workgroup_memory(U32, self.elements)
        self.thread = ix.axis("thread", threads)
        b.set_axis(self.thread, b.builtin("thread"))

    def first_piece(self, target: Target, pieces: int) -> tuple[Index, tuple[int, int, int]]:
        """The number of the workgroup's first block, and the grid."""
        b = self.b
        each = self.elements // self.span
        grid = target.grid_of(-(-pieces // each))
        group = b.builtin("group_x")
        if grid[1] > 1:
            group = b.op("add", b.op("mul", b.builtin("group_y"), b.constant(grid[0], I32)), group)
        return ix.computed(group, 0, grid[0] * grid[1] - 1) * each, grid

    def run(self, load: Callable[[Index], Value], store: Callable[[Index, Value, Value], None]) -> None:
        """Sorts. `load` gives the key of an element, `store` gets the key and the place in its block of a sorted one."""
        b = self.b
        self._all(
            lambda local: self._put(local, load(local), b.op("convert", b.index(local.digit(1, self.span)), dtype=U32))
        )
        b.barrier()
        levels = self.span.bit_length() - 1
        level = ix.axis("level", levels)
        if levels:
            with b.loop(level):
                half = b.op("convert", b.index(level), dtype=U32)  # log2 of half the size of what is merged
                self._exchange(half, mirrored=True)
                b.barrier()
                if levels > 1:
                    step = ix.axis("step", levels)
                    with b.loop(step, stop=b.index(level)):
                        self._exchange(b.op("convert", b.index(level - 1 - step), dtype=U32), mirrored=False)
                        b.barrier()
        self._all(
            lambda local: store(
                local,
                b.load(self.keys, b.index(local)),
                b.op("convert", b.load(self.places, b.index(local)), dtype=I32),
            )
        )

    def _all(self, visit: Callable[[Index], None]) -> None:
        """Visits all elements, each by one thread."""
        self._each(self.elements, visit)

    def _each(self, count: int, visit: Callable[[Index], None]) -> None:
        b = self.b
        rounds = ix.axis("round", -(-count // self.threads))
        with b.loop(rounds):
            number = rounds * self.threads + self.thread
            with b.when(b.within(number, 0, count)):
                visit(ix.computed(b.index(number), 0, count - 1))

    def _put(self, local: Index, key: Value, place: Value) -> None:
        self.b.store(self.keys, self.b.index(local), key)
        self.b.store(self.places, self.b.index(local), place)

    def _exchange(self, half: Value, mirrored: bool) -> None:
        """Puts pairs in order: those 2**half apart, or those at the same distance from the middle of 2 * 2**half."""
        b = self.b
        one = b.constant(1, U32)
        distance = b.op("shift_left", one, half)
        mask = b.op("sub", distance, one)

        def visit(pair: Index) -> None:
            number = b.op("convert", b.index(pair), dtype=U32)
            inner = b.op("and", number, mask)
            start = b.op("shift_left", b.op("shift_right", number, half), b.op("add", half, one))
            first = b.op("add", start, inner)
            if mirrored:
                second = b.op("sub", b.op("add", start, b.op("add", distance, mask)), inner)
            else:
                second = b.op("add", first, distance)
            i, j = (b.op("convert", v, dtype=I32) for v in (first, second))
            a, c = b.load(self.keys, i), b.load(self.keys, j)
            p, q = b.load(self.places, i), b.load(self.places, j)
            greater = b.op("gt", a, c, dtype=BOOL)
            later = b.op("and", b.op("eq", a, c, dtype=BOOL), b.op("gt", p, q, dtype=BOOL))
            with b.when(b.op("or", greater, later)):
                for memory, x, y in ((self.keys, a, c), (self.places, p, q)):
                    b.store(memory, i, y)
                    b.store(memory, j, x)

        self._each(self.elements // 2, visit)
