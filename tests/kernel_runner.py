"""Runs kernels one at a time on a software GPU: what the tests of schedules and printers need, and no more."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import numpy as np

import asgfn
from asgfn.graph.asg import Asg
from asgfn.transforms.fuse import fuse_graph
from backends.kernels.lowering import Argument, Plan, lower
from backends.kernels.target import Target
from backends.kernels.types import Types
from backends.wgsl import source


@functools.cache
def device() -> Any:
    """The first adapter's device, with 16-bit floats if it has them."""
    import wgpu

    adapter = wgpu.gpu.request_adapter_sync()
    wanted = [f for f in ("shader-f16", "subgroup") if f in adapter.features]
    return adapter.request_device_sync(required_features=wanted)


def run_plan(
    plan: Plan, asg_in: Sequence[Any], out_types: Sequence[Any], inputs: Sequence[np.ndarray], types: Types
) -> list:
    """The results of a plan, as NumPy arrays."""
    import wgpu

    d = device()
    usage = wgpu.BufferUsage.STORAGE | wgpu.BufferUsage.COPY_SRC | wgpu.BufferUsage.COPY_DST

    def upload(array: np.ndarray) -> Any:
        data = array.tobytes()
        return d.create_buffer_with_data(data=data + b"\0" * (16 + -len(data) % 16), usage=usage)

    stored = [np.asarray(x).astype(types.numpy_storage(t.dtype)) for x, t in zip(inputs, asg_in, strict=True)]
    memory = {("input", k): upload(x) for k, x in enumerate(stored)}
    memory |= {("constant", k): upload(c) for k, c in enumerate(plan.constants)}
    for k, t in enumerate(out_types):
        dtype = types.numpy_storage(t.dtype)
        first = [stored[i] for i, o in plan.copies if o == k]
        blank = np.zeros(t.shape, dtype) if Argument("output", k) in plan.zeros else np.full(t.size, 77, dtype)
        memory["output", k] = upload(first[0] if first else blank)
    for k, (dtype, size) in enumerate(plan.temporaries):
        numpy_type = {"f32": np.float32, "f16": np.float16, "i32": np.int32, "u32": np.uint32}[dtype]
        blank = np.zeros(size, numpy_type) if Argument("temporary", k) in plan.zeros else np.full(size, 77, numpy_type)
        memory["temporary", k] = upload(blank)
    for stage in plan.stages:
        module = d.create_shader_module(code=source(stage.kernel))
        # not layout="auto": that leaves out what a kernel does not use
        kinds = ["storage" if m.written else "read-only-storage" for m in stage.kernel.memories]
        entries = [
            {"binding": k, "visibility": wgpu.ShaderStage.COMPUTE, "buffer": {"type": kind}}
            for k, kind in enumerate(kinds)
        ]
        layout = d.create_bind_group_layout(entries=entries)
        pipeline = d.create_compute_pipeline(
            layout=d.create_pipeline_layout(bind_group_layouts=[layout]),
            compute={"module": module, "entry_point": "main"},
        )
        used = [{"binding": k, "resource": {"buffer": memory[argument]}} for k, argument in enumerate(stage.arguments)]
        group = d.create_bind_group(layout=layout, entries=used)
        encoder = d.create_command_encoder()
        compute = encoder.begin_compute_pass()
        compute.set_pipeline(pipeline)
        compute.set_bind_group(0, group)
        compute.dispatch_workgroups(*stage.kernel.grid)
        compute.end()
        d.queue.submit([encoder.finish()])
    results = []
    for k, t in enumerate(out_types):
        data = np.frombuffer(d.queue.read_buffer(memory["output", k]), types.numpy_storage(t.dtype))
        results.append(data[: t.size].astype(t.dtype).reshape(t.shape))
    return results


def run_graph(asg: Asg, arguments: Sequence[Any], target: Target | None = None, fused: bool = True) -> list[np.ndarray]:
    """The results of a graph: each node by its plan, those without one by NumPy. `host` lists the latter."""
    target = Target() if target is None else target
    asg = fuse_graph(asg) if fused else asgfn.simplify(asg)
    env: list[Any] = [*map(np.asarray, arguments), *asg.constants]
    types = asg.value_types
    run_graph.host = []  # type: ignore[attr-defined]
    for node in asg.nodes:
        in_types = [types[i] for i in node.inputs]
        plan = lower(node, in_types, target)
        operands = [env[i] for i in node.inputs]
        if plan is None:
            run_graph.host.append(node.primitive.name)  # type: ignore[attr-defined]
            env += asgfn.get_backend("numpy").kernel(node.primitive, in_types, node.out_types, node.params)(operands)
        else:
            env += run_plan(plan, in_types, node.out_types, operands, target.types)
    return [env[i] for i in asg.outputs]
