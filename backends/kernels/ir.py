"""Kernels as small programs: typed values, loops, branches, memory. Backends print them; see `backends.wgsl`.

A `Builder` appends statements in the order in which they are asked for. Two things are done on the way: a value that was
computed before (and is still in scope) is not computed again, and a value that does not depend on a loop is computed
before it. So whoever writes a schedule asks for what is needed where it is needed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from asgfn.records import field, record
from backends.kernels.index import Axis, Computed, Digit, Index

# the types of values: what every GPU language has
F32, F16, I32, U32, BOOL = "f32", "f16", "i32", "u32", "bool"
# processors have more: these, and types that elements have in memory only
F64, I64, U64 = "f64", "i64", "u64"
I8, U8, I16, U16 = "i8", "u8", "i16", "u16"
# bytes of an element in memory
SIZES = {F32: 4, F16: 2, I32: 4, U32: 4, F64: 8, I64: 8, U64: 8, I8: 1, U8: 1, I16: 2, U16: 2}


def vector(dtype: str) -> str:
    """The type of four values of a type, which are computed with together."""
    return f"vec4<{dtype}>"


def matrix(role: str, dtype: str, rows: int, columns: int) -> str:
    """The type of a matrix that the threads of a subgroup hold together; its role in products is "left", "right", "result"."""
    return f"subgroup_matrix_{role}<{dtype}, {columns}, {rows}>"


class Value:
    """A value of the kernel: an operation on others, computed once and never changed.

    Attributes:
        op: what computes it.
        args: its operands.
        dtype: its type.
        attr: what else the operation needs (a constant, a memory).
        depth: how many loops and branches it stands in.
    """

    __slots__ = ("args", "attr", "depth", "dtype", "name", "op")

    def __init__(self, op: str, args: tuple[Value, ...], dtype: str, attr: Any, depth: int, name: str):
        self.op, self.args, self.dtype, self.attr, self.depth, self.name = op, args, dtype, attr, depth, name

    def __repr__(self) -> str:
        return self.name


@record(frozen=False, eq=False)
class Memory:
    """Something that is read and written by index.

    Attributes:
        name: in the printed program.
        dtype: of its elements.
        size: number of elements.
        space: "storage" (of the device), "workgroup" (shared by the threads of one) or "private" (a thread's own).
        written: whether the kernel writes to it.
        width: how many elements one access moves (1 or 4); elements are then numbered in such groups.
        atomic: whether threads write to the same elements.
    """

    name: str
    dtype: str
    size: int
    space: str = "storage"
    written: bool = False
    width: int = 1
    atomic: bool = False


class Statement:
    """What a kernel does, in order."""

    __slots__ = ()

    def operands(self) -> Sequence[Value]:
        """The values that it does something with; a value that is only computed is none."""
        return ()

    def blocks(self) -> Sequence[list[Any]]:
        """The statements in it."""
        return ()


class Let(Statement):
    """Computes a value. There are so many that it is no record, whose first instances take long to make."""

    __slots__ = ("value",)

    def __init__(self, value: Value):
        self.value = value


@record(frozen=False, eq=False)
class Variable(Statement):
    """A number that changes: the result of a loop."""

    name: str
    dtype: str
    start: Value

    def operands(self) -> Sequence[Value]:
        return (self.start,)


@record(frozen=False)
class Assign(Statement):
    variable: Variable
    value: Value

    def operands(self) -> Sequence[Value]:
        return (self.value,)


@record(frozen=False)
class Store(Statement):
    memory: Memory
    place: Value
    value: Value | tuple[Value, ...]
    lane: Value | None = None  # of a group in wide memory, if one element of it is stored

    def operands(self) -> Sequence[Value]:
        values = self.value if isinstance(self.value, tuple) else (self.value,)
        return (self.place, *values) if self.lane is None else (self.place, *values, self.lane)


@record(frozen=False)
class Atomic(Statement):
    """memory[place] = operation(memory[place], value), by one thread at a time."""

    operation: str
    memory: Memory
    place: Value
    value: Value

    def operands(self) -> Sequence[Value]:
        return (self.place, self.value)


@record(frozen=False)
class StoreMatrix(Statement):
    """Element (row, column) of a subgroup's matrix goes to memory[place + row * stride + column]."""

    memory: Memory
    place: Value
    value: Value
    stride: int

    def operands(self) -> Sequence[Value]:
        return (self.place, self.value)


@record(frozen=False)
class Call(Statement):
    """Calls a function of the processor's library, once for all threads: with numbers, and places in memories."""

    function: str
    arguments: tuple[Value | tuple[Memory, Value], ...]

    def operands(self) -> Sequence[Value]:
        return [a[1] if isinstance(a, tuple) else a for a in self.arguments]


@record(frozen=False)
class Expect(Statement):
    """Elements of a memory will be written soon. Only a hint, for processors."""

    memory: Memory
    place: Value

    def operands(self) -> Sequence[Value]:
        return (self.place,)


@record(frozen=False)
class Barrier(Statement):
    """All threads of a workgroup arrive, and see what the others wrote."""


@record(frozen=False)
class Loop(Statement):
    """for name = start; name < stop; name += step."""

    name: str
    start: Value
    stop: Value
    step: Value
    body: list[Any]
    unroll: bool = False

    def operands(self) -> Sequence[Value]:
        return (self.start, self.stop, self.step)

    def blocks(self) -> Sequence[list[Any]]:
        return (self.body,)


@record(frozen=False)
class If(Statement):
    condition: Value
    body: list[Any]
    otherwise: list[Any] = field(default_factory=list)

    def operands(self) -> Sequence[Value]:
        return (self.condition,)

    def blocks(self) -> Sequence[list[Any]]:
        return (self.body, self.otherwise)


@record(frozen=False, eq=False)
class Kernel:
    """A program for many threads.

    Attributes:
        name: for people.
        memories: the storage that it is called with, in the order of the arguments.
        body: its statements.
        workgroup: number of threads of a workgroup along x, y, z.
        grid: number of workgroups along x, y, z.
        shared: memory of a workgroup.
        private: memory of a thread.
        features: what the device must have: "f16", "subgroups", "matrices".
        flops, bytes: how much work it does, and how much memory it moves, at least.
    """

    name: str
    memories: list[Memory]
    body: list[Any]
    workgroup: tuple[int, int, int]
    grid: tuple[int, int, int]
    shared: list[Memory] = field(default_factory=list)
    private: list[Memory] = field(default_factory=list)
    features: frozenset[str] = frozenset()
    flops: float = 0.0
    bytes: float = 0.0


class Builder:
    """Writes the body of a kernel."""

    def __init__(self) -> None:
        self.body: list[Any] = []
        self.blocks: list[list[Any]] = [self.body]
        self._known: dict[Any, Value] = {}  # what was computed and is in scope
        self._made: list[list[Any]] = [[]]  # for each block, what was computed in it
        self._constants: dict[Any, Value] = {}
        self._guarded: list[int] = [0]  # for each block the depth of the innermost one that runs only under a condition
        self._count = 0
        self.memories: list[Memory] = []
        self.shared: list[Memory] = []
        self.private: list[Memory] = []
        self.axes: dict[Axis, Value] = {}
        self.features: set[str] = set()

    # ------------------------------------------------------------------ values
    @property
    def depth(self) -> int:
        return len(self.blocks) - 1

    @property
    def count(self) -> int:
        """How many values, variables and loops there are so far."""
        return self._count

    def op(self, op: str, *args: Value, dtype: str | None = None, attr: Any = None, depth: int = 0) -> Value:
        """The value of an operation. It is computed in the outermost block (not above `depth`) where its operands are known."""
        if dtype is None:
            dtype = args[0].dtype
        if op == "sub" and dtype == I32 and args[0].op == "add" and args[1] in args[0].args:
            return args[0].args[args[0].args[0] is args[1]]  # as far as from a piece's first element to its end
        key = (op, args, dtype, attr)
        found = self._known.get(key)
        if found is not None:
            return found
        for operand in args:
            if operand.depth > depth:
                depth = operand.depth
        return self._emit(key, depth)

    def _emit(self, key: tuple, depth: int) -> Value:
        op, args, dtype, attr = key
        self._count += 1
        value = self._known[key] = Value(op, args, dtype, attr, depth, f"v{self._count}")
        self._made[depth].append(key)
        self.blocks[depth].append(Let(value))
        if dtype == F16:
            self.features.add("f16")
        return value

    def recall(self, key: Any) -> Value | None:
        """What was remembered under a key, if it is still in scope."""
        return self._known.get(key)

    def remember(self, key: Any, value: Value) -> None:
        """Keeps a value for as long as it is in scope."""
        self._known[key] = value
        self._made[value.depth].append(key)

    def constant(self, value: Any, dtype: str) -> Value:
        # NaN is one constant, and zeros of both signs are two
        key = (dtype, value.__class__, value if value and value == value else repr(value))
        found = self._constants.get(key)
        if found is None:
            found = self._constants[key] = Value("constant", (), dtype, value, 0, f"constant {value!r}")
        return found

    def builtin(self, name: str) -> Value:
        """A number that the device gives each thread: "thread", "group_x", "group_y", "group_z", "subgroup_size", ..."""
        key = ("builtin", (), I32, name)
        found = self._known.get(key)
        return found if found is not None else self._emit(key, 0)

    def select(self, condition: Value, a: Value, b: Value) -> Value:
        """a where the condition holds, else b; both are computed."""
        if condition.op == "constant":
            return a if condition.attr else b
        return a if a is b else self.op("select", condition, a, b, dtype=a.dtype)

    def both(self, *conditions: Value | None) -> Value | None:
        """All conditions together; None is one that always holds."""
        real = [c for c in conditions if c is not None and not (c.op == "constant" and c.attr)]
        if not real:
            return None
        result = real[0]
        for c in real[1:]:
            result = self.op("and", result, c)
        return result

    # ------------------------------------------------------------------ indices
    def index(self, index: Index) -> Value:
        """The value (i32) of an index."""
        if not index.terms:
            return self.constant(index.constant, I32)
        found = self._known.get(index)
        if found is None:
            found = self._index(index)
            self.remember(index, found)
        return found

    def _index(self, index: Index) -> Value:
        # what belongs to a loop is summed by itself: neither is it done again inside, nor for each of its neighbours
        by_depth: dict[int, list[tuple[Value, int]]] = {}
        for atom, c in index.terms.items():
            value = self._atom(atom)
            by_depth.setdefault(value.depth, []).append((value, c))
        total: Value | None = None
        for depth in sorted(by_depth):
            part = self._sum_of(by_depth[depth])
            total = part if total is None else self.op("add", total, part)
        assert total is not None
        return self.op("add", total, self.constant(index.constant, I32)) if index.constant else total

    def _sum_of(self, terms: Sequence[tuple[Value, int]]) -> Value:
        total: Value | None = None
        for value, c in terms:
            if total is not None and c == -1:
                total = self.op("sub", total, value)
                continue
            scaled = value if c == 1 else self.op("mul", value, self.constant(c, I32))
            total = scaled if total is None else self.op("add", total, scaled)
        assert total is not None
        return total

    def _atom(self, atom: Any) -> Value:
        if isinstance(atom, Axis):
            return self.axes[atom]
        if isinstance(atom, Computed):
            return atom.value
        assert isinstance(atom, Digit)
        value = self.op("convert", self.index(atom.index), dtype=U32)
        if atom.step != 1:
            value = self.op("div", value, self.constant(atom.step, U32))
        if atom.base is not None:
            value = self.op("rem", value, self.constant(atom.base, U32))
        return self.op("convert", value, dtype=I32)

    def within(self, index: Index, low: int, high: int) -> Value | None:
        """Whether low <= index < high; None if that is certain."""
        if index.low < low == 0 and index.high >= high:  # as numbers without a sign, negative ones are large
            return self.op("lt", self.op("convert", self.index(index), dtype=U32), self.constant(high, U32), dtype=BOOL)
        checks = []
        if index.low < low:
            checks.append(self.op("ge", self.index(index), self.constant(low, I32), dtype=BOOL))
        if index.high >= high:
            checks.append(self.op("lt", self.index(index), self.constant(high, I32), dtype=BOOL))
        return self.both(*checks)

    # ------------------------------------------------------------------ vectors of four
    def pack(self, lanes: Sequence[Value]) -> Value:
        """Four values as one."""
        return self.op("pack", *lanes, dtype=vector(lanes[0].dtype))

    def splat(self, value: Value) -> Value:
        """A value four times."""
        return self.op("splat", value, dtype=vector(value.dtype))

    def lane(self, value: Value, k: int) -> Value:
        """One of the four."""
        return self.op("lane", value, dtype=value.dtype[5:-1], attr=k)

    def load_vector(self, memory: Memory, place: Value) -> Value:
        """Four neighbours, from memory of width 4."""
        self._count += 1
        value = Value("load", (place,), vector(memory.dtype), (memory, None), self.depth, f"v{self._count}")
        self.blocks[-1].append(Let(value))
        return value

    # ------------------------------------------------------------------ matrices of a subgroup
    def zero_matrix(self, dtype: str) -> Value:
        """A matrix of zeros; its type is one of `matrix`."""
        self.features.add("matrices")
        return self.op("zero_matrix", dtype=dtype)

    def load_matrix(self, dtype: str, memory: Memory, place: Value, stride: int, by_columns: bool = False) -> Value:
        """A matrix from memory: element (row, column) is memory[place + row * stride + column], or, by columns,
        memory[place + column * stride + row]. Place and stride count elements, also where memory is wide."""
        self.features.add("matrices")
        self._count += 1
        value = Value("load_matrix", (place,), dtype, (memory, stride, by_columns), self.depth, f"v{self._count}")
        self.blocks[-1].append(Let(value))
        return value

    def multiply_matrices(self, left: Value, right: Value, total: Value) -> Value:
        """total + left @ right."""
        return self.op("multiply_matrices", left, right, total, dtype=total.dtype)

    def store_matrix(self, memory: Memory, place: Value, value: Value, stride: int) -> None:
        """See `StoreMatrix`."""
        memory.written = True
        self.blocks[-1].append(StoreMatrix(memory, place, value, stride))

    # ------------------------------------------------------------------ memory
    def load(self, memory: Memory, place: Value, lane: int | None = None) -> Value:
        """An element. What a kernel does not write may be read early, unless that is under a condition."""
        if memory.written or memory.space != "storage":
            self._count += 1
            value = Value("load", (place,), memory.dtype, (memory, lane), self.depth, f"v{self._count}")
            self.blocks[-1].append(Let(value))
            return value
        return self.op("load", place, dtype=memory.dtype, attr=(memory, lane), depth=self._guarded[-1])

    def store(self, memory: Memory, place: Value, value: Value | tuple[Value, ...]) -> None:
        memory.written = True
        self.blocks[-1].append(Store(memory, place, value))

    def expect(self, memory: Memory, place: Value) -> None:
        """See `Expect`."""
        self.blocks[-1].append(Expect(memory, place))

    def store_lane(self, memory: Memory, place: Value, lane: Value, value: Value) -> None:
        """One element of a group in memory of width 4."""
        memory.written = True
        self.blocks[-1].append(Store(memory, place, value, lane))

    def atomic(self, operation: str, memory: Memory, place: Value, value: Value) -> None:
        memory.written = memory.atomic = True
        self.blocks[-1].append(Atomic(operation, memory, place, value))

    def call(
        self, function: str, arguments: Sequence[Value | tuple[Memory, Value]], writes: Sequence[Memory] = ()
    ) -> None:
        """See `Call`; `writes`: the memories that the function writes to."""
        for memory in writes:
            memory.written = True
        self.blocks[-1].append(Call(function, tuple(arguments)))

    def argument(self, name: str, dtype: str, size: int) -> Memory:
        """Storage that the kernel is called with."""
        memory = Memory(name, dtype, size)
        self.memories.append(memory)
        return memory

    def workgroup_memory(self, dtype: str, size: int) -> Memory:
        """Memory that the threads of a workgroup share."""
        memory = Memory(f"shared{len(self.shared)}", dtype, size, "workgroup", written=True)
        self.shared.append(memory)
        return memory

    def private_memory(self, dtype: str, size: int) -> Memory:
        """Memory of each thread: registers, if all indices are constants once loops are unrolled."""
        memory = Memory(f"private{len(self.private)}", dtype, size, "private", written=True)
        self.private.append(memory)
        return memory

    def barrier(self) -> None:
        self.blocks[-1].append(Barrier())

    # ------------------------------------------------------------------ variables, loops, branches
    def variable(self, start: Value) -> Variable:
        """A number that changes, starting from this one."""
        self._count += 1
        variable = Variable(f"r{self._count}", start.dtype, start)
        self.blocks[-1].append(variable)
        return variable

    def read(self, variable: Variable) -> Value:
        """The number that a variable has now."""
        self._count += 1
        value = Value("read", (), variable.dtype, variable, self.depth, f"v{self._count}")
        self.blocks[-1].append(Let(value))
        return value

    def assign(self, variable: Variable, value: Value) -> None:
        self.blocks[-1].append(Assign(variable, value))

    @contextmanager
    def loop(
        self,
        axis: Index,
        start: Value | int = 0,
        stop: Value | int | None = None,
        step: Value | int = 1,
        unroll: bool = False,
        certain: bool = False,
    ) -> Iterator[None]:
        """Runs through an axis. Its index must be a single axis (as `index.axis` makes it), or a constant: then nothing loops,
        but what starts at the stop, or after it, is not done.

        Arguments:
            certain: whether each thread has a step at least: then what it reads may be read before.
        """
        if axis.is_constant:
            with self.when(self._runs(start, 1 if stop is None else stop)):
                yield
            return
        (the_axis,) = axis.terms
        assert isinstance(the_axis, Axis)
        stop = the_axis.size if stop is None else stop
        first, end, by = (self.constant(x, I32) if isinstance(x, int) else x for x in (start, stop, step))
        self._count += 1
        name = f"i_{self._count}"  # not i32, which is a type
        loop = Loop(name, first, end, by, body=[], unroll=unroll)
        self._enter(loop.body, guarded=not certain)
        self._set_axis(the_axis, Value("loop", (), I32, loop, self.depth, name))
        try:
            yield
        finally:
            self._leave()
            self.blocks[-1].append(loop)

    def _runs(self, start: Value | int, stop: Value | int) -> Value | None:
        """Whether a loop has a step; None if that is certain."""
        if isinstance(start, int) and isinstance(stop, int):
            return None if start < stop else self.constant(False, BOOL)
        first, end = (self.constant(x, I32) if isinstance(x, int) else x for x in (start, stop))
        return self.op("lt", first, end, dtype=BOOL)

    @contextmanager
    def when(self, condition: Value | None) -> Iterator[None]:
        """What is done only if a condition holds."""
        if condition is None or (condition.op == "constant" and condition.attr):
            yield
            return
        branch = If(condition, [])
        self._enter(branch.body, guarded=True)
        try:
            yield
        finally:
            self._leave()
            self.blocks[-1].append(branch)

    def _enter(self, block: list[Any], guarded: bool) -> None:
        self.blocks.append(block)
        self._made.append([])
        self._guarded.append(self.depth if guarded else self._guarded[-1])

    def _leave(self) -> None:
        self.blocks.pop()
        self._guarded.pop()
        level = len(self.blocks)
        for key in self._made.pop():
            found = self._known.pop(key, None)
            if found is not None and found.depth < level:
                self._known[key] = found  # it was computed outside of the block since

    def set_axis(self, axis: Index, value: Value) -> None:
        """Says which value an axis has: that of a thread, say."""
        if axis.is_constant:
            return
        (the_axis,) = axis.terms
        assert isinstance(the_axis, Axis)
        self._set_axis(the_axis, value)

    def _set_axis(self, axis: Axis, value: Value) -> None:
        if self.axes.get(axis, value) is not value:
            # what was computed with its other value is something else now
            for known in [known for known in self._known if isinstance(known, Index)]:
                del self._known[known]
        self.axes[axis] = value

    def kernel(self, name: str, workgroup: Sequence[int], grid: Sequence[int], **more: Any) -> Kernel:
        """The finished kernel."""
        x, y, z = (*workgroup, *(1,) * (3 - len(workgroup)))
        columns, rows, layers = (*grid, *(1,) * (3 - len(grid)))
        return Kernel(
            name,
            self.memories,
            self.body,
            (x, y, z),
            (columns, rows, layers),
            self.shared,
            self.private,
            frozenset(self.features),
            **more,
        )
