"""An executable: what `jit` calls, and what people ask about."""

from __future__ import annotations

import ctypes
import itertools
import logging
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from asgfn.background import in_background, is_awaited
from asgfn.errors import BackendError
from asgfn.graph.asg import Asg
from asgfn.graph.types import ArrayType
from asgfn.tracing import ConcreteArray, concretes
from backends.cpu import native
from backends.cpu.arguments import plain, table_of
from backends.cpu.lists import Lists
from backends.cpu.memory import ALIGNMENT, Block, Pool, address_of
from backends.cpu.native import Runner
from backends.cpu.running import Run
from backends.cpu.target import compiled, function_name, host_target
from backends.cpu.tiers import quick_at_first
from backends.llvm.building import Building, Ended
from backends.llvm.engine import Engine
from backends.llvm.library import called_by
from backends.programs.donation import NOBODY_ELSE, delete, most_references
from backends.programs.steps import (
    CONSTANT,
    OUTPUT,
    TEMPORARY,
    Branch,
    Commands,
    Download,
    Loop,
    Storage,
    Upload,
    While,
    untold,
    walk,
)  # fmt: skip

if TYPE_CHECKING:
    from backends.programs.inspection import KernelRecord, Profile

_log = logging.getLogger("asgfn")
_warned: set[tuple[str, str]] = set()
_ARRAYS = frozenset({np.ndarray})


class _Workspace(NamedTuple):
    """What a call of a program needs for itself.

    Attributes:
        words: the addresses of all storages that have them before a call.
        address: of these.
        block: memory for temporaries.
    """

    words: ctypes.Array
    address: int
    block: Block


class Program:
    """An executable; see `asgfn.backend.Executable`.

    Attributes:
        finished: what it does.
        addresses: of its functions, by name; others once they are compiled well.
        numbers: of its storages, among the addresses that native code is run with.
        rows: numbers of arrays that are a row of a storage, in loops that the host runs.
    """

    def __init__(self, engine: Engine, runner: Runner, pool: Pool, asg: Asg, donated: Sequence[bool], debug: bool):
        self.asg, self.donated, self.engine, self.runner, self.pool = asg, donated, engine, runner, pool
        with Building() as building:
            self.finished = finished = compiled(asg, donated, debug, building)
            texts = {function_name(d.text): d.text for d in finished.kernels if d.kernel is not None}
            self._functions = texts | called_by(texts.values())
            quick = quick_at_first(finished.steps)
            self._arrange()  # meanwhile other threads compile
            addresses = engine.compile(self._functions, building=building, quick=quick)
            native.load()
        self._link(addresses)
        # counts the calls of a program that has kernels which were compiled quickly, until they are compiled well
        self._calls = itertools.count() if self.is_improvable else None
        self._workspaces: list[_Workspace] = []  # that no call uses
        self._shared = None if finished.temporaries else self._new_workspace()
        for step, place in untold(finished.steps, _warned):
            _log.info("cpu: %s%s is computed by NumPy, because %s", step.name, place, step.why)

    def _arrange(self) -> None:
        """Finds out what of a call has nothing to do with code."""
        finished = self.finished
        self.numbers = {s: k for k, s in enumerate(self._storages())}
        self._constants = {k: np.ascontiguousarray(c) for k, c in finished.constants.items()}
        self._read = [k for k, s in enumerate(finished.inputs) if isinstance(s, Storage) and s.root in self.numbers]
        self._unread = sorted({*range(len(finished.inputs))}.difference(self._read))
        self._has_scalars = any(not finished.in_types[k].ndim for k in finished.overwritten)
        self._new = self._new_arrays()
        self._wanted = [(t.shape, t.dtype, nbytes) for _, t, nbytes in self._new]
        self._table = table_of(
            [(self.numbers[finished.inputs[k].root], finished.in_types[k].dtype) for k in self._read]  # type: ignore[union-attr]
            + [(number, t.dtype) for number, t, _ in self._new]
        )
        self._results = self._where_results_are()
        # which is the rule: each result is an array that is new, in this order
        new = [*range(len(self._read), len(self._read) + len(self._new))]
        self._are_new = [k for k, constant, t in self._results if constant is None and t is None] == new
        self._are_new &= len(new) == len(self._results)

    def _link(self, addresses: dict[str, int]) -> None:
        """Has native code call these functions from now on."""
        finished = self.finished
        lists = Lists(self.numbers, addresses, self.runner.threads)
        encoded = [(s, lists.of(s.steps)) for s in walk(finished.steps) if isinstance(s, Commands)]
        count = len(self.numbers) + len(lists.rows)
        programs = {id(s): self.runner.program(c, count, lists.scratch, self._table) for s, c in encoded}
        self.addresses, self.rows, self._words = addresses, lists.rows, ctypes.c_int64 * count
        self._native = programs
        is_simple = len(finished.steps) == 1 and len(encoded) == 1 and not finished.slots
        self._whole = programs[id(encoded[0][0])] if is_simple else None

    @property
    def is_improvable(self) -> bool:
        """Whether there are kernels that were compiled quickly rather than well."""
        return not self.engine.quick.isdisjoint(self.addresses.values())

    def improve(self) -> None:
        """Compiles well what was compiled quickly. Calls that other threads make meanwhile run as before."""
        if not self.is_improvable:
            return
        try:
            with Building(0, is_awaited) as building:
                self._link(self.engine.compile(self._functions, building=building))
        except Ended:  # somebody waits
            self._calls = itertools.count()
        except BackendError as error:
            _log.warning("cpu: %s runs on with code that LLVM has not optimised: %s", self.asg.name, error)

    def _count(self, calls: Iterator[int]) -> None:
        """A program that is called again is worth good code: it may be called often."""
        if next(calls) == 1:
            self._calls = None
            if not in_background("asgfn-improves", self.improve):  # the system has no thread for it now
                self._calls = itertools.count()

    def _storages(self) -> list[Storage]:
        """All memories, each once."""
        found = [s.root for d in self.finished.kernels for s in d.storages]
        for step in walk(self.finished.steps):
            if isinstance(step, (Upload, Download)):
                found.append(step.storage.root)
            elif isinstance(step, (Loop, While)):
                found += [s.root for pair in step.swaps for s in pair]
            if isinstance(step, (Branch, While)) and step.where is not None:
                found.append(step.where.root)
        found += [s.root for s in self.finished.outputs if isinstance(s, Storage)]
        return list(dict.fromkeys(found))

    def _new_arrays(self) -> list[tuple[int, Any, int]]:
        """What is new in each call: the number of the storage, the type of the array, its bytes."""
        types = {
            s.root: t
            for s, t in zip(self.finished.outputs, self.finished.out_types, strict=True)
            if isinstance(s, Storage) and s.root.kind == OUTPUT
        }
        return [(self.numbers[s], types[s], s.nbytes) for s in self.finished.new]

    def native(self, step: Commands) -> native.Program:
        """Commands as the native runner has them."""
        return self._native[id(step)]

    # ------------------------------------------------------------------ running
    def _new_workspace(self) -> _Workspace:
        """Memory for temporaries, and the addresses that are known with it."""
        words = self._words()
        starts, total = [], 0
        for nbytes in self.finished.temporaries:
            starts.append(total)
            total += -(-nbytes // ALIGNMENT) * ALIGNMENT
        block = Block(total)
        for storage, number in self.numbers.items():
            if storage.kind == CONSTANT:
                words[number] = address_of(self._constants[storage.number])
            elif storage.kind == TEMPORARY:
                words[number] = block.address + starts[storage.number]
        return _Workspace(words, ctypes.addressof(words), block)

    def _where_results_are(self) -> list[tuple[int, np.ndarray | None, ArrayType | None]]:
        """For each result the number of the array that has it, among those of a call, or that of its slot if these are
        host arrays, below 0; or the array, a constant; and its type where that array has another one."""
        finished, found = self.finished, []
        place = {finished.inputs[k].root: (i, finished.in_types[k]) for i, k in enumerate(self._read)}  # type: ignore[union-attr]
        numbers = {number: s for s, number in self.numbers.items()}
        for i, (number, t, _) in enumerate(self._new, len(self._read)):
            place[numbers[number]] = i, t
        for where, t in zip(finished.outputs, finished.out_types, strict=True):
            constant, has = None, t
            if isinstance(where, int):
                k = -1 - where
            elif where.root.kind == CONSTANT:
                k, constant = 0, self._constants[where.root.number]
                has = constant  # type: ignore[assignment]
            else:
                k, has = place[where.root]
            found.append((k, constant, None if has.shape == t.shape and has.dtype == t.dtype else t))
        return found

    def __call__(self, buffers: Sequence[Any]) -> list[np.ndarray]:
        """Results for arguments. Donated ones may be overwritten."""
        return self.call(list(buffers))

    def run(self, arrays: Sequence[ConcreteArray], out_types: Sequence[ArrayType]) -> list[ConcreteArray]:
        """Results for arrays. Donated ones are deleted."""
        buffers = [x.buffer for x in arrays]
        overwritten = self.finished.overwritten
        # all at once first, since it is rare that somebody else sees one
        if overwritten and (most_references(buffers, overwritten) > NOBODY_ELSE or self._has_scalars):
            for k in overwritten:
                if most_references(buffers, (k,)) > NOBODY_ELSE or not arrays[k].aval.ndim:
                    buffers[k] = plain(arrays[k].value, arrays[k].aval)
        outs = self.call(buffers, arrays)
        delete(arrays, self.donated)
        return concretes(outs, out_types)

    def call(
        self, buffers: list[Any], arrays: Sequence[ConcreteArray] = (), runs: type[Run] | None = None
    ) -> list[np.ndarray]:
        """Results for arguments.

        Arguments:
            buffers: the arguments.
            arrays: those that have them, if they shall keep what is copied because kernels can't read it where it is.
            runs: what runs the program, if that shall not be native code as far as that is possible.
        """
        calls = self._calls
        if calls is not None:
            self._count(calls)
        # native code does not look at what kernels do not look at
        if self._unread and not _ARRAYS.issuperset(map(type, buffers)):
            for k in self._unread:
                buffers[k] = arrays[k].value if arrays else np.asarray(buffers[k])
        for k in self.finished.overwritten:
            if buffers[k].__class__ is not np.ndarray or not self._is_ours(buffers[k]):
                buffers[k] = plain(arrays[k].value if arrays else buffers[k], self.finished.in_types[k])
        whole = self._whole
        found = (*[buffers[k] for k in self._read], *self.pool.arrays(self._wanted))
        workspace = self._shared or self._take_workspace()
        env: Sequence[Any] = ()
        try:
            if whole is not None and runs is None:
                while wrong := whole.call(workspace.address, found):
                    found = self._with_plain(found, wrong - 1, arrays)
            else:
                words = self._words.from_buffer_copy(workspace.words)
                while wrong := native.gather(self._table, found, words):
                    found = self._with_plain(found, wrong - 1, arrays)
                run = (runs or Run)(self, words, buffers)
                run.execute(self.finished.steps)
                env = run.env
        finally:
            if workspace is not self._shared:
                self._workspaces.append(workspace)
        return self._results_of(found, env)

    def _take_workspace(self) -> _Workspace:
        try:
            return self._workspaces.pop()
        except IndexError:
            return self._new_workspace()

    def _with_plain(
        self, found: tuple[np.ndarray, ...], place: int, arrays: Sequence[ConcreteArray]
    ) -> tuple[np.ndarray, ...]:
        """The arrays of a call with an argument in the layout that kernels read."""
        k = self._read[place]
        copy = plain(arrays[k].value if arrays else found[place], self.finished.in_types[k])
        if arrays and arrays[k].home is None and k not in self.finished.overwritten:
            arrays[k].buffer = copy  # or each call would copy it
        return (*found[:place], copy, *found[place + 1 :])

    def _is_ours(self, array: np.ndarray) -> bool:
        """Whether the memory of an argument that was given away may be written to: the array has memory of its own, or a
        block that no other array sees. A view's belongs to somebody else, and may be a file's that is only read."""
        return array.base is None or self.pool.is_only_view(array)

    def _results_of(self, arrays: Sequence[np.ndarray], env: Sequence[Any]) -> list[np.ndarray]:
        if self._are_new:
            return [*arrays[len(self._read) :]]
        found = []
        for (k, constant, t), out in zip(self._results, self.finished.out_types, strict=True):
            if k < 0:
                found.append(np.asarray(env[-1 - k], out.dtype).reshape(out.shape))
                continue
            array = arrays[k] if constant is None else constant
            found.append(array if t is None else array.reshape(-1).view(t.dtype).reshape(t.shape))
        return found

    # ------------------------------------------------------------------ what people can ask
    def as_text(self) -> str:
        """The kernels in order, as LLVM IR."""
        kernels = [d for d in self.finished.kernels if d.kernel is not None]
        lines = [f"{self.asg.name}: {len(kernels)} kernels"]
        for d in kernels:
            lines += [f"; {d.kind}: {d.name}, {d.grid[0] * d.grid[1] * d.grid[2]} groups", d.text]
        return "\n".join(lines)

    # inspection is imported by who inspects
    @property
    def memory(self) -> dict[str, int]:
        """Bytes by use."""
        from backends.programs.inspection import memory_of

        return memory_of(self.finished, host_target())

    @property
    def kernels(self) -> list[KernelRecord]:
        """The kernels in order."""
        from backends.programs.inspection import kernel_records

        return kernel_records(self.finished)

    @property
    def host_nodes(self) -> list[str]:
        """Operations that NumPy computes, with the reason."""
        from backends.programs.inspection import host_nodes

        return host_nodes(self.finished)

    def profile(self, arrays: Sequence[ConcreteArray], repeats: int = 10) -> Profile:
        """How long each kernel takes. See `asgfn.jit.Compiled.profile`."""
        from backends.cpu.profiling import profile

        self.improve()
        return profile(self, lambda: [x.value for x in arrays], repeats)
