"""Which backend `jit` uses when nobody says."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import asgfn
from asgfn import backend, hardware
from backends.wgpu import device
from tests.software_gpu import gpu_fixture  # noqa: F401

ADAPTER = {"device": "A", "description": "", "backend_type": "Vulkan", "adapter_type": "DiscreteGPU"}


@pytest.fixture
def chosen(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Gives the name of the backend that is chosen among NumPy's, the compiled CPU and these."""
    numpy = backend.get_backend("numpy")
    compiled = SimpleNamespace(name="cpu", devices=numpy.devices)
    monkeypatch.setattr(backend, "may_have_gpu", lambda: True)

    def choose(**found: Any) -> str:
        monkeypatch.setattr(backend, "_backends", {"numpy": numpy, "cpu": compiled, **found})
        with asgfn.config.override(default_backend=None):
            assert asgfn.devices() == backend.get_backend().devices()
            return asgfn.default_backend()

    return choose


def fake(**adapter: str) -> Any:
    """A backend whose adapter says this of itself."""
    devices = [device.GpuDevice({**ADAPTER, **adapter})]
    return SimpleNamespace(name="wgpu", devices=lambda: devices)


@pytest.mark.parametrize(
    ("kind", "api", "name"),
    [
        ("DiscreteGPU", "Vulkan", "wgpu"),
        ("IntegratedGPU", "Metal", "wgpu"),
        ("IntegratedGPU", "Vulkan", "cpu"),
        ("CPU", "Vulkan", "cpu"),
        ("Unknown", "OpenGL", "cpu"),
    ],
)
def test_a_gpu_is_used_that_certainly_outruns_the_cpu(chosen: Any, kind: str, api: str, name: str) -> None:
    assert chosen(wgpu=fake(adapter_type=kind, backend_type=api)) == name


def test_64_bit_numbers_stay_on_the_cpu(chosen: Any) -> None:
    assert chosen(wgpu=fake()) == "wgpu"
    with asgfn.enable_x64():
        assert chosen(wgpu=fake()) == "cpu"


def test_software_adapters_do_not_count(chosen: Any, gpu: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    assert chosen(wgpu=gpu) == "cpu"  # though it was asked for
    monkeypatch.delenv(device.VARIABLE)
    assert chosen() == "cpu"


def test_no_driver_is_asked_where_there_is_no_gpu(chosen: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backend, "may_have_gpu", lambda: False)
    monkeypatch.setattr(device, "request_adapter", lambda: pytest.fail("asked the driver"))
    assert chosen() == "cpu"


def test_a_backend_is_opened_while_a_function_is_traced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backend, "_opened_early", set())
    begun, opened = threading.Event(), []

    def create() -> Any:
        begun.set()
        opened.append((threading.current_thread().name, asgfn.config.debug_nans))
        return backend.get_backend("numpy")

    def traced(x: Any) -> Any:
        assert begun.wait(10)
        return x + 1

    asgfn.register_backend("opened_early", create)
    f = asgfn.jit(traced, backend="opened_early")
    with asgfn.debug_nans():  # settings of the caller's thread count
        assert int(f(1)) == 2
    assert opened == [("asgfn-opens", True)]


def test_who_needs_a_backend_is_told_why_it_cannot_be_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backend, "_opened_early", set())

    def create() -> Any:
        raise asgfn.errors.BackendError("nothing to open")

    asgfn.register_backend("never_opened", create)
    f = asgfn.jit(lambda x: x + 1, backend="never_opened")
    for _ in range(2):
        with pytest.raises(asgfn.errors.BackendError, match="nothing to open"):
            f(1)


def test_without_llvmlite_numpy_serves_and_says_so(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def missing() -> Any:
        raise ImportError("no llvmlite here")

    monkeypatch.setattr(backend, "may_have_gpu", lambda: False)
    monkeypatch.setattr(backend, "_backends", {"numpy": backend.get_backend("numpy")})
    monkeypatch.setattr(backend, "_factories", {"cpu": missing})
    with asgfn.config.override(default_backend=None):
        for _ in range(2):
            assert asgfn.default_backend() == "numpy"
    assert len(caplog.records) == 1 and "no llvmlite here" in caplog.text


def test_gpus_are_looked_for_where_the_system_puts_them(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(hardware, "_LINUX", ((str(tmp_path), "renderD*"), (str(tmp_path / "none"), "*")))
    monkeypatch.setattr(hardware.sys, "platform", "linux")
    assert not hardware.may_have_gpu()
    (tmp_path / "renderD128").touch()
    assert hardware.may_have_gpu()
    for platform, expected in (("darwin", True), ("win32", True), ("emscripten", False)):
        monkeypatch.setattr(hardware.sys, "platform", platform)
        assert hardware.may_have_gpu() is expected


def in_a_new_process(text: str, *arguments: str) -> None:
    """Runs a program with the compiled CPU as its backend; it shall say nothing."""
    environment = {**os.environ, "ASGFN_DEFAULT_BACKEND": "cpu", "ASGFN_CACHE": "off"}
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(text), *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        env=environment,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_the_compiler_is_imported_while_nobody_waits_for_it() -> None:
    in_a_new_process(
        """
        import sys, threading, time
        import asgfn

        assert not [name for name in sys.modules if name.startswith(("backends.cpu", "llvmlite"))]
        asgfn.jit(lambda x: x + 1)
        while any(thread.name == "asgfn-prepares" for thread in threading.enumerate()):
            time.sleep(0.01)
        assert {"backends.cpu.program", "backends.cpu.compiling", "llvmlite.binding"} <= sys.modules.keys()
        before = set(sys.modules)
        asgfn.jit(lambda x: x + 1, backend="numpy")
        asgfn.jit(lambda x: x + 2)
        assert all(thread.name != "asgfn-prepares" for thread in threading.enumerate())
        """
    )


def test_what_all_programs_call_is_compiled_once_on_a_machine(tmp_path: Path) -> None:
    program = """
        import os, sys, threading, time
        from pathlib import Path
        import numpy as np
        import asgfn
        from backends.llvm import objects

        os.environ["ASGFN_CACHE"] = sys.argv[1]
        first = sys.argv[2] == "first"
        product = asgfn.jit(lambda a, b: a @ b, backend="cpu")
        while any(thread.name == "asgfn-prepares" for thread in threading.enumerate()):
            time.sleep(0.01)
        stored = objects.counts["stored"]
        assert stored >= 12 if first else stored == 0, stored
        assert len([*(Path(sys.argv[1]) / "prepared").iterdir()]) == 1
        x = np.eye(40, dtype=np.float32)
        assert (np.asarray(product(x, 2 * x)) == 2 * x).all()
        assert objects.counts["misses"] - stored <= 3, objects.counts  # its own kernels
        """
    in_a_new_process(program, str(tmp_path), "first")
    in_a_new_process(program, str(tmp_path), "second")


def test_nothing_is_prepared_for_who_has_no_place_for_it_or_waits(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    in_a_new_process(
        """
        import os, sys, threading
        from backends.cpu import prepare
        from asgfn import background
        from backends.llvm import objects

        for nowhere in ("off", os.path.join(sys.argv[1], "file", "in it")):
            os.environ["ASGFN_CACHE"] = nowhere
            for _ in prepare():
                pass
            assert not any(objects.counts.values())
        os.environ["ASGFN_CACHE"] = os.path.join(sys.argv[1], "cache")
        steps, go_on = [], threading.Event()

        def work():
            for _ in prepare():
                steps.append(objects.counts["stored"])
                go_on.wait()
                if background.is_awaited():
                    break

        assert background.in_background("prepares", work)
        threading.Timer(0.2, go_on.set).start()
        background.finish()
        assert len(steps) == 1 and not background.is_awaited()
        """,
        str(tmp_path),
    )


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system has no fork")
def test_a_fork_waits_for_what_goes_on_in_the_background() -> None:
    in_a_new_process(
        """
        import os, threading, time
        from asgfn.background import in_background

        lock = threading.Lock()

        def work():
            with lock:
                time.sleep(0.3)

        assert in_background("works", work)
        time.sleep(0.1)
        child = os.fork()
        if child == 0:
            os._exit(0 if lock.acquire(timeout=1) else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert all(thread.name != "works" for thread in threading.enumerate())
        """
    )


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system has no fork")
def test_a_fork_right_after_jit_can_compile() -> None:
    in_a_new_process(
        """
        import os
        import asgfn

        f = asgfn.jit(lambda x: x * 2)
        child = os.fork()
        if child == 0:
            os._exit(int(f(3.0)))
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 6
        assert float(f(4.0)) == 8.0
        """
    )
