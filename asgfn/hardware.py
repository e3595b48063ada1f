"""What machine this is, as far as that can be told without loading drivers."""

from __future__ import annotations

import fnmatch
import os
import sys

# where Linux puts GPUs: those with a driver in the kernel, NVIDIA's, and those of the Windows around it
_LINUX = (("/dev/dri", "renderD*"), ("/dev", "nvidia[0-9]*"), ("/dev", "dxg"))


def may_have_gpu() -> bool:
    """Whether there may be a GPU. To ask a driver takes a second; this takes microseconds, and where it is sure that
    there is none nobody has to be asked."""
    if not sys.platform.startswith("linux"):
        return sys.platform in ("darwin", "win32")
    return any(fnmatch.filter(_names(folder), pattern) for folder, pattern in _LINUX)


def _names(folder: str) -> list[str]:
    """What is in a folder; `Path.glob` takes three times as long."""
    try:
        return os.listdir(folder)
    except OSError:
        return []
