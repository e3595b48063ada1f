"""What can go wrong with the files of a data set."""

from __future__ import annotations

from asgfn.errors import AsgError


class DataError(AsgError, ValueError):
    """A file is damaged, forged, of another format, or not the official one."""


class DataNotFoundError(DataError, FileNotFoundError):
    """A file or folder is missing."""


class DownloadError(DataError, OSError):
    """A file could not be downloaded."""
