"""Compiled programs on disk, so that the next process need not compile them.

A program is found by what it computes (the graph as it was traced), by what it was compiled for and by the source of the
compiler; so nothing that is found is ever out of date. See `backends.wgpu.disk` for where they are.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Sequence
from dataclasses import fields
from functools import lru_cache
from pathlib import Path

import asgfn
import backends
from asgfn.errors import GraphError
from asgfn.graph.asg import Asg
from asgfn.graph.serial import fingerprint
from backends.kernels.target import Target
from backends.wgpu.device import Kernel
from backends.wgpu.disk import folder, read_entry, write_entry
from backends.wgpu.finish import Finished, compile_graph
from backends.wgpu.stored import NotAProgram, NotStorable, from_stored, to_stored

# what decides about the programs that come out, besides all of `backends`
_SOURCES = ("graph", "primitives", "transforms")

_log = logging.getLogger("asgfn")
counts = {"hits": 0, "misses": 0, "stored": 0}


@lru_cache(maxsize=1)
def version() -> bytes:
    """A hash of the source of the compiler."""
    found = hashlib.blake2b(digest_size=16)
    roots = [Path(asgfn.__path__[0]) / name for name in _SOURCES] + [Path(backends.__path__[0])]
    for root in roots:
        for path in sorted(root.rglob("*.py")):
            found.update(f"{path.relative_to(root)} ".encode())
            found.update(path.read_bytes())
    return found.digest()


def key_of(mark: bytes, target: Target, donated: Sequence[bool]) -> str:
    """The name of a program.

    Arguments:
        mark: the graph's fingerprint.
        target: what it is compiled for, with what was measured there.
        donated: which of its arguments it may overwrite.
    """
    found = hashlib.blake2b(version() + mark + bytes(donated), digest_size=20)
    found.update(repr([(f.name, getattr(target, f.name)) for f in fields(target) if f.name != "measured"]).encode())
    for problem, seconds in sorted(target.measured.items()):
        found.update(repr((problem, sorted(map(repr, seconds.items())))).encode())
    return found.hexdigest()


def compiled(
    asg: Asg,
    target: Target,
    donated: Sequence[bool],
    debug: bool,
    expect: Callable[[Kernel], None] | None = None,
) -> Finished:
    """The program of a graph: from the disk if it is there, else compiled, and kept for the next time. The arguments are
    those of `compile_graph`."""
    where = None if debug else folder()
    if where is None:
        return compile_graph(asg, target, donated, debug, expect)
    try:
        mark, places = fingerprint(asg)
    except GraphError:  # it calls Python
        return compile_graph(asg, target, donated, debug, expect)
    path = where / "programs" / f"{key_of(mark, target, donated)}.program"
    data = read_entry(path)
    if data is not None:
        try:
            found = from_stored(data, asg, places)
        except NotAProgram as error:
            _log.debug("ignoring %s: %s", path, error)
        else:
            counts["hits"] += 1
            return found
    counts["misses"] += 1
    finished = compile_graph(asg, target, donated, debug, expect)
    try:
        stored = to_stored(finished, asg, target.types, places)
    except NotStorable as error:
        _log.debug("not kept: %s", error)
        return finished
    write_entry(path, stored)
    counts["stored"] += 1
    return finished
