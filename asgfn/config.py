"""Settings: `asgfn.config.update("enable_x64", True)`, context managers, and environment variables `ASGFN_*`."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

_DEFAULTS: dict[str, Any] = {
    "enable_x64": False,  # 64-bit dtypes are kept instead of being narrowed to 32 bits
    "debug_nans": False,  # every operation is checked for NaN; the first one is named
    "debug_infs": False,
    "disable_jit": False,  # jitted functions and control flow run op by op in Python
    "default_backend": None,  # name of the backend that jit uses; None is "auto": a GPU if there is a fast one
    "default_matmul_precision": None,
    "numpy_rank_promotion": "allow",  # or "warn", "raise"
    "numpy_dtype_promotion": "standard",  # or "strict": dtypes must agree
    "check_tracer_leaks": False,  # raise when a tracer outlives the function whose trace made it
    "explain_cache_misses": False,  # log why a jitted function is traced again
    "log_compiles": False,  # log what is traced and compiled, and how long that took
    "traceback_filtering": True,  # hide asgfn's own frames
    "enable_compilation_cache": True,  # compiled programs are kept on disk (see ASGFN_CACHE)
    "compilation_cache_dir": None,  # where; None is the user's cache folder
    "compilation_cache_max_size": -1,  # bytes of them; -1 lets asgfn choose
    "wgpu_implementation": None,  # of WebGPU: "wgpu" (the default), "dawn" (of asgfn[dawn]) or "auto"
    "autotune": False,  # kernels' variants are timed when a program is compiled, and the fastest remembered
}


def _from_environment(name: str, default: Any) -> Any:
    text = os.environ.get(f"ASGFN_{name.upper()}", os.environ.get(name.upper()) if name == "jax_enable_x64" else None)
    if text is None:
        return default
    if isinstance(default, bool):
        lowered = text.strip().lower()
        if lowered in ("1", "true", "yes", "on"):
            return True
        if lowered in ("0", "false", "no", "off", ""):
            return False
        raise ValueError(f"environment variable ASGFN_{name.upper()}={text!r} is not a boolean (use 0 or 1)")
    if isinstance(default, int):
        try:
            return int(text)
        except ValueError:
            raise ValueError(f"environment variable ASGFN_{name.upper()}={text!r} is not a whole number") from None
    return text


class Config(threading.local):
    """Current settings as attributes. Updates hold for every thread; context managers for their own thread only."""

    _shared: ClassVar[dict[str, Any]] = {name: _from_environment(name, default) for name, default in _DEFAULTS.items()}

    def __init__(self) -> None:
        for name, value in self._shared.items():
            super().__setattr__(name, value)
        self._refresh()

    enable_x64: bool
    debug_nans: bool
    debug_infs: bool
    disable_jit: bool
    default_backend: str | None
    default_matmul_precision: str | None
    numpy_rank_promotion: str
    numpy_dtype_promotion: str
    check_tracer_leaks: bool
    explain_cache_misses: bool
    log_compiles: bool
    traceback_filtering: bool
    enable_compilation_cache: bool
    compilation_cache_dir: str | None
    compilation_cache_max_size: int
    autotune: bool
    wgpu_implementation: str | None
    trace_key: tuple

    def _refresh(self) -> None:
        # everything that changes what a trace contains or how it is compiled; part of jit's cache key
        key = (
            self.enable_x64,
            self.debug_nans,
            self.debug_infs,
            self.default_backend,
            self.default_matmul_precision,
            self.numpy_dtype_promotion,
        )
        super().__setattr__("trace_key", key)

    @staticmethod
    def _name(name: str) -> str:
        short = name.removeprefix("jax_")  # scripts written for JAX say jax_enable_x64
        if short not in _DEFAULTS:
            raise AttributeError(f"asgfn has no setting {name!r}; there are: {', '.join(_DEFAULTS)}")
        return short

    def update(self, name: str, value: Any) -> None:
        """Sets a setting for the whole process (threads that start later included)."""
        name = self._name(name)
        if isinstance(_DEFAULTS[name], bool) and not isinstance(value, (bool, int)):
            raise TypeError(f"setting {name!r} takes a bool, got {value!r}")
        Config._shared[name] = value
        super().__setattr__(name, value)
        self._refresh()

    def __setattr__(self, name: str, value: Any) -> None:
        self.update(name, value)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("jax_"):
            return getattr(self, self._name(name))
        raise AttributeError(f"asgfn has no setting {name!r}; there are: {', '.join(_DEFAULTS)}")

    @contextmanager
    def override(self, **settings: Any) -> Iterator[None]:
        """Settings that hold inside a `with` block, for this thread."""
        before = {self._name(name): getattr(self, self._name(name)) for name in settings}
        try:
            for name, value in settings.items():
                super().__setattr__(self._name(name), value)
            self._refresh()
            yield
        finally:
            for name, value in before.items():
                super().__setattr__(name, value)
            self._refresh()


config = Config()


def enable_x64(enabled: bool = True) -> Any:
    """`with asgfn.enable_x64():` keeps 64-bit dtypes inside the block."""
    return config.override(enable_x64=bool(enabled))


def disable_x64() -> Any:
    """`with disable_x64():` narrows 64-bit dtypes inside the block."""
    return config.override(enable_x64=False)


def disable_jit(disable: bool = True) -> Any:
    """`with asgfn.disable_jit():` runs jitted functions op by op, so that `print` and debuggers see values."""
    return config.override(disable_jit=bool(disable))


def debug_nans(enabled: bool = True) -> Any:
    """`with asgfn.debug_nans():` names the first operation that makes a NaN, and the user's line."""
    return config.override(debug_nans=bool(enabled))


def debug_infs(enabled: bool = True) -> Any:
    """`with asgfn.debug_infs():` names the first operation that makes an infinity, and the user's line."""
    return config.override(debug_infs=bool(enabled))


def default_matmul_precision(precision: str | None) -> Any:
    """`with asgfn.default_matmul_precision("highest"):` sets the precision of matmuls and convolutions traced inside."""
    return config.override(default_matmul_precision=precision)


def numpy_rank_promotion(mode: str) -> Any:
    """`with asgfn.numpy_rank_promotion("raise"):` forbids ("raise") or reports ("warn") implicit rank promotion."""
    if mode not in ("allow", "warn", "raise"):
        raise ValueError(f"numpy_rank_promotion takes 'allow', 'warn' or 'raise', got {mode!r}")
    return config.override(numpy_rank_promotion=mode)


def numpy_dtype_promotion(mode: str) -> Any:
    """`with asgfn.numpy_dtype_promotion("strict"):` forbids implicit promotion between dtypes (weak Python scalars excepted)."""
    if mode not in ("standard", "strict"):
        raise ValueError(f"numpy_dtype_promotion takes 'standard' or 'strict', got {mode!r}")
    return config.override(numpy_dtype_promotion=mode)


def checking_leaks(enabled: bool = True) -> Any:
    """`with asgfn.checking_leaks():` raises where a traced function returns while its tracers are still referenced."""
    return config.override(check_tracer_leaks=bool(enabled))


check_tracer_leaks = checking_leaks
