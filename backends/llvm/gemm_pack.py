"""What goes with the product of matrices: the copy of b into panels, and the product with a vector, as LLVM IR text."""

from __future__ import annotations

from collections.abc import Sequence

from backends.llvm.gemm_machine import SUFFIX, Machine
from backends.llvm.gemm_shape import GemmShape
from backends.llvm.gemm_text import Text

ROWS = 8  # rows of b that are copied together: as many streams as a processor reads ahead of
AHEAD = 4  # panels


def pack_b(shape: GemmShape) -> str:
    """Copies b into panels of nr columns, one after the other, the last one filled up with zeros."""
    scalar, nr, lanes = shape.scalar, shape.nr, shape.lanes
    t = Text(
        f"define void @pack_b_{SUFFIX[scalar]}(i64 %k, i64 %n, ptr %source, i64 %stride_k, i64 %stride_n, ptr %target) "
        "nounwind"
    )
    machine = Machine(t, shape)
    size = t.mul("%k", nr)
    piece = 16 // shape.size
    rows_lie = t.equal("%stride_n", 1)
    columns_lie = t.equal("%stride_k", 1)
    step = t.select(columns_lie, "i64", t.most("%k", 1), ROWS)

    def place(row: str, column: str) -> str:
        return t.at(scalar, "%source", t.add(t.mul(row, "%stride_k"), t.mul(column, "%stride_n")))

    def rows(groups: int, first: str, end: str, column: str, panel: str) -> Sequence[str]:
        """Writes some groups of a vector's width of a panel's columns, for some steps of k."""

        def row(p: str, pointers: list[str]) -> Sequence[str]:
            source, target = pointers
            machine.prefetch(t.at(scalar, source, ahead))
            for group in range(groups):
                value = machine.load(t.at(scalar, source, group * lanes), lanes)
                machine.store(value, t.at(scalar, target, group * lanes), lanes)
            return [t.at(scalar, source, "%stride_k"), t.at(scalar, target, nr)]

        start = t.at(scalar, panel, t.mul(first, nr))
        inside = t.op(f"icmp sle i64 {t.add(column, (AHEAD + 1) * nr)}, %n")
        ahead = t.select(inside, "i64", AHEAD * nr, 0)
        t.loop(first, end, 1, [("ptr", place(first, column)), ("ptr", start)], row)
        return ()

    def turned(first: str, end: str, column: str, panel: str, columns: str) -> str:
        """As many steps of k as 128 bits hold, turned in registers, of whole groups of columns. Returns the first step that
        is not done."""

        def steps(p: str, _: list[str]) -> Sequence[str]:
            def square(j: str, _: list[str]) -> Sequence[str]:
                source, target = place(p, t.add(column, j)), t.at(scalar, t.at(scalar, panel, t.mul(p, nr)), j)
                pieces = [
                    machine.load(t.at(scalar, source, t.mul("%stride_n", i) if i else 0), piece) for i in range(lanes)
                ]
                lines = [joined(t, scalar, piece, pieces[i::piece]) for i in range(piece)]
                for u, line in enumerate(turned_squares(t, machine.kind(lanes), lanes, lines)):
                    machine.store(line, t.at(scalar, target, u * nr), lanes)
                return ()

            t.loop(0, columns, lanes, (), square)
            return [t.add(p, piece)]

        (done,) = t.loop(first, t.sub(end, piece - 1), piece, [("i64", first)], steps)
        return done

    def single(first: str, end: str, column: str, panel: str, columns: str | int) -> Sequence[str]:
        """Elements one by one, and zeros after the last column that there is."""
        there = t.most(t.least(t.sub("%n", column), columns), 0)

        def row(p: str, _: list[str]) -> Sequence[str]:
            start = place(p, column)
            target = t.at(scalar, panel, t.mul(p, nr))

            def element(j: str, _: list[str]) -> Sequence[str]:
                machine.store(machine.load(t.at(scalar, start, t.mul(j, "%stride_n")), 1), t.at(scalar, target, j), 1)
                return ()

            def zero(j: str, _: list[str]) -> Sequence[str]:
                machine.store("0.0", t.at(scalar, target, j), 1)
                return ()

            t.loop(0, there, 1, (), element)
            t.loop(there, columns, 1, (), zero)
            return ()

        t.loop(first, end, 1, (), row)
        return ()

    def zeros(first: str, end: str, panel: str) -> Sequence[str]:
        def row(p: str, _: list[str]) -> Sequence[str]:
            machine.store("zeroinitializer", t.at(scalar, panel, t.mul(p, nr)), lanes)
            return ()

        t.loop(first, end, 1, (), row)
        return ()

    def over_k(first: str, _: list[str]) -> Sequence[str]:
        end = t.least(t.add(first, step), "%k")

        def panel(column: str, pointers: list[str]) -> Sequence[str]:
            (target,) = pointers
            count = t.least(t.sub("%n", column), nr)

            def by_columns() -> Sequence[str]:
                whole = t.sub(count, t.op(f"urem i64 {count}, {lanes}"))
                columns = t.select(columns_lie, "i64", whole, 0)
                done = turned(first, end, column, target, columns)
                single(done, end, column, target, columns)

                def group(j: str, _: list[str]) -> Sequence[str]:
                    arguments = (first, end, t.add(column, j), t.at(scalar, target, j))

                    def one_by_one() -> Sequence[str]:
                        t.when(
                            t.less(j, count), lambda: single(*arguments, lanes), lambda: zeros(first, end, arguments[3])
                        )
                        return ()

                    t.when(t.both(t.less(j, whole), rows_lie), lambda: rows(1, *arguments), one_by_one)
                    return ()

                t.loop(columns, nr, lanes, (), group)
                return ()

            is_whole = t.both(t.equal(count, nr), rows_lie)
            t.when(is_whole, lambda: rows(shape.groups, first, end, column, target), by_columns)
            return [t.at(scalar, target, size)]

        t.loop(0, "%n", nr, [("ptr", "%target")], panel)
        return ()

    t.loop(0, "%k", step, (), over_k)
    return t.finish()


def joined(t: Text, scalar: str, lanes: int, pieces: list[str]) -> str:
    """One vector of several."""
    while len(pieces) > 1:
        order = ", ".join(f"i32 {j}" for j in range(2 * lanes))
        kind = f"<{lanes} x {scalar}>"
        pairs = zip(pieces[::2], pieces[1::2], strict=True)
        pieces = [t.op(f"shufflevector {kind} {a}, {kind} {b}, <{2 * lanes} x i32> <{order}>") for a, b in pairs]
        lanes *= 2
    return pieces[0]


def turned_squares(t: Text, kind: str, lanes: int, lines: list[str]) -> list[str]:
    """Squares of 128 bits width transposed, side by side: each round interleaves a line with the one half the square
    further on, and no number leaves its 128 bits, which would be slow."""
    n = len(lines)
    for _ in range(n.bit_length() - 1):
        following = []
        for i in range(n // 2):
            for half in (0, n // 2):
                order = ", ".join(
                    f"i32 {j // n * n + half + j % n // 2 + (lanes if j % 2 else 0)}" for j in range(lanes)
                )
                pair = f"{kind} {lines[i]}, {kind} {lines[i + n // 2]}"
                following.append(t.op(f"shufflevector {pair}, <{lanes} x i32> <{order}>"))
        lines = following
    return lines


def gemv(shape: GemmShape) -> str:
    """The product with a vector, both contiguous along k: its elements are summed in the lanes of two vectors."""
    scalar, lanes = shape.scalar, shape.lanes
    t = Text(
        f"define void @gemv_{SUFFIX[scalar]}(i64 %m, i64 %k, ptr %a, i64 %a_row, ptr %x, ptr %y, i64 %y_step, "
        "i1 %accumulate) nounwind"
    )
    machine = Machine(t, shape)
    kind = machine.kind(lanes)
    pair = 2 * lanes
    tail = t.mul(t.div("%k", pair), pair)
    last = t.sub("%k", pair - 1)

    def rows(count: int, i: str) -> None:
        starts = [t.at(scalar, "%a", t.mul(t.add(i, r), "%a_row")) for r in range(count)]

        def step(p: str, sums: list[str]) -> Sequence[str]:
            vectors = [machine.load(t.at(scalar, t.at(scalar, "%x", p), h * lanes), lanes) for h in range(2)]
            return [
                machine.multiply_add(
                    machine.load(t.at(scalar, t.at(scalar, start, p), h * lanes), lanes),
                    vectors[h],
                    sums[2 * r + h],
                    lanes,
                )
                for r, start in enumerate(starts)
                for h in range(2)
            ]

        sums = t.loop(0, last, pair, [(kind, "zeroinitializer")] * (2 * count), step)

        def rest(p: str, singles: list[str]) -> Sequence[str]:
            x = machine.load(t.at(scalar, "%x", p), 1)
            return [
                machine.multiply_add(machine.load(t.at(scalar, start, p), 1), x, single, 1)
                for start, single in zip(starts, singles, strict=True)
            ]

        singles = t.loop(tail, "%k", 1, [(scalar, "0.0")] * count, rest)
        for r in range(count):
            whole = t.op(f"fadd {kind} {sums[2 * r]}, {sums[2 * r + 1]}")
            total = t.op(f"fadd {scalar} {_total(t, scalar, lanes, whole)}, {singles[r]}")
            place = t.at(scalar, "%y", t.mul(t.add(i, r), "%y_step"))

            def added(place: str = place, total: str = total) -> Sequence[str]:
                return [t.op(f"fadd {scalar} {machine.load(place, 1)}, {total}")]

            (result,) = t.when("%accumulate", added, [(scalar, total)])
            machine.store(result, place, 1)

    def together(count: int, first: str) -> str:
        def body(i: str, _: list[str]) -> Sequence[str]:
            rows(count, i)
            return [t.add(i, count)]

        (done,) = t.loop(first, t.sub("%m", count - 1), count, [("i64", first)], body)
        return done

    together(1, together(4, "0"))
    return t.finish()


def _total(t: Text, scalar: str, lanes: int, value: str) -> str:
    """The sum of the lanes, by halves."""
    while lanes > 1:
        half = lanes // 2
        kind = f"<{lanes} x {scalar}>"
        halves = []
        for start in (0, half):
            order = ", ".join(f"i32 {start + j}" for j in range(half))
            halves.append(t.op(f"shufflevector {kind} {value}, {kind} poison, <{half} x i32> <{order}>"))
        value = t.op(f"fadd <{half} x {scalar}> {halves[0]}, {halves[1]}")
        lanes = half
    return t.op(f"extractelement <1 x {scalar}> {value}, i64 0")
