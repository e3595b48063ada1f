"""Work in threads of its own, that somebody may ask for later.

A fork copies the locks that such a thread holds, and not the thread that would release them; so it waits for the thread.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable

_running: set[threading.Thread] = set()


def in_background(name: str, work: Callable[[], None]) -> bool:
    """Begins to do some work in a thread of this name.

    Returns:
        False if the system has no thread for it.
    """

    def run() -> None:
        try:
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


def _before_fork() -> None:
    for thread in list(_running):
        if thread is not threading.current_thread():
            thread.join()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork)
