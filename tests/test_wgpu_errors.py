"""What a GPU cannot do, on the wgpu backend: too large, empty, or not on a GPU at all."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import asgfn
import asgfn.numpy as jnp
from asgfn import lax, nn
from asgfn.errors import BackendError
from backends.wgpu import WgpuBackend, program
from backends.wgpu.errors import OutOfDeviceMemory
from tests.software_gpu import gpu_fixture  # noqa: F401
from tests.wgpu_checks import array, assert_same, check

pytestmark = pytest.mark.usefixtures("gpu")
rng = np.random.default_rng(8)
MOST = 1 << 21  # bytes of a buffer, in the tests of large arrays
LARGE = 600_000  # elements of which that has not enough


# ---------------------------------------------------------------------------------------------- too large
@pytest.fixture(name="tiny", scope="module")
def tiny_fixture(gpu: Any) -> Any:
    backend = WgpuBackend(limits=f"buffer={MOST},binding={MOST}")
    asgfn.register_backend("wgpu_tiny", lambda: backend)
    return backend


TOO_LARGE: dict[str, tuple[Callable, tuple]] = {
    "argument": (lambda x: x.sum(), (np.ones(LARGE, np.float32),)),
    "result": (lambda x: jnp.broadcast_to(x, (LARGE,)) * 2, (np.float32(1),)),
    "in between": (lambda x: jnp.sort(jnp.outer(x, x).ravel())[:3], (np.ones(800, np.float32),)),
    "constant": (lambda x: x + np.ones(LARGE, np.float32), (np.float32(1),)),
    "rows of a scan": (
        lambda x: lax.scan(lambda c, _: (c + 1, c), x, None, length=6000)[1],
        (np.ones(100, np.float32),),
    ),
}


@pytest.mark.parametrize("name", TOO_LARGE)
def test_arrays_that_no_buffer_can_hold(name: str, tiny: Any) -> None:
    f, args = TOO_LARGE[name]
    used = tiny.device.pool.used
    with pytest.raises(OutOfDeviceMemory, match=r"an array of 2,621,440 bytes") as caught:
        asgfn.jit(f, backend="wgpu_tiny")(*args)
    text = str(caught.value)
    assert f"{MOST:,} bytes" in text and "backend='numpy'" in text and "test_wgpu_errors.py" in text
    with tiny.device.lock:
        tiny.device.pool._sort_in()
    assert tiny.device.pool.used <= used + 4096  # constants stay; nothing else is held by a call that failed
    assert_same(asgfn.jit(jnp.sin, backend="wgpu_tiny")(jnp.ones(3)), jnp.sin(jnp.ones(3)))  # and the device goes on


def test_large_array_that_is_only_in_a_kernel_is_no_problem(tiny: Any) -> None:
    f = lambda x: (jnp.outer(x, x) * jnp.arange(900.0)).sum()
    x = array(rng, 900)
    assert_same(asgfn.jit(f, backend="wgpu_tiny")(x), asgfn.jit(f)(x), rtol=1e-4, atol=1.0)


# ---------------------------------------------------------------------------------------------- empty
def test_empty_arrays_in_loops_and_branches() -> None:
    none = jnp.zeros((0, 3))

    def f(none: Any, x: Any) -> Any:
        carried = lax.scan(lambda c, v: ((c[0] * 2, c[1] + v.sum()), (c[0], v)), (none, x.sum()), x)
        looped = lax.while_loop(lambda c: c[1] < 3, lambda c: (c[0] + 1, c[1] + 1), (none, 0))
        chosen = lax.cond(x.sum() > 0, lambda n, x: (n, jnp.sort(x, 0)), lambda n, x: (n * 2, -x), none, x)
        return carried, looped, chosen, lax.fori_loop(0, 0, lambda i, c: c + 1, none)

    check(f, none, array(rng, 2, 3))


def test_derivatives_and_batches_of_nothing() -> None:
    def f(x: Any) -> Any:
        return (nn.softmax(x) ** 2).sum() + (x.T @ x).sum() + jnp.concatenate([x, x * 2]).sum()

    check(asgfn.value_and_grad(f), jnp.zeros((0, 4)))
    check(asgfn.vmap(asgfn.grad(f)), jnp.zeros((0, 2, 4)))
    check(asgfn.vmap(asgfn.grad(f)), jnp.zeros((3, 0, 4)))
    check(lambda x, i: (x[i], x.at[i].add(1.0), jnp.bincount(i, length=3)), array(rng, 4), jnp.zeros(0, "int32"))


def test_empty_arrays_are_donated_and_waited_for() -> None:
    f = asgfn.jit(lambda x, y: (x + 1, y * 2), backend="wgpu", donate_argnums=(0, 1))
    x, y = f(jnp.zeros((2, 0)), jnp.ones(5))
    asgfn.block_until_ready((x, y))
    assert x.shape == (2, 0) and np.asarray(y).tolist() == [2.0] * 5
    moved = asgfn.device_put(jnp.zeros((0, 7)), "gpu")
    assert moved.shape == (0, 7) and np.asarray(moved).size == 0


# ---------------------------------------------------------------------------------------------- not on a GPU
def test_warnings_name_operation_place_and_reason_once(caplog: pytest.LogCaptureFixture) -> None:
    program._warned.clear()
    with caplog.at_level(logging.WARNING, "asgfn"), asgfn.enable_x64():
        check(lambda z: jnp.abs(z * z), jnp.asarray([1 + 2j, 3j]).astype("complex64"))
        check(lambda x: jnp.cumsum(x), jnp.arange(4, dtype="float64"))
        check(lambda x: jnp.linalg.inv(x + 3 * jnp.eye(3, dtype="float32")), array(rng, 3, 3), rtol=1e-4)
        check(lambda x: jnp.linalg.inv(x + 2 * jnp.eye(3, dtype="float32")), array(rng, 3, 3), rtol=1e-4)
    texts = [r.getMessage() for r in caplog.records]
    assert len(set(texts)) == len(texts)
    for operation, reason in (("mul", "complex64"), ("cumsum", "float64"), ("linear_solve", "no kernel")):
        (text,) = [t for t in texts if f" {operation} at " in t]
        assert "test_wgpu_errors.py" in text and reason in text and "runs on the host" in text


def test_what_the_user_wants_on_the_host_is_no_warning(caplog: pytest.LogCaptureFixture) -> None:
    program._warned.clear()

    def f(x: Any) -> Any:
        asgfn.debug.callback(lambda v: None, x)
        return asgfn.pure_callback(lambda v: np.asarray(v) * 2, asgfn.ShapeDtypeStruct(x.shape, x.dtype), x) + 1

    with caplog.at_level(logging.WARNING, "asgfn"):
        check(f, array(rng, 3))
    assert not caplog.records


def test_errors_of_callbacks_come_out_and_leave_the_device_well() -> None:
    def fails(v: Any) -> Any:
        raise KeyError("from the callback")

    def f(x: Any) -> Any:
        return asgfn.pure_callback(fails, asgfn.ShapeDtypeStruct(x.shape, x.dtype), x * 2) + 1

    with pytest.raises(Exception, match="from the callback"):
        asgfn.jit(f, backend="wgpu")(jnp.ones(3))
    check(lambda x: x * 2, jnp.ones(3))


def test_settings_that_name_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ASGFN_WGPU_ADAPTER", "fast")
    with pytest.raises(BackendError, match="expected 'gpu'"):
        WgpuBackend()
    monkeypatch.setenv("ASGFN_WGPU_ADAPTER", "software")
    monkeypatch.setenv("ASGFN_WGPU_LIMITS", "threads=few")
    with pytest.raises(ValueError, match="ASGFN_WGPU_LIMITS"):
        WgpuBackend()
