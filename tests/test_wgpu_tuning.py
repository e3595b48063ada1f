"""Measuring schedules: the fastest is used, and remembered; nothing is measured unless it is asked for."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import asgfn
import asgfn.numpy as jnp
from asgfn.config import config
from backends.kernels.autotune import Problem, candidates
from backends.kernels.schedules.tiles import Direct, Skinny, TensorTile, Tile
from backends.programs import compiler, disk
from backends.programs.finish import partitioned
from backends.wgpu import measurements, tuning
from backends.wgpu.compiling import machine_of
from backends.wgpu.program import Program
from tests.software_gpu import gpu_fixture  # noqa: F401

RNG = np.random.default_rng(0)
X, W = (jnp.asarray(RNG.standard_normal(shape).astype(np.float32)) for shape in ((96, 160), (160, 64)))


def product(x: Any, w: Any) -> Any:
    return jnp.tanh(x @ w + 1)


@pytest.fixture(name="device")
def device_fixture(gpu: Any, tmp_path: Any, monkeypatch: Any) -> Any:
    """A device on which nothing was measured, and small contractions are worth it; few schedules are tried."""
    monkeypatch.setenv(disk.VARIABLE, str(tmp_path))
    monkeypatch.setattr(tuning, "LEAST_FLOPS", 0)
    monkeypatch.setattr(tuning, "candidates", lambda problem, target: candidates(problem, target)[:3])
    before = dict(gpu.device.measured)
    gpu.device.measured.clear()
    yield gpu.device
    gpu.device.measured.clear()
    gpu.device.measured.update(before)


def test_nothing_is_measured_unless_asked_for(gpu: Any, device: Any, tmp_path: Any) -> None:
    program = Program(gpu, asgfn.jit(product, backend="wgpu").lower(X, W).asg, (), False)
    assert len(program.kernels) >= 1
    assert not device.measured and not (tmp_path / "tuning").exists()


def test_the_fastest_is_used_and_remembered(gpu: Any, device: Any, monkeypatch: Any) -> None:
    asg = asgfn.jit(product, backend="wgpu").lower(X, W).asg
    with config.override(autotune=True):
        program = Program(gpu, asg, (), False)
        (got,) = program([np.asarray(X), np.asarray(W)])
    np.testing.assert_allclose(
        gpu.to_host(got, asg.out_types[0]), np.tanh(np.asarray(X) @ np.asarray(W) + 1), atol=2e-5
    )
    ((key, times),) = device.measured.items()
    assert key == Problem(1, 96, 64, 160).key()
    assert list(times) == candidates(Problem(1, 96, 64, 160), device.target)[:3]
    assert all(t > 0 for t in times.values())
    assert measurements.remembered(device.adapter) == device.measured
    assert measurements.remembered("another adapter") == {}

    # whatever was measured decides
    for schedule in (Tile(32, 32, 16, 4, 4), Tile(16, 32, 32, 4, 4, split=2), Direct()):
        device.measured[key] = {schedule: 1e-9, **times}
        monkeypatch.setattr(compiler, "_plans", {})
        program = Program(gpu, asg.replace(name=f"with {schedule}"), (), False)
        (kernel, *_) = program.kernels
        assert kernel.workgroup[0] == getattr(schedule, "threads", kernel.workgroup[0])
        assert len(program.kernels) == getattr(schedule, "split", 1)
        (again,) = program([np.asarray(X), np.asarray(W)])
        np.testing.assert_allclose(gpu.to_host(again, asg.out_types[0]), gpu.to_host(got, asg.out_types[0]), atol=2e-5)


def test_what_is_known_is_not_measured_again(gpu: Any, device: Any, monkeypatch: Any) -> None:
    asg = asgfn.jit(product, backend="wgpu").lower(X, W).asg
    graph = partitioned(asg, machine_of(device.target), [False, False])
    tuning.tune(device, graph)
    assert len(device.measured) == 1
    monkeypatch.setattr(tuning, "_measured", lambda *_: pytest.fail("measured again"))
    tuning.tune(device, graph)


def test_contractions_in_loops_and_on_integers(gpu: Any, device: Any, monkeypatch: Any) -> None:
    def f(x: Any, k: Any) -> Any:
        step = lambda c, _: (jnp.sin(c @ x), k @ k.T)
        return asgfn.lax.scan(step, x, None, length=3)

    monkeypatch.setattr(tuning, "candidates", lambda problem, target: candidates(problem, target)[:1])
    asg = asgfn.jit(f, backend="wgpu").lower(jnp.ones((48, 48)), jnp.ones((40, 32), jnp.int32)).asg
    tuning.tune(device, partitioned(asg, machine_of(device.target), [False, False]))
    assert {key.split()[2] for key in device.measured} == {"float32", "int32"}


def test_without_time_stamps(gpu: Any, device: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr(device, "has_timestamps", False)
    asg = asgfn.jit(product, backend="wgpu").lower(X, W).asg
    tuning.tune(device, partitioned(asg, machine_of(device.target), [False, False]))
    ((_, times),) = device.measured.items()
    assert len(times) == 3 and all(0 < t < 10 for t in times.values())


def test_small_contractions_are_not_worth_it(gpu: Any, device: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr(tuning, "LEAST_FLOPS", 1 << 26)
    asg = asgfn.jit(product, backend="wgpu").lower(X, W).asg
    tuning.tune(device, partitioned(asg, machine_of(device.target), [False, False]))
    assert not device.measured


def test_measurements_on_disk(tmp_path: Any, monkeypatch: Any) -> None:
    monkeypatch.setenv(disk.VARIABLE, str(tmp_path))
    first = {"a": {Tile(64, 64, 16): 1e-3, Direct(4): 2e-3}, "b": {Skinny(1, 4, 32, 8): 0.5}}
    second = {"b": {TensorTile(128, 128): 0.25}, "c": {}}
    measurements.remember("gpu", first)
    measurements.remember("gpu", second)  # another process's, say
    assert measurements.remembered("gpu") == {**first, **second}
    (path,) = (tmp_path / "tuning").iterdir()
    good = path.read_bytes()
    path.write_bytes(good[:-2])
    assert measurements.remembered("gpu") == {}
    disk.write_entry(path, b"no table")
    assert measurements.remembered("gpu") == {}
    monkeypatch.setenv(disk.VARIABLE, "off")
    measurements.remember("gpu", first)
    assert measurements.remembered("gpu") == {}
