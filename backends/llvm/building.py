"""The object code of functions: from the disk, or compiled by several threads, which begin as soon as the first function is
known, while Python still writes the others."""

from __future__ import annotations

import heapq
import os
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType

from asgfn.background import in_background
from backends.llvm import objects
from backends.llvm.compiling import Compiler
from backends.llvm.host import processors

# Seconds for which a thread that computes in Python keeps those waiting that compile: they need Python for some microseconds,
# a few times a function. By default it is ten times as long.
_INTERVAL = 5e-4
_lock = threading.Lock()
_buildings = 0
_before = 0.0  # what the interval was when there was none
# a thread is worth its start (and its compiler) from so many bytes of text
_BYTES_OF_A_THREAD = 4000


class Building:
    """Functions that are compiled, in a `with` block. After its end the last of its threads keeps them on the disk; nobody
    waits for that.

    Arguments:
        most: how many threads it may start, besides the one that asks for functions; as many as there are processors for if
            not given.
    """

    def __init__(self, most: int | None = None) -> None:
        self._most = processors() - 1 if most is None else min(most, processors() - 1)
        self._found: dict[str, bytes | Exception] = {}  # by the functions' keys
        self._new: list[str] = []  # keys of those that were compiled and are not on the disk
        self._keys: dict[str, str] = {}  # of those that were begun, by text
        self._waiting: list[tuple[int, str, str, str]] = []  # the longest first: bytes below 0, name, text, key
        self._bytes = 0
        self._threads = 0
        self._changed = threading.Condition()
        self._closed = False
        self._helping = 0  # threads that have not ended
        self._folder: Path | None = None  # where functions are kept

    def begin(self, functions: Mapping[str, str]) -> None:
        """Functions that will be asked for."""
        for name, text in functions.items():
            if text in self._keys:
                continue
            key = self._keys[text] = objects.key_of(name, text)
            code = objects.find(key)
            with self._changed:
                if code is not None:
                    self._found[key] = code
                    continue
                heapq.heappush(self._waiting, (-len(text), name, text, key))
                self._bytes += len(text)
                self._changed.notify()
            if self._threads < min(self._bytes // _BYTES_OF_A_THREAD, self._most):
                with self._changed:
                    self._helping += 1
                if in_background("asgfn-compile", self._help):
                    self._threads += 1
                else:  # the system has no more threads
                    with self._changed:
                        self._most, self._helping = self._threads, self._helping - 1

    def objects(self, functions: Mapping[str, str]) -> list[bytes]:
        """The object code of functions.

        Raises:
            BackendError: LLVM does not accept one of them.
        """
        self.begin(functions)
        self._work(False)
        keys = [self._keys[text] for text in functions.values()]
        with self._changed:
            self._changed.wait_for(lambda: all(key in self._found for key in keys))
        return [_given(self._found[key]) for key in keys]

    def _help(self) -> None:
        """What a thread does."""
        self._work(True)
        with self._changed:
            self._helping -= 1
            is_last = not self._helping
        if is_last:
            self._keep()

    def _keep(self) -> None:
        if self._folder is None:
            return
        for key in self._new:
            code = self._found[key]
            if isinstance(code, bytes):
                objects.keep(self._folder, key, code)

    def _work(self, waits: bool) -> None:
        """Compiles functions, the longest first; if there are none it waits for others, or returns."""
        compiler: Compiler | None = None
        while True:
            with self._changed:
                while waits and not self._waiting and not self._closed:
                    self._changed.wait()
                if not self._waiting or self._closed:
                    return
                _, name, text, key = heapq.heappop(self._waiting)
            found: bytes | Exception
            try:
                compiler = compiler or Compiler()
                found = compiler.compile(name, text)
            except Exception as error:  # for who asks for it
                found = error
            with self._changed:
                self._found[key] = found
                self._new.append(key)
                self._changed.notify_all()

    def __enter__(self) -> Building:
        _count(1)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        _count(-1)
        with self._changed:
            self._folder = objects.folder()
            self._closed = True
            self._changed.notify_all()
        if not self._threads:
            self._keep()


def _given(found: bytes | Exception) -> bytes:
    if isinstance(found, Exception):
        raise found
    return found


def _count(change: int) -> None:
    """The first building shortens the interval, the last one takes that back."""
    global _buildings, _before
    with _lock:
        if not _buildings:
            _before = sys.getswitchinterval()
            sys.setswitchinterval(min(_before, _INTERVAL))
        _buildings += change
        if not _buildings:
            sys.setswitchinterval(_before)


def _after_fork() -> None:
    """Whoever was building is in the parent."""
    global _lock, _buildings
    _lock = threading.Lock()
    if _buildings:
        _buildings = 0
        sys.setswitchinterval(_before)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
