"""The optional implementation of WebGPU: which one is chosen, that programs run on it, and that all kernels are WGSL as
Dawn and browsers read it. Dawn's own compiler says that, with a device that does nothing; there it has tensor cores, too."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import asgfn
import asgfn.numpy as jnp
from asgfn import lax, nn
from asgfn.config import config
from asgfn.errors import BackendError
from asgfn.graph.asg import inner_graphs
from asgfn.transforms.fuse import fuse_graph
from backends.kernels.elements import Unsupported
from backends.kernels.lowering import lower
from backends.kernels.schedules.contraction_region import Region
from backends.kernels.schedules.contraction_schedules import scheduled
from backends.kernels.schedules.matmul_tensor import fits
from backends.kernels.schedules.tensor_pieces import pieces_of
from backends.kernels.schedules.tiles import TensorTile
from backends.kernels.target import MatrixShape, Target
from backends.kernels.types import Types
from backends.wgpu import guards, package
from backends.wgpu.compiling import compile_graph
from backends.wgpu.limits import capped, parse
from backends.wgsl import DAWN, source
from tests.operations import OPERATIONS
from tests.programs import PROGRAMS, VECTOR
from tests.random_programs import make

SHAPE = MatrixShape("f16", "f32", 16, 16, 16)
TARGETS = {
    "least": Target(),
    "subgroups": Target(workgroup_threads=1024, workgroup_bytes=49152, subgroup=(32, 32)),
    "tensor cores": Target(Types(half=True), 1024, 49152, subgroup=(32, 32), subgroup_matrix=(SHAPE,)),
}


# ---------------------------------------------------------------------------------------------- which one
def choice(name: str | None, installed: bool, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(package.importlib.util, "find_spec", lambda name: object() if installed else None)
    with config.override(wgpu_implementation=name):
        return package.implementation_name.__wrapped__()


def test_the_setting_decides(monkeypatch):
    assert choice(None, True, monkeypatch) == choice("wgpu", True, monkeypatch) == "wgpu"
    assert choice("auto", False, monkeypatch) == "wgpu"
    assert choice("auto", True, monkeypatch) == choice(" Dawn", True, monkeypatch) == "dawn"
    with pytest.raises(BackendError, match=r"asgfn\[dawn\]"):
        choice("dawn", False, monkeypatch)
    with pytest.raises(BackendError, match="expected 'wgpu'"):
        choice("vulkan", True, monkeypatch)


def test_limits_know_its_features():
    names = ["shader-f16", "subgroups", "chromium-experimental-subgroup-matrix"]
    assert capped({}, names, parse("f16=0"))[1] == names[1:]
    assert capped({}, names, parse("subgroups=0"))[1] == names[:1]
    assert capped({}, names, parse("subgroups=1"))[1] == names


# ---------------------------------------------------------------------------------------------- programs
def test_programs():
    pytest.importorskip("wgpudawn")
    root = Path(__file__).parent.parent
    environment = {
        **os.environ,
        "ASGFN_WGPU_IMPLEMENTATION": "dawn",
        "ASGFN_WGPU_ADAPTER": "software",
        "ASGFN_CACHE": "off",
    }
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, (str(root), os.environ.get("PYTHONPATH"))))
    done = subprocess.run(
        [sys.executable, "-m", "tests.dawn_program"], cwd=root, env=environment, capture_output=True, text=True
    )
    if done.returncode == 75:
        pytest.skip(done.stdout)
    assert done.returncode == 0, done.stdout + done.stderr


# ---------------------------------------------------------------------------------------------- WGSL
@pytest.fixture(scope="module")
def compiled() -> Callable[[str], None]:
    """Raises what Dawn has to say against a shader."""
    pytest.importorskip("wgpudawn")
    from wgpudawn.backends.dawn import extras, ffi, gpu, lib

    try:
        extras.set_instance_extras(enable_toggles=("allow_unsafe_apis",))
    except RuntimeError:
        pytest.skip("this process uses Dawn already")
    adapter = gpu._request_adapter("core", "high-performance", False, ffi.NULL, lib.WGPUBackendType_Null).sync_wait()
    wanted = ["shader-f16", "subgroups", "chromium-experimental-subgroup-matrix"]
    device = adapter.request_device_sync(required_features=wanted)

    def compile_(text: str) -> None:
        device.create_shader_module(code=text)

    return compile_


def test_what_is_no_wgsl_is_refused(compiled):
    compiled("@compute @workgroup_size(1) fn main() {}")
    for text in ("fn main( {", "@compute @workgroup_size(1) fn main() { let x = f16(1.0); }"):
        with pytest.raises(Exception, match="parsing WGSL"):
            compiled(text)


def kernels(asg: Any, target: Target) -> list[Any]:
    """The kernels of a partitioned graph."""
    found = []
    types = asg.value_types
    for node in asg.nodes:
        in_types = [types[i] for i in node.inputs]
        every = (*in_types, *node.out_types)
        if node.primitive.name != "fused" and node.primitive.holds_graphs:
            found += [k for inner in inner_graphs(node.params) for k in kernels(inner, target)]
            continue
        if node.primitive.effect or not all(t.size and target.types.holds(t.dtype) for t in every):
            continue
        try:
            plan = lower(node, in_types, target)
        except Unsupported:
            continue
        found += [stage.kernel for stage in plan.stages] if plan is not None else []
    return found


@pytest.mark.parametrize("target", TARGETS.values(), ids=TARGETS)
def test_the_table_of_operations(compiled, target):
    seen: set[str] = set()
    for op in OPERATIONS:
        for dtype in {"float32", "float16"} & set(op.dtypes):
            args = [np.asarray(x, dtype) if np.asarray(x).dtype.kind == "f" else np.asarray(x) for x in op.samples[0]]
            graph = fuse_graph(asgfn.trace(op.f)(*args))
            for kernel in kernels(graph, target):
                text = source(kernel, DAWN)
                if text not in seen:
                    seen.add(text)
                    compiled(text)
    assert len(seen) > 150


@pytest.mark.parametrize("target", TARGETS.values(), ids=TARGETS)
def test_fused_programs(compiled, target):
    x, w, b = (jnp.ones(s, np.float32) for s in ((64, 96), (96, 256), (256,)))

    def loss(x, w, b):
        h = nn.gelu(x @ w + b)
        return -nn.log_softmax(nn.softmax(h / (h.std(1, keepdims=True) + 1)) @ w.T).mean()

    image, taps = jnp.ones((2, 16, 12, 12)), jnp.ones((32, 16, 3, 3))

    def convolved(x, w):
        return nn.relu(lax.conv_general_dilated(x, w, (1, 1), "SAME")).sum()

    for f, args in ((loss, (x, w, b)), (convolved, (image, taps))):
        graph = asgfn.trace(asgfn.value_and_grad(f, argnums=tuple(range(len(args)))))(*args)
        found = kernels(fuse_graph(graph), target)
        assert len(found) >= 3
        for kernel in found:
            compiled(source(kernel, DAWN))


@pytest.mark.parametrize("precision", ["default", "high", None])
@pytest.mark.parametrize(
    "tile",
    [
        TensorTile(128, 128, 32),
        TensorTile(128, 128, 16, buffers=2, split=3),
        TensorTile(64, 64, 16, 32, 32),
        TensorTile(256, 128, 16),
    ],
    ids=str,
)
def test_tensor_cores(compiled, tile, precision):
    """`precision` None: 16-bit operands."""
    target = TARGETS["tensor cores"]
    dtype = np.float16 if precision is None else np.float32
    x, y, bias = (np.ones(s, dtype) for s in ((300, 130), (200, 130), (200,)))

    def f(x, y, bias):
        return nn.gelu(jnp.matmul(x, y.T, precision=precision) + bias)

    region = Region(asgfn.simplify(asgfn.trace(f)(x, y, bias)), target.types)
    pieces = pieces_of(region, target)
    if not fits(tile, pieces, target):
        pytest.skip("too large for this device")
    found = scheduled(region, tile, target)
    for stage in found.stages:
        compiled(source(stage.kernel, DAWN))
    names = [s.kernel.name for s in found.stages]
    assert len(names) == 1 + pieces.scaled + (tile.split > 1)


def test_kernels_that_decide_what_runs(compiled):
    grids = [(0, 1, 1, 1), (1, 4, 2, 1)]
    for text in (
        guards.choice_source(grids, 2, None),
        guards.choice_source(grids, 2, 1),
        guards.loop_start_source(grids),
        guards.loop_step_source(grids),
    ):
        compiled(text)


def test_whole_programs(compiled):
    """With loops, whose kernels read rows, and branches; and what is written where it was read."""
    functions = [(asgfn.value_and_grad(f), [jnp.asarray(VECTOR)]) for f in PROGRAMS.values()]
    functions += [make(seed) for seed in range(50, 65)]
    seen: set[str] = set()
    for f, args in functions:
        asg = asgfn.trace(f)(*args)
        for target in (TARGETS["least"], TARGETS["tensor cores"]):
            for kernel in compile_graph(asg, target, (True,) * len(asg.inputs), debug=False).kernels:
                text = kernel.text
                if kernel.kernel is not None:
                    text = source(kernel.kernel, DAWN, kernel.rows, kernel.merged)
                if text not in seen:
                    seen.add(text)
                    compiled(text)
    assert len(seen) > 200
