"""`CheckpointManager`: the checkpoints of a training run, in a folder.

What is there is always read from the folder and never remembered, so several processes, and the same run after a
restart, see the same.
"""

from __future__ import annotations

import contextlib
import errno
import math
import operator
import os
import re
import warnings
import weakref
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from nn_fn.checkpoints.checkpoint import load_checkpoint, load_metadata, verify_checkpoint, write_checkpoint
from nn_fn.checkpoints.errors import DamagedCheckpointError, DamagedCheckpointWarning
from nn_fn.checkpoints.files import locked_folder, release, remove_abandoned, remove_unless_locked

_NAME = re.compile(r"step_([0-9]+)\.safetensors")

# The newest file that this process wrote to a folder, open and locked, so that no other process rotates it away; and
# the id of the manager that did. By process, since a forked child inherits this.
_newest: dict[tuple[int, Path], tuple[int, BinaryIO]] = {}


class Restored(NamedTuple):
    """A checkpoint that was read: the step, the tree, and what was saved with them."""

    step: int
    tree: Any
    metrics: dict[str, float]
    metadata: dict[str, Any]


class CheckpointManager:
    """Saves checkpoints by step, keeps the newest and the best, and finds them again.

        manager = CheckpointManager("runs/digits", best_metric="val_loss")
        manager.save(step, {"params": params, "optimiser": state}, metrics={"val_loss": loss})
        step, tree, metrics, metadata = manager.restore(like={"params": params, "optimiser": state})

    Files are named `step_00000012.safetensors`, and can be loaded with `load_checkpoint` as well. Several processes may
    use one folder: none sees half a file, and none deletes the newest file of another that still runs (where the file
    system has locks). What writers that were killed left behind is deleted when a manager is made.

    Arguments:
        folder: made if it is not there.
        max_to_keep: how many of the newest checkpoints stay, by step; None for all. Files with a damaged header do not
            count.
        keep_best: how many of the best stay in addition.
        best_metric: the name of the metric that says what is best; checkpoints without it, or with NaN, never are. Of
            equally good ones the earliest is best.
        mode: "min" or "max", whether lower or higher is better.
    """

    def __init__(
        self,
        folder: str | os.PathLike,
        max_to_keep: int | None = 3,
        keep_best: int = 1,
        best_metric: str | None = None,
        mode: str = "min",
    ):
        if max_to_keep is not None and max_to_keep < 1:
            raise ValueError(
                f"CheckpointManager: max_to_keep is the number of files to keep or None, got {max_to_keep}"
            )
        if keep_best < 0:
            raise ValueError(f"CheckpointManager: keep_best is the number of files to keep, got {keep_best}")
        if mode not in ("min", "max"):
            raise ValueError(f"CheckpointManager: mode is 'min' or 'max', got {mode!r}")
        self.folder = Path(folder)
        self.max_to_keep, self.keep_best = max_to_keep, keep_best
        self.best_metric, self.mode = best_metric, mode
        self.folder.mkdir(parents=True, exist_ok=True)
        weakref.finalize(self, _let_go, self.folder.resolve(), id(self))
        remove_abandoned(self.folder, lambda name: _NAME.fullmatch(name) is not None)

    # ------------------------------------------------------------------------------------------------ what is there
    def steps(self) -> list[int]:
        """The steps of all checkpoints, damaged ones included, in increasing order."""
        with locked_folder(self.folder):
            return sorted({step for step, _ in self._files()})

    @property
    def latest_step(self) -> int | None:
        """The highest step; None if there is no checkpoint."""
        return max(self.steps(), default=None)

    @property
    def best_step(self) -> int | None:
        """The step with the best metric, from the files' headers; None without `best_metric`, or if none has it."""
        return next(iter(self._from_best_to_worst(self.metrics())), None)

    def metrics(self) -> dict[int, dict[str, float]]:
        """The metrics of each step, from the files' headers; steps whose header is damaged are left out."""
        with locked_folder(self.folder):
            return {step: notes["metrics"] for step, _, notes in self._headers() if not isinstance(notes, Exception)}

    def path(self, step: int) -> Path:
        """The file that holds a step, or would."""
        return self._find(step) or self.folder / f"step_{step:08d}.safetensors"

    # Listing a folder takes time, and a file may be missed that another process renames meanwhile. So these are called
    # while the folder is locked.

    def _files(self) -> list[tuple[int, Path]]:
        # of two files for one step, the one named in the usual way comes last
        found = [
            (int(match[1]), len(match[1]) == 8, path)
            for path in self.folder.iterdir()
            if (match := _NAME.fullmatch(path.name)) and path.is_file()
        ]
        return [(step, path) for step, _, path in sorted(found)]

    def _headers(self) -> Iterator[tuple[int, Path, Any]]:
        """Step, file, and what the header says, or the error."""
        for step, path in dict(self._files()).items():
            try:
                yield step, path, _notes(path, step)
            except DamagedCheckpointError as error:
                yield step, path, error
            except FileNotFoundError:  # deleted by somebody who knows nothing of locks
                continue

    def _from_best_to_worst(self, metrics: Mapping[int, Mapping[str, float]]) -> list[int]:
        if self.best_metric is None:
            return []
        values = {step: found.get(self.best_metric, math.nan) for step, found in metrics.items()}
        sign = 1 if self.mode == "min" else -1
        return sorted((s for s, value in values.items() if not math.isnan(value)), key=lambda s: (sign * values[s], s))

    def _find(self, step: int) -> Path | None:
        with locked_folder(self.folder):
            return dict(self._files()).get(step)

    # ------------------------------------------------------------------------------------------------------- saving
    def save(
        self,
        step: int,
        tree: Any,
        *,
        metrics: Mapping[str, Any] | None = None,
        metadata: Mapping[str, Any] | None = None,
        overwrite: bool = False,
    ) -> Path:
        """Saves a pytree as the checkpoint of a step, then deletes checkpoints that are not to be kept.

        Arguments:
            step: 0 or more.
            tree: see `save_checkpoint`.
            metrics: numbers by name, kept in the file's header.
            metadata: JSON-like notes.
            overwrite: replace a checkpoint of this step. One that is damaged is always replaced, with a warning.

        Returns:
            the file's path.

        Raises:
            FileExistsError: there is a checkpoint of this step and `overwrite` is False.
            TypeError, OSError: see `save_checkpoint`.
        """
        step = _checked_step("save", step)
        notes = {
            "step": step,
            "metrics": {str(name): float(value) for name, value in (metrics or {}).items()},
            "metadata": metadata or {},
        }
        if not overwrite and (there := self._find(step)) is not None:
            overwrite = _is_worthless(there)
            if not overwrite:
                raise FileExistsError(
                    f"CheckpointManager.save: there is a checkpoint of step {step} at {there}; "
                    "to replace it, pass overwrite=True"
                )
        path = self.folder / f"step_{step:08d}.safetensors"
        file = write_checkpoint(path, tree, notes, overwrite=overwrite)
        folder = self.folder.resolve()
        _let_go(folder)
        _newest[os.getpid(), folder] = id(self), file
        self._rotate(step, path)
        return path

    def delete(self, step: int) -> None:
        """Deletes the checkpoint of a step. Raises FileNotFoundError if there is none."""
        with locked_folder(self.folder):
            paths = [path for found, path in self._files() if found == step]
            for path in paths:
                path.unlink(missing_ok=True)
        if not paths:
            raise self._missing(step)

    def _rotate(self, saved: int, saved_path: Path) -> None:
        with locked_folder(self.folder):
            files = self._files()
            headers = {step: notes for step, _, notes in self._headers() if not isinstance(notes, Exception)}
            ranking = self._from_best_to_worst({step: notes["metrics"] for step, notes in headers.items()})
            kept = {saved, *ranking[: self.keep_best]}
            newest = sorted(headers)[-self.max_to_keep :] if self.max_to_keep is not None else []
            for step, path in files:
                another_name = step == saved and path != saved_path
                if another_name or (newest and step < newest[0] and step not in kept):
                    remove_unless_locked(path)

    # ---------------------------------------------------------------------------------------------------- restoring
    def restore(
        self, step: int | str | None = None, like: Any = None, *, mmap: bool = False, verify: bool = True
    ) -> Restored:
        """Reads a checkpoint.

        Arguments:
            step: a step; "best"; or None for the latest. Where the latest or best one is damaged, the next one that is
                sound is read, and a warning names the file and the reason. A step given as a number is read or fails.
            like, mmap, verify: see `load_checkpoint`. A checkpoint that is sound but does not fit `like` is an error,
                and not a reason to read an older one.

        Raises:
            FileNotFoundError: there is no checkpoint, or none of this step.
            DamagedCheckpointError: the step asked for, or every checkpoint, is damaged.
            CheckpointMismatchError: it does not fit `like`.
        """
        if step is not None and step != "best":
            step = _checked_step("restore", step)
            path = self._find(step)
            if path is None:
                raise self._missing(step)
            return _load(path, step, like, mmap, verify)
        if step == "best" and self.best_metric is None:
            raise ValueError("CheckpointManager.restore: 'best' needs a manager with best_metric=")
        failed: dict[Path, str] = {}
        while (candidate := self._next(step == "best", failed)) is not None:
            number, path = candidate
            try:
                return _load(path, number, like, mmap, verify)
            except DamagedCheckpointError as error:
                failed[path] = error.args[0]  # without the user's line, which a warning has itself
                _warn(f"{error.args[0]}; trying another checkpoint")
            except FileNotFoundError:  # look again
                failed[path] = f"{path} was deleted by another process"
        if failed:
            raise DamagedCheckpointError(
                f"every checkpoint in {self.folder} that could be restored is damaged:\n  "
                + "\n  ".join(failed.values())
            )
        what = f"checkpoint with the metric {self.best_metric!r}" if step == "best" else "checkpoint"
        raise FileNotFoundError(f"CheckpointManager.restore: there is no {what} in {self.folder}")

    def _next(self, best: bool, failed: dict[Path, str]) -> tuple[int, Path] | None:
        """The checkpoint to try next; damaged headers met on the way are added to `failed`."""
        with locked_folder(self.folder):
            files, headers = self._files(), list(self._headers()) if best else []
        if not best:
            return next(((step, path) for step, path in reversed(files) if path not in failed), None)
        metrics, paths = {}, {}
        for step, path, notes in headers:
            if isinstance(notes, Exception):
                if path not in failed:
                    failed[path] = notes.args[0]
                    _warn(f"{notes.args[0]}; it may have been the best")
            elif path not in failed:
                metrics[step], paths[step] = notes["metrics"], path
        return next(((step, paths[step]) for step in self._from_best_to_worst(metrics)), None)

    def _missing(self, step: int) -> FileNotFoundError:
        there = ", ".join(map(str, self.steps())) or "none"
        return FileNotFoundError(f"there is no checkpoint of step {step} in {self.folder}; there are: {there}")


def _let_go(folder: Path, manager: int | None = None) -> None:
    """Gives up what this process holds in a folder; only if it is that manager's, if one is given."""
    owner, file = _newest.get((os.getpid(), folder), (None, None))
    if file is not None and manager in (None, owner):
        del _newest[os.getpid(), folder]
        release(file)


def _load(path: Path, step: int, like: Any, mmap: bool, verify: bool) -> Restored:
    with _damage_by_device(path):
        tree, notes = load_checkpoint(path, like, mmap=mmap, verify=verify)
    notes = _checked_notes(path, step, notes)
    return Restored(step, tree, notes["metrics"], notes["metadata"])


def _notes(path: Path, step: int) -> dict[str, Any]:
    with _damage_by_device(path):
        return _checked_notes(path, step, load_metadata(path))


def _is_worthless(path: Path) -> bool:
    """Whether nothing would be lost by writing over a file."""
    try:
        verify_checkpoint(path)
    except DamagedCheckpointError as error:
        _warn(f"{error.args[0]}; it is replaced")
        return True
    except FileNotFoundError:  # rotated away meanwhile
        return True
    return False


def _checked_notes(path: Path, step: int, notes: dict[str, Any]) -> dict[str, Any]:
    if notes.keys() != {"step", "metrics", "metadata"}:  # put there by save_checkpoint
        return {"step": step, "metrics": {}, "metadata": notes}
    numbers = notes["metrics"].values() if type(notes["metrics"]) is dict else [None]
    if not all(type(n) in (int, float) for n in numbers) or type(notes["metadata"]) is not dict:
        raise DamagedCheckpointError(f"{path} is damaged: its metrics or metadata are not as this class writes them")
    if notes["step"] != step:
        raise DamagedCheckpointError(f"{path} is damaged: its name says step {step}, its content step {notes['step']}")
    return notes


@contextlib.contextmanager
def _damage_by_device(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno != errno.EIO:
            raise
        raise DamagedCheckpointError(f"{path} is damaged: it cannot be read from the disk: {error}") from None


def _checked_step(name: str, step: Any) -> int:
    try:
        number = operator.index(step)
    except TypeError:
        raise TypeError(f"CheckpointManager.{name}: step is an integer, got {step!r}") from None
    if number < 0:
        raise ValueError(f"CheckpointManager.{name}: step is 0 or more, got {number}")
    return number


def _warn(message: str) -> None:
    warnings.warn(message, DamagedCheckpointWarning, stacklevel=3)
