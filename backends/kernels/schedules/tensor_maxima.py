"""The largest magnitudes of a contraction's operands, from which tensor cores get their scales."""

from __future__ import annotations

from backends.kernels import index as ix
from backends.kernels.index import Index
from backends.kernels.ir import BOOL, I32, U32, Builder, Memory, Value
from backends.kernels.lowering import Argument, Stage
from backends.kernels.schedules.contraction_problem import FLOAT32
from backends.kernels.schedules.contraction_region import Region, RegionKernel, written_twice
from backends.kernels.schedules.tiles import WIDE
from backends.kernels.target import Target
from backends.kernels.types import magnitude_bits

# elements that a thread reads at a time, and workgroups of an operand: enough to keep memory busy
TOGETHER = 4 * WIDE
MOST = 512


def groups_of(region: Region, target: Target) -> tuple[int, int]:
    """How many workgroups look at each operand: so many numbers they leave."""
    p = region.product
    sizes = [region.value_types[side.value].size for side in (p.rows, p.columns)]
    rows, columns = (min(MOST, -(-size // (_threads(target) * TOGETHER))) for size in sizes)
    return rows, columns


def maxima(region: Region, target: Target, temporary: int, name: str) -> Stage:
    """A kernel that leaves in a temporary memory the largest bits of magnitudes: of the rows' operand, then the columns'."""
    counts = groups_of(region, target)
    threads = _threads(target)
    p = region.product

    def write(previous: RegionKernel | None) -> tuple[RegionKernel, Stage]:
        kernel = RegionKernel(region, target, 1, previous)
        b = kernel.b
        result = kernel.memory(Argument("temporary", temporary), U32, sum(counts))
        group, thread = b.builtin("group_x"), b.builtin("thread")
        largest = b.variable(b.constant(0, U32))
        first = 0
        for side, count in zip((p.rows, p.columns), counts, strict=True):
            number = b.op("sub", group, b.constant(first, I32)) if first else group
            mine = b.op("ge" if first else "lt", group, b.constant(counts[0], I32), dtype=BOOL)
            with b.when(mine):
                _look(kernel, side.value, number, count, threads, largest)
            first = count
        shared = b.workgroup_memory(U32, threads)
        b.store(shared, thread, b.read(largest))
        b.barrier()
        halve(b, [(shared, 0)], thread, threads)
        with b.when(b.op("eq", thread, b.constant(0, I32), dtype=BOOL)):
            kernel.store(result, [ix.computed(group, 0, sum(counts) - 1)], [b.load(shared, b.constant(0, I32))])
        return kernel, kernel.stage(name, threads, (sum(counts), 1, 1))

    return written_twice(write)


def _threads(target: Target) -> int:
    return 1 << min(target.workgroup_threads, 256).bit_length() - 1


def _look(kernel: RegionKernel, value: int, number: Value, groups: int, threads: int, largest: object) -> None:
    """Goes through the elements of a value, and keeps the largest magnitude."""
    b, e = kernel.b, kernel.e
    t = e.type(value)
    lanes = WIDE if t.size % WIDE == 0 else 1
    count = t.size // lanes
    step = ix.axis("step", -(-count // (groups * threads)))
    thread = ix.axis("thread", threads)
    b.set_axis(thread, b.builtin("thread"))
    group = ix.axis("group", groups)
    b.set_axis(group, number)
    with b.loop(step):
        place = (step * groups + group) * threads + thread
        # those beyond the end look at the last ones again
        at: Index = ix.axis("flat", count)
        b.set_axis(at, b.op("min", b.index(place), b.constant(count - 1, I32)))
        for lane in range(lanes):
            element = e.at(value, ix.coordinates(at * lanes + lane, t.shape))
            bits = magnitude_bits(b, e.types.convert(b, element, t.dtype, FLOAT32))
            b.assign(largest, b.op("max", b.read(largest), bits))  # type: ignore[arg-type]


def largest_of(kernel: RegionKernel, temporary: int, threads: int) -> tuple[Value, Value]:
    """The largest of the numbers that `maxima` left, of either operand. All threads of a workgroup ask for them."""
    b = kernel.b
    counts = groups_of(kernel.region, kernel.target)
    memory = kernel.memory(Argument("temporary", temporary), U32, sum(counts))
    kernel.e.used.add(id(memory))
    thread = b.builtin("thread")
    shared = b.workgroup_memory(U32, 2 * threads)
    first = 0
    for k, count in enumerate(counts):
        largest: Value | None = None
        for start in range(0, count, threads):
            place = b.op("add", thread, b.constant(start, I32)) if start else thread
            place = b.op("min", place, b.constant(count - 1, I32))
            found = b.load(memory, b.op("add", place, b.constant(first, I32)) if first else place)
            largest = found if largest is None else b.op("max", largest, found)
        assert largest is not None
        b.store(shared, b.op("add", thread, b.constant(k * threads, I32)) if k else thread, largest)
        first += count
    b.barrier()
    halve(b, [(shared, 0), (shared, threads)], thread, threads)
    return b.load(shared, b.constant(0, I32)), b.load(shared, b.constant(threads, I32))


def halve(b: Builder, parts: list[tuple[Memory, int]], thread: Value, count: int) -> None:
    """The largest of `count` numbers of shared memory becomes the first of them; for several such lines."""
    while count > 1:
        half = -(-count // 2)
        with b.when(b.op("lt", thread, b.constant(count - half, I32), dtype=BOOL)):
            for memory, start in parts:
                place = b.op("add", thread, b.constant(start, I32)) if start else thread
                other = b.load(memory, b.op("add", place, b.constant(half, I32)))
                b.store(memory, place, b.op("max", b.load(memory, place), other))
        b.barrier()
        count = half
