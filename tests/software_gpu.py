"""The GPU that tests run on: Mesa's adapter that runs on the CPU, so that every machine tests the same."""

from __future__ import annotations

import functools
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from asgfn.backend import get_backend
from asgfn.errors import BackendError

_DRIVERS = ("/usr/share/vulkan/icd.d", "/usr/local/share/vulkan/icd.d", "/etc/vulkan/icd.d")


def choose_software_adapter() -> None:
    """Has Vulkan load Mesa's software adapter, if it is installed, and the backend accept it. Before its first use."""
    found = [str(p) for folder in _DRIVERS for p in sorted(Path(folder).glob("lvp_icd*.json"))]
    if found and "VK_ICD_FILENAMES" not in os.environ:
        os.environ["VK_ICD_FILENAMES"] = os.environ["VK_DRIVER_FILES"] = found[0]
    os.environ["ASGFN_WGPU_ADAPTER"] = "software"
    os.environ.setdefault("ASGFN_CACHE", "off")  # what is tested is compiled here and now


choose_software_adapter()


@functools.cache
def software_backend() -> Any:
    """The wgpu backend; the reason as a string if there is no adapter."""
    try:
        return get_backend("wgpu")
    except BackendError as error:
        return str(error)


@pytest.fixture(name="gpu", scope="session")
def gpu_fixture() -> Any:
    """The wgpu backend on the software adapter. Where there is none, tests are skipped, but not in CI."""
    backend = software_backend()
    if isinstance(backend, str):
        if os.environ.get("CI") and sys.platform == "linux":
            pytest.fail(f"CI must have a software adapter (mesa-vulkan-drivers): {backend}")
        pytest.skip(backend)
    return backend
