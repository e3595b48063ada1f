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
from backends.llvm.gemm_strip import strips
from backends.llvm.gemm_text import Text

# what `pad` is told of planes and lines
_ALONG = ("count", "first", "size", "step", "source", "target")


class _WindowsProduct(Product):
    """The whole product: blocks of b, parts of k, strips."""

    arguments = "ptr %a, ptr %rows, ptr %depths, ptr %b, i64 %b_k, i64 %b_panel"
    name = "gemm_windows"
    windows = True

    def block(self, b: str, j: str, p: str, columns: str, length: str) -> None:
        """All rows with a block of b."""
        t, shape = self.text, self.shape
        add_up = t.op(f"or i1 %accumulate, {t.less('0', p)}")
        depths = t.at("i32", "%depths", p)
        c_part = t.at(shape.scalar, "%c", j)
        b = t.at(shape.scalar, b, t.mul(p, "%b_k"))
        height, whole = self.height(columns)

        def strip(i: str, _: list[str]) -> Sequence[str]:
            self.strip(
                t.least(t.sub("%m", i), height),
                whole,
                *(("i64", columns), ("i64", length)),
                *(("ptr", "%a"), ("ptr", t.at("i32", "%rows", i)), ("ptr", depths)),
                *(("ptr", b), ("i64", "%b_k"), ("i64", "%b_panel")),
                *(("ptr", t.at(shape.scalar, c_part, t.mul(i, "%c_row"))), ("i64", "%c_row"), ("i1", add_up)),
            )
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


def pad(shape: GemmShape) -> str:
    """Writes out a part of an image that may reach over its edges, with zeros there: planes of lines of neighbours."""
    scalar, lanes = shape.scalar, shape.lanes
    axes = [", ".join(f"i64 %{axis}_{name}" for name in _ALONG) for axis in ("plane", "line")]
    t = Text(
        f"define void @pad_{SUFFIX[scalar]}(ptr %source, ptr %target, {', '.join(axes)}, i64 %count, i64 %first, "
        "i64 %size) nounwind"
    )
    machine, integer = Machine(t, shape), f"i{8 * shape.size}"
    numbers, conditions = f"<{lanes} x {integer}>", f"<{lanes} x i1>"
    kind, of_kind = machine.kind(lanes), f"v{lanes}{SUFFIX[scalar]}"

    def spread(number: str) -> str:
        """A number in all lanes."""
        narrow = number if integer == "i64" else t.op(f"trunc i64 {number} to {integer}")
        alone = t.op(f"insertelement {numbers} poison, {integer} {narrow}, i64 0")
        return t.op(f"shufflevector {numbers} {alone}, {numbers} poison, <{lanes} x i32> zeroinitializer")

    def reaches_in(axis: str, i: str) -> str:
        """Whether number i of planes, or of lines, is in the image."""
        place = t.add(f"%{axis}_first", t.mul(i, f"%{axis}_step"))
        return t.op(f"icmp ult i64 {place}, %{axis}_size")

    before, after = t.sub("-1", "%first"), t.sub("%size", "%first")  # the numbers next to those that are in the image
    lower = spread(before)
    first_lanes = f"<{', '.join(f'{integer} {n}' for n in range(lanes))}>"

    def plane(p: str, pointers: list[str]) -> Sequence[str]:
        in_plane = reaches_in("plane", p)

        def line(i: str, pointers: list[str]) -> Sequence[str]:
            source, target = pointers
            upper = spread(t.select(t.both(in_plane, reaches_in("line", i)), "i64", after, before))

            def vector(j: str, lane: list[str]) -> Sequence[str]:
                above, below = (t.op(f"icmp slt {numbers} {a}, {b}") for a, b in ((lower, lane[0]), (lane[0], upper)))
                inside = t.op(f"and {conditions} {above}, {below}")
                where = (("ptr", t.at(scalar, source, j)), ("i32", shape.size), (conditions, inside))
                found = t.call(kind, f"llvm.masked.load.{of_kind}.p0", *where, (kind, "zeroinitializer"))
                machine.store(found, t.at(scalar, target, j), lanes)
                return [t.op(f"add {numbers} {lane[0]}, splat ({integer} {lanes})")]

            t.loop(0, "%count", lanes, [(numbers, first_lanes)], vector)
            return [t.at(scalar, source, "%line_source"), t.at(scalar, target, "%line_target")]

        source, target = pointers
        t.loop(0, "%line_count", 1, [("ptr", source), ("ptr", target)], line)
        return [t.at(scalar, source, "%plane_source"), t.at(scalar, target, "%plane_target")]

    t.loop(0, "%plane_count", 1, [("ptr", "%source"), ("ptr", "%target")], plane)
    return t.finish()


def windows_functions(shape: GemmShape) -> dict[str, Callable[[], str]]:
    """What writes the functions, by their names, as `gemm_functions`:

    - `gemm_windows_X(m, n, k, a, rows, depths, b, b_k, b_panel, c, c_row, accumulate)`: c[m, n] from element (i, p) of
      the first factor at a[rows[i] + depths[p]], whose tables are of 32 bits, and from b as in `gemm_X`.
    - `turn_X(m, n, source, source_row, target, target_row)`: target[j, i] = source[i, j]. It reads and writes whole
      vectors of m, and of n as many as are in 128 bits: there has to be memory for these.
    - `pad_X(source, target, plane_count, plane_first, plane_size, plane_step, plane_source, plane_target, line_..., count,
      first, size)`: element i of line j of plane p of the target, which has so many of each, from an image that has `size`
      of each, which is at number `first + i * step` there (i's step is 1), or zero if there is no such number. `source` is
      where the first of all would be; `..._source` and `..._target` are the distances of planes and lines. It writes
      whole vectors, in order: there has to be memory for one more at the end.
    """
    suffix = SUFFIX[shape.scalar]
    return strips(shape, windows=True) | {
        f"gemm_windows_{suffix}": lambda: _WindowsProduct(shape).write(),
        f"turn_{suffix}": lambda: turn(shape),
        f"pad_{suffix}": lambda: pad(shape),
    }
