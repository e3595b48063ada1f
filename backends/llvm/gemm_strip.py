"""Strips of a product of matrices, as LLVM IR text: mr rows of a, or fewer, with all columns of b.

For each step of k one element of each row of a is broadcast and multiplied with the vectors of b's row, which are added
to a tile of sums in registers. There is a function for each number of rows; each also does the columns that fill no
whole tile: with masks where the host has them, else with narrower vectors.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from backends.llvm.gemm_machine import SUFFIX, Machine, listed
from backends.llvm.gemm_shape import LONG, GemmShape
from backends.llvm.gemm_text import Text


@dataclass(frozen=True)
class Columns:
    """Neighbouring columns of a tile: where in which panel of b they start, and how many lanes of a vector they
    fill."""

    panel: int
    offset: int
    width: int
    mask: str | None = None


class Strip:
    """The function of so many rows of a with all columns of b, for one part of k."""

    def __init__(self, shape: GemmShape, rows: int, windows: bool = False):
        self.shape, self.rows, self.windows = shape, rows, windows
        name, parameters = strip_name(shape, rows, windows), ", ".join(map(" ".join, strip_parameters(windows)))
        self.text = Text(f"define void @{name}({parameters}) noinline nounwind")
        self.machine = Machine(self.text, shape)

    def write(self) -> str:
        t, shape = self.text, self.shape
        places = [listed(t, "%rows", i) if self.windows else t.mul("%a_row", i) if i else 0 for i in range(self.rows)]
        self.a_rows = [t.at(shape.scalar, "%a", place) for place in places]
        self.c_rows = [t.mul("%c_row", i) if i else "0" for i in range(self.rows)]
        # few rows take several panels at once: enough independent sums to keep the units busy
        together = max(1, shape.mr // self.rows)
        done, b = "0", "%b"
        if self.rows == 1 and not self.windows:
            long = t.both(t.equal("%b_panel", shape.nr), t.less(str(LONG - 1), "%n"))
            sums = t.op(f"alloca [{LONG} x {shape.scalar}], align 64")
            done, b = t.when(long, lambda: self._stream(sums), [("i64", done), ("ptr", b)])
        # a vector that would be left alone goes with the panel before it
        self.end = t.sub("%n", t.select(self._one_is_left(), "i64", shape.nr, 0)) if shape.joins else "%n"
        if together > 1:
            done, b = self._panels(done, b, together)
        done, b = self._panels(done, b, 1)
        if shape.joins:
            t.when(
                t.less(str(shape.nr), t.sub("%n", done)),
                lambda: self._panel_and_vector(done, b),
                lambda: self._rest(done, b),
            )
        else:
            self._rest(done, b)
        return t.finish()

    def _one_is_left(self) -> str:
        """Whether the last panel has but one vector, and is not the only one."""
        t, shape = self.text, self.shape
        left = t.op(f"urem i64 %n, {shape.nr}")
        few = t.both(t.less("0", left), t.op(f"icmp sle i64 {left}, {shape.lanes}"))
        return t.both(few, t.less(str(shape.nr), "%n"))

    def _panel_and_vector(self, done: str, b: str) -> Sequence[str]:
        """The last columns, if these are a panel and a vector: half of them in a tile, or all."""
        t, shape, lanes = self.text, self.shape, self.shape.lanes
        c = t.at(shape.scalar, "%c", done)
        mask = self.machine.mask(t.sub(t.sub("%n", done), shape.nr))
        columns = [*(Columns(0, group * lanes, lanes) for group in range(shape.groups)), Columns(1, 0, lanes, mask)]
        width = len(columns) if len(columns) * self.rows <= shape.mr * shape.groups else len(columns) // 2
        for first in range(0, len(columns), width):
            self._tile(columns[first : first + width], b, c)
        return ()

    def _stream(self, sums: str) -> Sequence[str]:
        """One row with a wide b in rows: reads four long pieces of rows at a time, as memory likes it, and keeps the
        sums of the columns in memory that stays in the first cache. Each is the same sum in the same order as in a
        tile."""
        t, shape, machine = self.text, self.shape, self.machine
        scalar, lanes = shape.scalar, shape.lanes
        kind = machine.kind(lanes)
        end = t.mul(t.div("%n", shape.nr), shape.nr)

        def columns(j: str, _: list[str]) -> Sequence[str]:
            count = t.least(t.sub(end, j), LONG)
            b = t.at(scalar, "%b", j)

            def clear(i: str, _: list[str]) -> Sequence[str]:
                machine.store("zeroinitializer", t.at(scalar, sums, i), lanes)
                return ()

            def steps(height: int, first: str) -> str:
                def step(p: str, _: list[str]) -> Sequence[str]:
                    numbers = [p if not u else t.add(p, u) for u in range(height)]
                    factors = [
                        machine.broadcast(machine.load(t.at(scalar, "%a", t.mul(q, "%a_k")), 1), lanes) for q in numbers
                    ]
                    rows = [t.at(scalar, b, t.mul(q, "%b_k")) for q in numbers]

                    def add(i: str, _: list[str]) -> Sequence[str]:
                        place = t.at(scalar, sums, i)
                        value = machine.load(place, lanes)
                        for factor, row in zip(factors, rows, strict=True):
                            value = machine.multiply_add(
                                factor, machine.load(t.at(scalar, row, i), lanes), value, lanes
                            )
                        machine.store(value, place, lanes)
                        return ()

                    t.loop(0, count, lanes, (), add)
                    return [t.add(p, height)]

                return t.loop(first, t.sub("%k", height - 1), height, [("i64", first)], step)[0]

            def finish(i: str, _: list[str]) -> Sequence[str]:
                place = t.at(scalar, t.at(scalar, "%c", j), i)
                value = machine.load(t.at(scalar, sums, i), lanes)
                (result,) = t.when(
                    "%accumulate",
                    lambda: [t.op(f"fadd {kind} {machine.load(place, lanes)}, {value}")],
                    [(kind, value)],
                )
                machine.store(result, place, lanes)
                return ()

            t.loop(0, count, lanes, (), clear)
            steps(1, steps(4, "0"))
            t.loop(0, count, lanes, (), finish)
            return ()

        t.loop(0, end, LONG, (), columns)
        return [end, t.at(scalar, "%b", end)]

    def _panels(self, done: str, b: str, together: int) -> tuple[str, str]:
        """Whole panels, so many at a time, from those done on."""
        t, shape = self.text, self.shape
        width = together * shape.nr
        columns = [
            Columns(panel, group * shape.lanes, shape.lanes)
            for panel in range(together)
            for group in range(shape.groups)
        ]
        step = t.mul("%b_panel", together)

        def panel(j: str, carried: list[str]) -> Sequence[str]:
            # after the last ones there may be no memory: asking for it would be harmless, but slow
            ahead = t.select(t.less(j, last), "i64", step, 0)
            self._tile(columns, carried[0], t.at(shape.scalar, "%c", j), ahead)
            return [t.at(shape.scalar, carried[0], step), t.add(j, width)]

        end = t.sub(self.end, width - 1)
        last = t.sub(end, width)
        b, done = t.loop(done, end, width, [("ptr", b), ("i64", done)], panel)
        return done, b

    def _rest(self, done: str, b: str) -> Sequence[str]:
        """The columns that fill no whole panel."""
        t, shape, lanes = self.text, self.shape, self.shape.lanes
        left = t.sub("%n", done)
        c = t.at(shape.scalar, "%c", done)
        whole = [Columns(0, group * lanes, lanes) for group in range(shape.groups)]
        if shape.vectors.masks:
            for groups in range(shape.groups):
                count = t.sub(left, groups * lanes)

                def part(groups: int = groups, count: str = count) -> Sequence[str]:
                    mask = self.machine.mask(count)
                    self._tile([*whole[:groups], Columns(0, groups * lanes, lanes, mask)], b, c)
                    return ()

                there = t.less(str(groups * lanes), left)
                t.when(t.both(there, t.op(f"icmp sle i64 {count}, {lanes}")), part)
            return ()
        for groups in range(1, shape.groups):
            fits = t.equal(t.div(left, lanes), groups)
            t.when(fits, lambda groups=groups: self._tile(whole[:groups], b, c))  # type: ignore[misc]
        used = t.op(f"and i64 {left}, {-lanes}")
        b, c = (t.at(shape.scalar, p, used) for p in (b, c))
        width = lanes // 2
        while width:
            is_set = t.op(f"icmp ne i64 {t.op(f'and i64 {left}, {width}')}, 0")

            def narrow(width: int = width, b: str = b, c: str = c) -> Sequence[str]:
                self._tile([Columns(0, 0, width)], b, c)
                return [t.at(shape.scalar, b, width), t.at(shape.scalar, c, width)]

            b, c = t.when(is_set, narrow, [("ptr", b), ("ptr", c)])
            width //= 2
        return ()

    def _tile(self, columns: Sequence[Columns], b: str, c: str, ahead: str | None = None) -> Sequence[str]:
        """The sums of a tile, in registers, then their way into the result. Reads ahead of b what lies so far on."""
        t, shape, machine = self.text, self.shape, self.machine
        panels = [t.at(shape.scalar, b, t.mul("%b_panel", q) if q else 0) for q in range(columns[-1].panel + 1)]
        following_panels = [t.at(shape.scalar, panel, ahead) for panel in panels] if ahead else []
        tile = [(i, column) for i in range(self.rows) for column in columns]
        kinds = [machine.kind(column.width) for _, column in tile]
        zeros = ["zeroinitializer" if column.width > 1 else "0.0" for _, column in tile]
        carried = [("i64", "0"), ("i64", "0"), *zip(kinds, zeros, strict=True)]

        def step(p: str, values: list[str]) -> Sequence[str]:
            in_a, in_b, *sums = values
            if self.windows:
                in_a = listed(t, t.op(f"inttoptr i64 {p} to ptr"), 0)
            starts = [t.at(shape.scalar, panel, in_b) for panel in panels]
            vectors = [
                machine.load(t.at(shape.scalar, starts[column.panel], column.offset), column.width, column.mask)
                for column in columns
            ]
            for panel in following_panels:
                machine.prefetch(t.at(shape.scalar, panel, in_b))
            following = []
            for i in range(self.rows):
                element = t.op(f"load {shape.scalar}, ptr {t.at(shape.scalar, self.a_rows[i], in_a)}")
                for j, column in enumerate(columns):
                    factor = machine.broadcast(element, column.width)
                    before = sums[i * len(columns) + j]
                    following.append(machine.multiply_add(factor, vectors[j], before, column.width))
            return ["0" if self.windows else t.add(in_a, "%a_k"), t.add(in_b, "%b_k"), *following]

        if self.windows:  # the place in the table is the counter: there are hardly enough registers
            first = t.op("ptrtoint ptr %depths to i64")
            _, _, *sums = t.loop(first, t.add(first, t.mul("%k", 4)), 4, carried, step)
        else:
            _, _, *sums = t.loop(0, "%k", 1, carried, step)
        places = [
            t.at(shape.scalar, t.at(shape.scalar, c, self.c_rows[i]), column.panel * shape.nr + column.offset)
            for i, column in tile
        ]

        def added() -> Sequence[str]:
            old = [machine.load(p, column.width, column.mask) for p, (_, column) in zip(places, tile, strict=True)]
            return [t.op(f"fadd {kind} {a}, {b}") for kind, a, b in zip(kinds, old, sums, strict=True)]

        results = t.when("%accumulate", added, [*zip(kinds, sums, strict=True)])
        for place, (_, column), result in zip(places, tile, results, strict=True):
            machine.store(result, place, column.width, column.mask)
        return ()


def strips(shape: GemmShape, windows: bool = False) -> dict[str, Callable[[], str]]:
    """What writes the functions of strips, by their names."""
    sizes = range(1, shape.mr + 1)
    return {strip_name(shape, rows, windows): lambda rows=rows: Strip(shape, rows, windows).write() for rows in sizes}  # type: ignore[misc]


def strip_parameters(windows: bool) -> list[tuple[str, str]]:
    """The types and names of the parameters that the functions of strips have."""
    a = [("ptr", "%rows"), ("ptr", "%depths")] if windows else [("i64", "%a_row"), ("i64", "%a_k")]
    b = [("ptr", "%b"), ("i64", "%b_k"), ("i64", "%b_panel")]
    return [
        *(("i64", "%n"), ("i64", "%k"), ("ptr", "%a"), *a, *b),
        *(("ptr", "%c"), ("i64", "%c_row"), ("i1", "%accumulate")),
    ]


def strip_name(shape: GemmShape, rows: int | str, windows: bool = False) -> str:
    return f"gemm_{'windows_' if windows else ''}{SUFFIX[shape.scalar]}_rows_{rows}"
