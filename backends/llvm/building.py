"""The object code of functions: from the disk, or compiled by several threads, which begin as soon as the first function is
known, while Python still writes the others. A process compiles a function once, whoever asks for it; and once more if it was
to be there soon and is then used often."""

from __future__ import annotations

import heapq
import os
import sys
import threading
from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import NamedTuple

from asgfn.background import give_way, in_background
from backends.llvm import objects
from backends.llvm.compiling import a_compiler
from backends.llvm.host import processors

# Seconds for which a thread that computes in Python keeps those waiting that compile: they need Python for some microseconds,
# a few times a function. By default it is ten times as long.
_INTERVAL = 5e-4
_lock = threading.Lock()
_buildings = 0
_before = 0.0  # what the interval was when there was none
# a thread is worth its start (and its compiler) from so many bytes of text
_BYTES_OF_A_THREAD = 4000


class Ended(Exception):
    """There was no time for all functions."""


class Object(NamedTuple):
    """The object code of a function, and whether it was compiled quickly rather than well."""

    code: bytes
    is_quick: bool


class _Work:
    """A function that somebody asks for. Who takes it compiles it, for all who do.

    Attributes:
        is_quick: whether it is compiled quickly.
        code: once it is known; or why there is none.
    """

    __slots__ = ("code", "is_quick", "is_taken", "key", "name", "text")

    def __init__(self, name: str, text: str, key: str, is_quick: bool) -> None:
        self.name, self.text, self.key, self.is_quick = name, text, key, is_quick
        self.code: bytes | Exception | None = None
        self.is_taken = False

    def __lt__(self, other: _Work) -> bool:
        """Whether it comes before another one: the longest first."""
        return (-len(self.text), self.name) < (-len(other.text), other.name)


_works: dict[str, _Work] = {}  # by key: those that somebody asks for and that are not on the disk yet
_changed = threading.Condition()  # of what all buildings have: who has it may look at works and change them


class Building:
    """Functions that are compiled, in a `with` block. After its end the last of its threads keeps them on the disk, and does
    what else there is time for then; nobody waits for that.

    Arguments:
        most: how many threads it may start, besides the one that asks for functions; as many as there are processors for if
            not given.
        ends: says before each function that is compiled by who asks for it whether that is too much.
    """

    def __init__(self, most: int | None = None, ends: Callable[[], bool] | None = None) -> None:
        self._most = processors() - 1 if most is None else min(most, processors() - 1)
        self._ends = ends
        self._works: dict[str, _Work] = {}  # those that were begun, by text
        self._new: list[_Work] = []  # those that were compiled here and are not on the disk
        self._waiting: list[_Work] = []
        self._bytes = 0
        self._threads = 0
        self._closed = False
        self._helping = 0  # threads that have not ended
        self._folder: Path | None = None  # where functions are kept
        self._later: list[Callable[[], None]] = []

    def begin(self, functions: Mapping[str, str], quick: bool = False) -> None:
        """Functions that will be asked for.

        Arguments:
            quick: whether code will do that was compiled quickly.
        """
        for name, text in functions.items():
            before = self._works.get(text)
            if before is not None and (quick or not before.is_quick):
                continue
            work = _asked(name, text, False)
            if quick and not isinstance(work.code, bytes):
                work = _asked(name, text, True)
            with _changed:
                if work.code is None:
                    work = _works.setdefault(work.key, work)
                self._works[text] = work
                if work.is_taken or work.code is not None:
                    continue
                heapq.heappush(self._waiting, work)
                self._bytes += len(text)
                _changed.notify_all()
            if self._threads < min(self._bytes // _BYTES_OF_A_THREAD, self._most):
                with _changed:
                    self._helping += 1
                if in_background("asgfn-compile", self._help):
                    self._threads += 1
                else:  # the system has no more threads
                    with _changed:
                        self._most, self._helping = self._threads, self._helping - 1

    def later(self, work: Callable[[], None]) -> None:
        """Something that is done, in a thread, after the block."""
        self._later.append(work)

    def objects(self, functions: Mapping[str, str], quick: Collection[str] = ()) -> list[Object]:
        """The object code of functions.

        Arguments:
            quick: the names of those for which code will do that was compiled quickly.

        Raises:
            BackendError: LLVM does not accept one of them.
            Ended: there was no time for all of them.
        """
        self.begin({name: text for name, text in functions.items() if name not in quick})
        self.begin({name: text for name, text in functions.items() if name in quick}, quick=True)
        self._work(False)
        works = [self._works[text] for text in functions.values()]
        with _changed:
            _changed.wait_for(lambda: all(work.code is not None for work in works))
        return [Object(_given(work), work.is_quick) for work in works]

    def _help(self) -> None:
        """What a thread does."""
        self._work(True)
        with _changed:
            self._helping -= 1
            is_last = not self._helping
        if is_last:
            self._end()

    def _end(self, waits: bool = True) -> None:
        """
        Arguments:
            waits: whether somebody who has asked for functions goes on meanwhile, most likely to call them.
        """
        if waits and (self._new or self._later):
            give_way()
        for work in self._new:
            if self._folder is not None and isinstance(work.code, bytes):
                objects.keep(self._folder, work.key, work.code)
        self._forget(self._new)
        for do in self._later:
            do()

    def _forget(self, works: Iterable[_Work]) -> None:
        """Whoever asks for these from now on finds them on the disk, or compiles them."""
        with _changed:
            for work in works:
                if _works.get(work.key) is work:
                    del _works[work.key]

    def _work(self, waits: bool) -> None:
        """Compiles functions, the longest first; if there are none it waits for others, or returns."""
        while True:
            if not waits and self._waiting and self._ends is not None and self._ends():
                raise Ended
            with _changed:
                while waits and not self._waiting and not self._closed:
                    _changed.wait()
                if not self._waiting or self._closed:
                    return
                work = heapq.heappop(self._waiting)
                if work.is_taken:
                    continue
                work.is_taken = True
            code: bytes | Exception
            try:
                with a_compiler() as compiler:
                    code = compiler.compile(work.name, work.text, work.is_quick)
            except Exception as error:  # for who asks for it
                code = error
            with _changed:
                work.code = code
                self._new.append(work)
                _changed.notify_all()

    def __enter__(self) -> Building:
        _count(1)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        _count(-1)
        with _changed:
            self._folder = objects.folder()
            self._closed = True
            _changed.notify_all()
        self._forget(work for work in self._works.values() if not work.is_taken)
        if not self._threads and not (self._later and in_background("asgfn-keeps", self._end)):
            self._end(waits=False)


def _asked(name: str, text: str, quick: bool) -> _Work:
    """A function that somebody has asked for already, that is on the disk, or that nobody has."""
    key = objects.key_of(text, quick)
    with _changed:
        work = _works.get(key)
    if work is None:
        work = _Work(name, text, key, quick)
        work.code = objects.find(key)
    return work


def _given(work: _Work) -> bytes:
    assert work.code is not None
    if isinstance(work.code, Exception):
        raise work.code
    return work.code


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
    global _lock, _buildings, _changed
    _lock, _changed = threading.Lock(), threading.Condition()
    _works.clear()
    if _buildings:
        _buildings = 0
        sys.setswitchinterval(_before)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
