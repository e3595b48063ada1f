"""Options of LLVM that all of a process shares. As far as others who compile with llvmlite would notice, they are as we want
them only while we compile."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache

from backends.llvm.host import package

# Loops come with the addresses that they shall have; to look for better ones takes a fifth of the time.
_OPTION = "-disable-lsr"
# Where code is not optimised otherwise either, all that is needed later is in memory from block to block. It takes a third
# longer to keep it in registers, and kernels are up to three times as fast.
_IN_REGISTERS = "-optimize-regalloc=true"
# LLVM ends the process over an option that it does not have: these versions have been seen to have it
_VERSIONS = range(20, 23)

_lock = threading.Lock()
_compiling = 0


@contextmanager
def as_we_compile() -> Iterator[None]:
    """Within it, loops stay as they are written."""
    _count(1)
    try:
        yield
    finally:
        _count(-1)


def _count(change: int) -> None:
    """The first that compiles sets the option, the last one takes it back."""
    global _compiling
    with _lock:
        before, _compiling = _compiling, _compiling + change
        if not (before and _compiling) and package().llvm_version_info[0] in _VERSIONS:
            package().set_option("", f"{_OPTION}={'true' if _compiling else 'false'}")


@lru_cache(maxsize=1)
def use_registers() -> None:
    """From now on values stay in registers in code that is not optimised otherwise. Others who compile such code get it, too:
    there is no way to have LLVM decide by the kind of code again."""
    if package().llvm_version_info[0] in _VERSIONS:
        package().set_option("", _IN_REGISTERS)


def _after_fork() -> None:
    """The threads that compiled are the parent's, and one may have held the lock."""
    global _lock, _compiling
    _lock, _compiling = threading.Lock(), 0


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
