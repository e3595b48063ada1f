"""Products of matrices for one thread, as LLVM IR text: what the compiled kernels of a CPU call.

A tile of the result stays in registers: mr rows of a few vectors. A strip is mr rows of a with all columns of b. The
product goes over blocks of b that stay in the second cache, and in those over strips.

Every element is summed alike: `depth`-sized parts of k from zero, in order, each then added to the result. So the
result does not depend on how rows and columns are cut.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence

from backends.llvm.gemm_machine import SUFFIX, Machine
from backends.llvm.gemm_pack import gemv, pack_b
from backends.llvm.gemm_shape import GemmShape
from backends.llvm.gemm_strip import strip_name, strips
from backends.llvm.gemm_text import Text

BAND_BYTES = 48 << 10  # of strips of a that are copied at a time, on the stack


class Product(ABC):
    """The whole product: blocks of b, parts of k, and what `block` makes of these."""

    name = "gemm"
    arguments = "ptr %a, i64 %a_row, i64 %a_k, ptr %b, i64 %b_k, i64 %b_panel"
    workspace = ""
    packing = False

    def __init__(self, shape: GemmShape):
        self.shape = shape
        self.text = Text(
            f"define void @{self.name}_{SUFFIX[shape.scalar]}(i64 %m, i64 %n, i64 %k, {self.arguments}, "
            f"ptr %c, i64 %c_row, i1 %accumulate{self.workspace}) nounwind"
        )

    def write(self) -> str:
        t, shape = self.text, self.shape
        scalar, nr = shape.scalar, shape.nr
        self.begin()
        part = self._part()
        width = self._width(part)

        def block(j: str, pointers: list[str]) -> Sequence[str]:
            columns = t.least(t.sub("%n", j), width)

            def over_k(p: str, _: list[str]) -> Sequence[str]:
                length = t.least(t.sub("%k", p), part)
                self.block(pointers[0], j, p, columns, length)
                return ()

            t.loop(0, t.most("%k", 1), t.most(part, 1), (), over_k)
            step = t.mul(width, "%b_n") if self.packing else t.mul(t.div(width, nr), "%b_panel")
            return [t.at(scalar, pointers[0], step)]

        t.loop(0, "%n", width, [("ptr", "%b")], block)
        return t.finish()

    def begin(self) -> None:  # noqa: B027  # most have nothing there
        """What comes before all loops."""

    @abstractmethod
    def block(self, b: str, j: str, p: str, columns: str, length: str) -> None:
        """All rows with a block of b."""

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


class _StridedProduct(Product):
    """The product of a first factor with any strides: bands of strips, strips."""

    def begin(self) -> None:
        t, shape = self.text, self.shape
        self.band = max(1, BAND_BYTES // (shape.mr * shape.depth * shape.size)) * shape.mr
        self.buffer = t.op(f"alloca [{self.band * shape.depth} x {shape.scalar}], align 64")
        # a strip that is read through the whole of a costs more than a copy, once several tiles use it
        self.copied = t.both(t.op("icmp ne i64 %a_k, 1"), t.less(str(4 * shape.nr), "%n"))

    def block(self, b: str, j: str, p: str, columns: str, length: str) -> None:
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


class _PackingProduct(_StridedProduct):
    """With a second factor of any two strides, whose blocks are each packed into a workspace first."""

    name = "gemm_packing"
    arguments = "ptr %a, i64 %a_row, i64 %a_k, ptr %b, i64 %b_k, i64 %b_n"
    workspace = ", ptr %workspace"
    packing = True


def gemm_functions(shape: GemmShape) -> dict[str, Callable[[], str]]:
    """What writes the functions, by their names: each a module that defines it and declares what it calls, others of these and
    LLVM's own.

    All strides are in elements; X is f32 or f64. `accumulate` adds to c or y, which otherwise need hold nothing.

    - `gemm_X(m, n, k, a, a_row, a_k, b, b_k, b_panel, c, c_row, accumulate)`: c[m, n] from a, which has any strides,
      and from b in panels of nr columns: of a matrix of contiguous rows, b_k is the distance of rows and b_panel is nr;
      for what `pack_b` wrote, b_k is nr and b_panel is k * nr.
    - `gemm_packing_X(m, n, k, a, a_row, a_k, b, b_k, b_n, c, c_row, accumulate, workspace)`: the same for b of any
      strides, which it packs block by block into a workspace of `GemmShape.workspace(n, k)` elements.
    - `pack_b_X(k, n, b, b_k, b_n, target)`: panels of nr columns, the last one filled up with zeros.
    - `gemv_X(m, k, a, a_row, x, y, y_step, accumulate)`: y = a x, both contiguous along k. A product with one row whose
      b is contiguous along k is this one with the operands exchanged.

    The texts are good as they are: no pass over them is needed before code generation.
    """
    suffix = SUFFIX[shape.scalar]
    return strips(shape) | {
        f"gemm_{suffix}": lambda: _StridedProduct(shape).write(),
        f"gemm_packing_{suffix}": lambda: _PackingProduct(shape).write(),
        f"pack_b_{suffix}": lambda: pack_b(shape),
        f"gemv_{suffix}": lambda: gemv(shape),
    }
