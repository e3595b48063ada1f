"""Compiled programs on disk, so that the next process need not compile them.

A program is found by what it computes (the graph as it was traced), by what it was compiled for and by the source of the
compiler; so nothing that is found is ever out of date. See `backends.programs.disk` for where they are.
"""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache
from pathlib import Path

import asgfn
import backends
from asgfn.background import in_background
from asgfn.errors import GraphError
from asgfn.graph.asg import Asg
from asgfn.graph.serial import fingerprint
from asgfn.graph.types import SourceInfo
from asgfn.records import fields
from backends.kernels.target import Target
from backends.programs.disk import folder, kept, read_entry, write_entry
from backends.programs.finished import Finished
from backends.programs.stored import NotAProgram, NotStorable, from_stored, to_stored

# what decides about the programs that come out, besides all of `backends`
_SOURCES = ("graph", "primitives", "transforms")

_log = logging.getLogger("asgfn")
counts = {"hits": 0, "misses": 0, "stored": 0}


@lru_cache(maxsize=1)
def version() -> bytes:
    """A hash of the source of the compiler. Files that were not written to since it was last made are not read again."""
    roots = [*(Path(asgfn.__path__[0]) / name for name in _SOURCES), Path(backends.__path__[0])]
    found = list(files_of(roots))
    state = [(path, info.st_mtime_ns, info.st_size) for _, path, info in found]
    return kept("sources", repr(state), lambda: source_hash(found))


def files_of(roots: Sequence[Path]) -> Iterator[tuple[str, str, os.stat_result]]:
    """All Python files in these folders: their place there, their paths, and what the system knows of them."""
    for root in roots:
        waiting = [("", os.fspath(root))]
        while waiting:
            place, folder_ = waiting.pop()
            with os.scandir(folder_) as entries:
                for entry in sorted(entries, key=lambda e: e.name):
                    if entry.name.endswith(".py"):
                        yield place + entry.name, entry.path, entry.stat()
                    elif entry.is_dir():
                        waiting.append((f"{place}{entry.name}/", entry.path))


def source_hash(files: Iterable[tuple[str, str, os.stat_result]]) -> bytes:
    """A hash of files, as `files_of` finds them."""
    found = hashlib.sha256()  # processors have instructions for it
    for place, path, info in files:
        file = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))  # `open` takes twice as long
        try:
            data = os.read(file, info.st_size)
        finally:
            os.close(file)
        found.update(f"{place} {len(data)} ".encode())
        found.update(data)
    return found.digest()[:16]


def key_of(mark: bytes, target: Target, donated: Sequence[bool], special: str = "", tuned: bool = False) -> str:
    """The name of a program.

    Arguments:
        mark: the graph's fingerprint.
        target: what it is compiled for, with what was measured there.
        donated: which of its arguments it may overwrite.
        special: what else it was compiled for.
        tuned: whether all that could be measured for it was.
    """
    found = hashlib.blake2b(version() + mark + bytes([tuned, *donated]) + special.encode(), digest_size=20)
    found.update(repr([(name, getattr(target, name)) for name in fields(target) if name != "measured"]).encode())
    for problem, seconds in sorted(target.measured.items()):
        found.update(repr((problem, sorted(map(repr, seconds.items())))).encode())
    return found.hexdigest()


def _in_background(keep: Callable[[], None]) -> None:
    if not in_background("asgfn-keeps", keep):
        keep()


def compiled(
    asg: Asg,
    target: Target,
    donated: Sequence[bool],
    compile_it: Callable[[], Finished],
    special: str = "",
    tuned: bool = False,
    later: Callable[[Callable[[], None]], object] = _in_background,
) -> Finished:
    """The program of a graph: from the disk if it is there, else compiled by `compile_it`, and kept for the next time.

    Arguments:
        later: has it kept, when there is time.
        others: see `key_of`.
    """
    where = folder()
    if where is None:
        return compile_it()
    try:
        mark, places = fingerprint(asg)
    except GraphError:  # it calls Python
        return compile_it()

    def path() -> Path:
        return where / "programs" / f"{key_of(mark, target, donated, special, tuned)}.program"

    # to find out the name takes a while, where it is the first one
    found = _read(path(), asg, places) if (where / "programs").is_dir() else None
    if found is not None:
        counts["hits"] += 1
        return found
    counts["misses"] += 1
    finished = compile_it()

    def keep() -> None:
        try:
            stored = to_stored(finished, asg, target.types, places)
        except NotStorable as error:
            _log.debug("%s is not kept: %s", asg.name, error)
            return
        write_entry(path(), stored)  # its name may be another one now, after what was measured
        counts["stored"] += 1

    later(keep)
    return finished


def _read(path: Path, asg: Asg, places: Sequence[SourceInfo]) -> Finished | None:
    data = read_entry(path)
    if data is None:
        return None
    try:
        return from_stored(data, asg, places)
    except NotAProgram as error:
        _log.debug("ignoring %s: %s", path, error)
        return None
