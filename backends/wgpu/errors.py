"""What goes wrong on a GPU, said so that somebody can do something about it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol

from asgfn.errors import AsgError, BackendError
from backends.wgpu.package import package


class Owner(Protocol):
    """The device that an error is about.

    Attributes:
        lost: set when it went away.
        pool: its memory.
    """

    lost: bool
    pool: Any


class OutOfDeviceMemory(BackendError):
    """The GPU has no memory left for what was asked."""


class DeviceLost(BackendError):
    """The GPU went away: a reset, a crash of its driver, a laptop that switched to its other one."""


_LOST = ("is lost", "device lost", "device was lost")
_MEMORY = ("out of memory", "not enough memory", "outofmemory", "memory allocation")


def translated(message: str, device: Owner | None, doing: str) -> BackendError:
    """The error for what the GPU's library said, while we were doing something."""
    lowered = message.lower()
    first = message.strip().splitlines()[-1].strip() if message.strip() else "no message"
    if any(text in lowered for text in _MEMORY):
        held = f" ({device.pool.describe()})" if device is not None else ""
        return OutOfDeviceMemory(
            f"wgpu: out of memory while {doing}{held}: {first}. Use smaller batches, donate arguments that a call replaces "
            "(donate_argnums), recompute instead of storing (asgfn.checkpoint), or delete arrays that are not needed"
        )
    if any(text in lowered for text in _LOST):
        if device is not None:
            device.lost = True
        return DeviceLost(
            f"wgpu: the GPU was lost while {doing}: {first}. Its arrays are gone; the next call starts anew on a fresh device, "
            "so make the arrays again (from a checkpoint, say) and go on"
        )
    return BackendError(
        f"wgpu: the GPU's library refused while {doing}: {message.strip()}\n"
        "This is a bug in asgfn's wgpu backend (or in the driver): please report it. backend='numpy' runs the same program"
    )


@contextmanager
def gpu_errors(device: Owner | None, doing: str) -> Iterator[None]:
    """Errors of the GPU's library in the block become `BackendError`s."""
    wgpu = package()

    try:
        yield
    except AsgError:
        raise
    except (wgpu.GPUError, RuntimeError) as error:
        raise translated(str(error), device, doing) from error


def check_alive(device: Owner, what: Any = "this array") -> None:
    """Raises if the device was lost."""
    if device.lost:
        raise DeviceLost(
            f"wgpu: {what} lived on a GPU device that was lost; its contents are gone. Make it again: the next call uses a fresh device"
        )
