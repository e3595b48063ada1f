"""Work in threads of its own, that somebody may ask for later.

A thread that has done its work waits for other work: to start one takes longer than what many have to do. A fork copies the
locks that a thread holds, and not the thread that would release them; so it waits until all work is done, as the end of the
process does.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import threading
import time
from collections.abc import Callable

from asgfn.config import config

# threads that wait for work; others end when there is none
_MOST_IDLE = 2
_IDLE = "asgfn-idle"
# seconds that somebody who has just begun some work has Python for himself, if it can wait so long
_PAUSE, _LOOK = 0.02, 0.002

_changed = threading.Condition()
_running: set[_Job] = set()
_idle: list[_Worker] = []
_waiting = 0  # how many wait for all that runs


class _Job:
    """Some work, with the settings of who has begun it."""

    def __init__(self, name: str, work: Callable[[], object]) -> None:
        self.name, self.work = name, work
        self.settings = {key: value for key, value in vars(config).items() if key != "trace_key"}
        self.thread: threading.Thread | None = None

    def run(self) -> None:
        with contextlib.suppress(Exception), config.override(**self.settings):
            self.work()


class _Worker:
    """A thread that has a job, or waits for one."""

    def __init__(self) -> None:
        self._gate = threading.Lock()
        self._gate.acquire()
        self._job: _Job | None = None
        self.thread = threading.Thread(target=self._run, daemon=True)

    def give(self, job: _Job) -> None:
        """Has it do something; it is idle."""
        self._job = job
        job.thread, self.thread.name = self.thread, job.name
        self._gate.release()

    def _run(self) -> None:
        stays = True
        while stays:
            self._gate.acquire()
            job, stays = self._job, False
            assert job is not None
            try:
                job.run()
                stays = True
            finally:  # with an exception that is for threads, this one ends
                self._job, self.thread.name = None, _IDLE  # a job may hold on to much
                with _changed:
                    _running.discard(job)
                    stays = stays and len(_idle) < _MOST_IDLE
                    if stays:
                        _idle.append(self)
                    _changed.notify_all()
                del job


def in_background(name: str, work: Callable[[], object]) -> bool:
    """Begins to do some work in a thread of this name, with the settings of the caller's. If it fails, whoever asks for what
    it was to find does the work again, and is told.

    Returns:
        False if the system has no thread for it.
    """
    job = _Job(name, work)
    with _changed:
        _running.add(job)
        if _idle:
            _idle.pop().give(job)
            return True
    worker = _Worker()
    worker.give(job)
    try:
        worker.thread.start()
    except RuntimeError:
        with _changed:
            _running.discard(job)
            _changed.notify_all()
        return False
    return True


def is_awaited() -> bool:
    """Whether somebody waits for what runs in the background: it should end, if nobody has asked for it."""
    return bool(_waiting) or not threading.main_thread().is_alive()


def give_way() -> None:
    """Lets whoever has begun this go on for a while, without another one that wants Python; unless somebody waits for it."""
    until = time.monotonic() + _PAUSE
    while time.monotonic() < until and not is_awaited():
        time.sleep(_LOOK)


@atexit.register
def finish() -> None:
    """Waits for all that has been begun."""
    global _waiting
    with _changed:
        _waiting += 1
        try:
            begun = [job for job in _running if job.thread is not threading.current_thread()]
            while not _running.isdisjoint(begun):
                _changed.wait()
        finally:
            _waiting -= 1


def _after_fork() -> None:
    """The threads are the parent's, and one may have held the lock."""
    global _changed, _waiting
    _changed, _waiting = threading.Condition(), 0
    _idle.clear()
    _running.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=finish, after_in_child=_after_fork)
