"""Products of matrices for one thread, as LLVM IR text: what the compiled kernels of a CPU call.

A tile of the result stays in registers: mr rows of a few vectors. A strip is mr rows of a with all columns of b. The
product goes over blocks of b that stay in the second cache, and in those over strips.

Every element is summed alike: `depth`-sized parts of k from zero, in order, each then added to the result. So the
result does not depend on how rows and columns are cut.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence

from backends.llvm.compiling import one_module
from backends.llvm.gemm_machine import SUFFIX
from backends.llvm.gemm_pack import copy_a, pack_b
from backends.llvm.gemm_shape import GemmShape
from backends.llvm.gemm_strip import put, strip_name, strip_parameters, strip_sizes, strips
from backends.llvm.gemm_text import Text
from backends.llvm.gemm_vector import gemv, gevm, part_of

BAND_BYTES = 48 << 10  # of strips of a that are copied at a time, on the stack


class Product(ABC):
    """The whole product: blocks of b, parts of k, and what `block` makes of these."""

    name = "gemm"
    arguments = "ptr %a, i64 %a_row, i64 %a_k, ptr %b, i64 %b_k, i64 %b_panel"
    workspace = ""
    packing = False
    windows = False

    def __init__(self, shape: GemmShape):
        self.shape = shape
        self.text = Text(
            f"define void @{self.name}_{SUFFIX[shape.scalar]}(i64 %m, i64 %n, i64 %k, {self.arguments}, "
            f"ptr %c, i64 %c_row, i1 %accumulate{self.workspace}) nounwind noinline optnone"
        )  # what takes time is in the functions that this one calls

    def write(self) -> str:
        t, shape = self.text, self.shape
        scalar, nr = shape.scalar, shape.nr
        self.begin()
        part = part_of(t, shape)
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

    def height(self, columns: str) -> tuple[str, str]:
        """How many rows strips of so many columns have, and the function of whole ones."""
        t, shape = self.text, self.shape
        whole, joined = (f"@{strip_name(shape, rows, self.windows)}" for rows in (shape.mr, shape.joined_rows))
        if not shape.joins:
            return str(shape.mr), whole
        # so many rows that their columns are a single tile: it reads b but once
        alone = t.both(t.less(str(shape.nr), columns), t.op(f"icmp sle i64 {columns}, {shape.nr + shape.lanes}"))
        return t.select(alone, "i64", shape.joined_rows, shape.mr), t.select(alone, "ptr", joined, whole)

    def strip(self, count: str, whole: str, *arguments: tuple[str, str]) -> None:
        """So many rows, by the function of whole strips, or that of half ones."""
        t, shape = self.text, self.shape
        half = f"@{strip_name(shape, shape.half_rows, self.windows)}"
        for rows in strip_sizes(shape):
            t.declare(
                "void", strip_name(shape, rows, self.windows), *(kind for kind, _ in strip_parameters(self.windows))
            )
        function = t.select(t.less(str(shape.half_rows), count), "ptr", whole, half)
        t.call("void", function, ("i64", count), *arguments)

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
        self.strips = max(1, BAND_BYTES // (shape.mr * shape.depth * shape.size))
        self.buffer = t.op(f"alloca [{self.strips * shape.mr * shape.depth} x {shape.scalar}], align 64")
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
        height, whole = self.height(columns)
        rows = t.mul(height, self.strips)

        def band(first: str, _: list[str]) -> Sequence[str]:
            count = t.least(t.sub("%m", first), rows)
            a = t.at(scalar, a_part, t.mul(first, "%a_row"))

            def copy() -> Sequence[str]:
                sizes = ("i64", count), ("i64", height), ("i64", length)
                matrix = ("ptr", a), ("i64", "%a_row"), ("i64", "%a_k")
                t.call("void", f"copy_a_{SUFFIX[scalar]}", *sizes, *matrix, ("ptr", self.buffer))
                return [self.buffer, "1", height]

            lies = [("ptr", a), ("i64", "%a_row"), ("i64", "%a_k")]
            a, a_row, a_k = t.when(self.copied, copy, lies)
            a_strip = t.mul(height, t.select(self.copied, "i64", length, a_row))

            def strip(i: str, pointers: list[str]) -> Sequence[str]:
                self.strip(
                    t.least(t.sub(count, i), height),
                    whole,
                    *(("i64", columns), ("i64", length)),
                    *(("ptr", pointers[0]), ("i64", a_row), ("i64", a_k)),
                    *(("ptr", b), ("i64", b_k), ("i64", b_panel)),
                    *(("ptr", pointers[1]), ("i64", "%c_row"), ("i1", add_up)),
                )
                return [t.at(scalar, pointers[0], a_strip), t.at(scalar, pointers[1], t.mul("%c_row", height))]

            t.loop(0, count, height, [("ptr", a), ("ptr", t.at(scalar, c_part, t.mul(first, "%c_row")))], strip)
            return ()

        t.loop(0, "%m", rows, (), band)


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
    - `copy_a_X(m, height, k, a, a_row, a_k, target)`: strips of so many rows (an even number); in each, element (i, p) is at
      p * height + i.
    - `put_X(m, n, source, source_row, target, target_row, accumulate)`: target[m, n] from source, both of contiguous rows.
    - `gemv_X(m, k, a, a_row, x, y, y_step, accumulate)`: y = a x, both contiguous along k. A product with one row whose
      b is contiguous along k is this one with the operands exchanged.
    - `gevm_X(n, k, x, x_step, b, b_k, y, accumulate)`: y = x b, whose rows are contiguous: what `gemm_X` gives for one row.

    The texts are good as they are: no pass over them is needed before code generation.
    """
    suffix = SUFFIX[shape.scalar]

    def product() -> str:
        return one_module([_StridedProduct(shape).write(), copy_a(shape)])

    return strips(shape) | {
        f"gemm_{suffix}": product,
        f"copy_a_{suffix}": product,
        f"gemm_packing_{suffix}": lambda: _PackingProduct(shape).write(),
        f"pack_b_{suffix}": lambda: pack_b(shape),
        f"put_{suffix}": lambda: put(shape),
        f"gemv_{suffix}": lambda: gemv(shape),
        f"gevm_{suffix}": lambda: gevm(shape),
    }
