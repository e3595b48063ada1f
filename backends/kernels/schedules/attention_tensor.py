"""Attention on tensor cores: what its kernels have in common.

Products of tiles are made of small matrices that subgroups hold. WGSL does not tell which thread has which of their
elements, so results pass through workgroup memory to threads that own rows: a few neighbours in a subgroup share a row.
These finish scores and weights, and write weights back as 16-bit floats for the next product.

Factors that are not 16-bit floats become such by scales, powers of 2. Each row of a tile has its own, from its largest
finite magnitude, which its threads find while they copy it: no pass over memory is needed before, and what is not finite
spoils what it would with IEEE arithmetic, and nothing else. Where rows are summed over (keys in weights times values), the
scale of a row goes into the other factor: weights are small numbers of 32 bits, which get a scale of their own after that.

Source: T. Dao, FlashAttention-2, 2023. For the scales see `tensor_pieces`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from backends.kernels import index as ix
from backends.kernels.index import Index
from backends.kernels.ir import BOOL, F16, F32, I32, U32, Builder, Memory, Value, Variable, matrix
from backends.kernels.schedules.attention_tiles import WIDE, Tiling, groups, tensor_line
from backends.kernels.schedules.attention_work import Layout, Operand, Work
from backends.kernels.schedules.tensor_pieces import NOT_FINITE, exponent, power
from backends.kernels.target import MatrixShape, Target
from backends.kernels.types import BFLOAT16, magnitude_bits

FLOAT16, FLOAT32 = np.dtype(np.float16), np.dtype(np.float32)
_FLOATS = (FLOAT16, BFLOAT16, FLOAT32)


def allows_tensor(layout: Layout, target: Target) -> bool:
    """Whether an attention's products may be made of 16-bit floats on a device: by their precisions, types and sizes."""
    shape = target.matrix(F16, F32)
    if shape is None or not target.types.half or (shape.m, shape.n, shape.k) != (16, 16, 16):
        return False
    if any(size % 16 for size in (layout.size, layout.value_size)) or min(layout.rows, layout.columns) < 16:
        return False
    asg = layout.form.asg
    for node in asg.nodes:
        if node.primitive.name != "dot_general":
            continue
        dtypes = [asg.value_types[i].dtype for i in node.inputs]
        if any(dtype not in _FLOATS for dtype in (*dtypes, node.out_types[0].dtype)):
            return False
        precision = node.params.get("precision") or ("default", "default")
        if FLOAT32 in dtypes and any(p in ("high", "highest") for p in precision):
            return False
    return True


# rows that a thread copies, whether they are there, and their groups of four
Fetched = list[tuple[Index, "Value | None", list[list[Value]]]]


class Half(NamedTuple):
    """A tile of 16-bit floats in workgroup memory; `line`: groups of four from one row to the next."""

    memory: Memory
    line: int


class Staged(NamedTuple):
    """A tile of an operand.

    Attributes:
        tile: its elements, scaled.
        factors: what undoes the scale of each row; None if they are as they were.
        largest: of these factors, for some rows each: together for all.
    """

    tile: Half
    factors: Memory | None
    largest: Memory | None


class Partition(NamedTuple):
    """How subgroups share a result of rows x columns: so many parts, of so many matrices each."""

    down: int
    across: int
    rows: int
    columns: int


def partition(rows: int, columns: int, subgroups: int, widest: int = 4) -> Partition:
    """Keeps most subgroups busy, at most so many side by side, and then loads as few matrices as it can."""
    m, n = rows // 16, columns // 16
    choices = [
        (d, a)
        for d in range(1, subgroups + 1)
        for a in range(1, min(subgroups // d, widest) + 1)
        if m % d == 0 and n % a == 0
    ]  # fmt: skip
    down, across = min(choices, key=lambda c: (-c[0] * c[1], m // c[0] + n // c[1]))
    return Partition(down, across, m // down, n // across)


class TensorWork:
    """What a kernel does with tiles, matrices and the rows of threads."""

    def __init__(self, work: Work, draft: bool):
        self.work, self.draft = work, draft
        self.b: Builder = work.b
        self.layout: Layout = work.layout
        self.tiling: Tiling = work.tiling
        shape = work.target.matrix(F16, F32)
        assert shape is not None
        self.shape: MatrixShape = shape
        b, size = self.b, work.target.subgroup[0]
        self.subgroups = self.tiling.threads // size
        self.subgroup = ix.axis("subgroup", self.subgroups)
        b.set_axis(self.subgroup, b.builtin("subgroup"))
        b.features.add("subgroups")

    # ------------------------------------------------------------------ memory
    def half(self, rows: int, size: int) -> Half:
        """Room for a tile of so many rows."""
        line = tensor_line(size)
        memory = self.b.workgroup_memory(F16, rows * line)
        memory.width = WIDE
        return Half(memory, line)

    def scratch(self, rows: int, columns: int) -> Memory:
        """Room for results of products."""
        return self.b.workgroup_memory(F32, rows * tensor_line(columns) * WIDE)

    def staged(self, operand: Operand, rows: int, size: int) -> Staged:
        """Room for a tile of an operand."""
        b = self.b
        if self.work.e.type(operand.value).dtype == FLOAT16:
            return Staged(self.half(rows, size), None, None)
        factors = b.workgroup_memory(F32, rows)
        return Staged(self.half(rows, size), factors, b.workgroup_memory(F32, self._teams(size)))

    # ------------------------------------------------------------------ copying
    def _team(self, size: int) -> int:
        """Threads that copy a row together: few enough to be neighbours in any subgroup."""
        return 8 if groups(size) % 8 == 0 else 4

    def _teams(self, size: int) -> int:
        return self.tiling.threads // self._team(size)

    def fetch(self, operand: Operand, rows: int, size: int, changes: Callable[[Index], dict]) -> Fetched:
        """What a thread copies of a tile: rows, whether they are there, and their groups of four."""
        b, work = self.b, self.work
        team, teams = self._team(size), self._teams(size)
        member, number = work.thread.digit(1, team), work.thread.digit(team)
        found = []
        for start in range(0, rows, teams):
            row, exists = number + start, None
            if start + teams > rows:
                value = b.index(row)
                exists = b.op("lt", value, work.i32(rows), dtype=BOOL)
                row = ix.axis("copied", rows)
                b.set_axis(row, b.op("min", value, work.i32(rows - 1)))
            at = changes(row)
            lanes = [work.group_of(operand, size, at, member + k * team) for k in range(groups(size) // team)]
            found.append((row, exists, lanes))
        return found

    def put(self, staged: Staged, size: int, fetched: Fetched) -> None:
        """Writes what was fetched into a tile."""
        b, work = self.b, self.work
        team = self._team(size)
        member, number = work.thread.digit(1, team), work.thread.digit(team)
        scales: list[Value | None] = [None] * len(fetched)
        if staged.factors is not None and staged.largest is not None:
            highest = self.finite_maxima([[lane for group in lanes for lane in group] for _, _, lanes in fetched])
            most: Value | None = None
            first = b.op("eq", b.index(member), work.i32(0), dtype=BOOL)
            for k, ((row, exists, _), bits) in enumerate(zip(fetched, highest, strict=True)):
                e = exponent(b, self.reduce("max", bits, team))
                scales[k] = power(b, e)
                factor = power(b, b.op("sub", work.i32(0), e))
                most = factor if most is None else b.op("max", most, factor)
                with b.when(b.both(exists, first)):
                    b.store(staged.factors, b.index(row), factor)
            assert most is not None
            with b.when(first):
                b.store(staged.largest, b.index(number), most)
        for (row, exists, lanes), scale in zip(fetched, scales, strict=True):
            with b.when(exists):
                for k, group in enumerate(lanes):
                    place = b.index(row * staged.tile.line + (member + k * team))
                    if scale is not None:
                        group = [b.op("mul", lane, scale) for lane in group]
                    b.store(staged.tile.memory, place, tuple(b.op("convert", lane, dtype=F16) for lane in group))

    def put_dots(self, memory: Memory, size: int, left: Fetched, right: Fetched) -> None:
        """For each row the product of two tiles' rows."""
        b, work, team = self.b, self.work, self._team(size)
        first = b.op("eq", b.index(work.thread.digit(1, team)), work.i32(0), dtype=BOOL)
        for (row, exists, xs), (_, _, ys) in zip(left, right, strict=True):
            total = work.f32(0.0)
            for x, y in zip(xs, ys, strict=True):
                for a, c in zip(x, y, strict=True):
                    total = b.op("fma", a, c, total)
            total = self.reduce("add", total, team)
            with b.when(b.both(exists, first)):
                b.store(memory, b.index(row), total)

    def finite_maxima(self, lines: Sequence[Sequence[Value]]) -> list[Value]:
        """The bits of the largest finite magnitude of each line."""
        b = self.b
        zero, limit = b.constant(0, U32), b.constant(NOT_FINITE, U32)
        # the maximum of floats may pass over NaN; what is left of others that are not finite is seen by its bits
        found = [b.op("bitcast", tree(b, "max", [b.op("abs", x) for x in line]), dtype=U32) for line in lines]
        largest = [b.variable(bits) for bits in found]
        with b.when(b.op("ge", tree(b, "max", found), limit, dtype=BOOL)):
            for variable, line in zip(largest, lines, strict=True):
                # all of it here, where it is hardly ever done
                bits = [b.op("bitcast", b.op("abs", x, depth=b.depth), dtype=U32) for x in line]
                finite = [b.select(b.op("lt", x, limit, dtype=BOOL), x, zero) for x in bits]
                b.assign(variable, tree(b, "max", finite))
        return [b.read(variable) for variable in largest]

    def reduce(self, op: str, number: Value, threads: int) -> Value:
        """A reduction over so many neighbouring threads."""
        b, step = self.b, 1
        while step < threads:
            number = b.op(op, number, b.op("subgroup_shuffle_xor", number, b.constant(step, U32)))
            step *= 2
        return number

    def largest(self, staged: Staged) -> Value | None:
        """The largest factor of a tile; None if there are none."""
        b = self.b
        if staged.largest is None:
            return None
        return tree(b, "max", [b.load(staged.largest, self.work.i32(k)) for k in range(staged.largest.size)])

    # ------------------------------------------------------------------ products
    def product(
        self,
        left: Half,
        right: Half,
        rows: int,
        columns: int,
        depth: int,
        turned: tuple[bool, bool],
        store: Memory,
    ) -> None:
        """Stores left @ right in memory; `turned`: whether each factor is stored by its columns."""
        b, part = self.b, partition(rows, columns, self.subgroups)
        with b.when(self._busy(part)):
            line = tensor_line(columns) * WIDE
            for i, totals in enumerate(self.multiply(left, right, part, depth, turned, None)):
                for j, total in enumerate(totals):
                    row = (self.subgroup.digit(part.across) * part.rows + i) * 16
                    column = (self.subgroup.digit(1, part.across) * part.columns + j) * 16
                    if not self.draft:
                        b.store_matrix(store, b.index(row * line + column), total, line)

    def _busy(self, part: Partition) -> Value | None:
        count = part.down * part.across
        if count == self.subgroups:
            return None
        return self.b.op("lt", self.b.index(self.subgroup), self.work.i32(count), dtype=BOOL)

    def zeros(self, part: Partition) -> list[list[Variable]]:
        """Sums that a subgroup keeps."""
        zero = self.b.zero_matrix(matrix("result", F32, 16, 16))
        return [[self.b.variable(zero) for _ in range(part.columns)] for _ in range(part.rows)]

    def multiply(
        self,
        left: Half,
        right: Half,
        part: Partition,
        depth: int,
        turned: tuple[bool, bool],
        totals: list[list[Value]] | None,
    ) -> list[list[Value]]:
        """A subgroup's part of totals + left @ right."""
        b = self.b
        zero = b.zero_matrix(matrix("result", F32, 16, 16))
        found = [[zero] * part.columns for _ in range(part.rows)] if totals is None else totals
        if self.draft:
            return found
        down, right_part = self.subgroup.digit(part.across), self.subgroup.digit(1, part.across)
        for deep in range(0, depth, 16):
            lefts = [self._matrix("left", left, (down * part.rows + i) * 16, deep, turned[0]) for i in range(part.rows)]
            rights = [
                self._matrix("right", right, (right_part * part.columns + j) * 16, deep, turned[1])
                for j in range(part.columns)
            ]
            found = [
                [b.multiply_matrices(x, y, total) for y, total in zip(rights, line, strict=True)]
                for x, line in zip(lefts, found, strict=True)
            ]
        return found

    def add(
        self,
        left: Half,
        right: Half,
        part: Partition,
        depth: int,
        turned: tuple[bool, bool],
        sums: list[list[Variable]],
    ) -> None:
        """sums += left @ right, of a subgroup's part."""
        b = self.b
        if self.draft:
            return
        with b.when(self._busy(part)):
            totals = [[b.read(x) for x in line] for line in sums]
            totals = self.multiply(left, right, part, depth, turned, totals)
            for line, new in zip(sums, totals, strict=True):
                for variable, value in zip(line, new, strict=True):
                    b.assign(variable, value)

    def _matrix(self, role: str, half: Half, free: Index, deep: int, turned: bool) -> Value:
        """A factor from this place on its free axis and on the one that is summed over."""
        # rows of memory are the free axis of a left factor, and the summed one of a right factor, unless it is turned
        by_free = (role == "left") != turned
        row, column = (free, ix.constant(deep)) if by_free else (ix.constant(deep), free)
        place = row * half.line + column.over(WIDE)
        return self.b.load_matrix(
            matrix(role, F16, 16, 16), half.memory, self.b.index(place), half.line, by_columns=turned
        )

    def store_column(self, memory: Memory, part: Partition, sums: list[Variable], line: int) -> None:
        """Stores one column of each subgroup's matrices: side by side, in lines of so many elements."""
        b = self.b
        if self.draft:
            return
        with b.when(self._busy(part)):
            for i, x in enumerate(sums):
                row = (self.subgroup.digit(part.across) * part.rows + i) * 16
                b.store_matrix(memory, b.index(row * line + self.subgroup.digit(1, part.across) * 16), b.read(x), line)

    # ------------------------------------------------------------------ rows of threads
    def mine(self, memory: Memory, size: int) -> list[Value]:
        """What a thread has of its row in a result of so many columns: groups of four, one after another."""
        b, work = self.b, self.work
        found = []
        for j in range(work.feature_groups(size)):
            start = work.y * (tensor_line(size) * WIDE) + work.feature(j, size) * WIDE
            found += [b.load(memory, b.index(start + k)) for k in range(WIDE)]
        return found

    def of_columns(self, memory: Memory) -> list[Value]:
        """A number of each of a thread's columns."""
        b, work = self.b, self.work
        return [b.load(memory, b.index(work.column(c))) for c in range(self.tiling.thread_groups * WIDE)]

    def of_row(self, memory: Memory | None) -> Value | None:
        """A number of a thread's row."""
        return None if memory is None else self.b.load(memory, self.b.index(self.work.y))

    def unscaled(self, totals: list[Value], row: Value | None, columns: Memory | None) -> list[Value]:
        """Products of rows and columns without the scales of both."""
        b = self.b
        if columns is not None:
            return [times(b, x, row, factor) for x, factor in zip(totals, self.of_columns(columns), strict=True)]
        return totals if row is None else [b.op("mul", x, row) for x in totals]

    def shares(self, staged: Staged) -> list[Value] | None:
        """For each of a thread's columns the scale of a row of `staged`, as a part of the largest one, from 0 to 1; None: 1."""
        most = self.largest(staged)
        if most is None or staged.factors is None:
            return None
        whole = inverse(self.b, most)
        return [self.b.op("mul", factor, whole) for factor in self.of_columns(staged.factors)]

    def put_pairs(self, half: Half, numbers: Sequence[Value]) -> None:
        """Stores a thread's numbers of its row, as 16-bit floats."""
        b, work = self.b, self.work
        for j in range(self.tiling.thread_groups):
            place = b.index(work.y * half.line + (work.x + j * self.tiling.across))
            lanes = numbers[j * WIDE : j * WIDE + WIDE]
            b.store(half.memory, place, tuple(b.op("convert", lane, dtype=F16) for lane in lanes))

    def scaled_pairs(self, numbers: list[Value], shares: list[Value] | None) -> tuple[list[Value], Value]:
        """A thread's numbers of its row, times shares, and all of the row scaled; and what undoes that scale.

        It is the largest product that decides: small weights may meet large values, and then none of these is small.
        """
        b = self.b
        if shares is not None:
            numbers = [b.op("mul", x, share) for x, share in zip(numbers, shares, strict=True)]
        e = exponent(b, self.reduce("max", self.finite_maxima([numbers])[0], self.tiling.across))
        scale = power(b, e)
        return [b.op("mul", x, scale) for x in numbers], power(b, b.op("sub", b.constant(0, I32), e))


def times(b: Builder, number: Value, first: Value | None, second: Value | None) -> Value:
    """A number times two powers of 2. The smaller one comes first: nothing overflows that does not in the end."""
    if first is None or second is None:
        factor = second if first is None else first
        return number if factor is None else b.op("mul", number, factor)
    return b.op("mul", b.op("mul", number, b.op("min", first, second)), b.op("max", first, second))


def inverse(b: Builder, factor: Value) -> Value:
    """1 / a power of 2 from 2^-126 to 2^126, exactly."""
    bits = b.op("bitcast", factor, dtype=U32)
    return b.op("bitcast", b.op("sub", b.constant(0x7F000000, U32), bits), dtype=F32)


def top_over(b: Builder, largest: Value) -> Value:
    """The power of 2 that brings numbers up to this one just into the range of 16-bit floats."""
    return power(b, exponent(b, magnitude_bits(b, largest)))


def tree(b: Builder, op: str, numbers: Sequence[Value]) -> Value:
    """A reduction in pairs."""
    parts = list(numbers)
    while len(parts) > 1:
        parts = [b.op(op, *parts[k : k + 2]) if k + 1 < len(parts) else parts[k] for k in range(0, len(parts), 2)]
    return parts[0]
