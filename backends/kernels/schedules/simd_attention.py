"""Attention on a processor with vectors: what its kernels have in common.

A workgroup goes through tiles of queries and keys. Products of tiles are the library's, of matrices of 32-bit floats in
memory; scores stay in the cache between two products. An operand that lies in memory as such a matrix is used where it
is; others (computed, of another type, of queries that share keys) are written out, a tile at a time.

Source: T. Dao, FlashAttention-2, 2023.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from backends.kernels import functions_exact
from backends.kernels import index as ix
from backends.kernels.functions_notation import Number
from backends.kernels.index import Digit, Index
from backends.kernels.ir import F32, I32, Memory, Value
from backends.kernels.lowering import Argument
from backends.kernels.schedules.attention_tiles import Tiling
from backends.kernels.schedules.attention_work import F32_DTYPE, Layout, Operand, Work, named, placed
from backends.kernels.target import Target

# the most queries and keys of a tile: two tiles of scores and one of each operand stay in the second cache
_ROWS, _COLUMNS = 64, 256
# bytes of a tile of an operand that the library reads where it is as fast as copied
_SMALL = 1 << 15


def simd_tiling(layout: Layout, target: Target, workgroups: int) -> Tiling:
    """Tiles of about one size. `workgroups`: into how many a batch may be divided."""
    wanted = -(-target.cores // layout.batches) if workgroups > 1 else 1
    rows = max(8, min(_ROWS, -(-layout.rows // wanted)))
    return Tiling(_even(layout.rows, rows, 8), _even(layout.columns, _COLUMNS, target.simd), target.simd, 1)


def _even(size: int, most: int, unit: int) -> int:
    """The length of pieces that are as few as those of this length, and about alike."""
    count = -(-size // most)
    return min(-(-size // count // unit) * unit, -(-size // unit) * unit)


class Steps(NamedTuple):
    """How an operand lies in memory: the steps to the next row (query or key) and to the next feature."""

    row: int
    feature: int


class Matrix(NamedTuple):
    """Rows of features in memory: where they start, and the steps from row to row and from feature to feature."""

    memory: Memory
    start: Value
    row: Value
    feature: Value

    @property
    def turned(self) -> Matrix:
        """The same with rows and features exchanged."""
        return Matrix(self.memory, self.start, self.feature, self.row)


class Piece(NamedTuple):
    """Some neighbouring queries or keys."""

    first: Value
    length: Value
    stop: Value


class _Right(NamedTuple):
    """The second factor of a product: where it starts, and the steps to the next row and to the next panel of columns."""

    start: tuple[Memory, Value]
    row: Value
    panel: Value


class SimdWork:
    """What a kernel does with tiles."""

    def __init__(self, work: Work):
        self.work, self.b, self.layout, self.tiling = work, work.b, work.layout, work.tiling
        self.lanes = work.target.simd
        self.width = work.target.tile(F32)[1]
        self._steps: dict[tuple[Operand, bool], Steps | None] = {}
        self._copies: dict[tuple[Operand, bool], Memory] = {}
        self.line = -(-self.tiling.columns // self.lanes) * self.lanes

    # ------------------------------------------------------------------ numbers, loops
    def number(self, n: int) -> Value:
        return self.b.constant(n, I32)

    def value(self, n: Value | int) -> Value:
        return self.number(n) if isinstance(n, int) else n

    def piece(self, first: Value | int, length: int, stop: Value | int) -> Piece:
        """From `first` on so many, but none from `stop` on."""
        b, first, stop = self.b, self.value(first), self.value(stop)
        end = b.op("min", b.op("add", first, self.number(length)), stop)
        return Piece(first, b.op("sub", end, first), end)

    @contextmanager
    def each(self, name: str, size: int, piece: Piece) -> Iterator[tuple[Index, Value]]:
        """A loop over a piece of an axis, one after the other: the index, and its number in the piece."""
        axis = ix.axis(name, size)
        with self.b.loop(axis, start=piece.first, stop=piece.stop):
            yield axis, self.b.op("sub", self.b.index(axis), piece.first)

    @contextmanager
    def vectors(self, name: str, size: int, piece: Piece | None = None) -> Iterator[tuple[Index, Value]]:
        """The same, a vector at a time; of the whole axis if there is no piece."""
        b, axis, lane = self.b, ix.axis(name, size), self.b.builtin("thread")
        if piece is None:
            with b.loop(axis, start=lane, stop=size, step=self.lanes):
                yield axis, b.index(axis)
            return
        with b.loop(axis, start=b.op("add", piece.first, lane), stop=piece.stop, step=self.lanes):
            yield axis, b.op("sub", b.index(axis), piece.first)

    def exp(self, x: Value) -> Value:
        """e^x of a score less the largest one of its row."""
        return functions_exact.exp_below(Number(self.b, x)).value

    def all_lanes(self, op: str, x: Value) -> Value:
        """A reduction over the lanes, as a number that all have."""
        return self.b.op("subgroup_broadcast_first", self.b.op(f"subgroup_{op}", x))

    # ------------------------------------------------------------------ memory
    def memory(self, size: int) -> Memory:
        return self.b.workgroup_memory(F32, size)

    def pairs(self) -> Memory:
        """Room for a number of each pair of a tile, in rows of `line`."""
        return self.memory(self.tiling.rows * self.line)

    def pair_matrix(self, memory: Memory) -> Matrix:
        return Matrix(memory, self.number(0), self.number(self.line), self.number(1))

    def rows_matrix(self, memory: Memory, size: int, start: Value | None = None) -> Matrix:
        """A matrix of contiguous rows."""
        return Matrix(memory, self.number(0) if start is None else start, self.number(size), self.number(1))

    def clear(self, matrix: Matrix, rows: Piece, most: int, size: int) -> None:
        """Zeros for a matrix of contiguous rows."""
        b, zero = self.b, self.work.f32(0.0)
        with self.each("cleared", most, rows) as (_, i), self.vectors("feature", size) as (_, f):
            place = b.op("add", b.op("mul", i, matrix.row), f)
            b.store(matrix.memory, b.op("add", matrix.start, place), zero)

    # ------------------------------------------------------------------ operands
    def matrix(self, operand: Operand, size: int, rows: Piece, by_row: bool) -> Matrix:
        """Some rows of an operand.

        Arguments:
            by_row: whether these are queries; else they are keys.
        """
        key = operand, by_row
        if key not in self._steps:
            self._steps[key] = _steps(self.layout, self.tiling, self.work.target, operand, size, by_row)
        steps = self._steps[key]
        return (
            self._written_out(operand, size, rows, by_row)
            if steps is None
            else self._in_place(operand, rows, by_row, steps)
        )

    def _places(self, index: Index, by_row: bool) -> dict:
        return self.layout.places(self.work.batch, *((index, None) if by_row else (None, index)))

    def _length(self, by_row: bool) -> int:
        return self.layout.rows if by_row else self.layout.columns

    def _in_place(self, operand: Operand, rows: Piece, by_row: bool, steps: Steps) -> Matrix:
        b, e = self.b, self.work.e
        first = ix.axis("first", self._length(by_row))
        b.set_axis(first, rows.first)
        before = {v: len(places) for v, places in e.places.items()}
        e.at(operand.value, placed(operand.at, self._places(first, by_row) | named(operand.inner, ix.constant(0))))
        ((value, place),) = [(v, places[-1]) for v, places in e.places.items() if len(places) > before.get(v, 0)]
        memory = e.memories[value]
        assert memory is not None
        return Matrix(memory, b.index(place), self.number(steps.row), self.number(steps.feature))

    def _written_out(self, operand: Operand, size: int, rows: Piece, by_row: bool) -> Matrix:
        b, key = self.b, (operand, by_row)
        if key not in self._copies:
            self._copies[key] = self.memory((self.tiling.rows if by_row else self.tiling.columns) * size)
        copy = self.rows_matrix(self._copies[key], size)
        with self.each("copied", self._length(by_row), rows) as (row, i):
            changes = self._places(row, by_row)
            with self.vectors("feature", size) as (feature, f):
                b.store(
                    copy.memory, b.op("add", b.op("mul", i, copy.row), f), self.work.read(operand, changes, feature)
                )
        return copy

    # ------------------------------------------------------------------ products
    def right(self, matrix: Matrix, rows: tuple[Value, int], columns: tuple[Value, int]) -> _Right:
        """The second factor of a product, as the library takes it. Rows and columns: how many, and how many at the most."""
        b = self.b
        if matrix.feature == self.number(1) and 4 * rows[1] * columns[1] <= _SMALL:
            return _Right((matrix.memory, matrix.start), matrix.row, self.number(self.width))
        goal = self.memory(rows[1] * (-(-columns[1] // self.width) * self.width))
        start = (matrix.memory, matrix.start), matrix.row, matrix.feature
        b.call("pack_b_f32", (rows[0], columns[0], *start, (goal, self.number(0))), [goal])
        return _Right((goal, self.number(0)), self.number(self.width), b.op("mul", rows[0], self.number(self.width)))

    def multiply(
        self, sizes: tuple[Value, Value, Value], left: Matrix, right: _Right, result: Matrix, again: bool
    ) -> None:
        """result = left @ right, or, `again`, added to it. Sizes: rows and columns of the result, what is summed over."""
        start = (left.memory, left.start), left.row, left.feature
        goal = (result.memory, result.start), result.row
        self.b.call("gemm_f32", (*sizes, *start, *right, *goal, self.b.constant(again, "bool")), [result.memory])

    # ------------------------------------------------------------------ results
    def put(self, argument: Argument, output: Operand, changes: dict, feature: Index, value: Value) -> None:
        """Stores an element of an output."""
        work, b = self.work, self.b
        t, types = work.asg.value_types[output.value], work.e.types
        place = ix.linear(placed(output.at, changes | named(output.inner, feature)), t.shape)
        stored = types.to_memory(b, types.convert(b, value, F32_DTYPE, t.dtype), t.dtype)
        b.store(work.memories[argument], b.index(place), stored)

    def put_rows(
        self, argument: Argument, output: Operand, matrix: Matrix, size: int, rows: Piece, by_row: bool
    ) -> None:
        """Stores rows of a matrix as rows of an output."""
        b = self.b
        with self.each("stored", self._length(by_row), rows) as (row, i):
            changes = self._places(row, by_row)
            with self.vectors("feature", size) as (feature, f):
                place = b.op("add", matrix.start, b.op("add", b.op("mul", i, matrix.row), f))
                self.put(argument, output, changes, feature, b.load(matrix.memory, place))


def _steps(layout: Layout, tiling: Tiling, target: Target, operand: Operand, size: int, by_row: bool) -> Steps | None:
    """How an operand lies in memory; None if it has to be written out."""
    work = Work(layout, tiling, target, 1, [])
    row, feature = ix.axis("row", layout.rows if by_row else layout.columns), ix.axis("feature", size)
    for axis in (row, feature):
        work.b.set_axis(axis, work.b.builtin("thread"))
    changes = layout.places(work.batch, *((row, None) if by_row else (None, row))) | named(operand.inner, feature)
    found = work.e.at(operand.value, placed(operand.at, changes))
    if found.op != "load" or found.dtype != F32 or len(work.e.places) != 1:
        return None
    (((place,),),) = (work.e.places.values(),)
    own = {*row.terms, *feature.terms}
    if any(isinstance(atom, Digit) and own & set(atom.index.atoms()) for atom in place.terms):
        return None
    row_step, feature_step = (sum(place.terms.get(atom, 0) for atom in axis.terms) for axis in (row, feature))
    return Steps(row_step, feature_step if size > 1 else 1)
