"""Strips of a product of matrices, as LLVM IR text: mr rows of a, or fewer, with all columns of b.

For each step of k one element of each row of a is broadcast and multiplied with the vectors of b's row, which are added
to a tile of sums in registers. There is a function for each number of rows; each also does the columns that fill no
whole tile: with masks where the host has them, else with narrower vectors. Rows that come from a table of windows may be
fewer than a function has: the last one is then done several times.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from asgfn.records import record
from backends.llvm.gemm_machine import SUFFIX, Machine, listed
from backends.llvm.gemm_shape import LONG, GemmShape
from backends.llvm.gemm_text import Text


@record
class Columns:
    """Neighbouring columns of a tile: where in which panel of b they start, and how many lanes of a vector they
    fill."""

    panel: int
    offset: int
    width: int
    mask: str | None = None


class Stride:
    """A distance, in bytes, of which a loop needs several multiples: loads add once, twice or four times a register to
    another one by themselves, so this takes three registers for all of them."""

    def __init__(self, text: Text, once: str):
        self.text, self.once, self.thrice = text, once, text.mul(once, 3)

    def places(self, start: str, count: int) -> list[str]:
        """The addresses of so many things, 8 at most, that are so far from each other."""
        t = self.text
        twice, four_times, six_times = (
            t.op(f"shl i64 {x}, {n}") for x, n in ((self.once, 1), (self.once, 2), (self.thrice, 1))
        )
        far = t.at("i8", start, self.thrice)
        near = [start, *(t.at("i8", start, x) for x in (self.once, twice))]
        return [
            *near,
            far,
            t.at("i8", start, four_times),
            t.at("i8", far, twice),
            t.at("i8", start, six_times),
            t.at("i8", far, four_times),
        ][:count]


@record
class Panels:
    """How far panels of b are from each other, and how many columns of the result."""

    stride: Stride
    columns: int


class Strip:
    """The function of so many rows of a with all columns of b, for one part of k."""

    def __init__(self, shape: GemmShape, rows: int, windows: bool = False):
        self.shape, self.rows, self.windows = shape, rows, windows
        name, parameters = strip_name(shape, rows, windows), ", ".join(map(" ".join, strip_parameters(windows)))
        self.text = Text(f"define void @{name}({parameters}) noinline nounwind")
        self.machine = Machine(self.text, shape)

    def write(self) -> str:
        t, shape = self.text, self.shape
        numbers: list[str] = [str(i) for i in range(self.rows)]
        if self.windows:
            last = t.sub("%count", 1)
            numbers = [n if n == "0" else t.least(n, last) for n in numbers]
            self.a_rows = [t.at(shape.scalar, "%a", listed(t, "%rows", n)) for n in numbers]
        else:
            self.a_row, self.a_k = Stride(t, t.mul("%a_row", shape.size)), t.mul("%a_k", shape.size)
        self.panels = Panels(Stride(t, t.mul("%b_panel", shape.size)), shape.nr)
        self.b_k = t.mul("%b_k", shape.size)
        self.c_rows = [n if n == "0" else t.mul("%c_row", n) for n in numbers]
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
        self._rest(done, b)
        return t.finish()

    def _one_is_left(self) -> str:
        """Whether the last panel has but one vector, and is not the only one."""
        t, shape = self.text, self.shape
        left = t.op(f"urem i64 %n, {shape.nr}")
        few = t.both(t.less("0", left), t.op(f"icmp sle i64 {left}, {shape.lanes}"))
        return t.both(few, t.less(str(shape.nr), "%n"))

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
        step = t.mul(self.panels.stride.once, together)

        def panel(j: str, carried: list[str]) -> Sequence[str]:
            # after the last ones there may be no memory: asking for it would be harmless, but slow
            ahead = t.select(t.less(j, last), "i64", step, 0)
            self._tile(columns, self.panels, carried[0], t.at(shape.scalar, "%c", j), ahead)
            return [t.at("i8", carried[0], step), t.add(j, width)]

        end = t.sub(self.end, width - 1)
        last = t.sub(end, width)
        b, done = t.loop(done, end, width, [("ptr", b), ("i64", done)], panel)
        return done, b

    def _rest(self, done: str, b: str) -> Sequence[str]:
        """The columns that fill no whole panel."""
        t, shape, lanes = self.text, self.shape, self.shape.lanes
        if shape.vectors.masks:
            self._masked_rest(done, b)
            return ()
        left = t.sub("%n", done)
        c = t.at(shape.scalar, "%c", done)
        whole = [Columns(0, group * lanes, lanes) for group in range(shape.groups)]
        for groups in range(1, shape.groups):
            fits = t.equal(t.div(left, lanes), groups)
            t.when(fits, lambda groups=groups: self._tile(whole[:groups], self.panels, b, c))  # type: ignore[misc]
        used = t.op(f"and i64 {left}, {-lanes}")
        b, c = (t.at(shape.scalar, p, used) for p in (b, c))
        width = lanes // 2
        while width:
            is_set = t.op(f"icmp ne i64 {t.op(f'and i64 {left}, {width}')}, 0")

            def narrow(width: int = width, b: str = b, c: str = c) -> Sequence[str]:
                self._tile([Columns(0, 0, width)], self.panels, b, c)
                return [t.at(shape.scalar, b, width), t.at(shape.scalar, c, width)]

            b, c = t.when(is_set, narrow, [("ptr", b), ("ptr", c)])
            width //= 2
        return ()

    def _masked_rest(self, done: str, b: str) -> None:
        """The last columns, perhaps a panel and a vector: four vectors at a time where there are so many and registers for
        them, then two and one."""
        t, shape, lanes = self.text, self.shape, self.shape.lanes
        scalar = shape.scalar
        four = [*(Columns(0, group * lanes, lanes) for group in range(shape.groups)), Columns(1, 0, lanes)]
        if shape.joins and len(four) * self.rows <= shape.mr * shape.groups:
            left = t.sub("%n", done)

            def last() -> Sequence[str]:
                four[-1] = Columns(1, 0, lanes, self.machine.mask(t.sub(left, shape.nr)))
                self._tile(four, self.panels, b, t.at(scalar, "%c", done))
                return ["%n"]

            done = t.when(t.less(str(shape.nr), left), last, [("i64", done)])[0]

        def two(j: str, carried: list[str]) -> Sequence[str]:
            start, apart, _ = carried
            mask = self.machine.mask(t.sub(t.sub("%n", j), lanes))
            vectors = [Columns(0, 0, lanes), Columns(1, 0, lanes, mask)]
            self._tile(vectors, Panels(Stride(t, apart), lanes), start, t.at(scalar, "%c", j))
            return [t.at(scalar, start, 2 * lanes), onwards, t.add(j, 2 * lanes)]

        def one() -> Sequence[str]:
            mask = self.machine.mask(t.sub("%n", done))
            self._tile([Columns(0, 0, lanes, mask)], self.panels, b, t.at(scalar, "%c", done))
            return ()

        # the second of the last two vectors may be in the next panel
        onwards = t.sub(self.panels.stride.once, 2 * lanes * shape.size)
        first = [("ptr", b), ("i64", str(lanes * shape.size)), ("i64", done)]
        b, _, done = t.loop(done, t.sub("%n", lanes), 2 * lanes, first, two)
        t.when(t.less(done, "%n"), one)

    def _tile(
        self, columns: Sequence[Columns], between: Panels, b: str, c: str, ahead: str | None = None
    ) -> Sequence[str]:
        """The sums of a tile, in registers, then their way into the result. Reads ahead of b what lies so far on."""
        t, shape, machine = self.text, self.shape, self.machine
        panels = columns[-1].panel + 1
        tile = [(i, column) for i in range(self.rows) for column in columns]
        kinds = [machine.kind(column.width) for _, column in tile]
        zeros = ["zeroinitializer" if column.width > 1 else "0.0" for _, column in tile]

        def step(p: str, values: list[str]) -> Sequence[str]:
            in_a, in_b, *sums = values
            starts = between.stride.places(in_b, panels)
            vectors = [
                machine.load(t.at(shape.scalar, starts[column.panel], column.offset), column.width, column.mask)
                for column in columns
            ]
            if ahead:
                for place in between.stride.places(t.at("i8", in_b, ahead), panels):
                    machine.prefetch(place)
            following = []
            places = self._listed(p) if self.windows else self.a_row.places(in_a, self.rows)
            for i, place in enumerate(places):
                factor = machine.broadcast(machine.load(place, 1), columns[0].width)
                for j, column in enumerate(columns):
                    before = sums[i * len(columns) + j]
                    following.append(machine.multiply_add(factor, vectors[j], before, column.width))
            return ["%a" if self.windows else t.at("i8", in_a, self.a_k), t.at("i8", in_b, self.b_k), *following]

        carried = [("ptr", "%a"), ("ptr", b), *zip(kinds, zeros, strict=True)]
        if self.windows:  # the place in the table is the counter: there are hardly enough registers
            first = t.op("ptrtoint ptr %depths to i64")
            _, _, *sums = t.loop(first, t.add(first, t.mul("%k", 4)), 4, carried, step)
        else:
            _, _, *sums = t.loop(0, "%k", 1, carried, step)
        places = [
            t.at(shape.scalar, t.at(shape.scalar, c, self.c_rows[i]), column.panel * between.columns + column.offset)
            for i, column in tile
        ]

        def added() -> Sequence[str]:
            old = [machine.load(p, column.width, column.mask) for p, (_, column) in zip(places, tile, strict=True)]
            return [t.op(f"fadd {kind} {a}, {b}") for kind, a, b in zip(kinds, old, sums, strict=True)]

        results = t.when("%accumulate", added, [*zip(kinds, sums, strict=True)])
        for place, (_, column), result in zip(places, tile, results, strict=True):
            machine.store(result, place, column.width, column.mask)
        return ()

    def _listed(self, entry: str) -> list[str]:
        """Where the rows' elements of a are whose place in all windows is at an address."""
        t = self.text
        place = listed(t, t.op(f"inttoptr i64 {entry} to ptr"), 0)
        return [t.at(self.shape.scalar, row, place) for row in self.a_rows]


def strips(shape: GemmShape, windows: bool = False) -> dict[str, Callable[[], str]]:
    """What writes the functions of strips, by their names."""
    return {
        strip_name(shape, rows, windows): lambda rows=rows: Strip(shape, rows, windows).write()  # type: ignore[misc]
        for rows in strip_sizes(shape, windows)
    }


def strip_sizes(shape: GemmShape, windows: bool) -> list[int]:
    """For which numbers of rows there are functions."""
    if not windows:
        return list(range(1, shape.mr + 1))
    return sorted({shape.half_rows, shape.mr, *([shape.joined_rows] if shape.joins else [])})


def strip_parameters(windows: bool) -> list[tuple[str, str]]:
    """The types and names of the parameters that the functions of strips have. `count`: how many rows there are."""
    count = [("i64", "%count")] if windows else []
    a = [("ptr", "%rows"), ("ptr", "%depths")] if windows else [("i64", "%a_row"), ("i64", "%a_k")]
    b = [("ptr", "%b"), ("i64", "%b_k"), ("i64", "%b_panel")]
    return [
        *(*count, ("i64", "%n"), ("i64", "%k"), ("ptr", "%a"), *a, *b),
        *(("ptr", "%c"), ("i64", "%c_row"), ("i1", "%accumulate")),
    ]


def strip_name(shape: GemmShape, rows: int | str, windows: bool = False) -> str:
    return f"gemm_{'windows_' if windows else ''}{SUFFIX[shape.scalar]}_rows_{rows}"
