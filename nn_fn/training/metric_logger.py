"""MetricLogger: what was measured, when, and what was best; in memory and in files."""

from __future__ import annotations

import math
import operator
import os
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from asgfn.errors import DTypeError, ShapeError
from nn_fn.metrics import Metric
from nn_fn.training import log_files
from nn_fn.training.directions import Direction, as_directions
from nn_fn.training.directions import direction_of as direction_of
from nn_fn.training.log_files import FIXED, Csv, Events, JsonLines, LogFile, Row

STATE_VERSION = 1


class Best(NamedTuple):
    """The best value of a metric, and the step and epoch at which it was logged first."""

    value: float
    step: int
    epoch: int


class Summary(NamedTuple):
    """What is known of one metric. `best` is None where no direction is better, or all values are nan."""

    last: float
    best: Best | None
    mean: float
    number: int


class MetricLogger:
    """Keeps rows of named numbers by step, and writes them to files.

        logger = MetricLogger("runs/1", better={"score": "max"})
        logger.log(step, loss=loss, accuracy=accuracy)
        print(logger.format_line())         # step 10 | epoch 0 | loss 0.31 * | accuracy 0.91
        logger.best("accuracy")             # Best(value=0.91, step=10, epoch=0)

    Files are ``metrics.jsonl`` (a JSON object a line; numbers that JSON lacks are the strings "NaN", "Infinity", "-Infinity"),
    ``metrics.csv`` (a column a name; when a new name comes, the file is written again with one column more) and
    ``events.out.tfevents.metrics`` (TensorBoard). Each row is written whole and at once, in this order of files. A logger on a
    folder with files continues them: a last line that a kill left half-written is dropped, and all files are brought to the
    same rows. Files depend on nothing but the rows, so they are the same bytes after a kill and a resume as without them.
    One process writes to a folder at a time.

    To resume from a checkpoint, keep `state_dict()` in it and give it to `load_state_dict`; or open the folder and call
    `rewind(step)`. Both drop the rows after it, also from the files.

    Arguments:
        folder: where files go (made if needed); None for memory only.
        formats: some of "jsonl", "csv" and "tensorboard". TensorBoard's alone is not enough, because its numbers are float32,
            so that rows could not be read back.
        better: which direction of a metric is better: "max", "min" or None by name, or a `Metric` (by its name), or a
            collection (whose nested names are joined by "/"). Names not given follow `direction_of`.
        wall_time: adds a column "time", seconds since 1970, to each row; then files differ from run to run.

    Attributes:
        epoch: the current epoch, from 0.
        rows: all rows so far: dicts of "step", "epoch", perhaps "time", and values by name.

    Raises:
        ValueError: an argument is wrong, or a file in the folder is damaged elsewhere than in its last line.
    """

    def __init__(
        self,
        folder: str | os.PathLike | None = None,
        *,
        formats: Sequence[str] = ("jsonl", "csv"),
        better: Mapping[str, Any] | Metric | None = None,
        wall_time: bool = False,
    ):
        self.epoch = 0
        self.rows: list[Row] = []
        self._better = as_directions(better, "MetricLogger")
        self._wall_time = wall_time
        self._least: dict[str, Best] = {}
        self._greatest: dict[str, Best] = {}
        self._last: dict[str, float] = {}
        self._files: list[LogFile] = []
        if folder is not None:
            self._open(Path(folder), formats)

    # ------------------------------------------------------------------ writing
    def log(self, step: int, /, **values: Any) -> None:
        """Logs numbers of a step; see `log_dict`."""
        self.log_dict(step, values)

    def log_dict(self, step: int, values: Mapping[str, Any]) -> None:
        """Adds a row and writes it to the files.

        Arguments:
            step: an integer from 0, not less than that of the last row. A step may have several rows.
            values: numbers (Python's, NumPy's, or arrays of shape []) by name, or dicts of them, whose names are joined by
                "/". No values, no row.

        Raises:
            ValueError: the step went backwards, or a name is "step", "epoch" or "time", or not printable.
            TypeError, ShapeError, DTypeError: something is not a real number.
        """
        step = _step(step)
        if self.rows and step < self.rows[-1]["step"]:
            raise ValueError(
                f"MetricLogger: step {step} comes after step {self.rows[-1]['step']}; to go back, call rewind({step}), "
                "or load_state_dict of a checkpoint; for a new run, use another folder"
            )
        numbers = _flat(values)
        if not numbers:
            return
        row: Row = {"step": step, "epoch": self.epoch}
        if self._wall_time:
            row["time"] = time.time()
        row.update(numbers)
        self._add(row)
        for file in self._files:
            log_files.append(file, self.rows)

    def end_epoch(self) -> int:
        """Says that an epoch is over. Returns the number of the next one."""
        self.epoch += 1
        return self.epoch

    # ------------------------------------------------------------------ reading
    @property
    def names(self) -> list[str]:
        """Names of metrics, in order of appearance."""
        return list(self._last)

    def history(self, name: str) -> list[tuple[int, float]]:
        """(step, value) of all values of a metric.

        Raises:
            KeyError: nothing of the name was logged (so for all functions that take a name).
        """
        self._known(name)
        return [(row["step"], row[name]) for row in self.rows if name in row]

    def last(self, name: str) -> float:
        """The value logged last."""
        self._known(name)
        return self._last[name]

    def mean(self, name: str, epoch: int | None = None) -> float:
        """The mean of all values, or of those of an epoch; nan if there are none."""
        self._known(name)
        values = [row[name] for row in self.rows if name in row and epoch in (None, row["epoch"])]
        return _mean(values)

    def direction(self, name: str) -> Direction | None:
        """Which direction is better: as told, else by the name (see `direction_of`); None if that is not known."""
        return self._better[name] if name in self._better else direction_of(name)

    def best(self, name: str) -> Best:
        """The best value of a metric, the first of equal ones; nan is never best.

        Raises:
            ValueError: which direction is better was not told and does not follow from the name, or all values are nan.
        """
        self._known(name)
        if self.direction(name) is None:
            raise ValueError(
                f"MetricLogger: whether more or less of {name!r} is better does not follow from its name; "
                f"say so: MetricLogger(better={{{name!r}: 'max'}}) or 'min'"
            )
        best = self._best(name)
        if best is None:
            raise ValueError(f"MetricLogger: all values of {name!r} are nan, so none is best")
        return best

    def summary(self) -> dict[str, Summary]:
        """Last, best, mean and number of values of every metric."""
        values: dict[str, list[float]] = {name: [] for name in self._last}
        for row in self.rows:
            for name in row:
                if name not in FIXED:
                    values[name].append(row[name])
        return {
            name: Summary(self._last[name], self._best(name), _mean(found), len(found))
            for name, found in values.items()
        }

    def format_line(self) -> str:
        """The last step in one line; " *" marks values that are the best so far."""
        if not self.rows:
            return "nothing logged"
        step = self.rows[-1]["step"]
        newest: Row = {}
        for row in reversed(self.rows):
            if row["step"] != step:
                break
            newest = {**row, **newest}
        parts = [f"step {step}", f"epoch {self.rows[-1]['epoch']}"]
        for name in self._last:
            if name in newest:
                best = self._best(name)
                mark = " *" if best is not None and (best.step, best.value) == (step, newest[name]) else ""
                parts.append(f"{name} {newest[name]:.5g}{mark}")
        return " | ".join(parts)

    # ------------------------------------------------------------------ resuming
    def state_dict(self) -> dict[str, Any]:
        """Everything that was logged, as plain data (dicts, lists, strings, numbers), for a checkpoint."""
        return {"version": STATE_VERSION, "epoch": self.epoch, "rows": [dict(row) for row in self.rows]}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Goes back to a state: history, epoch and files are what they were then.

        Raises:
            ValueError: it is no state of a MetricLogger.
        """
        try:
            version, epoch, rows = state["version"], int(state["epoch"]), [dict(row) for row in state["rows"]]
        except (KeyError, TypeError) as error:
            raise ValueError(
                f"MetricLogger: this is no state of a MetricLogger ({error!r} is missing or wrong)"
            ) from None
        if version != STATE_VERSION:
            raise ValueError(
                f"MetricLogger: the state's version is {version!r}, but this reads version {STATE_VERSION}"
            )
        self._replace(rows, epoch)

    def rewind(self, step: int, epoch: int | None = None) -> None:
        """Drops all rows after a step, also from the files.

        Arguments:
            epoch: the current epoch then; by default that of the last row left.
        """
        step = _step(step)
        rows = [row for row in self.rows if row["step"] <= step]
        self._replace(rows, (rows[-1]["epoch"] if rows else 0) if epoch is None else epoch)

    # ------------------------------------------------------------------ parts
    def _open(self, folder: Path, formats: Sequence[str]) -> None:
        classes: dict[str, Callable[[Path], LogFile]] = {"jsonl": JsonLines, "csv": Csv, "tensorboard": Events}
        names = {"jsonl": "metrics.jsonl", "csv": "metrics.csv", "tensorboard": "events.out.tfevents.metrics"}
        if isinstance(formats, str) or not set(formats) <= set(classes) or not {"jsonl", "csv"} & set(formats):
            raise ValueError(
                "MetricLogger: formats must be some of 'jsonl', 'csv' and 'tensorboard', with one of the first two; "
                f"got {formats!r}"
            )
        folder.mkdir(parents=True, exist_ok=True)
        self._files = [make(folder / names[kind]) for kind, make in classes.items() if kind in formats]
        # a kill may have come between two files: the one with more rows knows more
        found = [file.read() for file in self._files if isinstance(file, (JsonLines, Csv)) and file.path.exists()]
        rows = max(found, key=len, default=[])
        self._replace(rows, rows[-1]["epoch"] if rows else 0)

    def _replace(self, rows: list[Row], epoch: int) -> None:
        self.epoch, self.rows = epoch, []
        self._least, self._greatest, self._last = {}, {}, {}
        for row in rows:
            self._add(row)
        for file in self._files:
            log_files.settle(file, self.rows)

    def _add(self, row: Row) -> None:
        self.rows.append(row)
        for name, value in row.items():
            if name in FIXED:
                continue
            self._last[name] = value
            if math.isnan(value):
                continue
            here = Best(value, row["step"], row["epoch"])
            if name not in self._least or value < self._least[name].value:
                self._least[name] = here
            if name not in self._greatest or value > self._greatest[name].value:
                self._greatest[name] = here

    def _best(self, name: str) -> Best | None:
        direction = self.direction(name)
        if direction is None:
            return None
        return (self._greatest if direction == "max" else self._least).get(name)

    def _known(self, name: str) -> None:
        if name not in self._last:
            known = ", ".join(map(repr, self._last)) or "none"
            raise KeyError(f"MetricLogger: nothing was logged as {name!r}; names: {known}")


def _mean(values: Sequence[float]) -> float:
    if not values:
        return math.nan
    try:
        return math.fsum(values) / len(values)
    except (OverflowError, ValueError):  # the sum is too large, or of both infinities
        return float(np.mean(np.asarray(values, float) / len(values)) * len(values))


def _step(step: Any) -> int:
    try:
        number = operator.index(step)
    except TypeError:
        raise TypeError(f"MetricLogger: step must be an integer, got {step!r}") from None
    if not 0 <= number < 2**63:
        raise ValueError(f"MetricLogger: step must be from 0 to 2**63 - 1, got {number}")
    return number


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, float]:
    numbers: dict[str, float] = {}
    for name, value in values.items():
        if not isinstance(name, str) or not name or not name.isprintable():
            raise ValueError(f"MetricLogger: names must be printable strings, got {name!r}")
        if prefix + name in FIXED:
            raise ValueError(
                f"MetricLogger: {name!r} is the name of a column of every row; call the metric something else"
            )
        if isinstance(value, Mapping):
            numbers |= _flat(value, f"{prefix}{name}/")
        else:
            numbers[prefix + name] = _number(prefix + name, value)
    return numbers


def _number(name: str, value: Any) -> int | float:
    """A Python number: an int from integers and booleans of up to 64 bits, else a float."""
    if isinstance(value, (str, bytes)) or value is None:
        raise TypeError(f"MetricLogger: {name} must be a number, got {value!r}")
    array = np.asarray(value)
    if array.shape != ():
        raise ShapeError(
            f"MetricLogger: {name} must be one number, got {array.dtype}{list(array.shape)}; log a mean, or each under its own name"
        )
    if array.dtype.kind in "biu":
        return int(array)
    try:
        if array.dtype.kind == "c":
            raise TypeError
        return float(array)
    except (TypeError, ValueError):
        raise DTypeError(f"MetricLogger: {name} must be a real number, got {value!r}") from None
