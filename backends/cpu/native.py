"""Runs programs: lists of commands, gone through by native code in one call, with threads that share the work of kernels.

Workers are Python threads that spend their time in a native function, so no system's threads have to be known here. A worker
that had nothing to do for a while leaves that function and waits for a Python lock, which a program that can use it releases.
One program at a time has the workers; one that another thread runs meanwhile does all of its work by itself.
"""

from __future__ import annotations

import atexit
import ctypes
import os
import platform
import threading
import time
import weakref
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from asgfn.background import in_background
from asgfn.errors import BackendError
from backends.cpu.arguments import table_of
from backends.cpu.commands import Command, encode
from backends.cpu.runtime import SPINS, STOP, WORDS, functions
from backends.llvm.engine import engine
from backends.llvm.host import processors

VARIABLE = "ASGFN_CPU_THREADS"
# Seconds that a worker waits, awake, for the next kernel or program. Waking it by a lock takes about as long.
LINGER = 100e-6
_ALIGNMENT = 128
_JOIN = 1.0  # seconds that an ending process waits for its workers


def thread_count() -> int:
    """How many threads a runner has: what `ASGFN_CPU_THREADS` says, else one for each processor that we may use.

    Raises:
        BackendError: the variable is no positive number.
    """
    text = os.environ.get(VARIABLE, "").strip()
    if not text:
        return processors()
    if not text.isdecimal() or int(text) < 1:
        raise BackendError(f"{VARIABLE}={text!r}: expected a number of threads, 1 or more")
    return int(text)


class Runner:
    """Threads that run programs.

    Arguments:
        threads: how many, that of the caller included; `thread_count()` if not given.
    """

    def __init__(self, threads: int | None = None):
        self.threads = thread_count() if threads is None else threads
        self._scratches: list[_Memory] = []  # of callers without workers, while they do not use them
        self._owner = threading.Lock()  # who holds it has the workers
        self._board_scratch = _Memory(0)
        self._pool: _Pool | None = None
        _runners.add(self)

    def program(
        self, commands: Sequence[Command], storages: int, scratch: int = 0, table: ctypes.Array | None = None
    ) -> Program:
        """Commands, ready to be run.

        Arguments:
            commands: in the order in which they are done; each sees what those before it wrote.
            storages: how many addresses they are run with.
            scratch: bytes of scratch memory that the kernels need, each for every thread.
            table: which of the addresses are those of the arrays that it is called with; see `arguments.table_of`.
        """
        return Program(self, commands, storages, scratch, table)

    def close(self) -> None:
        """Ends the workers; a program that can use them starts others."""
        with self._owner:
            pool, self._pool = self._pool, None
        if pool is not None:
            pool.stop()
            pool.join()

    def run(self, program: Program, addresses: int, arrays: tuple[np.ndarray, ...] | None) -> int:
        """Runs a program, with the workers if they help and nobody else has them. See `Program.call`."""
        run = program.native.run if arrays is None else program.native.call
        if program.parallel and self.threads > 1 and self._owner.acquire(False):
            try:
                pool = self._pool or self._new_pool()
                scratch = self._board_scratch
                if scratch.size < program.scratch * self.threads:
                    scratch = self._board_scratch = _Memory(program.scratch * self.threads)
                pool.begin()
                try:
                    board = pool.board.address
                    return run(program.address, addresses, arrays, board, scratch.address, program.scratch)
                finally:
                    pool.end()
            finally:
                self._owner.release()
        memory = self._take(program.scratch)
        try:
            return run(program.address, addresses, arrays, None, memory.address, 0)
        finally:
            self._scratches.append(memory)

    def _new_pool(self) -> _Pool:
        pool = self._pool = _Pool(self.threads - 1)
        weakref.finalize(self, pool.stop).atexit = False  # all pools are stopped at the end anyway
        return pool

    def _take(self, size: int) -> _Memory:
        """Scratch memory that nobody uses."""
        try:
            memory = self._scratches.pop()
        except IndexError:
            return _Memory(size)
        return memory if memory.size >= size else _Memory(size)

    def _forget(self) -> None:
        """After a fork: the threads are the parent's, and its locks may be held by some of them."""
        self._owner, self._pool, self._scratches = threading.Lock(), None, []


class Program:
    """Commands in the form that native code reads. Several threads may run it at once.

    Attributes:
        native: the functions that run it.
        address: where its description is.
        parallel: whether threads can share the work of one of its kernels.
        scratch: bytes of scratch memory for each thread.
    """

    def __init__(
        self, runner: Runner, commands: Sequence[Command], storages: int, scratch: int, table: ctypes.Array | None
    ):
        encoded = encode(commands)
        self.parallel = encoded.parallel
        self.scratch = -(-scratch // _ALIGNMENT) * _ALIGNMENT
        self._runner = runner
        self._simple = not self.scratch and not (self.parallel and runner.threads > 1)
        self.native = load()
        self._native_call = self.native.call
        self._addresses = ctypes.c_int64 * storages
        words = encoded.words
        self._words = (ctypes.c_int64 * max(1, len(words)))(*words)
        self._table = table
        head = (ctypes.addressof(self._words), len(words), storages, encoded.memories, encoded.depth, _start(table))
        self._head = (ctypes.c_int64 * len(head))(*head)
        self.address = ctypes.addressof(self._head)

    def call(self, addresses: int, arrays: tuple[np.ndarray, ...]) -> int:
        """Runs it with arrays.

        Arguments:
            addresses: where the addresses of the other storages are. These and the arrays must stay valid, and nobody else
                may write there, until this returns.

        Returns:
            0; or, if nothing was done since kernels can't read an array, its number, from 1.
        """
        if self._simple:  # nothing to get ready: the time of a call is Python's
            return self._native_call(self.address, addresses, arrays, None, None, 0)
        return self._runner.run(self, addresses, arrays)

    def run(self, addresses: Sequence[int] | ctypes.Array) -> None:
        """Runs it, given the addresses of all storages, as words of 64 bits or as numbers."""
        words = addresses if isinstance(addresses, ctypes.Array) else self._addresses(*addresses)
        self._runner.run(self, ctypes.addressof(words), None)


def _start(memory: ctypes.Array | None) -> int:
    return 0 if memory is None else ctypes.addressof(memory)


class _Memory:
    """Memory for native code, at a multiple of 128."""

    __slots__ = ("_bytes", "address", "size")

    def __init__(self, size: int):
        self.size = size
        self._bytes = ctypes.create_string_buffer(size + _ALIGNMENT)
        start = ctypes.addressof(self._bytes)
        self.address = start + -start % _ALIGNMENT


class _Pool:
    """Workers, and the board that they look at.

    A worker is in native code, or `_parked`: it waits for its lock, or is about to. Who takes a lock from that list must
    release it. There is no lock around the list, for a caller would wait for it on each call: a worker parks first and then
    looks whether a program has begun, which says so first and then looks who is parked.
    """

    def __init__(self, workers: int):
        self.board = _Memory(8 * WORDS)
        self._words = (ctypes.c_int64 * WORDS).from_address(self.board.address)
        self._words[SPINS] = _spins()
        self._running = False
        self._stopped = False
        self._parked: list[Any] = []
        self._threads = [
            threading.Thread(target=self._work, args=(i,), name=f"asgfn-cpu-{i}", daemon=True)
            for i in range(1, workers + 1)
        ]
        self._started = False
        _pools.add(self)

    def begin(self) -> None:
        """A program starts that has work for several threads."""
        self._running = True
        if self._parked:
            self._wake()
        if not self._started:
            self._start()

    def end(self) -> None:
        """The program has ended. Workers that find nothing to do for a while may park."""
        self._running = False

    def stop(self) -> None:
        """Ends the workers. One that is in a kernel finishes its task."""
        self._stopped = True
        self._words[STOP] = 1
        while self._parked:
            self._wake()

    def join(self) -> None:
        """Waits, not for long, until no worker is in native code."""
        until = time.monotonic() + _JOIN
        for thread in self._threads:
            if thread.ident is not None and thread is not threading.current_thread():
                thread.join(max(0.0, until - time.monotonic()))

    def _start(self) -> None:
        self._started = True
        try:
            for thread in self._threads:
                thread.start()
        except RuntimeError:  # the system has no more threads, or Python is ending: those that are there do the work
            pass

    def _wake(self) -> None:
        """Wakes two workers; they wake others: it takes time, which the caller has not."""
        for _ in range(2):
            try:
                gate = self._parked.pop()
            except IndexError:
                return
            gate.release()

    def _work(self, index: int) -> None:
        work, board = load().work, self.board.address
        gate = threading.Lock()
        gate.acquire()
        while not self._stopped:
            work(board, index)
            self._parked.append(gate)
            if self._running or self._stopped:
                try:
                    self._parked.remove(gate)
                except ValueError:  # somebody has taken it, and releases it
                    gate.acquire()
                continue
            gate.acquire()
            self._wake()


class _Native:
    """The functions of `runtime.py`, to be called from Python."""

    def __init__(self) -> None:
        addresses = engine().compile(*functions(platform.machine()))
        word, pointer = ctypes.c_int64, ctypes.c_void_p
        run, rest, objects = addresses["asgfn_run"], (pointer, pointer, word), ctypes.py_object
        self.run = ctypes.CFUNCTYPE(word, pointer, pointer, pointer, *rest)(run)
        self.call = ctypes.CFUNCTYPE(word, pointer, pointer, objects, *rest)(run)
        self.gather = ctypes.CFUNCTYPE(word, pointer, objects, pointer)(addresses["asgfn_gather"])
        one, found = np.zeros(1), word()
        if self.gather(table_of([(0, one.dtype)]), (one,), ctypes.byref(found)) or found.value != one.ctypes.data:
            raise BackendError(
                "NumPy keeps arrays in a way that the compiled CPU does not know; backend='numpy' runs the same programs"
            )
        self.work = ctypes.CFUNCTYPE(None, pointer, word)(addresses["asgfn_work"])
        self.spin = ctypes.CFUNCTYPE(None, word)(addresses["asgfn_spin"])


_loaded: _Native | None = None
_loading = threading.Lock()


def load() -> _Native:
    """The runner's own functions."""
    global _loaded
    if _loaded is None:
        with _loading:
            if _loaded is None:
                _loaded = _Native()
    return _loaded


def load_early() -> None:
    """Begins to load the runner's own functions, in a thread of its own: a program that is to be run is traced and compiled
    meanwhile."""
    if _loaded is None and processors() > 1:
        in_background("asgfn-loads", load)


def gather(table: ctypes.Array, arrays: tuple[np.ndarray, ...], addresses: ctypes.Array) -> int:
    """Writes where arrays are; returns what `Program.call` does."""
    return load().gather(ctypes.addressof(table), arrays, ctypes.addressof(addresses))


@lru_cache(maxsize=1)
def _spins() -> int:
    """How often a worker looks at the board in the time that it lingers."""
    spin, times = load().spin, 2000
    seconds = []
    for _ in range(5):
        start = time.perf_counter()
        spin(times)
        seconds.append(time.perf_counter() - start)
    return max(100, int(LINGER / max(min(seconds), 1e-9) * times))


_runners: weakref.WeakSet[Runner] = weakref.WeakSet()
_pools: weakref.WeakSet[_Pool] = weakref.WeakSet()


def _after_fork() -> None:
    global _loading
    _loading = threading.Lock()
    _pools.clear()
    for runner in list(_runners):
        runner._forget()


@atexit.register
def _stop_all() -> None:
    pools = list(_pools)
    for pool in pools:
        pool.stop()
    for pool in pools:
        pool.join()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
