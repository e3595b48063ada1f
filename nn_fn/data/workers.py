"""Worker processes that make batches ahead of time.

Each worker has one pipe of its own: the parent sends it orders, and it answers them one by one. Pipes carry only short
messages. Batches go through blocks of shared memory (see `shared.py`), out of which the parent copies them into arrays of
its own; the data set goes there once, and all workers read the same copy of its arrays. There are no locks and no threads, so a worker that is killed can take nothing with it: the
operating system closes its pipe and ends its sentinel, which the parent waits for at the same time.

Batch k is made by worker k modulo their number, so batches come in order. Each worker has `prefetch` blocks, which it
makes, and makes larger when needed; the parent removes them, also those of a worker that died.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import pickle
import random
import secrets
import signal
import sys
import traceback
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from multiprocessing import connection, resource_tracker, shared_memory
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from nn_fn.data.assemble import BatchMaker, BatchOrder
from nn_fn.data.shared import Packed, Slot, SlotView, buffer, create_block, pack, places, read_block, remove_block

PATIENCE = 2.0  # seconds that workers have to end by themselves before they are ended
GUARD = (
    "Worker processes import the main module of the program again. If it starts its work at the top level, put that "
    'under `if __name__ == "__main__":`; or use num_workers=0.'
)


class WorkerError(RuntimeError):
    """Something went wrong in a worker process that cannot be raised as it was: the message has its traceback."""


class WorkerDiedError(WorkerError):
    """A worker process ended without being asked to: killed, out of memory, or crashed."""


# ---- what a worker does


class _Answer(NamedTuple):
    """A worker's message. The failure of a batch is a `_Failure` in the block, where a batch would be."""

    kind: str  # "ready", "batch", "failure", or "text": what went wrong when nothing else could be sent
    slot: int = 0
    generation: int = 0
    sizes: Sequence[int] = ()
    text: str = ""


class _Failure(NamedTuple):
    error: BaseException | None  # None if it cannot be pickled
    text: str  # the traceback


def _failure(error: BaseException) -> _Failure:
    text = "".join(traceback.format_exception(error)).rstrip()
    try:
        again = pickle.loads(pickle.dumps(error))
        faithful = type(again) is type(error) and str(again) == str(error)
    except Exception:  # any code of the user's may run in there
        faithful = False
    return _Failure(error.with_traceback(None) if faithful and isinstance(error, Exception) else None, text)


def worker_main(
    pipe: connection.Connection, name: str, program: bytes, sizes: Sequence[int], number: int, slots: int
) -> None:
    """Makes batches until the pipe is closed or the parent is gone. Runs in the worker process."""
    # Ctrl-C reaches all processes of a terminal; the parent decides what it means
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])
    # forked workers would all draw the same numbers from the global generators, which a user's code may use
    random.seed()
    np.random.seed()
    try:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError, EOFError):
            _serve(pipe, name, program, sizes, number, slots)
    finally:
        # ends at once: arrays of the data set may still use shared memory, whose destructor would complain
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(AttributeError, OSError, ValueError):
                stream.flush()
        os._exit(0)


def _serve(
    pipe: connection.Connection, name: str, program: bytes, sizes: Sequence[int], number: int, slots: int
) -> None:
    parent = multiprocessing.parent_process()
    try:
        block = shared_memory.SharedMemory(f"{name}_data") if sizes else None
        starts, _ = places(sizes)
        views = [buffer(block)[a : a + n].toreadonly() for a, n in zip(starts, sizes, strict=True)] if block else []
        maker: BatchMaker = pickle.loads(program, buffers=views)
    except BaseException as error:
        pipe.send(_Answer("text", text=_failure(error).text))
        return
    pipe.send(_Answer("ready"))
    blocks = [Slot(f"{name}_{number}_{slot}") for slot in range(slots)]
    waiting_for: list[Any] = [pipe] if parent is None else [pipe, parent.sentinel]
    while pipe in connection.wait(waiting_for):
        slot, order = pipe.recv()
        kind, content = "batch", None
        try:
            content = pack(maker.make(order))
        except BaseException as error:
            kind, content = "failure", pack(_failure(error))
        try:
            blocks[slot].write(content)
            answer = _Answer(kind, slot, blocks[slot].generation, content.sizes)
        except OSError as error:
            answer = _Answer("text", slot, blocks[slot].generation, (), f"{error}"[:2000])
        del content
        pipe.send(answer)


# ---- what the parent does


class _Worker:
    """A worker process, its pipe, and the blocks that it writes to."""

    def __init__(self, process: Any, pipe: connection.Connection, slots: list[SlotView], number: int):
        self.process = process
        self.pipe = pipe
        self.slots = slots
        self.number = number
        self.ready = False
        self.outstanding = 0

    def send(self, slot: int, order: BatchOrder) -> None:
        # a worker that has died may have answered earlier orders; `receive` finds it out after those
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self.pipe.send((slot, order))
        self.outstanding += 1

    def receive(self, timeout: float | None) -> _Answer:
        """The next answer to an order; waits for it, but not for a process that has ended."""
        while True:
            # starting takes as long as it takes
            ready = connection.wait([self.pipe, self.process.sentinel], timeout if self.ready else None)
            if not ready:
                raise WorkerError(
                    f"DataLoader: worker {self.number} (process {self.process.pid}) made no batch within timeout={timeout} "
                    "seconds"
                )
            if self.pipe not in ready:
                raise self.death()
            try:
                answer: _Answer = self.pipe.recv()
            except (EOFError, ConnectionResetError):
                raise self.death() from None
            if answer.kind == "text" and not self.ready:
                raise WorkerError(
                    f"DataLoader: worker {self.number} could not load the data set, sampler or transforms:\n{answer.text}\n"
                    "What is sent to workers must be defined at the top level of a module that they can import, not in an "
                    "interactive session; or use num_workers=0."
                )
            if answer.kind != "ready":
                self.outstanding -= 1
                return answer
            self.ready = True

    def death(self) -> WorkerDiedError:
        self.process.join(PATIENCE)
        code = self.process.exitcode
        how = f"exit code {code}"
        if code is not None and code < 0:
            with contextlib.suppress(ValueError):
                how = f"signal {signal.Signals(-code).name}"
        reason = ""
        if not self.ready:
            reason = " before it was ready. " + GUARD
        elif how == "signal SIGKILL":
            reason = ". It was killed, perhaps because the machine ran out of memory."
        elif how == "signal SIGBUS":
            reason = ". Shared memory may be full: see the free space of /dev/shm."
        return WorkerDiedError(
            f"DataLoader: worker {self.number} (process {self.process.pid}) ended unexpectedly ({how}){reason}"
        )


class WorkerPool:
    """Worker processes that make the batches of a `BatchMaker`.

    Arguments:
        maker: makes a batch of an order; anything in it must be picklable.
        num_workers: at least 1.
        prefetch: batches that each worker makes ahead, at least 1.
        start_method: of `multiprocessing`: "spawn", "forkserver" or "fork".
        timeout: seconds to wait for one batch, or None to wait as long as the worker lives.

    Raises:
        TypeError: when the maker cannot be pickled; the message says which part.
        WorkerError: when called in a process that is itself being started, or in a program that is not a file.
    """

    def __init__(
        self,
        maker: BatchMaker,
        num_workers: int,
        prefetch: int,
        start_method: str = "spawn",
        timeout: float | None = None,
    ):
        if getattr(multiprocessing.current_process(), "_inheriting", False):
            raise WorkerError(f"DataLoader: worker processes cannot be started while this process is starting. {GUARD}")
        context: Any = multiprocessing.get_context(start_method)
        main = sys.modules["__main__"]
        program_file = getattr(main, "__file__", None)
        if start_method != "fork" and main.__spec__ is None and program_file and not Path(program_file).exists():
            raise WorkerError(
                f"DataLoader: worker processes must import the program, but {program_file} is no file. Save the program to a "
                "file, or use num_workers=0."
            )
        program = _packed_maker(maker)
        self._owner = os.getpid()
        self._timeout = timeout
        self._workers: list[_Worker] = []
        self._data: shared_memory.SharedMemory | None = None
        self.closed = False
        self.name = name = f"asgfn_{secrets.token_hex(4)}"  # short: macOS allows names of 30 characters
        resource_tracker.ensure_running()  # one for all processes: who makes a block and who removes it differ
        try:
            if program.buffers:
                sizes = [b.nbytes for b in program.buffers]
                self._data = create_block(f"{name}_data", places(sizes)[1])
                for start, part in zip(places(sizes)[0], program.buffers, strict=True):
                    buffer(self._data)[start : start + part.nbytes] = part
            else:
                sizes = []
            for number in range(num_workers):
                here, there = context.Pipe()
                process = context.Process(
                    target=worker_main,
                    args=(there, name, program.pickle, sizes, number, prefetch),
                    name=f"{name}-{number}",
                    daemon=True,
                )
                with _interrupts_blocked():
                    process.start()
                there.close()
                slots = [SlotView(f"{name}_{number}_{slot}") for slot in range(prefetch)]
                self._workers.append(_Worker(process, here, slots, number))
        except BaseException:
            self.close()
            raise

    @property
    def pids(self) -> list[int]:
        """Process ids of the workers."""
        return [w.process.pid for w in self._workers]

    def run(self, orders: Iterable[BatchOrder]) -> Iterator[Any]:
        """The batches of `orders`, in order. One run at a time; a run that was given up is cleared away by the next.

        Raises:
            WorkerDiedError: when a worker ended by itself; the pool is closed then.
            Exception: what the user's code raised in a worker, with notes that have the traceback.
        """
        left = iter(orders)
        pending: deque[_Worker] = deque()
        try:
            self._clear()
            for slot in range(len(self._workers[0].slots)):
                for worker in self._workers:
                    self._next_order(worker, slot, left, pending)
            while pending:
                worker = pending.popleft()
                answer = worker.receive(self._timeout)
                content = self._content(worker, answer)
                if answer.kind == "batch":
                    self._next_order(worker, answer.slot, left, pending)
                    yield content
                    if self.closed:
                        raise WorkerError("DataLoader: the loader was closed while a loop was running")
                else:
                    break
            else:
                return
        except GeneratorExit:
            raise
        except BaseException:
            # an interrupt may have left half a message in a pipe
            self.close()
            raise
        _raise_failure(worker, content)

    @staticmethod
    def _next_order(worker: _Worker, slot: int, left: Iterator[BatchOrder], pending: deque[_Worker]) -> None:
        order = next(left, None)
        if order is not None:
            worker.send(slot, order)
            pending.append(worker)

    def _clear(self) -> None:
        """Waits for what workers still make for a run that was given up."""
        for worker in self._workers:
            while worker.outstanding:
                answer = worker.receive(self._timeout)
                if answer.kind != "text":
                    worker.slots[answer.slot].follow(answer.generation)

    @staticmethod
    def _content(worker: _Worker, answer: _Answer) -> Any:
        if answer.kind == "text":
            return _Failure(None, answer.text)
        return read_block(worker.slots[answer.slot].follow(answer.generation), answer.sizes)

    def close(self) -> None:
        """Ends the workers and removes all shared memory. Calling it again does nothing."""
        if self.closed or os.getpid() != self._owner:  # a forked copy does not own the workers
            return
        self.closed = True
        for worker in self._workers:
            worker.pipe.close()
            if not worker.ready:
                worker.process.terminate()
        for end in (None, "terminate", "kill"):
            for worker in self._workers:
                if end is not None and worker.process.is_alive():
                    getattr(worker.process, end)()
            deadline = PATIENCE
            for worker in self._workers:
                worker.process.join(deadline)
                deadline = max(deadline / 2, 0.1)
        for worker in self._workers:
            for slot in worker.slots:
                slot.remove()
        if self._data is not None:
            remove_block(self._data)


def _raise_failure(worker: _Worker, failure: _Failure) -> None:
    """Raises in this process what went wrong in a worker."""
    where = f"in worker {worker.number} (process {worker.process.pid}) of a DataLoader"
    if failure.error is None or isinstance(failure.error, StopIteration):
        raise WorkerError(f"{where}:\n{failure.text}")
    failure.error.add_note(f"The error was raised {where}:\n{failure.text}")
    raise failure.error


def _packed_maker(maker: BatchMaker) -> Packed:
    try:
        return pack(maker)
    except Exception as error:
        parts = ("dataset", "collate", "transform", "batch_transform")
        culprits = [part for part in parts if not _picklable(getattr(maker, part))]
        raise TypeError(
            f"DataLoader: {' and '.join(culprits) or 'the data set'} cannot be sent to worker processes, because it cannot be "
            f"pickled: {error}. Replace lambdas and functions inside of functions by functions at the top level of a module "
            "(functools.partial may bind arguments), open files in __getitem__ rather than in __init__, or use "
            "num_workers=0."
        ) from error


def _picklable(value: Any) -> bool:
    try:
        pack(value)
    except Exception:  # any code of the user's may run in there
        return False
    return True


@contextlib.contextmanager
def _interrupts_blocked() -> Iterator[None]:
    """Processes that are started meanwhile are born deaf to Ctrl-C; `worker_main` then decides."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
