"""The files of a `MetricLogger`, each a function of the rows: JSON lines, CSV, TensorBoard events.

A row is a dict: "step", "epoch", perhaps "time", then values by name. Because a file is nothing but its rows written one after
another, it can be continued, cut back to fewer rows, or made again, with the same bytes as if it had been written at once.
"""

from __future__ import annotations

import csv
import io
import json
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from nn_fn.training import tensorboard

Row = dict[str, Any]
FIXED = ("step", "epoch", "time")  # columns that are not metrics

_NOT_FINITE = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}


class LogFile(Protocol):
    """One format."""

    path: Path

    def render(self, rows: Sequence[Row]) -> bytes:
        """The whole file."""

    def render_next(self, rows: Sequence[Row]) -> bytes | None:
        """What the last row adds to a file of the others; None if the whole file has to be written again."""


class JsonLines:
    """One JSON object a line. Numbers that JSON lacks are the strings "NaN", "Infinity" and "-Infinity"."""

    def __init__(self, path: Path):
        self.path = path

    def render(self, rows: Sequence[Row]) -> bytes:
        return b"".join(self._line(row) for row in rows)

    def render_next(self, rows: Sequence[Row]) -> bytes | None:
        return self._line(rows[-1])

    def _line(self, row: Row) -> bytes:
        plain = {name: _json_value(value) for name, value in row.items()}
        return (json.dumps(plain, allow_nan=False, ensure_ascii=False) + "\n").encode()

    def read(self) -> list[Row]:
        """The rows of the file; a last line that is not whole is left out.

        Raises:
            ValueError: another line is not a row.
        """
        lines = self.path.read_bytes().split(b"\n")[:-1]
        rows: list[Row] = []
        for number, line in enumerate(lines, 1):
            try:
                row = json.loads(line.decode())
                if not isinstance(row, dict):
                    raise ValueError("it is not an object")
                rows.append(_checked({name: _number_of(value) for name, value in row.items()}))
            except ValueError as error:  # of JSON, of UTF-8, or the one above
                if number == len(lines):
                    break
                raise ValueError(f"{self.path}, line {number}, is damaged: {error}") from None
        return rows


class Csv:
    """Comma-separated values (RFC 4180), a column for each name in order of appearance; no value is an empty cell."""

    def __init__(self, path: Path):
        self.path = path
        self._columns: list[str] = []  # of what was rendered last

    def render(self, rows: Sequence[Row]) -> bytes:
        names = dict.fromkeys(name for row in rows for name in row)
        self._columns = [name for name in FIXED if name in names] + [name for name in names if name not in FIXED]
        return _csv_lines([self._columns, *map(self._cells, rows)]) if rows else b""

    def render_next(self, rows: Sequence[Row]) -> bytes | None:
        return _csv_lines([self._cells(rows[-1])]) if rows[-1].keys() <= set(self._columns) else None

    def _cells(self, row: Row) -> list[Any]:
        return [row.get(name) for name in self._columns]

    def read(self) -> list[Row]:
        """The rows of the file; a last line that is not whole is left out.

        Raises:
            ValueError: another line is not a row.
        """
        text = self.path.read_bytes()
        lines = list(csv.reader(io.StringIO(text[: text.rfind(b"\n") + 1].decode(), newline="")))
        rows: list[Row] = []
        if not lines:
            return rows
        columns = lines[0]
        if columns[:2] != ["step", "epoch"] or len(set(columns)) != len(columns):
            raise ValueError(f"{self.path} is not a MetricLogger's file: its columns are {columns}")
        for number, cells in enumerate(lines[1:], 2):
            try:
                rows.append(_checked({name: _parse(cell) for name, cell in zip(columns, cells, strict=True) if cell}))
            except ValueError as error:
                if number == len(lines):
                    break
                raise ValueError(f"{self.path}, line {number}, is damaged: {error}") from None
        return rows


class Events:
    """A TensorBoard event file with the scalars of each row; wall times are 0 for rows without a time."""

    def __init__(self, path: Path):
        self.path = path

    def render(self, rows: Sequence[Row]) -> bytes:
        return b"".join([tensorboard.version_record(), *(self._record(row) for row in rows)])

    def render_next(self, rows: Sequence[Row]) -> bytes | None:
        return None if len(rows) == 1 else self._record(rows[-1])

    def _record(self, row: Row) -> bytes:
        values = {name: value for name, value in row.items() if name not in FIXED}
        return tensorboard.scalars_record(row["step"], values, row.get("time", 0.0))


def append(file: LogFile, rows: Sequence[Row]) -> None:
    """Writes the last row, whole, after the others.

    Raises:
        OSError: it could not be written; then the file is as before.
    """
    data = file.render_next(rows)
    if data is None or not file.path.exists():
        return settle(file, rows)
    with open(file.path, "ab", buffering=0) as handle:
        before = handle.tell()
        try:
            written = handle.write(data)
            if written != len(data):
                raise OSError(f"only {written} of {len(data)} bytes could be written to {file.path}")
        except BaseException:
            handle.truncate(before)
            raise


def settle(file: LogFile, rows: Sequence[Row]) -> None:
    """Makes the file hold exactly these rows; if it does, it is not touched, and if it holds more, it is cut."""
    data = file.render(rows)
    found = file.path.read_bytes() if file.path.exists() else None
    if found == data or (found is None and not rows):
        return
    if found is not None and found.startswith(data):
        os.truncate(file.path, len(data))
        return
    temporary = file.path.with_name(f".{file.path.name}.tmp")
    try:
        temporary.write_bytes(data)
        os.replace(temporary, file.path)
    finally:
        temporary.unlink(missing_ok=True)


def _csv_lines(lines: Sequence[Sequence[Any]]) -> bytes:
    out = io.StringIO(newline="")
    csv.writer(out, lineterminator="\n").writerows(lines)
    return out.getvalue().encode()


def _checked(row: Row) -> Row:
    if type(row.get("step")) is not int or type(row.get("epoch")) is not int:
        raise ValueError("it has no step or no epoch")
    return row


def _parse(cell: str) -> int | float:
    try:
        return int(cell)
    except ValueError:
        return float(cell)


def _json_value(value: int | float) -> int | float | str:
    if math.isfinite(value):
        return value
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


def _number_of(value: Any) -> int | float:
    if isinstance(value, str) and value in _NOT_FINITE:
        return _NOT_FINITE[value]
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ValueError(f"{value!r} is not a number")
    return value
