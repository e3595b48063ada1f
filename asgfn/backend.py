"""How the language finds something that runs programs.

A backend is a small object; packages announce theirs through the entry-point group ``asgfn.backends``:

    [project.entry-points."asgfn.backends"]
    numpy = "backends.numpy:create"

`create()` is called once, the first time that the backend is asked for by name. Its module is imported as soon as a function
is jitted for it, in a thread. If it has a function `prepare()`, that gets ready, bit by bit, what any program needs: it is an
iterator, which that thread goes through as long as no function is called.
"""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from asgfn.background import in_background, is_awaited
from asgfn.config import config
from asgfn.errors import BackendError
from asgfn.graph.asg import Asg
from asgfn.graph.types import ArrayType
from asgfn.hardware import may_have_gpu

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

_log = logging.getLogger("asgfn")


class Executable(Protocol):
    """A compiled program: called with one buffer an input, it returns one buffer an output."""

    def __call__(self, buffers: Sequence[Any]) -> list[Any]: ...

    def as_text(self) -> str:
        """What was compiled, for people."""
        ...

    @property
    def memory(self) -> dict[str, int]:
        """Bytes: ``arguments``, ``outputs``, ``constants``, ``temporaries`` (peak), ``total``."""
        ...

    # If there is `run(arrays, out_types) -> arrays`, which deletes donated ones, it is called instead; backends that keep
    # arrays have it. What a backend knows besides is in `kernels`, `host_nodes` and `profile(arrays, repeats)`.


class Backend(Protocol):
    """What `jit` and eager operations need from a device.

    Attributes:
        name: what users call it.
        keeps_arrays (False where there is none): whether results stay on the device, as arrays whose `home` it is. Its
            executables take and return arrays then (`run`) rather than NumPy's.
    """

    name: str

    def devices(self) -> list[Any]:
        """The devices that the backend can use; the first is the default."""
        ...

    def compile(self, asg: Asg, donated: Sequence[bool] = ()) -> Executable:
        """Turns a graph into an executable; `donated` says which inputs may be overwritten."""
        ...

    def kernel(
        self, primitive: Any, in_types: Sequence[ArrayType], out_types: Sequence[ArrayType], params: Any
    ) -> Callable:
        """One operation as a function from buffers to a tuple of buffers: what eager evaluation uses."""
        ...

    def to_device(self, value: np.ndarray) -> Any:
        """A buffer with this value."""
        ...

    def wait(self, buffers: Sequence[Any]) -> None:
        """Returns when the values of all these buffers have been computed."""
        ...

    def to_host(self, buffer: Any, aval: ArrayType) -> np.ndarray:
        """The value of a buffer."""
        ...


def keeps_arrays(backend: Backend) -> bool:
    """Whether a backend's results stay on its device."""
    return getattr(backend, "keeps_arrays", False)


_GROUP = "asgfn.backends"
_AUTO_64 = "auto, with 64-bit numbers"
_lock = threading.RLock()
_backends: dict[str, Backend] = {}
_factories: dict[str, Callable[[], Backend]] = {}
_prepared_early: set[str] = set()
_opened_early: set[str] = set()


def register_backend(name: str, factory: Callable[[], Backend]) -> None:
    """Announces a backend from Python, for one process; installed packages use the entry-point group instead."""
    with _lock:
        _factories[name] = factory
        _backends.pop(name, None)


def available_backends() -> list[str]:
    """Names of all backends that are installed."""
    return sorted({*_factories, *_installed()})


@lru_cache(maxsize=1)
def _installed() -> dict[str, EntryPoint]:
    """Backends that packages have announced, by name; to look through all packages takes a while."""
    from importlib.metadata import entry_points

    return {e.name: e for e in entry_points(group=_GROUP)}


def get_backend(name: str | None = None) -> Backend:
    """The backend of this name; without one the configured default (`config.default_backend`), else ``auto``.

    ``auto`` is ``wgpu`` where there is a GPU that certainly outruns the CPU (one with memory of its own, or Apple's), else
    ``cpu``, which compiles, or ``numpy`` where llvmlite is not installed; that is found out once, when it is first asked for.
    GPUs have no 64-bit numbers, so it is one of the other two while ``enable_x64`` is on.

    Raises:
        BackendError: no such backend is installed, or it cannot be created.
    """
    name = _chosen(name)
    backend = _backends.get(name)
    if backend is not None:
        return backend
    with _lock:
        if name in _backends:
            return _backends[name]
        if name in ("auto", _AUTO_64):
            _backends[name] = _best(gpu=name == "auto")
            return _backends[name]
        factory = _factories.get(name)
        if factory is None:
            if name not in _installed():
                _installed.cache_clear()  # it may have been installed a moment ago
            found = _installed().get(name)
            if found is None:
                raise BackendError(
                    f"no backend named {name!r} is installed; there are: {', '.join(available_backends()) or 'none'}. "
                    "asgfn finds backends through the metadata of installed packages, so install it (pip install .) rather than only adding it to the path"
                )
            factory = found.load()
        try:
            created = factory()
        except ImportError as error:
            raise BackendError(f"backend {name!r} needs a package that is not installed: {error}") from error
        _backends[name] = created
        return created


def prepare_early(name: str | None = None) -> None:
    """Begins to import and prepare a backend that may be asked for, in a thread of its own: it takes as long as to compile a
    small program, and there is time, while whoever has jitted a function makes what it will be called with. No device is
    opened: the function may never be called."""
    name = _expected(name)
    if name in _backends or name in _opened_early or name in _prepared_early or name == "numpy":
        return
    _prepared_early.add(name)

    def load() -> None:
        found = _installed().get("wgpu" if name == "auto" else name)
        if found is None:
            return
        found.load()
        for _ in getattr(sys.modules[found.module], "prepare", tuple)():
            if name in _backends or name in _opened_early or is_awaited():
                break

    in_background("asgfn-prepares", load)


def open_early(name: str | None = None) -> None:
    """Begins to create a backend that will be asked for soon, in a thread of its own: most of the time that a GPU takes
    to open is the driver's, and Python can trace a program meanwhile."""
    name = _expected(name)
    if name in _backends or name in _opened_early or name == "numpy":
        return
    _opened_early.add(name)
    in_background("asgfn-opens", lambda: get_backend(name))


def _chosen(name: str | None) -> str:
    """The name of the backend that this, or nothing, stands for."""
    name = name or config.default_backend or "auto"
    return _AUTO_64 if name == "auto" and config.enable_x64 else name


def _expected(name: str | None) -> str:
    """The same; where that is ``auto`` and there can be no GPU, what is tried first."""
    name = _chosen(name)
    if name in _backends or name not in ("auto", _AUTO_64):
        return name
    return "cpu" if name == _AUTO_64 or not may_have_gpu() else name


def _best(gpu: bool) -> Backend:
    """The backend of a GPU if it may be one and there is one that is faster than the CPU, else that of the CPU."""
    if gpu and may_have_gpu():
        try:
            found = get_backend("wgpu")
            if found.devices()[0].outruns_cpu:
                return found
        except BackendError as error:
            _log.info("asgfn runs on the CPU, because no GPU can be used: %s", error)
    try:
        return get_backend("cpu")
    except BackendError as error:
        _log.warning("asgfn: programs run operation by operation, in NumPy, since %s", error)
    return get_backend("numpy")


def backend_of(device: Any, where: str) -> Backend:
    """The backend that has a device, which is given as such or by its name (``cpu``, ``gpu``, ``gpu:0``).

    Raises:
        BackendError: there is no such device.
    """
    name = getattr(device, "backend", None)
    if name is None:  # not a device, but what one is called
        name = {"cpu": "numpy", "gpu": "wgpu"}.get(str(device).split(":")[0])
    if name in available_backends():
        backend = get_backend(name)
        if any(device is d or str(device) in (str(d), d.platform) for d in backend.devices()):
            return backend
    known = [str(d) for d in get_backend("numpy").devices()]
    raise BackendError(f"{where}: there is no device {device}; there are: {', '.join(known)}, and gpu:0 with a GPU")
