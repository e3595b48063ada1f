"""Products of a matrix with a vector, as LLVM IR text."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from backends.llvm.gemm_machine import SUFFIX, Machine
from backends.llvm.gemm_shape import GemmShape
from backends.llvm.gemm_text import Text

SUMS = 128  # bytes of the sums of a row
STREAMS = 8  # rows that are read together where each is long: as many as a processor reads ahead of


def part_of(t: Text, shape: GemmShape) -> str:
    """The steps of %k that are summed at a time: equal parts."""
    depth = shape.depth

    def cut() -> Sequence[str]:
        parts = t.div(t.add("%k", depth - 1), depth)
        return [t.div(t.sub(t.add("%k", parts), 1), parts)]

    return t.when(t.less(str(depth), "%k"), cut, [("i64", "%k")])[0]


def gevm(shape: GemmShape) -> str:
    """One row with a b in rows: reads long pieces of some rows at a time, as memory likes it, and keeps the sums of the
    columns in memory that stays in the first cache. Each is the same sum in the same order as in a tile."""
    scalar, lanes = shape.scalar, shape.lanes
    t = Text(
        f"define void @gevm_{SUFFIX[scalar]}(i64 %n, i64 %k, ptr %x, i64 %x_step, ptr %b, i64 %b_k, ptr %y, "
        "i1 %accumulate) nounwind"
    )
    machine = Machine(t, shape)

    def each(count: str, body: Callable[[str, int], object]) -> None:
        """Vectors of so many columns, then those that are left."""

        def part(width: int) -> Callable[[str, list[str]], Sequence[str]]:
            def one(i: str, _: list[str]) -> Sequence[str]:
                body(i, width)
                return [t.add(i, width)]

            return one

        (done,) = t.loop(0, t.sub(count, lanes - 1), lanes, [("i64", "0")], part(lanes))
        t.loop(done, count, 1, [("i64", done)], part(1))

    def piece(p: str, length: str, j: str) -> Sequence[str]:
        count = t.least(t.sub("%n", j), shape.long)
        b = t.at(scalar, t.at(scalar, "%b", t.mul(p, "%b_k")), j)
        x, y = t.at(scalar, "%x", t.mul(p, "%x_step")), t.at(scalar, "%y", j)

        def steps(height: int, first: str, pointers: list[str]) -> list[str]:
            """So many rows at a time. Returns the first one that is not done, and where it and its factor are."""

            def step(q: str, values: list[str]) -> Sequence[str]:
                _, *places = values
                factors, rows = [], []
                for _ in range(height):
                    x, b = places
                    factors.append(machine.load(x, 1))
                    rows.append(b)
                    places = [t.at(scalar, x, "%x_step"), t.at(scalar, b, "%b_k")]
                wide = [machine.broadcast(factor, lanes) for factor in factors]

                def add(i: str, width: int) -> None:
                    place = t.at(scalar, sums, i)
                    value = machine.load(place, width)
                    for factor, row in zip(wide if width > 1 else factors, rows, strict=True):
                        value = machine.multiply_add(factor, machine.load(t.at(scalar, row, i), width), value, width)
                    machine.store(value, place, width)

                each(count, add)
                return [t.add(q, height), *places]

            carried = [("i64", first), *(("ptr", pointer) for pointer in pointers)]
            return t.loop(first, t.sub(length, height - 1), height, carried, step)

        t.call(
            "void", "llvm.memset.p0.i64", ("ptr", sums), ("i8", 0), ("i64", t.mul(count, shape.size)), ("i1", "false")
        )
        done, *places = steps(STREAMS, "0", [x, b])
        steps(1, done, places)
        add_up = t.op(f"or i1 %accumulate, {t.less('0', p)}")
        sizes, row = (("i64", "1"), ("i64", count)), ("i64", "0")
        t.call("void", f"put_{SUFFIX[scalar]}", *sizes, ("ptr", sums), row, ("ptr", y), row, ("i1", add_up))
        return ()

    def over_k(p: str, _: list[str]) -> Sequence[str]:
        length = t.least(t.sub("%k", p), part)
        t.loop(0, "%n", shape.long, (), lambda j, _: piece(p, length, j))
        return ()

    sums = t.op(f"alloca [{shape.long} x {scalar}], align 64")
    part = part_of(t, shape)
    t.loop(0, t.most("%k", 1), t.most(part, 1), (), over_k)
    return t.finish()


def gemv(shape: GemmShape) -> str:
    """The product with a vector, both contiguous along k: a row after the other, as memory is read fastest in order. Each is
    summed in as many lanes on every host, of enough vectors not to wait for one another."""
    scalar, lanes = shape.scalar, shape.lanes
    t = Text(
        f"define void @gemv_{SUFFIX[scalar]}(i64 %m, i64 %k, ptr %a, i64 %a_row, ptr %x, ptr %y, i64 %y_step, "
        "i1 %accumulate) nounwind"
    )
    machine = Machine(t, shape)
    kind = machine.kind(lanes)

    def row(_: str, pointers: list[str]) -> Sequence[str]:
        start, goal = pointers

        def products(width: int, first: str, sums: list[str]) -> list[str]:
            """Adds vectors of products, from a step of k on. Returns the first step that is not done, and the sums."""

            def step(p: str, values: list[str]) -> Sequence[str]:
                a, x = t.at(scalar, start, p), t.at(scalar, "%x", p)
                added = []
                for n, one in enumerate(values[1:]):
                    left, right = (machine.load(t.at(scalar, place, n * width), width) for place in (a, x))
                    added.append(machine.multiply_add(left, right, one, width))
                return [t.add(p, width * len(sums)), *added]

            carried = [("i64", first), *((machine.kind(width), one) for one in sums)]
            return t.loop(first, t.sub("%k", width * len(sums) - 1), width * len(sums), carried, step)

        done, *sums = products(lanes, "0", ["zeroinitializer"] * (SUMS // (lanes * shape.size)))
        while len(sums) > 1:
            half = len(sums) // 2
            sums = [t.op(f"fadd {kind} {a}, {b}") for a, b in zip(sums[:half], sums[half:], strict=True)]
        _, rest = products(1, done, ["0.0"])
        total = t.op(f"fadd {scalar} {_total(t, scalar, lanes, sums[0])}, {rest}")

        def added() -> Sequence[str]:
            return [t.op(f"fadd {scalar} {machine.load(goal, 1)}, {total}")]

        machine.store(t.when("%accumulate", added, [(scalar, total)])[0], goal, 1)
        return [t.at(scalar, start, "%a_row"), t.at(scalar, goal, "%y_step")]

    t.loop(0, "%m", 1, [("ptr", "%a"), ("ptr", "%y")], row)
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
