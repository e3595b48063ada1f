"""Products of matrices whose first factor is the windows of an image, as LLVM IR text.

Element (i, p) of the first factor is at `rows[i] + depths[p]` of a memory: the windows of an image that has its padding
around it lie like that, whatever strides, dilations and groups there are. So they are read where they are.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from backends.llvm.gemm import Product
from backends.llvm.gemm_machine import SUFFIX, Machine
from backends.llvm.gemm_pack import joined, turned_squares
from backends.llvm.gemm_shape import GemmShape
from backends.llvm.gemm_strip import strip_name, strips
from backends.llvm.gemm_text import Text


class _WindowsProduct(Product):
    """The whole product: blocks of b, parts of k, strips."""

    arguments = "ptr %a, ptr %rows, ptr %depths, ptr %b, i64 %b_k, i64 %b_panel"
    name = "gemm_windows"

    def block(self, b: str, j: str, p: str, columns: str, length: str) -> None:
        """All rows with a block of b."""
        t, shape = self.text, self.shape
        add_up = t.op(f"or i1 %accumulate, {t.less('0', p)}")
        depths = t.at("i32", "%depths", p)
        c_part = t.at(shape.scalar, "%c", j)
        b = t.at(shape.scalar, b, t.mul(p, "%b_k"))
        height, alone = str(shape.mr), ""
        if shape.joins:  # so many rows that their columns are a single tile: it reads b but once
            alone = t.both(t.less(str(shape.nr), columns), t.op(f"icmp sle i64 {columns}, {shape.nr + shape.lanes}"))
            height = t.select(alone, "i64", shape.joined_rows, shape.mr)

        def strip(i: str, _: list[str]) -> Sequence[str]:
            count = t.least(t.sub("%m", i), height)
            arguments = (
                *(("i64", count), ("i64", columns), ("i64", length)),
                *(("ptr", "%a"), ("ptr", t.at("i32", "%rows", i)), ("ptr", depths)),
                *(("ptr", b), ("i64", "%b_k"), ("i64", "%b_panel")),
                *(("ptr", t.at(shape.scalar, c_part, t.mul(i, "%c_row"))), ("i64", "%c_row"), ("i1", add_up)),
            )

            def of(rows: int) -> Sequence[str]:
                t.call("void", strip_name(shape, rows, windows=True), *arguments)
                return ()

            def many() -> Sequence[str]:
                if shape.joins:
                    t.when(alone, lambda: of(shape.joined_rows), lambda: of(shape.mr))
                else:
                    of(shape.mr)
                return ()

            t.when(t.less(str(shape.half_rows), count), many, lambda: of(shape.half_rows))
            return ()

        t.loop(0, "%m", height, (), strip)


def turn(shape: GemmShape) -> str:
    """Writes a matrix the other way round, squares of whole vectors at a time."""
    scalar, lanes, piece = shape.scalar, shape.lanes, 16 // shape.size
    t = Text(
        f"define void @turn_{SUFFIX[scalar]}(i64 %m, i64 %n, ptr %source, i64 %source_row, ptr %target, i64 %target_row) "
        "nounwind"
    )
    machine = Machine(t, shape)

    def rows(i: str, _: list[str]) -> Sequence[str]:
        source = t.at(scalar, "%source", t.mul(i, "%source_row"))
        sources = [t.at(scalar, source, t.mul("%source_row", r) if r else 0) for r in range(lanes)]

        def square(j: str, targets: list[str]) -> Sequence[str]:
            pieces = [machine.load(t.at(scalar, start, j), piece) for start in sources]
            lines = [joined(t, scalar, piece, pieces[r::piece]) for r in range(piece)]
            target = targets[0]
            for line in turned_squares(t, machine.kind(lanes), lanes, lines):
                machine.store(line, target, lanes)
                target = t.at(scalar, target, "%target_row")
            return [target]

        t.loop(0, "%n", piece, [("ptr", t.at(scalar, "%target", i))], square)
        return ()

    t.loop(0, "%m", lanes, (), rows)
    return t.finish()


def windows_functions(shape: GemmShape) -> dict[str, Callable[[], str]]:
    """What writes the functions, by their names, as `gemm_functions`:

    - `gemm_windows_X(m, n, k, a, rows, depths, b, b_k, b_panel, c, c_row, accumulate)`: c[m, n] from element (i, p) of
      the first factor at a[rows[i] + depths[p]], whose tables are of 32 bits, and from b as in `gemm_X`.
    - `turn_X(m, n, source, source_row, target, target_row)`: target[j, i] = source[i, j]. It reads and writes whole
      vectors of m, and of n as many as are in 128 bits: there has to be memory for these.
    """
    suffix = SUFFIX[shape.scalar]
    return strips(shape, windows=True) | {
        f"gemm_windows_{suffix}": lambda: _WindowsProduct(shape).write(),
        f"turn_{suffix}": lambda: turn(shape),
    }
