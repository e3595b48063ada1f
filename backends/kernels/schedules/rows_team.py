"""Threads that work on a row together, and how their partial results become one that all of them know."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from backends.kernels import index as ix
from backends.kernels.ir import BOOL, I32, Builder, Memory, Value
from backends.kernels.schedules.reduce_accumulate import Accumulator, State, exchanged, from_exchange, to_exchange
from backends.kernels.target import Target

# a thread reads as many partial results of others itself; more are merged in two steps
READS = 16


class Scratch:
    """Memory of a workgroup, used again and again."""

    def __init__(self, b: Builder, target: Target):
        self.b, self.bytes = b, target.workgroup_bytes
        self._free: dict[tuple[str, int], list[Memory]] = {}
        self._kept: list[Memory] = []
        self._recent: list[Memory] = []  # what others may still read
        self._in_loop = False

    def begin(self) -> None:
        """Starts over, for workgroups that do something else."""
        self.release(self._kept)
        self._kept, self._recent, self._in_loop = [], [], False

    def enter_loop(self) -> None:
        """Says that the next exchange also comes after the last one of the loop that is being written."""
        self._in_loop = True

    def keep(self, dtype: str, size: int) -> Memory:
        """Memory that is not used for anything else."""
        memory = self._take(dtype, size, self._recent)
        self._kept.append(memory)
        return memory

    def exchange(self, wanted: Sequence[tuple[str, int]]) -> list[Memory]:
        """Memories for one exchange between threads, of these types and sizes. Call `release` with them after the reads.

        Neighbouring exchanges use different memories, if there are enough: else a barrier stands between them.
        """
        before = self._recent
        missing = sum(4 * size for dtype, size in wanted)
        if self._in_loop or (before and missing > self._left()):
            self.b.barrier()
            before, self._in_loop = [], False
        taken = [self._take(*key, before) for key in wanted]
        self._recent = list(taken)
        return taken

    def release(self, memories: Sequence[Memory]) -> None:
        for m in memories:
            self._free[m.dtype, m.size].append(m)

    def capacity(self, per_item: int) -> int:
        """How many memories of so many bytes one exchange may have."""
        free = sum(m.size * 4 for memories in self._free.values() for m in memories)
        return (self._left() + free) // per_item

    def _left(self) -> int:
        return self.bytes - sum(m.size * 4 for m in self.b.shared)

    def _take(self, dtype: str, size: int, but: Sequence[Memory]) -> Memory:
        free = self._free.setdefault((dtype, size), [])
        for memory in free:
            if all(memory is not other for other in but):
                free.remove(memory)
                return memory
        return self.b.workgroup_memory(dtype, size)


class Team:
    """The threads of a workgroup in slots of `lanes` threads, each slot with a row (or a few) of its own.

    Attributes:
        threads: of the workgroup, at least slots * lanes. Any left over repeat what others do.
        adjacent: whether the threads of a slot are neighbours. Else those of a lane are: neighbouring slots have
            neighbouring rows, and read neighbouring elements.
        slot, lane: numbers of this thread's.
    """

    def __init__(
        self, b: Builder, target: Target, scratch: Scratch, threads: int, lanes: int, slots: int, adjacent: bool
    ):
        self.b, self.target, self.scratch = b, target, scratch
        self.threads, self.lanes, self.slots, self.adjacent = threads, lanes, slots, adjacent
        thread = ix.axis("thread", threads)
        b.set_axis(thread, b.builtin("thread"))
        inner = lanes if adjacent else slots
        low, high = thread.digit(1, inner), thread.digit(inner, None)
        self.lane, self.slot = (low, high) if adjacent else (high, low)
        if not adjacent and (threads - 1) // inner >= lanes:  # threads that are left over
            last = b.op("min", b.index(high), b.constant(lanes - 1, I32))
            self.lane = ix.computed(last, 0, lanes - 1)
        self._thread = thread
        # neighbours that certainly run in step
        smallest = target.subgroup[0] if adjacent else 1
        self.width = min(lanes, smallest, threads) if smallest > 1 else 1

    def is_first(self) -> Value | None:
        """Whether this thread is the one of its slot that writes results; None if it is alone."""
        if self.lanes == 1:
            return None
        return self.b.op("eq", self.b.index(self.lane), self.b.constant(0, I32), dtype=BOOL)

    def combine(self, accumulators: Sequence[Accumulator], states: Sequence[State]) -> list[State]:
        """Merges the partial results of a slot's threads. All threads of the workgroup have to arrive."""
        found = [self._in_step(a, s) for a, s in zip(accumulators, states, strict=True)]
        if self.lanes == self.width:
            return found
        result: list[State] = []
        size = self._exchange_size()
        for batch in self._batches(accumulators, 4 * size):
            result += self._exchange([accumulators[k] for k in batch], [found[k] for k in batch], size)
        return result

    def _in_step(self, a: Accumulator, state: State) -> State:
        """Merges the partial results of neighbours that run in step."""
        b = self.b
        step = 1
        while step < self.width:
            b.features.add("subgroups")
            mask = b.constant(step, "u32")
            sent = [to_exchange(b, x) for x in state]
            got = [b.op("subgroup_shuffle_xor", x, mask) for x in sent]
            other = tuple(from_exchange(b, x, r) for x, r in zip(got, a.registers, strict=True))
            state = a.merge(state, other)
            step *= 2
        return state

    # ------------------------------------------------------------------ through memory
    def _exchange_size(self) -> int:
        """Elements of memory that an exchange takes for each number."""
        partials = self.threads // self.width
        remaining = self.lanes // self.width
        return partials + (self._second_step(remaining) * self.slots if remaining > READS else 0)

    @staticmethod
    def _second_step(remaining: int) -> int:
        return -(-remaining // READS)

    def _batches(self, accumulators: Sequence[Accumulator], per_item: int) -> list[list[int]]:
        """Reductions whose exchanges fit into memory together."""
        room = self.scratch.capacity(per_item)
        batches: list[list[int]] = []
        taken = 0
        for k, a in enumerate(accumulators):
            need = len(a.registers)
            if batches and taken + need <= room:
                batches[-1].append(k)
                taken += need
            else:
                batches.append([k])
                taken = need
        return batches

    def _exchange(self, accumulators: Sequence[Accumulator], states: Sequence[State], size: int) -> list[State]:
        b = self.b
        registers = [r for a in accumulators for r in a.registers]
        memories = self.scratch.exchange([(exchanged(r), size) for r in registers])
        thread = b.builtin("thread")
        writes = None
        at = thread
        if self.width > 1:
            number = self._thread
            writes = b.op("eq", b.index(number.digit(1, self.width)), b.constant(0, I32), dtype=BOOL)
            at = b.index(number.digit(self.width, None))
        values = [x for s in states for x in s]
        with b.when(writes):
            for memory, x in zip(memories, values, strict=True):
                b.store(memory, at, to_exchange(b, x))
        b.barrier()
        remaining = self.lanes // self.width
        slot = b.index(self.slot)
        # the partial results of a slot are at start + stride * k
        stride = 1 if self.adjacent else self.slots
        start = b.op("mul", slot, b.constant(remaining, I32)) if self.adjacent else slot
        if remaining > READS:
            start, remaining = self._merge_some(accumulators, memories, stride, remaining)
            stride = 1 if self.adjacent else self.slots
        merged = self._read(accumulators, memories, start, stride, remaining)
        self.scratch.release(memories)
        return merged

    def _merge_some(
        self, accumulators: Sequence[Accumulator], memories: Sequence[Memory], stride: int, remaining: int
    ) -> tuple[Value, int]:
        """Some threads merge up to READS partial results each; what they find stands behind those."""
        b = self.b
        groups = self._second_step(remaining)
        behind = self.threads // self.width
        busy = groups * self.slots
        number = ix.axis("merging", busy)
        # threads with nothing to do stay within bounds
        b.set_axis(number, b.op("min", b.builtin("thread"), b.constant(busy - 1, I32)))
        if self.adjacent:
            slot, group = number.digit(groups, None), number.digit(1, groups)
            start = slot * remaining + group * READS
        else:
            slot, group = number.digit(1, self.slots), number.digit(self.slots, None)
            start = slot + group * (READS * self.slots)
        count: int | Value = READS
        if remaining % READS:
            left = b.op("sub", b.constant(remaining, I32), b.index(group * READS))
            count = b.op("min", left, b.constant(READS, I32))
        merged = self._read(accumulators, memories, b.index(start), stride, count)
        with b.when(b.op("lt", b.builtin("thread"), b.constant(busy, I32), dtype=BOOL)):
            values = iter(x for s in merged for x in s)
            for memory in memories:
                b.store(memory, b.index(number + behind), to_exchange(b, next(values)))
        b.barrier()
        mine = self.slot * groups + behind if self.adjacent else self.slot + behind
        return b.index(mine), groups

    def _read(
        self,
        accumulators: Sequence[Accumulator],
        memories: Sequence[Memory],
        start: Value,
        stride: int,
        count: int | Value,
    ) -> list[State]:
        """Merges so many partial results in memory."""
        b = self.b

        def load(place: Value) -> list[State]:
            rest = iter(memories)
            return [tuple(from_exchange(b, b.load(next(rest), place), r) for r in a.registers) for a in accumulators]

        if isinstance(count, int):
            rows = [load(b.op("add", start, b.constant(k * stride, I32)) if k else start) for k in range(count)]
            return [a.merge_all([row[n] for row in rows]) for n, a in enumerate(accumulators)]
        step = ix.axis("partial", READS)

        def body(states: Sequence[State]) -> list[State]:
            place = b.op("add", start, b.op("mul", b.index(step), b.constant(stride, I32)))
            return [a.merge(s, other) for a, s, other in zip(accumulators, states, load(place), strict=True)]

        return accumulate_states(b, accumulators, step, body, stop=count)


def accumulate_states(
    b: Builder,
    accumulators: Sequence[Accumulator],
    axis: ix.Index,
    body: Callable[[Sequence[State]], Sequence[State]],
    start: Value | int = 0,
    stop: Value | int | None = None,
    step: Value | int = 1,
) -> list[State]:
    """Partial results that go through a loop: the body gets those so far and returns the next ones."""
    variables = [[b.variable(x) for x in a.start()] for a in accumulators]
    with b.loop(axis, start=start, stop=stop, step=step):
        now = [tuple(b.read(v) for v in states) for states in variables]
        following = body(now)
        for states, values in zip(variables, following, strict=True):
            for v, x in zip(states, values, strict=True):
                b.assign(v, x)
    return [tuple(b.read(v) for v in states) for states in variables]
