"""Loads and stores of a kernel: of neighbours at once, of what is near with what lies between, else element by element."""

from __future__ import annotations

from backends.kernels.ir import Kernel, Memory
from backends.llvm.flow import Flow
from backends.llvm.operands import BITS, FLOATS, Affine, Known, Operand, Scalar, Sum, Vector, constant, llvm_type
from backends.llvm.writer import Writer

# arrays in a thread's scratch memory start at multiples of so many bytes
ALIGNMENT = 64
# elements that are no further apart are read together, with what lies between them
NEAR = 4


class Accesses:
    """What a kernel reads and writes.

    Attributes:
        scatters: whether the processor reads and writes a vector's elements where each has a place of its own, and only those
            that are meant. To LLVM, others have a branch for each element, which takes long to compile.
        entry: the instructions before the first workgroup, which find the memories.
        scratch: bytes of the memory that a workgroup's threads share.
    """

    def __init__(self, kernel: Kernel, writer: Writer, flow: Flow, scatters: bool):
        self.scatters = scatters
        self.kernel, self.w, self.flow, self.lanes = kernel, writer, flow, writer.lanes
        self.entry: list[str] = []
        self.scratch = 0
        self._pointers: dict[Memory, str] = {}
        self._place_memories()

    def _place_memories(self) -> None:
        for k, memory in enumerate(self.kernel.memories):
            self.entry.append(f"  %where{k} = getelementptr ptr, ptr %memories, i64 {k}")
            self.entry.append(f"  %memory{k} = load ptr, ptr %where{k}, align 8")
            self._pointers[memory] = f"%memory{k}"
        for k, memory in enumerate(self.kernel.shared):
            self.entry.append(f"  %shared{k} = getelementptr i8, ptr %scratch, i64 {self.scratch}")
            self._pointers[memory] = f"%shared{k}"
            nbytes = memory.size * memory.width * BITS[memory.dtype] // 8
            self.scratch += -(-nbytes // ALIGNMENT) * ALIGNMENT
        for k, memory in enumerate(self.kernel.private):
            t = self.w.type(memory.dtype, True)
            self.entry.append(f"  %private{k} = alloca [{memory.size * memory.width} x {t}], align {ALIGNMENT}")
            self._pointers[memory] = f"%private{k}"

    def address(self, memory: Memory, place: Scalar) -> str:
        return self._element(llvm_type(memory.dtype), memory, place)

    def _element(self, t: str, memory: Memory, place: Scalar) -> str:
        """The address of an element of a type."""
        if place.number == 0:
            return self._pointers[memory]
        if isinstance(place, Sum):
            return self.w.value(f"getelementptr {t}, ptr {self._element(t, memory, place.base)}, i64 {place.added}")
        at = place.text
        if place.number is None:
            at = self.w.value(f"sext {llvm_type(place.dtype)} {place.text} to i64")
        return self.w.value(f"getelementptr {t}, ptr {self._pointers[memory]}, i64 {at}")

    def _addresses(self, memory: Memory, place: Operand) -> str:
        """A pointer a lane."""
        n, t = self.lanes, llvm_type(memory.dtype)
        at = self.w.vector(place)
        wide = self.w.value(f"sext <{n} x {llvm_type(place.dtype)}> {at} to <{n} x i64>")
        return self.w.value(f"getelementptr {t}, ptr {self._pointers[memory]}, <{n} x i64> {wide}")

    def _suffix(self, dtype: str) -> str:
        return f"v{self.lanes}{'f' if dtype in FLOATS else 'i'}{BITS[dtype]}"

    def _bytes(self, memory: Memory) -> int:
        return BITS[memory.dtype] // 8

    def expect(self, memory: Memory, place: Operand) -> None:
        """Asks for the cache line of the first lane's element, to be written to."""
        first = place.base if isinstance(place, Affine) else place
        if isinstance(first, Scalar):
            where = ("ptr", self.address(memory, first))
            self.w.call("void", "llvm.prefetch.p0", (where, ("i32", "1"), ("i32", "3"), ("i32", "1")))

    def load(self, memory: Memory, place: Operand) -> Operand:
        """Elements of a memory."""
        w, dtype, align = self.w, memory.dtype, self._bytes(memory)
        t, many = llvm_type(dtype), w.type(dtype, True)
        if memory.space == "private":
            return self._load_private(memory, place)
        if isinstance(place, Scalar):
            return Scalar(w.fresh(f"load {t}, ptr {self.address(memory, place)}, align {align}"), dtype)
        if isinstance(place, Affine) and place.stride in (1, -1):
            first = place.base
            if place.stride == -1:
                last = w.operation("sub", place.dtype, (first, constant(self.lanes - 1, place.dtype)))
                assert isinstance(last, Scalar)
                first = last
            if self.flow.mask is None or place.stride == 1:
                address = self.address(memory, first)
                found = self._vector(memory, address, self.flow.mask)
                if place.stride == -1:
                    order = ", ".join(f"i32 {k}" for k in reversed(range(self.lanes)))
                    found = w.value(f"shufflevector {many} {found}, {many} poison, <{self.lanes} x i32> <{order}>")
                return Vector(found, dtype)
        if isinstance(place, Affine) and self.is_near(place):
            return self._load_near(memory, place)
        mask = self.flow.mask
        if mask is not None and not self._is_done_at_once(dtype):
            # whatever is first is read where nothing is asked for
            t = w.type(place.dtype, True)
            place = Vector(self.flow.chosen(t, w.vector(place), "zeroinitializer"), place.dtype)
            mask = None
        found = w.call(
            many,
            f"llvm.masked.gather.{self._suffix(dtype)}.v{self.lanes}p0",
            [
                (f"<{self.lanes} x ptr>", self._addresses(memory, place)),
                ("i32", str(align)),
                (self.flow.mask_type, mask or "splat (i1 true)"),
                (many, "zeroinitializer"),
            ],
        )
        return Vector(found if mask is self.flow.mask else self.flow.chosen(many, found, "zeroinitializer"), dtype)

    def _is_done_at_once(self, dtype: str) -> bool:
        """Whether the processor can read or write elements that are apart, and only some of them."""
        return self.scatters and BITS[dtype] >= 32

    def _vector(self, memory: Memory, address: str, mask: str | None) -> str:
        """Neighbours; those outside of a mask are 0 and not read."""
        w, align = self.w, self._bytes(memory)
        t = w.type(memory.dtype, True)
        if mask is None:
            return w.fresh(f"load {t}, ptr {address}, align {align}")
        arguments = [("ptr", address), ("i32", str(align)), (self.flow.mask_type, mask), (t, "zeroinitializer")]
        return w.call(t, f"llvm.masked.load.{self._suffix(memory.dtype)}.p0", arguments)

    def is_near(self, place: Affine) -> bool:
        """Whether elements are so close that what lies between them may be read with them."""
        return 1 < place.stride <= NEAR and 2 * place.stride <= self.lanes

    def _load_near(self, memory: Memory, place: Affine) -> Operand:
        """Every so manyth element, out of vectors that hold them all: from the first one to the last one, and no further."""
        w, dtype, n, stride = self.w, memory.dtype, self.lanes, place.stride
        many = w.type(dtype, True)
        last = (n - 1) * stride + 1 - n
        starts = [*range(0, last, n), last]
        found = "poison"
        for start in starts:
            first = w.operation("add", place.base.dtype, (place.base, constant(start, place.base.dtype)))
            assert isinstance(first, Scalar)
            address = self.address(memory, first)
            mask = None
            if self.flow.mask is not None:
                lanes = [k // stride if k % stride == 0 else n for k in range(start, start + n)]
                order = ", ".join(f"i32 {k}" for k in lanes)
                m = self.flow.mask_type
                mask = w.value(f"shufflevector {m} {self.flow.mask}, {m} zeroinitializer, <{n} x i32> <{order}>")
            vector = self._vector(memory, address, mask)
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
            w.line(f"store {t} {value.text}, ptr {self.address(memory, place)}, align {align}")
        elif isinstance(place, Affine) and place.stride == 1:
            address, text = self.address(memory, place.base), w.vector(value)
            if self.flow.mask is None:
                w.line(f"store {many} {text}, ptr {address}, align {align}")
                return
            only = _only_lane(self.flow.mask)
            if only is not None:
                # LLVM makes a store of one of such a mask, too, but of a whole register where numbers were narrowed
                address = w.value(f"getelementptr {t}, ptr {address}, i64 {only}")
                w.line(f"store {t} {w.element(Vector(text, memory.dtype), only)}, ptr {address}, align {align}")
                return
            arguments = [(many, text), ("ptr", address), ("i32", str(align)), (self.flow.mask_type, self.flow.mask)]
            w.call("void", f"llvm.masked.store.{self._suffix(memory.dtype)}.p0", arguments)
        elif self.flow.mask is not None and not self._is_done_at_once(memory.dtype):
            self._scatter(memory, place, w.vector(value))
        elif isinstance(place, Scalar):
            w.line(f"store {t} {w.element(value, self.lanes - 1)}, ptr {self.address(memory, place)}, align {align}")
        else:
            w.call(
                "void",
                f"llvm.masked.scatter.{self._suffix(memory.dtype)}.v{self.lanes}p0",
                [
                    (many, w.vector(value)),
                    (f"<{self.lanes} x ptr>", self._addresses(memory, place)),
                    ("i32", str(align)),
                    (self.flow.mask_type, self.flow.whole_mask()),
                ],
            )

    def _scatter(self, memory: Memory, place: Operand, text: str) -> None:
        """Writes the elements that are meant, one after another."""
        w, flow, n = self.w, self.flow, self.lanes
        t, index = llvm_type(memory.dtype), llvm_type(place.dtype)
        kept = [(w.type(memory.dtype, True), text)]
        if not isinstance(place, Scalar):
            kept.append((w.type(place.dtype, True), w.vector(place)))
        held = []
        for kind, what in kept:
            held.append(f"%scattered{w.label()}")
            self.entry.append(f"  {held[-1]} = alloca {kind}")
            w.line(f"store {kind} {what}, ptr {held[-1]}")
        lanes = w.value(f"bitcast {flow.mask_type} {flow.mask} to i{n}")
        lanes = lanes if n == 32 else w.value(f"zext i{n} {lanes} to i32")

        def one(left: str) -> None:
            lane = w.call("i32", "llvm.cttz.i32", [("i32", left), ("i1", "true")])
            value = w.fresh(f"load {t}, ptr {w.value(f'getelementptr {t}, ptr {held[0]}, i32 {lane}')}")
            at = place
            if not isinstance(at, Scalar):
                where = w.value(f"getelementptr {index}, ptr {held[1]}, i32 {lane}")
                at = Scalar(w.fresh(f"load {index}, ptr {where}"), place.dtype)
            w.line(f"store {t} {value}, ptr {self.address(memory, at)}, align {self._bytes(memory)}")

        flow.loop(
            ("i32", lanes),
            (),
            lambda left: w.value(f"icmp ne i32 {left}, 0"),
            one,
            lambda left: w.value(f"and i32 {left}, {w.value(f'sub i32 {left}, 1')}"),
        )

    def _load_private(self, memory: Memory, place: Operand) -> Operand:
        t = self.w.type(memory.dtype, True)
        if isinstance(place, Scalar):
            return self.w.made(self.w.fresh(f"load {t}, ptr {self._private(memory, place)}"), memory.dtype, True)
        assert isinstance(place, (Affine, Known, Vector))
        return self.w.pieces(
            place,
            lambda at, k: self.w.fresh(f"load {llvm_type(memory.dtype)}, ptr {self._own(memory, at, k)}"),
            memory.dtype,
        )

    def _store_private(self, memory: Memory, place: Operand, value: Operand) -> None:
        t = self.w.type(memory.dtype, True)
        text = self.w.vector(value)
        if isinstance(place, Scalar):
            address = self._private(memory, place)
            if self.flow.mask is not None:
                text = self.flow.chosen(t, text, self.w.fresh(f"load {t}, ptr {address}"))
            self.w.line(f"store {t} {text}, ptr {address}")
            return
        for k in range(self.lanes):
            with_value = self.w.element(Vector(text, memory.dtype), k)
            at = self.w.element(place, k)

            def put(at: str = at, k: int = k, with_value: str = with_value) -> None:
                self.w.line(f"store {llvm_type(memory.dtype)} {with_value}, ptr {self._own(memory, at, k)}")

            self.flow.if_lane(k, put)

    def _private(self, memory: Memory, place: Scalar) -> str:
        return self._element(self.w.type(memory.dtype, True), memory, place)

    def _own(self, memory: Memory, at: str, lane: int) -> str:
        """The address of one lane's element of its own memory."""
        wide = self.w.value(f"sext i32 {at} to i64")
        row = self.w.value(f"getelementptr {self.w.type(memory.dtype, True)}, ptr {self._pointers[memory]}, i64 {wide}")
        return self.w.value(f"getelementptr {llvm_type(memory.dtype)}, ptr {row}, i64 {lane}")


def _only_lane(mask: str) -> int | None:
    """The lane of a mask that is known and has but one."""
    lanes = mask.strip("<>").split(", ")
    return lanes.index("i1 true") if mask.startswith("<i1") and lanes.count("i1 true") == 1 else None
