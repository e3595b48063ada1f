"""What machine this is, as far as that can be told without loading drivers."""

from __future__ import annotations

import sys
from pathlib import Path

# where Linux puts GPUs: those with a driver in the kernel, NVIDIA's, and those of the Windows around it
_LINUX = (("/dev/dri", "renderD*"), ("/dev", "nvidia[0-9]*"), ("/dev", "dxg"))


def may_have_gpu() -> bool:
    """Whether there may be a GPU. To ask a driver takes a second; this takes microseconds, and where it is sure that
    there is none nobody has to be asked."""
    if not sys.platform.startswith("linux"):
        return sys.platform in ("darwin", "win32")
    return any(next(Path(folder).glob(pattern), None) is not None for folder, pattern in _LINUX)
