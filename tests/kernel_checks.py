"""Compares kernels on the software GPU with the NumPy backend, as the tests of schedules do."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np
import pytest

import asgfn
from asgfn.transforms.fuse import fuse_graph
from backends.kernels.target import Target
from backends.kernels.types import Types
from tests.kernel_runner import run_graph

SMALL = Target(workgroup_threads=256, workgroup_bytes=16384)
# units in the last place that sums in another order may differ by
TOLERANCE = {"float32": 2e-6, "float16": 1e-3, "bfloat16": 8e-3}


def check(
    f: Callable, *args: Any, host: tuple[str, ...] = (), exact: bool = False, target: Target = SMALL, scale: float = 1.0
) -> list[np.ndarray]:
    """Asserts that a program gives on the device what the NumPy backend gives, with and without fusion.

    Arguments:
        host: the primitives that have to run on the host.
        exact: whether all bits have to agree.
        scale: how much larger than usual errors may be.
    """
    asg = asgfn.trace(f)(*args)
    leaves = [np.asarray(x) for x in asgfn.tree.leaves(args)]
    expected = [np.asarray(x) for x in asgfn.get_backend("numpy").compile(asg)(leaves)]
    # where nothing is fused, there is one way to run it
    ways = (True, False) if any(node.primitive.name == "fused" for node in fuse_graph(asg).nodes) else (True,)
    for fused in ways:
        found = run_graph(asg, leaves, target=target, fused=fused)
        on_host = sorted(set(run_graph.host))  # type: ignore[attr-defined]
        assert on_host == sorted(host), f"on the host: {on_host}"
        for x, y in zip(found, expected, strict=True):
            assert x.dtype == y.dtype and x.shape == y.shape
            assert_equal(x, y, exact, scale)
    return expected


def assert_equal(x: np.ndarray, y: np.ndarray, exact: bool = False, scale: float = 1.0) -> None:
    name = y.dtype.name
    if exact or name not in TOLERANCE:
        wide = np.float32 if y.dtype == ml_dtypes.bfloat16 else y.dtype
        np.testing.assert_array_equal(x.astype(wide), y.astype(wide))
        if name in TOLERANCE:
            zeros = y == 0
            np.testing.assert_array_equal(np.signbit(x[zeros].astype(wide)), np.signbit(y[zeros].astype(wide)))
        return
    tolerance = TOLERANCE[name] * scale
    np.testing.assert_allclose(x.astype(np.float32), y.astype(np.float32), rtol=tolerance, atol=tolerance)


def needs_device() -> None:
    """Skips a module's tests where there is no adapter."""
    pytest.importorskip("wgpu")
    from tests.kernel_runner import device

    try:
        device()
    except Exception as error:
        pytest.skip(f"no GPU adapter, not even a software one: {error}", allow_module_level=True)


def half_target() -> Target:
    """A target with 16-bit floats of its own; skips the test where the adapter has none."""
    from tests.kernel_runner import device

    if "shader-f16" not in device().features:
        pytest.skip("the adapter has no 16-bit floats")
    return Target(types=Types(half=True))
