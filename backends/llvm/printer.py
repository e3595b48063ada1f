"""Prints a kernel as LLVM IR: the threads of a workgroup are the lanes of vectors, workgroups are the steps of a loop.

All lanes go through the statements together, so what one statement wrote, the next one sees: barriers are nothing. Where
lanes part (a branch, a loop with an end of its own), a mask says which of them are meant. A loop whose lanes are
neighbours is printed twice: for whole vectors, without a mask, and for what is left.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from asgfn.records import record
from backends.kernels.ir import (
    BOOL,
    I32,
    Assign,
    Atomic,
    Barrier,
    Call,
    Expect,
    If,
    Kernel,
    Let,
    Loop,
    Memory,
    Store,
    Value,
    Variable,
)  # fmt: skip
from backends.kernels.uses import assigned, count_uses
from backends.llvm.accesses import Accesses
from backends.llvm.flow import Flow, Held
from backends.llvm.operands import (
    SIGNED,
    Affine,
    Anything,
    Four,
    Operand,
    Scalar,
    Vector,
    constant,
    from_numbers,
    limit,
    llvm_type,
    numbers_of,
)  # fmt: skip
from backends.llvm.varying import varying
from backends.llvm.writer import Writer

# a loop is printed step by step if it wants to be, and has at most so many steps
UNROLLED = 32
# masked copies of a body in each other
NESTED = 2
_ATOMICS = {"atomicAdd": "add", "atomicMin": "min", "atomicMax": "max"}


@record
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
        self.varying = varying(kernel)
        self.env: dict[Value, Anything] = {}
        self.flow = Flow(self.w)
        self.memory = Accesses(kernel, self.w, self.flow, scatters=vector_bits == 512)
        self.entry = self.memory.entry  # what stands before the first group
        self.depth = 0

    def print(self) -> Printed:
        kernel, w = self.kernel, self.w
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
        return Printed("\n".join(lines) + "\n", frozenset(w.declared), self.memory.scratch)

    # ------------------------------------------------------------------ workgroups
    def _groups(self) -> None:
        """The numbers of the workgroup along each axis of the grid."""
        columns, rows, layers = self.kernel.grid
        w = self.w
        number = w.value("trunc i64 %group to i32")
        self.builtins: dict[str, Operand] = {}
        one = constant(0, I32)
        if rows == layers == 1:
            along: list[Operand] = [Scalar(number, I32, below=columns), one, one]
        else:
            x = w.value(f"urem i32 {number}, {columns}")
            rest = w.value(f"udiv i32 {number}, {columns}")
            y, z = rest, "0"
            if layers > 1:
                y, z = w.value(f"urem i32 {rest}, {rows}"), w.value(f"udiv i32 {rest}, {rows}")
            along = [
                Scalar(x, I32, below=columns),
                Scalar(y, I32, below=rows),
                Scalar(z, I32, below=layers) if layers > 1 else one,
            ]
        for name, value in zip(("group_x", "group_y", "group_z"), along, strict=True):
            self.builtins[name] = value
        lane = from_numbers(range(self.lanes), I32)
        self.builtins |= {"thread": lane, "subgroup_thread": lane, "subgroup": one}
        self.builtins["subgroup_size"] = constant(self.lanes, I32)

    # ------------------------------------------------------------------ statements
    def _block(self, block: Sequence[Any]) -> None:
        for s in block:
            if s.__class__ is Let:
                if s.value in self.uses:
                    self.env[s.value] = self._expression(s.value)
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
            elif isinstance(s, Expect):
                self.memory.expect(s.memory, self._single(s.place))
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
        self.flow.held[s] = self._held(s, self._use(s.start))  # in all lanes: other lanes' numbers do not matter yet

    def _held(self, variable: Variable, value: Anything) -> Held:
        """A value as a variable holds it."""
        many, parts = self._is_many(variable), self._parts(value)
        return Held(self.w.type(parts[0].dtype, many), tuple(self.w.text(part, many) for part in parts))

    def _assign(self, variable: Variable, value: Anything) -> None:
        t, parts = self._held(variable, value)
        if self._is_many(variable):
            pairs = zip(parts, self.flow.held[variable].parts, strict=True)
            parts = tuple(self.flow.chosen(t, part, before) for part, before in pairs)
        self.flow.held[variable] = Held(t, parts)

    def _read(self, variable: Variable) -> Anything:
        many, parts = self._is_many(variable), self.flow.held[variable].parts
        if not variable.dtype.startswith("vec4"):
            return self.w.made(parts[0], variable.dtype, many)
        return Four(tuple(self.w.made(part, variable.dtype[5:-1], many) for part in parts))

    def _store(self, s: Store) -> None:
        place = self._single(s.place)
        if s.memory.width == 1:
            self.memory.store(s.memory, place, self._single(s.value))  # type: ignore[arg-type]
            return
        if s.lane is not None:
            at = self._add(self._times(place, s.memory.width), self._single(s.lane))
            self.memory.store(s.memory, at, self._single(s.value))  # type: ignore[arg-type]
            return
        parts = s.value if isinstance(s.value, tuple) else self._parts(self._use(s.value))
        for k, part in enumerate(parts):
            at = self._add(self._times(place, s.memory.width), constant(k, I32))
            self.memory.store(s.memory, at, self._single(part) if isinstance(part, Value) else part)

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
                address = self.memory.address(s.memory, Scalar(w.element(place, k), I32))
                w.fresh(f"atomicrmw {operation} ptr {address}, {t} {w.element(value, k)} monotonic")

            self.flow.if_lane(k, one)

    def _call(self, s: Call) -> None:
        w = self.w
        arguments = []
        for a in s.arguments:
            if isinstance(a, tuple):
                place = self._single(a[1])
                assert isinstance(place, Scalar)
                arguments.append(("ptr", self.memory.address(a[0], place)))
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
            self.flow.branch(condition.text, lambda: self._block(s.body), otherwise)
            return
        whole = self._for_all(s.condition) if not s.otherwise and self.depth < NESTED else None
        mask = self.flow.both(self.w.vector(condition))
        if whole is None or whole.number is not None:
            self.flow.masked(mask, lambda: self._block(s.body))
            if s.otherwise:
                negated = self.w.value(f"xor {self.flow.mask_type} {self.w.vector(condition)}, splat (i1 true)")
                self.flow.masked(self.flow.both(negated), lambda: self._block(s.otherwise))
            return

        def rest() -> None:
            self.flow.masked(mask, lambda: self._block(s.body))

        self.depth += 1
        self.flow.branch(whole.text, lambda: self._block(s.body), rest)
        self.depth -= 1

    def _for_all(self, condition: Value) -> Scalar | None:
        """Whether a comparison holds in all lanes; None if that is not found out quickly."""
        if condition.op not in ("lt", "le"):
            return None
        left, right = (self._single(a) for a in condition.args)
        if not isinstance(left, Affine) or not isinstance(right, Scalar) or left.stride < 0:
            return None
        last = self.w.operation("add", left.dtype, (left.base, constant(left.stride * (self.lanes - 1), left.dtype)))
        holds = self.w.operation(condition.op, BOOL, (last, right))
        assert isinstance(holds, Scalar)
        return holds

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
            self.env[key] = number

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

        self._count(s, start, stop, step, math.gcd(start.multiple, step.multiple), body)

    def _count(
        self, s: Loop, start: Scalar, stop: Scalar, step: Scalar, multiple: int, body: Callable[[Scalar], None]
    ) -> Scalar:
        """for i = start; i < stop; i += step. Returns i at the end."""
        w, first, end = self.w, limit(start, self.lanes), limit(stop, self.lanes)
        inside = after = None
        certain = start.number is not None and stop.number is not None and start.number < stop.number
        if first is not None and end is not None:
            inside = max(end - 1, 1)
            after = None if step.number is None else max(first, inside + step.number)
        number = self.flow.loop(
            ("i32", start.text),
            assigned(s.body),
            lambda number: w.value(f"icmp slt i32 {number}, {stop.text}"),
            lambda number: body(Scalar(number, I32, multiple, below=inside)),
            lambda number: w.value(f"add nsw i32 {number}, {step.text}"),
            certain,
        )
        return Scalar(number, I32, multiple, below=after)

    def _neighbours_loop(self, s: Loop, key: Value | None, start: Affine, stop: Scalar, step: Scalar) -> None:
        """Lanes start next to each other: whole vectors, then what is left."""
        import math

        w, span = self.w, start.stride * (self.lanes - 1)
        multiple = math.gcd(start.base.multiple, step.multiple)
        nested = self.depth

        def last() -> Scalar:
            found = w.operation("sub", I32, (stop, constant(span, I32)))
            assert isinstance(found, Scalar)
            return found

        def whole(number: Scalar) -> None:
            self._put(key, Affine(number, start.stride))
            self._block(s.body)

        def rest(number: Scalar) -> None:
            lane = Affine(number, start.stride)
            inside = w.operation("lt", BOOL, (lane, stop))

            def body() -> None:
                self._put(key, lane)
                self._block(s.body)

            self.flow.masked(self.flow.both(w.vector(inside)), body)

        begin = start.base
        if step.number and span < step.number and not any(x.multiple % step.number for x in (begin, stop)):
            self._count(s, begin, stop, step, multiple, whole)
            return
        known = [x.number for x in (start.base, stop, step)]
        if None not in known:
            first, end, by = known
            whole_steps = len(range(first, end - span, by))
            steps = len(range(first, end, by))
            if whole_steps == steps:
                self._count(s, begin, stop, step, multiple, whole)
                return
            if whole_steps and nested < NESTED:
                self.depth += 1
                begin = self._count(s, begin, last(), step, multiple, whole)
                self.depth = nested
                first += whole_steps * by
            if len(range(first, end, by)) > 1:
                self._count(s, begin, stop, step, multiple, rest)
                return
            lane = Affine(constant(first, I32), start.stride)
            outer, self.flow.mask = self.flow.mask, self.flow.both(w.vector(w.operation("lt", BOOL, (lane, stop))))
            self._put(key, lane)
            self._block(s.body)
            self.flow.mask = outer
            return
        if nested < NESTED:
            self.depth += 1
            begin = self._count(s, begin, last(), step, multiple, whole)
            self.depth = nested
        self._count(s, begin, stop, step, multiple, rest)

    def _parting_loop(self, s: Loop, key: Value | None, start: Operand, stop: Operand, step: Operand) -> None:
        """Each lane goes its own way."""
        w, flow, t = self.w, self.flow, f"<{self.lanes} x i32>"
        end, by, outer = w.vector(stop), w.vector(step), flow.mask

        def goes_on(number: str) -> str:
            flow.mask = flow.both(w.value(f"icmp slt {t} {number}, {end}"))
            return flow.any(flow.mask)

        def body(number: str) -> None:
            self._put(key, Vector(number, I32))
            self._block(s.body)

        first = t, w.vector(start)
        flow.loop(first, assigned(s.body), goes_on, body, lambda number: w.value(f"add {t} {number}, {by}"))
        flow.mask = outer

    # ------------------------------------------------------------------ expressions
    def _use(self, value: Value) -> Anything:
        found = self.env.get(value)
        if found is None:
            assert value.op == "constant"
            found = self.env[value] = constant(value.attr, value.dtype)
        return found

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
            return Four(tuple(self.memory.load(memory, self._add(first, constant(k, I32))) for k in range(4)))
        return self.memory.load(memory, self._add(first, constant(lane, I32)))

    def _load_some(self, memory: Memory, place: Value) -> Operand:
        """Elements of a memory. Where a condition says that there is none, the place is the first one: then nothing has to
        be read there, and the other places may still be neighbours."""
        if place.op == "select" and place.args[2].op == "constant" and memory.space == "storage" and self.lanes > 1:
            condition, wanted = self._single(place.args[0]), self._single(place.args[1])
            if isinstance(wanted, Affine) and (wanted.stride == 1 or self.memory.is_near(wanted)):
                outer, self.flow.mask = self.flow.mask, self.flow.both(self.w.vector(condition))
                found = self.memory.load(memory, wanted)
                self.flow.mask = outer
                return found
        return self.memory.load(memory, self._single(place))

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
                return w.fresh(f"load {llvm_type(dtype)}, ptr {address}")

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
