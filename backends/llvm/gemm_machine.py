"""Vector instructions of a host, as LLVM IR text: what all functions of the matrix product are written with."""

from __future__ import annotations

from backends.llvm.gemm_shape import GemmShape
from backends.llvm.gemm_text import Text

SUFFIX = {"float": "f32", "double": "f64"}


def listed(text: Text, table: str, number: str | int) -> str:
    """An entry of a table of places."""
    entry = text.op(f"load i32, ptr {text.at('i32', table, number)}, align 4")
    return text.op(f"sext i32 {entry} to i64")


class Machine:
    """Vector instructions in a function's text, by what the host has."""

    def __init__(self, text: Text, shape: GemmShape):
        self.text, self.shape = text, shape

    def kind(self, width: int) -> str:
        return self.shape.scalar if width == 1 else f"<{width} x {self.shape.scalar}>"

    def _suffix(self, width: int) -> str:
        scalar = SUFFIX[self.shape.scalar]
        return scalar if width == 1 else f"v{width}{scalar}"

    def broadcast(self, value: str, width: int) -> str:
        if width == 1:
            return value
        kind = self.kind(width)
        first = self.text.op(f"insertelement {kind} poison, {self.shape.scalar} {value}, i64 0")
        return self.text.op(f"shufflevector {kind} {first}, {kind} poison, <{width} x i32> zeroinitializer")

    def multiply_add(self, a: str, b: str, c: str, width: int) -> str:
        kind = self.kind(width)
        if self.shape.vectors.fma:
            return self.text.call(kind, f"llvm.fma.{self._suffix(width)}", (kind, a), (kind, b), (kind, c))
        product = self.text.op(f"fmul {kind} {a}, {b}")
        return self.text.op(f"fadd {kind} {c}, {product}")

    def mask(self, count: str) -> str:
        """Which lanes are among the first so many, as loads and stores want it."""
        t, lanes = self.text, self.shape.lanes
        if self.shape.vectors.masks == "avx512":  # a number's bits, in few instructions that LLVM leaves where they are
            others = t.op(f"shl i64 -1, {t.least(count, lanes)}")
            inside = t.op(f"trunc i64 {t.op(f'xor i64 {others}, -1')} to i{lanes}")
            return t.op(f"bitcast i{lanes} {inside} to <{lanes} x i1>")
        kind, number = self._mask_kind(), self._mask_kind().split()[-1][:-1]
        some = t.op(f"trunc i64 {t.least(count, lanes)} to {number}") if number != "i64" else count
        first = t.op(f"insertelement {kind} poison, {number} {some}, i64 0")
        counts = t.op(f"shufflevector {kind} {first}, {kind} poison, <{lanes} x i32> zeroinitializer")
        numbers = ", ".join(f"{number} {n}" for n in range(lanes))
        return t.op(f"sext <{lanes} x i1> {t.op(f'icmp slt {kind} <{numbers}>, {counts}')} to {kind}")

    def _mask_kind(self) -> str:
        return f"<{self.shape.lanes} x i{32 if self.shape.scalar == 'float' else 64}>"

    def _avx(self, name: str) -> str:
        return f"llvm.x86.avx.{name}.p{'s' if self.shape.scalar == 'float' else 'd'}.256"

    def load(self, pointer: str, width: int, mask: str | None = None) -> str:
        kind = self.kind(width)
        size = self.shape.size
        if mask is None:
            return self.text.op(f"load {kind}, ptr {pointer}, align {size}")
        if self.shape.vectors.masks == "avx2":
            # the lanes' compare would otherwise be done again at every load
            return self.text.call(kind, self._avx("maskload"), ("ptr", pointer), (self._mask_kind(), mask))
        name = f"llvm.masked.load.{self._suffix(width)}.p0"
        where = (f"<{width} x i1>", mask)
        return self.text.call(kind, name, ("ptr", pointer), ("i32", size), where, (kind, "zeroinitializer"))

    def store(self, value: str, pointer: str, width: int, mask: str | None = None) -> None:
        kind = self.kind(width)
        size = self.shape.size
        if mask is None:
            self.text.do(f"store {kind} {value}, ptr {pointer}, align {size}")
        elif self.shape.vectors.masks == "avx2":
            self.text.call("void", self._avx("maskstore"), ("ptr", pointer), (self._mask_kind(), mask), (kind, value))
        else:
            name = f"llvm.masked.store.{self._suffix(width)}.p0"
            where = (f"<{width} x i1>", mask)
            self.text.call("void", name, (kind, value), ("ptr", pointer), ("i32", size), where)

    def prefetch(self, pointer: str, cache: int = 1) -> None:
        """Asks for a cache line that will be read, in the first or second cache. The address has to be memory of the process,
        or it takes long."""
        self.text.call("void", "llvm.prefetch.p0", ("ptr", pointer), ("i32", 0), ("i32", 4 - cache), ("i32", 1))
