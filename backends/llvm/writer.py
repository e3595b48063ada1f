"""Instructions of one function, as LLVM's text: on scalars where all lanes agree, else on vectors with an element a lane."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from backends.kernels.ir import BOOL
from backends.llvm.operands import (
    BITS,
    FLOATS,
    SIGNED,
    Affine,
    Known,
    Operand,
    Scalar,
    Sum,
    Vector,
    constant,
    from_numbers,
    limit,
    literal,
    llvm_type,
    numbers_of,
    wrapped,
)  # fmt: skip

_FLOAT_OPS = {"add": "fadd", "sub": "fsub", "mul": "fmul", "div": "fdiv", "fmod": "frem"}
_INTEGER_OPS = {"add": "add", "sub": "sub", "mul": "mul", "and": "and", "or": "or", "xor": "xor", "shift_left": "shl"}
_COMPARE_FLOAT = {"eq": "oeq", "ne": "une", "lt": "olt", "le": "ole", "gt": "ogt", "ge": "oge"}
_COMPARE_SIGNED = {"eq": "eq", "ne": "ne", "lt": "slt", "le": "sle", "gt": "sgt", "ge": "sge"}
_COMPARE_UNSIGNED = {"eq": "eq", "ne": "ne", "lt": "ult", "le": "ule", "gt": "ugt", "ge": "uge"}
COMPARISONS = tuple(_COMPARE_FLOAT)
# operations that LLVM has as functions of any vector
_INTRINSICS = {"floor": "floor", "ceil": "ceil", "trunc": "trunc", "round": "roundeven", "sqrt": "sqrt", "fma": "fma"}
# of the C library, lane by lane; single precision ends with an f
_LIBRARY = (
    "exp", "exp2", "log", "log2", "sin", "cos", "tan", "asin", "acos", "atan", "sinh", "cosh", "tanh", "atan2", "pow",
)  # fmt: skip
_FOLDED: dict[str, Callable[[int, int], int]] = {
    "add": lambda x, y: x + y,
    "sub": lambda x, y: x - y,
    "mul": lambda x, y: x * y,
    "and": lambda x, y: x & y,
    "or": lambda x, y: x | y,
    "xor": lambda x, y: x ^ y,
    "min": min,
    "max": max,
    "eq": lambda x, y: x == y,
    "ne": lambda x, y: x != y,
    "lt": lambda x, y: x < y,
    "le": lambda x, y: x <= y,
    "gt": lambda x, y: x > y,
    "ge": lambda x, y: x >= y,
    "shift_left": lambda x, y: x << y,
    "shift_right": lambda x, y: x >> y,
}


class Writer:
    """Appends instructions.

    Attributes:
        lanes: elements of a vector.
        lines: the text so far.
        declared: the functions that it calls, as LLVM declares them.
        block: the label of the block that is being written.
    """

    def __init__(self, lanes: int):
        self.lanes = lanes
        self.lines: list[str] = []
        self.declared: set[str] = set()
        self.block = "entry"
        self._count = 0
        self._types = {dtype: f"<{lanes} x {llvm_type(dtype)}>" if lanes > 1 else llvm_type(dtype) for dtype in BITS}
        self._names: dict[str, str] = {}  # names of values that can be used here, by what computes them

    # ------------------------------------------------------------------ text
    def name(self) -> str:
        self._count += 1
        return f"%t{self._count}"

    def label(self) -> str:
        self._count += 1
        return f"b{self._count}"

    def line(self, text: str) -> None:
        self.lines.append("  " + text)

    def start(self, label: str) -> None:
        """Begins a block."""
        self.lines.append(f"{label}:")
        self.block = label

    def fresh(self, text: str) -> str:
        """The name of what an instruction gives each time that it is done."""
        name = self.name()
        self.lines.append(f"  {name} = {text}")
        return name

    def value(self, text: str) -> str:
        """The name of what an instruction computes, which depends on nothing but its operands: it is done once."""
        name = self._names.get(text)
        if name is None:
            name = self._names[text] = self.fresh(text)
        return name

    @contextmanager
    def scope(self) -> Iterator[None]:
        """Blocks through which not every way leads: what they compute, others can't use."""
        size = len(self._names)
        yield
        while len(self._names) > size:
            self._names.popitem()

    def type(self, dtype: str, is_vector: bool) -> str:
        return self._types[dtype] if is_vector else llvm_type(dtype)

    def call(self, result: str, function: str, arguments: Sequence[tuple[str, str]], flags: str = "") -> str:
        """The result of a function that is declared on the way."""
        self.declared.add(f"declare {result} @{function}({', '.join(t for t, _ in arguments)})")
        text = f"call {flags}{result} @{function}({', '.join(f'{t} {x}' for t, x in arguments)})"
        if result == "void":
            self.line(text)
            return ""
        return self.fresh(text)

    # ------------------------------------------------------------------ lanes
    def splat(self, text: str, t: str) -> str:
        """A scalar in all lanes."""
        if self.lanes == 1:
            return text
        if not text.startswith("%"):
            return f"splat ({t} {text})"
        one = self.value(f"insertelement <{self.lanes} x {t}> poison, {t} {text}, i32 0")
        zeros = f"<{self.lanes} x i32> zeroinitializer"
        return self.value(f"shufflevector <{self.lanes} x {t}> {one}, <{self.lanes} x {t}> poison, {zeros}")

    def vector(self, x: Operand) -> str:
        """An operand with a number a lane."""
        if isinstance(x, Vector):
            return x.text
        t = llvm_type(x.dtype)
        if isinstance(x, Scalar):
            return self.splat(x.text, t)
        if isinstance(x, Known):
            return "<" + ", ".join(f"{t} {literal(n, x.dtype)}" for n in x.numbers) + ">"
        steps = "<" + ", ".join(f"{t} {literal(k * x.stride, x.dtype)}" for k in range(self.lanes)) + ">"
        numbers = numbers_of(x, self.lanes)
        if numbers is not None:
            return "<" + ", ".join(f"{t} {literal(n, x.dtype)}" for n in numbers) + ">"
        return self.value(f"add <{self.lanes} x {t}> {self.splat(x.base.text, t)}, {steps}")

    def text(self, x: Operand, as_vector: bool) -> str:
        if as_vector:
            return x.text if isinstance(x, Vector) else self.vector(x)
        assert isinstance(x, Scalar)
        return x.text

    def element(self, x: Operand, k: int) -> str:
        """One lane's number."""
        if isinstance(x, Scalar):
            return x.text
        if self.lanes == 1:
            return self.vector(x)
        return self.value(f"extractelement {self.type(x.dtype, True)} {self.vector(x)}, i32 {k}")

    def made(self, text: str, dtype: str, as_vector: bool) -> Operand:
        return Vector(text, dtype) if as_vector and self.lanes > 1 else Scalar(text, dtype)

    def pieces(self, x: Operand, function: Callable[[str, int], str], dtype: str) -> Operand:
        """What a function of scalars makes of each lane."""
        if isinstance(x, Scalar):
            return Scalar(function(x.text, 0), dtype)
        t = llvm_type(dtype)
        found = "poison"
        for k in range(self.lanes):
            result = function(self.element(x, k), k)
            found = self.value(f"insertelement <{self.lanes} x {t}> {found}, {t} {result}, i32 {k}")
        return Vector(found, dtype)

    # ------------------------------------------------------------------ operations
    def operation(self, op: str, dtype: str, args: Sequence[Operand]) -> Operand:
        """An operation of the IR on operands."""
        source = args[0].dtype
        if len(args) == 2 and source not in FLOATS:
            folded = self._folded(op, dtype, *args)
            if folded is not None:
                return folded
        many = not all([isinstance(x, Scalar) for x in args])  # noqa: C419
        if op in _FLOAT_OPS and dtype in FLOATS:
            word = f"{_FLOAT_OPS[op]} {self.type(dtype, many)}"
            return self.made(self._binary(word, args, many), dtype, many)
        if op in COMPARISONS:
            kinds = _COMPARE_FLOAT if source in FLOATS else _COMPARE_SIGNED if source in SIGNED else _COMPARE_UNSIGNED
            word = "fcmp" if source in FLOATS else "icmp"
            word = f"{word} {kinds[op]} {self.type(source, many)}"
            return self.made(self._binary(word, args, many), BOOL, many)
        if op == "select":
            return self._select(args, dtype)
        if op == "convert":
            return self.convert(args[0], dtype)
        if op == "bitcast":
            if source == dtype:
                return args[0]
            if {source, dtype} <= {"i32", "u32"} or {source, dtype} <= {"i64", "u64"}:
                return self._renamed(args[0], dtype)
            text = f"bitcast {self.type(source, many)} {self.text(args[0], many)} to {self.type(dtype, many)}"
            return self.made(self.value(text), dtype, many)
        if op == "rsqrt":
            root = self.operation("sqrt", dtype, args)
            return self.operation("div", dtype, (constant(1.0, dtype), root))
        if op in _INTRINSICS:
            return self._intrinsic(_INTRINSICS[op], dtype, args, many)
        if op in ("max", "min"):
            return self._extremum(op, dtype, args, many)
        if op == "abs":
            if dtype in FLOATS:
                return self._intrinsic("fabs", dtype, args, many)
            if dtype not in SIGNED:
                return args[0]
            zero = constant(0, dtype)
            return self._extremum("max", dtype, (args[0], self.operation("sub", dtype, (zero, args[0]))), many)
        if op == "neg":
            if dtype in FLOATS:
                text = f"fneg {self.type(dtype, many)} {self.text(args[0], many)}"
                return self.made(self.value(text), dtype, many)
            return self.operation("sub", dtype, (constant(0, dtype), args[0]))
        if op == "not":
            return self.operation("xor", dtype, (args[0], constant(True if dtype == BOOL else -1, dtype)))
        if op in ("count_ones", "count_leading_zeros"):
            return self._bits(op, dtype, args[0], many)
        if op in _LIBRARY:
            return self.library(op + ("f" if dtype == "f32" else ""), dtype, args)
        return self._plain(op, dtype, args, many)

    def _plain(self, op: str, dtype: str, args: Sequence[Operand], many: bool) -> Operand:
        below = self._below(op, dtype, args)
        if many and op in ("div", "rem"):
            found = self._divided(op, dtype, args)
            if found is not None:
                return Vector(found, dtype, below)
        if op in ("div", "rem"):
            word = ("s" if dtype in SIGNED else "u") + op
        elif op == "shift_right":
            word = "ashr" if dtype in SIGNED else "lshr"
        else:
            word = _INTEGER_OPS[op]
        if op == "add" and not many and below is not None and dtype == "i32":
            total = self._sum(args, below)
            if total is not None:
                return total
        text = self._binary(f"{word} {self.type(dtype, many)}", args, many)
        if many and self.lanes > 1:
            return Vector(text, dtype, below)
        return (
            Scalar(text, dtype, below=below)
            if dtype == BOOL
            else Scalar(text, dtype, self._multiple(op, args), below=below)
        )

    def _sum(self, args: Sequence[Operand], below: int) -> Scalar | None:
        """A sum of scalars that are not negative and do not reach `below`, with what is known of it apart; None if nothing is."""
        x, y = args
        assert isinstance(x, Scalar) and isinstance(y, Scalar)
        added = [z.added if isinstance(z, Sum) else z.number or 0 for z in (x, y)]
        if not any(added):
            return None
        bases = [z.base if isinstance(z, Sum) else z for z in (x, y) if z.number is None]
        base = bases[0] if len(bases) == 1 else self.operation("add", "i32", bases)
        assert isinstance(base, Scalar)
        parts = base, constant(sum(added), "i32")
        return Sum(*parts, self._multiple("add", args), below, lambda: self._binary("add i32", parts, False))

    def _binary(self, word: str, args: Sequence[Operand], many: bool) -> str:
        x, y = args
        return self.value(f"{word} {self.text(x, many)}, {self.text(y, many)}")

    def _below(self, op: str, dtype: str, args: Sequence[Operand]) -> int | None:
        """What the results of an operation on integers do not reach, if they certainly are not negative."""
        y = args[1]
        a, b = (limit(z, self.lanes) if z.dtype in ("i32", "u32") else None for z in args)
        divisor = y.number if isinstance(y, Scalar) and y.number and y.number > 0 else None
        if op == "rem" and divisor and (a is not None or dtype not in SIGNED):
            return divisor if a is None else min(a, divisor)
        if a is None or b is None:
            return None
        if op == "div" and divisor:
            return (a - 1) // divisor + 1
        found = {"add": a + b - 1, "mul": (a - 1) * (b - 1) + 1}.get(op)
        return found if found is not None and found < 1 << 31 else None

    def _divided(self, op: str, dtype: str, args: Sequence[Operand]) -> str | None:
        """Vectors of integers divided by a number, or what is left: a product with it the other way round, and a shift, where
        they are so small that the product fits. In general LLVM needs a dozen instructions for each."""
        x, y = args
        below = limit(x, self.lanes)
        if below is None or not isinstance(y, Scalar) or not y.number or y.number < 1:
            return None
        factor = _factor(below - 1, y.number)
        if factor is None or y.number & (y.number - 1) == 0:
            return None
        t = self.type(dtype, True)
        numbers = (self.splat(str(n), llvm_type(dtype)) for n in (*factor, y.number))
        times, shift, divisor = numbers
        product = self.value(f"mul {t} {self.vector(x)}, {times}")
        quotient = self.value(f"lshr {t} {product}, {shift}")
        if op == "div":
            return quotient
        return self.value(f"sub {t} {self.vector(x)}, {self.value(f'mul {t} {quotient}, {divisor}')}")

    @staticmethod
    def _multiple(op: str, args: Sequence[Operand]) -> int:
        """What divides the result of an operation on scalars."""
        x, y = args
        assert isinstance(x, Scalar) and isinstance(y, Scalar)
        if op == "mul":
            return x.multiple * y.multiple
        if op in ("add", "sub", "min", "max"):
            return math.gcd(x.multiple, y.multiple)
        if op == "rem" and y.number:
            return math.gcd(x.multiple, y.number)
        if op == "div" and y.number and x.multiple % y.number == 0:
            return x.multiple // y.number
        return 1

    def _folded(self, op: str, dtype: str, x: Operand, y: Operand) -> Operand | None:
        """The result of an operation on integers, where it is known or counts with the lane."""
        xs = numbers_of(x, self.lanes)
        ys = None if xs is None else numbers_of(y, self.lanes)
        if xs is not None and ys is not None:
            found = self._known(op, dtype, x.dtype, xs, ys)
            if found is not None:
                return from_numbers(found, dtype)
        if isinstance(y, Scalar) and y.number == 0 and op in ("add", "sub", "or", "xor", "shift_left", "shift_right"):
            return x
        if op == "add" and isinstance(x, Scalar) and x.number == 0:
            return y
        if op == "mul" and isinstance(y, Scalar) and y.number == 1:
            return x
        if isinstance(x, Scalar) and isinstance(y, Scalar):
            return None
        return self._affine(op, dtype, x, y)

    @staticmethod
    def _known(op: str, dtype: str, source: str, xs: list[int], ys: list[int]) -> list[int] | None:
        if op in ("div", "rem"):
            if source in SIGNED or any(y == 0 for y in ys):
                return None
            function = (lambda x, y: x // y) if op == "div" else (lambda x, y: x % y)
        elif op in _FOLDED:
            function = _FOLDED[op]
        else:
            return None
        if dtype == BOOL:
            return [bool(function(x, y)) for x, y in zip(xs, ys, strict=True)]
        return [wrapped(function(x, y), dtype) for x, y in zip(xs, ys, strict=True)]

    def _affine(self, op: str, dtype: str, x: Operand, y: Operand) -> Operand | None:
        if dtype == BOOL:
            return None
        if op in ("add", "sub") and isinstance(x, (Affine, Scalar)) and isinstance(y, (Affine, Scalar)):
            a, b = (z.base if isinstance(z, Affine) else z for z in (x, y))
            s, t = (z.stride if isinstance(z, Affine) else 0 for z in (x, y))
            base = self.operation(op, dtype, (a, b))
            assert isinstance(base, Scalar)
            stride = s + t if op == "add" else s - t
            return Affine(base, stride) if stride else base
        if op == "mul":
            if isinstance(x, Scalar):
                x, y = y, x
            if isinstance(x, Affine) and isinstance(y, Scalar) and y.number is not None:
                base = self.operation("mul", dtype, (x.base, y))
                assert isinstance(base, Scalar)
                return Affine(base, x.stride * y.number) if y.number else base
        if (
            op in ("div", "rem")
            and dtype not in SIGNED
            and isinstance(x, Affine)
            and isinstance(y, Scalar)
            and y.number
        ):
            # lanes that are not carried over
            step = math.gcd(x.base.multiple, y.number)
            if 0 <= x.stride * (self.lanes - 1) < step:
                base = self.operation(op, dtype, (x.base, y))
                assert isinstance(base, Scalar)
                return base if op == "div" else Affine(base, x.stride)
        return None

    # ------------------------------------------------------------------ one kind of operation each
    def _select(self, args: Sequence[Operand], dtype: str) -> Operand:
        condition, a, b = args
        if isinstance(condition, Scalar) and condition.number is not None:
            return a if condition.number else b
        many = any(not isinstance(x, Scalar) for x in args)
        kind = self.type(BOOL, not isinstance(condition, Scalar))
        t = self.type(dtype, many)
        c = self.text(condition, not isinstance(condition, Scalar))
        text = f"select {kind} {c}, {t} {self.text(a, many)}, {t} {self.text(b, many)}"
        return self.made(self.value(text), dtype, many)

    def _renamed(self, x: Operand, dtype: str) -> Operand:
        """The same bits as an integer with, or without, a sign."""
        numbers = numbers_of(x, self.lanes)
        if numbers is not None:
            return from_numbers([wrapped(n, dtype) for n in numbers], dtype)
        if isinstance(x, Affine):
            return Affine(self._renamed(x.base, dtype), x.stride)  # type: ignore[arg-type]
        if isinstance(x, Scalar):
            return Scalar(x.text, dtype, x.multiple, below=x.below)
        assert isinstance(x, Vector)
        return Vector(x.text, dtype, x.below)

    def convert(self, x: Operand, dtype: str) -> Operand:
        """A number of one type as another."""
        source = x.dtype
        if source == dtype:
            return x
        both_integers = not {source, dtype} & {*FLOATS, BOOL}
        if both_integers and BITS[source] == BITS[dtype]:
            return self._renamed(x, dtype)
        numbers = numbers_of(x, self.lanes) if both_integers else None
        if numbers is not None:
            return from_numbers([wrapped(n, dtype) for n in numbers], dtype)
        many = not isinstance(x, Scalar)
        if dtype == BOOL:
            return self.operation("ne", BOOL, (x, constant(0, source)))
        if source in FLOATS and dtype in FLOATS:
            word = "fpext" if BITS[dtype] > BITS[source] else "fptrunc"
        elif source in FLOATS:
            word = "fptosi" if dtype in SIGNED else "fptoui"
        elif dtype in FLOATS:
            word = "sitofp" if source in SIGNED else "uitofp"
        elif BITS[dtype] < BITS[source]:
            word = "trunc"
        else:
            word = "sext" if source in SIGNED else "zext"
        text = f"{word} {self.type(source, many)} {self.text(x, many)} to {self.type(dtype, many)}"
        if both_integers and isinstance(x, Scalar) and BITS[dtype] > BITS[source]:
            return Scalar(self.value(text), dtype, x.multiple)
        return self.made(self.value(text), dtype, many)

    def _suffix(self, dtype: str, many: bool) -> str:
        kind = f"f{BITS[dtype]}" if dtype in FLOATS else f"i{BITS[dtype]}"
        return f"v{self.lanes}{kind}" if many and self.lanes > 1 else kind

    def _intrinsic(self, name: str, dtype: str, args: Sequence[Operand], many: bool, flags: str = "") -> Operand:
        t = self.type(dtype, many)
        function = f"llvm.{name}.{self._suffix(dtype, many)}"
        text = self.call(t, function, [(t, self.text(x, many)) for x in args], flags)
        return self.made(text, dtype, many)

    def _extremum(self, op: str, dtype: str, args: Sequence[Operand], many: bool) -> Operand:
        if dtype == BOOL:
            return self.operation("or" if op == "max" else "and", dtype, args)
        if dtype in FLOATS:
            # NaN if either is, and any of two zeros. LLVM asks of its first operand, in a loop what is new, whether it is NaN.
            return self._intrinsic("maximum" if op == "max" else "minimum", dtype, (args[1], args[0]), many, "nsz ")
        found = self._intrinsic(("s" if dtype in SIGNED else "u") + op, dtype, args, many)
        return Scalar(found.text, dtype, self._multiple(op, args)) if isinstance(found, Scalar) else found

    def _bits(self, op: str, dtype: str, x: Operand, many: bool) -> Operand:
        t, source = self.type(dtype, many), self.type(x.dtype, many)
        name = "ctpop" if op == "count_ones" else "ctlz"
        arguments = [(source, self.text(x, many))] + ([("i1", "false")] if name == "ctlz" else [])
        text = self.call(source, f"llvm.{name}.{self._suffix(x.dtype, many)}", arguments)
        found = self.made(text, x.dtype, many)
        return found if t == source else self.convert(found, dtype)

    def library(self, function: str, dtype: str, args: Sequence[Operand]) -> Operand:
        """A function of the C library, lane by lane."""
        t = llvm_type(dtype)
        longest = next((x for x in args if not isinstance(x, Scalar)), args[0])

        def one(_: str, k: int) -> str:
            return self.call(t, function, [(llvm_type(x.dtype), self.element(x, k)) for x in args])

        return self.pieces(longest, one, dtype)


def _factor(most: int, divisor: int) -> tuple[int, int] | None:
    """(m, s) so that x // divisor = (x * m) >> s in 32 bits for 0 <= x <= most: m is 2^s / divisor, rounded up, and the error,
    of x / (divisor * 2^s) times what was added, is less than 1 / divisor."""
    for shift in range(32):
        factor = -(-(1 << shift) // divisor)
        if most * (factor * divisor - (1 << shift)) < 1 << shift:
            return (factor, shift) if most * factor < 1 << 32 else None
    return None
