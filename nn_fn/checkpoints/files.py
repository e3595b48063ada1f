"""Files that are there completely or not at all, and locks that die with the process that holds them.

A file is written under a temporary name in the same folder, synced to the disk, and renamed. While it is written its
writer holds a lock on it (`flock`), which the operating system takes away when the process ends, however it ends. So
whoever gets the lock of a temporary file knows that its writer is gone. Where there are no such locks (Windows, some
network file systems) everything works but the tidying up, which then is left to what the system refuses to delete.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import stat
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

from nn_fn.checkpoints.errors import DamagedCheckpointError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

_process_started = time.time()
_TEMPORARY = re.compile(r"\.(?P<name>.+)\.[0-9a-f]{16}\.tmp")


def _note_start() -> None:
    global _process_started
    _process_started = time.time()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_note_start)


def open_regular(path: Path) -> BinaryIO:
    """Opens a file for reading.

    Raises:
        FileNotFoundError: there is none.
        DamagedCheckpointError: it is a folder, a device or a pipe, whose reading might never end.
    """
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        raise FileNotFoundError(f"there is no checkpoint at {path}: the file does not exist") from None
    if not stat.S_ISREG(mode):
        kind = "a folder" if stat.S_ISDIR(mode) else "not a regular file"
        raise DamagedCheckpointError(f"{path} is damaged or not a checkpoint: it is {kind}")
    return open(path, "rb")


def write_atomically(path: Path, chunks: Iterable[Any], *, overwrite: bool = True) -> BinaryIO:
    """Writes a file so that its name means the old content, or all of the new content, at every moment.

    Arguments:
        chunks: bytes or buffers, written one after another.
        overwrite: whether a file of this name may be replaced.

    Returns:
        the open file, to be closed by the caller; until then it is locked, see `remove_unless_locked`.

    Raises:
        FileExistsError: there is a file of this name, and `overwrite` is False.
        OSError: the disk is full, ...; nothing is left behind.
    """
    _make_folder(path.parent)
    file, temporary = _new_temporary(path)
    done = False
    try:
        for chunk in chunks:
            file.write(chunk)
        file.flush()
        os.fsync(file.fileno())
        if fcntl is None:
            file.close()  # Windows does not rename open files
        with locked_folder(path.parent):
            if overwrite:
                os.replace(temporary, path)
            else:
                _rename_to_new(temporary, path)
            _sync_folder(path.parent)
        done = True
    finally:
        if not done:
            file.close()
            temporary.unlink(missing_ok=True)
    return file


def _new_temporary(path: Path) -> tuple[BinaryIO, Path]:
    while True:
        temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}.tmp")
        file = open(temporary, "xb")
        _lock(file.fileno())
        if os.fstat(file.fileno()).st_nlink:
            return file, temporary
        file.close()  # somebody tidied up between its creation and the lock


def _rename_to_new(temporary: Path, path: Path) -> None:
    try:
        os.link(temporary, path)  # unlike a rename, refuses to replace
    except FileExistsError:
        raise FileExistsError(f"there is a file at {path} already") from None
    except OSError:  # a file system without hard links
        if path.exists():
            raise FileExistsError(f"there is a file at {path} already") from None
        os.replace(temporary, path)
    else:
        temporary.unlink()


def _make_folder(folder: Path) -> None:
    missing = [f for f in (folder, *folder.parents) if not f.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    for made in missing:
        _sync_folder(made.parent)


def _sync_folder(folder: Path) -> None:
    if os.name != "posix":  # elsewhere folders cannot be opened
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _lock(descriptor: int) -> bool:
    """Waits for the lock of a file or folder. False when there are no locks here."""
    if fcntl is None:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
    except OSError:
        return False
    return True


def release(file: BinaryIO) -> None:
    """Gives the lock of an open file back and closes it."""
    if not file.closed:
        if fcntl is not None:
            # closing would not do: child processes may have inherited the file
            with contextlib.suppress(OSError):  # a file system without locks
                fcntl.flock(file.fileno(), fcntl.LOCK_UN)
        file.close()


@contextlib.contextmanager
def locked_folder(folder: Path) -> Iterator[None]:
    """While this is open, other processes wait to rename files into the folder or to delete from it."""
    if fcntl is None:
        yield
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        taken = _lock(descriptor)
        try:
            yield
        finally:
            if taken:
                fcntl.flock(descriptor, fcntl.LOCK_UN)
    finally:
        os.close(descriptor)


def remove_unless_locked(path: Path) -> bool:
    """Deletes a file, unless a process has it locked. Returns whether it is gone."""
    try:
        if fcntl is None:
            path.unlink()
            return True
        descriptor = os.open(path, os.O_RDONLY)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return False
            except OSError:  # a file system without locks
                path.unlink()
                return True
            path.unlink()
            return True
        finally:
            os.close(descriptor)
    except FileNotFoundError:
        return True
    except PermissionError:
        if os.name == "posix":
            raise
        return False  # Windows: somebody has it open


def remove_abandoned(folder: Path, ours: Callable[[str], bool]) -> list[Path]:
    """Deletes temporary files whose writers died.

    Only those go that are older than this process and that nobody has locked.

    Arguments:
        ours: says of a name whether a temporary file for it is to be looked at.

    Returns:
        what was deleted.
    """
    removed = []
    for path in sorted(folder.glob(".*.tmp")):
        match = _TEMPORARY.fullmatch(path.name)
        if match is None or not ours(match["name"]):
            continue
        try:
            found = path.lstat()
        except FileNotFoundError:
            continue
        if stat.S_ISREG(found.st_mode) and found.st_mtime < _process_started and remove_unless_locked(path):
            removed.append(path)
    return removed
