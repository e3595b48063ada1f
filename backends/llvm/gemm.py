"""Products of matrices for one thread, as LLVM IR text: what the compiled kernels of a CPU call.

A tile of the result stays in registers: mr rows of a few vectors. For each step of k one element of each row of a is
broadcast and multiplied with the vectors of b's row. A strip is mr rows of a with all columns of b; a function for each
number of rows writes one, columns that fill no whole tile included. The product goes over blocks of b that stay in the
second cache, and in those over strips.

Every element is summed alike: `depth`-sized parts of k from zero, in order, each then added to the result. So the result
does not depend on how rows and columns are cut.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from backends.llvm.gemm_machine import SUFFIX, Machine
from backends.llvm.gemm_pack import gemv, pack_b
from backends.llvm.gemm_shape import LONG, GemmShape
from backends.llvm.gemm_text import Text

BAND_BYTES = 48 << 10  # of strips of a that are copied at a time, on the stack


@dataclass(frozen=True)
class Columns:
    """Neighbouring columns of a tile: where in which panel of b they start, and how many lanes of a vector they fill."""

    panel: int
    offset: int
    width: int
    mask: str | None = None


class _Strip:
    """The function of so many rows of a with all columns of b, for one part of k."""

    def __init__(self, shape: GemmShape, rows: int):
        self.shape, self.rows = shape, rows
        head = (
            f"define void @{strip_name(shape, rows)}(i64 %n, i64 %k, ptr %a, i64 %a_row, i64 %a_k, "
            "ptr %b, i64 %b_k, i64 %b_panel, ptr %c, i64 %c_row, i1 %accumulate) noinline nounwind"
        )
        self.text = Text(head)
        self.machine = Machine(self.text, shape)

    def write(self) -> str:
        t, shape = self.text, self.shape
        self.a_rows = [t.at(shape.scalar, "%a", t.mul("%a_row", i) if i else 0) for i in range(self.rows)]
        self.c_rows = [t.mul("%c_row", i) if i else "0" for i in range(self.rows)]
        # few rows take several panels at once: enough independent sums to keep the units busy
        together = max(1, shape.mr // self.rows)
        done, b = "0", "%b"
        if self.rows == 1:
            long = t.both(t.equal("%b_panel", shape.nr), t.less(str(LONG - 1), "%n"))
            done, b = t.when(long, self._stream, [("i64", done), ("ptr", b)])
        if together > 1:
            done, b = self._panels(done, b, together)
        done, b = self._panels(done, b, 1)
        self._rest(done, b)
        return t.finish()

    def _stream(self) -> Sequence[str]:
        """One row with a wide b in rows: reads four long pieces of rows at a time, as memory likes it, and keeps the sums of
        the columns in the first cache. Each is the same sum in the same order as in a tile."""
        t, shape, machine = self.text, self.shape, self.machine
        scalar, lanes = shape.scalar, shape.lanes
        kind = machine.kind(lanes)
        sums = t.op(f"alloca [{LONG} x {scalar}], align 64")
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

        end = t.sub("%n", width - 1)
        last = t.sub(end, width)
        b, done = t.loop(done, end, width, [("ptr", b), ("i64", done)], panel)
        return done, b

    def _rest(self, done: str, b: str) -> None:
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
            return
        for groups in range(1, shape.groups):
            fits = t.equal(t.div(left, lanes), groups)
            t.when(fits, lambda groups=groups: self._tile(whole[:groups], b, c))  # type: ignore[misc]
        used = t.op(f"and i64 {left}, {-lanes}") if lanes & (lanes - 1) == 0 else t.mul(t.div(left, lanes), lanes)
        b, c = (t.at(shape.scalar, p, used) for p in (b, c))
        width = lanes // 2
        while width:
            is_set = t.op(f"icmp ne i64 {t.op(f'and i64 {left}, {width}')}, 0")

            def narrow(width: int = width, b: str = b, c: str = c) -> Sequence[str]:
                self._tile([Columns(0, 0, width)], b, c)
                return [t.at(shape.scalar, b, width), t.at(shape.scalar, c, width)]

            b, c = t.when(is_set, narrow, [("ptr", b), ("ptr", c)])
            width //= 2

    def _tile(self, columns: Sequence[Columns], b: str, c: str, ahead: str | None = None) -> Sequence[str]:
        """The sums of a tile, in registers, then their way into the result. Reads ahead of b what lies so far on."""
        t, shape, machine = self.text, self.shape, self.machine
        panels = [t.at(shape.scalar, b, t.mul("%b_panel", q) if q else 0) for q in range(columns[-1].panel + 1)]
        following_panels = [t.at(shape.scalar, panel, ahead) for panel in panels] if ahead else []
        tile = [(i, column) for i in range(self.rows) for column in columns]
        kinds = [machine.kind(column.width) for _, column in tile]
        zeros = ["zeroinitializer" if column.width > 1 else "0.0" for _, column in tile]
        carried = [("i64", "0"), ("i64", "0"), *zip(kinds, zeros, strict=True)]

        def step(_: str, values: list[str]) -> Sequence[str]:
            in_a, in_b, *sums = values
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
            return [t.add(in_a, "%a_k"), t.add(in_b, "%b_k"), *following]

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


def strip_name(shape: GemmShape, rows: int) -> str:
    return f"gemm_{SUFFIX[shape.scalar]}_rows_{rows}"


class _Product:
    """The whole product: blocks of b, parts of k, bands of strips, strips.

    With `packing`, b has any two strides, and each of its blocks is packed into a workspace first.
    """

    def __init__(self, shape: GemmShape, packing: bool):
        self.shape, self.packing = shape, packing
        name, b = ("gemm_packing", "i64 %b_k, i64 %b_n") if packing else ("gemm", "i64 %b_k, i64 %b_panel")
        self.text = Text(
            f"define void @{name}_{SUFFIX[shape.scalar]}(i64 %m, i64 %n, i64 %k, ptr %a, i64 %a_row, i64 %a_k, "
            f"ptr %b, {b}, ptr %c, i64 %c_row, i1 %accumulate{', ptr %workspace' if packing else ''}) nounwind"
        )

    def write(self) -> str:
        t, shape = self.text, self.shape
        scalar, nr, depth = shape.scalar, shape.nr, shape.depth
        self.band = max(1, BAND_BYTES // (shape.mr * depth * shape.size)) * shape.mr
        self.buffer = t.op(f"alloca [{self.band * depth} x {scalar}], align 64")
        # a strip that is read through the whole of a costs more than a copy, once several tiles use it
        self.copied = t.both(t.op("icmp ne i64 %a_k, 1"), t.less(str(4 * nr), "%n"))
        part = self._part()
        self.part = part
        width = self._width(part)

        def block(j: str, pointers: list[str]) -> Sequence[str]:
            columns = t.least(t.sub("%n", j), width)

            def over_k(p: str, _: list[str]) -> Sequence[str]:
                length = t.least(t.sub("%k", p), part)
                self._block(pointers[0], j, p, columns, length)
                return ()

            t.loop(0, t.most("%k", 1), t.most(part, 1), (), over_k)
            step = t.mul(width, "%b_n") if self.packing else t.mul(t.div(width, nr), "%b_panel")
            return [t.at(scalar, pointers[0], step)]

        t.loop(0, "%n", width, [("ptr", "%b")], block)
        return t.finish()

    def _part(self) -> str:
        """The steps of k that are summed at a time: equal parts."""
        t, depth = self.text, self.shape.depth

        def cut() -> Sequence[str]:
            parts = t.div(t.add("%k", depth - 1), depth)
            return [t.div(t.sub(t.add("%k", parts), 1), parts)]

        return t.when(t.less(str(depth), "%k"), cut, [("i64", "%k")])[0]

    def _width(self, part: str) -> str:
        """As many columns as leave a block in the cache; all, if no second strip would find it there."""
        t, shape = self.text, self.shape

        def narrow() -> Sequence[str]:
            return [t.mul(t.most(t.div(t.div(str(shape.block), part), shape.nr), 1), shape.nr)]

        narrowed = t.less(str(shape.block), t.mul(part, "%n"))
        if not self.packing:
            narrowed = t.both(narrowed, t.less(str(shape.mr), "%m"))
        return t.most(t.when(narrowed, narrow, [("i64", "%n")])[0], 1)

    def _block(self, b: str, j: str, p: str, columns: str, length: str) -> None:
        """All rows with a block of b."""
        t, shape = self.text, self.shape
        scalar = shape.scalar
        add_up = t.op(f"or i1 %accumulate, {t.less('0', p)}")
        a_part = t.at(scalar, "%a", t.mul(p, "%a_k"))
        c_part = t.at(scalar, "%c", j)
        b = t.at(scalar, b, t.mul(p, "%b_k"))
        b_k, b_panel = "%b_k", "%b_panel"
        if self.packing:
            sizes = (("i64", length), ("i64", columns))
            strides = (("i64", "%b_k"), ("i64", "%b_n"))
            t.call("void", f"pack_b_{SUFFIX[scalar]}", *sizes, ("ptr", b), *strides, ("ptr", "%workspace"))
            b, b_k, b_panel = "%workspace", str(shape.nr), t.mul(length, shape.nr)
        size = t.mul(length, shape.mr)

        def band(first: str, _: list[str]) -> Sequence[str]:
            end = t.least(t.add(first, self.band), "%m")
            a = t.at(scalar, a_part, t.mul(first, "%a_row"))

            def copy() -> Sequence[str]:
                self._copy(t.sub(end, first), length, a)
                return [self.buffer, size]

            a, a_strip = t.when(self.copied, copy, [("ptr", a), ("i64", t.mul("%a_row", shape.mr))])

            def strip(i: str, pointers: list[str]) -> Sequence[str]:
                rows = t.least(t.sub(end, i), shape.mr)
                a_row = t.select(self.copied, "i64", 1, "%a_row")
                a_k = t.select(self.copied, "i64", rows, "%a_k")
                c = t.at(scalar, c_part, t.mul(i, "%c_row"))
                self._strip(
                    rows,
                    *(("i64", columns), ("i64", length)),
                    *(("ptr", pointers[0]), ("i64", a_row), ("i64", a_k)),
                    *(("ptr", b), ("i64", b_k), ("i64", b_panel)),
                    *(("ptr", c), ("i64", "%c_row"), ("i1", add_up)),
                )
                return [t.at(scalar, pointers[0], a_strip)]

            t.loop(first, end, shape.mr, [("ptr", a)], strip)
            return ()

        t.loop(0, "%m", self.band, (), band)

    def _strip(self, rows: str, *arguments: tuple[str, str]) -> None:
        """The function of a strip with so many rows."""
        t, shape = self.text, self.shape
        labels = [t.label() for _ in range(shape.mr)]
        after = t.label()
        cases = " ".join(f"i64 {n}, label %{labels[n - 1]}" for n in range(1, shape.mr))
        t.do(f"switch i64 {rows}, label %{labels[-1]} [ {cases} ]")
        for n, label in enumerate(labels, 1):
            t.begin(label)
            t.call("void", strip_name(shape, n), *arguments)
            t.do(f"br label %{after}")
        t.begin(after)

    def _copy(self, count: str, length: str, a: str) -> None:
        """Strips of a, one after the other; in each, its rows lie side by side for each step of k."""
        t, shape = self.text, self.shape
        scalar, mr = shape.scalar, shape.mr
        machine = Machine(t, shape)
        size = t.mul(length, mr)

        def neighbours(strips: int, from_a: str, to: str) -> Sequence[str]:
            """So many strips whose rows lie side by side in a, at once: they share cache lines."""

            def step(p: str, pointers: list[str]) -> Sequence[str]:
                source, target = pointers
                for strip in range(strips):
                    start = 0
                    to = t.at(scalar, target, t.mul(size, strip) if strip else 0)
                    while start < mr:
                        width = min(shape.lanes, 1 << ((mr - start).bit_length() - 1))
                        value = machine.load(t.at(scalar, source, strip * mr + start), width)
                        machine.store(value, t.at(scalar, to, start), width)
                        start += width
                return [t.at(scalar, source, "%a_k"), t.at(scalar, target, mr)]

            t.loop(0, length, 1, [("ptr", from_a), ("ptr", to)], step)
            return ()

        def single(rows: str, from_a: str, to: str) -> Sequence[str]:
            def step(p: str, pointers: list[str]) -> Sequence[str]:
                source, target = pointers

                def row(r: str, _: list[str]) -> Sequence[str]:
                    value = machine.load(t.at(scalar, source, t.mul(r, "%a_row")), 1)
                    machine.store(value, t.at(scalar, target, r), 1)
                    return ()

                t.loop(0, rows, 1, (), row)
                return [t.at(scalar, source, "%a_k"), t.at(scalar, target, rows)]

            t.loop(0, length, 1, [("ptr", from_a), ("ptr", to)], step)
            return ()

        def one_by_one() -> Sequence[str]:
            def strip(i: str, targets: list[str]) -> Sequence[str]:
                rows = t.least(t.sub(count, i), mr)
                source = t.at(scalar, a, t.mul(i, "%a_row"))
                t.when(
                    t.both(side_by_side, t.equal(rows, mr)),
                    lambda: neighbours(1, source, targets[0]),
                    lambda: single(rows, source, targets[0]),
                )
                return [t.at(scalar, targets[0], size)]

            t.loop(0, count, mr, [("ptr", self.buffer)], strip)
            return ()

        side_by_side = t.equal("%a_row", 1)
        t.when(
            t.both(side_by_side, t.equal(count, self.band)),
            lambda: neighbours(self.band // mr, a, self.buffer),
            one_by_one,
        )


def gemm_functions(shape: GemmShape) -> dict[str, str]:
    """The functions by name, each a module that defines it and declares what it calls: others of these, and LLVM's own.

    All strides are in elements; X is f32 or f64. `accumulate` adds to c or y, which otherwise need hold nothing.

    - `gemm_X(m, n, k, a, a_row, a_k, b, b_k, b_panel, c, c_row, accumulate)`: c[m, n] from a, which has any strides, and from
      b in panels of nr columns: for a matrix of contiguous rows, b_k is the distance of rows and b_panel is nr; for what
      `pack_b` wrote, b_k is nr and b_panel is k * nr.
    - `gemm_packing_X(m, n, k, a, a_row, a_k, b, b_k, b_n, c, c_row, accumulate, workspace)`: the same for b of any strides,
      which it packs block by block into a workspace of `GemmShape.workspace(n, k)` elements.
    - `pack_b_X(k, n, b, b_k, b_n, target)`: panels of nr columns, the last one filled up with zeros.
    - `gemv_X(m, k, a, a_row, x, y, y_step, accumulate)`: y = a x, both contiguous along k. A product with one row whose b is
      contiguous along k is this one with the operands exchanged.

    The texts are good as they are: no pass over them is needed before code generation.
    """
    texts = {strip_name(shape, rows): _Strip(shape, rows).write() for rows in range(1, shape.mr + 1)}
    suffix = SUFFIX[shape.scalar]
    return texts | {
        f"gemm_{suffix}": _Product(shape, packing=False).write(),
        f"gemm_packing_{suffix}": _Product(shape, packing=True).write(),
        f"pack_b_{suffix}": pack_b(shape),
        f"gemv_{suffix}": gemv(shape),
    }
