"""Prints a kernel as LLVM IR: the threads of a workgroup are the lanes of vectors, workgroups are the steps of a loop.

All lanes go through the statements together, so what one statement wrote, the next one sees: barriers are nothing. Where
lanes part (a branch, a loop with an end of its own), a mask says which of them are meant. A loop whose lanes are
neighbours is printed twice: for whole vectors, without a mask, and for what is left.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from backends.kernels.ir import (
    BOOL,
    I32,
    Assign,
    Atomic,
    Barrier,
    Call,
    If,
    Kernel,
    Let,
    Loop,
    Memory,
    Store,
    Value,
    Variable,
)  # fmt: skip
from backends.kernels.uses import count_uses, used_inside
from backends.llvm.operands import (
    BITS,
    FLOATS,
    SIGNED,
    Affine,
    Anything,
    Four,
    Known,
    Operand,
    Scalar,
    Vector,
    constant,
    from_numbers,
    llvm_type,
    numbers_of,
)  # fmt: skip
from backends.llvm.varying import varying
from backends.llvm.writer import Writer

# arrays in a thread's scratch memory start at multiples of so many bytes
ALIGNMENT = 64
# a loop is printed step by step if it wants to be, and has at most so many steps
UNROLLED = 32
# masked copies of a body in each other
NESTED = 2
# elements that are no further apart are read together, with what lies between them
NEAR = 4
_ATOMICS = {"atomicAdd": "add", "atomicMin": "min", "atomicMax": "max"}


@dataclass(frozen=True)
class Printed:
    """A kernel as LLVM IR.

    Attributes:
        text: the function `void name(ptr memories, i64 first, i64 last, ptr scratch)`, which computes the workgroups from
            `first` to before `last`; `memories` are pointers in the order of `kernel.memories`.
        declared: declarations of the functions that it calls.
        scratch: bytes of memory that it needs besides, for itself.
    """

    text: str
    declared: frozenset[str]
    scratch: int


def print_kernel(kernel: Kernel, name: str, vector_bits: int = 256) -> Printed:
    """The kernel as a function.

    Arguments:
        vector_bits: of the widest registers that are worth using.
    """
    return _Printer(kernel, name, vector_bits).print()


class _Printer:
    def __init__(self, kernel: Kernel, name: str, vector_bits: int):
        self.kernel, self.name, self.bits = kernel, name, vector_bits
        x, y, z = kernel.workgroup
        self.lanes = x * y * z
        self.w = Writer(self.lanes)
        self.uses = count_uses(kernel.body)
        self.inside = used_inside(kernel.body)
        self.varying = varying(kernel)
        self.env: dict[Value, Anything] = {}
        self.variables: dict[Variable, str] = {}
        self.entry: list[str] = []  # what stands before the first group
        self.pointers: dict[Memory, str] = {}
        self.mask: str | None = None
        self.depth = 0
        self.scratch = 0

    def print(self) -> Printed:
        kernel, w = self.kernel, self.w
        self._place_memories()
        w.start("loop")
        w.line("%group = phi i64 [ %first, %entry ], [ %next, %bottom ]")
        w.line("%inside = icmp slt i64 %group, %last")
        w.line("br i1 %inside, label %body, label %end")
        w.start("body")
        self._groups()
        self._block(kernel.body)
        w.line("br label %bottom")
        w.start("bottom")
        w.line("%next = add nsw i64 %group, 1")
        w.line("br label %loop")
        w.start("end")
        w.line("ret void")
        head = (
            f"define void @{self.name}(ptr noalias %memories, i64 %first, i64 %last, ptr noalias %scratch) nounwind "
            f'"prefer-vector-width"="{self.bits}" {{'
        )
        lines = [head, "entry:", *self.entry, "  br label %loop", *w.lines, "}"]
        return Printed("\n".join(lines) + "\n", frozenset(w.declared), self.scratch)

    # ------------------------------------------------------------------ memories
    def _place_memories(self) -> None:
        for k, memory in enumerate(self.kernel.memories):
            self.entry.append(f"  %where{k} = getelementptr ptr, ptr %memories, i64 {k}")
            self.entry.append(f"  %memory{k} = load ptr, ptr %where{k}, align 8")
            self.pointers[memory] = f"%memory{k}"
        for k, memory in enumerate(self.kernel.shared):
            self.entry.append(f"  %shared{k} = getelementptr i8, ptr %scratch, i64 {self.scratch}")
            self.pointers[memory] = f"%shared{k}"
            nbytes = memory.size * memory.width * BITS[memory.dtype] // 8
            self.scratch += -(-nbytes // ALIGNMENT) * ALIGNMENT
        for k, memory in enumerate(self.kernel.private):
            t = self.w.type(memory.dtype, True)
            self.entry.append(f"  %private{k} = alloca [{memory.size * memory.width} x {t}], align {ALIGNMENT}")
            self.pointers[memory] = f"%private{k}"

    def _groups(self) -> None:
        """The numbers of the workgroup along each axis of the grid."""
        columns, rows, layers = self.kernel.grid
        w = self.w
        number = w.value("trunc i64 %group to i32")
        self.builtins: dict[str, Operand] = {}
        one = constant(0, I32)
        if rows == layers == 1:
            along: list[Operand] = [Scalar(number, I32), one, one]
        else:
            x = w.value(f"urem i32 {number}, {columns}")
            rest = w.value(f"udiv i32 {number}, {columns}")
            y, z = rest, "0"
            if layers > 1:
                y, z = w.value(f"urem i32 {rest}, {rows}"), w.value(f"udiv i32 {rest}, {rows}")
            along = [Scalar(x, I32), Scalar(y, I32), Scalar(z, I32) if layers > 1 else one]
        for name, value in zip(("group_x", "group_y", "group_z"), along, strict=True):
            self.builtins[name] = value
        lane = from_numbers(range(self.lanes), I32)
        self.builtins |= {"thread": lane, "subgroup_thread": lane, "subgroup": one}
        self.builtins["subgroup_size"] = constant(self.lanes, I32)

    def _address(self, memory: Memory, place: Scalar) -> str:
        t = llvm_type(memory.dtype)
        at = place.text
        if place.number is None:
            at = self.w.value(f"sext {llvm_type(place.dtype)} {place.text} to i64")
        return self.w.value(f"getelementptr {t}, ptr {self.pointers[memory]}, i64 {at}")

    def _addresses(self, memory: Memory, place: Operand) -> str:
        """A pointer a lane."""
        n, t = self.lanes, llvm_type(memory.dtype)
        at = self.w.vector(place)
        wide = self.w.value(f"sext <{n} x {llvm_type(place.dtype)}> {at} to <{n} x i64>")
        return self.w.value(f"getelementptr {t}, ptr {self.pointers[memory]}, <{n} x i64> {wide}")

    def _suffix(self, dtype: str) -> str:
        return f"v{self.lanes}{'f' if dtype in FLOATS else 'i'}{BITS[dtype]}"

    def _bytes(self, memory: Memory) -> int:
        return BITS[memory.dtype] // 8

    def load(self, memory: Memory, place: Operand) -> Operand:
        """Elements of a memory."""
        w, dtype, align = self.w, memory.dtype, self._bytes(memory)
        t, many = llvm_type(dtype), w.type(dtype, True)
        if memory.space == "private":
            return self._load_private(memory, place)
        if isinstance(place, Scalar):
            return Scalar(w.value(f"load {t}, ptr {self._address(memory, place)}, align {align}"), dtype)
        if isinstance(place, Affine) and place.stride in (1, -1):
            first = place.base
            if place.stride == -1:
                last = w.operation("sub", place.dtype, (first, constant(self.lanes - 1, place.dtype)))
                assert isinstance(last, Scalar)
                first = last
            if self.mask is None or place.stride == 1:
                address = self._address(memory, first)
                if self.mask is None:
                    found = w.value(f"load {many}, ptr {address}, align {align}")
                else:
                    found = w.call(
                        many,
                        f"llvm.masked.load.{self._suffix(dtype)}.p0",
                        [
                            ("ptr", address),
                            ("i32", str(align)),
                            (self._mask_type, self.mask),
                            (many, "zeroinitializer"),
                        ],
                    )
                if place.stride == -1:
                    order = ", ".join(f"i32 {k}" for k in reversed(range(self.lanes)))
                    found = w.value(f"shufflevector {many} {found}, {many} poison, <{self.lanes} x i32> <{order}>")
                return Vector(found, dtype)
        if isinstance(place, Affine) and self._is_near(place):
            return self._load_near(memory, place)
        found = w.call(
            many,
            f"llvm.masked.gather.{self._suffix(dtype)}.v{self.lanes}p0",
            [
                (f"<{self.lanes} x ptr>", self._addresses(memory, place)),
                ("i32", str(align)),
                (self._mask_type, self._whole_mask()),
                (many, "zeroinitializer"),
            ],
        )
        return Vector(found, dtype)

    def _is_near(self, place: Affine) -> bool:
        """Whether elements are so close that what lies between them may be read with them."""
        return 1 < place.stride <= NEAR and 2 * place.stride <= self.lanes

    def _load_near(self, memory: Memory, place: Affine) -> Operand:
        """Every so manyth element, out of vectors that hold them all: from the first one to the last one, and no further."""
        w, dtype, n, stride = self.w, memory.dtype, self.lanes, place.stride
        many, align = w.type(dtype, True), self._bytes(memory)
        last = (n - 1) * stride + 1 - n
        starts = [*range(0, last, n), last]
        found = "poison"
        for start in starts:
            first = w.operation("add", place.base.dtype, (place.base, constant(start, place.base.dtype)))
            assert isinstance(first, Scalar)
            address = self._address(memory, first)
            if self.mask is None:
                vector = w.value(f"load {many}, ptr {address}, align {align}")
            else:
                lanes = [k // stride if k % stride == 0 else n for k in range(start, start + n)]
                order = ", ".join(f"i32 {k}" for k in lanes)
                m = self._mask_type
                mask = w.value(f"shufflevector {m} {self.mask}, {m} zeroinitializer, <{n} x i32> <{order}>")
                arguments = [("ptr", address), ("i32", str(align)), (m, mask), (many, "zeroinitializer")]
                vector = w.call(many, f"llvm.masked.load.{self._suffix(dtype)}.p0", arguments)
            order = ", ".join(
                f"i32 {n + k * stride - start if start <= k * stride < start + n else k}" for k in range(n)
            )
            found = w.value(f"shufflevector {many} {found}, {many} {vector}, <{n} x i32> <{order}>")
        return Vector(found, dtype)

    def store(self, memory: Memory, place: Operand, value: Operand) -> None:
        """Writes elements of a memory. If several lanes write to one, the last one's stays."""
        w, align = self.w, self._bytes(memory)
        if value.dtype != memory.dtype:
            value = w.convert(value, memory.dtype)
        t, many = llvm_type(memory.dtype), w.type(memory.dtype, True)
        if memory.space == "private":
            self._store_private(memory, place, value)
        elif isinstance(place, Scalar) and isinstance(value, Scalar):
            w.line(f"store {t} {value.text}, ptr {self._address(memory, place)}, align {align}")
        elif isinstance(place, Affine) and place.stride == 1:
            address, text = self._address(memory, place.base), w.vector(value)
            if self.mask is None:
                w.line(f"store {many} {text}, ptr {address}, align {align}")
                return
            only = _only_lane(self.mask)
            if only is not None:
                # LLVM makes a store of one of such a mask, too, but of a whole register where numbers were narrowed
                address = w.value(f"getelementptr {t}, ptr {address}, i64 {only}")
                w.line(f"store {t} {w.element(Vector(text, memory.dtype), only)}, ptr {address}, align {align}")
                return
            arguments = [(many, text), ("ptr", address), ("i32", str(align)), (self._mask_type, self.mask)]
            w.call("void", f"llvm.masked.store.{self._suffix(memory.dtype)}.p0", arguments)
        else:
            w.call(
                "void",
                f"llvm.masked.scatter.{self._suffix(memory.dtype)}.v{self.lanes}p0",
                [
                    (many, w.vector(value)),
                    (f"<{self.lanes} x ptr>", self._addresses(memory, place)),
                    ("i32", str(align)),
                    (self._mask_type, self._whole_mask()),
                ],
            )

    def _load_private(self, memory: Memory, place: Operand) -> Operand:
        t = self.w.type(memory.dtype, True)
        if isinstance(place, Scalar):
            return self.w.made(self.w.value(f"load {t}, ptr {self._private(memory, place)}"), memory.dtype, True)
        assert isinstance(place, (Affine, Known, Vector))
        return self.w.pieces(
            place,
            lambda at, k: self.w.value(f"load {llvm_type(memory.dtype)}, ptr {self._own(memory, at, k)}"),
            memory.dtype,
        )

    def _store_private(self, memory: Memory, place: Operand, value: Operand) -> None:
        t = self.w.type(memory.dtype, True)
        text = self.w.vector(value)
        if isinstance(place, Scalar):
            address = self._private(memory, place)
            if self.mask is not None:
                before = self.w.value(f"load {t}, ptr {address}")
                text = self.w.value(f"select {self._mask_type} {self.mask}, {t} {text}, {t} {before}")
            self.w.line(f"store {t} {text}, ptr {address}")
            return
        for k in range(self.lanes):
            with_value = self.w.element(Vector(text, memory.dtype), k)
            at = self.w.element(place, k)

            def put(at: str = at, k: int = k, with_value: str = with_value) -> None:
                self.w.line(f"store {llvm_type(memory.dtype)} {with_value}, ptr {self._own(memory, at, k)}")

            self._if_lane(k, put)

    def _private(self, memory: Memory, place: Scalar) -> str:
        t = self.w.type(memory.dtype, True)
        at = place.text
        if place.number is None:
            at = self.w.value(f"sext {llvm_type(place.dtype)} {place.text} to i64")
        return self.w.value(f"getelementptr {t}, ptr {self.pointers[memory]}, i64 {at}")

    def _own(self, memory: Memory, at: str, lane: int) -> str:
        """The address of one lane's element of its own memory."""
        wide = self.w.value(f"sext i32 {at} to i64")
        row = self.w.value(f"getelementptr {self.w.type(memory.dtype, True)}, ptr {self.pointers[memory]}, i64 {wide}")
        return self.w.value(f"getelementptr {llvm_type(memory.dtype)}, ptr {row}, i64 {lane}")

    # ------------------------------------------------------------------ masks
    @property
    def _mask_type(self) -> str:
        return f"<{self.lanes} x i1>"

    def _whole_mask(self) -> str:
        return self.mask or "splat (i1 true)"

    def _any(self, mask: str) -> str:
        return self.w.call("i1", f"llvm.vector.reduce.or.v{self.lanes}i1", [(self._mask_type, mask)])

    def _both(self, mask: str) -> str:
        return mask if self.mask is None else self.w.value(f"and {self._mask_type} {self.mask}, {mask}")

    def _if_lane(self, k: int, what: Callable[[], None]) -> None:
        """Does something if a lane is meant."""
        if self.mask is None:
            what()
            return
        w = self.w
        bit = w.value(f"extractelement {self._mask_type} {self.mask}, i32 {k}")
        self._if(bit, what)

    def _if(self, condition: str, what: Callable[[], None], otherwise: Callable[[], None] | None = None) -> None:
        w = self.w
        then, other, after = w.label(), w.label(), w.label()
        w.line(f"br i1 {condition}, label %{then}, label %{other}")
        w.start(then)
        what()
        w.line(f"br label %{after}")
        w.start(other)
        if otherwise is not None:
            otherwise()
        w.line(f"br label %{after}")
        w.start(after)

    def _masked(self, mask: str, what: Callable[[], None]) -> None:
        """Does something for the lanes of a mask, if there are any."""
        outer, self.mask = self.mask, mask
        self._if(self._any(mask), what)
        self.mask = outer

    # ------------------------------------------------------------------ statements
    def _block(self, block: Sequence[Any]) -> None:
        for s in block:
            if isinstance(s, Let):
                if self.uses[s.value]:
                    self._put(s.value, self._expression(s.value))
            elif isinstance(s, Variable):
                self._declare(s)
            elif isinstance(s, Assign):
                self._assign(s.variable, self._use(s.value))
            elif isinstance(s, Store):
                self._store(s)
            elif isinstance(s, Atomic):
                self._atomic(s)
            elif isinstance(s, Call):
                self._call(s)
            elif isinstance(s, Barrier):
                pass
            elif isinstance(s, Loop):
                self._loop(s)
            elif isinstance(s, If):
                self._branch(s)
            else:
                raise TypeError(f"LLVM printer: a kernel holds statements, got {s!r}")

    def _is_many(self, variable: Variable) -> bool:
        return self.lanes > 1 and variable in self.varying

    def _parts(self, value: Anything) -> tuple[Any, ...]:
        return value.parts if isinstance(value, Four) else (value,)

    def _declare(self, s: Variable) -> None:
        dtype = s.dtype[5:-1] if s.dtype.startswith("vec4") else s.dtype
        if s not in self.variables:
            place = f"%variable_{s.name}"
            self.variables[s] = place
            t = self.w.type(dtype, self._is_many(s))
            for k in range(4 if dtype != s.dtype else 1):
                self.entry.append(f"  {place}_{k} = alloca {t}")
        outer, self.mask = self.mask, None  # other lanes' numbers do not matter yet
        self._assign(s, self._use(s.start))
        self.mask = outer

    def _assign(self, variable: Variable, value: Anything) -> None:
        w, many = self.w, self._is_many(variable)
        for k, part in enumerate(self._parts(value)):
            place, t = f"{self.variables[variable]}_{k}", w.type(part.dtype, many)
            text = w.text(part, many)
            if many and self.mask is not None:
                before = w.value(f"load {t}, ptr {place}")
                text = w.value(f"select {self._mask_type} {self.mask}, {t} {text}, {t} {before}")
            w.line(f"store {t} {text}, ptr {place}")

    def _read(self, variable: Variable) -> Anything:
        w, many = self.w, self._is_many(variable)
        place = self.variables[variable]
        if variable.dtype.startswith("vec4"):
            dtype = variable.dtype[5:-1]
            t = w.type(dtype, many)
            return Four(tuple(w.made(w.value(f"load {t}, ptr {place}_{k}"), dtype, many) for k in range(4)))
        t = w.type(variable.dtype, many)
        return w.made(w.value(f"load {t}, ptr {place}_0"), variable.dtype, many)

    def _store(self, s: Store) -> None:
        place = self._single(s.place)
        if s.memory.width == 1:
            self.store(s.memory, place, self._single(s.value))  # type: ignore[arg-type]
            return
        if s.lane is not None:
            at = self._add(self._times(place, s.memory.width), self._single(s.lane))
            self.store(s.memory, at, self._single(s.value))  # type: ignore[arg-type]
            return
        parts = s.value if isinstance(s.value, tuple) else self._parts(self._use(s.value))
        for k, part in enumerate(parts):
            at = self._add(self._times(place, s.memory.width), constant(k, I32))
            self.store(s.memory, at, self._single(part) if isinstance(part, Value) else part)

    def _times(self, place: Operand, factor: int) -> Operand:
        return self.w.operation("mul", I32, (place, constant(factor, I32)))

    def _add(self, place: Operand, other: Operand) -> Operand:
        return self.w.operation("add", I32, (place, other))

    def _atomic(self, s: Atomic) -> None:
        place, value = self._single(s.place), self._single(s.value)
        operation = _ATOMICS[s.operation]
        dtype, w = s.memory.dtype, self.w
        if operation != "add":
            operation = operation if dtype in SIGNED else "u" + operation
        t = llvm_type(dtype)
        for k in range(self.lanes):

            def one(k: int = k) -> None:
                at = w.value(f"sext i32 {w.element(place, k)} to i64")
                address = w.value(f"getelementptr {t}, ptr {self.pointers[s.memory]}, i64 {at}")
                w.value(f"atomicrmw {operation} ptr {address}, {t} {w.element(value, k)} monotonic")

            self._if_lane(k, one)

    def _call(self, s: Call) -> None:
        w = self.w
        arguments = []
        for a in s.arguments:
            if isinstance(a, tuple):
                place = self._single(a[1])
                assert isinstance(place, Scalar)
                arguments.append(("ptr", self._address(a[0], place)))
                continue
            value = self._single(a)
            assert isinstance(value, Scalar)
            number = value if value.dtype == BOOL else w.convert(value, "i64")
            assert isinstance(number, Scalar)
            arguments.append((llvm_type(number.dtype), number.text))
        w.call("void", s.function, arguments)

    # ------------------------------------------------------------------ branches
    def _branch(self, s: If) -> None:
        condition = self._single(s.condition)
        if isinstance(condition, Scalar):
            if condition.number is not None:
                self._block(s.body if condition.number else s.otherwise)
                return
            otherwise = (lambda: self._block(s.otherwise)) if s.otherwise else None
            self._if(condition.text, lambda: self._block(s.body), otherwise)
            return
        whole = self._for_all(s.condition) if not s.otherwise and self.depth < NESTED else None
        mask = self._both(self.w.vector(condition))
        if whole is None:
            self._masked(mask, lambda: self._block(s.body))
            if s.otherwise:
                negated = self.w.value(f"xor {self._mask_type} {self.w.vector(condition)}, splat (i1 true)")
                self._masked(self._both(negated), lambda: self._block(s.otherwise))
            return

        def rest() -> None:
            self._masked(mask, lambda: self._block(s.body))

        self.depth += 1
        self._if(whole, lambda: self._block(s.body), rest)
        self.depth -= 1

    def _for_all(self, condition: Value) -> str | None:
        """Whether a comparison holds in all lanes, as a scalar; None if that is not found out quickly."""
        if condition.op not in ("lt", "le"):
            return None
        left, right = (self._single(a) for a in condition.args)
        if not isinstance(left, Affine) or not isinstance(right, Scalar) or left.stride < 0:
            return None
        last = self.w.operation("add", left.dtype, (left.base, constant(left.stride * (self.lanes - 1), left.dtype)))
        holds = self.w.operation(condition.op, BOOL, (last, right))
        assert isinstance(holds, Scalar)
        return holds.text

    # ------------------------------------------------------------------ loops
    def _loop(self, s: Loop) -> None:
        start, stop, step = (self._single(x) for x in (s.start, s.stop, s.step))
        key = self._axis(s)
        if isinstance(stop, Scalar) and isinstance(step, Scalar):
            if isinstance(start, Scalar):
                self._uniform_loop(s, key, start, stop, step)
                return
            if isinstance(start, Affine) and start.stride > 0:
                self._neighbours_loop(s, key, start, stop, step)
                return
        self._parting_loop(s, key, start, stop, step)

    def _axis(self, s: Loop) -> Value | None:
        """The value that is the loop's number, if anything uses it."""
        return next((v for v in self._loop_values if v.attr is s), None)

    @property
    def _loop_values(self) -> list[Value]:
        found = self.__dict__.get("_loops")
        if found is None:
            found = self.__dict__["_loops"] = [v for v in self.uses if v.op == "loop"]
        return found

    def _put(self, key: Value | None, number: Anything) -> None:
        if key is not None:
            self.env[key] = self._frozen(number) if key in self.inside else number

    def _frozen(self, value: Anything) -> Anything:
        """An index as a number of which LLVM does not know how it is computed: for loops that use it, it would try for long
        how else that might be done."""
        if isinstance(value, Affine):
            base = self._frozen(value.base)
            assert isinstance(base, Scalar)
            return Affine(base, value.stride)
        if isinstance(value, Scalar) and value.dtype == I32 and value.number is None:
            return Scalar(self.w.value(f"freeze i32 {value.text}"), I32, value.multiple)
        return value

    def _uniform_loop(self, s: Loop, key: Value | None, start: Scalar, stop: Scalar, step: Scalar) -> None:
        if start.number is not None and stop.number is not None and step.number is not None:
            numbers = range(start.number, stop.number, step.number)
            if len(numbers) == 0:
                return
            if len(numbers) == 1 or (s.unroll and len(numbers) <= UNROLLED):
                for n in numbers:
                    self._put(key, constant(n, I32))
                    self._block(s.body)
                return
        import math

        def body(number: Scalar) -> None:
            self._put(key, number)
            self._block(s.body)

        self._count(start.text, stop.text, step.text, math.gcd(start.multiple, step.multiple), body)

    def _count(self, start: str, stop: str, step: str, multiple: int, body: Callable[[Scalar], None]) -> str:
        """for i = start; i < stop; i += step. Returns i at the end."""
        w = self.w
        place = f"%counter{w.label()}"
        self.entry.append(f"  {place} = alloca i32")
        w.line(f"store i32 {start}, ptr {place}")
        top, inside, after = w.label(), w.label(), w.label()
        w.line(f"br label %{top}")
        w.start(top)
        number = w.value(f"load i32, ptr {place}")
        goes_on = w.value(f"icmp slt i32 {number}, {stop}")
        w.line(f"br i1 {goes_on}, label %{inside}, label %{after}")
        w.start(inside)
        body(Scalar(number, I32, multiple))
        w.line(f"store i32 {w.value(f'add nsw i32 {number}, {step}')}, ptr {place}")
        w.line(f"br label %{top}")
        w.start(after)
        return number

    def _neighbours_loop(self, s: Loop, key: Value | None, start: Affine, stop: Scalar, step: Scalar) -> None:
        """Lanes start next to each other: whole vectors, then what is left."""
        import math

        w, span = self.w, start.stride * (self.lanes - 1)
        multiple = math.gcd(start.base.multiple, step.multiple)
        nested = self.depth
        last = w.operation("sub", I32, (stop, constant(span, I32)))
        assert isinstance(last, Scalar)

        def whole(number: Scalar) -> None:
            self._put(key, Affine(number, start.stride))
            self._block(s.body)

        def rest(number: Scalar) -> None:
            lane = Affine(number, start.stride)
            inside = w.operation("lt", BOOL, (lane, stop))

            def body() -> None:
                self._put(key, lane)
                self._block(s.body)

            self._masked(self._both(w.vector(inside)), body)

        begin = start.base.text
        known = [x.number for x in (start.base, stop, step)]
        if None not in known:
            first, end, by = known
            whole_steps = len(range(first, end - span, by))
            steps = len(range(first, end, by))
            if whole_steps == steps:
                self._count(begin, stop.text, step.text, multiple, whole)
                return
            if whole_steps and nested < NESTED:
                self.depth += 1
                begin = self._count(begin, last.text, step.text, multiple, whole)
                self.depth = nested
                first += whole_steps * by
            if len(range(first, end, by)) > 1:
                self._count(begin, stop.text, step.text, multiple, rest)
                return
            lane = Affine(constant(first, I32), start.stride)
            outer, self.mask = self.mask, self._both(w.vector(w.operation("lt", BOOL, (lane, stop))))
            self._put(key, lane)
            self._block(s.body)
            self.mask = outer
            return
        if nested < NESTED:
            self.depth += 1
            begin = self._count(begin, last.text, step.text, multiple, whole)
            self.depth = nested
        self._count(begin, stop.text, step.text, multiple, rest)

    def _parting_loop(self, s: Loop, key: Value | None, start: Operand, stop: Operand, step: Operand) -> None:
        """Each lane goes its own way."""
        w, t = self.w, f"<{self.lanes} x i32>"
        place = f"%counter{w.label()}"
        self.entry.append(f"  {place} = alloca {t}")
        w.line(f"store {t} {w.vector(start)}, ptr {place}")
        end, by = w.vector(stop), w.vector(step)
        top, inside, after = w.label(), w.label(), w.label()
        w.line(f"br label %{top}")
        w.start(top)
        number = w.value(f"load {t}, ptr {place}")
        mask = self._both(w.value(f"icmp slt {t} {number}, {end}"))
        w.line(f"br i1 {self._any(mask)}, label %{inside}, label %{after}")
        w.start(inside)
        outer, self.mask = self.mask, mask
        self._put(key, Vector(number, I32))
        self._block(s.body)
        self.mask = outer
        w.line(f"store {t} {w.value(f'add {t} {number}, {by}')}, ptr {place}")
        w.line(f"br label %{top}")
        w.start(after)

    # ------------------------------------------------------------------ expressions
    def _use(self, value: Value) -> Anything:
        if value.op == "constant":
            return constant(value.attr, value.dtype)
        return self.env[value]

    def _single(self, value: Value) -> Operand:
        found = self._use(value)
        assert not isinstance(found, Four)
        return found

    def _expression(self, value: Value) -> Anything:
        op, dtype = value.op, value.dtype
        if op == "read":
            return self._read(value.attr)
        if op == "builtin":
            return self.builtins[value.attr]
        if op == "load":
            return self._load(value)
        args = [self._use(a) for a in value.args]
        if op == "splat":
            return Four((args[0],) * 4)
        if op == "pack":
            return Four(tuple(args))
        if op == "lane":
            assert isinstance(args[0], Four)
            return args[0].parts[value.attr]
        if dtype.startswith("vec4"):
            columns = zip(*(a.parts if isinstance(a, Four) else (a,) * 4 for a in args), strict=True)
            return Four(tuple(self._operation(value, dtype[5:-1], column) for column in columns))
        return self._operation(value, dtype, args)  # type: ignore[arg-type]

    def _operation(self, value: Value, dtype: str, args: Sequence[Operand]) -> Operand:
        if value.op.startswith("subgroup_"):
            return self._together(value.op, dtype, args)
        if value.op == "call":
            return self.w.library(value.attr, dtype, args)
        return self.w.operation(value.op, dtype, args)

    def _load(self, value: Value) -> Anything:
        memory, lane = value.attr
        if memory.width == 1:
            return self._load_some(memory, value.args[0])
        place = self._single(value.args[0])
        first = self._times(place, memory.width)
        if value.dtype.startswith("vec4"):
            return Four(tuple(self.load(memory, self._add(first, constant(k, I32))) for k in range(4)))
        return self.load(memory, self._add(first, constant(lane, I32)))

    def _load_some(self, memory: Memory, place: Value) -> Operand:
        """Elements of a memory. Where a condition says that there is none, the place is the first one: then nothing has to
        be read there, and the other places may still be neighbours."""
        if place.op == "select" and place.args[2].op == "constant" and memory.space == "storage" and self.lanes > 1:
            condition, wanted = self._single(place.args[0]), self._single(place.args[1])
            if isinstance(wanted, Affine) and (wanted.stride == 1 or self._is_near(wanted)):
                outer, self.mask = self.mask, self._both(self.w.vector(condition))
                found = self.load(memory, wanted)
                self.mask = outer
                return found
        return self.load(memory, self._single(place))

    def _together(self, op: str, dtype: str, args: Sequence[Operand]) -> Operand:
        """What the lanes make of each other's numbers."""
        w, n = self.w, self.lanes
        x, t = args[0], w.type(dtype, True)
        if op in ("subgroup_add", "subgroup_max", "subgroup_min"):
            total: Operand = self._shuffled(x, [0] * n, dtype) if n == 1 else x
            step = n // 2
            assert n & (n - 1) == 0
            while step:
                other = self._shuffled(total, [k ^ step for k in range(n)], dtype)
                total = w.operation(op[9:], dtype, (total, other))
                step //= 2
            return total
        if isinstance(x, Scalar):
            return x
        if op == "subgroup_broadcast_first":
            return Scalar(w.element(x, 0), dtype)
        numbers = numbers_of(args[1], n)
        if op == "subgroup_shuffle" and numbers is None:
            place = f"%exchanged{w.label()}"
            self.entry.append(f"  {place} = alloca {t}")
            w.line(f"store {t} {w.vector(x)}, ptr {place}")

            def fetch(at: str, k: int) -> str:
                wide = w.value(f"zext i32 {at} to i64")
                address = w.value(f"getelementptr {llvm_type(dtype)}, ptr {place}, i64 {wide}")
                return w.value(f"load {llvm_type(dtype)}, ptr {address}")

            return w.pieces(args[1], fetch, dtype)
        assert numbers is not None
        if op == "subgroup_shuffle_xor":
            order = [k ^ numbers[k] for k in range(n)]
        elif op == "subgroup_shuffle_down":
            order = [min(k + numbers[k], n - 1) for k in range(n)]
        else:
            order = numbers
        return self._shuffled(x, order, dtype)

    def _shuffled(self, x: Operand, order: Sequence[int], dtype: str) -> Operand:
        if isinstance(x, Scalar):
            return x
        t = self.w.type(dtype, True)
        numbers = ", ".join(f"i32 {k}" for k in order)
        text = f"shufflevector {t} {self.w.vector(x)}, {t} poison, <{self.lanes} x i32> <{numbers}>"
        return Vector(self.w.value(text), dtype)


def _only_lane(mask: str) -> int | None:
    """The lane of a mask that is known and has but one."""
    lanes = mask.strip("<>").split(", ")
    return lanes.index("i1 true") if mask.startswith("<i1") and lanes.count("i1 true") == 1 else None
