"""Files that make the next process faster: compiled programs, measurements, the GPU library's types.

Files are written to a temporary one that is then renamed, so processes may write the same one at once. A damaged file is as
good as none. A folder keeps to a size; what was not used for longest goes first.

`ASGFN_CACHE` says where the files are, or `off`; settings `enable_compilation_cache`, `compilation_cache_dir` and
`compilation_cache_max_size` have JAX's names and meaning.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import threading
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

from asgfn.config import config

VARIABLE = "ASGFN_CACHE"
DEFAULT_SIZE = 1 << 28
_OFF, _ON = ("off", "0", "no", "false"), ("", "on", "1", "yes", "true")
_MAGIC = b"ASGC\x01"
_CHECK = 16  # bytes of the checksum
_log = logging.getLogger("asgfn")


def folder() -> Path | None:
    """Where files are kept; None if they are not."""
    text = os.environ.get(VARIABLE, "").strip()
    if text.lower() in _OFF or not config.enable_compilation_cache:
        return None
    if text.lower() not in _ON:
        return Path(text).expanduser()
    if config.compilation_cache_dir:
        return Path(config.compilation_cache_dir).expanduser()
    import platformdirs

    return Path(platformdirs.user_cache_dir("asgfn"))


def is_writable(where: Path) -> bool:
    """Whether something can be kept in a folder, which may have to be made."""
    found = next((p for p in (where, *where.parents) if p.exists()), None)
    return found is not None and found.is_dir() and os.access(found, os.W_OK)


def read_entry(path: Path) -> bytes | None:
    """What a file holds; None if there is none, or if it is damaged."""
    try:
        whole = path.read_bytes()
    except OSError:
        return None
    start = len(_MAGIC) + _CHECK
    data = whole[start:]
    if whole[: len(_MAGIC)] != _MAGIC or whole[len(_MAGIC) : start] != _checksum(data):
        return None
    with contextlib.suppress(OSError):
        os.utime(path)  # it was used
    return data


def write_entry(path: Path, data: bytes, trims: bool = True) -> None:
    """Has a file hold this, all of it or (if another process is faster, or the disk full) what it held before.

    Arguments:
        trims: whether it also looks if the folder has become too large, which takes longer the more files there are.
    """
    # no other thread that runs has this name; what a process left that was stopped is written over
    temporary = path.with_name(f"{path.name}.{os.getpid()}.{threading.get_ident()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        try:
            temporary.write_bytes(_MAGIC + _checksum(data) + data)
            os.replace(temporary, path)
        except OSError:
            temporary.unlink(missing_ok=True)
            raise
        if trims:
            _trim(path.parent, _most_bytes())
    except OSError as error:
        _report(folder() or path.parent, error.strerror or str(error))


@lru_cache(maxsize=16)  # once is enough
def _report(where: Path, error: str) -> None:
    _log.warning("nothing can be kept in %s: %s. Set %s=off, or to another folder", where, error, VARIABLE)


def kept(kind: str, key: str, make: Callable[[], bytes]) -> bytes:
    """What was made for a key before, from the disk if it is there, else made, and kept for the next time."""
    where = folder()
    if where is None:
        return make()
    path = entry_path(where, kind, key)
    found = read_entry(path)
    if found is None:
        found = make()
        write_entry(path, found)
    return found


def entry_path(where: Path, kind: str, key: str) -> Path:
    """The file for a key in the folder of a kind."""
    return where / kind / hashlib.blake2b(key.encode(), digest_size=20).hexdigest()


def _checksum(data: bytes) -> bytes:
    return hashlib.blake2b(data, digest_size=_CHECK).digest()


def _most_bytes() -> int:
    most = config.compilation_cache_max_size
    return DEFAULT_SIZE if most is None or most < 0 else most


def _trim(where: Path, most: int) -> None:
    """Removes the files that were not used for longest, until the rest is no larger than this."""
    found: list[tuple[float, int, str]] = []
    with os.scandir(where) as entries:
        for entry in entries:
            with contextlib.suppress(OSError):  # another process has removed it
                facts = entry.stat()
                found.append((facts.st_mtime, facts.st_size, entry.path))
    total = sum(size for _, size, _ in found)
    for _, size, path in sorted(found):
        if total <= most:
            break
        total -= size
        with contextlib.suppress(OSError):
            os.unlink(path)
