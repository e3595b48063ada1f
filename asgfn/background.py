"""Work in threads of its own, that somebody may ask for later.

A fork copies the locks that such a thread holds, and not the thread that would release them; so it waits for the thread.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable

from asgfn.config import config

_running: set[threading.Thread] = set()
_waiting = 0  # how many wait for all that runs


def in_background(name: str, work: Callable[[], object]) -> bool:
    """Begins to do some work in a thread of this name, with the settings of the caller's. If it fails, whoever asks for what
    it was to find does the work again, and is told.

    Returns:
        False if the system has no thread for it.
    """
    settings = {key: value for key, value in vars(config).items() if key != "trace_key"}

    def run() -> None:
        try:
            with contextlib.suppress(Exception), config.override(**settings):
                work()
        finally:
            _running.discard(thread)

    thread = threading.Thread(target=run, name=name)
    _running.add(thread)
    try:
        thread.start()
    except RuntimeError:
        _running.discard(thread)
        return False
    return True


def is_awaited() -> bool:
    """Whether somebody waits for what runs in the background: it should end, if nobody has asked for it."""
    return bool(_waiting) or not threading.main_thread().is_alive()


def finish() -> None:
    """Waits for all that has been begun."""
    global _waiting
    _waiting += 1
    try:
        for thread in list(_running):
            if thread.ident is not None and thread is not threading.current_thread():
                thread.join()
    finally:
        _waiting -= 1


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=finish)
