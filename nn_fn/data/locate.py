"""Where the files of a data set are: named by the user, downloaded before, installed by the system, or fetched now."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from nn_fn.data.download import cache_folder, download_file
from nn_fn.data.errors import DataNotFoundError, DownloadError

ENVIRONMENT_VARIABLE = "ASGFN_DATA"


@dataclass(frozen=True)
class OfficialFile:
    """A file that a data set consists of.

    Attributes:
        names: the names under which it is accepted. The first one is what is downloaded.
        urls: addresses of the file of the first name.
        md5: checksum of the file of the first name, as published.
    """

    names: tuple[str, ...]
    urls: tuple[str, ...]
    md5: str


@dataclass(frozen=True)
class Places:
    """Where a data set may be.

    Attributes:
        title: its name for people.
        folders: its folder inside of a folder of data sets; the first one is where a download goes.
        system_folders: folders in which operating systems install it.
        remedy: one more way to get it, as a sentence; may be empty.
    """

    title: str
    folders: tuple[str, ...]
    system_folders: tuple[str, ...] = ()
    remedy: str = ""


def locate(
    caller: str,
    places: Places,
    files: Sequence[OfficialFile],
    root: str | os.PathLike[str] | None,
    fetch: bool,
) -> list[Path]:
    """The paths of `files`, all in one folder. The first folder that has them all is taken.

    The order: `root` (its subfolders for this data set, then itself), the environment variable `ASGFN_DATA` (the
    same subfolders), the cache folder, the system's folders; and then the network.

    Raises:
        DataNotFoundError: when `root` is not a folder, or the files are nowhere and `fetch` is false.
        DownloadError: when they are nowhere and cannot be downloaded.
    """
    base = cache_folder()
    candidates: list[Path] = []
    named = os.environ.get(ENVIRONMENT_VARIABLE)
    if named:
        base = Path(named)
        candidates += [base / folder for folder in places.folders]
    if root is not None:
        base = Path(root)
        if not base.is_dir():
            raise DataNotFoundError(f"{caller}: root={str(root)!r} is not a folder. Make it, or leave root out")
        candidates = [*(base / folder for folder in places.folders), base, *candidates]
    candidates += [cache_folder() / folder for folder in places.folders]
    candidates += [Path(folder) for folder in places.system_folders]
    # two names of one folder are one place
    candidates = list(dict.fromkeys(Path(os.path.normpath(folder)) for folder in candidates))

    searched = []
    for folder in candidates:
        found = [_present(folder, file) for file in files]
        complete = [path for path in found if path is not None]
        if len(complete) == len(files):
            return complete
        lacking = ", ".join(file.names[0] for file, path in zip(files, found, strict=True) if path is None)
        searched.append(f"{folder}" + (f" (only lacks {lacking})" if complete else ""))

    if fetch:
        target = base / places.folders[0]
        try:
            return [download_file(file.urls, target / file.names[0], md5=file.md5) for file in files]
        except DownloadError as error:
            reason = f"and downloading failed:\n  {error.args[0]}"
            raise DownloadError(_instructions(caller, places, files, searched, reason)) from error
    raise DataNotFoundError(_instructions(caller, places, files, searched, "and download=False"))


def _present(folder: Path, file: OfficialFile) -> Path | None:
    return next((folder / name for name in file.names if (folder / name).is_file()), None)


def _instructions(
    caller: str, places: Places, files: Sequence[OfficialFile], searched: Sequence[str], reason: str
) -> str:
    lines = [f"{caller}: the files of {places.title} are not on this machine, {reason}", "  Needed, all in one folder:"]
    lines += [f"    {' or '.join(file.names)}   from {file.urls[0]}" for file in files]
    lines += ["  Searched:", *(f"    {folder}" for folder in searched)]
    lines.append(
        "  What to do: copy the files into one of these folders, or into a folder of your own and name it by root=..., "
        f"or set the environment variable {ENVIRONMENT_VARIABLE} to a folder that has them in its subfolder "
        f"{places.folders[0]!r}. With a network, download=True fetches them."
    )
    if places.remedy:
        lines.append(f"  {places.remedy}")
    return "\n".join(lines)
