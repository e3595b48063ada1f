"""Which implementation of WebGPU is used: wgpu-native, of the `wgpu` package, or Dawn, of the `wgpudawn` package.

The packages have the same interface. `wgpudawn` is optional (`pip install asgfn[dawn]`); what it has besides are the
matrices of subgroups, for tensor cores. The setting `wgpu_implementation` (`ASGFN_WGPU_IMPLEMENTATION`) says which one a
process uses: "wgpu" (the default), "dawn", or "auto" (Dawn if it is installed). It is looked at once.
"""

from __future__ import annotations

import importlib.util
from functools import lru_cache
from typing import Any

from asgfn.config import config
from asgfn.errors import BackendError


@lru_cache(maxsize=1)
def implementation_name() -> str:
    """ "wgpu" or "dawn": what this process uses.

    Raises:
        BackendError: it is not installed, or there is none of that name.
    """
    name = str(config.wgpu_implementation or "wgpu").strip().lower()
    if name not in ("wgpu", "dawn", "auto"):
        raise BackendError(f"wgpu_implementation={name!r}: expected 'wgpu' (the default), 'dawn' or 'auto'")
    has_dawn = name != "wgpu" and importlib.util.find_spec("wgpudawn") is not None
    if name == "dawn" and not has_dawn:
        raise BackendError(
            "wgpu_implementation='dawn': the package wgpudawn is not installed; pip install 'asgfn[dawn]'"
        )
    return "dawn" if has_dawn else "wgpu"


def package() -> Any:
    """The package of this process's implementation."""
    return importlib.import_module({"wgpu": "wgpu", "dawn": "wgpudawn"}[implementation_name()])
