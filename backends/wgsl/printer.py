"""Prints a kernel as WGSL.

Values that are used once are written where they are used; the others get a name. Two dialects differ in which
extensions have to be enabled by name.

Source: WebGPU Shading Language, W3C Candidate Recommendation.
"""

from __future__ import annotations

import math
import struct
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from asgfn.records import record
from backends.kernels.ir import (
    BOOL,
    F16,
    F32,
    I32,
    U32,
    Assign,
    Atomic,
    Barrier,
    If,
    Kernel,
    Let,
    Loop,
    Memory,
    Store,
    StoreMatrix,
    Value,
    Variable,
)  # fmt: skip
from backends.kernels.uses import count_uses
from backends.wgsl.matrices import EXTENSION, Emulated, Native


@record
class Dialect:
    """What an implementation of WGSL wants to be told.

    Attributes:
        enables_subgroups: whether `enable subgroups;` must be written (browsers, Dawn) or must not (naga).
        has_matrices: whether it knows matrices of subgroups. If not, they are emulated: that is slow, and for trying out
            kernels where there are no tensor cores.
        subgroup: threads of a subgroup, where there are no matrices and they are only thought to be together.
    """

    name: str
    enables_subgroups: bool
    has_matrices: bool = False
    subgroup: int = 32


NAGA = Dialect("naga", False)
DAWN = Dialect("dawn", True, has_matrices=True)

INFIX = {
    "add": "+", "sub": "-", "mul": "*", "div": "/", "rem": "%", "and": "&", "or": "|", "xor": "^",
    "eq": "==", "ne": "!=", "lt": "<", "le": "<=", "gt": ">", "ge": ">=",
    "shift_left": "<<", "shift_right": ">>",
}  # fmt: skip
CALLS = {
    "abs": "abs", "max": "max", "min": "min", "floor": "floor", "ceil": "ceil", "round": "round", "trunc": "trunc",
    "exp": "exp", "exp2": "exp2", "log": "log", "log2": "log2", "sqrt": "sqrt", "rsqrt": "inverseSqrt", "sin": "sin",
    "cos": "cos", "tan": "tan", "asin": "asin", "acos": "acos", "atan": "atan", "sinh": "sinh", "cosh": "cosh",
    "tanh": "tanh", "atan2": "atan2", "pow": "pow", "fma": "fma", "sign": "sign", "count_ones": "countOneBits",
    "count_leading_zeros": "countLeadingZeros", "subgroup_add": "subgroupAdd", "subgroup_max": "subgroupMax",
    "subgroup_min": "subgroupMin", "subgroup_shuffle": "subgroupShuffle", "subgroup_shuffle_down": "subgroupShuffleDown",
    "subgroup_shuffle_xor": "subgroupShuffleXor", "subgroup_broadcast_first": "subgroupBroadcastFirst",
}  # fmt: skip
BUILTINS = {
    "thread": ("local_invocation_index", "u32"),
    "group_x": ("workgroup_id", "vec3<u32>"),
    "group_y": ("workgroup_id", "vec3<u32>"),
    "group_z": ("workgroup_id", "vec3<u32>"),
    "subgroup_size": ("subgroup_size", "u32"),
    "subgroup_thread": ("subgroup_invocation_id", "u32"),
    "subgroup": ("subgroup_id", "u32"),
}
# operations whose result is not named even if it is used more than once
_CHEAP = frozenset(("constant", "loop"))
# an expression is written in another as long as it is nested no deeper than this; compilers give up at some depth
_DEEPEST = 24


def source(
    kernel: Kernel,
    dialect: Dialect = NAGA,
    rows: Mapping[int, int] | None = None,
    merged: Mapping[int, int] | None = None,
) -> str:
    """The kernel's WGSL: storage is bound in group 0, in the order of `kernel.memories`; the entry point is `main`.

    Arguments:
        rows: positions of memories that are one row of a larger one, and how many elements a row has. Which row it is, is
            the sum of two numbers in uniform buffers, bindings 0 and 1 of group 1.
        merged: positions of memories that are the same memory as that of another, written, position: each thread reads
            an element before it writes it. They have no binding of their own; those after them move up.
    """
    return _Printer(kernel, dialect, rows or {}, merged or {}).print()


class _Printer:
    def __init__(self, kernel: Kernel, dialect: Dialect, rows: Mapping[int, int], merged: Mapping[int, int]):
        self.kernel, self.dialect = kernel, dialect
        self.rows = {kernel.memories[k]: n for k, n in rows.items()}
        self.merged = {kernel.memories[k]: kernel.memories[other] for k, other in merged.items()}
        self.lines: list[str] = []
        self.uses: Counter[Value] = Counter()
        self.text: dict[Value, str] = {}
        self.has_f16 = False  # constants of that type
        self.nesting: dict[Value, int] = {}  # of values that have no name
        self.builtins: set[str] = set()
        self.matrices: Native | Emulated = Native() if dialect.has_matrices else Emulated(dialect.subgroup)
        self.wide_loads: dict[tuple, str] = {}
        self.not_finite: dict[str, int] = {}  # names of infinities and NaNs, and their bits

    def print(self) -> str:
        kernel = self.kernel
        self.uses = count_uses(kernel.body)
        self._block(kernel.body, 1)
        body, self.lines = self.lines, []
        if (
            self.has_f16
            or "f16" in kernel.features
            or any(m.dtype == F16 for m in (*kernel.memories, *kernel.shared, *kernel.private))
        ):
            self.lines.append("enable f16;")
        with_matrices = "matrices" in kernel.features
        if ("subgroups" in kernel.features or with_matrices) and self.dialect.enables_subgroups:
            self.lines.append("enable subgroups;")
        if with_matrices and self.dialect.has_matrices:
            self.lines += EXTENSION
        for k, memory in enumerate(m for m in kernel.memories if m not in self.merged):
            access = "read_write" if memory.written else "read"
            self.lines.append(
                f"@group(0) @binding({k}) var<storage, {access}> {memory.name}: array<{_element_type(memory)}>;"
            )
        for k in (0, 1) if self.rows else ():
            self.lines.append(f"@group(1) @binding({k}) var<uniform> row_number{k}: vec4<u32>;")
        for memory in kernel.shared:
            self.lines.append(f"var<workgroup> {memory.name}: array<{_element_type(memory)}, {memory.size}>;")
        self.lines += self.matrices.declarations()
        if with_matrices and not self.dialect.has_matrices:
            self.builtins.add("thread")
        arguments = ", ".join(
            f"@builtin({name}) {name}: {t}" for name, t in sorted({BUILTINS[n] for n in self.builtins})
        )
        self.lines.append(f"@compute @workgroup_size({', '.join(map(str, kernel.workgroup))})")
        self.lines.append(f"fn main({arguments}) {{")
        for name, bits in self.not_finite.items():
            # WGSL refuses constants that are not finite; a variable's value is not a constant
            self.lines += [f"  var {name}_bits = {bits}u;", f"  let {name} = bitcast<f32>({name}_bits);"]
        if self.rows:
            self.lines.append("  let row = i32(row_number0.x + row_number1.x);")
        for memory, size in self.rows.items():
            self.lines.append(f"  let {memory.name}_row = row * {size // memory.width};")
        for memory in kernel.private:
            self.lines.append(f"  var {memory.name}: array<{_element_type(memory)}, {memory.size}>;")
        return "\n".join([*self.lines, *body, "}"]) + "\n"

    # ------------------------------------------------------------------ statements
    def _block(self, block: Sequence[Any], level: int) -> None:
        pad = "  " * level
        outer = dict(self.wide_loads)
        for s in block:
            if isinstance(s, Let):
                self._let(s.value, pad)
            elif isinstance(s, Variable):
                dtype = self.matrices.type(s.dtype) if s.dtype.startswith("subgroup_matrix") else s.dtype
                self.lines.append(f"{pad}var {s.name}: {dtype} = {self._use(s.start)};")
            elif isinstance(s, Assign):
                self.lines.append(f"{pad}{s.variable.name} = {self._use(s.value)};")
            elif isinstance(s, Store):
                self._store(s, pad)
            elif isinstance(s, StoreMatrix):
                at, text = self._use(s.place), self._use(s.value)
                self.lines.append(pad + self.matrices.store(s.memory, at, s.value, text, s.stride))
            elif isinstance(s, Atomic):
                place = self._element(s.memory, s.place)
                self.lines.append(f"{pad}{s.operation}(&{place}, {self._use(s.value)});")
            elif isinstance(s, Barrier):
                self.lines.append(f"{pad}workgroupBarrier();")
            elif isinstance(s, Loop):
                start, stop, step = (self._use(v) for v in (s.start, s.stop, s.step))
                self.lines.append(f"{pad}for (var {s.name}: i32 = {start}; {s.name} < {stop}; {s.name} += {step}) {{")
                self._block(s.body, level + 1)
                self.lines.append(f"{pad}}}")
            elif isinstance(s, If):
                self.lines.append(f"{pad}if ({self._use(s.condition)}) {{")
                self._block(s.body, level + 1)
                if s.otherwise:
                    self.lines.append(f"{pad}}} else {{")
                    self._block(s.otherwise, level + 1)
                self.lines.append(f"{pad}}}")
            else:
                raise TypeError(f"a kernel holds statements, got {s!r}")
        self.wide_loads = outer

    def _let(self, value: Value, pad: str) -> None:
        if not self.uses[value]:
            return
        written = value.op in ("read", "load") and (value.op == "read" or value.attr[0].written)
        # what threads do together is done where all of them are, not where one of them uses it
        together = value.op.startswith("subgroup_") or value.op in ("load_matrix", "multiply_matrices")
        if self.uses[value] == 1 and not written and not together and value.op != "load":
            nesting = 1 + max((self.nesting.get(a, 0) for a in value.args), default=0)
            if nesting <= _DEEPEST:
                self.nesting[value] = nesting
                return  # written where it is used
        if value.op == "builtin":
            return
        self.lines.append(f"{pad}let {value.name} = {self._expression(value, pad)};")
        self.text[value] = value.name

    def _store(self, s: Store, pad: str) -> None:
        place = self._element(s.memory, s.place)
        if isinstance(s.value, tuple):
            parts = ", ".join(self._use(v) for v in s.value)
            self.lines.append(f"{pad}{place} = vec{len(s.value)}<{s.memory.dtype}>({parts});")
        elif s.memory.atomic:
            self.lines.append(f"{pad}atomicStore(&{place}, {self._use(s.value)});")
        else:
            lane = "" if s.lane is None else f"[{self._use(s.lane)}]"
            self.lines.append(f"{pad}{place}{lane} = {self._use(s.value)};")

    # ------------------------------------------------------------------ expressions
    def _use(self, value: Value) -> str:
        known = self.text.get(value)
        if known is None:
            known = self._expression(value, "")
            if value.op in _CHEAP:
                self.text[value] = known
        return known

    def _expression(self, value: Value, pad: str) -> str:
        op = value.op
        if op == "constant":
            self.has_f16 = self.has_f16 or value.dtype == F16
            if value.dtype in (F32, F16) and not math.isfinite(value.attr):
                return self._not_finite(value)
            return literal(value.attr, value.dtype)
        if op == "loop":
            return value.name
        if op == "read":
            return value.attr.name
        if op == "builtin" and value.attr == "subgroup" and self.matrices.subgroup() is not None:
            return str(self.matrices.subgroup())
        if op == "builtin":
            name, t = BUILTINS[value.attr]
            self.builtins.add(value.attr)
            return f"i32({name}{'.' + value.attr[-1] if t.startswith('vec') else ''})"
        if op == "load":
            return self._load(value, pad)
        args = [self._use(a) for a in value.args]
        if op == "zero_matrix":
            return self.matrices.zero(value.dtype)
        if op == "load_matrix":
            return self.matrices.load(value, args[0])
        if op == "multiply_matrices":
            left, right, total = value.args
            return self.matrices.multiply(left, right, total, args)
        if op == "select":
            return f"select({args[2]}, {args[1]}, {args[0]})"
        if op == "convert":
            return f"{value.dtype}({args[0]})"
        if op == "lane":
            return f"{args[0]}.{'xyzw'[value.attr]}"
        if op in ("splat", "pack"):
            return f"{value.dtype}({', '.join(args)})"
        if op == "bitcast":
            return f"bitcast<{value.dtype}>({args[0]})"
        if op == "fmod":
            return f"({args[0]} % {args[1]})"
        if op == "neg":
            return f"(-{args[0]})"
        if op == "not":
            return f"(!{args[0]})" if value.dtype == BOOL else f"(~{args[0]})"
        if op == "xor" and value.dtype == BOOL:
            return f"({args[0]} != {args[1]})"
        if op in ("eq", "ne") and value.args[0].dtype == BOOL:
            return f"({args[0]} {INFIX[op]} {args[1]})"
        if op in ("lt", "le", "gt", "ge") and value.args[0].dtype == BOOL:
            return f"(u32({args[0]}) {INFIX[op]} u32({args[1]}))"
        if op in INFIX:
            return f"({args[0]} {INFIX[op]} {args[1]})"
        if op in CALLS:
            return f"{CALLS[op]}({', '.join(args)})"
        raise ValueError(f"WGSL printer: there is no operation {op!r}")

    def _not_finite(self, value: Value) -> str:
        bits = struct.unpack("<I", struct.pack("<f", value.attr))[0]
        name = "nan" if math.isnan(value.attr) else "infinity" if value.attr > 0 else "minus_infinity"
        self.not_finite[name] = bits
        return name if value.dtype == F32 else f"f16({name})"

    def _element(self, memory: Memory, place: Value) -> str:
        at = self._use(place)
        if memory in self.rows:
            at = f"{memory.name}_row + {at}"
        return f"{self.merged.get(memory, memory).name}[{at}]"

    def _load(self, value: Value, pad: str) -> str:
        memory, lane = value.attr
        element = self._element(memory, value.args[0])
        if memory.atomic:
            return f"atomicLoad(&{element})"
        if lane is None:
            return element
        key = (memory.name, value.args[0])
        if memory.written or not pad:
            return f"{element}.{'xyzw'[lane]}"
        whole = self.wide_loads.get(key)
        if whole is None:
            whole = f"w{len(self.lines)}"
            self.lines.append(f"{pad}let {whole} = {element};")
            self.wide_loads[key] = whole
        return f"{whole}.{'xyzw'[lane]}"


def _element_type(memory: Memory) -> str:
    if memory.atomic:
        return f"atomic<{memory.dtype}>"
    return memory.dtype if memory.width == 1 else f"vec{memory.width}<{memory.dtype}>"


def literal(value: Any, dtype: str) -> str:
    """A finite constant in WGSL."""
    if dtype == BOOL:
        return "true" if value else "false"
    if dtype == I32:
        return f"i32({value})" if value != -(2**31) else "i32(-2147483647 - 1)"
    if dtype == U32:
        return f"{value}u"
    text = repr(float(value))
    suffix = "f" if dtype == F32 else "h"
    if "e" not in text and "." not in text:
        text += ".0"
    return f"({text}{suffix})" if text.startswith("-") else text + suffix
