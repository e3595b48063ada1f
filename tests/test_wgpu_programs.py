"""What is particular to programs on the wgpu backend: memory on the device, types that it lacks, small GPUs."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import pytest

import asgfn
import asgfn.numpy as jnp
from asgfn import nn, tree
from backends.kernels.target import Target
from backends.wgpu import WgpuBackend, program
from tests.operations import OPERATIONS, Operation
from tests.software_gpu import gpu_fixture  # noqa: F401
from tests.test_compiled_programs import adam_step, start
from tests.wgpu_checks import array, assert_same, check

pytestmark = pytest.mark.usefixtures("gpu")
rng = np.random.default_rng(5)


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda o: o.id)
def test_every_operation(operation: Operation) -> None:
    dtype = "complex64" if set(operation.dtypes) <= {"complex64", "complex128"} else "float32"
    for sample in operation.samples:
        args = [
            jnp.asarray(np.asarray(a).astype(dtype) if np.asarray(a).dtype.kind in "fc" else np.asarray(a))
            for a in sample
        ]
        check(operation.f, *args, rtol=1e-3, atol=2e-5)


# ---------------------------------------------------------------------------------------------- training
def test_training_keeps_parameters_and_optimiser_on_the_gpu(gpu: Any) -> None:
    params, state = start()
    x, y = array(rng, 8, 6), jnp.asarray(rng.integers(0, 3, 8).astype(np.int32))
    on_gpu = asgfn.jit(adam_step, backend="wgpu", donate_argnums=(0, 1))
    with_numpy = asgfn.jit(adam_step)
    copies = tree.map(lambda a: a.copy(), (params, state))
    expected = params, state
    device = gpu.device
    uses, made = [], []
    for _ in range(25):
        given = copies
        *copies, value = on_gpu(*copies, x, y)
        assert all(leaf.is_deleted() for leaf in tree.leaves(given) if leaf.ndim)
        assert all(leaf.home is gpu for leaf in tree.leaves(copies))
        *expected, expected_value = with_numpy(*expected, x, y)
        with device.lock:
            device.pool._sort_in()
        uses.append(device.pool.used)
        made.append(dict(device.created))
    assert_same(value, expected_value, rtol=1e-3)
    assert_same(copies, expected, rtol=1e-3, atol=1e-4)
    assert len(set(uses[2:])) == 1  # the same memory again and again
    assert made[12] == made[-1]  # and nothing is made anew


def test_element_wise_update_takes_the_place_of_its_operand() -> None:
    f = asgfn.jit(lambda p, g: p - 0.1 * g, backend="wgpu", donate_argnums=0)
    p, g = asgfn.device_put((jnp.ones(5000), jnp.ones(5000)), "gpu")
    memory = p.buffer.memory
    q = f(p, g)
    assert p.is_deleted() and q.buffer.memory is memory
    assert_same(q, jnp.full(5000, 0.9, jnp.float32))
    assert_same(g, jnp.ones(5000))


def test_update_at_an_index_takes_the_place_of_its_operand() -> None:
    f = asgfn.jit(lambda x, v: x.at[3].set(v), backend="wgpu", donate_argnums=0)
    x = asgfn.device_put(jnp.zeros(4000), "gpu")
    memory = x.buffer.memory
    y = f(x, 7.0)
    assert y.buffer.memory is memory
    assert_same(y, jnp.zeros(4000).at[3].set(7.0))


def test_arrays_of_each_dtype_go_to_the_gpu_and_back() -> None:
    for dtype in ("bool", "int8", "uint8", "int16", "uint16", "int32", "uint32", "float16", "bfloat16"):
        values = jnp.asarray(rng.integers(0, 100, 37)).astype(dtype)
        assert_same(asgfn.device_put(values, "gpu"), values)


def test_types_that_a_gpu_does_not_have_stay_on_the_host(caplog: pytest.LogCaptureFixture) -> None:
    with asgfn.enable_x64():
        compiled = check(lambda x: (x * 2, x.astype("float32") + 1), jnp.arange(4, dtype="float64"))
    assert any("float64" in text for text in compiled.host_nodes)
    z = jnp.asarray([1 + 2j, 3j])
    result = asgfn.jit(lambda z: (z * z, abs(z)), backend="wgpu")(z)
    assert_same(result, (z * z, abs(z)))
    assert result[0].home is None


def test_64_bit_carries_run_on_the_host() -> None:
    with asgfn.enable_x64():
        f = lambda x: asgfn.lax.fori_loop(0, 3, lambda i, c: c * 2, x)
        assert check(f, jnp.float64(3)).host_nodes


def test_operations_without_a_kernel_run_on_the_host_and_say_so_once(caplog: pytest.LogCaptureFixture) -> None:
    program._warned.clear()
    a = array(rng, 4, 4) + 4 * jnp.eye(4)

    def f(a: Any, b: Any) -> Any:
        return jnp.linalg.solve(a, b * 2) + 1

    with caplog.at_level(logging.WARNING, "asgfn"):
        compiled = check(f, a, array(rng, 4))
        check(lambda a, b: f(a, b) * 3, a, array(rng, 4))
    assert [r.getMessage() for r in caplog.records if "linear_solve" in r.getMessage()] == [
        r.getMessage() for r in caplog.records
    ]
    assert len(caplog.records) == 1
    assert "test_wgpu_programs.py" in caplog.text and "host" in caplog.text
    assert compiled.host_nodes == ["linear_solve: there is no kernel for it"]


def test_same_argument_twice_and_constants_as_results() -> None:
    x = array(rng, 5)
    f = asgfn.jit(lambda a, b: (a + 1, b * 2), backend="wgpu", donate_argnums=0)
    x = asgfn.device_put(x, "gpu")
    want = np.asarray(x)
    a, b = f(x, x)
    np.testing.assert_allclose(np.asarray(a), want + 1)
    np.testing.assert_allclose(np.asarray(b), want * 2)
    g = asgfn.jit(lambda: jnp.arange(5.0), backend="wgpu")
    h = asgfn.jit(lambda a: a.at[0].set(9.0), backend="wgpu", donate_argnums=0)
    h(g())
    assert_same(g(), jnp.arange(5.0))  # the program's own constant was not overwritten


# ---------------------------------------------------------------------------------------------- a small GPU
@pytest.fixture(name="small", scope="module")
def small_fixture(gpu: Any) -> Any:
    """A backend that keeps to the smallest limits that WebGPU allows, without 16-bit floats and subgroups."""
    backend = WgpuBackend()
    backend.device.target = Target(buffers=8, workgroup_threads=256, workgroup_bytes=16384)
    asgfn.register_backend("small", lambda: backend)
    return backend


def test_small_gpu_trains(small: Any) -> None:
    params, state = start()
    x, y = array(rng, 8, 6), jnp.asarray(rng.integers(0, 3, 8).astype(np.int32))
    step = asgfn.jit(adam_step, backend="small", donate_argnums=(0, 1))
    want = asgfn.jit(adam_step)(params, state, x, y)
    assert_same(step(*tree.map(lambda a: a.copy(), (params, state)), x, y), want, rtol=1e-3, atol=1e-5)
    compiled = step.lower(params, state, x, y).compile()
    assert max(k.wgsl.count("@group(0)") for k in compiled.kernels) <= 8
    assert not compiled.host_nodes


def test_small_gpu_computes_everything_else(small: Any) -> None:
    def f(x: Any, xs: Any) -> Any:
        h, ys = asgfn.lax.scan(lambda c, a: (jnp.tanh(c @ x + a), c.sum()), x, xs)
        parts = [h[k % 4] * k for k in range(12)]
        return nn.softmax(h), ys, jnp.concatenate(parts), sum(parts), jnp.sort(h, 0), h.astype("float16") / 3

    args = array(rng, 4, 4), array(rng, 5, 4, 4)
    assert_same(asgfn.jit(f, backend="small")(*args), asgfn.jit(f)(*args), rtol=1e-3, atol=1e-4)
    half = array(rng, 33).astype("float16")
    assert_same(asgfn.jit(lambda x: x * x + 1, backend="small")(half), half * half + 1, rtol=1e-3)


def test_arrays_that_a_kernel_cannot_see_at_once_are_left_to_the_host(small: Any, gpu: Any) -> None:
    backend = WgpuBackend()
    backend.device.target = Target(binding_bytes=4096)
    asgfn.register_backend("narrow", lambda: backend)

    def f(x: Any, y: Any) -> Any:
        total = asgfn.lax.scan(lambda c, a: (c + a, a), jnp.zeros(50), x)
        return x * 2, y * 2, total

    args = array(rng, 30, 50), array(rng, 5)
    on_gpu = asgfn.jit(f, backend="narrow")
    assert_same(on_gpu(*args), asgfn.jit(f)(*args), atol=1e-4)
    assert any("larger than the 4,096 bytes" in text for text in on_gpu.lower(*args).compile().host_nodes)
