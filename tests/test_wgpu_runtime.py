"""The wgpu backend's arrays, memory, errors and inspection."""

from __future__ import annotations

import gc
import pickle
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import asgfn
import asgfn.numpy as jnp
from asgfn import lax
from asgfn.errors import BackendError, DeletedArrayError, NonFiniteError
from backends.wgpu import WgpuBackend, classes, device, errors, memory, native, recorder
from backends.wgpu.buffers import DeviceBuffer
from backends.wgpu.memory import size_class
from tests.software_gpu import gpu_fixture  # noqa: F401
from tests.wgpu_checks import array, assert_same, check

pytestmark = pytest.mark.usefixtures("gpu")
rng = np.random.default_rng(11)


# ---------------------------------------------------------------------------------------------- arrays
def test_results_stay_on_the_gpu_and_are_not_moved_between_calls(gpu: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    f = asgfn.jit(lambda x: x * 2 + 1, backend="wgpu")
    x = f(array(rng, 3, 4))
    assert x.home is gpu and x.device is gpu.devices()[0] and str(x.device) == "gpu:0"
    f(x).block_until_ready()
    moved: list[str] = []
    monkeypatch.setattr(recorder.Recorder, "write", lambda *a: moved.append("to the GPU"))
    monkeypatch.setattr("backends.wgpu.buffers.read", lambda *a: moved.append("to the host"))
    for _ in range(3):
        x = f(x)
    assert not moved


def test_host_arrays_are_uploaded_once(monkeypatch: pytest.MonkeyPatch) -> None:
    f = asgfn.jit(lambda x, y: x @ y, backend="wgpu")
    x, y = array(rng, 3, 4), array(rng, 4, 2)
    f(x, y)
    monkeypatch.setattr(recorder.Recorder, "write", lambda *a: pytest.fail("uploaded again"))
    assert_same(f(x, y), x @ y)


def test_device_put_and_get(gpu: Any) -> None:
    x = array(rng, 3)
    (gpu_device,) = asgfn.devices("wgpu")
    for where in (gpu_device, "gpu", "gpu:0"):
        y = asgfn.device_put(x, where)
        assert y.device is gpu_device and x.home is None
        assert_same(y, x)
    assert asgfn.device_put(y, gpu_device) is y
    back = asgfn.device_put(y, "cpu")
    assert back.home is None and str(back.device) == "cpu:0"
    np.testing.assert_array_equal(asgfn.device_get({"a": y})["a"], np.asarray(x))
    assert asgfn.jit(lambda x: x + 1, device=gpu_device)(x).home is gpu
    assert asgfn.jit(lambda x: x + 1, device="cpu")(y).home is None
    with pytest.raises(BackendError, match="no device tpu"):
        asgfn.device_put(x, "tpu")
    with pytest.raises(BackendError, match=r"jit.*no device tpu"):
        asgfn.jit(lambda x: x, device="tpu")
    with asgfn.config.override(default_backend="wgpu"):
        assert asgfn.default_backend() == "wgpu"
        assert asgfn.device_put(x).home is gpu
        assert asgfn.jit(lambda x: x + 1)(x).home is gpu


def test_arrays_of_the_gpu_work_outside_of_jit() -> None:
    x = asgfn.device_put(jnp.arange(6.0).reshape(2, 3), "gpu")
    assert_same(jnp.sin(x) + x.T.reshape(2, 3), jnp.sin(jnp.arange(6.0).reshape(2, 3)) + x.T.reshape(2, 3))
    assert float(x[1, 2]) == 5.0 and x.tolist()[0] == [0.0, 1.0, 2.0]
    assert not np.asarray(x).flags.writeable
    assert_same(pickle.loads(pickle.dumps(x)), jnp.arange(6.0).reshape(2, 3))
    assert_same(asgfn.grad(lambda x: (x**2).sum())(x), 2 * x)
    assert_same(asgfn.jit(lambda x: x + 1)(x), x + 1)  # NumPy's jit


def test_donated_arrays_are_deleted_and_shared_memory_is_not_overwritten() -> None:
    f = asgfn.jit(lambda x: x + 1, backend="wgpu", donate_argnums=0)
    x = asgfn.device_put(jnp.zeros(100), "gpu")
    other = asgfn.jit(lambda x: x, backend="wgpu")(x)  # the same memory
    assert other.buffer is x.buffer
    y = f(x)
    with pytest.raises(DeletedArrayError, match="donated"):
        np.asarray(x)
    with pytest.raises(DeletedArrayError):
        f(x)
    assert_same(other, jnp.zeros(100))
    assert_same(y, jnp.ones(100))
    host = jnp.zeros(100)
    assert_same(f(host), jnp.ones(100))
    assert host.is_deleted()
    f(jnp.float32(1))  # scalars may be everybody's, so they stay


def test_gradients_captured_device_arrays_and_closures() -> None:
    w = asgfn.device_put(array(rng, 3, 3), "gpu")
    f = asgfn.jit(lambda x: (w @ x).sum(), backend="wgpu")
    assert_same(asgfn.grad(f)(jnp.ones(3)), np.asarray(w).sum(0) + jnp.zeros(3), rtol=1e-5)


# ---------------------------------------------------------------------------------------------- memory
def test_memory_returns_to_the_pool_and_is_used_again(gpu: Any) -> None:
    pool, lock = gpu.device.pool, gpu.device.lock
    size = 123_456
    x = gpu.to_device(np.zeros(size // 4, np.float32))
    memory, used = x.memory, pool.used
    del x
    with lock:
        pool._sort_in()
    assert pool.used == used - size_class(size)
    y = gpu.to_device(np.zeros(size // 4, np.float32))
    assert y.memory is memory


def test_arrays_in_circles_of_garbage_return_their_memory_alive(gpu: Any) -> None:
    class Holder:
        pass

    f = asgfn.jit(lambda x: x + 1, backend="wgpu")
    for _ in range(3):
        for k in range(4):
            holder = Holder()
            holder.arrays = gpu.to_device(np.full(7777, k, np.float32)), asgfn.device_put(jnp.ones(7777), "gpu")
            holder.itself = holder
        del holder
        gc.collect()
        assert_same(f(asgfn.device_put(jnp.zeros(7777), "gpu")), jnp.ones(7777))


def test_idle_memory_stays_within_its_budget(gpu: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    pool = gpu.device.pool
    monkeypatch.setattr(pool, "budget", 1 << 20)
    for k in range(6):
        arrays = [gpu.to_device(np.zeros(100_000 + 40_000 * k, np.float32)) for _ in range(3)]
        del arrays
    with gpu.device.lock:
        pool._sort_in()
    assert pool.idle <= 1 << 20
    check(lambda x: x + 1, array(rng, 200_000))  # memory that was destroyed is not used again


@pytest.mark.parametrize("nbytes", [1, 256, 257, 1000, 4096, 4097, 10**6, 2**30 + 1])
def test_size_classes(nbytes: int) -> None:
    size = size_class(nbytes)
    assert size >= nbytes and size % 16 == 0 and size_class(size) == size
    assert size <= max(256, nbytes + 256, nbytes * 9 / 8)


def test_pool_budget_is_read_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(memory.VARIABLE, "1000")
    assert memory._budget() == 1000
    monkeypatch.setenv(memory.VARIABLE, "lots")
    with pytest.raises(ValueError, match="not a number of bytes"):
        memory._budget()


def test_loop_of_calls_does_not_grow(gpu: Any) -> None:
    f = asgfn.jit(lambda x: lax.fori_loop(0, 3, lambda i, x: jnp.tanh(x @ x), x), backend="wgpu")
    x = asgfn.device_put(0.1 * array(rng, 20, 20), "gpu")
    seen = []
    for _ in range(12):
        x = f(x)
        gc.collect()
        with gpu.device.lock:
            gpu.device.pool._sort_in()
        seen.append((gpu.device.pool.used + gpu.device.pool.idle, gpu.device.created["bind groups"]))
    assert seen[-1] == seen[4]


# ---------------------------------------------------------------------------------------------- recording
def test_slow_recorder_gives_the_same(gpu: Any) -> None:
    other = WgpuBackend()
    other.device.recorder = classes.ClassRecorder(other.device)
    asgfn.register_backend("wgpu_classes", lambda: other)

    def f(x: Any) -> Any:
        y, ys = lax.scan(lambda c, a: (jnp.tanh(c @ c) + a, c[0]), x, jnp.ones((5, 3, 3)))
        z = lax.while_loop(lambda c: c.sum() < 50, lambda c: c + jnp.sort(c), jnp.abs(y[0]) + 1)
        return lax.cond(y.sum() > 0, lambda: jnp.sort(y, 0), lambda: -jnp.sort(y, 1)), ys, z

    x = array(rng, 3, 3)
    assert isinstance(gpu.device.recorder, native.NativeRecorder)
    assert_same(asgfn.jit(f, backend="wgpu_classes")(x), asgfn.jit(f)(x), rtol=1e-4)
    assert_same(asgfn.jit(f, backend="wgpu")(x), asgfn.jit(f)(x), rtol=1e-4)


def test_long_programs_are_submitted_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recorder, "MOST_DISPATCHES", 7)

    def f(x: Any) -> Any:
        return lax.scan(lambda c, a: (jnp.tanh(c @ c) + a, c[0]), x, 0.1 * jnp.ones((30, 3, 3)))

    check(f, array(rng, 3, 3), rtol=1e-4)


def test_threads_call_at_the_same_time() -> None:
    def f(x: Any) -> Any:
        y = jnp.tanh(x @ x) * 0.5
        return lax.fori_loop(0, 4, lambda i, y: y @ x + i, y)

    def g(x: Any) -> Any:
        return asgfn.pure_callback(lambda a: np.asarray(a) + 1, asgfn.ShapeDtypeStruct(x.shape, x.dtype), f(x))

    xs = [0.1 * array(rng, 6, 6) for _ in range(8)]
    on_gpu = [asgfn.jit(f, backend="wgpu"), asgfn.jit(g, backend="wgpu")]
    want = [[asgfn.jit(f)(x), asgfn.jit(g)(x)] for x in xs]
    failed: list[Exception] = []

    def work(k: int) -> None:
        try:
            for _ in range(6):
                for h, expected in zip(on_gpu, want[k], strict=True):
                    assert_same(h(xs[k]), expected, rtol=1e-4, atol=1e-4)
        except Exception as error:
            failed.append(error)

    threads = [threading.Thread(target=work, args=(k,)) for k in range(len(xs))]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not failed


def test_callback_may_call_the_same_program() -> None:
    depth: list[int] = []

    def f(x: Any) -> Any:
        def again(v: Any) -> Any:
            depth.append(1)
            return np.asarray(on_gpu(v)) if len(depth) < 3 else np.asarray(v)

        return asgfn.pure_callback(again, asgfn.ShapeDtypeStruct(x.shape, x.dtype), x * 2) + 1

    on_gpu = asgfn.jit(f, backend="wgpu")
    np.testing.assert_allclose(np.asarray(on_gpu(jnp.ones(3))), 8 + 1 + 1 + 1)


# ---------------------------------------------------------------------------------------------- errors
def test_lost_device_is_replaced() -> None:
    backend = WgpuBackend()
    asgfn.register_backend("wgpu_lost", lambda: backend)
    f = asgfn.jit(lambda x: jnp.tanh(x) * 2, backend="wgpu_lost")
    x = array(rng, 5)
    want = asgfn.jit(lambda x: jnp.tanh(x) * 2)(x)
    y = f(x)
    assert_same(y, want)
    first = backend.device
    first.gpu.destroy()
    with pytest.raises(BackendError, match="lost"):
        f(x)
    assert_same(f(x), want)
    assert backend.device is not first
    with pytest.raises(BackendError, match="Make it again"):
        np.asarray(y)
    with pytest.raises(BackendError, match="lost"):
        f(y)


def test_refusals_become_errors_that_say_what_to_do(gpu: Any) -> None:
    with pytest.raises(BackendError, match=r"larger than a buffer .* can be"), gpu.device.lock:
        gpu.device.pool.take(1 << 40)
    with pytest.raises(BackendError, match="please report it"):
        gpu.device.pipelines([device.Kernel("this is no WGSL", (True,))])
    found = errors.translated("Validation Error\n\nCaused by:\n  Not enough memory left.", gpu.device, "dreaming")
    assert isinstance(found, errors.OutOfDeviceMemory)
    assert "while dreaming" in str(found) and "donate" in str(found) and "idle" in str(found)
    assert not gpu.device.lost


def test_memory_that_programs_keep_is_given_up_when_there_is_none_left(
    gpu: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    f = asgfn.jit(lambda x: jnp.tanh(x @ x) @ x, backend="wgpu")
    x = array(rng, 40, 40)
    want = np.asarray(f(x))
    program = f.lower(x).compile().executable.built
    assert program.workspaces
    create, calls = gpu.device.gpu.create_buffer, []

    def fail_once(**options: Any) -> Any:
        calls.append(options["size"])
        if len(calls) == 1:
            raise RuntimeError("Out of memory")
        return create(**options)

    monkeypatch.setattr(gpu.device.gpu, "create_buffer", fail_once)
    with gpu.device.lock:
        big = DeviceBuffer(gpu.device, gpu.device.pool.take(7_654_321))
    assert len(calls) == 2 and not program.workspaces
    del big
    np.testing.assert_allclose(np.asarray(f(x)), want)


def test_software_adapter_is_only_used_when_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(device.VARIABLE)
    with pytest.raises(BackendError, match="ASGFN_WGPU_ADAPTER=software"):
        device.request_adapter()
    monkeypatch.setenv(device.VARIABLE, "fast")
    with pytest.raises(BackendError, match="expected 'gpu'"):
        device.request_adapter()


def test_debug_nans_names_the_operation_inside_a_kernel() -> None:
    def f(x: Any) -> Any:
        y = jnp.exp(x) * 2
        return jnp.log(y - 10) + 1

    with asgfn.debug_nans():
        g = asgfn.jit(f, backend="wgpu")
        assert_same(g(jnp.full(3, 5.0)), f(jnp.full(3, 5.0)))
        with pytest.raises(NonFiniteError, match=r"(?s)nan.*encountered in log.*test_wgpu_runtime\.py"):
            g(jnp.zeros(3))
        h = asgfn.jit(lambda x: lax.scan(lambda c, a: (c + jnp.sqrt(a), c), jnp.float32(0), x), backend="wgpu")
        with pytest.raises(NonFiniteError, match="encountered in sqrt"):
            h(jnp.asarray([1.0, -1.0]))
    assert np.isnan(np.asarray(asgfn.jit(f, backend="wgpu")(jnp.zeros(3)))).all()


# ---------------------------------------------------------------------------------------------- inspection
def model(w: Any, xs: Any) -> Any:
    def step(h: Any, x: Any) -> Any:
        with asgfn.named_scope("cell"):
            h = jnp.tanh(h @ w + x)
        return h, h

    h, ys = lax.scan(step, jnp.zeros((2, 4)), xs)
    return jnp.linalg.det(w), lax.cond(h.sum() > 0, lambda: jnp.sort(h), lambda: -jnp.sort(h)), ys


def compiled_model() -> tuple[Any, tuple]:
    args = array(rng, 4, 4), array(rng, 5, 2, 4)
    return asgfn.jit(model, backend="wgpu").lower(*args).compile(), args


def test_kernels_memory_and_text() -> None:
    compiled, args = compiled_model()
    kinds = [k.kind for k in compiled.kernels]
    cell = next(k for k in compiled.kernels if k.scope == "cell")
    assert cell.times == 5 and cell.kind == "contraction" and "@compute" in cell.code
    assert len(cell.grid) == len(cell.workgroup) == 3 and cell.bytes > 0
    assert "test_wgpu_runtime.py" in str(cell.source)
    assert kinds.count("sort") >= 2 and any(k.times is None for k in compiled.kernels)
    memory = compiled.memory
    assert set(memory) == {"arguments", "outputs", "constants", "temporaries", "total"}
    assert memory["arguments"] == 64 + 160 and memory["total"] >= 224
    text = compiled.as_text()
    for part in ("wgpu program model", "5 times:", "contraction", "[cell]", "if chosen", "host: det", "return"):
        assert part in text
    assert compiled.host_nodes == ["det: there is no kernel for it"]
    assert_same(compiled(*args), asgfn.jit(model)(*args), rtol=1e-4)


def test_profile_times_each_kernel(tmp_path: Path) -> None:
    compiled, args = compiled_model()
    found = compiled.profile(*args, repeats=2)
    cell = next(t for t in found.times if t.kernel.scope == "cell")
    assert cell.runs == 5 and cell.seconds > 0 and cell.total == pytest.approx(5 * cell.seconds)
    assert found.total == pytest.approx(sum(t.total for t in found.times))
    text = str(found)
    assert "[cell]" in text and "means of 2 calls" in text and text.count("\n") == len(found.times) + 1
    found.plot(path=tmp_path / "timeline.png")
    assert (tmp_path / "timeline.png").stat().st_size > 1000
    with pytest.raises(ValueError, match="repeats"):
        compiled.profile(*args, repeats=0)


def test_profile_leaves_donated_arguments_alone() -> None:
    x = asgfn.device_put(jnp.zeros(1000), "gpu")
    compiled = asgfn.jit(lambda x: x + 1, backend="wgpu", donate_argnums=0).lower(x).compile()
    compiled.profile(x, repeats=3)
    assert_same(x, jnp.zeros(1000))
    loop = asgfn.jit(lambda x: lax.while_loop(lambda c: c[0] < 10, lambda c: c + 1, x), backend="wgpu")
    assert loop.lower(x).compile().profile(x, repeats=1).total > 0


def test_numpy_backend_has_no_kernels() -> None:
    compiled = asgfn.jit(lambda x: x + 1).lower(jnp.ones(3)).compile()
    for ask in (lambda: compiled.kernels, lambda: compiled.host_nodes, lambda: compiled.profile(jnp.ones(3))):
        with pytest.raises(BackendError, match="backend 'numpy' has no"):
            ask()


def test_clear_caches_forgets_programs() -> None:
    f = asgfn.jit(lambda x: x * 3, backend="wgpu")
    f(jnp.ones(3))
    asgfn.clear_caches()
    assert_same(f(jnp.ones(3)), 3 * jnp.ones(3))
