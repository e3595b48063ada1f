"""Seconds of schedules, remembered on disk by adapter."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping
from pathlib import Path

from asgfn.records import fields
from backends.kernels.schedules.tiles import Direct, Schedule, Skinny, TensorTile, Tile
from backends.programs.disk import folder, read_entry, write_entry

Times = dict[Schedule, float]
_SCHEDULES = {cls.__name__: cls for cls in (Tile, Skinny, Direct, TensorTile)}
_log = logging.getLogger("asgfn")


def _path(adapter: str) -> Path | None:
    where = folder()
    name = hashlib.blake2b(adapter.encode(), digest_size=16).hexdigest()
    return None if where is None else where / "tuning" / f"{name}.times"


def remembered(adapter: str) -> dict[str, Times]:
    """What was measured on an adapter: seconds of schedules by class of problem."""
    path = _path(adapter)
    data = None if path is None else read_entry(path)
    if data is None:
        return {}
    import msgpack

    try:
        stored = msgpack.unpackb(data, raw=False)
        return {
            str(key): {
                _SCHEDULES[name](**values): float(seconds) for name, values, seconds in times if name in _SCHEDULES
            }
            for key, times in stored.items()
        }
    except Exception as error:  # another version wrote it: schedules have other fields
        _log.debug("ignoring %s: %s", path, error)
        return {}


def remember(adapter: str, measured: Mapping[str, Mapping[Schedule, float]]) -> None:
    """Keeps measurements, with those that other processes have kept."""
    path = _path(adapter)
    if path is None:
        return
    import msgpack

    whole = {**remembered(adapter), **measured}
    stored = {key: [[type(s).__name__, _values(s), t] for s, t in times.items()] for key, times in whole.items()}
    write_entry(path, msgpack.packb(stored, use_bin_type=True))


def _values(schedule: Schedule) -> dict[str, int]:
    return {name: getattr(schedule, name) for name in fields(schedule)}
