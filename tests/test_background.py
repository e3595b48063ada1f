"""Work in the background: threads that are used again, what waits for them, what they do not keep."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import textwrap
import threading
import time
import weakref

import pytest

import asgfn
from asgfn import background
from asgfn.background import finish, give_way, in_background, is_awaited
from asgfn.config import config


def test_a_thread_is_used_again() -> None:
    finish()
    seen = []
    for k in range(5):
        assert in_background(f"work {k}", lambda: seen.append((threading.get_ident(), threading.current_thread().name)))
        finish()
    assert [name for _, name in seen] == [f"work {k}" for k in range(5)]
    assert len({ident for ident, _ in seen}) <= background._MOST_IDLE
    assert all(not t.name.startswith("work ") for t in threading.enumerate())


def test_as_much_at_once_as_is_begun() -> None:
    barrier, done = threading.Barrier(6), []

    def work() -> None:
        barrier.wait(10)
        done.append(1)

    for _ in range(5):
        assert in_background("works", work)
    barrier.wait(10)
    finish()
    assert len(done) == 5
    until = time.monotonic() + 10
    while sum(t.name == "asgfn-idle" for t in threading.enumerate()) > background._MOST_IDLE:
        assert time.monotonic() < until
        time.sleep(0.01)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_what_fails_is_forgotten_and_the_next_work_done() -> None:
    done = []

    def fail() -> None:
        raise ValueError

    def leave() -> None:
        raise SystemExit

    for work in (fail, leave, fail, leave, leave, lambda: done.append(1)):
        assert in_background("works", work)
        finish()
    assert done == [1]


def test_work_has_the_settings_of_who_begins_it() -> None:
    seen = []
    for value in (True, False, True):
        with asgfn.enable_x64(value):
            assert in_background("works", lambda: seen.append(config.enable_x64))
        finish()
    assert seen == [True, False, True]


def test_work_is_not_kept() -> None:
    class Large:
        pass

    large = Large()
    gone = weakref.ref(large)
    assert in_background("works", lambda large=large: None)
    del large
    finish()
    gc.collect()
    assert gone() is None


def test_who_begins_more_work_in_the_background_may_wait_for_it() -> None:
    done = []

    def outer() -> None:
        in_background("inner", lambda: done.append("inner"))
        finish()
        done.append("outer")

    assert in_background("outer", outer)
    finish()
    assert done == ["inner", "outer"]


def test_who_gives_way_goes_on_when_somebody_waits() -> None:
    took = []

    def work() -> None:
        started = time.monotonic()
        give_way()
        took.append((time.monotonic() - started, is_awaited()))

    assert in_background("works", work)
    while not took:
        time.sleep(0.005)
    assert took[0][0] >= background._PAUSE and not took[0][1]
    assert in_background("works", work)
    finish()
    assert took[1][1] or took[1][0] >= background._PAUSE


def in_a_new_process(program: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert not done.stderr, done.stderr
    return done.stdout


def test_a_process_does_its_work_before_it_ends() -> None:
    said = in_a_new_process(
        """
        import time
        from asgfn.background import in_background, is_awaited

        in_background("first", lambda: None)
        time.sleep(0.05)

        def work():
            while not is_awaited():
                time.sleep(0.01)
            time.sleep(0.2)
            print("done")

        in_background("works", work)
        """
    )
    assert said == "done\n"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system has no fork")
def test_a_child_has_threads_of_its_own() -> None:
    in_a_new_process(
        """
        import os, time
        from asgfn import background
        from asgfn.background import finish, in_background

        for _ in range(2):
            in_background("works", lambda: time.sleep(0.01))
        finish()
        child = os.fork()
        if child == 0:
            done = []
            assert not background._idle and in_background("works", lambda: done.append(1))
            finish()
            os._exit(0 if done == [1] else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        done = []
        in_background("works", lambda: done.append(1))
        finish()
        assert done == [1]
        """
    )
