"""Strips of a product of matrices, as LLVM IR text: mr rows of a, or fewer, with all columns of b.

For each step of k one element of each row of a is broadcast and multiplied with the vectors of b's row, which are added
to a tile of sums in registers. There are functions for few numbers of rows. A strip may have fewer than its function: the
last one is then done several times.

A tile is as many columns as there are registers for, the last vector with a mask where the host has them, while that is
needed; what is left is done two vectors at a time where a panel has three, then a vector, or an element. A whole tile goes
from registers into the result, others through memory by a function that all strips share: that is far shorter.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from asgfn.records import record
from backends.llvm.gemm_machine import SUFFIX, Machine, listed
from backends.llvm.gemm_shape import GemmShape
from backends.llvm.gemm_text import Text


@record
class Columns:
    """A tile's columns: so many vectors, each of so many lanes, in each of its pieces. Pieces lie anywhere in panels, all
    as far apart; none is in two."""

    pieces: tuple[int, ...]
    lanes: int

    @property
    def vectors(self) -> int:
        return sum(self.pieces)

    @property
    def count(self) -> int:
        return self.vectors * self.lanes


class Strip:
    """The function of so many rows of a with all columns of b, for one part of k."""

    def __init__(self, shape: GemmShape, rows: int, windows: bool = False):
        self.shape, self.rows, self.windows = shape, rows, windows
        name, parameters = strip_name(shape, rows, windows), ", ".join(map(" ".join, strip_parameters(windows)))
        self.text = Text(f"define void @{name}({parameters}) noinline nounwind")
        self.machine = Machine(self.text, shape)

    def write(self) -> str:
        t, shape = self.text, self.shape
        wide = self._wide()
        self.sums = t.op(f"alloca [{self.rows * wide.count} x {shape.scalar}], align 16")
        self.a_rows = t.op(f"alloca [{self.rows} x ptr], align 8")
        t.loop(0, self.rows, 1, (), self._find_row)
        self.b_k, self.b_panel = t.mul("%b_k", shape.size), t.mul("%b_panel", shape.size)
        if self.windows:  # the place in the table is the counter: there are hardly enough registers
            first = t.op("ptrtoint ptr %depths to i64")
            self.steps, self.a_unit, self.a_k = (first, t.add(first, t.mul("%k", 4)), 4), shape.scalar, ""
        else:
            self.steps, self.a_unit, self.a_k = (t.sub("0", "%k"), "0", 1), "i8", t.mul("%a_k", shape.size)
        done = self._tiles("0", wide)
        if shape.groups > 2:  # a third of the panel is often not there: sizes are powers of two
            done = self._tiles(done, Columns((1,) * (shape.groups - 1), shape.lanes))
        if wide.vectors > 1:
            done = self._tiles(done, Columns((1,), shape.lanes))
        if not shape.vectors.masks:
            self._tiles(done, Columns((1,), 1))
        return t.finish()

    def _find_row(self, i: str, _: list[str]) -> Sequence[str]:
        """Notes where a row of a starts, for all tiles; meanwhile its register is free."""
        t = self.text
        row = t.least(i, t.sub("%count", 1))
        place = listed(t, "%rows", row) if self.windows else t.mul("%a_row", row)
        t.do(f"store ptr {t.at(self.shape.scalar, '%a', place)}, ptr {t.at('ptr', self.a_rows, i)}, align 8")
        return ()

    def _wide(self) -> Columns:
        """The columns of the widest tile. Few rows take several panels at once: enough independent sums to keep the units
        busy."""
        shape = self.shape
        if shape.joins and self.rows == shape.joined_rows:
            return Columns((shape.groups, 1), shape.lanes)
        return Columns((shape.groups,) * max(1, shape.mr // self.rows), shape.lanes)

    def _tiles(self, done: str, columns: Columns) -> str:
        """Such tiles, from the columns done on, as long as all their vectors are needed; with masks also if the last one is
        in part. Returns the first column that is not done."""
        t, shape = self.text, self.shape
        # where masks take the place of a row's sums they are for a single panel
        is_masked = shape.vectors.masks == "avx512" or (shape.vectors.masks == "avx2" and columns.count <= shape.nr)
        full = columns.count - columns.lanes

        def place(j: str) -> str:
            """Where column j is in b's rows, in bytes."""
            panel, inside = t.div(j, shape.nr), t.op(f"urem i64 {j}, {shape.nr}")
            return t.add(t.mul(panel, self.b_panel), t.mul(inside, shape.size))

        def tile(j: str, _: list[str]) -> Sequence[str]:
            left = t.sub("%n", j)
            mask = self.machine.mask(t.sub(left, full)) if is_masked else None
            first = place(j)
            # what is left of a panel may end in the next one
            apart = t.sub(place(t.add(j, columns.pieces[0] * columns.lanes)), first) if len(columns.pieces) > 1 else ""
            # after the last ones there may be no memory: asking for it would be harmless, but slow
            ahead = None
            if columns.count >= shape.nr:
                panels = -(-columns.count // shape.nr)
                ahead = t.select(t.less(str(columns.count), left), "i64", t.mul(self.b_panel, panels), 0)
            sums = self._sums(columns, t.at("i8", "%b", first), apart, mask, ahead)
            self._put(columns, sums, t.at(shape.scalar, "%c", j), left)
            return [t.add(j, columns.count)]

        end = t.sub("%n", full if is_masked else columns.count - 1)
        return t.loop(done, end, columns.count, [("i64", done)], tile)[0]

    def _sums(self, columns: Columns, b: str, apart: str, mask: str | None, ahead: str | None) -> list[str]:
        """The sums of a tile, in registers, row by row, from pieces of b so far apart. Reads ahead of b what lies so far on."""
        t, shape, machine = self.text, self.shape, self.machine
        lanes = columns.lanes

        def step(p: str, values: list[str]) -> Sequence[str]:
            in_a, in_b, *sums = values
            place = listed(t, t.op(f"inttoptr i64 {p} to ptr"), 0) if self.windows else in_a
            pieces = [in_b]
            while len(pieces) < len(columns.pieces):
                pieces.append(t.at("i8", pieces[-1], apart))
            places = [
                t.at(shape.scalar, piece, n * lanes)
                for piece, vectors in zip(pieces, columns.pieces, strict=True)
                for n in range(vectors)
            ]
            if ahead:
                for piece in pieces:
                    machine.prefetch(t.at("i8", piece, ahead))

            def factor(i: int) -> str:
                return machine.broadcast(machine.load(t.at(self.a_unit, rows[i], place), 1), lanes)

            def vector(n: int) -> str:
                return machine.load(places[n], lanes, mask if n == columns.vectors - 1 else None)

            # the fewer ones stay in registers, for each of the others
            following = [*sums]
            first, second = (vector, factor) if columns.vectors <= self.rows else (factor, vector)
            few, many = sorted((columns.vectors, self.rows))
            kept = [first(n) for n in range(few)]
            for m in range(many):
                other = second(m)
                for n, one in enumerate(kept):
                    at = m * columns.vectors + n if first is vector else n * columns.vectors + m
                    following[at] = machine.multiply_add(other, one, sums[at], lanes)
            return [in_a if self.windows else t.add(in_a, self.a_k), t.at("i8", in_b, self.b_k), *following]

        rows = [t.op(f"load ptr, ptr {t.at('ptr', self.a_rows, i)}, align 8") for i in range(self.rows)]
        zero = machine.kind(lanes), "zeroinitializer" if lanes > 1 else "0.0"
        carried = [("i64", "0"), ("ptr", b), *[zero] * (self.rows * columns.vectors)]
        return t.loop(*self.steps, carried, step)[2:]

    def _put(self, columns: Columns, sums: list[str], c: str, left: str) -> None:
        """Brings the sums of a tile into the result, whose columns from there on are left."""
        t, shape, machine = self.text, self.shape, self.machine
        lanes, vectors = columns.lanes, columns.vectors

        def store(rows: Sequence[str], values: Sequence[str]) -> Sequence[str]:
            for i, row in enumerate(rows):
                for n in range(vectors):
                    machine.store(values[i * vectors + n], t.at(shape.scalar, row, n * lanes), lanes)
            return ()

        def through_memory() -> Sequence[str]:
            store([t.at(shape.scalar, self.sums, i * columns.count) for i in range(self.rows)], sums)
            t.call(
                "void", f"put_{SUFFIX[shape.scalar]}",
                *(("i64", "%count"), ("i64", t.least(left, columns.count))),
                *(("ptr", self.sums), ("i64", columns.count), ("ptr", c), ("i64", "%c_row"), ("i1", "%accumulate")),
            )  # fmt: skip
            return ()

        def directly() -> Sequence[str]:
            rows, kind = [c], machine.kind(lanes)
            while len(rows) < self.rows:
                rows.append(t.at(shape.scalar, rows[-1], "%c_row"))

            def added() -> Sequence[str]:
                old = [machine.load(t.at(shape.scalar, row, n * lanes), lanes) for row in rows for n in range(vectors)]
                return [t.op(f"fadd {kind} {a}, {b}") for a, b in zip(old, sums, strict=True)]

            return store(rows, t.when("%accumulate", added, [(kind, value) for value in sums]))

        if vectors == 1 or self.rows <= shape.half_rows:
            through_memory()
        else:
            is_whole = t.both(t.equal("%count", self.rows), t.op(f"icmp sge i64 {left}, {columns.count}"))
            t.when(is_whole, directly, through_memory)


def put(shape: GemmShape) -> str:
    """Writes a matrix whose rows are contiguous into another one, or adds it to that."""
    scalar, lanes = shape.scalar, shape.lanes
    t = Text(
        f"define void @put_{SUFFIX[scalar]}(i64 %m, i64 %n, ptr %source, i64 %source_row, ptr %target, i64 %target_row, "
        "i1 %accumulate) noinline nounwind"
    )
    machine = Machine(t, shape)

    def part(width: int, source: str, target: str, mask: str | None = None) -> Sequence[str]:
        value, kind = machine.load(source, width, mask), machine.kind(width)

        def added() -> Sequence[str]:
            return [t.op(f"fadd {kind} {machine.load(target, width, mask)}, {value}")]

        (result,) = t.when("%accumulate", added, [(kind, value)])
        machine.store(result, target, width, mask)
        return ()

    def row(i: str, pointers: list[str]) -> Sequence[str]:
        source, target = pointers

        def at(j: str) -> tuple[str, str]:
            return t.at(scalar, source, j), t.at(scalar, target, j)

        (done,) = t.loop(0, last, lanes, [("i64", "0")], lambda j, _: [*part(lanes, *at(j)), t.add(j, lanes)])
        if mask is None:
            t.loop(done, "%n", 1, (), lambda j, _: part(1, *at(j)))
        else:
            t.when(t.less(done, "%n"), lambda: part(lanes, *at(done), mask))
        return [t.at(scalar, source, "%source_row"), t.at(scalar, target, "%target_row")]

    last = t.sub("%n", lanes - 1)
    mask = machine.mask(t.op(f"and i64 %n, {lanes - 1}")) if shape.vectors.masks else None
    t.loop(0, "%m", 1, [("ptr", "%source"), ("ptr", "%target")], row)
    return t.finish()


def strips(shape: GemmShape, windows: bool = False) -> dict[str, Callable[[], str]]:
    """What writes the functions of strips, by their names."""
    return {
        strip_name(shape, rows, windows): lambda rows=rows: Strip(shape, rows, windows).write()  # type: ignore[misc]
        for rows in strip_sizes(shape)
    }


def strip_sizes(shape: GemmShape) -> list[int]:
    """For which numbers of rows there are functions."""
    return sorted({shape.half_rows, shape.mr, *([shape.joined_rows] if shape.joins else [])})


def strip_parameters(windows: bool) -> list[tuple[str, str]]:
    """The types and names of the parameters that the functions of strips have. `count`: how many rows there are."""
    a = [("ptr", "%rows"), ("ptr", "%depths")] if windows else [("i64", "%a_row"), ("i64", "%a_k")]
    b = [("ptr", "%b"), ("i64", "%b_k"), ("i64", "%b_panel")]
    return [
        *(("i64", "%count"), ("i64", "%n"), ("i64", "%k"), ("ptr", "%a"), *a, *b),
        *(("ptr", "%c"), ("i64", "%c_row"), ("i1", "%accumulate")),
    ]


def strip_name(shape: GemmShape, rows: int, windows: bool = False) -> str:
    return f"gemm_{'windows_' if windows else ''}{SUFFIX[shape.scalar]}_rows_{rows}"
