"""Contractions without tiles: a few results a thread, or a few threads a result."""

from __future__ import annotations

import math

from backends.kernels import index as ix
from backends.kernels.index import Index
from backends.kernels.ir import BOOL, I32, Value, Variable
from backends.kernels.lowering import Stage
from backends.kernels.schedules.contraction_problem import Side
from backends.kernels.schedules.contraction_region import Region, RegionKernel, group_number, written_twice
from backends.kernels.schedules.matmul import bounded, clamped
from backends.kernels.schedules.tiles import WIDE, Direct, Skinny
from backends.kernels.target import Target

THREADS = 256
# so many steps of the contracted axis are written out: their loads are shared between neighbouring results
WRITTEN_OUT = 32

Element = tuple[Index, Index, Index]


def flops(region: Region) -> float:
    p = region.product
    return 2.0 * p.b * p.m * p.n * p.k


class _Numbered:
    """Elements of the result in the order of their threads, `lanes` neighbours for each."""

    def __init__(self, kernel: RegionKernel, lanes: int, threads: int):
        region, b = kernel.region, kernel.b
        p = region.product
        self.innermost = p.b if region.batch_is_innermost else p.n
        lanes = self.lanes = lanes if self.innermost % lanes == 0 else 1
        count = p.b * p.m * p.n // lanes
        group, inside, self.grid = group_number(kernel, -(-count // threads))
        number = b.op("add", b.op("mul", b.index(group), b.constant(threads, I32)), b.builtin("thread"))
        if count % threads:
            inside = b.op("lt", number, b.constant(count, I32), dtype=BOOL)
        self.inside = inside
        flat = ix.axis("flat", count)
        b.set_axis(flat, number)
        width = self.innermost // lanes
        inner = [flat.digit(1, width) * lanes + lane for lane in range(lanes)]
        if region.batch_is_innermost:
            column, row = flat.digit(width, p.n), flat.digit(width * p.n)
            self.elements: list[Element] = [(i, row, column) for i in inner]
        else:
            row, batch = flat.digit(width, p.m), flat.digit(width * p.m)
            self.elements = [(batch, row, i) for i in inner]


# ---------------------------------------------------------------------------------------------- a loop for each result
def direct(region: Region, schedule: Direct, target: Target, name: str) -> Stage:
    """The kernel of a direct schedule."""

    def write(previous: RegionKernel | None) -> tuple[RegionKernel, Stage]:
        kernel = RegionKernel(region, target, 1, previous)
        b, p = kernel.b, region.product
        threads = min(THREADS, target.workgroup_threads)
        where = _Numbered(kernel, schedule.columns, threads)
        with b.when(where.inside):
            inner = 1
            outer = list(p.depth)
            while outer and inner * outer[-1] <= WRITTEN_OUT:
                inner *= outer.pop()
            totals = [b.variable(kernel.work.zero) for _ in where.elements]
            loop = ix.axis("k", math.prod(outer))
            with b.loop(loop):
                for k in range(inner):
                    for (batch, row, column), total in zip(where.elements, totals, strict=True):
                        at = loop * inner + k
                        left = p.read(kernel.e, p.rows, batch, row, at)
                        right = p.read(kernel.e, p.columns, batch, column, at)
                        b.assign(total, kernel.work.add_product(left, right, b.read(total)))
            kernel.finish(where.elements, [b.read(total) for total in totals])
        return kernel, kernel.stage(name, threads, where.grid, flops(region))

    return written_twice(write)


def sum_parts(region: Region, split: int, target: Target, name: str) -> Stage:
    """Sums the partial sums of a split contraction, always in the same order, and does what follows."""

    def write(previous: RegionKernel | None) -> tuple[RegionKernel, Stage]:
        kernel = RegionKernel(region, target, split, previous)
        b, p = kernel.b, region.product
        threads = min(THREADS, target.workgroup_threads)
        lanes = WIDE if p.b * p.m * p.n >= WIDE * threads and not region.batch_is_innermost else 1
        where = _Numbered(kernel, lanes, threads)
        with b.when(where.inside):
            totals = [b.variable(kernel.work.zero) for _ in where.elements]
            part = ix.axis("part", split)
            with b.loop(part):
                for element, total in zip(where.elements, totals, strict=True):
                    found = kernel.read_partial(kernel.partial_place(part, *element))
                    b.assign(total, kernel.work.add(b.read(total), found))
            kernel.finish(where.elements, [b.read(total) for total in totals])
        return kernel, kernel.stage(name, threads, where.grid, float(split * p.b * p.m * p.n))

    return written_twice(write)


# ---------------------------------------------------------------------------------------------- threads share a sum
def skinny(region: Region, schedule: Skinny, target: Target, name: str) -> Stage:
    """The kernel of a skinny schedule. With `split` > 1 it leaves partial sums in temporary memory 0."""

    def write(previous: RegionKernel | None) -> tuple[RegionKernel, Stage]:
        kernel = _SkinnyKernel(region, schedule, target, previous)
        return kernel.kernel, kernel.kernel.stage(name, schedule.threads, kernel.grid, flops(region))

    return written_twice(write)


class _SkinnyKernel:
    def __init__(self, region: Region, schedule: Skinny, target: Target, previous: RegionKernel | None):
        self.kernel = kernel = RegionKernel(region, target, schedule.split, previous)
        self.schedule, self.target = schedule, target
        b, p, s = kernel.b, region.product, schedule
        self.b, self.product = b, p
        self.columns_are_long = p.n >= p.m
        self.short, self.long = (p.rows, p.columns) if self.columns_are_long else (p.columns, p.rows)
        short_tiles, long_tiles = -(-self.short.size // s.short), -(-self.long.size // (s.across * s.long))
        group, inside, self.grid = group_number(kernel, short_tiles * long_tiles * p.b * s.split)
        with b.when(inside):
            thread = ix.axis("thread", s.threads)
            b.set_axis(thread, b.builtin("thread"))
            if s.step > 1:  # neighbours in depth are read by neighbouring threads
                self.along, self.across = thread.digit(1, s.along), thread.digit(s.along)
            else:
                self.across, self.along = thread.digit(1, s.across), thread.digit(s.across)
            self.batch = group.digit(short_tiles * long_tiles, p.b)
            self.part = group.digit(short_tiles * long_tiles * p.b)
            self.first_short = group.digit(long_tiles, short_tiles) * s.short
            self.first_long = (group.digit(1, long_tiles) * s.across + self.across) * s.long
            totals = self._sum()
            self._combine(totals)

    def _sum(self) -> list[Variable]:
        """For each pair (short, long) of this thread the sum over its part of the contracted axis."""
        b, p, s, kernel = self.b, self.product, self.schedule, self.kernel
        short = self._lanes(self.short, self.first_short, s.short, s.short)
        long = self._lanes(self.long, self.first_long, s.long, s.long * s.across)
        totals = [b.variable(kernel.work.zero) for _ in range(s.short * s.long)]
        steps = -(-p.k // (s.along * s.step * s.split))
        loop = ix.axis("step", steps)
        whole = steps * s.along * s.step * s.split
        with b.loop(loop):
            start = (self.part * steps + loop) * s.along + self.along
            mask = None
            if whole != p.k:
                assert p.k % s.step == 0
                value = b.index(start)
                mask = b.op("lt", value, b.constant(p.k // s.step, I32), dtype=BOOL)
                start = ix.axis("deep", p.k // s.step)
                b.set_axis(start, value)
            for k in range(s.step):
                at = start * s.step + k
                left = [p.read(kernel.e, self.short, self.batch, i, at, mask) for i in short]
                right = [p.read(kernel.e, self.long, self.batch, j, at, mask) for j in long]
                for n, total in enumerate(totals):
                    b.assign(total, kernel.work.add_product(left[n // s.long], right[n % s.long], b.read(total)))
        return totals

    def _lanes(self, side: Side, first: Index, count: int, extent: int) -> list[Index]:
        if side.size % extent == 0:
            return [first + k for k in range(count)]
        if count % WIDE == 0 and side.size % WIDE == 0:
            groups = [clamped(self.b, (first + k).over(WIDE), side.size // WIDE) for k in range(0, count, WIDE)]
            return [group * WIDE + k for group in groups for k in range(WIDE)]
        return [clamped(self.b, first + k, side.size) for k in range(count)]

    def _combine(self, totals: list[Variable]) -> None:
        """Adds up what the threads of a sum found, and does what follows."""
        b, s, kernel = self.b, self.schedule, self.kernel
        if s.along == 1:
            self._finish([b.read(total) for total in totals])
            return
        chunk = max(1, min(len(totals), self.target.workgroup_bytes // (4 * s.threads)))
        memory = b.workgroup_memory(kernel.work.register, chunk * s.threads)
        first_of_all = b.op("eq", b.index(self.along), b.constant(0, I32), dtype=BOOL)
        sums = [b.variable(kernel.work.zero) for _ in totals]
        for start in range(0, len(totals), chunk):
            some = range(start, min(start + chunk, len(totals)))
            places = [((n - start) * s.along + self.along) * s.across + self.across for n in some]
            for n, place in zip(some, places, strict=True):
                b.store(memory, b.index(place), b.read(totals[n]))
            b.barrier()
            half = s.along // 2
            while half:
                with b.when(b.op("lt", b.index(self.along), b.constant(half, I32), dtype=BOOL)):
                    for place in places:
                        here, there = b.index(place), b.index(place + half * s.across)
                        b.store(memory, here, kernel.work.add(b.load(memory, here), b.load(memory, there)))
                b.barrier()
                half //= 2
            with b.when(first_of_all):
                for n, place in zip(some, places, strict=True):
                    b.assign(sums[n], b.load(memory, b.index(place)))
            if start + chunk < len(totals):
                b.barrier()
        with b.when(first_of_all):
            self._finish([b.read(total) for total in sums])

    def _finish(self, totals: list[Value]) -> None:
        b, s = self.b, self.schedule
        for i in range(s.short):
            short, inside = bounded(b, self.first_short + i, self.short.size, s.short)
            with b.when(inside):
                line = totals[i * s.long : (i + 1) * s.long]
                extent = s.long * s.across
                if s.long == WIDE and self.long.size % WIDE == 0 and self.columns_are_long:
                    group, inside = bounded(b, self.first_long.over(WIDE), self.long.size // WIDE, extent // WIDE)
                    with b.when(inside):
                        self._store(short, [group * WIDE + k for k in range(WIDE)], line)
                    continue
                for j, total in enumerate(line):
                    long, inside = bounded(b, self.first_long + j, self.long.size, extent)
                    with b.when(inside):
                        self._store(short, [long], [total])

    def _store(self, short: Index, long: list[Index], totals: list[Value]) -> None:
        kernel = self.kernel
        elements = [(self.batch, short, j) if self.columns_are_long else (self.batch, j, short) for j in long]
        if kernel.temporary is None:
            kernel.finish(elements, totals)
        else:
            kernel.store(kernel.temporary, [kernel.partial_place(self.part, *at) for at in elements], totals)
