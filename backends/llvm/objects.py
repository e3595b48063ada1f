"""Compiled functions on disk: a file each, named by the function's text and by what compiles it for which processor."""

from __future__ import annotations

import hashlib
import threading
from pathlib import Path

from backends.llvm.compiling import VERSION
from backends.llvm.host import host

# A function is small, and there are many: the folder is looked through once for so many of them.
_BETWEEN_TRIMS = 64

counts = {"hits": 0, "misses": 0, "stored": 0}
_lock = threading.Lock()


def key_of(text: str, quick: bool = False) -> str:
    """The name of the file of what a text defines, compiled well or quickly."""
    machine = host()
    what = (VERSION, machine.compiler, machine.triple, machine.processor, machine.features)
    found = hashlib.blake2b(repr((*what, "quick") if quick else what).encode(), digest_size=20)
    found.update(text.encode())
    return found.hexdigest()


def find(key: str) -> bytes | None:
    """The object code of a function that was compiled before; None if it is not there, or damaged."""
    from backends.programs.disk import read_entry

    where = folder()
    found = None if where is None else read_entry(where / f"{key}.o")
    if where is not None:
        _count("misses" if found is None else "hits")
    return found


def keep(where: Path, key: str, code: bytes) -> None:
    """Keeps the object code of a function for other processes, in the folder of them."""
    from backends.programs import disk

    disk.write_entry(where / f"{key}.o", code, trims=_count("stored") % _BETWEEN_TRIMS == 1)


def folder() -> Path | None:
    """Where functions are kept; None if they are not."""
    from backends.programs import disk

    where = disk.folder()
    return None if where is None else where / "objects"


def _count(what: str) -> int:
    with _lock:
        counts[what] += 1
        return counts[what]
