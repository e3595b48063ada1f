"""What goes with the product of matrices: the copy of b into panels, and the product with a vector, as LLVM IR text."""

from __future__ import annotations

from collections.abc import Sequence

from backends.llvm.gemm_machine import SUFFIX, Machine
from backends.llvm.gemm_shape import GemmShape
from backends.llvm.gemm_text import Text

ROWS = 8  # rows of b that are copied together: as many streams as a processor reads ahead of
GROUPS_AHEAD = 2  # of columns that are turned
LINE = 64  # bytes of a cache line


def copy_a(shape: GemmShape) -> str:
    """Copies strips of a, one after the other; in each, its rows lie side by side for each step of k."""
    scalar = shape.scalar
    t = Text(
        f"define void @copy_a_{SUFFIX[scalar]}(i64 %m, i64 %height, i64 %k, ptr %a, i64 %a_row, i64 %a_k, ptr %target) "
        "noinline nounwind"
    )
    machine = Machine(t, shape)
    size = t.mul("%k", "%height")

    def move(source: str, target: str, width: int) -> Sequence[str]:
        machine.store(machine.load(source, width), target, width)
        return ()

    def step(p: str, pointers: list[str]) -> Sequence[str]:
        """Rows that lie side by side in a, two at a time, of all whole strips: these share cache lines."""
        source, target = pointers

        def strip(i: str, targets: list[str]) -> Sequence[str]:
            start = t.at(scalar, source, i)
            t.loop(0, "%height", 2, (), lambda r, _: move(t.at(scalar, start, r), t.at(scalar, targets[0], r), 2))
            return [t.at(scalar, targets[0], size)]

        t.loop(0, whole, "%height", [("ptr", target)], strip)
        return [t.at(scalar, source, "%a_k"), t.at(scalar, target, "%height")]

    def row(i: str, _: list[str]) -> Sequence[str]:
        """An element at a time."""
        source = t.at(scalar, "%a", t.mul(i, "%a_row"))
        inside = t.op(f"urem i64 {i}, %height")
        target = t.at(scalar, "%target", t.add(t.mul(t.sub(i, inside), "%k"), inside))

        def element(_: str, pointers: list[str]) -> Sequence[str]:
            move(pointers[0], pointers[1], 1)
            return [t.at(scalar, pointers[0], "%a_k"), t.at(scalar, pointers[1], "%height")]

        t.loop(0, "%k", 1, [("ptr", source), ("ptr", target)], element)
        return ()

    whole = t.select(t.equal("%a_row", 1), "i64", t.sub("%m", t.op("urem i64 %m, %height")), 0)
    t.loop(0, "%k", 1, [("ptr", "%a"), ("ptr", "%target")], step)
    t.loop(whole, "%m", 1, (), row)
    return t.finish()


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
    # columns that are turned together: no more than lines that are as far apart as pages, which a first cache keeps
    wide = min(lanes, 32 // shape.size)
    # a cache line has four pieces: with each of them some of the group's columns are asked for
    turns = min(wide, 4)
    unit = t.mul("%stride_n", wide // turns)
    done = t.sub("%k", t.op(f"urem i64 %k, {piece}"))
    rows_lie = t.equal("%stride_n", 1)
    columns_lie = t.equal("%stride_k", 1)
    step = t.select(columns_lie, "i64", t.most("%k", 1), ROWS)

    def place(row: str, column: str) -> str:
        return t.at(scalar, "%source", t.add(t.mul(row, "%stride_k"), t.mul(column, "%stride_n")))

    def rows(first: str, end: str, column: str, panel: str) -> Sequence[str]:
        """Writes all of a panel's columns, for some steps of k, and asks for those of the next ones."""

        def row(p: str, pointers: list[str]) -> Sequence[str]:
            source, target = pointers
            following = t.at(scalar, source, ahead)
            for line in range(-(-nr * shape.size // LINE)):
                machine.prefetch(t.at(scalar, following, line * LINE // shape.size), 2)
            for group in range(shape.groups):
                value = machine.load(t.at(scalar, source, group * lanes), lanes)
                machine.store(value, t.at(scalar, target, group * lanes), lanes)
            return [t.at(scalar, source, "%stride_k"), t.at(scalar, target, nr)]

        inside = t.op(f"icmp sle i64 {t.add(end, ROWS)}, %k")
        ahead = t.select(inside, "i64", t.mul("%stride_k", ROWS), 0)
        t.loop(first, end, 1, [("ptr", place(first, column)), ("ptr", t.at(scalar, panel, t.mul(first, nr)))], row)
        return ()

    def turned(column: str, panel: str, columns: str) -> Sequence[str]:
        """As many steps of k as 128 bits hold at a time, turned in registers, of some columns, which are whole groups."""

        def group(j: str, _: list[str]) -> Sequence[str]:
            def square(p: str, pointers: list[str]) -> Sequence[str]:
                source, target = pointers
                turn = t.op(f"and i64 {t.div(p, piece)}, {turns - 1}")
                later = t.at(scalar, source, t.add(ahead, t.mul(turn, unit)))
                for _ in range(wide // turns):
                    machine.prefetch(later, 2)
                    later = t.at(scalar, later, "%stride_n")
                starts = [source, *(t.at(scalar, source, t.mul("%stride_n", i)) for i in range(4, wide, 4))]
                pieces = [machine.load(t.at(scalar, starts[i // 4], offsets[i % 4]), piece) for i in range(wide)]
                lines = [joined(t, scalar, piece, pieces[i::piece]) for i in range(piece)]
                for u, line in enumerate(turned_squares(t, machine.kind(wide), wide, lines)):
                    machine.store(line, t.at(scalar, target, u * nr), wide)
                return [t.at(scalar, source, piece), t.at(scalar, target, piece * nr)]

            first = t.add(column, j)
            offsets = ["0", *(t.mul("%stride_n", i) for i in range(1, min(wide, 4)))]
            inside = t.op(f"icmp sle i64 {t.add(first, (GROUPS_AHEAD + 1) * wide)}, %n")
            ahead = t.select(inside, "i64", t.mul(unit, turns * GROUPS_AHEAD), 0)
            t.loop(0, done, piece, [("ptr", place("0", first)), ("ptr", t.at(scalar, panel, j))], square)
            return ()

        t.loop(0, columns, wide, (), group)
        return ()

    def single(first: str, end: str, column: str, panel: str, columns: str, count: str) -> Sequence[str]:
        """Elements one by one, all of a step of k but those columns that are turned."""

        def row(p: str, _: list[str]) -> Sequence[str]:
            start, target = place(p, column), t.at(scalar, panel, t.mul(p, nr))

            def element(j: str, _: list[str]) -> Sequence[str]:
                value = machine.load(t.at(scalar, start, t.mul(j, "%stride_n")), 1)
                machine.store(value, t.at(scalar, target, j), 1)
                return ()

            t.loop(t.select(t.less(p, done), "i64", columns, 0), count, 1, (), element)
            return ()

        t.loop(first, end, 1, (), row)
        return ()

    def over_k(first: str, _: list[str]) -> Sequence[str]:
        end = t.least(t.add(first, step), "%k")

        def panel(column: str, pointers: list[str]) -> Sequence[str]:
            (target,) = pointers
            count = t.least(t.sub("%n", column), nr)

            def by_columns() -> Sequence[str]:
                zeros = t.select(t.equal(count, nr), "i64", 0, t.mul(t.sub(end, first), nr * shape.size))
                start = t.at(scalar, target, t.mul(first, nr))
                t.call("void", "llvm.memset.p0.i64", ("ptr", start), ("i8", 0), ("i64", zeros), ("i1", "false"))
                whole = t.sub(count, t.op(f"urem i64 {count}, {wide}"))
                columns = t.select(columns_lie, "i64", whole, 0)
                turned(column, target, columns)
                left = t.select(t.equal(columns, nr), "i64", done, first)
                return single(left, end, column, target, columns, count)

            is_whole = t.both(t.equal(count, nr), rows_lie)
            t.when(is_whole, lambda: rows(first, end, column, target), by_columns)
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
