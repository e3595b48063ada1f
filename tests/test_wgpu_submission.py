"""When the wgpu backend submits what was called, and that nothing overtakes what was not submitted yet."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest

import asgfn
import asgfn.numpy as jnp
from asgfn.errors import BackendError, DeletedArrayError
from backends.wgpu import WgpuBackend, classes, recorder
from tests.software_gpu import gpu_fixture  # noqa: F401
from tests.wgpu_checks import array, assert_same

pytestmark = pytest.mark.usefixtures("gpu")
rng = np.random.default_rng(5)


@pytest.fixture
def always_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """However slow the machine, calls follow each other soon."""
    monkeypatch.setattr(recorder, "SOON", 1e9)


def program(f: Any, **options: Any) -> Any:
    """A compiled function that was called twice in a row: it expects another call to follow."""
    on_gpu = asgfn.jit(f, backend="wgpu", **options)
    for _ in range(2):
        on_gpu(*(asgfn.device_put(jnp.ones(5000), "gpu") for _ in range(f.__code__.co_argcount)))
    return on_gpu


def full(n: int, value: float) -> Any:
    return jnp.full(n, value, jnp.float32)


def submissions(gpu: Any, f: Any) -> int:
    """How many submissions a function makes, if it starts with nothing to do."""
    gpu.device.recorder.wait()
    before = gpu.device.recorder.submissions
    f()
    return gpu.device.recorder.submissions - before


# ---------------------------------------------------------------------------------------------- how many
@pytest.mark.usefixtures("always_soon")
def test_calls_in_a_row_share_submissions(gpu: Any) -> None:
    f = program(lambda x: x * 0.5 + 1)
    x = asgfn.device_put(array(rng, 5000), "gpu")

    def loop() -> Any:
        y = x
        for _ in range(40):
            y = f(y)
        return y.block_until_ready()

    loop()
    # groups of 1, 2, 4, 8 and then 16 calls, and what is left
    assert submissions(gpu, loop) == 6
    assert_same(loop(), 2 + (x - 2) * 0.5**40)


@pytest.mark.usefixtures("always_soon")
def test_a_call_and_reading_its_result_share_a_submission(gpu: Any) -> None:
    f = program(lambda x: (x * x).sum())
    x = asgfn.device_put(jnp.arange(1000.0), "gpu")
    for _ in range(2):
        assert float(f(x)) == pytest.approx(332833500)
    assert submissions(gpu, lambda: float(f(x))) == 1


def test_a_call_that_nothing_follows_is_submitted_at_once(gpu: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recorder, "SOON", -1.0)
    f = program(lambda x: x + 1)
    x = asgfn.device_put(jnp.zeros(100), "gpu")
    for _ in range(3):
        assert submissions(gpu, lambda: f(x)) == 1
        assert not gpu.device.recorder.open


@pytest.mark.usefixtures("always_soon")
def test_much_work_is_submitted_without_waiting_for_more(gpu: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    f = program(lambda x: jnp.cumsum(jnp.sort(x)))
    x = asgfn.device_put(array(rng, 5000), "gpu")
    for _ in range(3):
        f(x)
    with monkeypatch.context() as changed:
        changed.setattr(recorder, "ENOUGH_DISPATCHES", 2)
        assert submissions(gpu, lambda: [f(x) for _ in range(5)]) == 5
    assert submissions(gpu, lambda: [f(x) for _ in range(5)]) < 5
    seconds = f.lower(x).compile().executable.built._habit.seconds
    assert 0 < seconds < 1e-5
    monkeypatch.setattr(recorder, "ENOUGH_SECONDS", 0.9 * seconds)
    assert submissions(gpu, lambda: [f(x) for _ in range(5)]) == 5


@pytest.mark.usefixtures("always_soon")
def test_steps_in_a_loop_make_nothing_anew(gpu: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def step(w: Any, m: Any, x: Any) -> Any:
        loss, g = asgfn.value_and_grad(lambda w: ((x @ w) ** 2).mean())(w)
        m = 0.9 * m + g
        return w - 0.01 * m, m, loss

    f = asgfn.jit(step, backend="wgpu", donate_argnums=(0, 1))
    start = array(rng, 8, 4), jnp.zeros((8, 4))
    xs = array(rng, 16, 8)
    on_gpu = [asgfn.device_put(a.copy(), "gpu") for a in start]
    with_numpy = [a.copy() for a in start]
    g = asgfn.jit(step, donate_argnums=(0, 1))

    def loop() -> None:
        for k in range(20):
            *on_gpu[:], loss = f(*on_gpu, asgfn.device_put(xs, "gpu"))
            *with_numpy[:], want = g(*with_numpy, xs)
            if k % 7 == 3:
                assert float(loss) == pytest.approx(float(want), rel=1e-3)

    loop()
    for name in ("create_buffer", "create_bind_group", "create_compute_pipeline", "create_command_encoder"):
        monkeypatch.setattr(gpu.device.gpu, name, lambda *_, name=name, **__: pytest.fail(f"{name} was called"))
    loop()
    assert_same(on_gpu, with_numpy, rtol=1e-3, atol=1e-4)


# ---------------------------------------------------------------------------------------------- order
@pytest.mark.usefixtures("always_soon")
def test_uploads_do_not_overtake_calls(gpu: Any) -> None:
    f = program(lambda x: x + 1)
    sums = []
    for k in range(30):
        x = asgfn.device_put(full(5000, float(k)), "gpu")  # in memory that an earlier call may still have to read
        sums.append(f(x))
        del x
    for k, y in enumerate(sums):
        assert_same(y, full(5000, k + 1.0))


@pytest.mark.usefixtures("always_soon")
def test_fresh_memory_is_written_without_submitting(gpu: Any) -> None:
    f = program(lambda x: x + 1)
    x = asgfn.device_put(jnp.zeros(5000), "gpu")
    gpu.device.recorder.wait()
    y = f(f(x))
    assert gpu.device.recorder.open
    sizes = iter(range(300_000, 400_000, 50_000))  # nothing else has so much memory

    def upload() -> None:
        asgfn.device_put(jnp.zeros(next(sizes)), "gpu")

    before = gpu.device.recorder.submissions
    upload()
    assert gpu.device.recorder.submissions == before and gpu.device.recorder.open
    assert_same(y, full(5000, 2.0))


@pytest.mark.usefixtures("always_soon")
def test_copies_of_shared_memory_are_in_order(gpu: Any) -> None:
    f = program(lambda x: x * 2, donate_argnums=0)
    same = asgfn.jit(lambda x: x, backend="wgpu")
    x = asgfn.device_put(jnp.ones(5000), "gpu")
    seen = []
    for _ in range(5):
        seen.append(same(x))  # the same memory: a call that overwrites it has to copy it
        x = f(x)
    for k, y in enumerate([*seen, x]):
        assert_same(y, full(5000, 2.0**k))


@pytest.mark.usefixtures("always_soon")
def test_memory_is_not_destroyed_before_its_last_use(gpu: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    f = program(lambda x: x + 1)
    monkeypatch.setattr(gpu.device.pool, "budget", 0)
    y = asgfn.device_put(jnp.zeros(5000), "gpu")
    for _ in range(20):
        y = f(y)
    assert_same(y, full(5000, 20.0))


@pytest.mark.usefixtures("always_soon")
def test_programs_of_the_host_and_of_the_gpu_take_turns() -> None:
    f = program(lambda x: x + 1)
    shape = asgfn.ShapeDtypeStruct((5000,), jnp.float32)

    @asgfn.jit(backend="wgpu")
    def through_python(x: Any) -> Any:
        return asgfn.pure_callback(lambda a: np.asarray(a) * 2, shape, x * 3) + 1

    y = asgfn.device_put(jnp.ones(5000), "gpu")
    expected = 1.0
    for _ in range(4):
        y = through_python(f(f(y)))
        expected = (expected + 2) * 6 + 1
    assert_same(y, full(5000, expected))


@pytest.mark.usefixtures("always_soon")
def test_threads_share_submissions() -> None:
    f = program(lambda x: x + 1)
    found: dict[int, Any] = {}

    def work(k: int) -> None:
        y = asgfn.device_put(full(5000, float(k)), "gpu")
        for turn in range(20):
            y = f(y)
            if turn % 5 == k:
                y.block_until_ready()
        found[k] = np.asarray(y)

    threads = [threading.Thread(target=work, args=(k,)) for k in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    for k in range(4):
        np.testing.assert_array_equal(found[k], k + 20)


def test_slow_recorder_shares_submissions_too(always_soon: None) -> None:
    other = WgpuBackend()
    slow = other.device.recorder = classes.ClassRecorder(other.device)
    asgfn.register_backend("wgpu_slow", lambda: other)
    f = asgfn.jit(lambda x: x + 1, backend="wgpu_slow")
    y = f(jnp.zeros(1000))
    f(f(y)).block_until_ready()
    before = slow.submissions
    for _ in range(30):
        y = f(y)
    y.block_until_ready()
    assert slow.submissions - before <= 6
    assert_same(y, full(1000, 31.0))


# ---------------------------------------------------------------------------------------------- waiting
def test_a_tree_is_waited_for_once(gpu: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    f = asgfn.jit(lambda x: {k: x + k for k in range(10)}, backend="wgpu")
    tree = {"gpu": f(jnp.ones(100)), "host": jnp.ones(3), "other": (1.0, None)}
    waits = []
    wait = gpu.device.recorder.wait
    monkeypatch.setattr(gpu.device.recorder, "wait", lambda: (waits.append(1), wait()))
    monkeypatch.setattr(gpu.device.recorder, "read", lambda *_: pytest.fail("read"))
    assert asgfn.block_until_ready(tree) is tree
    assert len(waits) == 1 and not gpu.device.recorder.open
    tree["gpu"][4].block_until_ready()
    assert len(waits) == 2
    tree["gpu"][3].delete()
    with pytest.raises(DeletedArrayError):
        asgfn.block_until_ready(tree)


def test_a_device_that_is_lost_with_calls_that_were_not_submitted(gpu: Any, always_soon: None) -> None:
    backend = WgpuBackend()
    asgfn.register_backend("wgpu_lost_early", lambda: backend)
    f = asgfn.jit(lambda x: x + 1, backend="wgpu_lost_early")
    y = f(f(jnp.zeros(100)))
    device = backend.device
    assert device.recorder.open
    device.gpu.destroy()
    with pytest.raises(BackendError, match="lost"):
        y.block_until_ready()
    assert device.lost and not device.recorder.open
    assert_same(f(jnp.zeros(100)), full(100, 1.0))  # on a fresh one
    assert backend.device is not device


def test_commands_with_an_error_are_not_submitted(gpu: Any) -> None:
    device = gpu.device
    built = asgfn.jit(lambda x: x + 1, backend="wgpu").lower(full(10, 0.0)).compile().executable.built
    built.wait_for_pipelines()
    (kernel,) = built.finished.kernels
    handle = device.recorder.handle
    with pytest.raises(BackendError, match="please report it"), device.lock:
        device.recorder.play(
            [(recorder.DISPATCH, [(handle(kernel.pipeline.native), handle(device.rows.group), 1, 1, 1)])]
        )
        device.recorder.flush()
    assert not device.recorder.open
    assert_same(asgfn.jit(lambda x: x + 2, backend="wgpu")(full(10, 0.0)), full(10, 2.0))
