"""Options of LLVM that all of a process shares. As far as others who compile with llvmlite would notice, they are as we want
them only while we compile."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache

from backends.llvm.host import package

# Loops come with the addresses that they shall have; to look for better ones takes a fifth of the time. Only where code is
# optimised is that done.
_ADDRESSES = "-disable-lsr", "true", "false"
# To look for a better order of instructions takes a tenth of the time, and is worth it where registers are few.
_ORDER = "-enable-misched", "false", "true"
# Where code is not optimised otherwise either, all that is needed later is in memory from block to block. It takes a third
# longer to keep it in registers, and kernels are up to three times as fast.
_IN_REGISTERS = "-optimize-regalloc=true"
# LLVM ends the process over an option that it does not have: these versions have been seen to have it
_VERSIONS = range(20, 23)

_lock = threading.Lock()
_compiling = [0, 0]  # how many functions are compiled well, and how many quickly
_ours: set[tuple[str, str, str]] = set()  # the options that are as we want them


@contextmanager
def as_we_compile(quick: bool) -> Iterator[None]:
    """Within it, loops stay as they are written, and so does the order of instructions, where code is to be there soon.

    Arguments:
        quick: whether that is more than fast code. Meanwhile another thread may compile well: then there is time for both.
    """
    _count(quick, 1)
    try:
        yield
    finally:
        _count(quick, -1)


def _count(quick: bool, change: int) -> None:
    with _lock:
        _compiling[quick] += change
        well, quickly = _compiling
        _want(_ADDRESSES, well > 0)
        _want(_ORDER, quickly > 0 and not well)


def _want(option: tuple[str, str, str], ours: bool) -> None:
    """Sets an option, or takes that back."""
    if ours is (option in _ours) or package().llvm_version_info[0] not in _VERSIONS:
        return
    name, with_us, with_others = option
    package().set_option("", f"{name}={with_us if ours else with_others}")
    (_ours.add if ours else _ours.discard)(option)


@lru_cache(maxsize=1)
def use_registers() -> None:
    """From now on values stay in registers in code that is not optimised otherwise. Others who compile such code get it, too:
    there is no way to have LLVM decide by the kind of code again."""
    if package().llvm_version_info[0] in _VERSIONS:
        package().set_option("", _IN_REGISTERS)


def _after_fork() -> None:
    """The threads that compiled are the parent's, and one may have held the lock."""
    global _lock
    _lock = threading.Lock()
    _compiling[:] = 0, 0


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
